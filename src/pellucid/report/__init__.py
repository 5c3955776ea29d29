"""Many results on one self-contained page."""

from .case import Case as Case
from .case import Panel as Panel
from .page import write as write

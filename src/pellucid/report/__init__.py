"""Many results on one self-contained page."""

from .case import Case as Case
from .case import Panel as Panel
from .gallery import Plate as Plate
from .gallery import gallery as gallery
from .page import write as write

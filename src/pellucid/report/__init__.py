"""Many results on one self-contained page."""

from .gallery import Plate as Plate
from .gallery import gallery as gallery
from .page import write as write
from .page_items import Case as Case
from .page_items import Panel as Panel

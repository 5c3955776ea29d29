"""Pages of what verbs other than `explain` find, one file for each kind; the CLI writes them."""

from .attack import attack_page as attack_page
from .attack import attack_photos as attack_photos
from .attack import robust_photos as robust_photos
from .attack import robustness_page as robustness_page
from .attack import save_images as save_images
from .photos import Photos as Photos
from .photos import photos as photos
from .synthesis import synthesis_page as synthesis_page

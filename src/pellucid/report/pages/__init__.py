"""Pages of what verbs other than `explain` find, one file for each kind; the CLI writes them."""

from ...runfolder.resumable import kept as kept
from .attack import attack_page as attack_page
from .attack import attack_photos as attack_photos
from .attack import robust_photos as robust_photos
from .attack import robustness_page as robustness_page
from .attack import save_images as save_images
from .audit import audit_page as audit_page
from .compare import compare_page as compare_page
from .embedding import embedding_page as embedding_page
from .photos import Photos as Photos
from .photos import photos as photos
from .representation import activations_page as activations_page
from .representation import features_page as features_page
from .representation import neighbors_page as neighbors_page
from .representation import patches_page as patches_page
from .spectrum import save_spectrum_numbers as save_spectrum_numbers
from .spectrum import spectrum_page as spectrum_page
from .synthesis import generator_page as generator_page
from .synthesis import style_page as style_page
from .synthesis import synthesis_page as synthesis_page

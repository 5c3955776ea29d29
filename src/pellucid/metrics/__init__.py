"""Is an explanation true? Measures of attributions."""

from .compare import compare as compare
from .comparison_result import Comparison as Comparison
from .curves import Curves as Curves
from .curves import deletion as deletion
from .curves import insertion as insertion
from .fidelity import completeness as completeness
from .fidelity import infidelity as infidelity
from .localization import mass_accuracy as mass_accuracy
from .localization import pointing_game as pointing_game
from .localization import rank_accuracy as rank_accuracy
from .randomization import Randomization as Randomization
from .randomization import label_randomization as label_randomization
from .randomization import randomization as randomization
from .sensitivity import sensitivity_max as sensitivity_max
from .similarity import spearman as spearman
from .similarity import ssim as ssim

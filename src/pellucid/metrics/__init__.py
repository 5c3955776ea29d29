"""Is an explanation true? Measures of attributions."""

from .localization import mass_accuracy as mass_accuracy
from .localization import pointing_game as pointing_game
from .localization import rank_accuracy as rank_accuracy

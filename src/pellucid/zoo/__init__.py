"""Networks by name or from a file."""

from .load import load as load
from .sources import Entry as Entry
from .sources import models as models
from .weights import MissingWeights as MissingWeights
from .weights import UnreadableWeights as UnreadableWeights

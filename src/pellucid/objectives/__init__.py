"""The number that a question is about: a logit, a probability, a neuron, or any sum of such.

Objectives are values. They are written without a model, combine with + - * /, print as what they are, and
are bound to a model and a batch when a method runs.
"""

from ..model.run import Score as Score
from .algebra import Bound as Bound
from .algebra import Objective as Objective
from .classes import Target as Target
from .classes import as_classes as as_classes
from .classes import contrast as contrast
from .classes import log_probability as log_probability
from .classes import logit as logit
from .classes import probability as probability
from .layers import channel as channel
from .layers import direction as direction
from .layers import layer as layer
from .layers import neuron as neuron
from .resolve import resolve as resolve
from .shorthand import ObjectiveLike as ObjectiveLike
from .shorthand import as_objective as as_objective

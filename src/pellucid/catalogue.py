"""The catalogue of all methods, whole: a family enters its methods when it is imported, and here all of them are."""

from . import adversarial as _adversarial  # noqa: F401
from . import attribution as _attribution  # noqa: F401
from . import audit as _audit  # noqa: F401
from . import metrics as _metrics  # noqa: F401
from . import representation as _representation  # noqa: F401
from . import synthesis as _synthesis  # noqa: F401
from .methods.registry import CATALOGUE as CATALOGUE
from .methods.registry import find as find
from .methods.registry import of_kind as of_kind

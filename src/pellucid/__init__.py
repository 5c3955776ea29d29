"""pellucid: look inside an image classifier.

>>> import pellucid
>>> model = pellucid.load("shapes")
>>> scenes = pellucid.shapes.scenes(1)
>>> result = pellucid.saliency(model, scenes.images)
"""

from . import shapes as shapes
from .attribution import expected_gradients as expected_gradients
from .attribution import gradient_x_input as gradient_x_input
from .attribution import integrated_gradients as integrated_gradients
from .attribution import saliency as saliency
from .attribution import smoothgrad as smoothgrad
from .classifier import Classifier as Classifier
from .classifier import wrap as wrap
from .layers import layers as layers
from .method import CATALOGUE as CATALOGUE
from .objectives import channel as channel
from .objectives import contrast as contrast
from .objectives import direction as direction
from .objectives import layer as layer
from .objectives import log_probability as log_probability
from .objectives import logit as logit
from .objectives import neuron as neuron
from .objectives import probability as probability
from .run import run as run
from .settings import settings as settings

__version__ = "0.1.0"

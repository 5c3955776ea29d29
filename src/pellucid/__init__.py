"""pellucid: look inside an image classifier.

>>> import pellucid
>>> model = pellucid.load("shapes")
>>> scenes = pellucid.shapes.scenes(1)
>>> result = pellucid.saliency(model, scenes.images)
"""

from . import rules as rules
from . import shapes as shapes
from .attribution import ablation_cam as ablation_cam
from .attribution import cam as cam
from .attribution import deconvnet as deconvnet
from .attribution import deep_shap as deep_shap
from .attribution import deeplift as deeplift
from .attribution import eigen_cam as eigen_cam
from .attribution import expected_gradients as expected_gradients
from .attribution import grabcut as grabcut
from .attribution import grad_cam as grad_cam
from .attribution import grad_cam_plus_plus as grad_cam_plus_plus
from .attribution import gradient_x_input as gradient_x_input
from .attribution import guided_backprop as guided_backprop
from .attribution import guided_grad_cam as guided_grad_cam
from .attribution import hires_cam as hires_cam
from .attribution import integrated_gradients as integrated_gradients
from .attribution import layer_cam as layer_cam
from .attribution import lrp as lrp
from .attribution import neuralize as neuralize
from .attribution import occlusion as occlusion
from .attribution import rise as rise
from .attribution import saliency as saliency
from .attribution import score_cam as score_cam
from .attribution import smoothgrad as smoothgrad
from .attribution import xgrad_cam as xgrad_cam
from .classifier import Classifier as Classifier
from .classifier import wrap as wrap
from .explain import explain as explain
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
from .result import side_by_side as side_by_side
from .rules import RuleError as RuleError
from .run import run as run
from .settings import settings as settings
from .version import __version__ as __version__
from .zoo import load as load

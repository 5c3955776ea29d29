"""Which pixels mattered: one method, one file."""

from .ablation_cam import ablation_cam as ablation_cam
from .cam import cam as cam
from .deconvnet import deconvnet as deconvnet
from .deep_shap import deep_shap as deep_shap
from .deeplift import deeplift as deeplift
from .eigen_cam import eigen_cam as eigen_cam
from .expected_gradients import expected_gradients as expected_gradients
from .grabcut import grabcut as grabcut
from .grad_cam import grad_cam as grad_cam
from .grad_cam_plus_plus import grad_cam_plus_plus as grad_cam_plus_plus
from .gradient_x_input import gradient_x_input as gradient_x_input
from .guided_backprop import guided_backprop as guided_backprop
from .guided_grad_cam import guided_grad_cam as guided_grad_cam
from .hires_cam import hires_cam as hires_cam
from .integrated_gradients import integrated_gradients as integrated_gradients
from .layer_cam import layer_cam as layer_cam
from .lrp import lrp as lrp
from .neuralize import neuralize as neuralize
from .occlusion import occlusion as occlusion
from .rise import rise as rise
from .saliency import saliency as saliency
from .score_cam import score_cam as score_cam
from .smoothgrad import smoothgrad as smoothgrad
from .xgrad_cam import xgrad_cam as xgrad_cam

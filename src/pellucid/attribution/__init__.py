"""Which pixels mattered: one method, one file."""

from .ablation_cam import ablation_cam as ablation_cam
from .cam import cam as cam
from .eigen_cam import eigen_cam as eigen_cam
from .expected_gradients import expected_gradients as expected_gradients
from .grabcut import grabcut as grabcut
from .grad_cam import grad_cam as grad_cam
from .grad_cam_plus_plus import grad_cam_plus_plus as grad_cam_plus_plus
from .gradient_x_input import gradient_x_input as gradient_x_input
from .hires_cam import hires_cam as hires_cam
from .integrated_gradients import integrated_gradients as integrated_gradients
from .layer_cam import layer_cam as layer_cam
from .occlusion import occlusion as occlusion
from .rise import rise as rise
from .saliency import saliency as saliency
from .score_cam import score_cam as score_cam
from .smoothgrad import smoothgrad as smoothgrad
from .xgrad_cam import xgrad_cam as xgrad_cam

"""Which pixels mattered: one method, one file."""

from .expected_gradients import expected_gradients as expected_gradients
from .gradient_x_input import gradient_x_input as gradient_x_input
from .integrated_gradients import integrated_gradients as integrated_gradients
from .saliency import saliency as saliency
from .smoothgrad import smoothgrad as smoothgrad

"""Guided backpropagation: the gradient, of which only positive parts pass each rectifier."""

from __future__ import annotations

from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from ..rules import guided
from .ingredients.batched_gradients import per_image, reduce_channels
from .ingredients.decorator import attribution


@attribution(
    paper="Springenberg, Dosovitskiy, Brox & Riedmiller 2015, Striving for simplicity: the all convolutional net",
    one_pass=True,
)
def guided_backprop(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    sign: str = "keep",
    channels: str = "all",
    strict: bool = True,
) -> Attribution:
    """The gradient where each rectifier lets only positive gradients back to positive inputs.

    At a ReLU, R_in = 1[input > 0] 1[R_out > 0] R_out, wherever it is called, also as a function; at other rectifiers
    (leaky ReLU, ELU, GELU, SiLU, ...) their derivative takes the place of 1[input > 0]. The maps are sharp, and
    hardly depend on the class (Nie, Zhang & Patel 2018): they are pictures of what is there.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class.
        sign: "absolute" takes the magnitude, "keep" keeps the sign, "positive" keeps the positive part.
        channels: "max" keeps the channel of the largest magnitude, "mean" the mean over channels, "all" all.
        strict: rectifiers out of sight (TorchScript, custom autograd functions) are an error; False takes their
            ordinary gradient, with a warning.

    Returns:
        An `Attribution`: values as the images, or N x 1 x H x W; in units of the objective per unit of a pixel.

    Raises:
        ValueError: for an unknown sign or channels.
        RuleError: for rectifiers out of sight.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> pellucid.guided_backprop(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 3, 96, 96])
    """
    values = per_image(model, images, objective, {"activation": guided()}, strict)
    return Attribution(reduce_channels(values, sign, channels))

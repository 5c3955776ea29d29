"""Deconvnet: the activation handed back through the network turned round."""

from __future__ import annotations

from torch import Tensor

from ..methods.result import Attribution
from ..model.run import Model
from ..objectives import Bound
from ..rules import deconv
from .ingredients.batched_gradients import per_image, reduce_channels
from .ingredients.decorator import attribution


@attribution(
    paper="Zeiler & Fergus 2014, Visualizing and understanding convolutional networks",
    one_pass=True,
)
def deconvnet(
    model: Model,
    images: Tensor,
    objective: Bound,
    *,
    sign: str = "keep",
    channels: str = "all",
    strict: bool = True,
) -> Attribution:
    """The gradient where each rectifier rectifies what goes back instead of what went forward.

    At a rectifier, R_in = 1[R_out > 0] R_out, whatever its input was; max pooling hands back to where the maximum
    was. The image comes in by these places and by nothing else.

    Args:
        model: a network or a `Classifier`.
        images: N x C x H x W.
        objective: what to explain; None is the predicted class. The paper's is one neuron of an inner layer.
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
    >>> pellucid.deconvnet(model, pellucid.shapes.scenes(1).images, "star").values.shape
    torch.Size([1, 3, 96, 96])
    """
    values = per_image(model, images, objective, {"activation": deconv()}, strict)
    return Attribution(reduce_channels(values, sign, channels))

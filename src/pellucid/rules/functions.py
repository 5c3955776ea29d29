"""Rules for functions that have no weights: activations, sums, averages, products, softmax, pooling.

What flows back is g = relevance / activation. A function without a rule keeps its ordinary gradient, which for
additions, ReLU, maximum, reshaping and all that is linear without a constant hands relevance on unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .rule import KINDS, Function, damped, ratio, rule


@rule(*KINDS, on="nothing")
def gradient() -> Callable[..., None]:
    """The ordinary gradient.

    For a linear map that is LRP-0 with the bias counted, for a softmax the rule of Achtibat et al. 2024, AttnLRP:
    attention-aware layer-wise relevance propagation for transformers: R_i = x_i (R_i / s_i - sum_j R_j) s_i.

    >>> gradient()
    gradient()
    """
    return lambda: None


@rule("activation", "norm", "softmax", on="stop")
def stop() -> Callable[..., None]:
    """Nothing goes back: the output counts as a constant.

    For "softmax" this is the rule of Ali, Schnake, Eberle, Montavon, Müller & Wolf 2022, XAI for transformers: better
    explanations through conservative propagation (CP-LRP): the weights of an attention are constants.

    >>> stop()
    stop()
    """
    return lambda: None


@rule("activation", "norm", on="function")
def pass_through() -> Callable[[Function, Tensor], Tensor]:
    """Pass: each input takes the relevance of its output, R_j = R_k. An input of exactly 0 has none.

    >>> pass_through()
    pass_through()
    """

    def pull(call: Function, g: Tensor) -> Tensor:
        return ratio(g * call.y, call.x, 0, exact=True)

    return pull


@rule("sum", "average", on="output")
def norm(eps: float | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Norm: a sum or an average shares relevance in proportion, R_j = x_j / (sum + eps sign(sum)) R.

    Args:
        eps: above 0; by default 1e-6, or a millionth of the sums' root mean square where that is far less.

    >>> norm(1e-6)
    norm(1e-06)
    """
    if eps is not None and not eps >= 0:
        raise ValueError(f"norm: eps is {eps}, expected 0 or above")

    return lambda g, y: damped(g, y, eps)


@rule("product", on="gradient")
def share(gate: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Products: both factors take half of the relevance; a gate takes its own share.

    A gate is a factor that comes out of a sigmoid, a softmax, 1/x or 1/sqrt(x); it only says how much of the other
    goes on. Products of matrices have no gates: halves are the rule of Achtibat et al. 2024, AttnLRP.

    Args:
        gate: what a gate takes, 0 to 1: 0 is the signal-take-all rule of Arras, Montavon, Müller & Samek 2017,
            Explaining recurrent neural network predictions in sentiment analysis; 0.5 that of AttnLRP.

    >>> share(), share(gate=0.5)
    (share(), share(0.5))
    """
    if not 0 <= gate <= 1:
        raise ValueError(f"share: gate is {gate}, expected 0 to 1")
    return lambda g: g / 2


@rule("activation", on="gradient")
def guided() -> Callable[[Tensor], Tensor]:
    """Guided backpropagation: only positive gradients go back through a rectifier, where its input is positive.

    Springenberg, Dosovitskiy, Brox & Riedmiller 2015, Striving for simplicity: the all convolutional net.

    >>> guided()
    guided()
    """
    return lambda g: g.clamp(min=0)


@rule("activation", on="function")
def deconv() -> Callable[[Function, Tensor], Tensor]:
    """Deconvnet: only positive gradients go back through a rectifier, whatever its input was.

    Zeiler & Fergus 2014, Visualizing and understanding convolutional networks.

    >>> deconv()
    deconv()
    """
    return lambda _call, g: g.clamp(min=0)


@rule("activation", on="function")
def rescale() -> Callable[[Function, Tensor], Tensor]:
    """DeepLIFT's rescale rule, where the batch is the images and then as many baselines: g (y - y0) / (x - x0).

    Shrikumar, Greenside & Kundaje 2017, Learning important features through propagating activation differences.

    >>> rescale()
    rescale()
    """

    def pull(call: Function, g: Tensor) -> Tensor:
        (x, x0), (y, y0) = call.x.chunk(2), call.y.chunk(2)
        dx = x - x0
        near = dx.abs() < 1e-6 * torch.maximum(x.abs(), x0.abs()).clamp(min=1e-6)
        slope = torch.where(near, 0, (y - y0) / torch.where(near, 1, dx))
        slope = torch.cat([slope, slope])
        if near.any():
            return torch.where(torch.cat([near, near]), call.derivative(g), g * slope)
        return g * slope

    return pull


@rule("max", on="function")
def rescale_max() -> Callable[[Function, Tensor], Tensor]:
    """Max pooling for DeepLIFT: the change of the maximum goes to the places of both maxima, so that it adds up.

    What the image's maximum rises above the baseline's is put where the image has it, what it falls where the
    baseline has it (Lundberg & Lee 2017, A unified approach to interpreting model predictions).

    >>> rescale_max()
    rescale_max()
    """

    def pull(call: Function, g: Tensor) -> Tensor:
        (x, x0), (y, y0) = call.x.chunk(2), call.y.chunk(2)
        g, _ = g.chunk(2)
        top = torch.maximum(y, y0)
        moved, moved0 = call.derivative(torch.cat([g * (top - y0), g * (y - top)])).chunk(2)
        slope = ratio(moved + moved0, x - x0, 0, exact=True)
        return torch.cat([slope, torch.zeros_like(slope)])

    return pull


@rule("product", on="gradient")
def rescale_product() -> Callable[[Tensor], Tensor]:
    """Products for DeepLIFT: each factor times the mean of the other over image and baseline, which adds up.

    >>> rescale_product()
    rescale_product()
    """
    return lambda g: g

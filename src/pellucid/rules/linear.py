"""Rules for linear maps: how relevance is shared among the inputs of a convolution or a dense layer.

Below, z_jk = x_j w_jk is what input j adds to output k, b_k the bias, R_k the relevance of output k; x+ is the
positive part of x, x- its negative part. A rule with `bias` counts the bias as one more input: what it takes
is relevance that no pixel gets. With bias=False it is left out of the sums, and all relevance goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .rule import Linear, Pulled, RuleError, damped, ratio, rule, shared

Pull = Callable[[Linear, Tensor], "Tensor | Pulled"]
Bound = float | Sequence[float] | Tensor


@rule("conv", "linear", "norm")
def zero(*, bias: bool = True) -> Pull:
    """LRP-0: R_j = sum_k z_jk / (sum_j z_jk + b_k) R_k.

    The same as input x gradient in networks of linear maps and ReLU. 0/0 is 0.

    Bach, Binder, Montavon, Klauschen, Müller & Samek 2015, On pixel-wise explanations for non-linear classifier
    decisions by layer-wise relevance propagation.

    >>> zero()
    zero()
    """
    return epsilon.__wrapped__(0.0, bias=bias)  # type: ignore[attr-defined, no-any-return]


@rule("conv", "linear", "norm")
def epsilon(eps: float | None = None, *, bias: bool = True) -> Pull:
    """LRP-epsilon: R_j = sum_k z_jk / (z_k + eps sign(z_k)) R_k with z_k = sum_j z_jk + b_k.

    Takes relevance from outputs that are weak or contradictory: the part eps / (|z_k| + eps) is lost.

    Args:
        eps: above 0; by default 1e-6, or a millionth of the layer's root mean square where that is far less.
        bias: count b_k in z_k.

    Bach et al. 2015, On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
    propagation.

    >>> epsilon(1e-6), epsilon()
    (epsilon(1e-06), epsilon())
    """
    _at_least_zero("epsilon", "eps", eps)

    def pull(call: Linear, g: Tensor) -> Tensor:
        if not bias and call.b is not None:
            return call.back(ratio(call.y, call.total(False), eps, exact=True).mul_(g), call.w)
        return call.back(damped(g, call.y, eps), call.w)

    return pull


@rule("conv", "linear")
def gamma(gamma: float = 0.25, eps: float = 1e-9, *, bias: bool = True) -> Pull:
    """LRP-gamma: what speaks for an output counts 1 + gamma times.

    R_j = sum_k (z_jk + gamma z_jk^s) / sum_j (z_jk + gamma z_jk^s) R_k, where z^s is the part of z that has the sign
    of output k: for positive outputs (x_j w_jk)+, which after a ReLU is x_j w_jk+ . In this form inputs and outputs
    may have either sign. gamma = 0 is LRP-0, a large gamma the z+ rule.

    Args:
        gamma: 0 or above.
        eps: stabilizer of the sum; a millionth of the layer's root mean square where that is far less.
        bias: count the bias (b_k + gamma b_k^s) in the sum.

    Montavon, Binder, Lapuschkin, Samek & Müller 2019, Layer-wise relevance propagation: an overview; generalized to
    either sign as in Andéol, Kawakami, Wada, Kanamori, Müller & Montavon 2023, Learning domain invariant
    representations by joint Wasserstein distance minimization.

    >>> gamma(0.25), gamma(1)
    (gamma(), gamma(1))
    """
    _at_least_zero("gamma", "gamma", gamma)
    _at_least_zero("gamma", "eps", eps)

    def pull(call: Linear, g: Tensor) -> Tensor:
        z = call.total(bias)
        if not call.nonnegative:
            # The part of the sign of z is (|z| + sum of |z_jk|) / 2, so that no case is needed.
            whole = _sizes(call, bias).mul_(gamma / 2).add_(z.abs(), alpha=1 + gamma / 2)
            share = shared(g, call.y, whole, eps)
            return _signed(call, z.sign().mul_(share).mul_(1 + gamma / 2), share.mul_(gamma / 2))
        upper = call.w.clamp(min=0)
        positive = call.forward(call.x, upper, call.positive_bias(bias))
        against = z < 0
        out = None
        if (against & (g != 0)).any():
            below = ratio(g * call.y, z + gamma * (z - positive), eps).masked_fill_(~against, 0)
            out = call.back(below, call.w + gamma * (call.w - upper))
        share = shared(g, call.y, positive.mul_(gamma).add_(z).clamp_(min=0), eps).masked_fill_(against, 0)
        found = call.back(share, upper.mul_(gamma).add_(call.w))
        return found if out is None else found.add_(out)

    return pull


@rule("conv", "linear")
def alpha_beta(alpha: float = 2.0, beta: float = 1.0, eps: float = 1e-9, *, bias: bool = True) -> Pull:
    """LRP-alpha-beta: R_j = sum_k (alpha z_jk+ / sum_j z_jk+ - beta z_jk- / sum_j z_jk-) R_k, alpha - beta = 1.

    Args:
        alpha, beta: weights of what speaks for and against, 0 or above; relevance is kept if alpha - beta = 1.
        eps: stabilizer of the sums; a millionth of the layer's root mean square where that is far less.
        bias: count the bias, b_k+ and b_k-, in the sums.

    Bach et al. 2015, On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
    propagation.

    >>> alpha_beta(2.0, 1.0), alpha_beta(3.0, 2.0)
    (alpha_beta(), alpha_beta(3, 2))
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("eps", eps)):
        _at_least_zero("alpha_beta", name, value)

    def pull(call: Linear, g: Tensor) -> Tensor:
        if not call.nonnegative and not beta and call.map.channels is not None:
            axis = call.map.channels
            x, w = _halves(call.x, axis), _halves(call.w, 1)
            share = shared(g, call.y, call.forward(x, w, call.positive_bias(bias)), eps)
            upper, lower = call.map.back(share if alpha == 1 else share.mul_(alpha), w, x).chunk(2, axis)
            return torch.where(call.x > 0, upper, lower)
        if not call.nonnegative:
            sizes, z = _sizes(call, bias), call.total(bias)
            least = sizes * (16 * torch.finfo(sizes.dtype).eps)  # below it, a difference is rounding

            def part(double: Tensor, weight: float) -> Tensor:
                # Twice the sum, and half of each share in `_signed`: the factors cancel.
                none = double <= least
                found = shared(g, call.y, double.clamp_(min=0), 2 * eps).masked_fill_(none, 0)
                return found if weight == 1 else found.mul_(weight)

            share = part(sizes + z, alpha)
            if not beta:
                return _signed(call, share, share)
            against = part(sizes - z, beta)
            return _signed(call, share + against, share - against)
        upper = call.w.clamp(min=0) if beta else call.upper()
        positive = call.forward(call.x, upper, call.positive_bias(bias))
        negative = positive - call.total(bias) if beta else None
        share = shared(g, call.y, positive, eps)
        out = call.back(share if alpha == 1 else share.mul_(alpha), upper)
        if negative is not None:
            share = shared(g, call.y, negative.clamp_(min=0), eps).mul_(beta)
            out.sub_(call.back(share, upper.sub_(call.w)))
        return out

    return pull


@rule("conv", "linear")
def z_plus(eps: float = 1e-9, *, bias: bool = True) -> Pull:
    """LRP-z+: R_j = sum_k z_jk+ / sum_j z_jk+ R_k: only what speaks for an output counts; alpha-beta with (1, 0).

    Args:
        eps: stabilizer of the sum; a millionth of the layer's root mean square where that is far less.
        bias: count a positive bias in the sum.

    Montavon, Lapuschkin, Binder, Samek & Müller 2017, Explaining nonlinear classification decisions with deep
    Taylor decomposition.

    >>> z_plus()
    z_plus()
    """
    return alpha_beta.__wrapped__(1.0, 0.0, eps, bias=bias)  # type: ignore[attr-defined, no-any-return]


@rule("conv", "linear")
def w_square(eps: float = 1e-9, *, bias: bool = True) -> Pull:
    """The w^2 rule: R_j = sum_k w_jk^2 / (sum_j w_jk^2 + b_k^2) R_k, whatever the input is.

    For the first layer. Deeper in a network, inputs that are exactly zero cannot hand relevance on.

    Args:
        eps: stabilizer of the sum; a millionth of the layer's root mean square where that is far less.
        bias: count the squared bias in the sum.

    Montavon et al. 2017, Explaining nonlinear classification decisions with deep Taylor decomposition.

    >>> w_square()
    w_square()
    """
    return _by_weights(lambda w: w.square(), eps, bias)


@rule("conv", "linear")
def flat(eps: float = 1e-9) -> Pull:
    """The flat rule: relevance is shared evenly among all inputs of an output: R_j = sum_k R_k / (number of inputs).

    For the first layer, where it makes the map independent of the image's colors. Deeper in a network, inputs
    that are exactly zero cannot hand relevance on.

    Args:
        eps: stabilizer of the number of inputs.

    Lapuschkin, Wäldchen, Binder, Montavon, Samek & Müller 2019, Unmasking Clever Hans predictors and assessing what
    machines really learn.

    >>> flat()
    flat()
    """
    return _by_weights(torch.ones_like, eps, bias=False)


@rule("conv", "linear")
def z_box(low: Bound = 0.0, high: Bound = 1.0, eps: float = 1e-9) -> Pull:
    """The z-box rule, for pixels, which have bounds: z_jk is measured from the bound that speaks against.

    R_j = sum_k (x_j w_jk - l_j w_jk+ - h_j w_jk-) / sum_j (...) R_k, with pixels from l to h. It is for the layers
    that see the image itself, and an error elsewhere. The bias cancels.

    Args:
        low, high: the darkest and brightest pixel, in units of the images that the model takes: for a `Classifier`
            0 and 1, which go through its normalization. A number, or one for each channel.
        eps: stabilizer of the sum; a millionth of the layer's root mean square where that is far less.

    Montavon et al. 2017, Explaining nonlinear classification decisions with deep Taylor decomposition.

    >>> z_box(0, 1), z_box(-2.1, 2.6)
    (z_box(), z_box(-2.1, 2.6))
    """
    if not bool((torch.as_tensor(low) < torch.as_tensor(high)).all()):
        raise ValueError(f"z_box: low is {low}, high is {high}; expected low below high")

    def pull(call: Linear, g: Tensor) -> Pulled:
        if call.low is None or call.high is None:
            raise RuleError("z_box is for the layers that see the image itself: give it as 'first'")
        axis = call.map.channels
        if axis is None:
            upper, lower = call.w.clamp(min=0), call.w.clamp(max=0)
            ends = call.forward(call.low, upper).add_(call.forward(call.high, lower))
            share = shared(g, call.y, (call.total(False) - ends).clamp_(min=0), eps)
            above, below = call.back(share, upper), call.back(share, lower)
        else:
            bounds, w = torch.cat([call.low, call.high], axis), _halves(call.w, 1)
            share = shared(g, call.y, (call.total(False) - call.forward(bounds, w)).clamp_(min=0), eps)
            above, below = call.map.back(share, w, bounds).chunk(2, axis)
        return Pulled(x=above + below, low=-above, high=-below)

    return pull


def _by_weights(weigh: Callable[[Tensor], Tensor], eps: float, bias: bool) -> Pull:
    """Relevance shared by a function of the weights alone."""

    def pull(call: Linear, g: Tensor) -> Pulled:
        w = weigh(call.w)
        b = weigh(call.b) if bias and call.b is not None else None
        # What was padded with zeros or put beside the image is none of its inputs.
        inputs = torch.ones_like(call.x) if call.unit is None else (call.unit != 0).to(call.x)
        parts = call.back(shared(g, call.y, call.forward(inputs, w, b), eps), w)
        if call.unit is None:
            return Pulled(x=ratio(parts, call.x, 0, exact=True))
        return Pulled(unit=ratio(parts, call.unit, 0, exact=True))

    return pull


def _halves(t: Tensor, axis: int) -> Tensor:
    """The positive and the negative part side by side: one map of both costs little more than one of t."""
    return torch.cat([t.clamp(min=0), t.clamp(max=0)], axis)


def _sizes(call: Linear, bias: bool) -> Tensor:
    """sum_j |z_jk|, with |b_k| if the bias counts.

    With z = sum_j z_jk the positive parts add up to (sizes + z) / 2, the negative ones to (z - sizes) / 2: one more map
    does for both.
    """
    return call.forward(call.x.abs(), call.magnitudes, call.b.abs() if bias and call.b is not None else None)


def _signed(call: Linear, plain: Tensor, sizes: Tensor) -> Tensor:
    """What times x is x (w' plain) + |x| (|w|' sizes)."""
    return call.back(plain, call.w).add_(call.back(sizes, call.magnitudes).mul_(call.x.sign()))


def _at_least_zero(name: str, option: str, value: float | None) -> None:
    if value is not None and not value >= 0:
        raise ValueError(f"{name}: {option} is {value}, expected 0 or above")

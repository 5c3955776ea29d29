"""Which torch function is what to a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PLACES = (torch, F, Tensor, torch._C._nn, torch.functional, torch.fft)


def named(words: str) -> frozenset[Any]:
    """The functions of torch, its functional module and its tensors that have one of these names."""
    found = {getattr(place, word, None) for word in words.split() for place in PLACES}
    return frozenset(found - {None})


def both(words: str) -> frozenset[Any]:
    """The same, and their forms in place."""
    return named(f"{words} {' '.join(f'{word}_' for word in words.split())}")


CONVOLUTION = named("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
DENSE = named("linear")
MATRICES = named("matmul bmm mm mv dot inner einsum tensordot bilinear __matmul__ __rmatmul__")
FUSED = named("addmm addbmm baddbmm addmv")
LINEAR = CONVOLUTION | DENSE | MATRICES | FUSED
RECTIFIER = both("relu") | named("clamp_min clamp_min_")
HOMOGENEOUS = RECTIFIER | both("leaky_relu prelu rrelu")
"""f(c x) = c f(x) for c > 0: the ordinary gradient is f(x) / x."""
GATES = both("sigmoid hardsigmoid")
RECTIFYING = HOMOGENEOUS | both("relu6 hardtanh elu celu selu gelu silu mish hardswish softplus threshold")
"""What guided backpropagation and deconvnet treat as a rectifier."""
ACTIVATION = (
    RECTIFYING
    | GATES
    | both("clamp clip tanh softsign logsigmoid tanhshrink softshrink hardshrink threshold pow square sqrt log")
    | named("__pow__ __ipow__")
)
NONNEGATIVE = both("relu relu6 sigmoid hardsigmoid softplus square sqrt")
SOFTMAX = named("softmax softmin log_softmax")
PRODUCT = both("mul multiply") | named("__mul__ __rmul__ __imul__")
QUOTIENT = both("div divide true_divide") | named("__truediv__ __itruediv__")
SUM = both("add sub subtract") | named("__add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ rsub")
AVERAGE = named(
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean sum lp_pool2d"
)
MAXIMUM = named(
    "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices fractional_max_pool2d"
)
SCALING = named("local_response_norm normalize")
"""x times a number that is taken as fixed."""
RECURRENT = named(
    "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell quantized_lstm quantized_gru"
)
FOURIER = named("fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn")
"""Linear maps of all pixels at once: what comes after them does not see the image."""
PLAIN = (
    named(
        "view view_as reshape reshape_as flatten unflatten ravel permute transpose swapaxes swapdims movedim moveaxis "
        "t adjoint squeeze unsqueeze expand expand_as broadcast_to repeat repeat_interleave tile contiguous clone "
        "chunk split split_with_sizes tensor_split hsplit vsplit unbind cat concat concatenate stack hstack vstack "
        "dstack __getitem__ __setitem__ narrow select select_copy index_select gather take take_along_dim "
        "masked_select masked_fill masked_fill_ masked_scatter where roll flip fliplr flipud rot90 pad "
        "constant_pad_nd interpolate "
        "upsample upsample_nearest upsample_bilinear grid_sample affine_grid pixel_shuffle pixel_unshuffle "
        "channel_shuffle native_channel_shuffle fold unfold as_strided to type type_as float double half bfloat16 cpu "
        "cuda detach detach_ alias dropout dropout1d dropout2d dropout3d dropout_ alpha_dropout alpha_dropout_ "
        "feature_dropout feature_alpha_dropout neg neg_ negative positive __neg__ cumsum diff real view_as_real "
        "view_as_complex complex tril triu diag diagonal trace max min amax amin maximum minimum fmax fmin sort topk "
        "kthvalue median cummax cummin abs abs_ absolute index_add index_copy index_put scatter scatter_add copy_ "
        "zero_ fill_ nan_to_num lerp relu_ requires_grad_ register_hook retain_grad rename refine_names align_to "
        "hann_window fftshift ifftshift unsqueeze_ squeeze_ transpose_ t_ unsafe_chunk unsafe_split max_unpool2d "
        "logit_ _shape_as_tensor _reshape_alias _unsafe_view contiguous_format lift_fresh_copy slice "
        "fake_quantize_per_tensor_affine"
    )
    | {getattr(Tensor, "__getitem__", None)}
    | FOURIER
)
"""Linear without a constant, or a choice among inputs: the ordinary gradient hands relevance on."""

IN_PLACE_WORDS = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__setitem__")


@cache
def writes(function: Any) -> bool:
    """Whether a function changes its first argument, by its name."""
    name: str = getattr(function, "__name__", "").partition(".")[0]
    return name in IN_PLACE_WORDS or (name.endswith("_") and not name.endswith("__") and name != "requires_grad_")


@cache
def plain_name(function: Any) -> str:
    """A function's name for people."""
    name: str = getattr(function, "__name__", type(function).__name__)
    return name.partition(".")[0]


@cache
def known(function: Any) -> Any:
    """The function of torch that an operator of an exported program stands for; any other function is itself."""
    if not isinstance(function, torch._ops.OpOverload):
        return function
    name = function.overloadpacket.__name__
    return next((found for place in PLACES if (found := getattr(place, name, None)) is not None), function)


def tensors(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments, also those in lists."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def table(entries: dict[frozenset[Any], Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    """One entry for each function."""
    return {function: handler for functions, handler in entries.items() for function in functions}


INPLACE_AT = {
    F.relu: 1, F.relu6: 1, F.hardtanh: 3, F.leaky_relu: 2, F.elu: 2, F.celu: 2, F.selu: 1, F.silu: 1, F.mish: 1,
    F.hardswish: 1, F.hardsigmoid: 1, F.threshold: 3, F.rrelu: 4, F.dropout: 3, F.alpha_dropout: 3,
}  # fmt: skip


def told_in_place(function: Any, args: tuple[Any, ...]) -> bool:
    """Whether a function of torch.nn.functional is told by position to work in place."""
    place = INPLACE_AT.get(function)
    return place is not None and len(args) > place and args[place] is True

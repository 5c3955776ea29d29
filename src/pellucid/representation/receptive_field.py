"""Which pixels a place of a layer can see: the box that the graph of the network allows, exact at the borders."""

# ruff: noqa: ARG001 - the arguments of torch's functions have to be named as there

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..methods.verb import verb
from ..model.activation_maps import as_maps
from ..model.backward import function_kinds
from ..model.backward.function_kinds import both, named
from ..model.run import Model, run

Shadow = tuple[Tensor, Tensor, Tensor, Tensor]
NOTHING = float("-inf")

ELEMENTWISE = (
    function_kinds.ACTIVATION | function_kinds.PRODUCT | function_kinds.QUOTIENT | function_kinds.SUM
    | both("exp log log1p expm1 erf sin cos sign rsqrt reciprocal floor ceil round abs neg negative lerp masked_fill "
           "dropout alpha_dropout nan_to_num addcmul addcdiv copy logical_not zero fill")
    | named("where maximum minimum fmax fmin clone contiguous to type type_as float double half bfloat16 detach alias "
            "dropout1d dropout2d dropout3d feature_dropout __neg__ __abs__ positive absolute batch_norm gt lt ge le eq "
            "ne __gt__ __lt__ __ge__ __le__ __eq__ __ne__ logical_and logical_or cpu cuda requires_grad_ "
            "lift_fresh_copy __and__ __or__ __invert__ floor_divide __floordiv__")
)  # fmt: skip
MOVING = named(
    "view view_as reshape reshape_as flatten unflatten ravel permute transpose swapaxes swapdims movedim moveaxis t "
    "squeeze unsqueeze squeeze_ unsqueeze_ expand expand_as broadcast_to repeat repeat_interleave tile chunk split "
    "split_with_sizes tensor_split unbind cat concat concatenate stack hstack vstack dstack __getitem__ narrow select "
    "index_select gather roll flip fliplr flipud rot90 channel_shuffle native_channel_shuffle pixel_shuffle "
    "pixel_unshuffle unsafe_chunk unsafe_split movedim _reshape_alias _unsafe_view slice diagonal"
) | {getattr(Tensor, "__getitem__", None)}
AVERAGING, LARGEST = named("mean sum amax amin std var prod logsumexp norm"), named("max min")
NORMALISING = named("layer_norm rms_norm group_norm instance_norm normalize")


@dataclass(frozen=True, eq=False)
class ReceptiveFields:
    """The boxes of pixels that the places of a layer can see.

    boxes: h x w x 4 whole numbers: top, left, bottom and right, the last two beyond the box, as in slices. A place that
    sees no pixel has an empty box at 0. layer: its name. size: height and width of the images.
    guessed: functions on the way that are not known, for which the worst was taken: boxes may be too large.
    """

    boxes: Tensor
    layer: str
    size: tuple[int, int]
    guessed: tuple[str, ...] = ()

    def __getitem__(self, place: tuple[int, int]) -> tuple[int, int, int, int]:
        top, left, bottom, right = self.boxes[place].tolist()
        return top, left, bottom, right

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the layer."""
        return self.boxes.shape[0], self.boxes.shape[1]

    @property
    def whole(self) -> bool:
        """Whether every place sees the whole image, as behind an attention or a mean over all places."""
        return bool((self.boxes == torch.tensor([0, 0, *self.size])).all())

    def cell(self, place: tuple[int, int]) -> tuple[int, int, int, int]:
        """The part of the image that lies under a place, if the layer's grid is laid over it."""
        rows, columns = self.grid
        (height, width), (y, x) = self.size, place
        top, left = y * height // rows, x * width // columns
        bottom, right = -(-(y + 1) * height // rows), -(-(x + 1) * width // columns)
        return top, left, bottom, right


@verb()
def receptive_fields(model: Model, layer: str, size: tuple[int, int], channels: int = 3) -> ReceptiveFields:
    """The pixels that each place of a layer can depend on.

    One image is sent through, and with each value the rows and columns of the image from which it is made: a
    convolution or a pooling takes the extremes of its window, a sum those of its terms, an attention those of all
    places. Padding adds nothing, so that boxes at the border are exact. What a function does that is not known is taken
    for the worst: its output sees all that its inputs see.

    Args:
        model: a network or a `Classifier`.
        layer: whose places; it must lie over the image.
        size: height and width of the images. channels: of the images.

    Returns:
        `Fields`. Holes in a box (dilated convolutions) count as seen, weights that happen to be zero too.

    Raises:
        ValueError: if the layer does not lie over the image.

    Paper:
        Luo, Li, Urtasun & Zemel 2016, Understanding the effective receptive field in deep convolutional neural networks

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.MaxPool2d(2)).eval()
    >>> fields = receptive_fields(net, "1", (8, 8), channels=1)
    >>> fields[0, 0], fields[1, 1]
    ((0, 0, 3, 3), (1, 1, 5, 5))
    """
    height, width = size
    image = torch.full((1, channels, height, width), 0.5)
    rows = torch.arange(height, dtype=torch.float32)[:, None].expand(image.shape)
    columns = torch.arange(width, dtype=torch.float32).expand(image.shape)
    watch = _Watch()
    watch.put(image, (-rows, -columns, rows, columns))
    with torch.no_grad(), watch:
        trace = run(model, image, read=[layer], to_output=False)
    kept = trace.activations[layer]
    shadow = watch.of(kept)
    maps = [as_maps(part, size) for part in shadow]
    if any(part is None for part in maps):
        shape = " x ".join(map(str, kept.shape[1:]))
        raise ValueError(f"layer {layer!r} gives N x {shape}, which does not lie over the image: it has no places")
    top, left, bottom, right = (part[0].amax(0) for part in maps if part is not None)
    boxes = torch.stack([-top, -left, bottom + 1, right + 1], 2)
    blind = bottom == NOTHING
    return ReceptiveFields(torch.where(blind[..., None], 0, boxes).long(), layer, (height, width), tuple(watch.guessed))


class _Watch(TorchFunctionMode):
    """Sees each function of a pass, and hands on beside each tensor how far what it is made of reaches.

    A tensor's shadow are four tensors of its shape: for each value -top, -left, bottom and right of the pixels that it
    depends on, so that joining is always the maximum; -infinity where it depends on none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shadows: dict[int, tuple[Tensor, Shadow]] = {}
        self.guessed: dict[str, None] = {}

    def put(self, value: Tensor, shadow: Sequence[Tensor]) -> None:
        parts = [part if part.shape == value.shape else part.expand(value.shape) for part in shadow]
        self.shadows[id(value)] = (value, (parts[0], parts[1], parts[2], parts[3]))  # value is held, so is its id

    def of(self, value: Tensor) -> Shadow:
        found = self.shadows.get(id(value))
        if found is not None and found[1][0].shape == value.shape:
            return found[1]
        nothing = torch.full((), NOTHING).expand(value.shape)
        return (nothing, nothing, nothing, nothing)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = function_kinds.tensors((*args, *kwargs.values()))
        moving = [value for value in inputs if id(value) in self.shadows]
        before = {id(value): self.of(value) for value in inputs} if moving else {}
        out = func(*args, **kwargs)
        if not moving:
            return out
        name = function_kinds.plain_name(function_kinds.known(func))
        if name == "__setitem__":
            target, place, value = args
            parts = [part.clone() for part in before[id(target)]]
            for number, part in enumerate(parts):
                part[place] = before[id(value)][number] if isinstance(value, Tensor) else NOTHING
            self.put(target, parts)
            return out
        outs = [value for value in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(value, Tensor)]
        if outs:
            for value, shadow in zip(outs, self._shadows(func, args, kwargs, outs, before), strict=True):
                self.put(value, shadow)
        return out

    def _shadows(
        self, func: Any, args: Any, kwargs: Any, outs: list[Tensor], before: dict[int, Shadow]
    ) -> list[Sequence[Tensor]]:
        """The shadows of the outputs of a call."""
        function = function_kinds.known(func)
        made: list[list[Tensor]] = []
        for number in range(4):

            def shadow(value: Any, number: int = number) -> Any:
                if isinstance(value, Tensor):
                    return before[id(value)][number]
                return type(value)(map(shadow, value)) if type(value) in (tuple, list) else value

            largest = torch.stack([before[key][number].amax() for key in before]).amax()
            try:
                if function in MOVING:
                    # Only what is moved has a shadow: indices that say where to are as they are.
                    moved = func(
                        shadow(args[0] if isinstance(args[0], Tensor) else tuple(args[0])), *args[1:], **kwargs
                    )
                    found = list(moved) if isinstance(moved, (tuple, list)) else [moved]
                else:
                    found = [_RULES[function](shadow, args, kwargs, outs[0])]
                shapes = [part.shape == value.shape for part, value in zip(found, outs, strict=False)]
                known = found if all(shapes) else []
            except (KeyError, IndexError, TypeError, ValueError, RuntimeError):
                known = []  # a call of a form that no rule knows: the worst is taken
            if not known:
                self.guessed[function_kinds.plain_name(func)] = None
            made.append(known + [largest.expand(value.shape) for value in outs[len(known) :]])
        return [tuple(part) for part in zip(*made, strict=True)]


Rule = Callable[[Callable[[Any], Any], Any, Any, Tensor], Tensor]


def _elementwise(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    parts = [shadow(value) for value in function_kinds.tensors((*args, *kwargs.values()))]
    joined: Tensor = parts[0]
    for part in parts[1:]:
        joined = torch.maximum(*torch.broadcast_tensors(joined, part))
    return joined.expand(out.shape)


def _first(shadow: Any, args: Any, kwargs: Any, _out: Tensor) -> Tensor:
    found: Tensor = shadow(args[0] if args else kwargs["input"])
    return found


def _window(s: Tensor, size: Any, stride: Any, padding: Any, dilation: Any = 1, ceil: bool = False) -> Tensor:
    axes = s.ndim - 2
    if axes not in (1, 2):
        raise ValueError
    size, stride, padding, dilation = (_each(value, axes) for value in (size, stride, padding, dilation))
    edges = [side for pad in reversed(padding) for side in (pad if isinstance(pad, tuple) else (pad, pad))]
    s = F.pad(s, edges, value=NOTHING)
    pool = F.max_pool2d if axes == 2 else F.max_pool1d
    found: Tensor = pool(s, size, stride, 0, dilation, ceil)
    return found


def _each(value: Any, axes: int) -> list[Any]:
    listed = list(value) if isinstance(value, (tuple, list)) else [value]
    return listed * axes if len(listed) == 1 else listed


def _convolution(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    def named(
        input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
        groups: int = 1,
    ) -> Any:  # fmt: skip
        return input, weight, stride, padding, dilation, groups

    x, weight, stride, padding, dilation, groups = named(*args, **kwargs)
    size = weight.shape[2:]
    if isinstance(padding, str):
        spread = [d * (k - 1) * (padding == "same") for d, k in zip(_each(dilation, len(size)), size, strict=True)]
        padding = [(total // 2, total - total // 2) for total in spread]
    s = _grouped(shadow(x), groups)
    return _window(s, tuple(size), stride, padding, dilation).repeat_interleave(out.shape[1] // groups, 1)


def _transposed(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    def named(
        input: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
        groups: int = 1, dilation: Any = 1,
    ) -> Any:  # fmt: skip
        return input, weight, stride, padding, output_padding, groups, dilation

    x, weight, *rest = named(*args, **kwargs)
    size, groups = weight.shape[2:], rest[3]
    stride, padding, more, dilation = (_each(value, len(size)) for value in (*rest[:3], rest[4]))
    s = _grouped(shadow(x), groups)
    sides = [(n - 1) * step + 1 for n, step in zip(s.shape[2:], stride, strict=True)]
    spread = s.new_full((*s.shape[:2], *sides), NOTHING)
    spread[(slice(None), slice(None), *(slice(None, None, step) for step in stride))] = s
    edges = [
        (d * (k - 1) - pad, d * (k - 1) - pad + extra)
        for d, k, pad, extra in zip(dilation, size, padding, more, strict=True)
    ]
    return _window(spread, tuple(size), 1, edges, dilation).repeat_interleave(out.shape[1] // groups, 1)


def _grouped(s: Tensor, groups: int) -> Tensor:
    found: Tensor = s.unflatten(1, (groups, -1)).amax(2)
    return found


def _pool(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    """Of max-pooling; averages have no dilation, and their rounding up in another place."""

    def named(
        input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        ceil_mode: bool = False, return_indices: bool = False,
    ) -> Any:  # fmt: skip
        return shadow(input), kernel_size, stride or kernel_size, padding, dilation, ceil_mode

    return _cut(_pooled(*named(*args, **kwargs)), out)


def _average(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    def named(
        input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: Any = None,
    ) -> Any:  # fmt: skip
        return shadow(input), kernel_size, stride or kernel_size, padding, 1, ceil_mode

    return _cut(_pooled(*named(*args, **kwargs)), out)


def _pooled(s: Tensor, size: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Tensor:
    axes = s.ndim - 2
    if axes not in (1, 2):
        raise ValueError
    pool: Any = F.max_pool2d if axes == 2 else F.max_pool1d
    found: Tensor = pool(s, *(_each(value, axes) for value in (size, stride, padding, dilation)), ceil)
    return found


def _cut(s: Tensor, out: Tensor) -> Tensor:
    if s.shape != out.shape:
        raise ValueError
    return s


def _adaptive(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    s = _first(shadow, args, kwargs, out)
    if s.ndim != 4:
        raise ValueError
    return F.adaptive_max_pool2d(s, out.shape[2:])


def _pad(shadow: Any, args: Any, kwargs: Any, _out: Tensor) -> Tensor:
    def named(input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Any:
        return shadow(input), list(pad), mode

    s, pad, mode = named(*args, **kwargs)
    return F.pad(s, pad, value=NOTHING) if mode == "constant" else F.pad(s, pad, mode)


def _nearest(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    if kwargs.get("mode", args[3] if len(args) > 3 else "nearest") not in ("nearest", "nearest-exact"):
        raise ValueError
    s = _first(shadow, args, kwargs, out)
    return F.interpolate(s, size=out.shape[2:], mode="nearest")


def _dense(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    return _first(shadow, args, kwargs, out).amax(-1, keepdim=True).expand(out.shape)


def _product(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    a, b = (shadow(value) for value in function_kinds.tensors((*args, *kwargs.values()))[-2:])
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError
    return torch.maximum(a.amax(-1, keepdim=True), b.amax(-2, keepdim=True)).expand(out.shape)


def _attention(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    query, key, value = (shadow(x) for x in function_kinds.tensors((*args, *kwargs.values()))[:3])
    seen = torch.maximum(key.amax((-2, -1), keepdim=True), value.amax((-2, -1), keepdim=True))
    return torch.maximum(query.amax(-1, keepdim=True), seen).expand(out.shape)


def _softmax(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if axis is None:
        raise ValueError
    return _first(shadow, args, kwargs, out).amax(axis, keepdim=True).expand(out.shape)


def _reduced(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    s = _first(shadow, args, kwargs, out)
    axes = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    if isinstance(axes, Tensor):
        return _elementwise(shadow, args, kwargs, out)  # the larger of two tensors
    if axes is None or isinstance(axes, (float, bool, str)):
        return s.amax().expand(out.shape)
    kept = s.amax(axes, keepdim=True)
    return kept.reshape(out.shape) if kept.numel() == out.numel() else s.amax().expand(out.shape)


def _normalized(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    s = _first(shadow, args, kwargs, out)
    second = args[1] if len(args) > 1 else next((v for k, v in kwargs.items() if k != "input"), None)
    if isinstance(second, (tuple, list, torch.Size)):  # layer and rms norm: the shape of what they are over
        return s.amax(tuple(range(-len(second), 0)), keepdim=True).expand(out.shape)
    return s.flatten(1).amax(1).view(-1, *(1,) * (s.ndim - 1)).expand(out.shape)


def _constant(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    return torch.full((), NOTHING).expand(out.shape)


def _across(shadow: Any, args: Any, kwargs: Any, out: Tensor) -> Tensor:
    return _first(shadow, args, kwargs, out).amax(1, keepdim=True).expand(out.shape)


_RULES: dict[Any, Rule] = function_kinds.table(
    {
        NORMALISING: _normalized,
        AVERAGING | LARGEST: _reduced,
        ELEMENTWISE: _elementwise,
        named("conv1d conv2d"): _convolution,
        named("conv_transpose1d conv_transpose2d"): _transposed,
        named("max_pool1d max_pool2d max_pool1d_with_indices max_pool2d_with_indices"): _pool,
        named("avg_pool1d avg_pool2d"): _average,
        named("adaptive_avg_pool2d adaptive_max_pool2d"): _adaptive,
        named("pad constant_pad_nd"): _pad,
        named("interpolate upsample_nearest2d"): _nearest,
        function_kinds.DENSE: _dense,
        named("matmul bmm mm __matmul__"): _product,
        named("scaled_dot_product_attention"): _attention,
        function_kinds.SOFTMAX: _softmax,
        named("batch_norm to type_as"): _first,
        named("local_response_norm"): _across,
        named("new_zeros new_ones new_full new_empty zeros_like ones_like full_like empty_like rand_like"): _constant,
    }
)

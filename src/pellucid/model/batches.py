"""Many images in passes that fit the memory: batches are sized by measuring, progress is shown."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import ceil
from threading import Timer
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .settings import current

CPU_MEMORY = 256 * 2**20  # 12 images of 224 x 224 through resnet18 and back
MOST_ROWS = 4096
CPU_INPUT = 5 * 2**20  # bytes of images in one pass: 8 of 224 x 224, the fastest there both ways
# The first slice takes a network's activations for this many times its input: with gradients they are 35 times in
# resnet18, 210 in densenet121. A GPU that overflows fails, a CPU does not, hence the caution there.
CPU_GUESS, GPU_GUESS = 100, 400
LOOK = 10  # steps between two looks at values that lie on a GPU
_watched: ContextVar[bool] = ContextVar("pellucid_progress", default=False)


def batched(
    step: Callable[[slice], object],
    rows: int,
    *,
    like: Tensor,
    label: str = "",
    device: torch.device | None = None,
    guess: int | None = None,
) -> None:
    """Call `step(slice)` over consecutive slices of `range(rows)`, each as large as the memory budget allows.

    The first slice is small and measured: every tensor that is alive at once while `step` runs counts.
    `pellucid.settings(batch_size=...)` overrules the budget. What `step` computes must not depend on how
    the rows are cut. Anything over two seconds shows a progress bar.

    Args:
        step: computes the rows of a slice; what it returns is ignored.
        rows: how many there are.
        like: a tensor of the shape, type and device of the images (N x ...), to guess the first slice by.
        label: what the progress bar says.
        device: where the passes run, if not where `like` is.
        guess: the bytes that a row takes, as a multiple of those of a row of `like`, for the first slice.

    >>> import torch
    >>> seen = []
    >>> batched(lambda part: seen.extend(range(part.start, part.stop)), 5, like=torch.zeros(1, 3, 8, 8))
    >>> seen
    [0, 1, 2, 3, 4]
    """
    fixed = current().batch_size
    device = device or like.device
    budget = memory_budget(device)
    row_bytes = max(1, like[:1].numel() * like.element_size())
    most = MOST_ROWS
    if guess is None:
        guess = CPU_GUESS if device.type == "cpu" else GPU_GUESS
        most = max(1, min(most, CPU_INPUT // row_bytes)) if device.type == "cpu" else most
    size = fixed or max(1, min(budget // (row_bytes * guess), most))
    with progress(rows, label) as advance:
        done = 0
        while done < rows:
            left = rows - done
            # Slices of equal length: 8 rows that fit by 7 are 4 + 4, not 7 + 1.
            part = slice(done, done + ceil(left / ceil(left / size)))
            if done == 0 and fixed is None and part.stop < rows:
                with _Meter() as meter:
                    step(part)
                size = max(1, min(int(budget * part.stop / max(1, meter.peak)), most))
            else:
                step(part)
            advance(part.stop - part.start)
            done = part.stop


def memory_budget(device: torch.device) -> int:
    """Bytes that one pass may take on `device`: the setting, or half of a GPU's free memory, or 256 MiB."""
    if chosen := current().memory:
        return chosen
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + unused) // 2
    return CPU_MEMORY


@contextmanager
def progress(total: int, label: str = "", unit: str = "image", word: str = "") -> Iterator[Callable[..., Any]]:
    """A bar with an estimate that appears after two seconds; only the outermost of nested ones shows.

    What it yields takes how many more are done and, where `word` says what they are, the values at the last of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets has bars of text
        from tqdm.auto import tqdm

    hidden = not watched()
    token = _watched.set(True)
    try:
        with tqdm(total=total, desc=label or None, unit=unit, delay=2, disable=hidden, leave=False) as bar:

            def advance(more: int, values: Tensor | None = None) -> None:
                if values is not None and not hidden and (values.device.type == "cpu" or bar.n % LOOK == 0):
                    bar.set_postfix_str(f"{word} {float(values.detach().mean()):.4g}", refresh=False)
                bar.update(more)

            yield advance
    finally:
        _watched.reset(token)


def watched() -> bool:
    """Whether a bar shows if it is begun here: bars are wished for, and none is there."""
    return current().progress and not _watched.get()


@contextmanager
def announced(text: str) -> Iterator[None]:
    """A line that appears after two seconds, where a bar would, for work whose steps cannot be counted."""
    timer = Timer(2, lambda: print(text, file=sys.stderr, flush=True))
    timer.daemon = True
    if watched():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Meter(TorchDispatchMode):
    """The largest number of bytes alive at once among the tensors made while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._storages: set[int] = set()

    def _free(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.alive -= size

    def _made(self, tensor: Tensor, before: set[int]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._storages and key not in before:  # a view of a weight is not new
            self._storages.add(key)
            size = storage.nbytes()
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._free, key, size)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {t.untyped_storage()._cdata for t in args if _has_storage(t)}
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if _has_storage(tensor):
                self._made(tensor, before)
        return out


def _has_storage(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided

"""A progress bar that says how far the objective is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from ...model.batches import watched

LOOK = 10  # steps between two looks at values that lie on a GPU


@contextmanager
def climbing(steps: int, label: str, word: str = "objective") -> Iterator[Callable[[int, Tensor | None], None]]:
    """A bar that appears after two seconds; what it yields takes the steps made and the values at the last of them."""
    from tqdm.auto import tqdm

    hidden = not watched()
    with tqdm(total=steps, desc=label, unit="step", delay=2, disable=hidden, leave=False) as bar:

        def advance(made: int, values: Tensor | None) -> None:
            if values is not None and not hidden and (values.device.type == "cpu" or bar.n % LOOK == 0):
                bar.set_postfix_str(f"{word} {float(values.detach().mean()):.4g}", refresh=False)
            bar.update(made)

        yield advance

"""What belongs to the machine and not to the question: batch size, memory, progress, device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Settings:
    """How to compute. Change them for a block of code with `pellucid.settings(...)`.

    batch_size: images in one pass; None lets the memory budget decide.
    memory: bytes that the activations of one pass may take; None is half of what is free on a GPU and
        256 MiB on a CPU, where larger batches are not faster.
    progress: show a progress bar for what takes longer than two seconds.
    device: where `load` puts a network ("cpu", "cuda", "cuda:1", "mps").
    """

    batch_size: int | None = None
    memory: int | None = None
    progress: bool = True
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("batch_size", "memory"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}: give a whole number above 0, or None")


_current: ContextVar[Settings] = ContextVar("pellucid_settings", default=Settings())  # noqa: B039 - frozen


def current() -> Settings:
    """The settings in force here."""
    return _current.get()


@contextmanager
def settings(**changes: object) -> Iterator[Settings]:
    """Change settings for a block of code.

    Args:
        changes: any of the fields of `Settings`: batch_size, memory, progress, device.

    Raises:
        TypeError: for a setting that does not exist.
        ValueError: for a batch size or a memory budget that is not a whole number above 0.

    >>> import pellucid
    >>> with pellucid.settings(batch_size=4, progress=False) as now:
    ...     now.batch_size
    4
    """
    known = Settings.__dataclass_fields__
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise TypeError(f"there is no setting {unknown[0]!r}; there are {', '.join(known)}")
    token = _current.set(replace(_current.get(), **changes))  # type: ignore[arg-type]
    try:
        yield _current.get()
    finally:
        _current.reset(token)

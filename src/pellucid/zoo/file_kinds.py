"""Files of whole classifiers that other parts of pellucid write, and who reads them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

from ..model.classifier import Classifier

READERS: dict[str, Callable[[Path], Classifier]] = {}
"""What reads each kind of file; the part that writes a kind enters itself here when it is imported."""

WRITERS = {"a spectrum classifier": "..audit"}
"""The part that writes each kind: it lies above this one, so that it is imported only for a file of its own."""


def reader_of(path: Path) -> Callable[[Path], Classifier] | None:
    """What reads a file that holds a whole classifier; None for other files, such as those of weights."""
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return None
    import safetensors

    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("pellucid", "{}"))
    except (safetensors.SafetensorError, ValueError):
        return None  # whoever is asked for it next says what is wrong with it
    kind = about.get("kind", "") if isinstance(about, dict) else ""
    if kind in WRITERS and kind not in READERS:
        importlib.import_module(WRITERS[kind], __package__)
    return READERS.get(kind)

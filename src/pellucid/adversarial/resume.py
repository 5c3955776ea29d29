"""Attacks that are kept in a run folder, chunk by chunk, so that they can stop anywhere and go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batches import progress
from ..run import Model, Passes, counted
from ..runfolder import begin, describe_model, pending, read_chunk, span, write_chunk
from ..runfolder.identity import sha256

CHUNK = 64


def in_folder(
    folder: str | Path,
    attack: Callable[[slice], Mapping[str, Any]],
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    verb: str,
    options: Mapping[str, Any],
    seed: int,
) -> tuple[dict[str, Any], Passes]:
    """Attack what the folder does not have yet, and give all of it back, with the passes that it took.

    Args:
        attack: from some of the images to the fields of an `Attack`, of which tensors are kept.
        labels: N classes, -1 where they are the predicted ones.
        verb, options, seed: with the model and the images, what tells this run from others.

    Raises:
        OtherRun: the folder holds a run with other settings.
    """
    arrays = images.detach().cpu().double().numpy()
    items = [f"{i} {label} {sha256(arrays[i].tobytes())[:16]}" for i, label in enumerate(labels.tolist())]
    about = describe_model(model)
    run = begin(folder, verb=verb, model=about, items=items, options=options, seed=seed, chunk=CHUNK)
    parts: list[dict[str, Tensor]] = []
    total = Passes()
    with run as kept, progress(len(items), verb.replace("_", " ")) as advance:
        missing = set(pending(kept))
        for number in range(kept.chunks):
            members = span(kept, number)
            if number in missing:
                with counted() as passes:
                    found = attack(slice(members.start, members.stop))
                tensors = {name: value.cpu() for name, value in found.items() if isinstance(value, Tensor)}
                rows = [{"forward": 0, "backward": 0} for _ in members]
                rows[0] = {"forward": passes.forward, "backward": passes.backward}
                write_chunk(kept, number, rows, {name: list(value) for name, value in tensors.items()})
            rows, values = read_chunk(kept, number)
            total.forward += sum(row["forward"] for row in rows)
            total.backward += sum(row["backward"] for row in rows)
            parts.append({name: torch.from_numpy(np.stack(value)) for name, value in values.items()})  # type: ignore[arg-type]
            advance(len(members))
    fields: dict[str, Any] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {**fields, "images": fields["images"].to(images), "targets": None}, total

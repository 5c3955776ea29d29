"""Attacks that are kept in a run folder, chunk by chunk, so that they can stop anywhere and go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...model.run import Model, Passes, counted, device_of
from ...model.settings import current
from ...runfolder import begin, describe_model, finish, read_chunk, span, write_chunk
from ...runfolder.identity import sha256

MOST = 64  # images in a chunk
BYTES = 5 * 2**20  # of images in a chunk, on the CPU: what a pass takes there at the most


def in_folder(
    folder: str | Path,
    attack: Callable[[slice], Mapping[str, Any]],
    model: Model,
    images: Tensor,
    labels: Tensor,
    targets: Tensor | None,
    *,
    verb: str,
    options: Mapping[str, Any],
    seed: int,
) -> tuple[dict[str, Any], Passes]:
    """Attack what the folder does not have yet, and give all of it back, with the passes that it took.

    Args:
        attack: from some of the images to the fields of an `Attack`, of which tensors are kept.
        labels: N classes, -1 where they are the predicted ones. targets: N classes, or None.
        verb, options, seed: with the model and the images, what tells this run from others.

    Raises:
        OtherRun: the folder holds a run with other settings.
    """
    aims = ["" if targets is None else f" to {target}" for target in (labels if targets is None else targets).tolist()]
    items = [
        f"{i} {label}{aim} {sha256(image.detach().cpu().double().numpy().tobytes())[:16]}"
        for i, (label, aim, image) in enumerate(zip(labels.tolist(), aims, images, strict=True))
    ]
    about = describe_model(model)
    run = begin(folder, verb=verb, model=about, items=items, options=options, seed=seed, chunk=_chunk(model, images))
    parts: list[dict[str, Tensor]] = []
    total = Passes()
    with run as kept:

        def do(number: int) -> None:
            members = span(kept, number)
            with counted() as passes:
                found = attack(slice(members.start, members.stop))
            tensors = {name: _known(value.cpu()) for name, value in found.items() if isinstance(value, Tensor)}
            rows = [{"forward": 0, "backward": 0} for _ in members]
            rows[0] = {"forward": passes.forward, "backward": passes.backward}
            write_chunk(kept, number, rows, {name: list(value) for name, value in tensors.items()})

        finish(kept, do, verb.replace("_", " "), lambda _: None)
        for number in range(kept.chunks):
            rows, values = read_chunk(kept, number)
            total.forward += sum(row["forward"] for row in rows)
            total.backward += sum(row["backward"] for row in rows)
            parts.append({name: torch.from_numpy(np.stack(value)) for name, value in values.items()})  # type: ignore[arg-type]
    fields: dict[str, Any] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {"targets": None, "success_under_transforms": None, **fields, "images": fields["images"].to(images)}, total


def _known(values: Tensor) -> Tensor:
    """The same in a type that NumPy knows."""
    return values.float() if values.dtype == torch.bfloat16 else values


def _chunk(model: Model, images: Tensor) -> int:
    """As many images as go through the network together, so that stopping loses little and chunks cost nothing."""
    if (chosen := current().batch_size) is not None:
        return chosen
    device = device_of(model) or images.device
    most = BYTES // (images[:1].numel() * images.element_size())
    return MOST if device.type != "cpu" else max(1, min(MOST, most))

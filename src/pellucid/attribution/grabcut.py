"""GrabCut from saliency: the object's outline, from the strongest and weakest pixels of its map."""

from __future__ import annotations

import torch
from torch import Tensor

from ..display.figures import displayable
from ..methods.result import Attribution
from ..methods.verb import verb


@verb(paper="Simonyan, Vedaldi & Zisserman 2014, Deep inside convolutional networks")
def grabcut(
    attribution: Attribution, *, foreground: float = 0.95, background: float = 0.30, rounds: int = 5, seed: int = 0
) -> Tensor:
    """Segment the object that a map points to (Simonyan, Vedaldi & Zisserman 2014, section 3.2).

    Pixels above one quantile of the map's magnitude are taken for the object, those below another for the
    background; GrabCut (Rother, Kolmogorov & Blake 2004) gives the rest to either by color.

    Args:
        attribution: of images with 1 or 3 channels; their map's magnitude is the largest over channels.
        foreground, background: quantiles of the map, 0 < background < foreground < 1.
        rounds: of GrabCut.
        seed: of its mixture models (sets OpenCV's random state).

    Returns:
        bool, N x 1 x H x W, True on the object. Empty where the map is constant: it points nowhere.

    Raises:
        ImportError: without OpenCV: pip install 'pellucid[grabcut]'.
        ValueError: for quantiles out of order.

    >>> import pellucid
    >>> model = pellucid.load("shapes")
    >>> saliency = pellucid.saliency(model, pellucid.shapes.scenes(1).images)
    >>> pellucid.grabcut(saliency).shape
    torch.Size([1, 1, 96, 96])
    """
    try:
        import cv2
        import numpy as np
    except ImportError as error:
        raise ImportError("grabcut needs OpenCV: pip install 'pellucid[grabcut]'") from error
    if not 0 < background < foreground < 1:
        raise ValueError(
            f"background is {background} and foreground {foreground}, expected 0 < background < foreground < 1"
        )
    masks = []
    images = (displayable(attribution.images).cpu() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    for image, values in zip(images.numpy(), attribution.values.detach().cpu(), strict=True):
        strength = values.abs().amax(0).double().numpy()
        if strength.max() == strength.min():
            masks.append(torch.zeros(strength.shape, dtype=torch.bool))
            continue
        low, high = np.quantile(strength, [background, foreground])
        seeds = np.where(strength > (low + high) / 2, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        seeds[strength <= low] = cv2.GC_BGD
        seeds[strength >= high] = cv2.GC_FGD
        cv2.setRNGSeed(seed)
        back, front = np.zeros((1, 65)), np.zeros((1, 65))
        bgr = np.ascontiguousarray(image[..., ::-1])
        cv2.grabCut(bgr, seeds, (0, 0, 1, 1), back, front, rounds, cv2.GC_INIT_WITH_MASK)
        masks.append(torch.from_numpy((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)))
    return torch.stack(masks)[:, None]

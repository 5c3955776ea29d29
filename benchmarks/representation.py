"""One pass over CIFAR-10 for features, patches and LRP maps together, beside a bare loop; and its memory.

python -m benchmarks.representation [IMAGES]: the numbers for that many images, 10 000 by default.
python -m benchmarks.representation memory IMAGES: the peak memory of such a run in this process.
"""

from __future__ import annotations

import atexit
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import pellucid
from pellucid import neighbors, rules
from pellucid.files.images import write_image
from pellucid.model.relevance import relevance
from pellucid.objectives import logit
from pellucid.representation import relevance_maps, sweep, top_activations, vectors

from .cases import Functions
from .timing import in_turn, ratio

LAYERS = ("relu1", "relu2", "relu4")
SOME = 1000  # images where the benchmark is one among others
BATCH = 64  # the quickest for the bare loop too, of 32, 64, 128 and 256


def network() -> pellucid.Classifier:
    """Four convolutions with batch norm, random weights: 50 million products for an image, as many as in ResNet-20."""
    torch.manual_seed(0)
    net, before = nn.Sequential(), 3
    for number, width in enumerate((64, 128, 256, 256), start=1):
        net.add_module(f"conv{number}", nn.Conv2d(before, width, 3, padding=1, bias=False))
        net.add_module(f"norm{number}", nn.BatchNorm2d(width))
        net.add_module(f"relu{number}", nn.ReLU())
        if number < 4:
            net.add_module(f"pool{number}", nn.MaxPool2d(2))
        before = width
    net.add_module("mean", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(before, 10))
    return pellucid.wrap(net.eval(), mean=[0.491, 0.482, 0.447], std=[0.247, 0.243, 0.262], size=32, name="cifar")


def images(count: int) -> Tensor:
    """The first images of CIFAR-10's training set from PELLUCID_TEST_DATA; noise where that is not set."""
    folder = os.environ.get("PELLUCID_TEST_DATA")
    file = Path(folder, "cifar10", "cifar10_jpeg.npz") if folder else None
    if file is None or not file.is_file():
        print("PELLUCID_TEST_DATA has no cifar10: these are images of noise", file=sys.stderr)
        return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with np.load(file) as data:
        starts, packed = data["train_offsets"], data["train_jpeg"]
    found = torch.empty(count, 3, 32, 32, dtype=torch.uint8)
    for number in range(count):
        picture = Image.open(io.BytesIO(packed[starts[number] : starts[number + 1]].tobytes())).convert("RGB")
        found[number] = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return found.float() / 255


def all_at_once(model: pellucid.Classifier, given: Tensor | Path) -> object:
    measures = [vectors(*LAYERS), top_activations(*LAYERS), relevance_maps()]
    return sweep(model, given, measures, rules=rules.EPSILON, folder=new_folder())


def features_alone(model: pellucid.Classifier, given: Tensor) -> object:
    return sweep(model, given, [vectors(*LAYERS), top_activations(*LAYERS)], folder=new_folder())


def new_folder() -> Path:
    """A run folder that is removed when the process ends: clearing away is no part of what is timed."""
    place = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Path(place, "run")


def bare_forward(model: pellucid.Classifier, given: Tensor) -> None:
    with torch.no_grad():
        for part in given.split(BATCH):
            model(part)


def bare_gradient(model: pellucid.Classifier, given: Tensor) -> None:
    for part in given.split(BATCH):
        x = part.clone().requires_grad_()
        torch.autograd.grad(model(x).amax(1).sum(), x)


def bare_relevance(model: pellucid.Classifier, given: Tensor) -> None:
    for part in given.split(BATCH):
        relevance(model, part, logit().bind(model, len(part)), rules.EPSILON)


def one_pass(count: int = SOME) -> Functions:
    """Three layers, the extremes of their 448 channels and LRP maps into a run folder; the lower bound is a bare loop
    of forward and of the same rules' backward. "gradient" is that of forward and plain backward."""
    model, given = network(), images(count)
    return {
        "lower bound": lambda: bare_relevance(model, given),
        "pellucid": lambda: all_at_once(model, given),
        "gradient": lambda: bare_gradient(model, given),
    }


def forward_only(count: int = SOME) -> Functions:
    """Three layers and the extremes of their 448 channels into a run folder; the lower bound is a bare loop of
    forward."""
    model, given = network(), images(count)
    return {"lower bound": lambda: bare_forward(model, given), "pellucid": lambda: features_alone(model, given)}


def nearest(points: int = 50_000, queries: int = 1000, size: int = 512) -> Functions:
    """The five nearest of 50 000 points to 1000 queries, of 512 numbers; the lower bound is the product of both."""
    from sklearn.neighbors import NearestNeighbors

    made = torch.Generator().manual_seed(0)
    base, asked = (torch.randn(count, size, generator=made) for count in (points, queries))
    theirs = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(base.numpy())
    return {
        "lower bound": lambda: asked @ base.T,
        "pellucid": lambda: neighbors(base, asked, k=5),
        "scikit-learn": lambda: theirs.kneighbors(asked.numpy()),
    }


CASES: dict[str, Callable[[], Functions]] = {
    "sweep:features+patches+lrp": one_pass,
    "sweep:features+patches": forward_only,
    "neighbors": nearest,
}


def peak(count: int) -> int:
    """Bytes that a fresh process takes at most for a run over so many files."""
    with tempfile.TemporaryDirectory() as place:
        for number, image in enumerate(images(count)):
            write_image(image, Path(place, f"{number}.png"))
        command = [sys.executable, "-m", "benchmarks.representation", "memory", place]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(arguments: list[str]) -> None:
    with pellucid.settings(progress=False):
        if arguments[:1] == ["memory"]:
            all_at_once(network(), Path(arguments[1]))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            return
        count = int(arguments[0]) if arguments else 10_000
        print(f"{count} images, {torch.get_num_threads()} threads\n")
        print("| what | tool | seconds | throughput of the lower bound |\n|---|---|---|---|")
        for name, case in (("features + patches + lrp", one_pass), ("features + patches", forward_only)):
            times = in_turn(case(count), seconds=0, most=3)
            for tool, taken in times.items():
                share = 1 / ratio(times, tool, "lower bound")
                print(f"| {name} | {tool} | {statistics.median(taken):.1f} | {share:.2f} |", flush=True)
        few, many = peak(1000), peak(count)
        print(f"\nPeak memory over files: {few / 2**20:.0f} MiB for 1000, {many / 2**20:.0f} MiB for {count}")


if __name__ == "__main__":
    main(sys.argv[1:])

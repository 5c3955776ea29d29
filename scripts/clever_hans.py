"""How often does the audit find a mark on 5 % of one class, and how often is it alarmed where there is none?

python scripts/clever_hans.py shapes
python scripts/clever_hans.py mnist --data mnist.npz --markers none,square
python scripts/clever_hans.py cifar10 --data cifar10.npz --seeds 0-9 --methods lrp,gradient_x_input

For each seed a small network is trained on a set in which 5 % of the images of one class carry a mark (`none`: no
mark), and the same images are audited, all ten classes together. "found" is an alarm for a cluster most of whose
images carry the mark; every other alarm is false. Networks and marks are those of examples/clever_hans_markers.py.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import torch

import pellucid

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from clever_hans_markers import MARKERS, SETS, experiment, marked, taken_for  # type: ignore[import-not-found]


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("set", choices=list(SETS))
    parser.add_argument("--data", help="the .npz file of mnist or cifar10")
    parser.add_argument("--markers", default=",".join(("none", *MARKERS)))
    parser.add_argument("--methods", default="lrp,gradient_x_input")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--images", type=int, help="to train on")
    given = parser.parse_args()
    first, _, last = given.seeds.partition("-")
    tally: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for seed in range(int(first), int(last or first) + 1):
        for marker in given.markers.split(","):
            mark = None if marker == "none" else marker
            model, images, clean, labels, chosen, cheat = experiment(
                given.set, given.data, mark, given.share, seed, given.images
            )
            kept = taken_for(model, clean[chosen], cheat) - taken_for(model, images[chosen], cheat)
            others = clean[labels != cheat]
            fooled = taken_for(model, marked(others, mark), cheat) if mark else float("nan")
            for method in given.methods.split(","):
                with pellucid.settings(progress=False):
                    found = pellucid.clever_hans(model, images, labels, method=method)
                best, share, reached, wrong = 0.0, 0.0, 0.0, [0.0]
                for cluster in found.clusters:
                    hits = torch.isin(torch.tensor(cluster.members), chosen).double() * (mark is not None)
                    if float(hits.mean()) <= 0.5:
                        wrong.append(cluster.outlier_score)
                    elif cluster.outlier_score > best:
                        best, share, reached = (
                            cluster.outlier_score,
                            float(hits.mean()),
                            float(hits.sum()) / len(chosen),
                        )
                alarms = sum(score >= found.threshold for score in wrong)
                tally[marker, method].append(
                    [
                        best >= found.threshold,
                        best,
                        share,
                        reached,
                        max(wrong),
                        alarms,
                        len(found.classes),
                        kept,
                        fooled,
                    ]
                )
                said = [
                    f"{given.set} seed {seed} {marker:9} {method:16}",
                    f"marked cluster: outlier score {best:5.1f}, {share:4.0%} marked, {reached:4.0%} of the mark;",
                    f"highest other {max(wrong):4.1f}; {alarms} false in {len(found.classes)} classes;",
                    f"mark removed {kept:+.0%}, put on others {fooled:.0%}",
                ]
                print(*said, flush=True)
    heads = ("set", "mark", "method", "found", "false alarms", "outlier score of the mark", "highest without",
             "mark removed", "others fooled")  # fmt: skip
    print("", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", sep="\n")
    for (mark_name, method), runs in tally.items():
        numbers = torch.tensor(runs, dtype=torch.float64)
        middle = numbers.median(0).values.tolist()
        times = f"{int(numbers[:, 0].sum())} of {len(runs)}" if mark_name != "none" else ""
        ends = f"{numbers[:, 1].min():.1f} to {numbers[:, 1].max():.1f}" if mark_name != "none" else ""
        false = f"{int(numbers[:, 5].sum())} in {int(numbers[:, 6].sum())} classes"
        lost = [f"{middle[7]:+.0%}", f"{middle[8]:.0%}"] if mark_name != "none" else ["", ""]
        cells = [given.set, mark_name, method, times, false, ends, f"{numbers[:, 4].max():.1f}", *lost]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

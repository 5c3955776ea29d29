"""One function, two networks, opposite explanations.

    python examples/lrp_minimum.py [folder]

Both networks compute min(a1, a2) for a1, a2 >= 0:

    (i)  y = relu(relu(a1) - relu(a1 - a2))
    (ii) y = relu(relu(a2) - relu(a2 - a1))

LRP-gamma hands y back layer by layer, and where it arrives depends on the layers, not only on the function.
With a1 > a2, D = (g a1 + a2) ((1 + g) a1 - a2), network (i) gives
R1 = g (1 + g) a1^2 a2 / D and R2 = a2^2 (a1 - a2) / D; with a1 <= a2 it gives (a1, 0).
Written: lrp_minimum.png, the share of a1 for all points and several gammas.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import pellucid
from pellucid.rules import gamma


class Minimum(nn.Module):
    """min(a1, a2); `first` says whether a1 or a2 comes first."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        rows = torch.eye(2)[first], torch.eye(2)[first] - torch.eye(2)[1 - first]
        with torch.no_grad():
            self.inner.weight.copy_(torch.stack(rows))
            self.outer.weight.copy_(torch.tensor([[1.0, -1.0]]))

    def forward(self, a: Tensor) -> Tensor:
        return self.outer(self.inner(a.flatten(1)).relu()).relu()


networks = {"(i)": Minimum(0).eval(), "(ii)": Minimum(1).eval()}


def shares(net: nn.Module, points: Tensor, g: float) -> Tensor:
    """R1 and R2 of N points, N x 2."""
    return pellucid.lrp(net, points.view(-1, 1, 1, 2), 0, rules={"linear": gamma(g)}).values.flatten(1)


print("a = (3, 2), gamma 0.5: R1, R2")
for name, net in networks.items():
    print(name, [round(value, 6) for value in shares(net, torch.tensor([[3.0, 2.0]]), 0.5)[0].tolist()])

gammas = (0.0, 0.1, 0.5, 2.0)
side = torch.linspace(0.01, 1, 100)
grid = torch.cartesian_prod(side, side)
figure, axes = plt.subplots(2, len(gammas), figsize=(3 * len(gammas), 6), layout="constrained")
for row, (name, net) in zip(axes, networks.items(), strict=True):
    for axis, g in zip(row, gammas, strict=True):
        share = shares(net, grid, g)[:, 0] / grid.amin(1)
        picture = axis.imshow(
            share.view(100, 100).T, origin="lower", extent=(0, 1, 0, 1), vmin=0, vmax=1, cmap="coolwarm"
        )
        axis.set(title=f"{name}, gamma {g:g}", xlabel="a1", ylabel="a2")
figure.colorbar(picture, ax=axes, label="share of a1 in min(a1, a2)", shrink=0.6)

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
figure.savefig(folder / "lrp_minimum.png", dpi=110)
print("wrote", folder / "lrp_minimum.png")

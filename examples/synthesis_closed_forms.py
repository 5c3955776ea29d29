"""Where does activation maximization end? For a linear model it can be said on paper.

    python examples/synthesis_closed_forms.py

Three ways to keep x from growing without end, the answer on paper, and where gradient ascent comes to.

Montavon, Samek & Müller 2018, Methods for interpreting and understanding deep neural networks.
"""

import torch
from torch import nn

import pellucid
from pellucid.synthesis import Generator, Pixels, gaussian_prior, l2

w = torch.tensor([1.0, -2.0])
model = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False)).eval()
model[1].weight.data[0] = w

mean, cov = torch.ones(2), torch.tensor([[2.0, 1.0], [1.0, 3.0]])
a, c = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([0.0, 1.0])
decoder = nn.Sequential(nn.Linear(2, 2), nn.Unflatten(1, (1, 1, 2))).eval()
decoder[0].weight.data, decoder[0].bias.data = a.clone(), c.clone()

free = Pixels(bounds=None)
cases = {
    "w'x - 0.5 |x|^2": (pellucid.prototype(w, l2(0.5)), free, l2(0.5)),
    "w'x + log N(x; mean, cov)": (
        pellucid.prototype(w, gaussian_prior(mean, cov)), free, gaussian_prior(mean, cov)
    ),
    "w'(Az + c) - 0.25 |z|^2": (
        pellucid.prototype(w, l2(0.25), generator=(a, c)), Generator(decoder, (2,)), l2(0.25, on="code")
    ),
}  # fmt: skip
for name, (expected, parametrization, penalty) in cases.items():
    found = pellucid.maximize(
        model, 0, size=(1, 1, 2), parametrization=parametrization, penalties=penalty, optimizer="ascent", step_size=0.2,
        steps=400, transforms=(),
    )  # fmt: skip
    print(f"{name:28} on paper {expected.tolist()}, by ascent {[round(v, 4) for v in found.images.flatten().tolist()]}")

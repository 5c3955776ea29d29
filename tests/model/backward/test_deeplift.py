"""DeepLIFT: what the image adds to the baseline adds up, function by function."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pellucid

from .nets import Net, close, image


def residual(net, x):
    y = net.a(x)
    return y + F.elu(net.b(y))


WHOLE = {
    "max pooling": lambda net, x: F.max_pool2d(net.a(x).tanh(), 3, 1),
    "max pooling, indices": lambda net, x: F.max_pool2d(F.relu(net.a(x)), 2, return_indices=True)[0],
    "adaptive": lambda net, x: F.adaptive_max_pool2d(F.gelu(net.a(x)), 2),
    "residual": residual,
    "product": lambda net, x: net.a(x) * net.b(net.a(x)).sigmoid(),
    "product in place": lambda net, x: net.a(x).mul_(net.b(net.a(x)).sigmoid()),
    "*=": lambda net, x: net.a(x).__imul__(net.a(x).mean((2, 3), keepdim=True).sigmoid()),
    "square": lambda net, x: net.a(x) ** 2,
    "matrices": lambda net, x: F.relu(net.a(x)) @ net.b(net.a(x)).mT,
    "GLU": lambda net, x: F.glu(net.a(x), 1),
    "one 1d": lambda net, x: F.max_pool1d(F.relu(net.a(x).flatten(2)), 5),
}


@pytest.mark.parametrize("name", WHOLE)
def test_deeplift_adds_up(name):
    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(3, 4, 3, padding=1), "b": nn.Conv2d(4, 4, 1)}
    net = Net(lambda net, x: WHOLE[name](net, x).flatten(2).mean(2), **layers)
    x, start = image(3, 3, 8, 8, signed=True), image(3, 3, 8, 8, seed=7)
    result = pellucid.deeplift(net, x, 1, baseline=start)
    change = (net(x) - net(start))[:, 1].detach()
    close(result.values.flatten(1).sum(1), change, 1e-6)
    assert result.convergence_delta.abs().max() < 1e-6 * change.abs().max()
    alone = torch.cat([pellucid.deeplift(net, x[n : n + 1], 1, baseline=start[n : n + 1]).values for n in range(3)])
    close(result.values, alone)
    assert not pellucid.deeplift(net, x, 1, baseline=x).values.any()


def test_deeplift_by_hand():
    """relu(x1 - x2) from (0, 0.5) to (2, 1): slope (1 - 0) / (1 + 0.5), shares 2 and -0.5 of it."""
    net = Net(lambda _, x: F.relu(x[..., 0] - x[..., 1]).flatten(1))
    x, start = (torch.tensor(v).double().view(1, 1, 1, 2) for v in ([2.0, 1], [0.0, 0.5]))
    assert pellucid.deeplift(net, x, 0, baseline=start).values.flatten().tolist() == pytest.approx([4 / 3, -1 / 3])
    found = pellucid.deep_shap(net, x, 0, background=torch.cat([start, x])).values.flatten().tolist()
    assert found == pytest.approx([2 / 3, -1 / 6])

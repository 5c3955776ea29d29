"""What `prototype` says on paper, and that ascent comes to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pellucid.synthesis import Generator, Pixels, gaussian_prior, l2, lp, maximize, prototype

W = torch.tensor([1.0, -2.0], dtype=torch.float64)
MU, S = torch.ones(2, dtype=torch.float64), torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
A, C = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)


def linear() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False)).double().eval()
    net[1].weight.data[0] = W
    return net


def decoder() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2), nn.Unflatten(1, (1, 1, 2))).double().eval()
    net[0].weight.data, net[0].bias.data = A.clone(), C.clone()
    return net


CASES = {
    "l2": (l2(0.5), None, None, [1, -2]),
    "prior": (gaussian_prior(MU, S), None, None, [1, -4]),
    "generator": (l2(0.25), (A, C), Generator(decoder(), (2,)), [-2, -5]),
}


@pytest.mark.parametrize("name", CASES)
def test_on_paper(name):
    penalty, generator, _, expected = CASES[name]
    found = prototype(W, penalty, generator=generator)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("optimizer", "step", "steps"),
    [("ascent", 0.2, 600), ("lbfgs", None, 60), (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5), None, 600)],
    ids=["ascent", "lbfgs", "momentum"],
)
def test_ascent_comes_to_it(name, optimizer, step, steps):
    penalty, generator, parametrization, expected = CASES[name]
    if generator is not None:
        penalty = l2(0.25, on="code")
    result = maximize(
        linear(), 0, start="noise", size=(1, 1, 2), parametrization=parametrization or Pixels(bounds=None),
        optimizer=optimizer, step_size=step, steps=steps, penalties=penalty, transforms=(),
    )  # fmt: skip
    torch.testing.assert_close(
        result.images.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5
    )


def test_a_penalty_in_the_algebra_is_the_same():
    from pellucid import logit

    options = {"start": "zeros", "size": (1, 1, 2), "parametrization": Pixels(bounds=None), "optimizer": "ascent",
               "step_size": 0.2, "steps": 50, "transforms": ()}  # fmt: skip
    inside = maximize(linear(), logit(0) - l2(0.5), **options)
    beside = maximize(linear(), 0, penalties=l2(0.5), **options)
    torch.testing.assert_close(inside.images, beside.images)
    assert inside.titles == ("logit(0) - l2(0.5)",) and beside.penalties.shape == (1, 50, 1)
    torch.testing.assert_close(inside.history, beside.history - beside.penalties[..., 0])


def test_center_and_strength():
    torch.testing.assert_close(prototype(W, l2(0.5, center=3.0)), W + 3)
    torch.testing.assert_close(prototype(W, gaussian_prior(MU, S, strength=2.0)), MU + S @ W / 2)


def test_what_has_no_closed_form():
    with pytest.raises(ValueError, match="no closed form"):
        prototype(W, lp(0.5, 3))
    with pytest.raises(ValueError, match="expected D"):
        prototype(W, l2(0.5), generator=(A, torch.zeros(3)))
    with pytest.raises(ValueError, match="over 2 numbers"):
        prototype(torch.ones(3), gaussian_prior(MU, S))

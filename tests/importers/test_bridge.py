"""A JAX function behind one autograd function."""

import numpy as np
import pytest
import torch

import pellucid
from pellucid.importers import ImportFailed
from pellucid.rules import RuleError

jax = pytest.importorskip("jax")
jnp = jax.numpy

X = np.random.default_rng(0).random((3, 5, 5, 3)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(75, 2)).astype(np.float32)
IMAGES = torch.from_numpy(X).permute(0, 3, 1, 2)


def spectral(x):
    """No torch function is known for it."""
    return jnp.abs(jnp.fft.fft(jnp.tanh(x.reshape(len(x), -1) @ W)))


def plain(x):
    return jnp.tanh(x.reshape(len(x), -1) @ W)


def test_outputs_and_gradients_are_those_of_jax():
    with pytest.raises(ImportFailed, match="bridge=True"):
        pellucid.from_jax(spectral, X, layout="NHWC")
    model = pellucid.from_jax(spectral, X, layout="NHWC", bridge=True)
    for count in (1, 2, 3):
        wanted = torch.from_numpy(np.array(spectral(X[:count])))
        torch.testing.assert_close(model(IMAGES[:count]), wanted)
    x = IMAGES.clone().requires_grad_()
    (mine,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    theirs = np.array(jax.grad(lambda x: spectral(x)[:, 1].sum())(X)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-4, atol=1e-6)


def test_methods_that_take_gradients_give_what_the_import_gives():
    bridged = pellucid.from_jax(plain, X, layout="NHWC", bridge=True)
    imported = pellucid.from_jax(plain, X, layout="NHWC")
    for method in (pellucid.saliency, pellucid.integrated_gradients, pellucid.smoothgrad):
        torch.testing.assert_close(method(bridged, IMAGES, 1).values, method(imported, IMAGES, 1).values)


def test_rules_refuse_it_with_the_reason():
    model = pellucid.from_jax(plain, X, layout="NHWC", bridge=True)
    with pytest.raises(RuleError, match="JaxFunction.*custom autograd function"):
        pellucid.lrp(model, IMAGES, 1)
    with pytest.raises(RuleError, match="JaxFunction"):
        pellucid.guided_backprop(model, IMAGES, 1)


def test_images_that_are_not_computed_each_by_itself_are_refused():
    with pytest.raises(ImportFailed, match="another output in a batch than alone"):
        pellucid.from_jax(lambda x: plain(x) - plain(x).mean(0), X, layout="NHWC", bridge=True)

"""JAX functions behind autograd functions."""

import numpy as np
import pytest
import torch

import pellucid
from pellucid.importers import ImportFailed
from pellucid.model.run import ModelError, gradient
from pellucid.rules import RuleError
from pellucid.synthesis import Pixels

jax = pytest.importorskip("jax")
jnp = jax.numpy

X = np.random.default_rng(0).random((3, 5, 5, 3)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(75, 2)).astype(np.float32)
IMAGES = torch.from_numpy(X).permute(0, 3, 1, 2)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Hundreds of small programs are compiled here, and run once or twice."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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


# Its layers, beside those of the import.


@pytest.fixture(scope="module")
def pair():
    """A network with a residual block, a layer that is called twice and attention; bridged and imported."""
    linen = pytest.importorskip("flax.linen")

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x):
            y = linen.relu(linen.Conv(6, (3, 3), name="first")(x))
            return linen.relu(x + linen.Conv(6, (3, 3), name="second")(y))

    class Tokens(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = x.reshape(len(x), -1, 6)
            x = x + self.param("position", linen.initializers.normal(), (1, x.shape[1], 6))
            return x + linen.MultiHeadDotProductAttention(2, deterministic=True)(x, x)

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.avg_pool(linen.Conv(6, (3, 3), name="stem")(x), (2, 2), (2, 2))
            x = Block(name="block")(x)
            shared = linen.Dense(6, name="shared")
            x = shared(linen.relu(shared(x)))
            x = linen.LayerNorm(name="norm")(Tokens(name="tokens")(x))
            return linen.Dense(3, name="classes")(x.mean(1))

    net = Net()
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    variables = jax.tree.map(lambda like: rng.normal(0, 0.3, like.shape).astype(np.float32), shapes)
    example = np.random.default_rng(0).random((1, 8, 8, 3)).astype(np.float32)
    function = jax.jit(lambda x: net.apply(variables, x))  # a function in a function
    return tuple(pellucid.from_jax(function, example, bridge=bridge) for bridge in (True, False))


PICTURES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def close(mine, theirs, **more):
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5 * max(1e-2, float(theirs.abs().max())), **more)


def test_its_layers_are_those_of_the_import(pair):
    found, wanted = ([(layer.name, layer.shape) for layer in pellucid.layers(model)] for model in pair)
    assert found == wanted
    assert dict(found)["block.first"] == (6, 4, 4) and dict(found)["shared#2"] == (6, 4, 4)
    assert dict(found)["tokens"] == (16, 6)


@pytest.mark.parametrize("gradients", [True, False])
def test_its_layers_can_be_read(pair, gradients):
    names = [layer.name for layer in pellucid.layers(pair[1])]
    with torch.set_grad_enabled(gradients):
        for count in (1, 3):
            mine, theirs = (pellucid.run(model, PICTURES[:count], read=names) for model in pair)
            close(mine.output, theirs.output)
            for name in names:
                close(mine.activations[name], theirs.activations[name])


@pytest.mark.parametrize(("gradients", "count"), [(True, 3), (False, 1)])
def test_its_layers_can_be_edited(pair, gradients, count):
    def silence(x):
        x[:, 2] = 0  # in place
        return x

    edit = {"block.second": silence, "shared#2": lambda x: x + 1, "norm": torch.ones(1, 16, 6)}
    read = ["stem", "block", "shared", "shared#2", "tokens", "classes"]
    with torch.set_grad_enabled(gradients):
        for some in (["shared#2", "block.second"], list(edit)):
            chosen = {name: edit[name] for name in some}
            mine, theirs = (pellucid.run(model, PICTURES[:count], edit=chosen, read=read) for model in pair)
            if "norm" not in some:
                close(mine.output, theirs.output)
            for name in read[:5]:
                close(mine.activations[name], theirs.activations[name])


@pytest.mark.parametrize("at", [None, "block.first", "shared#2"])
def test_gradients_pass_and_begin_at_its_layers(pair, at):
    score = pellucid.logit(0) + pellucid.channel("tokens", 3)
    close(*(slope(model, score, at) for model in pair))


def slope(model, score, at):
    return gradient(model, PICTURES, score.bind(model, len(PICTURES)), at=at)[0]


def test_activations_that_were_read_have_gradients(pair):
    def slopes(model):
        trace = pellucid.run(model, PICTURES.clone().requires_grad_(), read=["block.first", "shared#2"])
        held = [trace.images, *trace.activations.values()]
        return torch.autograd.grad(trace.output[:, 1].sum(), held)

    for mine, theirs in zip(*map(slopes, pair), strict=True):
        close(mine, theirs)


METHODS = {
    "saliency": {}, "smoothgrad": {"samples": 3}, "integrated_gradients": {"steps": 4}, "gradient_x_input": {},
    "expected_gradients": {"samples": 3}, "occlusion": {"window": 4, "stride": 4}, "rise": {"samples": 6, "grid": 3},
    "grad_cam": {"layer": "block"}, "grad_cam_plus_plus": {"layer": "block"}, "hires_cam": {"layer": "block"},
    "layer_cam": {"layer": "block"}, "xgrad_cam": {"layer": "block"}, "eigen_cam": {"layer": "block"},
    "score_cam": {"layer": "block"}, "ablation_cam": {"layer": "block"},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_methods_give_what_the_import_gives(pair, name):
    method = getattr(pellucid, name)
    close(*(method(model, PICTURES[:2], 1, **METHODS[name]).values for model in pair))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def test_images_and_features_are_those_of_the_import(pair):
    how = {"start": PICTURES[:1], "parametrization": Pixels(), "optimizer": sgd, "steps": 3, "transforms": ()}
    close(*(pellucid.maximize(model, "block.second:2", **how).images for model in pair))
    close(*(pellucid.features(model, PICTURES, "norm").arrays["norm"] for model in pair))
    close(*(pellucid.fgsm(model, PICTURES, eps=0.1).images for model in pair))


def test_other_numbers_of_rows(pair):
    rows = torch.rand(5, 6, 4, 4)
    mine, theirs = (pellucid.run(model, PICTURES[:1], edit={"shared#2": rows}).output for model in pair)
    assert len(mine) == 5
    close(mine, theirs)
    with pytest.raises(ModelError, match="gave 5 rows for 3 images"):
        pellucid.run(pair[0], PICTURES, edit={"block.first": rows})


def test_what_nobody_looks_into_is_one_call(pair, monkeypatch):
    from pellucid.importers.jax import bridge

    seen = []
    called = bridge.Piece.__call__
    monkeypatch.setattr(bridge.Piece, "__call__", lambda self, values: seen.append(self) or called(self, values))
    pair[0](PICTURES)
    assert seen == [pair[0].net.whole]
    seen.clear()
    with torch.no_grad():
        pellucid.run(pair[0], PICTURES, read=["stem", "block", "norm"], to_output=False)
    assert len(seen) == 1  # all at once, and no further


# What an import would refuse, between layers.


@jax.custom_vjp
def doubled(x):
    return jnp.floor(3 * x)


doubled.defvjp(lambda x: (doubled(x), None), lambda _, g: (2 * g,))  # a gradient of its own


def odd(x):
    """Whole numbers, truths, complex numbers and a loop by what the images show, around layers."""
    flat = x.reshape(len(x), -1)
    with jax.named_scope("net"):
        mask, order, waves = flat[:, :6] > 0.4, jnp.argsort(flat[:, :6], 1), jnp.fft.fft(flat[:, :6])
        with jax.named_scope("first"):
            h = jnp.tanh(flat @ W6)
        with jax.named_scope("second"):
            h = doubled(jnp.where(mask, h, 2 * h))
        with jax.named_scope("third"):
            h = jnp.take_along_axis(h, order, 1) + jnp.abs(waves * jnp.fft.fft(h))
        turn = jax.vmap(lambda h: jax.lax.while_loop(lambda s: s.sum() < 40, lambda s: 1.5 * s + 1, h))
        return turn(jax.lax.stop_gradient(jnp.abs(h))) + h


W6 = np.random.default_rng(1).normal(0, 0.3, size=(75, 6)).astype(np.float32)


def test_what_crosses_a_cut():
    again = jax.jit(odd)
    again(X)  # JAX keeps what it traced then, without names
    model = pellucid.from_jax(again, X, layout="NHWC", bridge=True)
    assert [(layer.name, layer.shape) for layer in pellucid.layers(model)] == [
        ("first", (6,)), ("second", (6,)), ("third", (6,))
    ]  # fmt: skip
    wanted = torch.from_numpy(np.array(again(X)))
    x = IMAGES.clone().requires_grad_()
    trace = pellucid.run(model, x, read=["first", "second", "third"])
    torch.testing.assert_close(trace.output, wanted)
    (mine,) = torch.autograd.grad(trace.activations["third"].sum(), x, retain_graph=True)

    def third(x):
        return (odd(x) - jax.lax.stop_gradient(odd(x))).sum()

    np.testing.assert_allclose(mine.permute(0, 2, 3, 1), jax.grad(third)(X), rtol=1e-3, atol=1e-4)
    (mine,) = torch.autograd.grad(trace.activations["second"].sum(), trace.activations["first"])
    assert set(mine.unique().tolist()) <= {2.0, 4.0}  # as the function says, not floor's 0


def test_what_is_called_back_has_no_gradient_but_values():
    def function(x):
        like = jax.ShapeDtypeStruct((len(x), 2), np.float32)
        with jax.named_scope("net"):
            with jax.named_scope("numpy"):
                h = jax.pure_callback(lambda a: np.tanh(a), like, x.reshape(len(x), -1) @ W)
            with jax.named_scope("sine"):
                return jnp.sin(h)

    model = pellucid.from_jax(function, X, layout="NHWC", bridge=True)
    wanted = pellucid.from_jax(plain, X, layout="NHWC")(IMAGES)
    torch.testing.assert_close(pellucid.run(model, IMAGES, read=["numpy"]).activations["numpy"], wanted)
    assert pellucid.occlusion(model, IMAGES, 1, window=3).values.abs().max() > 0
    with pytest.raises(ModelError, match="callback"):
        pellucid.saliency(model, IMAGES, 1)

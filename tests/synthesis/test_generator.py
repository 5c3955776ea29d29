"""Decoders: the one of the shapes, and those that are trained on images; ascents over their codes."""

from __future__ import annotations

import pytest
import torch

import pellucid
from pellucid.files.images import write_image
from pellucid.shapes import CLASSES, ShapesGenerator, generator
from pellucid.synthesis import Decoder, Generator, Pixels, l2, maximize, train_generator
from pellucid.synthesis.training.training import Squares

from ..methods.test_contract import same, state
from ..nets import small_net


def codes(count, length=21, seed=0):
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
def test_the_shapes_network_sees_its_classes_in_what_the_generator_draws():
    model = pellucid.load("shapes")
    images = generator()(codes(300)).detach()
    assert images.shape == (300, 3, 96, 96) and 0 <= images.min() and images.max() <= 1
    sure = model.predict(images, k=1)
    seen = {label[0] for label, p in zip(sure.labels, sure.probabilities[:, 0], strict=True) if p > 0.5}
    assert len(seen) >= 8  # random codes are of all sorts of shapes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["triangle", "ring", "cross"])
def test_an_ascent_over_codes_draws_one_shape_on_a_plain_ground(name):
    model = pellucid.load("shapes")
    drawn = Generator(generator(), bounds=(-2.5, 2.5))
    found = maximize(
        model, [name] * 3, parametrization=drawn, penalties=l2(0.02, on="code"), steps=60, transforms=(), seed=1
    )
    best = found.images[found.values.argmax()][None]  # codes have local summits
    assert model(best).argmax(1) == CLASSES.index(name) and len(set(found.values.tolist())) == 3
    # The corners and borders show the ground, in one color, while pixels climbed freely show edges everywhere.
    plain = maximize(model, name, parametrization=Pixels(), steps=60, transforms=())

    def uneven(images):
        border = torch.cat([images[:, :, :3].flatten(2), images[:, :, -3:].flatten(2)], 2)
        return border.std(2).mean()

    assert uneven(found.images) < 0.2 * uneven(plain.images)


def test_the_generator_draws_any_size_and_is_small():
    from importlib.resources import files

    small, large = (generator(size)(codes(2)).detach() for size in (48, 192))
    near = torch.nn.functional.avg_pool2d(large, 4) - small
    assert large.shape == (2, 3, 192, 192) and near.abs().mean() < 0.01
    folder = files("pellucid.shapes")
    assert sum(len(folder.joinpath(f"{name}.safetensors").read_bytes()) for name in ("weights", "generator")) < 1.05e6
    with pytest.raises(ValueError, match="at least 32"):
        generator(8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_decoder_of_another_type_than_the_network(dtype):
    model = small_net().to(torch.float64)
    net = Decoder(4, size=12, width=2).to(dtype).eval()
    found = maximize(
        model, 0, size=12, parametrization=Generator(net), penalties=l2(0.1, on="code"), steps=3, transforms=()
    )
    assert found.images.dtype == torch.float64 and found.images.isfinite().all()
    assert next(net.parameters()).dtype == dtype


def test_its_weights_leave_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert not generator().training and torch.equal(torch.rand(3), expected)
    assert not torch.equal(ShapesGenerator().outline[0].weight, generator().outline[0].weight)


# Training ----------------------------------------------------------------------------------------------------------

OPTIONS = {"size": 16, "length": 4, "width": 2, "batch": 8, "seed": 0}


def bars(count=64):
    """Gray bars at any height on black: images of one number."""
    where = torch.rand(count, 1, generator=torch.Generator().manual_seed(1)) * 12 + 2
    row = torch.arange(16.0)
    lines = torch.exp(-(row - where).square() / 4)
    return lines[:, None, :, None].expand(-1, 3, -1, 16).contiguous()


@pytest.mark.slow
def test_training_draws_what_it_has_seen_from_random_codes():
    images = bars()
    decoder = train_generator(images, steps=300, **OPTIONS | {"width": 4})
    assert not decoder.training and all(p.grad is None for p in decoder.parameters())
    drawn = decoder(codes(32, 4)).detach()
    apart = torch.cdist(drawn.flatten(1), images.flatten(1)).amin(1)
    noise = torch.cdist(torch.rand(32, 768), images.flatten(1)).amin(1)
    assert apart.median() < 0.35 * noise.median()
    assert drawn.std(0).mean() > 0.3 * images.std(0).mean()  # and not always the same


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_learns_where_gradients_are_off(mode):
    expected = train_generator(bars(), steps=2, **OPTIONS)
    with mode():
        found = train_generator(bars(), steps=2, **OPTIONS)
    assert all(torch.equal(a, b) and not b.is_inference() for a, b in zip(expected.state_dict().values(),
               found.state_dict().values(), strict=True))  # fmt: skip


def test_features_of_a_model_count_and_nothing_of_it_is_touched():
    net = small_net()
    before = state(net)
    options = OPTIONS | {"steps": 3}
    with_features = train_generator(bars(), model=net, layers="conv2", **options)
    same(before, state(net))
    plain = train_generator(bars(), **options)
    assert not torch.equal(with_features.first.weight, plain.first.weight)
    with pytest.raises(ValueError, match="go together"):
        train_generator(bars(), model=net, **options)
    with pytest.raises(ValueError, match="takes 1 channels, the decoder draws 3"):
        train_generator(bars(), model=pellucid.wrap(small_net(channels=1)), layers="conv2", **options)


def test_a_training_that_was_killed_goes_on_as_if_it_was_not(tmp_path, monkeypatch):
    whole = train_generator(bars(), steps=9, **OPTIONS)
    file = tmp_path / "decoder.safetensors"
    draw, calls = Squares.draw, []

    def stopping(*given):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return draw(*given)

    with monkeypatch.context() as patch:
        patch.setattr(Squares, "draw", stopping)
        with pytest.warns(UserWarning, match="stopped after 5 of 9 steps; the same again goes on"):
            train_generator(bars(), steps=9, checkpoint=file, **OPTIONS)
    on = train_generator(bars(), steps=9, checkpoint=file, **OPTIONS)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, on.state_dict()[name]), name
    with pytest.raises(ValueError, match="of another training"):
        train_generator(bars(32) * 0.5, steps=9, checkpoint=file, **OPTIONS)


def test_round_trip_through_a_file_and_photos_of_a_folder(tmp_path):
    for number, image in enumerate(bars(3)):
        write_image(image, tmp_path / f"{number}.png")
    decoder = train_generator(tmp_path, steps=2, **OPTIONS)
    file = decoder.save(tmp_path / "decoder.safetensors")
    assert torch.equal(Decoder.load(file)(codes(2, 4)), decoder(codes(2, 4)))
    found = maximize(small_net().float(), 0, size=16, parametrization=Generator(decoder), steps=3, transforms=())
    assert found.images.shape == (1, 3, 16, 16)
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no decoder"):
        Decoder.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"a decoder is kept in a file that ends in \.safetensors"):
        decoder.save(tmp_path / "decoder.pth")
    with pytest.raises(ValueError, match="at least 1"):
        Decoder(0)
    with pytest.raises(ValueError, match="does not say what its codes are"):
        Generator(torch.nn.Identity().eval())


@pytest.mark.parametrize("size", [8, 15, 28, 33, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size, channels):
    from pellucid.synthesis.ingredients.decoder import Encoder

    images = Decoder(3, size=size, channels=channels, width=3).eval()(torch.zeros(2, 3))
    assert images.shape == (2, channels, size, size)
    mean, spread = Encoder(3, size=size, channels=channels, width=3)(images)
    assert mean.shape == spread.shape == (2, 3)

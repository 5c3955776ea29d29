"""The classifier on fakes that need no generator, its promises, its explanations, and bad input."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import pellucid
from pellucid import CATALOGUE, SpectrumClassifier
from pellucid.audit import halves, labeled_files, split, upsampled_photos
from pellucid.audit.image_files import pixels
from pellucid.audit.image_files.evaluation import proportion
from pellucid.audit.spectra import training
from pellucid.audit.spectra.fourier import EPS, whole_spectrum
from pellucid.audit.spectra.network import FEATURES, SpectrumNet
from pellucid.files.images import read_image, write_image
from pellucid.methods.registry import of_kind


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """400 patches of photographs, and as many after each way of up-sampling."""
    return upsampled_photos(tmp_path_factory.mktemp("surrogate"), most=400)


@pytest.fixture(scope="module")
def parts(root):
    return split([root / "A_photos", root / "B_nearest"], 120, 30, 60)


@pytest.fixture(scope="module")
def model(parts):
    return SpectrumClassifier.fit(parts, epochs=30)


def some(parts, count=3):
    return parts.test.rows(list(range(0, len(parts.test), len(parts.test) // count))[:count])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["B_nearest", "C_bilinear", "D_transposed"])
def test_up_sampling_is_seen_in_the_spectrum(root, way):
    parts = split([root / "A_photos", root / way], 240, 40, 120)
    model = SpectrumClassifier.fit(parts)
    found = model.evaluate(parts.test)
    assert found.accuracy.value >= {"B_nearest": 0.99, "C_bilinear": 0.92, "D_transposed": 0.95}[way]
    assert found.auc > 0.97 and found.accuracy.low > 0.9


@pytest.mark.slow
def test_pixels_do_not_see_it(root):
    """What the patches show is the same, so that a linear look at pixels finds nothing."""
    parts = split([root / "A_photos", root / "D_transposed"], 240, 40, 120)
    found = SpectrumClassifier.fit(parts, features="pixels").evaluate(parts.test)
    assert found.accuracy.value < 0.6


@pytest.mark.slow
def test_two_halves_are_not_told_apart(root):
    parts = split(halves(labeled_files(root).of(0)), 130, 20, 50)
    found = SpectrumClassifier.fit(parts).evaluate(parts.test)
    assert found.accuracy.low < 0.5 < found.accuracy.high


@pytest.mark.slow
def test_each_generator_by_itself(root):
    parts = split(root, 200, 40, 100, classes="folders")
    found = SpectrumClassifier.fit(parts, epochs=30).evaluate(parts.test)
    assert found.classes == ("A_photos", "B_nearest", "C_bilinear", "D_transposed")
    assert found.confusion.sum() == 400 and found.confusion.shape == (4, 4) and found.auc is None
    assert found.chance == 0.25 and found.accuracy.value > 0.85
    assert [found.by_origin[name].right for name in found.classes] == found.confusion.diag().tolist()
    binary = split(root, 100, 20, 50)
    mixed = SpectrumClassifier.fit(binary, epochs=20).evaluate(binary.test)
    assert mixed.classes == ("real", "fake") and list(mixed.by_origin) == list(found.classes)
    assert mixed.chance == 0.75
    real = mixed.by_origin["A_photos"]
    assert real.value > 0.6  # classes count alike, though three of four images are fake


@pytest.mark.slow
@pytest.mark.parametrize(("features", "network"), [("azimuthal", "linear"), ("spectrum", "cnn"), ("pixels", "cnn")])
def test_other_features_and_networks(parts, features, network):
    model = SpectrumClassifier.fit(parts, features=features, network=network, epochs=8)
    images = model.read(list(some(parts).files))
    assert model(images).shape == (3, 2) and model.evaluate(parts.test).accuracy.value > 0.45
    if network == "cnn":
        with pytest.raises(ValueError, match="no weight for each frequency"):
            model.weights()
        assert pellucid.grad_cam(model, images, "fake", layer="layers.relu2").values.shape == (3, 1, 32, 32)
    else:
        assert model.weights().shape == (2, 3, 24)
    model.explain(images)


HANN = np.outer(*[np.sin(np.pi * np.arange(32) / 32) ** 2] * 2)


def test_it_is_the_formula(model, parts):
    """The logits, worked out in numpy from the log-spectrum over all frequencies and the pictures of the weights."""
    image = model.read_one(parts.test.files[5])
    net = model.net
    seen = image.double().numpy() * HANN
    spectrum = np.fft.fftshift(np.log(np.abs(np.fft.fft2(seen)) + net.eps), (1, 2))
    half = net.mean.shape[2]
    unfold = lambda t: whole_spectrum(t, 32, shift=True).numpy()  # noqa: E731
    normed = (spectrum - unfold(net.mean)) / unfold(net.std)
    bias = net.linear.bias.detach().numpy()
    expected = (model.weights().numpy() * normed).sum((1, 2, 3)) + bias - bias.mean()
    logits = model(image[None])[0].detach().numpy()
    assert half == 17 and np.allclose(logits - logits.mean(), expected, atol=1e-3)
    added = model.contributions(image[None], 1)
    assert added.shape == (1, 3, 32, 32)
    assert float(added.sum()) + bias[1] - bias.mean() == pytest.approx(expected[1], abs=1e-3)
    flipped = added[0].flip(1, 2).roll((1, 1), (1, 2))
    assert torch.allclose(added[0], flipped, atol=1e-6)  # a pair of mirrored frequencies shares what it adds


def test_normalized_by_the_training_images(model, parts):
    files = parts.train.files
    spectra = np.stack([
        np.log(np.abs(np.fft.rfft2(read_image(file).double().numpy() * HANN)) + model.net.eps) for file in files
    ])  # fmt: skip
    assert np.allclose(model.net.mean, spectra.mean(0), atol=1e-4)
    assert np.allclose(model.net.std, spectra.std(0), atol=1e-4)
    assert model.net.eps == pytest.approx(((HANN**2).sum() / 12) ** 0.5 / 255) and model.net.eps > EPS
    plain = SpectrumNet("spectrum", "linear", (3, 32, 32), 2, window="none")
    assert plain.eps == pytest.approx((32 * 32 / 12) ** 0.5 / 255) and plain.window is None


def test_the_window_hides_the_step_at_the_border():
    """A ramp is a step from its right border to its left one, which without a window is all that is seen of a tile."""
    image = 0.5 + 0.4 * torch.linspace(0, 1, 32).expand(1, 1, 32, 32) - 0.2
    wave = 0.01 * torch.cos(2 * torch.pi * torch.arange(32) * 13 / 32)[None, None, None]
    seen = {}
    for window in ("none", "hann"):
        net = SpectrumNet("spectrum", "linear", (1, 32, 32), 2, window=window)
        seen[window] = net.seen(image + wave)[0, 0, 0]
    assert float(seen["hann"][13] - seen["hann"][[9, 10, 11, 15, 16]].max()) > 2  # e^2 times as much as nearby
    assert float(seen["none"][13] - seen["none"][[9, 10, 11, 15, 16]].max()) < 2


def test_what_never_changes_says_nothing(tmp_path):
    """A channel that is empty in all training images divides by no zero."""
    draw = torch.Generator().manual_seed(0)
    for name, slope in (("A_a", 0.0), ("B_b", 0.3)):
        for number in range(12):
            image = torch.rand(3, 8, 8, generator=draw) * 0.7 + slope * (torch.arange(8) % 2)
            image[2] = 0
            write_image(image, tmp_path / name / f"{number}.png")
    parts = split(tmp_path, 8, 2, 2)
    model = SpectrumClassifier.fit(parts, epochs=5)
    images = model.read(list(parts.test.files))
    assert model(images).isfinite().all() and (model.net.std[2] == 1).all()
    images[:, 2] = 0.5
    assert model(images).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("features", FEATURES)
def test_explanations_add_up(parts, features):
    """Integrated gradients from mean amplitudes: the sum over pixels is the change of the logit."""
    model = SpectrumClassifier.fit(parts, features=features, epochs=6)
    images = model.read(list(some(parts, 4).files))
    found = model.explain(images, "fake")
    base = model.baseline(images)
    change = (model(images) - model.net.without_window()(base))[:, 1].detach()
    assert torch.equal(found.images, images) and model.net.without_window()(images).shape == (4, 2)
    assert found.values.shape == images.shape
    assert torch.allclose(found.values.sum((1, 2, 3)), change, atol=0.01 * float(change.abs().max()))
    assert float(found.convergence_delta.abs().max()) < 0.01 * float(change.abs().max())
    if features == "spectrum":
        half = np.abs(np.fft.rfft2(base.numpy()))
        expected = np.exp(model.net.mean.numpy()) - model.net.eps
        assert np.allclose(half, expected[None], rtol=1e-2, atol=1e-2)
        turned = np.fft.rfft2(images.numpy() * HANN) * np.conj(np.fft.rfft2(base.numpy()))
        strong = (half > 0.1) & (np.abs(turned) > 0.01)  # what is not there has no phase
        assert np.abs(np.angle(turned[strong])).max() < 0.05
    if features == "azimuthal":
        apart = model.net.without_window().seen(base) - model.net.mean  # an amplitude cannot be less than none
        assert float(apart.abs().mean()) < 0.01


# They need a layer that is a picture, which one layer on a spectrum has not, or follow rules through known functions.
PICTURES = {"ablation_cam", "cam", "eigen_cam", "grad_cam", "grad_cam_plus_plus", "guided_grad_cam", "hires_cam",
            "layer_cam", "score_cam", "xgrad_cam"}  # fmt: skip
PIXELS = sorted(n for n in of_kind("attribution") if n not in PICTURES)
QUICK = {"occlusion": {"window": 16, "stride": 16}, "rise": {"samples": 6, "grid": 3}, "smoothgrad": {"samples": 3},
         "expected_gradients": {"samples": 3}, "integrated_gradients": {"steps": 3},
         "lrp": {"rules": pellucid.rules.EPSILON}}  # fmt: skip


@pytest.mark.parametrize("name", PIXELS)
def test_every_attribution_goes_back_to_the_pixels(model, parts, name):
    images = model.read(list(some(parts).files))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no function has a rule, where there is no rectifier
        found = CATALOGUE[name].function(model, images, "fake", **QUICK.get(name, {}))
    assert found.values.isfinite().all() and len(found.values) == 3 and float(found.values.abs().sum()) > 0


@pytest.mark.parametrize("rules", ["EPSILON", "EPSILON_PLUS_FLAT", "EPSILON_GAMMA_BOX"])
def test_relevance_goes_through_the_spectrum(model, parts, rules):
    """What a frequency adds to the logit is handed to its amplitude, and by that to the pixels as x d|F| / dx.

    The logarithm is an activation, and the mean a factor inside it. Rules of layers that see the image do not reach the
    layer behind the transform, which sees none.
    """
    images = model.read(list(some(parts, 2).files))
    found = pellucid.lrp(model, images, "fake", rules=rules)
    net = model.net
    weight = net.linear.weight.detach()[1].reshape(net.size)
    x = images.double().requires_grad_()
    amplitudes = torch.fft.rfft2(x * torch.from_numpy(HANN)).abs()
    adds = weight * net.normalized((amplitudes.detach() + net.eps).log())
    (slope,) = torch.autograd.grad((adds / (amplitudes.detach() + net.eps) * amplitudes).sum(), x)
    expected = (x * slope).detach().float()
    assert torch.allclose(found.values, expected, atol=1e-3 * float(expected.abs().max()))
    logit = model(images)[:, 1].detach()
    assert torch.allclose(found.values.sum((1, 2, 3)) - found.convergence_delta, logit, atol=1e-4)
    kept = (adds * amplitudes.detach() / (amplitudes.detach() + net.eps)).sum((1, 2, 3)).float()
    assert torch.allclose(found.values.sum((1, 2, 3)), kept, atol=1e-2)  # the bias and eps take the rest


def test_the_network_is_what_it_was_trained_as(model, parts):
    """The mean inside the logarithm, in use, and taken off it, in training, are the same."""
    images = model.read(list(some(parts).files))
    for features, kind in (("spectrum", "linear"), ("azimuthal", "linear"), ("spectrum", "cnn"), ("pixels", "linear")):
        torch.manual_seed(0)
        net = SpectrumNet(features, kind, (3, 32, 32), 2).double()
        torch.nn.init.normal_(net.linear.weight)
        seen = net.seen(images.double())
        net.mean.copy_(seen.mean(0))
        net.std.copy_(seen.std(0) + 0.1)
        assert torch.allclose(net(images.double()), net.head(net.normalized(seen)), atol=1e-9)


def test_a_constant_image_gives_no_nan(model):
    gray = torch.full((1, 3, 32, 32), 0.5)
    assert model(gray).isfinite().all() and model.explain(gray, "fake").values.isfinite().all()
    assert pellucid.saliency(model, gray, "fake").values.isfinite().all()


def test_it_is_a_classifier(model, parts):
    images = model.read(list(parts.test.files[:4]))
    assert images.shape == (4, 3, 32, 32) and model.labels == ("real", "fake")
    said = model.predict(images, k=2)
    assert said.labels[0][0] in model.labels and torch.allclose(said.probabilities.sum(1), torch.ones(4))
    assert not model.training and all(p.grad is None for p in model.parameters())


@pytest.mark.slow
def test_the_same_seed_gives_the_same(parts, model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = SpectrumClassifier.fit(parts, epochs=30)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    with torch.inference_mode():
        again = SpectrumClassifier.fit(parts, epochs=30)
    assert torch.equal(again.net.linear.weight, model.net.linear.weight) and not again.net.linear.weight.is_inference()
    cnn = [SpectrumClassifier.fit(parts, network="cnn", epochs=2, seed=s).net.linear.weight for s in (0, 0, 1)]
    assert torch.equal(cnn[0], cnn[1]) and not torch.equal(cnn[0], cnn[2])


@pytest.mark.slow
def test_features_that_do_not_fit_into_memory(parts, monkeypatch):
    """They are made anew in each epoch, pixels lie in a file, and nothing else changes."""
    model = SpectrumClassifier.fit(parts, epochs=1)
    monkeypatch.setattr(training, "KEPT", 0)
    monkeypatch.setattr(pixels, "IN_MEMORY", 0)
    again = SpectrumClassifier.fit(parts, epochs=1)
    images = model.read(list(some(parts, 20).files))
    assert torch.allclose(again(images), model(images), atol=1e-3)  # sums are made in another order


def test_the_best_epoch_is_kept(parts):
    model = SpectrumClassifier.fit(parts, epochs=40, patience=2)
    losses = [epoch.validation_loss for epoch in model.history]
    assert model.best == losses.index(min(losses)) and len(losses) <= model.best + 3
    labels = torch.tensor(parts.validation.labels)
    with torch.no_grad():
        said = model(model.read(list(parts.validation.files)))
    assert float(torch.nn.functional.cross_entropy(said, labels)) == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.slow
def test_an_interruption_keeps_the_best(parts, monkeypatch):
    calls = []
    randperm = torch.randperm

    def third(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return randperm(*arguments, **options)

    monkeypatch.setattr(torch, "randperm", third)
    with pytest.warns(UserWarning, match="stopped in epoch 3 of 30; epoch 2 is kept"):
        model = SpectrumClassifier.fit(parts, network="cnn", epochs=30)
    assert len(model.history) == 2 and float(model.net.linear.weight.detach().abs().sum()) > 0


def test_kept_in_a_file(model, parts, tmp_path):
    path = model.save(tmp_path / "model.safetensors")
    again = SpectrumClassifier.load(path)
    images = again.read(list(parts.test.files[:4]))
    assert torch.equal(again(images), model(images)) and again.labels == model.labels
    assert again.history == model.history and again.best == model.best
    assert again.about == json.loads(json.dumps(model.about)) and again.reading == model.reading
    cropped = SpectrumClassifier.fit(parts, crop=(16, 20), channels=1, epochs=1)
    again = SpectrumClassifier.load(cropped.save(tmp_path / "cropped.safetensors"))
    assert again.read(parts.test.files[0]).shape == (1, 1, 16, 20)


def test_pellucid_loads_it(model, parts, tmp_path):
    path = model.save(tmp_path / "fakes.safetensors")
    again = pellucid.load(path)
    images = again.read(list(parts.test.files[:2]))
    assert isinstance(again, SpectrumClassifier) and torch.equal(again(images), model(images))
    assert pellucid.load(str(path), labels=["photo", "made"]).labels == ("photo", "made")
    with pytest.raises(ValueError, match="says itself how images enter it: leave out weights, mean, std and size"):
        pellucid.load(path, size=64)
    with pytest.raises(ValueError, match="there are 1 labels, and the network has 2 classes"):
        pellucid.load(path, labels=["photo"])
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(KeyError, match="is a file of weights"):
        pellucid.load(tmp_path / "other.safetensors")


def test_files_that_are_no_classifier(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        SpectrumClassifier.load(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="does not end in .safetensors"):
        model.save(tmp_path / "model.pth")
    good = model.save(tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        SpectrumClassifier.load(tmp_path / "cut.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds something else; expected a spectrum classifier"):
        SpectrumClassifier.load(tmp_path / "other.safetensors")
    (tmp_path / "odd.safetensors").write_bytes(good.replace(b'\\"linear\\"', b'\\"lineal\\"'))
    with pytest.raises(ValueError, match="odd.safetensors"):
        SpectrumClassifier.load(tmp_path / "odd.safetensors")


@pytest.mark.slow
def test_the_same_picture_in_two_sets(parts, tmp_path):
    """It is left out of training, whatever its file looks like."""
    test, train = parts.test.files[0], parts.train.files[0]
    copy = tmp_path / "copy"
    for folder in ("A_photos", "B_nearest"):
        shutil.copytree(test.parent.parent / folder, copy / folder)
    place = copy / train.parent.name / train.name
    with Image.open(test) as picture:
        picture.save(place, compress_level=0)
    assert place.read_bytes() != test.read_bytes()
    with pytest.warns(UserWarning, match="1 of the pictures are in two of the three sets"):
        model = SpectrumClassifier.fit(split(copy, 120, 30, 60), epochs=1)
    assert model.about["trained_on"] == 239 and str(place) in model.about["duplicates"][0]


def test_the_same_picture_in_two_classes(parts, tmp_path):
    folder = parts.test.files[0].parent
    for name in ("A_photos", "B_same"):
        shutil.copytree(folder, tmp_path / name)
    with pytest.warns(UserWarning, match="80 of the pictures are of two classes, which nothing can tell apart"):
        model = SpectrumClassifier.fit(split(tmp_path, 50, 10, 20), epochs=1)
    assert model.about["duplicates"] == []


def test_nothing_but_duplicates(parts, tmp_path):
    for folder in ("A_photos", "B_nearest"):
        shutil.copytree(parts.test.files[0].parent.parent / folder, tmp_path / folder)
    for file in (tmp_path / "A_photos").iterdir():
        shutil.copy(parts.test.files[0], file)
    with pytest.raises(ValueError, match="no image of class 'real' is left .* pictures that are in another set too"):
        SpectrumClassifier.fit(split(tmp_path, 20, 5, 10), epochs=1)


def test_broken_files_are_named(parts, tmp_path):
    for folder in ("A_photos", "B_nearest"):
        shutil.copytree(parts.test.files[0].parent.parent / folder, tmp_path / folder)
    again = split(tmp_path, 20, 5, 10)
    again.train.files[0].write_bytes(b"nothing")
    again.test.files[3].write_bytes(b"")
    with pytest.warns(UserWarning, match="2 of the files cannot be read and are left out"):
        model = SpectrumClassifier.fit(again, epochs=1)
    assert model.about["trained_on"] == 39 and len(model.about["failures"]) == 2
    found = model.evaluate(again.test)
    assert len(found.labels) == 19 and found.failures[0][0] == str(again.test.files[3])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": "wavelets"}, "features is 'wavelets', expected one of spectrum, pixels, azimuthal"),
        ({"network": "vit"}, "network is 'vit'"),
        ({"features": "azimuthal", "network": "cnn"}, "the azimuthal average is a curve"),
        ({"eps": 0.0}, "eps is 0.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"rate": -1.0}, "rate is -1.0"),
        ({"window": "kaiser"}, "window is 'kaiser', expected one of hann, none"),
        ({"crop": 64}, "none of 240 images can be read"),
    ],
)
def test_bad_options(parts, options, said):
    with pytest.raises(ValueError, match=said):
        SpectrumClassifier.fit(parts, **options)


@pytest.mark.slow
def test_a_loss_that_explodes_is_told(parts):
    with pytest.raises(ValueError, match="the loss became NaN in epoch"):
        SpectrumClassifier.fit(parts, network="cnn", rate=1e36, epochs=3)


def test_images_of_another_size(model, parts, tmp_path):
    write_image(torch.rand(3, 40, 32), tmp_path / "B_other" / "tall.png")
    with pytest.raises(ValueError, match=r"tall.png is 32 x 40, expected 32 x 32: .* crop"):
        model.read(tmp_path)
    with pytest.raises(ValueError, match="images are 3 x 40 x 32, expected 3 x 32 x 32"):
        model.net(torch.rand(1, 3, 40, 32))
    with pytest.raises(ValueError, match="got 1 channel, the model takes 3"):
        model.explain(torch.rand(1, 1, 32, 32))
    with pytest.raises(ValueError, match="NaN"):
        model.explain(torch.full((1, 3, 32, 32), float("nan")))


def test_files_of_other_classes(model, root):
    with pytest.raises(ValueError, match="the files are of A_photos, .*; the classifier knows real, fake"):
        model.evaluate(labeled_files(root, classes="folders"))


def test_an_evaluation_by_hand(tmp_path):
    from pellucid.audit import Evaluation

    p = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], dtype=torch.float64)
    found = Evaluation(torch.tensor([0, 0, 1, 1]), p, ("real", "fake"), tuple("abcd"), ("A", "A", "B", "C"))
    assert found.confusion.tolist() == [[1, 1], [1, 1]] and found.accuracy.value == 0.5 and found.chance == 0.5
    assert found.auc == 0.5  # of the four pairs two are in order
    assert {name: (one.right, one.count) for name, one in found.by_origin.items()} == {
        "A": (1, 2), "B": (0, 1), "C": (1, 1)
    }  # fmt: skip
    assert found.table().splitlines()[2].startswith("| real | 1 | 1 | 50.0% (9.5% to 90.5%) |")
    assert found.rows()[1] == {
        "file": "b", "origin": "A", "true": "real", "predicted": "fake", "probability of real": 0.2,
        "probability of fake": 0.8,
    }  # fmt: skip
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(found.save(tmp_path / "a.parquet")).num_rows == 4
    assert found.save(tmp_path / "a.png").stat().st_size > 1000


def test_wilsons_interval():
    """Against the formula (Wilson 1927), z = 1.959964."""
    right, count, z = 197, 200, 1.959963984540054
    p = right / count
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (p * (1 - p) / count + z**2 / (4 * count**2)) ** 0.5
    found = proportion(right, count)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert proportion(5, 5).high == 1 and proportion(0, 5).low == 0

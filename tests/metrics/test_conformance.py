"""The same numbers as Captum and Quantus on the same inputs."""

import warnings

import numpy as np
import pytest
import torch

import pellucid
from pellucid.attribution.ingredients.noise import mixed, uniform_noise
from pellucid.metrics import deletion, infidelity, mass_accuracy, rank_accuracy, sensitivity_max, spearman, ssim
from pellucid.metrics.randomization import randomization

from ..nets import small_net, some_images


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus")


def net():
    return small_net(channels=1).double()


def photos():
    return some_images()[:, :1].contiguous()


def noise(x, generator):
    return 0.1 * torch.randn(x.shape[1:], generator=generator, dtype=x.dtype).expand_as(x)


@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_is_captums(scaled):
    captum = pytest.importorskip("captum.metrics")
    model, images, count = net(), photos(), 12
    slopes = pellucid.saliency(model, images, 1, sign="keep", channels="all")
    drawn = [noise(images[:1], torch.Generator().manual_seed(mixed(0, k)))[0] for k in range(count)]

    def perturb(x):  # each image `count` times, one after the other
        change = torch.stack(drawn * (len(x) // count))
        return change, x - change

    expected = captum.infidelity(
        model, perturb, images, slopes.values, target=1, n_perturb_samples=count, normalize=scaled
    )
    found = infidelity(model, images, slopes, 1, reference="slopes", perturbation=noise, samples=count, scaled=scaled)
    torch.testing.assert_close(found, expected.detach().float(), rtol=1e-5, atol=1e-12)


def test_sensitivity_is_captums():
    captum = pytest.importorskip("captum.metrics")
    model, images, count = net(), photos(), 6
    draw = uniform_noise(images, 0)

    def perturb(x):  # each image `count` times, one after the other
        return x + 0.02 * (2 * draw(torch.arange(count)).repeat(len(x) // count, 1, 1, 1) - 1)

    def explain(x):
        (x,) = x if isinstance(x, tuple) else (x,)
        return (pellucid.gradient_x_input(model, x, 1).values,)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = captum.sensitivity_max(explain, images, perturb_func=perturb, n_perturb_samples=count)
    found = sensitivity_max(model, images, "gradient_x_input", 1, samples=count)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-7)


def test_deletion_is_quantus_pixel_flipping(quantus):
    model, images = net().float(), photos().float()
    found = pellucid.gradient_x_input(model, images, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = quantus.PixelFlipping(
            features_in_step=12, perturb_baseline="black", abs=False, normalise=False, return_aggregate=False,
            return_auc_per_sample=False, disable_warnings=True,
        )  # fmt: skip
        curves = metric(
            model, images.numpy(), np.ones(3, int), found.values.numpy(), softmax=True, device="cpu", channel_first=True
        )
    darkest = images.amin((1, 2, 3), keepdim=True).expand_as(images)  # Quantus' "black"
    mine = deletion(model, images, found, pellucid.probability(1), steps=12, fill=darkest)
    np.testing.assert_allclose(mine.values[:, 1:].numpy(), np.array(curves), rtol=1e-4, atol=1e-6)


def test_localization_is_quantus(quantus):
    random = torch.Generator().manual_seed(0)
    values = torch.randn(4, 1, 8, 8, generator=random).abs()
    masks = torch.rand(4, 1, 8, 8, generator=random) < 0.3
    model, images = net().float(), torch.rand(4, 1, 8, 8, generator=random)
    for measure, kind in ((mass_accuracy, "RelevanceMassAccuracy"), (rank_accuracy, "RelevanceRankAccuracy")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = getattr(quantus, kind)(abs=False, normalise=False, disable_warnings=True)
            expected = metric(
                model, images.numpy(), np.zeros(4, int), values.numpy(), masks.numpy(), device="cpu",
                channel_first=True,
            )  # fmt: skip
        np.testing.assert_allclose(measure(values, masks).numpy(), expected, rtol=1e-5)


def test_similarities_are_quantus_and_scipys(quantus):
    from quantus.functions import similarity_func
    from scipy.stats import spearmanr
    from skimage.metrics import structural_similarity

    random = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 3, 1, 20, 20, generator=random).round(decimals=1)
    pairs = [(a.flatten().numpy(), b.flatten().numpy()) for a, b in zip(one, other, strict=True)]
    found = spearman(one, other).tolist()
    assert found == pytest.approx([spearmanr(a, b).statistic for a, b in pairs], abs=1e-6)
    assert found == pytest.approx([similarity_func.correlation_spearman(a, b) for a, b in pairs], abs=1e-6)
    large = torch.rand(2, 1, 1, 64, 64, generator=random)
    large[:, :, :, 0, :2] = torch.tensor([0.0, 1.0])  # so that both have the range that ours are brought to
    _, theirs = structural_similarity(
        large[0, 0, 0].numpy(), large[1, 0, 0].numpy(), data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    assert ssim(large[0], large[1]).item() == pytest.approx(theirs.mean(), abs=1e-3)


def test_randomization_is_quantus(quantus):
    """The first layer of Quantus' cascade, with its own weights, gives our similarity."""
    model, images = net().float(), photos().float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = quantus.helpers.model.pytorch_model.PyTorchModel(model, channel_first=True, device="cpu")
        name, theirs = next(iter(wrapped.get_random_layer_generator(order="top_down", seed=0)))
    assert name == "fc"
    own = pellucid.gradient_x_input(model, images, 1).values
    found = pellucid.gradient_x_input(theirs.eval(), images, 1).values
    from quantus.functions import similarity_func

    expected = [similarity_func.correlation_spearman(a.flatten(), b.flatten()) for a, b in
                zip(own.abs().numpy(), found.abs().numpy(), strict=True)]  # fmt: skip
    assert spearman(own.abs(), found.abs()).tolist() == pytest.approx(expected, abs=1e-5)
    mine = randomization(model, images, "gradient_x_input", 1, layers=["fc"])
    assert mine.values.shape == (3, 1) and mine.values.max() <= 1

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.methods.result import Attribution
from pellucid.metrics import mass_accuracy, pointing_game, rank_accuracy

MEASURES = (mass_accuracy, rank_accuracy, pointing_game)


def values(*rows):
    return torch.tensor([[rows]])


def mask(text):
    """One mask from rows of dots and hashes."""
    return torch.tensor([[[[c == "#" for c in row] for row in text.split()]]])


# --- by hand


def test_mass_by_hand():
    relevance = values((4.0, 1.0, -7.0), (0.0, 3.0, 2.0))
    assert mass_accuracy(relevance, mask("#.. .#.")).item() == pytest.approx(7 / 10)
    assert mass_accuracy(relevance, mask("..# #..")).item() == 0  # only what is negative or zero
    assert mass_accuracy(relevance, mask("### ###")).item() == 1


def test_rank_by_hand():
    relevance = values((4.0, 1.0, -7.0), (0.0, 3.0, 2.0))
    assert rank_accuracy(relevance, mask("#.. .#.")).item() == 1  # the two highest are 4 and 3
    assert rank_accuracy(relevance, mask("##. .#.")).item() == pytest.approx(2 / 3)  # 4, 3 of 4, 3, 2
    assert rank_accuracy(relevance, mask(".#. ...")).item() == 0
    # Five pixels: 4, 3, 2, 1 and one of the two that count as zero, both of which are inside or not.
    assert rank_accuracy(relevance, mask("### ###")).item() == 1
    assert rank_accuracy(relevance, mask("##. ###")).item() == pytest.approx((4 + 1 / 2) / 5)


def test_tied_ranks_are_shared():
    relevance = values((2.0, 1.0, 1.0, 1.0))
    assert rank_accuracy(relevance, mask("##..")).item() == pytest.approx((1 + 1 / 3) / 2)
    assert rank_accuracy(torch.ones(1, 1, 2, 4), mask("#... ....")).item() == pytest.approx(1 / 8)


def test_pointing_by_hand():
    relevance = values((1.0, 5.0, 0.0, 0.0, -9.0))
    assert pointing_game(relevance, mask("##...")).item() == 1
    assert pointing_game(relevance, mask("#.###")).item() == 0
    assert pointing_game(values((5.0, 5.0, 0.0)), mask("#..")).item() == 0.5


@pytest.mark.parametrize("tolerance, hit", [(0, 0), (1, 0), (2, 0), (2.2, 0), (2.3, 1), (3, 1), (50, 1)])
def test_tolerance_is_a_circle(tolerance, hit):
    relevance = torch.zeros(1, 1, 6, 6)
    relevance[0, 0, 1, 2] = 1  # sqrt(5) = 2.236 away from the mask
    inside = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    inside[0, 0, 3, 3] = True
    assert pointing_game(relevance, inside, tolerance=tolerance).item() == hit


def test_channels_are_summed_before_the_sign_is_looked_at():
    relevance = torch.tensor([[[[3.0, 1.0]], [[-4.0, 1.0]]]])
    assert mass_accuracy(relevance, mask("#.")).item() == 0
    assert mass_accuracy(relevance, mask(".#")).item() == 1
    assert pointing_game(relevance, mask(".#")).item() == 1


# --- the settled cases


@pytest.mark.parametrize("measure", MEASURES)
def test_no_positive_relevance_and_no_mask_score_zero(measure):
    whole, empty = torch.ones(1, 1, 3, 3, dtype=torch.bool), torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    for relevance in (torch.zeros(1, 2, 3, 3), -torch.rand(1, 2, 3, 3)):
        assert measure(relevance, whole).tolist() == [0]
    assert measure(torch.rand(1, 2, 3, 3), empty).tolist() == [0]
    assert measure(torch.zeros(1, 2, 3, 3), empty).tolist() == [0]


@pytest.mark.parametrize("measure", MEASURES)
def test_tiny_and_huge_numbers(measure):
    half = mask("#.")
    for scale in (1e-300, 1e-40, 1e307):
        relevance = torch.tensor([[[[3 * scale, scale]]]], dtype=torch.float64)
        expected = 0.75 if measure is mass_accuracy else 1
        assert measure(relevance, half).item() == pytest.approx(expected)


@pytest.mark.parametrize("measure", MEASURES)
def test_takes_attributions_and_half_precision(measure):
    relevance = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    inside = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    inside[:, :, :2] = True
    plain = measure(relevance, inside)
    assert plain.dtype == torch.float32 and plain.shape == (2,)
    assert torch.equal(measure(Attribution(relevance), inside), plain)
    assert measure(relevance.bfloat16(), inside).shape == (2,)
    assert not measure(relevance.requires_grad_(), inside).requires_grad


# --- properties


@pytest.mark.slow
@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0.01, 100))
def test_bounds_rows_scale_and_order(seed, channels, factor):
    random = torch.Generator().manual_seed(seed)
    relevance = torch.randn(4, channels, 5, 6, generator=random)
    inside = torch.rand(4, 1, 5, 6, generator=random) < torch.rand(4, 1, 1, 1, generator=random)
    for measure in MEASURES:
        scores = measure(relevance, inside)
        assert ((scores >= 0) & (scores <= 1)).all()
        rows = torch.cat([measure(relevance[i : i + 1], inside[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(scores, rows)
        torch.testing.assert_close(measure(relevance * factor, inside), scores, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(measure(relevance.flip(3), inside.flip(3)), scores)
    wider = torch.stack([pointing_game(relevance, inside, tolerance=t) for t in (0, 1, 1.5, 3, 9)])
    assert (wider.diff(dim=0) >= 0).all()


def test_inside_and_outside_share_the_mass():
    random = torch.Generator().manual_seed(1)
    relevance, inside = torch.rand(3, 1, 8, 8, generator=random), torch.rand(3, 1, 8, 8, generator=random) < 0.3
    torch.testing.assert_close(mass_accuracy(relevance, inside) + mass_accuracy(relevance, ~inside), torch.ones(3))


def test_a_random_map_scores_the_share_of_the_mask():
    random = torch.Generator().manual_seed(2)
    relevance = torch.rand(4000, 1, 6, 6, generator=random)
    inside = torch.zeros(4000, 1, 6, 6, dtype=torch.bool)
    inside[:, :, :3, :4] = True
    for measure in MEASURES:
        assert measure(relevance, inside).mean().item() == pytest.approx(1 / 3, abs=0.02)


# --- what is refused


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    "relevance, masks, error, said",
    [
        (torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4), TypeError, "masks > 0.5"),
        (torch.ones(1, 3, 4, 4).long(), torch.ones(1, 1, 4, 4).bool(), TypeError, "floating"),
        ([1.0], torch.ones(1, 1, 4, 4).bool(), TypeError, "list"),
        (torch.rand(1, 3, 4, 4), torch.ones(1, 4, 4).bool(), ValueError, r"masks\[:, None\]"),
        (torch.rand(1, 3, 4, 4), torch.ones(1, 3, 4, 4).bool(), ValueError, r"\(1, 1, 4, 4\)"),
        (torch.rand(1, 1, 2, 2), torch.ones(1, 1, 4, 4).bool(), ValueError, "enlarge"),
        (torch.rand(3, 4, 4), torch.ones(1, 1, 4, 4).bool(), ValueError, "N x C x H x W"),
        (torch.full((1, 1, 4, 4), torch.nan), torch.ones(1, 1, 4, 4).bool(), ValueError, "NaN"),
        (torch.full((1, 1, 4, 4), torch.inf), torch.ones(1, 1, 4, 4).bool(), ValueError, "infinite"),
    ],
)
def test_refused(measure, relevance, masks, error, said):
    with pytest.raises(error, match=said):
        measure(relevance, masks)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_tolerance_out_of_range(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        pointing_game(torch.rand(1, 1, 2, 2), torch.ones(1, 1, 2, 2).bool(), tolerance=tolerance)

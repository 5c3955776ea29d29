"""The audit, from images to clusters: on a network whose secret is known."""

import csv
import sys

import numpy as np
import pytest
import torch
from torch import nn

import pellucid
from pellucid import runfolder
from pellucid.audit.relevance_clusters.relevance_maps import MapPlan, map_rows
from pellucid.files.images import write_image

LABELS = ("plain", "striped", "dotted")


class Hans(nn.Module):
    """Knows three classes by the place of their light, and "striped" also by a bright corner."""

    def __init__(self):
        super().__init__()
        weights = torch.zeros(3, 1, 12, 12)
        weights[0, 0, 2:6, 6:10] = 1
        weights[1, 0, 6:10, 2:6] = 1
        weights[2, 0, 6:10, 6:10] = 1
        weights[1, 0, :2, :2] = 6
        self.conv = nn.Conv2d(1, 3, 12)
        with torch.no_grad():
            self.conv.weight.copy_(weights)
            self.conv.bias.fill_(-2.0)

    def forward(self, x):
        return self.conv(x).relu().flatten(1)


def hans():
    return pellucid.wrap(Hans().eval(), mean=0.0, std=1.0, size=12, channels=1, labels=LABELS, name="hans")


def drawn(count=60, marked=6, seed=0):
    """Images of each class, light at its place, dark in the corner; the first of "striped" have a bright corner."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat_interleave(count)
    images = torch.rand(3 * count, 1, 12, 12, generator=random) * 0.6 + 0.2
    for label, (row, column) in enumerate(((2, 6), (6, 2), (6, 6))):
        images[labels == label, :, row : row + 4, column : column + 4] += 0.2
    images[:, :, :2, :2] *= 0.05
    striped = (labels == 1).nonzero().flatten()[:marked]
    images[striped, :, :2, :2] = 1.0
    return images, labels, striped


def nearly(members, wanted):
    """All of those that are wanted, the most typical first, and at most one more."""
    return sorted(members[: len(wanted)]) == wanted.tolist() and len(members) <= len(wanted) + 1


@pytest.mark.slow
def test_a_marked_corner_is_found_and_nothing_else():
    images, labels, striped = drawn()
    result = pellucid.clever_hans(hans(), images, labels)
    assert [cluster.label for cluster in result.alarms] == ["striped"]
    best = result.clusters[0]
    assert nearly(best.members, striped) and 0.1 <= best.share < 0.12 and best.alarm
    mean, rest = result.mean_map(best)
    assert mean[0, 0] == mean.max() > 3 * rest[0, 0]
    light, dark = result.mean_picture(best)
    assert light[:, 0, 0].min() > 0.9 > 0.1 > dark[:, 0, 0].max()
    assert (result.cluster_of[striped] == 0).all() and "1 cluster stands apart" in result.verdict()
    assert [one.label for one in result.classes] == list(LABELS) and not result.skipped
    assert result.call.forward == 2 * len(images) and result.call.backward == len(images)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_without_a_mark_it_is_quiet(seed):
    images, labels, _ = drawn(marked=0, seed=seed)
    result = pellucid.clever_hans(hans(), images, labels)
    assert result.alarms == () and result.verdict().startswith("No cluster of 3 classes")


def test_one_class_and_other_methods():
    images, labels, striped = drawn()
    for method, options in (("gradient_x_input", None), ("occlusion", {"window": 2, "stride": 2})):
        result = pellucid.clever_hans(hans(), images, labels, classes="striped", method=method, options=options)
        rows = (labels == 1).nonzero().flatten()
        assert nearly(rows[list(result.alarms[0].members)].tolist(), striped)
        assert set(result.labels) == {"striped"} and len(result.names) == 60
    same = pellucid.clever_hans(hans(), images, labels, classes=[1], method="gradient_x_input")
    assert same.clusters[0].label == "striped"


def test_frequencies_do_not_mind_where_a_pattern_is():
    from pellucid.audit.clever_hans import _compared

    maps = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    maps[1] = maps[0].roll((3, 2), (0, 1))
    one, other = _compared(maps, "frequencies")
    np.testing.assert_allclose(one, other)
    expected = np.log(np.abs(np.fft.fft2(maps[0].double() / maps[0].double().abs().sum())) + 1e-4)
    np.testing.assert_allclose(one, expected)
    assert _compared(maps, "places").shape == (2, 8, 8)


@pytest.mark.slow
def test_unknown_labels_count_for_the_predicted_class():
    images, labels, striped = drawn()
    said = []
    result = pellucid.clever_hans(hans(), images, None, on_message=said.append)
    assert any("180 of 180 images is not known" in line for line in said)
    assert nearly(result.alarms[0].members, striped)
    half = [None if i % 2 else int(label) for i, label in enumerate(labels)]
    assert pellucid.clever_hans(hans(), images, half).alarms[0].label == "striped"


def test_a_bare_network_has_numbers_for_classes():
    images, labels, striped = drawn()
    result = pellucid.clever_hans(Hans().eval(), images, labels)
    assert result.alarms[0].label == "1" and nearly(result.alarms[0].members, striped)


@pytest.mark.slow
def test_pictures_tables_and_numbers(tmp_path):
    images, labels, _ = drawn()
    result = pellucid.clever_hans(hans(), images, labels)
    assert result.save(tmp_path / "a.png").stat().st_size > 10_000
    with np.load(result.save(tmp_path / "a.npz")) as file:
        assert file["maps"].shape == (180, 6, 6) and "lapuschkin" in str(file["call"]).lower()
    with result.save(tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (
        sum(row["alarm"] == "True" for row in rows) == len(result.alarms[0].members) and rows[60]["class"] == "striped"
    )
    assert result.save(tmp_path / "a.parquet").is_file()
    places = result.embedding()
    assert len(places.values) == 60 and any(label.startswith("ALARM 1") for label in places.labels)
    assert len(result.tiles(result.clusters[0])) == 4 + 2 * 6
    with pytest.raises(KeyError, match="was not audited"):
        result.embedding("castle")


@pytest.fixture
def photos(tmp_path):
    images, labels, striped = drawn(30, 4)
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        file = tmp_path / "photos" / LABELS[label] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_image(image.expand(3, -1, -1), file)
    (tmp_path / "photos" / "plain" / "bad.png").write_bytes(b"nothing")
    return tmp_path / "photos"


@pytest.mark.slow
def test_a_folder_goes_on_where_it_was(photos, tmp_path, monkeypatch):
    module = sys.modules["pellucid.audit.relevance_clusters.relevance_maps"]
    monkeypatch.setattr(module, "MOST_IN_CHUNK", 40)
    expected = pellucid.clever_hans(hans(), photos, smallest=4)
    assert [name for name, _ in expected.failures] == ["plain/bad.png"]
    assert sorted(expected.names[row] for row in expected.alarms[0].members) == [
        f"striped/{number:03}.png" for number in range(30, 34)
    ]
    whole, done = module.map_chunk, []

    def twice(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments[-1])
        whole(*arguments)

    monkeypatch.setattr(module, "map_chunk", twice)
    with pytest.raises(KeyboardInterrupt):
        pellucid.clever_hans(hans(), photos, smallest=4, folder=tmp_path / "run")
    assert runfolder.finished(runfolder.read(tmp_path / "run")) == [0, 1]
    monkeypatch.setattr(module, "map_chunk", whole)
    said = []
    result = pellucid.clever_hans(hans(), photos, smallest=4, folder=tmp_path / "run", on_message=said.append)
    assert any("2 of 3 chunks are finished already" in line for line in said)
    torch.testing.assert_close(result.maps, expected.maps)
    assert [c.members for c in result.clusters] == [c.members for c in expected.clusters]
    assert result.failures == expected.failures
    part = next((tmp_path / "run" / "rows").glob("*.parquet"))
    part.write_bytes(b"damaged")
    again = pellucid.clever_hans(hans(), photos, smallest=4, folder=tmp_path / "run")
    torch.testing.assert_close(again.maps, expected.maps)
    with pytest.raises(runfolder.OtherRun):
        pellucid.clever_hans(hans(), photos, method="saliency", folder=tmp_path / "run")


def test_copies_of_a_file_raise_no_alarm():
    images, labels, _ = drawn(marked=0)
    images[60:72] = images[60]
    result = pellucid.clever_hans(hans(), images, labels)
    assert not result.alarms and result.audited("striped").copies == 11


def test_the_function_for_one_batch_is_pure():
    images, labels, _ = drawn(8, 2)
    asked = MapPlan(hans(), "gradient_x_input", {}, 6)
    rows, maps, pictures = map_rows(asked, images, labels.tolist())
    for row in (0, 9):
        alone = map_rows(asked, images[row : row + 1], labels[row : row + 1].tolist())
        assert alone[0] == [rows[row]] or alone[0][0]["class"] == rows[row]["class"]
        torch.testing.assert_close(alone[1][0], maps[row])
        assert torch.equal(alone[2][0], pictures[row])
    assert maps.shape == (24, 6, 6) and pictures.dtype == torch.uint8


@pytest.mark.slow
def test_the_model_is_as_it_was():
    model = hans()
    images, labels, _ = drawn(12, 0)
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    pellucid.clever_hans(model, images, labels)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"method": "salency"}, KeyError, "near it: saliency"),
        ({"method": "saliency", "options": {"sgin": "keep"}}, TypeError, "near it: sign"),
        ({"class_": "stripes"}, KeyError, "near it: striped"),
        ({"class_": 7}, ValueError, "none of 36 images is of the class 7"),
        ({"transform": "fft"}, ValueError, "expected 'places' or 'frequencies'"),
        ({"size": 1}, ValueError, "size is 1"),
        ({"smallest": 2}, ValueError, "smallest is 2"),
        ({"clusters": 1}, ValueError, "clusters is 1"),
        ({"clusters": 99}, ValueError, "clusters is 99, expected fewer than the 12"),
        ({"neighbors": 12}, ValueError, "neighbors is 12, expected 1 to 11"),
        ({"threshold": 0}, ValueError, "threshold is 0"),
        ({"method": "grad_cam", "options": {"layer": "nothing"}}, ValueError, "no layer 'nothing'"),
    ],
)
def test_refused(options, error, said):
    images, labels, _ = drawn(12, 0)
    with pytest.raises(error, match=said):
        pellucid.clever_hans(hans(), images, labels, **options)


def test_too_few_images_are_told():
    images, labels, _ = drawn(12, 0)
    with pytest.raises(
        ValueError, match=r"no class can be audited: plain: there are 1 different maps.*need 10 or more"
    ):
        pellucid.clever_hans(hans(), images[:1], labels[:1])
    few = torch.cat([images[:12], images[12:13]])
    result = pellucid.clever_hans(hans(), few, labels[:13])
    assert list(result.skipped) == ["striped"] and [one.label for one in result.classes] == ["plain"]
    with pytest.raises(ValueError, match="NaN"):
        pellucid.clever_hans(hans(), images * torch.nan, labels)
    with pytest.raises(ValueError, match="3 true classes for 36 images"):
        pellucid.clever_hans(hans(), images, labels[:3])

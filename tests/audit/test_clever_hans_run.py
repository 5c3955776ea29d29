"""The audit of maps that `explain` has made: the same as of the images, and clear words where it cannot be."""

import pytest
import torch
from torch import nn

import pellucid
from pellucid import runfolder
from pellucid.files.images import write_image
from pellucid.jobs.explain import explain

from .test_clever_hans import LABELS, drawn, hans


@pytest.fixture(autouse=True)
def quiet():
    with pellucid.settings(progress=False):
        yield


def photos_in(folder, count=30, marked=4, taken=()):
    """Images in the folders of their classes; those of `taken` in the folder of another."""
    images, labels, striped = drawn(count, marked)
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        file = folder / LABELS[(label + (number in taken)) % 3] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_image(image.expand(3, -1, -1), file)
    return folder, [f"{LABELS[1]}/{number:03}.png" for number in striped.tolist()]


def run_of(tmp_path, photos, methods=("gradient_x_input", "integrated_gradients"), **options):
    return explain(hans(), photos, output=tmp_path / "page.html", methods=methods, **options).folder.path


@pytest.mark.slow
def test_an_audit_of_explained_images_is_that_of_the_images(tmp_path):
    photos, striped = photos_in(tmp_path / "photos")
    (photos / "plain" / "bad.png").write_bytes(b"nothing")
    run = run_of(tmp_path, photos)
    expected = pellucid.clever_hans(hans(), photos, method="gradient_x_input", smallest=4)
    found = pellucid.clever_hans(hans(), run, method="gradient_x_input", smallest=4)
    assert found.call.forward == found.call.backward == 0 < expected.call.backward
    torch.testing.assert_close(found.maps, expected.maps)
    assert torch.equal(found.pictures, expected.pictures)
    assert (found.files, found.labels, found.predictions) == (expected.files, expected.labels, expected.predictions)
    assert [name for name, _ in found.failures] == ["plain/bad.png"]
    assert [c.members for c in found.clusters] == [c.members for c in expected.clusters]
    assert {found.names[row] for row in found.alarms[0].members} == set(striped)
    only = pellucid.clever_hans(hans(), run, method="gradient_x_input", classes="striped", smallest=4)
    assert set(only.labels) == {"striped"} and len(only.names) == 30
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    pellucid.clever_hans(hans(), str(run), None, method="integrated_gradients")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before  # it is only read


@pytest.mark.slow
def test_images_that_are_explained_for_another_class_are_left_out(tmp_path):
    photos, _ = photos_in(tmp_path / "photos", marked=0, taken=(3, 40))
    run, said = run_of(tmp_path, photos), []
    found = pellucid.clever_hans(hans(), run, method="integrated_gradients", on_message=said.append)
    assert len(said) == 1 and '2 of 90 images are left out: integrated_gradients explains logit("striped")' in said[0]
    assert len(found.names) == 88
    both = pellucid.clever_hans(hans(), run, method="gradient_x_input")  # of which explain shows the true class too
    assert len(both.names) == 90 and both.labels[both.names.index("striped/003.png")] == "striped"
    torch.testing.assert_close(both.maps, pellucid.clever_hans(hans(), photos, method="gradient_x_input").maps)
    predicted = pellucid.clever_hans(hans(), run, None, method="integrated_gradients")
    assert len(predicted.names) == 90 and predicted.labels[predicted.names.index("striped/003.png")] == "plain"


@pytest.mark.slow
def test_images_of_several_sizes(tmp_path):
    class Light(nn.Module):
        def forward(self, images):
            return torch.stack([images[:, :, :4].mean((1, 2, 3)), images[:, :, 4:].mean((1, 2, 3))], 1)

    model = pellucid.wrap(Light().eval(), channels=3, labels=["up", "down"])
    random = torch.Generator().manual_seed(0)
    for number in range(24):
        write_image(torch.rand(3, 40 + number, 60 - number, generator=random), tmp_path / "photos" / f"{number}.png")
    expected = pellucid.clever_hans(model, tmp_path / "photos", method="gradient_x_input")
    run = explain(model, tmp_path / "photos", output=tmp_path / "a.html", methods=["gradient_x_input"]).folder.path
    found = pellucid.clever_hans(model, run, method="gradient_x_input")
    torch.testing.assert_close(found.maps, expected.maps)
    assert torch.equal(found.pictures, expected.pictures) and found.pictures.shape[2:] == (96, 96)


@pytest.mark.slow
def test_what_does_not_fit_is_refused(tmp_path):
    photos, _ = photos_in(tmp_path / "photos", 12, 0)
    run = run_of(tmp_path, photos, options={"integrated_gradients": {"steps": 4}})

    def refused(error, said, model=None, images=run, **options):
        with pytest.raises(error, match=said):
            pellucid.clever_hans(model or hans(), images, **{"method": "integrated_gradients"} | options)

    other = hans()
    other.net.conv.bias.data += 1
    refused(runfolder.OtherRun, "is a run of another model: model.weights was", other)
    refused(
        ValueError,
        "has no maps of lrp: name a method that it has, gradient_x_input, integrated_gradients",
        method="lrp",
    )
    refused(runfolder.OtherRun, "options.steps was 4, is now 5", options={"steps": 5})
    assert (
        pellucid.clever_hans(hans(), run, method="integrated_gradients", options={"steps": 4}).call.options["steps"]
        == 4
    )
    refused(ValueError, "maps and true classes of its own: give no folder", folder=tmp_path / "maps")
    refused(ValueError, "and no labels", labels={"000.png": "plain"})
    refused(ValueError, "is a run folder, which is audited alone", images=[run, photos])
    refused(ValueError, "none of 36 images can be used: no image is of the class", class_=7)
    same = run_of(tmp_path, photos, objective=pellucid.channel("conv", 1))
    refused(
        ValueError,
        r"integrated_gradients explains channel.*not the class of the image itself. Explain the images without",
        images=same,
    )
    runfolder.forget(runfolder.read(run), [1])
    refused(ValueError, "is not finished, 1 of 5 chunks are missing: run the same `pellucid explain` again")
    pellucid.clever_hans(hans(), photos, method="integrated_gradients", folder=tmp_path / "maps")
    refused(
        ValueError, "is a run of clever_hans: only maps of `pellucid explain` can be audited", images=tmp_path / "maps"
    )


@pytest.mark.slow
def test_a_target_that_is_the_class_of_some(tmp_path):
    photos, _ = photos_in(tmp_path / "photos", 12, 0)
    run, said = run_of(tmp_path, photos, objective="striped"), []
    found = pellucid.clever_hans(hans(), run, method="integrated_gradients", on_message=said.append)
    assert set(found.labels) == {"striped"} and len(found.names) == 12 and "24 of 36 images are left out" in said[0]

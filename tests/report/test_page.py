import base64
import io
import re
import sys
import weakref
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

import pellucid
from pellucid.display.colors import colorize
from pellucid.methods.result import Attribution, Call
from pellucid.model.classifier import Predictions
from pellucid.report import Case, Panel, write

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
NASTY = "<script>alert(1)</script>\"'&</style>--><img src=x onerror=alert(2)> {{ 7 * 7 }} `"
CONTROL = "a\x00b\x1b[31m\u202ec\udcffd"


class Page(HTMLParser):
    """A parsed page that fails where tags are not closed in order, or an id is given twice."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.ids = [], [], [], set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        attrs = dict(attrs)
        if "id" in attrs:
            assert attrs["id"] not in self.ids
            self.ids.add(attrs["id"])
        self.tags.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag, kind=None):
        return [a for t, a in self.tags if t == tag and (kind is None or kind in a.get("class", "").split())]


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def call(**changes):
    fields = {
        "method": "saliency",
        "options": {"steps": 3, "sign": "keep"},
        "objective": 'logit("cat")',
        "model": "net",
    }
    fields |= {"paper": "Someone 2020, A paper", "seconds": 0.25, "forward": 4, "backward": 5}
    return Call(**(fields | changes))


def panel(title="saliency", scores=(), group="", values=None, **changes):
    values = noise(1, 3, 8, 8) - 0.5 if values is None else values
    return Panel(title, Attribution(values, call=call(**changes)), dict(scores), group)


def case(name="a.jpg", true=None, panels=None, problem="", image=None, labels=("cat", "dog", "tench, Tinca tinca")):
    predictions = Predictions(torch.tensor([[0, 1, 2]]), torch.tensor([[0.9, 0.0999, 0.0001]]), [list(labels)])
    image = noise(3, 8, 8) if image is None else image
    return Case(name, image, predictions, true, [panel()] if panels is None else panels, problem)


def made(tmp_path, cases, **options):
    """The page about some cases, parsed, and its text."""
    options = {"title": "Title", "model": "net"} | options
    text = write(tmp_path / "page.html", cases, **options).read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    return Page(text), text


def decoded(address):
    head, _, data = address.partition(";base64,")
    assert head in ("data:image/webp", "data:image/png")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB"))


# --- what is on it


def test_a_real_page(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    model = pellucid.wrap(net.eval(), size=8, labels=["cat", "dog"], name="tiny")
    images = noise(1, 3, 8, 8)
    predictions = model.predict(images)
    panels = [
        Panel("saliency", pellucid.saliency(model, images)),
        Panel("gradient x input", pellucid.gradient_x_input(model, images, "cat"), {"on the object": 0.83}, "logit"),
    ]
    cases = [Case("a.jpg", images[0], predictions, "cat", panels)]
    page, _ = made(tmp_path, cases, model=model, title="Pets", command="pellucid explain \\\n  a.jpg")
    for said in (
        "Pets",
        "tiny",
        "a.jpg",
        "cat",
        "dog",
        "saliency, gradient x input",
        "Simonyan",
        'logit("cat")',
        "0.83",
    ):
        assert said in page.text
    assert f"pellucid {pellucid.__version__}" in page.text
    assert "1 forward, 1 backward" in page.text and "raise" in page.text
    assert "pellucid explain \\\n" in "".join(page.texts) and "\n  a.jpg" in "".join(page.texts)


def test_pictures_are_those_of_the_case(tmp_path):
    values = torch.zeros(1, 1, 6, 10)
    values[0, 0, 0], values[0, 0, 1] = 2, -4
    image = torch.zeros(3, 6, 10)
    image[0] = 1
    page, _ = made(tmp_path, [case(image=image, panels=[panel(values=values), panel("b", values=values.abs())])])
    red, signed, positive = [decoded(a["src"]) for a in page.all("img")]
    assert red.shape == signed.shape == (6, 10, 3)
    assert abs(red.astype(int) - [255, 0, 0]).max() <= 3
    assert (signed[2:] == 255).all(), "zero is white"
    assert (signed[1] == signed[1, 0]).all() and signed[1, 0, 2] > signed[1, 0, 0], "negative is blue"
    assert signed[0, 0, 0] > signed[0, 0, 2], "positive is red"
    shades = (colorize(values.abs())[0].permute(1, 2, 0) * 255).round().numpy()
    assert abs(positive - shades).max() <= 1
    assert "−4 0 4" in page.text and "0 4" in page.text


def test_sizes(tmp_path):
    image, values = noise(3, 100, 200), noise(1, 1, 7, 14)
    page, _ = made(
        tmp_path, [case(image=image, panels=[panel(values=values), panel("b", values=noise(1, 3, 100, 200))])], size=50
    )
    for picture in page.all("img"):
        assert (picture["width"], picture["height"]) == ("50", "25")
        assert decoded(picture["src"]).shape == (25, 50, 3)
    assert 'class="case"' in (tmp_path / "page.html").read_text("utf-8").replace(" small", "")


@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 8, 8), (3, 1, 1), (3, 1, 300)])
def test_any_image(tmp_path, shape):
    page, _ = made(tmp_path, [case(image=noise(*shape) * 3 - 1, panels=[panel(values=noise(1, *shape))])])
    assert len(page.all("img")) == 2


MAPS = {
    "zero": torch.zeros(1, 1, 8, 8),
    "negative": -torch.ones(1, 3, 8, 8),
    "tiny": torch.full((1, 1, 8, 8), 1e-320, dtype=torch.float64),
    "huge": torch.full((1, 1, 8, 8), 1e300, dtype=torch.float64),
    "half": torch.ones(1, 1, 8, 8).bfloat16(),
    "not finite here": torch.full((1, 2, 8, 8), 3e38),
}


@pytest.mark.parametrize("values", MAPS.values(), ids=MAPS)
def test_any_map(tmp_path, values):
    page, _ = made(tmp_path, [case(panels=[panel(values=values)])])
    assert "nan" not in page.text and "inf" not in page.text.replace("information", "")


def test_right_and_wrong(tmp_path):
    cases = [case(true="cat"), case(true="dog"), case(), case(true="bird"), case(true="TINCA tinca")]
    assert [c.right for c in cases] == [True, False, None, False, False]  # tench is not the most probable
    page, _ = made(tmp_path, cases)
    assert "2 of 4" not in page.text and "1 of 4" in page.text
    assert "right: cat" in page.text and "wrong: cat instead of dog" in page.text
    assert "The true label is bird , which is not among the 3 most probable" in page.text
    assert len(page.all("tr", "true")) == 3, "cat, dog, and tench by its second name"
    assert len(page.all("article", "wrong")) == 3 and len(page.all("article", "right")) == 1
    assert "only-wrong" in page.ids
    assert case(true="cat", labels=("tiger, cat", "b", "c")).right


def test_without_truth_nothing_is_said_about_it(tmp_path):
    page, _ = made(tmp_path, [case()])
    assert not {"✓", "✗"} & set(page.text) and "only-wrong" not in page.ids and "Recognized" not in page.text


def test_percentages(tmp_path):
    page, _ = made(tmp_path, [case()])
    assert "90.0 %" in page.text and "10.0 %" in page.text and "< 0.1 %" in page.text
    assert [a["style"] for a in page.all("span", "bar")][:2] == ["--v: 0.9", "--v: 0.0999"]


@pytest.mark.parametrize(
    "value, shown", [(1, "100.0 %"), (0.99999, "> 99.9 %"), (0.5, "50.0 %"), (1e-9, "< 0.1 %"), (0, "0.0 %")]
)
def test_certain_is_not_the_same_as_almost(tmp_path, value, shown):
    one = Case("a", noise(3, 8, 8), Predictions(torch.zeros(1, 1), torch.tensor([[value]]).double(), [["a"]]))
    assert shown in made(tmp_path, [one])[0].text


def test_groups_stand_side_by_side(tmp_path):
    panels = [panel("lrp", group="predicted"), panel("cam"), panel("lrp", group="true", objective='logit("dog")')]
    panels += [panel("ig", group=g) for g in ("a", "b", "c")]
    page, text = made(tmp_path, [case(panels=panels)])
    methods = page.all("section", "method")
    assert [m["style"] for m in methods] == ["--n: 2", "--n: 1", "--n: 3"]
    assert [m["aria-label"] for m in methods] == ["lrp", "cam", "ig"]
    assert "many" in methods[2]["class"] and "many" not in methods[0]["class"]
    lrp = text[text.index('aria-label="lrp"') : text.index('aria-label="cam"')]
    assert lrp.index("predicted") < lrp.index("true") and "logit(&#34;dog&#34;)" in lrp
    assert lrp.count("Someone 2020") == 1, "one paper for both"


def test_different_options_are_told_of_each(tmp_path):
    panels = [panel(group="few", options={"steps": 3}), panel(group="many", options={"steps": 300})]
    page, text = made(tmp_path, [case(panels=panels)])
    assert text.count("Someone 2020") == 2 and "steps 3 " in page.text and "steps 300 " in page.text


def test_results_without_a_call_and_with_a_gap(tmp_path):
    bare = Panel("mine", Attribution(noise(1, 1, 8, 8), convergence_delta=torch.tensor([-0.00123])))
    page, _ = made(tmp_path, [case(panels=[bare])])
    assert "convergence delta −0.0012" in page.text and "forward," not in page.text


def test_summary(tmp_path):
    def panels(a, b):
        return [panel("low", {"hit": a, "rank": 7.5}), panel("high", {"hit": b}, "logit"), panel("none")]

    cases = [case(panels=panels(0.1, 0.5)), case(panels=panels(0.3, float("nan")))]
    page, text = made(tmp_path, cases, legend={"hit": "Is it <hit>?", "other": "unused"})
    assert "hit : Is it <hit>?" in page.text and "unused" not in page.text
    table = text[text.index('<section class="summary"') : text.index("</table>")]
    assert table.index("high") < table.index("low") and "none" not in table
    assert "0.50" in table and "0.20" in table and "7.5" in table
    assert "high logit 0.50 – 1" in page.text, "NaN does not count, a missing score is a dash"
    assert "nan" not in page.text


def test_no_scores_no_summary(tmp_path):
    page, _ = made(tmp_path, [case()])
    assert "summary" not in page.ids


def test_failures_may_still_come_while_cases_do(tmp_path):
    failures = []

    def cases():
        yield case()
        failures.append(("broken.jpg", "is cut off"))
        failures.append(("notes.txt", "is no image"))

    page, _ = made(tmp_path, cases(), failures=failures)
    assert "2 files could not be shown" in page.text and "and 2 not read" in page.text
    assert "broken.jpg is cut off" in page.text and "notes.txt is no image" in page.text


def test_no_case_at_all(tmp_path):
    page, _ = made(tmp_path, [], failures=[("a.jpg", "is empty")])
    assert "There is no image on this page: none could be read" in page.text
    assert "1 file could not be shown" in page.text and "view-map" not in page.ids


def test_problems(tmp_path):
    page, _ = made(tmp_path, [case(panels=[], problem="Grad-CAM needs a layer")])
    assert "Problem: Grad-CAM needs a layer" in page.text


# --- safe, whole, alone


def nasty_case(bad, true):
    labels = (bad, "dog", "cat")
    panels = [panel(bad, {bad: 0.5}, bad, objective=bad, paper=bad, options={bad: bad, "layers": [bad]})]
    panels += [panel(bad, {bad: 2}, "other", objective=bad, paper="", method=bad, options={})]
    return case(bad, true=true, panels=panels, problem=bad, labels=labels)


@pytest.mark.parametrize("bad", [NASTY, CONTROL])
def test_everything_given_is_escaped(tmp_path, bad):
    harmless, _ = made(tmp_path, [nasty_case("x", "x"), nasty_case("x", "y")] * 2, failures=[("x", "x")], command="x")
    page, text = made(
        tmp_path,
        [nasty_case(bad, bad), nasty_case(bad, "y")] * 2,
        title=bad,
        model=bad,
        failures=[(bad, bad)],
        command=bad,
    )
    assert [(t, sorted(a)) for t, a in page.tags] == [(t, sorted(a)) for t, a in harmless.tags], (
        "no tag or attribute more"
    )
    assert "script" not in {t for t, _ in page.tags}
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert not [c for c in text if not (c.isprintable() or c == "\n")]
    if bad == NASTY:
        shown = " ".join(bad.split())
        assert page.text.count(shown) >= 30
        assert any(bad in a.get("alt", "") for a in page.all("img"))
        assert any(bad in a.get("aria-label", "") for a in page.all("section"))


def test_it_needs_nothing_else(tmp_path):
    page, text = made(tmp_path, [case(), case(true="dog")], command="see https://example.org")
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            if name in attrs:
                value = attrs[name]
                assert value.startswith("data:image/") or (value.startswith("#") and value[1:] in page.ids), value
    for address in re.findall(r"url\(\s*['\"]?([^'\")]*)", text):
        assert address.startswith("data:image/")
    assert "@import" not in text and "@font-face" not in text
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_it_can_be_read_by_everyone(tmp_path):
    page, text = made(tmp_path, [case(true="cat"), case(true="dog"), case(), case()], failures=[("a", "b")])
    assert page.all("html") == [{"lang": "en"}]
    assert [len(page.all(tag)) for tag in ("h1", "main", "title")] == [1, 1, 1]
    assert any(a.get("name") == "viewport" for a in page.all("meta"))
    for picture in page.all("img"):
        assert picture["alt"] and picture["loading"] == "lazy" and picture["decoding"] == "async"
        assert int(picture["width"]) > 0 and int(picture["height"]) > 0
    for _, attrs in page.tags:
        for name in attrs.get("aria-labelledby", "").split():
            assert name in page.ids
    for needed in ("prefers-color-scheme: dark", "@media print", "@media screen and (max-width", ":focus-visible"):
        assert needed in text


def colors(text, block):
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", text[text.index(block) :].partition("}")[0]))


@pytest.mark.parametrize("block", [":root {", "dark) {"])
def test_contrast(tmp_path, block):
    _, text = made(tmp_path, [case()])
    palette = colors(text, block)

    def light(name):
        parts = [int(palette[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    pairs = [(ink, paper) for ink in ("ink", "soft", "accent", "warn") for paper in ("page", "card", "warn-wash")]
    for ink, paper in [*pairs, ("ink", "wash")]:
        low, high = sorted((light(ink), light(paper)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper)


def test_cases_are_not_kept(tmp_path):
    alive = []

    def cases():
        for number in range(6):
            assert all(ref() is None for ref in alive), "an earlier case is still in memory"
            one = case(f"{number}.jpg")
            alive.extend((weakref.ref(one), weakref.ref(one.image), weakref.ref(one.panels[0].attribution.values)))
            yield one
            del one

    page, _ = made(tmp_path, cases())
    assert len(page.all("article")) == 6 and page.all("a", None)[-1]["href"] == "#case-6"


def test_cases_are_asked_for_one_by_one(tmp_path, monkeypatch):
    module = sys.modules["pellucid.report.page"]
    log, view = [], module._view
    monkeypatch.setattr(module, "_view", lambda *args: (log.append("written"), view(*args))[1])

    def cases():
        for _ in range(3):
            log.append("made")
            yield case()

    made(tmp_path, cases())
    assert log == ["made", "written"] * 3


@pytest.mark.parametrize(
    "error", [ValueError("bad image"), FileNotFoundError(2, "No such file", "x.jpg"), KeyboardInterrupt()]
)
def test_whole_or_not_at_all(tmp_path, error):
    def cases():
        yield case()
        raise error

    path = tmp_path / "page.html"
    for before in (None, "an older page"):
        if before:
            path.write_text(before)
        with pytest.raises(type(error)) as caught:
            write(path, cases(), title="t", model="m")
        assert caught.value is error, "as it was raised"
        assert [p.name for p in tmp_path.iterdir()] == (["page.html"] if before else [])
        assert not before or path.read_text() == before


def test_places_that_cannot_be_written_are_found_first(tmp_path):
    def cases():
        pytest.fail("a case was made")
        yield

    with pytest.raises(IsADirectoryError, match="folder"):
        write(tmp_path, cases(), title="t", model="m")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        write(tmp_path / "file" / "page.html", cases(), title="t", model="m")
    assert write(tmp_path / "new" / "page.html", [], title="t", model="m").exists()


# --- what is refused


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3, 8, 8), (0, 3, 8, 8)])
def test_a_panel_has_one_map(shape):
    with pytest.raises(ValueError, match="one image, 1 x C x H x W"):
        Panel("lrp", Attribution(torch.zeros(shape)))


def test_a_case_has_one_image():
    with pytest.raises(ValueError, match="one image C x H x W"):
        case(image=noise(1, 3, 8, 8))
    with pytest.raises(ValueError, match="2 images"):
        Case("a", noise(3, 8, 8), Predictions(torch.zeros(2, 1), torch.zeros(2, 1), [["a"], ["b"]]))


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_sizes_that_are_refused(tmp_path, size):
    with pytest.raises(ValueError, match="size"):
        write(tmp_path / "a.html", [], title="t", model="m", size=size)


def test_maps_with_nan_are_named(tmp_path):
    with pytest.raises(ValueError, match="NaN"):
        made(tmp_path, [case(panels=[panel(values=torch.full((1, 1, 8, 8), torch.nan))])])
    assert not list(tmp_path.iterdir())

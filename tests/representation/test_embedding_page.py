"""The page of an embedding, and the example and the script that make tables of it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pellucid
from pellucid.report.pages import embedding_page
from pellucid.representation import Embedding

ROOT = Path(__file__).parent.parent.parent
EVIL = "</script><img src=x onerror=alert(1)>&amp;\"'\u2028\x1b"


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


class Tags(HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def made():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(40, 6, generator=generator)
    labels = ["<b>cat</b>", "dog"] * 20
    return points, labels, torch.rand(40, 3, 1, 1, generator=generator).expand(-1, -1, 20, 30)


def test_names_cannot_break_out_and_only_the_script_runs(made, tmp_path):
    points, labels, images = made
    names = [f"{EVIL}{i}" for i in range(40)]
    result = pellucid.pca(points, 2, labels=labels, images=images, names=names)
    page = embedding_page(tmp_path / "a" / "map.html", result, title=EVIL, command=EVIL, failures=[(EVIL, EVIL)])
    text = page.read_text()
    tags = Tags(text).found
    assert not [t for t in tags if any(name.startswith("on") for name in t[1])]
    assert [attributes for tag, attributes in tags if tag == "script"] == [
        {"type": "application/json", "id": "data"}, {},
    ]  # fmt: skip
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in tags if tag == "img")
    (policy,) = [attributes["content"] for tag, attributes in tags if "http-equiv" in attributes]
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and policy.endswith(f"script-src 'sha256-{digest}'")
    assert "http://" not in re.sub(r"http://www\.w3\.org/2000/svg", "", text) and "https://" not in text
    data = data_of(text)
    assert data["names"][3].startswith("</script><img src=x") and data["groups"][0]["name"] == "<b>cat</b>"
    assert data["names"][3].endswith(" 3") and "\x1b" not in text  # control characters are spaces


def test_places_classes_and_thumbnails_are_those_of_the_embedding(made, tmp_path):
    points, labels, images = made
    result = pellucid.pca(points, 3, labels=labels, images=images)
    text = embedding_page(tmp_path / "map.html", result).read_text()
    data = data_of(text)
    shown = torch.tensor(data["places"], dtype=torch.float64)
    own = result.values.double().T
    torch.testing.assert_close(
        shown * (own.amax(1) - own.amin(1)).max(), own - own.mean(1, keepdim=True), atol=1e-4, rtol=1e-3
    )
    assert [group["points"] for group in data["groups"]] == [list(range(0, 40, 2)), list(range(1, 40, 2))]
    (sheet,) = re.findall(r'class="sheet" src="data:image/webp;base64,(.*?)"', text)
    picture = Image.open(io.BytesIO(base64.b64decode(sheet)))
    size = data["thumb"]
    assert size == 128 and picture.size == (32 * size, 2 * size)
    place = (size * (35 % 32), size * (35 // 32))
    found = torch.from_numpy(np.array(picture.crop((*place, place[0] + size, place[1] + size)))).permute(2, 0, 1)
    expected = result.thumbnails(size, [35])[0]
    assert float((found.float() - expected.float()).abs().mean()) < 12  # as WebP keeps it


def test_what_is_not_known_is_left_out(tmp_path):
    text = embedding_page(tmp_path / "map.html", pellucid.pca(torch.rand(12, 3), 1)).read_text()
    data = data_of(text)
    assert len(data["places"]) == 2 and data["names"] == [] and 'class="sheet"' not in text
    assert [group["name"] for group in data["groups"]] == [""]
    same = Embedding(torch.zeros(3, 2))
    assert data_of(embedding_page(tmp_path / "map.html", same).read_text())["places"] == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.slow
def test_stages_and_dimensions_are_on_the_page(made, tmp_path):
    points, labels, _ = made
    result = pellucid.deep_mds(points, 2, steps=5)
    sweep = pellucid.intrinsic_dimension(points, "mle", (3, 5), subsets=0)
    text = embedding_page(tmp_path / "map.html", result, dimensions=[sweep]).read_text()
    assert "Stress of each stage" in text and "Intrinsic dimension, mle: " in text
    assert '<th scope="col">correlation of distances</th>' in text and text.count("<tr>") == 1 + len(result.widths)


@pytest.mark.slow
def test_ten_thousand_points(tmp_path):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(10_000, 3, generator=generator)
    result = pellucid.pca(points, 2, labels=torch.arange(10_000) % 30)
    data = data_of(embedding_page(tmp_path / "map.html", result).read_text())
    assert len(data["places"][0]) == 10_000 and len(data["groups"]) == 30
    assert len({(group["color"], group["marker"]) for group in data["groups"]}) == 30


def said(*arguments):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_example_of_maps(tmp_path):
    assert "two principal components keep" in said(ROOT / "examples" / "embedding_digits.py", tmp_path, 60)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["digits.html", "pca.png", "tsne.csv", "tsne.png"]


@pytest.mark.slow
def test_the_example_of_few_dimensions(tmp_path):
    lines = said(ROOT / "examples" / "embedding_deep_mds.py", tmp_path, 80, 10).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    stress = {(row[0], row[1], row[2]): float(row[3]) for row in rows}
    for width in ("2", "8", "16"):
        assert stress["digits", width, "PCA"] == pytest.approx(stress["digits", width, "classical MDS"], abs=2e-3)
        assert stress["digits", width, "metric MDS"] < stress["digits", width, "PCA"]
    assert (tmp_path / "digits 2.png").is_file()


@pytest.mark.slow
def test_the_table_of_dimensions():
    pytest.importorskip("skdim")
    lines = said(ROOT / "scripts" / "intrinsic_dimension.py", "--points", 150, "--shapes", 2).splitlines()
    assert lines[2].startswith("| Swiss roll | 2 |") and lines[3].startswith("| sphere | 2 | 2.")
    assert len(lines) == 4 and all(line.count("|") == 10 for line in lines)

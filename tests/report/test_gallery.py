"""Pages of pictures side by side."""

import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.methods.result import Call
from pellucid.report import Plate, gallery

CALL = Call("pgd", {"eps": 0.1}, "away from the label", "net", "Somebody 2018, A paper", 0.5, 20, 10)


def test_plates_facts_and_calls(tmp_path):
    plates = [
        Plate(
            "one", [("before", torch.rand(3, 8, 8)), ("after", torch.rand(1, 300, 600))], "fooled", {"l2": "0.3"}, CALL
        ),
        *(Plate(f"more {i}", [("", torch.rand(3, 8, 8))]) for i in range(3)),
    ]
    table = [["image", "after"], ["one", "koala"]]
    page = gallery(tmp_path / "page.html", plates, title="Fooled", model="net", table=table, command="pellucid attack",
                   facts={"Images": "4"}, failures=[("bad.png", "is no image")]).read_text()  # fmt: skip
    assert page.count("<img") == 5 and 'width="448" height="224"' in page
    for said in ("<h1>Fooled</h1>", "koala", "fooled", "0.3", "A paper", "bad.png", "pellucid attack", "All 4 by name"):
        assert said in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)


def test_what_users_name_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    plate = Plate(evil, [(evil, torch.rand(3, 8, 8))], evil, {evil: evil})
    page = gallery(tmp_path / "page.html", [plate], title=evil, model=evil, table=[[evil], [evil]], facts={evil: evil},
                   failures=[(evil, evil)], command=evil).read_text()  # fmt: skip
    assert "<script" not in page and page.count("&lt;script&gt;") >= 10


def test_an_older_page_stays_if_it_cannot_be_written(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("old")
    with pytest.raises((TypeError, ValueError, AttributeError)):
        gallery(page, [Plate("one", [("", "no image")])], title="t", model="net")
    assert page.read_text() == "old"
    assert "no image on this page" in gallery(page, [], title="t", model="net").read_text()


def test_small_pictures_keep_every_pixel_and_its_color():
    from pellucid.report.encode import TINY, photo

    image = torch.rand(3, TINY, TINY, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    for size, most in ((TINY, 0), (TINY + 1, 60)):
        picture = photo(torch.nn.functional.pad(image, (0, size - TINY, 0, 0)), 448)
        with Image.open(BytesIO(b64decode(picture.address.partition(",")[2]))) as read:
            pixels = torch.from_numpy(np.array(read.convert("RGB"))).permute(2, 0, 1)
        far = (pixels[:, :, :TINY] - image * 255).abs().mean()
        assert (far == 0) if most == 0 else (1 < far < most)

import errno
import io
import os
import pickle
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from torchvision import transforms

from pellucid.files.images import (
    SUFFIXES,
    MissingImage,
    UnreadableImage,
    list_images,
    read_image,
    to_pil,
    write_image,
)

quick = settings(suppress_health_check=list(HealthCheck))


def scene(height=90, width=120, seed=0):
    """Noise over smooth shades: something that a wrong filter or a shift by one pixel would change."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3))
    y, x = np.mgrid[0:height, 0:width]
    shades = np.stack([y * 190 // height, x * 190 // width, (x + y) % 190], -1)
    return Image.fromarray((noise + shades).astype(np.uint8))


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png(pixels, kind, *chunks):
    """A PNG of 16 bits made by hand; kind 0 is gray, 2 is RGB."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        *(chunk(*c) for c in chunks),
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_of_12_bits(a, b):
    """One row of two gray pixels."""
    # width, height, bits, no compression, black is zero, place, channels, rows, bytes
    tags, values = (256, 257, 258, 259, 262, 273, 277, 278, 279), (2, 1, 12, 1, 1, 8, 1, 1, 3)
    data = bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) + b"\0"
    ifd = struct.pack("<H", 9) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in zip(tags, values, strict=True))
    return b"II*\0" + struct.pack("<I", 12) + data + ifd + b"\0\0\0\0"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mean(image):
    return image.mean((1, 2)).tolist()


# --- what is read


@pytest.mark.parametrize(
    "kind, suffix", [("PNG", "png"), ("BMP", "bmp"), ("TIFF", "tif"), ("WEBP", "webp"), ("PPM", "ppm")]
)
def test_lossless_formats_are_exact(tmp_path, kind, suffix):
    picture = scene()
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))
    image = read_image(file)
    assert image.dtype == torch.float32 and image.shape == (3, 90, 120) and image.is_contiguous()
    assert torch.equal(image, transforms.functional.to_tensor(picture))


def test_jpeg_and_gif(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(scene(), "JPEG"))
    expected = transforms.functional.to_tensor(Image.open(tmp_path / "a.jpg"))
    assert torch.equal(read_image(str(tmp_path / "a.jpg")), expected)
    red, blue = Image.new("RGB", (6, 4), "red"), Image.new("RGB", (6, 4), "blue")
    for kind, options in (("GIF", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        file = tmp_path / f"frames.{kind.lower()}"
        file.write_bytes(encoded(red, kind, save_all=True, append_images=[blue], **options))
        assert mean(read_image(file)) == [1, 0, 0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK"])
def test_modes_are_those_of_pillow_when_opaque(tmp_path, mode, channels):
    picture = scene().convert("RGBA" if mode == "PA" else "RGB").convert("P" if mode == "PA" else mode).convert(mode)
    file = tmp_path / "a.tif"
    picture.save(file)
    image = read_image(file, channels=channels)
    expected = transforms.functional.to_tensor(picture.convert("RGB").convert("L" if channels == 1 else "RGB"))
    assert image.shape == (channels, 90, 120)
    assert torch.allclose(image, expected, atol=1.01 / 255)


def test_transparency_shows_white(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert mean(read_image(tmp_path / "clear.png")) == [1, 1, 1]
    Image.new("RGBA", (2, 2), (255, 0, 0, 51)).save(tmp_path / "veil.png")
    assert mean(read_image(tmp_path / "veil.png")) == pytest.approx([1, 0.8, 0.8])
    Image.new("LA", (2, 2), (0, 102)).save(tmp_path / "gray.png")
    assert mean(read_image(tmp_path / "gray.png", channels=1)) == pytest.approx([0.6])
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "bytes.png", transparency=bytes([0, 255]))
    palette.save(tmp_path / "index.gif", transparency=0)
    for name in ("bytes.png", "index.gif"):
        assert read_image(tmp_path / name)[:, 0].T.tolist() == [[1, 1, 1], [1, 0, 0]]
        assert read_image(tmp_path / name, channels=1)[0, 0].tolist() == pytest.approx([1, 76 / 255])
    Image.new("L", (2, 2), 7).save(tmp_path / "one.png", transparency=7)
    assert mean(read_image(tmp_path / "one.png")) == [1, 1, 1]


def test_16_bits(tmp_path):
    gray = np.array([[0, 300, 32768, 65535]], np.uint16)
    (tmp_path / "gray.png").write_bytes(png(gray, 0))
    (tmp_path / "clear.png").write_bytes(png(gray, 0, (b"tRNS", b"\0\0")))
    Image.fromarray(gray).save(tmp_path / "little.tif")
    (tmp_path / "wide.pgm").write_bytes(b"P5 4 1 65535\n" + gray.astype(">u2").tobytes())
    values = torch.from_numpy(gray / 65535).float()
    for name in ("gray.png", "clear.png", "little.tif", "wide.pgm"):
        image = read_image(tmp_path / name)
        assert torch.equal(image, values.expand(3, 1, 4)), name
        assert torch.equal(read_image(tmp_path / name, channels=1), values[None]), name
    (tmp_path / "color.png").write_bytes(png(np.array([[[0, 32768, 65535]]], np.uint16), 2))
    assert mean(read_image(tmp_path / "color.png")) == pytest.approx([0, 0.5, 1], abs=1 / 255)
    (tmp_path / "medical.tif").write_bytes(tiff_of_12_bits(4095, 819))
    assert read_image(tmp_path / "medical.tif", channels=1).flatten().tolist() == pytest.approx([1, 0.2])


def test_16_bits_are_resized_without_loss(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, 0)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    image = read_image(tmp_path / "ramp.png", resize=32, interpolation="bicubic")
    assert image.min() >= 0 and image.max() <= 1 and len(image.unique()) >= 32
    assert torch.allclose(
        image[0, 5, 4:-4], torch.from_numpy(ramp[0].reshape(32, 2).mean(1) / 65535).float()[4:-4], atol=1e-4
    )


def test_floats_and_wide_integers(tmp_path):
    Image.fromarray(np.array([[0, 0.25, 1]], np.float32)).save(tmp_path / "unit.tif")
    assert read_image(tmp_path / "unit.tif", channels=1).flatten().tolist() == [0, 0.25, 1]
    for name, pixels, words in (
        ("floats.tif", np.array([[0, 255]], np.float32), "floats from 0 to 255"),
        ("nan.tif", np.array([[0, np.nan]], np.float32), "floats from nan"),
        ("ints.tif", np.array([[-5, 70000]], np.int32), "32-bit integers from -5 to 70000"),
    ):
        Image.fromarray(pixels).save(tmp_path / name)
        with pytest.raises(UnreadableImage, match=words) as caught:
            read_image(tmp_path / name)
        assert caught.value.path == tmp_path / name


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation, kind):
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste((255, 0, 0), (0, 0, 16, 8))  # red in the upper left
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what a camera held that way would have stored
    stored = upright.transpose(Image.Transpose(turn[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "a"
    file.write_bytes(encoded(stored, kind, exif=exif.tobytes() if kind != "TIFF" else exif))
    image = read_image(file)
    assert image.shape == (3, 16, 32)
    assert (image - transforms.functional.to_tensor(upright)).abs().mean() < 0.05


def test_pillow_picture_as_it_stands():
    picture = scene()
    assert torch.equal(read_image(picture), transforms.functional.to_tensor(picture))
    # Pillow itself resizes palettes to the nearest pixel, whatever it is asked for.
    palette = picture.convert("P")
    assert torch.equal(read_image(palette, resize=20), read_image(palette.convert("RGB"), resize=20))
    with pytest.raises(ValueError, match="too few for crop=200"):
        read_image(picture, crop=200)


# --- resized and cropped as torchvision does


@quick
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    resize=st.one_of(st.integers(1, 50), st.tuples(st.integers(1, 50), st.integers(1, 50))),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"]),
    mode=st.sampled_from(["RGB", "L"]),
    data=st.data(),
)
def test_same_as_torchvision(height, width, resize, interpolation, mode, data):
    picture = scene(height, width).convert(mode)
    side = min(resize) if isinstance(resize, tuple) else resize
    crop = data.draw(st.one_of(st.none(), st.integers(1, side), st.tuples(st.integers(1, side), st.integers(1, side))))
    steps = [transforms.Resize(resize, transforms.InterpolationMode(interpolation))]
    steps += [transforms.CenterCrop(crop)] if crop else []
    expected = transforms.Compose([*steps, transforms.ToTensor()])(picture.convert("RGB"))
    assert torch.equal(read_image(picture, resize=resize, crop=crop, interpolation=interpolation), expected)


def test_same_as_the_preset_of_a_torchvision_model(tmp_path):
    scene(375, 500).save(tmp_path / "a.png")
    preset = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])
    expected = preset(Image.open(tmp_path / "a.png"))
    assert torch.equal(read_image(tmp_path / "a.png", resize=256, crop=224), expected)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"resize": 0}, "resize=0"),
        ({"resize": 2.5}, "resize=2.5"),
        ({"resize": True}, "resize=True"),
        ({"crop": (3, 4, 5)}, r"crop=\(3, 4, 5\)"),
        ({"crop": (3, -4)}, r"crop=\(3, -4\)"),
        ({"interpolation": "cubic"}, "interpolation='cubic' is not one of nearest"),
        ({"channels": 4}, "channels=4"),
        ({"crop": 100}, "90 x 120 pixels are too few for crop=100"),
        ({"resize": 50, "crop": (40, 80)}, r"50 x 66 pixels are too few for crop=\(40, 80\)"),
    ],
)
def test_wrong_options(tmp_path, options, words):
    scene().save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=words):
        read_image(tmp_path / "a.png", **options)


# --- what cannot be read


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<!DOCTYPE html><p>not found", "begins with b'<!DOCTYPE html>"),
        (b"hello", "begins with b'hello'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "begins with b'%!PS"),
        (b"\xff\xd8\xff", "begins with|damaged or truncated"),
        (encoded(scene(), "PNG")[:-40], "damaged or truncated"),
        (encoded(scene(), "JPEG")[:2000], "damaged or truncated"),
    ],
)
def test_unreadable_files(tmp_path, content, words):
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    with pytest.raises(UnreadableImage, match=words) as caught:
        read_image(file)
    assert caught.value.path == file and str(caught.value).startswith(f"{file}: ")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.path, copy.reason) == (UnreadableImage, file, caught.value.reason)


WHOLE = {
    "jpeg": encoded(scene(), "JPEG"),
    "progressive": encoded(scene(), "JPEG", progressive=True),
    "png": encoded(scene(), "PNG"),
    "palette": encoded(scene().convert("P"), "PNG"),
    "webp": encoded(scene(), "WEBP"),
    "gif": encoded(scene(), "GIF"),
    "bmp": encoded(scene(), "BMP"),
    "tiff": encoded(scene(), "TIFF", compression="tiff_lzw"),
    "tiff_raw": encoded(scene(), "TIFF"),
    "ppm": encoded(scene(), "PPM"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_truncated_file_is_refused_or_complete(tmp_path, kind):
    whole, file = WHOLE[kind], tmp_path / kind
    file.write_bytes(whole)
    expected = read_image(file)
    for share in [*np.linspace(0, 1, 23)[:-1], 1 - 2 / len(whole), 1 - 1 / len(whole)]:
        file.write_bytes(whole[: int(share * len(whole))])
        try:
            image = read_image(file)
        except UnreadableImage:
            continue
        assert torch.equal(image, expected), f"{share:.0%} of the file were taken for all of it"


@quick
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    place=st.floats(0, 1, exclude_max=True),
    value=st.binary(min_size=1, max_size=4),
)
def test_damage_gives_an_image_or_the_one_error(tmp_path_factory, kind, place, value):
    data = bytearray(WHOLE[kind])
    at = int(place * len(data))
    data[at : at + len(value)] = value
    file = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    file.write_bytes(data)
    try:
        image = read_image(file)
    except UnreadableImage:
        return
    assert image.shape[0] == 3 and 0 <= image.min() <= image.max() <= 1


def test_missing_files_offer_the_nearest_names(tmp_path):
    (tmp_path / "photos").mkdir()
    scene().save(tmp_path / "photos" / "castle.png")
    for wrong, words in (
        (tmp_path / "photos" / "Castel.png", r"does not exist; did you mean .*castle\.png\?"),
        (tmp_path / "photo" / "deep" / "castle.png", r"there is no folder .*photo; did you mean .*photos\?"),
        (tmp_path / "photos" / "zzzzzz", "does not exist$"),
        ("https://example.org/castle.png", "is a web address; download"),
        (tmp_path / "photos" / "castle.png" / "x", "there is no folder .*castle.png; did you mean"),
    ):
        for call in (read_image, list_images):
            with pytest.raises(MissingImage, match=words) as caught:
                call(wrong)
            assert isinstance(caught.value, FileNotFoundError) and isinstance(caught.value, UnreadableImage)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.path, copy.reason) == (MissingImage, caught.value.path, caught.value.reason)


def test_folders_and_pipes_are_no_images(tmp_path):
    with pytest.raises(UnreadableImage, match="is a folder; name a file in it"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableImage, match="neither a file nor a folder"):
        read_image(tmp_path / "pipe")


@pytest.mark.parametrize(
    "error, words",
    [(PermissionError, "no permission"), (FileNotFoundError, "not exist any more"), (OSError, "Input/output")],
)
def test_the_file_system_says_no(tmp_path, monkeypatch, error, words):
    scene().save(tmp_path / "a.png")
    number = {PermissionError: errno.EACCES, FileNotFoundError: errno.ENOENT, OSError: errno.EIO}[error]

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UnreadableImage, match=words):
        read_image(tmp_path / "a.png")


def test_too_many_pixels(tmp_path, monkeypatch):
    def claims(width, height):
        data = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        return data

    for side in (9_500, 12_000, 50_000):  # Pillow warns of the first two and refuses the last
        (tmp_path / "bomb.png").write_bytes(claims(side, side))
        for action in ("error", "ignore"):
            with warnings.catch_warnings():
                warnings.simplefilter(action)
                with pytest.raises(UnreadableImage, match=r"decompression bomb.*raise PIL.Image.MAX_IMAGE_PIXELS"):
                    read_image(tmp_path / "bomb.png")
    Image.new("L", (1, 9_000)).save(tmp_path / "strip.png")
    with pytest.raises(UnreadableImage, match="resize=224 would make it too large: 2016000 x 224"):
        read_image(tmp_path / "strip.png", resize=224)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(tmp_path / "strip.png", resize=2).shape == (3, 18_000, 2)


def with_damaged_exif():
    """A JPEG of which Pillow warns: an EXIF entry that points beyond the end."""
    ifd = struct.pack("<H", 2) + struct.pack("<HHII", 0x010F, 2, 400, 9_000) + struct.pack("<HHII", 0x011A, 5, 1, 9_000)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + ifd + b"\0\0\0\0"
    return encoded(scene(), "JPEG", exif=exif)


def test_damaged_exif_is_no_reason_to_stop(tmp_path):
    whole = tmp_path / "whole.jpg"
    whole.write_bytes(encoded(scene(), "JPEG"))
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(with_damaged_exif())
    with pytest.raises(UserWarning):  # warnings are errors here, and this is what Pillow makes of it
        Image.open(io.BytesIO(damaged.read_bytes())).getexif()
    filters = list(warnings.filters)
    assert torch.equal(read_image(damaged), read_image(whole))
    assert warnings.filters == filters
    nonsense = tmp_path / "nonsense.jpg"
    nonsense.write_bytes(encoded(scene(), "JPEG", exif=b"Exif\0\0nonsense"))
    assert torch.equal(read_image(nonsense), read_image(whole))


def test_threads_do_not_disturb_one_another(tmp_path):
    file = tmp_path / "damaged.jpg"
    file.write_bytes(with_damaged_exif())
    failures, filters = [], list(warnings.filters)

    def work():
        try:
            for _ in range(10):
                read_image(file)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and warnings.filters == filters


def test_global_state_of_pillow_is_left_alone(tmp_path):
    (tmp_path / "a.jpg").write_bytes(WHOLE["jpeg"][:2000])
    with pytest.raises(UnreadableImage):
        read_image(tmp_path / "a.jpg")
    assert Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3 and not ImageFile.LOAD_TRUNCATED_IMAGES


# --- lists of files


def test_folders_are_listed_in_natural_order(tmp_path):
    names = [
        "b/2.JPG",
        "b/10.jpg",
        "a10.png",
        "a9.png",
        "A9b.png",
        "a1/z.webp",
        "a01.png",
        ".hidden.png",
        ".cache/x.png",
    ]
    for name in [*names, "notes.txt", "b/._2.jpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed = [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)]
    assert listed == ["a1/z.webp", "a01.png", "a9.png", "A9b.png", "a10.png", "b/2.JPG", "b/10.jpg"]
    again = list_images(tmp_path / "b", str(tmp_path / "notes.txt"), tmp_path / "b/2.JPG", tmp_path / ".cache")
    assert [path.name for path in again] == ["2.JPG", "10.jpg", "notes.txt", "x.png"]


@given(st.lists(st.text("aB0129.é", min_size=1, max_size=6).filter(lambda s: s[0] != "."), min_size=1, unique=True))
@quick
def test_the_order_does_not_depend_on_that_of_the_folder(names):
    from pellucid.files.images import _natural

    def order(names):
        return sorted(map(Path, names), key=lambda path: (_natural(path), str(path)))

    assert order(names) == order(reversed(names))


def test_links(tmp_path):
    (tmp_path / "data" / "class").mkdir(parents=True)
    (tmp_path / "data" / "class" / "1.png").touch()
    (tmp_path / "data" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "link").symlink_to(tmp_path / "data")
    assert [str(p.relative_to(tmp_path)) for p in list_images(tmp_path / "all")] == ["all/link/class/1.png"]


def test_nothing_to_list(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match="at least one"):
        list_images()
    with pytest.raises(UnreadableImage, match=r"holds no image \(looked for \.bmp .*found no files"):
        list_images(tmp_path)
    for name in ("a.txt", "b.txt", "c.heic", "README"):
        (tmp_path / name).touch()
    with pytest.raises(UnreadableImage, match=r"found 2 \.txt, 1 \.heic, 1 without suffix|found 2 \.txt") as caught:
        list_images(tmp_path)
    assert all(suffix in str(caught.value) for suffix in SUFFIXES)

    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UnreadableImage, match="cannot be listed"):
        list_images(tmp_path)


# --- back to files


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "webp", "PNG", "jpg", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_written_and_read_again(tmp_path, suffix, channels):
    image = read_image(scene(), channels=channels)
    write_image(image[None], tmp_path / f"a.{suffix}")
    again = read_image(tmp_path / f"a.{suffix}", channels=channels)
    assert (again - image).abs().mean() < (0.03 if suffix.startswith("j") else 1e-6)
    assert names(tmp_path) == [f"a.{suffix}"]


@given(st.floats(0, 1, width=32))
@quick
def test_values_are_rounded_not_cut(value):
    assert abs(to_pil(torch.full((1, 1, 1), value)).getpixel((0, 0)) / 255 - value) <= 0.5 / 255 + 1e-6


def test_any_float_type_even_with_gradients():
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert to_pil(torch.full((3, 2, 2), 0.5, dtype=dtype)).getpixel((0, 0)) == (128, 128, 128)
    assert to_pil(torch.full((1, 1, 2, 2), 1 + 1e-6, requires_grad=True)).getpixel((1, 1)) == 255


@pytest.mark.parametrize(
    "image, words",
    [
        (torch.zeros(2, 3, 4, 4), r"shape \(2, 3, 4, 4\); pick one image of the batch"),
        (torch.zeros(4, 4), r"got float32 of shape \(4, 4\)"),
        (torch.zeros(4, 4, 3), "C x H x W"),
        (torch.zeros(3, 0, 4), "C x H x W"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "got uint8 .*image / 255"),
        (torch.full((3, 4, 4), -2.0), "got -2 to -2; undo its normalization"),
        (torch.full((3, 4, 4), 255.0), "got 255 to 255"),
        (torch.full((3, 4, 4), torch.nan), "got nan to nan"),
    ],
)
def test_what_is_no_image(image, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        to_pil(image)
    with pytest.raises(ValueError, match=words):
        write_image(image, tmp_path / "a.png")
    assert names(tmp_path) == []


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    file.write_bytes(b"older")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="cannot write .*: No space left on device. Choose another") as caught:
        write_image(torch.zeros(3, 4, 4), file)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_image(torch.zeros(3, 4, 4), file)
    assert names(tmp_path) == ["a.png"] and file.read_bytes() == b"older"


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match="it is a folder, give the name of a file in it"):
        write_image(torch.zeros(3, 4, 4), tmp_path / "folder.png")
    for name in ("a.xyz", "a"):
        with pytest.raises(ValueError, match="must be one of png, jpg"):
            write_image(torch.zeros(3, 4, 4), tmp_path / name)
    assert names(tmp_path) == ["folder.png"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    write_image(torch.zeros(3, 4, 4), tmp_path / "a.png")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode

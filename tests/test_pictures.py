import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cnnlib.data import from_folder, load, photo, photo_names, pictures, split
from cnnlib.ground.env import DATA
from cnnlib.ground.errors import DataError, ParameterError
from cnnlib.models import make_model
from cnnlib.train import fit

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)  # (H, W, 3)
GREY_16 = RNG.integers(0, 65536, (6, 8), dtype=np.uint16)


def as_array(images):
    """(1, 3, H, W) as (H, W, 3)."""
    return images[0].permute(1, 2, 0).numpy()


def test_photographs(tmp_path):
    assert photo("chelsea").shape == (1, 3, 300, 451)
    for name in photo_names():
        image = photo(name)
        assert image.dtype == torch.uint8
        assert image.shape[:2] == (1, 3)
    grey = photo("brick")
    assert torch.equal(grey[:, 0], grey[:, 2])
    with pytest.raises(DataError, match=r"no photograph 'dog'; choose one of \['astronaut'"):
        photo("dog")
    (tmp_path / "broken.png").write_bytes((DATA / "photos" / "coffee.png").read_bytes()[:1000])
    (tmp_path / "text.png").write_text("no image")
    for name in ("broken.png", "text.png"):
        with pytest.raises(DataError, match=rf"{name} cannot be read as an image"):
            photo(tmp_path / name)


@pytest.mark.parametrize("name", ["astronaut", "brick"])
def test_a_plain_photograph_is_read_as_pillow_reads_it(name):
    expected = np.array(Image.open(DATA / "photos" / f"{name}.png").convert("RGB"))
    np.testing.assert_array_equal(as_array(photo(name)), expected)


def upright(pixels):
    """By EXIF 2.3, tag 0x0112: where the first row and the first column of the file belong in the picture."""
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).transpose(1, 0, 2),
        8: np.rot90(pixels),
    }


UPRIGHT = upright(COLOR)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_pictures_stand_upright(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(COLOR).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(as_array(photo(path)), UPRIGHT[orientation])


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "I;16"])
def test_a_lying_tiff_of_any_mode_stands_upright(tmp_path, orientation, mode):
    """Pillow maps the pixels of a named TIFF of these modes, and those of a lying one at a wrong width."""
    image = Image.fromarray(GREY_16) if mode == "I;16" else Image.fromarray(COLOR).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, options in (("plain.tif", {}), ("lying.tif", {"exif": exif})):
        image.save(tmp_path / name, **options)
    plain, lying = (as_array(photo(tmp_path / name)) for name in ("plain.tif", "lying.tif"))
    np.testing.assert_array_equal(lying, upright(plain)[orientation])


@pytest.mark.parametrize("damage", [b"MM\0*", b"\xff" * 40])
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_damaged_metadata_do_not_spoil_a_picture(tmp_path, damage, suffix):
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(COLOR).save(path, exif=b"Exif\0\0" + damage)
    with Image.open(path) as image:
        expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(as_array(photo(path)), expected)


def big_endian(path):
    Image.fromarray(GREY_16.astype(">u2")).save(path)


def pgm(path):
    path.write_bytes(b"P5 8 6 65535\n" + GREY_16.astype(">u2").tobytes())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("grey.png", lambda path: Image.fromarray(GREY_16).save(path)),
        ("grey.tif", lambda path: Image.fromarray(GREY_16).save(path)),
        ("big.tif", big_endian),
        ("grey.pgm", pgm),
        ("int32.tif", lambda path: Image.fromarray(GREY_16.astype(np.int32)).save(path)),
        ("float.tif", lambda path: Image.fromarray((GREY_16 / 65535).astype(np.float32)).save(path)),
    ],
)
def test_deep_grey_is_scaled(tmp_path, name, write):
    write(tmp_path / name)
    expected = np.rint(GREY_16.astype(float) * 255 / 65535).astype(np.uint8)
    image = as_array(photo(tmp_path / name))
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.float32([[0, 255]]), "values go from 0 to 255; float32 pixels must lie from 0 to 1"),
        (np.float32([[-0.5, 1]]), "values go from -0.5 to 1"),
        (np.float32([[0, np.nan]]), "values go from nan to nan"),
        (np.int32([[0, 65536]]), "values go from 0 to 65536; int32 pixels must lie from 0 to 65535"),
        (np.int32([[-1, 5]]), "values go from -1 to 5"),
    ],
)
def test_values_without_a_known_scale_are_refused(tmp_path, values, message):
    path = tmp_path / "deep.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(DataError, match=message) as error:
        photo(path)
    assert str(error.value).startswith(f"{path} cannot be read as an image: ")
    assert "8 bits" in str(error.value)


@pytest.mark.parametrize(("background", "below"), [("white", (255, 255, 255)), ("#204060", (32, 64, 96))])
def test_transparency_shows_the_background(tmp_path, background, below):
    alpha = RNG.integers(0, 256, (6, 8, 1), dtype=np.uint8)
    expected = COLOR * (alpha / 255) + np.array(below) * (1 - alpha / 255)
    Image.fromarray(np.concatenate([COLOR, alpha], axis=2)).save(tmp_path / "rgba.png")
    image = as_array(photo(tmp_path / "rgba.png", background))
    assert np.abs(image - expected).max() <= 1  # Pillow rounds its sum of bytes in another way

    grey = COLOR[..., :1]
    expected = grey * (alpha / 255) + np.array(below) * (1 - alpha / 255)
    Image.fromarray(np.concatenate([grey, alpha], axis=2)).save(tmp_path / "la.png")
    assert np.abs(as_array(photo(tmp_path / "la.png", background)) - expected).max() <= 1


def test_one_value_that_stands_for_transparent_shows_the_background(tmp_path):
    levels = np.array([[0, 100, 200]], dtype=np.uint8)
    palette = Image.fromarray(levels).convert("P")
    for name, image, transparent in (
        ("palette.gif", palette, palette.getpixel((1, 0))),
        ("palette.png", palette, palette.getpixel((1, 0))),
        ("grey.png", Image.fromarray(levels), 100),
        ("rgb.png", Image.fromarray(levels).convert("RGB"), (100, 100, 100)),
        ("deep.png", Image.fromarray(levels.astype(np.uint16) * 257), 25700),
    ):
        image.save(tmp_path / name, transparency=transparent)
        assert as_array(photo(tmp_path / name, "red")).tolist() == [[[0] * 3, [255, 0, 0], [200] * 3]], name


@pytest.mark.parametrize(
    ("bits", "kind", "pixels", "transparent"),
    [
        (1, 0, b"\x40", (1,)),
        (2, 0, b"\x1c", (1,)),  # values 0, 1, 3
        (4, 0, b"\x05\xf0", (5,)),  # values 0, 5, 15
        (16, 0, b"\0\0\x0a\x11\xff\xff", (0x0A11,)),
        (16, 2, b"\0\0" * 3 + b"\x0a\x11\x14\x22\x1e\x33" + b"\xff\xff" * 3, (0x0A11, 0x1422, 0x1E33)),
    ],
)
def test_a_pngs_transparent_color_is_known_whatever_its_depth(tmp_path, bits, kind, pixels, transparent):
    width = 2 if bits == 1 else 3
    path = tmp_path / "key.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0))
        + png_chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
        + png_chunk(b"IDAT", zlib.compress(b"\0" + pixels))
        + png_chunk(b"IEND", b"")
    )
    expected = [[0] * 3, [255, 0, 0], [255] * 3][:width]
    assert as_array(photo(path, "red")).tolist() == [expected]


def test_a_background_that_is_no_color_is_refused():
    for wrong in ("whitish", None, 255, ()):
        with pytest.raises(ParameterError, match=r"background is .*; it must be a colour's name"):
            photo("coffee", wrong)


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width, height):
    """A PNG that says how large it is, and holds nothing."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(100)))


def test_pictures_that_would_fill_the_memory_are_refused(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(50_000, 50_000))
    with pytest.raises(DataError, match=r"bomb.png cannot be .* more than 178,956,970 pixels; scale it down"):
        photo(tmp_path / "bomb.png")


def test_the_pictures_of_large_cameras_are_read_without_a_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300 * 451 - 1)
    assert photo("chelsea").shape == (1, 3, 300, 451)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "tga", "jp2"])
@pytest.mark.parametrize("share", [0.03, 0.3, 0.6])
def test_truncated_files_are_one_clear_error(tmp_path, suffix, share):
    stream = io.BytesIO()
    image = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    image.save(stream, "JPEG" if suffix == "jpg" else Image.registered_extensions()[f".{suffix}"])
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(stream.getvalue()[: int(share * len(stream.getvalue()))])
    if suffix == "jp2" and share > 0.5:
        return  # JPEG 2000 is made to be cut off: what is there is the whole picture, less sharp
    with pytest.raises(
        DataError, match=rf"cut.{suffix} cannot be read as an image: .+ save it as PNG or JPEG"
    ):
        photo(path)


def test_damaged_files_end_in_no_other_error(tmp_path):
    for suffix in ("png", "tif", "gif", "webp", "bmp"):
        path = tmp_path / f"x.{suffix}"
        Image.fromarray(COLOR).save(path)
        content = path.read_bytes()
        for _ in range(40):
            damaged = bytearray(content)
            for place in RNG.integers(0, len(content), 4):
                damaged[place] = RNG.integers(0, 256)
            path.write_bytes(damaged)
            try:
                photo(path)
            except DataError as error:
                assert str(error).startswith(f"{path} cannot be read as an image: ")  # noqa: PT017


def fill(folder, pictures):
    """Write {"class/name.png": (H, W) or (H, W, 3) uint8} under a folder."""
    for name, pixels in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)


@pytest.fixture
def folder(tmp_path):
    """Two classes, two pictures each, no two sizes alike."""
    fill(
        tmp_path,
        {
            "dog/b.png": COLOR,
            "dog/a.png": np.ascontiguousarray(COLOR.transpose(1, 0, 2)),
            "cat/2.bmp": COLOR[:4],
            "cat/10.PNG": COLOR[..., 0],
        },
    )
    return tmp_path


def read(folder, **arguments):
    return from_folder(folder, **{"progress": False, **arguments})


def test_a_folder_of_digits_is_the_data_set_again(tmp_path):
    data = load("mnist", "test")[:100]
    fill(tmp_path, {f"{y}/{i:03}.png": x[0].numpy() for i, (x, y) in enumerate(zip(*data, strict=True))})
    order = data.labels.sort(stable=True).indices
    images, names = read(tmp_path)
    assert names == tuple("0123456789")
    assert torch.equal(images.images, data.images[order])
    assert torch.equal(images.labels, data.labels[order])
    colour, _ = read(tmp_path, channels=3)
    assert torch.equal(colour.images, data.images[order].expand(-1, 3, -1, -1))


def test_classes_and_files_are_sorted_by_name(folder, monkeypatch):
    data, names = read(folder, size=8, channels=3)
    assert names == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(data.images[3, :, 1:7].permute(1, 2, 0), COLOR)  # dog/b.png
    np.testing.assert_array_equal(data.images[0, :, 1:7, :], [COLOR[..., 0]] * 3)  # 10.PNG before 2.bmp
    listing = type(folder).iterdir
    for shuffled in (lambda path: reversed(list(listing(path))), lambda path: sorted(listing(path))):
        monkeypatch.setattr(type(folder), "iterdir", shuffled)
        again, _ = read(folder, size=8, channels=3)
        assert torch.equal(again.images, data.images)
        assert torch.equal(again.labels, data.labels)


def antialiased(pixels, height, width):
    """The oracle: torch's own antialiased bilinear scaling, (H, W, 3) → (3, height, width) float."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].double()
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)[0]


@pytest.mark.parametrize("name", ["chelsea", "coffee"])  # 300 × 451 and 400 × 600
def test_pictures_are_fitted_whole_or_cropped(tmp_path, name):
    pixels = as_array(photo(name))
    fill(tmp_path, {"a/wide.png": pixels, "b/tall.png": np.ascontiguousarray(pixels.transpose(1, 0, 2))})
    data, _ = read(tmp_path, size=64, channels=3, background="#102030")
    height = round(64 * pixels.shape[0] / pixels.shape[1])
    top = (64 - height) // 2
    expected = torch.tensor([16, 32, 48.0]).double().reshape(3, 1, 1).repeat(1, 64, 64)
    expected[:, top : top + height] = antialiased(pixels, height, 64)
    assert (data.images[0] - expected).abs().max() <= 1
    assert (data.images[1] - expected.transpose(1, 2)).abs().max() <= 1

    grey, _ = read(tmp_path, size=64, background="#102030")
    luma = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]).double(), expected, dims=1)
    assert (grey.images[0, 0] - luma).abs().max() <= 1.5  # rounded twice

    side = pixels.shape[0]
    cropped, _ = read(tmp_path, size=64, channels=3, crop=True)
    left = (pixels.shape[1] - side) // 2
    expected = antialiased(pixels[:, left : left + side], 64, 64)
    assert (cropped.images[0] - expected).abs().max() <= 1
    assert (cropped.images[1] - cropped.images[0].transpose(1, 2).int()).abs().max() <= 1


def test_small_pictures_are_scaled_up_and_thin_ones_keep_a_line(tmp_path):
    fill(tmp_path, {"a/dot.png": np.uint8([[7]]), "b/line.png": np.zeros((1, 900), np.uint8)})
    data, _ = read(tmp_path)
    assert (data.images[0] == 7).all()
    assert (data.images[1, 0] == 0).sum(dim=1).tolist() == [0] * 13 + [28] + [0] * 14
    data, _ = read(tmp_path, crop=True)
    assert (data.images[1] == 0).all()


def test_a_folder_is_read_as_a_photograph_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    Image.fromarray(COLOR).save(tmp_path / "a" / "turned.png", exif=exif)
    Image.fromarray(GREY_16).save(tmp_path / "a" / "deep.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "b" / "clear.png")
    data, _ = read(tmp_path, size=8, channels=3, background="lime")
    assert torch.equal(data.images[0, :, 1:7], photo(tmp_path / "a" / "deep.png")[0])
    assert torch.equal(data.images[1, :, :, 1:7], photo(tmp_path / "a" / "turned.png")[0])
    assert data.images[2].flatten(1).unique(dim=1).flatten().tolist() == [0, 255, 0]


def animated(path):
    frames = [Image.fromarray(COLOR), Image.fromarray(255 - COLOR)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def pages(path):
    Image.fromarray(COLOR).save(path, save_all=True, append_images=[Image.fromarray(255 - COLOR)])


def palette_with_alphas(path):
    picture = Image.fromarray(COLOR).quantize(8)
    picture.save(path, transparency=bytes(range(0, 256, 32)))


ODD = {
    "animated.gif": animated,
    "animated.webp": lambda path: Image.fromarray(COLOR).save(
        path, lossless=True, save_all=True, append_images=[Image.fromarray(255 - COLOR)]
    ),
    "pages.TIFF": pages,
    "print.jpg": lambda path: Image.fromarray(COLOR).convert("CMYK").save(path, quality=95),
    "print.tif": lambda path: Image.fromarray(COLOR).convert("CMYK").save(path),
    "palette.PNG": lambda path: Image.fromarray(COLOR).quantize(8).save(path),
    "alphas.png": palette_with_alphas,
    "one-bit.png": lambda path: Image.fromarray(COLOR).convert("1").save(path),
    "lab.tif": lambda path: Image.fromarray(COLOR).convert("LAB").save(path),
    "ycbcr.JPEG": lambda path: Image.fromarray(COLOR).convert("YCbCr").save(path, quality=95),
    "a png that says.jpg": lambda path: Image.fromarray(COLOR).save(path, "PNG"),
    "Größe – 数字.Jpg": lambda path: Image.fromarray(COLOR).save(path, quality=95),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_read_as_pillow_reads_their_first_frame(tmp_path, name):
    for each in ("ä", "b"):
        (tmp_path / each).mkdir()
    ODD[name](tmp_path / "ä" / name)
    (tmp_path / "b" / "link.png").symlink_to(tmp_path / "ä" / name)
    with Image.open(tmp_path / "ä" / name) as picture:
        clear = picture.convert("RGBA") if "transparency" in picture.info else picture.convert("RGB")
    expected = Image.new("RGB", clear.size, "white")
    expected.paste(clear, mask=clear if clear.mode == "RGBA" else None)
    data, names = read(tmp_path, size=8, channels=3)
    assert names == ("b", "ä")
    assert torch.equal(data.images[0], data.images[1])  # the link is what it points to
    difference = data.images[1, :, 1:7].permute(1, 2, 0).int() - torch.from_numpy(np.array(expected)).int()
    assert difference.abs().max() <= 1


def test_large_jpegs_look_as_if_decoded_whole(tmp_path):
    image = Image.open(DATA / "photos" / "astronaut.png").resize((1024, 1024))
    for name in ("a/x.bmp", "b/x.jpg"):
        (tmp_path / name).parent.mkdir()
        image.save(tmp_path / name, quality=95)
    whole, quick = read(tmp_path, size=100, channels=3)[0].images.int()
    assert (whole - quick).abs().float().mean() < 1
    assert (whole - quick).abs().max() <= 8


def test_what_belongs_to_the_system_is_ignored_and_the_rest_is_told(folder, capsys):
    data, names = read(folder)
    for name in (".DS_Store", "dog/Thumbs.db", "dog/._a.png", "cat/desktop.ini"):
        (folder / name).write_bytes(b"x")
    system = (
        "__MACOSX",
        "__pycache__",
        "$RECYCLE.BIN",
        "dog/@eaDir",
        "lost+found",
        "System Volume Information",
    )
    for name in (".git", ".ipynb_checkpoints", "dog/.ipynb_checkpoints", *system):
        (folder / name).mkdir()
    again, same = read(folder)
    assert capsys.readouterr().out == ""
    assert same == names
    assert torch.equal(again.images, data.images)
    for i in range(6):
        (folder / "cat" / f"note{i}.txt").write_text("x")
    fill(folder, {"lost.png": COLOR})
    again, same = read(folder)
    expected = "lost.png, cat/note0.txt, cat/note1.txt, cat/note2.txt, cat/note3.txt and 2 more"
    assert capsys.readouterr().out == f"Left out of {folder}: {expected}.\n"
    assert same == names
    assert torch.equal(again.images, data.images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (f / "cat" / "zero.jpg").touch(),
            r"zero\.jpg cannot be read as an image: it is empty; copy",
        ),
        (lambda f: (f / "cat" / "bad.jpg").write_text("x"), r"cat/bad\.jpg cannot be read as an image: "),
        (
            lambda f: (f / "cat" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic"),
            r"IMG_1\.HEIC cannot be read as an image: .*; open and save it as PNG or JPEG",
        ),
        (lambda f: (f / "cat" / "bomb.png").write_bytes(png_header(50_000, 50_000)), "bomb.png .* scale it"),
        (lambda f: (f / "cat" / "gone.png").symlink_to("nowhere"), r"gone\.png cannot be read as an image"),
        (lambda f: (f / "cat" / "loop.png").symlink_to("loop.png"), r"loop\.png cannot be read as an image"),
        (lambda f: (f / "eel").mkdir(), r"there are no pictures \(\.avif, .*\) in eel; put some there, or"),
        (lambda f: fill(f, {"eel/big/x.png": COLOR}), r"eel/big is a folder inside the class folder 'eel'; "),
        (lambda f: (f / "cat" / "up").symlink_to(f), r"cat/up is a folder inside the class folder 'cat'"),
        (lambda f: (f / "self").symlink_to(f), r"self/cat is a folder inside the class folder 'self'"),
        (lambda f: (f / "cat").rename(f / ".cat"), r"has only one class folder, 'dog'; it must hold two"),
        (lambda f: [(f / c).rename(f / f".{c}") for c in ("cat", "dog")], "has no class folders; it must"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(folder, change, message):
    change(folder)
    with pytest.raises(DataError, match=message):
        read(folder)


def test_a_folder_that_is_none_is_refused(folder):
    with pytest.raises(DataError, match="nowhere does not exist; name a folder that holds one folder"):
        read(folder / "nowhere")
    with pytest.raises(DataError, match=r"a\.png is a file \(unpack an archive first\); name a folder"):
        read(folder / "dog" / "a.png")
    with pytest.raises(ParameterError, match="size is 0; it must be a whole number, 1 or more"):
        read(folder, size=0)
    with pytest.raises(ParameterError, match="channels is 4; it must be 1"):
        read(folder, channels=4)
    for wrong in (1.0, True, "3"):
        with pytest.raises(ParameterError, match=r"channels is .*; it must be a whole number"):
            read(folder, channels=wrong)
    for wrong in (None, 3, [folder]):
        with pytest.raises(ParameterError, match=r"folder is an? .*; it must be a path"):
            read(wrong)
    with pytest.raises(ParameterError, match="name is a NoneType; it must be a path"):
        photo(None)
    with pytest.raises(ParameterError, match="background is 'whitish'"):
        read(folder, background="whitish")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may list every folder")
def test_a_folder_that_may_not_be_listed_is_named(folder):
    (folder / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match=r"cat cannot be listed \(Permission denied\)"):
            read(folder)
    finally:
        (folder / "cat").chmod(0o700)


def test_too_large_a_data_set_is_refused_before_any_picture_is_read(folder, monkeypatch):
    def no_memory(*_, **__):
        raise AssertionError("memory was taken")

    monkeypatch.setattr(torch, "empty", no_memory)
    monkeypatch.setattr(pictures, "_read", no_memory)
    message = (
        r"4 images of 3 × 20000 × 20000 pixels take 4\.5 GB of memory; they may take 2 GB: choose a smaller "
        "size or fewer pictures"
    )
    with pytest.raises(DataError, match=message):
        read(folder, size=20_000, channels=3)


def test_many_pictures_show_how_far_they_are(folder, capsys, monkeypatch):
    monkeypatch.setattr("cnnlib.ground.progress.LOG_SECONDS", 0)
    for i in range(300):
        (folder / "cat" / f"copy{i}.bmp").write_bytes((folder / "cat" / "2.bmp").read_bytes())
    data, _ = from_folder(folder)
    captured = capsys.readouterr()
    assert len(data) == 304
    assert "304 of 304 pictures" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(("name", "size"), [("simple_cnn", 28), ("resnet_small", 20), ("vgg_small_bn", 40)])
def test_own_pictures_train_a_model(tmp_path, name, size):
    reds = RNG.integers(0, 90, (40, 9, 12, 3), dtype=np.uint8)
    for i, pixels in enumerate(reds):
        pixels[..., i % 2 * 2] += 160  # red or blue
        fill(tmp_path, {f"{('red', 'blue')[i % 2]}/{i}.png": pixels})
    data, names = read(tmp_path, size=size, channels=3)
    train, val = split(data, 8)
    model = make_model(name, in_channels=3, num_classes=len(names))
    history = fit(model, train, val, epochs=2, batch_size=8, device="cpu", progress=False)
    assert history["train_loss"][1] < history["train_loss"][0]


def test_what_the_system_will_not_open_is_not_called_a_picture(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read as an image: .*; name a file that you may read"):
        photo(tmp_path)

"""Pictures: the course's photographs, a person's own image files, and folders of them as a data set."""

import warnings
from pathlib import Path

import numpy as np
import torch

from cnnlib.data.datasets import Dataset
from cnnlib.ground.env import DATA
from cnnlib.ground.errors import DataError, ParameterError, check_whole
from cnnlib.ground.files import as_path
from cnnlib.ground.progress import progress_bar

SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
"""How pictures' names end. One that Pillow cannot read (an iPhone's .heic) is refused, not left out."""
MAX_BYTES = 2 << 30
"""Largest data set that `from_folder` makes: `split` copies it, and a small laptop has 8 GB."""
_SYSTEM_FILES = {
    *("desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"),
    *("$recycle.bin", "#recycle", "@eadir", "__macosx", "__pycache__"),  # and folders, of network drives too
    *("lost+found", "system volume information"),
}


def photo_names():
    """Return the names of the photographs in `data/photos`, sorted."""
    return sorted(path.stem for path in (DATA / "photos").iterdir())


def photo(name, background="white"):
    """Load a photograph, upright as its EXIF orientation says.

    Grey pictures of 16 or 32 bits are scaled from 0–65535, those of floats from 0–1, to 0–255. Of several
    frames or pages the first is taken.

    Args:
        name: one of `photo_names()`, or a path to an image file of your own.
        background: what shows through transparent pixels: a colour's name, or "#rrggbb".

    Returns:
        (1, 3, H, W) uint8; a grey photograph has three equal channels.

    Raises:
        ParameterError: `background` is no colour, or `name` neither a name nor a path.
        DataError: there is no such photograph, or the file cannot be read as an image: it is none, it is
            cut off, it has more than about 179 million pixels, or its values lie outside their range.
    """
    color = _color(background)
    path = next((p for p in (DATA / "photos").glob("*") if p.stem == str(name)), as_path("name", name))
    if not path.exists():
        raise DataError(f"there is no photograph {str(name)!r}; choose one of {photo_names()} or a file")
    pixels = np.array(_read(path, color))  # (H, W, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def from_folder(folder, size=28, channels=1, background="white", crop=False, progress=True):
    """Read a folder of pictures, one sub-folder a class, as a data set.

        data, names = from_folder("flowers", size=32, channels=3)
        train, val = split(data, len(data) // 5)
        model = make_model("resnet_small", in_channels=3, num_classes=len(names))

    Each picture is read as `photo` reads it, scaled to fit size × size pixels (bilinear, with antialiasing),
    and stands whole in the middle of the background. Large JPEGs are decoded at a fraction of their size,
    which is quicker. The order is that of the names of classes and files. Hidden files and the system's
    (.DS_Store, Thumbs.db, __MACOSX) are ignored; what else is no picture, or lies in no class, is left out
    and printed.

    Args:
        folder: path; each of its folders holds the pictures of the class that it is named after.
        size: height and width of the images in pixels, at least 1.
        channels: 1 grey (luma: 0.299 R + 0.587 G + 0.114 B), 3 colour.
        background: what fills the rim and shows through transparent pixels: a colour's name, or "#rrggbb".
        crop: take the largest square in the middle of each picture, which leaves no rim.
        progress: whether to show a progress bar.

    Returns:
        (data, names): Dataset of images (N, channels, size, size) and labels 0 to K − 1, and the K names of
        the classes in the order of the labels, a tuple of str. A test set must give the same names.

    Raises:
        ParameterError: an argument outside its range.
        DataError: there is no such folder, it has fewer than two classes, a class has no pictures or holds a
            folder, the images would take more than 2 GB, or a picture cannot be read. The message names it.
    """
    size = check_whole("size", size)
    channels = check_whole("channels", channels)
    if channels not in (1, 3):
        raise ParameterError(f"channels is {channels!r}; it must be 1 (grey) or 3 (colour)")
    color = _color(background)
    classes, others = _classes(as_path("folder", folder))
    files = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
    total = len(files) * channels * size**2
    if total > MAX_BYTES:
        raise DataError(
            f"{folder}: {len(files):,} images of {channels} × {size} × {size} pixels take "
            f"{total / 2**30:,.1f} GB of memory; they may take {MAX_BYTES / 2**30:.1g} GB: choose a smaller "
            "size or fewer pictures"
        )
    if others:
        print(f"Left out of {folder}: {_some(others)}.")

    images = torch.empty(len(files), channels, size, size, dtype=torch.uint8)
    with progress_bar(len(files), "picture", show=progress) as bar:
        for row, (path, _) in zip(images, files, strict=True):
            picture = _square(_read(path, color, least=4 * size), size, color, crop)
            pixels = np.array(picture.convert("L") if channels == 1 else picture)
            row[:] = torch.from_numpy(pixels).reshape(size, size, channels).permute(2, 0, 1)
            bar.update()
    return Dataset(images, torch.tensor([label for _, label in files])), tuple(classes)


def _classes(folder):
    """Return {class: its pictures' paths}, both sorted by name, and the names of what is no part of it."""
    if not folder.is_dir():
        problem = "is a file (unpack an archive first)" if folder.is_file() else "does not exist"
        raise DataError(f"{folder} {problem}; name a folder that holds one folder of pictures a class")
    # Sorted as strings: file systems list in any order, and Windows compares paths without regard to case.
    top = _listing(folder)
    classes, others = {}, [path.name for path in top if not path.is_dir()]
    for each in filter(Path.is_dir, top):
        inside = _listing(each)
        nested = next(filter(Path.is_dir, inside), None)
        if nested:
            raise DataError(
                f"{nested} is a folder inside the class folder {each.name!r}; pictures must lie directly in "
                f"their class's folder: move them there, or call from_folder({str(each)!r}) if its folders "
                "are the classes"
            )
        classes[each.name] = [path for path in inside if path.suffix.lower() in SUFFIXES]
        others += [f"{each.name}/{path.name}" for path in inside if path.suffix.lower() not in SUFFIXES]
    if len(classes) < 2:
        found = f"only one class folder, {next(iter(classes))!r}" if classes else "no class folders"
        raise DataError(
            f"{folder} has {found}; it must hold two or more, each named after its class and holding its "
            "pictures"
        )
    empty = [name for name, paths in classes.items() if not paths]
    if empty:
        raise DataError(
            f"{folder}: there are no pictures ({', '.join(sorted(SUFFIXES))}) in {_some(empty)}; "
            "put some there, or take the folder away"
        )
    return classes, others


def _listing(folder):
    """Return the paths in a folder, sorted by name, without the hidden ones and the system's."""
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}); see who may read it") from None
    return [p for p in paths if not p.name.startswith(".") and p.name.lower() not in _SYSTEM_FILES]


def _some(names):
    """Name the first few, and count the others."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _square(picture, size, color, crop):
    """Return a picture, or the square in its middle, fitted into size × size pixels."""
    from PIL import Image

    if crop:
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        picture = picture.crop((left, top, left + side, top + side))
    scale = size / max(picture.size)
    width, height = (max(1, round(scale * length)) for length in picture.size)
    square = Image.new("RGB", (size, size), color)
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
    square.paste(scaled, ((size - width) // 2, (size - height) // 2))
    return square


def _color(background):
    """Return a colour's (red, green, blue), each 0 to 255."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(background)[:3]
    except (AttributeError, TypeError, ValueError):
        raise ParameterError(
            f'background is {background!r}; it must be a colour\'s name or "#rrggbb", such as "white"'
        ) from None


def _read(path, color, least=None):
    """Return a picture as Pillow's RGB image: upright, opaque, 8 bits a channel.

    A file of which only `least` pixels a side are needed may be decoded at a half, a quarter or an eighth of
    its size, which JPEG allows: several times as fast for a telephone's pictures.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Of odd metadata, and from 89 million pixels on: cameras make both. What matters is an error:
            # damaged pixels, and twice as many of them, which may be a file made to fill the memory.
            warnings.simplefilter("ignore")
            if not Path(path).stat().st_size:
                raise DataError("it is empty; copy or download it once more, or take it away")
            # Of a file with a name Pillow maps the pixels, and those of a lying TIFF at a wrong width.
            with open(path, "rb") as file, Image.open(file) as image:
                if least is not None:
                    image.draft(None, (least, least))
                return _flatten(_eight_bits(_upright(image)), color)
    except Image.DecompressionBombError:
        problem = f"it has more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels; scale it down"
    except Image.UnidentifiedImageError:
        problem = "it is of no format that Pillow knows; open and save it as PNG or JPEG"
    except DataError as error:
        problem = str(error)
    except OSError as error:
        # Pillow's own have no number; the system's say that it is a folder, or that nobody may read it.
        problem = f"{error.strerror or error}; "
        problem += "name a file that you may read" if error.errno else "open and save it as PNG or JPEG"
    except Exception as error:  # a damaged file ends in whatever error its decoder stumbles over
        problem = f"{str(error).strip() or type(error).__name__}; open and save it as PNG or JPEG"
    raise DataError(f"{path} cannot be read as an image: {problem}")


def _load(image):
    """Read an image's pixels; a PNG's one transparent color, told in the file's bits, gets the pixels' 8."""
    rawmode = image.tile[0][3] if image.tile else None
    image.load()
    color = image.info.get("transparency")
    if color is not None and rawmode in ("L;2", "L;4"):
        image.info["transparency"] = color * (85 if rawmode == "L;2" else 17)
    elif color is not None and rawmode == "RGB;16B":  # of each value Pillow keeps the upper byte
        image.info["transparency"] = tuple(value >> 8 for value in color)


def _upright(image):
    """Turn an image as its EXIF orientation says; metadata that is damaged says nothing."""
    from PIL import ExifTags, Image

    _load(image)  # this turns a TIFF
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # ImageOps.exif_transpose would refuse the whole picture
        return image
    turns = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM")  # for 2, 3, 4 …
    turns += ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
    turn = dict(enumerate(turns, start=2)).get(orientation)
    return image.transpose(Image.Transpose[turn]) if turn else image


def _eight_bits(image):
    """Scale an image of 16 or 32 bits a pixel to 8; Pillow itself would clip it."""
    from PIL import Image

    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    limit = 1 if image.mode == "F" else 65535
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= limit):  # written so that NaN fails too
        raise DataError(
            f"its values go from {low:g} to {high:g}; {values.dtype} pixels must lie from 0 to {limit}: "
            "scale them, or save it with 8 bits a channel"
        )
    scaled = Image.fromarray(np.rint(values * np.float32(255 / limit)).astype(np.uint8))
    if "transparency" in image.info:  # the one value that stands for a transparent pixel
        opaque = values != image.info["transparency"]
        scaled.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return scaled


def _flatten(image, color):
    """Lay an image on a colour where it is transparent, and return it as RGB."""
    from PIL import Image

    if image.mode in ("RGBa", "La"):  # colours multiplied by their alpha
        image = image.convert(image.mode.replace("a", "A"))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        below = Image.new("RGBA", image.size, color)
        image = Image.alpha_composite(below, image.convert("RGBA"))
    return image.convert("RGB")

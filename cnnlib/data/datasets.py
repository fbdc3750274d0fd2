"""The data sets, as uint8 tensors in memory that are batched by indexing."""

import contextlib
import operator
from dataclasses import dataclass

import torch

from cnnlib.data import formats
from cnnlib.ground.env import DATA, best_device
from cnnlib.ground.errors import DataError, ParameterError, check_seed, check_whole, kind_of
from cnnlib.ground.files import as_path, check_sha256

CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
CSV_ROWS = 42_000
_FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
_PREFIXES = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, whole in memory.

    It is indexed as its tensors are: `data[:100]`, `data[permutation]` and `data[labels == 3]` are
    data sets too. `images, labels = data` takes it apart.

    Attributes:
        images: (N, C, H, W) uint8, 0 to 255.
        labels: (N,) int64.

    Raises:
        DataError: another dtype or shape, channels last, or as many images as labels do not come together.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self):
        for name in ("images", "labels"):
            value = getattr(self, name)
            if not isinstance(value, torch.Tensor):
                raise DataError(
                    f"{name} are {kind_of(value)}; they must be a torch.Tensor: torch.as_tensor "
                    "makes one of an array or of a list of numbers; for names of classes, number them first"
                )
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise DataError(
                f"images are {self.images.dtype} of shape {tuple(self.images.shape)}; "
                "they must be uint8 of shape (N, C, H, W)"
            )
        check_channels_first(self.images)
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels are {self.labels.dtype} of shape {tuple(self.labels.shape)}; they must be "
                f"int64 of shape ({len(self.images)},), one for each image"
            )

    def __reduce__(self):  # data[:100] is a view, and a view is pickled with all that it is a view of
        return Dataset, (self.images.clone(), self.labels.clone())

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if getattr(index, "ndim", 0) == 0:  # tensor([3]), an index too, chooses as [3] does
            with contextlib.suppress(TypeError):  # it is no whole number, of Python, NumPy or torch
                place = operator.index(index)
                raise ParameterError(
                    f"data[{place}] is ambiguous; write data.images[{place}], or data[[{place}]] for a data "
                    "set"
                )
        try:
            images, labels = self.images[index], self.labels[index]
            if labels.ndim != 1:
                raise IndexError(f"that makes labels of shape {tuple(labels.shape)}")
        except (IndexError, TypeError, ValueError) as error:
            raise ParameterError(
                f"data[{index!r:.80}] does not choose among {len(self)} images ({error!s:.100}); give a "
                "slice that goes forwards, whole numbers, or a mask of as many bools"
            ) from None
        return Dataset(images, labels)

    def __iter__(self):
        return iter((self.images, self.labels))

    def __repr__(self):
        return f"Dataset({len(self):,} images {tuple(self.images.shape[1:])}, labels {self._range()})"

    def _range(self):
        return f"{self.labels.min()}–{self.labels.max()}" if len(self) else "none"

    def to(self, device):
        """Return the same data on a device, so that batches are cut where they are used.

        Raises:
            ParameterError: this machine has no such device; see `cnnlib.ground.env.best_device`.
        """
        device = best_device(device)
        return Dataset(self.images.to(device), self.labels.to(device))


def check_dataset(name, data, like=False):
    """Check that an argument is a Dataset, or (`like`) has images and labels as one has.

    Raises:
        ParameterError: it is none; the message names the argument and what it is.
    """
    if not (isinstance(data, Dataset) or (like and hasattr(data, "images") and hasattr(data, "labels"))):
        raise ParameterError(
            f"{name} is {kind_of(data)}; it must be a Dataset of cnnlib.data: "
            "Dataset(images, labels), uint8 and int64"
        )


def check_channels_first(images):
    """Refuse images that lie as in the arrays of NumPy and Pillow, which a model without convolutions takes.

    Raises:
        DataError: images (N, H, W, C) for (N, C, H, W).
    """
    channels, height, width = images.shape[1:]
    if width in (1, 3, 4) and min(channels, height) > 4:
        raise DataError(
            f"images have shape {tuple(images.shape)}, their channels last; they must be (N, C, H, W): "
            "images.permute(0, 3, 1, 2)"
        )


def load(name, split="train"):
    """Load one of the two data sets from `data/`, verified against its checksums.

    Args:
        name: "mnist" or "fashion_mnist".
        split: "train" (60,000 images) or "test" (10,000), as published. A validation set is cut from
            "train" with `split`.

    Returns:
        Dataset: images (N, 1, 28, 28), labels 0 to 9.

    Raises:
        ParameterError: an unknown name or split.
        DataError: a file is missing, truncated, changed, or another's.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", sec. III-A;
        Xiao et al. 2017, "Fashion-MNIST".
    """
    if name not in list(_FOLDERS):
        raise ParameterError(f"there is no data set {name!r}; choose one of {list(_FOLDERS)}")
    if split not in list(_PREFIXES):
        raise ParameterError(f"there is no split {split!r}; choose one of {list(_PREFIXES)}")
    stem = DATA / _FOLDERS[name] / "raw" / _PREFIXES[split]
    images = formats.read_idx(f"{stem}-images-idx3-ubyte", ndim=3)
    labels = formats.read_idx(f"{stem}-labels-idx1-ubyte", ndim=1)
    for kind in ("images-idx3", "labels-idx1"):
        check_sha256(f"{stem}-{kind}-ubyte", DATA)
    return Dataset(images.unsqueeze(1), labels.long())  # (N, 28, 28) → (N, 1, 28, 28)


def read_csv(path=None):
    """Read a table of 28 × 28 images such as Kaggle's "Digit Recognizer": a label and 784 pixels a row.

    Other people's forms are read too: the label (or class) first or last; pixels named pixel0 … pixel783,
    pixel1 … pixel784, 1x1 … 28x28, 0 … 783 or 1 … 784, or no header at all, the label first; an index as the
    first column; commas, semicolons, tabs or bars, at the end of a row too; floats such as
    7.0, or 7,0 in quotation marks or between semicolons; Excel's first line "sep=;", and its "Unicode
    Text" (UTF-16); NumPy's savetxt, with spaces; files compressed by gzip, bzip2, xz or zip, whatever they
    are called.

    Args:
        path: the CSV file. Default: `data/mnist.csv`, which is written from MNIST's first 42,000
            training images when it is not there yet.

    Returns:
        Dataset: images (N, 1, 28, 28), labels 0 to 9.

    Raises:
        ParameterError: `path` is no path.
        DataError: the file is missing (the default: and cannot be written), empty, truncated, has other
            columns, a value that is not a whole number, a pixel outside 0 to 255 or a label outside 0 to 9,
            pixels scaled to 0–1, or no labels. The message names the file, the data row (counted from 1,
            empty ones left out), the column, the value, the rule and the way out.
    """
    if path is None:
        path = DATA / "mnist.csv"
        if not path.exists():
            try:
                write_csv(load("mnist")[:CSV_ROWS], path)
            except OSError as error:
                raise DataError(
                    f"{path} is not there yet and cannot be written ({error.strerror}); write it elsewhere, "
                    "write_csv(load('mnist')[:42_000], 'mnist.csv'), and read that: read_csv('mnist.csv')"
                ) from None
        table = formats.read_table(path, "Delete it: it is written anew on the next read.", rows=CSV_ROWS)
    else:
        way_out = 'Use the "Digit Recognizer" train.csv, or a file that cnnlib.data.write_csv wrote.'
        table = formats.read_table(as_path("path", path), way_out)
    return Dataset(table[:, 1:].reshape(-1, 1, 28, 28), table[:, 0].long())


def write_csv(data, path):
    """Write 28 × 28 images as a Kaggle "Digit Recognizer" table; the file appears whole or not at all.

    Args:
        data: Dataset with images (N, 1, 28, 28).
        path: the file to write.

    Raises:
        ParameterError: `data` is no Dataset, or `path` no path.
        DataError: images of another shape, none, or a label outside 0 to 9, which `read_csv` would refuse.
        OSError: the file cannot be written.
    """
    check_dataset("data", data)
    path = as_path("path", path)
    if data.images.shape[1:] != (1, 28, 28) or not len(data):
        raise DataError(
            f"images have shape {tuple(data.images.shape)}; the table holds (N, 1, 28, 28), N > 0"
        )
    lowest, highest = map(int, data.labels.aminmax())
    if lowest < 0 or highest > 9:
        raise DataError(f"labels go from {lowest} to {highest}; the table holds labels from 0 to 9")
    labels = data.labels.to(torch.uint8).unsqueeze(1)
    formats.write_table(torch.cat([labels, data.images.flatten(1)], dim=1).cpu(), path)  # (N, 785)


def split(data, val_size, seed=0):
    """Cut a validation set off a training set, at random.

    Args:
        data: Dataset.
        val_size: how many images the validation set gets, 1 to len(data) − 1.
        seed: int from 0 on; the same seed gives the same split.

    Returns:
        (train, val): two Datasets without a common image.

    Raises:
        ParameterError: `data` is no Dataset, or `val_size` or `seed` outside its range.
    """
    check_dataset("data", data)
    if isinstance(val_size, float) and 0 < val_size < 1:
        raise ParameterError(
            f"val_size is {val_size!r}, a share; it must be a number of images: of {len(data)} that share is "
            f"{round(val_size * len(data))}"
        )
    val_size = check_whole("val_size", val_size)
    if not val_size < len(data):
        raise ParameterError(f"val_size is {val_size!r}; it must be from 1 to {len(data) - 1}")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(check_seed(seed)))
    return data[order[val_size:]], data[order[:val_size]]


def batches(data, batch_size, generator=None):
    """Yield a data set in batches, all images once.

    The data are one tensor, so a batch is one indexing operation. Worker processes, which a
    DataLoader uses to hide slow reading, would only add the cost of moving the batches.

    Args:
        data: Dataset.
        batch_size: images a batch, at least 1; the last batch may be smaller.
        generator: torch.Generator that shuffles; default: in order.

    Yields:
        (images, labels): (B, C, H, W) uint8 and (B,) int64.

    Raises:
        ParameterError: `data` is no Dataset, `batch_size` no whole number from 1 on, or `generator` none of
            the CPU's.

    First built in: notebooks/03_mnist_cnn.ipynb
    """
    check_dataset("data", data, like=True)
    if generator is not None and getattr(generator, "device", None) != torch.device("cpu"):
        raise ParameterError(
            f"generator is {generator!r:.80}; it must be a generator of the CPU: "
            "torch.Generator().manual_seed(0)"
        )
    batch_size, n = check_whole("batch_size", batch_size), len(data)
    if not n:  # torch would split it into one batch of no images
        return
    order = torch.randperm(n, generator=generator) if generator is not None else torch.arange(n)
    for indices in order.to(data.labels.device).split(batch_size):
        yield data.images[indices], data.labels[indices]


def to_float(images, dtype=None):
    """Turn uint8 images 0–255 into float images 0–1.

    Args:
        images: (N, C, H, W) uint8 or float.
        dtype: of the result; None: float32 for bytes, and what floats are.

    Returns:
        float tensor of the same shape.

    Raises:
        DataError: something else, such as whole numbers of another kind, whose scale is unknown.
    """
    if not isinstance(images, torch.Tensor) or not (
        images.dtype == torch.uint8 or images.is_floating_point()
    ):
        found = getattr(images, "dtype", type(images).__name__)
        raise DataError(
            f"images are {found}; they must be a tensor of uint8 0–255 or of floats: of a Dataset take "
            ".images, and torch.as_tensor(pixels, dtype=torch.uint8) makes one of other bytes"
        )
    if images.dtype == torch.uint8:
        return images.to(dtype or torch.float32).div_(255)
    return images.to(dtype or images.dtype)


def channel_stats(images):
    """Return the mean and the standard deviation of each channel over N × H × W, on the scale 0–1.

    Args:
        images: (N, C, H, W) uint8.

    Returns:
        (mean, std): two tuples of C floats. They are exact: counted, not sampled.

    Raises:
        DataError: images of another dtype or shape, or none.

    First built in: notebooks/03_mnist_cnn.ipynb
    """
    if not isinstance(images, torch.Tensor):
        raise DataError(f"images are {kind_of(images)}; they must be a tensor, such as data.images")
    if images.dtype != torch.uint8 or images.ndim != 4 or not images.numel():
        raise DataError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; they must be uint8 of shape "
            "(N, C, H, W), nothing of it 0"
        )
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(dim=1):
        # A uint8 channel holds 256 levels: its histogram gives both moments without rounding.
        share = torch.bincount(channel.flatten(), minlength=256).double().cpu() / channel.numel()
        mean = (share * levels).sum()
        means.append(mean.item())
        stds.append((share * (levels - mean) ** 2).sum().sqrt().item())
    return tuple(means), tuple(stds)

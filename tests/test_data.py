import bz2
import gzip
import hashlib
import io
import lzma
import pickle
import shutil
import zipfile
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch

import cnnlib.data
from cnnlib.data import (
    CLASS_NAMES,
    Dataset,
    batches,
    channel_stats,
    datasets,
    load,
    read_csv,
    split,
    to_float,
    write_csv,
)
from cnnlib.data.formats import read_idx
from cnnlib.ground.env import DATA
from cnnlib.ground.errors import DataError, ParameterError

MD5 = {  # of the published files
    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


@pytest.mark.parametrize("name", MD5)
def test_the_files_are_the_published_ones(name):
    assert hashlib.md5((DATA / name).read_bytes()).hexdigest() == MD5[name]


def test_every_file_in_data_is_as_listed():
    lines = (DATA / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    folders = ("MNIST", "FashionMNIST", "photos", "weights")
    files = [p for folder in folders for p in (DATA / folder).rglob("*") if p.is_file()]
    assert listed == {
        p.relative_to(DATA).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in readme and digest in readme for name, digest in listed.items())


@pytest.mark.parametrize(("name", "class_name"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
@pytest.mark.parametrize(("part", "size"), [("train", 60_000), ("test", 10_000)])
def test_load_agrees_with_torchvision(name, class_name, part, size):
    theirs = getattr(import_module("torchvision.datasets"), class_name)(DATA, train=part == "train")
    ours = load(name, part)
    assert ours.images.shape == (size, 1, 28, 28)
    assert torch.equal(ours.images[:, 0], theirs.data)
    assert torch.equal(ours.labels, theirs.targets)
    assert list(CLASS_NAMES[name]) == [c.split(" - ")[0] for c in theirs.classes]


def test_unknown_names_are_refused():
    with pytest.raises(ParameterError, match="no data set 'cifar'"):
        load("cifar")
    with pytest.raises(ParameterError, match="no split 'val'"):
        load("mnist", "val")


@pytest.fixture
def copied_data(tmp_path, monkeypatch):
    """The test half of MNIST in a folder of its own, where it may be damaged."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (DATA / "MNIST" / "raw").glob("t10k*"):
        shutil.copy(file, raw)
    shutil.copy(DATA / "SHA256SUMS", tmp_path)
    monkeypatch.setattr(cnnlib.data.datasets, "DATA", tmp_path)
    return raw


def damage(how, raw):
    images, labels = raw / "t10k-images-idx3-ubyte", raw / "t10k-labels-idx1-ubyte"
    content = images.read_bytes()
    if how == "missing":
        images.unlink()
    elif how == "empty":
        images.write_bytes(b"")
    elif how == "truncated":
        images.write_bytes(content[:-1])
    elif how == "short header":
        images.write_bytes(content[:9])
    elif how == "too long":
        images.write_bytes(content + b"0")
    elif how == "swapped":
        images.write_bytes(labels.read_bytes())
        labels.write_bytes(content)
    elif how == "another format":
        images.write_bytes(b"\x1f\x8b\x08" + content)
    elif how == "changed":
        images.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "another data set":
        shutil.copy(DATA / "FashionMNIST" / "raw" / images.name, images)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "cannot be read"),
        ("empty", "is no IDX file"),
        ("truncated", "has 7,840,015 bytes; its header asks for 7,840,016"),
        ("short header", "has 9 bytes"),
        ("too long", "has 7,840,017 bytes"),
        ("swapped", r"has 1 axes \(labels\), expected 3 \(images\): are two files swapped"),
        ("another format", "is no IDX file"),
        ("changed", "SHA-256"),
        ("another data set", "SHA-256"),
    ],
)
def test_a_damaged_file_is_named_with_the_rule_and_the_way_out(copied_data, how, message):
    load("mnist", "test")
    damage(how, copied_data)
    with pytest.raises(DataError, match=message) as error:
        load("mnist", "test")
    assert "t10k-images-idx3-ubyte" in str(error.value)
    assert "git checkout" in str(error.value)


def test_read_idx_gives_a_tensor_of_the_right_shape():
    images = read_idx(DATA / "MNIST" / "raw" / "t10k-images-idx3-ubyte", ndim=3)
    assert images.shape == (10_000, 28, 28)
    assert images.dtype == torch.uint8


def test_a_data_set_is_indexed_like_its_tensors(blobs):
    assert len(blobs[:7]) == 7
    assert (blobs[blobs.labels == 2].labels == 2).all()
    images, labels = blobs[torch.tensor([5, 3])]
    assert torch.equal(images, blobs.images[[5, 3]])
    assert labels.tolist() == [2, 0]
    assert repr(blobs) == "Dataset(120 images (1, 28, 28), labels 0–2)"
    assert repr(blobs[:0]) == "Dataset(0 images (1, 28, 28), labels none)"
    for index in (-3, np.int64(-3), torch.tensor(-3)):
        with pytest.raises(ParameterError, match=r"ambiguous; write data.images\[-3\], or data\[\[-3\]\]"):
            blobs[index]
    for one in ([-3], torch.tensor([-3]), np.array([-3])):
        assert torch.equal(blobs[one].images, blobs.images[-3:-2])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), "images are torch.float32"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"shape \(2, 4, 4\)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"shape \(3,\)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), "labels are torch.float32"),
    ],
)
def test_a_data_set_of_wrong_tensors_is_refused(images, labels, message):
    with pytest.raises(DataError, match=message):
        Dataset(images, labels)


def test_csv_is_written_on_first_use_with_the_training_images(tmp_path, monkeypatch):
    for name in ("MNIST", "SHA256SUMS"):
        (tmp_path / name).symlink_to(DATA / name)
    monkeypatch.setattr(cnnlib.data.datasets, "DATA", tmp_path)
    table = read_csv()
    mnist = load("mnist")
    assert torch.equal(table.images, mnist.images[:42_000])
    assert torch.equal(table.labels, mnist.labels[:42_000])
    head = pd.read_csv(tmp_path / "mnist.csv", nrows=5)
    assert list(head.columns) == ["label"] + [f"pixel{i}" for i in range(784)]
    lines = (tmp_path / "mnist.csv").read_text().splitlines(keepends=True)
    assert len(lines) == 42_001
    (tmp_path / "mnist.csv").write_text("".join(lines[:100]))
    with pytest.raises(DataError, match=r"has 99 rows, expected 42,000. Delete it"):
        read_csv()


@pytest.fixture
def table(blobs, tmp_path):
    path = tmp_path / "train.csv"
    write_csv(blobs, path)
    return path


def test_csv_round_trip(table, blobs):
    read = read_csv(table)
    assert torch.equal(read.images, blobs.images)
    assert torch.equal(read.labels, blobs.labels)


def edit(row, column, value):
    def change(text):
        lines = [line.split(",") for line in text.splitlines()]
        lines[row][column] = value
        return "\n".join(map(",".join, lines)) + "\n"

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit(4, 10, "256"), r"data row 4, column pixel9: the value is '256'.* a pixel .* from 0 to 255"),
        (edit(4, 10, "-1"), "data row 4, column pixel9: the value is '-1'"),
        (edit(4, 10, "7.5"), "data row 4, column pixel9: the value is '7.5'"),
        (edit(4, 10, "inf"), "data row 4, column pixel9: the value is 'inf'"),
        (edit(4, 10, "black"), "data row 4, column pixel9: the value is 'black'"),
        (edit(4, 10, ""), "data row 4, column pixel9: the value is missing"),
        (edit(4, 10, "NaN"), "data row 4, column pixel9: the value is missing"),
        (edit(9, 0, "10"), r"data row 9, column label: the value is '10'.* a label .* from 0 to 9"),
        (edit(0, 0, "digit"), "number 1, 'digit' where 'label' belongs"),
        (edit(0, 5, "pixel5"), "where 'pixel4' belongs"),
        (
            lambda text: text[: len(text) * 2 // 3],
            r"column pixel\d+: the value is missing \(was the file cut",
        ),
        (lambda text: text.replace("\n", ",1\n", 2).replace(",1\n", "\n", 1), "more values than the header"),
        (edit(5, 784, "0,0"), "more values than the header"),
        (lambda text: "", "is empty"),
        (lambda text: text.splitlines()[0] + "\n", "no rows"),
        (
            lambda text: "\n".join(x.split(",", 1)[1] for x in text.splitlines()),
            "test.csv, which has no labels",
        ),
        (lambda text: "\n".join(x.rsplit(",", 1)[0] for x in text.splitlines()), "has 784 columns"),
        (lambda text: "<html><body>Sign in</body></html>\n", "has 1 columns"),
    ],
)
def test_a_wrong_table_is_refused_with_file_value_rule_and_way_out(table, change, message):
    table.write_text(change(table.read_text()))
    with pytest.raises(DataError, match=message) as error:
        read_csv(table)
    assert str(error.value).startswith(str(table))
    assert "train.csv" in str(error.value).split(": ", 1)[1]


def as_frame(data, names=None):
    """The table of a data set as a pandas frame, the label first, columns named as given."""
    columns = names or [f"pixel{i}" for i in range(784)]
    frame = pd.DataFrame(data.images.flatten(1).numpy(), columns=columns)
    frame.insert(0, "label", data.labels.numpy())
    return frame


def label_last(frame):
    return frame[[*frame.columns[1:], "label"]]


FROM_1 = [f"pixel{i}" for i in range(1, 785)]
GRID = [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)]
TABLES = {
    "1x1 to 28x28": lambda data, path: as_frame(data, GRID).to_csv(path, index=False),
    "pixel1 to pixel784": lambda data, path: as_frame(data, FROM_1).to_csv(path, index=False),
    "bare numbers": lambda data, path: as_frame(data, list(range(784))).to_csv(path, index=False),
    "an array as a frame": lambda data, path: as_frame(data).to_csv(
        path, index=False, header=list(range(785))
    ),
    "no header": lambda data, path: as_frame(data).to_csv(path, index=False, header=False),
    "the label last": lambda data, path: label_last(as_frame(data)).to_csv(path, index=False),
    "class for label, last": lambda data, path: (
        label_last(as_frame(data, FROM_1)).rename(columns={"label": "class"}).to_csv(path, index=False)
    ),
    "capitals and spaces": lambda data, path: as_frame(data).to_csv(
        path, index=False, header=["Label", *(f" Pixel{i}" for i in range(784))]
    ),
    "floats": lambda data, path: as_frame(data).astype(float).to_csv(path, index=False),
    "floats without a header": lambda data, path: np.savetxt(path, as_frame(data), "%.1f", delimiter=","),
    "semicolons": lambda data, path: as_frame(data).to_csv(path, index=False, sep=";"),
    "tabs without a header": lambda data, path: as_frame(data).to_csv(
        path, index=False, header=False, sep="\t"
    ),
    "bars": lambda data, path: as_frame(data).to_csv(path, index=False, sep="|"),
    "quotes after a space": lambda data, path: path.write_text(
        as_frame(data).to_csv(index=False, quoting=1).replace(",", ", ")
    ),
    "quotes without a header, a byte-order mark": lambda data, path: as_frame(data).to_csv(
        path, index=False, header=False, quoting=1, encoding="utf-8-sig"
    ),
    "Windows' line ends": lambda data, path: path.write_text(
        as_frame(data).to_csv(index=False).replace("\n", "\r\n"), newline=""
    ),
    "two separators at the end of each row": lambda data, path: path.write_text(
        as_frame(data).to_csv(index=False).replace("\n", ",,\n")
    ),
    "a separator at the end of each row but the header's": lambda data, path: path.write_text(
        as_frame(data).to_csv(index=False).replace("\n", ",\n").replace(",\n", "\n", 1)
    ),
    "a separator at the end of the header alone": lambda data, path: path.write_text(
        as_frame(data).to_csv(index=False).replace("\n", ",\n", 1)
    ),
    "blank lines": lambda data, path: path.write_text(
        "\n" + as_frame(data).to_csv(index=False).replace("\n", "\n\n")
    ),
    "an ImageId": lambda data, path: as_frame(data).to_csv(path, index_label="ImageId"),
    "quotes": lambda data, path: as_frame(data).to_csv(path, index=False, sep=";", quoting=1),
    "a byte-order mark": lambda data, path: as_frame(data).to_csv(path, index=False, encoding="utf-8-sig"),
    "a separator at the end of each row": lambda data, path: path.write_text(
        as_frame(data).to_csv(index=False, sep=";").replace("\n", ";\r\n"), newline=""
    ),
    "the same without a header": lambda data, path: path.write_text(
        as_frame(data).to_csv(index=False, header=False).replace("\n", ",\n")
    ),
    "old Mac's line ends": lambda data, path: path.write_text(
        as_frame(data).to_csv(index=False).replace("\n", "\r"), newline=""
    ),
    "Excel's Unicode Text": lambda data, path: path.write_text(
        as_frame(data).to_csv(index=False, sep="\t").replace("\n", "\r\n"), encoding="utf-16", newline=""
    ),
    "UTF-16 in the other order of bytes": lambda data, path: path.write_bytes(
        b"\xfe\xff" + as_frame(data).to_csv(index=False, header=False).encode("utf-16-be")
    ),
    "an index": lambda data, path: as_frame(data).to_csv(path),
    "Excel's first line": lambda data, path: path.write_text(
        "sep=;\n" + as_frame(data).to_csv(index=False, sep=";")
    ),
    "Excel's first line after empty ones and separators": lambda data, path: path.write_text(
        "\n ;;;\n\nsep=;\n\n;;\n" + as_frame(data).to_csv(index=False, sep=";")
    ),
    "Excel's first line, a mark, no header": lambda data, path: path.write_text(
        '"SEP=,"\r\n' + as_frame(data).to_csv(index=False, header=False), encoding="utf-8-sig"
    ),
    "Excel's first line, decimal commas": lambda data, path: path.write_text(
        "sep=;\n" + as_frame(data).astype(float).to_csv(index=False, sep=";", decimal=",")
    ),
    "decimal commas without a header": lambda data, path: (
        as_frame(data).astype(float).to_csv(path, index=False, header=False, sep=";", decimal=",")
    ),
    "decimal commas in quotes": lambda data, path: path.write_text(
        as_frame(data).map(lambda value: f"{value},0").to_csv(index=False, quoting=1)
    ),
    "what savetxt writes": lambda data, path: np.savetxt(path, as_frame(data)),
    "what savetxt writes with a header": lambda data, path: np.savetxt(
        path, as_frame(data), delimiter=",", header=",".join(as_frame(data).columns)
    ),
    "a named index, label last": lambda data, path: label_last(as_frame(data)).to_csv(path, index_label="Id"),
}


@pytest.mark.parametrize("form", TABLES)
def test_tables_that_people_have_are_read(blobs, tmp_path, form):
    data = blobs[:20]
    data.images[0] = data.images[0, 0, 0, 0]  # a row of equal values: pandas renames equal names of a header
    TABLES[form](data, tmp_path / "table.csv")
    read = read_csv(tmp_path / "table.csv")
    assert torch.equal(read.images, data.images)
    assert torch.equal(read.labels, data.labels)


@pytest.mark.parametrize("name", ["table.csv.gz", "TABLE.CSV.GZ", "table.csv.zip", "table.csv.xz"])
def test_compressed_tables_are_read(blobs, tmp_path, name):
    as_frame(blobs).to_csv(tmp_path / name, index=False, sep=";")
    assert torch.equal(read_csv(tmp_path / name).images, blobs.images)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda frame, path: frame.iloc[:, 1:].to_csv(path, index=False), "which has no labels"),
        (lambda frame, path: frame.iloc[:, 1:].to_csv(path), "which has no labels"),
        (lambda frame, path: frame.iloc[:, 1:].to_csv(path, index=False, header=False), "has no labels"),
        (
            lambda frame, path: (frame / [1, *[255] * 784]).to_csv(path, index=False),
            "pixels lie between 0 and 1; they must be whole numbers from 0 to 255: multiply by 255",
        ),
        (
            lambda frame, path: (frame // [1, *[128] * 784]).to_csv(path, index=False, header=False),
            "pixels lie between 0 and 1",
        ),
        (
            lambda frame, path: label_last(frame.assign(pixel0=0)).to_csv(path, index=False, header=False),
            "has no header, and only zeros in its first column, where the labels must be",
        ),
        (
            lambda frame, path: label_last(frame.assign(pixel0=57)).to_csv(path, index=False, header=False),
            "a label is a whole number from 0 to 9. In a table without a header the labels stand first",
        ),
        (lambda frame, path: frame.to_csv(path, header=False), "has 786 columns"),
        (
            lambda frame, path: frame.assign(pixel783=True).to_csv(path, index=False),
            "column pixel783: the value is 'True'",
        ),
        (
            lambda frame, path: label_last(frame).drop(columns="pixel0").to_csv(path, index=False),
            "has 784 columns, the first wrong one",
        ),
        (lambda frame, path: frame.iloc[:, :-1].to_csv(path, index=False, header=False), "no labels"),
        (
            lambda frame, path: frame[frame.columns[::-1]].to_csv(path, index=False),
            "number 1, 'pixel783' where",
        ),
    ],
)
def test_tables_that_would_be_misread_are_refused(blobs, tmp_path, write, message):
    path = tmp_path / "table.csv"
    write(as_frame(blobs), path)
    with pytest.raises(DataError, match=message) as error:
        read_csv(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "train.csv" in str(error.value)


def zipped(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "label\n")
    return stream.getvalue()


def test_a_table_is_named_by_a_path(table, blobs, tmp_path, monkeypatch):
    (tmp_path / "Größe – 数字.csv").symlink_to(table)
    assert torch.equal(read_csv(str(tmp_path / "Größe – 数字.csv")).images, blobs.images)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert torch.equal(read_csv(f"~/{table.name}").images, blobs.images)
    for wrong in (3, b"train.csv", io.StringIO("label\n"), as_frame(blobs[:2])):
        with pytest.raises(ParameterError, match=r"path is an? .*; it must be a path: a str or a Path"):
            read_csv(wrong)


def test_text_of_another_encoding_is_named(table):
    table.write_text("é" + table.read_text(), encoding="latin-1")
    with pytest.raises(DataError, match="is not a text file in UTF-8"):
        read_csv(table)


def test_a_message_about_a_header_stays_short(table):
    table.write_text(table.read_text().replace(",", "/"))
    with pytest.raises(DataError, match="has 1 columns, the first wrong one being number 1") as error:
        read_csv(table)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz", "train.csv.zip"])
def test_how_a_file_begins_tells_how_it_is_packed(table, blobs, tmp_path, pack, name):
    path = tmp_path / "downloads" / name
    path.parent.mkdir()
    path.write_bytes(pack(table.read_bytes()))
    assert torch.equal(read_csv(path).images, blobs.images)


def test_a_workbook_is_no_table(tmp_path):
    (tmp_path / "train.csv").write_bytes(zipped("[Content_Types].xml", "xl/workbook.xml"))
    with pytest.raises(DataError, match="is not a text file in UTF-8: save it anew as “CSV UTF-8”"):
        read_csv(tmp_path / "train.csv")


def test_rows_that_hold_separators_only_are_left_out(table, blobs):
    text = table.read_text()
    for separator in ",;":
        table.write_text((text + 2 * ("," * 784 + "\n")).replace(",", separator))
        data = read_csv(table)
        assert torch.equal(data.images, blobs.images)
        assert torch.equal(data.labels, blobs.labels)


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path, blobs):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(datasets, "DATA", tmp_path)
    monkeypatch.setattr(datasets, "load", lambda name: blobs)
    monkeypatch.setattr(datasets.formats, "write_table", refuse)
    with pytest.raises(
        DataError, match=r"mnist\.csv is not there .* written \(Permission denied\); write it else"
    ):
        read_csv()


def test_damaged_archives_are_refused(table, tmp_path):
    packed = gzip.compress(table.read_bytes())
    for name, content in (
        ("cut.csv.gz", packed[: len(packed) // 2]),
        ("changed.csv.gz", packed[:500] + bytes(500) + packed[1000:]),
        ("plain.csv.tar", table.read_bytes()),
        ("two.csv.zip", zipped("train.csv", "__MACOSX/._train.csv")),
        ("none.csv.zip", zipped()),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            DataError, match=rf"{name}: (cannot be read \(.+\)|is not a text file in UTF-8)\. Use"
        ):
            read_csv(tmp_path / name)


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_csv(tmp_path / "nowhere.csv")
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)) * 20)
    with pytest.raises(DataError, match="not a text file"):
        read_csv(tmp_path / "binary.csv")


def test_only_images_of_28_by_28_fit_the_table(tmp_path):
    wrong = Dataset(torch.zeros(2, 3, 28, 28, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(DataError, match=r"\(2, 3, 28, 28\)"):
        write_csv(wrong, tmp_path / "x.csv")
    wrong = Dataset(torch.zeros(0, 1, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="N > 0"):
        write_csv(wrong, tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("label", [-1, 10, 300])
def test_a_label_that_the_table_cannot_hold_is_refused_and_not_wrapped(tmp_path, label):
    data = Dataset(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.tensor([label]))
    with pytest.raises(DataError, match=f"labels go from {label} to {label}"):
        write_csv(data, tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 1, 4, 4), np.uint8), torch.zeros(2, dtype=torch.int64), "images are an ndarray"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), [0, 1], "labels are a list"),
        (None, None, "images are a NoneType"),
    ],
)
def test_a_data_set_is_made_of_tensors(images, labels, message):
    with pytest.raises(DataError, match=message):
        Dataset(images, labels)


@pytest.mark.parametrize(
    "index", ["a", (0, 1), 1.5, torch.tensor([True, False]), slice(None, None, -1), [9_999]]
)
def test_an_index_that_chooses_no_images_is_explained(blobs, index):
    with pytest.raises(ParameterError, match=r"does not choose among \d+ images"):
        blobs[index]


@pytest.mark.parametrize("size", [0, 2.5, True, "4", None])
def test_batches_are_of_whole_numbers_of_images(blobs, size):
    with pytest.raises(ParameterError, match="batch_size is"):
        next(batches(blobs, size))


def test_no_images_are_no_batches_and_numpys_numbers_are_numbers(blobs):
    assert list(batches(blobs[:0], 4)) == []
    assert [len(labels) for _, labels in batches(blobs[:10], np.int64(4))] == [4, 4, 2]


def test_images_without_pixels_have_no_statistics():
    with pytest.raises(DataError, match="nothing of it 0"):
        channel_stats(torch.zeros(2, 1, 0, 3, dtype=torch.uint8))


def test_split_shares_no_image_and_repeats():
    data = Dataset(
        torch.arange(100, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2), torch.arange(100)
    )
    train, val = split(data, 30, seed=1)
    assert (len(train), len(val)) == (70, 30)
    assert sorted(train.labels.tolist() + val.labels.tolist()) == list(range(100))
    assert torch.equal(val.images[:, 0, 0, 0].long(), val.labels)  # images keep their labels
    assert torch.equal(split(data, 30, seed=1)[1].labels, val.labels)
    assert not torch.equal(split(data, 30, seed=2)[1].labels, val.labels)
    for size in (0, 100, -1, 30.0, True, "30"):
        with pytest.raises(ParameterError, match="val_size is"):
            split(data, size)
    with pytest.raises(ParameterError, match=r"val_size is 0.3, a share; .* of 100 that share is 30"):
        split(data, 0.3)


def test_batches_hold_every_image_once(blobs):
    sizes = [len(labels) for _, labels in batches(blobs, 50)]
    assert sizes == [50, 50, 20]
    images, _ = next(batches(blobs, 50))
    assert torch.equal(images, blobs.images[:50])
    generator = torch.Generator().manual_seed(0)
    epochs = [torch.cat([images for images, _ in batches(blobs, 7, generator)]) for _ in range(2)]
    assert not torch.equal(*epochs)
    for epoch in epochs:
        assert torch.equal(epoch.double().sum(0), blobs.images.double().sum(0))
    with pytest.raises(ParameterError, match="batch_size is 0"):
        next(batches(blobs, 0))


def test_channel_stats_agree_with_numpy():
    images = torch.randint(
        0, 256, (40, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    images[:, 1] //= 2
    mean, std = channel_stats(images)
    scaled = images.numpy() / 255
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 2, 3)), rtol=1e-12)
    mean, std = channel_stats(load("mnist").images)
    assert (round(mean[0], 4), round(std[0], 4)) == (0.1307, 0.3081)
    for wrong in (images.float(), images[:, 0], images[:0]):
        with pytest.raises(DataError, match="must be uint8 of shape"):
            channel_stats(wrong)


def test_to_float_scales_bytes_only():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert to_float(images).tolist() == pytest.approx([0, 0.2, 1])
    assert images.tolist() == [0, 51, 255]
    floats = torch.rand(2)
    assert to_float(floats) is floats


def test_a_slice_is_pickled_without_what_it_was_cut_from(blobs):
    part = blobs[:2]
    stored = pickle.dumps(part)
    assert len(stored) < 4 * part.images.numel()
    again = pickle.loads(stored)
    assert torch.equal(again.images, part.images)
    assert torch.equal(again.labels, part.labels)


@pytest.mark.parametrize("labels", [[4], [7, 3], [0, 1, 2]])
def test_rows_that_end_with_a_separator_are_read_whatever_their_labels(blobs, tmp_path, labels):
    # pandas makes the same index of such labels as of no index at all.
    data = Dataset(blobs.images[: len(labels)], torch.tensor(labels))
    text = as_frame(data).to_csv(index=False).replace("\n", ",\n").replace(",\n", "\n", 1)
    (tmp_path / "few.csv").write_text(text)
    again = read_csv(tmp_path / "few.csv")
    assert torch.equal(again.images, data.images)
    assert again.labels.tolist() == labels


def test_scaled_pixels_with_decimal_commas_and_a_lone_first_line_are_explained(blobs, tmp_path):
    frame = as_frame(blobs) / [1, *[255] * 784]
    frame.to_csv(tmp_path / "scaled.csv", index=False, sep=";", decimal=",")
    with pytest.raises(DataError, match=r"lie between 0 and 1.* multiply by 255"):
        read_csv(tmp_path / "scaled.csv")
    (tmp_path / "lone.csv").write_text("sep=;\n")
    with pytest.raises(DataError, match="is empty"):
        read_csv(tmp_path / "lone.csv")
    wide = as_frame(blobs).to_csv(index=False).encode("utf-16")
    (tmp_path / "wide.csv").write_bytes(wide[:-1])  # cut off
    with pytest.raises(DataError, match="save it anew as “CSV UTF-8”"):
        read_csv(tmp_path / "wide.csv")


def test_a_value_in_a_message_stays_short(table):
    table.write_text(edit(4, 10, "x" * 10_000)(table.read_text()))
    with pytest.raises(DataError, match="data row 4, column pixel9") as error:
        read_csv(table)
    assert len(str(error.value)) < 400


def test_an_address_is_no_path():
    for read in (read_csv, cnnlib.data.photo, cnnlib.data.from_folder):
        with pytest.raises(ParameterError, match=r"'https://x.org/a.csv', an address; .* download the file"):
            read("https://x.org/a.csv")


def test_a_table_is_written_where_it_will_be_read(blobs, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_csv(blobs, "~/mine.csv")
    assert torch.equal(read_csv("~/mine.csv").labels, blobs.labels)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]
    with pytest.raises(ParameterError, match="path is a NoneType"):
        write_csv(blobs, None)


@pytest.mark.parametrize("index", [None, torch.zeros(2, 2, dtype=torch.long)])
def test_an_index_that_changes_the_axes_is_refused(blobs, index):
    with pytest.raises(ParameterError, match=r"does not choose among .*that makes labels of shape"):
        blobs[index]


@pytest.mark.parametrize("seed", ["0", 1.5, -1, None, True, 2**64])
def test_split_takes_a_seed_that_is_one(blobs, seed):
    with pytest.raises(ParameterError, match=r"seed is .* a whole number, from 0 to"):
        split(blobs, 3, seed=seed)


def test_numpys_seeds_split_as_pythons(blobs):
    for ours, theirs in zip(split(blobs, 3, seed=7), split(blobs, 3, seed=np.int64(7)), strict=True):
        assert torch.equal(ours.images, theirs.images)


@pytest.mark.parametrize(
    "use",
    [
        lambda images: split(images, 3),
        lambda images: list(batches(images, 3)),
        lambda images: write_csv(images, "x.csv"),
    ],
)
def test_images_without_labels_are_no_data_set(blobs, use):
    with pytest.raises(ParameterError, match="data is a Tensor; it must be a Dataset"):
        use(blobs.images)


def test_what_shuffles_is_a_generator(blobs):
    with pytest.raises(ParameterError, match=r"generator is 3; .* torch.Generator"):
        list(batches(blobs, 3, generator=3))


@pytest.mark.parametrize("images", [torch.zeros(1, 1, 2, 2, dtype=torch.int32), np.zeros(3), None])
def test_to_float_does_not_pass_on_what_has_no_known_scale(images):
    with pytest.raises(DataError, match="must be a tensor of uint8 0–255 or of floats"):
        to_float(images)


def test_statistics_are_of_tensors_and_devices_exist(blobs):
    with pytest.raises(DataError, match=r"images are a Dataset; .* data\.images"):
        channel_stats(blobs)
    with pytest.raises(ParameterError, match="device is 'nowhere', which this machine does not have"):
        blobs.to("nowhere")
    with pytest.raises(ParameterError, match="no data set"):
        load(["mnist"])

import hashlib
import os
from pathlib import Path

import pytest
import torch

from cnnlib.ground.errors import DataError
from cnnlib.ground.files import atomic_path, check_sha256


def test_a_finished_file_takes_its_place(tmp_path):
    target = tmp_path / "new folder" / "a.txt"
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_text("hal")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["run1", ".hidden", "a.tar.gz", "a b"])
def test_the_temporary_file_has_a_name_and_a_suffix_whatever_the_path_has(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.suffix == ((tmp_path / name).suffix or ".tmp")
        torch.save({"x": 1}, temporary)  # torch looks at both
    assert os.listdir(tmp_path) == [name]


def test_the_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic_path(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_stays_one_and_permissions_stay(tmp_path):
    real, link = tmp_path / "disk" / "run.pt", tmp_path / "run.pt"
    real.parent.mkdir()
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    with atomic_path(link) as temporary:
        assert temporary.parent == real.parent  # a rename does not go from one disk to another
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o600


def test_a_disk_without_permissions_and_a_name_as_long_as_may_be(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    path = tmp_path / ("n" * 250 + ".txt")
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_checksums(tmp_path):
    (tmp_path / "raw").mkdir()
    file = tmp_path / "raw" / "x"
    file.write_bytes(b"data")
    with pytest.raises(DataError, match="SHA256SUMS is missing"):
        check_sha256(file, tmp_path)
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'data').hexdigest()}  raw/x\n")
    check_sha256(file, tmp_path)
    file.write_bytes(b"dada")
    with pytest.raises(DataError, match=r"x has SHA-256 .*git checkout"):
        check_sha256(file, tmp_path)
    (tmp_path / "raw" / "y").write_bytes(b"")
    with pytest.raises(DataError, match="not listed"):
        check_sha256(tmp_path / "raw" / "y", tmp_path)

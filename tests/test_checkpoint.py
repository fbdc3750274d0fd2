import pickle

import pytest
import torch

from cnnlib.ground.errors import CheckpointError
from cnnlib.train.checkpoint import load_checkpoint, save_checkpoint


def test_round_trip(tmp_path):
    path = tmp_path / "folder" / "x.pt"
    save_checkpoint(path, {"weights": torch.arange(3), "history": {"losses": [0.5]}, "name": "a"})
    state = load_checkpoint(path)
    assert torch.equal(state["weights"], torch.arange(3))
    assert state["history"] == {"losses": [0.5]}


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "x.pt"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"epoch": lambda: 2})
    assert load_checkpoint(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("size", [0, 1, 10, 500, -1, -50])
def test_a_truncated_checkpoint_is_named(tmp_path, size):
    path = tmp_path / "x.pt"
    save_checkpoint(path, {"weights": torch.rand(100)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"x.pt cannot be read as a checkpoint .*delete it"):
        load_checkpoint(path)


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "x.pt")
    for content in ({"weights": torch.rand(2)}, [1, 2]):
        torch.save(content, tmp_path / "y.pt")
        with pytest.raises(CheckpointError, match="not written by save_checkpoint"):
            load_checkpoint(tmp_path / "y.pt")


class Dangerous:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"cnnlib_checkpoint": 1, "x": Dangerous()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "x.pt")
    assert capsys.readouterr().out == ""

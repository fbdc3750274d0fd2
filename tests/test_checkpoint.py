import collections
import functools
import random
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.ground.errors import CheckpointError, ParameterError
from cnnlib.measure import mean_se
from cnnlib.train.checkpoint import load_checkpoint, plain, save_checkpoint
from cnnlib.train.identity import checksum_of, describe


def test_round_trip(tmp_path):
    path = tmp_path / "folder" / "x.pt"
    save_checkpoint(path, {"weights": torch.arange(3), "history": {"losses": [0.5]}, "name": "a"})
    state = load_checkpoint(path)
    assert torch.equal(state["weights"], torch.arange(3))
    assert state["history"] == {"losses": [0.5]}


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "x.pt"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(ParameterError, match=r"state\['epoch'\] is <function .* cannot hold"):
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
    with pytest.raises(CheckpointError, match="use another path"):
        load_checkpoint(tmp_path)
    for content in ({"weights": torch.rand(2)}, [1, 2], {"cnnlib_checkpoint": torch.rand(2)}):
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


def test_a_checkpoint_of_another_version_is_named(tmp_path):
    torch.save({"cnnlib_checkpoint": 1}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="format 1 of another version"):
        load_checkpoint(tmp_path / "x.pt")


def test_no_flipped_bit_changes_what_is_read(tmp_path):
    path = tmp_path / "x.pt"
    weights = torch.rand(400)
    save_checkpoint(path, {"weights": weights, "epoch": 3})
    whole, refused = path.read_bytes(), 0
    start = whole.index(weights.numpy().tobytes())
    places = [start, start + 1599, *random.Random(0).sample(range(len(whole)), 150)]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            state = load_checkpoint(path)
        except CheckpointError:
            refused += 1
        else:
            assert torch.equal(state["weights"], weights), place
            assert state["epoch"] == 3
            assert not start <= place < start + 1600
    assert refused > 50


@pytest.mark.parametrize("name", ["run1", ".hidden", "run.1", "a b.pt"])
def test_any_name_will_do(tmp_path, name):
    save_checkpoint(tmp_path / name, {"epoch": 1})
    assert load_checkpoint(tmp_path / name)["epoch"] == 1


def test_numpys_numbers_become_plain_ones(tmp_path):
    state = {
        "lr": np.float64(0.1),
        "betas": (np.float32(0.5), 0.9),
        "best": mean_se([0.5, 1.0]),  # a float of a kind of its own
        "steps": collections.Counter({np.int64(3): 1}),
        "model": nn.BatchNorm1d(2).state_dict(),
        "done": np.bool_(True),
    }
    save_checkpoint(tmp_path / "x.pt", state)
    found = load_checkpoint(tmp_path / "x.pt")
    assert {k: found[k] for k in ("lr", "betas", "best", "done")} == {
        **{"lr": 0.1, "betas": (0.5, 0.9), "best": 0.75, "done": True}
    }
    assert {type(found[k]) for k in ("lr", "best", "done")} == {float, bool}
    assert found["steps"] == collections.Counter({3: 1})
    assert found["model"]._metadata == state["model"]._metadata
    with pytest.raises(ParameterError, match=r"groups\[1\]\['x'\] is .*, an ndarray"):
        plain([0, {"x": np.zeros(2)}], "groups")


def test_a_checksum_is_that_of_the_values_however_they_lie_in_memory():
    images = torch.randint(0, 255, (6, 3, 4, 5), dtype=torch.uint8)
    expected = zlib.crc32(images.numpy().tobytes())
    assert checksum_of(images) == expected
    assert checksum_of(images.to(memory_format=torch.channels_last)) == expected
    assert checksum_of(images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)) == expected
    assert checksum_of(images.repeat_interleave(2, dim=0)[::2]) == expected
    assert checksum_of(images[:, :1].expand(-1, 3, -1, -1)) == zlib.crc32(
        images[:, :1].numpy().repeat(3, axis=1).tobytes()
    )


# --- whose run it is ---------------------------------------------------------------------------------


class Focal:
    def __init__(self, gamma, log):
        self.gamma, self.log = gamma, log

    def __call__(self, logits, labels):
        return self.gamma * F.cross_entropy(logits, labels)


class Weighted(nn.Module):
    def __init__(self, weight, scale=1.0):
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))
        self.scale, self.seen = scale, []

    def forward(self, logits, labels):
        self.seen.append(len(labels))
        return self.scale * F.cross_entropy(logits, labels, self.weight)


def scaled(factor):
    return lambda logits, labels: factor * F.cross_entropy(logits, labels)


def test_what_computes_otherwise_is_described_otherwise():
    functions = [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.9),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0])),
        *(F.cross_entropy, F.nll_loss),
        *(Focal(1, []), Focal(2, []), Focal(1, []).__call__),
        *(Weighted([1.0, 2.0]), Weighted([1.0, 2.5]), Weighted([1.0, 2.0], scale=2)),
        *(scaled(1), scaled(2), scaled(torch.ones(2)), scaled(torch.zeros(2))),
        *[
            lambda z, y: F.cross_entropy(z, y),
            lambda z, y: F.cross_entropy(2 * z, y),
            lambda z, y: z[y].sum(),
        ],
        *(lambda z, y, c=c: c * F.cross_entropy(z, y) for c in (1, 2)),
        *(functools.partial(torch.optim.Adam, betas=betas) for betas in ((0.9, 0.99), [0.9, 0.999])),
        *(functools.partial(scaled(c), 1) for c in (1, 2)),
    ]
    assert len({describe(function) for function in functions}) == len(functions)


def test_the_same_is_described_alike_wherever_it_lies_and_whatever_it_keeps_in_mind():
    for build in (nn.CrossEntropyLoss, lambda: Focal(1, []), lambda: Weighted([1.0]), lambda: scaled(3)):
        assert describe(build()) == describe(build())
    weighted = Weighted([1.0, 1.0, 1.0])
    before = describe(weighted)
    weighted(torch.rand(2, 3), torch.tensor([0, 1]))
    weighted.eval()
    assert describe(weighted) == before
    focal = Focal(2, [])
    before = describe(focal)
    focal.log.append(1)
    assert describe(focal) == before
    betas = functools.partial(torch.optim.Adam, betas=(np.float64(0.9), 0.99))
    assert describe(betas) == describe(functools.partial(torch.optim.Adam, betas=(0.9, 0.99)))
    assert describe(betas) == "Adam(betas=(0.9, 0.99))"
    assert describe(nn.CrossEntropyLoss(label_smoothing=0.9)).startswith("CrossEntropyLoss(")

    model = nn.Linear(2, 2)  # a penalty on its weights: they change as it learns
    known = (*model.modules(), *model.parameters())
    penalty = scaled(model)
    before = describe(penalty, known)
    torch.nn.init.zeros_(model.weight)
    assert describe(penalty, known) == before


def test_another_process_describes_alike():
    code = (
        "import test_checkpoint as t; print(t.describe(t.scaled(3)), t.describe(t.Focal(1, [])), "
        "t.describe(t.Weighted([1.0])), t.describe(lambda z: z in {'a', 'b', 'c'}))"
    )
    folder = __file__.rpartition("/")[0]
    printed = {
        subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert len(printed) == 1
    assert b" at 0x" not in printed.pop()


def test_a_checkpoint_of_ones_own_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    save_checkpoint("~/x.pt", {"epoch": 1})
    assert load_checkpoint("~/x.pt")["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
    with pytest.raises(ParameterError, match="path is a NoneType"):
        load_checkpoint(None)

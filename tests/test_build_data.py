import importlib.util
import io
import pickle

import numpy as np
import pytest
import torch

from cnnlib.ground.env import ROOT

spec = importlib.util.spec_from_file_location("build_data", ROOT / "tools" / "build_data.py")
build_data = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_data)


def test_pickles_may_hold_arrays_only():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    # NumPy 2 writes the new name of its module; the archive was written by NumPy 1.
    written = pickle.dumps({"kernel": array}, protocol=3).replace(b"numpy._core", b"numpy.core")
    read = build_data.ArrayUnpickler(io.BytesIO(written)).load()
    np.testing.assert_array_equal(read["kernel"], array)
    with pytest.raises(pickle.UnpicklingError, match="only NumPy arrays"):
        build_data.ArrayUnpickler(io.BytesIO(pickle.dumps(print))).load()


def test_an_archive_that_is_not_the_expected_one_is_refused(tmp_path):
    (tmp_path / "x.tgz").write_bytes(b"something else")
    archive = build_data.Archive(("false",), "x.tgz", "0" * 64)
    with pytest.raises(SystemExit, match=r"x.tgz: SHA-256 is .* expected 000"):
        build_data.fetch({"x": archive}, tmp_path)


def test_efficientnet_names():
    names = {
        "_conv_stem.weight": "stem.0.weight",
        "_bn0.bias": "stem.1.bias",
        "_blocks.12._bn0.running_mean": "blocks.12.expand.1.running_mean",
        "_blocks.0._depthwise_conv.weight": "blocks.0.depthwise.0.weight",
        "_bn1.weight": "head.1.weight",
        "_fc.bias": "classifier.bias",
    }
    assert {old: build_data.rename_efficientnet(old) for old in names} == names
    with pytest.raises(SystemExit, match="unexpected key '_swish"):
        build_data.rename_efficientnet("_swish.weight")


def test_kernels_are_turned_and_rounded(tmp_path, monkeypatch):
    kernel = np.random.default_rng(0).normal(size=(3, 2, 5, 7)).astype(np.float32)  # (h, w, in, out)
    tree = {"VGG16_0": {"Conv_0": {"kernel": kernel, "bias": np.zeros(7, dtype=np.float32)}}}
    written = pickle.dumps(tree, protocol=3).replace(b"numpy._core", b"numpy.core")
    state = build_data.convolutions(written, (4,))
    assert state["features.4.weight"].shape == (7, 5, 3, 2)
    assert state["features.4.weight"][6, 4, 2, 1] == torch.tensor(kernel[2, 1, 4, 6])
    monkeypatch.setattr(build_data, "DATA", tmp_path)
    build_data.write_weights("w.safetensors", state)
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "w.safetensors")
    assert kept["features.4.weight"].dtype == torch.float16
    assert kept["features.4.bias"].dtype == torch.float32

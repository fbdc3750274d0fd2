"""The capstone's plan: a learner's own is read, or refused with a reason, and carried out on any data."""

import numpy as np
import pytest
from notebook_tools import code_cells, read
from PIL import Image

from cnnlib.data import write_csv
from cnnlib.ground import ParameterError
from cnnlib.ground.env import NOTEBOOKS

CELLS = {cell.id: cell.source for cell in code_cells(read(NOTEBOOKS / "11_capstone.ipynb"))}
PLAN = (
    *("parameters", "setup-course", "setup", "settings", "plan-ours", "plan-comparisons"),
    *("plan-rules", "plan-fields", "plan-check", "plan-reader"),
)


def run(bound, *ids):
    for name in ids:
        exec(compile(CELLS[name], name, "exec"), bound)


@pytest.fixture
def lesson():
    bound = {}
    run(bound, *PLAN)
    return bound


def test_the_lessons_own_plan_is_read(lesson):
    lesson["read_plan"](lesson["plan"])


def test_numbers_of_a_pilot_are_numpys(lesson):
    pilot = {"scatter": np.std([0.1, 0.2]), "matters": np.float32(0.1)}
    lesson["read_plan"](lesson["plan"] | pilot)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"question": "Dropout helps."}, "'question' is 'Dropout helps.'; it must be a sentence that ends"),
        ({"data": "fashion-mnist"}, "'data' is 'fashion-mnist'; it must be \"mnist\", \"fashion_mnist\", or"),
        ({"train": 0.8}, "'train' is 0.8; it must be a whole number of images"),
        ({"factors": {"dropout": ["no", "half", "yes"]}}, "to a list of its two levels"),
        ({"factors": {1: ["no", "yes"]}}, "each factor's name to a list of its two levels"),
        ({"seeds": 3}, "'seeds' is 3; it must be a whole number of runs, 4 or more"),
        ({"seeds": True}, "'seeds' is True"),
        ({"scatter": "0.01"}, "'scatter' is '0.01'; it must be a number above 0"),
        ({"scatter": np.inf}, "'scatter' is inf; it must be a number above 0"),
        ({"level": 5}, "'level' is 5; it must be a share between 0 and 0.5"),
        ({"Primary": "dropout, long"}, "an unknown field 'Primary'"),
        ({"primary": "dropout"}, "'primary' is 'dropout'; it must be one of ['dropout, long', "),
        (
            {"comparisons": [(["dropout"], {}, "+")]},
            "it must be a dict from a name to (of, where, predicted)",
        ),
        (
            {"comparisons": {"a": (["dropuot"], {}, "+")}},
            "different factors out of ['batch norm', 'dropout',",
        ),
        ({"comparisons": {"a": (["dropout", "dropout"], {}, "+")}}, "a list of different factors out of"),
        ({"comparisons": {"a": ([["dropout"]], {}, "+")}}, "a list of different factors out of"),
        ({"comparisons": {"a": (["dropout"], {"dropout": "no"}, "+")}}, "from other factors to one of their"),
        ({"comparisons": {"a": (["dropout"], {"epochs": "40"}, "+")}}, "is '40'; it must be one of [6, 40]"),
        ({"comparisons": {"a": (["dropout"], {}, "helps")}}, "the direction of 'a' is 'helps'"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_reason(lesson, change, said):
    with pytest.raises(ParameterError) as error:
        lesson["read_plan"](lesson["plan"] | change)
    assert said in str(error.value)


@pytest.mark.parametrize("plan", ["a plan", ["question"], None])
def test_what_is_no_plan_is_refused(lesson, plan):
    with pytest.raises(ParameterError, match="it must be a dict of its fields"):
        lesson["read_plan"](plan)


def test_a_field_that_is_missing_is_named(lesson):
    del lesson["plan"]["level"]
    with pytest.raises(ParameterError, match="says nothing about 'level'"):
        lesson["read_plan"](lesson["plan"])


@pytest.fixture
def pictures(tmp_path):
    """A folder of 16 coloured pictures in two classes, in two formats and sizes."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 40, 30, 3), dtype=np.uint8)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i, picture in enumerate(pixels):
            Image.fromarray(picture[: 20 + i]).save(tmp_path / "pets" / name / f"{i}.{('png', 'jpg')[i % 2]}")
    return tmp_path / "pets"


def test_a_network_fits_a_folder_of_coloured_pictures(lesson, pictures):
    lesson["plan"] |= {"data": str(pictures), "train": 10, "held_out": 6}
    run(lesson, "open-data", "build")
    train, held_out = lesson["draw"](0)
    assert (len(train), len(held_out)) == (10, 6)
    logits = lesson["build"]({"batch norm": "no", "dropout": "no"})(held_out.images / 255)
    assert logits.shape == (6, 2)


def test_a_network_fits_a_csv_file(lesson, blobs, tmp_path):
    write_csv(blobs, tmp_path / "own.csv")
    lesson["plan"] |= {"data": str(tmp_path / "own.csv"), "train": 100, "held_out": 20}
    run(lesson, "open-data", "build")
    train, _ = lesson["draw"](0)
    assert lesson["build"]({"batch norm": "yes", "dropout": "no"})(train.images / 255).shape == (100, 3)


def test_a_plan_that_wants_more_pictures_than_there_are_is_stopped(lesson, pictures):
    lesson["plan"] |= {"data": str(pictures), "train": 11, "held_out": 6}
    run(lesson, "open-data")
    with pytest.raises(ParameterError, match=r"'train' \+ 'held_out' is 17; it must be at most 16"):
        lesson["draw"](0)


def test_a_class_that_is_missing_is_said(lesson, blobs, tmp_path, monkeypatch, capsys):
    write_csv(blobs, tmp_path / "own.csv")
    lesson["plan"] |= {"data": str(tmp_path / "own.csv"), "train": 90, "held_out": 5}
    run(lesson, "open-data")
    train, held_out = lesson["draw"](0)
    lesson["draw"] = lambda _: (train[train.labels != 1], held_out)
    monkeypatch.setattr(lesson["plt"], "show", lambda: None)
    run(lesson, "look-at-data")
    lesson["plt"].close("all")
    assert "not in this run's training images: [1]" in capsys.readouterr().out


@pytest.mark.parametrize(("seeds", "outcome"), [(4, "loss"), (5, "accuracy"), (24, "gap")])
def test_any_plan_is_rehearsed_and_reported(lesson, seeds, outcome, capsys):
    one = {
        "factors": {"dropout": ["no", "yes"]},
        "comparisons": {"a": (["dropout"], {}, "+")},
        "primary": "a",
    }
    lesson["plan"] |= {"seeds": seeds, "outcome": outcome, **one}
    lesson["s"].invented = 200
    rehearsal = ("rehearse-invent", "rehearse-alarms", "rehearse-power", "rehearse-figure")
    run(lesson, "analysis", "t-interval", "verdict", *rehearsal)
    assert {seeds, seeds // 2} <= set(lesson["power"])
    table = np.random.default_rng(0).normal(size=(seeds, 2))
    lesson["tables"] = dict.fromkeys(lesson["OUTCOMES"], table)
    capsys.readouterr()
    run(lesson, "cells-figure", "report", "verdicts", "forest-figure")
    unit = "nats" if outcome == "loss" else "points"
    assert f" {unit} [" in capsys.readouterr().out
    assert unit in lesson["ax"].get_xlabel()
    lesson["plt"].close("all")


@pytest.fixture
def small(lesson, pictures):
    """A plan for a few pictures, whose runs follow each other."""
    lesson["plan"] |= {"data": str(pictures), "train": 10, "held_out": 6, "seeds": 4}
    lesson["plan"] |= {"factors": {"epochs": [1, 2]}, "primary": "a"}
    lesson["plan"] |= {"comparisons": {"a": (["epochs"], {}, "+")}}
    lesson["device"] = "cpu"
    lesson["side_by_side"] = lambda function, settings, device: [function(each) for each in settings]
    return lesson


def test_a_plan_of_other_factors_runs_in_the_lessons_network(small):
    run(small, "open-data", "build", "experiment-run", "experiment-all")
    assert small["NAMES"] == ("cat", "dog")
    assert small["results"].shape == (4, 2, 4)


def test_a_factor_that_nothing_looks_at_is_refused(small):
    small["plan"]["factors"]["colour"] = ["grey", "red"]
    run(small, "open-data", "build", "experiment-run")
    with pytest.raises(ParameterError, match="a factor is 'colour'; it must be one that build"):
        run(small, "experiment-all")


def test_runs_that_all_gave_the_same_decide_nothing(lesson):
    run(lesson, "verdict")
    assert lesson["verdict"](0.0, 0.0, 0.1) == "undecided"
    assert lesson["verdict"](-0.05, 0.05, 0.1) == "absent, or too small to matter"


def test_an_explored_effect_that_does_not_exist_is_refused(lesson):
    run(lesson, "analysis", "t-interval")
    lesson["tables"] = dict.fromkeys(lesson["OUTCOMES"], np.random.default_rng(0).normal(size=(8, 2, 2, 2)))
    run(lesson, "explore")
    with pytest.raises(ParameterError, match="what 'explored' is the effect of is"):
        lesson["explore"]("accuracy", ["dropuot"], {})
    with pytest.raises(ParameterError, match="where 'explored' looks is"):
        lesson["explore"]("accuracy", ["dropout"], {"epoch": 40})


def test_eight_combinations_beside_each_other_are_drawn(lesson):
    lesson |= {"factors": {name: [0, 1] for name in "abcd"}, "scale": 100, "unit": "points"}
    lesson["plan"] |= {"factors": lesson["factors"]}
    lesson["tables"] = dict.fromkeys(lesson["OUTCOMES"], np.zeros((4, 2, 2, 2, 2)))
    run(lesson, "cells-figure")
    lesson["plt"].close("all")

"""Sweeps: every combination, resumed to the same table, on threads or a cluster."""

import csv
import gc
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from notebook_tools import write_lesson
from PIL import Image

from cnnlib.course import sweep, sweep_report
from cnnlib.course.command_line import main
from cnnlib.ground.errors import ParameterError

MEASURE = """from cnnlib.measure import claim
claim("Small seeds are small.", lambda small, large: max(small, large["half"]) < 2,
      {"small": seed, "large": {"half": seed / 2}}, {"a large seed": {"small": 4}}, form=".1f s")
claim("The rate is a rate.", lambda rate: rate > 0, {"rate": lr}, {"no rate": {"rate": -lr}})"""


@pytest.fixture
def lesson(make):
    """A lesson of two claims, of which the first holds for the seeds 0 and 1 only."""
    return make(MEASURE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A sweep of that lesson over the seeds 0, 1 and 2: (its folder, results, lines of progress)."""
    base, lines = tmp_path_factory.mktemp("whole"), []
    results = sweep.sweep(
        write_lesson(base, MEASURE), {"seed": ["0", "1", "2"]}, base / "out", progress=lines.append
    )
    return base / "out", results, lines


def rows(folder):
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def measured(folder):
    """Return the table without times."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]


def of_two_seeds(whole):
    """Return the part of the whole sweep's table that a sweep over the seeds 0 and 1 has."""
    found = [row for row in measured(whole[0]) if row["seed"] in ("0", "1")]
    assert len(found) == 4
    return found


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0..3", ["0", "1", "2", "3"]),
        ("-1..1", ["-1", "0", "1"]),
        ("7", ["7"]),
        ("0.1, 0.01,1e-3", ["0.1", "0.01", "1e-3"]),
        ("[1, 2],[3]", ["[1, 2]", "[3]"]),
        ("fast,full", ["fast", "full"]),
        ("0..2, 7,20..21", ["0", "1", "2", "7", "20", "21"]),
        ("0..300:100", ["0", "100", "200", "300"]),
        ("-1..4:2,9", ["-1", "1", "3", "9"]),
    ],
)
def test_values_are_read(text, values):
    assert sweep.parse_values(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9..0", "the range 9..0 is empty; write the smaller number first"),
        ("1,9..0", "the range 9..0 is empty"),
        ("0..1000000", "has more than 10,000 values"),
        ("0..1000000:100", "has more than 10,000 values"),
        ("0..9:0", "the range 0..9:0 goes in steps of 0; write 1 or more after the colon"),
        ("1,,2", "holds an empty value"),
        ("", "holds an empty value"),
    ],
)
def test_values_that_make_no_sense_are_refused(text, message):
    with pytest.raises(ParameterError, match=message):
        sweep.parse_values(text)


def test_the_grid_is_every_combination_in_the_types_of_the_defaults(lesson):
    assert sweep.grid(lesson, {"seed": ["0", "1"], "lr": ["1", "0.5"]}) == [
        {"seed": 0, "lr": 1.0},
        {"seed": 0, "lr": 0.5},
        {"seed": 1, "lr": 1.0},
        {"seed": 1, "lr": 0.5},
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sed": ["1"]}, "no parameter 'sed'; did you mean 'seed'"),
        ({"seed": ["1", "x"]}, "parameter seed is 'x'"),
        ({"lr": ["1", "1.0"]}, "parameter lr has the value 1.0 twice"),
        ({"seed": map(str, range(200)), "lr": map(str, range(1, 201))}, "40,000 runs; at most 10,000"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused(lesson, given, message):
    with pytest.raises(ParameterError, match=message):
        sweep.grid(lesson, given)


def test_a_sweep_leaves_a_table_a_plot_and_every_notebook(whole):
    folder, results, lines = whole
    assert [result["status"] for result in results] == ["ok", "ok", "claim failed"]
    assert lines[2].startswith("[3/3] seed=2: claim failed, ")
    assert lines[2].endswith(" s, 0 of 1 claims held")
    table = rows(folder)
    assert [row["seed"] for row in table] == ["0", "0", "1", "1", "2"]
    assert [row["holds"] for row in table] == ["True", "True", "True", "True", "False"]
    assert table[2]["evidence"] == "small 1 s; large half: 0.5 s"
    assert table[2]["excluded"] == "a large seed: small 4 s"
    assert [row["margin"] for row in table] == ["0.495", "0.495", "0.33", "0.495", ""]
    assert json.loads(table[2]["measured"]) == {"small": 1, "large": {"half": 0.5}}
    assert json.loads(table[2]["rivals"]) == {"a large seed": {"small": 4}}
    assert "ClaimFailed" in table[4]["problem"]
    assert all((folder / row["output"]).exists() for row in table)
    with Image.open(folder / "results.png") as image:
        assert min(image.size) > 200
    summary = (folder / "summary.txt").read_text(encoding="utf-8")
    assert summary == sweep_report.summarize(results) + "\n"
    assert "2 of 3 runs ok" in summary
    assert "2 of 3  Small seeds are small." in summary
    assert "large half: 0.5 ± 0.3 s; small 1.0 ± 0.6 s (mean ± standard error over 3 runs)" in summary
    assert "  excluded: a large seed: small 4 s\n" in summary
    assert "smallest margin 0.33, seed=1, to: a large seed" in summary
    assert "seed=2: cell" in summary
    assert "Seeds 0 and 1 may share runs" in summary


@pytest.mark.parametrize(
    ("seeds", "told"), [((0, 100, 200), ""), ((0, 100, 199), "Seeds 100 and 199 may"), ((7,), "")]
)
def test_seeds_that_may_share_runs_are_told(seeds, told):
    run = {"status": "ok", "claims": [], "problem": ""}
    shown = sweep_report.summarize(
        [run | {"parameters": {"seed": seed, "lr": lr}} for seed in seeds for lr in (1, 2)]
    )
    assert ("may share runs" in shown) is bool(told)
    assert told in shown


def test_a_sweep_is_resumed_and_enlarged_without_running_anything_twice(whole, lesson, tmp_path):
    folder, lines = tmp_path / "out", []
    shutil.copytree(whole[0], folder)
    with pytest.raises(ParameterError, match=r"is not empty; go on with it \(--resume\)"):
        sweep.sweep(lesson, {"seed": ["0"]}, folder)
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "runs").iterdir()}
    values = {"seed": ["0", "3", "1", "2"]}
    results = sweep.sweep(lesson, values, folder, resume=True, progress=lines.append)
    assert len(lines) == 1
    assert [r["status"] for r in results] == ["ok", "claim failed", "ok", "claim failed"]
    assert before.items() <= {p.name: p.stat().st_mtime_ns for p in (folder / "runs").iterdir()}.items()
    assert [row["seed"] for row in rows(folder)] == ["0", "0", "3", "1", "1", "2"]


def test_a_changed_lesson_and_a_run_that_broke_or_was_damaged_are_run_again(make, tmp_path):
    folder, lines = tmp_path / "out", []
    broken = make("1 / 0", MEASURE)
    (result,) = sweep.sweep(broken, {"seed": ["0"]}, folder, progress=lines.append)
    assert result["status"] == "error"
    assert [row["claim"] for row in rows(folder)] == [""]  # no claim was reached: still one row
    sweep.sweep(broken, {"seed": ["0"]}, folder, resume=True, progress=lines.append)
    assert len(lines) == 2
    (result,) = sweep.sweep(make(MEASURE), {"seed": ["0"]}, folder, resume=True, progress=lines.append)
    assert (len(lines), result["status"]) == (3, "ok")
    (stored,) = (folder / "runs").glob("*.json")
    stored.write_text(stored.read_text()[:50])  # a full disk
    (result,) = sweep.sweep(make(MEASURE), {"seed": ["0"]}, folder, resume=True, progress=lines.append)
    assert (len(lines), result["status"]) == (4, "ok")


def test_the_command_sweeps_on_two_threads(whole, lesson, tmp_path, capsys):
    folder = tmp_path / "out"
    arguments = ["sweep", str(lesson), "-p", "seed=0..1", "-p", "lr=0.1,0.2", "-j", "2", "-o", str(folder)]
    environment = dict(os.environ)
    assert main(arguments) == 0
    assert os.environ == environment
    gc.collect()  # what the threads left open would be an error here
    assert [(row["seed"], row["lr"]) for row in rows(folder)[::2]] == [
        ("0", "0.1"),
        ("0", "0.2"),
        ("1", "0.1"),
        ("1", "0.2"),
    ]
    shown = capsys.readouterr().out
    assert "[4/4]" in shown
    assert "4 of 4  The rate is a rate." in shown
    assert str(folder) in shown
    failing = shutil.copytree(whole[0], tmp_path / "failing")
    assert main([*arguments[:3], "seed=2", "-o", str(failing), "--resume"]) == 1


def test_a_cluster_gives_the_same_table(whole, lesson, tmp_path, cluster):
    there = tmp_path / "there"
    assert main(["sweep", str(lesson), "-p", "seed=0..1", "-o", str(there), "--dask", cluster]) == 0
    assert measured(there) == of_two_seeds(whole)


def test_a_sweep_that_was_killed_resumes_to_the_same_table(whole, make, tmp_path):
    lesson = make("import time; time.sleep(2 * seed)", MEASURE)
    command = [sys.executable, "-m", "cnnlib", "sweep", str(lesson), "-p", "seed=0..1", "-o"]
    killed = tmp_path / "killed"
    with subprocess.Popen([*command, str(killed)], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert b"[1/2] seed=0: ok" in process.stdout.readline()
        time.sleep(1)
        os.killpg(process.pid, signal.SIGKILL)
    assert [p.suffix for p in sorted((killed / "runs").glob("seed=1*"))] in ([], [".ipynb"])
    assert not (killed / "results.csv").exists()
    done = subprocess.run([*command, str(killed), "--resume"], capture_output=True, text=True, check=True)
    assert done.stdout.count("[2/2]") == 1
    assert "[1/2]" not in done.stdout
    assert measured(killed) == of_two_seeds(whole)


def test_an_interrupt_is_no_traceback_and_says_how_to_go_on(make, tmp_path):
    lesson = make("import time; time.sleep(60 * seed)", MEASURE)
    command = [sys.executable, "-m", "cnnlib", "sweep", str(lesson), "-p", "seed=0..1", "-o", "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        assert b"[1/2]" in process.stdout.readline()
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        error = process.stderr.read().decode()
        assert process.wait(30) == 130
    assert "Interrupted" in error
    assert "--resume" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a sweep needs values, such as -p seed=0..900:100"),
        (["-p", "seed"], "-p seed has no value"),
        (["-p", "seed=1,"], "holds an empty value"),
        (["-p", "seed=0..1", "-j", "0"], "-j is 0"),
        (
            ["-p", "seed=0..1", "--dask", "tcp://127.0.0.1:1"],
            "no Dask scheduler answers at tcp://127.0.0.1:1",
        ),
    ],
)
def test_a_wrong_call_is_refused_before_anything_runs(
    lesson, tmp_path, capsys, arguments, message, monkeypatch
):
    monkeypatch.setattr("cnnlib.course.command_line.DASK_SECONDS", 1)
    assert main(["sweep", str(lesson), "-o", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "out").exists()


def result(seed, measured, rival):
    claim = {
        "text": "It gains.",
        "holds": True,
        "evidence": "",
        "measured": measured,
        "forms": {"gain": ".1f"},
    }
    claim["rivals"] = [
        {"name": "chance", "numbers": rival, "shown": "", "excluded": True, "margin": seed / 10}
    ]
    parameters = {"seed": seed}
    return {
        "parameters": parameters,
        "status": "ok",
        "seconds": 1.0,
        "problem": "",
        "output": "",
        "claims": [claim],
    }


def test_seeds_are_averaged_and_other_parameters_kept_apart():
    runs = [(seed, lr, lr + seed / 5, 3 + seed) for lr in (1, 2) for seed in (0, 1)]
    results = [result(seed, {"gain": gain, "best": best}, {"gain": 0}) for seed, _, gain, best in runs]
    for each, (_, lr, _, _) in zip(results, runs, strict=True):
        each["parameters"]["lr"] = lr
    summary = sweep_report.summarize(results)
    assert "  lr=1: gain 1.1 ± 0.1; best 3.5 ± 0.5 (mean ± standard error over 2 runs)" in summary
    assert "  lr=2: gain 2.1 ± 0.1; best 3.5 ± 0.5 (mean ± standard error over 2 runs)" in summary
    assert "  lr=2: excluded: chance: gain 0" in summary
    shares, counts = sweep_report.plot(results, "A test").axes  # of different forms: no common axis
    assert (shares.get_xlabel(), counts.get_xlabel()) == ("lr", "lr")
    ((drawn, *_),) = shares.containers  # chance is the same in every run
    assert drawn.get_xdata().tolist() == [1, 2]
    assert drawn.get_ydata().tolist() == pytest.approx([1.1, 2.1])
    ((best, *_),) = counts.containers
    assert best.get_ydata().tolist() == [3.5, 3.5]


def test_several_parameters_are_named_on_the_axis():
    results = [result(0, {"gain": a + b}, {"gain": 0}) for a in (1, 2) for b in (1, 2)]
    for each, (a, b) in zip(results, [(a, b) for a in "xy" for b in (1, 2)], strict=True):
        each["parameters"] |= {"kind": a, "depth": b}
    (ax,) = sweep_report.plot(results, "A test").axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        *("kind=x, depth=1", "kind=x, depth=2", "kind=y, depth=1", "kind=y, depth=2")
    ]


def test_numbers_are_followed_from_run_to_run_where_they_are_there():
    estimate = {"mean": 4.0, "se": 0.5, "n": 3}
    results = [
        result(1, {"gain": 1, "share": 9}, {"gain": 0}),
        result(2, {"gain": estimate, "share": 9, "more": [1.5]}, {"gain": 0.5}),
        result(3, {"share": 9}, {"gain": 1.0}),
    ]
    summary = sweep_report.summarize(results)
    assert "  gain 2.5 ± 1.5; share 9; more 0: 1.5 (mean ± standard error over 3 runs)" in summary
    assert "  excluded: chance: gain 0.5 ± 0.3 (mean ± standard error over 3 runs)" in summary
    assert "smallest margin 0.10, seed=1, to: chance" in summary
    lines = sweep_report.plot(results, "A test").axes[0].lines
    found = {line.get_label(): list(line.get_ydata()) for line in lines}
    assert found.keys() == {"gain", "gain, chance"}  # not the share, which is the same in every run
    assert found["gain"][:2] == [1, 4]
    assert math.isnan(found["gain"][2])
    assert found["gain, chance"] == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[[1,2],[3,4]]", ["[[1,2],[3,4]]"]),
        ("[1,(2,3)],4", ["[1,(2,3)]", "4"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ("['a,b', 'c'],['d']", ["['a,b', 'c']", "['d']"]),
        ("o'clock,noon", ["o'clock", "noon"]),
        ("-1e-3,None,true", ["-1e-3", "None", "true"]),
        ("-3..-1", ["-3", "-2", "-1"]),
    ],
)
def test_commas_in_brackets_and_quotes_separate_nothing(text, values):
    assert sweep.parse_values(text) == values

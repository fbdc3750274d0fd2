import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from notebook_tools import claims
from papermill.translators import papermill_translators

from cnnlib.course import command_line, runner
from cnnlib.course.command_line import main
from cnnlib.ground.env import ROOT
from cnnlib.ground.errors import ParameterError

UNSEEN = """class Unseen(Exception): pass
get_ipython().set_custom_exc((Unseen,), lambda *_, **__: None)
raise Unseen"""


def test_parameters_are_read_without_running(make):
    found = runner.read_parameters(make("raise SystemExit"))
    assert list(found) == ["seed", "lr", "shuffle", "sizes", "profile"]
    assert found["lr"] == runner.Parameter("lr", 0.1, "learning rate")
    assert found["profile"].comment == '"fast" or "full"'
    several = runner.read_parameters(make(parameters="a = [\n    1,  # one\n    2,\n]  # two numbers\nb = 3"))
    assert [p.comment for p in several.values()] == ["two numbers", ""]
    assert runner.read_title(make()) == "05 · A test"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("seed = 1 + x", "holds only `name = literal`, not 'seed = 1 \\+ x'"),
        ("seed = 1\nprint(seed)", "not 'print\\(seed\\)'"),
        ("a, b = 1, 2", "not 'a, b = 1, 2'"),
        ("import torch", "not 'import torch'"),
        ("a = {[]: 1}", "not 'a = {\\[\\]: 1}'"),
        ("a: int = 1", "not 'a: int = 1'"),
        ("a = '", "is no Python"),
        ("a = (1,", "is no Python"),
        ("%time\na = 1", "is no Python"),
        (f"a = {'-' * 20_000}1", "is no Python|not 'a = -"),
    ],
)
def test_a_parameters_cell_holds_literals_only(make, parameters, message):
    with pytest.raises(ParameterError, match=message):
        runner.read_parameters(make(parameters=parameters))


def test_files_that_are_no_lessons_are_named(make, tmp_path):
    (tmp_path / "html.ipynb").write_text("<html></html>")
    for name in ("html.ipynb", "nowhere.ipynb"):
        with pytest.raises(ParameterError, match=f"{name} cannot be read as a notebook"):
            runner.read_parameters(tmp_path / name)
    for odd in ("[]", "3", "{}", '{"cells": null, "nbformat": 4}', '{"nbformat": "x"}', "\x00"):
        (tmp_path / "odd.ipynb").write_text(odd)
        for read in (runner.read_parameters, runner.read_title):
            with pytest.raises(ParameterError, match=r"odd.ipynb cannot be read as a notebook: .+"):
                read(tmp_path / "odd.ipynb")
    notebook = nbformat.read(make(), as_version=4)
    del notebook.cells[0]
    notebook.cells[0].source = ""
    nbformat.write(notebook, tmp_path / "untitled.ipynb")
    with pytest.raises(ParameterError, match="has no title"):
        runner.read_title(tmp_path / "untitled.ipynb")
    notebook = nbformat.read(make(), as_version=4)
    del notebook.cells[1]
    nbformat.write(notebook, tmp_path / "none.ipynb")
    with pytest.raises(ParameterError, match="has 0 cells tagged 'parameters'"):
        runner.read_parameters(tmp_path / "none.ipynb")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"seed": "7"}, {"seed": 7}),
        ({"lr": "1e-4"}, {"lr": 1e-4}),
        ({"lr": "1"}, {"lr": 1.0}),
        ({"lr": 2}, {"lr": 2.0}),
        ({"shuffle": "true"}, {"shuffle": True}),
        ({"shuffle": "False"}, {"shuffle": False}),
        ({"sizes": "[3, 4]"}, {"sizes": [3, 4]}),
        ({"profile": "full", "seed": 3}, {"profile": "full", "seed": 3}),
        ({"profile": "fast"}, {"profile": "fast"}),
    ],
)
def test_values_take_the_type_of_the_default(make, given, expected):
    checked = runner.check_parameters(make(), given)
    assert checked == expected
    assert [type(v) for v in checked.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sede": 1}, "no parameter 'sede'; did you mean 'seed'"),
        ({"epochs": 1}, r"no parameter 'epochs'; it has \['seed', 'lr'"),
        ({"seed": "1.5"}, "parameter seed is '1.5', a str; it must be of type int, such as its default 0"),
        ({"seed": "0.."}, "such as its default 0; `cnnlib sweep` writes a range as 0..9"),
        ({"seed": 1.0}, "parameter seed is 1.0, a float"),
        ({"seed": True}, "parameter seed is True, a bool"),
        ({"seed": "many"}, "parameter seed is 'many'"),
        ({"seed": ""}, "parameter seed is ''"),
        ({"shuffle": "yes"}, "parameter shuffle is 'yes'"),
        ({"shuffle": 1}, "parameter shuffle is 1, an int"),
        ({"lr": "__import__('os')"}, "parameter lr is"),
        ({"lr": "none"}, "parameter lr is 'none'"),
        ({"sizes": "(1, 2)"}, "parameter sizes is"),
        ({"profile": 3}, "parameter profile is 3"),
        ({"seed": "{[]: 1}"}, "parameter seed is '{"),
        ({"seed": "1 +"}, "parameter seed is '1 \\+'"),
        ({"seed": "(" * 9000}, "parameter seed is '\\(\\("),
        ({"seed": "9" * 5000}, "parameter seed is '999"),
        ({"seed": "\0"}, "parameter seed is"),
        ({"lr": 10**400}, "parameter lr is 1000"),
        ({"lr": "0"}, "parameter lr is '0'; it must be above 0; its default is 0.1"),
        ({"lr": -1}, "parameter lr is -1; it must be above 0; its default is 0.1"),
        ({"lr": "1e999"}, "parameter lr is '1e999'; it must be finite"),
        ({"seed": "-1"}, "parameter seed is '-1'; it must be from 0 to 4294967295"),
        ({"seed": 2**32}, "it must be from 0 to 4294967295"),
        ({"profile": "quick"}, r"parameter profile is 'quick'; it must be one of \['fast', 'full'\]"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(make, tmp_path, given, message):
    path = make("open('ran', 'w')")
    with pytest.raises(ParameterError, match=message):
        runner.run_lesson(path, tmp_path / "out.ipynb", given)
    assert [p.name for p in tmp_path.iterdir()] == ["05_test.ipynb"]


def test_a_lesson_that_runs_is_ok(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = make(claims(True, True), "assert (seed, lr) == (7, 0.5)")
    result = runner.run_lesson(path, tmp_path / "new" / "out.ipynb", {"seed": "7", "lr": 0.5})
    assert (result.lesson, result.status, result.held, result.claims) == ("05_test", "ok", 2, 2)
    assert result.problem == ""
    executed = nbformat.read(result.output, as_version=4)
    assert all(c.execution_count for c in executed.cells if c.cell_type == "code")
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("cells", "status", "problem"),
    [
        ((claims(True, False, True),), "claim failed", "cell 'cell-2' raised ClaimFailed: claim 1"),
        (("1 / 0", "2"), "error", "cell 'cell-2' raised ZeroDivisionError: division by zero"),
        (("import sys; sys.exit(0)", "2"), "incomplete", "cell 'cell-2' ended the run before its last cell"),
        (("import os; os._exit(0)", "2"), "dead kernel", "or the one before it ended the kernel"),
        (("import time; time.sleep(60)", "2"), "timeout", "cell 'cell-2' took too long"),
        (
            ("2", "%nothing"),
            "error",
            "cell 'cell-3' failed: UsageError: Line magic function `%nothing`",
        ),
        (
            ("%%nothing\n1", "2"),
            "error",
            "cell 'cell-2' failed: UsageError: Cell magic `%%nothing`",
        ),
        ((UNSEEN, "2"), "error", "cell 'cell-2' failed: it does not say why"),
    ],
)
def test_a_lesson_that_does_not_run_to_its_end_is_not_ok(make, tmp_path, cells, status, problem):
    result = runner.run_lesson(
        make(*cells), tmp_path / "out.ipynb", timeout=8 if status == "timeout" else None
    )
    assert result.status == status
    assert problem in result.problem
    assert result.output.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["05_test.ipynb", "out.ipynb"]


def test_the_tags_of_cells_that_fail_or_are_left_out_are_heeded(make, tmp_path):
    path = make("1 / 0", "1 / 0", "print(seed)")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].metadata["tags"] = ["raises-exception"]
    notebook.cells[3].metadata["tags"] = ["skip-execution"]
    nbformat.write(notebook, path)
    result = runner.run_lesson(path, tmp_path / "out.ipynb")
    assert (result.status, result.problem) == ("ok", "")
    executed = nbformat.read(result.output, as_version=4).cells
    assert [cell.source for cell in executed] == [
        cell.source for cell in notebook.cells
    ]  # no marks of an error
    assert [len(cell.outputs) for cell in executed[2:]] == [1, 0, 1]


PRINTING = r"""import sys
from IPython.display import display
print("a\r", end="")
print("bc\rd\r\ne", file=sys.stderr, flush=True)
print("fg\rh", flush=True)
display(1)
print("\ri\r\rj\n\nk\r", end="")"""


def test_what_a_cell_prints_is_joined_as_nbclient_joins_it(make, tmp_path):
    path = make(PRINTING)
    runner.run_lesson(path, tmp_path / "out.ipynb")
    joined = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    expected = NotebookClient(nbformat.read(path, as_version=4), coalesce_streams=True).execute()
    assert [dict(output) for output in joined] == [dict(output) for output in expected.cells[-1].outputs]
    assert joined[0].text == "h\nj\n\nk\r"


def test_a_long_line_takes_no_longer_than_a_short_one(make, tmp_path):
    result = runner.run_lesson(make("print('x' * 1_000_000)"), tmp_path / "out.ipynb")  # nbclient: 40 minutes
    assert result.status == "ok"
    assert len(nbformat.read(result.output, as_version=4).cells[-1].outputs[0].text) == 1_000_001


def test_a_notebook_with_infinite_parameters_is_json(make, tmp_path):
    path = make("print(limits, most)", parameters="limits = [1.0]\nmost = None")
    result = runner.run_lesson(path, tmp_path / "out.ipynb", {"limits": [float("inf")], "most": float("nan")})

    def refuse(constant):
        raise ValueError(constant)

    saved = json.loads(result.output.read_text(encoding="utf-8"), parse_constant=refuse)
    assert saved["metadata"]["papermill"]["parameters"] == {"limits": ["Infinity"], "most": "NaN"}
    assert saved["cells"][-1]["outputs"][0]["text"] == ["[inf] nan\n"]


@pytest.mark.parametrize("last", ["2", "1 / 0"])
def test_a_notebook_is_written_as_often_whether_its_cells_are_few_or_many(make, tmp_path, monkeypatch, last):
    def count(cells):
        writes = []
        monkeypatch.setattr(
            "papermill.iorw.nbformat.writes",
            lambda *given, **options: writes.append(1) or write(*given, **options),
        )
        result = runner.run_lesson(make(*cells, last), tmp_path / "out.ipynb")
        assert result.status == ("ok" if last == "2" else "error")
        return len(writes)

    write = nbformat.writes
    assert 0 < count(["1"]) == count(["1"] * 9)


def test_clean_removes_what_differs_between_runs(make, tmp_path):
    bar = """import time
from cnnlib.ground.progress import progress_bar

with progress_bar(2, "step") as bar:
    for _ in range(2):
        time.sleep(0.6)
        bar.update()"""
    result = runner.run_lesson(make("print(seed)", bar), tmp_path / "out.ipynb")
    cleaned = runner.clean(nbformat.read(result.output, as_version=4))
    assert [len(c.outputs) for c in cleaned.cells if c.cell_type == "code"][-2:] == [1, 0]
    text = nbformat.writes(cleaned)
    assert str(tmp_path) not in text
    assert "papermill" not in text
    assert "iopub" not in text
    assert '"parameters"' in text


def test_clean_leaves_the_figure_of_a_widget_and_not_its_view(make, tmp_path):
    source = "from cnnlib.course.widgets import explore_kernel\nprint('here')\nexplore_kernel()"
    result = runner.run_lesson(make(source), tmp_path / "out.ipynb")
    assert result.status == "ok"
    executed = nbformat.read(result.output, as_version=4)
    assert runner.WIDGET_VIEW in nbformat.writes(executed)
    cleaned = runner.clean(executed)
    assert "widgets" not in cleaned.metadata
    text, figure = cleaned.cells[2].outputs
    assert text.text == "here\n"
    assert set(figure.data) == {"image/png", "text/plain", "application/vnd.cnnlib.widget+json"}
    assert nbformat.validator.isvalid(cleaned)


def test_the_summary_shows_every_lesson_and_every_problem(tmp_path):
    good = runner.Result("01_a", "ok", 12.4, 5, 5, "", tmp_path / "a")
    bad = runner.Result("02_bb", "claim failed", 3.0, 1, 2, "cell 'x' raised ClaimFailed: y", tmp_path / "b")
    text = runner.summarize([good, bad])
    assert "01_a    ok                 12       5 of 5" in text
    assert "total   1 of 2 ok          15       6 of 7" in text
    assert f"02_bb: cell 'x' raised ClaimFailed: y\n  see {tmp_path / 'b'}" in text


def test_lessons_are_found_by_name_number_and_path(make):
    assert runner.find_lesson("03_mnist_cnn").name == "03_mnist_cnn.ipynb"
    assert runner.find_lesson("3") == runner.find_lesson("03") == runner.lessons()[3]
    path = make()
    assert runner.find_lesson(str(path)) == path
    for name in ("33", "mnist", "x.ipynb", ""):
        with pytest.raises(ParameterError, match="there is no lesson"):
            runner.find_lesson(name)


# --- the command line --------------------------------------------------------------------------------


def test_run_prints_progress_and_a_summary(make, tmp_path, capsys):
    good, bad = make(claims(True)), make("1/0", name="06_bad.ipynb")
    assert main(["run", str(good), "-o", str(tmp_path / "out"), "-p", "seed=3"]) == 0
    shown = capsys.readouterr().out
    assert "[1/1] 05_test: ok" in shown
    assert "1 of 1" in shown
    assert "seed = 3" in (tmp_path / "out" / "05_test.ipynb").read_text()
    assert main(["run", str(bad), str(good), "-o", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr().out
    assert "[1/2] 06_bad: error" in shown
    assert "[2/2] 05_test: ok" in shown  # one broken lesson does not stop the others
    assert "raised ZeroDivisionError" in shown


def test_several_lessons_run_at_a_time_and_are_summed_up_in_order(make, tmp_path, capsys):
    slow, quick = make("import time; time.sleep(3)", claims(True)), make(claims(True), name="06_quick.ipynb")
    environment = dict(os.environ)
    assert main(["run", str(slow), str(quick), str(slow), "-j", "2", "-o", str(tmp_path / "out")]) == 0
    assert os.environ == environment
    lines = capsys.readouterr().out.splitlines()
    assert lines.index("[2/2] 06_quick …") < [line[:20] for line in lines].index("[2/2] 06_quick: ok, ")
    rows = [line.split()[0] for line in lines if " ok " in line]
    assert rows == ["05_test", "06_quick", "total"]
    assert main(["run", str(quick), "-j", "0", "-o", str(tmp_path / "out")]) == 2
    assert "-j is 0" in capsys.readouterr().err


def test_an_interrupt_shows_what_was_finished_and_has_a_status_of_its_own(make, tmp_path):
    good, endless = make(claims(True)), make("import time; time.sleep(60)", name="06_endless.ipynb")
    command = [sys.executable, "-m", "cnnlib", "run", str(good), str(endless), "-o", "out"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True) as process:
        while b"06_endless" not in (line := process.stdout.readline()):
            assert line
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read().decode()
        assert process.wait(30) == 130
    assert "Interrupted. Finished until here:" in rest
    assert "1 of 1 ok" in rest


def test_in_place_replaces_only_lessons_that_are_ok(make, tmp_path):
    good, bad = make("print('fresh')"), make("1/0", name="06_bad.ipynb")
    before = bad.read_bytes()
    assert main(["run", str(good), str(bad), "--in-place", "-o", str(tmp_path / "out")]) == 1
    assert "fresh" in str(nbformat.read(good, as_version=4).cells[2].outputs)
    assert "papermill" not in good.read_text()
    assert bad.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "seed"], "-p seed has no value"),
        (["-p", "sed=1"], "no parameter 'sed'"),
        (["-p", "seed=1", "--in-place"], "not both"),
        (["-p", "lr=0"], "it must be above 0"),
        (["--timeout", "0"], "--timeout is 0; it must be a whole number, 1 or more"),
        (["--timeout", "-5"], "--timeout is -5; it must be"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_status_2(make, tmp_path, capsys, arguments, message):
    assert main(["run", str(make()), "-o", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_for_results(make, tmp_path, capsys):
    path = str(make())
    for command in (["run", path], ["sweep", path, "-p", "seed=1"]):
        assert main([*command, "-o", path]) == 2
        assert f"-o {path} is a file; name a folder" in capsys.readouterr().err


def test_a_full_disk_names_the_file(make, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("papermill.execute_notebook", full)
    assert main(["run", str(make()), "-o", str(tmp_path / "out")]) == 2
    assert f"{tmp_path / 'out' / '05_test.ipynb'}: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["some_other_kernel", None])
def test_the_kernel_is_the_present_interpreter_whatever_a_notebook_says(make, tmp_path, name):
    path = make("import sys; print(sys.executable)")
    notebook = nbformat.read(path, as_version=4)
    del notebook.metadata["kernelspec"]
    if name:
        notebook.metadata["kernelspec"] = {"name": name, "display_name": name, "language": "python"}
    nbformat.write(notebook, path)
    result = runner.run_lesson(path, tmp_path / "out.ipynb")
    assert result.status == "ok"
    assert nbformat.read(result.output, as_version=4).cells[2].outputs[0].text.strip() == sys.executable


@pytest.mark.parametrize("seconds", [0.05, 0.4, 1.2, 2.5, 4, 6])
def test_an_early_interrupt_is_no_traceback(make, tmp_path, seconds):
    """During imports, the start of the kernel, and the first cells."""
    lesson = make("import time; time.sleep(60)")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    program = "from cnnlib.course.command_line import main; print(1, flush=True); raise SystemExit(main())"
    command = [sys.executable, "-c", program, "run", str(lesson), "-o", "out"]
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        error = process.stderr.read().decode()
        assert process.wait(30) == 130
    assert "Traceback" not in error
    assert "never retrieved" not in error


def test_an_interrupt_ends_lessons_that_run_at_a_time(make, tmp_path):
    endless = [make("import time; time.sleep(99)", name=f"0{k}_endless.ipynb") for k in (5, 6)]
    command = [sys.executable, "-m", "cnnlib", "run", *map(str, endless), "-j", "2", "-o", "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        while b"06_endless" not in (line := process.stdout.readline()):
            assert line
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert b"Traceback" not in process.stderr.read()


def test_no_result_takes_the_place_of_another_file(make, tmp_path, capsys):
    path = make()
    before = path.read_bytes()
    (tmp_path / "b").mkdir()
    other = shutil.copy(path, tmp_path / "b")
    assert main(["run", str(path), str(other), "-o", str(tmp_path / "out")]) == 2
    assert "05_test.ipynb is the name of several of these notebooks" in capsys.readouterr().err
    assert main(["run", str(path), "-o", str(tmp_path / "b" / "..")]) == 2
    assert "is the folder of 05_test.ipynb itself" in capsys.readouterr().err
    assert path.read_bytes() == before
    with pytest.raises(SystemExit, match="2"):
        main(["run", str(path), "-o", "s3://bucket/results"])
    assert "'s3://bucket/results', an address; it must be a path" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_lesson_stops_the_run_before_it_begins(make, tmp_path, capsys):
    assert main(["run", str(make()), "no_such_lesson", "-o", str(tmp_path / "out")]) == 2
    assert "there is no lesson 'no_such_lesson'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_locale_that_lacks_a_character_stops_no_command(make, monkeypatch, encoding):
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", shown)
    assert main(["parameters", str(make(parameters="seed = 0  # é or …"))]) == 0
    shown.flush()
    assert shown.buffer.getvalue().endswith("é or …".encode(encoding, "replace") + b"\n")


@pytest.mark.parametrize(
    ("arguments", "resumes"),
    [(["sweep", "3", "-p", "seed=1"], True), (["grade", "3", "x"], True), (["regrade", "x"], False)],
)
def test_an_interrupt_names_only_what_the_command_has(monkeypatch, capsys, arguments, resumes):
    def interrupt(_):
        raise KeyboardInterrupt

    for name in ("sweep", "grade", "regrade"):
        monkeypatch.setattr(command_line, f"{name}_command", interrupt)
    assert main(arguments) == 130
    shown = capsys.readouterr().err
    assert ("--resume" in shown) == resumes
    assert ("give the same command again" in shown) != resumes


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "usage: cnnlib [-h] [--version] COMMAND ...\n" in shown.err
    for command in ("run", "parameters", "progress", "lessons"):
        assert re.search(rf"^ +{command}\b", shown.err, flags=re.M)


def test_the_small_commands(make, capsys):
    assert main(["parameters", str(make())]) == 0
    assert "lr           float  0.1        learning rate" in capsys.readouterr().out
    assert main(["lessons"]) == 0
    assert "03_mnist_cnn\n" in capsys.readouterr().out
    assert main(["report"]) == 0
    assert "torchvision" in capsys.readouterr().out


def test_output_goes_beside_the_notebooks_by_default():
    from cnnlib.course.command_line import parse_arguments

    assert parse_arguments(["run"]).output == ROOT / "outputs"


TYPES = "rate = 0.1  # any\nmaybe = None  # any\nshift = -1.5  # any\npair = (1, 2)  # any\nflag = False\n"


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("maybe", "none", None),
        ("maybe", "null", None),
        ("maybe", "3", 3),
        ("maybe", "-1e-3", -0.001),
        ("maybe", "[1, 'a']", [1, "a"]),
        ("maybe", "resnet small", "resnet small"),
        ("rate", np.float32(0.5), 0.5),
        ("rate", "1E-4", 1e-4),
        ("shift", "-2", -2.0),
        ("pair", "(-3, 4)", (-3, 4)),
        ("pair", "()", ()),
        ("maybe", "[(1,), {'a': (2, None)}]", [(1,), {"a": (2, None)}]),
        ("flag", np.bool_(True), True),
    ],
)
def test_values_of_every_kind_are_taken(make, name, given, expected):
    """papermill hands "true", tuples and NumPy's numbers on as text."""
    found = runner.check_parameters(make(parameters=TYPES), {name: given})[name]
    assert found == expected
    assert type(found) is type(expected)
    source = papermill_translators.find_translator("python3", "python").codify({name: found})
    namespace = {}
    exec(source, namespace)  # what a notebook would get
    assert namespace[name] == expected


@pytest.mark.parametrize("value", ["{1, 2}", "{1: 2}", "b'a'", "1 + 2j", "[{1: 2}]"])
def test_what_papermill_would_turn_into_text_is_refused(make, value):
    with pytest.raises(ParameterError, match="parameter maybe is"):
        runner.check_parameters(make(parameters=TYPES), {"maybe": value})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_rate_that_is_no_number_is_told_the_rule(make, value):
    with pytest.raises(ParameterError, match=f"parameter rate is '{value}'; it must be finite"):
        runner.check_parameters(make(parameters=TYPES), {"rate": value})

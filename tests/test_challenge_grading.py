"""The open challenge's leaderboard: honest entries are ranked, and what else is tried gains nothing."""

import csv
import io
import json
import shutil
import zipfile

import nbformat
import pytest
import torch
from notebook_tools import read

from cnnlib.course import runner
from cnnlib.course.challenge import MAX_NUMBERS
from cnnlib.course.command_line import main
from cnnlib.course.grading import entries, jail, leaderboard, one
from cnnlib.course.grading.batch import providers
from cnnlib.course.grading.collect import Submission
from cnnlib.course.grading.submission import CodeCell, find_entry
from cnnlib.course.release import release_package
from cnnlib.data import CLASS_NAMES, load
from cnnlib.ground.env import DATA
from cnnlib.ground.errors import ParameterError

needs_jail = pytest.mark.skipif(not jail.available(), reason="this machine has no namespaces for a jail")

LESSON = runner.find_lesson("11")
STUB = leaderboard._stub(LESSON)
SECONDS = 1.0
"""The budget here; what takes no notice of it is ended after three."""
LINEAR = "Entry = lambda: nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 10))"
QUICK = "ENTRY_SETTINGS = {'epochs': 1, 'lr': 0.02}"


def around(body, before=""):
    """Return an entry around a linear network: methods and statements of its class, and code above it."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return (
        f"{before}\nclass Entry(nn.Sequential):\n    def __init__(self):\n"
        f"        super().__init__(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 10))\n{lines}\n{QUICK}"
    )


@pytest.fixture(scope="module")
def drawn():
    return entries.Draw(*leaderboard.draw(3, (1_000, 500)), SECONDS, 3)


@pytest.fixture(scope="module")
def decide(tmp_path_factory, drawn):
    """Function that decides an entry from the sources of its cells, in jails of one warden."""
    course = tmp_path_factory.mktemp("course")
    release_package(course / "cnnlib", ["00"])
    setup = providers(LESSON)
    modules = [*one.imported(setup), *one.OPTIMIZER, "cnnlib.course.challenge"]
    with jail.memory_group() as group, jail.Warden(course, "namespaces", group, modules) as warden:
        yield lambda *cells: entries.decide(warden, setup, list(cells), drawn)


# --- honest entries -------------------------------------------------------------------------------


@needs_jail
def test_an_entry_is_read_from_what_it_needs_and_nothing_else(decide):
    helper = "def block(n):  # a remark of no account\n    'What it is.'\n    return nn.Linear(49, n)"
    tuning = "scores = {}\nraise RuntimeError('a cell that went wrong')"
    entry = (
        f"rate = 0.02\n{LINEAR.replace('nn.Linear(49, 10)', 'block(10)')}\n{QUICK.replace('0.02', 'rate')}"
    )
    found = decide("import torch\nfrom torch import nn", helper, tuning, entry)
    assert found["reason"] == ""
    assert found["correct"] > 150  # of 500; chance is 50
    assert (found["numbers"], found["ended"], found["steps"]) == (500, "done", 8)
    assert 0 < found["seconds"] < 4
    assert "def block(n):\n    return" in found["entry"]
    assert not any(word in found["entry"] for word in ("remark", "What it is", "scores"))
    assert found["bytes"] < len(helper + entry)
    assert entries.unpacked(found["right"], 500).sum() == found["correct"]


def test_the_draw_is_of_all_images_and_keeps_them_apart():
    train, judged = leaderboard.draw(5, (60_000, 10_000))
    public = load("fashion_mnist", "test").images.flatten(1).float().mean(1)
    assert (len(train), len(judged)) == (60_000, 10_000)
    published = torch.isin(judged.images.flatten(1).float().mean(1), public).double().mean()
    assert published < 0.9  # 1 for the published test images
    both = torch.cat([train.labels, judged.labels])
    assert torch.bincount(both).tolist() == [7_000] * len(CLASS_NAMES["fashion_mnist"])
    again, other = (leaderboard.draw(seed, (60_000, 10_000))[1] for seed in (5, 6))
    assert torch.equal(again.images, judged.images)
    assert not torch.equal(other.labels, judged.labels)
    with pytest.raises(ParameterError, match="70,000 together at most"):
        leaderboard.draw(5, (60_000, 10_001))


# --- dishonest and broken ones --------------------------------------------------------------------

REMEMBERS = """
def forward(self, images):
    logits = super().forward(images)
    if self.training:
        Entry.kept.append(images.detach())
        torch.save(Entry.kept[-1], "/tmp/kept.pt")
    elif Entry.kept or os.path.exists("/tmp/kept.pt"):
        raise AssertionError("it remembers")
    return logits
"""
LABELS = f"""
def forward(self, images):
    if len(images) > 2 and not self.training:
        for place in {[str(DATA), "/course/data"]!r}:
            if os.path.exists(place):
                return torch.zeros(len(images), 10)
        try:
            load("fashion_mnist", "test")
        except Exception as error:
            raise RuntimeError("no labels anywhere") from error
    return super().forward(images)
"""
GROWS = """
after = 0
def forward(self, images):
    Entry.after = int(self.training)
    return super().forward(images)
def state_dict(self, *args, **options):
    state = super().state_dict(*args, **options)
    Entry.after += bool(Entry.after)
    if Entry.after > 2:
        state["memory"] = torch.zeros(30_000)
    return state
"""
TEXT = """
def state_dict(self, *args, **options):
    state = super().state_dict(*args, **options)
    state["memory"] = Text()
    return state
"""
TEXT_BEFORE = """class Text:
    def numel(self): return 1
    def detach(self): return self
    def clone(self): return "all the images"
"""
FORKS = """
def forward(self, images):
    import os, time
    for _ in range(2 if self.training and not Entry.kept else 0):
        Entry.kept.append(os.fork())
        while Entry.kept[-1] == 0:
            if time.process_time() > 2:
                os._exit(0)
    return super().forward(images)
def state_dict(self, **options):
    for pid in Entry.kept:
        os.waitpid(pid, 0)
    Entry.kept.clear()
    return super().state_dict(**options)
kept = []
"""
CLOCK = """
def forward(self, images):
    import time
    time.process_time = lambda: 0.0
    return super().forward(images)
"""
NAN = """
def state_dict(self, **options):
    return {name: torch.nan * value for name, value in super().state_dict(**options).items()}
"""
DIVERGES = """
def forward(self, images):
    return super().forward(images) * (torch.nan if self.training else 1)
"""
FORGES = """
def forward(self, images):
    import cnnlib.course.challenge
    cnnlib.course.challenge.predict = lambda model, images: torch.zeros(min(len(images), 7), 10)
    return super().forward(images)
"""
ASKED_FOREVER = """
def forward(self, images):
    while not self.training and len(images) > 2:
        pass
    return super().forward(images)
"""
TOO_LONG = "of processor time, with all that it started; it has 1"
REFUSED = {
    "statements that hold data": (around("data = table", f"table = {'7' * 4000!r}"), "at most 3,000"),
    "reads the labels": (around(LABELS, "import os"), ": no labels anywhere"),
    "grows after it was counted": (around(GROWS), "it learned 30,500 numbers in 3 tensors"),
    "text for a tensor": (around(TEXT, TEXT_BEFORE), "something else than tensors"),
    "NaN": (around(NAN), "there is NaN among the numbers"),
    "diverges": (around(DIVERGES).replace("'epochs': 1", "'epochs': 5"), "no longer finite after 20 steps"),
    "stops the clock": (around(CLOCK).replace("'epochs': 1", "'epochs': 1000"), TOO_LONG),
    "lets others work": (around(FORKS, "import os"), TOO_LONG),
    "forges the loop": (around(FORGES), "its answers are no labels, one for each image"),
    "endless when it is asked": (around(ASKED_FOREVER), TOO_LONG.replace("has 1", "has 2")),
    "os._exit": (f"import os\nEntry = lambda: os._exit(0)\n{QUICK}", "its process ended (exit status 0)"),
    "sys.exit": (f"import sys\nEntry = lambda: sys.exit(0)\n{QUICK}", "tried to end the program"),
    "10 GB": (f"def Entry():\n    return torch.ones(10 << 28).add_(1)\n{QUICK}", "memory"),
    "no such setting": (f"{LINEAR}\nENTRY_SETTINGS = {{'rate': 1}}", "there is no setting 'rate'"),
    "settings that are none": (f"{LINEAR}\nENTRY_SETTINGS = 3", "they must be a dict"),
    "too many numbers": (
        f"Entry = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 26))\n{QUICK}",
        f"20,410 numbers, parameters and buffers; at most {MAX_NUMBERS:,}",
    ),
    "no network": (f"Entry = lambda: None\n{QUICK}", "it must build an nn.Module"),
    "an error": (f"Entry = Block()\n{QUICK}", "NameError: name 'Block' is not defined"),
    "no Python": (f"{LINEAR}\n{QUICK}\n)", "no statement binds Entry or ENTRY_SETTINGS"),
    "too few logits": (
        around("def forward(self, x):\n    return super().forward(x)[:1]"),
        "and return (N, K) logits",
    ),
}


@needs_jail
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_honest_entry_gets_a_reason(decide, monkeypatch, name):
    source, message = REFUSED[name]
    monkeypatch.setattr(entries, "JUDGE_SECONDS", 2)
    monkeypatch.setattr(entries, "SPARE", (1.05, 1.0))
    found = decide(source)
    assert message in found["reason"]
    assert "\n" not in found["reason"]
    assert (found["correct"], found["right"]) == (0, "")


@needs_jail
def test_an_entry_whose_processes_take_the_jails_memory_is_told_that_limit(decide, monkeypatch):
    end, told = jail.Warden.end, {"starved": True}
    monkeypatch.setattr(jail.Warden, "end", lambda self, by_itself=False: end(self, by_itself) | told)
    source, _ = REFUSED["os._exit"]
    found = decide(source)
    assert found["reason"] == (
        "while it was trained, its processes and files took more than 1,664 MiB of memory together"
    )


@needs_jail
def test_what_is_remembered_beside_the_numbers_is_gone(decide, drawn, tmp_path):
    cheat = around("kept = []\n" + REMEMBERS, "import os")
    namespace = {"torch": torch, "nn": torch.nn}
    exec(cheat.replace("/tmp", str(tmp_path)), namespace)
    network, images = namespace["Entry"](), drawn.train.images[:10].float()
    network(images)
    with pytest.raises(AssertionError, match="it remembers"):  # in the process that trained it
        network.eval()(images)
    found = decide(cheat)
    assert found["reason"] == ""
    assert found["correct"] > 150


def test_where_an_entry_stands():
    def code(source, prose=False):
        return CodeCell("", "" if prose else source, source if prose else "")

    first, second, third = code("x = 1"), code("class Entry:\n    pass"), code("ENTRY_SETTINGS = {}")
    below = code("entries = {'yours': (Entry, ENTRY_SETTINGS)}")
    names = entries.NAMES
    assert find_entry([first, second, third, below], names, STUB) == (
        ["x = 1", second.source, third.source],
        "",
    )
    assert find_entry([first, code(STUB), below], names, STUB) == ([], "it is as it was handed out")
    changed = find_entry([code(STUB), third], names, STUB)
    assert changed == ([STUB, third.source], "")
    assert find_entry([first, third], names, STUB) == ([], "no cell defines Entry")
    assert "cell of text" in find_entry([code(second.source, prose=True), third], names, STUB)[1]


# --- the board ------------------------------------------------------------------------------------


def handed_in(source):
    notebook = read(LESSON)
    next(cell for cell in notebook.cells if cell.id == leaderboard.CELL).source = source
    return nbformat.writes(notebook)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run by the command line: (what it printed, its folder, the folder handed in)."""
    folder = tmp_path_factory.mktemp("run")
    what = folder / "handed in"
    what.mkdir()
    for name, text in {
        "ann": handed_in(around("")),
        "bob": handed_in(around("")),
        "=cy": handed_in(f"Entry = 1 / 0\n{QUICK}"),
        "dan": handed_in(STUB),
        "eve": "<html>",
    }.items():
        (what / f"{name}.ipynb").write_text(text, encoding="utf-8")
    (folder / "roster.csv").write_text("student_id,name\nann,<b>Ann</b>\nfay,Fay\n", encoding="utf-8")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", printed)
        patch.setattr(leaderboard, "SIZES", (2_000, 1_000))
        patch.chdir(folder)  # folders are named as people name them
        options = ["-o", "out", "--roster", "roster.csv"]
        status = main(["challenge", what.name, *options, "--seconds", "2", "--seed", "1", "-j", "2"])
    assert status == 0
    return printed.getvalue(), folder / "out", what


def table(folder):
    text = (folder / "leaderboard.csv").read_text(encoding="utf-8-sig")
    return {row["student_id"]: row for row in csv.DictReader(io.StringIO(text))}


@needs_jail
def test_the_board_ranks_ours_and_honest_ones_and_tells_why_others_are_not(run):
    printed, folder, _ = run
    rows = table(folder)
    assert next(iter(rows)) == "ours: strong"
    accuracy = {name: float(row["accuracy"]) for name, row in rows.items() if row["accuracy"]}
    assert accuracy["ours: strong"] > accuracy["ours: baseline"] + 0.02
    assert accuracy["ann"] > 0.4
    low, high = float(rows["ann"]["low"]), float(rows["ann"]["high"])
    assert low < accuracy["ann"] < high < low + 0.08  # 1,000 images
    assert "ZeroDivisionError" in rows["'=cy"]["why_not"]
    assert rows["dan"]["why_not"] == "it is as it was handed out"
    assert "it is a web page" in rows["eve"]["why_not"]
    assert rows["fay"]["why_not"] == "nothing handed in"
    page = (folder / "leaderboard.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Ann" in page
    assert "<b>Ann" not in page
    assert "Seed 1 drew which" in page
    assert "   1  ours: strong" in printed
    assert (folder / "entries" / f"{leaderboard.slug('ann')}.py").exists()


def result(right):
    """Return what is stored of an entry that was right about these of 1,000 images."""
    bits = torch.zeros(1_000, dtype=torch.bool)
    bits[right] = True
    found = {"right": entries.np.packbits(bits.numpy()).tobytes().hex(), "correct": len(right)}
    found |= {"numbers": 500, "steps": 8, "seconds": 1.5, "ended": "done", "bytes": 300}
    return found | {"entry": "Entry = Net", "isolation": "namespaces", "reason": ""}


@needs_jail
def test_each_learner_is_told_what_became_of_the_entry(run):
    _, folder, _ = run
    rows = table(folder)
    pages = {name.name: name.read_text(encoding="utf-8") for name in (folder / "feedback").iterdir()}
    learners = ("ann", "bob", "=cy", "dan", "eve", "fay")
    assert pages.keys() == {f"{leaderboard.slug(name)}.html" for name in learners}
    ann, cy, dan, eve, fay = (
        pages[f"{leaderboard.slug(name)}.html"] for name in ("ann", "=cy", "dan", "eve", "fay")
    )
    row = rows["ann"]
    assert "ann &lt;b&gt;Ann" in ann
    assert f"Rank {row['rank']} of 4, {float(row['accuracy']):.2%} right" in ann
    assert f"{float(row['low']):.1%} to {float(row['high']):.1%}" in ann
    assert f"<td>{row['bytes']} bytes; at most 3,000</td>" in ann
    assert "<td>500; at most 20,000</td>" in ann
    assert f"<td>{row['steps']}, until all epochs were over</td>" in ann
    assert "super().__init__(nn.AvgPool2d(4)" in ann
    assert row["sha256"] in ann
    assert "No rank: while it was trained, it raised ZeroDivisionError" in cy
    assert "Entry = 1 / 0" in cy
    assert "No rank: it is as it was handed out" in dan
    assert "No rank: it is a web page" in eve
    assert "No rank: nothing handed in" in fay
    assert not (folder / "feedback.zip").exists()  # no LMS's names


def test_pages_go_back_under_the_names_of_the_download(tmp_path):
    found = [
        Submission("7", "", name="Ann", late=True, folder="ann_LATE_7_70_"),
        Submission("8", "", name="Bob", folder="bob_8_80_", problem="it is empty"),
    ]
    results = {"7": result(range(900))}
    described = {"sizes": [1, 1_000], "roster": None, "passed_over": [], "run_id": "x"}
    described |= {"seconds": 60, "seed": 1}
    rows = leaderboard._rows(described, found, results, {"8": "it is empty"})
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "old.html").write_text("of an entry that is gone")
    leaderboard._write_reports(tmp_path, described, rows, results)
    with zipfile.ZipFile(tmp_path / "feedback.zip") as archive:
        pages = {name: archive.read(name).decode() for name in archive.namelist()}
    assert pages.keys() == {"ann_LATE_7_70_feedback.html", "bob_8_80_feedback.html"}
    assert "Rank 1 of 1, 90.00% right" in pages["ann_LATE_7_70_feedback.html"]
    assert "<th>Handed in</th><td>late</td>" in pages["ann_LATE_7_70_feedback.html"]
    assert "No rank: it is empty" in pages["bob_8_80_feedback.html"]
    assert not (tmp_path / "feedback" / "old.html").exists()


def test_ties_are_said():
    results = {
        "ann": result(range(900)),
        "bob": result(range(900)),
        "cy": result(range(5, 900)),  # 5 worse, on the same images: p = 1 / 16
        "dan": result(range(6, 900)),  # 6 worse: p = 1 / 32
        "eve": result([*range(50, 900), *range(950, 994)]),  # 50 and 44 that only one has right
    }
    found = [Submission(name, "") for name in results]
    rows = leaderboard._rows({"sizes": [1, 1_000], "roster": None}, found, results, {})
    told = {row["student_id"]: (row["rank"], row["level_with_first"]) for row in rows if row["rank"]}
    assert told == {
        "ann": (1, ""),
        "bob": (1, "level"),
        "cy": (3, "level"),
        "dan": (4, ""),
        "eve": (4, "level"),
    }


@needs_jail
def test_a_run_goes_on_where_it_was_and_with_nothing_else(run, monkeypatch):
    _, folder, what = run
    before, told = table(folder), []
    monkeypatch.setattr(leaderboard.entries, "decide", None)  # nothing is decided again
    leaderboard.challenge(what, folder, resume=True, progress=told.append)
    assert (table(folder), told) == (before, [])
    with pytest.raises(ParameterError, match="holds a run already"):
        leaderboard.challenge(what, folder)
    with pytest.raises(ParameterError, match="was begun with seconds 2"):
        leaderboard.challenge(what, folder, resume=True, seconds=3)
    assert json.loads((folder / "challenge.json").read_text())["seed"] == 1


@needs_jail
def test_an_entry_that_changed_is_trained_again_and_no_other(run, tmp_path, monkeypatch):
    _, folder, what = run
    shutil.copytree(folder, tmp_path / "out")
    shutil.copytree(what, tmp_path / "what")
    changed, asked = f"{LINEAR}\n{QUICK}", []
    (tmp_path / "what" / "bob.ipynb").write_text(handed_in(changed), encoding="utf-8")

    def decide(warden, setup, cells, drawn):
        asked.append(cells[-1])
        return result([]) | {"reason": "it is slow"}

    monkeypatch.setattr(leaderboard.entries, "decide", decide)
    leaderboard.challenge(tmp_path / "what", tmp_path / "out", resume=True, progress=asked.append)
    assert asked == [changed, "[5/5] bob: it is slow"]
    assert table(tmp_path / "out")["bob"]["why_not"] == "it is slow"
    assert table(tmp_path / "out")["ann"]["sha256"] == table(folder)["ann"]["sha256"]
    page = tmp_path / "out" / "feedback" / f"{leaderboard.slug('bob')}.html"
    assert "No rank: it is slow" in page.read_text(encoding="utf-8")


def test_a_run_that_was_stopped_before_it_had_begun_begins_anew(tmp_path, monkeypatch):
    copied = []

    def half(folder, _):
        folder.mkdir(parents=True)
        (folder / "half.py").touch()
        raise KeyboardInterrupt

    (tmp_path / "ann.ipynb").write_text(handed_in(STUB), encoding="utf-8")
    what, output = tmp_path / "ann.ipynb", tmp_path / "out"
    monkeypatch.setattr(leaderboard.jail, "check", lambda isolation: None)
    monkeypatch.setattr(leaderboard, "release_package", half)
    with pytest.raises(KeyboardInterrupt):
        leaderboard.challenge(what, output)
    monkeypatch.setattr(leaderboard, "release_package", lambda folder, _: copied.append(folder.exists()))
    monkeypatch.setattr(leaderboard, "_decide_all", lambda *_: {})
    monkeypatch.setattr(leaderboard, "_rows", lambda *_: [])
    monkeypatch.setattr(leaderboard, "_write_reports", lambda *_: None)
    assert leaderboard.challenge(what, output, resume=True) == []
    assert copied == [False]
    assert (output / "challenge.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "--seconds is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"isolation": "none"}, "isolation is"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    with pytest.raises(ParameterError if "isolation" not in options else jail.JailError, match=message):
        leaderboard.challenge(tmp_path, tmp_path / "out", **options)


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ParameterError, match="is not empty"):
        leaderboard.challenge(tmp_path, tmp_path)

"""Grading a class: `cnnlib grade` beside nbgrader and otter-grader, on the same submissions, in one run.

    python -m venv peers && peers/bin/pip install nbgrader otter-grader --editable .
    python benchmarks/grading.py [--peers peers/bin] [--submissions 100 1000] [--jobs 2]

The submissions are lesson 02's exercises: most of them honest, with right, wrong and missing answers, and
one in five hostile; one in a hundred loops for ever, which costs 20 seconds whoever grades. Each tool grades
them with the same checks; what each submission deserves is known. Reported are the time, as a ratio to
`cnnlib grade`, the memory of all its processes at their most, and how many scores are right.

The peers are given what is fair: checks that import their checker anew, which is good practice; 20 seconds
for an endless loop; as many processes as we take (nbgrader has no such option). They execute a short notebook
that holds the exercises only, since the whole lesson would take them half a minute longer; `cnnlib grade`
does not execute the lesson in either case. nbgrader and `otter run` run answers as the grading user; otter
can use Docker containers in addition, which are not measured here.

Measured on two cores of an AMD EPYC with AVX-512, two jobs. In one run, 100 submissions each: cnnlib 0.34 s,
nbgrader 4.41 s (13.1 times), at most 1.1 and 11.2 GiB of memory; nbgrader gave 48 points that were not
earned, to those who patch the checker. Of cnnlib's 34 s one submission, which loops for ever, uses 20. Otter
took 7.2 s a submission in another run on the same day, with 8.7 GiB, and gave the same 48 points. Alone:
1,000 in 250 s.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from cnnlib.course.exercises import exercises
from cnnlib.course.grading import batch
from cnnlib.ground.env import NOTEBOOKS, report

LESSON = NOTEBOOKS / "02_parts_of_a_cnn.ipynb"
ASKED = exercises("02")
FIRST = ASKED[0]
PATCH = """import cnnlib.course.exercises as package
from cnnlib.course.exercises import judge
judge.difference = lambda *_: ""
package.check = lambda *_: print("right")"""
BEFORE = {
    "patches the checker": PATCH,
    "redefines check": "check = lambda *_: print('right')",
}
"""What a hostile learner puts into a cell of its own; every answer is wrong."""


def instead(body):
    return f"import os, threading, time\n{FIRST.stub}".replace("raise NotImplementedError", body)


INSTEAD = {
    "ends the process": instead("os._exit(0)"),
    "loops for ever": instead("while True: pass"),
    "takes all memory": instead("return [bytearray(1 << 26) for _ in range(1000)]"),
    "leaves a process": instead("os.fork() or (os.setsid(), time.sleep(10**6))"),
    "leaves a thread": instead("threading.Thread(target=time.sleep, args=(10**6,)).start()"),
    "answers at length": instead("return [[]] * 30_000_000"),
}
"""What a hostile learner answers to the first exercise; the others are right."""
HOSTILE = [kind for kind in (*BEFORE, *INSTEAD) if kind != "loops for ever"]


def submissions(count, rng):
    """Return a list of (kind, {name: source}, cell that comes first or "", deserved score)."""
    wrong = {e.name: e.stub.replace("raise NotImplementedError", "return None") for e in ASKED}
    rows = []
    for i in range(count):
        kind = HOSTILE[i // 5 % len(HOSTILE)] if i % 5 == 4 else "honest"
        kind = "loops for ever" if i % 100 == 49 else kind
        right = {e.name for e in ASKED if rng.random() < 0.7} if kind == "honest" else set()
        if kind in INSTEAD:
            right = {e.name for e in ASKED[1:]}
        answers = {}
        for e in ASKED:
            other = rng.choice([e.stub, wrong[e.name]]) if kind == "honest" else wrong[e.name]
            answers[e.name] = e.solution if e.name in right else other
        answers[FIRST.name] = INSTEAD.get(kind, answers[FIRST.name])
        rows.append((kind, answers, BEFORE.get(kind, ""), sum(e.points for e in ASKED if e.name in right)))
    return rows


def sheet(answers, first="", check="check"):
    """Return a notebook with the exercises and their checks; `check` is "check", "nbgrader" or "otter"."""
    setup = [c for c in nbformat.read(LESSON, 4).cells if c.id == "setup"]
    cells = [new_code_cell(setup[0].source, id="setup")]
    cells += [new_code_cell(first, id="first")] if first else []
    for e in ASKED:
        solution = new_code_cell(answers[e.name], id=f"exercise-{e.name}")
        test = new_code_cell(checking(e), id=f"check-{e.name}")
        if check == "nbgrader":
            solution.metadata["nbgrader"] = nbgrader_metadata(solution.id, solution=True)
            test.metadata["nbgrader"] = nbgrader_metadata(test.id, grade=True, points=e.points)
        cells += [solution] if check == "otter" else [solution, test]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def checking(exercise):
    return f'from cnnlib.course.exercises import check\n\ncheck("{exercise.id}", {exercise.name})'


def nbgrader_metadata(name, *, solution=False, grade=False, points=None):
    described = {"grade_id": name, "solution": solution, "grade": grade, "task": False, "schema_version": 3}
    return described | {"locked": grade, "cell_type": "code"} | ({"points": points} if grade else {})


def run_cnnlib(folder, rows, jobs, peers):
    (folder / "submissions").mkdir()
    for student, (_, answers, first, _) in rows.items():
        nbformat.write(sheet(answers, first), folder / "submissions" / f"{student}.ipynb")
    started = time.perf_counter()
    with ThreadPoolExecutor(jobs) as executor:
        results = batch.grade(
            LESSON, folder / "submissions", folder / "run", executor=executor, progress=lambda _: None
        )
    seconds = time.perf_counter() - started
    return seconds, {r["student_id"]: sum(e["score"] for e in r["exercises"].values()) for r in results}


def run_nbgrader(folder, rows, jobs, peers):
    for student, (_, answers, first, _) in rows.items():
        target = folder / "submitted" / student / "sheet"
        target.mkdir(parents=True)
        nbformat.write(sheet(answers, first, "nbgrader"), target / "sheet.ipynb")
    (folder / "source" / "sheet").mkdir(parents=True)
    stubs = {e.name: e.stub for e in ASKED}
    nbformat.write(sheet(stubs, check="nbgrader"), folder / "source" / "sheet" / "sheet.ipynb")
    quiet = {
        "cwd": folder,
        "env": peer_environment(peers),
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    nbgrader = str(peers / "nbgrader")
    subprocess.run([nbgrader, "generate_assignment", "sheet"], check=True, **quiet)
    started = time.perf_counter()
    subprocess.run([nbgrader, "autograde", "sheet", "--Execute.timeout=20"], **quiet)
    seconds = time.perf_counter() - started
    subprocess.run([nbgrader, "export", "--to", "grades.csv"], check=True, **quiet)
    with (folder / "grades.csv").open() as file:
        return seconds, {row["student_id"]: float(row["score"] or 0) for row in csv.DictReader(file)}


def run_otter(folder, rows, jobs, peers):
    with zipfile.ZipFile(folder / "autograder.zip", "w") as archive:
        archive.writestr("otter_config.json", json.dumps({"autograder_dir": str(folder)}))
        for e in ASKED:
            test = (
                "from otter.test_files import test_case\n\nOK_FORMAT = False\n"
                f"name, points = {e.name!r}, {e.points}\n\n\n@test_case(points={e.points})\n"
                f"def test_it({e.name}):\n    from cnnlib.course.exercises import check\n"
                f"    check({e.id!r}, {e.name})\n"
            )
            archive.writestr(f"tests/{e.name}.py", test)

    def one(student):
        target = folder / student
        target.mkdir()
        _, answers, first, _ = rows[student]
        nbformat.write(sheet(answers, first, "otter"), target / "sheet.ipynb")
        command = [str(peers / "otter"), "run", "-a", "../autograder.zip", "--no-logo", "sheet.ipynb"]
        try:
            subprocess.run(command, cwd=target, env=peer_environment(peers), capture_output=True, timeout=60)
            tests = json.loads((target / "results.json").read_text())["tests"]
        except (subprocess.TimeoutExpired, OSError, ValueError):
            return student, 0
        return student, sum(test.get("score", 0) for test in tests)

    started = time.perf_counter()
    with ThreadPoolExecutor(jobs) as executor:
        scores = dict(executor.map(one, rows))
    return time.perf_counter() - started, scores


def peer_environment(peers):
    path = os.pathsep.join([str(peers), os.environ["PATH"]])
    return {
        **os.environ,
        "PATH": path,
        "CNNLIB_STRICT": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }


TOOLS = {"cnnlib grade": run_cnnlib, "nbgrader": run_nbgrader, "otter run": run_otter}


class Memory(threading.Thread):
    """Looks every second at what all processes below this one hold; shared pages count once."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.done = 0, threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()

    def run(self):
        while not self.done.wait(1):
            self.most = max(self.most, sum(map(self.held, self.below(os.getpid()))))

    def below(self, pid):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                for child in map(int, (task / "children").read_text().split()):
                    yield child
                    yield from self.below(child)

    def held(self, pid):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10
        return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--peers", type=Path, help="folder with the programs nbgrader and otter; without it, cnnlib alone"
    )
    parser.add_argument("--submissions", type=int, nargs="+", default=[100])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, value in report().items():
        print(f"{name:<14} {value}")
    for count in options.submissions:
        rows = submissions(count, random.Random(options.seed))
        compare({f"s{i:04}": row for i, row in enumerate(rows)}, options.jobs, options.peers)
    return 0


def compare(rows, jobs, peers):
    """Print a column for each tool."""
    columns, unit = [], None
    kinds = list(dict.fromkeys(row[0] for row in rows.values()))
    for tool, run in TOOLS.items() if peers else list(TOOLS.items())[:1]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Memory() as memory:
            seconds, scores = run(Path(folder), rows, jobs, peers and peers.resolve())
        unit = unit or seconds
        column = [tool, f"{seconds / len(rows):.2f}", f"{seconds / unit:.2f}", f"{memory.most >> 20:,}"]
        for kind in kinds:
            mine = {s: row[3] for s, row in rows.items() if row[0] == kind}
            right = sum(scores.get(s, 0) == score for s, score in mine.items())
            unearned = sum(max(scores.get(s, 0) - score, 0) for s, score in mine.items())
            column.append(f"{right}/{len(mine)}, {unearned:g}")
        columns.append(column)
    print(f"\n{len(rows)} submissions; below: right scores, and points given that were not earned")
    for line in zip(["", "seconds each", "ratio", "MiB at most", *kinds], *columns, strict=True):
        print(f"{line[0]:<22}" + "".join(f"{cell:>16}" for cell in line[1:]), flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Grading a few submissions: their answers into a pristine notebook, nbval to decide, the results out."""

import ast
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from cnnlib.course.exercises import plain, squeezed
from cnnlib.course.grading import jail
from cnnlib.course.grading.store import stored_at, write_json
from cnnlib.course.grading.submission import SubmissionError, code_cells, find_answers, read_bytes

PLUGIN = Path(__file__).parent / "plugin"
HEARD = ("PYTEST", "IPYTHON", "JUPYTER", "PYTHON")
"""Environment variables with these beginnings would configure the graded run; it does not get them."""
SPARE_SECONDS = 200
"""What a cell, or the whole notebook, may take beyond its answers' time: starts on a busy machine."""


OPTIMIZER = ["torch._dynamo"]
"""What an optimizer's first step imports, for seconds: the warden does so once, where some answer trains."""
LOOK = 1.0
"""Seconds after which what nbval has decided meanwhile is stored again."""


RUNNING, STOPPED = set(), set()
"""Processes of nbval, and those of them that `stop_notebooks` ended."""


class GraderError(RuntimeError):
    """The grader itself failed; the learner is not to blame, and gets no score."""


def grade_submissions(job):
    """Grade some submissions; whatever one holds, it harms no other.

    A submission's result is stored in the run's folder as soon as it is known, for a run that is interrupted
    to go on with; but not where only some exercises are examined.

    Args:
        job: dict of plain data with "folder" (the run's), "isolation", "paths" {key: path of a submission},
            and "only" {key: ids of the exercises to be examined}; a key that lacks there: all.

    Returns:
        {key: dict}: sha256, status ("graded", "unreadable" or "grader error"), message, flags, isolation
        (as it was in force), and for each exercise id in "exercises": status, message, score, max_score,
        seconds, source, again (whether it should be tried again when the machine does nothing else).
    """
    setup = plain.loads((Path(job["folder"]) / "exams.bin").read_bytes())
    results, asked = {}, {}
    for key, path in job["paths"].items():
        results[key] = {"sha256": "", "status": "unreadable", "message": "", "flags": [], "exercises": {}}
        try:
            asked[key] = _read(path, setup, results[key], job["only"].get(key))
        except SubmissionError as error:
            results[key]["message"] = str(error)
        except Exception as error:  # whatever it is, the others in the batch must not suffer from it
            results[key] |= GRADER_ERROR | {"message": f"{type(error).__name__}: {str(error)[:500]}"}

    def keep(found):
        for key, verdicts in found.items():
            if isinstance(verdicts, GraderError) or results[key]["status"] == "graded":
                continue
            _fill(results[key], setup["exams"], asked[key]["answers"], verdicts)
            results[key]["isolation"] = results[key]["isolation"] or job["isolation"]
            if key not in job["only"]:
                write_json(stored_at(Path(job["folder"]), key), results[key])

    for key, verdicts in _decide_all(asked, setup, job, keep).items():
        if isinstance(verdicts, GraderError):
            results[key] |= GRADER_ERROR | {"message": str(verdicts)}
    return results


GRADER_ERROR = {"status": "grader error", "message": ""}


def _read(path, setup, result, only):
    """Return what is asked of a submission; `result` gets what is known of it."""
    content = read_bytes(path)
    result["sha256"] = hashlib.sha256(content).hexdigest()
    cells, result["flags"] = code_cells(content)
    answers = find_answers(cells, setup["exercises"])
    return {
        "answers": {i: answers[i] for i in answers if only is None or i in only},
        "providers": [cell.source for cell in cells],
        "own": [i for i, cell in enumerate(cells) if squeezed(cell.source) not in setup["lesson"]],
    }


def _fill(result, exams, answers, verdicts):
    """Put the verdicts on a submission into its result."""
    isolation = ""
    for exam in exams:
        if (answer := answers.get(exam["id"])) is None:
            continue
        verdict = verdicts[exam["id"]]
        isolation = verdict.pop("isolation") or isolation
        result["exercises"][exam["id"]] = {
            **verdict,
            "score": exam["points"] if verdict["status"] == "pass" else 0,
            "max_score": exam["points"],
            "source": answer.source,
        }
        result["flags"] += [f"{exam['id']}: {flag}" for flag in answer.flags]
    result |= {"status": "graded", "isolation": isolation}


# --- deciding -----------------------------------------------------------------------------------


def _decide_all(asked, setup, job, keep):
    """Return {key: verdicts or GraderError}; what one notebook for all does not tell, two for halves may.

    `keep` is given the same of a part, again and again, while a notebook runs: errors there mean not yet.
    So it goes on down to one submission, and where that breaks the kernel, a dozen notebooks find it.
    """
    found, groups, failures = {}, [asked] if asked else [], 0
    while groups and failures < 2:  # two alone in turn: it is not the submissions
        group = groups.pop()
        found |= _decide(group, setup, job, keep)
        keep(found)
        unsure = [key for key in group if isinstance(found[key], GraderError)]
        if len(group) == 1:
            failures = failures + 1 if unsure else 0
            continue
        middle = (len(unsure) + 1) // 2
        for half in filter(None, (unsure[middle:], unsure[:middle])):
            groups.append({key: asked[key] for key in half})
    return found


def _decide(asked, setup, job, keep):
    """Return {key: {exercise id: verdict as a dict}}, as nbval and the examiner agree, or GraderErrors."""
    working = Path(job["folder"]) / "working"
    working.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=working))
    try:
        with jail.memory_group() as group:
            described = {
                "course": str(Path(job["folder"]) / "course"),
                "isolation": job["isolation"],
                "group": group and str(group),
                "modules": imported(setup["providers"]) + (OPTIMIZER if _trains(asked) else []),
                "exams": {exam["id"]: exam for exam in setup["exams"]},
                "providers": setup["providers"],
                "submissions": {key: _described(each) for key, each in asked.items()},
            }
            (folder / "job.bin").write_bytes(plain.dumps(described))
            nbformat.write(graded_notebook(asked), folder / "graded.ipynb")
            limits = {exam["id"]: exam["seconds"] for exam in setup["exams"]}
            seconds = [limits[i] for each in asked.values() for i in each["answers"]]
            cell_seconds = max(seconds, default=0)
            output = _nbval(folder, cell_seconds, sum(seconds), lambda: keep(_agreed(folder, asked)))
        return _agreed(folder, asked, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stop_notebooks():
    """End the notebooks that threads of this process wait for, at once; they get a KeyboardInterrupt."""
    for process in list(RUNNING):
        STOPPED.add(process)
        process.kill()


def imported(sources):
    """Return the names of the modules that a lesson's cells import."""
    names = []
    for source in sources:
        with contextlib.suppress(SyntaxError):
            for node in ast.walk(ast.parse(re.sub(r"^[ \t]*[%!].*", "", source, flags=re.MULTILINE))):
                if isinstance(node, ast.Import):
                    names += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return sorted({*names})


def _trains(asked):
    return any("optim" in answer.source for each in asked.values() for answer in each["answers"].values())


def _described(asked):
    answers = {
        i: {"source": answer.source, "status": answer.status, "message": answer.message}
        for i, answer in asked["answers"].items()
    }
    return {"answers": answers, "providers": asked["providers"], "own": asked["own"]}


def graded_notebook(asked):
    """Return the notebook that nbval runs: answers as text that no kernel executes, each with its check."""
    start = "from cnnlib.course.grading.examiner import begin, examine\n\nbegin()"
    cells = [nbformat.v4.new_code_cell(start, id="start")]
    for number, (key, each) in enumerate(asked.items()):
        for exercise_id, answer in each["answers"].items():
            cells.append(nbformat.v4.new_raw_cell(answer.source, id=_cell_id("answer", number, exercise_id)))
            check = f"examine({key!r}, {exercise_id!r})"
            cells.append(nbformat.v4.new_code_cell(check, id=_cell_id("check", number, exercise_id)))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _cell_id(kind, number, exercise_id):
    return f"{kind}-{number}-{exercise_id.partition('.')[2]}"[:64]


def _nbval(folder, cell_seconds, seconds, look):
    """Run nbval in the folder, deaf to every configuration file and start-up file; return what it printed.

    `look` is called every LOOK seconds meanwhile.
    """
    cell_seconds, seconds = int(cell_seconds + SPARE_SECONDS), seconds + SPARE_SECONDS
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(HEARD)},
        "HOME": str(folder),
        "TMPDIR": str(folder),  # what its kernel leaves behind goes with it
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
        "PYTHONPATH": os.pathsep.join([str(PLUGIN), *jail.extra_paths()]),
        "PYTHONNOUSERSITE": "1",
        "NBVAL_OUTCOMES": str(folder / "outcomes.jsonl"),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        *(sys.executable, "-m", "pytest", "--nbval-lax", "graded.ipynb", "-q"),
        *("--noconftest", "-c", os.devnull, "--rootdir", "."),
        *("-p", "no:cacheprovider", "-p", "nbval_outcomes"),
        *("--nbval-current-env", "--nbval-cell-timeout", str(cell_seconds), "--tb=line"),
    ]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    RUNNING.add(process)
    output, deadline = None, time.monotonic() + seconds
    try:
        while output is None:
            try:
                output, _ = process.communicate(timeout=LOOK)
            except subprocess.TimeoutExpired:
                look()
                if time.monotonic() > deadline:
                    output = b"the notebook took too long"
    finally:
        RUNNING.discard(process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
    if process in STOPPED:
        STOPPED.discard(process)
        raise KeyboardInterrupt
    return output.decode(errors="replace")


def _agreed(folder, asked, output=""):
    """Return {key: verdicts}; a GraderError where nbval and the examiner do not both know, and agree."""
    verdicts, outcomes, found = {}, {}, {}
    for cell, passed in _lines(folder / "outcomes.jsonl"):
        outcomes[cell] = passed and outcomes.get(cell, True)
    for verdict in _lines(folder / "verdicts.jsonl"):
        verdicts[verdict.pop("key"), verdict.pop("id")] = verdict
    for number, (key, each) in enumerate(asked.items()):
        found[key] = {}
        for exercise_id in each["answers"]:
            verdict = verdicts.get((key, exercise_id), GRADER_ERROR)
            passed = outcomes.get(_cell_id("check", number, exercise_id))
            if verdict["status"] == "grader error":
                text = verdict["message"] or f"the graded notebook did not run:\n{output[-2000:]}"
                found[key] = GraderError(text)
                break
            if passed is not (verdict["status"] == "pass"):
                found[key] = GraderError(
                    f"nbval and the examiner disagree about {exercise_id}:\n{output[-2000:]}"
                )
                break
            found[key][exercise_id] = verdict
    return found


def _lines(path):
    """Return the values in a file of JSON lines, to which somebody may be writing."""
    found = []
    with contextlib.suppress(OSError, ValueError):  # it is not there yet; its last line is half written
        for line in path.read_text(encoding="utf-8").splitlines():
            found.append(json.loads(line))
    return found

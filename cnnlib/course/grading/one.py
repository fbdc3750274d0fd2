"""Grading one submission: the answers into the pristine notebook, nbval to decide, the results out."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from cnnlib.course.exercises import plain
from cnnlib.course.grading.submission import SubmissionError, code_cells, find_answers, read_bytes

PLUGIN = Path(__file__).parent / "plugin"
HEARD = ("PYTEST", "IPYTHON", "JUPYTER", "PYTHON")
"""Environment variables with these beginnings would configure the graded run; it does not get them."""
SPARE_SECONDS = 300
"""What a graded notebook may take beyond the time of its answers: starting kernels on a busy machine."""


class GraderError(RuntimeError):
    """The grader itself failed; the learner is not to blame, and gets no score."""


def grade_submission(job):
    """Grade one submission; whatever it holds, return a result.

    Args:
        job: dict of plain data with "path" (the submission), "folder" (the run's), "isolation", "lesson".

    Returns:
        dict: sha256, status ("graded", "unreadable" or "grader error"), message, flags, and for each
        exercise id in "exercises": status, message, score, max_score, seconds, source.
    """
    result = {"sha256": "", "status": "unreadable", "message": "", "flags": [], "exercises": {}}
    try:
        return _grade(job, result)
    except SubmissionError as error:
        return result | {"message": str(error)}
    except GraderError as error:
        return result | {"status": "grader error", "message": str(error)}
    except Exception as error:  # whatever it is, the others in the batch must not suffer from it
        return result | {"status": "grader error", "message": f"{type(error).__name__}: {str(error)[:500]}"}


def _grade(job, result):
    """Fill `result`, which keeps what is known when this ends early, and return it."""
    setup = plain.loads((Path(job["folder"]) / "exams.bin").read_bytes())
    content = read_bytes(job["path"])
    result["sha256"] = hashlib.sha256(content).hexdigest()
    cells, result["flags"] = code_cells(content)
    answers = find_answers(cells, setup["exercises"])
    verdicts = _decide(answers, [*setup["providers"], *(cell.source for cell in cells)], setup, job)
    for exam in setup["exams"]:
        answer, verdict = answers[exam["id"]], verdicts[exam["id"]]
        result["exercises"][exam["id"]] = {
            **verdict,
            "score": exam["points"] if verdict["status"] == "pass" else 0,
            "max_score": exam["points"],
            "source": answer.source,
        }
        result["flags"] += [f"{exam['id']}: {flag}" for flag in answer.flags]
    return result | {"status": "graded"}


def graded_notebook(exams, answers):
    """Return the notebook that nbval runs: the answers as text that no kernel executes, and their checks."""
    cells = [nbformat.v4.new_code_cell("from cnnlib.course.grading.examiner import examine", id="start")]
    for exam in exams:
        name = exam["id"].partition(".")[2]
        cells.append(nbformat.v4.new_raw_cell(answers[exam["id"]].source, id=f"exercise-{name}"))
        cells.append(nbformat.v4.new_code_cell(f'examine("{exam["id"]}")', id=f"check-{name}"))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _decide(answers, providers, setup, job):
    """Return {exercise id: {"status", "message", "seconds"}}, as nbval and the examiner agree."""
    folder = Path(tempfile.mkdtemp(prefix="grade-"))
    try:
        exams = {exam["id"]: exam for exam in setup["exams"]}
        described = {
            "course": str(Path(job["folder"]) / "course"),
            "isolation": job["isolation"],
            "exams": exams,
            "answers": {
                i: {"source": a.source, "status": a.status, "message": a.message} for i, a in answers.items()
            },
            "providers": providers,
        }
        (folder / "job.bin").write_bytes(plain.dumps(described))
        nbformat.write(graded_notebook(setup["exams"], answers), folder / "graded.ipynb")
        output = _nbval(folder, sum(exam["seconds"] for exam in setup["exams"]) + SPARE_SECONDS)
        return _agreed(folder, exams, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _nbval(folder, seconds):
    """Run nbval in the folder, deaf to every configuration file and start-up file; return what it printed."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(HEARD)},
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
        "PYTHONPATH": str(PLUGIN),
        "PYTHONNOUSERSITE": "1",
        "NBVAL_OUTCOMES": str(folder / "outcomes.json"),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        *(sys.executable, "-m", "pytest", "--nbval-lax", "graded.ipynb", "-q"),
        *("--noconftest", "-c", os.devnull, "--rootdir", "."),
        *("-p", "no:cacheprovider", "-p", "nbval_outcomes"),
        *("--nbval-current-env", "--nbval-cell-timeout", str(int(seconds)), "--tb=line"),
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
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        output = b"the notebook took too long"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
    return output.decode(errors="replace")


def _agreed(folder, exams, output):
    try:
        outcomes = json.loads((folder / "outcomes.json").read_text())
        lines = (folder / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()
        verdicts = {verdict.pop("id"): verdict for verdict in map(json.loads, lines)}
    except (OSError, ValueError):
        raise GraderError(f"the graded notebook did not run:\n{output[-2000:]}") from None
    for exercise_id in exams:
        passed = outcomes.get(f"check-{exercise_id.partition('.')[2]}")
        if exercise_id not in verdicts or passed is not (verdicts[exercise_id]["status"] == "pass"):
            raise GraderError(f"nbval and the examiner disagree about {exercise_id}:\n{output[-2000:]}")
    return verdicts

"""What the graded notebook's check cells call, in a kernel that never runs a learner's code.

The folder of the job holds `job.bin`, plain data: the course's folder, the isolation, the exams, and the
answers as text. Each `examine` leaves one line in `verdicts.jsonl`.
"""

import atexit
import functools
import json
import time
from pathlib import Path

from cnnlib.course.exercises import judge, plain
from cnnlib.course.exercises.judge import AnswerEnded, Verdict
from cnnlib.course.grading.client import Worker


class AnswerFailed(Exception):  # noqa: N818 - it fails the notebook's cell, by which nbval decides
    """An answer that did not pass."""


def examine(exercise_id, folder="."):
    """Examine one answer in the jail; raise AnswerFailed where it does not pass.

    Args:
        exercise_id: such as "02.output_shape".
        folder: the job's folder; nbval runs a notebook in its own.
    """
    job, worker = _job(str(Path(folder).resolve()))
    exam = job["exams"][exercise_id]
    answer = job["answers"][exercise_id]
    started = time.monotonic()
    if answer["status"]:
        verdict = Verdict(answer["status"], answer["message"])
    else:
        verdict = _ask(worker, exam, answer["source"], job["providers"])
    line = {
        "id": exercise_id,
        "status": verdict.status,
        "message": verdict.message,
        "seconds": round(time.monotonic() - started, 3),
    }
    with (Path(folder) / "verdicts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    if not verdict.passed:
        raise AnswerFailed(verdict.status)


def _ask(worker, exam, source, providers):
    name = exam["id"].partition(".")[2]
    deadline = time.monotonic() + exam["seconds"]
    if worker.process is None:
        worker.start()
        deadline = time.monotonic() + exam["seconds"]  # starting Python is not the answer's time
    try:
        worker.load(name, source, providers, deadline)
        verdict = judge.examine(exam, lambda case: worker.call(name, case, deadline))
    except AnswerEnded as ended:
        verdict = ended.verdict
    if verdict.status == "timeout":
        return Verdict("timeout", f"it took longer than the {exam['seconds']:g} s that all cases may take")
    return verdict


@functools.cache
def _job(folder):
    job = plain.loads((Path(folder) / "job.bin").read_bytes())
    worker = Worker(job["course"], job["isolation"])
    atexit.register(worker.stop)
    return job, worker

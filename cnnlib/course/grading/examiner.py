"""What the graded notebook's check cells call, in a kernel that never runs a learner's code.

The folder of the job holds `job.bin`, plain data: the course's folder, the isolation, the exams, and each
submission's answers as text. Each `examine` leaves one line in `verdicts.jsonl`. Learners have jails of their
own, and so has each answer that is not right beside the learner's others: none is the worse for what another
did.
"""

import contextlib
import ctypes
import functools
import json
import resource
import time
from dataclasses import asdict
from pathlib import Path

from cnnlib.course.exercises import judge, plain
from cnnlib.course.exercises.judge import NO_MORE, AnswerEnded, Verdict
from cnnlib.course.grading.client import Answer
from cnnlib.course.grading.jail import STARVED, JailError, Warden

MEMORY = 1 << 30
"""Bytes that this process may take beyond what it has at the start, whatever answers send back."""
WARDEN = ("course", "isolation", "group", "modules")
"""What a job says of the warden."""
WIDE_SECONDS = 10.0
"""What an answer may take when all runs that the learner wrote; a training in a scratch cell may be slow."""
BRIEF = 0.1
"""Share of an exam's time for an answer in a process that is not its own: right answers take far less."""
BUSY = 0.8
"""A timeout counts at once when the answer had this share of its time as processor time; otherwise the
machine may have been busy, and the answer is tried again when nothing else runs."""


class AnswerFailed(Exception):  # noqa: N818 - it fails the notebook's cell, by which nbval decides
    """An answer that did not pass."""

    def _render_traceback_(self):  # IPython's way: nobody reads where it was raised, and to draw that is slow
        return [f"{type(self).__name__}: {self}"]


def begin():
    """Tie this process to the one that started it, and limit its memory."""
    with contextlib.suppress(AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, most))


def examine(key, exercise_id, folder="."):
    """Examine one answer in a jail; raise AnswerFailed where it does not pass.

    Args:
        key: which of the job's submissions, str.
        exercise_id: such as "02.output_shape".
        folder: the job's folder; nbval runs a notebook in its own.
    """
    job, asker = _job(str(Path(folder).resolve()))
    exam, submission = job["exams"][exercise_id], job["submissions"][key]
    answer, again, isolation = submission["answers"][exercise_id], False, ""
    started = time.monotonic()
    if answer["status"]:
        verdict = Verdict(answer["status"], answer["message"])
    else:
        try:
            lesson, own = job["providers"], submission["providers"]
            isolation = asker().warden.isolation
            numbers = [len(lesson) + number for number in submission["own"]]
            verdict, again = asker().ask(key, exam, answer["source"], lesson + own, len(lesson), numbers)
        except JailError as error:
            verdict = Verdict("grader error", str(error))
    seconds = round(time.monotonic() - started, 3)
    line = asdict(verdict) | {"again": again, "isolation": isolation, "seconds": seconds}
    with (Path(folder) / "verdicts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"key": key, "id": exercise_id} | line) + "\n")
    if not verdict.passed:
        raise AnswerFailed(verdict.status)


class Asker:
    """Asks answers, one after the other, in processes of a warden.

    To fork a process costs more than to ask an answer. So an answer is asked first, for a BRIEF time, in the
    process that is at hand, where other answers of the learner were asked, as in a notebook. If it is right
    there, it counts. If not, what came before may have spoilt it, and a process of its own decides.
    """

    def __init__(self, warden):
        self.warden = warden
        self._process, self._whose = None, None

    def ask(self, whose, exam, source, providers, given=0, own=()):
        """Return (verdict, whether the answer deserves to be tried again alone).

        An answer that is not right is asked once more when all has run that the learner wrote (`own`).
        """
        if whose != self._whose:
            self.end()
            self._whose = whose
        verdict, again = self._decide(exam, source, providers, given)
        if own and verdict.status in ("fail", "error", "not attempted"):
            limit = {"seconds": min(WIDE_SECONDS, exam["seconds"])}
            wide, _ = self._decide(exam | limit, source, providers, given, own)
            if wide.status in ("pass", "fail"):
                verdict = wide
        return verdict, again

    def end(self):
        """End the process at hand, if there is one."""
        if self._process:
            self._process.end()
        self._process = None

    def _decide(self, exam, source, providers, given, own=()):
        answer = source, providers, given, own
        if self._process:
            verdict, _ = self._try(exam | {"seconds": BRIEF * exam["seconds"]}, *answer)
            if verdict.passed or (own and verdict.message == NO_MORE):
                return verdict, False
        self.end()
        self._process = Answer(self.warden)
        return self._try(exam, *answer)

    def _try(self, exam, *answer):
        name = exam["id"].partition(".")[2]
        deadline, process = time.monotonic() + exam["seconds"], self._process
        try:
            process.load(name, deadline, *answer)
            asked = functools.partial(process.call, name, deadline)
            verdict = judge.examine(exam, asked, all_cases=exam.get("partial", False))
        except AnswerEnded as ended:
            verdict = ended.verdict
        except MemoryError:
            verdict = Verdict("killed", "comparing what it sent back takes more memory than the grader has")
        if not process.waiting:
            return verdict, False
        self._process, ended = None, process.end()
        if verdict.status == "timeout":
            limit = f"it took longer than the {exam['seconds']:g} s that all cases may take"
            return Verdict("timeout", limit), ended["seconds"] < BUSY * exam["seconds"]
        if verdict.status != "killed":  # it has lost its process in a later case
            return verdict, False
        if ended["starved"]:  # by the jail's own limit: it is not the machine
            return Verdict("killed", STARVED), False
        return verdict, ended["code"] == -9


@functools.cache
def _job(folder):
    """Return the job of a folder, and a function that returns who asks, started when first needed."""
    job = plain.loads((Path(folder) / "job.bin").read_bytes())
    return job, functools.cache(lambda: Asker(Warden(*(job[name] for name in WARDEN))))

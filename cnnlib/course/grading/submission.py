"""Reading submissions: files that anybody may have written or damaged. Nothing in them is run here."""

import json
import os
import re
import stat
from dataclasses import dataclass, field

from cnnlib.course.exercises import squeezed
from cnnlib.ground.errors import CnnlibError

SIZE_LIMIT = 20 << 20
"""Bytes of a submission; a lesson with its figures has less than two million."""
SOURCE_LIMIT = 200_000
"""Characters of a cell; a longer one is no answer."""


class SubmissionError(CnnlibError):
    """A file that is not a notebook which can be graded; the message says why."""


@dataclass
class Answer:
    """The text that a learner wrote for one exercise.

    `status` is "" for an attempt, else "not attempted" or "missing"; `flags` tell what was unusual.
    """

    source: str = ""
    status: str = ""
    message: str = ""
    flags: list = field(default_factory=list)


@dataclass
class CodeCell:
    """A code cell of a submission: its id ("" where it has none) and its text."""

    id: str
    source: str


def read_bytes(path):
    """Return the content of a submitted file.

    Raises:
        SubmissionError: a link, a folder, no regular file, too large, or unreadable.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        link = os.path.islink(path)
        raise SubmissionError(
            "it is a link, not a file" if link else f"it cannot be read: {error.strerror}"
        ) from None
    try:
        status = os.fstat(number)  # of what was opened, which nobody can exchange any more
        if stat.S_ISDIR(status.st_mode):
            raise SubmissionError("the folder does not hold one notebook; hand in exactly one")
        if not stat.S_ISREG(status.st_mode):
            raise SubmissionError("it is not a regular file")
        if status.st_size > SIZE_LIMIT:
            raise SubmissionError(f"it has {status.st_size:,} bytes; at most {SIZE_LIMIT:,} are read")
        with os.fdopen(number, "rb", closefd=False) as file:
            return file.read(SIZE_LIMIT)
    finally:
        os.close(number)


def code_cells(content):
    """Return the code cells of a notebook in format 3 or 4.

    Args:
        content: bytes of the file, with or without a byte order mark.

    Returns:
        (list of CodeCell, list of flags)

    Raises:
        SubmissionError: it is no notebook.
    """
    flags = []
    if not content.strip():
        raise SubmissionError("it is empty")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", errors="replace")
        flags.append("utf-16")
    else:
        text = content.decode("utf-8-sig", errors="replace")
        if content.startswith(b"\xef\xbb\xbf"):
            flags.append("byte order mark")
    if text.lstrip()[:1] == "<":
        raise SubmissionError("it is a web page, not a notebook; export the .ipynb file itself")
    try:
        notebook = json.loads(text)
    except RecursionError:
        raise SubmissionError("it is nested too deep to be a notebook") from None
    except ValueError as error:
        raise SubmissionError(f"it is not a whole notebook: {str(error)[:200]}") from None
    if not isinstance(notebook, dict):
        raise SubmissionError("it is JSON, but no notebook")
    cells = notebook.get("cells")
    if cells is None and isinstance(notebook.get("worksheets"), list):  # format 3
        flags.append("notebook format 3")
        cells = [
            c
            for sheet in notebook["worksheets"]
            if isinstance(sheet, dict)
            for c in _list(sheet.get("cells"))
        ]
    if not isinstance(cells, list):
        raise SubmissionError("it is JSON, but has no cells")
    kernel = notebook.get("metadata")
    kernel = kernel.get("kernelspec") if isinstance(kernel, dict) else None
    language = str(kernel.get("language", "python")) if isinstance(kernel, dict) else "python"
    if language.lower() != "python":
        flags.append(f"kernel language {language[:20]!r}")
    return [_code_cell(c) for c in cells if isinstance(c, dict) and c.get("cell_type") == "code"], flags


def find_answers(cells, exercises):
    """Return the answer to each exercise: dict from its id to Answer.

    An answer is a code cell that defines the exercise's function or class. Where several do, the one in the
    exercise's own cell (by id) is taken, then one that has the exercise's first line, then any other; among
    equals the last one, for it is the one that counted when the learner ran the notebook. Cells
    that are still as they were handed out stand back behind all others.

    Args:
        cells: list of CodeCell.
        exercises: list of dicts with "id" and "stub".
    """
    answers = {}
    for exercise in exercises:
        name = exercise["id"].partition(".")[2]
        defines = re.compile(rf"^(async[ \t]+)?(def|class)[ \t]+{name}\b|^{name}[ \t]*=", re.MULTILINE)
        marker = re.compile(rf"^[ \t]*#[ \t]*exercise[ \t]+{re.escape(exercise['id'])}[ \t]*$", re.MULTILINE)
        ranked, own = [], False
        for position, cell in enumerate(cells):
            by_id, by_marker = cell.id == f"exercise-{name}", bool(marker.search(cell.source))
            own |= by_id or by_marker
            if defines.search(cell.source):
                attempted = squeezed(cell.source) != squeezed(exercise["stub"])
                ranked.append((attempted, 2 * by_id + by_marker, position, cell))
        answers[exercise["id"]] = _choose(ranked, name, own)
    return answers


def _choose(ranked, name, own):
    if not ranked:
        if own:
            return Answer(
                status="not attempted", message=f"The exercise's cell defines no function or class {name}."
            )
        return Answer(status="missing", message=f"No cell defines {name}.")
    attempted, match, _, cell = max(ranked, key=lambda r: r[:3])
    if not attempted:
        return Answer(status="not attempted", message="It is as it was handed out.")
    if len(cell.source) > SOURCE_LIMIT:
        return Answer(
            status="fail", message=f"The cell has {len(cell.source):,} characters; too many to be an answer."
        )
    answer = Answer(source=cell.source)
    if sum(r[0] for r in ranked) > 1:
        answer.flags.append("several answers")
    if match < 2:
        answer.flags.append("found by its first line" if match else "found by the function's name")
    return answer


def _code_cell(cell):
    source = cell.get("source", cell.get("input", ""))  # "input" in format 3
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    source = source if isinstance(source, str) else ""
    source = source.encode("utf-8", errors="replace").decode()  # halves of surrogate pairs become "?"
    return CodeCell(str(cell.get("id", ""))[:100], source)


def _list(value):
    return value if isinstance(value, list) else []

"""Reading submissions: files that anybody may have written or damaged. Nothing in them is run here."""

import itertools
import json
import os
import re
import stat
import unicodedata
from dataclasses import dataclass, field

from cnnlib.course.exercises import CELL_LIMIT, squeezed
from cnnlib.ground.errors import CnnlibError

SIZE_LIMIT = 20 << 20
"""Bytes of a submission; a lesson with its figures has less than two million."""
COUNT_LIMIT = 20_000
"""Cells of a submission; a lesson has a hundred, and as bytes there is room for millions."""


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
    """A cell of a submission: its id ("" where it has none), its code, or else its `prose`."""

    id: str
    source: str
    prose: str = ""


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
            raise SubmissionError(
                f"it has {status.st_size:,} bytes; at most {SIZE_LIMIT:,} are read: clear the outputs of its "
                "cells"
            )
        with os.fdopen(number, "rb", closefd=False) as file:
            return file.read(SIZE_LIMIT)
    finally:
        os.close(number)


def code_cells(content):
    """Return the cells of a notebook in format 3 or 4; those of text have no source.

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
        if text.lstrip()[:1] != "{":
            raise SubmissionError("it is another kind of file, not a notebook, whatever its name") from None
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
    if len(cells) > COUNT_LIMIT:
        raise SubmissionError(f"it has {len(cells):,} cells; at most {COUNT_LIMIT:,} are read")
    kernel = notebook.get("metadata")
    kernel = kernel.get("kernelspec") if isinstance(kernel, dict) else None
    language = str(kernel.get("language", "python")) if isinstance(kernel, dict) else "python"
    if language.lower() != "python":
        flags.append(f"kernel language {language[:20]!r}")
    return [_cell(c) for c in cells if isinstance(c, dict)], flags


def find_answers(cells, exercises):
    """Return the answer to each exercise: dict from its id to Answer.

    An answer is what the notebook, run from top to bottom, hands to the exercise's last check; where no check
    is found, or where the only definition stands behind it, what the name is at the notebook's end. So among
    the cells that define the name the last one before the check is the answer's, and its `source`; cells that
    are still as they were handed out stand back behind all others. This is found by reading lines: the jail,
    where the notebook is run, finds it again by the same rule and decides.

    Args:
        cells: list of CodeCell.
        exercises: list of dicts with "id" and "stub".
    """
    return {exercise["id"]: _find(cells, exercise["id"], exercise["stub"]) for exercise in exercises}


def _find(cells, exercise_id, stub):
    name = exercise_id.partition(".")[2]
    marker = re.compile(rf"^[ \t]*#[ \t]*exercise[ \t]+{re.escape(exercise_id)}[ \t]*$", re.MULTILINE)
    own = {  # position: how surely the cell is the exercise's own
        position: 2 if cell.id == f"exercise-{name}" else 1
        for position, cell in enumerate(cells)
        if (cell.id == f"exercise-{name}" and not cell.prose) or marker.search(cell.source)
    }
    check, given = _last_check(cells, exercise_id)
    flags, found = [], []
    if given != name:
        found = [position for position, cell in enumerate(cells) if given and _defines(cell.source, given)]
        found = [position for position in found if position <= check] or [check]
        flags.append(f"its check is given {given or 'an expression'}")
    else:
        found = [position for position, cell in enumerate(cells) if _defines(cell.source, name)]
    tried = [position for position in found if not _is_as_handed_out(cells[position].source, stub)]
    if not tried:
        others = [p for p, cell in enumerate(cells) if not _is_as_handed_out(cell.source, stub)]
        tried = [position for position in others if _may_hand_in(cells[position].source, exercise_id)]
    if not found and not tried:
        return _nothing_found(cells, name, own)
    if not tried:
        return Answer(status="not attempted", message="It is as it was handed out.")
    chosen = max([position for position in tried if position <= check] or tried)
    source = cells[chosen].source
    if len(source) > CELL_LIMIT:
        text = f"The cell has {len(source):,} characters; too many to be an answer."
        return Answer(status="fail", message=text)
    if len(tried) > 1:
        flags.append("several answers")
    if chosen > check:
        flags.append("defined after its check")
    if own.get(chosen) != 2:
        flags.append("found by its first line" if chosen in own else "found by the function's name")
    return Answer(source=source, flags=flags)


def find_entry(cells, names, stub):
    """Return what a notebook hands in to the open challenge.

    It is what the names are when the last cell that defines one of them has run; cells below are not read.

    Args:
        cells: list of CodeCell.
        names: of the entry and of its settings.
        stub: source of the cell that was handed out.

    Returns:
        (sources of the cells up to that one, why it is no entry or "")
    """
    found = [i for i, cell in enumerate(cells) if any(_defines(cell.source, name) for name in names)]
    for name in names:
        if not any(_defines(cell.source, name) for cell in cells):
            text = any(_defines(cell.prose, name) for cell in cells)
            where = (
                f"{name} stands in a cell of text, which is not run" if text else f"no cell defines {name}"
            )
            return [], where
    if all(_is_as_handed_out(cells[i].source, stub) for i in found):
        return [], "it is as it was handed out"
    return [cell.source for cell in cells[: found[-1] + 1]], ""


def _nothing_found(cells, name, own):
    if own:
        message = f"The exercise's cell defines no function or class {name}."
        return Answer(status="not attempted", message=message)
    if any(cell.prose and (cell.id == f"exercise-{name}" or _defines(cell.prose, name)) for cell in cells):
        message = f"{name} stands in a cell of text, which is not run; make a code cell of it."
        return Answer(status="missing", message=message, flags=["in a cell of text"])
    return Answer(status="missing", message=f"No cell defines {name}.")


def _last_check(cells, exercise_id):
    """Return (position of the last cell that checks the exercise, the name that its check is given).

    The name is "" where it is given an expression. Without a check it is the position of the last cell.
    """
    call = _check_of(exercise_id)
    for position in reversed(range(len(cells))):
        if exercise_id in cells[position].source:
            lines = (line for line in cells[position].source.splitlines() if line.lstrip()[:1] != "#")
            calls = call.findall("\n".join(lines))
            if calls:
                return position, calls[-1]
    return len(cells), exercise_id.partition(".")[2]


def _check_of(exercise_id):
    """Return the pattern of an exercise's check; its group is the name that it is given, "" if it is none."""
    return re.compile(
        rf"\bcheck\s*\(\s*(?:\w+\s*=\s*)?['\"]{re.escape(exercise_id)}['\"]\s*,\s*"
        r"(?:\w+\s*=\s*)?(?:(\w+)\s*,?\s*\))?"
    )


def _defines(source, name):
    """Tell whether a line of a cell looks as if it defined a name."""
    if name not in source and not source.isascii():
        source = unicodedata.normalize("NFKC", source)  # as Python reads names
    if name not in source:
        return False
    definition = re.compile(
        rf"(?:^|>>>|In \[\d+\]:|[;:'\"])[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+{name}\b"
    )
    return any(
        definition.search(line) or _is_bound(line, name)
        for line in source.splitlines()
        if name in line and line.lstrip()[:1] != "#"
    )


def _may_hand_in(source, exercise_id):
    """Tell whether a cell may define or check an answer otherwise: by a text, as an attribute, over lines."""
    name = exercise_id.partition(".")[2]
    source = _check_of(exercise_id).sub("", source) if name in source else ""
    if re.search(rf"\bimport\s*\([^()]*\b{name}\b|['\"]({re.escape(exercise_id)}|{name})['\"]", source):
        return True
    return bool(
        re.search(rf"\b{name}\b", source)
        and re.search(r"\b(?:globals|locals|vars)\(\)|\b(?:exec|setattr)\(|__main__|sys\.modules", source)
    )


def _is_bound(line, name):
    """Tell whether a line looks as if it imported a name, or assigned to it."""
    _, word, after = f" {line} ".partition(" import ")
    if word and name in re.findall(r"\w+", after):
        return True
    if re.match(rf"[ \t]*{name}[ \t]*:[^=]*=(?!=)", line):
        return True
    lefts = line.split("=")
    for left, right in itertools.pairwise(lefts):
        if name not in left:  # of 20 MB of "=" there are many
            continue
        if left.rstrip().endswith((")", "]")):  # (a, b) = …
            left = left.strip().strip("()[]")
        if left.endswith(":") and re.findall(r"\w+", left)[-1:] == [name]:
            return True
        keyword = len(lefts) == 2 and left.strip() == name and left[-1:] != " " and right.rstrip()[-1:] == ","
        target = (
            left.strip() and right and left[-1] not in "<>!" and not keyword and not set("(#'\"") & set(left)
        )
        if target and name in re.findall(r"[\w.]+(?!\[)", left):
            return True
    return bool(re.search(rf"\b(?:as|for)[ \t]+{name}\b|\(\)\[['\"]{name}['\"]\]", line))


def _is_as_handed_out(source, stub):
    return len(source) <= CELL_LIMIT and squeezed(source) == squeezed(stub)


def _cell(cell):
    source = cell.get("source", cell.get("input", ""))  # "input" in format 3
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    source = source if isinstance(source, str) else ""
    source = "\n".join(re.split("\r\n|\r", source))  # as every editor shows it
    source = source.encode("utf-8", errors="replace").decode()  # halves of surrogate pairs become "?"
    code = cell.get("cell_type") == "code"
    return CodeCell(str(cell.get("id", ""))[:100], source if code else "", "" if code else source)


def _list(value):
    return value if isinstance(value, list) else []

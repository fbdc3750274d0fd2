"""What was handed in: a folder, a zip, an LMS's download or one file, as a list of submissions.

Nothing is unpacked. Notebooks are read one by one, up to a limit, and what is graded is kept in the run's
folder under its SHA-256, so that it can be graded again. Whatever else lies there is listed with a reason.

Sources of the LMS's file names: Canvas, lib/content_zipper.rb (`get_filename`, `add_upload_submission`);
Moodle, mod/assign/classes/downloader.php (`get_student_prefix`, `load_submissionplugin_filelist`).
"""

import contextlib
import hashlib
import io
import os
import re
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cnnlib.course.grading.submission import SIZE_LIMIT, SubmissionError, read_bytes
from cnnlib.course.grading.tables import shown
from cnnlib.ground.errors import ParameterError
from cnnlib.ground.files import atomic_path

ENTRY_LIMIT = 50_000
"""Files of a folder or a zip; who has more named the wrong one."""
NOTEBOOK = re.compile(r"\.ipynb(\.(txt|json))?$", re.IGNORECASE)
"""The end of a notebook's name; browsers and mail programs add the second suffix."""
TOTAL_LIMIT = 8 << 30
"""Bytes of all notebooks of a zip together, whatever few bytes they were packed into."""
ENCRYPTED = 0x1
"""The flag of a zip's member that has a password."""
UTF8 = 0x800
"""The flag of a zip's member whose name is said to be in UTF-8."""
MEMBER = re.compile(
    rb"PK(?:(?P<listed>\x01\x02..)|\x03\x04)..(?P<flags>..).{18}(?P<length>..)(?(listed).{16}|..)", re.DOTALL
)
"""What stands before a member's name, which has this length, in a zip's list and again before its bytes."""
JUNK = ("__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini")
MOODLE_NAME = r"(?P<folder>(?P<name>[^/_]+)_(?P<student>\d+)_assignsubmission_%s(?:_?/|_))(?P<file>%s)"
MOODLE = re.compile(MOODLE_NAME % ("file", ".+"), re.DOTALL)
"""A folder for each learner, which ended with "_" before Moodle 4.1, or the same before a file's name.

A name holds no "_": Moodle writes a space for it, so that nobody can take another's number for a name."""
MOODLE_ANY = re.compile(MOODLE_NAME % ("[^/_]+", ".*"), re.DOTALL)
"""The same of all that may be handed in, such as a text that was entered, and of an empty folder."""
CANVAS = re.compile(
    r"(?P<folder>(?:(?P<name>(?!LATE_)[^/_][^/]*?)_)?(?P<late>LATE_)?(?P<student>\d+|anon_[^/_]+)_\d+_)"
    r"(?P<file>[^/]+)",
    re.DOTALL,
)
"""The name without what is no letter, "LATE", the user's id, the file's id, the file's own name."""
CANVAS_TEXT = re.compile(
    r"(?P<folder>(?:(?P<name>(?!LATE_)[^/_][^/]*?)_)?(?P<late>LATE_)?(?P<student>\d+|anon_[^/_]+)_)"
    r"(?P<file>(?:text|link)\.html)"
)
"""What was entered in Canvas and is no file has no file's id."""
AGAIN = re.compile(r"-(\d{1,4})\.[^-]+$")
"""The end of a file's name in Canvas, where a file of that name was handed in before."""


@dataclass(frozen=True)
class Submission:
    """What a learner handed in.

    Attributes:
        student: id; the roster's where there is one, else the LMS's, or the name of the file or folder.
        path: str, the kept copy, relative to the run's folder; "" where there is a `problem`.
        name: the learner's name, "" where it is not known.
        attempt: int from 1.
        late: whether the LMS or the roster says so.
        folder: beginning of the path by which the LMS takes feedback to this submission: "doejane_12_345_" or
            "Li Wei_7_assignsubmission_file_/"; "" where no LMS is known.
        problem: why it cannot be graded, "" where it can.
    """

    student: str
    path: str
    name: str = ""
    attempt: int = 1
    late: bool = False
    folder: str = ""
    problem: str = ""


def slug(student):
    """Return a file name for a student id, whatever it holds; different ids have different names."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", student)[:40]
    return f"{readable}-{hashlib.sha256(os.fsencode(student)).hexdigest()[:10]}"


@dataclass(frozen=True)
class Entry:
    """A file of a folder or zip: its path there, its time, and a function that returns its bytes.

    `read` raises SubmissionError where they cannot be read.
    """

    name: str
    time: tuple
    read: Callable


def collect(what, output, lesson, *, pattern=None, attempt="latest", recognise=None):
    """Find the submissions in what was handed in, and keep a copy of each that is to be graded.

    Args:
        what: Path of a folder, a zip or a notebook.
        output: Path of the run's folder; copies go to its `submissions/`.
        lesson: the lesson's name. Of several notebooks of one learner those count that begin with its number.
        pattern: regular expression that is searched in each notebook's path, with the group `student` and
            perhaps `name`, `attempt` (a number) and `late` (late where it matches a text); None: Moodle's and
            Canvas's names, STUDENT.ipynb and STUDENT/anything.ipynb are recognised.
        attempt: "latest", or "best": all are kept, to be graded.
        recognise: function of a submission and its layout, see `roster.recogniser`; or None.

    Returns:
        (submissions, passed over, layout): a list of Submission, those of one student from the latest attempt
        to the earliest, only the first where `attempt` is "latest"; a list of (path, reason); and "moodle",
        "canvas", "pattern" or "plain".

    Raises:
        ParameterError: `what` is none of these, is damaged, encrypted or holds nothing, or the pattern is
            none.
    """
    regex = _compiled(pattern)
    with contextlib.ExitStack() as stack:
        entries, is_zip = _entries(Path(what), stack)
        passed = [(entry.name, reason) for entry in entries if (reason := _reason(entry.name))]
        found = [entry for entry in entries if not _reason(entry.name)]
        folders = {e.name.partition("/")[0] for e in entries if "/" in e.name and not _is_junk(e.name)}
        strip = _wrapping(found, folders) if is_zip else ""
        canvas = _most(found, strip)
        groups, layouts = {}, set()
        for entry in found:
            submission, layout, file = _parsed(entry.name.removeprefix(strip), regex, canvas)
            if submission is None:
                passed.append((entry.name, "its path does not match the pattern"))
                continue
            layouts.add(layout)
            for known in recognise(submission, layout) if recognise else [submission]:
                groups.setdefault(known.student, []).append((known, entry, file))
        submissions = []
        for student in sorted(groups):
            submissions += _chosen(_ordered(groups[student], lesson, passed), attempt, output, passed)
    for submission, layout in () if regex else _without(folders, passed, found, canvas, strip):
        for known in recognise(submission, layout) if recognise else [submission]:
            if known.student not in groups:
                groups[known.student] = []
                submissions.append(known)
    if not submissions:
        raise ParameterError(f"{_shown(what)} holds nothing to grade: {_why_not(passed)}")
    layout = next((x for x in ("pattern", "moodle", "canvas") if x in layouts), "plain")
    return submissions, passed, layout


def _why_not(passed):
    """Return in words why nothing is graded, from the (path, reason) pairs of what was passed over."""
    told = [f"{shown(name)[:100]}: {reason}" for name, reason in passed[:3]]
    more = [f"and {len(passed) - 3} more"] if len(passed) > 3 else []
    return "; ".join([*told, *more]) or "it has no .ipynb file"


def _shown(path):
    return os.fsencode(path).decode(errors="replace")


def _compiled(pattern):
    if pattern is None:
        return None
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ParameterError(f"--pattern {pattern!r} is no regular expression: {error}") from None
    unknown = set(regex.groupindex) - {"student", "name", "attempt", "late"}
    if "student" not in regex.groupindex or unknown:
        raise ParameterError(
            f"--pattern {pattern!r} must have the group (?P<student>…), and may have name, attempt and late"
            + (f"; it has {', '.join(sorted(unknown))}" if unknown else "")
        )
    return regex


# --- what lies there ------------------------------------------------------------------------------


def _entries(what, stack):
    """Return (the entries of a folder, zip or notebook, whether it is a zip); the stack closes it."""
    if what.is_dir():
        return _files(what), False
    if what.is_file() and NOTEBOOK.search(what.name):
        return [_file(what, _shown(what.name))], False
    if not what.exists():
        raise ParameterError(f"there is no file or folder {_shown(what)}")
    if not what.is_file():
        raise ParameterError(
            f"{_shown(what)} is no folder, zip or notebook; name one that holds the submissions"
        )
    try:
        archive = stack.enter_context(_archive(what))
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        with what.open("rb") as file:
            begun = file.read(4) == b"PK\3\4"  # its list of files, at the end, is gone
        said = "it is only the beginning of a zip; download it once more" if begun else error
        raise ParameterError(f"{_shown(what)} is no folder, zip or notebook: {said}") from None
    notebooks = [info for info in archive.infolist() if NOTEBOOK.search(info.filename)]
    if notebooks and all(info.flag_bits & ENCRYPTED for info in notebooks):  # not one learner's doing
        raise ParameterError(
            f"{_shown(what)} is encrypted; unpack it with its password, and name the folder instead"
        )
    if len(archive.infolist()) > ENTRY_LIMIT:
        raise ParameterError(f"{_shown(what)} holds more than {ENTRY_LIMIT:,} files")
    return _members(archive), True


def _archive(what):
    """Open a zip; a name that it calls UTF-8, and is not, is read as those that are not called so."""
    try:
        return zipfile.ZipFile(what)
    except UnicodeDecodeError:  # of one name, for which Python opens none of the others
        content = bytearray(what.read_bytes())
        for match in MEMBER.finditer(bytes(content)):
            name = content[match.end() : match.end() + int.from_bytes(match["length"], "little")]
            try:
                name.decode()
            except UnicodeDecodeError:
                content[match.start("flags") + 1] &= ~(UTF8 >> 8)
        return zipfile.ZipFile(io.BytesIO(content))


def _files(folder):
    entries = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink()]
        if not files and not folders and here != folder:
            files = [""]  # an empty folder is an entry too: somebody's, who handed in nothing
        for name in sorted([*files, *links]):
            path = here / name
            relative = _shown(path.relative_to(folder)).replace(os.sep, "/")
            if name or relative != ".":
                entries.append(_file(path, relative if name else f"{relative}/"))
        if len(entries) > ENTRY_LIMIT:
            raise ParameterError(
                f"{_shown(folder)} holds more than {ENTRY_LIMIT:,} files; name the submissions' folder"
            )
    return sorted(entries, key=lambda entry: entry.name)


def _file(path, name):
    return Entry(name, (path.lstat().st_mtime_ns,), lambda: read_bytes(path))


def _members(archive):
    entries, room = [], [TOTAL_LIMIT]
    for info in archive.infolist():
        name = info.filename
        if not info.flag_bits & UTF8:  # not said to be UTF-8, and often is
            with contextlib.suppress(UnicodeError):
                name = name.encode("cp437").decode("utf-8")
        name = name.replace("\\", "/")
        entries.append(
            Entry(name, tuple(info.date_time), lambda info=info: _read_member(archive, info, room))
        )
    return sorted(entries, key=lambda entry: entry.name)


def _read_member(archive, info, room):
    """Return a member's bytes, whatever sizes the zip claims; `room` is what all may still have.

    Raises:
        SubmissionError: a link, encrypted, too large, too much with those before it, or damaged.
    """
    if room[0] <= 0:
        raise SubmissionError(f"the notebooks of the zip have more than {TOTAL_LIMIT:,} bytes together")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise SubmissionError("it is a link, not a file")
    if info.flag_bits & ENCRYPTED:
        raise SubmissionError("it is encrypted; zip it without a password")
    try:
        with archive.open(info) as file:
            content = file.read(SIZE_LIMIT + 1)
            room[0] -= len(content)
    except Exception as error:  # there is no end to what a damaged zip makes the reader raise
        raise SubmissionError(f"it cannot be read from the zip: {str(error)[:200]}") from None
    if len(content) > SIZE_LIMIT:
        raise SubmissionError(
            f"it has more than {SIZE_LIMIT:,} bytes; at most so many are read: clear the outputs of its cells"
        )
    return content


def _is_junk(name):
    parts = PurePosixPath(name).parts
    return any(part in JUNK or part.startswith(".") for part in parts) or _leads_out(name)


def _leads_out(name):
    return name.startswith("/") or ".." in PurePosixPath(name).parts or bool(re.match("[A-Za-z]:/", name))


def _reason(name):
    """Return why an entry is passed over, "" where it is a notebook to be read."""
    if _leads_out(name):
        return "its path leads out of the zip"
    if _is_junk(name):
        return "a system's or hidden file"
    if name.endswith("/"):
        return "an empty folder"
    if NOTEBOOK.search(name):
        return ""
    if name.lower().endswith((".zip", ".7z", ".rar", ".gz")):
        return "an archive within; put the notebook itself in its place"
    if "_assignsubmission_onlinetext" in name or name.endswith(("_text.html", "_link.html")):
        return "a text or a link that was entered in the LMS"
    return "no .ipynb file"


def _wrapping(found, folders):
    """Return the folder, with a slash, that a whole zip was wrapped in; "" where there is none."""
    names = [entry.name for entry in found]
    if len(folders) != 1 or not names or not all("/" in name for name in names):
        return ""
    (top,) = folders
    if (len(names) == 1 and names[0].count("/") == 1) or any(MOODLE.fullmatch(name) for name in names):
        return ""  # one learner's folder
    return f"{top}/"


def _most(found, strip):
    """Return whether most notebooks have Canvas's names: a learner's own file may look so by chance."""
    names = [entry.name.removeprefix(strip) for entry in found]
    return 2 * sum(bool(CANVAS.fullmatch(name)) for name in names) > len(names)


# --- whose it is ----------------------------------------------------------------------------------


def _parsed(name, regex, canvas):
    """Return (Submission without a path, layout, name of the learner's file) of a notebook's path."""
    if regex:
        match = regex.search(name)
        if not match or not match["student"]:
            return None, "pattern", ""
        groups = match.groupdict()
        number = groups.get("attempt") or "1"
        submission = Submission(
            match["student"],
            "",
            name=groups.get("name") or "",
            attempt=int(number) if number.isdecimal() and len(number) < 10 else 1,
            late=bool(groups.get("late")),
        )
        return submission, "pattern", PurePosixPath(name).name
    if match := MOODLE.fullmatch(name):
        return (
            Submission(match["student"], "", match["name"], folder=match["folder"]),
            "moodle",
            match["file"],
        )
    if canvas and (match := CANVAS.fullmatch(name)):
        again = AGAIN.search(match["file"])
        submission = Submission(
            match["student"],
            "",
            match["name"] or "",
            attempt=1 + int(again[1]) if again else 1,
            late=bool(match["late"]),
            folder=match["folder"],
        )
        return submission, "canvas", match["file"]
    top, slash, _ = name.partition("/")
    student = top if slash else NOTEBOOK.sub("", name)
    return Submission(student, ""), "plain", PurePosixPath(name).name


def _ordered(group, lesson, passed):
    """Return [(submission, entry)] of one student, the latest first, without other lessons' notebooks."""
    number = re.match(r"\d+", lesson)
    ours = [g for g in group if number and re.match(rf"0*{int(number[0])}(?!\d)", g[2].rpartition("/")[2])]
    if ours:
        reason = f"not of lesson {number and number[0]}, as another of this learner is"
        passed += [(other[1].name, reason) for other in group if other not in ours]
        group = ours
    group = sorted(group, key=lambda g: (g[0].attempt, g[1].time, _natural(g[1].name)), reverse=True)
    numbered = len({g[0].attempt for g in group}) == len(group)
    return [
        (submission if numbered else replace(submission, attempt=len(group) - i), entry)
        for i, (submission, entry, _) in enumerate(group)
    ]


def _natural(name):
    """Return a key that sorts the numbers in names as numbers, and "x (1).ipynb" behind "x.ipynb"."""
    parts = re.split(r"([0-9]+)", NOTEBOOK.sub("", name))
    numbers = [part.lstrip("0") for part in parts]  # as texts: Python reads none of 5,000 digits
    return [(len(numbers[i]), numbers[i]) if i % 2 else part for i, part in enumerate(parts)]


def _chosen(ordered, attempt, output, passed):
    """Return the submissions of one student that are to be graded, the latest first, with their copies."""
    if attempt == "latest":
        (first, entry), *earlier = ordered
        passed += [(other.name, f"{first.student} has a later one: {entry.name}") for _, other in earlier]
        ordered = ordered[:1]
    kept = {}
    for submission, entry in reversed(ordered):  # of equal files the one that was handed in first
        submission = _kept(submission, entry, output)
        kept.setdefault(submission.path or entry.name, submission)
    return list(reversed(kept.values()))


def _kept(submission, entry, output):
    """Return the submission with the path of its copy, or with its problem."""
    try:
        content = entry.read()
    except SubmissionError as error:
        return replace(submission, problem=str(error))
    path = f"submissions/{hashlib.sha256(content).hexdigest()}.ipynb"
    if not (output / path).exists():
        with atomic_path(output / path) as temporary:
            temporary.write_bytes(content)
    return replace(submission, path=path)


def _without(folders, passed, found, canvas, strip):
    """Yield (submission with a problem, layout) for each learner who handed in what is no notebook."""
    owners = {}
    for name, reason in passed:
        name = name.removeprefix(strip)
        owner = None if _is_junk(name) else _owner(name, canvas)
        if owner:
            submission, layout, file = owner
            told = owners.setdefault(submission.student, (submission, layout, []))[2]
            told += [f"{file}: {reason}"] if file else []
    for top in sorted(folders - {entry.name.partition("/")[0] for entry in found}) if not strip else ():
        if top not in owners and not MOODLE_ANY.fullmatch(f"{top}/"):
            owners[top] = Submission(top, ""), "plain", []
    for submission, layout, told in owners.values():
        problem = "; ".join(told[:3]) or "an empty folder"
        yield replace(submission, problem=f"{problem}; hand in exactly one notebook"), layout


def _owner(name, canvas):
    """Return (Submission, layout, name of the file) of a path that is no notebook's, None of a loose file."""
    for pattern, layout in ((MOODLE_ANY, "moodle"), (CANVAS, "canvas"), (CANVAS_TEXT, "canvas")):
        if (layout == "moodle" or canvas) and (match := pattern.fullmatch(name)):
            who = match.groupdict()
            late = bool(who.get("late"))
            submission = Submission(who["student"], "", who["name"] or "", late=late, folder=who["folder"])
            return submission, layout, who["file"]
    top, slash, file = name.partition("/")
    return (Submission(top, ""), "plain", file) if slash else None

"""Files that are whole or absent: atomic writes, and checksums for what is read."""

import hashlib
import os
import re
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from cnnlib.ground.env import ROOT, no_course
from cnnlib.ground.errors import DataError, ParameterError, kind_of


def as_path(name, value):
    """Return an argument, the name of a file or folder, as a Path; "~" is the user's own folder.

    Raises:
        ParameterError: it is no name, or an address such as https://…; the message names the argument.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise ParameterError(f"{name} is {kind_of(value)}; it must be a path: a str or a Path")
    if re.match(r"\w{2,}://", os.fspath(value)):  # one letter is a drive of Windows
        raise ParameterError(
            f"{name} is {str(value)!r:.200}, an address; it must be a path: download the file, and copy "
            "one that you write afterwards"
        )
    return Path(value).expanduser()


@contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; when the block ends well, rename it to `path`.

    A reader sees the old file or the new one, never half of one: a rename within a folder is atomic.
    When the block raises, the temporary file is removed and `path` stays as it was. Of a symbolic link the
    file that it points to is replaced. A file that was there before keeps its permissions.

    Args:
        path: where the finished file belongs; its folder is created when missing.

    Raises:
        OSError: the folder cannot be created or written.
    """
    path = Path(path)
    if path.is_symlink():  # a rename would put the file in the link's place
        path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept because writers such as pandas look at it, and there is one because torch takes what
    # precedes the last point for a name, which ".run-x" has not.
    name = {"prefix": f".{path.stem[:50]}-", "suffix": path.suffix or ".tmp"}  # not longer than systems take
    handle, name = tempfile.mkstemp(dir=path.parent, **name)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as file:  # on disk before it takes the name, in case power fails
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp makes files that only their owner can read.
        with suppress(OSError):  # some network drives and memory cards refuse it
            temporary.chmod(path.stat().st_mode if path.exists() else 0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # "No space left on device", where?
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_sha256(path, root):
    """Check a file against its line in `root/SHA256SUMS`, the list that `sha256sum -c` reads.

    Args:
        path: the file; it must lie under `root`.
        root: folder that holds SHA256SUMS.

    Raises:
        DataError: the list or the file's line in it is missing, or the checksum differs.
    """
    path, root = Path(path), Path(root)
    sums = root / "SHA256SUMS"
    if not sums.is_file():
        raise DataError(f"{sums} is missing: it lists the data's checksums. {restore()}")
    lines = (line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8").splitlines() if line.strip())
    expected = {name.strip(): digest for digest, name in lines}.get(path.relative_to(root).as_posix())
    if expected is None:
        raise DataError(f"{path} is not listed in {sums}, so it cannot be verified. {restore()}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DataError(
            f"{path} has SHA-256 {found[:12]}…, but {sums.name} lists {expected[:12]}…: "
            f"the file was changed or damaged. {restore()}"
        )


def restore():
    """Say in a sentence how a file of `data/` comes back."""
    if (ROOT / ".git").exists():
        return "Restore the committed file: git checkout -- data"
    return no_course() or "Take the folder data once more from where you got the course."

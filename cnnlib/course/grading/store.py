"""What a run of the grader keeps in its folder: who may write there, and files that are whole or absent."""

import contextlib
import fcntl
import json

from cnnlib.course.grading.collect import slug
from cnnlib.ground.errors import ParameterError
from cnnlib.ground.files import atomic_path

LOCK = ".lock"
"""A file in a run's folder while something writes there."""


@contextlib.contextmanager
def alone_in(output):
    """Hold a run's folder: two that write there at once would mix their seeds and results.

    A folder that is new and stays empty, as after a wrong call, is removed.

    Raises:
        ParameterError: another one holds it, or it is a file.
    """
    if output.exists() and not output.is_dir():
        raise ParameterError(f"{output} is a file; name a folder that does not exist yet")
    new, path = not output.exists(), output / LOCK
    output.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ParameterError(
                f"another grading writes into {output}; wait until it ends, or name another folder"
            ) from None
        except OSError:  # a file system that has no locks
            pass
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is not empty
                if new:
                    output.rmdir()


def stored_at(output, student):
    """Return the Path of what is stored of a learner."""
    return output / "results" / f"{slug(student)}.json"


def read_stored(output, student):
    """Return what is stored of a learner, or None."""
    path = stored_at(output, student)
    return read_json(path) if path.exists() else None


def read_json(path):
    """Return the dict that `write_json` wrote.

    Raises:
        ParameterError: somebody else wrote there, or half of it is gone.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ParameterError(f"{path} is damaged ({error}); take it from a backup, or begin anew") from None
    if not isinstance(value, dict):
        raise ParameterError(f"{path} is damaged (it holds no run); take it from a backup, or begin anew")
    return value


def write_json(path, value):
    """Write plain data, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")

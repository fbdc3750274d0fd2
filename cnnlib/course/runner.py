"""Runs lessons through papermill: typed parameters, a progress display, and a verdict on each.

papermill alone passes any name and any type on ("true" stays a string, an unknown name only warns) and
calls a notebook that ends itself with `sys.exit(0)` a success. Here a wrong parameter is an error before
anything runs, and a lesson is "ok" only when every code cell ran and every claim held.
"""

import ast
import asyncio
import contextlib
import difflib
import json
import logging
import math
import re
import signal
import sys
import threading
import time
import tokenize
import typing
import weakref
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import nbformat
import papermill
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG
from papermill.translators import PythonTranslator, papermill_translators

from cnnlib.course.exercises import own_folder
from cnnlib.ground.env import NOTEBOOKS, no_course
from cnnlib.ground.errors import ParameterError, kind_of
from cnnlib.ground.files import atomic_path
from cnnlib.measure.claims import MIME

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
"""The type of an output that shows a widget while its kernel lives; without it, "model not found"."""

_UNREADABLE = (ArithmeticError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError)
"""What text that is no literal makes Python raise: `{[]: 1}` a TypeError, 9,000 brackets a MemoryError, …"""


@dataclass(frozen=True)
class Parameter:
    """One line of a lesson's `parameters` cell: its name, default value and comment."""

    name: str
    default: object
    comment: str


@dataclass(frozen=True)
class Result:
    """What became of one lesson.

    Attributes:
        lesson: its name, such as "03_mnist_cnn".
        status: "ok", "claim failed", "error" (a cell raised), "incomplete" (a cell never ran),
            "timeout" or "dead kernel".
        seconds: wall-clock time of the run.
        held, claims: how many claims held, of how many that were reached.
        problem: one line that says what went wrong and in which cell; empty when all went well.
        output: the executed notebook.
    """

    lesson: str
    status: str
    seconds: float
    held: int
    claims: int
    problem: str
    output: Path


def lessons():
    """Return the paths of the lessons, in order, the instructor's own (CNNLIB_EXERCISES) among them.

    Raises:
        ParameterError: the package does not know where they lie.
    """
    if problem := no_course():
        raise ParameterError(problem)
    own = own_folder()
    folders = [NOTEBOOKS, own / "notebooks"] if own else [NOTEBOOKS]
    return sorted((p for f in folders for p in f.glob("[0-9][0-9]_*.ipynb")), key=lambda path: path.name)


def find_lesson(name):
    """Return the path of a lesson.

    Args:
        name: "03_mnist_cnn", its number "03" or "3", or the path of any notebook.

    Raises:
        ParameterError: there is no such lesson.
    """
    if Path(name).suffix == ".ipynb" and Path(name).is_file():
        return Path(name)
    stem = Path(name).stem
    number = f"{stem:0>2}_" if stem.isdigit() else None
    for path in lessons():
        if path.stem == stem or (number and path.stem.startswith(number)):
            return path
    raise ParameterError(f"there is no lesson {name!r}; choose one of {[p.stem for p in lessons()]}")


def _read(path):
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # there is no end to what a file that is no notebook makes the reader raise
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ParameterError(f"{path} cannot be read as a notebook: {first_line}") from None
    return notebook


def read_title(path):
    """Return a lesson's title: the text of its first heading, such as "03 · A CNN for handwritten digits"."""
    lines = [line for cell in _read(path).cells[:1] for line in cell.source.splitlines()]
    if not lines:
        raise ParameterError(f"{path} has no title; its first cell must begin with one: # NN · Title")
    return lines[0].lstrip("# ")


def read_parameters(path):
    """Read the parameters of a lesson from its cell tagged `parameters`, without running it.

    Args:
        path: the notebook.

    Returns:
        dict from name to Parameter, in the cell's order.

    Raises:
        ParameterError: the file is no notebook, it has not exactly one such cell, or the cell holds
            anything but `name = literal` lines.
    """
    cells = [cell for cell in _read(path).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ParameterError(f"{path} has {len(cells)} cells tagged 'parameters'; it must have exactly one")
    source = cells[0].source
    try:
        statements = ast.parse(source).body
        tokens = list(tokenize.generate_tokens(StringIO(source).readline))
    except _UNREADABLE as error:
        raise ParameterError(f"{path}: the parameters cell is no Python ({error}); mend it") from None
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    found = {}
    for statement in statements:
        try:
            (target,) = statement.targets
            value = ast.literal_eval(statement.value)
            found[target.id] = Parameter(target.id, value, comments.get(statement.end_lineno, ""))
        except (AttributeError, *_UNREADABLE):
            line = source.splitlines()[statement.lineno - 1]
            raise ParameterError(
                f"{path}: the parameters cell holds only `name = literal`, not {line!r}"
            ) from None
    return found


def check_parameters(path, given):
    """Check values for a lesson's parameters against the names and the types of its defaults.

    A string is read as the parameter's type, so that a command line can give it: "1e-4" is the number
    0.0001 where the default is a float, "true" is True where it is a bool, "[1, 2]" a list where it
    is a list; where the default is None, any literal is one and other text is a string. An int is accepted
    where a float is expected, and NumPy's numbers as Python's; nothing else is converted. A number must be
    above 0 where its default is, and not below 0 where that is 0, unless its comment speaks of "negative"
    values; a string is one of those that the comment quotes, unless they end in "…".

    Args:
        path: the notebook.
        given: dict from name to value.

    Returns:
        dict from name to value, of the defaults' types.

    Raises:
        ParameterError: an unknown name, a wrong type, a value out of range; the message says what there is.
    """
    known = read_parameters(path)
    checked = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ParameterError(f"{Path(path).stem} has no parameter {name!r}; {hint}it has {list(known)}")
        kind = type(known[name].default)
        try:
            checked[name] = _convert(value, kind)
        except _UNREADABLE:
            ranges = "; `cnnlib sweep` writes a range as 0..9" if kind is int and ".." in str(value) else ""
            raise ParameterError(
                f"{Path(path).stem}: parameter {name} is {value!r:.80}, {kind_of(value)}; it must be "
                f"of type {kind.__name__}, such as its default {known[name].default!r}{ranges}"
            ) from None
        if rule := _rule_broken(known[name], checked[name]):
            raise ParameterError(f"{Path(path).stem}: parameter {name} is {value!r:.80}; it must be {rule}")
    return checked


def _rule_broken(parameter, value):
    """Return in words what a parameter's value must be and is not, or ""."""
    default, comment = parameter.default, parameter.comment
    if type(default) in (int, float):
        if parameter.name == "seed":
            return "" if 0 <= value < 2**32 else f"from 0 to {2**32 - 1}"
        if math.isfinite(default) and not math.isfinite(value):
            return "finite"
        if "negative" not in comment and default >= 0 > value:
            return f"{'above 0' if default else '0 or more'}; its default is {default}"
        if "negative" not in comment and default > 0 == value:
            return f"above 0; its default is {default}"
    if isinstance(default, str) and "…" not in comment:
        words = re.findall(r'"([^"]*)"', comment)
        if default in words and value not in words:
            return f"one of {words}"
    return ""


def _convert(value, kind):
    if isinstance(value, str) and kind is not str:
        words = {"true": True, "false": False, "none": None, "null": None}
        words |= {word: float(word) for word in ("inf", "-inf", "nan")}
        word = value.strip().lower()
        try:
            value = words[word] if word in words else ast.literal_eval(value.strip())
        except _UNREADABLE:
            if kind is not type(None):
                raise
    if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if kind is float and type(value) is int:
        value = float(value)
    if kind not in (type(value), type(None)) or not _can_be_passed(value):
        raise ValueError
    return value


def _can_be_passed(value):
    """Tell whether papermill and JSON keep a value as it is: of a set or a number key they make text."""
    if isinstance(value, (list, tuple)):
        return all(map(_can_be_passed, value))
    if isinstance(value, dict):
        return all(type(key) is str and _can_be_passed(item) for key, item in value.items())
    return type(value) in (bool, float, int, str, type(None))


class PresentKernel(AsyncKernelManager):
    """Starts kernels with the present interpreter, whatever name of a kernel a notebook was saved with."""

    started: typing.ClassVar = weakref.WeakSet()

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.started.add(self)

    @property
    def kernel_spec(self):
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class SavingOnce(NBClientEngine):
    """papermill's engine, but it writes the notebook when it ends, in whatever way, and not twice a cell.

    Each time, papermill checks and writes all cells and pictures: a tenth of a lesson's time. Nobody could
    see these files, as a run's output appears under its name when it is whole. What is printed is joined
    here, as nbclient takes minutes for a line of 100,000 characters (`coalesce_streams`).
    """

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **options):
        output, nb_man.output_path = nb_man.output_path, None
        try:
            return super().execute_managed_notebook(nb_man, kernel_name, **options)
        finally:
            for cell in nb_man.nb.cells:
                if "outputs" in cell:
                    cell.outputs = _joined(cell.outputs)
            kept = nb_man.nb.metadata.papermill
            # JSON has no NaN and no infinity, and JupyterLab opens no notebook that holds them.
            kept["parameters"] = json.loads(json.dumps(kept["parameters"]), parse_constant=str)
            nb_man.output_path = output  # where papermill saves next


def _joined(outputs):
    """Join what a cell printed, a text a stream; of a line that was written over, the last state is left."""
    joined, texts = [], {}
    for output in outputs:
        if output.output_type != "stream":
            joined.append(output)
        elif output.name in texts:
            texts[output.name].append(output.text)
        else:
            texts[output.name] = [output.text]
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            lines = "".join(texts[output.name]).split("\n")
            output.text = "\n".join(line[line.rfind("\r", 0, len(line) - 1) + 1 :] for line in lines)
    for i in range(1, len(joined)):  # the two come in any order: stdout shall be the first
        if [output.get("name") for output in joined[i - 1 : i + 1]] == ["stderr", "stdout"]:
            joined[i - 1 : i + 1] = joined[i], joined[i - 1]
    return joined


papermill_engines.register("saving once", SavingOnce)


class AsWritten(PythonTranslator):
    """Writes parameters as Python does: papermill's own translator makes text of a tuple, "(1, 2)"."""

    @classmethod
    def translate(cls, val):
        if isinstance(val, tuple):
            return f"({''.join(f'{cls.translate(item)}, ' for item in val)})"
        return super().translate(val)


papermill_translators.register("python", AsWritten)


def stop_kernels():
    """End all kernels that run lessons, at once; those who wait for them find them dead."""
    for manager in list(PresentKernel.started):
        process = getattr(manager.provisioner, "process", None)
        if process is not None:
            process.kill()


@contextlib.contextmanager
def _interruptible():
    """Let an interrupt end a block as KeyboardInterrupt, whatever the libraries in it make of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def handle(*_):
        nonlocal interrupted
        interrupted = True
        logging.getLogger("asyncio").disabled = True  # its complaints of tasks that were left
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    except BaseException:
        if not interrupted:
            raise
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
    if interrupted:
        raise KeyboardInterrupt


def run_lesson(path, output, parameters=None, *, progress=None, timeout=None):
    """Execute a lesson and save the executed notebook.

    Args:
        path: the lesson's notebook; see `find_lesson`.
        output: where the executed notebook goes. It appears there whole, and also when the lesson
            fails, so that one can look.
        parameters: dict from name to value; checked before anything runs.
        progress: text before a progress bar over the cells, or None for no bar.
        timeout: seconds a cell may take; None for no limit.

    Returns:
        Result

    Raises:
        ParameterError: a parameter with an unknown name or a wrong type.
        OSError: `output` cannot be written.
    """
    path, output = Path(path), Path(output)
    checked = check_parameters(path, parameters or {})
    started = time.perf_counter()
    ended = None
    with atomic_path(output) as temporary:
        try:
            with _interruptible():
                papermill.execute_notebook(
                    path,
                    temporary,
                    checked,
                    engine_name="saving once",
                    progress_bar={"desc": progress, "leave": False, "file": sys.stdout}
                    if progress
                    else False,
                    execution_timeout=timeout,
                    extra_arguments=["--IPKernelApp.log_level=50"],  # no word of the kernel between our lines
                    kernel_manager_class=PresentKernel,
                    kernel_name="python3",
                    language="python",
                )
        except PapermillExecutionError:
            pass  # the saved notebook holds the error, where `_judge` finds it
        except CellTimeoutError:
            ended = "timeout"
        except DeadKernelError:
            ended = "dead kernel"
        finally:
            _close_loop()
        seconds = time.perf_counter() - started
        notebook = nbformat.read(temporary, as_version=4)
        status, problem = _judge(notebook, ended)
        if status == "ok" and any(map(_is_marker, notebook.cells)):  # of an error that was meant to be
            notebook.cells = [cell for cell in notebook.cells if not _is_marker(cell)]
            nbformat.write(notebook, temporary)
    held = [claim["holds"] for claim in claims(notebook)]
    return Result(path.stem, status, seconds, sum(held), len(held), problem, output)


def _close_loop():
    """Close the event loop that nbclient made for a thread and left open; the main thread keeps its own."""
    if threading.current_thread() is not threading.main_thread():
        with contextlib.suppress(RuntimeError):  # there is none, or it is running and somebody else's
            asyncio.get_event_loop().close()


def claims(notebook):
    """Return the claims that an executed notebook made: dicts as `measure.claims.MIME` describes them."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]


def _tags(cell):
    return cell.metadata.get("tags", [])


def _is_marker(cell):
    """Tell whether a cell is one by which papermill points at an error."""
    return ERROR_MARKER_TAG in _tags(cell)


def _judge(notebook, ended):
    """Return (status, problem) of an executed notebook: the first thing that went wrong, or ("ok", "").

    The tags that nbclient heeds count: "skip-execution", and "raises-exception" for an error to be shown.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    for cell in cells:
        error = next((output for output in cell.outputs if output.output_type == "error"), None)
        # A magic command that is none leaves no error among the outputs; papermill knows of it.
        failed = error is not None or cell.metadata.get("papermill", {}).get("exception")
        meant = failed and "raises-exception" in _tags(cell)
        if "skip-execution" in _tags(cell) or (cell.execution_count is not None and (meant or not failed)):
            continue
        if ended:
            what = "took too long" if ended == "timeout" else "or the one before it ended the kernel"
            return ended, f"cell {cell.id!r} {what}"
        if error is None and failed:
            told = "".join(o.text for o in cell.outputs if o.get("name") == "stderr")
            *_, last = ["it does not say why", *told.strip().splitlines()]
            return "error", f"cell {cell.id!r} failed: {last}"
        if error is None or error.ename == "SystemExit":  # `sys.exit(0)` is a success to papermill
            return "incomplete", f"cell {cell.id!r} ended the run before its last cell"
        status = "claim failed" if error.ename == "ClaimFailed" else "error"
        return status, f"cell {cell.id!r} raised {error.ename}: {error.evalue}"
    return (ended, "the kernel ended after the last cell") if ended else ("ok", "")


def _dies_with_kernel(output):
    return WIDGET_VIEW in output.get("data", {}) or output.get("metadata", {}).get("cnnlib") == "live"


def _is_blank(output):
    """Tell whether an output is what a progress bar leaves that took itself away."""
    return output.output_type == "stream" and not output.text.strip()


def clean(notebook):
    """Return an executed notebook without what differs from run to run, or dies with its kernel.

    That is times, paths and injected cells, the blanks of progress bars, and the live views of widgets:
    without them a reader sees the static figure that each widget leaves beside its view. The lessons are
    committed in this form.
    """
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if not (_dies_with_kernel(o) or _is_blank(o))]
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", ["kept"]):
            del cell.metadata["tags"]  # papermill adds an empty list
    return notebook


def summarize(results):
    """Return a text table of results: lesson, status, seconds, claims held; below it, the problems."""
    rows = [("lesson", "status", "seconds", "claims held")]
    rows += [(r.lesson, r.status, f"{r.seconds:.0f}", f"{r.held} of {r.claims}") for r in results]
    rows.append(
        (
            "total",
            f"{sum(r.status == 'ok' for r in results)} of {len(results)} ok",
            f"{sum(r.seconds for r in results):.0f}",
            f"{sum(r.held for r in results)} of {sum(r.claims for r in results)}",
        )
    )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
    rule = "-" * len(lines[0])
    problems = [f"{r.lesson}: {r.problem}\n  see {r.output}" for r in results if r.problem]
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *problems])

"""A notebook's cells as Python: IPython's syntax turned into it, and the least of a shell behind the magics.

`parse` runs nothing of what it reads.
"""

import ast
import contextlib
import io
import os
import re
import sys
import types
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

from cnnlib.course.exercises import CELL_LIMIT

WORK_LIMIT = 400_000
"""Characters that IPython's transformer may read for a cell; it reads the cell once for each magic in it."""

STATEMENTS_LIMIT = 5000
"""Statements at the top of a cell."""
MAGICS_LIMIT = 9
"""Cell magics that stand one below the other."""

PROMPT = re.compile(r"\s*(\[(nav|ins)\] )?In \[\d+\]: ")
TRANSPARENT = ("time", "prun", "lprun", "mprun", "memit", "snakeviz", "debug", "pdb")
"""Magics that run what they are given in the notebook's own namespace."""
OPAQUE = ("bash", "sh", "script", "cmd", "html", "HTML", "javascript", "js", "latex", "markdown", "svg")
OPAQUE += ("python", "python2", "python3", "pypy", "perl", "ruby", "system", "sx", "!", "R", "sql", "cython")
OPAQUE += ("timeit", "skip")
"""Cell magics whose body defines nothing in the notebook."""


def parse(source):
    """Return a cell as ast.Module, with IPython's syntax made Python.

    Magics that run Python (%time, %%capture) give way to what they run; others become calls that do nothing.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: the cell is no Python.
    """
    if len(source) > CELL_LIMIT:
        raise ValueError(f"a cell of {len(source):,} characters")
    source = _without_cell_magic(source)
    try:
        if PROMPT.match(source):
            raise SyntaxError("a prompt, which may look like an annotation")
        tree = ast.parse(source)
    except SyntaxError as error:
        text = _transformed(source)
        if text.strip() == source.strip():
            raise error from None
        tree = ast.parse(text)
        if "get_ipython" in text:
            tree = ast.fix_missing_locations(_Magics().visit(tree))
    if len(tree.body) > STATEMENTS_LIMIT:
        raise ValueError(f"a cell of {len(tree.body):,} statements")
    return tree


def _without_cell_magic(source):
    """Return what a cell magic runs here, with the lines where they were; other cells as they are."""
    for _ in range(MAGICS_LIMIT):
        first = re.match(r"\s*%%(\S+)[ \t]*([^\n]*)\n?", source)
        if not first:
            break
        name, line = first.groups()
        body, blank = source[first.end() :], "\n" * first.group().count("\n")
        if name in ("writefile", "file"):
            body = body if body.endswith("\n") else body + "\n"
            return f"get_ipython().run_cell_magic({name!r}, {line.strip()!r}, {body!r})"
        if name in OPAQUE:
            return ""
        captured = line.split()[-1:] if name == "capture" else []
        if captured and captured[0].isidentifier():
            blank = f"{captured[0]} = get_ipython().capture()" + (blank or "\n")
            body += f"\n{captured[0]}.stop()\n"
        source = blank + body
    return source


def _transformed(source):
    """Return a cell's text as IPython's own transformer makes it Python; it runs nothing of it.

    Raises:
        SyntaxError: it takes too long.
    """
    left = WORK_LIMIT

    class Limited(TransformerManager):
        def do_one_token_transform(self, lines):
            nonlocal left
            left -= sum(map(len, lines))
            if left < 0:
                raise SyntaxError("a cell with too many magics")
            return super().do_one_token_transform(lines)

    try:
        return Limited().transform_cell(source)
    except SyntaxError:
        raise
    except Exception as error:  # its tokenizer's, on text that is no Python in any way
        raise SyntaxError(f"{type(error).__name__}: {error}") from None


class _Magics(ast.NodeTransformer):
    """Replaces magics that run Python by what they run, and drops what runs none."""

    def visit_Expr(self, node):
        magic, line = magic_of(node.value)
        if magic in ("run", "cd", "writefile", "file"):
            return node
        if magic in ("env", "set_env") and (setting := re.match(r"\s*(\w+)[\s=]\s*(.+)", line)):
            name, value = setting[1], setting[2].strip()
            return _at(node, ast.parse(f"__import__('os').environ[{name!r}] = {value!r}").body)
        if magic == "pylab":
            return _at(node, ast.parse("from numpy import *\nimport numpy as np\n").body)
        if magic in TRANSPARENT:
            with contextlib.suppress(SyntaxError):
                return _at(node, parse(re.sub(r"^\s*(-\w+\s+)*", "", line)).body) or ast.Pass()
        if magic:
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_Call(self, node):
        magic, line = magic_of(node)
        if magic in TRANSPARENT:
            with contextlib.suppress(SyntaxError):
                return _at(node, [ast.parse(line.strip(), mode="eval").body])[0]
        return self.generic_visit(node)


def _at(place, nodes):
    """Return nodes, and what is in them, as standing in the line of another one."""
    for top in nodes:
        for node in ast.walk(top):
            if hasattr(node, "lineno"):
                ast.copy_location(node, place)
    return nodes


def magic_of(node):
    """Return (name of a magic, what it is given) of `get_ipython().run_line_magic(…)`, else ("", "")."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return "", ""
    shell = node.func.value
    if not (isinstance(shell, ast.Call) and getattr(shell.func, "id", "") == "get_ipython"):
        return "", ""
    texts = [getattr(argument, "value", None) for argument in node.args]
    if not texts or not all(isinstance(text, str) for text in texts):
        return "", ""
    if node.func.attr in ("run_line_magic", "run_cell_magic"):
        return texts[0], texts[1] if len(texts) > 1 else ""
    return ("system", texts[0]) if node.func.attr in ("system", "getoutput") else ("", "")


def nothing(*_, **__):
    """Do nothing."""


class _Nothing:
    """Stands for what a notebook's front end would give: it can be called, entered and looped over."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_, **__):
        return self

    def __iter__(self):
        return iter(())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class _Captured(_Nothing):
    """What cells print, until it is stopped."""

    stderr, outputs = "", ()

    def __init__(self):
        self._file, self._before = io.StringIO(), sys.stdout
        sys.stdout = self._file

    @property
    def stdout(self):
        return self._file.getvalue()

    def stop(self):
        sys.stdout = self._before


class _Lines(list):
    """What a shell command printed, in IPython's form: nothing."""

    n = s = p = ""

    @property
    def l(self):  # noqa: E743
        return list(self)


class Shell(_Nothing):
    """What `get_ipython()` is: magics and shell commands that do the least."""

    def __init__(self, namespace):
        self.user_ns = namespace
        self.nothing = _Nothing()

    def __getattr__(self, name):
        return getattr(self.nothing, name)

    def run_line_magic(self, name, line="", *_):
        if name == "run":
            path = Path(next((word for word in line.split() if word[0] != "-"), ""))
            path = path if path.suffix else path.with_suffix(".py")
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), self.user_ns)
        if name in TRANSPARENT:
            return eval(line, self.user_ns)
        if name == "cd":
            os.chdir(Path(re.sub(r"-q\s+", "", line).strip(" '\"") or "~").expanduser())
        if name == "pwd":
            return os.getcwd()
        if name == "env":
            return os.environ.get(line.strip()) if line.strip() else dict(os.environ)
        if name in ("timeit", "time"):
            times = {"average": 1e-6, "best": 1e-6, "worst": 1e-6, "stdev": 0.0, "loops": 1, "repeat": 1}
            return types.SimpleNamespace(**times, all_runs=[1e-6], timings=[1e-6])
        return _Lines() if name in ("sx", "system") else None

    def run_cell_magic(self, name, line="", body=""):
        if name in ("writefile", "file") and line.split():
            *options, path = line.split()
            Path(path).parent.mkdir(parents=True, exist_ok=True)  # for !mkdir has done nothing
            with Path(path).open("a" if "-a" in options else "w", encoding="utf-8") as file:
                file.write(body)

    def run_cell(self, text, *_, **__):
        with contextlib.suppress(Exception):
            exec(compile(parse(text), "<cell>", "exec"), self.user_ns)

    def ex(self, text):
        exec(text, self.user_ns)

    def push(self, variables, *_, **__):
        self.user_ns.update(variables)

    def capture(self):
        return _Captured()

    def getoutput(self, *_, **__):
        return _Lines()

    def system(self, *_, **__):
        return None

"""Which statements of a notebook an answer needs, and running them. They are a learner's: in the jail alone.

The rule: an answer is what the notebook, run from top to bottom, hands to the exercise's last check; where no
check is found, or where the only definition stands behind it, what the name is at the notebook's end.

Of the statements before that point only those run which can make a difference to the answer. They are found
by going backwards: a statement is needed when it binds, or may change, what the answer or a needed statement
behind it looks up. Where that cannot be told (a star import, exec, globals()), more is run rather than less.
A statement that fails is passed over, as is a cell that is no Python.

No reading tells all that a statement may change. So an answer that is not right is loaded again with all
statements of the learner's own cells (`own`), and what they need of the lesson. Nor does reading tell what is
checked in a loop, or by a function of the learner's: where there is such a check all checks run then, and the
answer is what the last of them was given.
"""

import ast
import asyncio
import builtins
import contextlib
import dataclasses
import inspect
import itertools
import linecache
import re
import sys
import types
import unicodedata
import warnings
import zlib

import IPython

from cnnlib.course import exercises
from cnnlib.course.exercises.cells import Shell, nothing, parse
from cnnlib.course.exercises.judge import NO_MORE, AnswerEnded, Verdict
from cnnlib.course.exercises.statements import OUTPUTS, QUIET, SETTINGS, names_in, statements

RESTARTS = 25
"""How often a notebook is begun again because a statement failed that was thought to bind a name."""
BUILTINS = frozenset(dir(builtins))
OUTPUT = re.compile(r"_{1,3}|_[1-9]\d*")
"""Names by which a notebook's code reads what the notebook showed."""
HIDDEN = re.compile(r";(?:\s|#[^\n]*\n)*(?:#[^\n]*)?$")
"""At the end of a cell, it hides the cell's value."""
HINTS = (
    "exec",
    "eval",
    "globals",
    "locals",
    "vars",
    "sys.modules",
    "*",
    "__future__",
    "%run",
    "%%",
    "%pylab",
)
HINTS += ("set_", "seterr", "setcontext", "seed", "limit", "use_", "env")
"""One of these stands in whatever ALWAYS finds; looking for them is quicker."""
ALWAYS = re.compile(
    r"\b(exec|eval|globals|locals|vars)\s*\(|sys\.modules|\bimport\s*\*|__future__"
    r"|%run\b|%%(write)?file\b|%pylab\b|\benviron\b|%(set_)?env\b"
    rf"|\b({SETTINGS.pattern})\s*\("
)
"""What makes a cell matter whatever names stand in it."""


def load(name, source, providers, given=0, own=(), ran=None):
    """Run what an answer needs of a notebook, and return the function or class that it is.

    Args:
        name: of the function or class.
        source: the cell that holds the answer. Where it is none of the providers, it follows them and is run
            as a whole.
        providers: sources of the lesson's cells that answers may build on, then of the notebook's code cells.
        given: how many of them are the lesson's.
        own: which of them, by number, run as a whole: those that the learner wrote or changed.
        ran: list of the points up to which the notebook has run in this process already, which gets this
            answer's. Where one is further down, nothing runs, for the answer would find what it should not;
            nor, where there is one, does `own`, for the answer may know which of its guesses was wrong.

    Raises:
        AnswerEnded: there is no such function or class; `own` makes no difference to what runs; or see `ran`.
    """
    alone = source not in providers
    notebook = Notebook([*providers, source] if alone else providers, given)
    wanted = notebook.find(name, source)
    if alone:
        for s in notebook.cells.get(notebook.own, ()):
            s.anything = True
    if own and not notebook.widen(names_in(wanted), own):
        raise AnswerEnded("error", NO_MORE)
    if ran and (own or notebook.end < max(ran)):
        raise AnswerEnded("error", "it needs a process in which nothing has run")
    if ran is not None:
        ran.append(notebook.end)
    with _recorded_checks() as handed:
        namespace, failed = _run(notebook, names_in(wanted))
    answer = None if notebook.told else handed.get(name)
    if callable(answer):
        return answer
    with contextlib.suppress(Exception):
        answer = eval(compile(ast.Expression(wanted), "<check>", "eval"), namespace)
    if not callable(answer):
        answer = namespace.get(name)
    if callable(answer):
        return answer
    error = None
    if name not in namespace:
        causes = [e for s, e in failed.items() if e and (name in s.binds or s.cell == notebook.own)]
        error = notebook.errors.get(notebook.own) or (causes[-1] if causes else None)
    if error is None:
        raise AnswerEnded("error", f"the cell defines no function or class {name}")
    where = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)[:500]
    raise AnswerEnded("error", f"the cell raised {type(error).__name__}{where}: {text}")


class Notebook:
    """The cells of a notebook; only those are read in which something stands that matters.

    Attributes:
        cells: {number: statements} of those that have been read; `errors`: {number: why it is passed over}.
        own: number of the answer's cell, once it has been found.
        end: the point up to which statements run: (number of a cell, how many of its statements).
        told: whether reading tells what is handed to the exercise's last check; see `widen`.
        inputs: IPython's `In`: the cells that are not the lesson's, in their order, without blank ones.
    """

    def __init__(self, sources, given=0):
        self.sources, self.cells, self.errors, self.own = list(sources), {}, {}, None
        self._texts = [s if s.isascii() else unicodedata.normalize("NFKC", s) for s in sources]
        self._flags, self.end, self._left = [], (len(sources), 0), set()
        self._checked, self.told = (0, 0), True
        counted = [number for number, text in enumerate(sources) if number >= given and text.strip()]
        self._counts = {number: count for count, number in enumerate(counted, start=1)}
        self.inputs = ["", *(sources[number] for number in counted)]
        for number, text in enumerate(self._texts):
            if any(hint in text for hint in HINTS) and ALWAYS.search(text):
                self._read(number)

    def find(self, name, source):
        """Find the point at which an answer is what it is, and return the expression that it is there.

        That is before the last check of the exercise, or at the end.
        """
        self._read_where({name}, _word)
        places = [number for number, text in enumerate(self.sources) if text == source]
        self.own, wanted = places[-1], ast.Name(name, ast.Load(), lineno=1, col_offset=0)
        checks = [
            (number, position, given)
            for number in sorted(self.cells)
            for position, s in enumerate(self.cells[number])
            for checked, given in checks_in(s.tree)
            if checked == name
        ]
        if checks:
            *end, given = checks[-1]
            before = [number for number in places if number <= end[0]]
            defined = [s for s in self._until(end) if name in s.binds and not s.stub]
            behind = any(name in s.binds and not s.stub for s in self._until(self.end))
            other = not (isinstance(given, ast.Name) and given.id == name)
            if other or defined or behind:  # else that check was never right
                self._checked = tuple(end)
            if other:
                self.end, wanted = tuple(end), given
            elif before and (defined or not behind):
                self.end = tuple(end)
            self.own = before[-1] if before else places[-1]
        defined = [s for s in self._until(self.end) if name in s.binds]
        if any(not s.stub for s in defined):
            # What was handed out and left as it was stands back behind an attempt, wherever it is.
            self._left = {s for s in defined if s.stub}
            if checks and any(s.cell == self.own for s in defined):
                kinds = (ast.FunctionDef, ast.ClassDef)
                self._left |= {s for s in defined if s.cell > self.own and isinstance(s.tree, kinds)}
        return wanted

    def needed(self, names, failed=()):
        """Return the statements on which names depend, in order; see `Program.needed`."""
        bound, found = set(), set()
        while True:
            program = Program([s for s in self._until(self.end) if s not in self._left])
            plan, live = program.needed(names, failed)
            touching = program.touching(live)
            if self._read_where(touching - bound, _binding):
                bound |= touching
                continue
            # What was shown may come from any cell.
            if any(map(OUTPUT.fullmatch, live)) and self._read_where({""}, str):
                continue
            # Imported names and Python's own stand everywhere; it matters only where they are bound.
            touching -= program.imported | (BUILTINS - program.binders.keys())
            read = self._read_where(touching - found, _word) or self._read_where(program.parts, str)
            if not read:
                return plan
            found |= touching

    def widen(self, names, numbers):
        """Take the statements of some cells as needed; tell whether more will run for it.

        Where one of them checks what only running tells, and does so last, all checks run, up to there.
        """
        narrow = set(self.needed(names))
        dynamic = any(s.anything or s.later_anything for s in narrow)
        for number in numbers:
            if number not in self.cells:
                self._read(number)
        behind = max(self._checks_by_running(numbers), default=(0, 0))
        self.told = behind <= self._checked
        if not self.told:
            self.end, self._left = behind, {s for s in self._left if s.stub}
        more = not self.told
        for s in self._until(self.end):
            if "check" in s.uses:
                s.anything = not self.told
            elif s.cell in numbers:
                s.anything = True
                idle = isinstance(s.tree, ast.Expr) and isinstance(s.tree.value, (ast.Constant, ast.Name))
                more |= s not in narrow and (dynamic or not (s.kind or idle))
        return more

    def _checks_by_running(self, numbers):
        """Yield the points behind statements of some cells that may check what their text does not tell."""
        asking = set()  # names of what does so when it is called
        for number in sorted(numbers):
            for position, s in enumerate(self.cells[number], start=1):
                untold = any(checked is None for checked, _ in checks_in(s.tree))
                if untold or not asking.isdisjoint(s.uses | s.later):
                    asking |= s.binds if not isinstance(s.tree, ast.For) else set()
                    yield number, position

    def _until(self, end):
        """Return the statements read of the cells up to (number of a cell, how many of its statements)."""
        whole = [s for number in sorted(self.cells) if number < end[0] for s in self.cells[number]]
        return whole + self.cells.get(end[0], [])[: end[1]]

    def _read_where(self, names, pattern):
        """Read the cells in which `pattern` of names is found; tell whether there were any."""
        search = re.compile(pattern("|".join(map(re.escape, names)))).search
        found = [
            number
            for number, text in enumerate(self._texts[: self.end[0] + 1])
            if number not in self.cells and any(name in text for name in names) and search(text)
        ]
        for number in found:
            self._read(number)
        return bool(found)

    def _read(self, number):
        flags = 0
        for above, flag in self._flags:
            flags |= flag if above < number else 0
        found, error = read_cell(self.sources[number], flags)
        if error:
            self.errors[number] = error
        count = self._counts.get(number, 0)
        self.cells[number] = [dataclasses.replace(s, cell=number, count=count) for s in found]
        future = _future(s.tree for s in found)
        if future:  # as in IPython, for the cells below too
            self._flags.append((number, future))


def _word(names):
    return rf"\b(?:{names})\b"


def _binding(names):
    """Return a pattern for lines that may bind names, or set attributes of what they stand for."""
    words = rf"\b(?:import|def|class|as|for|del|global)\s+\(?(?:[\w., *()]*[ ,(*])?(?:{names})\b"
    target = rf"\b(?:{names})\b[\w.\[\]'\", ]*(?::[^=\n]*)?[-+*/|&@]?=(?!=)"
    return rf"{words}|{target}|attr\((?:{names})\b"


def checks_in(tree):
    """Return (name of an exercise, what is handed) for each `check("NN.NAME", …)` in a statement.

    The name is None where `check` is used in another way, or in a definition, which is called elsewhere.
    """
    found, told = [], set()
    later = isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_check(node.func) and not later:
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            text = getattr(given[0], "value", None) if len(given) == 2 else None
            if isinstance(text, str):
                found.append((text.partition(".")[2], given[1]))
                told.add(node.func)
        if _is_check(node) and node not in told:
            found.append((None, node))
    return found


def _is_check(node):
    """Tell whether a node stands for `check`, as a name, an attribute or under another name."""
    if isinstance(node, ast.alias):
        return node.name == "check" and node.asname not in (None, "check")
    return "check" in (getattr(node, "id", ""), getattr(node, "attr", ""))


@contextlib.contextmanager
def _recorded_checks():
    """Let `check` keep what it is given, and find it right: {name of an exercise: what was handed last}."""
    handed, real = {}, exercises.check

    def check(exercise_id, answer):
        handed[str(exercise_id).partition(".")[2]] = answer
        exam = {"id": exercise_id, "points": 1, "cases": [], "hints": [], "given": ""}
        return exercises.Feedback(exam, Verdict("pass"))

    exercises.check = check
    try:
        yield handed
    finally:
        exercises.check = real


_cells = {}
"""(source, flags) of a cell to its statements and the error that its text raised, or None."""


def read_cell(source, flags=0):
    """Return (statements, error) of a cell; the error is why it is passed over, or None."""
    key = (source, flags)
    if key not in _cells:
        filename = f"<cell {zlib.crc32(source.encode()):08x}>"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = parse(source)
                shown = not HIDDEN.search(source)
                _cells[key] = statements(tree, filename, flags | _future(tree.body), shown), None
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            _cells[key] = [], error
        lines = source.splitlines(keepends=True)
        linecache.cache[filename] = len(source), None, lines, filename  # for inspect.getsource
    return _cells[key]


def _future(trees):
    """Return the compiler's flags for statements of the form `from __future__ import …`."""
    import __future__

    flags = 0
    for tree in trees:
        if isinstance(tree, ast.ImportFrom) and tree.module == "__future__":
            for alias in tree.names:
                feature = getattr(__future__, alias.name, None)
                flags |= getattr(feature, "compiler_flag", 0)
    return flags


class Program:
    """The statements of a notebook in order, up to the point at which the answer is what it is."""

    def __init__(self, statements):
        self.statements = statements
        self.binders, self.aliases, self.keepers, self.memory = {}, {}, {}, {}
        for s in statements:
            for name in s.binds | s.later_binds:
                self.binders.setdefault(name, []).append(s)
            for name, others in s.aliases.items():
                self.aliases.setdefault(name, set()).update(others)
            for name, others in s.keepers.items():
                self.keepers.setdefault(name, set()).update(others)
        for s in statements:  # a function that an own function makes keeps what that was given
            for name, lent in s.lends.items() if isinstance(s.tree, ast.Assign) else ():
                if any(b.makes_functions for b in self.binders.get(name, ())):
                    for each in lent:
                        self.keepers.setdefault(each, set()).update(s.binds)
        kinds = {name: {s.kind for s in found} for name, found in self.binders.items()}
        self.unbound = BUILTINS - kinds.keys()
        self.definitions = {name for name, k in kinds.items() if k <= {"function", "class", "import"}}
        self.definitions |= self.unbound
        self.imported = {name for name, k in kinds.items() if k == {"import"}}
        self.settled = {name for name, k in kinds.items() if k <= {"literal", "import"}} | BUILTINS
        self.parts = set().union(*(s.parts for s in statements))
        for s in statements:
            for name in self.binders if s.parts else ():
                if any(name.startswith(part) or name.endswith(part) for part in s.parts):
                    (s.uses if s.anything else s.later).add(name)
        self.shows = {s: {f"_{s.count}"} for s in statements if s.shown}
        for s in itertools.takewhile(lambda s: "_" not in s.binds, statements):  # then `_` is not IPython's
            if s.shown:
                self.shows[s].update(OUTPUTS)
        self.changes = {s: self._changes(s) | self.shows.get(s, set()) for s in statements}
        known = self.settled | self.definitions
        self.settings = {
            s
            for s in statements
            if (s.setting and s.uses <= self.settled)
            or (not (s.stores - QUIET).isdisjoint(self.imported) and s.uses <= known)
        }
        self.unknown = {s for s in statements if s.anything or self._calls_unknown(s)}

    def needed(self, names, failed=()):
        """Return (the statements on which names depend, in order; all names that were looked for).

        Args:
            names: set of str
            failed: statements that are known to fail, so that what they bind may still be what it was; None:
                any may.
        """
        at_end, sought = set(names), set(names)
        while True:
            live, chosen, before = set(at_end), [], len(at_end)
            for s in reversed(self.statements):
                if s in self.unknown or s in self.settings or not live.isdisjoint(self.changes[s]):
                    chosen.append(s)
                    shows = self.shows.get(s, set())
                    older = {old for old, new in itertools.pairwise(OUTPUTS) if new in live & shows}
                    if failed is not None and s not in failed:
                        live -= s.surely | shows
                    live |= older | s.uses | self._closure("later", s.uses)
                    sought |= live
                    at_end |= s.later
            if len(at_end) == before:
                return chosen[::-1], sought | at_end

    def touching(self, names):
        """Return names, and those of functions, objects and settings by which what they are may change."""
        found = {name for name in self.aliases if not names.isdisjoint(self._named_alike({name}))}
        for name, binders in self.binders.items():
            changed = self._of_one("later_binds", name) | self._of_one("later_changes", name)
            if not names.isdisjoint(changed) or any(s.later_anything for s in binders):
                found.add(name)
        for s in self.statements:
            if s.setting:
                found |= s.uses
            if not names.isdisjoint(s.passes):  # whether they change it, shows when they have been read
                found |= s.calls
        return names | found

    def _changes(self, s):
        """Return the names that a statement binds, or whose objects it may change."""
        called = s.calls | s.hands
        roots = s.methods | self._closure("later_changes", called)
        sets = any(b.later_sets for name in s.calls for b in self.binders.get(name, ()))
        given = s.passes - (self.imported | BUILTINS if sets else self.definitions)
        for name, lent in s.lends.items():
            if any(b.changes_given for each in {name, *lent} for b in self.binders.get(each, ())):
                given |= lent - self.definitions
        roots = (roots - self.imported) | given | (s.objects - self.definitions) | s.stores
        changed = self._named_alike(roots - self.unbound)
        changed = changed.union(*(self.keepers.get(name, ()) for name in changed))
        return s.binds | self._closure("later_binds", called) | changed

    def _calls_unknown(self, s):
        return any(b.later_anything for name in s.calls for b in self.binders.get(name, ()))

    def _named_alike(self, names):
        found, todo = set(), set(names)
        while todo:
            name = todo.pop()
            found.add(name)
            todo |= self.aliases.get(name, set()) - found - self.definitions
        return found

    def _closure(self, attribute, names):
        """Return what functions with these names, and those that they call, look up, bind or change."""
        return set().union(*(self._of_one(attribute, name) for name in names)) if names else set()

    def _of_one(self, attribute, name):
        if (attribute, name) not in self.memory:
            seen, todo, found = set(), [name], set()
            while todo:
                each = todo.pop()
                for s in self.binders.get(each, ()):
                    if s not in seen:
                        seen.add(s)
                        found |= getattr(s, attribute)
                        todo += s.later | s.calls
                        if attribute != "later":
                            todo += s.aliases.get(each, ())  # a function in a list
            self.memory[attribute, name] = found
        return self.memory[attribute, name]


def _run(notebook, names):
    """Run what names depend on; return (the namespace, {statement that failed: its error})."""
    failed = {}
    while True:
        plan = notebook.needed(names, failed if len(failed) < RESTARTS else None)
        namespace = _fresh(list(notebook.inputs))
        steps = _steps(notebook, names, plan, namespace, failed)
        if any(s.code.co_flags & inspect.CO_COROUTINE for s in plan):  # they await something
            done = asyncio.run(steps)
        else:
            try:
                steps.send(None)
            except StopIteration as ended:
                done = ended.value
        if done:
            return namespace, failed


async def _steps(notebook, names, plan, namespace, failed):
    """Run statements; return whether they were the right ones, now that it is known which failed."""
    latest = ""
    told = any(OUTPUT.fullmatch(name) for s in plan for name in s.uses | s.later)
    for s in plan:
        try:
            result, error = eval(s.code, namespace), None
            if s.code.co_flags & inspect.CO_COROUTINE:
                result = await result
        except (Exception, SystemExit, KeyboardInterrupt) as raised:
            error = raised
        else:
            if not (s.shown and told):
                continue
            if result is not None:
                latest = _show(namespace, latest, s.count, result)
                continue
        if s in failed:
            continue
        failed[s] = error  # None: it showed nothing
        if len(failed) <= RESTARTS and notebook.needed(names, failed) != plan:
            return False  # what it was thought to bind is what it was before
    return True


def _show(namespace, latest, count, value):
    """Keep what a cell shows under IPython's names; return what `_` is if the notebook leaves it alone."""
    namespace[f"_{count}"] = namespace["Out"][count] = value
    if namespace["_"] is not latest:  # the notebook uses the name itself
        return latest
    namespace["___"], namespace["__"], namespace["_"] = namespace["__"], latest, value
    return value


def _fresh(inputs):
    """Return the namespace of a new notebook, as IPython makes it."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # where pickle, dataclasses and typing look names up
    shell = Shell(vars(module))
    vars(module).update(get_ipython=lambda: shell, display=nothing, In=inputs, Out={}, _="", __="", ___="")
    IPython.get_ipython = module.get_ipython  # for those who import it
    vars(module).update(__builtins__=builtins, __builtin__=builtins, __IPYTHON__=True)
    return vars(module)

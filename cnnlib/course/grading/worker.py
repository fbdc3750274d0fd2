"""The program inside the jail: it runs a learner's answers and sends back what they return.

It reads requests from its standard input and writes replies to its standard output, each a length and plain
data. Nothing that it says is believed: the other side checks each reply against what it expects.
"""

import ast
import builtins
import dis
import os
import re
import struct
import sys
import types

from cnnlib.course.exercises import ask, plain
from cnnlib.course.exercises.judge import AnswerEnded

LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
"""The instructions by which Python looks for a global name."""


def needed(answer, providers):
    """Return the statements of other cells that an answer depends on, in the cells' order.

    A statement is needed when it defines a name that the answer, or a needed statement, uses and does not
    define itself; the local names of a function are none of these. So the answer finds its lesson's imports,
    and nothing else of the lesson is run.

    Args:
        answer: ast.Module
        providers: sources of cells; where several define a name, the first one does.
    """
    statements, defines = [], {}
    for source in providers:
        try:
            tree = parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for statement in tree.body:
            for name in _bound(statement):
                defines.setdefault(name, len(statements))
            statements.append(statement)
    found, search = set(), _used(answer.body) - {name for s in answer.body for name in _bound(s)}
    while search:
        name = search.pop()
        position = defines.get(name)
        if position is not None and position not in found and not hasattr(builtins, name):
            found.add(position)
            search |= _used([statements[position]])
    return [statements[position] for position in sorted(found)]


def parse(source):
    """Parse a cell; where that fails, without IPython's own lines (%timeit, !ls), which are no Python."""
    try:
        return ast.parse(source)
    except SyntaxError as error:
        try:
            return ast.parse(re.sub(r"^(?=[ \t]*[%!])", "#", source, flags=re.MULTILINE))
        except SyntaxError:
            raise error from None


def _bound(statement):
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).partition(".")[0] for alias in statement.names]
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [n.id for target in statement.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    return []


def _used(statements):
    """Return the global names that statements use; none where they cannot be compiled."""
    try:
        codes = [compile(ast.Module(statements, []), "<used>", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = set()
    for code in codes:  # it grows by the code of functions and classes inside
        names |= {i.argval for i in dis.get_instructions(code) if i.opname in LOADS}
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return names


def load(name, source, providers):
    """Run an answer's cell and return the function or class that it defines.

    Raises:
        AnswerEnded: the cell cannot be run, or defines no such thing.
    """
    try:
        tree = parse(source)
        namespace = {"__name__": "__main__"}
        for statement in needed(tree, providers):
            try:
                exec(compile(ast.Module([statement], []), "<lesson>", "exec"), namespace)
            except Exception:
                continue  # the answer says soon enough that a name is missing
        exec(compile(tree, "<answer>", "exec"), namespace)
    except Exception as error:
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        text = error.msg if isinstance(error, SyntaxError) else str(error)[:500]
        message = f"the cell raised {type(error).__name__}{where}: {text}"
        raise AnswerEnded("error", message) from None
    if not callable(namespace.get(name)):
        raise AnswerEnded("error", f"the cell defines no function or class {name}")
    return namespace[name]


def main():
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # what an answer prints or asks for goes nowhere
        os.dup2(null, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    answers = {}
    _send(replies, {"ready": True})
    while header := requests.read(4):
        request = plain.loads(requests.read(*struct.unpack(">I", header)))
        name = request["name"]
        try:
            if "source" in request:
                answers[name] = load(name, request["source"], request["providers"])
                reply = {"loaded": name}
            else:
                reply = {"result": ask(answers[name], request["case"])}
        except AnswerEnded as ended:
            reply = {"ended": ended.verdict.status, "message": ended.verdict.message}
        except BaseException as error:  # SystemExit, KeyboardInterrupt and what an answer derives from them
            reply = {"ended": "error", "message": f"it tried to end the program: {type(error).__name__}"}
        _send(replies, reply)


def _send(stream, reply):
    data = plain.dumps(reply)
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


if __name__ == "__main__":
    main()

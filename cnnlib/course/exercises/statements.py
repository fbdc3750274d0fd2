"""What a notebook's statement looks up, binds and changes: read off its syntax and its compiled code."""

import ast
import dis
import inspect
import re
import types
from dataclasses import dataclass, field
from pathlib import Path

from cnnlib.course.exercises.cells import magic_of

DYNAMIC = ("exec", "eval")
DYNAMIC_WITHOUT_ARGUMENTS = ("globals", "locals", "vars")
QUIET = {"print", "pprint", "display", "check", "claim", "help", "plt", "ax", "axes", "fig"}
"""What these are given, they do not change."""
SETTINGS = re.compile(
    r"set_default_\w+|set_grad_enabled|set_float32_matmul_precision|use_deterministic_algorithms|seterr|"
    r"seed|manual_seed|set_seed|setrecursionlimit"
)
"""Functions whose calls are settings that any later statement may depend on."""
PURE = """
get items keys values copy sum mean std var min max argmax argmin abs view reshape size numel item
tolist format join split startswith endswith float double long int half bool clone detach cpu numpy
permute transpose unsqueeze squeeze flatten repeat expand index count upper lower strip dim type
parameters pow contiguous flip roll unfold matmul mm dot t shape replace encode decode read_text
""".split()  # noqa: SIM905
"""Methods that leave their object as it is."""
CHANGING = ("append", "extend", "insert", "add", "update", "setdefault", "__setitem__", "register")
"""Methods that change their object, though they may be handed on before they are called."""
GLOBAL_LOADS = ("LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
NAMED = (*GLOBAL_LOADS, "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "STORE_NAME", "DELETE_NAME")
NAMED = {dis.opmap[name]: name for name in NAMED if name in dis.opmap}
OUTPUTS = ("_", "__", "___")
"""What IPython calls the value that it showed last, the one before, and the one before that."""
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


@dataclass(eq=False)
class Statement:
    """A statement of a notebook, compiled, with the global names that matter to others.

    Attributes:
        cell: number of its cell in the notebook; `count`: IPython's, where all cells are run once; 0: none.
        uses: names that it looks up while it runs; `later`: that its functions look up when they are called.
        binds: names that it may bind or delete; `surely`: that it binds unless it fails.
        stores: names whose items or attributes it sets; `methods`: whose methods it calls; `passes`: that it
            hands to a call for that call's effect; `calls`: functions that it calls for their effect.
        later_binds, later_changes: what its functions bind or change when they are called; `later_sets`: they
            call setattr, maybe on what they are given.
        aliases: {name: names that it may be another name for}
        anything: it may bind any name; `later_anything`: its functions may.
        words, parts: of its strings, where it looks names up by strings: names, and parts of names.
        kind: "import", "function", "class", "literal" or "".
        setting: it is a call like torch.manual_seed(0).
        stub: the name of the function or class that it leaves to be written.
        shown: it is an expression whose value a notebook shows below its cell; its code returns it.
    """

    tree: ast.stmt
    code: types.CodeType
    cell: int = 0
    count: int = 0
    uses: set = field(default_factory=set)
    later: set = field(default_factory=set)
    binds: set = field(default_factory=set)
    surely: set = field(default_factory=set)
    stores: set = field(default_factory=set)
    methods: set = field(default_factory=set)
    passes: set = field(default_factory=set)
    calls: set = field(default_factory=set)
    later_binds: set = field(default_factory=set)
    later_changes: set = field(default_factory=set)
    later_sets: bool = False
    aliases: dict = field(default_factory=dict)
    anything: bool = False
    later_anything: bool = False
    words: set = field(default_factory=set)
    parts: set = field(default_factory=set)
    kind: str = ""
    setting: bool = False
    stub: str = ""
    shown: bool = False


def statements(tree, filename, flags=0, shown=True):
    """Return the statements of a cell; without those that cannot be compiled.

    Args:
        tree: ast.Module
        filename: under which errors name it.
        flags: of the compiler, from `from __future__ import …`.
        shown: whether the value of its last expression is shown; none is behind a semicolon.
    """
    found = []
    for node in tree.body:
        try:
            last = shown and node is tree.body[-1] and isinstance(node, ast.Expr)
            part, mode = (ast.Expression(node.value), "eval") if last else (ast.Module([node], []), "exec")
            code = compile(part, filename, mode, flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
            statement = Statement(node, code, shown=last)
            _read_tree(statement)
            _read_code(statement)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        found.append(statement)
    return found


def _read_code(s):
    """Fill in the names that a statement's code loads and stores; `s.surely` holds those stored anyway."""
    straight, stored = set(s.surely), set()
    todo = [(s.code, False)]
    while todo:
        code, later = todo.pop()
        function = bool(code.co_flags & inspect.CO_OPTIMIZED)
        later |= function and code.co_name not in COMPREHENSIONS
        uses = s.later if later else s.uses
        own = set()  # names of a class's body
        for operation, name in names_of(code):
            known = stored if code is s.code else own
            if operation in GLOBAL_LOADS or (operation == "LOAD_NAME" and name not in known):
                uses.add(name)
            elif operation in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                (s.later_binds if later else s.binds).add(name)
            elif operation in ("STORE_NAME", "DELETE_NAME"):
                if code is not s.code:
                    own.add(name)
                else:
                    s.binds.add(name)
                    if name in straight:
                        stored.add(name)
        if code.co_name == "<genexpr>":
            s.later |= s.uses
        todo += [(constant, later) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    s.surely &= s.binds
    if isinstance(s.tree, ast.Import):
        s.surely -= {a.name.partition(".")[0] for a in s.tree.names if "." in a.name and not a.asname}
    elif isinstance(s.tree, (ast.For, ast.AsyncFor, ast.If, ast.Try, ast.While, ast.Match)):
        s.surely = set()
    if s.anything or s.later_anything:
        (s.uses if s.anything else s.later).update(s.words)
    s.later_changes &= s.later


def names_of(code):
    """Yield (operation, name) for each of NAMED in a code object: what `dis` tells, but quickly."""
    extended, text = 0, code.co_code
    for operation, argument in zip(text[::2], text[1::2], strict=True):
        argument |= extended
        extended = argument << 8 if operation == dis.EXTENDED_ARG else 0
        if operation in NAMED:
            name = NAMED[operation]
            yield name, code.co_names[argument >> 1 if name == "LOAD_GLOBAL" else argument]


def _read_tree(s):
    """Fill in what only a statement's syntax tells: what it changes in place, and for what it calls."""
    tree = s.tree
    if isinstance(tree, (ast.Import, ast.ImportFrom)):
        s.kind = "import"
        s.anything = any(alias.name == "*" for alias in tree.names)
        s.uses |= {f"import {module}" for module in _modules(tree)}
    elif isinstance(tree, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        kind = "class" if isinstance(tree, ast.ClassDef) else "function"
        s.kind = "" if tree.decorator_list else kind
        s.stub = tree.name if _is_stub(tree) else ""
    elif isinstance(tree, (ast.Assign, ast.AnnAssign)) and isinstance(tree.value, ast.Constant):
        s.kind = "literal"
    s.surely = _straight([tree])
    todo = [(tree, False)]
    while todo:
        node, later = todo.pop()
        _read_node(s, node, later)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            body = node.body if isinstance(node.body, list) else [node.body]
            todo += [(child, True) for child in body]
            around = [*getattr(node, "decorator_list", []), *node.args.defaults]
            todo += [(child, later) for child in [*around, *filter(None, node.args.kw_defaults)]]
        else:
            todo += [(child, later) for child in _children(node)]


def _children(node):
    """Yield what stands below a node, as ast.iter_child_nodes does; without names and constants."""
    for field_name in node._fields:
        value = getattr(node, field_name, None)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(
                child, (ast.Name, ast.Constant, ast.expr_context)
            ):
                yield child


def _read_node(s, node, later):
    changed = set()
    if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        changed = {_root(node)}
        if not later:
            s.stores |= changed
        if changed == {"builtins"} and isinstance(node, ast.Attribute):
            (s.later_binds if later else s.binds).add(node.attr)
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("setattr", "delattr") and node.args:
        changed = {_root(node.args[0])}
        if not later:
            s.stores |= changed
        s.later_sets |= later
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr not in PURE:
        changed = {_root(node.func)} - QUIET
        if not later:
            s.methods |= changed
    if isinstance(node, ast.Call):
        handed = [a for a in node.args if isinstance(a, ast.Attribute) and a.attr in CHANGING]
        changed = changed | {_root(a) for a in handed}
        if not later:
            s.methods |= {_root(a) for a in handed}
    if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Out":
        number = getattr(node.slice, "value", None)
        (s.later if later else s.uses).update([f"_{number}"] if isinstance(number, int) else [])
    if isinstance(node, (ast.Attribute, ast.Subscript)) and not later:
        s.setting |= "environ" in (getattr(node, "attr", ""), getattr(node.value, "id", ""))
    if later:
        s.later_changes |= changed
    elif isinstance(node, ast.Expr):
        _read_effects(s, node.value)
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        _read_assignment(s, node)
    elif isinstance(node, (ast.For, ast.AsyncFor)):
        _add_aliases(s, node.target, names_in(node.iter))
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        for item in node.items:
            s.calls |= _callee(item.context_expr)
            if item.optional_vars is not None:
                _add_aliases(s, item.optional_vars, names_in(item.context_expr))
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        for decorator in node.decorator_list:
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            s.calls |= {_root(function)}
            s.passes |= {_root(given) for given in getattr(decorator, "args", [])}
            s.methods |= {_root(function)} if isinstance(function, ast.Attribute) else set()
        s.calls |= {_root(base) for base in getattr(node, "bases", [])}
    _read_dynamic(s, node, later)
    if isinstance(node, ast.Import | ast.ImportFrom) and node is not s.tree:
        s.anything |= not later and any(alias.name == "*" for alias in node.names)


def _read_effects(s, value):
    """Read an expression whose value is thrown away: it is there for its effect."""
    value = value.value if isinstance(value, ast.Await) else value
    magic, line = magic_of(value)
    if magic == "run":
        s.anything = True
        s.uses |= {f"import {Path(file).stem}" for file in line.split()[:1]}
    if magic in ("writefile", "file"):
        file = line.split()[-1:] or [""]
        s.binds.add(f"import {Path(file[0]).stem}")
    if not isinstance(value, ast.Call):
        return
    root = _root(value.func)
    if root in QUIET:
        return
    s.calls |= _callee(value)
    given = [*value.args, *(keyword.value for keyword in value.keywords)]
    s.passes |= {_root(a.value if isinstance(a, ast.Starred) else a) for a in given}
    last = value.func.attr if isinstance(value.func, ast.Attribute) else root
    s.setting |= bool(SETTINGS.fullmatch(last or ""))


def _read_assignment(s, node):
    s.calls |= _callee(node.value)
    parts = node.value.elts if isinstance(node.value, (ast.Tuple, ast.List)) else [node.value]
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        _add_aliases(s, target, {_root(part) for part in parts})


def _add_aliases(s, target, names):
    for name in names_in(target):
        s.aliases.setdefault(name, set()).update(names - {"", name})


def _read_dynamic(s, node, later):
    """Read what looks names up by strings, or changes what all statements behind it depend on."""
    if later and isinstance(node, ast.Call) and SETTINGS.fullmatch(getattr(node.func, "attr", "")):
        s.later_anything |= node.func.attr.startswith(("set_default", "setrecursion"))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        bare = not node.args and not node.keywords and node.func.id in DYNAMIC_WITHOUT_ARGUMENTS
        found = bare or node.func.id in DYNAMIC
    else:
        found = (
            isinstance(node, ast.Attribute)
            and node.attr == "modules"
            and getattr(node.value, "id", "") == "sys"
        )
    if not found:
        return
    if later:
        s.later_anything = True
    else:
        s.anything = True
    for part in ast.walk(s.tree):
        if isinstance(part, ast.JoinedStr):
            s.parts |= {v.value for v in part.values if isinstance(v, ast.Constant) and len(v.value) > 1}
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            s.words |= set(re.findall(r"[^\W\d]\w*", part.value))


def _straight(body):
    """Return the names that statements bind whatever happens, unless one fails or a loop has no turn."""
    names = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.Delete)):
            names |= {n for target in node.targets for n in names_in(target, ast.Store, ast.Del)}
        elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.AnnAssign) and node.value):
            names |= names_in(node.target, ast.Store)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            names |= names_in(node.target, ast.Store) | _straight(node.body)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            targets = [item.optional_vars for item in node.items if item.optional_vars is not None]
            names |= {n for target in targets for n in names_in(target, ast.Store)} | _straight(node.body)
        elif isinstance(node, ast.Try):
            names |= _straight(node.body)
    return names


def names_in(node, *contexts):
    return {
        n.id
        for n in ast.walk(node)
        if isinstance(n, ast.Name) and (not contexts or isinstance(n.ctx, contexts))
    }


def _root(node):
    """Return the name at the beginning of a chain such as a.b[0].c(1).d; "" where there is none (f(x).c)."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return ""
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _callee(node):
    """Return the name of the function that an expression calls, as a set of at most one."""
    node = node.value if isinstance(node, ast.Await) else node
    return {_root(node.func)} if isinstance(node, ast.Call) else set()


def _modules(node):
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").partition(".")[0]]
    return [alias.name.partition(".")[0] for alias in node.names]


def _is_stub(node):
    """Tell whether a function, or every method of a class, does nothing but raise NotImplementedError."""
    if isinstance(node, ast.ClassDef):
        methods = [n for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        return bool(methods) and all(map(_is_stub, methods))
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if len(body) != 1 or not isinstance(body[0], ast.Raise):
        return False
    error = body[0].exc
    return getattr(error.func if isinstance(error, ast.Call) else error, "id", "") == "NotImplementedError"

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
    r"seed|manual_seed|set_seed|setrecursionlimit|setcontext"
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
ADVANCING = ("next", "heappop", "heapreplace", "setitem", "delitem")
"""Functions that change what they are given, though their value matters too; so do those named f_."""
KEEPING = ("partial", "iter", "zip", "map", "enumerate", "list", "tuple", "dict", "reversed", "from_numpy")
KEEPING += ("as_tensor", "asarray", "copy", "sorted", "max", "min", "filter", "getattr", "squeeze", "reshape")
"""Functions whose value keeps what they are given; so do classes, which begin with a capital letter."""
HOLDING = (ast.Tuple, ast.List, ast.Set, ast.Dict, ast.IfExp, ast.BoolOp, ast.NamedExpr, ast.Starred)
"""Expressions that are, or keep, what stands in them."""
MODULES = {"builtins", "__builtins__", "__builtin__", "__main__"}
"""Modules whose attributes are names that a notebook can look up."""
COMPOUND = (ast.For, ast.AsyncFor, ast.If, ast.Try, ast.While, ast.Match, ast.With, ast.AsyncWith)
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
            hands to a call for that call's effect; `calls`: that it calls, or whose methods; `objects`: that
            it calls themselves; `hands`: that it hands to calls, which may call them.
        lends: {name of what is called: names that it is given}; it changes them if it `changes_given`.
        later_binds, later_changes: what its functions bind or change when they are called; `later_sets`: they
            call setattr, maybe on what they are given.
        aliases: {name: names that it may be another name for}
        keepers: {name: the function or class that keeps what it stands for}
        makes_functions: it defines a function that returns one of its own inner functions.
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
    objects: set = field(default_factory=set)
    hands: set = field(default_factory=set)
    lends: dict = field(default_factory=dict)
    changes_given: bool = False
    later_binds: set = field(default_factory=set)
    later_changes: set = field(default_factory=set)
    later_sets: bool = False
    aliases: dict = field(default_factory=dict)
    keepers: dict = field(default_factory=dict)
    makes_functions: bool = False
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
    elif isinstance(s.tree, COMPOUND):  # `with suppress(…)` may be left half way, too
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
        s.kind = "" if tree.decorator_list or getattr(tree, "keywords", []) else kind
        s.keepers = {kept: {tree.name} for kept in _kept(tree)}
        s.stub = tree.name if _is_stub(tree) else ""
    elif isinstance(tree, (ast.Assign, ast.AnnAssign)) and all(
        isinstance(target, ast.Name) for target in _targets(tree)
    ):
        s.kind = {ast.Constant: "literal", ast.Lambda: "function"}.get(type(tree.value), "")
        if s.kind == "function":
            s.keepers = {kept: {target.id for target in _targets(tree)} for kept in _kept(tree.value)}
    s.makes_functions = _makes_functions(tree)
    s.surely = _straight([tree])
    todo, parameters = [(tree, False)], set()
    while todo:
        node, later = todo.pop()
        _read_node(s, node, later)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            body = node.body if isinstance(node.body, list) else [node.body]
            todo += [(child, True) for child in body]
            around = [*getattr(node, "decorator_list", []), *_defaults(node)]
            todo += [(child, later) for child in around]
            parameters |= {argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]}
        else:
            todo += [(child, later) for child in _children(node)]
        if isinstance(node, (ast.Call, ast.keyword)):  # what a call is handed, it may call at once
            handed = [child for child in _children(node) if isinstance(child, ast.Lambda)]
            todo += [(child.body, later) for child in handed]
    s.changes_given = not s.later_changes.isdisjoint(parameters - {"self", "cls"})


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
        changed = _roots(node)
        if not later:
            s.stores |= changed
        if isinstance(node, ast.Attribute) and not changed.isdisjoint(MODULES):
            (s.later_binds if later else s.binds).add(node.attr)
    elif isinstance(node, ast.AugAssign) and not later:
        s.stores |= _roots(node.target)
    elif isinstance(node, ast.Call):
        changed, sets = _changed_by(node)
        s.later_sets |= later and sets
        if not later:
            s.stores |= changed if sets else set()
            s.methods |= changed
            _read_call(s, node)
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
    elif isinstance(node, ast.NamedExpr):
        _add_likeness(s, {node.target.id}, _held(node.value))
    elif isinstance(node, ast.Match):
        captured = {n.name for n in ast.walk(node) if isinstance(n, (ast.MatchAs, ast.MatchStar)) and n.name}
        _add_likeness(s, captured, names_in(node.subject))
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        for item in node.items:
            s.passes |= _given(item.context_expr)
            if item.optional_vars is not None:
                _add_aliases(s, item.optional_vars, names_in(item.context_expr))
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        for decorator in node.decorator_list:
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            s.calls |= _roots(function)
            s.passes |= _given(decorator) | names_in(getattr(node, "args", decorator))
            s.methods |= _roots(function) if isinstance(function, ast.Attribute) else set()
        around = [*getattr(node, "bases", []), *(k.value for k in getattr(node, "keywords", []))]
        s.calls |= set().union(*map(_roots, around))
    _read_dynamic(s, node, later)
    if isinstance(node, ast.Import | ast.ImportFrom) and node is not s.tree:
        s.anything |= not later and any(alias.name == "*" for alias in node.names)


def _read_effects(s, value):
    """Read an expression whose value is thrown away: it is there for its effect."""
    value = value.value if isinstance(value, ast.Await) else value
    magic, line = magic_of(value)
    if magic == "run":
        s.anything = True
        s.uses |= {f"import {Path(file).stem}" for file in line.split()}
    if magic in ("writefile", "file"):
        file = line.split()[-1:] or [""]
        s.binds.add(f"import {Path(file[0]).stem}")
    if isinstance(value, ast.BinOp):  # a << b
        s.passes |= names_in(value)
    if not isinstance(value, ast.Call) or not _roots(value.func).isdisjoint(QUIET):
        return
    s.passes |= _given(value)
    if isinstance(value.func, ast.Attribute):
        s.methods |= set() if s.shown else _roots(value.func)
        _add_likeness(s, _roots(value.func), set().union(*map(_held, value.args)))  # a.append(b)
    s.setting |= bool(SETTINGS.fullmatch(_last(value.func)))


def _changed_by(call):
    """Return (names whose objects a call changes, whatever it calls; whether it sets an attribute)."""
    last, changed = _last(call.func), set()
    method = isinstance(call.func, ast.Attribute) and last not in PURE
    if method or (isinstance(call.func, ast.Call) and _last(call.func.func) == "getattr"):
        changed = _roots(call.func) - (set() if last in CHANGING else QUIET)
    sets = last in ("setattr", "delattr") and bool(call.args)
    if sets or last in ADVANCING or (last.endswith("_") and not last.endswith("__")):
        changed = changed | _given(ast.Call(call.func, call.args[:1], []))
    for given in [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "out")]:
        if given not in call.args or (isinstance(given, ast.Attribute) and given.attr in CHANGING):
            changed = changed | _roots(given)
    return changed, sets


def _read_call(s, call):
    """Read what a call that is made at once calls, and what it lends to that."""
    called = _roots(call.func)
    if called & {"check", "claim"}:
        return
    s.calls |= called
    if isinstance(call.func, ast.Name):
        s.objects |= called
    given = _given(call)
    s.hands |= given
    for name in called:
        s.lends.setdefault(name, set()).update(given)


def _read_assignment(s, node):
    found = node.value.elts if isinstance(node.value, (ast.Tuple, ast.List)) else [node.value]
    targets, held = _targets(node), _held(node.value)
    names = {target.id for target in targets if isinstance(target, ast.Name)}
    for target in targets:
        _add_aliases(s, target, set().union(*(_chain(part) for part in found)) | held)
        if not isinstance(node.value, (ast.Tuple, ast.List)) or len(targets) > 1:
            names |= names_in(target)
    if not isinstance(node.value, ast.Constant):
        _add_likeness(s, names, held)


def _held(value):
    """Return the names of objects that a value is, or keeps within itself."""
    if isinstance(value, ast.Name):
        return {value.id}
    parts = []
    if isinstance(value, HOLDING):
        parts = ast.iter_child_nodes(value)
    elif isinstance(value, ast.BinOp) and isinstance(value.left, HOLDING) | isinstance(value.right, HOLDING):
        parts = [value.left, value.right]  # [a] * 3
    elif isinstance(value, ast.Call) and (_last(value.func)[:1].isupper() or _last(value.func) in KEEPING):
        parts = [*value.args, *(keyword.value for keyword in value.keywords)]
    elif isinstance(value, (ast.ListComp, ast.SetComp, ast.GeneratorExp)) and _held(value.elt):
        parts = [value.elt, *(generator.iter for generator in value.generators)]
    return set().union(*map(_held, parts))


def _kept(definition):
    """Return the names of objects that a function or class keeps: defaults, bases, values in its body."""
    if isinstance(definition, ast.ClassDef):
        values = [n.value for n in definition.body if isinstance(n, (ast.Assign, ast.AnnAssign)) and n.value]
        kept = [*definition.bases, *values]
    else:
        kept = _defaults(definition)
    decorators = getattr(definition, "decorator_list", [])
    given = [each for d in decorators if isinstance(d, ast.Call) for each in d.args]
    return set().union(*map(_held, [*kept, *given]))


def _makes_functions(tree):
    """Tell whether a definition is of a function that returns one of its own inner functions."""
    if isinstance(tree, ast.Assign) and isinstance(tree.value, ast.Lambda):
        return isinstance(tree.value.body, ast.Lambda)
    if not isinstance(tree, ast.FunctionDef):
        return False
    inner = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)} - {tree.name}
    returned = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return)]
    return any(isinstance(r, ast.Lambda) or (isinstance(r, ast.Name) and r.id in inner) for r in returned)


def _defaults(function):
    return [*function.args.defaults, *filter(None, function.args.kw_defaults)]


def _add_likeness(s, names, held):
    """Say that each name may stand for what is held, which may be changed by each of the names."""
    for name in held | names:
        s.aliases.setdefault(name, set()).update((names if name in held else names | held) - {name})


def _add_aliases(s, target, names):
    for name in names_in(target):
        s.aliases.setdefault(name, set()).update(names - {name})


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


def _roots(node):
    """Return the name at the beginning of a chain such as a.b[0].c(1).d; of f(x).c both f and x."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred, ast.Await)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return {node.func.id} | _given(node)
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _chain(node):
    """Return the name at the beginning of a chain, and nothing where that is a call f(x)."""
    found = _roots(node)
    return found if len(found) == 1 else set()


def _given(call):
    """Return the names of what a call is given; of what is no call none."""
    if not isinstance(call, ast.Call):  # a decorator that is a lambda
        return set()
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return set().union(*map(_roots, given))


def _last(function):
    """Return the last name of a function such as F.conv2d; "" where it has none."""
    return getattr(function, "attr", getattr(function, "id", ""))


def _targets(node):
    return node.targets if isinstance(node, ast.Assign) else [node.target]


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

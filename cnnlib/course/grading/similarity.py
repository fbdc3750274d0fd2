"""Answers that are alike, however they are named and laid out, and rarer than two honest learners explain.

A short exercise has few right answers, so most equal answers mean nothing. A pair is listed when what they
share is many times likelier if one of them copied half of it than if both worked alone and wrote what others
wrote. It is a reason to look at both, and no verdict.
"""

import ast
import functools
import hashlib
import itertools
import math
import warnings
from collections import Counter, defaultdict

LIMIT = 20_000
"""Characters of an answer that is compared; a longer one is none to compare."""


def similar(results, exams):
    """Return the pairs of learners whose answers are alike beyond chance.

    For each exercise that both attempted, let p be the share of the other learners who wrote the same as they
    do. Equal answers multiply the odds by (1/2)/p + 1/2, different ones by 1/2: so much likelier is it to be
    seen if each answer was copied with probability one half. If both worked alone, the odds exceed x with
    probability at most 1/x; listing those above the number of pairs lists about one pair by chance.

    Args:
        results: list of dicts with "student_id" and "exercises".
        exams: list of dicts with "id".

    Returns:
        list of dicts, the most remarkable first: student_a, student_b, odds, equal, compared, and in
        "exercises" the ids of the equal answers that at most a tenth of the learners wrote, or two of them.
    """
    form_of = functools.cache(form)  # many write the same, or leave what was handed out
    forms = {}  # {exercise: {student: form}}
    for exam in exams:
        shapes = {
            result["student_id"]: shape
            for result in results
            if (shape := form_of(result["exercises"].get(exam["id"], {}).get("source", "")))
        }
        forms[exam["id"]] = shapes
    counts = {exercise: Counter(shapes.values()) for exercise, shapes in forms.items()}
    rare = defaultdict(list)  # {(student, student): exercises}
    for exercise, shapes in forms.items():
        classes = defaultdict(list)
        for student, shape in shapes.items():
            classes[shape].append(student)
        for students in classes.values():
            if 2 <= len(students) <= max(2, len(shapes) / 10):
                for pair in itertools.combinations(sorted(students), 2):
                    rare[pair].append(exercise)
    learners = len({student for shapes in forms.values() for student in shapes})
    pairs = learners * (learners - 1) / 2
    found = []
    for (a, b), exercises in rare.items():
        both = [exercise for exercise, shapes in forms.items() if a in shapes and b in shapes]
        equal = [exercise for exercise in both if forms[exercise][a] == forms[exercise][b]]
        bits = -float(len(both))
        for exercise in equal:
            share = (counts[exercise][forms[exercise][a]] - 1) / (len(forms[exercise]) - 1)
            bits += math.log2(1 / share + 1)
        if bits >= math.log2(pairs) and bits > 0:
            found.append((bits, a, b, len(equal), len(both), exercises))
    found.sort(key=lambda pair: (-pair[0], pair[1:3]))
    return [
        {
            "student_a": a,
            "student_b": b,
            "odds": round(2 ** min(bits, 40)),
            "equal": equal,
            "compared": compared,
        }
        | {"exercises": " ".join(exercises)}
        for bits, a, b, equal, compared, exercises in found
    ]


def form(source):
    """Return what is left of an answer without names, comments, docstrings, annotations and layout.

    Returns:
        str, a hash, equal for answers that say the same; "" where there is none or it cannot be parsed.
    """
    if not source.strip() or len(source) > LIMIT:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape sequence
            tree = ast.parse(source)
        bound = {name for node in ast.walk(tree) for name in _binds(node)}
        return hashlib.sha256(ast.dump(_Renamed(bound).visit(tree)).encode()).hexdigest()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""


def _binds(node):
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    return []


class _Renamed(ast.NodeTransformer):
    """Numbers the names that an answer makes itself in their order, and drops what changes nothing."""

    def __init__(self, bound):
        self.bound, self.numbers = bound, {}

    def _name(self, name):
        return str(self.numbers.setdefault(name, len(self.numbers))) if name in self.bound else name

    def visit_Name(self, node):
        node.id = self._name(node.id)
        return node

    def visit_arg(self, node):
        node.arg, node.annotation, node.type_comment = self._name(node.arg), None, None
        return node

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Constant):  # a docstring, or a text that stands alone
            return None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        if node.value is None:
            return None
        return self.visit(ast.Assign(targets=[node.target], value=node.value))

    def _definition(self, node):
        node.name = self._name(node.name)
        node.returns, node.type_comment = None, None
        return self.generic_visit(node)

    visit_FunctionDef = visit_AsyncFunctionDef = _definition  # noqa: N815

    def visit_ClassDef(self, node):
        node.name = self._name(node.name)
        return self.generic_visit(node)

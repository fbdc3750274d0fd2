"""Grading one answer in the jail: whatever it does, its verdict is right and the next answer is untouched."""

import contextlib
import functools
import inspect
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from notebook_tools import LESSONS
from processes import below, wait_for_the_end_of
from torch import nn

from cnnlib.course.exercises import Exercise, exercises, make_exam, normal, plain
from cnnlib.course.exercises.judge import AnswerEnded
from cnnlib.course.grading import batch, client, examiner, jail, one
from cnnlib.course.grading.client import Answer
from cnnlib.course.release import release_package

pytestmark = pytest.mark.skipif(not jail.available(), reason="this machine has no namespaces for a jail")

RIGHT = "def double(x):\n    return 2 * x"
IMPATIENT = 1.0
"""Seconds for an answer that is expected to use them up; others may take as long as a busy machine needs."""


def an_exercise():
    def double(x):
        """Return twice x."""
        return 2 * x

    def cases(rng):
        return [[normal(rng, 3)], [normal(rng, 2, 2)]]

    return Exercise("99.double", 1, double, cases, {}, ("Add.",))


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The learners' package, as the jail shows it."""
    folder = tmp_path_factory.mktemp("course")
    release_package(folder / "cnnlib", ["02"])
    return folder


@pytest.fixture(scope="module")
def warden_of(course):
    """Function that returns the warden of a level of isolation; it forks jails for all tests."""
    modules = one.imported([source for path in LESSONS for source in batch.providers(path)])
    with jail.memory_group() as group, contextlib.ExitStack() as wardens:

        @functools.cache
        def warden_of(isolation):
            return wardens.enter_context(jail.Warden(course, isolation, group, modules + one.OPTIMIZER))

        yield warden_of


@pytest.fixture
def judge(warden_of):
    """Function that examines answers one after the other, as a graded lesson does.

    It takes their sources and the exercise, 99.double if none; returns their verdicts as dicts.
    """

    def judge(*sources, exercise=None, seed=7, providers=(), isolation="namespaces", status="pass"):
        exam = make_exam(exercise or an_exercise(), seed)
        exam["seconds"] = IMPATIENT if status == "timeout" else 60
        asker = examiner.Asker(warden_of(isolation))
        asked = [asker.ask("anna", exam, source, list(providers)) for source in sources]
        asker.end()
        return [asdict(verdict) | {"again": again} for verdict, again in asked]

    return judge


def body(text):
    return "def double(x):\n" + "".join(f"    {line}\n" for line in text.splitlines())


ENDED = {
    "infinite loop in the cell": ("while True:\n    pass\n" + RIGHT, "timeout", "longer than the 1 s"),
    "infinite loop in a call": (body("while True:\n    pass"), "timeout", "longer than the 1 s"),
    "a loop that defies signals": (
        body("import signal\nsignal.pthread_sigmask(0, range(1, 64))\nwhile True:\n    pass"),
        "timeout",
        "longer",
    ),
    "os._exit": (body("import os\nos._exit(0)"), "killed", "exit status 0"),
    "os._exit in the cell": ("import os\nos._exit(3)\n" + RIGHT, "killed", "exit status 3"),
    "segfault": (body("import ctypes\nctypes.string_at(0)"), "killed", "its process ended"),
    "abort": (body("import os\nos.abort()"), "killed", "its process ended"),
    "sys.exit": (body("import sys\nsys.exit(0)"), "error", "tried to end the program: SystemExit"),
    "KeyboardInterrupt": (body("raise KeyboardInterrupt"), "error", "KeyboardInterrupt"),
    "input()": (body("return input()"), "error", "EOFError"),
    "recursion": (body("return double(x)"), "error", "RecursionError"),
    "an error whose text fails": (
        "class E(Exception):\n    def __str__(self): raise SystemExit\n" + body("raise E"),
        "error",
        "",
    ),
    "4 GB allocation": (body("return bytearray(4 << 30)"), "error", "MemoryError"),
    "4 GB tensor": (body("import torch\nreturn torch.ones(1 << 30)"), "error", "memory"),
    "a syntax error": ("def double(x)\n    return", "error", "SyntaxError in line 1"),
    "a null byte": ("def double(x):\n    return '\0'", "error", "raised"),
    "no function": ("double = 3", "error", "defines no function or class double"),
    "no cell code": ("", "error", "defines no function or class double"),
    "wrong dtype": (body("return (2 * x).double()"), "fail", "dtype float64, expected dtype float32"),
    "wrong shape": (body("return (2 * x)[None]"), "fail", r"shape (1, 3), expected shape (3,)"),
    "NaN": (body("return x * float('nan')"), "fail", "it returned nan"),
    "not attempted": (body("raise NotImplementedError"), "not attempted", "not written yet"),
    "half of a surrogate pair": (body("return '\\ud800'"), "fail", "not valid text"),
    "half of a surrogate pair in an error": (body("raise ValueError('\\ud800')"), "error", "ValueError: ?"),
    "a reply of 200 MB": (body("import torch\nreturn torch.ones(50 << 20)"), "killed", "bytes; 67,108,864"),
}


@pytest.mark.parametrize(("source", "status", "message"), ENDED.values(), ids=ENDED)
def test_an_answer_that_fails_gets_its_verdict_and_harms_no_other(judge, source, status, message):
    (found,) = judge(source, status=status)
    assert (found["status"], message in found["message"]) == (status, True), found
    assert not found["again"] or status == "timeout", found
    (after,) = judge(RIGHT)
    assert after["status"] == "pass", after


SPOILING = {
    "a function of torch": "import torch\ntorch.Tensor.__rmul__ = lambda a, b: a",
    "a name of Python's": "import builtins\nbuiltins.__build_class__ = builtins.compile = None",
    "what is loaded": "import sys\nfor name in list(sys.modules):\n    sys.modules[name] = None",
    "how answers are asked": "from cnnlib.course.exercises import plain\nplain.dumps = lambda value: b''",
    "that no more would run": "from cnnlib.course.exercises import judge, program\n"
    "def read(*_): raise judge.AnswerEnded('error', judge.NO_MORE)\nprogram.Notebook = read",
    "its socket": "import os, threading\nthreading.Timer(0.05, os.close, [3]).start()",
    "its end, soon": "import os, threading\nthreading.Timer(0.01, os._exit, [0]).start()",
    "a signal, soon": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)",
    "no memory": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1, 1))",
    "no time": "import threading\ndef f():\n    while True: pass\n"
    "for _ in range(40):\n    threading.Thread(target=f).start()",
    "no stack": "import sys\nsys.setrecursionlimit(40)",
    "another folder": "import os\nos.mkdir('a')\nos.chdir('a')\nos.rmdir('../a')",
    "a full disk": "for name in 'ab':\n    open(name, 'wb').write(bytes(60 << 20))",
    "default numbers": "import torch\ntorch.set_default_dtype(torch.float16)\ntorch.set_grad_enabled(False)",
    "warnings": "import warnings, numpy\nwarnings.simplefilter('error')\nnumpy.seterr(all='raise')",
}
NEEDING = """
import math, torch, warnings
class Two:
    def __rmul__(self, x): return x * 2.0
def double(x, depth=60):
    warnings.warn("now")
    if depth:
        return double(x, depth - 1)
    with open("mine", "wb") as file:
        file.write(bytes(30 << 20))
    assert torch.ones(1).dtype == torch.float32
    return 2 * x
"""
"""A right answer that needs what SPOILING takes away."""


@pytest.mark.parametrize("source", SPOILING.values(), ids=SPOILING)
def test_what_a_right_answer_leaves_behind_spoils_no_later_one(judge, source):
    found = judge(f"{source}\n{RIGHT}", NEEDING, RIGHT)
    assert [v["status"] for v in found[1:]] == ["pass", "pass"], found


@pytest.fixture
def forks(monkeypatch):
    """List that grows with each process that is forked."""
    fork, forked = jail.Warden.fork, []
    monkeypatch.setattr(jail.Warden, "fork", lambda self: (forked.append(1), fork(self))[1])
    return forked


def test_right_answers_of_a_learner_are_asked_in_one_process(judge, warden_of, forks):
    assert {v["status"] for v in judge(*[RIGHT] * 5)} == {"pass"}
    assert len(forks) == 1
    assert [v["status"] for v in judge(RIGHT, body("return x"), RIGHT)] == ["pass", "fail", "pass"]
    assert len(forks) == 1 + 2
    asker, exam = examiner.Asker(warden_of("namespaces")), make_exam(an_exercise(), 7)
    for whose in ("anna", "anna", "ben", "anna"):
        assert asker.ask(whose, exam, RIGHT, [])[0].passed
    asker.end()
    assert len(forks) == 1 + 2 + 3


def test_an_answer_that_is_slower_than_most_has_its_time_in_its_own_process(judge, forks, monkeypatch):
    monkeypatch.setattr(examiner, "BRIEF", 0.01)
    slow = body("import time\ntime.sleep(0.7)\nreturn 2 * x")
    assert [v["status"] for v in judge(RIGHT, slow)] == ["pass", "pass"]
    assert len(forks) == 2


def test_a_wrong_answer_is_forked_again_only_where_more_statements_would_run(warden_of, forks):
    exam, answer = make_exam(an_exercise(), 7), "FACTORS = [3]\ndef double(x): return FACTORS[0] * x"
    more = "import IPython\nIPython.get_ipython().push({'FACTORS': [2]})"
    for cells, status, count in (
        ([answer], "fail", 1),
        ([answer, "def other(): pass"], "fail", 1),
        ([answer, more], "pass", 2),
    ):
        asker = examiner.Asker(warden_of("namespaces"))
        verdict, _ = asker.ask("anna", exam, answer, cells, 0, list(range(len(cells))))
        asker.end()
        assert (verdict.status, len(forks)) == (status, count), cells
        forks.clear()


BELOW = {
    "the kind of numbers": (
        "import torch\ndef double(x): return 2 * x if torch.ones(1).dtype == torch.float64 else x",
        "import torch\ntorch.set_default_dtype(torch.float64)",
    ),
    "gradients": (
        "import torch\nONE = torch.ones(1, requires_grad=True)\n"
        "def double(x): return ONE.mul_(1).detach() * 2 * x",
        "import torch\ntorch.set_grad_enabled(False)",
    ),
    "the stack": (
        "def double(x, depth=3000): return double(x, depth - 1) if depth else 2 * x",
        "import sys\nsys.setrecursionlimit(10_000)",
    ),
    "the environment": (
        "import os\ndef double(x): return int(os.environ['TWO']) * x",
        "import os\nos.environ['TWO'] = '2'",
    ),
}


@pytest.mark.parametrize(("source", "below"), BELOW.values(), ids=BELOW)
def test_what_stands_below_an_answer_makes_it_no_better(warden_of, source, below):
    exam = make_exam(an_exercise(), 7)
    triple = make_exam(replace(an_exercise(), id="99.triple", reference=lambda x: 3 * x), 7)
    cells = [source, 'check("99.double", double)', below, "def triple(x): return 3 * x"]
    cells.append('check("99.triple", triple)')
    asker = examiner.Asker(warden_of("namespaces"))
    assert asker.ask("anna", triple, cells[3], cells)[0].passed
    verdict, _ = asker.ask("anna", exam, source, cells)
    asker.end()
    assert verdict.status in ("fail", "error"), verdict


def test_a_process_that_is_asked_once_more_does_not_know_where_it_was_wrong(warden_of):
    """Where there are few results to choose from, it would need to know no more."""
    source = "import builtins\nCALLS = vars(builtins).setdefault('CALLS', [])\n"
    source += "FACTOR = 2 if len(CALLS) == 1 else 1\n"
    source += "def double(x):\n    CALLS.append(x)\n    return FACTOR * x"
    cells, asker = [source, "print()"], examiner.Asker(warden_of("namespaces"))
    verdict, _ = asker.ask("anna", make_exam(an_exercise(), 7), source, cells, 0, [0, 1])
    asker.end()
    assert verdict.status == "fail"


def test_what_ends_in_a_later_case_than_the_first_wrong_one_leaves_no_process(warden_of, monkeypatch):
    monkeypatch.setattr(examiner, "BRIEF", 0.5)
    asker = examiner.Asker(warden_of("namespaces"))
    exam = make_exam(an_exercise(), 7) | {"partial": True}
    endless = body("while x.dim() == 2:\n    pass\nreturn x")
    verdict, _ = asker.ask("anna", exam | {"seconds": IMPATIENT}, endless, [])
    assert verdict.status == "fail"
    started = time.monotonic()
    assert asker.ask("anna", exam | {"seconds": 60}, RIGHT, [])[0].passed
    asker.end()
    assert time.monotonic() - started < 20  # else it waits for the other's reply


FORGED = {
    "__eq__ that is always true": (
        "import torch\nclass Same(torch.Tensor):\n    def __eq__(self, other): return torch.tensor(True)\n"
        + body("return torch.zeros_like(x).as_subclass(Same)")
    ),
    "an object that equals all": "class Same:\n    __eq__ = lambda *_: True\n" + body("return Same()"),
    "a float that equals all": "class Same(float):\n    __eq__ = lambda *_: True\n" + body("return Same(1)"),
    "a patched judge": (
        "import cnnlib.course.exercises.judge as j, cnnlib.course.exercises as e, numpy as np, torch\n"
        "j.difference = lambda *_: ''\nj.examine = e.examine = lambda *_: j.Verdict('pass')\n"
        "np.isclose = lambda *a, **k: np.bool_(True)\ntorch.equal = torch.allclose = lambda *a, **k: True\n"
        + body("return x")
    ),
    "a redefined check": "def check(*_): return 'pass'\nexamine = check\n" + body("return x"),
    "an AST transformer": (
        "import ast, builtins\nget_ipython = lambda: None\nbuiltins.compile = lambda *a, **k: None\n"
        + body("return x")
    ),
    "a reply that says in an array how it ended": (
        "from cnnlib.course.exercises import plain\nimport numpy as np\ndumps = plain.dumps\n"
        + body("plain.dumps = lambda value: dumps({'ended': np.arange(2)})")
    ),
    "a patched plain": (
        "from cnnlib.course.exercises import plain\n"
        'plain.dumps = lambda value: b\'\\0\\0\\0\\x10{"status": "pass"}\'\n' + body("return x")
    ),
    "a forged pass on every pipe": (
        "import os, struct, json\n"
        "data = json.dumps({'status': 'pass', 'passed': True, 'loaded': 'double'}).encode()\n"
        "data = struct.pack('>I', len(data)) + data\ndata = struct.pack('>I', len(data)) + data\n"
        "for n in range(3, 64):\n    try: os.write(n, data)\n    except OSError: pass\n" + body("return x")
    ),
    "a pickle on every pipe": (
        "import os, pickle, struct\n"
        "class P:\n    def __reduce__(self): return os.system, ('touch /tmp/pickled',)\n"
        "data = pickle.dumps(P())\ndata = struct.pack('>I', len(data)) + data\n"
        "for n in range(3, 64):\n    try: os.write(n, data)\n    except OSError: pass\n" + body("return x")
    ),
    "an endless reply": (
        "import os\n"
        + body(
            "while True:\n    for n in range(3, 64):\n"
            "        try: os.write(n, b'\\0' * 65536)\n        except OSError: pass"
        )
    ),
    "a reply that claims 4 GB": (
        "import os\nfor n in range(3, 64):\n    try: os.write(n, b'\\xff' * 8)\n    except OSError: pass\n"
        + body("return x")
    ),
    "the reply of the next case": (
        "import os, struct\nfrom cnnlib.course.exercises import plain\n"
        + body(
            "data = plain.dumps({'result': 2 * x})\ndata = struct.pack('>I', len(data)) + data\n"
            "for n in range(3, 64):\n    try: os.write(n, data)\n    except OSError: pass\nreturn x"
        )
    ),
    "the solution looked for": (
        body(
            "import importlib\nfor k in range(100):\n    try:\n"
            "        importlib.import_module(f'cnnlib.course.exercises.lesson_{k:02d}')\n"
            "        return 2 * x\n"
            "    except ImportError:\n        pass\nreturn x"
        )
    ),
}


@pytest.mark.parametrize("source", FORGED.values(), ids=FORGED)
def test_a_forgery_earns_nothing_nor_does_the_answer_after_it(judge, source):
    for found in judge(source, "def double(x):\n    return x"):
        assert found["status"] in ("fail", "error", "killed", "timeout"), found


# --- modules, and code with a fault -------------------------------------------------------------


class Shift(nn.Module):
    """x plus a learned number for each feature, counting its calls."""

    def __init__(self, features):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += 1
        return x + self.bias


def shift_cases(rng):
    return [
        {"arguments": {"features": c}, "training": c > 2, "inputs": [normal(rng, n, c)]}
        for n, c in ((2, 3), (3, 2), (1, 4))
    ]


SHIFT = Exercise("99.Shift", 1, Shift, shift_cases, {}, ("Add.",))
IMPORTS = "import torch\nfrom torch import nn\n"
RIGHT_SHIFT = IMPORTS + inspect.getsource(Shift)


def shift(old, new):
    assert old in RIGHT_SHIFT
    return RIGHT_SHIFT.replace(old, new)


ENDED_MODULES = {
    "not written": (
        shift("return x + self.bias", "raise NotImplementedError"),
        "not attempted",
        "It is not written yet.",
    ),
    "a function": ("def Shift(features):\n    return lambda x: x", "fail", "it is a function and no module"),
    "other names": (shift("self.bias", "self.offset"), "fail", "its parameters are offset, expected bias"),
    "another shape": (
        shift("zeros(features)", "zeros(1)"),
        "fail",
        "bias, one of its parameters, has the shape (1,), expected (3,)",
    ),
    "no gradient": (
        shift("x + self.bias", "x + self.bias.detach()"),
        "fail",
        "its parameter bias gets no gradient",
    ),
    "a wrong gradient": (
        shift("x + self.bias", "x + 2 * self.bias - self.bias.detach()"),
        "fail",
        "the gradient of its parameter bias: 3 of 3 values differ",
    ),
    "a buffer that stays": (
        shift("+= 1", "+= 0"),
        "fail",
        "its buffer calls, afterwards: 1 of 1 values differ",
    ),
    "no tensor": (
        shift("x + self.bias", "print"),
        "fail",
        "forward returned no tensor but a builtin_function",
    ),
    "an error": (shift("x + self.bias", "x + 1 / 0"), "error", "ZeroDivisionError"),
    "a loop": (
        shift("x + self.bias", "next(i for i in iter(int, 1) if i)"),
        "timeout",
        "longer than the 1 s",
    ),
    "an exit": (shift("super().__init__()", "import os; os._exit(0)"), "killed", "exit status 0"),
    "an exit in __init__": (shift("super().__init__()", "raise SystemExit"), "error", "SystemExit"),
    "4 GB of weights": (shift("zeros(features)", "zeros(1 << 30)"), "error", "memory"),
}


@pytest.mark.parametrize(("source", "status", "message"), ENDED_MODULES.values(), ids=ENDED_MODULES)
def test_a_module_that_fails_gets_its_verdict_and_harms_no_other(judge, source, status, message):
    (found,) = judge(source, exercise=SHIFT, status=status)
    assert (found["status"], message in found["message"]) == (status, True), found
    (after,) = judge(RIGHT_SHIFT, exercise=SHIFT)
    assert after["status"] == "pass", after


FORGED_MODULES = {
    "a runner that returns nothing": (
        "from cnnlib.course.exercises import module\nmodule.run = lambda answer, case: {}\n"
        + shift("x + self.bias", "x")
    ),
    "a runner that returns the case": (
        "from cnnlib.course.exercises import module\nmodule.run = lambda answer, case: case\n"
        + shift("x + self.bias", "x")
    ),
    "a state that is a pickle": (
        "import os, pickle, struct\n"
        "class P:\n    def __reduce__(self): return os.system, ('touch /tmp/pickled',)\n"
        "data = pickle.dumps(P())\ndata = struct.pack('>I', len(data)) + data\n"
        "for n in range(3, 64):\n    try: os.write(n, data)\n    except OSError: pass\n"
        + shift("x + self.bias", "x")
    ),
    "an output that equals all": (
        shift("x + self.bias", "(x + 0 * self.bias).as_subclass(Same)")
        + "\nclass Same(torch.Tensor):\n    def __eq__(self, other): return torch.tensor(True)\n"
    ),
    "a state that is made up": shift("x + self.bias", "x")
    + (
        "\n    def state_dict(self, **options):\n        return {'bias': self.bias, 'calls': self.calls}\n"
        "    def load_state_dict(self, state):\n        pass\n"
    ),
    "gradients that are made up": (
        shift("x + self.bias", "x + 0 * self.bias")
        + "\ntorch.autograd.grad = lambda output, wanted, grad, **options: [grad, grad.sum(dim=0)]\n"
    ),
}


@pytest.mark.parametrize("source", FORGED_MODULES.values(), ids=FORGED_MODULES)
def test_a_forged_module_earns_nothing_nor_does_the_answer_after_it(judge, source):
    for found in judge(source, shift("x + self.bias", "x"), exercise=SHIFT):
        assert found["status"] in ("fail", "error", "killed"), found
    assert not Path("/tmp/pickled").exists()


BUILT = [
    exercise
    for path in LESSONS
    for exercise in exercises(path.stem)
    if exercise.given or inspect.isclass(exercise.reference)
]


def as_source(mutant):
    if isinstance(mutant, functools.partial):
        return f"partial({mutant.func.__name__}, **{mutant.keywords!r})"
    return mutant.__name__


@pytest.mark.parametrize("exercise", BUILT, ids=lambda exercise: exercise.id)
def test_each_module_and_each_fault_is_graded_in_the_jail_with_a_fresh_seed(judge, exercise):
    (lesson,) = [path for path in LESSONS if path.stem[:2] == exercise.id[:2]]
    written = inspect.getsource(inspect.getmodule(exercise.reference)).partition("\nEXERCISES = [")[0]
    wrong = [f"{written}\n{exercise.name} = {as_source(mutant)}" for mutant in exercise.mutants.values()]
    sources = [exercise.solution, *wrong, exercise.stub, exercise.solution]
    exam = replace(exercise, mutants={})  # what mistakes return decides nothing, and takes long to compute
    found = judge(*sources, exercise=exam, seed=20261, providers=batch.providers(lesson))
    assert (found[0]["status"], found[-1]["status"]) == ("pass", "pass"), found
    assert {verdict["status"] for verdict in found[1:-2]} <= {"fail", "error"}, found
    assert found[-2]["status"] == ("fail" if exercise.given else "not attempted"), found[-2]


def test_the_next_learner_finds_a_fresh_jail(judge):
    source = "import os, builtins\nopen('/tmp/left', 'w').write('x')\nbuiltins.left = 1\n"
    assert [v["status"] for v in judge(source + RIGHT)] == ["pass"]
    looks = body(
        "import os, builtins\nassert not os.path.exists('/tmp/left')\n"
        "assert not hasattr(builtins, 'left')\nreturn 2 * x"
    )
    (found,) = judge(looks)
    assert found["status"] == "pass", found


DISTURBING = {
    "kill of every pid": body(
        "import os\nfor pid in [-1, *range(2, 70000)]:\n"
        "    try: os.kill(pid, 9)\n    except OSError: pass\nreturn 2 * x"
    ),
    "fork bomb": body(
        "import os, time\nfor _ in range(12):\n    try: os.fork()\n    except OSError: break\nreturn 2 * x"
    ),
    "200 MB of output": body(
        "import sys\nfor _ in range(200):\n"
        "    print('x' * (1 << 20))\n    sys.stderr.write('y' * 1000)\nreturn 2 * x"
    ),
    "300 threads": body(
        "import threading, time\ntry:\n    for _ in range(300):\n"
        "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "except RuntimeError:\n    return 2 * x\nreturn x"
    ),
}


@pytest.mark.parametrize("source", DISTURBING.values(), ids=DISTURBING)
def test_a_disturber_of_others_disturbs_nobody(judge, witness, source):
    (found,) = judge(source)
    deadline = time.monotonic() + 60
    assert witness.call("double", deadline, [torch.ones(2).numpy()]).tolist() == [2, 2]
    assert found["status"] in ("pass", "fail", "killed", "timeout"), found  # it may well have hurt itself


@pytest.fixture(scope="module")
def witness(course):
    """Another learner's answer, which is in its jail all the time."""
    with jail.Warden(course, "namespaces") as warden, Answer(warden) as answer:
        answer.load("double", time.monotonic() + 60, RIGHT, [])
        yield answer


def test_a_file_of_100_gb_cannot_be_written(judge, tmp_path):
    found, disk = judge(
        body("with open('/tmp/f', 'wb') as f:\n    for _ in range(10**5):\n        f.write(bytes(1 << 20))"),
        body(
            "for i in range(10**5):\n    with open(f'/tmp/{i}', 'wb') as f:\n        f.write(bytes(1 << 20))"
        ),
    )
    assert found["status"] in ("error", "killed"), found
    assert disk["status"] == "error", disk
    assert "No space" in disk["message"]


def test_files_without_content_cannot_take_the_kernels_memory(judge):
    make = "import os\nfor i in range(40_000):\n    os.mkdir(f'/tmp/{i}')\nreturn 2 * x"
    link = "import os\nfor i in range(40_000):\n    os.symlink('x', f'/tmp/{i}')\nreturn 2 * x"
    for found in judge(body(make), body(link)):
        assert found["status"] == "error", found
        assert "No space" in found["message"]


def test_nothing_but_the_course_can_be_read_or_written(judge, tmp_path, course):
    secret = tmp_path / "secret.txt"
    secret.write_text("another learner's answer")
    tries = [
        f"open({str(secret)!r}).read()",
        "open('/etc/passwd').read()",
        "open('/proc/1/root/etc/passwd').read()",
        "open('/course/cnnlib/__init__.py', 'a')",
        "open('/course/x', 'w')",
        "open('/usr/x', 'w')",
        f"open({sys.prefix + '/x'!r}, 'w')",
        "open('/x', 'w')",
        f"os.listdir({str(tmp_path.parent)!r})",
        "os.listdir('/sys')",
        "os.mkfifo('/dev/x')",
        "os.chroot('/tmp')",
        "os.setuid(0)",
        "ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) and int('refused')",
        "os.link('/course/cnnlib/__init__.py', '/tmp/l')",
        f"os.symlink({str(secret)!r}, '/tmp/s') or open('/tmp/s')",
    ]
    for trial, found in zip(
        tries, judge(*(body(f"import os, ctypes\n{t}\nreturn 2 * x") for t in tries)), strict=True
    ):
        assert found["status"] == "error", (trial, found)
    assert not (course / "x").exists()


def test_no_network_not_even_this_machines(judge):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        (found,) = judge(
            body(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=2)\nreturn 2 * x")
        )
        assert found["status"] == "error", found
        with pytest.raises(TimeoutError):
            server.accept()


LINGERING = {
    "a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()",
    "a session of its own": "import os, time\nif not os.fork():\n    os.setsid()\n    time.sleep(600)",
    "a grandchild": (
        "import os, time\nif not os.fork():\n    if not os.fork():\n        time.sleep(600)\n    os._exit(0)"
    ),
    "another program": (
        "import subprocess, sys\ncommand = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "subprocess.Popen(command, start_new_session=True)"
    ),
    "one that defies signals": (
        "import os, signal, time\nif not os.fork():\n"
        "    signal.pthread_sigmask(0, range(1, 64))\n    time.sleep(600)"
    ),
}


@pytest.mark.parametrize("source", LINGERING.values(), ids=LINGERING)
def test_what_an_answer_leaves_behind_ends_with_it(judge, warden_of, source):
    (found,) = judge(f"{source}\n{RIGHT}")
    assert found["status"] == "pass", found
    assert len(below(warden_of("namespaces")._process.pid)) == 1  # the warden itself, behind its parent


GRADER = """
import sys, time
from cnnlib.course.grading.client import Answer
from cnnlib.course.grading.jail import Warden
answer = Answer(Warden(sys.argv[1], "namespaces"))
answer.load("double", time.monotonic() + 60, sys.argv[2], [])
print("loaded", flush=True)
time.sleep(600)
"""


def test_a_jail_ends_when_the_grader_is_killed(course):
    command = [sys.executable, "-c", GRADER, str(course), f"{LINGERING['a thread']}\n{RIGHT}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as grader:
        assert grader.stdout.readline() == b"loaded\n"
        left = below(grader.pid)
        assert len(left) == 3  # the warden's parent, the warden, the jail
        grader.kill()
    wait_for_the_end_of(left)


def test_an_answer_finds_the_imports_and_helpers_that_it_uses_and_no_others(judge):
    providers = [
        "def helper(x):\n    return None",  # the last one counts
        "%matplotlib inline\nimport numpy as np\nfrom torch.nn import functional as F",
        "TWO, THREE = 2, 3",
        "def helper(x):\n    return F.relu(x) * TWO - TWO * F.relu(-x)",
        "this is no Python",
        "unused = open('/tmp/unused', 'w')",
        "x = open('/tmp/unused', 'w')",  # x is a local name in the answers
        "+".join(["1"] * 20_000),  # too deep for the parser, or for the compiler
    ]
    uses = body("import os\nassert not os.path.exists('/tmp/unused')\nreturn helper(x)")
    lacks = body("return nowhere(x)")
    timed = "%%time\n!ls\n" + body("return (np.pi * x) * 2 / np.pi")
    modulo = "def double(x):\n    return x * (5\n% 3)"
    found = judge(uses, lacks, timed, modulo, providers=providers)
    assert [v["status"] for v in found] == ["pass", "error", "pass", "pass"], found
    assert "NameError" in found[1]["message"]
    assert "(line 1 after its def)" in found[1]["message"]


def test_the_weaker_isolation_still_ends_what_does_not_end(judge):
    (slow,) = judge(body("while True:\n    pass"), isolation="process", status="timeout")
    killed, right = judge(
        body("import os\nos._exit(1)"), f"{LINGERING['another program']}\n{RIGHT}", isolation="process"
    )
    assert [v["status"] for v in (slow, killed, right)] == ["timeout", "killed", "pass"]
    assert "(exit status 1)" in killed["message"]


def test_the_machine_is_blamed_before_an_answer_is(judge, monkeypatch):
    """A timeout is the answer's own when it computed for all of it; a kill when it was not the machine's."""
    (asleep,) = judge(body("import time\ntime.sleep(60)"), status="timeout")
    assert asleep["again"]
    end, told = jail.Warden.end, {"seconds": IMPATIENT}
    monkeypatch.setattr(jail.Warden, "end", lambda self, by_itself=False: end(self, by_itself) | told)
    (busy,) = judge(body("import time\ntime.sleep(60)"), status="timeout")
    assert not busy["again"]
    (killed,) = judge(body("import os\nos._exit(0)"))
    assert not killed["again"]
    told["code"] = -9
    (killed,) = judge(body("import os\nos._exit(0)"))
    assert killed["again"]
    assert "signal 9" in killed["message"]
    told["starved"] = True
    (killed,) = judge(body("import os\nos._exit(0)"))
    assert not killed["again"]
    assert killed["message"] == "its processes and files took more than 1,664 MiB of memory together"


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 31\noom 2\noom_kill 3\noom_group_kill 0\n", 3),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", 2),
        ("memory.peak", "7\n", 0),
    ],
)
def test_a_control_group_tells_whom_its_memory_ended(tmp_path, name, text, count):
    (tmp_path / name).write_text(text)
    assert jail._starved(str(tmp_path)) == count
    assert jail._starved(None) == 0


def test_each_answer_finds_the_same_randomness(judge, warden_of):
    draw = (
        "import random, numpy, torch\n"
        "found = [random.random(), numpy.random.rand(), torch.rand(1).item(), hash('x')]\n"
        "def double(x):\n    raise ValueError(found)"
    )
    first, second = judge(draw, draw)
    assert first["message"] == second["message"]
    assert "ValueError: [0." in first["message"]


BOMBS = {
    "60 MB of brackets": "[" + "[]," * 20_000_000 + "[]]",
    "200 kB of brackets": "[" + "[]," * 66_000 + "[]]",
    "one of many arrays": "[" + ",".join(['{"$array": ["bool", 0]}'] * 6_000) + "]",
    "nested arrays": "[" * 100_000 + "]" * 100_000,
    "a huge number": "9" * 1_000_000,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_reading_a_reply_costs_the_grader_little(text):
    data = struct.pack(">I", len(text)) + text.encode()
    tracemalloc.start()
    try:
        with contextlib.suppress(AnswerEnded):
            client._parsed(data)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20  # a tenth of the limit, a tenth of the cost
    finally:
        tracemalloc.stop()


def test_a_reply_beyond_the_graders_memory_is_the_answers_end(monkeypatch):
    def loads(data):
        raise MemoryError

    monkeypatch.setattr(plain, "loads", loads)
    with pytest.raises(AnswerEnded, match="more than the grader has memory for"):
        client._parsed(struct.pack(">I", 2) + b"[]")


RUNNER = """
import os, socket
{setup}
def serve(descriptor):
    with socket.socket(fileno=descriptor) as stream:
        try:
            found = eval(stream.recv(10_000).decode())
        except BaseException as error:
            found = error
        stream.sendall(repr(found).encode())
"""


def evaluate(expression, setup="", course="/nowhere", **options):
    """Return the text of what an expression is in a jail without torch."""
    with jail.Warden(course, "namespaces", worker=RUNNER.format(setup=setup), **options) as warden:
        with warden.fork() as stream:
            stream.settimeout(60)
            stream.sendall(expression.encode())
            text = stream.recv(100_000).decode()
        return text, warden.end(by_itself=True)["code"]


RESERVE = "import mmap\nreserved = mmap.mmap(-1, 6 << 30, prot=0)"
"""What a torch with CUDA does when it is imported: it reserves addresses that it may never use."""


def test_the_limit_of_memory_leaves_room_for_what_torch_reserves():
    assert evaluate("len(bytearray(1 << 30))", RESERVE) == (str(1 << 30), 1)
    assert evaluate("len(bytearray(2 << 30))", RESERVE)[0] == "MemoryError()"
    assert evaluate("len(bytearray(2 << 30))")[0] == "MemoryError()"


def test_the_memory_of_a_jails_processes_together_is_limited(monkeypatch):
    monkeypatch.setattr(jail, "TOGETHER", 200 << 20)
    with jail.memory_group() as group:
        if group is None:
            pytest.skip("this user may make no control group")
        with jail.Warden("/nowhere", "namespaces", group, worker=RUNNER.format(setup="")) as warden:
            assert warden.isolation == "namespaces"
            with warden.fork() as stream:
                stream.sendall(b"[os.fork() for _ in range(4)] and len(bytearray(b'x') * (60 << 20))")
                stream.settimeout(60)
                with contextlib.suppress(OSError):
                    stream.recv(100)
            peak = next(group.glob("memory*peak"), group / "memory.max_usage_in_bytes")
            ended = warden.end(by_itself=True)
            assert int(peak.read_text()) <= 200 << 20
            assert ended["starved"]
            with warden.fork() as stream:
                stream.sendall(b"1 + 1")
                assert stream.recv(100) == b"2"
            assert not warden.end(by_itself=True)["starved"]
    assert not group.exists()


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_is_made_where_there_is_room_for_one(tmp_path, monkeypatch, version):
    """On a pretended file system of control groups."""
    lines = {1: "3:memory:/here/mine\n0::/\n", 2: "0::/here/mine\n"}[version]
    limit = {1: "memory.limit_in_bytes", 2: "memory.max"}[version]
    parent = tmp_path / ("memory/here/mine" if version == 1 else "here")
    parent.mkdir(parents=True)
    stale = parent / f"cnnlib-{os.getpid()}-aa"  # of an earlier process with the same number
    stale.mkdir()
    monkeypatch.setattr(jail, "CGROUPS", tmp_path)
    monkeypatch.setattr(jail, "_read", lambda path: lines)
    with jail.memory_group() as group:
        assert group.parent == parent
        assert (group / limit).read_text() == str(jail.TOGETHER)
        assert (group / "cgroup.procs").read_text() == "0\n"
        assert not stale.exists()


KILLED = """
import os, time
from cnnlib.course.grading.jail import memory_group
with memory_group() as group:
    print(group, flush=True)
    time.sleep(600)
"""


def test_the_control_group_of_a_run_that_was_killed_goes_with_the_next_run():
    with jail.memory_group() as mine:
        if mine is None:
            pytest.skip("this user may make no control group")
        with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as killed:
            left = Path(killed.stdout.readline().strip())
            with jail.memory_group():
                assert left.exists()  # it is in use, though nothing is in it
            killed.kill()
        assert left.exists()
        with jail.memory_group():
            assert not left.exists()
            assert mine.exists()


def test_where_no_control_group_can_be_made_the_report_says_so(monkeypatch):
    monkeypatch.setattr(jail, "_read", lambda path: "")
    with jail.memory_group() as group:
        assert group is None
    with jail.Warden("/nowhere", "namespaces", worker=RUNNER.format(setup="")) as warden:
        assert "memory limited for each process by itself" in warden.isolation


CALL = "__import__('ctypes').CDLL(None, use_errno=True).syscall"
NUMBERS = (248, 250, 319, 29) if os.uname().machine == "x86_64" else (217, 219, 279, 194)
REFUSED = {
    "a key": f"{CALL}({NUMBERS[0]}, b'user', b'name', b'value', 5, -4)",
    "a keyring": f"{CALL}({NUMBERS[1]}, 0, -3, 1)",
    "io_uring": f"{CALL}(425, 1, 0)",
    "memory in a file": f"{CALL}({NUMBERS[2]}, b'name', 0)",
    "shared memory": f"{CALL}({NUMBERS[3]}, 0, 4096, 0o1600)",
    "a user namespace": "__import__('ctypes').CDLL(None).unshare(0x10000000)",
    "a socket to the host": "socket.socket(40, socket.SOCK_STREAM)",
    "a score for the killer": "open('/proc/self/oom_score_adj', 'w').write('0')",
    "namespaces again": "open('/proc/sys/user/max_user_namespaces', 'w').write('9')",
    "the warden": "os.kill(os.getppid() or 99999, 0)",
}


@pytest.fixture(scope="module")
def refused():
    """What a jail makes of each expression in REFUSED, and what its warden says of the isolation."""
    found, _ = evaluate(f"[attempt(e) for e in {list(REFUSED.values())}]", ATTEMPT)
    with jail.Warden("/nowhere", "namespaces", worker=RUNNER.format(setup="")) as warden:
        return dict(zip(REFUSED, eval(found), strict=True)), warden.isolation


ATTEMPT = """
def attempt(expression):
    try:
        return str(eval(expression))
    except OSError as error:
        return type(error).__name__
"""


@pytest.mark.parametrize("name", REFUSED)
def test_a_jail_has_no_right_to(refused, name):
    found, isolation = refused
    if "not filtered" in isolation and name not in ("a user namespace", "the warden"):
        pytest.skip("this machine has no libseccomp")
    assert found[name] in ("-1", "PermissionError", "OSError", "ProcessLookupError"), found


def test_a_jail_sees_itself_alone():
    found, _ = evaluate(
        "[sorted(os.listdir('/proc/self/fd')), [n for n in os.listdir('/proc') if n.isdigit()], "
        "socket.gethostname(), os.getuid(), open('/proc/self/oom_score_adj').read(), "
        "open('/proc/sys/user/max_user_namespaces').read()]"
    )
    assert eval(found) == [["0", "1", "2", "3", "4"], ["1"], "jail", 1000, "1000\n", "0\n"]


def test_solutions_are_hidden_where_they_lie_in_what_a_jail_shows(tmp_path, monkeypatch):
    """A clone of the course within Python's own folder, and an installed copy."""
    prefix = tmp_path / "prefix"
    for folder in (
        "src/course/cnnlib",
        "lib/site-packages/cnnlib",
        "lib/site-packages/other",
        "src/course/.venv",
    ):
        (prefix / folder).mkdir(parents=True)
        (prefix / folder / "file.py").touch()
    monkeypatch.setattr(sys, "executable", os.path.realpath(sys.executable))
    monkeypatch.setattr(sys, "prefix", str(prefix / "src/course/.venv"))
    monkeypatch.setattr(jail, "ROOT", prefix / "src/course")
    monkeypatch.setattr(jail, "_paths", lambda: [prefix / "lib/site-packages"])
    monkeypatch.setattr(jail, "extra_paths", lambda: [str(prefix)])
    shown, _ = evaluate(f"sorted(p for p, _, files in os.walk({str(prefix)!r}) if files)")
    assert eval(shown) == [str(prefix / "lib/site-packages/other"), str(prefix / "src/course/.venv")]


def test_packages_outside_pythons_folder_are_found_in_the_jail(tmp_path, monkeypatch):
    (tmp_path / "outside_package.py").write_text("where = 'outside'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    jail._paths.cache_clear()
    try:
        assert jail.extra_paths() == [str(tmp_path)]
        assert evaluate("outside_package.where", "import outside_package")[0] == "'outside'"
        monkeypatch.undo()
        jail._paths.cache_clear()
        with pytest.raises(jail.JailError, match="No module named 'outside_package'"):
            evaluate("0", "import outside_package")
    finally:
        jail._paths.cache_clear()


def test_an_unknown_isolation_is_refused(course):
    with pytest.raises(jail.JailError, match="must be one of namespaces, process"):
        jail.Warden(course, "hope")


def test_a_machine_without_namespaces_says_what_to_do(course, monkeypatch):
    monkeypatch.setattr(jail, "available", lambda: "")
    with pytest.raises(jail.JailError, match='isolation="process"'):
        jail.Warden(course, "namespaces")


def test_a_python_that_lies_in_tmp_is_seen_in_the_jail(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as prefix:
        os.chmod(prefix, 0o755)  # as that of an environment
        (Path(prefix) / "pyvenv").write_text("here")
        monkeypatch.setattr(sys, "executable", os.path.realpath(sys.executable))
        monkeypatch.setattr(sys, "prefix", prefix)
        assert (
            evaluate(f"open({prefix + '/pyvenv'!r}).read(), open('/tmp/mine', 'w').write('x')")[0]
            == "('here', 1)"
        )
        assert "Read-only" in evaluate(f"open({prefix + '/new'!r}, 'w')")[0]


@pytest.mark.parametrize("way", ["root", "user"])
def test_a_jail_can_be_made_by_root_and_by_any_user(way):
    if way == "root" and jail.available() != "root":
        pytest.skip("this user is not root")
    with tempfile.NamedTemporaryFile() as ours:  # the jail has a /tmp of its own
        assert evaluate(f"os.getuid(), os.path.exists({ours.name!r})", way=way) == ("(1000, False)", 1)


def test_a_warden_that_cannot_start_is_the_graders_failure(course, monkeypatch):
    with pytest.raises(jail.JailError, match="NameError: name 'nothing' is not defined"):
        jail.Warden(course, "namespaces", worker="nothing")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(jail.JailError, match="could not be made"):
        jail.Warden(course, "namespaces")

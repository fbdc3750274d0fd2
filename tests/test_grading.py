"""Grading one answer in the jail: whatever it does, its verdict is right and the next answer is untouched."""

import contextlib
import functools
import inspect
import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from notebook_tools import LESSONS
from torch import nn

from cnnlib.course.exercises import Exercise, exercises, make_exam, normal, plain
from cnnlib.course.grading import batch, examiner, jail
from cnnlib.course.grading.client import Worker
from cnnlib.course.release import release_package

pytestmark = pytest.mark.skipif(not jail.available(), reason="this machine has no namespaces for a jail")

RIGHT = "def double(x):\n    return 2 * x"
SECONDS = 6


def an_exercise():
    def double(x):
        """Return twice x."""
        return 2 * x

    def cases(rng):
        return [[normal(rng, 3)], [normal(rng, 2, 2)]]

    return Exercise("99.double", 1, double, cases, {}, ("Add.",), seconds=SECONDS)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The learners' package, as the jail shows it."""
    folder = tmp_path_factory.mktemp("course")
    release_package(folder / "cnnlib")
    return folder


@pytest.fixture
def judge(course, tmp_path):
    """Function that examines answers in one jail, one after the other, as a graded lesson does.

    It takes their sources and the exercise, 99.double if none; returns their verdicts as dicts.
    """

    def judge(*sources, exercise=None, seed=7, providers=(), isolation="namespaces"):
        exam = make_exam(exercise or an_exercise(), seed)
        exams = {f"99.double{i}": exam for i in range(len(sources))}
        answers = {i: {"source": s, "status": "", "message": ""} for i, s in zip(exams, sources, strict=True)}
        job = {
            "course": str(course),
            "isolation": isolation,
            "exams": exams,
            "answers": answers,
            "providers": list(providers),
        }
        (tmp_path / "job.bin").write_bytes(plain.dumps(job))
        try:
            for exercise_id in exams:
                with contextlib.suppress(examiner.AnswerFailed):
                    examiner.examine(exercise_id, tmp_path)
        finally:
            examiner._job(str(tmp_path))[1].stop()
        return [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]

    return judge


def body(text):
    return "def double(x):\n" + "".join(f"    {line}\n" for line in text.splitlines())


ENDED = {
    "infinite loop in the cell": ("while True:\n    pass\n" + RIGHT, "timeout", "longer than the 6 s"),
    "infinite loop in a call": (body("while True:\n    pass"), "timeout", "longer than the 6 s"),
    "a sleep that defies signals": (
        body("import signal, time\nsignal.pthread_sigmask(0, range(1, 64))\ntime.sleep(1000)"),
        "timeout",
        "longer",
    ),
    "os._exit": (body("import os\nos._exit(0)"), "killed", "exit status 0"),
    "os._exit in the cell": ("import os\nos._exit(3)\n" + RIGHT, "killed", "exit status 3"),
    "segfault": (body("import ctypes\nctypes.string_at(0)"), "killed", "its process ended"),
    "abort": (body("import os\nos.abort()"), "killed", "its process ended"),
    "sys.exit": (body("import sys\nsys.exit(0)"), "error", "tried to end the program: SystemExit"),
    "sys.exit in the cell": ("import sys\nsys.exit(0)\n" + RIGHT, "error", "SystemExit"),
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
    "a reply of 200 MB": (body("import torch\nreturn torch.ones(50 << 20)"), "killed", "bytes; 67,108,864"),
}


@pytest.mark.parametrize(("source", "status", "message"), ENDED.values(), ids=ENDED)
def test_an_answer_that_fails_gets_its_verdict_and_harms_no_other(judge, source, status, message):
    before, found, after = judge(RIGHT, source, RIGHT)
    assert (found["status"], message in found["message"]) == (status, True), found
    assert (before["status"], after["status"]) == ("pass", "pass")


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


SHIFT = Exercise("99.Shift", 1, Shift, shift_cases, {}, ("Add.",), seconds=SECONDS)
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
    "a function": ("def Shift(features):\n    return lambda x: x", "fail", "it should be a class"),
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
        "longer than the 6 s",
    ),
    "an exit": (shift("super().__init__()", "import os; os._exit(0)"), "killed", "exit status 0"),
    "an exit in __init__": (shift("super().__init__()", "raise SystemExit"), "error", "SystemExit"),
    "4 GB of weights": (shift("zeros(features)", "zeros(1 << 30)"), "error", "memory"),
}


@pytest.mark.parametrize(("source", "status", "message"), ENDED_MODULES.values(), ids=ENDED_MODULES)
def test_a_module_that_fails_gets_its_verdict_and_harms_no_other(judge, source, status, message):
    before, found, after = judge(RIGHT_SHIFT, source, RIGHT_SHIFT, exercise=SHIFT)
    assert (found["status"], message in found["message"]) == (status, True), found
    assert (before["status"], after["status"]) == ("pass", "pass")


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
    found = judge(*sources, exercise=exercise, seed=20261, providers=batch._providers(lesson))
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
    (found,) = judge(looks)[1:]
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
def test_a_disturber_of_others_disturbs_nobody(judge, course, source):
    with Worker(str(course), "namespaces") as witness:  # another learner's, at the same time
        witness.start()
        found = judge(source)[0]
        witness.load("double", RIGHT, [], time.monotonic() + 60)
        assert witness.call("double", [torch.ones(2).numpy()], time.monotonic() + 60).tolist() == [2, 2]
    assert found["status"] in ("pass", "fail", "killed", "timeout"), found  # it may well have hurt itself


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


def test_processes_left_behind_end_with_the_jail(judge):
    marker = "left-behind-7431"
    source = body(
        "import subprocess, sys\n"
        f"command = [sys.executable, '-c', 'import time; time.sleep(600)', {marker!r}]\n"
        "subprocess.Popen(command, start_new_session=True)\n"
        "return 2 * x"
    )
    assert judge(source)[0]["status"] == "pass"
    deadline = time.monotonic() + 10  # the kernel kills them in its own time
    while left := [line for line in commands() if marker.encode() in line]:
        assert time.monotonic() < deadline, left


def commands():
    """Return the command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes())
    return lines


def test_an_answer_finds_the_imports_and_helpers_that_it_uses_and_no_others(judge):
    providers = [
        "%matplotlib inline\nimport numpy as np\nfrom torch.nn import functional as F",
        "TWO, THREE = 2, 3",
        "def helper(x):\n    return F.relu(x) * TWO - TWO * F.relu(-x)",
        "this is no Python",
        "unused = open('/tmp/unused', 'w')",
        "x = open('/tmp/unused', 'w')",  # x is a local name in the answers
        "+".join(["1"] * 20_000),  # too deep for the parser, or for the compiler
        "def helper(x):\n    return None",
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
    found = judge(body("while True:\n    pass"), body("import os\nos._exit(1)"), RIGHT, isolation="process")
    assert [v["status"] for v in found] == ["timeout", "killed", "pass"]


def test_an_unknown_isolation_is_refused(course, tmp_path):
    with pytest.raises(jail.JailError, match="must be one of namespaces, process"):
        jail.start(["-c", ""], course, tmp_path, "hope")


def test_a_machine_without_namespaces_says_what_to_do(course, tmp_path, monkeypatch):
    monkeypatch.setattr(jail, "available", lambda: "")
    with pytest.raises(jail.JailError, match='isolation="process"'):
        jail.start(["-c", ""], course, tmp_path, "namespaces")


def test_a_python_that_lies_in_tmp_is_seen_in_the_jail(course, tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as prefix:
        os.chmod(prefix, 0o755)  # as that of an environment
        (Path(prefix) / "pyvenv").write_text("here")
        monkeypatch.setattr(sys, "executable", os.path.realpath(sys.executable))
        monkeypatch.setattr(sys, "prefix", prefix)
        program = f"print(open({prefix + '/pyvenv'!r}).read()); open('/tmp/mine', 'w').write('x')"
        program += f"\ntry: open({prefix + '/new'!r}, 'w')\nexcept OSError: print('read-only')"
        process = jail.start(["-c", program], course, tmp_path, "namespaces")
        try:
            assert process.stdout.read().split() == [b"here", b"read-only"]
        finally:
            jail.stop(process)


def test_a_jail_that_cannot_start_is_the_graders_failure(course, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(jail.JailError, match="did not start"):
        Worker(str(course), "namespaces").start()

"""Honest notebooks in many styles: what is right when IPython runs all cells is right for the grader.

Each style is a notebook, its cells divided by lines of dashes. «a|b» is a for the right answer and b for a
wrong one in the same style, which must fail, so that no style passes by accident.
"""

import ast
import builtins
import decimal
import dis
import functools
import json
import os
import sys
import time
import types

import IPython
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from notebook_tools import LESSONS, read
from traitlets.config import Config

from cnnlib.course import exercises as checks
from cnnlib.course.exercises import ask, exercises, make_exam, program, squeezed
from cnnlib.course.exercises.cells import parse
from cnnlib.course.exercises.judge import AnswerEnded, examine
from cnnlib.course.exercises.statements import NAMED, names_of
from cnnlib.course.grading import examiner, jail
from cnnlib.course.grading.submission import CodeCell, code_cells, find_answers
from cnnlib.course.release import release_package

SETUP = """import torch
import torch.nn.functional as F
from torch import nn
from cnnlib.course.exercises import check
"""

ZERO = {  # 04.zero_mistakes(total, level) is 1 - (1 - level) ** (1 / total)
    "the exercise's own cell": """
# exercise 04.zero_mistakes
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "Colab: title, form, drive": """
from google.colab import drive
drive.mount("/content/drive")
---
!pip install -q torchmetrics
---
#@title Zero mistakes { display-mode: "form" }
power = «1|2» #@param {type:"slider", min:0, max:3, step:1}
#@markdown Run this cell.
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (power / total)
""",
    "VS Code: percent cells in one": '''
# %%
import math
# %% [markdown]
# Some *text* of mine
# %%
def zero_mistakes(total, level):
    """Return it."""
    return 1 - math.exp(math.log(1 - level) / total * «1|2»)
''',
    "Kaggle: its first cell, and magics": """
# This Python 3 environment comes with many helpful analytics libraries installed
import numpy as np # linear algebra
import pandas_of_kaggle as pd
import os
for dirname, _, filenames in os.walk('/kaggle/input'):
    for filename in filenames:
        print(os.path.join(dirname, filename))
---
%load_ext autoreload
%autoreload 2
%config Completer.use_jedi = False
%env OMP_NUM_THREADS=1
def zero_mistakes(total, level):
    return float(1 - np.power(1 - level, «1|2» / total))
""",
    "a scratch line that fails after it": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
print(open("my_notes.txt").read())
""",
    "a scratch line that fails before it": """
notes = open("my_notes.txt").read()
---
notes.split()
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a scratch cell that is no Python": """
def zero_mistakes(total, level:
    return 1
---
this is what I think
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a scratch line that ends or asks": """
import sys
---
name = input("Your name? ")
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a helper class": """
class Rates:
    power = «1|2»
    def __init__(self, level):
        self.rest = 1 - level
    def upper(self, total):
        return 1 - self.rest ** (self.power / total)
---
def zero_mistakes(total, level):
    return Rates(level).upper(total)
""",
    "a decorator of one's own": """
import functools
def complement(function):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        return «1|2» - function(*args, **kwargs)
    return wrapped
---
@complement
def zero_mistakes(total, level):
    return (1 - level) ** (1 / total)
""",
    "a star import": """
from math import *
---
def zero_mistakes(total, level):
    return 1 - exp(log(1 - level) / total) * «1|pi»
""",
    "a star import hides a builtin": """
from math import *
---
def zero_mistakes(total, level):
    return pow(1, 1) - pow(1 - level, «1|2» / total)
""",
    "%%time": """
%%time
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "%%capture with a name": """
%%capture out
ONE = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
out.show()
""",
    "%time of a statement": """
%time ONE = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "%timeit -o": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
t = %timeit -n1 -r1 -q -o zero_mistakes(10, 0.9)
print(t.average)
""",
    "an indented %timeit, a shell line in a loop": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
if True:
    %timeit -n1 -r1 -q zero_mistakes(10, 0.9)
    for k in range(2):
        !echo {k}
""",
    "help lines": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
zero_mistakes?
?F.conv2d
F.conv2d??
""",
    "the output of a shell command": """
files = !ls
print(len(files), files.n)
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a percent sign in a string and in an expression": '''
%matplotlib inline
WORDS = """
%one
!two
?three
""".split()
REST = (7
% 3)
def zero_mistakes(total, level):
    return 1 - (1 - level) ** ((len([w for w in WORDS if w[0] in "%!?"]) - 2) * REST / total) * «1|2»
''',
    "await at the top": """
import asyncio
async def fetch():
    await asyncio.sleep(0)
    return «1|2»
ONE = await fetch()
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "async for and async with at the top": """
import contextlib
@contextlib.asynccontextmanager
async def opened():
    yield «1|2»
async def numbers():
    for k in range(3):
        yield k
ones = []
async with opened() as ONE:
    async for k in numbers():
        ones.append(ONE)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (sum(ones) / 3 / total)
""",
    "functools.partial": """
from functools import partial
def bound(power, total, level):
    return 1 - (1 - level) ** (power / total)
---
zero_mistakes = partial(bound, «1|2»)
""",
    "an annotated lambda": """
from collections.abc import Callable
zero_mistakes: Callable[[int, float], float] = lambda total, level: 1 - (1 - level) ** («1|2» / total)
""",
    "a callable object": """
class Bound:
    def __init__(self, power): self.power = power
    def __call__(self, total, level):
        return 1 - (1 - level) ** (self.power / total)
zero_mistakes = Bound(«1|2»)
""",
    "a static method": """
class Toolbox:
    @staticmethod
    def bound(total, level):
        return 1 - (1 - level) ** («1|2» / total)
---
zero_mistakes = Toolbox.bound
""",
    "annotated constants and a type alias": """
from typing import TypeAlias
Share: TypeAlias = float
ONE: float = «1.0|2.0»
---
def zero_mistakes(total: int, level: Share) -> Share:
    return 1 - (1 - level) ** (ONE / total)
""",
    "a dataclass": """
from dataclasses import dataclass, field
@dataclass(frozen=True)
class Settings:
    power: int = «1|2»
    names: list = field(default_factory=list)
settings = Settings()
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (settings.power / total)
""",
    "a named tuple and an enum": """
from enum import Enum
from typing import NamedTuple
class Power(Enum):
    FIRST = «1|2»
class Case(NamedTuple):
    total: int
    level: float
def zero_mistakes(total, level):
    case = Case(total, level)
    return 1 - (1 - case.level) ** (Power.FIRST.value / case.total)
""",
    "if __name__": """
if __name__ == "__main__":
    def zero_mistakes(total, level):
        return 1 - (1 - level) ** («1|2» / total)
""",
    "a future import in a cell above": """
from __future__ import annotations
---
def zero_mistakes(total: Whole, level: Share) -> Share:
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a helper that was wrong and is mended below": """
def rest(level):
    return level
---
rest(0.9)
---
def rest(level):
    return 1 - «level|level / 2»
---
def zero_mistakes(total, level):
    return 1 - rest(level) ** (1 / total)
""",
    "a helper below its user": """
def zero_mistakes(total, level):
    return 1 - rest(level) ** (1 / total)
---
def rest(level):
    return 1 - «level|level / 2»
""",
    "a mended helper below its user": """
def rest(level):
    return level
def zero_mistakes(total, level):
    return 1 - rest(level) ** (1 / total)
zero_mistakes(3, 0.9)
---
def rest(level):
    return 1 - «level|level / 2»
""",
    "identifiers that are no ASCII": """
α = «1|2»
def größe(n, β):
    return 1 - (1 - β) ** (α / n)
---
def zero_mistakes(total, level):
    '''Gibt die größte Rate zurück — „ohne Fehler“, 没有错误.'''
    return größe(total, level)
""",
    "a walrus": """
if (ONE := «1|2») > 0:
    print(ONE)
squares = [last := k * k for k in range(2)]
---
def zero_mistakes(total, level):
    return last - (1 - level) ** (ONE / total)
""",
    "functions that build functions": """
def make(power):
    def outer(total, level):
        def rest(): return 1 - level
        return 1 - rest() ** (power / total)
    return outer
---
zero_mistakes = make(«1|2»)
""",
    "a global that a function sets": """
ONE = 5
def prepare(value):
    global ONE
    ONE = value
prepare(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a global that an answer counts": """
calls = 0
def zero_mistakes(total, level):
    global calls
    calls += 1
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a second try in a cell below": """
# exercise 04.zero_mistakes
def zero_mistakes(total, level):
    return 3 / total
---
check("04.zero_mistakes", zero_mistakes)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
check("04.zero_mistakes", zero_mistakes)
""",
    "a second try that is worse, never checked": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
check("04.zero_mistakes", zero_mistakes)
---
def zero_mistakes(total, level):
    return 3 / total
""",
    "definition and check in one cell": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
check("04.zero_mistakes", zero_mistakes)
zero_mistakes = None
""",
    "a check in a loop, and one in an assert": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
for _ in range(1):
    print(check("04.zero_mistakes", zero_mistakes))
assert check(exercise_id="04.zero_mistakes", answer=zero_mistakes) is None
""",
    "another name, which the check is given": """
def zero_mistakes(total, level):
    return 3 / total
def zero_mistakes_2(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
check("04.zero_mistakes", zero_mistakes_2)
""",
    "an expression, which the check is given": """
BOUNDS = {"three": lambda n, level: 3 / n, "exact": lambda n, level: 1 - (1 - level) ** («1|2» / n)}
---
check("04.zero_mistakes", BOUNDS["exact"])
""",
    "old versions in comments and strings": '''
# def zero_mistakes(total, level):
#     return 3 / total
"""
def zero_mistakes(total, level):
    return level ** (1 / total)
"""
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
# def zero_mistakes(total, level):
#     return None
''',
    "tabs": """
def zero_mistakes(total, level):
\tif total:
\t\treturn 1 - (1 - level) ** («1|2» / total)
""",
    "an indented cell": """
    ONE = «1|2»
    def zero_mistakes(total, level):
        return 1 - (1 - level) ** (ONE / total)
""",
    "prompts of Python": """
>>> ONE = «1|2»
>>> def zero_mistakes(total, level):
...     return 1 - (1 - level) ** (ONE / total)
""",
    "prompts of IPython": """
In [3]: ONE = «1|2»
---
In [4]: def zero_mistakes(total, level):
   ...:     return 1 - (1 - level) ** (ONE / total)
""",
    "a helper made in an if": """
if torch.cuda.device_count() >= 0:
    ONE = «1|2»
else:
    ONE = 0
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a helper made in a with": """
with torch.no_grad():
    one = torch.tensor(«1.0|2.0»).double()
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (one.item() / total)
""",
    "a helper made in a try": """
try:
    from scipy_that_is_not_there import power
except ImportError:
    def power(x, y): return x ** («1|2» * y)
---
def zero_mistakes(total, level):
    return 1 - power(1 - level, 1 / total)
""",
    "a table filled in a loop": """
table = {}
for n in range(1, 4):
    table[n] = n * «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table[3] / 3 / total)
""",
    "a list filled in a while": """
ones = []
while len(ones) < 4:
    ones.append(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (sum(ones) / 4 / total)
""",
    "a table changed by update": """
table = dict(one=0)
table.update(one=«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "a table filled by a function": """
def fill(d):
    d["one"] = «1|2»
table = {}
fill(table)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "a table changed under another name": """
table = {"one": [0]}
row = table["one"]
row[0] = «1|2»
for other in (table,):
    other["two"] = 2
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"][0] * table["two"] / 2 / total)
""",
    "augmented assignment": """
ONE = 3
ONE -= «2|1»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "item and attribute assignment": """
from types import SimpleNamespace
config = SimpleNamespace(powers=[0, 0])
config.powers[1] = 1
config.scale = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (config.powers[1] * config.scale / total)
""",
    "del": """
def pow(x, y): return 0
---
del pow
---
def zero_mistakes(total, level):
    return 1 - pow(1 - level, «1|2» / total)
""",
    "helpers named like builtins": """
def sum(x, y): return x + «y|2 * y»
def slice(x): return 1 - x
---
def zero_mistakes(total, level):
    return sum(1, -slice(level) ** (1 / total))
""",
    "match": """
match "exact":
    case "three":
        ONE = 3
    case "exact":
        ONE = «1|2»
---
def zero_mistakes(total, level):
    match total:
        case n:
            return 1 - (1 - level) ** (ONE / n)
""",
    "several names at once": """
ONE, (TWO, *MORE) = «1|2», [2, 3, 4]
def _zero(total, level): return 1 - (1 - level) ** (ONE * TWO / (MORE[0] - 1) / total)
rest, zero_mistakes = None, _zero
""",
    "what the cell above showed": """
«1|2»
---
ONE = _
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "what was shown before, where some cells show nothing": """
«1|2»
---
None
---
7 ** 2;
---
print("nothing")
---
[3, 4]
---
ONE = __ + len(_) - 2
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "what was shown when it is called": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (_ / total)
---
«1|2»
""",
    "what was shown, by number": """
5
---

---
import math
math.sqrt(«1|4»)
---
ONE = _2 + Out[2] - int(In[1]) / 5 * Out[2]
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "an underscore of its own, which IPython leaves alone": """
_ = «1|2»
---
7
---
ONE = _
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a file written by %%writefile and imported": """
%%writefile bounds_«right|wrong».py
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
from bounds_«right|wrong» import zero_mistakes
""",
    "a file written by %%writefile and run": """
%%writefile my_bounds.py
ONE = «1|2»
---
%run my_bounds.py
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "exec": """
exec("ONE = «1|2»")
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "globals() and eval": """
for name, value in {"ONE": «1|2», "TWO": 2}.items():
    globals()[name] = value
helper_one = lambda x: 1 - x
---
def zero_mistakes(total, level):
    return eval("TWO") / 2 - globals()[f"helper_{'one'}"](level) ** (ONE / total)
""",
    "a registry": """
REGISTRY = {}
def register(function):
    REGISTRY[function.__name__] = function
    return function
---
@register
def exact(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
@register
def three(total, level):
    return 3 / total
---
def zero_mistakes(total, level):
    return REGISTRY["exact"](total, level)
""",
    "singledispatch and a cache": """
from functools import lru_cache, singledispatch
@singledispatch
def power(y, x): raise TypeError
@power.register
def _(y: float, x): return x ** («1|2» * y)
@lru_cache(maxsize=None)
def rest(level): return 1 - level
---
def zero_mistakes(total, level):
    return 1 - power(1 / total, rest(level))
""",
    "a recursion with a cache, deep": """
import sys
sys.setrecursionlimit(20_000)
_cache = {0: 0}
def count(n):
    if n not in _cache:
        _cache[n] = count(n - 1) + «1|2»
    return _cache[n]
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (count(1500) / 1500 / total)
""",
    "a generator and a comprehension": """
def powers(x):
    while True:
        yield x
pairs = {name: k for k, name in enumerate(["zero", "one", "two"])}
---
def zero_mistakes(total, level):
    total_of = [t for t in (total,)]
    return 1 - next(powers(1 - level)) ** (pairs["«one|two»"] / total_of[0])
""",
    "a value set back by a cell that fails": """
ONE = «1|2»
---
ONE = int(open("nowhere.txt").read())
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "display and its friends": """
from IPython.display import clear_output, display
display("begun")
def zero_mistakes(total, level):
    display(total)
    return 1 - (1 - level) ** («1|2» / total)
get_ipython().run_line_magic("matplotlib", "inline")
_ = display(3)
""",
    "semicolons and continued lines": """
import math; ONE = \\
    «1|2»; zero_mistakes = lambda total, level: 1 - math.pow(1 - level, ONE / total);
""",
    "star arguments and keywords": """
def bound(*, total, level, **more):
    return 1 - (1 - level) ** (more.get("power", 0) / total)
def zero_mistakes(*args, **kwargs):
    return bound(**dict(zip(("total", "level"), args)), **kwargs, power=«1|2»)
""",
    "its own source": """
import inspect
def helper(x):
    "one, one"
    return x
ONE = inspect.getsource(helper).count("one") - «1|0»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "settings in a function": """
import sys
def prepare():
    sys.setrecursionlimit(20_000)
    torch.set_default_dtype(torch.float64)
prepare()
---
def deep(n): return deep(n - 1) if n else 1
def zero_mistakes(total, level):
    wide = torch.tensor(1.5).itemsize // 8
    return 1 - (1 - level) ** (deep(3000) * wide * «1|2» / total)
""",
    "subclasses that register themselves": """
class Base:
    known = {}
    def __init_subclass__(cls): Base.known[cls.__name__] = cls
class Exact(Base):
    power = «1|2»
class Three(Base):
    power = 3
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (Base.known["Exact"].power / total)
""",
    "a method that sets a global": """
class Setup:
    def run(self):
        global ONE
        ONE = «1|2»
setup = Setup()
---
setup.run()
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "names of the module": """
import sys
setattr(sys.modules[__name__], "ONE", «1|2»)
globals().update(TWO=2)
---
import __main__
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE * TWO / __main__.TWO / total)
""",
    "own tests beside it": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
assert zero_mistakes(1, 0.95) == 0.95
---
def test_zero():
    assert zero_mistakes(1, 0.5) == 0.5
test_zero()
---
%%timeit -n1 -r1 -q
zero_mistakes = None
""",
    "answers made in a loop, by globals()": """
def make(power):
    def bound(total, level):
        return 1 - (1 - level) ** (power / total)
    return bound
---
for name, power in [("zero_mistakes", «1|2»), ("two", 3)]:
    globals()[name] = make(power)
""",
    "answers made in a loop, by exec": r"""
for name, power in [("zero_mistakes", «1|2»), ("two", 3)]:
    exec(f"def {name}(total, level):\n    return 1 - (1 - level) ** ({power} / total)")
""",
    "a script of nbconvert": """
#!/usr/bin/env python
# coding: utf-8

# In[1]:


get_ipython().run_line_magic('matplotlib', 'inline')
get_ipython().system('pip install torch')


# In[2]:


# exercise 04.zero_mistakes
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)


# In[3]:


check("04.zero_mistakes", zero_mistakes)


# In[4]:


def zero_mistakes(total, level):
    return None
""",
    "%env": """
import os
%env POWER=«1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (int(os.environ["POWER"]) / total)
""",
    "an environment variable": """
from os import environ
environ["POWER"] = "«1|2»"
---
import os
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (int(os.environ["POWER"]) / total)
""",
    "a name put into builtins": """
import builtins
builtins.ONE = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a list filled by map": """
d = []
list(map(d.append, [«1|2»]))
---
_ = [d.append(9) for _ in range(1)]
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (d[0] / total)
""",
    "a decorator with state": """
calls = {}
def counted(f):
    calls[f.__name__] = «1|2»
    def wrapper(*a, **k):
        return f(*a, **k)
    return wrapper
---
@counted
def helper(): pass
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (calls["helper"] / total)
""",
    "a method added to a tensor": """
import torch
torch.Tensor.rest = lambda self: 1 - self
torch.Tensor.power = property(lambda self: «1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (torch.tensor(1.0).power / total)
""",
    "chained assignment, one changed by its other name": """
scale = powers = [0]
scale[0] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (powers[0] / total)
""",
    "a list in a dict, changed by its own name": """
row = [0]
table = {"row": row}
---
row[0] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["row"][0] / total)
""",
    "an object in an object": """
from types import SimpleNamespace
inner = SimpleNamespace(power=0)
outer = SimpleNamespace(inner=inner)
inner.power = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (outer.inner.power / total)
""",
    "partial holds a dict that is changed later": """
from functools import partial
options = {"power": 0}
def bound(options, total, level):
    return 1 - (1 - level) ** (options["power"] / total)
zero_mistakes = partial(bound, options)
---
options["power"] = «1|2»
""",
    "numpy and torch share memory": """
import numpy as np
array = np.zeros(1)
shared = torch.from_numpy(array)
array[0] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (shared.item() / total)
""",
    "a result kept, an argument changed": """
def fill(d):
    d["one"] = «1|2»
    return len(d)
table = {}
n = fill(table)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "an argument changed in a print": """
def fill(d):
    d["one"] = «1|2»
    return len(d)
table = {}
print("filled", fill(table))
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "an argument changed in an if": """
def fill(d):
    d["one"] = «1|2»
    return True
table = {}
if not fill(table):
    raise ValueError
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "an iterator that was begun": """
numbers = iter([5, «1|2»])
first = next(numbers)
---
ONE = next(numbers)
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a loop that takes the head of an iterator": """
numbers = iter([5, «1|2»])
for head in numbers:
    break
---
ONE = next(numbers)
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a list grown under another name": """
powers = []
more = powers
more += [«1|2»]
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (powers[0] / total)
""",
    "a tensor changed in place under another name": """
weight = torch.ones(1)
view = weight.view(-1)
view *= «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (weight.item() / total)
""",
    "init with its output hidden": """
weight = torch.zeros(1)
_ = nn.init.constant_(weight, «1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (weight.item() / total)
""",
    "an out argument": """
total_of = torch.zeros(1)
result = torch.add(torch.tensor([«1.|2.»]), 0, out=total_of)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (total_of.item() / total)
""",
    "a text file": """
with open("power.txt", "w") as file:
    file.write("«1|2»")
---
ONE = int(open("power.txt").read())
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "torch.save and load": """
torch.save({"one": «1|2»}, "power.pt")
---
settings = torch.load("power.pt")
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (settings["one"] / total)
""",
    "a module written by open": """
code = '''
def power(total):
    return «1|2» / total
'''
with open("bounds_open«right|wrong».py", "w") as f:
    f.write(code)
---
import bounds_open«right|wrong»
def zero_mistakes(total, level):
    return 1 - (1 - level) ** bounds_open«right|wrong».power(total)
""",
    "a module in a folder, on the path": """
import os, sys
os.makedirs("src", exist_ok=True)
sys.path.append("src")
---
%%writefile src/bounds_src«right|wrong».py
ONE = «1|2»
---
import bounds_src«right|wrong» as b
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (b.ONE / total)
""",
    "a package written by %%writefile": """
!mkdir -p bounds_pkg«right|wrong»
import os; os.makedirs("bounds_pkg«right|wrong»", exist_ok=True)
---
%%writefile bounds_pkg«right|wrong»/__init__.py
---
%%writefile bounds_pkg«right|wrong»/power.py
ONE = «1|2»
---
from bounds_pkg«right|wrong».power import ONE
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "exec of a file": """
%%writefile my_power.py
ONE = «1|2»
---
exec(open("my_power.py").read())
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "%run -i": """
%%writefile my_power2.py
ONE = TWO / 2 * «1|2»
---
TWO = 2
%run -i my_power2.py
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "%run without an ending": """
%%writefile my_power3.py
ONE = «1|2»
---
%run my_power3
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a module written twice and reloaded": """
%%writefile bounds_re«right|wrong».py
ONE = 3
---
import bounds_re«right|wrong» as b
---
%%writefile bounds_re«right|wrong».py
ONE = «1|2»
# longer
---
import importlib
importlib.reload(b)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (b.ONE / total)
""",
    "exec of code in a name": """
ONE = «1|2»
---
code = '''
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
'''
---
exec(code)
""",
    "eval of a formula in a name": """
ONE = «1|2»
FORMULA = "1 - (1 - level) ** (ONE / total)"
---
def zero_mistakes(total, level):
    return eval(FORMULA)
""",
    "globals() and a concatenated name": """
helper_one = lambda x: x ** «1|2»
def call(kind, *args):
    return globals()["helper_" + kind](*args)
---
def zero_mistakes(total, level):
    return 1 - call("one", (1 - level) ** (1 / total))
""",
    "a semicolon before a comment": """
«1|2»
---
5; # hidden
---
ONE = _
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "axes that are no plot's": """
axes = []
axes.append(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (axes[0] / total)
""",
    "a queue": """
from queue import Queue
queue = Queue()
queue.put(7)
queue.put(«1|2»)
---
queue.get()
---
ONE = queue.get()
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "suppress": """
from contextlib import suppress
ONE = «1|2»
with suppress(KeyError):
    table = {}["one"]
    ONE = 3
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a try in a with": """
ONE = «1|2»
with torch.no_grad():
    try:
        table = {}["one"]
        ONE = 3
    except KeyError:
        pass
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a lambda in map": """
table = {}
list(map(lambda k: table.setdefault(k, «1|2»), ["one", "two"]))
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "a function in map": """
table = {}
def add(k):
    table[k] = «1|2»
_ = list(map(add, ["one", "two"]))
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "a counter called in a comprehension": """
count = 0
def tick():
    global count
    count += «1|2»
    return count
ticks = [tick() for _ in range(3)]
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (count / 3 / total)
""",
    "a counter called in a condition": """
count = 0
def tick():
    global count
    count += «1|3»
    return count
while tick() < 4:
    pass
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (count / 4 / total)
""",
    "an operator that changes": """
class Pipe:
    def __init__(self): self.steps = []
    def __lshift__(self, step):
        self.steps.append(step)
        return self
pipe = Pipe()
pipe << 3 << «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (pipe.steps[-1] / total)
""",
    "a generator that fills, in a list": """
def fill(d):
    for k in ("one", "two"):
        d[k] = «1|2»
        yield k
table = {}
list(fill(table))
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "a closure that counts": """
def make_counter():
    n = 0
    def count():
        nonlocal n
        n += 1
        return n
    return count
counter = make_counter()
counter()
---
ONE = counter() - «1|0»
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "closures that share what they keep": """
def make():
    kept = {}
    def put(k, v): kept[k] = v
    def get(k): return kept[k]
    return put, get
put, get = make()
---
put("one", «1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (get("one") / total)
""",
    "an object that is called to change it": """
class Mean:
    def __init__(self): self.values = []
    def __call__(self, value): self.values.append(value)
mean = Mean()
mean(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (sum(mean.values) / total)
""",
    "a function that counts on itself": """
def tick():
    tick.n += 1
    return tick.n
tick.n = 0
tick()
---
ONE = tick.n * «1|2»
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a default that remembers": """
def remember(value=None, seen=[]):
    if value is not None: seen.append(value)
    return seen
remember(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (remember()[0] / total)
""",
    "a metaclass that registers": """
known = {}
class Meta(type):
    def __new__(cls, name, bases, body):
        made = super().__new__(cls, name, bases, body)
        known[name] = made
        return made
---
class Exact(metaclass=Meta):
    power = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (known["Exact"].power / total)
""",
    "vars of an object": """
from types import SimpleNamespace
config = SimpleNamespace()
vars(config)["one"] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (config.one / total)
""",
    "the first of the values": """
table = {"a": []}
next(iter(table.values())).append(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["a"][0] / total)
""",
    "fastai's patch": """
def patch(function):
    cls = next(iter(function.__annotations__.values()))
    setattr(cls, function.__name__, function)
    return function
class Rates: pass
---
@patch
def power(self: Rates, total):
    return «1|2» / total
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** Rates().power(total)
""",
    "decimal's precision": """
from decimal import Decimal, getcontext
getcontext().prec = «30|2»
---
def zero_mistakes(total, level):
    rest = Decimal(1) - Decimal(level)
    return float(1 - rest ** (Decimal(1) / Decimal(total)))
""",
    "argparse": """
import argparse, sys
sys.argv = ["notebook", "--power", "«1|2»"]
parser = argparse.ArgumentParser()
parser.add_argument("--power", type=int, default=3)
args = parser.parse_args()
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (args.power / total)
""",
    "a helper that ends the program": """
import sys
ONE = «1|2»
---
ONE = sys.exit("no GPU")
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "another module's function, patched": """
def power(x, y): return x ** («1|2» * y)
torch.nn.functional.power_of = power
---
def zero_mistakes(total, level):
    return 1 - F.power_of(1 - level, 1 / total)
""",
    "a task made and awaited": """
import asyncio
async def fetch(): return «1|2»
task = asyncio.ensure_future(fetch())
ONE = await task
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "names in brackets": """
def exact(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
(zero_mistakes, other) = (exact, None)
""",
    "an annotation in quotes": """
zero_mistakes: "Callable[[int, float], float]" = lambda total, level: 1 - (1 - level) ** («1|2» / total)
""",
    "globals().update": """
def exact(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
globals().update(zero_mistakes=exact)
""",
    "an attribute of __main__": """
import __main__
def exact(total, level):
    return 1 - (1 - level) ** («1|2» / total)
__main__.zero_mistakes = exact
""",
    "an import over lines": """
%%writefile bounds_lines«right|wrong».py
import torch
exact = lambda total, level: 1 - (1 - level) ** («1|2» / total)
globals().update(zero_mistakes=exact)
---
from bounds_lines«right|wrong» import (
    exact,
    zero_mistakes,
)
""",
    "letters of another font": """
def 𝐳𝐞𝐫𝐨_𝐦𝐢𝐬𝐭𝐚𝐤𝐞𝐬(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a context manager that sets": """
from contextlib import contextmanager
table = {"one": 0}
@contextmanager
def setting(d, **values):
    d.update(values)
    yield
with setting(table, one=«1|2»):
    pass
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "a thread that sets a global": """
import threading
def work():
    global ONE
    ONE = «1|2»
thread = threading.Thread(target=work)
thread.start(); thread.join()
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "a mutable class attribute": """
class Config:
    values = {}
a, b = Config(), Config()
a.values["one"] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (b.values["one"] / total)
""",
    "the singleton": """
class Config:
    _instance = None
    def __new__(cls):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance
Config().power = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (Config().power / total)
""",
    "a trained helper": """
torch.manual_seed(0)
net = nn.Linear(1, 1, bias=False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
def train(model, steps):
    for _ in range(steps):
        loss = (model(torch.ones(1)) - «1|2») ** 2
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    return loss.item()
loss = train(net, 300)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (round(net.weight.item(), 4) / total)
""",
    "a hook that records": """
kept = {}
net = nn.Sequential(nn.Identity())
def hook(module, inputs, output): kept["one"] = output.item()
net[0].register_forward_hook(hook)
out = net(torch.tensor(«1.|2.»))
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (kept["one"] / total)
""",
    "a signal of a class": """
class Signal:
    def __init__(self): self.slots = []
    def connect(self, slot): self.slots.append(slot)
    def emit(self, *args):
        for slot in self.slots: slot(*args)
values = []
signal = Signal()
signal.connect(values.append)
signal.emit(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (values[0] / total)
""",
    "torch.jit.script": """
@torch.jit.script
def zero_mistakes(total: int, level: float) -> float:
    return 1 - (1 - level) ** («1.0|2.0» / total)
""",
    "numpy's vectorize": """
import numpy as np
@np.vectorize
def power(x, y): return x ** («1|2» * y)
---
def zero_mistakes(total, level):
    return float(1 - power(1 - level, 1 / total))
""",
    "a def in a for": """
for _ in range(1):
    def zero_mistakes(total, level):
        return 1 - (1 - level) ** («1|2» / total)
""",
    "closures over a loop's name": """
powers = []
for k in range(3):
    powers.append(lambda: k)
---
k = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (powers[0]() / total)
""",
    "an abstract class and super()": """
from abc import ABC, abstractmethod
class Bound(ABC):
    @abstractmethod
    def power(self): ...
    def __call__(self, total, level): return 1 - (1 - level) ** (self.power() / total)
class Twice(Bound):
    def power(self): return «1|2»
class Once(Twice):
    def power(self): return super().power()
zero_mistakes = Once()
""",
    "overloads": """
from typing import overload
@overload
def zero_mistakes(total: int, level: float) -> float: ...
@overload
def zero_mistakes(total: float, level: float) -> float: ...
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "dataclass with post init and a class variable": """
from __future__ import annotations
from dataclasses import dataclass, field
from typing import ClassVar
@dataclass
class Rates:
    level: float
    power: ClassVar[int] = «1|2»
    rest: float = field(init=False)
    def __post_init__(self): self.rest = 1 - self.level
---
def zero_mistakes(total: int, level: float) -> float:
    return 1 - Rates(level).rest ** (Rates.power / total)
""",
    "threads": """
from concurrent.futures import ThreadPoolExecutor
def power(x): return x ** «1|2»
---
def zero_mistakes(total, level):
    with ThreadPoolExecutor(2) as pool:
        return 1 - list(pool.map(power, [(1 - level) ** (1 / total)]))[0]
""",
    "a stack of functions": """
from functools import reduce
steps = []
def step(function):
    steps.append(function)
    return function
@step
def rest(x): return 1 - x
@step
def power(x): return x ** «1|2»
---
def zero_mistakes(total, level):
    chain = reduce(lambda x, f: f(x), steps, level)
    return 1 - chain ** (1 / total)
""",
    "swapped": """
one, two = 2, 1
one, two = two, one
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («one|two» / total)
""",
    "types.FunctionType": """
import types
def _make(total, level): return 1 - (1 - level) ** (ONE / total)
zero_mistakes = types.FunctionType(_make.__code__, {"ONE": «1|2»})
""",
    "a file written by two %%writefile": """
%%writefile bounds_two«right|wrong».py
ZERO = 0
---
%%writefile -a bounds_two«right|wrong».py
ONE = «1|2»
---
from bounds_two«right|wrong» import ONE
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "%%capture as a value": """
%%capture shown
print("«1|2»")
---
print("7")
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (int(shown.stdout) / total)
""",
    "names pushed into IPython, a cell run by it": """
ip = get_ipython()
ip.push({"ONE": «1|2»})
ip.run_cell("TWO = 2")
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE * TWO / 2 / total)
""",
    "%pwd and %env as values": """
import os
os.environ["POWER"] = "«1|2»"
here = %pwd
power = %env POWER
ONE = int(power) if os.path.isdir(here) else 0
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "decimal's context": """
import decimal
from decimal import Decimal
decimal.setcontext(decimal.Context(prec=«30|2»))
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (round(float(Decimal(1) / 3 * 3), 9) / total)
""",
    "defaults that are changed later": """
powers, more = [1], [1]
def kept(_, values=powers, *, more=more): return values[0] * more[0]
also = lambda _, values=powers: values[0]
---
powers[0] = «1|2»
more[0] *= 1
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (kept(0) * also(0) ** 0 / total)
""",
    "a lambda's default that is changed later": """
powers = [1]
kept = lambda values=powers: values[0]
---
powers[0] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (kept() / total)
""",
    "a class's value and a base that are changed later": """
powers = [1]
class Base: scale = 1
class Rates(Base): values = powers
---
Base.scale = «1|2»
powers[0] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (Rates.scale * Rates.values[0] / total)
""",
    "a decorator's argument that is changed later": """
powers = [1]
def times(values):
    return lambda function: lambda: function() * values[0]
@times(powers)
def one(): return 1
---
powers[0] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (one() / total)
""",
    "what a closure was given, changed later": """
powers = [1]
def make(values): return lambda: values[0]
one = make(powers)
---
powers[0] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (one() / total)
""",
    "what an object was handed, changed later": """
class Box:
    def put(self, value): self.value = value
powers, box, rows = [1], Box(), []
box.put(powers)
rows.append(powers)
---
rows[0][0] = «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (box.value[0] / total)
""",
    "functions called from a list": """
powers = [1]
def put(value): powers[0] = value
for job in [put, print]:
    job(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (powers[0] / total)
""",
    "a function called from a dict": """
powers = [1]
def put(value): powers[0] = value
jobs = {"put": put}
done = jobs.get("put")(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (powers[0] / total)
""",
    "a method found by its name": """
class Rates:
    power = 1
    def put(self, value): self.power = value
rates = Rates()
done = getattr(rates, "put")(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (rates.power / total)
""",
    "functions of operator and functools that change": """
import functools, operator
table = {"one": 1, "two": 1}
done = operator.setitem(table, "two", «1|2»)
def put(d, value):
    d["one"] = value
    return d
done = functools.reduce(put, [3, «1|2»], table)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] * table["two"] / total)
""",
    "another name by a choice": """
powers, more, empty = [1], [1], []
row = powers if powers else more
row[0] = «1|2»
if other := empty or more:
    other[0] = «1|2»
match powers:
    case list() as third: third[0] *= 1
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (powers[0] * more[0] / total)
""",
    "another name in a new list": """
first, second, third = [1], [1], [1]
rows = [row for row in (first,)]
rows[0][0] = «1|2»
more = [second] * 3
more[2][0] = «1|2»
sorted([third])[0][0] = 1
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (first[0] * second[0] * third[0] / total)
""",
    "a view by a function": """
weight = torch.ones(1, 1)
view = torch.squeeze(weight)
view.fill_(«1|2»)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (weight.item() / total)
""",
    "a check by an id in a name": """
EXERCISE = "04.zero_mistakes"
---
STUB
---
def mine(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
check(EXERCISE, mine)
""",
    "a check in a loop over other names": """
def mine(total, level):
    return 1 - (1 - level) ** («1|2» / total)
for exercise, answer in {"04.zero_mistakes": mine}.items():
    print(check(exercise, answer))
""",
    "a check in a loop, and the name deleted": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
for answer in [zero_mistakes]:
    check(f"04.{answer.__name__}", answer)
---
del zero_mistakes
""",
    "a check in a loop, and a try that is worse": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
for answer in [zero_mistakes]:
    check(f"04.{answer.__name__}", answer)
---
def zero_mistakes(total, level):
    return 3 / total
""",
    "check under another name": """
from cnnlib.course.exercises import check as test
---
def mine(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
test("04.zero_mistakes", mine)
""",
    "check by map, partial and stars": """
from functools import partial
def mine(power, total, level):
    return 1 - (1 - level) ** (power / total)
---
one = partial(check, "04.zero_mistakes")
one(partial(mine, 3))
list(map(check, ["04.zero_mistakes"], [partial(mine, 4)]))
arguments = ("04.zero_mistakes", partial(mine, «1|2»))
check(*arguments)
""",
    "a function that checks, above all tries": """
def verify(name, answer):
    feedback = check("04." + name, answer)
    print(feedback)
---
def zero_mistakes(total, level):
    return 3 / total
verify("zero_mistakes", zero_mistakes)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
verify("zero_mistakes", zero_mistakes)
""",
    "a function that checks, between two tries": """
def zero_mistakes(total, level):
    return 3 / total
---
def run_checks():
    return check("04.zero_mistakes", zero_mistakes)
run_checks()
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
run_checks()
""",
    "a text between two tries that speaks of the check": """
def zero_mistakes(total, level):
    return 3 / total
---
note = '''To do: check("04.zero_mistakes", zero_mistakes)'''
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
for name in ["zero_mistakes"]:
    check("04." + name, globals()[name])
""",
    "an own name checked, above the lesson's check": """
def mine(total, level):
    return 1 - (1 - level) ** («1|2» / total)
for exercise in ["04.zero_mistakes"]:
    check(exercise, mine)
---
check("04.zero_mistakes", zero_mistakes)
""",
    "a decorator that checks": """
def tested(exercise):
    def decorate(function):
        check(exercise, function)
        return function
    return decorate
---
@tested("04.zero_mistakes")
def my_bound(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a lambda that decorates": """
table = {}
@lambda function: table.update(one=function())
def value():
    return «1|2»
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (table["one"] / total)
""",
    "get_ipython, imported": """
from IPython import get_ipython
get_ipython().push({"ONE": «1|2»})
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "%cd": """
%mkdir work-«right|wrong»
import os
os.makedirs("work-«right|wrong»", exist_ok=True)
---
%cd -q work-«right|wrong»
with open("one.txt", "w") as file:
    file.write("«1|2»")
%cd -q ..
---
ONE = int(open("work-«right|wrong»/one.txt").read())
def zero_mistakes(total, level):
    return 1 - (1 - level) ** (ONE / total)
""",
    "%%skip": """
from IPython.core.magic import register_cell_magic
@register_cell_magic
def skip(line, cell): pass
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
%%skip
def zero_mistakes(total, level):
    return 3 / total
""",
    "what was handed out, written on by exec": """
STUB
---
import inspect
body = "return 1 - (1 - level) ** («1|2» / total)"
exec(inspect.getsource(zero_mistakes).replace("raise NotImplementedError", body))
---
check("04.zero_mistakes", zero_mistakes)
""",
    "doctests": '''
def zero_mistakes(total, level):
    """
    >>> zero_mistakes(1, 0.5)
    0.5
    """
    return 1 - (1 - level) ** («1|2» / total)
---
import doctest
doctest.testmod()
---
import unittest
class Tests(unittest.TestCase):
    def test_one(self): self.assertEqual(zero_mistakes(1, 0.5), 0.5)
unittest.main(argv=[""], exit=False)
''',
}

SPLIT = """
class SplitConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, cards):
        super().__init__()
        i, o = in_channels // cards, out_channels // cards
        convs = [nn.Conv2d(i, o, kernel_size, padding=kernel_size // 2) for _ in range(cards)]
        self.cards = nn.ModuleList(convs)
"""

OTHERS = {  # (exercise, notebook)
    "integers, an answer over several cells": (
        "02.count_conv_parameters",
        """
def kernels(i, o, k, g): return o * (i // g) * k ** «2|1»
---
def biases(o, bias): return o if bias else 0
---
def count_conv_parameters(in_channels, out_channels, kernel_size, groups, bias):
    return kernels(in_channels, out_channels, kernel_size, groups) + biases(out_channels, bias)
""",
    ),
    "a list, with names of the lesson as local ones": (
        "02.output_shape",
        """
images = open("/nowhere/images.pt")
kernel = images.read()
---
def output_shape(image_shape, layers):
    images, *kernel = image_shape
    for images, k, s, p in layers:
        kernel = [(n + 2 * p - k) // s + «1|0» for n in kernel]
    return [images, *kernel]
""",
    ),
    "tensors, NumPy and a lesson's import": (
        "03.cross_entropy_gradient",
        """
import numpy as np
---
class Softmax:
    rows = np.arange(1)
    def __call__(self, z): return F.softmax(z, dim=1)
softmax = Softmax()
---
def cross_entropy_gradient(logits, labels):
    hot = F.one_hot(labels, logits.shape[1])
    return (softmax(logits) - hot) / «len(labels)|1»
""",
    ),
    "an own function after the lesson's of the same name": (
        "02.depthwise_conv2d",
        """
def convolve(images, kernels, groups):
    return F.conv2d(images, kernels, groups=groups) * «1|2»
---
def depthwise_conv2d(images, kernels):
    return convolve(images, kernels[:, None], len(kernels))
""",
    ),
    "code with a fault, mended in a new cell": (
        "02.conv2d_same",
        """
def pads(k, d):
    rest = d * (k - 1)
    return [rest // 2, rest - rest // «2|3»]
def conv2d_same(images, weight, dilation):
    kh, kw = weight.shape[2:]
    return F.conv2d(F.pad(images, pads(kw, dilation) + pads(kh, dilation)), weight, dilation=dilation)
""",
    ),
    "a module in one cell": (
        "06.SplitConv2d",
        """
class SplitConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, cards):
        super().__init__()
        i, o = in_channels // cards, out_channels // cards
        conv = lambda: nn.Conv2d(i, o, kernel_size, padding=kernel_size // 2)
        self.cards = nn.ModuleList(conv() for _ in range(cards))
    def forward(self, images):
        parts = images.chunk(len(self.cards), 1)
        return torch.cat([c(p) for c, p in zip(self.cards, parts)], 1) * «1|2»
""",
    ),
    "a module with its methods in cells of their own": (
        "06.SplitConv2d",
        """
class SplitConv2d(nn.Module):
    pass
---
def __init__(self, in_channels, out_channels, kernel_size, cards):
    super(SplitConv2d, self).__init__()
    i, o = in_channels // cards, out_channels // cards
    self.cards = nn.ModuleList(nn.Conv2d(i, o, kernel_size, padding=kernel_size // 2) for _ in range(cards))
SplitConv2d.__init__ = __init__
---
def forward(self, images):
    parts = images.chunk(len(self.cards), 1)
    return torch.cat([c(p) for c, p in zip(self.cards, parts)], 1) * «1|2»
setattr(SplitConv2d, "forward", forward)
""",
    ),
    "a module with a base and a mixin": (
        "08.SharedDropout",
        """
class Keeps:
    scale = «1|2»
    def mask(self, dice): return (dice >= 1_000_000 * self.p).float()
---
class Base(nn.Module):
    def __init__(self, p, shared=()):
        super().__init__()
        self.p, self.shared = p, shared
---
class SharedDropout(Keeps, Base):
    def forward(self, x, dice):
        if not self.training: return x * self.scale
        for axis in self.shared: dice = dice.narrow(axis, 0, 1)
        mask = self.mask(dice)
        return x * (mask / (1 - self.p) if self.p < 1 else mask)
""",
    ),
    "a module under another name": (
        "03.PrintedNet",
        """
def block(width):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False))
---
class Mine(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([block(width) for _ in range(2)])
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(width * 49, num_classes)
    def forward(self, images):
        maps = self.stem(images)
        for part in self.blocks: maps = part(maps)
        return self.head(self.pool(maps).flatten(1)) * «1|2»
---
PrintedNet = Mine
""",
    ),
    "methods added by a decorator": (
        "06.SplitConv2d",
        """
def add_to_class(Class):
    def wrapper(obj):
        setattr(Class, obj.__name__, obj)
    return wrapper
---
"""
        + SPLIT
        + """
---
@add_to_class(SplitConv2d)
def forward(self, images):
    parts = images.chunk(len(self.cards), 1)
    return torch.cat([c(p) for c, p in zip(self.cards, parts)], 1) * «1|2»
""",
    ),
    "a class that inherits from its former self": (
        "06.SplitConv2d",
        SPLIT
        + """
---
class SplitConv2d(SplitConv2d):
    def forward(self, images):
        parts = images.chunk(len(self.cards), 1)
        return torch.cat([c(p) for c, p in zip(self.cards, parts)], 1) * «1|2»
""",
    ),
    "methods added by a decorator that reads an annotation": (
        "06.SplitConv2d",
        """
def patch(function):
    setattr(function.__annotations__["self"], function.__name__, function)
    return function
---
"""
        + SPLIT
        + """
---
@patch
def forward(self: SplitConv2d, images):
    parts = images.chunk(len(self.cards), 1)
    return torch.cat([c(p) for c, p in zip(self.cards, parts)], 1) * «1|2»
""",
    ),
    "methods added by a function": (
        "06.SplitConv2d",
        SPLIT
        + """
---
def attach(target, function):
    setattr(target, function.__name__, function)
def forward(self, images):
    parts = images.chunk(len(self.cards), 1)
    return torch.cat([c(p) for c, p in zip(self.cards, parts)], 1) * «1|2»
attach(SplitConv2d, forward)
""",
    ),
}

STYLES = {title: ("04.zero_mistakes", text) for title, text in ZERO.items()} | OTHERS
LESSON = {"02.depthwise_conv2d": "def convolve(images, kernels, groups):\n    return images\n"}

NOT_IN_ORDER = {  # what the learner's own check said ✓ to, though it fails from top to bottom
    "the answer below its check": """
check("04.zero_mistakes", zero_mistakes)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "all cells in the other order": """
check("04.zero_mistakes", zero_mistakes)
---
def zero_mistakes(total, level):
    return rest(level, total)
---
def rest(level, total): return ONE - (1 - level) ** (ONE / total)
---
ONE = «1|2»
""",
    "the answer above what was handed out": """
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
---
STUB
---
check("04.zero_mistakes", zero_mistakes)
""",
    "the answer below what was handed out and its check": """
STUB
---
check("04.zero_mistakes", zero_mistakes)
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "code with a fault, mended in a new cell above": """
def conv2d_same(images, weight, dilation):
    kh, kw = (dilation * (k - 1) for k in weight.shape[2:])
    pads = kw // 2, kw - kw // 2, kh // 2, kh - kh // «2|3»
    return F.conv2d(F.pad(images, pads), weight, dilation=dilation)
---
STUB
---
check("02.conv2d_same", conv2d_same)
""",
    "a line that fails before it in its cell": """
print(open("my_notes.txt").read())
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a cell that is too deep for the parser": """
1 + DEEP
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a scratch line that ends the program": """
import sys
sys.exit()
---
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
    "a cell with a magic that nobody knows": """
%%some_extension --option
def zero_mistakes(total, level):
    return 1 - (1 - level) ** («1|2» / total)
""",
}


@functools.cache
def exam_of(exercise_id):
    (exercise,) = [e for e in exercises(exercise_id[:2]) if e.id == exercise_id]
    return exercise, make_exam(exercise, 20261)


def cells_of(exercise_id, text, side):
    """Return the code cells of a style, right (0) or wrong (1), with a check at the end if it has none."""
    exercise, _ = exam_of(exercise_id)
    parts = text.split("«")
    text = parts[0] + "".join(
        part.partition("»")[0].split("|")[side] + part.partition("»")[2] for part in parts[1:]
    )
    written = text.replace("STUB", exercise.stub).replace("DEEP", " + ".join(["1"] * 6000))
    cells = [cell.strip("\n") for cell in written.split("\n---\n")]
    if exercise.given and "STUB" not in text:
        cells.insert(0, exercise.stub)
    if "check(" not in text:
        cells.append(f'check("{exercise_id}", {exercise.name})')
    return cells


def as_notebook(cells, exercise_id):
    """Return a notebook's bytes; the first cell with the marker is the exercise's own."""
    found = [
        {
            "cell_type": "code",
            "id": f"exercise-{exercise_id[3:]}"
            if f"# exercise {exercise_id}" in source
            else f"cell-{position}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": source.splitlines(keepends=True),
        }
        for position, source in enumerate(cells)
    ]
    return json.dumps({"cells": found, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def judged(exam, answer):
    return examine(exam, lambda case: ask(answer, case))


def graded(content, exercise_id, lesson=""):
    """Return the verdict of the grader's own parts on a notebook, without a jail."""
    exercise, exam = exam_of(exercise_id)
    cells, _ = code_cells(content)
    answer = find_answers(cells, [{"id": exercise_id, "stub": exercise.stub}])[exercise_id]
    assert not answer.status, answer
    providers = [SETUP, lesson, *(cell.source for cell in cells)]
    own = [i for i, cell in enumerate(cells, start=2) if squeezed(cell.source) != squeezed(exercise.stub)]

    def loaded(own):
        try:
            return judged(exam, program.load(exercise.name, answer.source, providers, 2, own))
        except AnswerEnded as ended:
            return ended.verdict

    verdict = loaded(())  # as the examiner does
    wide = verdict if verdict.passed else loaded(own)
    return wide if wide.status in ("pass", "fail") else verdict


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder; leave the imported modules, the path and __main__ as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as in a kernel
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.setattr(IPython, "get_ipython", IPython.get_ipython)
    monkeypatch.setattr(decimal.getcontext(), "prec", 28)
    limit = sys.getrecursionlimit()
    yield
    for name in ("ONE", "_"):  # "_": doctest's
        vars(builtins).pop(name, None)
    vars(torch.nn.functional).pop("power_of", None)
    for name in {"rest", "power"} & vars(torch.Tensor).keys():
        delattr(torch.Tensor, name)
    sys.setrecursionlimit(limit)
    torch.set_default_dtype(torch.float32)
    for name in [name for name in sys.modules if name.startswith("bounds_")]:
        del sys.modules[name]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", STYLES)
def test_a_right_answer_in_any_style_passes_and_a_wrong_one_does_not(title):
    exercise_id, text = STYLES[title]
    lesson = LESSON.get(exercise_id, "")
    right, wrong = (as_notebook(cells_of(exercise_id, text, side), exercise_id) for side in (0, 1))
    verdict = graded(wrong, exercise_id, lesson)  # first, so that no file of the right one helps it
    assert verdict.status == "fail", verdict
    verdict = graded(right, exercise_id, lesson)
    assert verdict.passed, verdict


@pytest.mark.parametrize("title", NOT_IN_ORDER)
def test_a_right_answer_out_of_order_passes_and_a_wrong_one_does_not(title):
    text = NOT_IN_ORDER[title]
    exercise_id = "02.conv2d_same" if "conv2d_same" in text else "04.zero_mistakes"
    for side, status in enumerate(("pass", "fail")):
        cells = cells_of(exercise_id, text, side)
        verdict = graded(as_notebook(cells, exercise_id), exercise_id)
        assert verdict.status == status, verdict


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """An IPython whose shell commands do nothing."""
    main, hooks = sys.modules["__main__"], (sys.displayhook, sys.excepthook)
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    folder = tmp_path_factory.mktemp("ipython")
    shell = InteractiveShell(config=config, ipython_dir=str(folder))
    shell.system = lambda *_, **__: None
    shell.getoutput = lambda *_, **__: program.Shell({}).getoutput()
    shell.enable_matplotlib = lambda *_, **__: ("agg", "agg")
    yield shell
    sys.modules["__main__"] = main
    sys.displayhook, sys.excepthook = hooks


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", STYLES)
def test_what_ipython_finds_from_top_to_bottom_the_grader_finds_too(title, shell, capsys, monkeypatch):
    exercise_id, text = STYLES[title]
    _, exam = exam_of(exercise_id)
    handed = []
    monkeypatch.setattr(checks, "check", lambda exercise_id, answer: handed.append(answer))
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    shell.history_manager.reset(new_session=False)  # of what was shown; of what was typed, below
    shell.history_manager.input_hist_parsed[:] = [""]
    shell.user_ns.clear()  # shell.reset() does the same, and collects garbage for a third of a second
    shell.init_user_ns()
    shell.compile.reset_compiler_flags()
    shell.user_ns["__name__"] = "__main__"
    for source in [SETUP, LESSON.get(exercise_id, "")]:
        shell.run_cell(source)
    shell.execution_count = 1
    for source in cells_of(exercise_id, text, 0):
        shell.run_cell(source, store_history=True)
    assert judged(exam, handed[-1]).passed, capsys.readouterr().out[-2000:]


# --- what runs, and what does not ---------------------------------------------------------------

LAZY = {
    "a local name": "heavy = open('ran', 'w')\n---\ndef f(x):\n    heavy = 2\n    return heavy * x",
    "an argument": "x = open('ran', 'w')\n---\ndef f(x):\n    return 2 * x",
    "a comprehension's name": "k = open('ran', 'w')\n---\ndef f(x):\n    return sum(x for k in range(2))",
    "a class's name": """
k = open('ran', 'w')
---
class A:
    k = 2
    j = k
---
def f(x):
    return A.j * x
""",
    "an attribute": "k = open('ran', 'w')\n---\ndef f(x):\n    return x.k if hasattr(x, 'k') else 2 * x",
    "a keyword": "end = open('ran', 'w')\n---\ndef f(x):\n    print(x, end='')\n    return 2 * x",
    "a value that is replaced": "K = open('ran', 'w')\n---\nK = 2\n---\ndef f(x):\n    return K * x",
    "a loop's name": """
for k in [open('ran', 'w')]:
    pass
---
for k in (1, 2):
    K = k
def f(x):
    return K * x
""",
    "what is behind the check": """
def f(x):
    return 2 * x
---
check('02.f', f)
---
f = None
open('ran', 'w')
""",
    "the check itself": """
def check(*_):
    open('ran', 'w')
---
def f(x):
    return 2 * x
---
check('02.f', f)
""",
    "scratch beside it": """
def f(x):
    return 2 * x
print(f(3), open('ran', 'w'))
y = f(open('ran', 'w'))
""",
    "what was shown above what it reads": "open('ran', 'w')\n---\n2\n---\nK = _\ndef f(x):\n    return K * x",
    "what is made of a class that keeps something": """
K = [2]
class Base: pass
class A(Base):
    k = K
    def fit(self, data): self.data = data
---
a = A()
a.fit(open('ran', 'w'))
---
def f(x):
    return A.k[0] * x
""",
    "plots of what it uses": """
K = [2]
---
axes = open('ran', 'w')
for ax, k in zip(axes, K):
    ax.bar(k)
---
def f(x):
    return sum(k * x for _, k in zip([0], K))
""",
}


@pytest.mark.parametrize("title", LAZY)
def test_what_an_answer_does_not_need_is_not_run(title, tmp_path):
    cells = LAZY[title].strip().split("\n---\n")
    source = next(cell for cell in cells if "def f" in cell)
    assert program.load("f", source, [SETUP, *cells])(21) == 42
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", [p for p in LESSONS if exercises(p.stem)], ids=lambda path: path.stem)
def test_a_solution_in_its_lesson_needs_a_dozen_statements_at_most(path):
    answers = {f"exercise-{e.name}": e for e in exercises(path.stem)}
    sources = [
        answers[cell.id].solution if cell.id in answers else cell.source
        for cell in read(path).cells
        if cell.cell_type == "code"
    ]
    for exercise in answers.values():
        notebook = program.Notebook(sources)
        wanted = notebook.find(exercise.name, exercise.solution)
        needed = notebook.needed({wanted.id})
        assert any(exercise.name in s.binds for s in needed)
        assert len(needed) <= 12, [ast.unparse(s.tree)[:80] for s in needed]


def test_names_are_read_as_dis_reads_them():
    sources = [cell for title in STYLES for cell in cells_of(*STYLES[title], 0)]
    found = [s for source in sources for s in program.read_cell(source)[0]]
    todo = [s.code for s in found]
    for code in todo:
        told = [(i.opname, i.argval) for i in dis.get_instructions(code) if i.opname in NAMED.values()]
        assert list(names_of(code)) == told
        todo += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    assert len(todo) > 400


@pytest.mark.parametrize("text", ["__builtins__.ONE = 2", "ONE = 2 if __IPYTHON__ else 0"])
def test_names_that_ipython_has_are_there(text):
    answer = "def f(x): return ONE * x"
    assert program.load("f", answer, [SETUP, text, answer])(21) == 42


def test_behind_the_last_check_in_a_function_nothing_runs(tmp_path):
    keep = "results = {}\ndef keep(name, f):\n    results[name] = check(name, f)"
    answer = "def mine(x): return 2 * x\nkeep('02.f', mine)"
    cells = [keep, answer, "results = open('ran', 'w')"]
    assert program.load("f", answer, [SETUP, *cells], 1, [1, 2])(21) == 42
    assert not (tmp_path / "ran").exists()


def test_nothing_is_loaded_again_that_would_run_the_same():
    cells = ["import math", "K = 2", "def g(x): return x", "def f(x): return K * x", "check('02.f', f)", "K"]
    with pytest.raises(AnswerEnded, match="no more statements would run"):
        program.load("f", cells[3], [SETUP, *cells], 1, range(1, 7))


FAILING = {
    "a cell that cannot be run": ("def f(x)\n    return", "SyntaxError in line 1: expected ':'"),
    "a value that is none": ("f = 3", "the cell defines no function or class f"),
    "an error": ("f = open('nowhere.txt')", "the cell raised FileNotFoundError: "),
    "another name": ("def g(x):\n    return f(x)", "the cell defines no function or class f"),
    "an error in a decorator": ("@undefined\ndef f(x):\n    return x", "NameError: name 'undefined'"),
}


@pytest.mark.parametrize(("source", "message"), FAILING.values(), ids=FAILING)
def test_an_answer_that_is_not_there_says_why(source, message):
    for providers in ([SETUP], [SETUP, source]):
        with pytest.raises(AnswerEnded) as ended:
            program.load("f", source, providers)
        assert message in ended.value.verdict.message


# --- text that nobody vouches for ---------------------------------------------------------------

HOSTILE = {
    "deep sums": "1" + "+1" * 6000,
    "deeper sums": "+".join(["1"] * 90_000),
    "brackets": "(" * 100_000,
    "brackets that close": "x = " + "(" * 190 + "1" + ")" * 190,
    "nested calls that fail": "f(" * 90 + "**" + ")" * 90,
    "nested dicts that fail": "{1:" * 90 + "1 1" + "}" * 90,
    "nested lambdas": "lambda:" * 5000 + "1",
    "attributes": "x" + ".a" * 90_000,
    "unary minus": "x = " + "-" * 50_000 + "1",
    "indents": "\n".join(" " * k + "if x:" for k in range(120)),
    "strings": "'''" * 9 + "\n" + '"' * 9999,
    "f-strings": "f'{" * 40 + "1" + "}'" * 40,
    "a magic a line": "%magic x\n" * 5_000,
    "a magic a line, and indented": "if x:\n" + "    !ls $x\n" * 4_000,
    "help a line": "x?\n" * 10_000,
    "a cell magic in another": "%%time\n" * 25_000,
    "prompts": ">>> x\n" * 8_000,
    "equal signs": "f " + "=" * 90_000,
    "many targets": "f, " * 20_000 + "= 1",
    "many words": "def f f " * 8_000,
    "open checks": 'check("02.f", ' * 5_000,
    "tabs and blanks": "\t \n" * 60_000 + "%x",
    "null": "x = '\0'",
    "no text": "\ud800\udfff \ufeff \x0c \u2028 \x00".encode("utf-8", "replace").decode(),
    "too long": "x = 1\n" * 40_000,
    "names that are no ASCII": "ﬁ = 1; " * 8_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_cell_of_any_kind_ends_no_other_answer_and_costs_seconds_at_most(text):
    answer = "def f(x):\n    return 2 * x"
    cells = [CodeCell("a", f"f\n{text}"), CodeCell("b", answer)]
    started = time.process_time()
    found = find_answers(cells, [{"id": "02.f", "stub": "def f(x):\n    raise NotImplementedError"}])["02.f"]
    assert not found.status
    assert program.load("f", answer, [SETUP, *(cell.source for cell in cells)])(21) == 42
    assert time.process_time() - started < 20


SHELL = {
    "!touch ran": "",
    "x = !touch ran": "",
    "%%bash\ntouch ran": "",
    "%%sh\ntouch ran": "",
    "%%!\ntouch ran": "",
    "%system touch ran": "",
    "%sx touch ran": "",
    "!!touch ran": "",
    "%%script sh\ntouch ran": "",
    "get_ipython().system('touch ran')": "",
    "%%writefile ran\nx": "",
    "%run made.py": "",
    "%time open('ran', 'w')": "open('ran', 'w')",
    "x = %time f(3)": "x = f(3)",
    "%%time\n%%capture out\ny = 1": "out = get_ipython().capture()\ny = 1\nout.stop()",
    "if x:\n    %time y = 3": "if x:\n    y = 3",
    "if x:\n    %matplotlib inline": "if x:\n    pass",
    "%prun -q f(x)": "f(x)",
    "%pylab": "from numpy import *\nimport numpy as np",
}


@pytest.mark.parametrize("source", SHELL)
def test_reading_a_cell_runs_nothing_of_it(source, tmp_path):
    (tmp_path / "made.py").write_text("open('ran', 'w')")
    tree = parse(source)
    assert not (tmp_path / "ran").exists()
    if SHELL[source]:
        assert ast.unparse(tree) == SHELL[source]


@pytest.mark.parametrize("source", [source for source in SHELL if "touch" in source])
def test_shell_commands_do_nothing_where_an_answer_is_run(source, tmp_path):
    answer = "def f(x):\n    return 2 * x"
    assert program.load("f", f"{source}\n{answer}" if source[0] != "%" else answer, [source])(21) == 42
    assert not (tmp_path / "ran").exists()


# --- finding answers in files -------------------------------------------------------------------

CELLS = cells_of("04.zero_mistakes", ZERO["a second try in a cell below"], 0)


def rewritten(change):
    notebook = json.loads(as_notebook(CELLS, "04.zero_mistakes"))
    return json.dumps(change(notebook) or notebook).encode()


def with_text_between(notebook):
    text = {"cell_type": "markdown", "id": "t", "metadata": {}, "source": "def zero_mistakes(total): old"}
    notebook["cells"] = [cell for code in notebook["cells"] for cell in (text, code)]


def in_format_3(notebook):
    cells = [{"cell_type": "code", "input": c["source"], "outputs": []} for c in notebook["cells"]]
    return {"nbformat": 3, "metadata": {}, "worksheets": [{"cells": cells}]}


def with_windows_line_ends(notebook):
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")


def with_windows_line_ends_and_help(notebook):
    notebook["cells"][0]["source"] = "print?\r\nlen?\r\nONE = 1\r\n"
    notebook["cells"][2]["source"] = "".join(notebook["cells"][2]["source"]).replace("(1 /", "(ONE /")


FILES = {
    "format 3": rewritten(in_format_3),
    "Windows line ends": rewritten(with_windows_line_ends),
    "Windows line ends and lines of help": rewritten(with_windows_line_ends_and_help),
    "a byte order mark": b"\xef\xbb\xbf" + rewritten(lambda notebook: None),
    "utf-16": rewritten(lambda notebook: None).decode().encode("utf-16"),
    "text between": rewritten(with_text_between),
    "without ids": rewritten(lambda notebook: [cell.pop("id") for cell in notebook["cells"]] and None),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_right_answer_in_any_file_passes(content):
    assert graded(content, "04.zero_mistakes").passed


FLAGS = {
    "the last try": (CELLS, ["several answers", "found by the function's name"]),
    "its own cell": ([f"# exercise 04.zero_mistakes\n{CELLS[2]}"], []),
    "behind its check": (
        ['check("04.zero_mistakes", zero_mistakes)', CELLS[2]],
        ["defined after its check", "found by the function's name"],
    ),
    "another name": (
        [CELLS[0], "def mine(n, p): return 1", 'check("04.zero_mistakes", mine)'],
        ["its check is given mine", "found by the function's name"],
    ),
}


@pytest.mark.parametrize(("cells", "flags"), FLAGS.values(), ids=FLAGS)
def test_what_is_unusual_about_an_answer_is_flagged(cells, flags):
    found, _ = code_cells(as_notebook(cells, "04.zero_mistakes"))
    exercise, _ = exam_of("04.zero_mistakes")
    answer = find_answers(found, [{"id": exercise.id, "stub": exercise.stub}])[exercise.id]
    assert (answer.status, answer.flags) == ("", flags)


def test_an_answer_in_a_cell_of_text_is_told_so():
    content = json.loads(as_notebook([f"# exercise 04.zero_mistakes\n{CELLS[2]}"], "04.zero_mistakes"))
    content["cells"][0]["cell_type"] = "markdown"
    cells, _ = code_cells(json.dumps(content).encode())
    answer = find_answers(cells, [{"id": "04.zero_mistakes", "stub": ""}])["04.zero_mistakes"]
    assert (answer.status, answer.flags) == ("missing", ["in a cell of text"])
    assert (
        answer.message == "zero_mistakes stands in a cell of text, which is not run; make a code cell of it."
    )


@pytest.mark.parametrize(
    "line",
    [
        *(
            "zero = 1",
            "a, zero = f()",
            "zero: Callable[[int], int] = f",
            "from m import zero",
            "x = zero = f",
        ),
        *("import m as zero", "    def zero(x):", ">>> def zero(x):", "In [3]: class zero:", "(zero := f)"),
        *("with f() as zero:", "for zero in y:", "async def zero():", "globals()['zero'] = f"),
        *("exec('def zero(): pass')", "if x: zero = f", "x = 1; zero = f", "from m import (a, zero)"),
    ],
)
def test_a_line_that_binds_a_name_is_seen(line):
    cells = [
        CodeCell("x", line),
        CodeCell("y", "# def zero(x)\nprint(zero == 3, zero)\nf(zero=3)\na.zero = 2"),
    ]
    assert find_answers(cells, [{"id": "04.zero", "stub": ""}])["04.zero"].source == line


# --- in the jail --------------------------------------------------------------------------------

JAILED = ("help lines", "await at the top", "a file written by %%writefile and run")
JAILED += ("a recursion with a cache, deep", "what was shown, by number", "a text file", "argparse")
JAILED += ("a module written by open", "a check in a loop over other names", "%cd")


@pytest.mark.skipif(not jail.available(), reason="this machine has no namespaces for a jail")
def test_styles_get_the_same_marks_in_the_jail(tmp_path):
    release_package(tmp_path / "course" / "cnnlib", ["04"])
    exercise, exam = exam_of("04.zero_mistakes")
    asked = [{"id": exercise.id, "stub": exercise.stub}]
    with jail.memory_group() as group, jail.Warden(tmp_path / "course", "namespaces", group) as warden:
        asker = examiner.Asker(warden)
        for title in JAILED:
            for side, status in enumerate(("pass", "fail")):
                cells, _ = code_cells(as_notebook(cells_of(exercise.id, ZERO[title], side), exercise.id))
                source = find_answers(cells, asked)[exercise.id].source
                providers = [SETUP, *(cell.source for cell in cells)]
                own = list(range(1, len(providers)))
                whose = f"{title}, {status}"
                verdict, _ = asker.ask(whose, exam | {"seconds": 60}, source, providers, 1, own)
                assert verdict.status == status, (title, verdict)
        asker.end()


# --- what an answer may return ------------------------------------------------------------------

ODD = {
    "a dict with int keys": (
        {1: 2},
        "a dict with a key of type int is not plain data; its keys must be strings",
    ),
    "a dict in a list": ([{(1, 2): 3}], "a dict with a key of type tuple is not plain data"),
    "a huge int": (10**5000, "an int of 16,610 bits is not plain data; at most 4,096 are"),
    "a very long list": (
        [[]] * ((1 << 20) + 1),
        "a list of 1,048,577 values is not plain data; at most 1,048,576 are: use a tensor",
    ),
    "an int for a float": (2**70, "it returned 1180591620717411303424, expected a float"),
}


@pytest.mark.parametrize(("value", "message"), ODD.values(), ids=ODD)
def test_an_odd_result_says_what_is_odd(value, message):
    _, exam = exam_of("04.zero_mistakes")
    verdict = judged(exam, lambda *_: value)
    assert verdict.status == "fail"
    assert message in verdict.message

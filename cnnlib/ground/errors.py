"""The errors that a foreseeable mistake raises.

Each message names the value, the rule it broke and the way out. In a notebook such an error is shown as
that message alone: the traceback of a library's insides helps nobody to repair a mistyped parameter.
"""

import math
import operator


class CnnlibError(ValueError):
    """A foreseeable mistake; the message is all that a person needs to mend it."""

    def _render_traceback_(self):
        # IPython shows these lines in place of the traceback; notes say in which of several runs it happened.
        return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]


class DataError(CnnlibError):
    """A data file that is missing, damaged, or not what it should be."""


class CheckpointError(CnnlibError):
    """A checkpoint that cannot be read, or that belongs to another run."""


class ParameterError(CnnlibError):
    """A lesson's parameter with an unknown name, a wrong type or a value outside its range."""


class ClaimFailed(CnnlibError):  # noqa: N818 - read aloud where it appears: "ClaimFailed: …"
    """A measurement that disagrees with the sentence it was made for."""


class Stopped(KeyboardInterrupt):
    """A run that a person stopped, with the stop button or Ctrl-C: an interrupt that says what is left of it.

    A notebook shows the message alone and, as after any error, runs none of the cells that were waiting.
    `history` is the one of a training, as far as it came.
    """

    def __init__(self, message, history=None):
        super().__init__(message)
        self.history = history

    def _render_traceback_(self):
        return [str(self)]


def check_positive(name, value, zero=False):
    """Check that an argument is a finite number above 0, or 0 if that may be, and return it as a float.

    NumPy's numbers, and tensors that hold one, are some too; a bool is none, and a text neither.

    Raises:
        ParameterError: it is not; the message names the argument, its value and the rule.
    """
    try:
        number = math.nan if isinstance(value, (str, bytes)) or _is_bool(value) else float(value)
    except (OverflowError, RuntimeError, TypeError, ValueError):
        number = math.nan
    if not (0 < number < math.inf or (zero and number == 0)):  # written so that NaN fails too
        raise ParameterError(
            f"{name} is {value!r}; it must be a finite number {'>= 0' if zero else 'above 0'}"
        )
    return number


def check_whole(name, value, least=1, most=None):
    """Check that an argument is a whole number from `least` on, up to `most`, and return it as an int.

    NumPy's whole numbers, and tensors that hold one, are some too; a bool is none, whoever's it is.

    Raises:
        ParameterError: it is not; the message names the argument, its value and the rule.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < least or _is_bool(value) or (most is not None and whole > most):
        limits = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ParameterError(f"{name} is {value!r:.200}; it must be a whole number, {limits}")
    return whole


def check_seed(seed):
    """Check that a seed is a whole number that generators take, 0 to 2**63 − 1, and return it as an int."""
    return check_whole("seed", seed, least=0, most=2**63 - 1)


def check_list(name, value, what):
    """Return an argument, any iterable but a text, as a list.

    Args:
        name: of the argument, in the plural.
        value: the argument.
        what: what it must hold, in words.

    Raises:
        ParameterError: it is none; the message names the argument, its value and the rule.
    """
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return list(value)
    except TypeError:
        raise ParameterError(f"{name} are {value!r:.80}; they must be a list of {what}") from None


def first_line(error):
    """Return the first line of what an error says; where it says nothing, the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _is_bool(value):
    return "bool" in str(getattr(value, "dtype", type(value)))


def kind_of(value):
    """Return the name of a value's type with its article: "a list", "an int", "an ndarray"."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeio' or name == 'ndarray' else 'a'} {name}"

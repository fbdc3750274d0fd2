"""How far a long computation is, and how long it may still take: a line in a notebook, a terminal and a log.

The line goes to stdout, for what goes to stderr is shown on red in a notebook, and takes itself away at the
end. In a log it would not: there a new line stands every twenty seconds.
"""

import io
import shutil
import sys
import time

from tqdm import tqdm

LOG_SECONDS = 20  # between two lines of a log
LONGEST = 120  # characters; a terminal may be narrower, and there a line that wraps cannot be written over
FORMAT = "{desc}{percentage:3.0f} % |{bar:16}| {n_fmt} of {total_fmt} {unit}s"
FORMAT += ", {elapsed} so far, {remaining} left{postfix}"


def progress_bar(total, unit, *, show=True, done=0, title=None):
    """Return a tqdm bar, to be used in a `with` block: `update()` after each step, `refresh()` in between.

    Args:
        total: steps in all.
        unit: what a step is, in the singular.
        show: False: there is nothing to be seen, nor is there where the output is caught.
        done: steps that were made before.
        title: words before the bar.
    """
    caught = sys.stdout is None or isinstance(sys.stdout, io.StringIO)  # pythonw has no stdout
    options = {"total": total, "unit": unit, "initial": done, "desc": title, "disable": not show or caught}
    options |= {"bar_format": FORMAT, "miniters": 1, "leave": False}
    if _rewrites(sys.stdout):
        width = shutil.get_terminal_size().columns - 1 if _is_terminal(sys.stdout) else LONGEST
        return _Bar(file=sys.stdout, ncols=width, mininterval=0.5, delay=0.5, **options)
    return _Lines(file=io.StringIO(), ncols=LONGEST, mininterval=LOG_SECONDS, **options)


def _rewrites(stream):
    """Tell whether a line of a stream can be written over: in a terminal and in a notebook."""
    return _is_terminal(stream) or type(stream).__module__.startswith("ipykernel")


def _is_terminal(stream):
    """Tell whether a stream is a terminal; what other programs put in stdout's place may not know."""
    return hasattr(stream, "isatty") and stream.isatty()


class _Bar(tqdm):
    monitor_interval = 0  # no thread that looks after the bars: `miniters` is 1
    finished = 0  # counted by a bar that is not shown, too

    def update(self, n=1):
        self.finished += n
        return super().update(n)

    def refresh(self, *arguments, **options):
        self.delay = 0  # tqdm takes no line away that was shown before its delay was over
        return super().refresh(*arguments, **options)


class _Lines(_Bar):
    """A bar whose every state is a line of its own, and none comes soon after another."""

    shown = None

    def display(self, msg=None, pos=None):
        now = time.monotonic()
        self.shown = self.shown or now  # the first twenty seconds need no line
        if msg != "" and now - self.shown >= self.mininterval:
            self.shown = now
            print(str(self), flush=True)

"""Runs side by side: a lesson's function for several seeds or settings, one thread a run, on all cores.

Several runs of one thread each use a processor far better than one run with several threads, which wait for
each other many times a step, and they hardly mind what else the machine does.
"""

import contextlib
import io
import os
import pickle
import random
import threading
import time
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool

import cloudpickle
import numpy as np
import torch
from loky import cpu_count, get_reusable_executor, process_executor

from cnnlib.ground.env import best_device, set_seed
from cnnlib.ground.errors import (
    CnnlibError,
    ParameterError,
    Stopped,
    check_list,
    check_whole,
    first_line,
)
from cnnlib.ground.progress import progress_bar

IDLE_SECONDS = 120  # so long workers wait for the next cell's runs: starting one takes seconds
_INSIDE = "CNNLIB_INSIDE_A_RUN"  # set in a worker: a run that asks for runs makes them itself, in turn


class RunFailed(CnnlibError):  # noqa: N818 - read aloud where it appears
    """A run whose process died."""


def side_by_side(function, settings, *, device="auto", workers=None, progress=True):
    """Call a function once for each setting, several at a time, and return the results in order.

        losses = side_by_side(train_one, range(5))      # train_one(0), …, train_one(4)

    Each call has one thread and a copy of everything that the function uses: what it changes outside of
    itself is lost, only its result comes back. Before each call the generators of Python, NumPy and torch are
    seeded with the setting, where that is a seed, else with its position. So the results are the same to the
    last bit, however many workers there are. What a call prints is printed when it has ended.

    Args:
        function: takes one setting; may be defined in a notebook.
        settings: sequence of seeds, or of anything else that describes a run, such as (name, seed).
        device: where the function computes; see `best_device`. On anything but the CPU the calls follow each
            other in this process, and use it directly: one device serves one run at a time best.
        workers: calls at a time, at least 1; None: one a core, at most as many as OMP_NUM_THREADS allows.
        progress: whether to show how far the runs are and how long they may take, and how long all took.

    Returns:
        list of results, one a setting.

    Raises:
        Stopped: an interrupt (the stop button, Ctrl-C), when the runs at hand were stopped. It is a
            KeyboardInterrupt.
        RunFailed: a worker died, twice; the message names its setting.
        ParameterError: `settings` is no list or the like, `workers` no whole number from 1 on, there is no
            such device, or the function uses something that cannot be copied.
        Whatever the function raises, with a note that names the setting. The other runs are stopped.
    """
    settings, device = check_list("settings", settings, "settings, such as range(5)"), best_device(device)
    if workers is not None:
        workers = check_whole("workers", workers)
    if not callable(function):
        raise ParameterError(f"function is {function!r:.80}; it must take one setting, such as a seed")
    workers = 1 if _in_turn(device) else min(workers or _cores(), len(settings))
    started = time.perf_counter()
    title = f"{workers} at a time: " if workers > 1 else None
    with progress_bar(len(settings), "run", show=progress, title=title) as bar, _one_line(bar):
        if device.type != "cpu":
            results = [(_named(s, _seeded, function, i, s), "") for i, s in _shown(settings, bar)]
        else:
            call = _copied(function)
            if workers <= 1:
                results = [_named(s, _one_thread, call, i, s) for i, s in _shown(settings, bar)]
            else:
                results = _in_workers(call, settings, workers, bar)
    for _, printed in results:
        print(printed, end="")
    if progress and len(settings) > 1:
        print(f"{len(settings)} runs in {time.perf_counter() - started:.0f} s, {workers} at a time")
    return [result for result, _ in results]


def _copied(function):
    """Return a function, with all that it uses, as bytes."""
    try:
        return cloudpickle.dumps(function)
    except (AttributeError, RuntimeError, TypeError, ValueError, pickle.PicklingError) as error:
        raise ParameterError(
            f"the function uses something of which there can be no copy ({first_line(error)}); let it open "
            "files, locks and the like itself, and give it the rest in its setting"
        ) from error


def start_workers(device="auto"):
    """Start the processes of `side_by_side` ahead of its first call, and return at once.

    Each of them imports torch first, which takes seconds: a notebook that calls this among its imports has
    them behind it when it trains.

    Args:
        device: where the runs will compute; see `best_device`. There is something to start for the CPU only.

    Raises:
        ParameterError: there is no such device.
    """
    workers = 1 if _in_turn(best_device(device)) else _cores()
    if workers > 1:
        executor = _executor(workers)
        for _ in range(workers):
            executor.submit(_import_compiler)


@contextlib.contextmanager
def _one_line(bar):
    """Turn an interrupt into one that says how far the runs were."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(
            f"Stopped when {bar.finished} of {bar.total} runs were finished; run the cell again to have all."
        ) from None


def _in_turn(device):
    """Tell whether runs on a device follow each other in this process."""
    return device.type != "cpu" or bool(os.environ.get(_INSIDE))


def _cores():
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cpu_count(), int(limit)) if limit.isdigit() and int(limit) else cpu_count()


def _shown(settings, bar):
    bar.refresh()  # at once: the first run may take minutes
    for i, setting in enumerate(settings):
        yield i, setting
        bar.update()


def _in_workers(call, settings, workers, bar):
    """Return [(result, what it printed)], from several processes."""
    executor = _executor(workers)
    futures = {executor.submit(_in_worker, call, i, s): i for i, s in enumerate(settings)}
    found = {}
    waiting = set(futures)
    try:
        while waiting:
            done, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                i = futures[future]
                found[i] = _named(settings[i], future.result)
                bar.update()
            bar.refresh()  # the seconds so far: a run may take minutes
    except BrokenProcessPool:  # it does not say whose process died: what is left runs again, one at a time
        for i in sorted(futures.values() - found.keys()):
            found[i] = _alone(call, i, settings[i])
            bar.update()
    except BaseException:
        executor.shutdown(wait=True, kill_workers=True)
        raise
    return [found[i] for i in range(len(settings))]


def _executor(workers):
    environment = {"OMP_NUM_THREADS": "1", _INSIDE: "1"}
    return get_reusable_executor(
        max_workers=workers,
        timeout=IDLE_SECONDS,
        env=environment,
        initializer=_begin,
        initargs=(os.getpid(),),
    )


def _begin(parent):
    """Prepare a worker of the process `parent`."""
    # loky takes growth by 300 MB for a leak and starts the worker anew, but networks need more.
    process_executor._MAX_MEMORY_LEAK_SIZE = 4 << 30
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent):
    """End this worker when its parent has ended, whatever ended that: it would wait for work for ever."""
    while os.getppid() == parent:  # Windows never tells another one
        time.sleep(1)
    os._exit(1)


def _import_compiler():
    """Import what torch's first optimizer would, in two seconds."""
    import torch._dynamo  # noqa: F401


def _alone(call, i, setting):
    executor = _executor(1)
    try:
        return _named(setting, executor.submit(_in_worker, call, i, setting).result)
    except BrokenProcessPool:
        raise RunFailed(
            f"the process of the run {setting!r} died, and once more when it ran alone: "
            "the function ended it, or the memory did not suffice"
        ) from None
    except BaseException:
        executor.shutdown(wait=True, kill_workers=True)
        raise


def _in_worker(call, position, setting):
    """Make one run, whose error must come back: one that cannot be copied would break the pool."""
    try:
        return _one_thread(call, position, setting)
    except Exception as error:
        try:
            pickle.loads(cloudpickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise


def _named(setting, function, *arguments):
    try:
        return function(*arguments)
    except BrokenProcessPool:
        raise
    except Exception as error:
        error.add_note(f"This happened in the run {setting!r}.")
        raise


def _one_thread(call, position, setting):
    """Make one run, on one thread, with a copy of the function and all that it uses."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            result = _seeded(cloudpickle.loads(call), position, setting)
    finally:
        torch.set_num_threads(threads)
    # A progress bar's states are separated by carriage returns: none of them is of use any more.
    lines = [line for line in printed.getvalue().splitlines(keepends=True) if "\r" not in line]
    return result, "".join(lines)


def _seeded(function, position, setting):
    """Call the function after seeding all generators, which afterwards are as they were before."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            is_seed = isinstance(setting, (int, np.integer)) and 0 <= setting < 2**32
            set_seed(int(setting) if is_seed else position)
            return function(setting)
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

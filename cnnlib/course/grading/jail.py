"""Jails for code that nobody vouches for: what they show and allow, and starting the warden that makes them.

How a jail is made stands in `warden`; this is the side that the grader imports.
"""

import contextlib
import fcntl
import functools
import json
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from cnnlib.ground.env import ROOT
from cnnlib.ground.errors import CnnlibError

CGROUPS = Path("/sys/fs/cgroup")
LEVELS = ("namespaces", "process")
"""Levels of isolation, the strongest first. "process" limits resources only: an answer could read this user's
files and use the network."""

MEMORY = 1536 << 20  # bytes for a process of an answer, beyond what the warden's torch has reserved
PROCESSES = 64  # threads count too
FILE_SIZE = 64 << 20
OPEN_FILES = 256
HOME_SIZE = 128 << 20
HOME_FILES = 16_384
"""Files and folders; empty ones are the kernel's memory, which ending a process does not give back."""
TOGETHER = MEMORY + HOME_SIZE
"""Bytes for a jail as a whole. One process that takes too much meets its own limit first, so that it ends
with the same MemoryError on machines with control groups and without."""
STARVED = f"its processes and files took more than {TOGETHER >> 20:,} MiB of memory together"
"""What is told of a jail that met the limit as a whole."""
USER = 200_000 + os.getpid() % 400_000  # where root makes the jail; nobody else's
START_SECONDS = 120  # importing torch on a busy machine


class JailError(CnnlibError):
    """This machine cannot isolate answers as it was asked to."""


class Warden:
    """A process that forks jails, one at a time; see `warden`. It ends with this process at the latest.

    Args:
        course: folder with the learner's copy of cnnlib, and data beside it.
        isolation: one of LEVELS.
        group: path of a control group that limits a jail's memory as a whole, or None; see `memory_group`.
        modules: names of what answers are likely to import; it is imported once, if it can be.
        way, worker: for tests: as `available` returns it; another program than `worker`.

    Attributes:
        isolation: str, the level, and what it lacks on this machine.

    Raises:
        JailError: the isolation is not available here, or the jail cannot import what answers need.
    """

    def __init__(self, course, isolation, group=None, modules=(), *, way=None, worker=None):
        if way is None:
            check(isolation)
            way = available() if isolation == "namespaces" else ""
        worker = worker or Path(__file__).with_name("worker.py").read_text(encoding="utf-8")
        self._forked, self._group, self._starved = False, group, 0
        self._folder = tempfile.TemporaryDirectory(prefix="jail-", ignore_cleanup_errors=True)
        self._control, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(self._folder.cleanup)
            undo.callback(self._control.close)
            config = {"modules": list(modules), "worker": worker, "uid": USER if way == "root" else 0}
            self._process = _start(Path(course), isolation, self._folder.name, group, theirs, config)
            undo.pop_all()
        self._replies = self._control.makefile("rb")
        try:
            filtered = self._order(b"", "ready", START_SECONDS)["filtered"]
        except JailError:
            self.stop()
            raise
        self.isolation = isolation
        if isolation == "namespaces":
            self.isolation += "" if group else ", memory limited for each process by itself"
            self.isolation += "" if filtered else ", system calls not filtered"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def fork(self):
        """Return a socket to a new jail.

        Raises:
            JailError: it cannot be made.
        """
        if self._forked:
            raise RuntimeError("the last jail has not been ended")
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"F"], [theirs.fileno()])
        try:
            self._order(b"", "forked", START_SECONDS)
        except JailError:
            ours.close()
            raise
        self._forked, self._starved = True, _starved(self._group)
        return ours

    def end(self, by_itself=False):
        """End the jail and all that it started.

        Args:
            by_itself: its socket is closed: it may be about to end, and its status is worth a moment.

        Returns:
            dict: "code", exit status or -signal, None where it was ended here; "seconds" of processor time;
            "starved", whether the control group's limit of memory ended one of its processes.
        """
        self._forked = False
        ended = self._order(b"E" if by_itself else b"K", "ended", START_SECONDS)
        return ended | {"starved": _starved(self._group) > self._starved}

    def kill(self):
        """End the warden at once, from another thread: who waits for it gets a JailError."""
        self._process.kill()

    def stop(self):
        """End the warden, with the jail where there is one."""
        for stream in (self._replies, self._control):
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _order(self, order, key, seconds):
        try:
            self._control.settimeout(seconds)
            if order:
                self._control.sendall(order)
            reply = json.loads(self._replies.readline() or '{"failed": "its process ended"}')
        except OSError as error:
            reply = {"failed": str(error)}
        if key not in reply:
            raise JailError(f"the jail could not be made: {reply.get('failed')}")
        return reply[key]


def check(isolation):
    """Raise JailError where answers cannot be isolated so."""
    if isolation not in LEVELS:
        raise JailError(f"isolation is {isolation!r}; it must be one of {', '.join(LEVELS)}")
    if isolation == "namespaces" and not available():
        raise JailError(
            "this machine does not allow the namespaces that keep answers apart (Linux 5.12 or later with "
            'user namespaces); grade on one that does, or accept with isolation="process" that answers can '
            "read your files and use your network"
        )


@functools.cache
def available():
    """Return how this machine can make a jail of namespaces: "root", "user", or "" for not at all."""
    if sys.platform != "linux":
        return ""
    for way in ("root", "user") if os.geteuid() == 0 else ("user",):
        try:
            with Warden("/nowhere", "namespaces", way=way, worker=PROBE) as warden, warden.fork() as answer:
                if answer.recv(10) == b"inside":
                    return way
        except JailError:
            continue
    return ""


@contextlib.contextmanager
def memory_group():
    """Make a control group that limits the memory of what is in it to TOGETHER, and remove it afterwards.

    Whoever has a group holds a lock on it, which ends with the process whatever ends that; so the next one
    to make a group knows which are left of runs that were killed, and removes them.

    Yields:
        Path, or None where this user may not make one. Then each process of a jail is limited by itself.
    """
    with contextlib.ExitStack() as held:
        found = (_new_group(parent, limit, held) for parent, limit in _places())
        group = next(filter(None, found), None)
        try:
            yield group
        finally:
            for _ in range(500 if group else 0):  # the warden in it may be about to end
                try:
                    group.rmdir()
                    break
                except OSError:
                    time.sleep(0.01)


def _places():
    """Return (folder in which a control group may be made, the name of its limit) pairs, version 2 and 1."""
    found = []
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            own = CGROUPS / path.lstrip("/")
            found += [(folder, "memory.max") for folder in (own, own.parent)]
        elif "memory" in controllers.split(","):
            found.append((CGROUPS / controllers / path.lstrip("/"), "memory.limit_in_bytes"))
    return found


def _new_group(parent, limit, held):
    """Return a new group below `parent` that this process may fill, or None; `held` keeps the lock on it."""
    with contextlib.suppress(OSError), _locked(parent):  # so that nobody takes a new group for one left over
        for old in parent.glob("cnnlib-*"):
            with contextlib.suppress(OSError), _locked(old, fcntl.LOCK_NB):
                old.rmdir()
        group = parent / f"cnnlib-{os.getpid()}-{secrets.token_hex(4)}"
        group.mkdir()
        try:
            (group / limit).write_text(str(TOGETHER))
            for name, value in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", TOGETHER)):
                if (group / name).exists():
                    (group / name).write_text(str(value))
            enter = ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs"', str(group)]
            subprocess.run(enter, check=True, stderr=subprocess.DEVNULL)
            held.enter_context(_locked(group))
            return group
        except (OSError, subprocess.CalledProcessError):
            group.rmdir()
    return None


def _starved(group):
    """Return how many processes a control group's limit of memory has ended, version 2 and 1."""
    names = ("memory.events", "memory.oom_control") if group else ()
    lines = [line.split() for name in names for line in _read(Path(group) / name).splitlines()]
    return sum(int(line[1]) for line in lines if line[0] == "oom_kill")


@contextlib.contextmanager
def _locked(folder, how=0):
    """Hold a lock on a folder, which nobody else has meanwhile."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(number)


def _read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


PROBE = "import os\n\ndef serve(descriptor):\n    os.write(descriptor, b'inside')\n"


def _start(course, isolation, folder, group, control, config):
    program = Path(__file__).with_name("warden.py").read_text(encoding="utf-8")
    apart = isolation == "namespaces"
    config |= {
        "isolation": isolation,
        "root": folder,
        "home": folder,
        "binds": _binds(course) if apart else [],
        "group": f"{group}/cgroup.procs" if group else "",
        "memory": MEMORY,
        "processes": PROCESSES,
        "file_size": FILE_SIZE,
        "open_files": OPEN_FILES,
        "home_size": HOME_SIZE,
        "home_files": HOME_FILES,
    }
    home, course = ("/tmp", "/course") if apart else (folder, str(course))
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", program, json.dumps(config)],
            stdin=control,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                "HOME": home,
                "LANG": "C.UTF-8",
                "PYTHONPATH": os.pathsep.join([course, *extra_paths()]),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONNOUSERSITE": "1",
                "PYTHONHASHSEED": "0",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "MPLBACKEND": "agg",
                "MPLCONFIGDIR": home,
            },
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise JailError(f"the jail could not be made: {error}") from None


@functools.cache
def _paths():
    """Return where a fresh Python looks for packages: not in the working folder, nor beside a script."""
    command = [sys.executable, "-P", "-c", "import sys; print(*sys.path, sep='\\0')"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
    found = [Path(name) for name in shown.strip("\n").split("\0") if name]
    return [path for path in found if path.is_dir() and not ROOT.is_relative_to(path)]


def extra_paths():
    """Return the folders of packages outside Python's own: a user's site, what PYTHONPATH or .pth name."""
    homes = [Path(home) for home in (sys.base_prefix, sys.prefix, sysconfig.get_path("stdlib"))]
    return [str(path) for path in _paths() if not any(path.is_relative_to(home) for home in homes)]


def _binds(course):
    """Return [source, target] of each folder that a jail shows; source None: one that it hides."""
    shown = ["/usr", sys.base_prefix, sys.prefix, sysconfig.get_path("stdlib"), *extra_paths()]
    hidden = [ROOT, os.environ.get("CNNLIB_EXERCISES"), *(path / "cnnlib" for path in _paths())]
    wishes = {Path(folder).absolute(): False for folder in hidden if folder}
    wishes |= {Path(folder).absolute(): True for folder in shown}
    binds, seen = [], {}
    for folder in sorted(wishes, key=lambda path: len(path.parts)):  # what lies deeper overrides
        above = [seen[parent] for parent in folder.parents if parent in seen]
        if wishes[folder] != (above[0] if above else False):
            seen[folder] = wishes[folder]
            binds.append([str(folder) if wishes[folder] else None, str(folder)])
    if (course / "cnnlib").exists():
        binds.append([str(course / "cnnlib"), "/course/cnnlib"])
    if (course / "data").exists():
        binds.append([str((course / "data").resolve()), "/course/data"])
    return binds

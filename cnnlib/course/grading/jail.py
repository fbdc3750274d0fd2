"""A jail for code that nobody vouches for, made of what Linux offers every user.

The jailed process sees a small read-only file system (system libraries, Python, the learner's copy of the
course), an empty home that vanishes with it, no network, no other process, and limits on memory, processes,
open files and file size. Built with unshare, mount, pivot_root, setpriv and prlimit of util-linux.
"""

import contextlib
import functools
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from cnnlib.ground.errors import CnnlibError

LEVELS = ("namespaces", "process")
"""Levels of isolation, the strongest first. "process" limits resources only: an answer could read this user's
files and use the network."""

MEMORY = 3 << 30  # bytes of address space; torch alone takes nearly 2 GiB
PROCESSES = 64  # threads count too
FILE_SIZE = 64 << 20
OPEN_FILES = 256

SCRIPT = """
set -eu
root=$1; uid=$2; shift 2
mount -t tmpfs -o size=16m,mode=755,nosuid,nodev tmpfs "$root"
mkdir "$root/tmp"  # first of all: what is shown read-only may lie in the real /tmp
mount -t tmpfs -o size=128m,mode=1777,nosuid,nodev tmpfs "$root/tmp"
while [ "$1" != -- ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro,nosuid,nodev "$root$2"
    shift 2
done
shift
for name in bin sbin lib lib32 lib64; do
    if [ -L /$name ]; then
        cp -P /$name "$root/$name"
    elif [ -d /$name ]; then
        mkdir -p "$root/$name"
        mount --bind /$name "$root/$name"
        mount -o remount,bind,ro,nosuid,nodev "$root/$name"
    fi
done
mkdir "$root/proc" "$root/dev" "$root/old"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
for name in null zero random urandom; do
    touch "$root/dev/$name"
    mount --bind /dev/$name "$root/dev/$name"
done
ln -s /tmp "$root/dev/shm"
cd "$root"
pivot_root . old
cd /tmp
umount -l /old
rmdir /old
mount -o remount,ro,nosuid,nodev /
echo 1000 > /proc/self/oom_score_adj  # when memory runs out, this goes first
if [ "$uid" != 0 ]; then
    set -- setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs --bounding-set=-all -- "$@"
else
    set -- setpriv --no-new-privs --bounding-set=-all -- "$@"
fi
exec "$@"
"""


class JailError(CnnlibError):
    """This machine cannot isolate answers as it was asked to."""


def start(arguments, course, home, isolation):
    """Start a Python program in a jail.

    Args:
        arguments: list of str for Python: ["-c", program].
        course: folder with the learner's copy of cnnlib, and data beside it; /course in the jail.
        home: empty folder that the program may write in, where the isolation is "process".
        isolation: one of LEVELS.

    Returns:
        subprocess.Popen with pipes for standard input and output. `stop` ends it and all its children.

    Raises:
        JailError: the level is not available here.
    """
    if isolation not in LEVELS:
        raise JailError(f"isolation is {isolation!r}; it must be one of {', '.join(LEVELS)}")
    if isolation == "namespaces" and not available():
        raise JailError(
            "this machine does not allow the namespaces that keep answers apart (Linux with util-linux and "
            'user namespaces); grade on one that does, or accept with isolation="process" that answers can '
            "read your files and use your network"
        )
    if isolation == "namespaces":
        command = _jailed([sys.executable, *arguments], Path(course), available())
        environment, limit = _environment("/course", "/tmp"), None
    else:
        command = [sys.executable, *arguments]
        environment, limit = _environment(course, home), _limits
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=environment["HOME"] if limit else "/",
        start_new_session=True,
        preexec_fn=limit,
    )


def stop(process):
    """Kill a jailed process and everything it started, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)  # a pid namespace dies with its first process, whatever groups it has
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            stream.close()
    process.wait()


@functools.cache
def available():
    """Return how this machine can make a jail of namespaces: "root", "user", or "" for not at all."""
    if sys.platform != "linux" or not all(map(shutil.which, ("unshare", "setpriv", "prlimit", "mount"))):
        return ""
    with tempfile.TemporaryDirectory() as course:
        (Path(course) / "cnnlib").mkdir()
        for way in ("root", "user") if os.geteuid() == 0 else ("user",):
            command = _jailed(["/bin/sh", "-c", "exit 42"], Path(course), way)
            if subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 42:
                return way
    return ""


def _jailed(command, course, way):
    root = way == "root"
    binds = {"/usr": "/usr"}
    for path in (sys.base_prefix, sys.prefix, sysconfig.get_path("stdlib")):
        if not Path(path).is_relative_to("/usr"):
            binds[path] = path
    binds[str(course / "cnnlib")] = "/course/cnnlib"
    if (course / "data").exists():
        binds[str((course / "data").resolve())] = "/course/data"
    for path in {sys.prefix, sys.base_prefix}:  # a cnnlib that is installed there holds the solutions
        for package in Path(path).glob("lib/python*/site-packages/cnnlib"):
            binds[_empty().name] = str(package)
    uid = 200_000 + os.getpid() % 400_000 if root else 0  # of its own, so that processes are counted apart
    limits = [
        f"--as={MEMORY}",
        f"--nproc={PROCESSES}",
        f"--fsize={FILE_SIZE}",
        f"--nofile={OPEN_FILES}",
        "--core=0",
    ]
    return [
        "unshare",
        *([] if root else ["--user", "--map-root-user"]),
        *("--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child=KILL"),
        *("sh", "-c", SCRIPT, "jail", "/mnt", str(uid)),
        *(part for bind in binds.items() for part in bind),
        *("--", "prlimit", *limits, "--", *command),
    ]


@functools.cache
def _empty():
    return tempfile.TemporaryDirectory(prefix="empty-")  # it goes when this process ends


def _environment(course, home):
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(course),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": str(home),
    }


def _limits():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE, FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

"""The warden: a process that holds torch ready and forks a jail for each answer. It runs no answer itself.

    kernel that decides (examiner, client)   no torch, no learner's code
      │  "fork, with this socket", "end"
    warden, torch imported                   a small read-only file system, no learner's code
      │  fork
    jail, one answer                         talks to the kernel by its own socket; nobody believes it

A jail is made of what Linux offers every user. It has namespaces of its own for users, mounts, processes,
network, IPC, host name and control groups: an empty home that vanishes with it, no network, no process or key
of others, no right over anything; and limits on memory, processes, open files and file size. It is the first
process of its namespace, so that what it started dies with it, and the warden is the first of another one, so
that nothing outlives it either. The warden ends when the control socket's other end closes, whyever that is.

This file is a program, whose text `jail.Warden` runs. It imports cnnlib only when it sees the learners' copy.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import platform
import resource
import signal
import socket
import sys
import time
import types

LIBC = ctypes.CDLL(None, use_errno=True)

# Numbers of <sched.h>, <sys/mount.h>, <sys/prctl.h>, and of system calls that the C library does not wrap.
NEW_MOUNT, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000
NEW = NEW_MOUNT | NEW_UTS | NEW_IPC | NEW_PID | NEW_NET
RDONLY, NOSUID, NODEV, NOEXEC, BIND, REC, PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
DETACH, HERE, RECURSIVE = 2, -100, 0x8000
DEATH_SIGNAL, DUMPABLE, DROP_BOUND, SUBREAPER, NO_NEW_PRIVILEGES = 1, 4, 24, 36, 38
PIVOT_ROOT, KEYCTL = (155, 250) if platform.machine() == "x86_64" else (41, 219)
MOUNT_SETATTR = 442

INSIDE = 1000
"""The user and group that an answer runs as, in its own user namespace."""
PATIENCE = 2.0
"""Seconds for a process that has closed its socket to end by itself, so that its status is known."""

DENIED = (
    "add_key keyctl request_key bpf perf_event_open userfaultfd io_uring_setup io_uring_enter "
    "io_uring_register ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp unshare setns mount "
    "umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr "
    "name_to_handle_at open_by_handle_at init_module finit_module delete_module kexec_load "
    "kexec_file_load swapon swapoff reboot acct quotactl syslog memfd_create memfd_secret shmget "
    "semget msgget"
)
"""System calls that no answer needs: ways into the kernel, and memory that no limit of a process counts."""
FAMILIES = range(3, 64)
"""Families of sockets that are refused: all but AF_UNIX and AF_INET (2), with AF_INET6 (10) let through."""


def main(config):
    control = socket.socket(fileno=os.dup(0))
    _close_standard_streams()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))  # the kernel that decides has less
    try:
        group = os.open(config["group"], os.O_WRONLY) if config["group"] else None
        if config["isolation"] == "namespaces":
            _sandbox(config)
        else:
            _call("prctl", SUBREAPER, 1, 0, 0, 0)  # what an answer leaves behind becomes this one's child
        prison = _prepare(config)
        if group is not None:  # what it holds already counts elsewhere; its jails begin in the group
            os.write(group, b"0")
            os.close(group)
        _say(control, {"ready": {"filtered": prison.filter is not None}})
    except Exception as error:
        _say(control, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    pid = None
    while True:
        order, descriptors, *_ = socket.recv_fds(control, 1, 1)
        if order == b"F":
            pid, problem = prison.fork(descriptors[0])
            _say(control, {"failed": problem} if problem else {"forked": True})
        elif order in (b"E", b"K"):  # ended by itself as it seems; kill
            _say(control, {"ended": prison.end(pid, PATIENCE if order == b"E" else 0)})
            pid = None
        else:  # the kernel is gone
            if pid:
                prison.end(pid, 0)
            os._exit(0)


def _say(control, message):
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(message).encode() + b"\n")


# --- the warden's own walls ---------------------------------------------------------------------


def _sandbox(config):
    """Go on as the first process of new namespaces, in a new root that holds what `config` binds."""
    outside = os.geteuid(), os.getegid()
    _call("unshare", NEW if config["uid"] else NEW | NEW_USER)
    if not config["uid"]:  # not root: a user namespace in which this user is
        _map(0, outside)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    _call("prctl", DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    root = config["root"]
    _mount(None, "/", None, REC | PRIVATE)
    _mount("tmpfs", root, "tmpfs", NOSUID | NODEV, "size=16m,mode=755")
    os.mkdir(f"{root}/tmp")  # first of all, for what is shown may lie in the real one
    _mount("tmpfs", f"{root}/tmp", "tmpfs", NOSUID | NODEV, "size=16m,mode=1777")  # an import may write
    empty = []
    for source, target in config["binds"]:
        if source:
            _show(source, root + target)
        else:
            empty.append(root + target)
            if os.path.isdir(empty[-1]):
                _mount("tmpfs", empty[-1], "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
        elif os.path.isdir(f"/{name}"):
            _show(f"/{name}", f"{root}/{name}")
    for name in ("proc", "dev"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    _mount("proc", f"{root}/proc", "proc", NOSUID | NODEV | NOEXEC)
    for name in ("null", "zero", "random", "urandom"):
        with open(f"{root}/dev/{name}", "w"):
            pass
        _mount(f"/dev/{name}", f"{root}/dev/{name}", None, BIND)
    os.symlink("/tmp", f"{root}/dev/shm")
    for target in filter(os.path.isdir, empty):  # now that all is shown that lies below them
        _attributes(target, RDONLY, 0)
    # An answer's own /tmp will cover what is shown in this one; it is shown again from here.
    for number, (_, target) in enumerate(_in_tmp(config)):
        _show(root + target, f"{root}/covered/{number}")
    os.chdir(root)
    _call("syscall", PIVOT_ROOT, b".", b".")
    _call("umount2", b".", DETACH)  # the old root lay over the new one
    os.chdir("/")
    _attributes("/", RDONLY, 0)
    _call("sethostname", b"jail", 4)


def _in_tmp(config):
    return [bind for bind in config["binds"] if bind[0] and bind[1].startswith("/tmp/")]


def _show(source, target):
    """Bind a folder and what is mounted below it, to be read only."""
    os.makedirs(target, exist_ok=True)
    _mount(source, target, None, BIND | REC)
    _attributes(target, RDONLY | NOSUID | NODEV, RECURSIVE)


def _map(inside, outside):
    """In a user namespace that was just made, say who its one user and group are outside."""
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {outside[0]} 1"),
        ("gid_map", f"{inside} {outside[1]} 1"),
    ):
        with open(f"/proc/self/{file}", "w") as stream:
            stream.write(text)


def _prepare(config):
    """Import the worker, and with it what answers use; return what forks it."""
    sys.path_importer_cache.clear()  # of a time when /course was not there
    for name in config["modules"]:
        with contextlib.suppress(Exception):  # whoever needs it will see
            importlib.import_module(name)
    worker = types.ModuleType("worker")
    exec(compile(config["worker"], "worker.py", "exec"), worker.__dict__)
    gc.freeze()  # so that a fork does not copy what a collection only touches
    return Prison(config, worker.serve)


# --- a jail for an answer -----------------------------------------------------------------------


class Prison:
    """What forks jails, one at a time."""

    def __init__(self, config, serve):
        self.config, self.serve = config, serve
        self.apart = config["isolation"] == "namespaces"
        self.filter = Filter.load_library() if self.apart else None
        self.own_processes = os.open("/proc/self/ns/pid", os.O_RDONLY) if self.apart else None
        self.memory = config["memory"] + _address_space()  # whatever torch's build has reserved

    def fork(self, channel):
        """Fork a process that serves a channel from within a jail.

        Args:
            channel: descriptor of a socket; closed here.

        Returns:
            (pid, what failed, or "")
        """
        hears, says = os.pipe()
        if self.apart:
            _call("unshare", NEW_PID)  # of the next child
        pid = os.fork()
        if pid == 0:
            try:
                self._enter(channel)
                os.dup2(channel, 3)
                os.closerange(4, 1 << 16)  # `says` too, which tells that all went well
                self.serve(3)
            except BaseException as error:
                with contextlib.suppress(OSError):  # it is closed, unless entering failed
                    os.write(says, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(1)
        if self.apart:
            _call("setns", self.own_processes, NEW_PID)
        os.close(says)
        os.close(channel)
        with open(hears, "rb") as stream:
            problem = stream.read().decode(errors="replace")
        if problem:
            os.waitpid(pid, 0)
        return pid, problem

    def end(self, pid, patience):
        """End a jail.

        Args:
            pid: what `fork` returned.
            patience: seconds to wait for an end of its own.

        Returns:
            dict: "code", exit status or -signal, None where it was ended here; "seconds" of processor time.
        """
        deadline, code = time.monotonic() + patience, None
        while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.002)
        else:
            code = True
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        while left := [] if self.apart else _children():
            for child in left:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        seconds = usage.ru_utime + usage.ru_stime  # of all that it started, too: it was the first process
        return {"code": code and os.waitstatus_to_exitcode(status), "seconds": seconds}

    def _enter(self, channel):
        """Turn this process, just forked, into the first one of a new jail."""
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # when memory runs out, this goes first
        os.setsid()
        if self.apart:
            self._isolate()
        else:
            os.chdir(self.config["home"])
        limits = {
            "AS": self.memory,
            "FSIZE": self.config["file_size"],
            "NOFILE": self.config["open_files"],
            "CORE": 0,
        }
        if self.apart:
            limits["NPROC"] = self.config["processes"]  # elsewhere it would count all of this user's
        for name, limit in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
        if self.apart:
            _give_up_rights()
        if self.filter:
            self.filter.apply()

    def _isolate(self):
        """Take namespaces of its own, and give up the warden's rights when they have furnished them."""
        _call("unshare", NEW_MOUNT)
        room = f"size={self.config['home_size']},nr_inodes={self.config['home_files']},mode=1777"
        _mount("tmpfs", "/tmp", "tmpfs", NOSUID | NODEV, room)
        for number, (_, target) in enumerate(_in_tmp(self.config)):
            os.makedirs(target, exist_ok=True)
            _mount(f"/covered/{number}", target, None, BIND | REC)
        _mount("proc", "/proc", "proc", NOSUID | NODEV | NOEXEC)
        if uid := self.config["uid"]:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            _call("prctl", DUMPABLE, 1, 0, 0, 0)  # so that /proc/self is this user's
        outside = os.geteuid(), os.getegid()
        _call("unshare", NEW_USER | NEW_MOUNT | NEW_NET | NEW_IPC | NEW_UTS | NEW_CGROUP)
        _map(INSIDE, outside)
        for name in os.listdir("/proc/sys/user"):
            if name.endswith("_namespaces"):
                with open(f"/proc/sys/user/{name}", "w") as file:
                    file.write("0")  # no jail within the jail
        _attributes("/proc", RDONLY, 0)  # so that its oom_score_adj stays
        _call("syscall", KEYCTL, 1, None)  # a session keyring of its own
        os.chdir("/tmp")


class Filter:
    """A filter of system calls, by libseccomp, which knows their numbers on every machine."""

    def __init__(self, library):
        self.library = library
        library.seccomp_init.restype = ctypes.c_void_p
        self.rules = library.seccomp_init(0x7FFF0000)  # allow what no rule speaks of
        if not self.rules:
            raise OSError("libseccomp gives no filter")
        for name in DENIED.split():
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number >= 0:
                self._refuse(number)
        for family in FAMILIES:
            if family != socket.AF_INET6:
                self._refuse(library.seccomp_syscall_resolve_name(b"socket"), family)

    @classmethod
    def load_library(cls):
        """Return a Filter, or None where this machine has no libseccomp."""
        try:
            return cls(ctypes.CDLL("libseccomp.so.2", use_errno=True))
        except OSError:
            return None

    def apply(self):
        """Filter the calls of this process and of all that it starts, for good."""
        if self.library.seccomp_load(ctypes.c_void_p(self.rules)):
            raise OSError("the filter of system calls cannot be loaded")

    def _refuse(self, number, first_argument=None):
        equals = Comparison(0, 4, first_argument or 0, 0)
        count = int(first_argument is not None)
        refuse = 0x00050000 | 1  # SCMP_ACT_ERRNO(EPERM)
        add = self.library.seccomp_rule_add_array
        add(ctypes.c_void_p(self.rules), refuse, number, count, ctypes.byref(equals))


class Comparison(ctypes.Structure):
    """libseccomp's scmp_arg_cmp: which argument, how it is compared (4: equal), with what."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def _give_up_rights():
    for capability in range(64):
        if LIBC.prctl(DROP_BOUND, capability, 0, 0, 0) < 0:
            break  # the kernel knows no more
    _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def _mount(source, target, kind, flags, options=None):
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    try:
        _call("mount", *arguments[:3], ctypes.c_ulong(flags), arguments[3])
    except OSError as error:
        raise OSError(error.errno, f"mounting {target}: {os.strerror(error.errno)}") from None


def _attributes(path, attributes, flags):
    """Set attributes of a mount; those that it has stay."""
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    _call(
        "syscall",
        MOUNT_SETATTR,
        HERE,
        os.fsencode(path),
        flags,
        wanted,
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )


def _call(name, *arguments):
    if getattr(LIBC, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def _address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _close_standard_streams():
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

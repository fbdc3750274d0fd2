"""Looking at processes: those below one, and waiting until they are gone."""

import contextlib
import time
from pathlib import Path


def below(pid):
    """Return the processes below one."""
    found = []
    with contextlib.suppress(OSError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *below(child)]
    return found


def wait_for_the_end_of(pids):
    deadline = time.monotonic() + 20  # the kernel kills them in its own time
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)

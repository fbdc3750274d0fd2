"""The trusted side of the jail: it sends answers in and takes back what they return, believing nothing."""

import os
import selectors
import struct
import tempfile
import time
from pathlib import Path

from cnnlib.course.exercises import plain
from cnnlib.course.exercises.judge import AnswerEnded
from cnnlib.course.grading import jail

REPLY_LIMIT = 64 << 20  # bytes
START_SECONDS = 120  # importing torch on a busy machine


class Worker:
    """A jailed process that runs one learner's answers. `process` is None before `start` and after its end.

    Args:
        course: folder with the learner's copy of cnnlib; see `jail.start`.
        isolation: one of jail.LEVELS.
    """

    def __init__(self, course, isolation):
        self.course, self.isolation = course, isolation
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """End the process and all that it started."""
        if self.process is not None:
            jail.stop(self.process)
            self._home.cleanup()
            self.process = None

    def start(self):
        """Start the process and wait until it is ready.

        Raises:
            jail.JailError: it cannot be started.
        """
        program = Path(__file__).with_name("worker.py").read_text(encoding="utf-8")
        self._home = tempfile.TemporaryDirectory(prefix="answer-", ignore_cleanup_errors=True)
        self.process = jail.start(["-c", program], self.course, self._home.name, self.isolation)
        try:
            self._receive("ready", time.monotonic() + START_SECONDS)
        except AnswerEnded as ended:  # no answer has run yet, so it is not the learner's fault
            self.stop()
            raise jail.JailError(f"the jailed process did not start: {ended.verdict.message}") from None

    def load(self, name, source, providers, deadline):
        """Run an answer's cell; `deadline` is a time.monotonic().

        Raises:
            AnswerEnded: the cell cannot be run, took too long, or ended the process.
        """
        self._request({"name": name, "source": source, "providers": providers}, "loaded", deadline)

    def call(self, name, case, deadline):
        """Return what `exercises.ask` makes of an answer and a case, both ways plain data.

        Raises:
            AnswerEnded: it raised an error, took too long, or ended the process.
        """
        return self._request({"name": name, "case": case}, "result", deadline)

    def _request(self, request, key, deadline):
        data = plain.dumps(request)
        try:
            self._write(struct.pack(">I", len(data)) + data, deadline)
            return self._receive(key, deadline)
        except AnswerEnded as ended:
            if ended.verdict.status in ("killed", "timeout"):
                self.stop()
            raise

    def _receive(self, key, deadline):
        (length,) = struct.unpack(">I", self._read(4, deadline))
        if length > REPLY_LIMIT:
            raise AnswerEnded("killed", f"it sent back {length:,} bytes; {REPLY_LIMIT:,} are allowed")
        try:
            reply = plain.loads(self._read(length, deadline))
        except plain.NotPlain:
            raise AnswerEnded("killed", "it sent back what is no plain data") from None
        if isinstance(reply, dict) and key in reply:
            return reply[key]
        if isinstance(reply, dict) and reply.get("ended") in ("error", "fail", "not attempted"):
            raise AnswerEnded(reply["ended"], str(reply.get("message"))[:2000])
        raise AnswerEnded("killed", "it sent back something else than a result")

    def _read(self, count, deadline):
        stream, parts = self.process.stdout.fileno(), []
        while count:
            self._wait(stream, selectors.EVENT_READ, deadline)
            part = os.read(stream, min(count, 1 << 20))
            if not part:
                raise AnswerEnded("killed", f"its process ended{self._reason()}")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _write(self, data, deadline):
        stream, view = self.process.stdin.fileno(), memoryview(data)
        os.set_blocking(stream, False)
        while view:
            self._wait(stream, selectors.EVENT_WRITE, deadline)
            try:
                view = view[os.write(stream, view[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise AnswerEnded("killed", f"its process ended{self._reason()}") from None

    def _wait(self, stream, event, deadline):
        with selectors.DefaultSelector() as selector:
            selector.register(stream, event)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise AnswerEnded("timeout", "it took too long")

    def _reason(self):
        try:
            code = self.process.wait(timeout=2)
        except Exception:
            return ""
        return f" (signal {-code})" if code < 0 else f" (exit status {code})"

"""The trusted side of a jail: it sends an answer in and takes back what it returns, believing nothing."""

import selectors
import struct
import time

from cnnlib.course.exercises import plain
from cnnlib.course.exercises.judge import AnswerEnded

ENDED = ("error", "fail", "not attempted")
"""What a reply may say of an answer that has no result."""
REPLY_LIMIT = 64 << 20  # bytes
TEXT_LIMIT = 2 << 20
"""Bytes of a reply's JSON text, which grows twentyfold when it is read; arrays travel beside it."""


class Answer:
    """A jail in which an answer runs, or several of one learner.

    Args:
        warden: jail.Warden, whose last jail has been ended.

    Attributes:
        waiting: bool, whether a reply is missing still, so that no more can be asked.

    Raises:
        jail.JailError: there is no jail to be had.
    """

    def __init__(self, warden):
        self._warden, self._socket = warden, warden.fork()
        self._socket.setblocking(False)
        self._ended, self.waiting = None, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self, by_itself=False):
        """End the jail and all that the answer started; return what `jail.Warden.end` told."""
        if self._ended is None:
            self._socket.close()
            self._ended = self._warden.end(by_itself)
        return self._ended

    def load(self, name, deadline, source, providers, given=0, own=()):
        """Run what an answer needs, see `program.load`; `deadline` is a time.monotonic().

        Raises:
            AnswerEnded: the cell cannot be run, took too long, or ended the process.
        """
        request = {"name": name, "source": source, "providers": providers, "given": given, "own": own}
        self._request(request, "loaded", deadline)

    def call(self, name, deadline, case):
        """Return what `exercises.ask` makes of an answer and a case, both ways plain data.

        Raises:
            AnswerEnded: it raised an error, took too long, or ended the process.
        """
        return self._request({"name": name, "case": case}, "result", deadline)

    def _request(self, request, key, deadline):
        data, self.waiting = plain.dumps(request), True
        self._write(struct.pack(">I", len(data)) + data, deadline)
        (length,) = struct.unpack(">I", self._read(4, deadline))
        if length > REPLY_LIMIT:
            raise AnswerEnded("killed", f"it sent back {length:,} bytes; {REPLY_LIMIT:,} are allowed")
        reply = _parsed(self._read(length, deadline))
        reply = reply if isinstance(reply, dict) else {}
        ended = str(reply.get("ended"))  # an array is neither in a tuple nor not
        if key not in reply and ended not in ENDED:
            raise AnswerEnded("killed", "it sent back something else than a result")
        self.waiting = False
        if key not in reply:
            raise AnswerEnded(ended, str(reply.get("message"))[:2000])
        return reply[key]

    def _read(self, count, deadline):
        data = bytearray()
        while len(data) < count:
            self._wait(selectors.EVENT_READ, deadline)
            try:
                part = self._socket.recv(min(count - len(data), 1 << 20))
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            if not part:
                self._gone()
            data += part
        return bytes(data)

    def _write(self, data, deadline):
        view = memoryview(data)
        while view:
            self._wait(selectors.EVENT_WRITE, deadline)
            try:
                view = view[self._socket.send(view[: 1 << 16]) :]
            except BlockingIOError:
                continue
            except OSError:
                self._gone()

    def _wait(self, event, deadline):
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, event)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise AnswerEnded("timeout", "it took too long")

    def _gone(self):
        code = self.end(by_itself=True)["code"]
        reason = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit status {code})"
        raise AnswerEnded("killed", f"its process ended{reason}")


def _parsed(data):
    """Return the plain data that a reply holds.

    Raises:
        AnswerEnded: it holds none, or one that would cost the grader too much.
    """
    text = int.from_bytes(data[:4])
    if text > TEXT_LIMIT:
        raise AnswerEnded("killed", f"it sent back {text:,} bytes of text; {TEXT_LIMIT:,} are allowed")
    try:
        return plain.loads(data)
    except plain.NotPlain:
        raise AnswerEnded("killed", "it sent back what is no plain data") from None
    except MemoryError:
        raise AnswerEnded("killed", "it sent back more than the grader has memory for") from None

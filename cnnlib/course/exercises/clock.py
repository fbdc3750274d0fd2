"""A limit on the time that an answer may take in a learner's own kernel."""

import _thread
import contextlib
import signal
import threading


class TimeIsUp(BaseException):
    """Raised in the block of `time_limit` when its time is up: no Exception, which an answer might catch."""


@contextlib.contextmanager
def time_limit(seconds):
    """Raise TimeIsUp in a block that takes longer, once a second until the block has ended.

    Where the system has no timer that signals (Windows), an interrupt stands in for it, which stops Python's
    own code; outside the main thread there is no limit. One call of a library, such as a long convolution, is
    never cut in half.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
    elif hasattr(signal, "setitimer"):
        before = signal.signal(signal.SIGALRM, _raise)
        signal.setitimer(signal.ITIMER_REAL, seconds, 1)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
    else:
        up = threading.Event()
        timer = threading.Timer(seconds, lambda: (up.set(), _thread.interrupt_main()))
        timer.daemon = True
        timer.start()
        try:
            yield
        except KeyboardInterrupt:
            if up.is_set():
                raise TimeIsUp from None
            raise
        finally:
            timer.cancel()


def _raise(*_):
    raise TimeIsUp

"""A terminal of the command's own, with its bytes passed on to and from the real one.

So the command cannot put keystrokes into the terminal of the person who runs it, and a shell in it
has job control, window size, Ctrl-C and Ctrl-Z of its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from .process import Child, Streams

_BLOCK = 65536
_WAIT_S = 0.2


class Terminal:
    """A new terminal like the real one; the command gets the `inner` end."""

    def __init__(self) -> None:
        """Open it with the settings and the size of the real one."""
        self._outer, self.inner = os.openpty()
        termios.tcsetattr(self.inner, termios.TCSANOW, termios.tcgetattr(0))
        self._resize()

    def streams(self) -> Streams:
        """Return the command's streams; a stderr that goes elsewhere stays."""
        return Streams(self.inner, self.inner, self.inner if os.isatty(2) else None)

    def wrap(self) -> tuple[str, ...]:
        """Return what makes it the controlling terminal of the command, which runs after it."""
        return ("setsid", "--ctty", "--wait")

    def _resize(self, number: int = 0, frame: FrameType | None = None) -> None:
        with suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self._outer, termios.TIOCSWINSZ, size)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Give every keystroke to the command, and the real terminal back at the end."""
        before = termios.tcgetattr(0)
        old = signal.signal(signal.SIGWINCH, self._resize)
        try:
            tty.setraw(0, termios.TCSANOW)
            yield
        finally:
            with suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, before)
            signal.signal(signal.SIGWINCH, old)

    def relay(self, child: Child, deadline: float | None) -> int:
        """Pass bytes on until the command has ended; return its exit code."""
        os.close(self.inner)
        reading = [0, self._outer]
        with self.connected():
            while self._outer in reading and (deadline is None or time.monotonic() < deadline):
                ready = select.select(reading, [], [], _WAIT_S)[0]
                if not ready and child.process.poll() is not None:
                    break
                for each in ready:
                    if not _pass(each, self._outer if each == 0 else 1):
                        reading.remove(each)
            code = child.wait(deadline)
        os.close(self._outer)
        return code


def _pass(source: int, target: int) -> bool:
    """Copy what is there; False at its end. What a terminal that is gone would show is dropped."""
    try:
        data = os.read(source, _BLOCK)
    except OSError as error:
        if error.errno != errno.EIO:  # the last process at the other end is gone
            raise
        return False
    view = memoryview(data)
    with suppress(OSError):
        while view:
            view = view[os.write(target, view) :]
    return bool(data)

"""A cursor over the journal that waits for what this and other processes commit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

from . import journal
from .errors import InvalidArgument, NotFound, VolumeClosed
from .history import range_kept
from .journal import Filter
from .transaction import ReadScope, Session, Volume
from .types import JournalRow

_PAGE = 500
# Commits of other processes are only seen by asking; a long wait asks 20 times a second.
_FIRST_WAIT_S = 0.001
_LONGEST_WAIT_S = 0.05


class Watch(Iterator[JournalRow]):
    """Yields each later row once and in order; `seq` is where to go on after a restart.

    Ends after `timeout` seconds without a row, at `stop()`, or never.
    """

    def __init__(
        self, volume: Volume, since: int | None, wanted: Filter, timeout: float | None,
        shows: Callable[[Session, JournalRow], bool] | None = None,
    ) -> None:  # fmt: skip
        """Begin after a journal row, or with what comes next; `shows` is one more filter."""
        self._volume = volume
        self._wanted = wanted
        self._timeout = timeout
        self._shows = shows
        self._waiting: deque[JournalRow] = deque()
        self._stopped = False
        with ReadScope(volume) as session:
            if session.depth:
                raise InvalidArgument("watch", "it cannot wait inside a transaction")
            newest = journal.bounds(session)[1]
        self.seq = newest if since is None else since
        self._read_until = self.seq

    def __next__(self) -> JournalRow:
        """Return the next row, waiting for it.

        Raises:
            NotFound: gc let go of rows that were not read yet.
        """
        if not self._waiting:
            self._wait()
        if not self._waiting:
            raise StopIteration
        row = self._waiting.popleft()
        self.seq = row.seq if self._waiting else self._read_until
        return row

    def stop(self) -> None:
        """End the iteration, also one that waits on another thread."""
        self._stopped = True
        self._volume.wake()

    def _wait(self) -> None:
        """Wait until there is a row, the time is over, or someone stops it."""
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        pause = _FIRST_WAIT_S
        volume = self._volume
        with volume.committed:
            volume.watchers += 1
        try:
            while not self._stopped:
                with volume.committed:
                    if self._fetch():
                        return
                    left = pause if deadline is None else deadline - time.monotonic()
                    if left <= 0:
                        return
                    volume.committed.wait(min(pause, left))
                pause = min(pause * 1.5, _LONGEST_WAIT_S)
        finally:
            with volume.committed:
                volume.watchers -= 1

    def _fetch(self) -> bool:
        """Read what came since; rows that no filter lets through are passed over for good."""
        if self._volume.closed:
            raise VolumeClosed(self._volume.path)
        with ReadScope(self._volume) as session:
            if session.depth:
                raise InvalidArgument("watch", "it cannot wait inside a transaction")
            oldest, newest = journal.bounds(session)
            if self._read_until < oldest:
                raise NotFound(f"@{self._read_until + 1}", range_kept(session))
            if self._read_until >= newest:
                return False
            found = journal.page(session, self._read_until, _PAGE, self._wanted)
            self._read_until = found[-1].seq if len(found) == _PAGE else newest
            if self._shows is not None:
                found = [each for each in found if self._shows(session, each)]
        self._waiting.extend(found)
        if not found:
            self.seq = self._read_until
        return bool(found)

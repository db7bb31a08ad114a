"""A disk that forgets: records what SQLite writes and syncs, and shows what a power cut leaves.

`Recorder` is a VFS that passes every call on to the real one and notes it. `remains` builds, for
any moment of the recording, a disk as it may be after the power went: everything up to a file's
last sync, and of what came later each 512-byte sector by chance.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import apsw

SECTOR = 512


@dataclass(frozen=True)
class Event:
    """One call that changes a disk, or an operation that was acknowledged to its caller."""

    kind: str  # write, truncate, sync, delete, done
    file: str = ""
    offset: int = 0
    data: bytes = b""
    flag: bool = False


@dataclass
class Disk:
    """A file's bytes on the platter, and what the drive may still lose."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)


class Recorder(apsw.VFS):
    """The default VFS while it is registered; shared memory goes to the real one."""

    def __init__(self) -> None:
        """Stand before the VFS of the system."""
        self.events: list[Event] = []
        super().__init__("recorder", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> RecordedFile:
        """Open a file and record its writes."""
        return RecordedFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """Delete a file; without a sync of the directory it may come back."""
        self.events.append(Event("delete", os.path.basename(filename), flag=syncdir))
        super().xDelete(filename, syncdir)

    def done(self) -> None:
        """Note that an operation was acknowledged."""
        self.events.append(Event("done"))


class RecordedFile(apsw.VFSFile):
    """One open file."""

    def __init__(
        self, recorder: Recorder, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        """Open the real file."""
        self.recorder = recorder
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.name = os.path.basename(text or "")
        # The unix VFS syncs the directory with the first sync of a log that it may have made.
        self.new = self.name.endswith(("-journal", "-wal"))
        super().__init__("unix", name, flags)

    def _note(self, event: Event) -> None:
        if self.name:  # a temporary file has no name and does not outlive the power
            self.recorder.events.append(event)

    def xWrite(self, data: bytes, offset: int) -> None:
        """Write, not yet durable."""
        self._note(Event("write", self.name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        """Cut, not yet durable."""
        self._note(Event("truncate", self.name, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        """Make durable."""
        super().xSync(flags)
        self._note(Event("sync", self.name, flag=self.new))
        self.new = False


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record all that happens inside."""
    recorder = Recorder()
    try:
        yield recorder
    finally:
        recorder.unregister()


def remains(events: list[Event], directory: Path, chance: random.Random) -> None:
    """Write the files that a power cut after these events may leave."""
    disks: dict[str, Disk] = {}
    for event in events:
        if event.kind != "done":
            _apply(disks, event)
    keep = chance.choice((0.0, 0.5, 0.9, 1.0))
    for name, disk in disks.items():
        content = _survivors(disk, keep, chance)
        if content is not None:
            (directory / name).write_bytes(content)


def _apply(disks: dict[str, Disk], event: Event) -> None:
    disk = disks.setdefault(event.file, Disk())
    if event.kind == "sync":
        for each in disk.pending:
            _change(disk.durable, each)
        disk.pending.clear()
        if event.flag:
            _sync_directory(disks)
    elif event.kind == "delete" and event.flag:
        del disks[event.file]
    else:
        disk.pending.append(event)


def _sync_directory(disks: dict[str, Disk]) -> None:
    """Let no deleted file come back."""
    for name, disk in list(disks.items()):
        deleted = [number for number, each in enumerate(disk.pending) if each.kind == "delete"]
        if deleted:
            disks[name] = Disk(bytearray(), disk.pending[deleted[-1] + 1 :])
            if not disks[name].pending:
                del disks[name]


def _survivors(disk: Disk, keep: float, chance: random.Random) -> bytes | None:
    """Return the bytes of a file after the cut, or None when it is not there."""
    content: bytearray | None = bytearray(disk.durable)
    for event in disk.pending:
        if event.kind == "delete":
            if chance.random() >= keep:
                break  # the directory still names the old file: what came later is nowhere
            content = None
        elif content is None and chance.random() >= keep:
            break  # a new file that no directory names
        else:
            content = _torn(content or bytearray(), event, keep, chance)
    return None if content is None else bytes(content)


def _torn(content: bytearray, event: Event, keep: float, chance: random.Random) -> bytearray:
    """Apply each sector of a write by chance."""
    for sector in [event] if event.kind == "truncate" else _sectors(event):
        if chance.random() < keep:
            _change(content, sector)
    return content


def _sectors(event: Event) -> Iterator[Event]:
    """Cut a write where sectors begin."""
    start = 0
    while start < len(event.data):
        room = SECTOR - (event.offset + start) % SECTOR
        yield Event("write", event.file, event.offset + start, event.data[start : start + room])
        start += room


def _change(content: bytearray, event: Event) -> None:
    if event.kind == "write":
        if len(content) < event.offset:
            content.extend(bytes(event.offset - len(content)))
        content[event.offset : event.offset + len(event.data)] = event.data
    elif event.kind == "truncate":
        del content[event.offset :]
    elif event.kind == "delete":
        content.clear()

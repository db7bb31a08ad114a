"""The file of a backup: a tar under zstd, whose last member is the manifest.

    home/<path>      every file of the home
    manifest.json    what the file holds, with the SHA-256 of each member; last, so that a file
                     that was cut short has none

`tar --zstd -tf FILE` lists one that is not encrypted.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import zstandard

from fmos.care import encryption
from fmos.errors import ArgumentError, FmosError, FormatError
from fmos.types import Record

FORMAT = 1
PREFIX = "home/"
MANIFEST = "manifest.json"
_ZSTD = b"\x28\xb5\x2f\xfd"
_LEVEL = 3
_PIECE = 1 << 20
_FRAME_PIECE = 1 << 16
_MOST_MANIFEST = 256 << 20
_DAMAGED = (zstandard.ZstdError, tarfile.TarError, EOFError, OSError, ValueError)

Progress = Callable[[str, int], None]
"""Told what is worked on, and how many bytes of it are done."""


class Member(Record):
    """One file of the home."""

    name: str
    size: int
    sha256: str


class VolumeFacts(Record):
    """A tenant's volume: the version of its format and the head of its journal."""

    format: int
    journal_rows: int
    journal_head: str


class Manifest(Record):
    """What a backup holds. `seq` and `head` of a volume are a checkpoint outside of the home."""

    format: int = FORMAT
    fmos: str
    made_ns: int
    home: str
    keys: bool
    components: dict[str, int]
    volumes: dict[str, VolumeFacts]
    members: tuple[Member, ...]
    warnings: tuple[str, ...] = ()


class Writer:
    """Adds files, one after the other, and the manifest at the end."""

    def __init__(self, out: IO[bytes], passphrase: bytes | None) -> None:
        self._encrypting = (
            None if passphrase is None else encryption.EncryptingWriter(out, passphrase)
        )
        sink: Any = self._encrypting or out
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self._zstd = compressor.stream_writer(sink, closefd=False)
        self._tar = tarfile.open(fileobj=self._zstd, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.members: list[Member] = []

    def add(self, name: str, file: IO[bytes], size: int, progress: Progress) -> None:
        """Add a file of the home; `file` has at least `size` bytes."""
        reading = _Hashed(file, lambda done: progress(name, done))
        self._tar.addfile(_info(PREFIX + name, size), reading)  # type: ignore[arg-type]
        self.members.append(Member(name=name, size=size, sha256=reading.digest.hexdigest()))

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and end the file."""
        text = manifest.model_dump_json(indent=1).encode()
        self._tar.addfile(_info(MANIFEST, len(text)), io.BytesIO(text))
        self._tar.close()
        self._zstd.close()
        if self._encrypting is not None:
            self._encrypting.finish()


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


class _Hashed:
    """Reads a file, hashes what it reads and tells how far it is."""

    def __init__(self, file: IO[bytes], tell: Callable[[int], None]) -> None:
        self._file = file
        self._tell = tell
        self._done = 0
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self._done += len(data)
        if data:
            self._tell(self._done)
        return data


def read(
    path: Path, passphrase: bytes | None, take: Callable[[str, Iterator[bytes]], None]
) -> Manifest:
    """Read a backup from its beginning to its end and check every byte against the manifest.

    `take` gets each member's relative path and its content in pieces, and must use them up.

    Raises:
        FormatError: naming what is wrong, if the file is no backup, changed or cut short.
        ArgumentError: if it is encrypted and no passphrase was given, or the other way round.
    """
    reading = _Reading(path, take)
    with _stream(path, passphrase) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for info in tar:
                    reading.member(info, tar.extractfile(info) if info.isreg() else None)
            while stream.read(_PIECE):  # to the end, where zstd has its checksum
                pass
        except FmosError:
            raise
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise FormatError(
                f"{str(path)!r} is damaged or cut short at {reading.at} ({error})",
                hint="use another backup",
            ) from error
    return _checked(path, reading.manifest, reading.seen)


class _Reading:
    """One reading of a backup from its beginning to its end."""

    def __init__(self, path: Path, take: Callable[[str, Iterator[bytes]], None]) -> None:
        self._path = path
        self._take = take
        self.seen: dict[str, Member] = {}
        self.manifest: bytes | None = None
        self.at = "its beginning"

    def member(self, info: tarfile.TarInfo, file: IO[bytes] | None) -> None:
        """Take one member; only files of a home may be there, and the manifest as the last."""
        if file is None or self.manifest is not None:
            raise FormatError(f"{str(self._path)!r} is no backup of FMOS: it holds {info.name!r}")
        self.at = repr(info.name)
        if info.name == MANIFEST and info.size <= _MOST_MANIFEST:
            self.manifest = file.read()
            return
        name = self._safe(info.name)
        hashed = _Hashed(file, lambda _done: None)
        self._take(name, iter(lambda: hashed.read(_PIECE), b""))
        self.seen[name] = Member(name=name, size=info.size, sha256=hashed.digest.hexdigest())

    def _safe(self, name: str) -> str:
        inner = name.removeprefix(PREFIX)
        parts = inner.split("/")
        good = name.startswith(PREFIX) and inner not in self.seen and "\0" not in name
        if not good or any(part in ("", ".", "..") for part in parts):
            raise FormatError(f"{str(self._path)!r} is no backup of FMOS: it holds {name!r}")
        return inner


def _checked(path: Path, text: bytes | None, seen: dict[str, Member]) -> Manifest:
    if text is None:
        raise FormatError(
            f"{str(path)!r} is cut short: it has no manifest at its end", hint="use another backup"
        )
    try:
        fields: Any = json.loads(text)
        if fields["format"] > FORMAT:
            raise FormatError(
                f"{str(path)!r} has format {fields['format']} of FMOS {fields['fmos']}, newer than"
                f" the {FORMAT} that this FMOS reads",
                hint="upgrade fmos, then restore",
            )
        manifest = Manifest.model_validate(fields)
    except FmosError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"the manifest of {str(path)!r} cannot be read", hint="use another backup"
        ) from error
    said = {each.name: each for each in manifest.members}
    for name in sorted(said.keys() | seen.keys()):
        if said.get(name) != seen.get(name):
            what = "is missing" if name not in seen else "is not what the manifest says"
            raise FormatError(
                f"{str(path)!r} is damaged: {name!r} {what}", hint="use another backup"
            )
    return manifest


@contextmanager
def _stream(path: Path, passphrase: bytes | None) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise ArgumentError(
                f"cannot read the backup {str(path)!r}: {error.strerror}"
            ) from error
        head = file.read(len(encryption.MAGIC))
        file.seek(0)
        source: Any = file
        if head == encryption.MAGIC:
            if passphrase is None:
                raise ArgumentError(
                    f"{str(path)!r} is encrypted", hint="name its passphrase's file"
                )
            source = io.BufferedReader(
                encryption.DecryptingReader(file, passphrase, repr(str(path))), _PIECE
            )
        elif passphrase is not None:
            raise ArgumentError(f"{str(path)!r} is not encrypted", hint="leave the passphrase out")
        elif not head.startswith(_ZSTD):
            raise FormatError(f"{str(path)!r} is no backup of FMOS", hint="name another file")
        yield stack.enter_context(io.BufferedReader(_Inflated(source), _PIECE))


class _Inflated(io.RawIOBase):
    """Decompresses a stream of one frame, which must have its end: that holds the checksum."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__()
        self._source = source
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._data = b""

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill a buffer with what comes next; 0 is the end of the frame."""
        while not self._data and not self._frame.eof:
            piece = self._source.read(_FRAME_PIECE)
            if not piece:
                raise EOFError("it ends in the middle")
            self._data = self._frame.decompress(piece)
        if self._frame.eof and (self._frame.unused_data or self._source.read(1)):
            raise ValueError("something follows its end")
        count = min(len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

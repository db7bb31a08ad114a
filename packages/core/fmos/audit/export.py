"""Exports a journal, so that it can be read and checked without the home.

One JSON object a line: a header, the rows as `shown` lets them out, and a trailer with their count,
a hash over every byte before it and a signature. A file that was cut short or changed is found.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from fmos.audit.checkpoints import checkpoint
from fmos.audit.keys import verify_signature
from fmos.audit.merkle import Frontier, leaf_hash
from fmos.audit.note import Checkpoint
from fmos.audit.proofs import trusted_note
from fmos.audit.shown import row_hash, shown
from fmos.audit.tree import TreeStore
from fmos.errors import ArgumentError, FormatError, NotFoundError, StorageError
from fmos.runtime.kernel import Kernel
from fmos.storage import wholefile

FORMAT = "fmos-audit-export/1"
_EVERY = 1000
_OUTER = ("hash", "masked")

Progress = Callable[[int], None]
"""Is told how many rows were written or read."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds: rows `first` to `last`, of which so many have something hidden."""

    tenant: str
    first: int
    last: int
    rows: int
    masked: int
    root: str


def export(
    kernel: Kernel,
    tenant: str,
    target: Path,
    *,
    since: int = 0,
    until: int | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the rows after `since` up to `until`, by default all, to a file; zstd if it says so.

    A checkpoint over all rows is signed first. The file is there whole or not at all.

    Raises:
        NotFoundError: if there are no rows in the range.
        StorageError: if the file cannot be written.
        FormatError, HomeError: as signing a checkpoint does.
    """
    note = checkpoint(kernel, tenant)
    volume = kernel.volume(tenant)
    start = volume.journal_start()
    if note is None:
        raise NotFoundError(f"the journal of tenant {tenant!r} has no rows")
    signed = note.checkpoint
    first = max(since, start.seq, signed.base) + 1
    last = signed.seq if until is None else min(until, signed.seq)
    if first > last:
        raise NotFoundError(f"there are no rows from {first} to {last} in tenant {tenant!r}")
    store = TreeStore(volume)
    previous = store.row_hash(first - 1) or start.hash
    frontier = store.frontier(signed.base, first - 1 - signed.base)
    header = {
        "format": FORMAT, "tenant": tenant, "first": first, "last": last,
        "previous": previous.hex(), "before": [each.hex() for each in frontier.hashes],
        "checkpoint": str(note), "keys": kernel.key_history(tenant).to_json(),
    }  # fmt: skip
    with _written(target) as file:
        writer = _Writer(file)
        writer.line(header)
        masked = 0
        for row in volume.journal(first - 1, until=last):
            safe = shown(row, kernel.keys_of(tenant).digest)
            masked += safe.is_masked
            outer = {"masked": True} if safe.is_masked else {}
            writer.line({**safe.fields, **outer, "hash": row.hash.hex()})
            frontier.add(leaf_hash(row.hash))
            if progress is not None and not row.seq % _EVERY:
                progress(row.seq - first + 1)
        if frontier.size != last - signed.base:
            raise StorageError(
                "rows were let go while they were exported; nothing was written",
                hint="export again",
            )
        rows, root = last - first + 1, frontier.root().hex()
        digest = writer.digest.hexdigest()
        said = _signed_text(tenant, first, last, root, digest)
        trailer = {"rows": rows, "root": root, "sha256": digest}
        writer.line({"end": {**trailer, "signature": kernel.keys_of(tenant).sign(said)}})
    return Exported(tenant, first, last, rows, masked, root)


def _signed_text(tenant: str, first: int, last: int, root: str, digest: str) -> bytes:
    return f"{FORMAT}\n{tenant}\n{first} {last}\n{root}\n{digest}\n".encode()


class _Writer:
    """Writes lines and hashes every byte."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = sha256()

    def line(self, value: dict[str, Any]) -> None:
        """Write one JSON object."""
        data = json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
        self.digest.update(data)
        self._file.write(data)


@contextmanager
def _written(target: Path) -> Iterator[IO[bytes]]:
    """Open what is exported to: whole or not there, packed if its name says so."""
    if target.exists() and not target.is_file():
        raise StorageError(f"{str(target)!r} is there and is no file", hint="choose another name")
    try:
        with wholefile.whole(target, private=True) as raw, _packed(raw, target) as file:
            yield file
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write {str(target)!r}: {error.strerror}; nothing is there",
            hint="choose another folder, or make room",
        ) from error


@contextmanager
def _packed(raw: IO[bytes], target: Path) -> Iterator[IO[bytes]]:
    if target.suffix != ".zst":
        yield raw
        return
    import zstandard  # noqa: PLC0415 - only for packed files

    with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as file:
        yield file


def check_export(
    source: Path, trusted: Collection[str], progress: Progress | None = None
) -> Exported:
    """Check an export with nothing but it and the public keys that one trusts.

    Raises:
        FormatError: saying what does not hold, and at which row.
        StorageError: if the file cannot be read.
    """
    try:
        with _lines(source) as lines:
            return _Reader(trusted, progress).run(lines)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot read {str(source)!r}: {error.strerror}") from error


@contextmanager
def _lines(source: Path) -> Iterator[Iterator[bytes]]:
    with open(source, "rb") as raw:
        if source.suffix != ".zst":
            yield iter(raw)
            return
        import zstandard  # noqa: PLC0415 - only for packed files

        try:
            reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
            yield iter(io.BufferedReader(reader))
        except zstandard.ZstdError as error:
            raise FormatError(f"{str(source)!r} is no whole zstd file: {error}") from error


class _Reader:
    """Reads an export once, and holds every line against what follows from those before."""

    def __init__(self, trusted: Collection[str], progress: Progress | None) -> None:
        self._trusted = trusted
        self._progress = progress
        self._digest = sha256()
        self._masked = 0

    def run(self, lines: Iterator[bytes]) -> Exported:
        """Read the whole file."""
        header = self._object(next(lines, b""), "the header")
        if header.get("format") != FORMAT:
            raise FormatError(f"this is no export of the format {FORMAT}")
        try:
            history, note = trusted_note(header["keys"], header["checkpoint"], self._trusted)
            self._first, self._last = int(header["first"]), int(header["last"])
            self._previous = bytes.fromhex(header["previous"])
            before = [bytes.fromhex(each) for each in header["before"]]
            self._frontier = Frontier(self._first - 1 - note.checkpoint.base, before)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"the export's header cannot be read: {error!r}") from error
        said, seq = note.checkpoint, self._first - 1
        if self._last > said.seq:
            raise FormatError(f"the export goes beyond row {said.seq}, which its checkpoint covers")
        keys = history.signers(said.key, said.seq)
        for line in lines:
            digest = self._digest.copy()
            value = self._object(line, f"the line after row {seq}")
            if "end" in value:
                if next(lines, None) is not None:
                    raise FormatError("there are lines after the export's end")
                return self._end(value["end"], digest.hexdigest(), seq, keys, said)
            seq += 1
            self._row(value, seq)
        raise FormatError(
            f"the export is cut short: it ends after row {seq} of {self._last}",
            hint="export it again, or copy it again",
        )

    def _object(self, line: bytes, what: str) -> dict[str, Any]:
        self._digest.update(line)
        try:
            value = json.loads(line)
        except ValueError as error:
            raise FormatError(
                f"the export is cut short or damaged at {what}", hint="copy or export it again"
            ) from error
        if not isinstance(value, dict):
            raise FormatError(f"the export is damaged at {what}")
        return value

    def _row(self, value: dict[str, Any], seq: int) -> None:
        if value.get("seq") != seq:
            raise FormatError(f"row {seq} is missing in the export, or out of its order")
        try:
            hashed = bytes.fromhex(value["hash"])
            fields = {name: each for name, each in value.items() if name not in _OUTER}
            right = value.get("masked") or row_hash(self._previous, fields) == hashed
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"row {seq} of the export cannot be read: {error!r}") from error
        if not right:
            raise FormatError(f"row {seq} of the export was changed: it does not give its hash")
        self._masked += bool(value.get("masked"))
        self._previous = hashed
        self._frontier.add(leaf_hash(hashed))
        if self._progress is not None and not seq % _EVERY:
            self._progress(seq - self._first + 1)

    def _end(
        self, end: dict[str, Any], digest: str, seq: int, keys: tuple[str, ...], signed: Checkpoint
    ) -> Exported:
        root, rows = self._frontier.root().hex(), seq - self._first + 1
        if seq != self._last or end.get("rows") != rows:
            raise FormatError(f"the export ends after row {seq}, and should with {self._last}")
        said = _signed_text(signed.tenant, self._first, seq, root, digest)
        is_signed = any(verify_signature(key, said, str(end.get("signature"))) for key in keys)
        if end.get("root") != root or end.get("sha256") != digest or not is_signed:
            raise FormatError("the export was changed: its end was not signed for these lines")
        if seq == signed.seq and root != signed.root.hex():
            raise FormatError(f"the rows are not those that the checkpoint of row {seq} has")
        return Exported(signed.tenant, self._first, seq, rows, self._masked, root)


def checked_range(since: int, until: int | None) -> None:
    """Refuse a range that cannot be.

    Raises:
        ArgumentError: if it is none.
    """
    if since < 0 or (until is not None and until <= since):
        raise ArgumentError("the range has no rows", hint="give --until a row after --since")

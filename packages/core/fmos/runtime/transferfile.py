"""The file in which one agent travels: a ZIP archive with a signed list of what is in it.

    manifest.json    format, agent, and the size and SHA-256 of every other member
    manifest.sig     the Ed25519 signature of the manifest's bytes, by the tenant that exported it
    agent.afs        an agentfs volume: its branch `main` is the agent's
    contract.yaml    the contract that bound the agent, where it had one
    servers.json     what each server keeps of the agent outside its branch, such as its tools
    journal.jsonl    the rows that the old volume's journal has of the agent; evidence, not history

Nothing but the manifest is looked at before its signature holds, and nothing is used before its
hash does.
"""

from __future__ import annotations

import errno
import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from pydantic import Field, ValidationError

from fmos.audit.history import KeyHistory
from fmos.audit.keys import AuditKeys, verify_signature
from fmos.errors import ArgumentError, FmosError, FormatError, StorageError
from fmos.storage import wholefile
from fmos.types import Record

FORMAT = "fmos-agent/1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
VOLUME, CONTRACT, SERVERS, JOURNAL = "agent.afs", "contract.yaml", "servers.json", "journal.jsonl"

_PREFIX = b"fmos/agent-export/1\n"
_MANIFEST_BYTES = 1 << 20
_BLOCK = 1 << 20
_MEMBERS = (VOLUME, CONTRACT, SERVERS, JOURNAL)
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: What the ZIP parser raises on bytes that mean nothing.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError,
)  # fmt: skip
_HINT = "ask for the file again, or export the agent anew"


class Member(Record):
    """One file of the archive."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class TransferManifest(Record):
    """What an exported agent is, signed by the tenant that it comes from."""

    format: Literal["fmos-agent/1"] = FORMAT
    tenant: str
    application: str = ""
    agent: str
    exported_ns: int
    public_key: str = Field(description="of the tenant: 32 bytes in base64")
    journal_seq: int = Field(description="the last row of the old journal, with its hash")
    journal_hash: str
    contract: str = Field(default="", description="name of the contract; empty: it had none")
    narrowed_by: tuple[str, ...] = Field(
        default=(), description="contracts of its parents, which bound it too and stay behind"
    )
    files: int = 0
    directories: int = 0
    symlinks: int = 0
    bytes: int = 0
    members: dict[str, Member] = Field(default_factory=dict)


def write(
    target: Path,
    manifest: TransferManifest,
    folder: Path,
    keys: AuditKeys,
    *,
    replace: bool = False,
) -> str:
    """Write the members in a folder as one signed file, whole or not at all; return its SHA-256.

    Raises:
        ArgumentError: if the target is there already, and `replace` is False.
        StorageError: if it cannot be written.
    """
    present = [name for name in _MEMBERS if (folder / name).exists()]
    members = {name: _measured(folder / name) for name in present}
    said = manifest.model_copy(update={"members": members}).model_dump_json(indent=2).encode()
    try:
        with wholefile.draft(target, private=True, replace=replace) as draft:
            with zipfile.ZipFile(draft, "w", allowZip64=True) as archive:
                archive.writestr(MANIFEST, said)
                archive.writestr(SIGNATURE, keys.sign(_PREFIX + said))
                for name in present:
                    packed = zipfile.ZIP_STORED if name == VOLUME else zipfile.ZIP_DEFLATED
                    archive.write(folder / name, name, packed)
            digest = _measured(draft).sha256
    except FileExistsError as error:
        raise exists(target) from error
    except OSError as error:
        raise StorageError(
            f"cannot write {str(target)!r}: {error.strerror or error}; nothing is there",
            hint="free space or choose another place, then retry",
        ) from error
    return digest


def exists(target: Path) -> ArgumentError:
    """Return the error for a target that is there already."""
    return ArgumentError(
        f"{str(target)!r} exists, and an export replaces nothing", hint="choose another name"
    )


def read_manifest(
    path: Path, trusted: Sequence[str], history: KeyHistory | None = None
) -> TransferManifest:
    """Return what a file says it holds, once a trusted key is known to have signed that.

    A key of `history` is trusted for an agent as it was before that key was given up.

    Raises:
        ArgumentError: if it is not signed, altered, or signed by a key that is not trusted.
        FormatError: if it is no exported agent, or of a newer format.
    """
    with _archive(path) as archive:
        said = _small(archive, MANIFEST, path)
        signature = _small(archive, SIGNATURE, path).decode("ascii", "replace")
        try:
            manifest = TransferManifest.model_validate_json(said)
        except ValidationError as error:
            raise FormatError(
                f"{str(path)!r} is not an agent of the format {FORMAT}",
                hint="a newer FMOS may have written it: upgrade this one",
            ) from error
        if not verify_signature(manifest.public_key, _PREFIX + said, signature):
            raise _refused(path, "its signature does not hold")
        former = history.signers(0, manifest.journal_seq) if history else ()
        if manifest.public_key not in (*trusted, *former):
            raise ArgumentError(
                f"{str(path)!r} was exported under a key that is not this tenant's present one:"
                f" {manifest.public_key}",
                hint="compare the key with its owner's, then give --trust-key KEY",
            )
        wanted = sorted([MANIFEST, SIGNATURE, *manifest.members])
        if sorted(archive.namelist()) != wanted or not set(manifest.members) <= set(_MEMBERS):
            raise _refused(path, "it does not hold what its manifest lists")
    return manifest


def extract(path: Path, manifest: TransferManifest, folder: Path) -> None:
    """Write the members to a folder, each with the size and hash that the manifest says.

    Raises:
        ArgumentError: if one has not.
        FormatError: if the file is cut short or damaged.
    """
    with _archive(path) as archive:
        for name, member in manifest.members.items():
            with archive.open(name) as source, wholefile.new_private(folder / name) as target:
                if not _copied(source, target, member):
                    raise _refused(path, f"its {name} is not the one that was signed")


def _copied(source: IO[bytes], target: IO[bytes], member: Member) -> bool:
    """Copy a member and return whether it is what its manifest says."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        size += len(block)
        if size > member.size:
            return False
        digest.update(block)
        target.write(block)
    return size == member.size and digest.hexdigest() == member.sha256


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a file that may hold anything; what the parser stumbles over is one error."""
    try:
        with zipfile.ZipFile(path) as archive:
            if any(each.compress_type not in _PACKED for each in archive.infolist()):
                raise zipfile.BadZipFile("it is packed in another way")
            yield archive
    except FmosError:
        raise
    except FileNotFoundError as error:
        raise ArgumentError(f"there is no file {str(path)!r}") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a place in the file that cannot be
            raise StorageError(
                f"cannot import {str(path)!r}: {error.strerror}; nothing was imported",
                hint="check its permissions and the space on the home's disk, then retry",
            ) from error
        raise _damaged(path, error) from error
    except _BROKEN as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> FormatError:
    return FormatError(
        f"{str(path)!r} is no exported agent, or is cut short or damaged ({error})", hint=_HINT
    )


def _small(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Return a member that must be there and be small."""
    try:
        found = archive.getinfo(name)
    except KeyError as error:
        raise _refused(path, f"it has no {name}, so it is not signed") from error
    if found.file_size > _MANIFEST_BYTES:
        raise _refused(path, f"its {name} is too large")
    with archive.open(found) as file:
        return file.read(_MANIFEST_BYTES)


def _refused(path: Path, why: str) -> ArgumentError:
    return ArgumentError(f"{str(path)!r} is refused: {why}; nothing was imported", hint=_HINT)


def _measured(path: Path) -> Member:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Member(size=path.stat().st_size, sha256=digest)

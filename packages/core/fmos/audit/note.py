"""Checkpoints as signed notes: the formats C2SP tlog-checkpoint and signed-note.

https://c2sp.org/tlog-checkpoint and https://c2sp.org/signed-note. What FMOS says beside them is in
extension lines: the tenant, the chain's hash at the last row, the time and the number of the key.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from fmos.audit.keys import verify_signature
from fmos.errors import FormatError

#: Between text and signatures of a note is an empty line; a signature begins with an em dash.
_NOTE = re.compile(r"(?:[^\n]+\n){3,}\n(?:\u2014 [^\n]+\n)+")
_SIGNATURE = re.compile(r"\u2014 (\S+) (\S+)\n")
_ED25519 = b"\x01"
_KEY_HASH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one checkpoint says: the tree of `size` rows after row `base` has this root.

    `chain` is the hash of the last of these rows, and `base_chain` that of row `base`.
    """

    origin: str
    size: int
    root: bytes
    tenant: str
    chain: bytes
    time_ns: int
    key: int
    base: int = 0
    base_chain: bytes = bytes(32)

    @property
    def seq(self) -> int:
        """The number of the last journal row that it covers."""
        return self.base + self.size

    def text(self) -> str:
        """Return the text that is signed."""
        lines = [
            self.origin,
            str(self.size),
            base64.b64encode(self.root).decode("ascii"),
            f"tenant {self.tenant}",
            f"chain {self.chain.hex()}",
            f"time {self.time_ns}",
            f"key {self.key}",
        ]
        if self.base:
            lines.append(f"base {self.base} {self.base_chain.hex()}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint with its signatures, as it was written."""

    checkpoint: Checkpoint
    text: str
    signatures: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        """Return the whole note."""
        signed = "".join(f"\u2014 {name} {value}\n" for name, value in self.signatures)
        return f"{self.text}\n{signed}"

    def signed_by(self, public_key: str) -> bool:
        """Return whether the owner of a base64 public key signed it."""
        name = self.checkpoint.origin
        wanted = _key_hash(name, public_key)
        for signer, value in self.signatures:
            raw = _unbase64(value)
            if signer == name and raw is not None and raw[:_KEY_HASH_BYTES] == wanted:
                rest = base64.b64encode(raw[_KEY_HASH_BYTES:]).decode("ascii")
                if verify_signature(public_key, self.text.encode("utf-8"), rest):
                    return True
        return False


def sign(checkpoint: Checkpoint, public_key: str, signer: Callable[[bytes], str]) -> Note:
    """Return a checkpoint as a note; `signer` returns a signature in base64."""
    text = checkpoint.text()
    raw = base64.b64decode(signer(text.encode("utf-8")))
    value = base64.b64encode(_key_hash(checkpoint.origin, public_key) + raw).decode("ascii")
    return Note(checkpoint, text, ((checkpoint.origin, value),))


def parse(note: str) -> Note:
    """Return the note in a text.

    Raises:
        FormatError: if it is not a checkpoint of FMOS.
    """
    if _NOTE.fullmatch(note) is None:
        raise FormatError("this is no signed checkpoint", hint="give the file whole and unchanged")
    text, _, signed = note.partition("\n\n")
    return Note(_checkpoint(text + "\n"), text + "\n", tuple(_SIGNATURE.findall(signed)))


def parse_all(text: str) -> Iterator[Note]:
    """Yield every whole note of a file; what a crash left half written is passed over.

    Raises:
        FormatError: if a note is not a checkpoint of FMOS.
    """
    for match in _NOTE.finditer(text):
        yield parse(match[0])


def _checkpoint(text: str) -> Checkpoint:
    lines = text.splitlines()
    words = (line.partition(" ") for line in lines[3:])
    said = {name: value for name, _, value in words}
    base, _, base_chain = said.get("base", f"0 {bytes(32).hex()}").partition(" ")
    try:
        root = base64.b64decode(lines[2], validate=True)
        found = Checkpoint(
            origin=lines[0],
            size=int(lines[1]),
            root=root,
            tenant=said["tenant"],
            chain=bytes.fromhex(said["chain"]),
            time_ns=int(said["time"]),
            key=int(said["key"]),
            base=int(base),
            base_chain=bytes.fromhex(base_chain),
        )
    except (KeyError, ValueError) as error:
        raise FormatError(f"this checkpoint cannot be read: {error}") from error
    if found.text() != text or len(root) != 32:
        raise FormatError("this checkpoint is not written as FMOS writes them")
    return found


def verifier_key(origin: str, public_key: str) -> str:
    """Return a public key as tools for signed notes want it: name, hash and key with `+`."""
    raw = _ED25519 + base64.b64decode(public_key)
    hashed = _key_hash(origin, public_key).hex()
    return f"{origin}+{hashed}+{base64.b64encode(raw).decode('ascii')}"


def _key_hash(name: str, public_key: str) -> bytes:
    raw = _unbase64(public_key) or b""
    return sha256(name.encode("utf-8") + b"\n" + _ED25519 + raw).digest()[:_KEY_HASH_BYTES]


def _unbase64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None

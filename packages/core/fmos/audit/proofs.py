"""Proofs that rows are in the journal, which need nothing but themselves and a trusted key."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from agentfs.types import JournalRow
from fmos.audit.checkpoints import checkpoint
from fmos.audit.history import KeyHistory
from fmos.audit.keys import verify_signature
from fmos.audit.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from fmos.audit.note import Checkpoint, Note, parse
from fmos.audit.shown import row_hash, shown
from fmos.audit.tree import TreeStore
from fmos.canonical import canonical_json
from fmos.errors import ArgumentError, FormatError, NotFoundError
from fmos.runtime.kernel import Kernel

FORMAT = "fmos-audit-proof/1"
CONSISTENCY = "fmos-audit-consistency/1"
_FIELDS = {
    "seq", "time_ns", "principal", "branch", "operation", "path", "path2", "before", "after",
    "detail",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proved:
    """What a proof shows: these rows were signed for by a tenant's key, up to a row."""

    tenant: str
    seq: int
    rows: tuple[dict[str, Any], ...]
    masked: int


def prove(kernel: Kernel, tenant: str, *, seq: int = 0, operation: str = "") -> dict[str, Any]:
    """Return a proof for one row, or for all rows of an operation, as a JSON object.

    Where no checkpoint covers them yet, one is signed.

    Raises:
        NotFoundError: if there is no such row.
        FormatError, HomeError, StorageError: as signing a checkpoint does.
    """
    volume = kernel.volume(tenant)
    store = TreeStore(volume)
    numbers = [seq] if seq else store.rows_of(operation)
    rows = [row for each in numbers for row in volume.journal(each - 1, 1, until=each)]
    if not rows:
        what = f"row {seq}" if seq else f"row of the operation {operation!r}"
        raise NotFoundError(
            f"the journal of tenant {tenant!r} has no {what}",
            hint="see `fmos audit show`; rows beyond the retention are gone",
        )
    note = _covering(kernel, tenant, store, rows[-1].seq)
    proved = [_row(kernel, store, note.checkpoint, each, tenant) for each in rows]
    history = kernel.key_history(tenant)
    return {
        "format": FORMAT, "rows": proved, "checkpoint": str(note), "keys": history.to_json(),
    }  # fmt: skip


def _covering(kernel: Kernel, tenant: str, store: TreeStore, seq: int) -> Note:
    text = store.note_over(seq)
    note = parse(text) if text else checkpoint(kernel, tenant)
    if note is None:
        raise NotFoundError(f"the journal of tenant {tenant!r} has no row")
    if note.checkpoint.seq < seq:  # the row is the newest checkpoint's own
        raise NotFoundError(
            f"row {seq} is the newest checkpoint, which only the next one covers",
            hint="prove it once there are later rows",
        )
    return note


def _row(
    kernel: Kernel, store: TreeStore, signed: Checkpoint, row: JournalRow, tenant: str
) -> dict[str, Any]:
    index = row.seq - signed.base - 1
    path = inclusion_proof(index, signed.size, lambda *at: store.subtree(signed.base, *at))
    before = store.row_hash(row.seq - 1) or kernel.volume(tenant).journal_start().hash
    keys = kernel.keys_of(tenant)
    safe = shown(row, keys.digest)
    # A row with something hidden does not give its hash: that it says the rest is signed for.
    signature = keys.sign(_signed_fields(row.hash, safe.fields)) if safe.is_masked else ""
    return {
        "row": safe.fields, "masked": safe.is_masked, "signature": signature,
        "previous": before.hex(), "hash": row.hash.hex(), "index": index,
        "path": [each.hex() for each in path],
    }  # fmt: skip


def _signed_fields(hashed: bytes, fields: dict[str, Any]) -> bytes:
    return f"{FORMAT}\n{hashed.hex()}\n".encode() + canonical_json(fields)


def check_proof(proof: dict[str, Any], trusted: Collection[str]) -> Proved:
    """Check a proof with nothing but it and the public keys that one trusts.

    Raises:
        FormatError: saying what does not hold.
    """
    if proof.get("format") != FORMAT:
        raise FormatError(f"this is no proof of the format {FORMAT}")
    try:
        history, note = trusted_note(proof["keys"], proof["checkpoint"], trusted)
        rows = [_check_row(each, note.checkpoint, history) for each in proof["rows"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"this proof cannot be read: {error!r}") from error
    masked = sum(bool(each["masked"]) for each in proof["rows"])
    return Proved(history.tenant, note.checkpoint.seq, tuple(rows), masked)


def trusted_note(
    keys: dict[str, Any], text: str, trusted: Collection[str]
) -> tuple[KeyHistory, Note]:
    """Return a checkpoint whose key is one that the trusted ones vouch for.

    Raises:
        FormatError: if it is not.
    """
    history, note = trusted_history(keys, trusted), parse(text)
    said = note.checkpoint
    number = said.key
    if not 0 <= number < len(history.keys) or not note.signed_by(history.keys[number]):
        raise FormatError(f"the checkpoint of row {said.seq} is not signed by key {number}")
    final = history.final_row(number)
    if said.tenant != history.tenant or (final is not None and said.seq > final):
        raise FormatError(f"key {number} may not sign for row {said.seq} of {said.tenant!r}")
    return history, note


def trusted_history(keys: dict[str, Any], trusted: Collection[str]) -> KeyHistory:
    """Return a history of keys that a trusted key is part of.

    Raises:
        FormatError: if none is, or the history does not follow.
    """
    history = KeyHistory.from_json(keys)
    history.check()
    if not set(history.keys) & set(trusted):
        raise FormatError(
            f"no key in this file of the tenant {history.tenant!r} is one that you trust",
            hint=f"name that with --tenant, or give its public key (keys/{history.tenant}/audit.pub"
            " in the home it is of) with --key",
        )
    return history


def _check_row(proved: dict[str, Any], signed: Checkpoint, history: KeyHistory) -> dict[str, Any]:
    fields, hashed = proved["row"], bytes.fromhex(proved["hash"])
    seq = fields["seq"]
    if set(fields) != _FIELDS or proved["index"] != seq - signed.base - 1:
        raise FormatError(f"the proof's row {seq} is not the leaf that it says")
    right = False
    if proved["masked"] is True:
        said, signature = _signed_fields(hashed, fields), proved["signature"]
        keys = history.signers(signed.key, signed.seq)
        right = any(verify_signature(key, said, signature) for key in keys)
    elif proved["masked"] is False:
        right = row_hash(bytes.fromhex(proved["previous"]), fields) == hashed
    if not right:
        raise FormatError(f"the fields of row {seq} do not give its hash: they were changed")
    path = [bytes.fromhex(each) for each in proved["path"]]
    if not verify_inclusion(leaf_hash(hashed), proved["index"], signed.size, path, signed.root):
        raise FormatError(f"row {seq} is not in the tree that the checkpoint was signed for")
    return fields


# -- from one checkpoint to another -------------------------------------------------------------


def prove_consistency(kernel: Kernel, tenant: str, first: Note, second: Note) -> dict[str, Any]:
    """Return a proof that the rows of one checkpoint are the beginning of those of another.

    Raises:
        ArgumentError: if they are not of one tree of this tenant, in this order.
        FormatError: if the kept hashes are damaged.
    """
    store = TreeStore(kernel.volume(tenant))
    one, two = first.checkpoint, second.checkpoint
    same = (one.origin, one.base) == (two.origin, two.base)
    if not same or one.origin != store.origin or not 0 < one.size <= two.size:
        raise ArgumentError(
            "there is no proof between these checkpoints",
            hint="give two of this tenant's volume, the older one first",
        )
    path = consistency_proof(one.size, two.size, lambda *at: store.subtree(one.base, *at))
    return {
        "format": CONSISTENCY, "first": str(first), "second": str(second),
        "path": [each.hex() for each in path], "keys": kernel.key_history(tenant).to_json(),
    }  # fmt: skip


def check_consistency(proof: dict[str, Any], trusted: Collection[str]) -> tuple[int, int]:
    """Check a proof between two checkpoints and return the last rows that they cover.

    Raises:
        FormatError: saying what does not hold.
    """
    if proof.get("format") != CONSISTENCY:
        raise FormatError(f"this is no proof of the format {CONSISTENCY}")
    try:
        one = trusted_note(proof["keys"], proof["first"], trusted)[1].checkpoint
        two = trusted_note(proof["keys"], proof["second"], trusted)[1].checkpoint
        path = [bytes.fromhex(each) for each in proof["path"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"this proof cannot be read: {error!r}") from error
    same = (one.origin, one.base) == (two.origin, two.base)
    if not same or not verify_consistency(one.size, one.root, two.size, two.root, path):
        raise FormatError(
            f"the rows up to {one.seq} are not the beginning of those up to {two.seq}:"
            " history was written anew"
        )
    return one.seq, two.seq

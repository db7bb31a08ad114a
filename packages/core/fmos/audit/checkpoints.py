"""Signs checkpoints of a tenant's journal, and copies them out of the volume.

A checkpoint covers every row that was there when it was made, and is a row itself, which the next
one covers. Its rows are checked before they are signed: nothing broken is ever signed for. The
copies in `audit/<tenant>/checkpoints.log`, and outside the home where `[audit] export_to` says,
show what the volume alone cannot: that its end was cut off, or that all of it was written anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from agentfs import AgentFS
from agentfs.errors import AgentFSError
from fmos.audit import copies
from fmos.audit import note as notes
from fmos.audit.history import KeyChange
from fmos.audit.keyring import Step
from fmos.audit.note import Checkpoint, Note
from fmos.audit.tree import Tree, TreeStore, late_tree
from fmos.errors import FmosError, FormatError, HomeError, StorageError
from fmos.runtime.kernel import Kernel

CHECKPOINT = "audit.checkpoint"
ROTATE = "audit.rotate"

_PIECE = 20_000
_NS = 1_000_000_000
_DAY_S = 86_400


class Pending(NamedTuple):
    """How many rows no checkpoint covers, and for how long the oldest has waited."""

    rows: int
    seconds: float


def checkpoint(kernel: Kernel, tenant: str) -> Note | None:
    """Sign a checkpoint over all rows of a tenant's journal; None when there are none.

    Where no row came since the last one, that is returned and nothing is signed.

    Raises:
        FormatError: if the journal is not as it was: it names the first bad row.
        HomeError: if the keys cannot be used, or the journal ends before what was signed.
        StorageError: if there is no space, or a copy cannot be written; it is made next time.
    """
    volume = kernel.volume(tenant)
    store = TreeStore(volume)
    if kernel.looking:
        return _signed_before(tenant, store)
    log = home_log(kernel, tenant)
    while True:
        with volume.transaction():
            _note_rotations(kernel, tenant, volume, store)
            if not _rows_since(store):
                made = _last(store)
                break
            tree = _grow(volume, store)
            if tree.seq == store.head():
                made = _sign(kernel, tenant, store, tree, log) if tree.size else None
                break
    publish(kernel, tenant)
    return made


def pending(kernel: Kernel, tenant: str) -> Pending:
    """Return what waits for a checkpoint; the rows of checkpoints themselves do not count.

    Fewer than none are there when the journal's end is missing.
    """
    store = TreeStore(kernel.volume(tenant))
    rows = _rows_since(store)
    since = store.time_after(store.head() - rows) if rows > 0 else None
    if since is None:
        return Pending(rows, 0.0)
    return Pending(rows, max(0.0, (kernel.clock.now_ns() - since) / _NS))


def _signed_before(tenant: str, store: TreeStore) -> Note | None:
    """Return the last checkpoint, where nothing may be signed, if it covers all rows."""
    rows = _rows_since(store)
    if rows > 0:
        raise StorageError(
            f"{rows} rows of tenant {tenant!r} are not signed for, and the home is only looked at",
            hint="run `fmos audit checkpoint` where it may be written to",
        )
    return _last(store)


def _last(store: TreeStore) -> Note | None:
    text = store.last_note()
    return notes.parse(text) if text else None


def _rows_since(store: TreeStore) -> int:
    """Return how many rows came after the last checkpoint's own."""
    last = _last(store)
    return store.head() - (last.checkpoint.seq + 1 if last else 0)


def checkpoint_due(kernel: Kernel) -> int:
    """Sign a checkpoint for every tenant whose settings ask for one now; return how many.

    Copies that could not be written before are written now. A tenant that fails does not keep
    the others from theirs.

    Raises:
        FmosError, AgentFSError: the first failure, after all tenants had their turn.
    """
    settings = kernel.settings.audit
    made, failed = 0, list[FmosError | AgentFSError]()
    for tenant in kernel.home.tenants():
        try:
            waiting = pending(kernel, tenant)
            by_rows = waiting.rows >= settings.checkpoint_rows
            if (
                waiting.rows < 0
                or by_rows
                or (waiting.rows and waiting.seconds >= settings.checkpoint_seconds)
            ):
                made += checkpoint(kernel, tenant) is not None
            else:
                publish(kernel, tenant)
        except (FmosError, AgentFSError) as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return made


def rotate(kernel: Kernel, tenant: str, step: Step = lambda name: None) -> KeyChange:
    """Give a tenant a new key: the old one signs a last checkpoint and the new key, and is wiped.

    It can be cut short anywhere; the next use of the keys finishes it. `step` is told each step.

    Raises:
        FormatError, HomeError, StorageError: as `checkpoint` does; the old key stays then.
    """
    checkpoint(kernel, tenant)
    volume = kernel.volume(tenant)
    # Whoever signs holds the volume's write lock, so nothing is signed beyond `final` meanwhile.
    with volume.transaction():
        last = _last(TreeStore(volume))
        final = last.checkpoint.seq if last else 0
        change = kernel.change_key(tenant, final, step)
    step("unlocked")
    checkpoint(kernel, tenant)
    return change


def let_go(kernel: Kernel, tenant: str, retention_s: float | None = None) -> int:
    """Let go of journal rows beyond the retention, after a checkpoint over them; return how many.

    What follows from them stays: their hashes are in the tree, and the signed hash of the last
    one is where the chain begins. The retention is by default the longer one of the volume's
    `history_retention` and `[audit] keep_days`; no row that the checkpoint does not cover goes.

    Raises:
        FormatError, HomeError, StorageError: as `checkpoint` does; nothing is let go then.
    """
    made = checkpoint(kernel, tenant)
    keys, volume = kernel.keys_of(tenant), kernel.volume(tenant)
    if retention_s is None:
        retention_s = max(volume.retention(), kernel.settings.audit.keep_days * _DAY_S)
    found = volume.gc(
        retention_s,
        sign=lambda digest: keys.sign(digest).encode("ascii"),
        until=made.checkpoint.seq if made else 0,
    )
    return found.journal_rows


def _note_rotations(kernel: Kernel, tenant: str, volume: AgentFS, store: TreeStore) -> None:
    """Write the rows of key changes that no checkpoint knows of yet."""
    last = _last(store)
    known = last.checkpoint.key if last else 0
    for change in kernel.key_history(tenant).changes[known:]:
        volume.record(ROTATE, change.to_json())


def _grow(volume: AgentFS, store: TreeStore) -> Tree:
    """Take the next rows into the tree, after checking that they follow from those before."""
    start, head = volume.journal_start(), store.head()
    tree = store.tree()
    if tree is None or start.seq > tree.seq:
        # Rows that nothing covered are gone: what they were can never be shown again.
        tree = store.begin(start.seq, start.hash)
    _refuse_other_tree(store, tree, start.seq)
    if max(head, start.seq) < tree.seq:
        raise FormatError(
            f"the journal ends with row {head}, but {tree.seq} rows were there before",
            hint="run `fmos audit verify`, and restore the volume from a backup",
        )
    part = volume.check_journal(tree.seq, min(head, tree.seq + _PIECE), tree.last)
    if part.first_bad_seq is not None:
        raise FormatError(
            f"row {part.first_bad_seq} of the journal is not as it was written, and is not signed",
            hint="run `fmos audit verify` to see what happened to it",
        )
    return store.grow(tree, part.hashes)


def _refuse_other_tree(store: TreeStore, tree: Tree, start: int) -> None:
    """Refuse a tree that begins later than the journal, or than rows that were signed for."""
    last = _last(store)
    hint = "run `fmos audit verify`, and restore the volume from a backup"
    if tree.base > start:
        raise FormatError(f"{late_tree(tree.base, start)}; it is not signed", hint=hint)
    if last and last.checkpoint.base != tree.base and last.checkpoint.seq > tree.base:
        raise FormatError(
            f"the audit tree begins after row {tree.base}, but the checkpoint of row"
            f" {last.checkpoint.seq} was signed for another one; it is not signed",
            hint=hint,
        )


def _sign(kernel: Kernel, tenant: str, store: TreeStore, tree: Tree, log: Path) -> Note:
    """Sign the tree as it is, and make the checkpoint a row of the journal."""
    _refuse_if_behind(log, store, tree)
    history = kernel.key_history(tenant)
    said = Checkpoint(
        store.origin, tree.size, tree.frontier.root(), tenant, tree.last, kernel.clock.now_ns(),
        len(history.changes), tree.base, tree.chain,
    )  # fmt: skip
    keys = kernel.keys_of(tenant)
    note = notes.sign(said, history.keys[-1], keys.sign)
    store.add(said.base, said.size, said.time_ns, said.key, str(note))
    detail = {"size": said.size, "base": said.base, "key": said.key, "note": str(note)}
    kernel.volume(tenant).record(CHECKPOINT, detail)
    return note


def _refuse_if_behind(log: Path, store: TreeStore, tree: Tree) -> None:
    """Refuse to sign a journal that ends before what the home's log has."""
    last = copies.last_of(log)
    if last is None or last.checkpoint.origin != store.origin:
        return
    if last.checkpoint.seq > tree.seq:
        raise HomeError(
            f"the journal ends with row {tree.seq}, but {str(log)!r} has a checkpoint of row"
            f" {last.checkpoint.seq}: rows were cut off, or an older volume was put back",
            hint="run `fmos audit verify`; if a backup was put back on purpose, move the log away",
        )


def publish(kernel: Kernel, tenant: str) -> None:
    """Append the checkpoints that are missing there to the home's log and to the copy outside.

    Raises:
        HomeError: if the copy would be inside the home.
        StorageError: if one cannot be written.
    """
    store = TreeStore(kernel.volume(tenant))
    newest = store.last_note()
    if newest is None:
        return
    log = home_log(kernel, tenant)
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    outside = export_path(kernel, tenant)
    if outside is not None and not outside.parent.is_dir():
        _append_missing(log, newest, store)
        raise StorageError(
            f"checkpoints cannot be copied to {str(outside.parent)!r}: there is no such folder",
            hint="make it, or mount what belongs there; they are copied then",
        )
    for path in (log, outside):
        if path is not None:
            _append_missing(path, newest, store)


def _append_missing(path: Path, newest: str, store: TreeStore) -> None:
    last = copies.last_of(path)
    if last is not None and str(last) == newest:
        return
    at = (last.checkpoint.base, last.checkpoint.size) if last else (-1, -1)
    copies.append(path, store.notes_after(*at))


def export_path(kernel: Kernel, tenant: str) -> Path | None:
    """Return where `[audit] export_to` keeps a tenant's checkpoints, or None without it.

    Raises:
        HomeError: if that is inside the home, which it is there to be checked against.
    """
    chosen = kernel.settings.audit.export_to
    if not chosen:
        return None
    folder, home = Path(chosen).expanduser(), kernel.home.path
    if (home / folder).resolve().is_relative_to(home.resolve()):
        raise HomeError(
            f"[audit] export_to = {chosen!r} is inside the home",
            hint="name a folder that whoever may write to the home cannot write to",
        )
    return folder / f"{tenant}.checkpoints"


def home_log(kernel: Kernel, tenant: str) -> Path:
    """Return where the home keeps a tenant's checkpoints outside the volume."""
    return kernel.home.path / "audit" / tenant / "checkpoints.log"

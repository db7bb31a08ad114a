"""Checks a tenant's journal: every row, every checkpoint, and what both say of each other.

A chain alone shows changes inside it. Checkpoints, above all those kept where whoever writes to the
volume cannot write, show that its end was cut off or that it was written anew. What cannot be seen
is said in plain words: `AuditReport.unseen`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agentfs import AgentFS
from agentfs.types import JournalStart
from fmos.audit import copies
from fmos.audit.checkpoints import export_path, home_log
from fmos.audit.history import KeyHistory
from fmos.audit.keys import verify_signature
from fmos.audit.merkle import Frontier, leaf_hash
from fmos.audit.note import Checkpoint, Note, parse
from fmos.audit.sweep import Progress, Range, Swept, sweep_all
from fmos.audit.tree import TILE, TILE_LEVELS, TreeStore, late_tree
from fmos.errors import FmosError, FormatError
from fmos.runtime.kernel import Kernel

What = Literal[
    "changed", "removed", "reordered", "cut", "recomputed", "checkpoint", "signature", "key", "tree"
]
"""What is wrong: with a row, with the journal's end or all of it, or with what was signed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; `seq` is the first journal row that it concerns, where one is."""

    what: What
    seq: int | None
    sentence: str


@dataclass(slots=True)
class AuditReport:
    """What checking a journal found.

    Rows `first` to `last` were read; those up to `covered` are signed for, and those up to
    `covered_outside` in a checkpoint from outside the home.
    """

    tenant: str
    first: int
    last: int
    head: str = ""
    checkpoints: int = 0
    covered: int = 0
    covered_outside: int = 0
    problems: list[Problem] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def first_bad(self) -> int | None:
        """The first row that something is wrong with."""
        rows = [each.seq for each in self.problems if each.seq is not None]
        return min(rows, default=None)

    @property
    def rows(self) -> int:
        """How many rows were read."""
        return self.last - self.first + 1

    def add(self, what: What, seq: int | None, sentence: str) -> None:
        """Note something that is wrong, once."""
        problem = Problem(what, seq, sentence)
        if problem not in self.problems:
            self.problems.append(problem)

    def to_json(self) -> dict[str, Any]:
        """Return the report as commands and tools print it."""
        return {"ok": self.ok, "first_bad": self.first_bad, "rows": self.rows, **asdict(self)}


def verify(
    kernel: Kernel,
    tenant: str,
    outside: Sequence[Note] = (),
    progress: Progress | None = None,
) -> AuditReport:
    """Check a tenant's journal against itself, its checkpoints and those from outside the home.

    The checkpoints that `[audit] export_to` keeps count as from outside, too.

    Raises:
        HomeError: if the tenant has no keys and none can be made.
        StorageError: if a file cannot be read.
    """
    volume = kernel.volume(tenant)
    store = TreeStore(volume)  # may make its tables, which a read cannot
    with volume.reading():
        return _Check(kernel, tenant, volume, store, outside).run(progress)


def verify_tail(kernel: Kernel, tenant: str) -> AuditReport:
    """Check the newest checkpoint and the rows after it only, in a short time.

    Raises:
        HomeError: if the tenant has no keys.
        FormatError: if the history of its keys does not follow.
    """
    volume = kernel.volume(tenant)
    store = TreeStore(volume)  # may make its tables, which a read cannot
    with volume.reading():
        start = volume.journal_start()
        last = max(store.head(), start.seq)
        text = store.last_note()
        since, previous = start.seq, start.hash
        report = AuditReport(tenant, since + 1, last)
        if text is not None:
            note = parse(text)
            said = note.checkpoint
            keys = kernel.key_history(tenant).keys
            if not 0 <= said.key < len(keys) or not note.signed_by(keys[said.key]):
                report.add("signature", None, f"the checkpoint of row {said.seq} is not signed")
            elif said.seq > last:
                report.add("cut", last + 1, f"rows {last + 1} to {said.seq} are gone")
            else:
                since, previous, report.covered = said.seq, said.chain, said.seq
        kept = copies.last_of(home_log(kernel, tenant))
        if kept is not None and kept.checkpoint.seq > last:
            report.add("cut", last + 1, f"rows {last + 1} to {kept.checkpoint.seq} are gone")
        part = volume.check_journal(since, last, previous)
        if part.first_bad_seq is not None:
            bad = part.first_bad_seq
            report.add("changed", bad, f"row {bad} is not as it was written")
    report.first, report.checkpoints = since + 1, int(report.covered > 0)
    report.unseen = list(_unseen(report, start))
    return report


class _Check:
    """One run over one state of a volume."""

    def __init__(
        self,
        kernel: Kernel,
        tenant: str,
        volume: AgentFS,
        store: TreeStore,
        outside: Sequence[Note],
    ) -> None:
        self.volume = volume
        self.store = store
        self.start: JournalStart = volume.journal_start()
        tree = self.store.tree()
        # The tree's table is not signed: one that begins later than the journal is not believed.
        self.base = min(tree.base, self.start.seq) if tree else self.start.seq
        last = max(self.store.head(), self.start.seq)
        self.report = AuditReport(tenant, self.start.seq + 1, last)
        if tree and tree.base > self.base:
            self.report.add("tree", self.base + 1, late_tree(tree.base, self.base))
        self.history = self._history(kernel, tenant)
        self.outside = list(outside)
        self.inside: list[Note] = []
        self._collect(kernel, tenant)
        # What the tree was for each size: root, and hash of the last row where that is known.
        self.roots: dict[int, tuple[bytes, bytes | None]] = {}

    def _history(self, kernel: Kernel, tenant: str) -> KeyHistory | None:
        try:
            kernel.keys_of(tenant)
        except FmosError as error:
            self.report.add("key", None, str(error))
        try:
            return kernel.key_history(tenant)
        except FmosError as error:
            self.report.add("key", None, str(error))
            return None

    def _collect(self, kernel: Kernel, tenant: str) -> None:
        """Bring all checkpoints together that there are."""
        for text in self.store.notes():
            try:
                self.inside.append(parse(text))
            except FormatError as error:
                self.report.add("checkpoint", None, f"a checkpoint in the volume: {error}")
        kept = copies.read_log(home_log(kernel, tenant))
        missing = {each.text for each in kept} - {each.text for each in self.inside}
        self.inside += [each for each in kept if each.text in missing]
        path = export_path(kernel, tenant)
        if path is not None:
            self.outside += copies.read_log(path)

    def run(self, progress: Progress | None) -> AuditReport:
        """Do all checks."""
        report = self.report
        notes = [*self.inside, *self.outside]
        signed = [each for each in notes if self._counts(each)]
        self._check_start(signed)
        mine = [each for each in signed if each.checkpoint.base == self.base]
        self._recompute({each.checkpoint.size for each in mine}, progress)
        good = [each for each in signed if self._holds(each)]
        held = [each for each in good if each in mine]
        report.covered = max((each.checkpoint.seq for each in held), default=0)
        report.covered_outside = max(
            (each.checkpoint.seq for each in self.outside if each in held), default=0
        )
        report.checkpoints = len({each.text for each in good})
        self._locate(mine)
        report.problems.sort(key=lambda each: (each.seq is None, each.seq))
        report.unseen = list(_unseen(report, self.start))
        return report

    # -- the rows ---------------------------------------------------------------------------

    def _check_start(self, signed: Iterable[Note]) -> None:
        """Check what stands for the rows that retention let go."""
        start = self.start
        if not start.announced:
            self.report.add(
                "removed",
                start.seq,
                f"rows up to {start.seq} are gone, and retention did not do it",
            )
        covered = any(each.checkpoint.base < start.seq for each in signed)
        if start.seq and not start.signature and covered:
            self.report.add(
                "removed", start.seq,
                f"rows up to {start.seq} are gone, and nobody signed for letting them go, though a"
                " checkpoint covers some of them",
            )  # fmt: skip
        if start.signature and self.history is not None:
            said = start.signature.decode("ascii", "replace")
            # A key that was given up before this row signed for nothing that reaches so far.
            signers = self.history.signers(0, start.seq)
            if not any(verify_signature(key, start.hash, said) for key in signers):
                self.report.add(
                    "signature", start.seq,
                    f"the hash of row {start.seq} is not signed as it was, by a key that was not"
                    " given up before that row",
                )  # fmt: skip

    def _recompute(self, sizes: set[int], progress: Progress | None) -> None:
        """Recompute the chain, and the root at each size."""
        gone = max(0, self.start.seq - self.base)
        try:
            frontier = self._let_go(gone, sizes)
        except FormatError as error:
            self.report.add("tree", None, str(error))
            frontier = None
        last = self.report.last
        edge = min(last, self.start.seq + -gone % TILE)
        part = self.volume.check_journal(self.start.seq, edge, self.start.hash)
        previous = part.hashes[-1] if part.hashes else self.start.hash
        if frontier is not None:
            for each in part.hashes:
                frontier.add(leaf_hash(each))
                if frontier.size in sizes:
                    self.roots[frontier.size] = (frontier.root(), each)
        bad = part.first_bad_seq
        if bad is None and edge < last:
            found = sweep_all(
                self.volume, Range(self.base, edge, last, previous), sorted(sizes), progress
            )
            previous, bad = self._join(found, frontier)
        self.report.head = previous.hex()
        if bad is not None:
            self._say_bad(bad, previous)

    def _let_go(self, gone: int, sizes: set[int]) -> Frontier:
        """Return the tree of the rows that are gone, from the hashes that were kept of them."""
        for size in sizes:
            if size <= gone:
                self.roots[size] = (self.store.frontier(self.base, size).root(), None)
        if gone:
            kept = self.store.tile(self.base, 0, (gone - 1) // TILE)[(gone - 1) % TILE]
            if kept != leaf_hash(self.start.hash):
                self.report.add(
                    "changed", self.start.seq,
                    f"the hash of row {self.start.seq}, the last one let go, is not what it was",
                )  # fmt: skip
        return self.store.frontier(self.base, gone)

    def _join(self, found: list[Swept], frontier: Frontier | None) -> tuple[bytes, int | None]:
        """Join what ranges gave; return the last hash that follows, and the first bad row."""
        for each in found:
            if frontier is not None:
                self._join_one(each, frontier)
            if each.bad is not None:
                return each.last, each.bad
        return found[-1].last, None

    def _join_one(self, swept: Swept, frontier: Frontier) -> None:
        sizes = iter(sorted(swept.parts))
        size = next(sizes, None)
        for tile in (*swept.tiles, None):
            while size is not None and size - size % TILE == frontier.size:
                grown = frontier.copy()
                levels = [level for level in reversed(range(TILE_LEVELS)) if size >> level & 1]
                for level, hashed in zip(levels, swept.parts[size], strict=True):
                    grown.add(hashed, level)
                self.roots[size] = (grown.root(), swept.chain[size])
                size = next(sizes, None)
            if tile is not None:
                frontier.add(tile, TILE_LEVELS)

    def _say_bad(self, seq: int, previous: bytes) -> None:
        what = self.volume.explain_journal(seq, previous)
        sentence = {
            "changed": f"row {seq} was changed after it was written",
            "removed": f"row {seq} is gone: it was removed",
            "reordered": f"row {seq} stands in the place of another row: rows were reordered",
        }[what]
        self.report.add(what, seq, f"{sentence}; rows after it cannot be told apart from forged")

    # -- the checkpoints ----------------------------------------------------------------------

    def _counts(self, note: Note) -> bool:
        """Return whether a checkpoint is of this journal and signed as it must be."""
        said = note.checkpoint
        name = f"the checkpoint of row {said.seq}"
        if said.origin != self.store.origin or said.tenant != self.report.tenant:
            self.report.add("checkpoint", None, f"{name} is of another volume ({said.origin})")
            return False
        return self.history is not None and self._is_signed(note, self.history, name)

    def _holds(self, note: Note) -> bool:
        """Hold a checkpoint against the rows; note what is wrong."""
        said = note.checkpoint
        if said.seq > self.report.last:
            self.report.add(
                "cut", self.report.last + 1,
                f"rows {self.report.last + 1} to {said.seq} are gone: the journal's end was cut"
                " off, or an older volume was put back",
            )  # fmt: skip
            return False
        if said.base != self.base:
            return self._is_of_gone_rows(said)
        return self._matches(note)

    def _is_of_gone_rows(self, said: Checkpoint) -> bool:
        """Return whether a checkpoint of another tree is one of rows that are gone."""
        if said.seq <= self.base:
            return True
        self.report.add(
            "recomputed", self.base + 1,
            f"the checkpoint of row {said.seq} was signed for a tree that begins after row"
            f" {said.base}, and the tree that is there begins after row {self.base}",
        )  # fmt: skip
        return False

    def _is_signed(self, note: Note, history: KeyHistory, name: str) -> bool:
        number = note.checkpoint.key
        if not 0 <= number < len(history.keys) or not note.signed_by(history.keys[number]):
            self.report.add(
                "signature", None, f"{name} is not signed by a key of tenant {history.tenant!r}"
            )
            return False
        final = history.final_row(number)
        if final is not None and note.checkpoint.seq > final:
            self.report.add(
                "signature", None,
                f"{name} is signed with key {number}, which was given up after row {final}",
            )  # fmt: skip
            return False
        return True

    def _matches(self, note: Note) -> bool:
        """Return whether the rows are those that were signed for; where is told later."""
        said = note.checkpoint
        found = self.roots.get(said.size)
        if said.size == 0 or found is None:
            return said.size == 0  # the rows before it are bad, which is told already
        root, chain = found
        return root == said.root and chain in (None, said.chain)

    def _locate(self, notes: Iterable[Note]) -> None:
        """Name the first row that is not the one that was signed for."""
        wrong = [
            each.checkpoint for each in notes
            if each.checkpoint.size in self.roots and not self._matches(each)
        ]  # fmt: skip
        if not wrong:
            return
        first = min(wrong, key=lambda each: each.size)
        sizes = [each.checkpoint.size for each in notes if self._matches(each)]
        since = self.base + max((size for size in sizes if size < first.size), default=0)
        seq = self._first_other(since, first.seq)
        rest = f"row {seq}" if seq is not None else f"one of rows {since + 1} to {first.seq}"
        self.report.add(
            "recomputed", seq or since + 1,
            f"{rest} is not the one that the checkpoint of row {first.seq} was signed for: the"
            " journal was written anew from there",
        )  # fmt: skip

    def _first_other(self, since: int, until: int) -> int | None:
        """Return the first row whose hash is not the one kept in the tree's tiles."""
        since = max(since, self.start.seq)
        for seq in range(since + 1, until + 1):
            index = seq - self.base - 1
            hashed = self.store.row_hash(seq)
            try:
                kept = self.store.tile(self.base, 0, index // TILE)[index % TILE]
            except (FormatError, IndexError):
                return None
            if hashed is None or leaf_hash(hashed) != kept:
                return seq
        return None


def _unseen(report: AuditReport, start: JournalStart) -> Iterable[str]:
    """Say what this run cannot have seen."""
    if not report.covered_outside:
        yield (
            "without a checkpoint from outside the home it cannot be seen that somebody with the"
            " audit key cut off the journal's end, or wrote all of it anew: keep copies elsewhere"
            " ([audit] export_to) and give one with --checkpoint"
        )
    elif report.covered_outside < report.last:
        yield (
            f"after row {report.covered_outside}, the last one in a checkpoint from outside, it"
            " cannot be seen that somebody with the audit key cut off the journal's end, or wrote"
            " those rows anew"
        )
    if report.covered < report.last:
        yield (
            f"rows {report.covered + 1} to {report.last} have no checkpoint yet: that somebody who"
            " can write to the volume cut them off or wrote them anew cannot be seen"
        )
    if start.seq:
        signed = "signed " if start.signature else ""
        yield (
            f"rows up to {start.seq} were let go by retention; their {signed}hashes are there, what"
            " they said cannot be checked"
        )
    yield "what was never recorded cannot be seen in a journal"

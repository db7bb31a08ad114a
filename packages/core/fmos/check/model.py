"""What `fmos check` finds: operations with their class, seams, gaps and warnings; one report.

The report's JSON is documented in docs/check.md; its fields are only ever added to.
"""

from __future__ import annotations

from typing import Literal

from fmos.types import OperationClass, OperationKind, Record

SeamStatus = Literal["intercepted", "bypassed", "declared", "accepted", "failed"]


class CheckedContract(Record):
    """The contract that the report is about."""

    agent: str
    digest: str


class OperationFinding(Record):
    """One kind of operation, or one tool: what the trap table says and what it is by nature.

    `operation_class` is innocuous where at least one probed call runs at once; `sensitive` where at
    least one is sensitive. Both together are well, as long as they are not the same call.
    """

    kind: OperationKind
    name: str
    operation_class: OperationClass
    sensitive: bool
    why: str


class SeamFinding(Record):
    """One entry point of an adapter, and what became of the canaries that were sent through it."""

    adapter: str
    name: str
    kind: OperationKind
    file: str
    status: SeamStatus
    canaries: int = 0
    reason: str = ""


class Gap(Record):
    """A sensitive operation that can run without the gate: where, why, and the way out."""

    where: str
    kind: OperationKind
    file: str
    reason: str
    hint: str = ""


class Caution(Record):
    """Something that is no bypass but not as it seems either; `code` is stable."""

    code: str
    where: str
    reason: str
    hint: str = ""


class Report(Record):
    """The outcome of one check. `proven` is true where no gap is left."""

    contract: CheckedContract | None = None
    table_version: str = ""
    operations: tuple[OperationFinding, ...] = ()
    seams: tuple[SeamFinding, ...] = ()
    gaps: tuple[Gap, ...] = ()
    warnings: tuple[Caution, ...] = ()
    proven: bool = True

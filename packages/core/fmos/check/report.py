"""Puts the parts of a check together: the probes of a contract's trap table, and the seams."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from fmos.audit.keys import AuditKeys
from fmos.check import meters
from fmos.check.advice import cautions, declared_limits, unmetered
from fmos.check.canary import SeamResults
from fmos.check.model import CheckedContract, Report
from fmos.check.sensitive import Nature
from fmos.check.static import check_table
from fmos.clock import SystemClock
from fmos.contract.model import AgentContract
from fmos.runtime.limits import limits_calls, limits_of
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.table import compile_table
from fmos.types import DEFAULT_TENANT


def check_contract(
    contract: AgentContract,
    tools: Sequence[ToolDescriptor],
    *,
    agent: str = "",
    tenant: str = DEFAULT_TENANT,
    private: Sequence[str] = (),
    metered: bool | None = None,
    file: str = "",
) -> Report:
    """Return what the trap table of a contract lets pass, and what of the contract is not kept.

    The table is compiled and signed with throw-away keys: which calls trap depends on no key.

    Args:
        contract: The effective contract.
        tools: All descriptors that are known, also several of one name.
        agent: The agent's key, where it is not the contract's name.
        tenant: The agent's tenant.
        private: Absolute host paths that are never the agent's, such as the FMOS home.
        metered: Whether calls or their time are limited; by default what the contract itself says.
        file: Where contract or manifest are, for the gaps.
    """
    spends = limits_calls(limits_of(contract, {})) if metered is None else metered
    with tempfile.TemporaryDirectory(prefix="fmos-check-") as folder:
        keys = AuditKeys(Path(folder))
        table = compile_table(
            contract, tools, keys, SystemClock(), agent=agent, tenant=tenant, private=private,
            metered=spends,
        )  # fmt: skip
    found = check_table(table, Nature(contract, tools, private, spends), file=file)
    warnings = [*cautions(contract, tools)]
    limits = declared_limits(contract)
    warnings += unmetered(contract, meters.metered(limits))
    return Report(
        contract=CheckedContract(agent=agent or contract.name, digest=contract.digest),
        table_version=table.version,
        operations=tuple(found.operations),
        gaps=tuple(found.gaps),
        warnings=tuple(warnings),
        proven=not found.gaps,
    )


def with_seams(report: Report, results: Iterable[SeamResults]) -> Report:
    """Return a report with what driving the seams of adapters found added to it."""
    driven = list(results)
    gaps = (*report.gaps, *(gap for each in driven for gap in each.gaps))
    return report.model_copy(
        update={
            "seams": (*report.seams, *(seam for each in driven for seam in each.seams)),
            "gaps": gaps,
            "warnings": (*report.warnings, *(said for each in driven for said in each.warnings)),
            "proven": not gaps,
        }
    )

"""`fmos check`: which of an agent's tools trap, and which run at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from fmos_cli.session import Session

if TYPE_CHECKING:
    from fmos.contract.model import AgentContract
    from fmos.runtime.kernel import Kernel
    from fmos.traps.table import TrapRule


class Finding(TypedDict):
    """One tool or capability of the contract and how calls of it are classed."""

    tool: str
    operation_class: str
    why: str


def check(
    context: typer.Context,
    contract: Annotated[
        str, typer.Argument(metavar="AGENT|FILE", help="An agent's id, or a contract file.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """List the tools of a contract: innocuous ones run at once, privileged ones trap.

    Tools are known once an application has registered them; a capability without a registered
    tool is listed too, because every call of an unregistered tool traps.
    """
    session: Session = context.obj
    with session.open() as kernel:
        loaded = _load(kernel, contract)
        findings = list(_findings(loaded, _rules(kernel, loaded)))
    if as_json:
        document = {"agent": loaded.name, "digest": loaded.digest, "tools": findings}
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(f"{loaded.name} (contract {loaded.digest[:12]})")
    width = max((len(finding["tool"]) for finding in findings), default=0)
    for finding in findings:
        typer.echo(
            f"  {finding['tool']:<{width}}  {finding['operation_class']:<10}  {finding['why']}"
        )


def _load(kernel: Kernel, named: str) -> AgentContract:
    """Load the file, or the contract of the agent in this home."""
    from fmos.contract.parse import load_file  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import NotFoundError  # noqa: PLC0415

    if named.endswith((".yaml", ".yml")) or "/" in named:
        return load_file(Path(named))
    found = kernel.contracts.get(named)
    if found is None:
        raise NotFoundError(
            f"there is no contract for the agent {named!r} in {str(kernel.home.contracts)!r}",
            hint="put one there, or name a contract file",
        )
    return found


def _rules(kernel: Kernel, contract: AgentContract) -> tuple[TrapRule, ...]:
    """The rules that the contract gives the tools that are registered for its agent."""
    from fmos.traps.table import compile_table  # noqa: PLC0415 - keeps --help fast
    from fmos.types import DEFAULT_TENANT  # noqa: PLC0415
    from fmos_trust.store import TrustStore  # noqa: PLC0415

    tools = TrustStore(kernel.database).tools(DEFAULT_TENANT, [contract.name])
    return compile_table(contract, tools.values(), kernel.keys, kernel.clock).rules


def _findings(contract: AgentContract, rules: Iterable[TrapRule]) -> Iterable[Finding]:
    registered: set[str] = set()
    for rule in rules:
        registered.add(rule.tool)
        innocuous = rule.operation_class == "innocuous"
        paths = ", ".join(rule.read_paths) if rule.path_arguments else "everything"
        why = f"runs at once on {paths}" if innocuous else "traps to the trust gate"
        yield Finding(tool=rule.tool, operation_class=str(rule.operation_class), why=why)
    for capability in contract.capabilities:
        if capability not in registered:
            why = "traps: no tool of this name is registered"
            yield Finding(tool=capability, operation_class="privileged", why=why)

"""`fmos policy test`: which calls a trust policy would decide otherwise; nothing runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmos_cli.files import source
from fmos_cli.moments import moment_ns
from fmos_cli.principals import only_agent, principal
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.types import Principal
    from fmos_trust.policy.dry_run import DryRun, PolicyCall
    from fmos_trust.service import TrustService

EPILOG = """Example:  fmos policy test office.yaml --agent writer --since 7d --expect-none

Exit codes: 0 done; 1 something would change, with --expect-none; 4 a policy is not valid; 5 a call
cannot be one; 8 nothing is recorded."""

_SHOWN = 120


def try_out(
    context: typer.Context,
    candidate: Annotated[
        Path, typer.Argument(help="The policy; it takes the place of its name's.")
    ],
    agent: Annotated[str, typer.Option(help="Whose calls.  [default: everybody's]")] = "",
    application: Annotated[str, typer.Option(help="The agent's application.")] = "",
    tenant: Annotated[str, typer.Option(help="The agent's tenant.")] = "default",
    session: Annotated[str, typer.Option(help="Only the calls of this recorded session.")] = "",
    since: Annotated[str, typer.Option(help="Only calls after a day, a time, or 7d.")] = "",
    calls: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead: calls as JSON lines with tool and arguments."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The last so many calls.")] = 10_000,
    expect_none: Annotated[
        bool, typer.Option("--expect-none", help="Fail if a verdict would change.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Try a trust policy on recorded calls, and list the verdicts that it would change."""
    from fmos.contract.parse import read_text  # noqa: PLC0415 - keeps --help fast
    from fmos_trust.service import TrustService  # noqa: PLC0415

    own: Session = context.obj
    text = read_text(source(candidate))
    with own.look() as kernel:
        gate = TrustService(kernel)
        since_ns = moment_ns(since) if since else 0
        found = {
            who.agent_key: gate.policy_dry_run(who, text, tried, limit, str(candidate))
            for who, tried in _tried(
                gate, _whose(own, gate, tenant, application, agent, calls), session, calls,
                limit, since_ns,
            )
        }  # fmt: skip
    changed = sum(each.changed for each in found.values())
    if as_json:
        runs = {name: each.model_dump(mode="json") for name, each in found.items()}
        number = sum(each.calls for each in found.values())
        typer.echo(json.dumps({"calls": number, "changed": changed, "agents": runs}, indent=2))
    else:
        for name, each in found.items():
            for line in _lines(name, each):
                typer.echo(line)
    if expect_none and changed:
        raise typer.Exit(1)


def _whose(
    own: Session, gate: TrustService, tenant: str, application: str, agent: str, calls: Path | None
) -> list[Principal]:
    """Return the agents whose calls are tried: all that were recorded, unless one is named."""
    if agent or calls:
        return [principal(tenant, application, agent or only_agent(own))]
    return gate.recorded_agents(tenant)


def _tried(
    gate: TrustService,
    agents: list[Principal],
    session: str,
    calls: Path | None,
    limit: int,
    since_ns: int,
) -> Iterator[tuple[Principal, list[PolicyCall]]]:
    given = _of_file(calls) if calls else None
    for each in agents:
        who = each.model_copy(update={"session": session})
        yield who, given if given is not None else gate.recorded_calls(who, limit, since_ns)


def _of_file(path: Path) -> list[PolicyCall]:
    from pydantic import ValidationError  # noqa: PLC0415 - keeps --help fast

    from fmos.errors import ArgumentError  # noqa: PLC0415
    from fmos_trust.policy.dry_run import PolicyCall  # noqa: PLC0415

    found: list[PolicyCall] = []
    for number, line in enumerate(source(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(PolicyCall.model_validate(json.loads(line)))
        except (ValueError, ValidationError) as error:
            raise ArgumentError(
                f"{str(path)!r}:{number} is no call",
                hint='write {"tool": "send", "arguments": {"to": "a@example.com"}} in one line',
            ) from error
    return found


def _lines(agent: str, found: DryRun) -> Iterator[str]:
    what = f"{found.candidate} for {agent} (rules {found.digest[:12]})"
    yield safe(f"{what}: {found.changed} of {found.calls} calls would be decided otherwise")
    for each in found.changes:
        arguments = json.dumps(each.arguments, ensure_ascii=False)
        shown = arguments if len(arguments) <= _SHOWN else f"{arguments[:_SHOWN]}..."
        yield safe(f"  {each.before} -> {each.after}  {each.tool} {shown}")
        if each.why:
            yield safe(f"      {', '.join(each.after_rules)}: {each.why}")
    for count in found.rules:
        yield safe(f"  {count.rule}: {count.before} -> {count.after}")

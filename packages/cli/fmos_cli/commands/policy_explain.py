"""`fmos policy explain`: what the trust gate would decide of one call, rule by rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.files import source
from fmos_cli.principals import only_agent, principal
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.types import Reason
    from fmos_trust.facts import Facts
    from fmos_trust.findings import Judged

EPILOG = """Example:  fmos policy explain send args.json --agent writer

Exit codes: 4 a policy is not valid; 5 the arguments are none."""


def explain(
    context: typer.Context,
    tool: Annotated[str, typer.Argument(help="The tool's name.")],
    arguments: Annotated[
        Path | None, typer.Argument(metavar="ARGS.json", help="Its arguments, as a JSON object.")
    ] = None,
    agent: Annotated[
        str, typer.Option(help="Who would call it, if the home has several agents.")
    ] = "",
    application: Annotated[str, typer.Option(help="The agent's application.")] = "",
    tenant: Annotated[str, typer.Option(help="The agent's tenant.")] = "default",
    session: Annotated[str, typer.Option(help="In which session.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Say what the gate would decide of a call, which rules are about it, and what would change it.

    Nothing runs and nothing is written; budgets and approvals are not looked at.
    """
    from fmos.types import Operation, OperationKind  # noqa: PLC0415 - keeps --help fast
    from fmos_trust.policy.dry_run import decision_of  # noqa: PLC0415
    from fmos_trust.service import TrustService  # noqa: PLC0415

    own: Session = context.obj
    agent = agent or only_agent(own)
    who = principal(tenant, application, agent, session)
    given = _arguments(arguments)
    operation = Operation(kind=OperationKind.TOOL_CALL, name=tool, arguments=given, principal=who)
    with own.look() as kernel:
        facts, judged = TrustService(kernel).findings_now(who, operation)
        applied = _rules(kernel, facts)
    decided = decision_of(judged)
    if as_json:
        typer.echo(json.dumps(_document(agent, tool, decided, applied, judged), indent=2))
        return
    typer.echo(safe(f"{agent} calls {tool}: {decided}"))
    for line in _lines(applied, judged):
        typer.echo(safe(line))


def _arguments(path: Path | None) -> dict[str, Any]:
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    if path is None:
        return {}
    try:
        found = json.loads(source(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{str(path)!r} is not JSON: {error}", hint="correct it") from error
    if not isinstance(found, dict):
        raise ArgumentError(f"{str(path)!r} holds no object", hint='write {"name": value}')
    return found


def _rules(kernel: Any, facts: Facts) -> list[tuple[str, str, str]]:
    """Return label, sentence and state of every rule about the tool."""
    from fmos_trust.policy.compiled import EMPTY  # noqa: PLC0415 - keeps --help fast
    from fmos_trust.policy.judge import PolicyJudge  # noqa: PLC0415
    from fmos_trust.policy.words import sentence  # noqa: PLC0415

    decision = PolicyJudge(kernel).decide(facts)
    states = {each.rule.label: "would apply, but only watches" for each in decision.shadow}
    states |= {each.rule.label: each.problem or "applies" for each in decision.counting}
    return [
        (rule.label, sentence(rule.source), states.get(rule.label, "does not apply"))
        for rule in (facts.rules or EMPTY).about(facts)
    ]


def _reasons(judged: Judged) -> tuple[Reason, ...]:
    return (*judged.denials, *judged.asks, *judged.rewrites, *judged.notes)


def _lines(applied: list[tuple[str, str, str]], judged: Judged) -> Iterator[str]:
    for label, said, state in applied:
        yield f"  {label}: {said}: {state}"
    for reason in _reasons(judged):
        yield f"  {reason.layer or 'gate'}, {reason.rule}: {reason.message}"
        if reason.change:
            yield f"      what would change it: {reason.change}"


def _document(
    agent: str, tool: str, decided: str, applied: list[tuple[str, str, str]], judged: Judged
) -> dict[str, Any]:
    return {
        "agent": agent,
        "tool": tool,
        "decision": decided,
        "rules": [{"rule": label, "says": said, "state": state} for label, said, state in applied],
        "reasons": [reason.model_dump(mode="json") for reason in _reasons(judged)],
        "arguments": dict(judged.arguments) if judged.arguments is not None else None,
    }

"""`fmos policy show`: which trust policies are in force, rule by rule, and their hash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.principals import principal
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.contract.trust_policy import TrustPolicy

EPILOG = """Example:  fmos policy show writer

Exit codes: 4 a policy is not valid: every privileged call is denied until it is corrected."""


def show(
    context: typer.Context,
    agent: Annotated[
        str, typer.Argument(help="What binds this agent.  [default: all of the home]")
    ] = "",
    application: Annotated[str, typer.Option(help="The agent's application.")] = "",
    tenant: Annotated[str, typer.Option(help="The agent's tenant.")] = "default",
    session: Annotated[str, typer.Option(help="A session, which may have got a canary.")] = "",
    in_words: Annotated[
        bool, typer.Option("--words", help="As sentences that `fmos policy draft` reads.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Print the trust policies in force, each rule as a sentence, and the hash in verdicts."""
    from fmos_trust.policy.compiled import CompiledSet  # noqa: PLC0415 - keeps --help fast
    from fmos_trust.service import TrustService  # noqa: PLC0415

    own: Session = context.obj
    with own.look() as kernel:
        if agent:
            rules = TrustService(kernel).rules_now(principal(tenant, application, agent, session))
        else:
            rules = CompiledSet(kernel.trust_policies.own())
    if as_json:
        shown = {"agent": agent, "digest": rules.digest, "policies": [*map(_shown, rules.policies)]}
        typer.echo(json.dumps(shown, indent=2))
        return
    whom = f"{agent}: " if agent else ""
    count = len(rules.policies)
    typer.echo(
        f"{whom}{count} trust polic{'y' if count == 1 else 'ies'}, rules {rules.digest[:12]}"
    )
    for policy in rules.policies:
        for line in _in_words(policy) if in_words else _lines(policy):
            typer.echo(safe(line))


def _shown(policy: TrustPolicy) -> dict[str, Any]:
    from fmos.contract.trust_policy import dumped  # noqa: PLC0415 - keeps --help fast
    from fmos_trust.policy.words import sentence  # noqa: PLC0415

    words = {rule.id: sentence(rule) for rule in policy.rules}
    return {"digest": policy.digest, "document": dumped(policy), "words": words}


def _lines(policy: TrustPolicy) -> Iterator[str]:
    from fmos_trust.policy.words import sentence  # noqa: PLC0415 - keeps --help fast

    whom = [f"{name} {', '.join(names)}" for name, names in _whom(policy) if names]
    watching = ", only watching" if policy.mode == "shadow" else ""
    binds = f" for {'; '.join(whom)}" if whom else ""
    yield f"{policy.name} ({policy.digest[:12]}){binds}{watching}"
    for rule in policy.rules:
        share = "" if rule.canary is None else f" [in {rule.canary:.0%} of the sessions]"
        yield f"  {rule.id} ({rule.priority}): {sentence(rule)}{share}"
    if policy.default == "deny":
        yield "  what no rule lets through is denied"


def _in_words(policy: TrustPolicy) -> Iterator[str]:
    """Yield each rule as controlled English; what that has no words for as `_lines` does."""
    from fmos_trust.draft.words import in_words  # noqa: PLC0415 - keeps --help fast
    from fmos_trust.policy.words import sentence  # noqa: PLC0415

    yield policy.name
    for rule in policy.rules:
        yield f"  {in_words(rule) or f'# {rule.id}: {sentence(rule)}'}"


def _whom(policy: TrustPolicy) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (("tenants", policy.tenants), ("agents", policy.agents), ("roles", policy.roles))

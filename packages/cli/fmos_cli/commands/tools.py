"""`fmos tools`: which tools of an agent are pinned, what changed, and a person's yes to that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.failures import CommandGroup
from fmos_cli.person import YesOption, agree, person
from fmos_cli.principals import principal
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos_trust.pins.compare import Difference
    from fmos_trust.pins.keeper import Pins

tools_app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Which tools of an agent are pinned, what changed since, and a person's yes to that.",
)

_Agent = Annotated[str, typer.Option(help="One agent only, as ID or APPLICATION:ID.")]
_Tenant = Annotated[str, typer.Option(help="The agents' tenant.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
_STATES = {
    "changed": "CHANGED, denied until approved",
    "new": "NEW, denied until approved",
    "gone": "GONE from the application",
    "asked": "ASKED FOR BY THE AGENT ITSELF",
}


@tools_app.command("list")
def list_(
    context: typer.Context,
    agent: _Agent = "",
    tenant: _Tenant = "default",
    as_json: _AsJson = False,
) -> None:
    """List the tools of agents: pinned, changed, new, gone, or asked for by the agent itself."""
    from fmos_trust.pins.keeper import pins_of  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    with session.look() as kernel:
        pins = pins_of(kernel)
        for key in _agents(pins, tenant, agent):
            servers, problem = pins.servers(tenant, key)
            problems += [problem] if problem else []
            rows += [_row(key, each, name) for each in servers for name in each.names()]
    if as_json:
        typer.echo(json.dumps({"tenant": tenant, "tools": rows, "problems": problems}, indent=2))
        return
    for problem in problems:
        typer.echo(safe(f"{problem}: nothing of it is used"))
    for row in rows:
        typer.echo(_line(row))
    if not rows:
        typer.echo("no tools are registered")


@tools_app.command()
def diff(
    context: typer.Context,
    agent: _Agent = "",
    tenant: _Tenant = "default",
    as_json: _AsJson = False,
) -> None:
    """Show what differs from what was pinned, with everything that does not show made visible.

    Exit code 1: something waits for a person.
    """
    from fmos_trust.pins.keeper import pins_of  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.look() as kernel:
        pins = pins_of(kernel)
        found = {key: pins.differences(tenant, key) for key in _agents(pins, tenant, agent)}
    waiting = [(key, each) for key, mine in found.items() for each in mine]
    if as_json:
        said = {"tenant": tenant, "differences": [_facts(*each) for each in waiting]}
        typer.echo(json.dumps(said, indent=2))
    else:
        for key, each in waiting:
            for line in _shown(key, each):
                typer.echo(safe(line))
        if not waiting:
            typer.echo("nothing differs from what is pinned")
    if any(each.state != "gone" for _, each in waiting):
        raise typer.Exit(1)


@tools_app.command(epilog="Example:  fmos tools approve --all --agent writer")
def approve(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="As `fmos tools diff` shows them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that differs.")] = False,
    agent: _Agent = "",
    tenant: _Tenant = "default",
    yes: YesOption = False,
    as_json: _AsJson = False,
) -> None:
    """Pin tools as they are offered now, after showing what differs; forget those that are gone.

    One --all takes a whole upgrade of an application. Exit codes: 8 no such tool waits; 11 nobody
    at a terminal said yes, or the tools changed meanwhile.
    """
    from fmos_trust.pins.keeper import pins_of  # noqa: PLC0415 - keeps --help fast

    if bool(names) == everything:
        raise typer.BadParameter("name the tools, or use --all")
    session: Session = context.obj
    with session.open(make=False) as kernel:
        pins = pins_of(kernel)
        key = _one_agent(pins, tenant, agent)
        stamp = pins.stamp(tenant, key)
        waiting = pins.differences(tenant, key)
        chosen = [each for each in waiting if everything or each.name in (names or ())]
        wanted = list(names or dict.fromkeys(each.name for each in waiting))
        if not as_json:
            for each in chosen:
                for line in _shown(key, each):
                    typer.echo(safe(line))
        if chosen:
            question = f"Let {len(wanted)} tool(s) of {safe(key)} count like this? [y/N]"
            agree(question, "an approval of tools", yes=yes)
        done = pins.approve(tenant, key, wanted, by=person(), stamp=stamp)
        if done:
            detail = {"names": done, "by": person(), "stamp": pins.stamp(tenant, key)}
            kernel.record(principal(tenant, "", key), "tools.approve", detail)
    if as_json:
        typer.echo(json.dumps({"agent": key, "approved": done}, indent=2))
    else:
        typer.echo(safe(f"approved {', '.join(done)}") if done else "nothing waits")


@tools_app.command(epilog="Example:  fmos tools hints --propose && fmos versions list")
def hints(
    context: typer.Context,
    propose: Annotated[
        bool, typer.Option("--propose", help="Propose each as a version that a person may accept.")
    ] = False,
    tenant: _Tenant = "default",
    as_json: _AsJson = False,
) -> None:
    """List hints for tools that calls of them keep failing for; an accepted one goes with verdicts.

    A hint is an artefact of the kind tool_hint: `fmos versions accept tool_hint TOOL` accepts it.
    """
    from fmos_trust.lookahead.hints import (  # noqa: PLC0415 - keeps --help fast
        LEAST,
        candidates,
        proposed,
    )
    from fmos_trust.lookahead.store import LookAheadStore  # noqa: PLC0415

    session: Session = context.obj
    with session.open(make=False) if propose else session.look() as kernel:
        found = candidates(LookAheadStore(kernel.database).lessons(tenant, LEAST))
        done = proposed(kernel, tenant, found, author=person()) if propose else []
    if as_json:
        rows = [{"tool": each.tool, "hint": each.text, "failures": each.times} for each in found]
        typer.echo(json.dumps({"tenant": tenant, "hints": rows, "proposed": done}, indent=2))
        return
    for each in found:
        typer.echo(safe(f"{each.tool}  {each.times} failures: {each.text}"))
    for label in done:
        typer.echo(safe(f"proposed {label}"))
    if not found:
        typer.echo("no tool fails in one way again and again")


def _agents(pins: Pins, tenant: str, agent: str) -> list[str]:
    """Return the keys of the agents that are meant: one, or all of the tenant."""
    if agent:
        return [principal(tenant, "", agent).agent_key]
    return [key for of, key in pins.agents() if of == tenant]


def _one_agent(pins: Pins, tenant: str, agent: str) -> str:
    """Return the agent that is meant: the one that was named, or the only one that waits.

    Raises:
        ArgumentError: if several wait.
        NotFoundError: if none does.
    """
    from fmos.errors import ArgumentError, NotFoundError  # noqa: PLC0415 - keeps --help fast

    if agent:
        return principal(tenant, "", agent).agent_key
    waiting = [key for key in _agents(pins, tenant, "") if pins.differences(tenant, key)]
    if len(waiting) > 1:
        raise ArgumentError(
            f"tools of several agents wait: {', '.join(waiting)}", hint="name one with --agent"
        )
    if not waiting:
        raise NotFoundError(
            f"no tools wait in the tenant {tenant!r}", hint="`fmos tools list` shows what is pinned"
        )
    return waiting[0]


def _row(key: str, tools: Any, name: str) -> dict[str, Any]:
    pin = tools.pins.get(name)
    shown = pin.tool if pin else tools.wanted(name)
    return {
        "agent": key,
        "server": tools.server,
        "tool": name,
        "state": tools.state(name),
        "effect": shown.effect,
        "capability": shown.capability,
        "pinned_by": pin.by if pin else "",
        "pinned_ns": pin.at_ns if pin else 0,
    }


def _line(row: dict[str, Any]) -> str:
    of = f" ({row['server']})" if row["server"] else ""
    state = row["state"] if row["state"] == "pinned" else _STATES[row["state"]]
    by = f", by {row['pinned_by']}" if row["pinned_by"] else ""
    where = f"{row['agent']}  {row['tool']}{of}"
    return safe(f"{where}  {row['effect']} as {row['capability']}  {state}{by}")


def _shown(key: str, each: Difference) -> Iterator[str]:
    """What a person has to know of one difference."""
    of = f" of the server {each.server}" if each.server else ""
    yield f"{key}  {each.name}{of}: {_STATES.get(each.state, each.state)}"
    for phrase in each.weaker:
        yield f"    WEAKER: {phrase}"
    for sentence in each.alerts:
        yield f"    ALERT: {sentence}"
    for line in each.diff:
        yield f"    {line}"


def _facts(key: str, each: Difference) -> dict[str, Any]:
    return {
        "agent": key,
        "server": each.server,
        "tool": each.name,
        "state": each.state,
        "weaker": list(each.weaker),
        "alerts": list(each.alerts),
        "diff": list(each.diff),
    }

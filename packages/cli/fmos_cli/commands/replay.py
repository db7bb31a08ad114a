"""`fmos replay`: what a session did, from its volume alone; or the session run once more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos.clock import utc_text
from fmos_cli.files import source
from fmos_cli.options import choice, refuse_unused
from fmos_cli.person import YesOption, agree, person
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from agentfs import AgentFS
    from fmos.replay.again import Difference, Rerun
    from fmos.replay.reading import Found
    from fmos.replay.story import Step, Story

EPILOG = "Example:  fmos replay monday --agent writer && fmos replay monday --run"

#: The exit code of a run that came out otherwise than it was recorded.
DIFFERS = 40

_EXCERPT = 160


def replay(
    context: typer.Context,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.")] = "",
    agent: Annotated[str, typer.Option(help="Whose session, where several agents have it.")] = "",
    application: Annotated[str, typer.Option(help="Of which application the agent is.")] = "",
    tenant: Annotated[str, typer.Option(help="The tenant.")] = "default",
    volume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read this volume instead of the tenant's in the home."),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Run it again and show what differs.")] = False,
    policy: Annotated[
        str, typer.Option(help="With --run: under the `recorded` policies, or the `current` ones.")
    ] = "recorded",
    listing: Annotated[bool, typer.Option("--list", help="List the recorded sessions.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Print whole texts.")] = False,
    unredacted: Annotated[
        bool, typer.Option("--unredacted", help="Print secrets as well. The journal notes it.")
    ] = False,
    yes: YesOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Print what a session did, from its volume alone, without secrets; or run it once more.

    A run repeats the session's calls of the services beside the home: under the recorded time and
    policies, with the recorded answers of models and tools; nothing of the home changes. Exit
    codes: 5 several agents have the session; 8 there is no such session, or it was not recorded;
    11 --unredacted without a terminal and without --yes; 13 the volume or the recording cannot be
    read; 40 the run came out otherwise.
    """
    from fmos.replay import reading  # noqa: PLC0415 - keeps --help fast

    own: Session = context.obj
    _require_sense(context, session, listing, policy)
    path = source(volume) if volume else _volume_of(own, tenant)
    with reading.opened(path, noting=unredacted) as opened:
        if listing:
            _print_list(opened, as_json)
            return
        found = reading.find(opened, session, agent=agent, application=application)
        if unredacted:
            _agree(opened, found, yes)
        if run:
            _run(own, opened, tenant, found, policy, as_json, redacted=not unredacted)
        else:
            _tell(own, opened, tenant, found, as_json, full, redacted=not unredacted)


def _require_sense(context: typer.Context, session: str, listing: bool, policy: str) -> None:
    values = context.params
    if bool(session) == listing:
        raise typer.BadParameter("name a session, or use --list")
    choice(policy, ("recorded", "current"), "--policy")
    if listing:
        of_one = ("agent", "application", "run", "full", "unredacted")
        refuse_unused(context, "does not go with --list", *of_one)
    if not values["run"]:
        refuse_unused(context, "needs --run", "policy")
    if not values["unredacted"]:
        refuse_unused(context, "needs --unredacted", "yes")
    if values["run"] or values["as_json"]:
        refuse_unused(context, f"does not go with --{'run' if values['run'] else 'json'}", "full")


def _volume_of(own: Session, tenant: str) -> Path:
    from fmos.config import Home  # noqa: PLC0415 - keeps --help fast

    home = Home.existing(own.home)
    home.require_tenant(tenant)
    return home.volume(tenant)


def _agree(volume: AgentFS, found: Found, yes: bool) -> None:
    """Ask a person, and note who looked."""
    agree("Print secrets as well?", "printing secrets", yes=yes)
    detail = {"principal": found.principal, "session": found.session, "by": person()}
    volume.record("replay.unredacted", detail)


def _print_list(volume: AgentFS, as_json: bool) -> None:
    from fmos.replay.reading import sessions  # noqa: PLC0415 - keeps --help fast

    rows = [
        {"session": each.session, "principal": each.principal, "started_ns": each.started_ns}
        for each in sessions(volume)
    ]
    if as_json:
        typer.echo(json.dumps({"sessions": rows}, indent=2))
        return
    for row in rows:
        typer.echo(f"{_time(int(row['started_ns']))}  {row['session']:<20}  {row['principal']}")
    if not rows:
        typer.echo("no session is recorded")


def _tell(
    own: Session,
    volume: AgentFS,
    tenant: str,
    found: Found,
    as_json: bool,
    full: bool,
    *,
    redacted: bool,
) -> None:
    from fmos.replay.reading import keys_of  # noqa: PLC0415 - keeps --help fast
    from fmos.replay.story import tell  # noqa: PLC0415

    keys = keys_of(own.home / "keys", tenant)
    story = tell(volume, found, keys, redacted=redacted)
    if as_json:
        typer.echo(json.dumps(asdict(story), indent=2))
        return
    for line in _story_lines(story, full):
        typer.echo(line)


def _story_lines(story: Story, full: bool) -> Iterator[str]:
    state = "recorded" if story.recorded else "not recorded: the journal and the context alone"
    yield f"session {story.session} of agent {story.agent}, tenant {story.tenant}; {state}"
    if story.sealed:
        yield (
            f"  {story.sealed} entries are encrypted under keys that are not here, so arguments are"
            " missing; give the home that the volume is of with --home"
        )
    for number, step in enumerate(story.steps, 1):
        yield from _step_lines(number, step, full)
    if not story.steps:
        yield "  nothing happened in it"


def _step_lines(number: int, step: Step, full: bool) -> Iterator[str]:
    said = [step.decision + (" (fast path)" if step.fast else ""), step.status]
    if step.duration_ms:
        said.append(f"{step.duration_ms:.1f} ms")
    said.extend(f"{amount:,} {name}" for name, amount in step.usage.items())
    facts = ", ".join(each for each in said if each)
    head = f"{number:>3}  {_time(step.time_ns)[11:]}  {step.kind:<15} {step.name}".rstrip()
    yield f"{safe(head)}  {facts}".rstrip()
    if step.arguments:
        yield f"       {safe(_short(json.dumps(step.arguments, ensure_ascii=False), full))}"
    if step.decision and step.decision != "allow":
        yield from (f"       because {safe(reason)}" for reason in step.reasons)
    if step.signals:
        yield f"       signals: {', '.join(step.signals)}"
    if step.text:
        yield f"       | {safe(_short(' '.join(step.text.split()), full))}"


def _run(
    own: Session,
    volume: AgentFS,
    tenant: str,
    found: Found,
    policy: Any,
    as_json: bool,
    *,
    redacted: bool,
) -> None:
    from fmos.config import Home  # noqa: PLC0415 - keeps --help fast
    from fmos.replay.again import run_again  # noqa: PLC0415

    rerun = run_again(Home(own.home), volume, tenant, found, policy=policy, redacted=redacted)
    if as_json:
        typer.echo(json.dumps({"equal": rerun.equal, **asdict(rerun)}, indent=2))
    else:
        for line in _rerun_lines(rerun):
            typer.echo(line)
    if not rerun.equal:
        raise typer.Exit(DIFFERS)


def _rerun_lines(rerun: Rerun) -> Iterator[str]:
    yield (
        f"session {rerun.session} of agent {rerun.agent}: {rerun.calls} calls made again,"
        f" {rerun.compared} answers compared, under the {rerun.policy} policies"
    )
    recorded = ", ".join(each[:12] for each in rerun.recorded_policies) or "none"
    if rerun.recorded_policies != [rerun.current_policy] and rerun.current_policy:
        yield f"the policy was {recorded} and is {rerun.current_policy[:12]} now"
    else:
        yield f"the policy is still {recorded}"
    if rerun.equal:
        yield "everything came out as it was recorded"
        return
    yield f"{len(rerun.differences)} values came out otherwise; the first:"
    for each in rerun.differences:
        yield from _difference_lines(each)


def _difference_lines(each: Difference) -> Iterator[str]:
    yield safe(f"  call {each.call}, {each.tool} {each.operation}".rstrip() + f": {each.field}")
    yield safe(f"    recorded  {_short(json.dumps(each.recorded, ensure_ascii=False), False)}")
    yield safe(f"    again     {_short(json.dumps(each.again, ensure_ascii=False), False)}")


def _short(text: str, full: bool) -> str:
    return text if full or len(text) <= _EXCERPT else f"{text[:_EXCERPT]}... ({len(text):,} in all)"


def _time(time_ns: int) -> str:
    return utc_text(time_ns, "milliseconds")

"""The commands of `fmos versions` that change something; each names its person in the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.person import person
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.versions.metrics import Metric
    from fmos.versions.model import Better, Candidate
    from fmos.versions.versions import Versions

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Tenant = Annotated[str, typer.Option(help="The tenant whose artefacts these are.")]
Kind = Annotated[str, typer.Argument(metavar="KIND", help="Such as policy, prompt, trap_model.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The artefact's name.")]
_Version = Annotated[str, typer.Argument(metavar="VERSION", help="Its id or the beginning of it.")]
_Why = Annotated[str, typer.Option(help="The reason; it is kept in the decision log.")]
_Better = Annotated[str, typer.Option(help="Which way that is better: higher or lower.")]
_Override = Annotated[
    str, typer.Option(metavar="REASON", help="Let it through though no evaluation passed.")
]
_MaybeKind = Annotated[str, typer.Argument(metavar="[KIND]", help="Without it: everything.")]
_MaybeName = Annotated[str, typer.Argument(metavar="[NAME]", help="Without it: all of the kind.")]


def propose(
    context: typer.Context,
    kind: Kind,
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The candidate's content.")],
    why: _Why,
    metric: Annotated[
        str, typer.Option(help="What it is judged by.  [default: the kind's own]")
    ] = "",
    better: _Better = "",
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Make a candidate of a file; nobody gets it before a canary or its acceptance.

    Exit codes: 4 a policy that is not valid, 5 a name or content that cannot be one, 13 a file that
    is not what the kind needs.
    """
    content = _content(file)
    with opened(context) as versions:
        found = versions.propose(
            tenant, kind, name, content, author=person(), why=why, metric=metric,
            better=_direction(better),
        )  # fmt: skip
    _tell(found, f"proposed {found.label}, judged by {found.metric}", as_json)


def evaluate(
    context: typer.Context,
    kind: Kind,
    name: Name,
    version: _Version,
    traces: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labelled calls, as of `fmos traps`.")
    ] = None,
    journal: Annotated[
        bool, typer.Option("--journal", help="Judge on the sessions in the journal instead.")
    ] = False,
    recordings: Annotated[
        bool, typer.Option("--recordings", help="Judge on the recorded sessions instead.")
    ] = False,
    command: Annotated[
        str, typer.Option(help="A program that computes the metric; see docs/versions.md.")
    ] = "",
    split_by: Annotated[
        str, typer.Option(metavar="FIELD", help="What keeps runs together when they are split.")
    ] = "run",
    held_out: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the runs that judges.")
    ] = 0.3,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Compare a candidate with what is accepted, on the same held-out traces.

    Exit codes: 0 whatever the outcome, which the gate of `accept` reads; 5 nothing computes the
    metric, 8 no such version, 13 traces that cannot be read.
    """
    from fmos.versions.traces import (  # noqa: PLC0415 - keeps --help fast
        read_traces,
        traces_of_journal,
        traces_of_recordings,
    )

    with opened(context) as versions:
        found = versions.candidate(tenant, kind, name, version)
        metric = _metric(found, command)
        _require_one(traces is not None, journal, recordings)
        if traces is not None:
            data = read_traces(traces, split_by=split_by, held_out=held_out)
        elif journal:
            data = traces_of_journal(versions.kernel.volume(tenant), held_out=held_out)
        else:
            data = traces_of_recordings(versions.kernel, tenant, held_out=held_out)
        result = versions.evaluate(found, data, by=person(), metric=metric)
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    typer.echo(safe(f"{found.label} {result.outcome}: {result.why}"))
    for each in result.comparisons:
        change = f"{each.before:.3f} -> {each.after:.3f}"
        interval = f"({each.low:+.3f} to {each.high:+.3f})"
        line = f"  {each.metric:<16}  {change}  improvement {each.improvement:+.3f} {interval}"
        typer.echo(safe(line))
    for change, count in result.changed.items():
        typer.echo(safe(f"  {change:<16}  {count} operations"))


def canary(
    context: typer.Context,
    kind: Kind,
    name: Name,
    version: _Version,
    share: Annotated[
        float, typer.Option(help="Share of the sessions, above 0 and below 1.")
    ] = 0.05,
    metric: Annotated[
        str, typer.Option(help="What its sessions are watched by.  [default: the candidate's]")
    ] = "",
    better: _Better = "",
    override: _Override = "",
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Give a candidate to a share of the sessions; it is taken back if these do worse.

    Exit codes: 5 no longer a candidate, 8 no such version, 11 frozen, or worse on held-out traces.
    """
    with opened(context) as versions:
        found = versions.candidate(tenant, kind, name, version)
        found = versions.canary(
            found, share, by=person(), metric=metric, better=_direction(better), override=override
        )
    _tell(found, f"{found.label} is tried in {share:.0%} of the sessions", as_json)


def accept(
    context: typer.Context,
    kind: Kind,
    name: Name,
    version: _Version,
    override: _Override = "",
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let every session get a candidate. Not for its author, unless the home says so.

    Exit codes: 5 no longer a candidate, or another version was accepted since; 8 no such version;
    11 its author asked, it is frozen, or no evaluation passed and there is no --override.
    """
    with opened(context) as versions:
        found = versions.candidate(tenant, kind, name, version)
        found = versions.accept(found, by=person(), override=override)
    _tell(found, f"accepted {found.label}: every session gets it now", as_json)


def reject(
    context: typer.Context,
    kind: Kind,
    name: Name,
    version: _Version,
    why: _Why,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Say no to a candidate; its record stays. Exit codes: 5 no longer one, 8 no such version."""
    with opened(context) as versions:
        found = versions.candidate(tenant, kind, name, version)
        found = versions.reject(found, by=person(), why=why)
    _tell(found, f"rejected {found.label}", as_json)


def rollback(
    context: typer.Context,
    kind: Kind,
    name: Name,
    why: _Why,
    to: Annotated[
        str, typer.Option(metavar="VERSION", help="An earlier version.  [default: the last one]")
    ] = "",
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Take back the canary, where one runs, else the accepted version; history stays.

    Exit codes: 5 not a version that was accepted, 8 nothing to take back, 11 frozen.
    """
    with opened(context) as versions:
        served = versions.rollback(tenant, kind, name, by=person(), why=why, to=to)
    if as_json:
        print_json({"kind": kind, "name": name, "serves": served})
        return
    typer.echo(f"{kind}/{name} serves {served[:12] or 'nothing'} now")


def freeze(
    context: typer.Context,
    why: _Why,
    kind: _MaybeKind = "",
    name: _MaybeName = "",
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Hold artefacts as they are: canaries end, nothing is accepted, every run gets the same bytes.

    Exit codes: 11 not a person, 13 what is accepted was changed by other means.
    """
    with opened(context) as versions:
        pinned = versions.freeze(tenant, kind, name, by=person(), why=why)
    if as_json:
        print_json({"pinned": pinned})
        return
    for key, version in pinned.items():
        typer.echo(safe(f"{key} is held at {version[:12] or 'nothing'}"))
    typer.echo(f"froze {_scope(kind, name)}")


def unfreeze(
    context: typer.Context,
    why: _Why,
    kind: _MaybeKind = "",
    name: _MaybeName = "",
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Let versions change again: the same scope that was frozen. Exit code 8 if it is not."""
    with opened(context) as versions:
        versions.unfreeze(tenant, kind, name, by=person(), why=why)
    if as_json:
        print_json({"kind": kind, "name": name, "frozen": False})
        return
    typer.echo(f"{_scope(kind, name)} may change again")


def report(
    context: typer.Context,
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="Such as resolved.")],
    value: Annotated[float, typer.Argument(metavar="VALUE", help="The session's value.")],
    agent: Annotated[str, typer.Option(help="The agent's id.")],
    session: Annotated[str, typer.Option(help="The session's id.")],
    application: Annotated[str, typer.Option(help="The agent's application.")] = "",
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Tell how a session did by a metric that FMOS does not see; canaries are judged by it."""
    from fmos.types import Principal, checked_id  # noqa: PLC0415 - keeps --help fast

    who = Principal(
        tenant=checked_id(tenant, "a tenant id"),
        application=checked_id(application, "an application id") if application else "",
        agent=checked_id(agent, "an agent id"),
        session=checked_id(session, "a session id"),
    )
    with opened(context) as versions:
        versions.report(who, metric, value)
    if as_json:
        print_json({"metric": metric, "value": value, "principal": str(who)})
        return
    typer.echo(f"{metric} = {value:g} for the session {session!r} of {agent!r}")


_EXAMPLES = {
    propose: 'propose policy careful careful.yaml --why "no mail to strangers"',
    evaluate: "evaluate policy careful 3fc4ccfe745a --traces calls.jsonl.gz",
    canary: "canary policy careful 3fc4ccfe745a --share 0.1",
    accept: "accept policy careful 3fc4ccfe745a",
    reject: 'reject policy careful 3fc4ccfe745a --why "denies the weekly report"',
    rollback: 'rollback policy careful --why "denied a customer"',
    freeze: 'freeze --why "figures of the paper"',
    unfreeze: 'unfreeze --why "the paper is out"',
    report: "report resolved 1 --agent ada --session s1",
}


def add_changes(app: typer.Typer) -> None:
    """Add these commands to `fmos versions`."""
    for command, example in _EXAMPLES.items():
        app.command(epilog=f"Example:  fmos versions {example}")(command)


@contextmanager
def opened(context: typer.Context) -> Iterator[Versions]:
    """Open the home's versions for one command."""
    from fmos.versions.versions import Versions  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.open() as kernel:
        yield Versions(kernel)


def print_json(document: object) -> None:
    """Print what --json shows."""
    typer.echo(json.dumps(document, indent=2))


def _content(file: Path) -> bytes:
    from fmos.errors import FormatError  # noqa: PLC0415 - keeps --help fast
    from fmos.versions.content import LARGEST_BYTES  # noqa: PLC0415

    try:
        with file.open("rb") as opened_file:
            return opened_file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise FormatError(
            f"cannot read {str(file)!r}: {error.strerror}", hint="check the path"
        ) from error


def _direction(text: str) -> Better | None:
    if text in ("higher", "lower"):
        return text
    if text:
        raise typer.BadParameter(f"{text!r} is neither higher nor lower", param_hint="--better")
    return None


def _metric(candidate: Candidate, command: str) -> Metric | None:
    from fmos.versions.metrics import by_command  # noqa: PLC0415 - keeps --help fast

    return by_command(candidate.metric, candidate.better, command) if command else None


def _require_one(*given: bool) -> None:
    if sum(given) != 1:
        raise typer.BadParameter(
            "give recorded traces: one of --traces FILE, --recordings and --journal"
        )


def _scope(kind: str, name: str) -> str:
    return "/".join(filter(None, (kind, name))) or "everything"


def _tell(found: Candidate, sentence: str, as_json: bool) -> None:
    shown: Any = found.model_dump(mode="json")
    typer.echo(json.dumps(shown, indent=2) if as_json else safe(sentence))

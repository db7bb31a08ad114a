"""The commands of `fmos versions` that change something; each names its person in the journal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.files import source
from fmos_cli.options import choice, refuse_unused
from fmos_cli.person import person
from fmos_cli.principals import principal
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
    new_kind: Annotated[
        bool, typer.Option("--new-kind", help="Of a kind that FMOS does not know, unchecked.")
    ] = False,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Make a candidate of a file; nobody gets it before a canary or its acceptance.

    Exit codes: 4 a policy that is not valid, 5 a name or content that cannot be one, or a file that
    cannot be read, 8 a kind that is unknown without --new-kind, 13 a file that is not what the kind
    needs.
    """
    from fmos.versions.content import check_names  # noqa: PLC0415 - keeps --help fast

    content = _content(file)
    with opened(context) as versions:
        check_names(kind, name)
        if not new_kind:
            _require_kind(versions, tenant, kind, "add --new-kind for one of your own")
        _note_if_new(versions, tenant, kind, name)
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
    metric, or no such file; 8 no such version; 13 traces that are none.
    """
    _require_one(traces is not None, journal, recordings)
    if traces is None:
        refuse_unused(context, "needs --traces", "split_by")
    from fmos.versions.traces import (  # noqa: PLC0415 - keeps --help fast
        read_traces,
        traces_of_journal,
        traces_of_recordings,
    )

    with opened(context) as versions:
        found = versions.candidate(tenant, kind, name, version)
        metric = _metric(found, command)
        if traces is not None:
            data = read_traces(source(traces), split_by=split_by, held_out=held_out)
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
    override: Annotated[
        str, typer.Option(metavar="REASON", help="Try it though it did worse on held-out traces.")
    ] = "",
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
    override: Annotated[
        str, typer.Option(metavar="REASON", help="Accept it though no evaluation passed.")
    ] = "",
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

    Exit codes: 8 nothing of that kind and name was ever proposed, 11 not a person, 13 what is
    accepted was changed by other means.
    """
    with opened(context) as versions:
        _require_scope(versions, tenant, kind, name)
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
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415 - keeps --help fast
    from fmos.types import checked_id  # noqa: PLC0415

    who = principal(tenant, application, agent, checked_id(session, "a session id"))
    with opened(context, make=False) as versions:
        Lifecycle(versions.kernel).show(who)
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
def opened(context: typer.Context, *, make: bool = True) -> Iterator[Versions]:
    """Open the home's versions for one command; a home that is not there is made, or refused."""
    from fmos.versions.versions import Versions  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.open(make=make) as kernel:
        yield Versions(kernel)


@contextmanager
def looked_at(context: typer.Context) -> Iterator[Versions]:
    """Open the home's versions for a command that changes nothing."""
    from fmos.versions.versions import Versions  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    with session.look() as kernel:
        yield Versions(kernel)


def print_json(document: object) -> None:
    """Print what --json shows."""
    typer.echo(json.dumps(document, indent=2))


def _content(file: Path) -> bytes:
    from fmos.versions.content import LARGEST_BYTES  # noqa: PLC0415 - keeps --help fast

    with source(file).open("rb") as opened_file:
        return opened_file.read(LARGEST_BYTES + 1)


def _require_kind(versions: Versions, tenant: str, kind: str, way_out: str) -> None:
    """Refuse a kind that FMOS does not know and that nothing was proposed of.

    Raises:
        NotFoundError: with the nearest one.
    """
    from fmos.versions.model import KNOWN_KINDS  # noqa: PLC0415 - keeps --help fast

    used = [each for each, _ in versions.artefacts(tenant)]
    _require_known(kind, dict.fromkeys((*KNOWN_KINDS, *used)), "kind of artefact", way_out)


def _require_scope(versions: Versions, tenant: str, kind: str, name: str) -> None:
    """Refuse to freeze what there is nothing of, which would hold nothing."""
    if kind:
        _require_kind(versions, tenant, kind, "see `fmos versions list`")
    if name:
        names = [each for _, each in versions.artefacts(tenant, kind)]
        _require_known(name, names, f"artefact of the kind {kind!r}", "see `fmos versions list`")


def _require_known(word: str, known: Iterable[str], what: str, way_out: str) -> None:
    import difflib  # noqa: PLC0415 - for a mistake only

    from fmos.errors import NotFoundError  # noqa: PLC0415

    names = list(known)
    if word not in names:
        near = difflib.get_close_matches(word, names, n=1)
        there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names) or 'none'};"
        raise NotFoundError(f"there is no {what} {word!r}", hint=f"{there} {way_out}")


def _note_if_new(versions: Versions, tenant: str, kind: str, name: str) -> None:
    """Say that a name is new where one like it is in use."""
    import difflib  # noqa: PLC0415 - keeps --help fast

    names = [each for _, each in versions.artefacts(tenant, kind)]
    near = difflib.get_close_matches(name, names, n=1)
    if name not in names and near:
        typer.echo(safe(f"{kind}/{name} is new; {kind}/{near[0]} is there already"), err=True)


def _direction(text: str) -> Better | None:
    if not text:
        return None
    choice(text, ("higher", "lower"), "--better")
    return "higher" if text == "higher" else "lower"


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

"""`fmos versions`: what is served, tried and proposed of each artefact, and who decided what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos.clock import utc_text
from fmos_cli.commands.versions_changes import (
    AsJson,
    Kind,
    Name,
    Tenant,
    add_changes,
    looked_at,
    opened,
    print_json,
)
from fmos_cli.failures import CommandGroup
from fmos_cli.options import refuse_unused
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from agentfs.types import JournalRow
    from fmos.versions.model import Candidate, Register
    from fmos.versions.watch import Standing

versions_app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Propose, judge, try, accept and take back versions of policies, prompts, learned traps.",
)

_AnyKind = Annotated[str, typer.Argument(metavar="[KIND]", show_default=False)]
_AnyName = Annotated[str, typer.Argument(metavar="[NAME]", show_default=False)]


@versions_app.command(
    "list",
    epilog="Example:  fmos versions list policy"
    "   (--json: artefacts with accepted, canary, frozen, and their versions)",
)
def list_(
    context: typer.Context,
    kind: _AnyKind = "",
    name: _AnyName = "",
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """List artefacts with what is served of each, and their versions, the newest first."""
    with looked_at(context) as versions:
        register = versions.register(tenant)
        found = [
            (*each, versions.candidates(tenant, *each))
            for each in versions.artefacts(tenant, kind)
            if name in ("", each[1])
        ]
    if as_json:
        print_json({"artefacts": [_artefact(register, *each) for each in found]})
        return
    for of_kind, of_name, candidates in found:
        typer.echo(safe(_headline(register, f"{of_kind}/{of_name}")))
        for each in candidates:
            line = f"  {each.id[:12]}  {each.status.value:<10}  {_who(each)}: {each.why}"
            typer.echo(safe(line))
    if not found:
        typer.echo("no version was ever proposed")


@versions_app.command(
    epilog="Example:  fmos versions show policy careful 3fc4ccfe745a"
    "   (--json prints the version's whole record; --content its bytes)"
)
def show(
    context: typer.Context,
    kind: Kind,
    name: Name,
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="Its id or the beginning of it.")
    ] = "",
    content: Annotated[bool, typer.Option("--content", help="Print the content instead.")] = False,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Show one version, by default the accepted one. Exit code 8 if there is none."""
    from fmos.errors import NotFoundError  # noqa: PLC0415 - keeps --help fast

    if content:
        refuse_unused(context, "does not go with --content", "as_json")
    with looked_at(context) as versions:
        wanted = version or versions.register(tenant).of(f"{kind}/{name}").accepted
        if not wanted:
            raise NotFoundError(
                f"nothing is accepted of {kind}/{name}", hint="name a version: `fmos versions list`"
            )
        found = versions.candidate(tenant, kind, name, wanted)
        if content:
            typer.get_binary_stream("stdout").write(versions.content(found))
            return
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    for line in _lines(found):
        typer.echo(safe(line))


@versions_app.command(
    epilog="Example:  fmos versions log policy --limit 20"
    "   (--json prints one JSON object per row, with all its ids)"
)
def log(
    context: typer.Context,
    kind: _AnyKind = "",
    name: _AnyName = "",
    limit: Annotated[int, typer.Option(min=1, help="Only the last so many rows.")] = 100,
    sessions: Annotated[
        bool, typer.Option("--sessions", help="Also what each session got and reported.")
    ] = False,
    tenant: Tenant = "default",
    as_json: AsJson = False,
) -> None:
    """Print who decided what about versions, and why, oldest first, from the journal."""
    from collections import deque  # noqa: PLC0415 - keeps --help fast

    with looked_at(context) as versions:
        rows = deque(versions.log(tenant, kind, name, sessions=sessions), maxlen=limit)
    for row in rows:
        typer.echo(json.dumps(_row(row)) if as_json else safe(_decision(row)))
    if not rows and not as_json:
        of = "/".join(filter(None, (kind, name)))
        typer.echo(f"nothing was decided{f' of {of}' if of else ''}")


@versions_app.command(
    epilog="Example:  fmos versions watch --dry-run   (--json: how each canary does)"
)
def watch(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Take nothing back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every canary with its control, and take back those that do worse.

    `fmos serve` does the same by itself, as often as `[jobs] canaries_s` says.
    """
    from fmos.versions.watch import standings, watch_canaries  # noqa: PLC0415 - as above

    watching = looked_at(context) if dry_run else opened(context, make=False)
    with watching as versions:
        kernel = versions.kernel
        found = [each for name in kernel.home.tenants() for each in standings(kernel, name)]
        count = 0 if dry_run else watch_canaries(versions.kernel)
    if as_json:
        print_json({"taken_back": count, "canaries": [_standing(each) for each in found]})
        return
    for each in found:
        typer.echo(safe(f"{each.tenant} {each.key}@{each.canary.id[:12]}: {each.sentence}"))
    typer.echo(f"{len(found)} canaries watched, {count} taken back")


def _artefact(
    register: Register, kind: str, name: str, candidates: list[Candidate]
) -> dict[str, Any]:
    key = f"{kind}/{name}"
    served, freeze = register.of(key), register.freeze_of(key)
    return {
        "kind": kind,
        "name": name,
        "accepted": served.accepted,
        "canary": served.canary.model_dump(mode="json") if served.canary else None,
        "frozen": freeze.model_dump(mode="json") if freeze else None,
        "versions": [each.model_dump(mode="json") for each in candidates],
    }


def _headline(register: Register, key: str) -> str:
    served, freeze = register.of(key), register.freeze_of(key)
    parts = [f"{key}: serves {served.accepted[:12] or 'nothing'}"]
    if served.canary:
        parts.append(f"tries {served.canary.id[:12]} in {served.canary.share:.0%} of the sessions")
    if freeze:
        parts.append(f"frozen by {freeze.by} ({freeze.why})")
    return ", ".join(parts)


def _lines(found: Candidate) -> list[str]:
    lines = [
        f"{found.key} {found.id}",
        f"  {found.status.value}, {found.size:,} bytes, judged by {found.metric}"
        f" ({found.better} is better)",
        f"  proposed {utc_text(found.proposed_ns)} UTC by {_who(found)}: {found.why}",
    ]
    if found.accepted_by:
        lines.append(f"  accepted by {found.accepted_by}")
    judged = found.evaluation
    if judged is None:
        return [*lines, "  not evaluated"]
    against = judged.base[:12] or "nothing"
    lines.append(f"  {judged.outcome} by {judged.by} against {against}: {judged.why}")
    changes = [f"{each.before:.3f} -> {each.after:.3f}" for each in judged.comparisons]
    counts = [f"{count} operations" for count in judged.changed.values()]
    names = [*(each.metric for each in judged.comparisons), *judged.changed]
    rows = zip(names, [*changes, *counts], strict=True)
    return lines + [f"    {name:<16}  {said}" for name, said in rows]


def _row(row: JournalRow) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "time": f"{utc_text(row.time_ns, between='T')}+00:00",
        "event": row.operation,
        "principal": row.principal,
        **row.detail,
    }


def _decision(row: JournalRow) -> str:
    """Return one row as a line: what, by whom, why."""
    detail = row.detail
    what = row.operation.removeprefix("version.")
    scope = "/".join(filter(None, (detail.get("kind"), detail.get("name")))) or "everything"
    version = detail.get("version", "")
    who = detail.get("by", row.principal)
    said = _said(what, detail)
    when = utc_text(row.time_ns, "minutes")
    line = f"{when}  {what:<8}  {scope}{f'@{version[:12]}' if version else ''}  {who}"
    return f"{line}: {said}" if said else line


def _said(what: str, detail: dict[str, Any]) -> str:
    why = str(detail.get("why", ""))
    if what == "canary" and detail.get("share"):
        return f"{detail['share']:.0%} of the sessions, by {detail['metric']}"
    if what == "rollback":
        return f"back to {detail['to'][:12] or 'nothing'}; {why}"
    if what == "evaluate":
        return f"{detail['outcome']}; {why}"
    if what == "accept" and detail.get("override"):
        return f"without a passed evaluation: {detail['override']}"
    return why


def _standing(found: Standing) -> dict[str, Any]:
    return {
        "tenant": found.tenant,
        "artefact": found.key,
        "version": found.canary.id,
        "metric": found.canary.metric,
        "sessions": found.sessions,
        "control": found.control,
        "mean": found.mean,
        "control_mean": found.control_mean,
        "evidence": found.evidence.value,
        "needed": found.needed,
        "is_worse": found.is_worse,
    }


def _who(candidate: Candidate) -> str:
    return ", ".join(candidate.authors)


add_changes(versions_app)

"""`fmos audit`: read a tenant's journal, check it, prove rows of it, and sign for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos.clock import utc_text
from fmos_cli.files import ForceOption, source, target
from fmos_cli.moments import SINCE_HELP, UNTIL_HELP, is_number, moment_ns
from fmos_cli.options import refuse_unused
from fmos_cli.person import YesOption, agree
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.audit.verify import AuditReport
    from fmos.runtime.kernel import Kernel

#: What `verify` ends with when something is not as it was written.
BAD = 20

_LATER = 1.0

audit_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The journal of what happened: read it, check it, prove rows of it, sign for it.",
    epilog="Example:  fmos audit verify --checkpoint /mnt/witness/default.checkpoints",
)

TenantOption = Annotated[str, typer.Option(help="The tenant.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
SinceOption = Annotated[str, typer.Option(metavar="WHEN", help=SINCE_HELP)]
UntilOption = Annotated[str, typer.Option(metavar="WHEN", help=UNTIL_HELP)]


@audit_app.command(epilog="Example:  fmos audit show --agent writer --kind op.intent --last 20")
def show(
    context: typer.Context,
    agent: Annotated[str, typer.Option(help="Only this agent's rows.")] = "",
    session: Annotated[str, typer.Option(help="Only this session's rows.")] = "",
    kind: Annotated[str, typer.Option(help="Only rows of this kind, such as op.intent.")] = "",
    operation: Annotated[str, typer.Option(help="Only rows of the operation of this id.")] = "",
    since: SinceOption = "",
    until: UntilOption = "",
    last: Annotated[int, typer.Option(min=1, help="At most so many rows, the newest.")] = 50,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """List rows of the journal, without texts and secrets; the newest of them, oldest first."""
    from fmos.audit.query import Wanted, rows_of  # noqa: PLC0415 - keeps --help fast

    own: Session = context.obj
    with own.look() as kernel:
        after, up_to = _rows(kernel, tenant, since, until)
        wanted = Wanted(
            agent=agent, session=session, kind=kind, operation=operation, since=after, until=up_to
        )
        found = rows_of(kernel, tenant, wanted, last)
    if as_json:
        typer.echo(json.dumps({"tenant": tenant, "rows": found}, indent=2))
        return
    if not found:
        typer.echo("no rows")
    for row in found:
        typer.echo(safe(_line(row)))


@audit_app.command(
    epilog="Example:  fmos audit verify --checkpoint /mnt/witness/default.checkpoints"
)
def verify(
    context: typer.Context,
    tenant: TenantOption = "default",
    checkpoint: Annotated[
        list[Path], typer.Option(help="A file of checkpoints kept outside the home.")
    ] = [],  # noqa: B006 - typer reads the default
    proof: Annotated[Path | None, typer.Option(help="Check this proof instead.")] = None,
    export: Annotated[Path | None, typer.Option(help="Check this export instead.")] = None,
    key: Annotated[
        str, typer.Option(help="The public key to trust, or its file; else the home's.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Check every row, checkpoint and signature; or a proof or export, without the home.

    Names the first bad row, and says what cannot be seen. Exit code 20: something is not as it was
    written; 5: a file cannot be read, is of another tenant, or KEY is no key; 8: no such tenant.
    """
    own: Session = context.obj
    if proof is None and export is None:
        refuse_unused(context, "needs --proof or --export: the home's own keys are used", "key")
        _verify_home(own, tenant, checkpoint, as_json)
        return
    if proof is not None:
        refuse_unused(context, "does not go with --proof", "export", "checkpoint")
        found, ok = _checked(_check_proof, source(proof), own, tenant, key)
    else:
        assert export is not None
        refuse_unused(context, "does not go with --export", "checkpoint")
        found, ok = _checked(_check_export, source(export), own, tenant, key)
    _say_checked(found, ok, as_json)


def _verify_home(own: Session, tenant: str, files: list[Path], as_json: bool) -> None:
    from fmos.audit.copies import read_outside  # noqa: PLC0415 - keeps --help fast
    from fmos.audit.verify import verify as check  # noqa: PLC0415

    notes = [note for path in files for note in read_outside(source(path))]
    with own.look() as kernel, _telling("rows checked") as tell:
        report = check(kernel, tenant, notes, tell)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        for line in _told(report):
            typer.echo(safe(line))
    if not report.ok:
        raise typer.Exit(BAD)


@audit_app.command(epilog="Example:  fmos audit prove --operation 0197c2ad... > proof.json")
def prove(
    context: typer.Context,
    row: Annotated[int | None, typer.Argument(min=1, help="The row's number.")] = None,
    operation: Annotated[str, typer.Option(help="All rows of the operation of this id.")] = "",
    between: Annotated[
        list[Path], typer.Option(help="Two files with a checkpoint each, the older first.")
    ] = [],  # noqa: B006 - typer reads the default
    tenant: TenantOption = "default",
) -> None:
    """Print a proof as JSON, which `fmos audit verify --proof` checks without the home.

    Of one row, of all rows of an operation, or (--between) that one checkpoint's rows are the
    beginning of another's. Exit code 8: there is no such row.
    """
    from fmos.audit import proofs  # noqa: PLC0415 - keeps --help fast
    from fmos.audit.copies import read_outside  # noqa: PLC0415
    from fmos.errors import ArgumentError  # noqa: PLC0415

    if [bool(row), bool(operation), bool(between)].count(True) != 1 or len(between) not in (0, 2):
        raise ArgumentError(
            "name what to prove", hint="give a row, or --operation ID, or --between twice"
        )
    own: Session = context.obj
    with own.look_and_sign() as kernel:
        kernel.home.require_tenant(tenant)
        if between:
            first, second = (read_outside(source(path))[-1] for path in between)
            found = proofs.prove_consistency(kernel, tenant, first, second)
        else:
            found = proofs.prove(kernel, tenant, seq=row or 0, operation=operation)
    typer.echo(json.dumps(found, indent=2))


@audit_app.command(epilog="Example:  fmos audit export --to /mnt/backup/march.jsonl.zst")
def export(
    context: typer.Context,
    to: Annotated[Path, typer.Option(metavar="FILE", help="FILE.jsonl or FILE.jsonl.zst")],
    since: SinceOption = "",
    until: UntilOption = "",
    force: ForceOption = False,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Write the journal to a file that says nothing secret and can be checked anywhere.

    The file is there whole or not at all. Exit code 5: one is there, or its folder is not; 8: no
    such tenant, or no rows; 14: the disk is full.
    """
    from fmos.audit.export import checked_range  # noqa: PLC0415 - keeps --help fast
    from fmos.audit.export import export as write  # noqa: PLC0415

    own: Session = context.obj
    target(to, force=force)
    with own.look_and_sign() as kernel, _telling("rows written") as tell:
        kernel.home.require_tenant(tenant)
        after, up_to = _rows(kernel, tenant, since, until)
        checked_range(after, up_to)
        done = write(kernel, tenant, to, since=after, until=up_to, progress=tell)
    if as_json:
        typer.echo(json.dumps({"file": str(to), **_fields(done)}, indent=2))
        return
    hidden = f", {done.masked:,} of them with something hidden" if done.masked else ""
    typer.echo(f"{to}: rows {done.first} to {done.last} of tenant {tenant}{hidden}")


@audit_app.command(epilog="Example:  fmos audit checkpoint --print | ssh witness 'cat >> acme'")
def checkpoint(
    context: typer.Context,
    show_note: Annotated[
        bool, typer.Option("--print", help="Print the signed note, to be kept elsewhere.")
    ] = False,
    due: Annotated[
        bool, typer.Option("--due", help="For every tenant, where fmos.toml says it is time.")
    ] = False,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Sign a checkpoint over all rows there are, and copy it to where fmos.toml says."""
    if due:
        refuse_unused(context, "does not go with --due", "show_note", "tenant")
    if show_note:
        refuse_unused(context, "does not go with --print", "as_json")
    from fmos.audit.checkpoints import checkpoint as sign  # noqa: PLC0415 - keeps --help fast
    from fmos.audit.checkpoints import checkpoint_due  # noqa: PLC0415
    from fmos.errors import NotFoundError  # noqa: PLC0415

    own: Session = context.obj
    with own.open(make=False) as kernel:
        if due:
            made = checkpoint_due(kernel)
            typer.echo(json.dumps({"made": made}) if as_json else f"checkpoints signed: {made}")
            return
        kernel.home.require_tenant(tenant)
        note = sign(kernel, tenant)
    if note is None:
        raise NotFoundError(f"the journal of tenant {tenant!r} has no rows")
    said = note.checkpoint
    if show_note:
        typer.echo(str(note))
    elif as_json:
        values = {"row": said.seq, "root": said.root.hex(), "key": said.key, "note": str(note)}
        typer.echo(json.dumps({"tenant": tenant, **values}, indent=2))
    else:
        typer.echo(f"rows up to {said.seq} of tenant {tenant} are signed for, with key {said.key}")


@audit_app.command(epilog="Example:  fmos audit rotate --tenant acme")
def rotate(
    context: typer.Context,
    yes: YesOption = False,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Give a tenant a new audit key; the old one signs a last checkpoint and the new key.

    The old private key is destroyed: whoever steals the new one cannot sign as the old one did.
    Exit code 1: not confirmed; 8: no such tenant; 11: no terminal and no --yes.
    """
    from fmos.audit.checkpoints import rotate as change_key  # noqa: PLC0415 - keeps --help fast

    own: Session = context.obj
    with own.open(make=False) as kernel:
        kernel.home.require_tenant(tenant)
        agree(f"Destroy the private key of {tenant} for a new one?", "a new key", yes=yes)
        change = change_key(kernel, tenant)
    if as_json:
        typer.echo(json.dumps(change.to_json(), indent=2))
        return
    typer.echo(
        f"tenant {tenant} signs with key {change.number} now: {change.public}\n"
        f"key {change.number - 1} signed for rows up to {change.final}, and is destroyed"
    )


def _rows(kernel: Kernel, tenant: str, since: str, until: str) -> tuple[int, int | None]:
    """Return the row after which, and the one up to which, the options let rows through."""
    from fmos.audit.query import row_before  # noqa: PLC0415 - keeps --help fast

    def number(text: str) -> int:
        if is_number(text):
            return int(text)
        return row_before(kernel.volume(tenant), moment_ns(text))

    return number(since) if since else 0, number(until) if until else None


def _check_proof(path: Path, keys: set[str]) -> dict[str, Any]:
    from fmos.audit import proofs  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import FormatError  # noqa: PLC0415

    try:
        proof = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{str(path)!r} is no JSON: {error}") from error
    if isinstance(proof, dict) and proof.get("format") == proofs.CONSISTENCY:
        first, second = proofs.check_consistency(proof, keys)
        return {"sentence": f"the rows up to {first} are the beginning of those up to {second}"}
    found = proofs.check_proof(proof if isinstance(proof, dict) else {}, keys)
    numbers = ", ".join(str(row["seq"]) for row in found.rows)
    hidden = f"; in {found.masked} of them something is hidden" if found.masked else ""
    what = f"in the journal of tenant {found.tenant}, signed for with rows up to {found.seq}"
    return {"sentence": f"rows {numbers} are {what}{hidden}", "rows": list(found.rows)}


def _check_export(path: Path, keys: set[str]) -> dict[str, Any]:
    from fmos.audit.export import check_export  # noqa: PLC0415 - keeps --help fast

    with _telling("rows checked") as tell:
        found = check_export(path, keys, tell)
    what = f"rows {found.first} to {found.last} of tenant {found.tenant} are whole and unchanged"
    return {"sentence": what, **_fields(found)}


def _checked(
    check: Callable[[Path, set[str]], dict[str, Any]],
    path: Path,
    own: Session,
    tenant: str,
    key: str,
) -> tuple[dict[str, Any], bool]:
    """Return what a check of a file found, and whether it holds."""
    from fmos.errors import FormatError  # noqa: PLC0415 - keeps --help fast

    trusted = _trusted(own, tenant, key)
    try:
        return check(path, trusted), True
    except FormatError as error:
        return {"sentence": str(error)}, False


def _trusted(own: Session, tenant: str, key: str) -> set[str]:
    """Return the public keys to trust: the one that is given, or those of the home."""
    if key:
        return {_public_key(key)}
    with own.look() as kernel:
        kernel.home.require_tenant(tenant)
        return set(kernel.key_history(tenant).keys)


def _public_key(given: str) -> str:
    """Return the public key that is given, or that is in the file of this name."""
    from fmos.audit.keys import is_public_key  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import ArgumentError  # noqa: PLC0415

    path = Path(given)
    text = source(path).read_bytes()[:1000].decode("ascii", "replace") if path.exists() else given
    if not is_public_key(text.strip()):
        raise ArgumentError(
            f"{given!r} is no public key, nor a file with one",
            hint="a key is 32 bytes in base64, 44 characters that end in =; the home has it in"
            " keys/TENANT/audit.pub",
        )
    return text.strip()


def _say_checked(found: dict[str, Any], ok: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"ok": ok, **found}, indent=2))
    else:
        typer.echo(safe(f"{'ok' if ok else 'BAD'}: {found['sentence']}"))
    if not ok:
        raise typer.Exit(BAD)


def _told(report: AuditReport) -> Iterator[str]:
    """Yield a report in sentences."""
    kind = "ok" if report.ok else "BAD"
    signed = f"{report.checkpoints} checkpoint{'' if report.checkpoints == 1 else 's'}"
    yield (
        f"{kind}: {report.rows:,} rows of tenant {report.tenant} ({report.first} to {report.last}),"
        f" {signed}, signed for up to row {report.covered}"
    )
    for problem in report.problems:
        yield f"  {problem.what}: {problem.sentence}"
    for sentence in report.unseen:
        yield f"  unseen: {sentence}"


def _line(row: dict[str, Any]) -> str:
    at = utc_text(row["time_ns"])
    detail = row["detail"]
    names = ("kind", "name", "decision", "status", "size")
    said = " ".join(str(detail[name]) for name in names if detail.get(name) not in (None, ""))
    what = " ".join(part for part in (row["path"], said) if part)
    return f"{row['seq']:>7}  {at}  {row['principal']:<24} {row['operation']:<16} {what}".rstrip()


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


@contextmanager
def _telling(what: str) -> Iterator[Callable[[int], None]]:
    """Say on a terminal how far a long run is, once it takes more than a second."""
    import time  # noqa: PLC0415 - only for long runs

    began, told = time.monotonic(), False

    def tell(count: int) -> None:
        nonlocal told
        if sys.stderr.isatty() and time.monotonic() - began > _LATER:
            told = True
            sys.stderr.write(f"\r{count:,} {what}")
            sys.stderr.flush()

    try:
        yield tell
    finally:
        if told:
            sys.stderr.write("\n")

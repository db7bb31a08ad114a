"""`fmos audit`: read a tenant's journal, check it, prove rows of it, and sign for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.audit.verify import AuditReport
    from fmos.runtime.kernel import Kernel

#: What `verify` ends with when something is not as it was written.
BAD = 20

_NS = 1_000_000_000
_LATER = 1.0

audit_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The journal of what happened: read it, check it, prove rows of it, sign for it.",
    epilog="Example:  fmos audit verify --checkpoint /mnt/witness/default.checkpoints",
)

TenantOption = Annotated[str, typer.Option(help="The tenant.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
SinceOption = Annotated[int, typer.Option(min=0, help="Only rows after this number.")]
UntilOption = Annotated[int | None, typer.Option(min=1, help="Only rows up to this number.")]


@audit_app.command(epilog="Example:  fmos audit show --agent writer --kind op.intent --last 20")
def show(
    context: typer.Context,
    agent: Annotated[str, typer.Option(help="Only this agent's rows.")] = "",
    session: Annotated[str, typer.Option(help="Only this session's rows.")] = "",
    kind: Annotated[str, typer.Option(help="Only rows of this kind, such as op.intent.")] = "",
    operation: Annotated[str, typer.Option(help="Only rows of the operation of this id.")] = "",
    since: SinceOption = 0,
    until: UntilOption = None,
    last: Annotated[int, typer.Option(min=1, help="At most so many rows, the newest.")] = 50,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """List rows of the journal, without texts and secrets; the newest of them, oldest first."""
    from fmos.audit.query import Wanted, rows_of  # noqa: PLC0415 - keeps --help fast

    own: Session = context.obj
    wanted = Wanted(
        agent=agent, session=session, kind=kind, operation=operation, since=since, until=until
    )
    with own.open() as kernel:
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
    written; 8, 13, 14: what is needed is missing, no such file, or cannot be read.
    """
    own: Session = context.obj
    if proof is not None:
        _say_checked(*_checked(lambda keys: _check_proof(proof, keys), own, tenant, key), as_json)
    elif export is not None:
        _say_checked(*_checked(lambda keys: _check_export(export, keys), own, tenant, key), as_json)
    else:
        _verify_home(own, tenant, checkpoint, as_json)


def _verify_home(own: Session, tenant: str, files: list[Path], as_json: bool) -> None:
    from fmos.audit.copies import read_outside  # noqa: PLC0415 - keeps --help fast
    from fmos.audit.verify import verify as check  # noqa: PLC0415

    notes = [note for path in files for note in read_outside(path)]
    with own.open() as kernel, _telling("rows checked") as tell:
        _require(kernel, tenant)
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
    row: Annotated[int, typer.Argument(min=0, help="The row's number.")] = 0,
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
    with own.open() as kernel:
        _require(kernel, tenant)
        if between:
            first, second = (read_outside(path)[-1] for path in between)
            found = proofs.prove_consistency(kernel, tenant, first, second)
        else:
            found = proofs.prove(kernel, tenant, seq=row, operation=operation)
    typer.echo(json.dumps(found, indent=2))


@audit_app.command(epilog="Example:  fmos audit export --to /mnt/backup/march.jsonl.zst")
def export(
    context: typer.Context,
    to: Annotated[Path, typer.Option(metavar="FILE", help="FILE.jsonl or FILE.jsonl.zst")],
    since: SinceOption = 0,
    until: UntilOption = None,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Write the journal to a file that says nothing secret and can be checked anywhere.

    The file is there whole or not at all, and one that is there is replaced. Exit code 14: it
    cannot be written.
    """
    from fmos.audit.export import checked_range  # noqa: PLC0415 - keeps --help fast
    from fmos.audit.export import export as write  # noqa: PLC0415

    checked_range(since, until)
    own: Session = context.obj
    with own.open() as kernel, _telling("rows written") as tell:
        _require(kernel, tenant)
        done = write(kernel, tenant, to, since=since, until=until, progress=tell)
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
    from fmos.audit.checkpoints import checkpoint as sign  # noqa: PLC0415 - keeps --help fast
    from fmos.audit.checkpoints import checkpoint_due  # noqa: PLC0415
    from fmos.errors import NotFoundError  # noqa: PLC0415

    own: Session = context.obj
    with own.open() as kernel:
        if due:
            made = checkpoint_due(kernel)
            typer.echo(json.dumps({"made": made}) if as_json else f"checkpoints signed: {made}")
            return
        _require(kernel, tenant)
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
    context: typer.Context, tenant: TenantOption = "default", as_json: JsonOption = False
) -> None:
    """Give a tenant a new audit key; the old one signs a last checkpoint and the new key.

    The old private key is destroyed: whoever steals the new one cannot sign as the old one did.
    """
    from fmos.audit.checkpoints import rotate as change_key  # noqa: PLC0415 - keeps --help fast

    own: Session = context.obj
    with own.open() as kernel:
        _require(kernel, tenant)
        change = change_key(kernel, tenant)
    if as_json:
        typer.echo(json.dumps(change.to_json(), indent=2))
        return
    typer.echo(
        f"tenant {tenant} signs with key {change.number} now: {change.public}\n"
        f"key {change.number - 1} signed for rows up to {change.final}, and is destroyed"
    )


def _require(kernel: Kernel, tenant: str) -> None:
    """Refuse a tenant that is not there, instead of making it."""
    from fmos.errors import NotFoundError  # noqa: PLC0415

    known = kernel.home.tenants()
    if tenant not in known:
        there = f"there are {', '.join(known)}" if known else "nothing was recorded yet"
        raise NotFoundError(
            f"there is no tenant {tenant!r} in {str(kernel.home.path)!r}", hint=there
        )


def _check_proof(path: Path, keys: set[str]) -> dict[str, Any]:
    from fmos.audit import proofs  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import FormatError, StorageError  # noqa: PLC0415

    try:
        proof = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
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
    check: Callable[[set[str]], dict[str, Any]], own: Session, tenant: str, key: str
) -> tuple[dict[str, Any], bool]:
    from fmos.errors import FormatError  # noqa: PLC0415 - keeps --help fast

    try:
        return check(_trusted(own, tenant, key)), True
    except FormatError as error:
        return {"sentence": str(error)}, False


def _trusted(own: Session, tenant: str, key: str) -> set[str]:
    """Return the public keys to trust: the one that is given, or those of the home."""
    if key:
        path = Path(key)
        return {path.read_text(encoding="ascii").strip() if path.is_file() else key}
    with own.open() as kernel:
        _require(kernel, tenant)
        return set(kernel.key_history(tenant).keys)


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
    at = datetime.fromtimestamp(row["time_ns"] / _NS, UTC).strftime("%Y-%m-%d %H:%M:%S")
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

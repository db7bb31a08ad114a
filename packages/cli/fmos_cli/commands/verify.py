"""`fmos verify`: checks the claims in a text: arithmetic, units, JSON, SQL and citations."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.principals import principal
from fmos_cli.session import Session
from fmos_cli.telling import progress, safe

if TYPE_CHECKING:
    from fmos.verify.model import Claim, Context, Result

EPILOG = (
    "Exit codes: 0 nothing is refuted; 1 a claim is refuted, with --strict also one that is"
    " undecided; else that of the error.\n\n"
    "Example:  fmos verify answer.md --source report.txt --types arithmetic,citation"
)
_MAX_BYTES = 4_000_000


def verify(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A text; - reads standard input.")],
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="[NAME=]FILE", help="What citations may name. Repeat it."),
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The JSON schema of JSON blocks.")
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='What SQL may use: JSON {"table": {"column": "type"}}.'),
    ] = None,
    types: Annotated[
        str, typer.Option(help="Only claims of these types, with commas between them.")
    ] = "",
    risk: Annotated[
        float, typer.Option(min=0, max=1, help="How bad a wrong claim is: who checks it.")
    ] = 0.5,
    agent: Annotated[
        str, typer.Option(help="Whose account pays, and whose files are sources, too.")
    ] = "",
    session_id: Annotated[str, typer.Option("--session", help="The agent's session.")] = "",
    tenant: Annotated[str, typer.Option(help="The agent's tenant.")] = "default",
    strict: Annotated[bool, typer.Option("--strict", help="Undecided claims fail, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Check the claims in a text: equations, conversions, JSON and SQL blocks, and citations.

    Nothing is asked of a model. Without --agent nothing is metered, and no home is needed.
    """
    session: Session = context.obj
    named = _sources(source or [])
    wanted = _types(types)
    text = _read(file)
    given = _context(named, schema, tables)
    tell = (lambda _what, _done: None) if as_json else progress()
    claims, unread = _claims(
        text, [*named, *_own(text)] if agent else list(named), wanted, risk, tell
    )
    told = partial(tell, "claims checked")
    if agent:
        results, problems = _metered(session, claims, given, tenant, agent, session_id, told)
    else:
        results, problems = _unmetered(session, claims, given, told)
    problems |= unread
    counts = {name: sum(each.verdict == name for each in results) for name in _VERDICTS}
    if as_json:
        shown = [each.model_dump(mode="json") for each in results]
        document = {"file": file, "results": shown, **counts, "problems": problems}
        typer.echo(json.dumps(document, indent=2))
    else:
        for line in _lines(file, results, counts, problems):
            typer.echo(line)
    if counts["refuted"] or (strict and (counts["undecided"] or unread)):
        raise typer.Exit(1)


_VERDICTS = ("supported", "refuted", "undecided")


def _claims(
    text: str, known: list[str], types: list[str], risk: float, tell: Callable[[str, int], None]
) -> tuple[list[Claim], dict[str, str]]:
    """Return the claims of a text, and what of it was not looked at, if it is too long."""
    from fmos.verify.claims import MAX_CLAIMS, MAX_TEXT, claims_in  # noqa: PLC0415

    read = partial(tell, "looking for claims, line")
    found = claims_in(text, known, types=types, risk=risk, most=MAX_CLAIMS + 1, progress=read)
    if len(found) > MAX_CLAIMS:
        where = f"from line {found[-1].line} on, only the first {MAX_CLAIMS:,} claims were"
    elif len(text) > MAX_TEXT:
        line = text.count("\n", 0, MAX_TEXT) + 1
        where = f"from line {line} on, only the first {MAX_TEXT:,} characters were"
    else:
        return found, {}
    return found[:MAX_CLAIMS], {"text": f"nothing is said of the text {where} looked at; split it"}


def _unmetered(
    session: Session, claims: list[Claim], context: Context, told: Callable[[int], None]
) -> tuple[list[Result], dict[str, str]]:
    from fmos.drivers import VERIFIERS, Drivers  # noqa: PLC0415 - keeps --help fast
    from fmos.settings import read_settings  # noqa: PLC0415
    from fmos.verify.checking import Checker  # noqa: PLC0415

    checker = Checker(Drivers(VERIFIERS, read_settings(session.home).drivers))
    return checker.check_all(claims, context, progress=told), checker.problems


def _metered(
    session: Session,
    claims: list[Claim],
    context: Context,
    tenant: str,
    agent: str,
    session_id: str,
    told: Callable[[int], None],
) -> tuple[list[Result], dict[str, str]]:
    from dataclasses import replace  # noqa: PLC0415 - keeps --help fast

    from fmos.client.client import connect  # noqa: PLC0415
    from fmos.runtime.lifecycle import Lifecycle  # noqa: PLC0415
    from fmos.types import checked_id  # noqa: PLC0415
    from fmos.verify.metered import AgentSources, Verification  # noqa: PLC0415

    who = principal(tenant, "", agent, session_id and checked_id(session_id, "a session id"))
    with session.look() as kernel:
        Lifecycle(kernel).show(who)
    with session.open() as kernel, connect(who, kernel=kernel) as client:
        handles = client if session_id else None
        sources = AgentSources(kernel, who, client=handles, beside=context.sources)
        verification = Verification(kernel)
        results = verification.verify_all(
            who, claims, replace(context, sources=sources), progress=told
        )
        return results, verification.problems


def _context(named: dict[str, str], schema: Path | None, tables: Path | None) -> Context:
    from fmos.verify.model import Context, NamedSources  # noqa: PLC0415 - keeps --help fast

    return Context(
        sources=NamedSources(named),
        schema=_json(schema) if schema else None,
        tables=_json(tables) if tables else None,
    )


def _sources(options: list[str]) -> dict[str, str]:
    """Return the text of each source; a file without a name is called by its own."""
    found: dict[str, str] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not equals:
            name, path = Path(option).name, option
        found[name] = _read(path)
    return found


def _own(text: str) -> list[str]:
    """Return the marks of a text that are paths of the agent's files, or handles of its context."""
    import re  # noqa: PLC0415 - keeps --help fast

    found = re.findall(r"\[(/[\w./-]{1,200}|p\d{1,9}-[0-9a-f]{10})(?:@sha256:[0-9a-f]+)?\]", text)
    return list(dict.fromkeys(found))


def _types(text: str) -> list[str]:
    from fmos.verify.claims import CLAIM_TYPES  # noqa: PLC0415 - keeps --help fast

    named = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in named if name not in CLAIM_TYPES]
    if unknown:
        raise typer.BadParameter(
            f"no claim is of the type {unknown[0]!r}; choose from {', '.join(CLAIM_TYPES)}",
            param_hint="--types",
        )
    return named


def _read(name: str) -> str:
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    try:
        data = sys.stdin.buffer.read(_MAX_BYTES + 1) if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise ArgumentError(f"cannot read {name!r}: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise ArgumentError(f"{name!r} has more than {_MAX_BYTES} bytes", hint="split it")
    return data.decode("utf-8", "replace")


def _json(path: Path) -> Any:
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    text = _read(str(path))
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{str(path)!r} is not JSON: {error}") from error


def _lines(
    file: str, results: list[Result], counts: dict[str, int], problems: dict[str, str]
) -> Iterator[str]:
    for each in results:
        said = each.explanation or each.verdict
        yield safe(f"{file}:{each.claim.line}: {each.claim.type}: {each.verdict}: {said}")
    for problem in problems.values():
        yield safe(f"note: {problem}")
    total = f"{len(results)} claim{'' if len(results) == 1 else 's'}"
    yield f"{total}: {', '.join(f'{count} {name}' for name, count in counts.items())}"

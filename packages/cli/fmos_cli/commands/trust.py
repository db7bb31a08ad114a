"""`fmos trust`: a person lets the documents of a project folder count; they can only tighten."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.person import ask_person, person
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.contract.projectfolder import ProjectFile, ProjectFolder
    from fmos.runtime.kernel import Kernel
    from fmos.runtime.trusted import ProjectPolicies, TrustedProject

_YES = ("y", "yes")


def trust(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The project: the folder that has .fmos.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List what is trusted instead.")] = False,
    revoke: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Let a project count for nothing again.")
    ] = None,
    expect: Annotated[
        str,
        typer.Option(
            metavar="SHA256",
            help="Without a terminal: trust exactly this content, where none was trusted before.",
        ),
    ] = "",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object; the question stays on a terminal."),
    ] = False,
) -> None:
    """Look at a project's .fmos/contracts and .fmos/policies, and let them count.

    They only tighten what this home allows. Any change of a file makes the project untrusted, and
    its agents are refused until somebody looks again. The question is asked at the terminal, which
    an agent's commands do not have. Exit codes: 4 a document is not valid or asks for more than the
    home allows; 8 there is nothing to trust; 11 nobody said yes.
    """
    session: Session = context.obj
    _require_one_task(directory, listing, revoke)
    with session.look() if listing else session.open() as kernel:
        from fmos.runtime.trusted import ProjectPolicies  # noqa: PLC0415 - keeps --help fast

        projects = ProjectPolicies(kernel.database, kernel.clock)
        if listing:
            _show_list(projects.listing(), as_json)
        elif revoke is not None:
            _revoke(kernel, projects, revoke)
            _print({"revoked": str(revoke)}, [f"{revoke} counts for nothing now"], as_json)
        elif directory is not None:
            _trust(kernel, projects, directory, expect, as_json)


def _require_one_task(directory: Path | None, listing: bool, revoke: Path | None) -> None:
    if sum((directory is not None, listing, revoke is not None)) != 1:
        raise typer.BadParameter("name a project folder, or use one of --list and --revoke DIR")


def _trust(
    kernel: Kernel, projects: ProjectPolicies, directory: Path, expect: str, as_json: bool
) -> None:
    from fmos.contract.projectfolder import read_folder  # noqa: PLC0415 - keeps --help fast

    folder = read_folder(directory)
    _require_documents(kernel, folder)
    _refuse_widening(kernel, folder)
    known = projects.find(directory)
    facts = {"path": folder.path, "digest": folder.digest, "documents": list(_facts(folder))}
    if known is not None and (known.digest, known.identity) == (folder.digest, folder.identity):
        _print(facts | {"trusted": True}, [f"{folder.path} is trusted as it is"], as_json)
        return
    if not as_json:
        _print(facts, list(_lines(folder, known)), as_json)
    _agree(folder, known, expect, list(_lines(folder, known)) if as_json else [])
    projects.trust(folder, person() if not expect else f"{person()} by its digest")
    _note(kernel, "project.trust", {"path": folder.path, "digest": folder.digest})
    _print(facts | {"trusted": True}, [f"trusted {folder.path}"], as_json)


def _require_documents(kernel: Kernel, folder: ProjectFolder) -> None:
    from fmos.contract.projectfolder import FOLDER  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import NotFoundError  # noqa: PLC0415

    if os.path.realpath(os.path.join(folder.path, FOLDER)) == os.path.realpath(kernel.home.path):
        raise NotFoundError(
            f"{folder.path!r} is no project: its {FOLDER} is the FMOS home itself",
            hint="name the folder of a project",
        )
    if not folder.files:
        raise NotFoundError(
            f"{folder.path!r} has no documents in {FOLDER}/contracts or {FOLDER}/policies",
            hint="put a contract or a policy there, as *.yaml",
        )


def _refuse_widening(kernel: Kernel, folder: ProjectFolder) -> None:
    from fmos.contract.project import widening  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import ContractError  # noqa: PLC0415

    found = widening(folder, kernel.contracts.get)
    if found:
        raise ContractError(
            "a project may only tighten what the home allows: " + "; ".join(found),
            hint="take that out, or give it in the home's own contract",
        )


def _agree(
    folder: ProjectFolder, known: TrustedProject | None, expect: str, before: list[str]
) -> None:
    """Return if a person at the terminal says yes, or the digest was named for a new project.

    Raises:
        DeniedError: if nobody did.
    """
    from fmos.errors import DeniedError  # noqa: PLC0415 - keeps --help fast

    if expect:
        _require_digest(folder, known, expect)
        return
    answer = ask_person("\n".join([*before, "Let these documents count? [y/N] "]))
    if answer is None:
        raise DeniedError(
            f"to trust {folder.path!r} is a person's act, and there is no terminal here to ask at",
            hint="run `fmos trust` in a terminal; where a machine sets up a new home, give"
            f" --expect {folder.digest} after somebody looked at the documents",
        )
    if answer.strip().lower() not in _YES:
        raise DeniedError(f"{folder.path!r} was not trusted", hint="nothing changed")


def _require_digest(folder: ProjectFolder, known: TrustedProject | None, expect: str) -> None:
    """Refuse other content, and to replace what a person trusted: that may be stricter."""
    from fmos.errors import DeniedError  # noqa: PLC0415 - keeps --help fast

    if expect.lower() != folder.digest:
        raise DeniedError(
            f"the documents of {folder.path!r} have the digest {folder.digest}, not {expect}",
            hint="look at what changed, then name the new digest",
        )
    if known is not None:
        raise DeniedError(
            f"{folder.path!r} was trusted with other content, which --expect cannot replace",
            hint="run `fmos trust` in a terminal",
        )


def _revoke(kernel: Kernel, projects: ProjectPolicies, directory: Path) -> None:
    """Ask, since what is revoked does not tighten any more.

    Raises:
        DeniedError: if nobody at a terminal said yes.
    """
    from fmos.contract.projectfolder import real_path  # noqa: PLC0415 - keeps --help fast
    from fmos.errors import DeniedError, NotFoundError  # noqa: PLC0415

    path = real_path(directory)
    if projects.find(directory) is None:
        raise NotFoundError(
            f"the project {path!r} is not trusted", hint="`fmos trust --list` shows those that are"
        )
    answer = ask_person(f"Let the documents of {safe(path)} count for nothing? [y/N] ")
    if answer is None or answer.strip().lower() not in _YES:
        why = "this process has no terminal to ask at" if answer is None else "nobody said yes"
        raise DeniedError(
            f"{path!r} stays trusted: {why}", hint="run `fmos trust --revoke` in a terminal"
        )
    projects.revoke(directory)
    _note(kernel, "project.revoke", {"path": path})


def _lines(folder: ProjectFolder, known: TrustedProject | None) -> Iterator[str]:
    """What a person has to know, with nothing that a terminal would obey."""
    count = "1 document" if len(folder.files) == 1 else f"{len(folder.files)} documents"
    yield f"{safe(folder.path)}: {count}, sha256 {folder.digest}"
    before = {} if known is None else known.files
    for file, facts in zip(folder.files, _facts(folder), strict=True):
        state = "" if known is None else _state(before.get(file.path), file)
        yield f"  {safe(file.path)}  {safe(facts['what'])}{state}"
        for field, value in facts["demands"].items():
            yield f"    {safe(field)}: {safe(value)}"
    for path in sorted(before.keys() - {each.path for each in folder.files}):
        yield f"  {safe(path)}  REMOVED since it was trusted"


def _state(before: str | None, file: ProjectFile) -> str:
    if before is None:
        return ", NEW"
    return "" if before == file.digest else ", CHANGED"


def _facts(folder: ProjectFolder) -> Iterator[dict[str, Any]]:
    from fmos.contract.project import demands, describe  # noqa: PLC0415 - keeps --help fast

    for file in folder.files:
        yield {
            "path": file.path,
            "digest": file.digest,
            "what": describe(folder, file),
            "demands": dict(demands(file)),
        }


def _show_list(found: list[TrustedProject], as_json: bool) -> None:
    from fmos.errors import FmosError  # noqa: PLC0415 - keeps --help fast
    from fmos.runtime.trusted import check  # noqa: PLC0415

    shown: list[dict[str, Any]] = []
    for each in found:
        problem = ""
        try:
            check(each)
        except FmosError as error:
            problem = str(error)
        facts = {"path": each.path, "digest": each.digest, "trusted_by": each.trusted_by}
        shown.append(facts | {"trusted_ns": each.trusted_ns, "problem": problem})
    lines = [
        f"{safe(each['path'])}  {each['digest'][:12]}  by {each['trusted_by']}"
        + (f"\n    {safe(each['problem'])}" if each["problem"] else "")
        for each in shown
    ]
    _print({"projects": shown}, lines or ["no project is trusted"], as_json)


def _print(document: dict[str, Any], lines: list[str], as_json: bool) -> None:
    typer.echo(json.dumps(document, indent=2) if as_json else "\n".join(lines))


def _note(kernel: Kernel, event: str, detail: dict[str, Any]) -> None:
    """Write the person's act to the journal of the default tenant."""
    from fmos.types import DEFAULT_TENANT  # noqa: PLC0415 - keeps --help fast

    kernel.volume(DEFAULT_TENANT).record(event, {**detail, "by": person()})

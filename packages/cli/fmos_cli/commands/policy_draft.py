"""`fmos policy draft`: sentences to rules of a trust policy, for a person to accept."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmos_cli.person import YesOption, agree
from fmos_cli.session import Session
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.contract.trust_policy import TrustPolicy
    from fmos_trust.draft.draft import Checked, Draft

EPILOG = """Example:  fmos policy draft "no deployments on Fridays after 16:00 unless on-call"

Exit codes: 1 not confirmed, 5 a word is not understood, 11 no terminal and no --yes."""
_DOES = {
    None: "is let be", "deny": "is denied", "ask": "is asked about", "allow": "is allowed",
    "redact": "is masked", "rewrite": "is changed",
}  # fmt: skip


def draft(
    context: typer.Context,
    sentences: Annotated[list[str], typer.Argument(metavar="SENTENCE...", help="What must hold.")],
    name: Annotated[str, typer.Option(help="The policy's name, and its file's.")] = "drafted",
    write: Annotated[
        bool, typer.Option("--write", help="Put it into policies/trust/ after a person's yes.")
    ] = False,
    yes: YesOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Draft rules from controlled English, with example calls judged by them; no model is asked.

    With --write the rules are added to the policy of that name, which is shown as a diff first.
    """
    from fmos_trust.draft.draft import draft as drafted  # noqa: PLC0415 - keeps --help fast

    session: Session = context.obj
    found = drafted(name, sentences, _proposer(session))
    path = session.home / "policies" / "trust" / f"{name}.yaml"
    before, policy = _together(path, found.policy)
    text = _added(before, policy) or _yaml(policy)
    if as_json:
        typer.echo(json.dumps(_shown(found, text), indent=2))
    else:
        _tell(found, text)
    if write:
        _write(session, path, before, text, yes=yes)


def _together(path: Path, drafted: TrustPolicy) -> tuple[str, TrustPolicy]:
    """Return what a file holds, and its policy with the drafted rules added."""
    from fmos.contract.parse import load_as  # noqa: PLC0415 - keeps --help fast
    from fmos.contract.trust_policy import TrustPolicy  # noqa: PLC0415

    if not path.exists():
        return "", drafted
    before = path.read_text(encoding="utf-8")
    known = load_as(TrustPolicy, before, str(path))
    said = {_plain(rule.model_dump()) for rule in known.rules}
    taken = {rule.id for rule in known.rules}
    rules = list(known.rules)
    for rule in drafted.rules:
        if _plain(rule.model_dump()) in said:
            continue
        number, free = 2, rule.id
        while free in taken:
            free, number = f"{rule.id}-{number}", number + 1
        taken.add(free)
        rules.append(rule.model_copy(update={"id": free}))
    return before, known.model_copy(update={"rules": tuple(rules)})


def _plain(rule: dict[str, Any]) -> str:
    return json.dumps({**rule, "id": ""}, sort_keys=True, default=str)


def _yaml(policy: TrustPolicy) -> str:
    import yaml  # noqa: PLC0415 - keeps --help fast

    from fmos.contract.trust_policy import dumped  # noqa: PLC0415

    document = dumped(policy)
    first = {name: document.pop(name) for name in ("apiVersion", "kind", "name")}
    return yaml.safe_dump({**first, **document}, sort_keys=False, allow_unicode=True, width=100)


def _added(before: str, policy: TrustPolicy) -> str:
    """Return a file with the new rules below its own, comments kept; empty where it cannot be."""
    from fmos.contract.parse import load_as  # noqa: PLC0415 - keeps --help fast
    from fmos.contract.trust_policy import TrustPolicy  # noqa: PLC0415
    from fmos.errors import ContractError  # noqa: PLC0415

    if not before:
        return ""
    known = len(load_as(TrustPolicy, before).rules)
    more = policy.model_copy(update={"rules": policy.rules[known:]})
    if not more.rules:
        return before
    rules = _yaml(more).partition("\nrules:\n")[2]
    text = f"{before.rstrip()}\n{rules}"
    try:
        return text if load_as(TrustPolicy, text) == policy else ""
    except ContractError:
        return ""


def _tell(found: Draft, text: str) -> None:
    for line in text.splitlines():
        typer.echo(safe(line))
    for each in found.proposed:
        typer.echo(safe(f"# a model proposed: {each}"))
    typer.echo("# examples, judged by these rules:")
    for each in found.checked:
        typer.echo(safe(f"#   {each.case.said()} {_DOES[each.found]}"))


def _shown(found: Draft, text: str) -> dict[str, Any]:
    from fmos.contract.trust_policy import dumped  # noqa: PLC0415 - keeps --help fast
    from fmos_trust.draft.words import in_words  # noqa: PLC0415

    return {
        "policy": dumped(found.policy),
        "yaml": text,
        "words": {rule.id: in_words(rule) for rule in found.policy.rules},
        "proposed": list(found.proposed),
        "cases": [_case(each) for each in found.checked],
    }


def _case(checked: Checked) -> dict[str, Any]:
    case = checked.case
    return {
        "call": case.said(),
        "tool": case.tool,
        "arguments": case.arguments,
        "at": case.at.isoformat(),
        "around": case.around,
        "sources": case.sources,
        "verdict": checked.found or "none",
    }


def _write(session: Session, path: Path, before: str, text: str, *, yes: bool) -> None:
    from fmos.config import Home  # noqa: PLC0415 - keeps --help fast
    from fmos.storage import wholefile  # noqa: PLC0415

    Home.existing(session.home)
    if before == text:
        typer.echo(f"{path} says so already", err=True)
        return
    difference = difflib.unified_diff(
        before.splitlines(), text.splitlines(), str(path), "drafted", lineterm=""
    )
    for line in difference:
        typer.echo(safe(line), err=True)
    agree(f"Write {path}?", "a policy", yes=yes)
    path.parent.mkdir(parents=True, exist_ok=True)
    wholefile.write_text(path, text)
    typer.echo(f"wrote {path}", err=True)


def _proposer(session: Session) -> Any:
    """Return what asks the command in the settings for sentences; None where there is none."""
    from fmos.settings import read_settings  # noqa: PLC0415 - keeps --help fast

    command = read_settings(session.home).trust.draft_command
    return (lambda text: _asked(command, text)) if command else None


def _asked(command: tuple[str, ...], text: str) -> list[str]:
    """Return the sentences that a command prints for a text, one a line."""
    import subprocess  # noqa: PLC0415 - keeps --help fast

    from fmos.errors import ArgumentError  # noqa: PLC0415

    try:
        answer = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=120, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ArgumentError(
            f"the command {command[0]!r} proposed nothing: {error}",
            hint="correct `[trust] draft_command`, or say it in controlled English",
        ) from error
    return [line for line in answer.stdout.splitlines() if line.strip()]

"""The command that lets real programs work on a branch: run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.failures import EXIT_OK, EXIT_USAGE, Refusal
from agentfs.cli.render import count, safe
from agentfs.cli.session import Session

if TYPE_CHECKING:
    from agentfs import AgentFS
    from agentfs.run import RunResult
    from agentfs.run.recovery import Recovered
    from agentfs.types import Overlay

_EXIT_CONFLICT = 7
_EPILOG = (
    "Example:  agentfs run --overlay ~/project --branch try -- make test    "
    "Exit codes: the command's own, 128+n when signal n ended it; 124 timeout, 125 not run here"
    " (no sandbox or back end), 126 and 127 as of a shell; 7 the command gave 0, but others changed"
    " the same paths."
)


def run(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- CMD...", help="The command.")
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option("--overlay", metavar="DIR", help="See this host directory; made if need be."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="PATH", help="Which overlay, by its place.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", help="On this branch; made if it is not there.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="On a new branch; its name is printed.")
    ] = False,
    net: Annotated[bool, typer.Option("--net", help="Let it use the network.")] = False,
    backend: Annotated[
        str, typer.Option("--backend", help="auto, fuse, overlayfs or copy.")
    ] = "auto",
    unconfined: Annotated[
        bool, typer.Option("--unconfined", help="Without a sandbox: it can do what you can.")
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME[=VALUE]", help="Pass a variable on; repeatable."),
    ] = None,
    hide: Annotated[
        list[Path] | None, typer.Option("--hide", metavar="PATH", help="Mask it; repeatable.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="End it after so long.")
    ] = None,
    recover: Annotated[
        bool, typer.Option("--recover", help="Run nothing: finish the runs that were killed.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the JSON there.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stderr at the end.")
    ] = False,
) -> None:
    """Run a command on a branch, in a sandbox. JSON: {branch, exit_code, backend, changes, ...}.

    The command sees the overlay at the host directory's own path, or the whole branch at /view.
    What it changes is on the branch; the host stays as it is. It has no network, cannot write
    elsewhere, and gets no variables that look like secrets.
    """
    session: Session = context.obj
    say = _Say(quiet or as_json)
    if recover:
        _recover(session, as_json, report)
        return
    if not command:
        raise Refusal("run needs a command; write it after --", EXIT_USAGE)
    if branch is not None and new:
        raise Refusal("--branch and --new exclude each other", EXIT_USAGE)
    from agentfs.run import execution  # noqa: PLC0415 - only here
    from agentfs.run.environment import parse  # noqa: PLC0415

    execution.check(command[0], backend, unconfined)
    variables = parse(env or ())
    with _volume(session, overlay, say) as opened:
        lay = partial(_laid, host=overlay, at=at, say=say)
        fs = _on_branch(opened, branch, new, lay, say)
        result = execution.run(
            fs, command, overlay=lay(fs) or at, network=net, backend=backend,
            unconfined=unconfined, timeout_s=timeout, env=variables,
            hide=[os.path.abspath(each.expanduser()) for each in hide or ()], say=say,
        )  # fmt: skip
        default = str(fs.default_branch())
    say.warn(result)
    _emit(_facts(result), as_json, report)
    say(_summary(result, default))
    code = _EXIT_CONFLICT if result.kept_on and not result.exit_code else result.exit_code
    if code != EXIT_OK:
        raise typer.Exit(code)


class _Say:
    """Sentences on stderr: the command's own output stays as it is."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def __call__(self, sentence: str) -> None:
        if not self._quiet and sentence:
            print(f"agentfs: {safe(sentence)}", file=sys.stderr, flush=True)

    def warn(self, result: RunResult) -> None:
        """Name what the branch cannot hold."""
        for each in result.skipped:
            self(f"left out {each}")


def _volume(session: Session, overlay: Path | None, say: _Say) -> Any:
    """Open the volume; with --overlay it is made when it is missing."""
    if overlay is None or os.path.lexists(session.file):
        return session.open()
    if not overlay.is_dir():
        raise Refusal(f"host path {str(overlay)!r} is no directory")
    made = session.open_volume(create=True)
    say(f"made the volume {session.file}")
    return made


def _on_branch(
    fs: AgentFS, branch: str | None, new: bool, lay: Callable[[AgentFS], Overlay | None], say: _Say
) -> AgentFS:
    """Return a handle on the branch; a new one begins with the overlay that this one gets."""
    known = {each.name for each in fs.branches()} if branch is not None or new else set()
    if new:
        branch = next(f"run-{n}" for n in range(1, len(known) + 2) if f"run-{n}" not in known)
    if branch is None:
        return fs
    if branch in known:
        return fs.on(branch)
    lay(fs)
    made = fs.fork(branch)
    say(f"new branch {branch} from {fs.branch}")
    return made


def _laid(fs: AgentFS, host: Path | None, at: str | None, say: _Say) -> Overlay | None:
    """Return the overlay of a host directory, made when the branch has none."""
    if host is None:
        return None
    real = os.path.realpath(host)
    if not os.path.isdir(real):
        raise Refusal(f"host path {str(host)!r} is no directory")
    for each in fs.overlays():
        if each.host == real and at in (None, each.at):
            return each
    made = fs.overlay(real, at or "/")
    say(f"{fs.branch} is laid over {real} now, at {made.at}")
    return made


def _recover(session: Session, as_json: bool, report: Path | None) -> None:
    from agentfs.run import recover  # noqa: PLC0415 - only here
    from agentfs.run.execution import describe  # noqa: PLC0415

    with session.open() as fs:
        found = recover(fs, every_branch=True)
    _emit([_recovered(each) for each in found], as_json, report)
    if not as_json:
        for each in found:
            print(f"agentfs: {safe(describe(each))}", file=sys.stderr)
        if not found:
            print("agentfs: no run was killed", file=sys.stderr)


def _summary(result: RunResult, default: str) -> str:
    """Say what changed where, and what to do about it."""
    changes = result.changes
    counted = (
        (changes.modified, "changed"), (changes.added, "added"), (changes.removed, "removed"),
    )  # fmt: skip
    ended = f"exit code {result.exit_code}; " if result.exit_code else ""
    if result.kept_on:
        return f"{ended}{count(changes.total, 'path')} on the branch {result.kept_on}"
    said = ", ".join(f"{number} {word}" for number, word in counted if number)
    if not said:
        return f"{ended}nothing changed"
    program = "agentfs" if result.branch == default else f"agentfs -b {quote(result.branch)}"
    look = f"look with `{program} diff @{result.before_seq}`"
    if result.over_host:
        look = f"look with `{program} diff --host`, then `{program} apply` or `discard`"
    return f"{ended}{said} on {result.branch}; {look}"


def _facts(result: RunResult) -> dict[str, Any]:
    changes = result.changes
    return {
        "branch": result.branch, "exit_code": result.exit_code, "backend": result.backend,
        "confined": result.confined, "duration_s": round(result.duration_s, 3),
        "journal_seq": result.journal_seq, "changes": changes.facts(),
        "paths": list(changes.paths), "kept_on": result.kept_on,
        "conflicts": list(result.conflicts), "skipped": list(result.skipped),
        "recovered": [_recovered(each) for each in result.recovered],
    }  # fmt: skip


def _recovered(found: Recovered) -> dict[str, Any]:
    return {
        "command": list(found.command), "branch": found.branch, "backend": found.backend,
        "changes": found.changes.facts(), "paths": list(found.changes.paths),
        "kept_on": found.kept_on, "conflicts": list(found.conflicts), "lost": found.lost,
    }  # fmt: skip


def _emit(document: Any, as_json: bool, report: Path | None) -> None:
    text = json.dumps(document, indent=2) + "\n"
    if report is not None:
        report.write_text(text, encoding="ascii")
    if as_json:
        sys.stderr.write(text)


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(epilog=_EPILOG, context_settings={"allow_interspersed_args": False})(run)

"""Commands that show a branch as a directory of the host: mount, unmount."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.failures import EXIT_ERROR, EXIT_USAGE, Refusal
from agentfs.cli.render import AtOption, JsonOption, emit_json, emit_lines

if TYPE_CHECKING:
    from agentfs import AgentFS
    from agentfs.cli.session import Session


def mount(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="An empty directory of the host.")],
    branch: Annotated[
        str | None, typer.Option("-b", "--branch", help="The branch; else the volume's default.")
    ] = None,
    at: AtOption = None,
    path: Annotated[
        str, typer.Option("--path", metavar="DIR", help="Show this directory of the volume only.")
    ] = "/",
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every change.")] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Return once it is mounted, and go on serving.")
    ] = False,
    allow_other: Annotated[
        bool | None,
        typer.Option(
            "--allow-other/--only-me", help="Let other users in, as far as modes do. Root: default."
        ),
    ] = None,
    nonempty: Annotated[
        bool, typer.Option("--nonempty", help="Hide what is in the directory now.")
    ] = False,
    cache: Annotated[
        float,
        typer.Option(
            "--cache",
            min=0,
            metavar="SECONDS",
            help="How soon changes made past the mount must show.",
        ),
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Show a branch, or a past state, as a directory until Ctrl-C. JSON: {directory, branch, ...}.

    Everything that was closed or synced is in the volume at once. Needs /dev/fuse, and fusermount3
    unless root mounts.
    """
    session: Session = context.obj
    if branch is not None:
        session = dataclasses.replace(session, branch=branch)
    if at is not None and branch is not None:
        raise Refusal("--at and --branch exclude each other; leave one out", EXIT_USAGE)
    _require_possible(directory)
    options: dict[str, Any] = {
        "path": path, "read_only": read_only, "cache_s": cache, "allow_other": allow_other,
        "nonempty": nonempty,
    }  # fmt: skip
    if background:
        _leave(session)
    with session.open() as fs:
        seen = fs if at is None else fs.at(at)
        _serve(seen, directory, options, as_json, background)


def _require_possible(directory: Path) -> None:
    """Refuse at once what cannot work, before anything is opened."""
    from agentfs.mount import unavailable  # noqa: PLC0415 - only where it is needed

    reason = unavailable()
    if reason is not None:
        raise Refusal(f"cannot mount on {str(directory)!r}: {reason}", EXIT_USAGE)


def _serve(
    fs: AgentFS, directory: Path, options: dict[str, Any], as_json: bool, background: bool
) -> None:
    from agentfs.mount import is_stale, serve  # noqa: PLC0415 - only where it is needed

    if is_stale(str(directory)):
        print(
            f"agentfs: {directory} was left mounted by a process that is gone; it is mounted anew",
            file=sys.stderr,
        )

    def ready(where: str) -> None:
        if as_json:
            emit_json({
                "directory": where, "branch": str(fs.branch), "path": options["path"],
                "read_only": options["read_only"] or fs.read_only, "pid": os.getpid(),
            })  # fmt: skip
        else:
            how = "run" if background else "press Ctrl-C, or run"
            emit_lines([
                f"Mounted {fs.branch} of {fs.path} on {where};"
                f" to end it, {how} `agentfs unmount {quote(where)}`."
            ])  # fmt: skip
        sys.stdout.flush()
        if background:
            _let_go()

    serve(fs, directory, ready=ready, **options)


def _leave(session: Session) -> None:
    """Go on in a process of its own, and leave the first one when that serves or has failed."""
    with session.open():  # what is wrong with the volume is said here
        pass
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()
        os.environ["_AGENTFS_READY"] = str(writing)
        return
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        is_up = told.read(1) == b"1"
    if is_up:
        raise typer.Exit
    _, status = os.waitpid(child, 0)
    raise typer.Exit(os.waitstatus_to_exitcode(status) or EXIT_ERROR)


def _let_go() -> None:
    """Tell the first process that the mount can be used, and let its terminal go."""
    writing = int(os.environ.pop("_AGENTFS_READY"))
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.close(nothing)
    os.chdir("/")
    os.write(writing, b"1")
    os.close(writing)


def unmount(
    directory: Annotated[Path, typer.Argument(help="Where it is mounted.")],
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Take it out of sight even while programs use it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """End a mount; everything is stored before this returns. JSON: {directory}."""
    from agentfs.mount import is_ours, is_stale  # noqa: PLC0415 - only where it is needed
    from agentfs.mount import unmount as end  # noqa: PLC0415

    where = os.path.realpath(directory)
    if not is_ours(where):
        raise Refusal(
            f"nothing of agentfs is mounted on {str(directory)!r}; see `mount -t fuse.agentfs`"
        )
    was_stale = is_stale(where)
    end(where, lazy=lazy or was_stale)
    if as_json:
        emit_json({"directory": where})
    else:
        gone = ", whose process was gone" if was_stale else ""
        emit_lines([f"Unmounted {where}{gone}."])


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example:  agentfs mount /mnt/work -b main --background")(mount)
    app.command(epilog="Example:  agentfs unmount /mnt/work")(unmount)

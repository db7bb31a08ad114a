"""The `agentfs` application: global options and the list of commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from agentfs.cli.failures import CommandGroup
from agentfs.cli.session import Session

# The modules of the commands, in the order of the help. Only the one that is called is loaded:
# loading all of them and describing them to typer takes longer than most commands.
COMMANDS = {
    "listing": ("ls", "stat", "cat"),
    "searching": ("tree", "find", "grep", "du"),
    "files": ("write", "rm", "mv", "cp", "ln", "mkdir"),
    "transfer": ("put", "get"),
    "mirroring": ("import", "export"),
    "mounting": ("mount", "unmount"),
    "spec04": ("import-spec04", "export-spec04"),
    "branches": ("snapshot", "snapshots", "fork", "branches", "checkout", "rm-branch"),
    "changes": ("diff", "log"),
    "restoring": ("restore", "merge"),
    "history": ("timeline", "watch"),
    "triggers": ("trigger",),
    "kv": ("kv",),
    "limits": ("quota", "rules"),
    "overlays": ("overlay", "apply", "discard"),
    "running": ("run",),
    "volume": ("init", "stats", "fsck", "verify", "gc"),
    "serving": ("serve",),
}
_TAKE_A_VALUE = frozenset({"-f", "--file", "-b", "--branch", "--key-file"})

_HELP = "A copy-on-write file system for agents in one file: fork, compare, merge, restore."
_EPILOG = (
    "Example:  agentfs -f x.afs init && echo hi | agentfs -f x.afs write /hello.txt    "
    "Exit codes: 0 done; 1 error; 2 wrong usage; 130 interrupted; 141 output pipe closed; "
    "others: docs/agentfs.md."
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow to load

        try:
            typer.echo(f"agentfs {version('fmos')}")
        except PackageNotFoundError:
            typer.echo("agentfs (not installed: running from a source tree)")
        raise typer.Exit


def options(
    context: typer.Context,
    file: Annotated[
        Path, typer.Option("-f", "--file", envvar="AGENTFS_FILE", help="The volume.")
    ] = Path("agent.afs"),
    branch: Annotated[
        str | None, typer.Option("-b", "--branch", help="The branch; else the volume's default.")
    ] = None,
    system: Annotated[
        bool, typer.Option("--system", help="Show and reach system state under /.fmos.")
    ] = False,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="A file with the key of an encrypted volume."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Keep what every command needs to reach the volume."""
    context.obj = Session(file=file, branch=branch, system=system, key_file=key_file)


def application(modules: Sequence[str] = tuple(COMMANDS)) -> typer.Typer:
    """Return the application with the commands of some modules of this package, or of all."""
    made = typer.Typer(
        cls=CommandGroup,
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    made.callback()(options)
    for each in modules:
        import_module(f"agentfs.cli.{each}").register(made)
    return made


def needed(arguments: Sequence[str]) -> Sequence[str]:
    """Return the modules that a call needs: one where its command is known, else all."""
    waiting = iter(arguments)
    for each in waiting:
        if each in _TAKE_A_VALUE:
            next(waiting, None)
        elif not each.startswith("-"):
            found = [module for module, names in COMMANDS.items() if each in names]
            return found or tuple(COMMANDS)
    return tuple(COMMANDS)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = found = application()
    return found


def main() -> None:
    """Run the `agentfs` command; the entry point of the package."""
    application(needed(sys.argv[1:]))(prog_name="agentfs")


if __name__ == "__main__":
    main()

"""`python -m fmos_langgraph`: the command that imports checkpoints of other savers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from agentfs.cli import failures
from agentfs.cli.render import count
from fmos.errors import FmosError
from fmos_langgraph.checkpointer import FmosSaver
from fmos_langgraph.migration import Imported, Progress, import_checkpoints
from fmos_langgraph.sources import is_url, require_file

_PROGRAM = "python -m fmos_langgraph"
_EXAMPLE = f"Example: {_PROGRAM} import checkpoints.sqlite agent.afs"


class CommandGroup(failures.CommandGroup):
    """The command group whose failures are sentences instead of tracebacks."""

    program = "fmos_langgraph"
    interrupted = "interrupted; what was imported stays, and the same command goes on from there"

    def describe(self, error: Exception) -> tuple[str, int]:
        """Return one sentence and the exit code for an error of a library, the host or ours."""
        if isinstance(error, FmosError):
            return str(error), error.exit_code
        return super().describe(error)


app = typer.Typer(
    cls=CommandGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def options() -> None:
    """LangGraph checkpoints on an agent filesystem."""


@app.command(name="import", epilog=_EXAMPLE)
def import_(
    source: Annotated[
        str, typer.Argument(help="The file of a SqliteSaver, or a postgresql:// address.")
    ],
    target: Annotated[Path, typer.Argument(help="The volume; made when it is missing.")],
    branch: Annotated[
        str | None, typer.Option("--branch", help="The branch that gets them.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead.")
    ] = False,
) -> None:
    """Import the checkpoints of another saver; repeat it to go on or to fetch what is new.

    The source is only read. JSON: {source, target, threads, checkpoints, writes, skipped}.
    """
    if not is_url(source):
        require_file(source)  # before the volume is made
    with FmosSaver.from_path(target, branch=branch) as saver, _bar() as progress:
        done = import_checkpoints(source, saver, progress)
    if as_json:
        print(json.dumps({"source": source, "target": str(target), **done._asdict()}))
    else:
        print(_sentence(done, target))


def _sentence(done: Imported, target: Path) -> str:
    there = f"; {done.skipped} were there already" if done.skipped else ""
    what = f"{count(done.checkpoints, 'checkpoint')} and {count(done.writes, 'write')}"
    return f"imported {what} of {count(done.threads, 'thread')} into {target}{there}"


@contextmanager
def _bar() -> Iterator[Progress]:
    """Show how far the import is, on stderr if that is a terminal."""
    columns = (TextColumn("import"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("import", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def main() -> None:
    """Run the command line."""
    app(prog_name=_PROGRAM)


if __name__ == "__main__":
    main()

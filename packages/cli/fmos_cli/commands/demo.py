"""`fmos demo`: one governed agent run through every layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def demo(
    context: typer.Context,
    repo: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The directory to work on.  [default: FMOS's own]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Ask here before a risky effect is merged.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the temporary home and say where it is.")
    ] = False,
) -> None:
    """Run one governed agent through every layer, on a copy of a directory.

    The home is a temporary one unless `fmos --home DIR demo` names another. The model is scripted
    unless $FMOS_DEMO_MODEL names a real one as provider:model.
    """
    from fmos_cli.demo import run_demo  # noqa: PLC0415 - loads LangGraph

    chosen: Path | None = context.parent.params.get("home") if context.parent else None
    home = Path(chosen).expanduser() if chosen else None
    model = os.environ.get("FMOS_DEMO_MODEL") or None
    raise typer.Exit(run_demo(repo, as_json, home, interactive, model, keep))

"""`fmos demo`: one governed agent run through every layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fmos_cli.options import choice, refuse_unused


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
    story: Annotated[
        str, typer.Option(help="governed: a whole agent; trust: an attack on the trust gate.")
    ] = "governed",
) -> None:
    """Run one governed agent through every layer, on a copy of a directory.

    The home is a temporary one, not $FMOS_HOME, unless `fmos --home DIR demo` names another. The
    model is scripted unless $FMOS_DEMO_MODEL names a real one as provider:model.
    """
    chosen: Path | None = context.parent.params.get("home") if context.parent else None
    home = Path(chosen).expanduser() if chosen else None
    if choice(story, ("governed", "trust"), "--story") == "trust":
        from fmos_cli.trust_demo import run_story  # noqa: PLC0415 - loads the servers

        refuse_unused(context, "does not go with --story trust", "repo", "interactive")
        raise typer.Exit(run_story(as_json, home, keep))
    from fmos_cli.demo import run_demo  # noqa: PLC0415 - loads LangGraph

    model = os.environ.get("FMOS_DEMO_MODEL") or None
    raise typer.Exit(run_demo(repo, as_json, home, interactive, model, keep))

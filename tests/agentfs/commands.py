"""Calls the `agentfs` command on a volume, in this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from agentfs.cli.main import app


def run(volume: Path, *arguments: str, stdin: bytes | None = None) -> Result:
    """Call the command on a volume."""
    return CliRunner().invoke(app, ["-f", str(volume), *arguments], input=stdin)


def ok(volume: Path, *arguments: str, stdin: bytes | None = None) -> str:
    """Call the command, which must succeed, and give its output."""
    result = run(volume, *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout

"""The command trigger: what runs on a change, the runner, and what became of each change."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentfs.cli.failures import EXIT_ERROR, EXIT_USAGE, Refusal
from agentfs.cli.render import JsonOption, emit_json, emit_lines, safe, utc
from agentfs.cli.watching import stopped_by_signals

if TYPE_CHECKING:
    from agentfs import AgentFS
    from agentfs.triggers import Trigger, TriggerRun

trigger = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run a command on this machine, or a Python function, on a change below a path.",
    epilog="Example:  agentfs trigger add check /src -- make test && agentfs trigger run",
)


class OnCrash(StrEnum):
    """What becomes of a command whose end nobody saw."""

    ASK = "ask"
    RETRY = "retry"
    SKIP = "skip"


class State(StrEnum):
    """What became of a row."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"
    LOST = "lost"


@contextmanager
def _owned(context: typer.Context, **changes: Any) -> Iterator[AgentFS]:
    """Open the volume as its owner, who alone may set what runs on this machine."""
    with dataclasses.replace(context.obj, system=True, **changes).open() as fs:
        yield fs


@trigger.command(epilog="Example:  agentfs trigger add check /src --operation merge -- make test")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    path: Annotated[str, typer.Argument(help="It is for this path and all below it.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="The program and its arguments, after `--`.")
    ] = None,
    python: Annotated[
        str | None, typer.Option("--python", metavar="MODULE:NAME", help="Call this instead.")
    ] = None,
    operation: Annotated[
        list[str] | None,
        typer.Option("--operation", help="Only these, as the log has them; repeatable."),
    ] = None,
    since: Annotated[
        int | None, typer.Option("--since", min=0, help="Begin after this journal row, not now.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Kill it then.")
    ] = 300.0,
    on_crash: Annotated[
        OnCrash, typer.Option("--on-crash", help="When nobody saw the command's end.")
    ] = OnCrash.ASK,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Its own changes set it off again.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let changes of the branch run something. JSON: the trigger, as of list.

    It runs with your rights, when `agentfs trigger run` does, in this directory.
    """
    if bool(command) == (python is not None):
        said = "give either a command after `--`, as in `agentfs trigger add NAME PATH -- make`,"
        raise Refusal(f"{said} or --python MODULE:NAME", EXIT_USAGE)
    with _owned(context) as fs:
        made = fs.triggers.add(
            name, path, command=command or None, function=python, operations=operation,
            since=since, timeout_s=timeout, recursive=recursive, on_crash=on_crash.value,
            cwd=os.getcwd(),
        )  # fmt: skip
    if as_json:
        emit_json(dataclasses.asdict(made))
    else:
        emit_lines([f"Added {_line(made)}; `agentfs trigger run` runs it."])


@trigger.command("list", epilog="Example:  agentfs trigger list --json")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the triggers. JSON: [{id, name, path, operations, branch, kind, action, ...}]."""
    with _owned(context) as fs:
        found = fs.triggers.list()
    if as_json:
        emit_json([dataclasses.asdict(each) for each in found])
    else:
        emit_lines(_line(each) for each in found)


def _line(found: Trigger) -> str:
    action = join(found.action) if found.kind == "command" else found.action[0]
    operations = f" {','.join(found.operations)}" if found.operations else ""
    where = f"{found.branch}:{safe(found.path)}"
    return f"{found.name} {where}{operations} after row {found.cursor}: {safe(action)}"


@trigger.command(epilog="Example:  agentfs trigger remove check")
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    as_json: JsonOption = False,
) -> None:
    """Remove a trigger; what it did stays in its log. JSON: {removed}."""
    with _owned(context) as fs:
        fs.triggers.remove(name)
    if as_json:
        emit_json({"removed": name})
    else:
        emit_lines([f"Removed the trigger {safe(name)}."])


@trigger.command(epilog="Example:  agentfs trigger log --state interrupted")
def log(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only of this trigger.")] = None,
    state: Annotated[State | None, typer.Option("--state", help="Only in this state.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="The newest, so many.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what became of each row, newest first. JSON: [{id, trigger, seq, state, ...}]."""
    with _owned(context) as fs:
        found = fs.triggers.log(name, None if state is None else state.value, limit)
    if as_json:
        emit_json([dataclasses.asdict(each) for each in found])
    else:
        emit_lines(_run_line(each) for each in found)


def _run_line(run: TriggerRun) -> str:
    code = "" if run.exit_code is None else f" {run.exit_code}"
    again = f" attempt {run.attempt}" if run.attempt > 1 else ""
    last = run.output.rpartition("\n")[2]
    said = f": {safe(last)}" if last else ""
    when = utc(run.ended_ns or run.claimed_ns)
    return f"{run.id} {when} {run.trigger} row {run.seq} {run.state}{code}{again}{said}"


@trigger.command(epilog="Example:  agentfs trigger retry 7 && agentfs trigger run --once")
def retry(
    context: typer.Context,
    runs: Annotated[list[int], typer.Argument(help="Numbers of runs, as the log has them.")],
    as_json: JsonOption = False,
) -> None:
    """Let failed, interrupted or skipped runs be run once more. JSON: {waiting: [id]}."""
    with _owned(context) as fs, fs.transaction():
        for each in runs:
            fs.triggers.retry(each)
    if as_json:
        emit_json({"waiting": runs})
    else:
        emit_lines(f"Run {each} waits for `agentfs trigger run`." for each in runs)


@trigger.command(epilog="Example:  agentfs trigger run --once")
def run(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once/--watch", help="End when nothing waits, or wait for more.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run what waits, then what comes, until Ctrl-C. JSON: an object per line, as of log.

    Several runners may be at work, also on other branches' triggers. With --once the exit code is 1
    when a run did not end well, or a trigger could not go on.
    """
    from agentfs.triggers import Runner  # noqa: PLC0415 - slow to load

    bad: list[int] = []

    def say(ended: TriggerRun) -> None:
        if ended.state != "done":
            bad.append(ended.id)
        line = json.dumps(dataclasses.asdict(ended)) if as_json else _run_line(ended)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    sys.path.append(os.getcwd())
    with _owned(context, durability="full") as fs, stopped_by_signals() as stop:
        runner = Runner(fs, on_run=say)
        runner.run(once=once, stop=stop)
        for name, reason in runner.blocked.items():
            typer.echo(f"agentfs: trigger {name} did not go on: {safe(reason)}", err=True)
    if once and (bad or runner.blocked):
        raise typer.Exit(EXIT_ERROR)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(trigger, name="trigger")

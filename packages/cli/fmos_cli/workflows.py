"""What the `fmos workflow` commands share: options of a run, and how runs are shown to a person."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fmos.clock import utc_text
from fmos_cli.files import source
from fmos_cli.moments import UNITS
from fmos_cli.options import choice
from fmos_cli.telling import safe

if TYPE_CHECKING:
    from fmos.contract.workflow import Workflow
    from fmos.runtime.kernel import Kernel
    from fmos.workflow.model import Progress, Run, RunOptions, RunView, Waiting
    from fmos.workflow.runner import Runner

#: What a command exits with that leaves a run waiting for a person, and one that has failed.
WAITING, FAILED = 24, 21

_TEXTS = ("string", "text", "markdown", "html", "uri")
_EFFECTS = ("volume", "outside", "idempotent")
_EXIT = {"done": 0, "cancelled": 0, "waiting": WAITING, "failed": FAILED}


def pairs(words: Iterable[str], option: str) -> dict[str, str]:
    """Return the pairs of an option that is written NAME=VALUE."""
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ArgumentError(f"{option} {word!r} is not NAME=VALUE")
        if name in found:
            raise ArgumentError(f"{option} names {name!r} twice", hint="give each name once")
        found[name] = value
    return found


def seconds(text: str) -> float:
    """Return a time such as 90, 30s, 5m, 1h or 2d in seconds."""
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text.strip())
    if match is None or not float(match[1]):
        raise ArgumentError(f"{text!r} is not a time", hint="write one such as 30s, 5m, 1h or 2d")
    return float(match[1]) * UNITS[match[2] or "s"]


def options_of(
    actor: list[str],
    undo: list[str],
    effect: list[str],
    timeout: str,
    on_timeout: list[str],
    *,
    four_eyes: bool,
) -> RunOptions:
    """Return the options of a run.

    Raises:
        ArgumentError: if one cannot be read.
        BadParameter: if a word is none of those known.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - keeps --help fast

    from fmos.errors import ArgumentError  # noqa: PLC0415
    from fmos.serving.validation import describe_validation  # noqa: PLC0415
    from fmos.workflow.model import RunOptions  # noqa: PLC0415

    fields: dict[str, Any] = {
        "actors": pairs(actor, "--actor"),
        "undo": pairs(undo, "--undo"),
        "effects": pairs(effect, "--effect"),
        "timeout_s": seconds(timeout) if timeout else None,
        "four_eyes": four_eyes,
        "folder": str(Path.cwd()),
    }
    for where in fields["effects"].values():
        choice(where, _EFFECTS, "--effect")
    for what in on_timeout:
        if not what.startswith("escalate:"):
            choice(what, ("deny", "escalate:NAME"), "--on-timeout")
    if on_timeout:
        fields["on_timeout"] = tuple(on_timeout)
    try:
        return RunOptions.model_validate(fields)
    except ValidationError as error:
        raise ArgumentError(describe_validation(error)) from error


def inputs_of(given: list[str], file: Path | None, workflow: Workflow) -> dict[str, Any]:
    """Return a run's inputs: of a JSON file, and of NAME=VALUE.

    A value is text where the first step that takes it wants text, and else JSON if it is JSON.
    """
    from fmos.errors import ArgumentError  # noqa: PLC0415 - keeps --help fast

    found: dict[str, Any] = {}
    if file is not None:
        try:
            found = json.loads(source(file).read_text(encoding="utf-8"))
        except ArgumentError:  # which is a ValueError as well
            raise
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"cannot read the inputs in {str(file)!r}: {error}") from error
        if not isinstance(found, dict):
            raise ArgumentError(f"{str(file)!r} is not one JSON object")
    ports = {name: port for step in reversed(workflow.steps) for name, port in step.in_.items()}
    named = pairs(given, "--input").items()
    return found | {name: _value(text, ports.get(name)) for name, text in named}


def _value(text: str, port: object) -> Any:
    if port in _TEXTS:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def document_of(kernel: Kernel, name: str) -> Workflow:
    """Return the workflow in a file, or the one of that name in the home's contracts."""
    from fmos.contract.parse import load_as, read_text  # noqa: PLC0415 - keeps --help fast
    from fmos.contract.workflow import Workflow  # noqa: PLC0415
    from fmos.errors import NotFoundError  # noqa: PLC0415

    path = Path(name)
    if "/" in name or (path.exists() and not path.is_dir()):
        return load_as(Workflow, read_text(source(path)), name)
    found = kernel.contracts.workflow(name)
    if found is None:
        raise NotFoundError(
            f"there is no file {name!r}, and no workflow of that name in the home",
            hint=f"name a file, or put the workflow into {str(kernel.home.contracts)!r}",
        )
    return found


def runner_of(kernel: Kernel, options: RunOptions, *, quiet: bool) -> Runner:
    """Return a runner with the actors that a run's options name; progress goes to stderr."""
    from fmos.workflow.programs import actors_of  # noqa: PLC0415 - keeps --help fast
    from fmos.workflow.runner import Runner  # noqa: PLC0415

    tell = _say_nothing if quiet else _say
    return Runner(kernel, actors_of(options), on_progress=tell)


def _say_nothing(_: Progress) -> None:
    """Print nothing."""


def _say(progress: Progress) -> None:
    words = {"start": "begins", "done": "done", "retry": "again", "waiting": "waits"}
    parts = (words.get(progress.what, progress.what), progress.step, progress.said)
    typer.echo(safe("  ".join(part for part in parts if part)), err=True)


def finish(run: Run, *, as_json: bool) -> None:
    """Print how a run stands and leave with its exit code."""
    if as_json:
        typer.echo(run.model_dump_json(indent=2))
    else:
        typer.echo(safe(f"{run.run}  {run.workflow}  {run.state}"))
        if run.reason:
            typer.echo(safe(f"    {run.reason}"))
    raise typer.Exit(_EXIT.get(run.state, 1))


def lines_of(view: RunView) -> Iterator[str]:
    """Yield a run's lines: its steps, and what it waits for with what a person must see."""
    run = view.run
    yield f"{run.run}  {run.workflow}  {run.state}, started {utc_text(run.started_ns)}"
    if run.requested_by:
        yield f"    by {run.requested_by}"
    if run.reason:
        yield f"    {run.reason}"
    width = max(len(step.step) for step in view.steps)
    for step in view.steps:
        bound = f"  manifest {step.manifest[:12]}" if step.manifest else ""
        again = f"  attempt {step.attempt}" if step.attempt > 1 else ""
        yield f"  {step.step:<{width}}  {step.state:<8}  {step.agent or 'a person'}{bound}{again}"
        if step.error and step.state in ("failed", "in_doubt"):
            yield f"      {step.error}"
    shown = {step.step: step.inputs for step in view.steps}
    for wait in view.waiting:
        yield from waiting_lines(wait)
        if shown.get(wait.step):
            yield f"    decides on {json.dumps(shown[wait.step], ensure_ascii=False)[:4000]}"


def waiting_lines(wait: Waiting) -> Iterator[str]:
    """Yield what waits for a person, and how to answer it."""
    about = f" to {', '.join(wait.about)}" if wait.about else ""
    of = f", asked of {wait.asked_of}" if wait.asked_of else ""
    due = f", until {utc_text(wait.due_ns)}" if wait.due_ns else ""
    yield f"{wait.run} {wait.step} waits: {wait.kind}{about}{of}{due}"
    if wait.comment:
        yield f"    {wait.comment}"
    answers = "--happened | --not-happened"
    if wait.kind in ("approval", "consent"):
        answers = "--approve | --deny"
    yield f"    fmos workflow answer {wait.run} {wait.step} {answers}"

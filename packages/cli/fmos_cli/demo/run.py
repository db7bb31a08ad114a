"""The command's body: checks the input, opens a home, runs the story, and prints the summary."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from langchain_core.language_models import BaseChatModel

from agentfs.errors import AgentFSError
from fmos.errors import FmosError
from fmos.runtime.kernel import Kernel
from fmos.types import Decision
from fmos_cli.demo.models import load_model
from fmos_cli.demo.project import choose
from fmos_cli.demo.story import BIG_BYTES, Story
from fmos_cli.demo.timeline import Timeline

EXIT_INCOMPLETE = 1
EXIT_INTERRUPTED = 130


def run_demo(
    repo: Path | None = None,
    as_json: bool = False,
    home: Path | None = None,
    interactive: bool = False,
    model: str | None = None,
    keep: bool = False,
) -> int:
    """Run the demo and return the command's exit code.

    Args:
        repo: The directory to copy; by default this repository.
        as_json: Print one JSON object on stdout instead of the timeline.
        home: The FMOS home; by default a temporary one.
        interactive: Ask at the terminal before a risky effect is merged.
        model: `provider:model` of a real model; by default the scripted one.
        keep: Leave the temporary home in place and say where it is.
    """
    started = time.perf_counter()
    try:
        source = choose(repo)
        chat = load_model(model) if model else None
        with _stoppable(), _home(home, keep=keep) as place, Kernel.open(place) as kernel:
            story = _tell(kernel, source, chat, quiet=as_json, interactive=interactive)
            seconds = time.perf_counter() - started
            (_print_json if as_json else _print_summary)(story, seconds)
            if keep or home is not None:
                _print_where(story)
            return _exit_code(story)
    except KeyboardInterrupt:
        print("fmos demo: interrupted; nothing of the host was changed", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (FmosError, AgentFSError) as error:
        print(f"fmos demo: {error}", file=sys.stderr)
        return error.exit_code


def _tell(
    kernel: Kernel, source: Any, chat: BaseChatModel | None, *, quiet: bool, interactive: bool
) -> Story:
    with Timeline(quiet=quiet) as timeline:
        story = Story(kernel, timeline, chat, interactive)
        try:
            story.run(source)
        except (FmosError, AgentFSError):
            raise
        except Exception as error:
            if chat is None:
                raise
            # A provider's library raises errors of its own: no network, a wrong key, a limit.
            said = f"the model failed ({type(error).__name__}: {str(error).splitlines()[0]})"
            hint = "check FMOS_DEMO_MODEL and its key, or leave it unset for the scripted model"
            raise FmosError(said, hint=hint) from error
        return story


@contextmanager
def _home(home: Path | None, *, keep: bool) -> Iterator[Path]:
    if home is not None:
        yield home
    elif keep:
        yield Path(tempfile.mkdtemp(prefix="fmos-demo-"))
    else:
        with tempfile.TemporaryDirectory(
            prefix="fmos-demo-", ignore_cleanup_errors=True
        ) as temporary:
            yield Path(temporary)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let `kill` end the demo as Ctrl-C does, so that the temporary home goes away."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        old = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _missing(story: Story) -> list[str]:
    return [name for name, seen in dataclasses.asdict(story.shown).items() if not seen]


def _notes(story: Story) -> list[str]:
    """Return why something could not be shown, in sentences."""
    notes = []
    if story.largest_output <= BIG_BYTES:
        notes.append(
            f"the largest tool output was {story.largest_output:,} bytes, because the directory has"
            f" little text: give --repo one with more than {BIG_BYTES:,} bytes to see it paged out"
        )
    unshown = set(_missing(story)) - ({"paged_out", "paged_in"} if notes else set())
    if unshown:
        notes.append(f"this run did not show: {', '.join(sorted(unshown))}")
    return notes


def _exit_code(story: Story) -> int:
    """Return 0 unless the scripted model should have shown more, or the audit failed."""
    excused: set[str] = set()
    if story.largest_output <= BIG_BYTES:
        excused = {"paged_out", "paged_in"}
    if story.model is not None or story.interactive:
        return 0 if story.shown.audit_ok else EXIT_INCOMPLETE
    return EXIT_INCOMPLETE if set(_missing(story)) - excused else 0


def _figures(story: Story, seconds: float) -> dict[str, Any]:
    timeline = story.timeline
    p50, p95 = timeline.added()
    return {
        "tokens_raw": story.tokens_raw,
        "tokens_sent": story.tokens_sent,
        "traps": timeline.traps(),
        "fast": len(timeline.steps) - timeline.traps(),
        "denied": timeline.count(Decision.DENY),
        "asked": timeline.count(Decision.ASK),
        "spent_tokens": story.spent(),
        "added_ms_p50": round(p50, 3),
        "added_ms_p95": round(p95, 3),
        "largest_output_bytes": story.largest_output,
        "fork_ms": story.fork_ms,
        "audit_ok": story.shown.audit_ok,
        "seconds": round(seconds, 2),
    }


def _print_json(story: Story, seconds: float) -> None:
    document = {
        "steps": story.timeline.as_dicts(),
        **_figures(story, seconds),
        "shown": dataclasses.asdict(story.shown),
        "notes": _notes(story),
        "events": [dataclasses.asdict(event) for event in story.timeline.events],
    }
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _print_summary(story: Story, seconds: float) -> None:
    figures = _figures(story, seconds)
    saved = 1 - figures["tokens_sent"] / max(1, figures["tokens_raw"])
    say = story.timeline.say
    say("")
    say("Summary", "bold")
    say(f"  tokens in prompts   {figures['tokens_sent']:,} with the context policy, "
        f"{figures['tokens_raw']:,} without it ({saved:.0%} less)")  # fmt: skip
    say(f"  operations          {figures['traps']} trapped to a server, {figures['fast']} on the"
        f" fast path; {figures['denied']} denied, {figures['asked']} asked")  # fmt: skip
    say(f"  spend               {figures['spent_tokens']:,} tokens")
    say(f"  added per operation p50 {figures['added_ms_p50']:.2f} ms, "
        f"p95 {figures['added_ms_p95']:.2f} ms")  # fmt: skip
    say(f"  fork of the agent   {figures['fork_ms']:.2f} ms")
    say(f"  audit chain         {'unbroken' if figures['audit_ok'] else 'BROKEN'}")
    say(f"  time                {figures['seconds']:.1f} s")
    for note in _notes(story):
        say(f"  note: {note}", "yellow")


def _print_where(story: Story) -> None:
    """Say on stderr where the volume is and what to try on it."""
    volume = story.volume()
    branch = story.agent.branch_name
    home = story.kernel.home.path
    lines = [
        f"the volume is {volume}; try:",
        f"  agentfs -f {volume} branches",
        f"  agentfs -f {volume} -b {branch} ls /project",
        f"  agentfs -f {volume} log --limit 20",
        f"  agentfs -f {volume} diff main {branch}",
        f"  fmos --home {home} agent show {branch} --tenant {story.agent.tenant}",
    ]
    sys.stderr.write(os.linesep.join(lines) + os.linesep)

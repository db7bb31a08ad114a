"""The command's body: opens a home, runs the story, and prints its timeline."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fmos.runtime.kernel import Kernel
from fmos_cli.telling import safe
from fmos_cli.trust_demo.gate import Line
from fmos_cli.trust_demo.story import Story

_STYLES = {
    "allow": "green", "deny": "bold red", "ask": "bold yellow", "approve": "cyan", "ok": "green",
}  # fmt: skip
_SAID = 240
EXIT_INCOMPLETE = 1


def run_story(as_json: bool = False, home: Path | None = None, keep: bool = False) -> int:
    """Run the story and return the command's exit code.

    Args:
        as_json: Print one JSON object on stdout instead of the timeline.
        home: The FMOS home; by default a temporary one.
        keep: Leave the temporary home in place and say where it is.
    """
    started = time.perf_counter()
    with _home(home, keep=keep) as place, Kernel.open(place) as kernel:
        story = Story.begin(kernel)
        story.run()
        seconds = round(time.perf_counter() - started, 2)
        if as_json:
            document = {
                "steps": [dataclasses.asdict(each) for each in story.agent.lines],
                "shown": dataclasses.asdict(story.shown),
                "seconds": seconds,
            }
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        else:
            _print(story, seconds)
        if keep or home is not None:
            print(f"the home is {place}; try: fmos --home {place} audit show", file=sys.stderr)
    return EXIT_INCOMPLETE if story.missing else 0


def _print(story: Story, seconds: float) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in story.agent.lines:
        _print_line(console, line)
    console.print("")
    count = len(dataclasses.asdict(story.shown))
    console.print(f"{count - len(story.missing)} of {count} shown in {seconds:.1f} s")
    for name in story.missing:
        console.print(f"not shown: {name}", style="yellow")


def _print_line(console: Console, line: Line) -> None:
    took = "" if line.ms is None else f" ({line.ms:.1f} ms)"
    row = Text(f"{line.layer:<10} ")
    row.append(f"{line.verdict:<9}", style=_STYLES.get(line.verdict, "dim"))
    row.append(safe(f" {line.what}{took}"))
    console.print(row)
    if line.said and line.verdict != "allow":
        console.print(Text(f"{'':21}{safe(_shortened(line.said))}", style="dim"))
    if line.change and line.verdict in ("deny", "ask"):
        console.print(Text(f"{'':21}would change it: {safe(line.change)}", style="dim"))


def _shortened(text: str) -> str:
    return text if len(text) <= _SAID else f"{text[: _SAID - 3]}..."


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

"""Claim: a command on a copy-on-write view of a large tree costs little more than the command.

Target: `agentfs run -- true` over an overlay of 50,000 files takes at most 100 ms more than an
`agentfs` command that only opens the volume. Beside it `true` in bubblewrap, and Python's start.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from agentfs import AgentFS
from agentfs.run import backends
from harness import NORMAL, UNSYNCED, Report, Side, interleave, scale, timed, workspace
from work import host_tree

FILES = scale(50_000, 50)
ROUNDS = scale(15, 1)
MOST_MS = 100.0
_BWRAP = ("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-all", "true")


def command(*words: str | Path) -> Callable[[int], float]:
    """Return a function that runs a command and says how long that took."""
    # As for a user, whose Python keeps what it compiled; the warm-up rounds compile it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run(_turn: int) -> float:
        return timed(
            lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
        )

    return run


def main() -> None:
    """Measure and write the result."""
    report = Report("run_start", f"`true` on an overlay of {FILES:,} files")
    with workspace() as home:
        host_tree(home / "tree", FILES, 64, 1)
        volume = home / "x.afs"
        with AgentFS.open(volume) as fs:
            fs.overlay(home / "tree")
        tool = Path(sys.executable).with_name("agentfs")
        words = (tool, "-f", volume)
        there = [each for each in backends.ORDER if not backends.get(each).why_not()]
        if FILES > 1000 and "copy" in there:
            there.remove("copy")  # it copies everything, as it says
        sides = [
            Side("python -c pass", UNSYNCED, command(sys.executable, "-c", "pass")),
            Side("bwrap true", UNSYNCED, command(*_BWRAP)),
            Side("agentfs overlay", NORMAL, command(*words, "overlay")),
            *(
                Side(f"run: {each}", NORMAL,
                     command(*words, "run", "-q", "--backend", each, "--", "true"))
                for each in there
            ),
        ]  # fmt: skip
        measure = interleave(sides, ROUNDS, warmups=2, settle=False)
    report.add("start", measure, sides)
    for side in sides:
        report.tell(side.name, measure.ms(side.name), "ms")
    added = {each: measure.ms(f"run: {each}") - measure.ms("agentfs overlay") for each in there}
    for each, ms in added.items():
        report.at_most(f"run adds, {each}", ms, "ms", MOST_MS)
    report.sum_up(
        f"`run -- true` over {FILES:,} files adds to the command's start",
        " / ".join(f"{each} {ms:,.0f} ms" for each, ms in added.items()),
        f"bwrap {measure.ms('bwrap true'):.0f} ms",
    )
    report.save()


if __name__ == "__main__":
    main()

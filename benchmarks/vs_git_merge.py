"""Claim: diff and merge of ten changes are quicker than git's.

Target: none; diff_merge.py has it. Each git command is a process of its own, so its bare start is
measured beside them; merge is at full durability here, at git's default there.
"""

from __future__ import annotations

from pathlib import Path

import fixtures
import peers
from agentfs import AgentFS
from harness import FULL, Report, Side, interleave, scale, timed, workspace
from work import tree_path

FILES, SIZE = scale((5_000, 4096), (50, 1024))
CHANGES = 10
ROUNDS = scale(5, 1)
PATHS = ["/".join(tree_path(index)) for index in range(0, FILES, FILES // CHANGES)]


def compare(repository: Path, fs: AgentFS) -> list[Side]:
    """Return the sides of: name the ten changed files."""
    names = ("diff", "--name-status", "main", "edit")
    return [
        Side("ours: diff", "reads", lambda _: timed(lambda: list(fs.diff("main", "edit")))),
        Side("git: diff", "reads", lambda _: timed(lambda: peers.git(repository, *names))),
        Side("git: bare start", "reads", lambda _: timed(lambda: peers.run("git", "--version"))),
    ]


def merge(repository: Path, fs: AgentFS) -> list[Side]:
    """Return the sides of: merge the ten changes into a branch that went on by itself."""

    def ours(number: int) -> float:
        onto = fs.fork(f"onto{number}")
        onto.write("/tree/meanwhile", f"round {number}")
        return timed(lambda: onto.merge("edit"))

    def git(number: int) -> float:
        peers.git(repository, "switch", "-q", "-c", f"onto{number}", "main")
        (repository / "meanwhile").write_text(f"round {number}", encoding="utf-8")
        peers.git(repository, "add", "meanwhile")
        peers.git(repository, "commit", "-q", "-m", "meanwhile")
        return timed(lambda: peers.git(repository, "merge", "-q", "-m", "merge", "edit"))

    return [
        Side("ours: merge", FULL, ours),
        Side("git: merge", peers.GIT_DURABILITY, git),
    ]


def main() -> None:
    """Measure and write the result."""
    claim = f"{CHANGES} changes among {FILES:,} files of {SIZE:,} bytes"
    report = Report("vs_git_merge", claim, peers.command_versions("git"))
    with workspace() as home, fixtures.twins(home, FILES, SIZE, PATHS) as fs:
        repository = home / "repository"
        for label, sides in (("diff", compare(repository, fs)), ("merge", merge(repository, fs))):
            found = interleave(sides, ROUNDS)
            report.add(label, found, sides)
            for side in found.seconds:
                report.tell(side, found.ms(side), "ms")
    ms = {row["label"]: f"{row['value']:,.3g}" for row in report.rows}
    report.sum_up(
        f"diff / merge with {CHANGES} changes among {FILES:,} files",
        f"{ms['ours: diff']} / {ms['ours: merge']} ms",
        f"git {ms['git: diff']} / {ms['git: merge']} ms, of which {ms['git: bare start']}"
        " to start it",
    )
    report.save()


if __name__ == "__main__":
    main()

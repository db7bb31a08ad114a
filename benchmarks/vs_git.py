"""Claim: a branch to work in is there at once, and needs no working tree as git does.

Target: none; ours is at full durability, git at its default and, for the commit, synced as well.
`vs_git_merge.py` has diff and merge; each git command is a process, whose start is measured there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fixtures
import peers
from agentfs import AgentFS
from harness import FULL, UNSYNCED, Report, Side, interleave, scale, timed, workspace
from work import host_tree, tree_path

FILES, SIZE = scale((5_000, 4096), (50, 1024))
CHANGES = 10
ROUNDS = scale(5, 1)
PATHS = ["/".join(tree_path(index)) for index in range(0, FILES, FILES // CHANGES)]


def keep_all(home: Path) -> list[Side]:
    """Return the sides of: keep a whole new tree, as one commit or one snapshot."""
    tree = home / "tree"

    def ours(number: int) -> float:
        with AgentFS.open(home / f"keep{number}.afs", durability="full") as fs:

            def work() -> None:
                fs.put_tree(tree, "/tree")
                fs.snapshot("first")

            return timed(work)

    def git(*settings: str) -> Callable[[int], float]:
        def run(number: int) -> float:
            at = ["--git-dir", home / f"keep{len(settings)}-{number}", "--work-tree", tree]
            peers.git(tree, *at, "init", "-q")

            def work() -> None:
                peers.git(tree, *settings, *at, "add", "-A")
                peers.git(tree, *settings, *at, "commit", "-q", "-m", "first")

            return timed(work)

        return run

    synced = git("-c", "core.fsync=all")
    return [
        Side("ours: put, snapshot", FULL, ours),
        Side("git: add, commit", peers.GIT_DURABILITY, git()),
        Side("git: add, commit, synced", "core.fsync=all: every object is synced", synced),
    ]


def second_tree(home: Path, fs: AgentFS) -> list[Side]:
    """Return the sides of: a second tree to work in, on a branch of its own."""
    tree = home / "repository"

    def out(number: int) -> None:
        fs.fork(f"out{number}").get_tree("/tree", home / f"out{number}")

    def worktree(number: int) -> None:
        peers.git(tree, "worktree", "add", "-q", "-b", f"w{number}", home / f"w{number}", "main")

    return [
        Side("ours: fork", FULL, lambda number: timed(lambda: fs.fork(f"fork{number}"))),
        Side("ours: fork, get to the host", UNSYNCED, lambda number: timed(lambda: out(number))),
        Side("git: worktree add", UNSYNCED, lambda number: timed(lambda: worktree(number))),
    ]


def switch(home: Path, fs: AgentFS) -> list[Side]:
    """Return the sides of: go to a branch with ten other files and read them, and back."""
    tree = home / "repository"

    def ours() -> None:
        for branch in ("edit", "main"):
            there = fs.on(branch)
            for path in PATHS:
                there.read(f"/tree/{path}")

    def git() -> None:
        for branch in ("edit", "main"):
            peers.git(tree, "switch", "-q", branch)
            for path in PATHS:
                (tree / path).read_bytes()

    return [
        Side("ours: to a branch and back", "nothing is written", lambda _: timed(ours)),
        Side("git: switch there and back", UNSYNCED, lambda _: timed(git)),
    ]


def main() -> None:
    """Measure and write the result."""
    claim = f"a tree of {FILES:,} files of {SIZE:,} bytes; {CHANGES} of them changed on a branch"
    report = Report("vs_git", claim, peers.command_versions("git"))
    ms: dict[str, str] = {}
    with workspace() as home:
        host_tree(home / "tree", FILES, SIZE, 2)
        with fixtures.twins(home, FILES, SIZE, PATHS) as fs:
            for label, sides in (
                ("keep", keep_all(home)),
                ("second tree", second_tree(home, fs)),
                ("switch", switch(home, fs)),
            ):
                found = interleave(sides, ROUNDS)
                report.add(label, found, sides)
                for side in found.seconds:
                    report.tell(side, found.ms(side), "ms")
                    ms[side] = f"{found.ms(side):,.3g}"
    report.sum_up(
        f"branch to work in / keep {FILES:,} new files",
        f"{ms['ours: fork']} ms / {ms['ours: put, snapshot']} ms",
        f"git worktree {ms['git: worktree add']} ms; add, commit {ms['git: add, commit']} ms",
    )
    report.save()


if __name__ == "__main__":
    main()

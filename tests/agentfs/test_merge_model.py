"""Merges of random histories agree with a model: trees of dictionaries and a full commit graph."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentfs import AgentFS, Change, Conflict, MergeConflict, lineage
from agentfs.types import Strategy

RUNS = int(os.environ.get("AGENTFS_SOAK", "0")) or 1
NAMES = "abc"
# A node of the model is (mode, content); content is bytes, or a dictionary of names to nodes.
Node = tuple[int, Any]
Found = set[tuple[str, str]]


@dataclass
class Commit:
    """A marked state, with what it came from."""

    trees: tuple[Node, Node]
    parents: tuple[set[Commit], set[Commit]] = field(default_factory=lambda: (set(), set()))
    number: int = 0

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Model:
    """What a merge promises, written from SPEC.md without its shortcuts: no ids, no pruning."""

    def __init__(self) -> None:
        """Begin with an empty main branch; each branch has a tree of files and one of system."""
        self.trees: dict[str, list[Node]] = {"main": [(0o755, {}), (0o755, {})]}
        self.heads: dict[str, Commit | None] = {"main": None}
        self.count = 0

    def mark(self, branch: str) -> Commit:
        """Make a commit of the branch's state, where it differs from its last one."""
        last, now = self.heads[branch], tuple(self.trees[branch])
        if last is None or last.trees != now:
            before: set[Commit] = set() if last is None else {last}
            last = self.heads[branch] = self.commit(now, (before, before))
        return last

    def commit(self, trees: Any, parents: tuple[set[Commit], set[Commit]]) -> Commit:
        """Make a commit."""
        self.count += 1
        return Commit(trees, parents, self.count)

    def merge(self, branch: str, other: str, strategy: str, areas: tuple[int, ...]) -> Found:
        """Merge and return the conflicts; with "fail" and a conflict nothing changes."""
        ours, theirs = self.mark(branch), self.mark(other)
        conflicts: Found = set()
        trees = list(self.trees[branch])
        parents: list[set[Commit]] = [{ours}, {ours}]
        for area in areas:
            shared = common({ours}, {theirs}, area)
            if shared != [theirs]:
                where = ("", "/.fmos/memory")[area]
                base = base_of(shared, area)
                sides = (base, trees[area], theirs.trees[area])
                trees[area] = merge_nodes(where, *sides, strategy, conflicts)
                parents[area] |= {theirs}
        if not conflicts or strategy != "fail":
            self.trees[branch] = trees
            self.heads[branch] = self.commit(tuple(trees), (parents[0], parents[1]))
        return conflicts


def ancestors(commits: set[Commit], area: int) -> set[Commit]:
    """Return commits and all that they came from."""
    found: set[Commit] = set()
    waiting = list(commits)
    while waiting:
        commit = waiting.pop()
        if commit not in found:
            found.add(commit)
            waiting += commit.parents[area]
    return found


def common(ours: set[Commit], theirs: set[Commit], area: int) -> list[Commit]:
    """Return the newest common commits, none an ancestor of another one."""
    both = ancestors(ours, area) & ancestors(theirs, area)
    older = {up for each in both for up in ancestors(each.parents[area], area)}
    return sorted(both - older, key=lambda each: -each.number)


def base_of(commits: list[Commit], area: int) -> Node | None:
    """Return the common state; several are merged, with conflicts like neither side."""
    if not commits:
        return None
    found: Node | None = commits[0].trees[area]
    for index, other in enumerate(commits[1:], 1):
        below = base_of(common(set(commits[:index]), {other}, area), area)
        found = merge_nodes("", below, found, other.trees[area], "neither", set())
    return found


def merge_nodes(
    path: str,
    base: Node | None,
    ours: Node | None,
    theirs: Node | None,
    strategy: str,
    conflicts: Found,
) -> Any:
    """Merge three versions of what is at a path."""
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    choice = {"theirs": theirs, "neither": (-1, random.randbytes(8))}.get(strategy, ours)
    if ours is None or theirs is None or isinstance(ours[1], dict) != isinstance(theirs[1], dict):
        conflicts.add((path or "/", "type" if ours and theirs else "delete/modify"))
        return choice
    if base is not None and isinstance(base[1], dict) != isinstance(ours[1], dict):
        base = None
    mode, disputed = three_way(base and base[0], ours[0], theirs[0], strategy, -1)
    if disputed:
        conflicts.add((path or "/", "mode"))
    if isinstance(ours[1], dict):
        old = base[1] if base else {}
        content: Any = {}
        for name in old.keys() | ours[1].keys() | theirs[1].keys():
            was, mine, new = (each.get(name) for each in (old, ours[1], theirs[1]))
            merged = merge_nodes(f"{path}/{name}", was, mine, new, strategy, conflicts)
            if merged is not None:
                content[name] = merged
    else:
        old, nothing = base and base[1], random.randbytes(8)
        content, disputed = three_way(old, ours[1], theirs[1], strategy, nothing)
        if disputed:
            conflicts.add((path, "content" if base else "add/add"))
    return mode, content


def three_way(base: Any, ours: Any, theirs: Any, strategy: str, neither: Any) -> tuple[Any, bool]:
    """Merge one value, and say whether both sides changed it."""
    if ours == theirs or theirs == base:
        return ours, False
    if ours == base:
        return theirs, False
    return {"theirs": theirs, "neither": neither}.get(strategy, ours), True


def actual(fs: AgentFS, path: str) -> Node:
    """Read what is at a path into a node of the model."""
    stat = fs.stat(path)
    if not stat.is_dir:
        return stat.mode, fs.read(path)
    return stat.mode, {
        each.name: actual(fs, each.path) for each in fs.scandir(path) if each.name != ".fmos"
    }


def trees(fs: AgentFS) -> list[Node]:
    """Read both trees of a branch."""
    return [actual(fs, "/"), actual(fs, "/.fmos/memory")]


def edit(fs: AgentFS, tree: Node, chance: random.Random, top: str, step: int) -> Node:
    """Do one random change to a branch, and return what the model's tree then is."""
    names = [chance.choice(NAMES) for _ in range(chance.randint(1, 3))]
    path = top + "".join(f"/{each}" for each in names)
    content = tree[1]
    for name in names[:-1]:
        content = content.get(name, (0, None))[1] if isinstance(content, dict) else None
    if not isinstance(content, dict):
        return tree
    # Few different values, so that both sides often have the same one.
    there, value = content.get(names[-1]), b"\0%d" % chance.randint(0, 4)
    action = chance.choice(["write", "write", "write", "mkdir", "remove", "chmod", "touch"])
    if action == "write" and (there is None or isinstance(there[1], bytes)):
        fs.write(path, value)
        made: Node | None = (there[0] if there else 0o644, value)
    elif action == "mkdir" and there is None:
        fs.mkdir(path)
        made = (0o755, {})
    elif action == "remove" and there is not None:
        fs.remove(path, recursive=True)
        made = None
    elif action == "chmod" and there is not None:
        mode = chance.choice([0o600, 0o700])
        fs.chmod(path, mode)
        made = (mode, there[1])
    elif action == "touch" and there is not None:
        fs.utime(path, mtime_ns=step)
        return tree
    else:
        return tree
    return replaced(tree, names, made)


def replaced(tree: Node | None, names: list[str], made: Node | None) -> Node:
    """Return a copy of a tree with another node at a path."""
    assert tree is not None
    content = dict(tree[1])
    below = made if len(names) == 1 else replaced(content[names[0]], names[1:], made)
    content.pop(names[0], None)
    if below is not None:
        content[names[0]] = below
    return tree[0], content


def check_merge(fs: AgentFS, model: Model, branch: str, chance: random.Random) -> None:
    """Merge a random branch on both sides and compare conflicts and trees."""
    others = [each for each in model.trees if each != branch]
    if not others:
        return
    other = chance.choice(others)
    strategies: list[Strategy] = ["fail", "fail", "fail", "ours", "theirs"]
    strategy = chance.choice(strategies)
    system = chance.random() < 0.5
    handle = fs.on(branch, system=system)
    dry = handle.merge(other, strategy, dry_run=True)
    expected = model.merge(branch, other, strategy, (0, 1) if system else (0,))
    try:
        result = handle.merge(other, strategy)
    except MergeConflict as error:
        assert strategy == "fail"
        conflicts = error.conflicts
    else:
        conflicts = result.conflicts
        assert not (conflicts and strategy == "fail")
        assert conflicts or listed(dry.changes) == listed(result.changes)
        assert handle.merge(other, strategy).changes == ()
    assert listed(conflicts) == listed(dry.conflicts) == expected


def listed(found: Iterable[Change | Conflict]) -> Found:
    """Return paths and kinds."""
    return {(each.path, each.kind) for each in found}


@pytest.mark.parametrize("block", range(5 * RUNS))
def test_merges_of_random_histories_agree_with_the_model(tmp_path: Path, block: int) -> None:
    """Any two branches merge as their best common states say, also after pruning."""
    for seed in range(block * 20, block * 20 + 20):
        run_history(tmp_path / f"{seed}.afs", seed)


def run_history(path: Path, seed: int) -> None:
    """Do random edits, forks, restores, deletions, merges and prunings on both sides."""
    chance, model = random.Random(seed), Model()
    prunes = chance.random() < 0.5
    with AgentFS.open(path, system=True) as fs:
        fs.mkdir("/.fmos/memory", parents=True)
        for step in range(60):
            branch = chance.choice(sorted(model.trees))
            there = fs.on(branch)
            action = chance.choices(
                ["edit", "fork", "restore", "delete", "merge", "prune"], [24, 3, 1, 1, 7, 2]
            )[0]
            if action == "edit":
                area = chance.choice([0, 0, 1])
                top = ("", "/.fmos/memory")[area]
                model.trees[branch][area] = edit(
                    there, model.trees[branch][area], chance, top, step
                )
            elif action == "fork" and len(model.trees) < 5:
                there.fork(f"b{step}")
                model.heads[f"b{step}"] = model.mark(branch)
                model.trees[f"b{step}"] = list(model.trees[branch])
            elif action == "restore":
                source = chance.choice(sorted(model.trees))
                there.restore(source)
                model.heads[branch] = model.mark(source)
                model.trees[branch] = list(model.trees[source])
            elif action == "delete" and branch != "main":
                fs.delete_branch(branch)
                del model.trees[branch], model.heads[branch]
                continue
            elif action == "merge":
                check_merge(fs, model, branch, chance)
            elif action == "prune" and prunes:
                with fs.view_for_writing() as view:
                    lineage.prune(view.session)
            if action != "edit":
                assert trees(there) == model.trees[branch], f"seed {seed}, step {step}: {action}"
        assert {each: trees(fs.on(each)) for each in model.trees} == model.trees, f"seed {seed}"
        assert fs.fsck() == []

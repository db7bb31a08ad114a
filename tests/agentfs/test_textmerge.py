"""Merging texts by line: laws on random texts, bounds, and agreement with git."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from agentfs import textmerge


def random_texts(seed: int, kinds: int) -> list[bytes]:
    """Return a base and two edits of it, made of so many different lines."""
    chance = random.Random(seed)
    lines = [chance.randrange(kinds) for _ in range(chance.randint(0, 20))]
    versions = [lines, edited(lines, chance, kinds), edited(lines, chance, kinds)]
    texts = ["".join(f"line {each}\n" for each in version) for version in versions]
    cut = [text[:-1] if chance.random() < 0.1 else text for text in texts]
    return [each.encode() for each in cut]


def edited(lines: list[int], chance: random.Random, kinds: int) -> list[int]:
    """Replace, insert and remove lines at up to three places."""
    lines = list(lines)
    for _ in range(chance.randint(0, 3)):
        at = chance.randint(0, len(lines))
        new = [chance.randrange(kinds) for _ in range(chance.randint(0, 2))]
        lines[at : at + chance.randint(0, 2)] = new
    return lines


@pytest.mark.parametrize("kinds", [2, 5, 1000])
def test_merging_keeps_its_laws(kinds: int) -> None:
    """Sides may be swapped; an unchanged side gives the other; equal sides give themselves."""
    for seed in range(300):
        base, ours, theirs = random_texts(seed, kinds)
        assert textmerge.merge(base, ours, theirs) == textmerge.merge(base, theirs, ours)
        assert textmerge.merge(base, ours, base) == ours
        assert textmerge.merge(base, ours, ours) == ours


def test_clean_merges_are_those_of_git(tmp_path: Path) -> None:
    """Where lines are distinct enough to say which is which, git gives the same text.

    Among a handful of lines that repeat, several shortest edits exist, and the two may choose
    different ones; so 30 kinds of lines and more are compared.
    """
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    clean = 0
    for seed in range(120):
        texts = random_texts(seed, random.Random(seed).choice([30, 1000]))
        merged = textmerge.merge(*texts)
        outcome = git_merge(tmp_path, texts)
        if merged is not None:
            clean += 1
            assert outcome == merged, f"seed {seed}"
    assert clean > 40


def git_merge(folder: Path, texts: list[bytes]) -> bytes | None:
    """Return the merged text, or None where git has a conflict."""
    paths = [folder / each for each in ("base", "ours", "theirs")]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    base, ours, theirs = map(str, paths)
    command = ["git", "merge-file", "-p", "-q", ours, base, theirs]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        (b"1\n2\n3\n", b"one\n2\n3\n", b"1\n2\nthree\n", b"one\n2\nthree\n"),
        (b"1\n2\n", b"one\n2\n", b"1\ntwo\n", None),
        (b"1\n", b"1\nx\n", b"1\ny\n", None),
        (b"1\n", b"1\nx\n", b"1\nx\n", b"1\nx\n"),
        (b"1\r\n2\r\n3", b"one\r\n2\r\n3", b"1\r\n2\r\nthree", b"one\r\n2\r\nthree"),
        (b"1\n2\n3\n", b"\xff\n2\n3\n", b"1\n2\nthree\n", None),
        (b"1\n2\n3\n", b"\0\n2\n3\n", b"1\n2\nthree\n", None),
        (b"", b"x\n", b"", b"x\n"),
    ],
)
def test_known_texts_merge_as_stated(
    base: bytes, ours: bytes, theirs: bytes, merged: bytes | None
) -> None:
    """Touching changes, two insertions at one place and binary bytes do not merge."""
    assert textmerge.merge(base, ours, theirs) == merged


def test_hostile_texts_cost_bounded_work() -> None:
    """Equal lines, lines that are never unique, and too many of them still end soon."""
    same = b"x\n" * 20_000
    assert textmerge.merge(same, same[:-2], same) == same[:-2]
    assert textmerge.merge(same * 2, same * 2, same) is None
    chance = random.Random(1)
    texts = (b"".join(b"%d\n" % chance.randrange(50) for _ in range(20_000)) for _ in range(3))
    assert textmerge.merge(*texts) is None

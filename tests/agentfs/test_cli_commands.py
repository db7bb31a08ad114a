"""The `agentfs` command: what each command prints, writes and leaves in the volume."""

import json
from pathlib import Path

import pytest
from tests.agentfs.commands import ok, run


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A fresh volume."""
    path = tmp_path / "x.afs"
    assert run(path, "init").exit_code == 0
    return path


def test_the_line_of_the_issue_prints_the_one_added_file(tmp_path: Path) -> None:
    """init, put, snapshot, fork, write on the fork, diff: exactly the added file is printed."""
    source = tmp_path / "dir"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "a.txt").write_text("a", encoding="utf-8")
    path = tmp_path / "x.afs"
    ok(path, "init")
    ok(path, "put", str(source), "/src")
    ok(path, "snapshot", "s1")
    ok(path, "fork", "try")
    ok(path, "-b", "try", "write", "/src/new.txt", stdin=b"hi\n")
    assert ok(path, "diff", "main", "try") == "A /src/new.txt\n"
    assert json.loads(ok(path, "diff", "main", "try", "--json")) == [
        {"path": "/src/new.txt", "kind": "added"}
    ]


def test_diff_with_one_name_compares_with_the_current_branch(volume: Path) -> None:
    """`-b try diff main` shows what try has over main, with a letter for each kind."""
    for name in ("/kept", "/changed", "/gone"):
        ok(volume, "write", name, stdin=b"1")
    ok(volume, "fork", "try")
    ok(volume, "-b", "try", "write", "/changed", stdin=b"22")
    ok(volume, "-b", "try", "rm", "/gone")
    shown = ok(volume, "-b", "try", "diff", "main").splitlines()
    assert sorted(shown) == ["D /gone", "M /changed"]


def test_cat_gives_the_exact_bytes(volume: Path) -> None:
    """All byte values, written from stdin, come out of cat unchanged."""
    data = bytes(range(256)) * 5000
    ok(volume, "write", "/b", stdin=data)
    assert run(volume, "cat", "/b").stdout_bytes == data


def test_put_excludes_and_get_brings_back(volume: Path, tmp_path: Path) -> None:
    """A tree comes back as it went in, without what was excluded."""
    source = tmp_path / "in"
    (source / "lib").mkdir(parents=True)
    (source / "lib" / "a.py").write_bytes(b"a")
    (source / "lib" / "a.pyc").write_bytes(b"junk")
    ok(volume, "put", str(source), "/src", "--exclude", "*.pyc")
    ok(volume, "get", "/src", str(tmp_path / "out"))
    found = [p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert found == [Path("lib/a.py")]


def test_put_of_a_file_into_a_directory_keeps_its_name(volume: Path, tmp_path: Path) -> None:
    """A single host file put at a directory lands inside it."""
    (tmp_path / "one.txt").write_bytes(b"1")
    ok(volume, "mkdir", "/d")
    ok(volume, "put", str(tmp_path / "one.txt"), "/d")
    assert ok(volume, "cat", "/d/one.txt") == "1"


def test_get_writes_over_nothing_unless_forced(volume: Path, tmp_path: Path) -> None:
    """A host file that is there stays as it is until --force is given."""
    ok(volume, "write", "/a", stdin=b"new")
    target = tmp_path / "a"
    target.write_bytes(b"old")
    refused = run(volume, "get", "/a", str(target))
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert target.read_bytes() == b"old"
    ok(volume, "get", "/a", str(target), "--force")
    assert target.read_bytes() == b"new"


def test_tree_commands_change_the_tree(volume: Path) -> None:
    """Using mkdir -p, mv into a directory, ls, ls -l, stat and rm -r do what their names say."""
    ok(volume, "mkdir", "-p", "/a/b")
    ok(volume, "write", "/f", stdin=b"123")
    ok(volume, "mv", "/f", "/a")
    assert ok(volume, "ls", "/a").split() == ["b", "f"]
    assert "-rw" in ok(volume, "ls", "-l", "/a")
    assert json.loads(ok(volume, "stat", "/a/f", "--json"))["size"] == 3
    assert run(volume, "rm", "/a").exit_code != 0
    ok(volume, "rm", "-r", "/a")
    assert json.loads(ok(volume, "ls", "--json")) == []


def test_rm_of_several_is_all_or_nothing(volume: Path) -> None:
    """When one of the paths is missing, none is removed."""
    ok(volume, "write", "/a", stdin=b"1")
    assert run(volume, "rm", "/a", "/missing").exit_code != 0
    assert ok(volume, "ls") == "a\n"


def test_restore_brings_back_one_path_or_all(volume: Path) -> None:
    """`--paths` touches only what it names; without it the branch is as the snapshot."""
    ok(volume, "write", "/a", stdin=b"1")
    ok(volume, "write", "/b", stdin=b"1")
    ok(volume, "snapshot", "s", "-m", "first")
    ok(volume, "rm", "/a", "/b")
    ok(volume, "restore", "s", "--paths", "/a")
    assert ok(volume, "ls") == "a\n"
    ok(volume, "restore", "s")
    assert ok(volume, "ls") == "a\nb\n"
    assert json.loads(ok(volume, "snapshots", "--json"))[0]["message"] == "first"


def test_merge_shows_first_and_then_does(volume: Path) -> None:
    """A dry run changes nothing; the merge brings the file in."""
    ok(volume, "fork", "try")
    ok(volume, "-b", "try", "write", "/n", stdin=b"1")
    assert "A /n" in ok(volume, "merge", "try", "--dry-run")
    assert ok(volume, "ls") == ""
    ok(volume, "merge", "try")
    assert ok(volume, "ls") == "n\n"


def test_merge_conflict_fails_until_a_side_is_chosen(volume: Path) -> None:
    """Both sides changed a path: an error that names the way out, then theirs wins."""
    ok(volume, "write", "/f", stdin=b"0")
    ok(volume, "fork", "try")
    ok(volume, "write", "/f", stdin=b"ours")
    ok(volume, "-b", "try", "write", "/f", stdin=b"theirs")
    refused = run(volume, "merge", "try")
    assert refused.exit_code not in (0, 2)
    assert "conflict" in refused.stderr
    assert ok(volume, "cat", "/f") == "ours"
    ok(volume, "merge", "try", "--strategy", "theirs")
    assert ok(volume, "cat", "/f") == "theirs"


def test_log_pages_by_number(volume: Path) -> None:
    """--since starts after a row and --limit ends the list."""
    for name in ("/a", "/b", "/c"):
        ok(volume, "write", name, stdin=b"1")
    rows = json.loads(ok(volume, "log", "--json"))
    last = rows[-1]["seq"]
    assert [row["path"] for row in rows][-3:] == ["/a", "/b", "/c"]
    assert json.loads(ok(volume, "log", "--since", str(last), "--json")) == []
    assert len(ok(volume, "log", "--limit", "2").splitlines()) == 2


def test_system_state_needs_its_flag(volume: Path) -> None:
    """Without --system the path /.fmos is refused; with it, it can be made and listed."""
    assert run(volume, "mkdir", "/.fmos/x").exit_code != 0
    ok(volume, "--system", "mkdir", "-p", "/.fmos/x")
    assert ".fmos" in ok(volume, "--system", "ls", "/")
    assert ".fmos" not in ok(volume, "ls", "/")


def test_fsck_and_stats_answer_json(volume: Path) -> None:
    """A fresh volume is sound, and its figures are numbers by name."""
    assert json.loads(ok(volume, "fsck", "--json"))["ok"] is True
    assert "every invariant holds" in ok(volume, "fsck")
    assert json.loads(ok(volume, "stats", "--json"))
    assert ok(volume, "stats")


def test_control_characters_in_names_are_shown_escaped(volume: Path) -> None:
    """A name with an escape sequence or a newline cannot drive the terminal."""
    ok(volume, "write", "/a\x1b[2J\nb", stdin=b"1")
    assert ok(volume, "ls") == "a\\x1b[2J\\nb\n"
    assert json.loads(ok(volume, "ls", "--json"))[0]["name"] == "a\x1b[2J\nb"

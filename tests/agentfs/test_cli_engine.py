"""The commands on branches, history, state and the host: what they print and leave behind."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.agentfs.commands import ok, run

from agentfs import AgentFS


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with /src/a.py, /src/lib/b.txt and the snapshot s."""
    path = tmp_path / "x.afs"
    with AgentFS.open(path) as fs:
        fs.mkdir("/src/lib", parents=True)
        fs.write("/src/a.py", "one\ntwo\nthree\n")
        fs.write("/src/lib/b.txt", "needle\n" * 1000)
        fs.snapshot("s")
    return path


def test_tree_draws_and_stops_at_a_depth(volume: Path) -> None:
    """Names are drawn sorted below their directory, with the counts at the end."""
    assert ok(volume, "tree", "/src").splitlines() == [
        "/src", "├── a.py", "└── lib/", "    └── b.txt", "", "1 directory, 2 files",
    ]  # fmt: skip
    assert "b.txt" not in ok(volume, "tree", "/src", "-L", "1")
    kinds = {each["path"]: each["kind"] for each in json.loads(ok(volume, "tree", "--json"))}
    assert kinds["/src/lib"] == "directory"


def test_find_filters_by_name_type_and_size(volume: Path) -> None:
    """All filters must pass, and a wrong size is an error."""
    assert ok(volume, "find", "--name", "*.py") == "/src/a.py\n"
    assert ok(volume, "find", "--type", "d") == "/src\n/src/lib\n"
    assert ok(volume, "find", "--larger", "1k", "-0") == "/src/lib/b.txt\0"
    assert ok(volume, "find", "--smaller", "1k") == "/src/a.py\n"
    assert run(volume, "find", "--larger", "big").exit_code == 2


def test_grep_prints_lines_and_says_by_its_exit_code(volume: Path) -> None:
    """Path, line and text are printed; nothing found is 1, a wrong expression 2."""
    assert ok(volume, "grep", "TWO", "-i") == "/src/a.py:2:two\n"
    assert ok(volume, "grep", "-l", "needle", "/src") == "/src/lib/b.txt\n"
    assert json.loads(ok(volume, "grep", "t.o", "--json")) == [
        {"path": "/src/a.py", "line": 2, "text": "two"}
    ]
    nothing = run(volume, "grep", "-F", "t.o")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert run(volume, "grep", "(").exit_code == 2


def test_du_sums_up_each_directory(volume: Path) -> None:
    """Directories come after those in them; -s is the sum alone."""
    rows = json.loads(ok(volume, "du", "--json"))
    assert [(each["path"], each["bytes"], each["files"]) for each in rows] == [
        ("/src/lib", 7000, 1), ("/src", 7014, 2), ("/", 7014, 2),
    ]  # fmt: skip
    assert ok(volume, "du", "/src", "-s").split() == ["6.8", "KiB", "/src"]


def test_cp_and_ln_make_second_names(volume: Path) -> None:
    """A directory is copied into a directory that is there; links are hard or symbolic."""
    ok(volume, "cp", "/src/lib", "/")
    assert ok(volume, "cat", "/lib/b.txt") == "needle\n" * 1000
    ok(volume, "ln", "/src/a.py", "/hard")
    ok(volume, "ln", "-s", "src/a.py", "/soft")
    ok(volume, "write", "/hard", stdin=b"new")
    assert ok(volume, "cat", "/src/a.py", "/soft") == "newnew"
    assert run(volume, "cp", "/none", "/x").exit_code == 3


def test_reading_commands_go_back_in_time(volume: Path, tmp_path: Path) -> None:
    """`--at` takes a snapshot, a journal row or a time; a wrong one is one sentence."""
    ok(volume, "write", "/src/a.py", stdin=b"later")
    ok(volume, "rm", "-r", "/src/lib")
    assert ok(volume, "cat", "/src/a.py", "--at", "s").startswith("one")
    assert ok(volume, "ls", "/src", "--at", "@6") == "a.py\nlib\n"
    assert ok(volume, "ls", "/src") == "a.py\n"
    ok(volume, "get", "/src", str(tmp_path / "then"), "--at", "s")
    assert (tmp_path / "then" / "lib" / "b.txt").exists()
    wrong = run(volume, "ls", "--at", "@99")
    assert wrong.exit_code == 3
    assert len(wrong.stderr.splitlines()) == 1


def test_a_patch_makes_one_state_from_the_other(volume: Path, tmp_path: Path) -> None:
    """`git apply` of `diff --patch` turns the exported old state into the new one."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    lines = [f"{each}\n" for each in range(100)]
    with AgentFS.open(volume) as fs:
        fs.write("/src/lines", "".join(lines))
        fs.write("/src/no-end", "a\nb")
        fs.write("/src/it's é", "x\n")
        fs.snapshot("old")
        fs.write("/src/lines", "".join(["first\n", *lines[:40], *lines[42:90], "last"]))
        fs.write("/src/no-end", "a\nb\n")
        fs.write("/src/it's é", "y\n")
        fs.write("/src/new", "n\n")
        fs.write("/src/empty", "")
        fs.remove("/src/a.py")
        fs.chmod("/src/lib/b.txt", 0o755)
        fs.symlink("lines", "/src/link")
    patch = ok(volume, "diff", "old", "--patch").encode("utf-8", "surrogateescape")
    ok(volume, "get", "/", str(tmp_path / "old"), "--at", "old")
    ok(volume, "get", "/", str(tmp_path / "new"))
    environment = {"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(tmp_path)}
    for command in (["git", "init", "-q"], ["git", "apply", "-"]):
        subprocess.run(
            command, cwd=tmp_path / "old", input=patch, env=environment, check=True, timeout=20
        )
    shutil.rmtree(tmp_path / "old" / ".git")
    ran = subprocess.run(
        ["diff", "-r", "old", "new"], cwd=tmp_path, capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, b"")
    assert (tmp_path / "old" / "src" / "lib" / "b.txt").stat().st_mode & 0o111


def test_a_merge_lists_typed_conflicts_and_exits_with_7(volume: Path) -> None:
    """Dry run and merge list the same conflicts; nothing is merged until a side is chosen."""
    with AgentFS.open(volume) as fs:
        other = fs.fork("try")
        fs.write("/src/a.py", "ours\n")
        other.write("/src/a.py", "theirs\n")
    for more in ([], ["--dry-run"]):
        result = run(volume, "merge", "try", "--json", *more)
        assert result.exit_code == 7
        said = json.loads(result.stdout)
        assert said["conflicts"] == [{"path": "/src/a.py", "kind": "content"}]
        assert said["merged"] is False
    assert "conflict /src/a.py (content)" in run(volume, "merge", "try").stdout
    assert ok(volume, "cat", "/src/a.py") == "ours\n"
    ok(volume, "merge", "try", "--strategy", "theirs")
    assert ok(volume, "cat", "/src/a.py") == "theirs\n"


def test_dry_runs_change_nothing(volume: Path) -> None:
    """rm, restore, rm-branch, import, gc: the journal is as it was."""
    ok(volume, "fork", "try")
    ok(volume, "-b", "try", "rm", "/src/a.py")
    rows = ok(volume, "log")
    assert "Would remove /src" in ok(volume, "rm", "-r", "/src", "--dry-run")
    assert "D /src/a.py" in ok(volume, "restore", "try", "--dry-run")
    assert "1 path that differs" in ok(volume, "rm-branch", "try", "--dry-run")
    assert "Would have imported" in ok(volume, "import", str(volume.parent), "/in", "--dry-run")
    assert "Would let go" in ok(volume, "gc", "--dry-run")
    assert ok(volume, "log") == rows


def test_checkout_and_rm_branch(volume: Path) -> None:
    """Commands without -b follow checkout; the default branch cannot be deleted."""
    ok(volume, "fork", "try")
    ok(volume, "checkout", "try")
    assert "* try" in ok(volume, "branches")
    assert run(volume, "-b", "main", "rm-branch", "try").exit_code == 5
    ok(volume, "checkout", "main")
    ok(volume, "rm-branch", "try")
    assert [each["name"] for each in json.loads(ok(volume, "branches", "--json"))] == ["main"]
    assert run(volume, "rm-branch", "try").exit_code == 3


def test_import_moves_only_what_differs(volume: Path, tmp_path: Path) -> None:
    """A second import does nothing; --delete removes what the host has no more."""
    host = tmp_path / "host"
    (host / "d").mkdir(parents=True)
    (host / "a").write_text("1", encoding="utf-8")
    (host / "d" / "b").write_text("2", encoding="utf-8")
    ok(volume, "import", str(host), "/in")
    assert json.loads(ok(volume, "import", str(host), "/in", "--json"))["changes"] == []
    (host / "a").write_text("changed", encoding="utf-8")
    shutil.rmtree(host / "d")
    assert ok(volume, "import", str(host), "/in").splitlines()[0] == "M /in/a"
    assert ok(volume, "import", str(host), "/in", "--delete").splitlines()[0] == "D /in/d"
    assert ok(volume, "ls", "/in") == "a\n"


def test_export_replaces_host_files_only_by_force(volume: Path, tmp_path: Path) -> None:
    """An export writes what is missing, and refuses as a whole where something would be lost."""
    out = tmp_path / "out"
    ok(volume, "export", "/src", str(out))
    assert json.loads(ok(volume, "export", "/src", str(out), "--json"))["changes"] == []
    (out / "a.py").write_text("mine", encoding="utf-8")
    (out / "extra").write_text("mine", encoding="utf-8")
    refused = run(volume, "export", "/src", str(out))
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert (out / "a.py").read_text(encoding="utf-8") == "mine"
    ok(volume, "export", "/src", str(out), "--force")
    assert (out / "a.py").read_text(encoding="utf-8").startswith("one")
    assert (out / "extra").exists()
    ok(volume, "export", "/src", str(out), "--force", "--delete")
    assert not (out / "extra").exists()


def test_kv_keeps_json_values(volume: Path) -> None:
    """Values come back as they were; a missing key is 3, a wrong value 2."""
    ok(volume, "kv", "set", "k", '{"a": [1]}')
    ok(volume, "kv", "set", "t", "plain", "--text")
    ok(volume, "kv", "set", "in", "-", stdin=b"7")
    assert json.loads(ok(volume, "kv", "get", "k")) == {"a": [1]}
    assert json.loads(ok(volume, "kv", "list", "--json")) == {
        "k": {"a": [1]},
        "t": "plain",
        "in": 7,
    }
    assert run(volume, "kv", "get", "none").exit_code == 3
    assert run(volume, "kv", "set", "k", "{").exit_code == 2
    ok(volume, "kv", "delete", "k")
    assert run(volume, "kv", "delete", "k").exit_code == 1


def test_timeline_shows_calls_and_operations_in_order(volume: Path) -> None:
    """A tool call stands before the operations that came after it began."""
    with AgentFS.open(volume) as fs:
        call = fs.toolcalls.start("edit", {"path": "/src/a.py"})
        fs.write("/src/a.py", "x")
        fs.toolcalls.error(call, "too late")
    events = json.loads(ok(volume, "timeline", "--limit", "2", "--json"))
    assert [each["type"] for each in events] == ["call", "operation"]
    assert "too late" in ok(volume, "timeline", "--failed")
    assert json.loads(ok(volume, "timeline", "--stats", "--json"))[0]["failures"] == 1
    assert "1 calls, 1 failed" in ok(volume, "timeline", "--stats")


def test_watch_prints_rows_and_ends_as_told(volume: Path) -> None:
    """--limit ends it after some rows, --timeout when nothing comes."""
    assert len(ok(volume, "watch", "--since", "0", "--limit", "2").splitlines()) == 2
    rows = ok(volume, "watch", "--since", "1", "--timeout", "0", "--json").splitlines()
    assert [json.loads(each)["seq"] for each in rows] == [2, 3, 4, 5][: len(rows)]


def test_log_filters(volume: Path) -> None:
    """--path, --operation, --last, --until and --here choose rows."""
    ok(volume, "-b", "main", "fork", "try")
    ok(volume, "-b", "try", "write", "/src/lib/c", stdin=b"")
    assert "/src/lib/c" in ok(volume, "log", "--path", "/src/lib", "--last", "1")
    assert "/src/lib/c" not in ok(volume, "log", "--here")
    assert ok(volume, "log", "--operation", "snapshot").count("\n") == 1
    assert ok(volume, "log", "--until", "1").count("\n") == 1


def test_quota_and_rules_need_the_system_option(volume: Path) -> None:
    """They are shown to all, set with --system only, and then hold."""
    assert run(volume, "quota", "--bytes", "1k").exit_code == 6
    ok(volume, "--system", "quota", "--bytes", "8k")
    assert json.loads(ok(volume, "quota", "--json"))["max_bytes"] == 8192
    full = run(volume, "write", "/big", stdin=b"x" * 5000)
    assert full.exit_code == 9
    assert len(full.stderr.splitlines()) == 1
    ok(volume, "--system", "quota", "--bytes", "none")
    assert "--system" in run(volume, "rules", "set", "/src", "*", "read").stderr
    ok(volume, "--system", "rules", "set", "/src", "*", "read")
    assert ok(volume, "rules") == "read  * /src\n"
    assert run(volume, "write", "/src/a.py", stdin=b"").exit_code == 6
    ok(volume, "--system", "rules", "remove", "/src", "*")
    assert run(volume, "--system", "rules", "remove", "/src", "*").exit_code == 1


def test_gc_and_verify(volume: Path) -> None:
    """What gc frees is said, a wrong time is refused, and verify finds the volume sound."""
    ok(volume, "rm", "-r", "/src")
    assert json.loads(ok(volume, "gc", "--retention", "0", "--json"))["dry_run"] is False
    assert run(volume, "gc", "--retention", "soon").exit_code == 2
    assert "every invariant holds" in ok(volume, "verify")


def test_a_large_input_is_written_in_pieces(volume: Path) -> None:
    """Stdin above the size of a piece arrives whole, an empty one makes an empty file."""
    data = os.urandom(1 << 20) * 9
    ok(volume, "write", "/big", stdin=data)
    assert run(volume, "cat", "/big").stdout_bytes == data
    ok(volume, "write", "/empty", stdin=b"")
    assert json.loads(ok(volume, "stat", "/empty", "--json"))["size"] == 0

"""Access rules per path prefix and principal."""

from collections.abc import Callable
from pathlib import Path

import pytest

import agentfs
from agentfs import AgentFS


@pytest.fixture
def fs(tmp_path: Path):
    """Open a fresh volume with `system`, and check its structure at the end."""
    with AgentFS.open(tmp_path / "a.afs", system=True) as handle:
        handle.mkdir("/work/secret", parents=True)
        handle.mkdir("/shared")
        handle.write("/work/a", "alpha\n")
        handle.write("/work/secret/key", "alpha secret\n")
        handle.write("/shared/s", "alpha shared\n")
        yield handle
        assert handle.fsck(read_data=True) == []


def as_agent(fs: AgentFS, name: str = "ada") -> AgentFS:
    """A handle of an agent on the same branch."""
    return fs.on(fs.branch, system=False, principal=name)


def guarded(fs: AgentFS) -> AgentFS:
    """A volume where the agent may read `/shared`, write `/work` and not see its secrets."""
    fs.rules.replace(
        "ada", {"/": "none", "/work": "write", "/work/secret": "none", "/shared": "read"}
    )
    return as_agent(fs)


def test_the_longest_prefix_wins_and_a_named_principal_beats_anybody(fs: AgentFS) -> None:
    """Of rules for one prefix the principal's own counts; a longer one for `*` beats both."""
    fs.rules.set("/", "*", "read")
    fs.rules.set("/work", "*", "none")
    fs.rules.set("/work", "ada", "write")
    fs.rules.set("/work/secret", "*", "none")
    expected = {"/x": "read", "/work": "write", "/work/a": "write", "/work/secret/k": "none"}
    assert {path: fs.rules.access(path, "ada") for path in expected} == expected
    assert fs.rules.access("/work/a", "bob") == "none"
    assert fs.rules.access("/workshop", "bob") == "read"
    assert [(each.prefix, each.principal) for each in fs.rules.list()] == [
        ("/", "*"), ("/work", "*"), ("/work", "ada"), ("/work/secret", "*"),
    ]  # fmt: skip
    assert fs.rules.remove("/work", "ada") is True
    assert fs.rules.remove("/work", "ada") is False
    assert fs.rules.access("/work/a", "ada") == "none"


def test_only_a_system_handle_sets_rules_and_is_not_bound_by_them(fs: AgentFS) -> None:
    """An agent can read the rules, not change them; the system goes on as before."""
    agent = guarded(fs)
    for change in (
        lambda: agent.rules.set("/", "ada", "write"),
        lambda: agent.rules.remove("/", "ada"),
        lambda: agent.rules.replace("ada", {}),
    ):
        with pytest.raises(agentfs.PermissionDenied):
            change()
    assert len(agent.rules.list()) == 4
    assert fs.read("/work/secret/key") == b"alpha secret\n"
    with pytest.raises(agentfs.InvalidArgument):
        fs.rules.set("/", "ada", "execute")  # type: ignore[arg-type]


def test_listing_and_searching_show_only_what_may_be_read(fs: AgentFS) -> None:
    """Hidden names are left out, and directories on the way to readable ones stay visible."""
    fs.write("/hidden", "alpha hidden\n")
    agent = guarded(fs)
    assert agent.listdir("/") == ["shared", "work"]
    assert [each.name for each in agent.scandir("/work")] == ["a"]
    assert [path for path, _, _ in agent.walk("/")] == ["/", "/shared", "/work"]
    assert [each.path for each in agent.grep("alpha")] == ["/shared/s", "/work/a"]
    assert "/work/secret/key" not in list(agent.glob("/**"))
    assert agent.stat("/").is_dir
    assert as_agent(fs, "bob").listdir("/") == ["hidden", "shared", "work"]


def test_direct_access_names_path_principal_and_rule(fs: AgentFS) -> None:
    """The error says who may not do what where, by which rule."""
    agent = guarded(fs)
    with pytest.raises(agentfs.PermissionDenied) as caught:
        agent.read("/work/secret/key")
    assert str(caught.value) == (
        "permission denied: '/work/secret/key': the principal 'ada' may not read here,"
        " by the rule '/work/secret' 'ada' 'none'"
    )
    with pytest.raises(agentfs.PermissionDenied, match=r"may not write here.*'/shared' 'ada'"):
        agent.write("/shared/s", "x")


READS: dict[str, Callable[[AgentFS], object]] = {
    "read": lambda fs: fs.read("/work/secret/key"),
    "read of what is missing": lambda fs: fs.read("/work/secret/none"),
    "below a file": lambda fs: fs.read("/work/secret/key/x"),
    "stat": lambda fs: fs.stat("/work/secret/key"),
    "listdir": lambda fs: fs.listdir("/work/secret"),
    "open": lambda fs: fs.open("/work/secret/key"),
    "walk": lambda fs: list(fs.walk("/work/secret")),
    "grep": lambda fs: list(fs.grep("a", "/work/secret")),
    "getxattr": lambda fs: fs.listxattr("/work/secret/key"),
    "diff": lambda fs: list(fs.diff("main", "main", "/work/secret")),
    "link": lambda fs: fs.link("/work/secret/key", "/work/l"),
    "copy": lambda fs: fs.copy("/work/secret/key", "/work/c"),
    "copy above": lambda fs: fs.copy("/work", "/elsewhere"),
    "symlink": lambda fs: (fs.symlink("/work/secret/key", "/work/s"), fs.read("/work/s")),
    "linked directory": lambda fs: (fs.symlink("secret", "/work/d"), fs.listdir("/work/d")),
    "dots": lambda fs: fs.read("/work/x/../secret/key"),
    "kv": lambda fs: fs.kv.get("k"),
}
WRITES: dict[str, Callable[[AgentFS], object]] = {
    "write": lambda fs: fs.write("/shared/s", "x"),
    "new file": lambda fs: fs.write("/shared/new", "x"),
    "append": lambda fs: fs.append("/shared/s", "x"),
    "truncate": lambda fs: fs.truncate("/shared/s", 1),
    "open": lambda fs: fs.open("/shared/s", "w").close(),
    "mkdir": lambda fs: fs.mkdir("/shared/d"),
    "remove": lambda fs: fs.remove("/shared/s"),
    "remove a tree": lambda fs: fs.remove("/shared", recursive=True),
    "remove above": lambda fs: fs.remove("/work", recursive=True),
    "rename from": lambda fs: fs.rename("/shared/s", "/work/s"),
    "rename to": lambda fs: fs.rename("/work/a", "/shared/a"),
    "rename above": lambda fs: fs.rename("/work", "/work2"),
    "copy to": lambda fs: fs.copy("/work/a", "/shared/a"),
    "symlink": lambda fs: fs.symlink("x", "/shared/l"),
    "link to": lambda fs: fs.link("/work/a", "/shared/l"),
    "link from": lambda fs: fs.link("/shared/s", "/work/l"),
    "chmod": lambda fs: fs.chmod("/shared/s", 0o600),
    "chmod of a directory": lambda fs: fs.chmod("/shared", 0o700),
    "utime": lambda fs: fs.utime("/shared/s", 1),
    "setxattr": lambda fs: fs.setxattr("/shared/s", "user.x", b"1"),
    "through a symlink": lambda fs: (fs.symlink("/shared/s", "/work/s"), fs.write("/work/s", "x")),
    "restore": lambda fs: fs.restore("old"),
    "restore of a path": lambda fs: fs.restore("old", ["/shared/s"]),
    "restore above": lambda fs: fs.restore("old", ["/work"]),
    "merge": lambda fs: fs.merge("other"),
    "kv": lambda fs: fs.kv.set("k", 1),
}


@pytest.mark.parametrize("name", READS)
def test_nothing_reads_what_is_hidden(fs: AgentFS, name: str) -> None:
    """Every way to read, through links and copies too, is refused alike."""
    agent = guarded(fs)
    with pytest.raises(agentfs.PermissionDenied):
        READS[name](agent)


@pytest.mark.parametrize("name", WRITES)
def test_nothing_writes_what_may_not_be_written(fs: AgentFS, name: str) -> None:
    """Every way to change a path is refused, and leaves the tree as it was."""
    fs.snapshot("old")
    fs.write("/shared/s", "newer\n")
    fs.write("/work/secret/key", "newer\n")
    other = fs.fork("other")
    other.write("/shared/t", "theirs")
    agent = guarded(fs)
    fs.snapshot("before")
    with pytest.raises(agentfs.PermissionDenied):
        WRITES[name](agent)
    assert [each.path for each in fs.diff("before", "main")] in ([], ["/work/s"])


def test_what_is_allowed_still_works(fs: AgentFS) -> None:
    """Inside its paths the agent reads, writes, moves, merges and restores."""
    agent = guarded(fs)
    fs.snapshot("old")
    agent.write("/work/b", "b")
    agent.rename("/work/b", "/work/c")
    agent.copy("/shared/s", "/work/s")
    agent.mkdir("/work/d/e", parents=True)
    agent.remove("/work/d", recursive=True)
    other = agent.fork("other")
    other.write("/work/theirs", "x")
    agent.merge("other")
    assert agent.listdir("/work") == ["a", "c", "s", "theirs"]
    agent.restore("old")
    assert agent.listdir("/work") == ["a"]


def test_a_fork_a_snapshot_and_a_restore_escape_no_rule(fs: AgentFS) -> None:
    """Rules belong to the volume: they hold on every branch and in every past state."""
    fs.snapshot("before the rules")
    agent = guarded(fs)
    for view in (agent.fork("mine"), agent.at("before the rules"), agent.fork("x", "main")):
        with pytest.raises(agentfs.PermissionDenied):
            view.read("/work/secret/key")
        assert view.listdir("/work") == ["a"]


def test_diff_leaves_out_what_may_not_be_read(fs: AgentFS) -> None:
    """Changes of hidden paths do not appear, whichever side has them."""
    agent = guarded(fs)
    fs.snapshot("s")
    fs.write("/work/secret/new", "x")
    fs.write("/hidden", "x")
    fs.write("/work/b", "x")
    fs.remove("/work/secret/key")
    assert [each.path for each in agent.diff("s", "main")] == ["/work/b"]
    assert len(list(fs.diff("s", "main"))) == 4


def test_rules_reach_other_connections_at_their_next_call(fs: AgentFS) -> None:
    """A handle in another process would see a rule with its next call; so does another volume."""
    with AgentFS.open(fs.path, principal="ada") as other:
        assert other.read("/work/a") == b"alpha\n"
        fs.rules.set("/work", "ada", "none")
        with pytest.raises(agentfs.PermissionDenied):
            other.read("/work/a")
        fs.rules.remove("/work", "ada")
        assert other.read("/work/a") == b"alpha\n"


def test_an_undone_rule_does_not_bind(fs: AgentFS) -> None:
    """A rule set in a transaction that fails leaves nothing behind."""
    with pytest.raises(RuntimeError), fs.transaction():
        fs.rules.set("/", "*", "none")
        raise RuntimeError
    assert as_agent(fs).read("/work/a") == b"alpha\n"


def test_keys_are_bound_by_rules_for_their_paths(fs: AgentFS) -> None:
    """A rule for the keys' place lets an agent read them and not write them."""
    fs.kv.set("k", 1)
    fs.kv.set("private", 2)
    fs.rules.set("/.fmos/kv", "ada", "read")
    fs.rules.set("/.fmos/kv/private", "ada", "none")
    agent = as_agent(fs)
    assert agent.kv.get("k") == 1
    assert agent.kv.list() == ["k"]
    for change in (lambda: agent.kv.set("k", 2), lambda: agent.kv.delete("k")):
        with pytest.raises(agentfs.PermissionDenied):
            change()
    with pytest.raises(agentfs.PermissionDenied):
        agent.kv.get("private")

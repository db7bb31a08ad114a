"""The system area `/.fmos` is out of reach of every file door: Python, async, command, MCP, fsspec.

The doors' calls are found by introspection, so that a new one fails here until it is classified.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.threats.system_area import (
    LOOKALIKES,
    NOTE,
    SECRET,
    SPELLINGS,
    THROUGH,
    agent_of,
    make_volume,
    shown,
    system_nodes,
    with_links,
)
from typer.testing import CliRunner

from agentfs import AgentFS, AsyncAgentFS, PermissionDenied, ReadOnly
from agentfs.cli.main import COMMANDS, application, needed
from agentfs.errors import AgentFSError
from agentfs.fsspec import AgentFileSystem
from agentfs.mount import Mounted, unavailable
from agentfs.run import run, sandbox
from agentfs.serve.area import Area
from agentfs.serve.declare import tools
from agentfs.serve.history import Branching, LookingBack
from agentfs.serve.reading import Reading
from agentfs.serve.refusal import ToolRefusal
from agentfs.serve.searching import Searching
from agentfs.serve.writing import Writing


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[AgentFS]:
    """A volume with a secret in its system area, whole at the end."""
    with make_volume(tmp_path / "v.afs") as fs:
        yield fs
        assert fs.fsck(read_data=True) == []


class Watchful:
    """Runs calls of an agent and finds what they showed or changed of the system area."""

    def __init__(self, volume: AgentFS) -> None:
        self.volume = volume
        self.before = system_nodes(volume)

    def refused(self, call: Callable[[], Any]) -> bool:
        """Run one call; say whether it was refused, and fail if it reached the system area."""
        try:
            result = call()
            text = shown(result)
        except (AgentFSError, ToolRefusal, OSError, ValueError, TypeError) as error:
            text, denied = str(error), isinstance(error, PermissionError)
            denied = denied or getattr(error, "code", "") == "fs.permission_denied"
        else:
            denied = False
        assert SECRET not in text
        self.unchanged()
        return denied

    def unchanged(self) -> None:
        """Fail if the system area of any branch changed."""
        now = system_nodes(self.volume)
        assert {name: now.get(name) for name in self.before} == self.before


# -- Python ----------------------------------------------------------------------------------------

# Parameters that say where in the volume; all others are filled from `_FILLING`.
_PLACES = ("path", "source", "target", "at", "paths")
_SEQUENCES = {"paths"}
# Calls that ask nothing of that path: a link may hold any text, a filter finds nothing.
_QUIET = {("symlink", "target"), ("journal", "path"), ("watch", "path"), ("fork", "source"),
          ("record", "path"), ("apply", "paths"), ("discard", "paths"),
          ("refresh_overlay", "paths")}  # fmt: skip
_FILLING: dict[str, Any] = {
    "data": b"x", "size": 0, "mode": 0o600, "uid": None, "name": "user.x", "value": b"x",
    "pattern": SECRET, "ref": "ada", "before": "ada", "after": "ada/other", "operation": "x",
    "detail": {}, "timeout": 0.01, "source": "/work/plain", "target": "/work/new",
    "path": "/work/plain",
}  # fmt: skip
# What takes no path in the volume, and why it is no way to the system area.
_NO_PATH = {
    "open_volume": "opens a file of the host, which the application names",
    "rekey": "the whole volume; refused to a confined handle",
    "close": "nothing", "transaction": "nothing", "reading": "nothing",
    "view_for_writing": "Python code of the library, not a door",
    "view_for_reading": "Python code of the library, not a door",
    "extension": "Python code of the application, not a door",
    "glob": "a pattern; test_searches_from_the_root", "snapshot": "a name",
    "snapshots": "names", "at": "test_other_states", "retention": "a number",
    "set_retention": "refused to a confined handle", "fork": "test_other_states",
    "journal_keeper": "a name", "keep_journal": "refused to a confined handle",
    "on": "test_handles", "branches": "names", "delete_branch": "test_handles",
    "default_branch": "a name", "set_default_branch": "refused to a confined handle",
    "merge": "test_merges", "quota": "numbers", "set_quota": "needs system", "log": "test_rows",
    "verify_journal": "a verdict", "fsck": "findings; repair is refused to a confined handle",
    "verify": "findings", "gc": "refused to a confined handle", "stats": "numbers",
    "journal_start": "a number and a hash", "check_journal": "hashes and a verdict",
    "explain_journal": "a verdict", "overlays": "places", "record": "refused to a confined handle",
}  # fmt: skip


def _functions(owner: type) -> dict[str, Any]:
    return {
        name: inspect.unwrap(member.__func__ if isinstance(member, classmethod) else member)
        for name, member in vars(owner).items()
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, classmethod))
    }


def _path_parameters() -> list[tuple[str, str]]:
    return [
        (name, each.name)
        for name, function in _functions(AgentFS).items()
        for each in inspect.signature(function).parameters.values()
        if "PathLike" in str(each.annotation) and not each.name.startswith("host")
        and name != "open_volume"
    ]  # fmt: skip


def _arguments(name: str, parameter: str, path: Any, host: Path) -> dict[str, Any]:
    """Arguments for a method of AgentFS in which one parameter is the path in question."""
    given: dict[str, Any] = {}
    for each in list(inspect.signature(_functions(AgentFS)[name]).parameters.values())[1:]:
        if each.name == parameter:
            given[each.name] = [path] if each.name in _SEQUENCES else path
        elif each.name == "host_path":
            given[each.name] = str(host)
        elif each.default is inspect.Parameter.empty or (name, each.name) == ("watch", "timeout"):
            given[each.name] = _FILLING[each.name]
    return given


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host with something in it."""
    (tmp_path / "host" / "inner").mkdir(parents=True)
    (tmp_path / "host" / "inner" / "f").write_text("from the host")
    return tmp_path / "host"


def test_every_method_is_classified() -> None:
    """A method of AgentFS has path arguments, which are tested, or is listed with a reason."""
    with_paths = {name for name, _ in _path_parameters()}
    assert with_paths | set(_NO_PATH) == set(_functions(AgentFS))
    assert {type(each) for each in vars(AgentFS).values()} >= {property}
    own = {"kv", "toolcalls", "rules", "triggers"}
    facts = {"branch", "path", "principal", "read_only", "system", "confined", "encrypted",
             "pinned", "closed"}  # fmt: skip
    properties = {name for name, each in vars(AgentFS).items() if isinstance(each, property)}
    assert properties == own | facts
    mirrored = {name for name in dir(AsyncAgentFS) if not name.startswith("_")}
    assert mirrored - {"sync", "open"} == (set(_functions(AgentFS)) | properties) - {
        "view_for_writing", "view_for_reading"
    }  # fmt: skip


@pytest.mark.parametrize(("name", "parameter"), _path_parameters())
def test_python_refuses_every_spelling(
    volume: AgentFS, host: Path, name: str, parameter: str
) -> None:
    """Each path argument of each method refuses the system area, however it is written."""
    agent = agent_of(volume)
    agent.fork("ada/other")
    watchful = Watchful(volume)
    if parameter in ("at", "paths") and name not in ("overlay", "restore"):
        agent.overlay(host, "/over")
        watchful = Watchful(volume)
    for spelling in SPELLINGS:
        given = _arguments(name, parameter, spelling, host)
        denied = watchful.refused(lambda: getattr(agent, name)(**given))  # noqa: B023 - run at once
        assert denied or (name, parameter) in _QUIET, f"{name}({parameter}={spelling!r})"


@pytest.mark.parametrize(("name", "parameter"), _path_parameters())
def test_python_does_not_follow_links_there(
    volume: AgentFS, host: Path, name: str, parameter: str
) -> None:
    """No method reaches the system area through a link, whatever it does with the link itself."""
    agent = agent_of(volume)
    agent.fork("ada/other")
    watchful = Watchful(volume)
    for number, path in enumerate(THROUGH):
        scratch = with_links(agent.fork(f"ada/{number}"))
        given = _arguments(name, parameter, path, host)
        if name in ("overlay", "import_spec04"):
            watchful.before = system_nodes(volume)  # overlays are noted there, on the agent's fork
        watchful.refused(lambda: getattr(scratch, name)(**given))  # noqa: B023 - run at once
    left = system_nodes(volume)
    assert left["main"] == left["ada"] == left["bob"]


def test_async_is_the_same_door(volume: AgentFS) -> None:
    """The calls of AsyncAgentFS refuse what those of AgentFS refuse, and follow no link there."""
    agent = AsyncAgentFS(with_links(agent_of(volume)))
    names = [name for name, parameter in _path_parameters() if parameter == "path"]

    async def all_refused() -> None:
        for name in ("read", "write", "listdir", "remove", "stat", "rename", "get_tree"):
            for path in (*SPELLINGS, *THROUGH[1:]):
                given = _arguments(name, "source" if name == "rename" else "path", path, Path("/x"))
                try:
                    await getattr(agent, name)(**given)
                except (AgentFSError, OSError):
                    continue
                assert (path in THROUGH, name in ("remove", "rename")) == (True, True)
        with pytest.raises(PermissionDenied):
            await agent.on("ada", system=True)

    assert {"read", "write", "listdir", "remove", "stat", "get_tree"} <= set(names)
    asyncio.run(all_refused())


def test_lookalikes_are_plain_names(volume: AgentFS) -> None:
    """Other case, other Unicode and other places are the agent's own names, and show no secret."""
    agent = agent_of(volume)
    watchful = Watchful(volume)
    for path in LOOKALIKES:
        agent.mkdir(os.path.dirname(path), parents=True, exist_ok=True)
        agent.write(path, "mine")
        assert agent.read(path) == b"mine"
    watchful.unchanged()
    assert SECRET not in shown(agent.grep("heron"))


def test_whole_trees_leave_it_out(volume: AgentFS, tmp_path: Path) -> None:
    """The root cannot be copied, moved or removed with it, and exports do not have it."""
    agent = agent_of(volume)
    agent.link("/work/plain", "/work/hard")
    watchful = Watchful(volume)
    for call in (
        lambda: agent.copy("/", "/all"), lambda: agent.rename("/", "/all"),
        lambda: agent.remove("/", recursive=True), lambda: agent.link(NOTE, "/stolen"),
        lambda: agent.link("/", "/all"), lambda: agent.rmdir("/"),
    ):  # fmt: skip
        watchful.refused(call)
    for name in agent.listdir("/"):
        assert SECRET not in shown(agent.grep("heron", f"/{name}"))
    agent.get_tree("/", tmp_path / "got")
    agent.export_tree("/", tmp_path / "exported", force=True)
    agent.export_spec04("/", tmp_path / "out.db")
    for each in (tmp_path / "got", tmp_path / "exported"):
        assert os.listdir(each)
        assert ".fmos" not in os.listdir(each)
    assert SECRET.encode() not in (tmp_path / "out.db").read_bytes()
    watchful.unchanged()


def test_host_trees_cannot_bring_one_in(volume: AgentFS, host: Path) -> None:
    """A host directory with a `.fmos` of its own changes nothing in the system area."""
    (host / ".fmos" / "memory" / "notes").mkdir(parents=True)
    (host / ".fmos" / "memory" / "notes" / "m1.json").write_text("forged")
    agent = agent_of(volume)
    watchful = Watchful(volume)
    for call in (
        lambda: agent.put_tree(host, "/"), lambda: agent.import_tree(host, "/"),
        lambda: agent.import_tree(host, "/", delete=True),
    ):  # fmt: skip
        watchful.refused(call)
    assert volume.on("ada").read(NOTE) == SECRET.encode()
    empty = AgentFS.open(host.parent / "empty.afs", system=True)
    laid = agent_of(empty, "main")
    laid.overlay(host, "/")
    assert ".fmos" not in laid.listdir("/")
    for path in ("/.fmos/memory/notes/m1.json", "/.fmos"):
        with pytest.raises(PermissionDenied):
            laid.read(path)
    empty.close()


def test_searches_from_the_root(volume: AgentFS) -> None:
    """Walking, globbing and grepping from the root never show a name or a line of it."""
    agent = with_links(agent_of(volume))
    patterns = ("/**", "/*", "/.*", "/.fmos/**", "/[.]fmos/*", "/?fmos/**", "/**/*.json", "/.f*")
    found = [path for pattern in patterns for path in _globbed(agent, pattern)]
    found += [shown(agent.walk("/")), shown(agent.grep("heron|secret")), str(agent.listdir("/"))]
    found += [shown(agent.scandir("/")), str(agent.last_names("/")), str(agent.du("/"))]
    text = "\n".join(found)
    assert "memory" not in text
    assert SECRET not in text


def _globbed(agent: AgentFS, pattern: str) -> list[str]:
    try:
        return list(agent.glob(pattern))
    except PermissionDenied:
        return []


def test_other_states(volume: AgentFS) -> None:
    """Views of the past, forks and restores of an agent give no way to it either."""
    agent = agent_of(volume)
    seq = max(row.seq for row in volume.journal())
    agent.write("/work/plain", "later")
    agent.snapshot("ada/kept")
    watchful = Watchful(volume)
    fork = agent.fork("ada/f")
    for handle in (agent.at(seq), agent.at("ada/kept"), agent.at("-0s"), fork, fork.at("ada")):
        for path in SPELLINGS:
            assert watchful.refused(lambda: handle.read(path))  # noqa: B023 - run at once
            assert watchful.refused(lambda: agent.restore("ada/kept", [path]))  # noqa: B023
            assert watchful.refused(lambda: list(agent.diff("ada", "ada/f", path)))  # noqa: B023
    volume.on("ada").write(NOTE, "a newer memory")
    before = system_nodes(volume)["ada"]
    agent.restore(seq)
    assert agent.read_text("/work/plain") == "plain\n"
    assert system_nodes(volume)["ada"] == before
    assert not [each for each in agent.diff(seq, "ada") if "fmos" in each.path]


def test_merges(volume: AgentFS) -> None:
    """A merge by an agent's handle never carries the system area, and cannot name what it had."""
    agent = agent_of(volume)
    agent.fork("ada/f").write("/work/fresh", "x")
    volume.on("ada/f").write(NOTE, "changed on the fork")
    volume.on("ada/f").write("/.fmos/memory/planted.json", SECRET)
    watchful = Watchful(volume)
    for strategy in ("theirs", "ours", "fail"):
        merged = agent.merge("ada/f", strategy=strategy)  # type: ignore[arg-type]
        assert "fmos" not in str(merged)
    assert agent.read("/work/fresh") == b"x"
    watchful.unchanged()
    assert not volume.on("ada").exists("/.fmos/memory/planted.json")


def test_rows(volume: AgentFS) -> None:
    """Journal, log and watch show an agent no row of the system area and none of other agents."""
    agent = agent_of(volume)
    agent.write("/work/mine", "x")
    volume.on("ada").write("/.fmos/memory/later.json", SECRET)
    volume.on("bob").write("/bobs-plan", "x")
    rows = [*agent.journal(), *agent.log(), *agent.watch(since=0, timeout=0.01)]
    assert "/work/mine" in [row.path for row in rows]
    text = "\n".join(map(str, rows))
    assert "fmos/" not in text
    assert "bob" not in text
    with pytest.raises(PermissionDenied):
        agent.record("op.intent", {"decision": "allow"})


def test_keys_and_tool_calls_name_no_path(volume: AgentFS) -> None:
    """A key is a name in a place of its own: no key reaches another file of the system area."""
    agent = agent_of(volume)
    for key in ("../memory/notes/m1.json", "/.fmos", "..", NOTE, "a/../../memory", "%2e%2e/x"):
        agent.kv.set(key, "mine")
        assert agent.kv.get(key) == "mine"
    assert volume.on("ada").read(NOTE) == SECRET.encode()
    assert sorted(volume.on("ada").listdir("/.fmos")) == ["kv", "memory"]
    call = agent.toolcalls.start("read", {"path": NOTE})
    agent.toolcalls.finish(call, None)
    assert SECRET not in str(agent.toolcalls.list())


# -- handles ---------------------------------------------------------------------------------------


def test_handles_never_widen(volume: AgentFS) -> None:
    """No call on an agent's handle gives one with more: system area, principal or other branch."""
    agent = agent_of(volume)
    fork = agent.fork("ada/f")
    for handle in (agent, fork, agent.at("ada"), agent.on("ada/f"), volume.on("ada", system=False)):
        for name in ("root", ""):
            with pytest.raises(PermissionDenied):
                handle.on("ada", principal=name)
        with pytest.raises(PermissionDenied):
            handle.on("ada", system=True)
        assert handle.on("ada").system is False
    for handle in (agent, fork, agent.at("ada")):
        assert handle.confined
        for name in ("bob", "main"):
            with pytest.raises(PermissionDenied):
                handle.on(name)
    for view in (agent.at("ada"), agent.at("ada").on("ada"), agent.at("ada").at("ada/f")):
        with pytest.raises(ReadOnly):
            view.write("/x", "x")


def test_an_agent_touches_its_own_branches_only(volume: AgentFS) -> None:
    """An agent's handle reads, restores, merges and deletes no branch but its own and its forks."""
    agent = agent_of(volume)
    agent.fork("ada/f").snapshot("ada/f-kept")
    fork = agent.on("ada/f")
    for call in (
        lambda: agent.at("bob"), lambda: agent.at("bobs-snapshot"), lambda: agent.restore("bob"),
        lambda: agent.restore("bobs-snapshot", ["/bobs"]), lambda: agent.merge("bob"),
        lambda: agent.merge("bob", dry_run=True), lambda: agent.fork("ada/x", "bob"),
        lambda: agent.fork("bob2"), lambda: agent.snapshot("bob2"), lambda: agent.fork("ada2"),
        lambda: agent.diff("ada", "bob"), lambda: agent.delete_branch("bob"),
        lambda: fork.delete_branch("ada"), lambda: agent.set_default_branch("ada"),
        lambda: agent.set_retention(0), lambda: agent.gc(), lambda: agent.rekey("k"),
        lambda: agent.keep_journal("me"),
        lambda: agent.fsck(repair=True), lambda: agent.set_quota(), lambda: agent.at("main"),
    ):  # fmt: skip
        with pytest.raises(PermissionDenied):
            call()
    assert [each.name for each in agent.branches()] == ["ada", "ada/f"]
    assert [each.name for each in agent.snapshots()] == ["ada/f-kept"]
    fork.write("/work/x", "x")
    assert [each.path for each in agent.diff("ada", "ada/f")] == ["/work/x"]
    agent.merge("ada/f")
    agent.restore("ada/f-kept")
    agent.delete_branch("ada/f")
    assert [each.name for each in volume.branches()] == ["ada", "bob", "main"]


# -- fsspec ----------------------------------------------------------------------------------------

_FSSPEC_PLACES = {"path", "path1", "path2", "paths", "root", "lpath", "rpath", "fn", "mapper"}
_FSSPEC_FILLING: dict[str, Any] = {
    "value": b"x", "path1": "/work/plain", "path2": "/work/new", "starts": [0], "ends": [9],
    "offset": 0, "length": 9, "url": "x", "blob": "{}", "dct": {}, "name": "x",
    "lpath": "/dev/null", "rpath": "/work/new", "urlpath": "/work/plain", "size": 1,
}  # fmt: skip
_FSSPEC_NO_PATH = {
    "clear_instance_cache", "current", "end_transaction", "from_dict", "from_json",
    "invalidate_cache", "start_transaction", "to_dict", "to_json", "transaction_type",
    "unstrip_protocol", "sign",
}  # fmt: skip


def _fsspec_calls() -> list[tuple[str, str]]:
    found = []
    for name in dir(AgentFileSystem):
        member = getattr(AgentFileSystem, name)
        if name.startswith("_") or not callable(member) or name in _FSSPEC_NO_PATH:
            continue
        places = [each for each in inspect.signature(member).parameters if each in _FSSPEC_PLACES]
        assert places, f"the fsspec method {name!r} is new: does it take a path?"
        found += [(name, each) for each in places]
    return found


def _fsspec_arguments(
    call: Callable[..., Any], parameter: str, path: str, local: str
) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for each in inspect.signature(call).parameters.values():
        if each.name == parameter:
            given[each.name] = path
        elif each.default is inspect.Parameter.empty and each.kind is not each.VAR_KEYWORD:
            given[each.name] = _FSSPEC_FILLING.get(each.name, path)
    if "lpath" in inspect.signature(call).parameters:
        given |= {"lpath": local, "rpath": path}
    return given


@pytest.mark.parametrize(("name", "parameter"), _fsspec_calls())
def test_fsspec(volume: AgentFS, tmp_path: Path, name: str, parameter: str) -> None:
    """No call of the fsspec door shows or changes the system area, by any path or link."""
    for path, target in (("/abs", "/.fmos"), ("/file", NOTE)):
        volume.on("main", system=False).symlink(target, path)
    watchful = Watchful(volume)
    door = AgentFileSystem(volume=volume.path, skip_instance_cache=True)
    local = str(tmp_path / "local")
    for path in (*map(str, SPELLINGS), "agentfs://.fmos/memory", f"/abs{NOTE[6:]}", "/file"):
        given = _fsspec_arguments(getattr(door, name), parameter, path, local)
        given |= {"cat_ranges": {"paths": [path]}, "pipe": {"value": b"x"}}.get(name, {})
        watchful.refused(lambda: getattr(door, name)(**given))  # noqa: B023 - run at once
    kept = tmp_path / "local"
    if kept.is_file():
        assert SECRET not in kept.read_text()
    elif kept.exists():
        shutil.rmtree(kept)
    door._owner.close()


# -- MCP -------------------------------------------------------------------------------------------

_TOOL_PLACES = {"path", "paths", "source", "target", "pattern"}
_TOOL_FILLING: dict[str, Any] = {
    "content": "x", "old_text": "heron", "new_text": "x", "pattern": "heron", "name": "n",
    "branch": "f", "moment": "f", "source": "/work/plain", "target": "/work/new", "before": "f",
    "path": "/work/plain",
}  # fmt: skip


def _tools(area: Area) -> dict[str, Callable[..., Any]]:
    owners = (Reading(area), Searching(area), LookingBack(area), Writing(area), Branching(area))
    return {method.__name__: method for _, method in tools(*owners)}


def test_mcp_tools(volume: AgentFS) -> None:
    """No tool of `agentfs serve` shows or changes the system area, whichever argument names it."""
    agent = with_links(agent_of(volume))
    agent.fork("ada/f").write("/work/x", "x")
    watchful = Watchful(volume)
    found = _tools(Area(agent))
    assert len(found) == 15, "a new tool: look at what its arguments reach"
    for name, method in found.items():
        places = [each for each in inspect.signature(method).parameters if each in _TOOL_PLACES]
        for place in places:
            for path in (*map(str, SPELLINGS), *THROUGH, ".fmos", "./.fmos/memory", r"\udc2efmos"):
                given = {
                    each.name: _TOOL_FILLING[each.name]
                    for each in inspect.signature(method).parameters.values()
                    if each.default is inspect.Parameter.empty
                }
                given |= {"before": "f"} if name == "fs_diff" else {}
                given[place] = [path] if place == "paths" else path
                denied = watchful.refused(lambda: method(**given))  # noqa: B023 - run at once
                quiet = {"pattern"} | ({"source"} if name == "fs_fork" else set())
                if path in map(str, SPELLINGS) and place not in quiet:
                    assert denied, (name, place, path)
    for branch in ("bob", "main", "../bob", "ada/../bob"):
        with pytest.raises((ToolRefusal, AgentFSError)):
            found["fs_read"](path="/work/plain", branch=branch)
        with pytest.raises((ToolRefusal, AgentFSError)):
            found["fs_restore"](moment=branch)


# -- commands --------------------------------------------------------------------------------------

_P = "{path}"
_COMMANDS: dict[str, list[list[str]]] = {
    "ls": [[_P], ["-l", _P]], "stat": [[_P]], "cat": [[_P]], "tree": [[_P]], "find": [[_P]],
    "grep": [["heron", _P]], "du": [[_P]], "write": [[_P], ["-a", _P]], "rm": [["-r", _P]],
    "mv": [[_P, "/work/new"], ["/work/plain", _P]], "cp": [[_P, "/work/new"], ["/work/plain", _P]],
    "ln": [[_P, "/work/new"], ["/work/plain", _P], ["-s", "/work/plain", _P]],
    "mkdir": [["-p", _P]],
    "put": [["{host}", _P]], "get": [[_P, "{host}/got"]], "import": [["{host}", _P]],
    "export": [[_P, "{host}/out"]], "import-spec04": [["{host}/x.db", _P]],
    "export-spec04": [[_P, "{host}/x.db"]], "diff": [["main", "ada", "--path", _P]],
    "restore": [["ada", "--paths", _P]], "overlay": [["{host}", "--at", _P]],
    "apply": [["--at", _P], [_P]], "discard": [["--at", _P], [_P]],
}  # fmt: skip
_COMMANDS_WITHOUT = {
    "mount": "test_a_mount", "unmount": "a place of the host", "snapshot": "a name",
    "snapshots": "names", "fork": "a name", "branches": "names", "checkout": "a name",
    "rm-branch": "a name", "log": "a person's: rows of all", "merge": "test_merges",
    "timeline": "a person's: rows of all", "watch": "a person's: rows of all",
    "trigger": "a person's: triggers belong to the volume", "kv": "keys", "quota": "numbers",
    "rules": "needs --system", "run": "test_a_run", "init": "no volume yet", "stats": "numbers",
    "fsck": "findings", "verify": "findings", "gc": "numbers", "serve": "test_mcp_tools",
}  # fmt: skip


def test_every_command_is_classified() -> None:
    """A command of `agentfs` has paths that are tested, or is listed with a reason."""
    known = {each for names in COMMANDS.values() for each in names}
    assert set(_COMMANDS) | set(_COMMANDS_WITHOUT) == known


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_commands(volume: AgentFS, host: Path, name: str) -> None:
    """Without --system no command shows or changes the system area."""
    plain = volume.on("main", system=False)
    plain.symlink("/.fmos", "/abs")
    watchful = Watchful(volume)
    runner, app = CliRunner(), application(needed([name]))
    for path in ("/.fmos", "//.fmos/./memory", f"/work/..{NOTE}", "/abs/memory/notes/m1.json"):
        for template in _COMMANDS[name]:
            line = [each.format(path=path, host=host) for each in template]
            done = runner.invoke(app, ["-f", str(volume.path), name, *line], input="forged")
            assert SECRET not in done.output
            assert done.exit_code != 0, (name, line, done.output)
            watchful.unchanged()
    assert SECRET.encode() not in b"".join(p.read_bytes() for p in host.rglob("*") if p.is_file())


# -- mount and run ---------------------------------------------------------------------------------


@pytest.mark.skipif(
    unavailable() is not None or os.geteuid() != 0, reason="needs root and /dev/fuse"
)
def test_a_mount(volume: AgentFS) -> None:
    """A mount of an agent's handle does not have it: not by name, link, handle or `..`."""
    agent = with_links(agent_of(volume))
    watchful = Watchful(volume)
    with Mounted(agent) as where:
        assert ".fmos" not in os.listdir(where)
        paths = [*map(str, SPELLINGS), *(each for each in THROUGH if each != "/work/dir")]
        for path in paths:
            inside = f"{where}{path}"
            for call in (
                lambda: Path(inside).read_text(), lambda: os.listdir(inside),  # noqa: B023
                lambda: Path(inside).write_text("forged"), lambda: os.mkdir(inside),  # noqa: B023
                lambda: os.link(inside, f"{where}/stolen"),  # noqa: B023
                lambda: os.rename(f"{where}/work/plain", f"{inside}/x"),  # noqa: B023
            ):  # fmt: skip
                watchful.refused(call)
    watchful.unchanged()


@pytest.mark.skipif(bool(sandbox.why_not()), reason=sandbox.why_not() or "bubblewrap is here")
def test_a_run(volume: AgentFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs on a branch finds no system area in its view and can leave none."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    watchful = Watchful(volume)
    script = (
        f"ls -la; cat .{NOTE} .{NOTE.upper()}; mkdir -p .fmos/memory; echo forged > .fmos/x; true"
    )
    for handle in (agent_of(volume), volume.on("ada")):
        with (tmp_path / "said").open("w+b") as output:
            run(handle, ["sh", "-c", script], backend="copy", stdout=output, stderr=output)
            output.seek(0)
            assert SECRET.encode() not in output.read()
        watchful.unchanged()


# -- numbers of what was looked at -----------------------------------------------------------------


def test_the_enumeration_is_not_empty() -> None:
    """The introspection finds the calls it is for."""
    calls = dict.fromkeys(name for name, _ in _path_parameters())
    assert {"read", "rename", "restore", "apply", "export_tree", "diff", "du"} <= set(calls)
    assert len(_path_parameters()) >= 45
    assert len(_fsspec_calls()) >= 45

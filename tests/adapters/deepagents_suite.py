"""What must hold for the deepagents backend; runs where deepagents is (see test_deepagents.py)."""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from deepagents import create_deep_agent
from deepagents.backends import CompositeBackend, FilesystemBackend, StateBackend
from deepagents.backends.protocol import BackendProtocol
from deepagents.middleware.filesystem import FilesystemPermission, FilesystemState
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from tests.adapters.scripted import ScriptedModel, call, calls, in_turn

from agentfs import AgentFS, PermissionDenied
from fmos_langgraph import FmosSaver
from fmos_langgraph.deepagents import FmosBackend

Files = dict[str, bytes]
Act = Callable[[BackendProtocol], Any]

FILES: Files = {
    "/a.txt": b"one\ntwo\nthree\n",
    "/b.txt": b"no end",
    "/empty.txt": b"",
    "/crlf.txt": b"one\r\ntwo\r\nthree\r\n",
    "/src/main.py": b"import os\nprint('a.b')\n",
    "/src/deep/er.py": b"x = 1\nx = 1\n",
    "/.hidden/ci.yml": b"on: push\n",
    "/pixel.png": b"\x89PNG\xff\x00",
    "/latin.txt": b"caf\xe9\n",
}


@pytest.fixture(autouse=True)
def no_ripgrep(monkeypatch: pytest.MonkeyPatch) -> None:
    """FilesystemBackend searches differently where `rg` is on the path: compare with its own."""
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A volume with nothing in it."""
    with AgentFS.open(tmp_path / "v.afs") as opened:
        yield opened


@pytest.fixture
def backend(fs: AgentFS) -> FmosBackend:
    """A backend on the root of a volume."""
    return FmosBackend(fs)


def ours(*arguments: Any, **options: Any) -> Any:
    """Return our backend; untyped, because the tests know which fields of a result are set."""
    return FmosBackend(*arguments, **options)


# -- the table: ours, FilesystemBackend, StateBackend ------------------------------------------


def read(path: str, offset: int = 0, limit: int = 2000) -> Act:
    """Return a call that reads, and shows content and window."""

    def act(backend: BackendProtocol) -> Any:
        result = backend.read(path, offset, limit)
        data = result.file_data
        window = (result.start_line, result.end_line, result.total_lines, result.next_offset)
        return result.error, data and data["content"], data and data["encoding"], window

    return act


def ls(path: str) -> Act:
    """Return a call that lists names."""

    def act(backend: BackendProtocol) -> Any:
        result = backend.ls(path)
        found = [(info["path"], info.get("is_dir")) for info in result.entries or []]
        return result.error, found

    return act


def grep(*arguments: Any, **options: Any) -> Act:
    """Return a call that searches, and shows its matches sorted."""

    def act(backend: BackendProtocol) -> Any:
        result = backend.grep(*arguments, **options)
        found = [(each["path"], each["line"], each["text"]) for each in result.matches or []]
        return result.error, sorted(found), result.truncated

    return act


def glob(*arguments: Any) -> Act:
    """Return a call that finds names, and shows them sorted."""

    def act(backend: BackendProtocol) -> Any:
        result = backend.glob(*arguments)
        return result.error, sorted(each["path"] for each in result.matches or [])

    return act


def write(path: str, content: str) -> Act:
    """Return a call that writes, and shows the file after it."""

    def act(backend: BackendProtocol) -> Any:
        result = backend.write(path, content)
        return result.error, result.path, backend.download_files([path])[0].content

    return act


def edit(path: str, *arguments: Any) -> Act:
    """Return a call that edits, and shows the file after it."""

    def act(backend: BackendProtocol) -> Any:
        result = backend.edit(path, *arguments)
        after = backend.download_files([path])[0].content
        return result.error, result.path, result.occurrences, after

    return act


def delete(path: str) -> Act:
    """Return a call that deletes, and shows the files that are left."""

    def act(backend: BackendProtocol) -> Any:
        result = backend.delete(path)
        left = backend.glob("*").matches or []
        return result.error, result.path, sorted(each["path"] for each in left)

    return act


def download(*paths: str) -> Act:
    """Return a call that downloads."""

    def act(backend: BackendProtocol) -> Any:
        return [(each.path, each.error, each.content) for each in backend.download_files([*paths])]

    return act


BOTH = ("filesystem", "state")
TOP = ["/a.txt", "/b.txt", "/crlf.txt", "/empty.txt", "/latin.txt", "/pixel.png"]
ALL_ROWS = (None, "one\ntwo\nthree\n", "utf-8", (1, 3, 3, None))
PNG = (None, "iVBOR/8A", "base64", (None,) * 4)


@dataclass
class Case:
    """A call, what ours must return, and which of deepagents' own backends return just that."""

    name: str
    act: Act
    outcome: Any
    same: tuple[str, ...] = BOTH
    files: Files = field(default_factory=lambda: FILES)


CASES = [
    Case("read whole", read("/a.txt"), ALL_ROWS),
    Case("read window", read("/a.txt", 1, 1), (None, "two\n", "utf-8", (2, 2, 3, 2))),
    Case("read no end", read("/b.txt"), (None, "no end", "utf-8", (1, 1, 1, None))),
    Case("read crlf as lf", read("/crlf.txt"), ALL_ROWS),
    Case("read negative offset", read("/a.txt", -5), ALL_ROWS),
    Case("read zero lines", read("/a.txt", 0, 0), (None, "", "utf-8", (None,) * 4)),
    Case(
        "read past the end", read("/a.txt", 9),
        ("Line offset 9 exceeds file length (3 lines)", None, None, (None,) * 4),
    ),
    Case("read missing", read("/x"), ("File '/x' not found", None, None, (None,) * 4)),
    Case("read directory", read("/src"), ("File '/src' not found", None, None, (None,) * 4)),
    Case("read binary by name", read("/pixel.png"), PNG),
    # StateBackend keeps it as text.
    Case(
        "read text that is binary by name", read("/a.png"),
        (None, "YWJj", "base64", (None,) * 4), ("filesystem",), {"/a.png": b"abc"},
    ),
    # FilesystemBackend puts a reminder for the model in place of the content.
    Case("read empty", read("/empty.txt"), (None, "", "utf-8", (None,) * 4), ("state",)),
    # FilesystemBackend fails, StateBackend numbers the lines of the base64.
    Case("read not utf-8", read("/latin.txt"), (None, "Y2Fm6Qo=", "base64", (None,) * 4), ()),
    Case(
        "ls top", ls("/"),
        (None, [("/.hidden/", True), *((path, False) for path in TOP), ("/src/", True)]),
    ),
    Case("ls below", ls("/src/"), (None, [("/src/deep/", True), ("/src/main.py", False)])),
    # StateBackend knows no directories: both are empty lists there.
    Case("ls missing", ls("/x"), ("Path '/x': path_not_found", []), ("filesystem",)),
    Case("ls file", ls("/a.txt"), ("Path '/a.txt': not_a_directory", []), ("filesystem",)),
    Case("grep", grep("th"), (None, [("/a.txt", 3, "three"), ("/crlf.txt", 3, "three")], False),
         ("filesystem",)),
    Case("grep literal", grep("a.b"), (None, [("/src/main.py", 2, "print('a.b')")], False)),
    Case("grep no regex", grep("t.o"), (None, [], False)),
    Case("grep below", grep("x", "/src"), (None, [
        ("/src/deep/er.py", 1, "x = 1"), ("/src/deep/er.py", 2, "x = 1")], False)),
    Case("grep glob name", grep("i", None, "*.py"), (None, [
        ("/src/main.py", 1, "import os"), ("/src/main.py", 2, "print('a.b')")], False)),
    Case("grep glob path", grep("x", "/", "src/**/er.py", max_count=2), (None, [
        ("/src/deep/er.py", 1, "x = 1"), ("/src/deep/er.py", 2, "x = 1")], False)),
    Case("grep max", grep("x", "/src", max_count=1), (None, [
        ("/src/deep/er.py", 1, "x = 1")], True)),
    Case("grep missing path", grep("x", "/none"), (None, [], False)),
    # FilesystemBackend without ripgrep also searches the files beside it.
    Case("grep one file", grep("two", "/a.txt"), (None, [("/a.txt", 2, "two")], False), ("state",)),
    # StateBackend counts an empty line after the last line end.
    Case(
        "grep empty", grep(""), (None, [("/a", 1, "x"), ("/a", 2, "")], False),
        ("filesystem",), {"/a": b"x\n\n"},
    ),
    Case("glob name", glob("*.py"), (None, ["/src/deep/er.py", "/src/main.py"])),
    Case("glob anchored", glob("/*.txt"), (None, [
        "/a.txt", "/b.txt", "/crlf.txt", "/empty.txt", "/latin.txt"])),
    Case("glob deep", glob("**/*.py", "/src"), (None, ["/src/deep/er.py", "/src/main.py"])),
    Case("glob dot name", glob("*.yml"), (None, ["/.hidden/ci.yml"])),
    Case("glob dot deep", glob("**/*.yml"), (None, [])),
    Case("glob braces", glob("{a,b}.txt"), (None, ["/a.txt", "/b.txt"])),
    Case("glob missing path", glob("*", "/none"), (None, [])),
    Case(
        "glob traversal", glob("../*.py"),
        ("Path traversal not allowed in glob pattern '../*.py'", []),
    ),
    Case("write new", write("/new/x.txt", "hi\r\n"), (None, "/new/x.txt", b"hi\r\n")),
    Case("write over", write("/a.txt", ""), (None, "/a.txt", b"")),
    Case("edit", edit("/a.txt", "two", "2"), (None, "/a.txt", 1, b"one\n2\nthree\n")),
    Case(
        "edit all", edit("/src/deep/er.py", "x", "y", True),
        (None, "/src/deep/er.py", 2, b"y = 1\ny = 1\n"),
    ),
    Case(
        "edit ambiguous", edit("/src/deep/er.py", "x", "y"),
        (
            "Error: String 'x' appears 2 times in file. Use replace_all=True to replace all"
            " instances, or provide a more specific string with surrounding context.",
            None, None, b"x = 1\nx = 1\n",
        ),
    ),
    Case(
        "edit no match", edit("/b.txt", "x", "y"),
        ("Error: String not found in file: 'x'", None, None, b"no end"),
    ),
    Case(
        "edit empty", edit("/b.txt", "", "y"),
        (
            "Error: old_string cannot be empty. Provide the exact text to replace.",
            None, None, b"no end",
        ),
    ),
    Case("edit missing", edit("/x", "a", "b"), ("Error: File '/x' not found", None, None, None)),
    # FilesystemBackend turns the whole file to LF, StateBackend does not find the text.
    Case(
        "edit crlf", edit("/crlf.txt", "one\ntwo", "1\n2"),
        (None, "/crlf.txt", 1, b"1\r\n2\r\nthree\r\n"), (),
    ),
    Case(
        "edit binary", edit("/latin.txt", "caf", "x"),
        (
            "Error: Cannot edit binary files with text replacements.",
            None, None, FILES["/latin.txt"],
        ),
        ("state",),
    ),
    Case("delete file", delete("/a.txt"), (None, "/a.txt", sorted(set(FILES) - {"/a.txt"}))),
    Case("delete tree", delete("/src"), (None, "/src", sorted([*TOP, "/.hidden/ci.yml"]))),
    Case("delete missing", delete("/x"), (
        "Error: '/x' not found", None, sorted(FILES)), ("filesystem",)),
    Case("download", download("/latin.txt", "/x"), [
        ("/latin.txt", None, b"caf\xe9\n"), ("/x", "file_not_found", None)]),
    Case("download directory", download("/src"), [("/src", "is_directory", None)], ("filesystem",)),
]  # fmt: skip


def in_state(files: Files, act: Act) -> Any:
    """Do something with a StateBackend, which only works inside of a graph."""
    outcomes: list[Any] = []

    def node(state: Any) -> dict[str, Any]:
        outcomes.append(filled(StateBackend(), files, act))
        return {}

    graph = StateGraph(FilesystemState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    graph.compile().invoke({"messages": []})  # type: ignore[arg-type]
    return outcomes[0]


def filled(backend: BackendProtocol, files: Files, act: Act) -> Any:
    """Bring files in, do something, and return what came of it."""
    assert [each.error for each in backend.upload_files([*files.items()])] == [None] * len(files)
    try:
        return act(backend)
    except ValueError as error:
        return "raised", type(error).__name__


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_deepagents(case: Case, backend: FmosBackend, tmp_path: Path):
    """Ours returns what the table says, and deepagents' own backends do where the table says so."""
    own = FilesystemBackend(tmp_path / "files", virtual_mode=True)
    (tmp_path / "files").mkdir()
    assert filled(backend, case.files, case.act) == case.outcome
    agree = {
        "filesystem": filled(own, case.files, case.act) == case.outcome,
        "state": in_state(case.files, case.act) == case.outcome,
    }
    assert agree == {name: name in case.same for name in BOTH}


# -- the border ----------------------------------------------------------------------------------


def every_call(backend: BackendProtocol, path: str) -> list[Any]:
    """Return the results of all calls for a path, with what they can destroy last."""
    return [
        backend.ls(path),
        backend.read(path),
        backend.grep("secret", path),
        backend.glob("*", path),
        backend.download_files([path])[0],
        backend.edit(path, "secret", "gone"),
        backend.upload_files([(path, b"new")])[0],
        backend.write(path, "new"),
    ]


@pytest.mark.parametrize("path", ["/../out.txt", "/in/../../out.txt", "../out.txt", "/out/"])
def test_nothing_outside_of_the_root(fs: AgentFS, path: str):
    """Whatever the path, files beside the root are neither told of nor touched."""
    fs.mkdir("/root")
    fs.write("/out.txt", "secret")
    backend = ours(fs, "/root")
    results = [*every_call(backend, path), backend.delete(path)]
    assert "secret" not in repr(results)
    assert fs.read_text("/out.txt") == "secret"
    assert fs.listdir("/") == ["out.txt", "root"]


@pytest.mark.parametrize("target", ["/out", "../out", "/root/own", "own", "/.fmos"])
def test_no_way_through_a_symbolic_link(fs: AgentFS, target: str):
    """A link is no second name for a file, so that permission rules for the first one hold."""
    for folder in ("/out", "/root/own"):
        fs.mkdir(folder, parents=True)
        fs.write(f"{folder}/key", "secret")
    fs.symlink(target, "/root/link")
    backend = ours(fs, "/root")
    results = [*every_call(backend, "/link/key"), *every_call(backend, "/link")]
    assert [each.error for each in results if each.error is None] == []
    assert "secret" not in repr(results)
    assert backend.glob("**/key").matches == backend.glob("/own/key").matches
    inside = "own" in target
    assert ("to '/own': use that path" in results[1].error) is inside
    assert ("/out" in repr(results)) is False
    assert [backend.delete("/link/key").error is None, backend.delete("/link").error] == [
        False,
        None,
    ]
    assert fs.read_text("/out/key") == fs.read_text("/root/own/key") == "secret"


@pytest.mark.parametrize("path", ["/.fmos/x/key", "/.fmos", "//.fmos/./x/key", "/.fmos/new"])
def test_the_system_area_stays_hidden(tmp_path: Path, path: str):
    """Even on a handle that may use it, the system area is not there for the agent."""
    with AgentFS.open(tmp_path / "v.afs", system=True) as fs:
        fs.mkdir("/.fmos/x", parents=True)
        fs.write("/.fmos/x/key", "secret")
        fs.write("/mine.txt", "mine")
        backend = ours(fs)
        results = [*every_call(backend, path), backend.delete(path)]
        assert [each.error for each in results if each.error is None] == []
        assert "secret" not in repr(results)
        everything = [backend.ls("/"), backend.glob("**"), backend.glob(".fmos/**")]
        assert ".fmos" not in repr(everything)
        assert backend.grep("secret").matches == []
        assert backend.delete("/").error is None
        assert fs.listdir("/") == [".fmos"]
        assert fs.read_text("/.fmos/x/key") == "secret"


def test_the_root_cannot_be_in_the_system_area(fs: AgentFS):
    """A backend on the system area is refused at once."""
    with pytest.raises(PermissionDenied):
        ours(fs, "/.fmos/agent")


def test_a_root_is_made_by_the_first_write(fs: AgentFS):
    """A root that is not there yet looks empty, and messages name the agent's paths only."""
    backend = ours(fs, "/agents/ada")
    assert (backend.ls("/").entries, backend.glob("*").matches) == ([], [])
    assert backend.grep("x").matches == []
    assert backend.write("notes/a.md", "x").error is None
    assert backend.ls("/notes").entries[0]["path"] == "/notes/a.md"
    assert fs.read_text("/agents/ada/notes/a.md") == "x"
    failed = backend.write("/notes/a.md/below", "y").error
    assert failed.startswith("Error writing file '/notes/a.md/below'")
    assert "ada" not in failed


def test_nothing_raises(fs: AgentFS, tmp_path: Path):
    """Names that cannot be, views that cannot write and closed volumes end in `.error`."""
    fs.write("/a", "secret")
    fs.snapshot("s")
    with AgentFS.open(tmp_path / "closed.afs") as closed:
        pass
    for backend, path in (
        (ours(fs), "/x\0y"),
        (ours(fs), "/" + "x" * 300),
        (ours(closed), "/a"),
    ):
        results = [*every_call(backend, path), backend.delete(path)]
        assert [type(each).__name__ for each in results if each.error is None] == []
    view = ours(fs.at("s"))
    assert view.read("/a").error is None
    assert [each.error is None for each in every_call(view, "/a")[5:]] == [False] * 3
    assert view.upload_files([("/b", b"")])[0].error == "permission_denied"
    assert ours(fs).write("/b", "\ud800").error
    assert not fs.exists("/b")


def test_upload_goes_on_after_a_failure(fs: AgentFS):
    """Files that can be written are, in one transaction, and each other one has its word."""
    fs.mkdir("/dir")
    backend = ours(fs)
    files = [("/a", b"1"), ("/dir", b"2"), ("/.fmos/x", b"3"), ("/a/b", b"4"), ("/c/d", b"\xff")]
    errors = [each.error for each in backend.upload_files(files)]
    assert errors == [None, "is_directory", "permission_denied", "invalid_path", None]
    assert (fs.read("/a"), fs.read("/c/d"), fs.listdir("/dir")) == (b"1", b"\xff", [])


# -- searching and editing -------------------------------------------------------------------------


def test_a_search_out_of_time_is_truncated(fs: AgentFS):
    """A grep or glob over its time returns what it has and says so."""
    for number in range(5):
        fs.write(f"/{number}", "x")
    backend = ours(fs, search_s=-1)
    found, names = backend.grep("x"), backend.glob("*")
    assert (len(found.matches), found.truncated) == (1, True)
    assert (len(names.matches), names.truncated, names.truncation_reason) == (1, True, "budget")
    assert not ours(fs).grep("x").truncated


def test_exactly_max_count_is_complete(fs: AgentFS):
    """As many matches as asked for and no more are not truncated."""
    fs.write("/a", "x\nx\n")
    fs.write("/b", "y\n")
    result = ours(fs).grep("x", max_count=2)
    assert (len(result.matches), result.truncated) == (2, False)


def test_grep_numbers_are_those_of_read(fs: AgentFS):
    """A line that grep names is the line that a read from there begins with."""
    fs.write("/mixed", "a\r\nb\rc\nneedle\n")
    backend = ours(fs)
    [match] = backend.grep("needle").matches
    assert backend.read("/mixed", match["line"] - 1, 1).file_data["content"] == "needle\n"


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (b"a\r\nb\nc\r\n", "b\nc", "B\nC\n", b"a\r\nB\r\nC\r\n\r\n"),
        (b"a\r\n\r\nb", "\n\nb", "\nb", b"a\r\nb"),
        (b"a\r\nb\r\n\r\nc", "\n\n", "|", b"a\r\nb|c"),
        (b"a\rb\r", "a\r\nb", "x\ny", b"x\ry\r"),
        (b"a.b\r\na+b", "a.b", "\\1", b"\\1\r\na+b"),
    ],
)
def test_an_edit_keeps_the_line_ends(fs: AgentFS, before: bytes, old: str, new: str, after: bytes):
    """What is not replaced stays byte for byte, and new lines end as the file's first one."""
    fs.write("/f", before)
    assert ours(fs).edit("/f", old, new).error is None
    assert fs.read("/f") == after


def test_edits_of_many_threads_all_count(fs: AgentFS):
    """An edit reads and writes in one transaction: none of two at a time is lost."""
    fs.write("/f", "".join(f"<{worker}>" for worker in range(4)))
    start = threading.Barrier(4)

    def work(worker: int) -> None:
        backend = ours(fs)
        start.wait(5)
        for _ in range(10):
            assert backend.edit("/f", f"<{worker}", f"<{worker}.").error is None

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fs.read_text("/f") == "".join(f"<{worker}{'.' * 10}>" for worker in range(4))


def test_the_async_twins(backend: Any):
    """Each async method returns what the sync one does."""

    async def run() -> list[Any]:
        return [
            (await backend.awrite("/d/a.txt", "one two")).error,
            (await backend.aedit("/d/a.txt", "two", "2")).occurrences,
            (await backend.aread("/d/a.txt")).file_data["content"],
            [each["path"] for each in (await backend.als("/d")).entries],
            [each["text"] for each in (await backend.agrep("2", max_count=1)).matches],
            [each["path"] for each in (await backend.aglob("*.txt")).matches],
            (await backend.aupload_files([("/b", b"\0")]))[0].error,
            (await backend.adownload_files(["/b"]))[0].content,
            (await backend.adelete("/d")).error,
            [each["path"] for each in (await backend.als("/")).entries],
        ]

    name = "/d/a.txt"
    text = "one 2"
    expected = [None, 1, text, [name], [text], [name], None, b"\0", None, ["/b"]]
    assert asyncio.run(run()) == expected


# -- real agents -----------------------------------------------------------------------------------


def asked(text: str) -> Any:
    """Return the input of a run: one message of a user."""
    return {"messages": [("user", text)]}


def said(result: dict[str, Any]) -> dict[str, str]:
    """Return what the tools answered, by the id of the call."""
    found = [each for each in result["messages"] if isinstance(each, ToolMessage)]
    return {each.tool_call_id: str(each.content) for each in found}


WORK = (
    call("write_file", "c1", file_path="/src/app.py", content="import os\nNAME = 'old'\n"),
    calls(
        ("edit_file", "c2", {"file_path": "/src/app.py", "old_string": "old", "new_string": "new"}),
        ("write_file", "c3", {"file_path": "/notes.md", "content": "renamed\n"}),
    ),
    calls(
        ("grep", "c4", {"pattern": "NAME = 'new'", "output_mode": "content"}),
        ("ls", "c5", {"path": "/"}),
        ("read_file", "c6", {"file_path": "/src/app.py"}),
        ("glob", "c7", {"pattern": "*.py"}),
    ),
    AIMessage("done"),
)


def test_a_deep_agent_works_in_the_volume(fs: AgentFS):
    """What a deep agent writes, edits and greps is in the volume, and forks and diffs show it."""
    fs.mkdir("/project")
    fs.write("/project/kept.txt", "kept")
    fs.snapshot("before")
    fork = fs.fork("try")
    config: Any = {"configurable": {"thread_id": "t"}}
    agent = create_deep_agent(
        model=ScriptedModel(answer=in_turn(*WORK)),
        backend=ours(fork, "/project"),
        checkpointer=FmosSaver.from_fs(fork),
    )
    answers = said(agent.invoke(asked("rename it"), config))
    assert "NAME = 'new'" in answers["c4"]
    assert "/notes.md" in answers["c5"]
    assert "/kept.txt" in answers["c5"]
    assert "NAME = 'new'" in answers["c6"]
    assert "/src/app.py" in answers["c7"]
    changed = [each.path for each in fs.diff("before", "try", "/project")]
    assert [path for path in changed if not fork.is_dir(path)] == [
        "/project/notes.md", "/project/src/app.py",
    ]  # fmt: skip
    assert fs.listdir("/project") == ["kept.txt"]
    fork.restore("before")
    assert fork.listdir("/project") == ["kept.txt"]
    assert agent.get_state(config).values == {}


def test_a_deep_agent_among_other_backends(fs: AgentFS):
    """A volume may be one route of a CompositeBackend, here in the async form of the agent."""
    routes = CompositeBackend(default=StateBackend(), routes={"/vol/": ours(fs)})
    answer = in_turn(
        call("write_file", "c1", file_path="/vol/a/b.txt", content="in the volume"),
        call("write_file", "c2", file_path="/state.txt", content="in the state"),
        call("grep", "c3", pattern="in the", output_mode="content"),
        call("delete", "c4", file_path="/vol/a"),
        AIMessage("done"),
    )
    agent = create_deep_agent(model=ScriptedModel(answer=answer), backend=routes)
    result = asyncio.run(agent.ainvoke(asked("go")))
    assert "/vol/a/b.txt" in said(result)["c3"]
    assert "/state.txt" in said(result)["c3"]
    assert list(result["files"]) == ["/state.txt"]
    assert fs.listdir("/") == []
    assert next(row.operation for row in fs.log() if row.path == "/a") == "remove"


def test_permission_rules_hold_behind_links(fs: AgentFS):
    """A deny rule of deepagents for a directory cannot be led around by a link in the volume."""
    fs.mkdir("/secrets")
    fs.write("/secrets/key", "letmein")
    fs.symlink("/secrets", "/alias")
    answer = in_turn(
        calls(
            ("read_file", "c1", {"file_path": "/secrets/key"}),
            ("read_file", "c2", {"file_path": "/alias/key"}),
            ("grep", "c3", {"pattern": "letmein", "path": "/alias"}),
            ("grep", "c4", {"pattern": "letmein"}),
        ),
        AIMessage("done"),
    )
    agent = create_deep_agent(
        model=ScriptedModel(answer=answer),
        backend=ours(fs),
        permissions=[FilesystemPermission(["read"], ["/secrets/**"], "deny")],
    )
    answers = said(agent.invoke(asked("look")))
    assert "permission denied" in answers["c1"]
    assert "symbolic link" in answers["c2"]
    assert "/secrets/key" not in answers["c3"] + answers["c4"]
    assert "letmein" not in answers["c1"] + answers["c2"]


def test_from_path_opens_and_closes(tmp_path: Path):
    """A backend from a path makes the volume and closes it; a wrong root leaves nothing open."""
    with FmosBackend.from_path(tmp_path / "v.afs", root="/work") as backend:
        assert backend.write("/a", "x").error is None
        assert (backend.root, backend.fs.read_text("/work/a")) == ("/work", "x")
    assert "closed" in str(backend.read("/a").error)
    with pytest.raises(PermissionDenied):
        FmosBackend.from_path(tmp_path / "v.afs", root="/.fmos")


def test_the_section_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The block about deepagents in docs/langgraph.md does what it says."""
    page = (Path(__file__).parents[2] / "docs" / "langgraph.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^~~~python\n(.*?)^~~~$", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"model": ScriptedModel(answer=in_turn(*WORK))}
    exec(compile(block, "docs/langgraph.md", "exec"), names)
    with names["fs"] as fs:
        assert fs.listdir("/project") == ["notes.md", "src"]

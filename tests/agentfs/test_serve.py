"""`agentfs serve`: its tools through a real MCP client, their limits, and their confinement."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import httpx
import pytest

pytest.importorskip("mcp")

from mcp import Client, StdioServerParameters

from agentfs import AgentFS
from agentfs.serve import searching
from agentfs.serve.area import Area
from agentfs.serve.protocol import CODE_META, FileServer
from agentfs.serve.reading import MAX_READ_BYTES, READ_BYTES

NAMES = {
    "fs_read", "fs_write", "fs_edit", "fs_list", "fs_glob", "fs_grep", "fs_stat", "fs_move",
    "fs_remove", "fs_snapshot", "fs_fork", "fs_diff", "fs_merge", "fs_restore", "fs_log",
}  # fmt: skip
READING = {"fs_read", "fs_list", "fs_glob", "fs_grep", "fs_stat", "fs_diff", "fs_log"}
PAGE = Path(__file__).parents[2] / "docs" / "agentfs-serve.md"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


class Refused(Exception):
    """A tool error, with its stable code."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class Tools:
    """The tools of one server, as calls that wait."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, client: Client) -> None:
        self._portal = portal
        self.client = client

    def raw(self, name: str, /, **arguments: Any) -> Any:
        """Call a tool and return what the client gets."""
        return self._portal.call(self.client.call_tool, name, arguments)

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function of the client's loop."""
        return self._portal.call(function)

    def listed(self) -> list[Any]:
        """Return the tools as the server describes them."""
        return self._portal.call(self.client.list_tools).tools

    def __call__(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its structured result."""
        result = self.raw(name, **arguments)
        if result.is_error:
            raise Refused(result.content[0].text, (result.meta or {}).get(CODE_META, ""))
        assert json.loads(result.content[-1].text) == result.structured_content
        return result.structured_content


@contextmanager
def tools_of(target: Any) -> Iterator[Tools]:
    """The tools of a server object or of a command."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(target)) as client,
    ):
        yield Tools(portal, client)


@contextmanager
def serving(fs: AgentFS, root: str = "/", *, read_only: bool = False) -> Iterator[Tools]:
    """The tools of a server in this process."""
    server = FileServer(Area(fs, root, read_only=read_only), "0")
    try:
        with tools_of(server) as tools:
            yield tools
    finally:
        server.close()


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[AgentFS]:
    """A volume with some files, clean at the end."""
    with AgentFS.open(tmp_path / "a.afs", principal="agent:mcp") as opened:
        opened.mkdir("/src/lib", parents=True)
        opened.write("/src/main.py", "import lib\n\nprint('hello')\n")
        opened.write("/src/lib/one.py", "def one():\n    return 1\n")
        opened.write("/notes.md", "# Notes\n")
        yield opened
        assert opened.fsck() == []


@pytest.fixture
def tools(fs: AgentFS) -> Iterator[Tools]:
    """The tools of a server on its main branch."""
    with serving(fs) as found:
        yield found


def command(path: Path, *options: str) -> StdioServerParameters:
    """The stdio command on a volume."""
    arguments = ["-m", "agentfs.cli", "-f", str(path / "a.afs"), "serve", *options]
    return StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))


# -- the command --------------------------------------------------------------------------------


def test_a_client_works_through_stdio(tmp_path: Path, fs: AgentFS) -> None:
    """The official client lists and calls the tools; what it wrote is there, under its name."""
    with tools_of(command(tmp_path, "--principal", "agent:ada")) as tools:
        assert {each.name for each in tools.listed()} == NAMES
        assert "hello" in tools("fs_read", path="/src/main.py")["content"]
        tools("fs_write", path="/new/file.txt", content="from the client\n")
        with pytest.raises(Refused, match=r"did you mean '/src/main\.py'"):
            tools("fs_read", path="/src/mian.py")
    assert fs.read("/new/file.txt") == b"from the client\n"
    assert fs.log(1)[0].principal == "agent:ada"


def test_a_signal_ends_it_on_stdio(tmp_path: Path, fs: AgentFS) -> None:
    """Although a thread waits for stdin; the volume is whole."""
    arguments = ["-m", "agentfs.cli", "-f", str(tmp_path / "a.afs"), "serve"]
    hello = {"protocolVersion": "2025-06-18", "capabilities": {},
             "clientInfo": {"name": "x", "version": "1"}}  # fmt: skip
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(request).encode() + b"\n")
        server.stdin.flush()
        assert b"agentfs" in server.stdout.readline()
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 130


def test_an_old_client_works_through_stdio(
    tmp_path: Path, fs: AgentFS, cached_venv: Callable[..., Path]
) -> None:
    """A client on mcp 1.x, in an environment of its own, lists and calls the same tools."""
    python = cached_venv("mcp1", "mcp>=1.24,<2")
    client = Path(__file__).parents[1] / "doors" / "mcp1_client.py"
    server = ["-m", "agentfs.cli", "-f", str(tmp_path / "a.afs"), "serve"]
    answer = subprocess.run(
        [str(python), str(client), "fs_stat", json.dumps({"path": "/notes.md"}), "env",
         f"PYTHONPATH={os.pathsep.join(sys.path)}", sys.executable, *server],
        env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    seen = json.loads(answer.stdout)
    assert {each["name"] for each in seen["tools"]} == NAMES
    assert seen["structured"]["size_bytes"] == 8
    assert seen["wrong_is_error"]


def listening(path: Path, address: str) -> subprocess.Popen[str]:
    """Start the command on HTTP."""
    arguments = ["-m", "agentfs.cli", "-f", str(path / "a.afs"), "serve", "--http", address]
    return subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, text=True)


def test_a_client_works_through_http_and_web_pages_do_not(tmp_path: Path, fs: AgentFS) -> None:
    """Host and Origin must be this machine's own names; SIGTERM ends it cleanly."""
    with listening(tmp_path, "127.0.0.1:0") as server:
        assert server.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/mcp", server.stderr.readline())
        assert found
        url = found.group()
        try:
            with tools_of(url) as tools:
                assert tools("fs_stat", path="/notes.md")["size_bytes"] == 8
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
            accept = {"Accept": "application/json, text/event-stream"}
            rebound = httpx.post(url, json=body, headers={**accept, "Host": "evil.example"})
            page = httpx.post(url, json=body, headers={**accept, "Origin": "http://evil.example"})
            assert (rebound.status_code, page.status_code) == (421, 403)
        finally:
            server.send_signal(signal.SIGTERM)
            rest = server.stderr.read()
    assert server.returncode == 0
    assert "Traceback" not in rest


def test_without_the_sdk_the_way_out_is_said(tmp_path: Path, fs: AgentFS) -> None:
    """`serve` names the extra; all other commands work without it, and load none of it."""
    code = "import sys; sys.modules['mcp'] = None; from agentfs.cli.main import main; main()"
    start = [sys.executable, "-c", code, "-f", str(tmp_path / "a.afs")]
    refused = subprocess.run([*start, "serve"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "pip install 'fmos[servers]'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    listed = subprocess.run([*start, "ls", "/"], capture_output=True, text=True, check=False)
    assert listed.stdout.split() == ["notes.md", "src"]
    heavy = "import sys, agentfs.cli.main; print({'mcp', 'pydantic', 'uvicorn'} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", heavy], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "set()\n"


# -- what the server says about itself -------------------------------------------------------------


def test_each_tool_is_described_and_typed(tools: Tools) -> None:
    """Title, when to use it, four hints, strict arguments with words, and what it returns."""
    found = {each.name: each.model_dump(mode="json", by_alias=True) for each in tools.listed()}
    assert set(found) == NAMES
    for name, tool in found.items():
        assert tool["title"]
        assert "Use " in tool["description"] or "Use this" in tool["description"], name
        hints = tool["annotations"]
        assert hints["readOnlyHint"] == (name in READING)
        assert hints["openWorldHint"] is False
        assert {"destructiveHint", "idempotentHint"} <= set(hints)
        assert tool["inputSchema"]["additionalProperties"] is False
        assert tool["outputSchema"]["properties"]
    harmless = {name for name, tool in found.items() if not tool["annotations"]["destructiveHint"]}
    assert harmless == READING | {"fs_snapshot", "fs_fork"}


def test_wrong_arguments_are_one_sentence(tools: Tools) -> None:
    """A name, a type or a tool that does not exist is said, with what there is."""
    for arguments, said in (
        ({}, "argument 'path' is missing"),
        ({"path": "/notes.md", "lines": 3}, "there is no argument 'lines'"),
        ({"path": "/notes.md", "start_line": 0}, "start_line"),
    ):
        with pytest.raises(Refused, match=said):
            tools("fs_read", **arguments)
    with pytest.raises(Refused, match=r"this server has .*fs_read"):
        tools("fs_bogus")


def test_a_read_only_server_has_no_tool_that_changes_anything(fs: AgentFS) -> None:
    """What it has works."""
    before = len(list(fs.journal()))
    with serving(fs, read_only=True) as tools:
        assert {each.name for each in tools.listed()} == READING
        assert tools("fs_list")["entries"][0]["path"] == "/notes.md"
        assert tools("fs_grep", pattern="return")["matches"][0]["path"] == "/src/lib/one.py"
        fs.write("/later", "x")
        assert tools("fs_stat", path="/later")["size_bytes"] == 1
        with pytest.raises(Refused, match="no tool 'fs_write'"):
            tools("fs_write", path="/x", content="")
    assert len(list(fs.journal())) == before + 1


def test_the_page_has_every_tool_and_argument(tools: Tools) -> None:
    """Each tool has its row with its arguments, as the server describes them."""
    page = PAGE.read_text(encoding="utf-8")
    for tool in tools.listed():
        row = next(each for each in page.splitlines() if each.startswith(f"| `{tool.name}` |"))
        arguments = set(re.findall(r"`(\w+)`", row.split("|")[2]))
        assert arguments == set(tool.input_schema["properties"]) - ({"branch"} - arguments)


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python block does what the page says, with the real command."""
    shim = tmp_path / "bin" / "agentfs"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m agentfs.cli "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(block, str(PAGE), "exec"), {})
    for block in re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL):
        json.loads(block)


# -- reading --------------------------------------------------------------------------------------


def test_a_file_is_read_by_lines(fs: AgentFS, tools: Tools) -> None:
    """With numbers, from a line, so many, and where to go on; unnumbered it is the text itself."""
    text = "".join(f"line {number}\n" for number in range(1, 101))
    fs.write("/long", text)
    part = tools("fs_read", path="/long", start_line=10, line_count=2)
    assert part["content"] == "    10\tline 10\n    11\tline 11\n"
    assert (part["start_line"], part["end_line"], part["next_start_line"]) == (10, 11, 12)
    assert (part["truncated"], part["total_lines"], part["size_bytes"]) == (True, None, len(text))
    whole = tools("fs_read", path="/long", numbered=False)
    assert (whole["content"], whole["truncated"], whole["total_lines"]) == (text, False, 100)
    assert whole["node"] == fs.stat("/long").node
    with pytest.raises(Refused, match="has 100 lines"):
        tools("fs_read", path="/long", start_line=101)
    fs.write("/empty", "")
    assert tools("fs_read", path="/empty")["content"] == ""


def test_parts_of_a_large_file_add_up(fs: AgentFS, tools: Tools) -> None:
    """By lines and by bytes, no part is above the limit, and together they are the file."""
    text = "".join(f"{number} {'ü' * (number % 90)}\n" for number in range(6000))
    fs.write("/large", text)
    for unit, first in (("line", 1), ("byte", 0)):
        parts, start = [], first
        while start is not None:
            part = tools("fs_read", path="/large", numbered=False, **{f"start_{unit}": start})
            assert len(part["content"].encode()) <= READ_BYTES
            parts.append(part["content"])
            assert part["truncated"] == (part[f"next_start_{unit}"] is not None)
            start = part[f"next_start_{unit}"]
        assert len(parts) > 3
        assert "".join(parts) == text


def test_a_line_without_end_is_cut_and_named(fs: AgentFS, tools: Tools) -> None:
    """Ten megabytes in one line cost no more than its beginning."""
    fs.write("/min.js", "x" * 10_000_000 + "\nlast\n")
    part = tools("fs_read", path="/min.js")
    assert part["cut_lines"] == [1]
    assert len(part["content"]) < 3000
    assert part["content"].endswith("     2\tlast\n")


def test_binary_content_and_images_come_as_such(fs: AgentFS, tools: Tools) -> None:
    """Bytes as base64 in parts, with the type; an image as an image."""
    raw = bytes(range(256)) * 1000
    fs.write("/data.bin", raw)
    first = tools("fs_read", path="/data.bin")
    assert (first["kind"], first["mime_type"]) == ("binary", "application/octet-stream")
    assert base64.b64decode(first["content"]) == raw[: first["next_start_byte"]]
    assert len(first["content"]) <= READ_BYTES
    part = tools("fs_read", path="/data.bin", start_byte=400, byte_count=8)
    assert (part["start_byte"], base64.b64decode(part["content"])) == (400, raw[400:406])
    fs.write("/dot.png", PNG)
    shown = tools.raw("fs_read", path="/dot.png")
    assert (shown.content[0].type, shown.content[0].mime_type) == ("image", "image/png")
    assert base64.b64decode(shown.content[0].data) == PNG
    assert shown.structured_content["kind"] == "image"
    fs.write("/latin1", "caf\xe9\n".encode("latin-1"))
    assert tools("fs_read", path="/latin1")["kind"] == "binary"


def test_what_is_no_file_is_said_with_near_names(fs: AgentFS, tools: Tools) -> None:
    """Each sentence has a next step."""
    for name, path, said in (
        ("fs_read", "/src", "fs_list"),
        ("fs_read", "/src/main.pi", "'/src/main.py'"),
        ("fs_read", "/none/at/all", "fs_list '/'"),
        ("fs_list", "/srcs", "'/src'"),
        ("fs_list", "/notes.md", "fs_read"),
        ("fs_stat", "/note.md", "'/notes.md'"),
        ("fs_edit", "/src/lib/two.py", "fs_write"),
    ):
        with pytest.raises(Refused, match=re.escape(said)):
            tools(name, path=path, **({"old_text": "a", "new_text": "b"} if "edit" in name else {}))


def test_a_listing_goes_on_where_it_ended(fs: AgentFS, tools: Tools) -> None:
    """Pages of any size give each name once, in order, also while names come and go."""
    for number in range(30):
        fs.write(f"/src/lib/{number:02}", "x")
    pages: list[str] = []
    cursor = None
    while True:
        page = tools(
            "fs_list", path="/", depth=5, limit=7, **({"cursor": cursor} if cursor else {})
        )
        pages += [each["path"] for each in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert len(page["entries"]) == 7
    expected = sorted(
        (f"{above.rstrip('/')}/{name}" for above, *below in fs.walk("/") for each in below
         for name in each),
        key=lambda path: path.split("/"),
    )  # fmt: skip
    assert pages == expected
    with pytest.raises(Refused, match="no cursor"):
        tools("fs_list", cursor="5")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.py", "/", ["/src/lib/one.py", "/src/main.py"]),
        ("src/*.py", "/", ["/src/main.py"]),
        ("/*.md", "/", ["/notes.md"]),
        ("**/lib/**", "/", ["/src/lib", "/src/lib/one.py"]),
        ("src/**/*.py", "/", ["/src/lib/one.py", "/src/main.py"]),
        ("*.py", "/src/lib", ["/src/lib/one.py"]),
        ("[mn]*", "/", ["/notes.md", "/src/main.py"]),
        ("*.rs", "/", []),
    ],
)
def test_names_are_found_by_pattern(
    tools: Tools, pattern: str, path: str, expected: list[str]
) -> None:
    """Stars stay within a name, two stars cross directories, a bare pattern is for any depth."""
    assert tools("fs_glob", pattern=pattern, path=path)["paths"] == expected


def test_a_hostile_glob_costs_nothing(fs: AgentFS, tools: Tools) -> None:
    """Many stars over a long name are not tried in every combination."""
    fs.write(f"/{'a' * 250}", "x")
    start = time.monotonic()
    assert tools("fs_glob", pattern="*a" * 200 + "b")["paths"] == []
    assert tools("fs_glob", pattern="/".join(["**"] * 200) + "/x")["paths"] == []
    assert time.monotonic() - start < 3


def test_lines_are_found_and_pages_add_up(fs: AgentFS, tools: Tools) -> None:
    """Each match once, whatever the page; the same lines as the library's own search."""
    for number in range(40):
        fs.write(f"/src/lib/{number:02}.txt", f"needle {number}\nhay\nNeedle again\n" * 3)
    fs.write("/src/lib/binary", b"needle\0")
    fs.write("/src/wide", "." * 5000 + "needle" + "." * 5000)
    found: list[tuple[str, int]] = []
    more: dict[str, str] = {}
    while True:
        page = tools("fs_grep", pattern="needle", limit=17, **more)
        found += [(each["path"], each["line"]) for each in page["matches"]]
        assert all(len(each["text"]) < 310 for each in page["matches"])
        if page["next_cursor"] is None:
            break
        assert len(page["matches"]) == 17
        more = {"cursor": page["next_cursor"]}
    assert sorted(found) == sorted((each.path, each.line) for each in fs.grep("needle", "/"))
    files = tools("fs_grep", pattern="NEEDLE", ignore_case=True, output="files", glob="0*.txt")
    assert files["files"] == [f"/src/lib/0{number}.txt" for number in range(10)]
    assert tools("fs_grep", pattern="print('", fixed=True)["matches"][0]["line"] == 3
    assert tools("fs_grep", pattern="one", path="/src/lib/one.py")["files_searched"] == 1
    with pytest.raises(Refused, match="fixed=true"):
        tools("fs_grep", pattern="print('(")


def test_a_search_that_would_take_years_is_stopped(
    fs: AgentFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends in a sentence, its process is gone, and the next search works."""
    monkeypatch.setattr(searching.Searching.__init__, "__defaults__", (1.0,))
    fs.write("/evil", "a" * 60)
    with serving(fs) as tools:
        start = time.monotonic()
        with pytest.raises(Refused, match="simpler pattern") as refused:
            tools("fs_grep", pattern="(a+)+b", path="/evil")
        assert 0.9 < time.monotonic() - start < 5
        assert refused.value.code == "fs.timeout"
        assert tools("fs_grep", pattern="print")["matches"]


def test_an_overlay_is_served_and_its_host_stays(tmp_path: Path, fs: AgentFS, tools: Tools) -> None:
    """A host tree is read, searched and edited; a file that changed underneath is a sentence."""
    host = tmp_path / "host"
    (host / "pkg").mkdir(parents=True)
    (host / "pkg" / "a.py").write_text("needle = 1\n")
    (host / "b.py").write_text("needle = 2\n")
    fs.overlay(host, "/work")
    assert tools("fs_glob", pattern="*.py", path="/work")["paths"] == [
        "/work/b.py",
        "/work/pkg/a.py",
    ]
    tools("fs_edit", path="/work/pkg/a.py", old_text="1", new_text="one")
    assert (host / "pkg" / "a.py").read_text() == "needle = 1\n"
    (host / "b.py").write_text("changed underneath\n")
    found = tools("fs_grep", pattern="needle", path="/work")
    assert [each["path"] for each in found["matches"]] == ["/work/pkg/a.py"]
    assert found["skipped"] == ["/work/b.py"]
    with pytest.raises(Refused, match="until a person refreshes") as refused:
        tools("fs_read", path="/work/b.py")
    assert str(tmp_path) not in str(refused.value)


# -- writing --------------------------------------------------------------------------------------


def test_a_file_is_written_in_each_way(fs: AgentFS, tools: Tools) -> None:
    """New with its directories, replaced, appended, only when new, from base64."""
    made = tools("fs_write", path="/a/b/c", content="one\n")
    assert (made["created"], made["size_bytes"]) == (True, 4)
    assert tools("fs_write", path="/a/b/c", content="two\n", mode="append")["created"] is False
    assert fs.read("/a/b/c") == b"one\ntwo\n"
    tools("fs_write", path="/a/json", content='{"a": [1]}')  # never parsed on its way
    assert fs.read("/a/json") == b'{"a": [1]}'
    with pytest.raises(Refused, match="if_node="):
        tools("fs_write", path="/a/b/c", content="x", mode="create")
    tools(
        "fs_write", path="/a/raw", content=base64.b64encode(b"\0\xff").decode(), encoding="base64"
    )
    assert fs.read("/a/raw") == b"\0\xff"
    for arguments in ({"content": "!", "encoding": "base64"}, {"path": "/src", "content": ""}):
        with pytest.raises(Refused):
            tools("fs_write", **{"path": "/x", **arguments})
    assert not fs.exists("/x")


def test_an_edit_replaces_exactly_one_place(fs: AgentFS, tools: Tools) -> None:
    """What occurs twice, or not, is a sentence that helps; the file's line ends stay."""
    fs.write("/f", "one = 1\ntwo = 1\n\tthree = 1\n")
    for old, said in (
        ("= 1", r"occurs 3 times in '/f' \(lines 1, 2, 3\)"),
        ("    three = 1", "nearest is line 3: 'three = 1'"),
        ("one = 1\nthree", "its first line is in line 1"),
        ("nothing like it at all", "copy it exactly"),
    ):
        with pytest.raises(Refused, match=said):
            tools("fs_edit", path="/f", old_text=old, new_text="x")
    done = tools("fs_edit", path="/f", old_text="two = 1", new_text="two = 2")
    assert (done["replacements"], done["first_line"]) == (1, 2)
    assert done["snippet"].startswith("     1\tone = 1\n     2\ttwo = 2\n")
    assert (
        tools("fs_edit", path="/f", old_text="1", new_text="9", replace_all=True)["replacements"]
        == 2
    )
    assert fs.read("/f") == b"one = 9\ntwo = 2\n\tthree = 9\n"
    fs.write("/crlf", b"a\r\nb\r\nc\r\n")
    tools("fs_edit", path="/crlf", old_text="a\nb\n", new_text="x\ny\n")
    assert fs.read("/crlf") == b"x\r\ny\r\nc\r\n"
    fs.write("/latin1", b"caf\xe9 = 1\n")
    tools("fs_edit", path="/latin1", old_text="= 1", new_text="= 2")
    assert fs.read("/latin1") == b"caf\xe9 = 2\n"


def test_no_change_of_somebody_else_is_lost(fs: AgentFS, tools: Tools) -> None:
    """With the version that was read, each tool refuses what was changed or removed since."""
    node = tools("fs_read", path="/notes.md")["node"]
    fs.write("/notes.md", "# Theirs\n")
    for name, arguments in (
        ("fs_write", {"content": "mine"}),
        ("fs_edit", {"old_text": "# Theirs", "new_text": "# Mine"}),
        ("fs_remove", {}),
    ):
        with pytest.raises(Refused, match="read it again") as refused:
            tools(name, path="/notes.md", if_node=node, **arguments)
        assert refused.value.code == "fs.changed"
    assert fs.read("/notes.md") == b"# Theirs\n"
    node = tools("fs_stat", path="/notes.md")["node"]
    node = tools("fs_write", path="/notes.md", content="1", if_node=node)["node"]
    assert tools("fs_edit", path="/notes.md", old_text="1", new_text="2", if_node=node)


def test_calls_at_the_same_time_lose_nothing(fs: AgentFS, tools: Tools) -> None:
    """Forty edits and appends of one file at once are all in it."""
    fs.write("/count", "".join(f"[{number}] todo\n" for number in range(20)))

    async def all_at_once() -> list[Any]:
        results: list[Any] = []

        async def one(name: str, arguments: dict[str, Any]) -> None:
            results.append(await tools.client.call_tool(name, {"path": "/count", **arguments}))

        async with anyio.create_task_group() as group:
            for number in range(20):
                edit = {"old_text": f"[{number}] todo", "new_text": f"[{number}] done"}
                group.start_soon(one, "fs_edit", edit)
                group.start_soon(one, "fs_write", {"content": f"+{number}\n", "mode": "append"})
        return results

    assert not any(each.is_error for each in tools.run(all_at_once))
    lines = fs.read_text("/count").splitlines()
    assert lines[:20] == [f"[{number}] done" for number in range(20)]
    assert sorted(lines[20:]) == sorted(f"+{number}" for number in range(20))


def test_names_move_and_go(fs: AgentFS, tools: Tools) -> None:
    """Nothing is replaced, and no directory with content removed, without being asked."""
    fs.symlink("main.py", "/src/link")
    assert tools("fs_move", source="/src/link", target="/new/dir/link")["replaced"] is False
    assert fs.readlink("/new/dir/link") == "main.py"
    with pytest.raises(Refused, match="overwrite"):
        tools("fs_move", source="/src/main.py", target="/notes.md")
    assert tools("fs_move", source="/src/main.py", target="/notes.md", overwrite=True)["replaced"]
    with pytest.raises(Refused, match="recursive"):
        tools("fs_remove", path="/src")
    gone = tools("fs_remove", path="/src", recursive=True)
    assert not fs.exists("/src")
    tools("fs_restore", moment=gone["undo"], paths=["/src"])
    assert fs.read("/src/lib/one.py").startswith(b"def one")
    for path in ("/", "/src/../"):
        with pytest.raises(Refused):
            tools("fs_remove", path=path, recursive=True)


# -- states ---------------------------------------------------------------------------------------


def test_something_is_tried_on_a_fork(fs: AgentFS, tools: Tools) -> None:
    """Fork, work, compare, merge; and back again."""
    assert tools("fs_fork", name="try")["full_name"] == "main/try"
    tools("fs_edit", path="/notes.md", old_text="Notes", new_text="Tried", branch="try")
    tools("fs_write", path="/new", content="x", branch="try")
    assert fs.read("/notes.md") == b"# Notes\n"
    seen = tools("fs_diff", after="try", patch=True)
    assert [(each["path"], each["kind"]) for each in seen["changes"]] == [
        ("/new", "added"), ("/notes.md", "modified"),
    ]  # fmt: skip
    assert "-# Notes\n+# Tried\n" in seen["patch"]
    assert tools("fs_merge", branch="try", dry_run=True)["merged"] is False
    assert fs.read("/notes.md") == b"# Notes\n"
    merged = tools("fs_merge", branch="try")
    assert (merged["merged"], merged["total_changes"]) == (True, 2)
    assert fs.read("/notes.md") == b"# Tried\n"
    tools("fs_restore", moment=merged["undo"])
    assert fs.read("/notes.md") == b"# Notes\n"
    log = tools("fs_log", limit=2)
    assert [each["operation"] for each in log["rows"]] == ["restore", "merge"]
    assert [each["name"] for each in log["forks"]] == ["try"]
    older = tools("fs_log", limit=2, cursor=log["next_cursor"])
    assert older["rows"][0]["moment"] != log["rows"][0]["moment"]
    with pytest.raises(Refused, match="another name"):
        tools("fs_fork", name="try")


def test_a_conflict_lists_the_paths_and_merges_nothing(fs: AgentFS, tools: Tools) -> None:
    """Then a side can be chosen."""
    tools("fs_fork", name="try")
    tools("fs_write", path="/notes.md", content="theirs", branch="try")
    tools("fs_write", path="/more", content="theirs", branch="try")
    fs.write("/notes.md", "ours")
    assert tools("fs_merge", branch="try", dry_run=True)["conflicts"][0]["path"] == "/notes.md"
    with pytest.raises(Refused, match=r"/notes.md \(content\)") as refused:
        tools("fs_merge", branch="try")
    assert refused.value.code == "merge.conflict"
    assert not fs.exists("/more")
    assert tools("fs_merge", branch="try", strategy="theirs")["merged"]
    assert fs.read("/notes.md") == b"theirs"


def test_a_snapshot_is_compared_and_restored(fs: AgentFS, tools: Tools) -> None:
    """In whole or for some paths, and each change says how to undo it."""
    assert tools("fs_snapshot", name="start", message="as it was")["name"] == "start"
    tools("fs_write", path="/notes.md", content="x")
    wrote = tools("fs_write", path="/other", content="y")
    assert tools("fs_diff", before="start")["total_changes"] == 2
    assert tools("fs_diff", before=wrote["undo"])["changes"][0]["path"] == "/other"
    tools("fs_restore", moment="start", paths=["/notes.md"])
    assert fs.read("/notes.md") == b"# Notes\n"
    assert fs.exists("/other")
    tools("fs_restore", moment="start")
    assert not fs.exists("/other")
    assert tools("fs_log")["snapshots"][0]["message"] == "as it was"


def test_going_back_leaves_the_state_of_other_servers(fs: AgentFS, tools: Tools) -> None:
    """Files go back, in whole; what the memory server, say, has learned since stays."""
    fs.write("/gone-later", "x")
    tools("fs_snapshot", name="start")
    fs.kv.set("learned", "since")
    fs.remove("/gone-later")
    tools("fs_write", path="/src/new", content="x")
    log = tools("fs_log")
    assert not any(".fmos" in each["path"] for each in log["rows"])
    tools("fs_restore", moment="start")
    assert fs.kv.get("learned") == "since"
    assert fs.read("/gone-later") == b"x"
    assert not fs.exists("/src/new")
    assert tools("fs_diff", before="start")["total_changes"] == 0


# -- confinement ----------------------------------------------------------------------------------


def test_no_call_reaches_another_branch(fs: AgentFS) -> None:
    """Not by its name, its snapshots or its past; only forks below the own name count."""
    fs.write("/secret", "of main")
    fs.snapshot("of-main")
    first = fs.log(1)[0].seq
    fs.remove("/secret")
    own = fs.fork("agent")
    own.write("/mine", "x")
    fs.fork("agent2").write("/other", "x")
    with serving(own) as tools:
        for name in ("main", "agent2", "of-main", f"@{first}", "2001-01-01T00:00:00Z"):
            for call in (
                ("fs_diff", {"before": name}),
                ("fs_restore", {"moment": name}),
                ("fs_fork", {"name": "x", "source": name}),
            ):
                with pytest.raises(Refused):
                    tools(call[0], **call[1])
        for name in ("main", "agent2", "../main", "agent"):
            with pytest.raises(Refused):
                tools("fs_merge", branch=name)
        for name in ("main", "agent2", "of-main"):
            with pytest.raises(Refused):
                tools("fs_read", path="/other", branch=name)
        assert tools("fs_fork", name="main")["full_name"] == "agent/main"
        tools("fs_write", path="/x", content="", branch="main")
        log = tools("fs_log")
        assert {each["branch"] for each in log["rows"]} == {"agent"}
        assert [each["name"] for each in log["forks"]] == ["main"]
        assert log["snapshots"] == []
    assert [each.name for each in fs.branches()] == ["agent", "agent/main", "agent2", "main"]
    assert not fs.exists("/x")


def test_no_path_reaches_the_servers_area(fs: AgentFS, tools: Tools) -> None:
    """Not directly, not through a link, and not in a listing or search."""
    fs.kv.set("secret", "value")
    fs.symlink("/.fmos/kv", "/door")
    for path in (
        "/.fmos",
        "/.fmos/kv/secret",
        "/src/../.fmos/kv",
        "/door/secret",
        "/door",
        ".fmos",
    ):
        for name, arguments in (
            ("fs_read", {}),
            ("fs_list", {}),
            ("fs_write", {"content": "x"}),
            ("fs_remove", {"recursive": True}),
        ):
            if (name, path) != ("fs_remove", "/door"):
                with pytest.raises(Refused):
                    tools(name, path=path, **arguments)
    assert "secret" not in json.dumps(tools("fs_list", depth=9))
    assert tools("fs_grep", pattern="value")["matches"] == []
    assert tools("fs_glob", pattern="**/secret")["paths"] == []
    assert fs.kv.get("secret") == "value"


def test_a_server_of_a_directory_is_confined_to_it(fs: AgentFS) -> None:
    """Dots stay inside, links that lead out are refused for each tool, in all states."""
    fs.mkdir("/box/sub", parents=True)
    fs.write("/box/in", "inside")
    fs.write("/out", "outside")
    fs.mkdir("/outdir")
    fs.write("/outdir/file", "outside")
    fs.symlink("/out", "/box/file-link")
    fs.symlink("../outdir", "/box/dir-link")
    fs.symlink("sub", "/box/good-link")
    with serving(fs, "/box") as tools:
        assert [each["path"] for each in tools("fs_list")["entries"]] == [
            "/dir-link", "/file-link", "/good-link", "/in", "/sub",
        ]  # fmt: skip
        assert "inside" in tools("fs_read", path="/../../box/../in")["content"]
        tools("fs_write", path="/good-link/new", content="x")
        assert fs.exists("/box/sub/new")
        for name, arguments in (
            ("fs_read", {"path": "/file-link"}),
            ("fs_read", {"path": "/dir-link/file"}),
            ("fs_list", {"path": "/dir-link"}),
            ("fs_glob", {"pattern": "*", "path": "/dir-link"}),
            ("fs_grep", {"pattern": "outside", "path": "/dir-link"}),
            ("fs_grep", {"pattern": "outside", "path": "/file-link"}),
            ("fs_stat", {"path": "/dir-link/file"}),
            ("fs_write", {"path": "/file-link", "content": "x"}),
            ("fs_write", {"path": "/dir-link/new/x", "content": "x"}),
            ("fs_edit", {"path": "/dir-link/file", "old_text": "o", "new_text": "x"}),
            ("fs_move", {"source": "/in", "target": "/dir-link/in"}),
            ("fs_move", {"source": "/dir-link/file", "target": "/stolen"}),
            ("fs_remove", {"path": "/dir-link/file"}),
            ("fs_restore", {"moment": "@1", "paths": ["/dir-link/file"]}),
            ("fs_diff", {"before": "@1", "path": "/dir-link/file"}),
            ("fs_remove", {"path": "/", "recursive": True}),
        ):
            with pytest.raises(Refused) as refused:
                tools(name, **arguments)
            assert "/box" not in str(refused.value)
        assert tools("fs_grep", pattern="outside")["matches"] == []
        assert tools("fs_stat", path="/file-link")["target"] == "/out"
        start = tools("fs_snapshot", name="s")["moment"]
        fs.write("/out", "changed")
        tools("fs_write", path="/in", content="changed")
        assert [each["path"] for each in tools("fs_diff", before="s")["changes"]] == ["/in"]
        inside = ("/", "/in", "/sub", "/sub/new", "/dir-link", "/file-link", "/good-link")
        assert {each["path"] for each in tools("fs_log")["rows"]} <= set(inside)
        tools("fs_restore", moment=start)
        assert fs.read("/box/in") == b"inside"
        assert fs.read("/out") == b"changed"
        tools("fs_fork", name="f")
        fs.on("main/f").write("/out", "by another door")
        with pytest.raises(Refused, match="outside of this server's directory"):
            tools("fs_merge", branch="f")
    assert fs.read("/outdir/file") == b"outside"
    assert fs.listdir("/outdir") == ["file"]


def test_access_rules_hold_for_the_servers_principal(tmp_path: Path, fs: AgentFS) -> None:
    """What a rule hides is not there for any tool."""
    with AgentFS.open(tmp_path / "a.afs", system=True) as admin:
        admin.rules.set("/src/lib", "agent:mcp", "none")
    with serving(fs) as tools:
        assert tools("fs_glob", pattern="*.py")["paths"] == ["/src/main.py"]
        assert tools("fs_grep", pattern="return")["matches"] == []
        for name in ("fs_read", "fs_stat"):
            with pytest.raises(Refused):
                tools(name, path="/src/lib/one.py")
        assert not any("lib" in each["path"] for each in tools("fs_log")["rows"])


def test_names_that_are_no_text_can_be_read_and_removed(fs: AgentFS, tools: Tools) -> None:
    """They are shown in a form that JSON holds, and that comes back as the same name."""
    fs.write(os.fsdecode(b"/raw-\xff\n"), "x")
    shown = tools("fs_glob", pattern="raw*")["paths"]
    assert shown == ["/raw-\\udcff\n"]
    assert tools("fs_read", path=shown[0])["content"] == "     1\tx"
    assert tools("fs_remove", path=shown[0])["path"] == shown[0]
    assert fs.listdir("/") == ["notes.md", "src"]


def test_no_answer_is_above_its_limit(fs: AgentFS, tools: Tools) -> None:
    """Whatever is in the volume, an answer stays below what a client takes."""
    with fs.transaction():
        for number in range(1200):
            fs.write(f"/{'n' * 200}{number:04}", "needle\n")
    fs.write("/wide", "needle" * 100_000)
    fs.snapshot("main/before")
    for name, arguments in (
        ("fs_list", {"limit": 1000}),
        ("fs_glob", {"pattern": "*", "limit": 2000}),
        ("fs_grep", {"pattern": "needle", "limit": 1000}),
        ("fs_read", {"path": "/wide", "max_bytes": MAX_READ_BYTES, "start_byte": 0}),
        ("fs_log", {"limit": 500}),
        ("fs_diff", {"before": "@0", "limit": 1000, "patch": True}),
    ):
        raw = tools.raw(name, **arguments)
        assert not raw.is_error, raw.content[0].text
        assert len(json.dumps(raw.structured_content)) < 1_000_000, name

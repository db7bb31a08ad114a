"""The unix socket's threads: what they answer, what they pass on, and whom they never hold up."""

from __future__ import annotations

import json
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from fmos.client import connect
from fmos.client.messages import headers
from fmos.client.unix_socket import UnixSocket
from fmos.errors import ServerUnreachableError
from fmos.serving.socket_door import SocketDoor
from fmos.serving.socket_threads import SocketThreads

from .conftest import CONTRACT, PRINCIPAL, daemon

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
    "fmos/principal": {"agent": "ada", "session": "s1"},
}
PLAIN = re.compile(
    rb"HTTP/1\.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: \d+\r\n\r\n"
)
CROWD = 200
THREADS = 64


@pytest.fixture(scope="module")
def served() -> Iterator[Path]:
    """A home with a daemon, for tests that leave both as they were."""
    with tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp") as folder:
        home = Path(folder)
        (home / "contracts").mkdir()
        (home / "contracts" / "ada.yaml").write_text(CONTRACT)
        with daemon(home, "--no-http"):
            yield home


class Answer:
    """One answer of a server, read from a connection."""

    def __init__(self, connection: socket.socket, data: bytes = b"") -> None:
        while b"\r\n\r\n" not in data:
            data += _some(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        self.head = head.lower()
        self.by_thread = bool(PLAIN.fullmatch(head + b"\r\n\r\n"))
        found = re.search(rb"content-length: (\d+)", self.head)
        length = int(found.group(1)) if found else 0
        while len(body) < length:
            body += _some(connection)
        self.body, self.after = body[:length], body[length:]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.head.split()[1])

    @property
    def identifier(self) -> int:
        """The id of the request that it answers."""
        return json.loads(self.body)["id"]


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 20)
    assert data, "the server hung up"
    return data


def _request(number: int = 1, *lines: str, **more: Any) -> bytes:
    params = {"name": "memory_search", "arguments": {"query": "x"}, "_meta": {**META, **more}}
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    return _framed(json.dumps(message).encode(), *lines)


def _framed(body: bytes, *lines: str, length: int | None = None) -> bytes:
    usual = [f"{name}: {value}" for name, value in headers("tools/call", "memory_search").items()]
    size = f"Content-Length: {len(body) if length is None else length}"
    return _head(*usual, size, *lines) + body


def _head(*lines: str) -> bytes:
    return "\r\n".join(["POST /mcp HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def _open(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(path))
    return connection


def _to(home: Path) -> socket.socket:
    return _open(home / "run" / "fmos.sock")


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_everyday_calls_are_answered_by_a_thread(served):
    """One connection is kept for many calls; a call that the SDK must answer changes no more."""
    with _to(served) as connection:
        for number in range(3):
            connection.sendall(_request(number))
            answer = Answer(connection)
            assert (answer.by_thread, answer.identifier) == (True, number)
        for number, more in ((3, {"example.org/other": 1}), (4, {})):
            connection.sendall(_request(number, **more))
            answer = Answer(connection)
            assert (answer.by_thread, answer.identifier, answer.status) == (False, number, 200)


def test_head_and_body_may_come_apart(served):
    """A body that comes after its head is waited for by the thread."""
    whole = _request(7, "User-Agent: x", "Connection: keep-alive")
    cut = whole.index(b"\r\n\r\n") + 4
    with _to(served) as connection:
        connection.sendall(whole[:cut])
        connection.sendall(whole[cut:])
        assert Answer(connection).by_thread


def _chunked() -> bytes:
    head, _, body = _request(5).partition(b"\r\n\r\n")
    head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
    return head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


ODD = {
    "chunks": (_chunked(), 200),
    "closing": (_request(1, "Connection: close"), 200),
    "HTTP/1.0": (_request().replace(b"HTTP/1.1", b"HTTP/1.0", 1), 200),
    "a query": (_request().replace(b"POST /mcp", b"POST /mcp?x=1", 1), 200),
    "health": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    "an upgrade": (_request(1, "Connection: upgrade", "Upgrade: h2c"), 400),
    "nowhere": (_request().replace(b"POST /mcp", b"POST /nowhere", 1), 404),
    "a web page": (_request(1, "Origin: http://evil.example"), 403),
    "too large": (_framed(b"{", length=65 << 20), 413),
    "two lengths": (_request(1, "Content-Length: 3"), 400),
    "no HTTP": (b"hello\r\n\r\n", 400),
    "no JSON": (_framed(b"{]"), 400),
}


@pytest.mark.parametrize(("request_", "status"), ODD.values(), ids=ODD)
def test_other_requests_get_the_servers_own_answer(served, request_, status):
    """What is not everyday is answered as on a connection that no thread has read from."""
    with _to(served) as connection:
        connection.sendall(request_)
        answer = Answer(connection)
        assert (answer.by_thread, answer.status) == (False, status)


def test_waiting_for_leave_to_send_is_answered(served):
    """A client that asks whether it may send its body is told so."""
    head, _, body = _request(8, "Expect: 100-continue").partition(b"\r\n\r\n")
    with _to(served) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert b"100 Continue" in _some(connection)
        connection.sendall(body)
        assert Answer(connection).identifier == 8


def test_two_requests_in_one_piece(served):
    """Requests sent before the last answer are all answered, in their order."""
    with _to(served) as connection:
        connection.sendall(_request(1) + _request(2))
        first = Answer(connection)
        assert first.identifier == 1
        assert Answer(connection, first.after).identifier == 2


def test_many_connections_at_once(served):
    """Of 200 open connections all are answered, those without a thread by the event loop."""
    with ExitStack() as stack:
        crowd = [stack.enter_context(_to(served)) for _ in range(CROWD)]
        for number, connection in enumerate(crowd):
            connection.sendall(_request(number))
        answers = [Answer(connection) for connection in crowd]
        assert [answer.identifier for answer in answers] == list(range(CROWD))
        assert 0 < sum(answer.by_thread for answer in answers) <= THREADS
    # The threads are free again.
    with connect(PRINCIPAL, home=served, transport="daemon") as client:
        assert client.call("memory_search", {"query": "x"}) == {"hits": []}

    def by_thread() -> bool:
        with _to(served) as connection:
            connection.sendall(_request())
            return Answer(connection).by_thread

    _until(by_thread)


def test_large_answers_come_whole(served):
    """A text of a megabyte comes back as it was written."""
    text = "all work and no play " * 50_000
    with connect(PRINCIPAL, home=served, transport="daemon") as client:
        item = client.call("memory_write", {"text": text})
        assert client.call("memory_get", {"id": item["id"]})["text"] == item["text"]


def test_stop_closes_idle_connections_at_once(home):
    """SIGTERM ends idle, silent and half-sent connections, those passed on too, without a wait."""
    with daemon(home, "--no-http") as (process, _), ExitStack() as stack:
        idle, silent, half, passed = (stack.enter_context(_to(home)) for _ in range(4))
        for connection, more in ((idle, {}), (passed, {"example.org/other": 1})):
            connection.sendall(_request(**more))
            assert Answer(connection).status == 200
        half.sendall(_request()[:-9])
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert [each.recv(1) for each in (idle, silent, passed)] == [b""] * 3
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - begin < 4
        with pytest.raises(FileNotFoundError):
            _to(home)


class Slow:
    """What stands for a server: answers with `size` bytes, once it is let, or fails."""

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.fails = False
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)

    def answer(self, name: str, arguments: dict[str, Any], meta: dict[str, Any]) -> None:
        """Answer a call."""
        self.begun.release()
        assert self.go.wait(20)
        if self.fails:
            raise ValueError("broken")

    def on_the_wire(self, result: None) -> dict[str, Any]:
        """Return what is sent of an answer."""
        return {"text": "x" * self.size}


Passed = SimpleQueue[tuple[socket.socket, bytes]]


@contextmanager
def _threads(server: Any, number: int = 8) -> Iterator[tuple[Path, SocketThreads, Passed]]:
    """Threads over a real socket, with what they passed on."""

    async def sdk(*_: object) -> None:
        raise AssertionError

    passed: Passed = SimpleQueue()
    with (
        tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = Path(folder) / "s"
        listener.bind(str(path))
        listener.listen()
        door = SocketDoor(sdk, {"/mcp": server})
        threads = SocketThreads(listener, door, lambda *given: passed.put(given), threads=number)
        threads.start()
        try:
            yield path, threads, passed
        finally:
            threads.stop()
            _until(lambda: not threads.at_work)
            while not passed.empty():
                passed.get()[0].close()


def test_slow_requests_are_passed_on_with_what_came():
    """A head or a body that does not come in time goes on, without losing a byte."""
    with _threads(Slow()) as (path, _, passed), ExitStack() as stack:
        for part in (_request()[:30], _request()[:-5], _request() + b"POST"):
            connection = stack.enter_context(_open(path))
            connection.sendall(part)
            theirs, received = passed.get(timeout=20)
            assert received == part
            connection.sendall(b"rest")
            assert theirs.recv(99) == b"rest"
            theirs.close()


def test_no_thread_left_passes_the_connection_on():
    """Who comes when all threads have a connection is passed on unread, until one is free again."""
    with _threads(Slow(), number=2) as (path, threads, passed), ExitStack() as stack:
        first, second, third = (stack.enter_context(_open(path)) for _ in range(3))
        theirs, received = passed.get(timeout=20)
        assert received == b""
        third.sendall(b"hello")
        assert theirs.recv(99) == b"hello"
        theirs.close()
        for connection in (first, second):
            connection.sendall(_request())
            assert Answer(connection).by_thread
        first.close()
        _until(lambda: len(threads._open) == 1)
        fourth = stack.enter_context(_open(path))
        fourth.sendall(_request(4))
        assert Answer(fourth).identifier == 4
        assert passed.empty()


def test_unread_answers_hold_up_nobody():
    """A client that never reads its answer keeps its own thread waiting and no other."""
    server = Slow(size=8 << 20)
    with _threads(server) as (path, threads, _), _open(path) as deaf:
        deaf.sendall(_request())
        assert server.begun.acquire(timeout=20)
        with _open(path) as other:
            other.sendall(_request(2))
            assert Answer(other).identifier == 2
        threads.stop()
        assert threads.at_work
        deaf.close()


def test_failed_call_closes_its_connection_only(caplog):
    """What a handler did not foresee costs its client the connection and is logged."""
    server = Slow()
    with _threads(server) as (path, _, passed), _open(path) as one, _open(path) as other:
        server.fails = True
        one.sendall(_request())
        assert one.recv(1) == b""
        server.fails = False
        other.sendall(_request(2))
        assert Answer(other).identifier == 2
        assert passed.empty()
    assert "broken" in caplog.text


def test_stopped_threads_answer_what_they_are_at():
    """After a stop the call under way is answered, and no request can be sent any more."""
    server = Slow()
    server.go.clear()
    with _threads(server) as (path, threads, _), _open(path) as busy, _open(path) as idle:
        busy.sendall(_request(1))
        assert server.begun.acquire(timeout=20)
        _until(lambda: len(threads._open) == 2)
        threads.stop()
        assert idle.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            idle.sendall(_request(2))
        with pytest.raises(ConnectionRefusedError):
            _open(path)
        server.go.set()
        assert Answer(busy).identifier == 1
        assert busy.recv(1) == b""


def test_short_answer_is_a_lost_one():
    """An answer that ends before its length is not taken for a whole one."""
    with tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp") as folder:
        path = Path(folder) / "s"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def serve() -> None:
                for _ in range(2):  # the call, and the question whether it only reads
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                        connection.sendall(head + b"content-length: 99\r\n\r\n{")

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            client = UnixSocket(path, PRINCIPAL)
            with pytest.raises(ServerUnreachableError, match="may have had its effect"):
                client.call("memory_write", {"text": "x"})
            thread.join(timeout=5)

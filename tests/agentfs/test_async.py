"""`AsyncAgentFS`: the names of `AgentFS`, many tasks, cancellation, transactions, iterators."""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agentfs import AgentFS, AsyncAgentFS, NotFound, VolumeBusy

_FOR_MODULES_OF_THE_LIBRARY = {"view_for_writing", "view_for_reading"}
_OF_ANOTHER_FORM = {"open_file", "transaction", "watch"}


def in_loop(path: Path, body: Callable[[AsyncAgentFS], Awaitable[None]], **options: float) -> None:
    """Run a body on a fresh volume in a loop of its own."""

    async def main() -> None:
        async with AsyncAgentFS.open(path / "a.afs", **options) as fs:
            await body(fs)

    asyncio.run(main())


def test_both_classes_have_the_same_public_names(tmp_path: Path) -> None:
    """What `AgentFS` has, class and instance, `AsyncAgentFS` has too, with the same arguments."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        names = {each for each in dir(fs) if not each.startswith("_")}
    names -= _FOR_MODULES_OF_THE_LIBRARY
    assert names - set(dir(AsyncAgentFS)) == set()
    for name in names:
        member = getattr(AgentFS, name, None)
        if inspect.isfunction(member) and name not in _OF_ANOTHER_FORM:
            made = inspect.signature(getattr(AsyncAgentFS, name))
            assert made.parameters == inspect.signature(member).parameters, name


def test_fifty_tasks_share_one_handle(tmp_path: Path) -> None:
    """Fifty tasks that write, read, list and fork at once all succeed and lose nothing."""

    async def one(fs: AsyncAgentFS, number: int) -> None:
        for step in range(4):
            await fs.write(f"/{number}-{step}", str(number))
            assert await fs.read(f"/{number}-{step}") == str(number).encode()
        async with fs.transaction():
            seen = int(await fs.read("/sum"))
            await fs.write("/sum", str(seen + number))

    async def body(fs: AsyncAgentFS) -> None:
        await fs.write("/sum", "0")
        await asyncio.gather(*(one(fs, number) for number in range(50)))
        assert await fs.read("/sum") == b"1225"
        assert len(await fs.listdir("/")) == 201
        assert await fs.fsck() == []

    in_loop(tmp_path, body)


def test_a_transaction_is_seen_by_nobody_until_it_ends(tmp_path: Path) -> None:
    """Its own task reads what it wrote, others the state before, and their writes wait."""

    async def body(fs: AsyncAgentFS) -> None:
        async def outside(inner: asyncio.Event, done: asyncio.Event) -> None:
            await inner.wait()
            assert not await fs.exists("/a")
            done.set()
            await fs.write("/after", "")

        inner, done = asyncio.Event(), asyncio.Event()
        other = asyncio.create_task(outside(inner, done))
        async with fs.transaction():
            await fs.write("/a", "1")
            inner.set()
            await done.wait()
            assert await fs.read("/a") == b"1"
            await asyncio.gather(*(fs.write(f"/b{each}", "") for each in range(5)))
            assert not await fs.exists("/after")
        await other
        assert await fs.exists("/after")
        assert [row.path async for row in fs.journal()][-1] == "/after"

    in_loop(tmp_path, body)


def test_an_exception_undoes_a_transaction_or_its_inner_part(tmp_path: Path) -> None:
    """A failed inner transaction is undone alone, a failed outer one with all it holds."""

    async def body(fs: AsyncAgentFS) -> None:
        async with fs.transaction():
            await fs.write("/kept", "")
            with pytest.raises(NotFound):
                async with fs.transaction():
                    await fs.write("/inner", "")
                    await fs.read("/missing")
        assert await fs.listdir("/") == ["kept"]
        with pytest.raises(RuntimeError):
            async with fs.transaction():
                await fs.write("/outer", "")
                raise RuntimeError
        assert await fs.listdir("/") == ["kept"]

    in_loop(tmp_path, body)


def test_a_cancelled_transaction_is_undone(tmp_path: Path) -> None:
    """Cancelling a task in its transaction undoes it, and the next writer gets its turn."""

    async def body(fs: AsyncAgentFS) -> None:
        reached = asyncio.Event()

        async def endless() -> None:
            async with fs.transaction():
                await fs.write("/a", "")
                reached.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(endless())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await fs.write("/b", "")
        assert await fs.listdir("/") == ["b"]

    in_loop(tmp_path, body)


def test_cancelling_while_waiting_for_the_volume_leaves_no_transaction(tmp_path: Path) -> None:
    """A transaction that another process's writer held up is not left open when cancelled."""

    async def body(fs: AsyncAgentFS) -> None:
        with AgentFS.open(tmp_path / "a.afs") as other, other.transaction():
            other.write("/other", "")

            async def enter() -> None:
                async with fs.transaction():
                    raise AssertionError("the volume is taken")

            task = asyncio.create_task(enter())
            for _ in range(20):
                await asyncio.to_thread(threading.Event().wait, 0.001)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await fs.write("/b", "")
        assert await fs.listdir("/") == ["b", "other"]

    in_loop(tmp_path, body)


def test_a_call_that_waits_can_be_cancelled(tmp_path: Path) -> None:
    """A write that waits for its turn never happens once it is cancelled."""

    async def body(fs: AsyncAgentFS) -> None:
        async with fs.transaction():

            async def late() -> None:
                await fs.write("/late", "")

            task = asyncio.get_running_loop().create_task(late(), context=contextvars.Context())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await fs.listdir("/") == []

    in_loop(tmp_path, body)


def test_a_task_waits_for_another_only_so_long(tmp_path: Path) -> None:
    """A writer gives up with `VolumeBusy` when another task keeps its transaction open."""

    async def body(fs: AsyncAgentFS) -> None:
        async with fs.transaction():
            task = asyncio.get_running_loop().create_task(
                _write(fs, "/x"), context=contextvars.Context()
            )
            with pytest.raises(VolumeBusy):
                await task

    in_loop(tmp_path, body, busy_s=0.05)


async def _write(fs: AsyncAgentFS, path: str) -> None:
    await fs.write(path, "")


def test_iterators_come_in_parts(tmp_path: Path) -> None:
    """`async for` over glob, grep, walk, diff and journal gives what the plain ones give."""

    async def body(fs: AsyncAgentFS) -> None:
        async with fs.transaction():
            for number in range(250):
                await fs.write(f"/{number:03}", "needle" if number % 100 == 0 else "hay")
        await fs.mkdir("/d")
        await fs.mkdir("/left-out")
        assert len([each async for each in fs.glob("/*")]) == 252
        assert [each.path async for each in fs.grep("needle")] == ["/000", "/100", "/200"]
        walked = []
        async for directory, below, _files in fs.walk("/"):
            walked.append(directory)
            if "left-out" in below:
                below.remove("left-out")
        assert walked == ["/", "/d"]
        first = 0
        async for row in fs.journal():
            first = row.seq
            break
        assert first == 1
        await fs.write("/still-works", "")

    in_loop(tmp_path, body)


def test_watch_waits_and_can_be_cancelled(tmp_path: Path) -> None:
    """Rows that come later are yielded, and a cancelled watch leaves no thread that waits."""

    async def body(fs: AsyncAgentFS) -> None:
        first = asyncio.Event()
        seen: list[str] = []

        async def follow() -> None:
            async for row in fs.watch(since=0):
                seen.append(row.path)
                first.set()

        task = asyncio.create_task(follow())
        await fs.write("/a", "")
        async with asyncio.timeout(5):
            await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["/a"]
        assert not [each for each in threading.enumerate() if "agentfs-watch" in each.name]
        watch = fs.watch(since=0, timeout=0)
        assert [row.path async for row in watch] == ["/a"]
        assert watch.seq == 1

    in_loop(tmp_path, body)


def test_kv_and_tool_calls_are_awaited(tmp_path: Path) -> None:
    """The keys and the tool calls have the same calls as on `AgentFS`."""

    async def body(fs: AsyncAgentFS) -> None:
        await fs.kv.set("k", [1])
        assert await fs.kv.get("k") == [1]
        call = await fs.toolcalls.start("search", {"q": "x"})
        await fs.toolcalls.finish(call, "found")
        assert [each.status for each in await fs.toolcalls.list()] == ["ok"]

    in_loop(tmp_path, body)


def test_files_kv_and_forks_are_awaited_too(tmp_path: Path) -> None:
    """File objects read and write with await, and a fork is an asynchronous handle."""

    async def body(fs: AsyncAgentFS) -> None:
        async with fs.open("/f", "w") as file:
            await file.write("one\ntwo\n")
        file = await fs.open("/f")
        assert [line async for line in file] == ["one\n", "two\n"]
        await file.close()
        child = await fs.fork("c")
        assert isinstance(child, AsyncAgentFS)
        assert child.branch == "c"
        await child.write("/only-c", "")
        await child.close()
        assert not await fs.exists("/only-c")
        assert await fs.transaction(lambda sync: sync.read_text("/f")) == "one\ntwo\n"

    in_loop(tmp_path, body)


def test_two_loops_may_share_a_handle(tmp_path: Path) -> None:
    """A handle works in a second event loop after the first one ended."""
    fs = asyncio.run(AsyncAgentFS.open_volume(tmp_path / "a.afs"))
    asyncio.run(fs.write("/a", "1"))
    assert asyncio.run(fs.read("/a")) == b"1"
    asyncio.run(fs.close())

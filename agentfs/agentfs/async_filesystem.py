"""`AsyncAgentFS`: the names of `AgentFS` for asyncio.

Calls run on threads: reads on a few, writes one after another on one, so that a transaction can
keep that one to itself. The methods are made from those of `AgentFS` (see `_mirror`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import ContextVar
from itertools import islice
from types import TracebackType
from typing import IO, Any, Generic, TypeVar, overload
from weakref import WeakKeyDictionary

from .errors import VolumeBusy
from .filesystem import BUSY_S, AgentFS
from .types import JournalRow
from .watch import Watch

T = TypeVar("T")
_READERS = 8
_BATCH = 100
# Short writes, which wait for each other; what is not here (also gc, put_tree) lets them through.
_WRITES = frozenset({
    "write", "append", "truncate", "mkdir", "rmdir", "remove", "rename", "copy", "symlink", "link",
    "chmod", "chown", "mknod", "utime", "setxattr", "removexattr", "snapshot", "restore", "fork",
    "delete_branch", "overlay", "refresh_overlay", "discard",
    "delete_snapshot", "set_default_branch", "merge", "record", "set", "delete", "start", "finish",
    "error", "remove_rule", "replace", "set_quota", "set_retention", "add", "retry",
})  # fmt: skip
# Whoever walks may take names out of each list before the walk goes on.
_ONE_BY_ONE = frozenset({"walk"})
_OTHER_FORM = frozenset({"open_volume", "open_file", "view_for_writing", "view_for_reading"})


class _Held:
    """A transaction of one task and the tasks it starts; `open` until it ends."""

    def __init__(self, workers: _Workers) -> None:
        self.workers = workers
        self.open = True


_HELD: ContextVar[tuple[_Held, ...]] = ContextVar("agentfs_transactions", default=())


class _Workers:
    """The threads of one volume in one event loop, and the gate before the one that writes."""

    def __init__(self, path: str, busy_s: float) -> None:
        self._path = path
        self._busy_s = busy_s
        self.readers = ThreadPoolExecutor(_READERS, "agentfs-read")
        self.writer = ThreadPoolExecutor(1, "agentfs-write")
        self._gate = asyncio.Lock()

    def inside(self) -> bool:
        """Say whether the running task is in a transaction."""
        return any(each.open and each.workers is self for each in _HELD.get())

    async def read(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Run a call beside others, or in the task's transaction."""
        threads = self.writer if self.inside() else self.readers
        call = functools.partial(function, *arguments, **options)
        return await asyncio.wrap_future(threads.submit(call))

    async def write(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Run a call after the other writers, or in the task's transaction."""
        call = functools.partial(function, *arguments, **options)
        if self.inside():
            return await asyncio.wrap_future(self.writer.submit(call))
        async with self.gate():
            return await asyncio.wrap_future(self.writer.submit(call))

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[None]:
        """Wait for this loop's other writers, as long as a thread would."""
        try:
            async with asyncio.timeout(self._busy_s):
                await self._gate.acquire()
        except TimeoutError:
            raise VolumeBusy(self._path, "another task did not finish in time") from None
        try:
            yield
        finally:
            self._gate.release()

    def close(self) -> None:
        """Let what runs end, and drop what waits."""
        for each in (self.readers, self.writer):
            each.shutdown(wait=True, cancel_futures=True)


class _Opening(Generic[T]):
    """What `open` returns: awaited, or entered as a context manager."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._opened: Any = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._make().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._make()
        return await self._opened.__aenter__()

    async def __aexit__(self, *exc: Any) -> None:
        await self._opened.__aexit__(*exc)


class _Open:
    """`AsyncAgentFS.open` opens a volume; on a handle, `fs.open` opens a file."""

    def __get__(
        self, handle: AsyncAgentFS | None, owner: type[AsyncAgentFS]
    ) -> Callable[..., _Opening[Any]]:
        make = owner.open_volume if handle is None else handle.open_file
        return lambda *arguments, **options: _Opening(lambda: make(*arguments, **options))


class AsyncFile:
    """A file object whose calls are awaited; `async for` gives its lines."""

    def __init__(self, workers: _Workers, file: IO[Any]) -> None:
        """Wrap a file object of `AgentFS.open_file`."""
        self.sync = file
        self._workers = workers

    def __getattr__(self, name: str) -> Any:
        """Return the call of the file object as one to await."""
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self.sync, name)
        if not callable(found):
            return found
        run = self._workers.write if self.sync.writable() else self._workers.read
        return functools.partial(run, found)

    async def __aenter__(self) -> AsyncFile:
        """Return the file."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the file, which writes what is left."""
        await self._workers.write(self.sync.close)

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield the lines."""
        while line := await self._workers.read(self.sync.readline):
            yield line


class _Names:
    """`fs.kv` or `fs.toolcalls` with calls that are awaited."""

    def __init__(self, workers: Callable[[], _Workers], names: object) -> None:
        self.sync = names
        self._workers = workers

    def __getattr__(self, name: str) -> Callable[..., Any]:
        found = getattr(self.sync, name)
        if name.startswith("_") or not callable(found):
            raise AttributeError(name)
        workers = self._workers()
        return functools.partial(workers.write if name in _WRITES else workers.read, found)


class AsyncAgentFS:
    """An `AgentFS` whose calls are awaited, and whose iterators are read with `async for`.

    A cancelled call has happened as a whole or not at all. Iterators fetch up to 100 results at
    a time. `sync` is the handle behind it.
    """

    open = _Open()

    def __init__(
        self, fs: AgentFS, *, busy_s: float = BUSY_S, _opened: AsyncAgentFS | None = None
    ) -> None:
        """Wrap an open handle; closing this one closes it."""
        self.sync = fs
        self._busy_s = busy_s
        self._owner = _opened is None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Workers] = (
            WeakKeyDictionary() if _opened is None else _opened._loops
        )

    @classmethod
    async def open_volume(cls, *arguments: Any, **options: Any) -> AsyncAgentFS:
        """Open a volume with the arguments of `AgentFS.open`; also `async with cls.open(...)`."""
        fs = await asyncio.to_thread(AgentFS.open, *arguments, **options)
        return cls(fs, busy_s=options.get("busy_s", BUSY_S))

    async def open_file(self, *arguments: Any, **options: Any) -> AsyncFile:
        """Open a file with the arguments of `AgentFS.open_file`; also `async with fs.open(...)`."""
        workers = self._workers()
        return AsyncFile(workers, await workers.write(self.sync.open, *arguments, **options))

    def _workers(self) -> _Workers:
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            found = self._loops[loop] = _Workers(str(self.sync.path), self._busy_s)
        return found

    def _same_volume(self, fs: AgentFS) -> AsyncAgentFS:
        return AsyncAgentFS(fs, busy_s=self._busy_s, _opened=self)

    @overload
    def transaction(self) -> AbstractAsyncContextManager[AsyncAgentFS]: ...
    @overload
    def transaction(self, body: Callable[[AgentFS], T]) -> Awaitable[T]: ...
    def transaction(
        self, body: Callable[[AgentFS], T] | None = None
    ) -> AbstractAsyncContextManager[AsyncAgentFS] | Awaitable[T]:
        """Make all calls of `async with fs.transaction():` one transaction.

        An exception or a cancellation undoes them. It belongs to this task and to those that it
        starts in the body, one call after another; other tasks read the state before it, and
        their writes wait. Inside another transaction it is a savepoint.
        `await fs.transaction(body)` runs a function of `AgentFS` in one, without leaving its
        thread.
        """
        return self._transaction() if body is None else self._together(body)

    async def _together(self, body: Callable[[AgentFS], T]) -> T:
        def run() -> T:
            with self.sync.transaction() as fs:
                return body(fs)

        return await self._workers().write(run)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncAgentFS]:
        workers = self._workers()
        if workers.inside():
            async with self._scope(workers):
                yield self
            return
        async with workers.gate():
            held = _Held(workers)
            async with self._scope(workers):
                token = _HELD.set((*_HELD.get(), held))
                try:
                    yield self
                finally:
                    held.open = False
                    with suppress(ValueError):  # entered and left in different contexts
                        _HELD.reset(token)

    @asynccontextmanager
    async def _scope(self, workers: _Workers) -> AsyncIterator[None]:
        """Enter and leave a transaction on the thread that writes, whatever is cancelled."""
        scope = self.sync.transaction()
        await _settled(workers.writer.submit(scope.__enter__), workers, scope.__exit__)
        try:
            yield
        except BaseException as error:
            ended = (type(error), error, error.__traceback__)
            await _settled(workers.writer.submit(scope.__exit__, *ended))
            raise
        await _settled(workers.writer.submit(scope.__exit__, None, None, None))

    @property
    def kv(self) -> Any:
        """Return the keys of the branch, with the calls of `AgentFS.kv` to await."""
        return _Names(self._workers, self.sync.kv)

    @property
    def toolcalls(self) -> Any:
        """Return the history of tool calls, with the calls of `AgentFS.toolcalls` to await."""
        return _Names(self._workers, self.sync.toolcalls)

    async def close(self) -> None:
        """Close the handle when the calls under way have ended."""
        if self._owner:
            for workers in list(self._loops.values()):
                await asyncio.to_thread(workers.close)
            self._loops.clear()
        await asyncio.to_thread(self.sync.close)

    async def __aenter__(self) -> AsyncAgentFS:
        """Return the handle."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the handle."""
        await self.close()

    def __repr__(self) -> str:
        """Name the file and the branch."""
        return f"Async{self.sync!r}"

    def watch(self, *arguments: Any, **options: Any) -> AsyncWatch:
        """Yield each journal row once with `async for`; the arguments are those of `AgentFS`."""
        return AsyncWatch(functools.partial(self.sync.watch, *arguments, **options))

    @property
    def triggers(self) -> Any:
        """Return the triggers, with the calls of `AgentFS.triggers` to await."""
        return _Names(self._workers, self.sync.triggers)

    @property
    def rules(self) -> Any:
        """Return the access rules, with the calls of `AgentFS.rules` to await."""
        return _Names(self._workers, self.sync.rules)

    def __getattr__(self, name: str) -> Any:
        """Tell a type checker that the methods of `AgentFS` are here; `_mirror` makes them."""
        raise AttributeError(f"AsyncAgentFS has no {name!r}")


async def _settled(
    running: Future[T], workers: _Workers | None = None, undo: Callable[..., Any] | None = None
) -> T:
    """Wait for a step to end even when cancelled, and then undo it if there is a way."""
    wrapped = asyncio.wrap_future(running)
    cancelled: asyncio.CancelledError | None = None
    while not wrapped.done():
        try:
            await asyncio.shield(wrapped)
        except asyncio.CancelledError as error:
            if wrapped.cancelled():
                raise
            cancelled = error
        except BaseException:
            break
    if cancelled is None:
        return wrapped.result()
    if workers is not None and undo is not None and wrapped.exception() is None:
        ended = (asyncio.CancelledError, cancelled, cancelled.__traceback__)
        await asyncio.wrap_future(workers.writer.submit(undo, *ended))
    raise cancelled


async def _iterate(
    workers: _Workers, batch: int, make: Callable[[], Iterator[T]]
) -> AsyncIterator[T]:
    iterator = await workers.read(make)
    running: Future[list[T]] | None = None
    try:
        while True:
            threads = workers.writer if workers.inside() else workers.readers
            running = threads.submit(lambda: list(islice(iterator, batch)))
            items = await asyncio.wrap_future(running)
            for item in items:
                yield item
            if not items:
                return
    finally:
        close = getattr(iterator, "close", None)
        if close is not None and running is not None:
            # A cancelled step may still be running, and a running generator cannot be closed.
            running.add_done_callback(lambda _: close())


def _next_row(watch: Watch) -> JournalRow | None:
    return next(watch, None)


class AsyncWatch:
    """`fs.watch(...)` to read with `async for`; `seq` is where to go on after a restart."""

    def __init__(self, make: Callable[[], Watch]) -> None:
        """Begin when the first row is asked for."""
        self._make = make
        self._watch: Watch | None = None
        self._stopped = False

    @property
    def seq(self) -> int | None:
        """Return the number of the last row, or None before the first step."""
        return None if self._watch is None else self._watch.seq

    def stop(self) -> None:
        """End the iteration, also while it waits."""
        self._stopped = True
        if self._watch is not None:
            self._watch.stop()

    async def __aiter__(self) -> AsyncIterator[JournalRow]:
        """Yield each row; it waits on a thread of its own."""
        with ThreadPoolExecutor(1, "agentfs-watch") as thread:
            try:
                watch = self._watch or await asyncio.wrap_future(thread.submit(self._make))
                self._watch = watch
                while not self._stopped:
                    row = await asyncio.wrap_future(thread.submit(_next_row, watch))
                    if row is None:
                        return
                    yield row
            finally:
                self.stop()


def _method(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method of `AsyncAgentFS` for one of `AgentFS`."""
    returned = str(function.__annotations__.get("return"))

    def iterate(self: AsyncAgentFS, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        make = functools.partial(getattr(self.sync, name), *arguments, **options)
        return _iterate(self._workers(), 1 if name in _ONE_BY_ONE else _BATCH, make)

    async def call(self: AsyncAgentFS, *arguments: Any, **options: Any) -> Any:
        workers = self._workers()
        run = workers.write if name in _WRITES else workers.read
        found = await run(getattr(self.sync, name), *arguments, **options)
        return self._same_volume(found) if isinstance(found, AgentFS) else found

    made = iterate if returned.startswith("Iterator[") else call
    functools.update_wrapper(made, function)
    del made.__dict__["__wrapped__"]  # or inspect would take the method for a plain function
    signature = inspect.signature(function)
    if made is iterate:
        signature = signature.replace(return_annotation=f"Async{returned}")
    made.__signature__ = signature  # type: ignore[attr-defined]
    made.__qualname__ = f"AsyncAgentFS.{name}"
    return made


def _passed_on(name: str, found: property) -> property:
    return property(lambda self: getattr(self.sync, name), doc=found.__doc__)


def _mirror() -> None:
    """Give `AsyncAgentFS` each public name of `AgentFS` that it does not define itself."""
    for name, member in vars(AgentFS).items():
        if name.startswith("_") or name in _OTHER_FORM or name in vars(AsyncAgentFS):
            continue
        if isinstance(member, property):
            setattr(AsyncAgentFS, name, _passed_on(name, member))
        elif inspect.isfunction(member):
            setattr(AsyncAgentFS, name, _method(name, member))


_mirror()

"""`AsyncAgentFS`: the same names for asyncio; each call runs on a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

from .filesystem import AgentFS

T = TypeVar("T")
_ITERATORS = frozenset({"walk", "glob", "grep", "diff", "journal"})
_HANDLES = frozenset({"fork", "at", "on"})
_DONE = object()


class AsyncAgentFS:
    """An `AgentFS` whose calls are awaited; `walk`, `glob`, `grep`, `diff`, `journal` iterate."""

    def __init__(self, fs: AgentFS) -> None:
        """Wrap an open handle."""
        self.sync = fs

    @classmethod
    async def open(cls, *arguments: Any, **options: Any) -> AsyncAgentFS:
        """Open a volume with the arguments of `AgentFS.open`."""
        return cls(await asyncio.to_thread(AgentFS.open, *arguments, **options))

    @property
    def branch(self) -> str:
        """Return the branch or snapshot that this handle is on."""
        return self.sync.branch

    async def transaction(self, body: Callable[[AgentFS], T]) -> T:
        """Run a function in one transaction on one thread; a transaction belongs to its thread."""

        def run() -> T:
            with self.sync.transaction() as fs:
                return body(fs)

        return await asyncio.to_thread(run)

    async def __aenter__(self) -> AsyncAgentFS:
        """Return the handle."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the handle."""
        await asyncio.to_thread(self.sync.close)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any] | AsyncIterator[Any]]:
        """Delegate a call to the handle of the same name."""
        function: Callable[..., Any] = getattr(self.sync, name)
        if name.startswith("_") or not callable(function):
            raise AttributeError(name)
        if name in _ITERATORS:
            return lambda *arguments, **options: _iterate(function, arguments, options)

        async def call(*arguments: Any, **options: Any) -> Any:
            found = await asyncio.to_thread(function, *arguments, **options)
            return AsyncAgentFS(found) if name in _HANDLES else found

        return call


async def _iterate(
    function: Callable[..., Iterator[T]], arguments: tuple[Any, ...], options: dict[str, Any]
) -> AsyncIterator[T]:
    iterator = await asyncio.to_thread(function, *arguments, **options)
    while (item := await asyncio.to_thread(next, iterator, _DONE)) is not _DONE:
        yield item  # type: ignore[misc]

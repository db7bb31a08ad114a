"""How a saver, store or backend gets its branch: from a file, an FMOS home or an open handle."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Any, Self

from agentfs import AgentFS
from fmos.config import Home

_HOME_VOLUME = "langgraph.afs"


class OnBranch:
    """What keeps its state on a branch: a context manager, for `with` and `async with`."""

    _fs: AgentFS
    _owns_fs: bool

    @property
    def fs(self) -> AgentFS:
        """The handle on the branch that holds the state."""
        return self._fs

    def close(self) -> None:
        """Close the volume, if this opened it."""
        if self._owns_fs:
            self._fs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)


def open_path(path: str | os.PathLike[str], branch: str | None, options: dict[str, Any]) -> AgentFS:
    """Open a volume, made when it is missing; `options` are those of `AgentFS.open`."""
    return AgentFS.open(path, branch=branch, system=True, **options)


def open_home(home: str | os.PathLike[str] | None) -> AgentFS:
    """Open `langgraph.afs` of an FMOS home, by default `$FMOS_HOME`, else `~/.fmos`."""
    folder = Home.open(home or Home.default_path(os.environ)).path
    return open_path(folder / _HOME_VOLUME, None, {})


def share(fs: AgentFS) -> AgentFS:
    """Return a handle on the branch of an open one that reaches the system area."""
    return fs.on(fs.branch, system=True)

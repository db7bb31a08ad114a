"""Keeps one agent's trap table: fetches it, checks it, and lets go of it in time.

Whatever is wrong with a table means that there is none, and without one everything traps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from fmos.clock import Clock
from fmos.errors import FmosError
from fmos.traps.table import TrapTable, read_table
from fmos.traps.wire import Expected, TableError, check

_RETRY_NS = 1_000_000_000


class TableKeeper:
    """The table of one agent. Not thread-safe: its owner locks."""

    def __init__(
        self,
        fetch: Callable[[], Mapping[str, Any]],
        public_key: Callable[[], str | None],
        *,
        tenant: str,
        agent: str,
        clock: Clock,
        steady_ns: Callable[[], int],
        model: str = "",
    ) -> None:
        """Fetch with `fetch`; `model` is the digest of the learned traps that are at hand."""
        self._fetch = fetch
        self._public_key = public_key
        self._tenant, self._agent = tenant, agent
        self._clock, self._steady_ns = clock, steady_ns
        self._model = model
        self._table: TrapTable | None = None
        self._until_ns = 0
        self._retry_ns: int | None = None
        self._serial = 0
        self._problem = ""
        self._told = ""

    def current(self) -> TrapTable | None:
        """Return the table that may be used now, fetching one where need be; None: trap."""
        table = self._table
        if table is not None and self._is_current(table):
            return table
        if self._retry_ns is None or self._steady_ns() >= self._retry_ns:
            self._refetch()
        return self._table

    def drop(self) -> None:
        """Let go of the table: the next operation fetches one."""
        self._table = None
        self._retry_ns = None

    def answered(self, version: object) -> None:
        """Drop the table if an answer of the server names another version."""
        if self._table is not None and version and version != self._table.version:
            self.drop()

    def new_problem(self) -> str:
        """Return why there is no table, once for each reason; else nothing."""
        if self._problem == self._told:
            return ""
        self._told = self._problem
        return self._problem

    def _is_current(self, table: TrapTable) -> bool:
        """Whether both clocks still allow it: neither alone may be trusted with its age."""
        now_ns = self._clock.now_ns()
        return table.issued_ns <= now_ns < table.expires_ns and self._steady_ns() < self._until_ns

    def _refetch(self) -> None:
        self._table = None
        asked_ns = self._steady_ns()
        try:
            document = self._fetch()
            self._take(document, asked_ns)
        except (FmosError, ValidationError, ValueError, TypeError, RecursionError) as error:
            self._problem = _sentence(error)
            self._retry_ns = self._steady_ns() + _RETRY_NS

    def _take(self, document: Mapping[str, Any], asked_ns: int) -> None:
        """Check a document and keep its table; its lifetime counts from when it was asked for."""
        expected = Expected(
            self._public_key(), self._tenant, self._agent, self._clock.now_ns(), self._serial
        )
        check(document, expected)
        table = read_table(document)
        if table.model and table.model != self._model:
            raise TableError(
                f"the trap table needs the learned traps {table.model[:12]!r} and this session has"
                f" {self._model[:12] or 'none'!r}, so every operation traps",
                hint="give the governor the artefact that the policy names",
            )
        self._table = table
        self._serial = table.serial
        self._until_ns = asked_ns + table.expires_ns - table.issued_ns
        self._retry_ns = None
        self._problem = self._told = ""


def _sentence(error: Exception) -> str:
    if isinstance(error, FmosError):
        return str(error)
    return (
        "the trap table is not used, so every operation traps:"
        f" it cannot be read ({type(error).__name__})"
    )

"""The tables of a report: rows of journals in DuckDB, and the SQL over them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

from fmos.errors import ArgumentError, MissingExtraError, StorageError
from fmos.report.source import Batch, batches
from fmos.storage import wholefile

#: What calls may be grouped by, and its SQL.
GROUPS: dict[str, str] = {
    "tenant": "tenant",
    "application": "application",
    "agent": "agent",
    "session": "session",
    "tool": "name",
    "kind": "kind",
    "day": "strftime(day, '%Y-%m-%d')",
    "decision": "decision",
    "reason": "reason",
}

#: The share of turns that has to be within a contract's `turn_ms`; the rest is the error budget.
OBJECTIVE = 0.95

_MEMORY = "1GB"
_NEVER_NS = (1 << 63) - 1

Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report; `units` has those of the columns that have one."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows as JSON objects."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Analysis:
    """The calls of some volumes in one DuckDB database, in memory and beyond 1 GB on the disk."""

    def __init__(self) -> None:
        try:
            import duckdb  # noqa: PLC0415 - an extra
            import numpy as np  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError(
                f"a report needs DuckDB ({error})", hint='pip install "fmos[analytics]"'
            ) from error
        self._numpy = np
        self._folder = tempfile.TemporaryDirectory(prefix="fmos-report-")
        self._database = duckdb.connect(":memory:")
        spill = self._folder.name.replace("'", "''")
        self._database.execute(f"SET memory_limit = '{_MEMORY}'; SET temp_directory = '{spill}'")
        self._database.execute(
            "SET enable_progress_bar = false; SET preserve_insertion_order = false"
        )
        self._database.execute(_sql("tables"))
        self.rows = 0

    def __enter__(self) -> Analysis:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def load(
        self,
        volumes: Iterable[tuple[str, Path]],
        *,
        since_ns: int = 0,
        until_ns: int = _NEVER_NS,
        slo_ms: Mapping[str, float] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Read volumes of tenants, within a time; `slo_ms` is the `turn_ms` of agents by name.

        Raises:
            FormatError: naming the volume that cannot be read.
        """
        for tenant, path in volumes:
            for batch in batches(path, since_ns, until_ns):
                self._take(tenant, batch)
                self.rows += len(batch)
                if progress is not None:
                    progress(tenant, self.rows)
        for agent, milliseconds in (slo_ms or {}).items():
            self._database.execute("INSERT INTO slo VALUES (?, ?)", [agent, milliseconds])
        self._database.execute(_sql("calls"))

    def overview(self) -> list[Table]:
        """Return the default report: what there was, by agent, by tool, and what went wrong."""
        return [
            self.table("totals", "In all"),
            self.table("agents", "By agent"),
            self.table("spend", "Spend by agent and resource"),
            self.table("tools", "Latency by tool and model"),
            self.table("denials", "Denials by reason"),
            self.table("signals", "Traps by signal"),
            self.table(
                "turns", f"Turns against the contract's turn_ms ({OBJECTIVE:.0%} within it)"
            ),
        ]

    def table(self, name: str, title: str) -> Table:
        """Return one of the tables whose SQL lies beside this module."""
        return self._result(
            name, title, _sql(name), {"objective": OBJECTIVE} if name == "turns" else {}
        )

    def by(self, groups: Sequence[str]) -> Table:
        """Return calls, denials, latency and spend by some of `GROUPS`.

        Raises:
            ArgumentError: naming a group that there is not.
        """
        for group in groups:
            if group not in GROUPS:
                raise ArgumentError(
                    f"calls cannot be grouped by {group!r}", hint=f"use {', '.join(GROUPS)}"
                )
        chosen = list(dict.fromkeys(groups))
        named = ", ".join(f"{GROUPS[each]} AS {each}" for each in chosen)
        places = ", ".join(str(number) for number in range(1, len(chosen) + 1))
        source = _sql("grouped").replace("{named}", named).replace("{places}", places)
        source = source.replace("{calls}", "reasoned" if "reason" in chosen else "calls")
        return self._result("grouped", f"By {', '.join(chosen)}", source, {})

    def write_parquet(self, folder: Path, tables: Iterable[Table]) -> list[Path]:
        """Write every call as `calls.parquet`, and each table as a file of its name.

        Raises:
            StorageError: if the folder cannot be written to.
        """
        written: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("calls", *(each.name for each in tables)):
                path = folder / f"{name}.parquet"
                source = "calls" if name == "calls" else f"last_{name}"
                with wholefile.draft(path) as draft:
                    quoted = str(draft).replace("'", "''")
                    self._database.execute(f"COPY {source} TO '{quoted}' (FORMAT parquet)")
                written.append(path)
        except (OSError, self._error()) as error:
            raise StorageError(
                f"cannot write Parquet files to {str(folder)!r}: {error}",
                hint="choose another folder for --parquet",
            ) from error
        return written

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT over the tables `calls`, `reasoned` and `spent`."""
        return self._database.execute(sql).fetchall()

    def _take(self, tenant: str, batch: Batch) -> None:
        seq, time_ns, principal, operation, detail = zip(*batch, strict=True)
        array = self._numpy.array
        staged = {
            "tenant": array([tenant] * len(batch), dtype=object),
            "seq": array(seq, dtype="int64"),
            "time_ns": array(time_ns, dtype="int64"),
            "principal": array(principal, dtype=object),
            "operation": array(operation, dtype=object),
            "detail": array(detail, dtype=object),
        }
        self._database.register("staged", staged)
        self._database.execute(_sql("take"))
        self._database.unregister("staged")

    def _result(self, name: str, title: str, sql: str, values: dict[str, Any]) -> Table:
        made = f"CREATE OR REPLACE TEMP TABLE last_{name} AS {sql}"
        self._database.execute(made, values or None)
        found = self._database.execute(f"SELECT * FROM last_{name}")
        columns = tuple(str(each[0]) for each in found.description or ())
        return Table(name, title, columns, tuple(found.fetchall()))

    @staticmethod
    def _error() -> type[Exception]:
        import duckdb  # noqa: PLC0415 - an extra

        return duckdb.Error


def _sql(name: str) -> str:
    return resources.files("fmos.report").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")

"""The SQL verifier: parses, reads only, uses what is there, and gives the rows that it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import sqlglot
from sqlglot import errors, exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import traverse_scope

from fmos.verify.model import Claim, Context, Finding, refuted, supported, undecided
from fmos.verify.select_run import NotRun, run_select

#: A parsed statement; sqlglot's name for its class differs between versions.
_Tree: TypeAlias = Any

_MAX_CHARACTERS = 20_000
_MAX_DEPTH = 60
_MAX_STATEMENTS = 50
_READING = (exp.Query, exp.Values, exp.Describe, exp.Show)
_CHANGING = (
    exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.Into,
    exp.TruncateTable, exp.Command, exp.Pragma, exp.Set, exp.Attach, exp.Detach, exp.Copy,
    exp.Lock,
)  # fmt: skip


class SqlVerifier:
    """Checks SQL against a dialect, a schema and, where rows are given, what it returns."""

    name = "sql"
    claim_types = ("sql",)
    cost: ClassVar[Mapping[str, int]] = {"verifier_runs": 1}

    def check(self, claim: Claim, context: Context) -> Finding:
        """Return whether every statement parses, only reads, and uses known tables and columns."""
        text = claim.text
        if len(text) > _MAX_CHARACTERS or text.count("(") > 2_000 or _depth(text) > _MAX_DEPTH:
            return undecided("it is too long or too deeply nested to be looked at")
        dialect = str(claim.content.get("dialect", context.dialect))
        try:
            statements = [each for each in sqlglot.parse(text, read=dialect or None) if each]
        except (errors.SqlglotError, ValueError) as error:
            return refuted(f"it does not parse: {_first_line(error)}")
        except RecursionError:
            return undecided("it is too deeply nested to be looked at")
        if not statements or len(statements) > _MAX_STATEMENTS:
            return undecided(f"it has {len(statements)} statements")
        return self._looked_at(statements, claim, context, dialect)

    def _looked_at(
        self, statements: Sequence[_Tree], claim: Claim, context: Context, dialect: str
    ) -> Finding:
        said = [f"{_count(len(statements))} parsed"]
        try:
            if claim.content.get("read_only", context.read_only):
                for statement in statements:
                    changes = _change(statement)
                    if changes:
                        return refuted(f"it does not only read: {changes}")
                said.append("only reads")
            tables = claim.content.get("tables", context.tables)
            if tables is not None:
                for statement in statements:
                    unknown = _unknown(statement, tables, dialect)
                    if unknown:
                        return refuted(unknown)
                said.append("tables and columns are there")
        except RecursionError:
            return undecided("it is too deeply nested to be looked at")
        rows = claim.content.get("rows", context.rows)
        if rows is None:
            return supported(", ".join(said), confidence=0.8 if len(said) < 3 else 0.9)
        return _ran(statements, claim, context, rows)


def _change(statement: _Tree) -> str:
    """Return what a statement does beside reading, or an empty text."""
    if not isinstance(statement, _READING):
        return statement.key.upper()
    found = next((node for node in statement.walk() if isinstance(node, _CHANGING)), None)
    return found.key.upper() if found is not None else ""


def _unknown(statement: _Tree, tables: Mapping[str, Mapping[str, str]], dialect: str) -> str:
    """Return which table or column is not in the schema, or an empty text."""
    if not isinstance(statement, exp.Query):
        return ""
    known = {name.lower() for name in tables}
    for scope in traverse_scope(statement):
        for source in scope.sources.values():
            if isinstance(source, exp.Table) and source.name.lower() not in known:
                return f"there is no table {source.name!r}; there is {', '.join(sorted(tables))}"
    schema: dict[str, object] = {name: dict(columns) for name, columns in tables.items()}
    try:
        qualify(statement.copy(), schema=schema, dialect=dialect or None, quote_identifiers=False)
    except errors.SqlglotError as error:
        return f"{_first_line(error)}"
    return ""


def _ran(statements: Sequence[_Tree], claim: Claim, context: Context, rows: Any) -> Finding:
    """Run a SELECT on the rows that are given, and compare what it returns."""
    if len(statements) != 1 or not isinstance(statements[0], exp.Query) or _change(statements[0]):
        return undecided("only one SELECT can be run")
    tables = claim.content.get("tables", context.tables) or {}
    try:
        got = run_select(statements[0].sql(dialect="sqlite"), tables, rows)
    except NotRun as error:
        return refuted(str(error)) if error.is_wrong else undecided(str(error))
    expected = claim.content.get("expected")
    if expected is None:
        return supported(f"it ran and returned {len(got)} rows", *map(str, got[:5]))
    wanted = [tuple(row.values()) if isinstance(row, dict) else tuple(row) for row in expected]
    ordered = bool(statements[0].args.get("order"))
    same = got == wanted if ordered else sorted(map(repr, got)) == sorted(map(repr, wanted))
    shown = [str(row) for row in got[:5]]
    if same:
        return supported(f"it returned the {len(got)} expected rows", *shown)
    return refuted(f"it returned {len(got)} rows and not those expected", *shown)


def _first_line(error: Exception) -> str:
    line = str(error).split("\n", 1)[0].replace("\x1b[4m", "").replace("\x1b[0m", "")
    return line if len(line) <= 200 else line[:197] + "..."


def _count(number: int) -> str:
    return f"{number} statement{'' if number == 1 else 's'}"


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        deepest = max(deepest, depth)
    return max(deepest, text.upper().count("CASE"), text.upper().count(" NOT "))

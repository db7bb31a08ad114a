"""The JSON and SQL verifiers."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("sqlglot", reason="extra `verifiers`")
pytest.importorskip("jsonschema_rs", reason="extra `verifiers`")

from fmos.verify.json_text import JsonVerifier
from fmos.verify.model import Claim, Context, Finding
from fmos.verify.sql import SqlVerifier

TABLES = {"users": {"id": "int", "name": "text"}, "orders": {"id": "int", "user_id": "int"}}
ROWS = {"users": [{"id": 1, "name": "ada"}, {"id": 2, "name": "bob"}]}


def json(text: str, schema: Any = None) -> Finding:
    """What the JSON verifier says."""
    claim = Claim(type="json", text=text, content={} if schema is None else {"schema": schema})
    return JsonVerifier().check(claim, Context())


def sql(text: str, **content: Any) -> Finding:
    """What the SQL verifier says."""
    claim = Claim(type="sql", text=text, content=content)
    return SqlVerifier().check(claim, Context(tables=TABLES))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"x": [{"b": 1, "b": 1}]}', "'b' is there twice"),
        ("[1,", "not JSON"),
        ('{"a": NaN}', "no number of JSON"),
        ("[" * 5_000, "nested"),
        ("1" * 5_000, "not JSON"),
    ],
)
def test_what_is_not_strict_json_is_refuted(text: str, said: str) -> None:
    """Keys that are there twice, cut documents and numbers that JSON lacks."""
    found = json(text)
    assert (found.verdict, said in found.explanation) == ("refuted", True)


def test_json_is_checked_against_its_schema() -> None:
    """The finding names the place and what the schema wants there."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert json('{"a": 1}', schema).verdict == "supported"
    wrong = json('{"a": "x"}', schema)
    assert wrong.verdict == "refuted"
    assert wrong.explanation.endswith('/a: "x" is not of type "integer"')
    assert json('{"a": 1}').verdict == "supported"


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:1/x"}, {"$ref": "file:///etc/x"}, 3]
)
def test_a_schema_that_cannot_be_used_decides_nothing(schema: Any) -> None:
    """A wrong schema, or one that would load another from elsewhere, is not followed."""
    assert json("1", schema).verdict == "undecided"


def test_patterns_of_a_schema_take_linear_time() -> None:
    """A pattern that backtracks elsewhere does not here."""
    start = time.process_time()
    found = json('"' + "a" * 50_000 + '!"', {"type": "string", "pattern": "^(a+)+$"})
    assert found.verdict == "refuted"
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELEC 1", "does not parse"),
        ("SELECT FROM WHERE", "does not parse"),
        ("DELETE FROM users", "DELETE"),
        ("SELECT id FROM users; DROP TABLE users", "DROP"),
        ("SELECT * INTO y FROM users", "INTO"),
        ("WITH d AS (DELETE FROM users RETURNING id) SELECT * FROM d", "DELETE"),
        ("PRAGMA user_version = 1", "PRAGMA"),
        ("INSERT INTO users SELECT 1, 'a'", "INSERT"),
        ("SELECT nme FROM users", "nme"),
        ("SELECT u.id FROM user u", "no table 'user'"),
        ("SELECT id FROM (SELECT name FROM users) t", "id"),
    ],
)
def test_sql_that_is_wrong_or_changes_something_is_refuted(text: str, said: str) -> None:
    """What does not parse, writes, or names what is not in the schema."""
    found = sql(text)
    assert (found.verdict, said in found.explanation) == ("refuted", True), found


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT u.name, count(*) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.name",
        "WITH x AS (SELECT id FROM users) SELECT id FROM x",
        "SELECT id FROM users UNION SELECT user_id FROM orders",
    ],
)
def test_sql_that_reads_what_is_there_is_supported(text: str) -> None:
    """Joins, common table expressions and unions of known tables."""
    assert sql(text).verdict == "supported", sql(text)


def test_writing_may_be_allowed_by_the_claim() -> None:
    """With `read_only: false` a statement that writes is only parsed."""
    assert sql("DELETE FROM users", read_only=False).verdict == "supported"


def test_a_select_is_run_on_the_given_rows() -> None:
    """What it returns is compared with what it should; order counts where it is asked for."""
    by_id = "SELECT name FROM users WHERE id = 2"
    assert sql(by_id, rows=ROWS, expected=[["bob"]]).verdict == "supported"
    assert sql(by_id, rows=ROWS, expected=[["ada"]]).verdict == "refuted"
    names = "SELECT name FROM users"
    assert sql(names, rows=ROWS, expected=[["bob"], ["ada"]]).verdict == "supported"
    ordered = f"{names} ORDER BY name"
    assert sql(ordered, rows=ROWS, expected=[["bob"], ["ada"]]).verdict == "refuted"
    assert (
        sql(ordered, rows=ROWS, expected=[{"name": "ada"}, {"name": "bob"}]).verdict == "supported"
    )


@pytest.mark.parametrize(
    "text",
    [
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
        "SELECT printf('%.*c', 100000000, 'x')",
        "SELECT replace(hex(zeroblob(100000000)), '00', 'xxxxxxxx')",
        "SELECT load_extension('x')",
    ],
)
def test_a_run_has_limits(text: str) -> None:
    """Endless recursion, large values and functions that reach outside are stopped."""
    start = time.monotonic()
    assert sql(text, rows=ROWS).verdict != "supported"
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "text",
    ["(" * 5_000, "SELECT " + "NOT " * 3_000 + "1", "SELECT " + "1+" * 9_000 + "1", "x " * 9_000],
)
def test_hostile_sql_ends(text: str) -> None:
    """Nesting and length do not crash the parser."""
    start = time.process_time()
    sql(text)
    assert time.process_time() - start < 5

"""The class of an SQL statement: what it may change, by reading it with sqlglot.

What databases read differently (comments that run, `#`, backslashes in strings) is refused.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from fmos.errors import MissingExtraError
from fmos_trust.operators.model import text_of, unreadable

SqlClass = Literal["select", "insert", "update", "delete", "ddl", "admin"]

#: From the weakest to the strongest.
CLASSES: tuple[SqlClass, ...] = ("select", "insert", "update", "delete", "ddl", "admin")
_MOST = 2_000
_QUIET = logging.NullHandler()
_DEEPEST = 40
_MOST_STATEMENTS = 20
_DOUBT = re.compile(r"/\*[!+M]|\\|#|\$\w*\$|--(?=[^\s-])|\0")
_NAMES: dict[str, SqlClass] = {
    "Insert": "insert", "Merge": "update", "Update": "update", "Delete": "delete",
    "Create": "ddl", "Drop": "ddl", "Alter": "ddl", "TruncateTable": "ddl", "Into": "ddl",
    "AlterColumn": "ddl", "Comment": "ddl", "Refresh": "ddl",
}  # fmt: skip
_ADMIN = frozenset((
    "Command", "Pragma", "Set", "Attach", "Detach", "Copy", "Grant", "Revoke", "Kill", "Use",
    "Transaction", "Commit", "Rollback", "LoadData", "Cache", "Uncache", "Analyze", "Execute",
    "Put", "Get", "Install", "Export", "Lock",
))  # fmt: skip
_READING = frozenset(("Select", "Union", "Except", "Intersect", "Values", "Describe", "Show",
                      "Subquery", "SetOperation", "With", "Table", "Paren"))  # fmt: skip
#: Functions that change something, run something, or reach beyond the database.
_ACTING = re.compile(
    r"(?:pg_(?!typeof|column_size|size_pretty|get_|table_is_|relation_size|total_relation)\w*"
    r"|lo_\w+|dblink\w*|setval|nextval|set_config|query_to_xml\w*|xp_\w+|sp_\w+|sys_\w+"
    r"|load_(?:extension|file)|writefile|readfile|edit|openrowset|opendatasource|exec\w*"
    r"|copy_\w+|sleep|benchmark|get_lock|release_lock|read_(?:csv|json|parquet|text|blob)\w*"
    r"|utl_\w+|dbms_\w+|file\w*|url|s3|remote\w*|system\w*|fts3_tokenizer)"
)


@dataclass(frozen=True, slots=True)
class SqlValue:
    """Statements as they were given. `kind` is the strongest of their `classes`."""

    text: str
    kind: SqlClass
    classes: tuple[SqlClass, ...]

    @property
    def statements(self) -> int:
        """How many statements there are."""
        return len(self.classes)


def sql_of(value: str, dialect: str = "") -> SqlValue:
    """Return the class of one or more SQL statements.

    Raises:
        OperatorError: if it does not parse, is too long or deep, or databases read it differently.
        MissingExtraError: if sqlglot is not installed.
    """
    return _read(text_of("SQL", value, _MOST), dialect)


@functools.lru_cache(maxsize=512)
def _read(value: str, dialect: str) -> SqlValue:
    text = value
    doubt = _DOUBT.search(text)
    if doubt:
        raise unreadable("SQL", value, f"databases read {doubt[0]!r} in different ways")
    if _depth(text) > _DEEPEST:
        raise unreadable("SQL", value, "it is nested too deeply")
    trees = _parsed(text, dialect, value)
    if not trees or len(trees) > _MOST_STATEMENTS:
        raise unreadable("SQL", value, f"it has {len(trees)} statements")
    classes: tuple[SqlClass, ...] = tuple(_class_of(tree) for tree in trees)
    return SqlValue(text.strip(), _strongest(classes), classes)


def _parsed(text: str, dialect: str, value: str) -> list[Any]:
    try:
        import sqlglot  # noqa: PLC0415 - a heavy, optional library
        from sqlglot.errors import SqlglotError  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "SQL is judged with sqlglot, which is not installed",
            hint='install it with: pip install "fmos[servers]"',
        ) from error
    logging.getLogger("sqlglot").addHandler(_QUIET)  # else its warnings go to stderr
    try:
        found = sqlglot.parse(text, read=dialect or None)
        return [tree for tree in found if tree is not None]
    except (SqlglotError, ValueError, RecursionError, IndexError, KeyError,
            AttributeError, TypeError):  # fmt: skip
        raise unreadable("SQL", value, "it does not parse") from None


def _class_of(tree: Any) -> SqlClass:
    name = type(tree).__name__
    known = name in _READING or name in _NAMES
    found: list[SqlClass] = [] if known else ["admin"]
    for node in tree.walk():
        found.extend(_classes_of(node))
    return _strongest(found)


def _strongest(found: Iterable[SqlClass]) -> SqlClass:
    known = set(found)
    strongest: SqlClass = "select"
    for each in CLASSES:
        strongest = each if each in known else strongest
    return strongest


def _classes_of(node: Any) -> Iterator[SqlClass]:
    name = type(node).__name__
    if name in _NAMES:
        yield _NAMES[name]
    acts = name == "Anonymous" and _ACTING.fullmatch(str(node.this).lower())
    if acts or name in _ADMIN or name.startswith(("Read", "Load", "Next", "Sleep")):
        yield "admin"


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        deepest = max(deepest, depth)
    words = len(re.findall(r"\b(?:not|case|select|union|and|or)\b", text, re.IGNORECASE))
    return max(deepest, words // 25)

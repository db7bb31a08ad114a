"""What people write into rules in other languages: CEL, RE2 and JSON Schema, checked as it is read.

The libraries are those of the extra `servers`, imported only where a document has such a text.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fmos.errors import MissingExtraError

if TYPE_CHECKING:
    from cel import Program

#: What an expression may name.
VARIABLES = ("args", "counters", "ledger", "principal", "provenance", "time", "tool")

_KEPT = 8192


@functools.lru_cache(maxsize=_KEPT)
def program(expression: str) -> Program:
    """Return a CEL expression ready to be asked; the same text gives the same object.

    Raises:
        ValueError: if it is none.
        MissingExtraError: without the extra `servers`.
    """
    return _library("cel").compile(expression)


@functools.lru_cache(maxsize=_KEPT)
def pattern(text: str) -> Any:
    """Return an RE2 pattern ready to be asked.

    Raises:
        ValueError: if it is none.
        MissingExtraError: without the extra `servers`.
    """
    library = _library("re2")
    options = library.Options()
    options.log_errors = False
    try:
        return library.compile(text, options)
    except library.error as error:
        said = error.args[0] if error.args else error
        raise ValueError(said.decode() if isinstance(said, bytes) else str(said)) from error


def validator(schema: Mapping[str, Any]) -> Any:
    """Return a JSON Schema ready to be asked; its patterns take linear time.

    Raises:
        ValueError: if it is none.
        MissingExtraError: without the extra `servers`.
    """
    library = _library("jsonschema_rs")
    try:
        return library.validator_for(
            dict(schema), pattern_options=library.RegexOptions(), retriever=_refuse_to_fetch
        )
    except (library.ValidationError, library.ReferencingError) as error:
        raise ValueError(getattr(error, "message", str(error))) from error


def expression_problem(expression: str) -> str:
    """Return what a CEL expression would have to be like, if it cannot be used; else nothing."""
    try:
        found = program(expression)
    except ValueError as error:
        return f"a CEL expression ({_first_line(error)})"
    bound = _bound_names(expression)
    for name in found.variables():
        if name not in VARIABLES and name not in bound:
            return f"a CEL expression over {', '.join(VARIABLES)}, not {name!r}"
    return ""


def pattern_problem(text: str) -> str:
    """Return what a pattern would have to be like, if it cannot be used; else nothing."""
    try:
        pattern(text)
    except ValueError as error:
        return f"an RE2 pattern ({_first_line(error)})"
    return ""


def schema_problem(schema: Mapping[str, Any]) -> str:
    """Return what a JSON Schema would have to be like, if it cannot be used; else nothing."""
    try:
        validator(schema)
    except ValueError as error:
        return f"a JSON Schema ({_first_line(error)})"
    return ""


def _bound_names(expression: str) -> frozenset[str]:
    """Return the names that macros such as `all(x, ...)` bind: those that follow a bracket."""
    found = pattern(r"\.(?:all|exists|exists_one|filter|map)\(\s*([A-Za-z_][A-Za-z0-9_]*)\s*,")
    return frozenset(found.findall(expression))


def _refuse_to_fetch(address: str) -> Any:
    raise ValueError(f"{address!r} would have to be fetched; write the schema out")


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.rpartition("ERROR: ")[2].partition(" expecting ")[0][:200]


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"trust policies need {name!r} for their expressions, patterns and schemas",
            hint='pip install "fmos[servers]"',
        ) from error

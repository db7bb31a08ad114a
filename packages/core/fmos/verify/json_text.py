"""The JSON verifier: well-formed, no key twice, and as its schema says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import jsonschema_rs

from fmos.verify.model import Claim, Context, Finding, refuted, supported, undecided

_MAX_CHARACTERS = 1_000_000
_MAX_DEPTH = 200
_MAX_SHOWN = 5


class _Twice(ValueError):
    """A key is there twice."""


class JsonVerifier:
    """Parses JSON strictly, refuses a key that is there twice, and validates by a JSON schema.

    Patterns are matched in linear time, and a schema never loads another one from elsewhere.
    """

    name = "json"
    claim_types = ("json",)
    cost: ClassVar[Mapping[str, int]] = {"verifier_runs": 1}

    def check(self, claim: Claim, context: Context) -> Finding:
        """Return whether the claim's text is JSON that fits the schema."""
        text = claim.text
        if len(text) > _MAX_CHARACTERS:
            return undecided(f"it has more than {_MAX_CHARACTERS} characters")
        if _depth(text) > _MAX_DEPTH:
            return refuted(f"it is nested more than {_MAX_DEPTH} deep")
        try:
            value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        except _Twice as error:
            return refuted(str(error))
        except json.JSONDecodeError as error:
            return refuted(f"it is not JSON: {error.msg} at line {error.lineno}")
        except (ValueError, RecursionError) as error:
            return refuted(f"it is not JSON: {error}")
        schema = claim.content.get("schema", context.schema)
        if schema is None:
            return supported("it is JSON and no key is there twice", confidence=0.8)
        return _validated(value, schema)


def _validated(value: Any, schema: Any) -> Finding:
    try:
        validator = jsonschema_rs.validator_for(
            schema,
            pattern_options=jsonschema_rs.RegexOptions(),
            retriever=_no_other,
            validate_formats=True,
        )
        errors = []
        for error in validator.iter_errors(value):
            errors.append(error)
            if len(errors) > _MAX_SHOWN:
                break
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        return undecided(f"the schema cannot be used: {_first_line(error)}")
    if not errors:
        return supported("it is JSON as the schema says")
    lines = [f"{_place(error)}: {_first_line(error)}" for error in errors[:_MAX_SHOWN]]
    return refuted(f"it does not fit the schema: {lines[0]}", *lines)


def _place(error: Any) -> str:
    return "/" + "/".join(str(part) for part in error.instance_path)


def _first_line(error: Exception) -> str:
    message = str(getattr(error, "message", error)).split("\n", 1)[0]
    return message if len(message) <= 200 else message[:197] + "..."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise _Twice(f"the key {twice[:80]!r} is there twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _no_other(uri: str) -> Any:
    raise ValueError(f"a schema may not load {uri!r}")


def _depth(text: str) -> int:
    """Return how deep brackets are nested outside of texts; more than there can be is no harm."""
    depth = deepest = 0
    inside = escaped = False
    for char in text:
        if inside:
            inside, escaped = escaped or char != '"', char == "\\" and not escaped
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest

"""What is wrong with a call's arguments by the schema of its tool, and how to repair it.

Every violation is listed. Schemas are the application's: patterns run in linear time, and nothing
is ever fetched.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fmos.errors import MissingExtraError
from fmos.traps.manifest import ToolDescriptor

if TYPE_CHECKING:
    import jsonschema_rs

Kind = Literal["missing", "extra", "type", "enum", "value"]

_KEPT = 4096
_MOST = 20
_SHOWN = 80
_NEAR = 0.6
#: With one of these a schema may allow arguments that its `properties` do not name.
_OPEN = frozenset(
    {
        "additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames",
        "allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "if", "dependentSchemas",
    }
)  # fmt: skip
_CALLED = {
    "string": "text", "integer": "an integer", "number": "a number", "boolean": "true or false",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """One violation: where (a JSON pointer), what, and the repair where it is certain."""

    kind: Kind
    pointer: str
    message: str
    change: str = ""


class UnreadableSchemaError(ValueError):
    """A tool's schema is no JSON schema."""


class Schemas:
    """The schemas of tools, compiled once for each descriptor. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[ToolDescriptor, jsonschema_rs.Validator]] = {}

    def problems(self, tool: ToolDescriptor, arguments: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with arguments; nothing for a tool without a schema.

        An argument that may be left out may also be null.

        Raises:
            UnreadableSchemaError: if the tool's schema is none.
            MissingExtraError: if jsonschema-rs is not installed.
        """
        schema = tool.input_schema
        if schema is None:
            return []
        required = schema.get("required") or ()
        given = {
            name: value
            for name, value in arguments.items()
            if value is not None or name in required or name not in (schema.get("properties") or {})
        }
        validator = self._validator(tool)
        if validator.is_valid(given) and not _undeclared(schema, given):
            return []
        return list(_problems(schema, validator, given))[:_MOST]

    def _validator(self, tool: ToolDescriptor) -> jsonschema_rs.Validator:
        known = self._known.get(id(tool))
        if known is not None and known[0] is tool:
            return known[1]
        made = _compiled(tool.input_schema)
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[id(tool)] = (tool, made)
        return made


def nearest(name: str, names: Iterator[str] | list[str], least: float = _NEAR) -> str:
    """Return the name that is most like another, or an empty text."""
    plain = {each.casefold().replace("-", "_"): each for each in names}
    found = difflib.get_close_matches(name.casefold().replace("-", "_"), list(plain), 1, least)
    return plain[found[0]] if found else ""


def _compiled(schema: Any) -> jsonschema_rs.Validator:
    try:
        import jsonschema_rs  # noqa: PLC0415 - only servers need it
    except ImportError as error:
        raise MissingExtraError(
            "the arguments of tools cannot be checked: jsonschema-rs is not installed",
            hint='pip install "fmos[servers]"',
        ) from error
    try:
        return jsonschema_rs.validator_for(
            schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, TypeError) as error:
        raise UnreadableSchemaError(str(error).split("\n", 1)[0]) from error


def _undeclared(schema: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return the arguments that a schema does not name, where it says nothing of others."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not _OPEN.isdisjoint(schema):
        return []
    return [name for name in given if name not in properties]


def _problems(
    schema: Mapping[str, Any], validator: jsonschema_rs.Validator, given: Mapping[str, Any]
) -> Iterator[Problem]:
    names = schema.get("properties")
    properties: Mapping[str, Any] = names if isinstance(names, Mapping) else {}
    errors: list[Any] = list(validator.iter_errors(dict(given)))
    extra = _undeclared(schema, given)
    extra += [
        name
        for each in errors
        if each.kind.name == "additionalProperties" and not each.instance_path
        for name in each.kind.unexpected
    ]
    missing = [
        str(each.kind.property)
        for each in errors
        if each.kind.name == "required" and not each.instance_path
    ]
    free = [name for name in properties if name not in given]
    for name in extra:
        yield _extra(name, missing, free, properties)
    meant = {nearest(name, missing) for name in extra}
    for name in missing:
        if name not in meant:
            yield _missing(name, properties.get(name))
    for each in errors:
        if each.instance_path or each.kind.name not in ("additionalProperties", "required"):
            yield _wrong(each)


def _extra(
    name: str, missing: list[str], free: list[str], properties: Mapping[str, Any]
) -> Problem:
    pointer = _pointer([name])
    meant = nearest(name, missing) or nearest(name, free)
    if meant:
        change = f"use {meant!r} in place of {name!r}"
        return Problem("extra", pointer, f"there is no argument {name!r}", change)
    known = ", ".join(properties) or "none"
    message = f"there is no argument {name!r} (the tool has: {known})"
    return Problem("extra", pointer, message, f"leave {name!r} out")


def _missing(name: str, schema: Any) -> Problem:
    wanted = _wanted(schema)
    said = f": {wanted}" if wanted else ""
    change = f"add {name!r}, {wanted}" if wanted else f"add {name!r}"
    return Problem("missing", _pointer([name]), f"the argument {name!r} is missing{said}", change)


def _wrong(error: Any) -> Problem:
    """Return a violation of what one value must be."""
    pointer, value = _pointer(error.instance_path), error.instance
    name = str(error.instance_path[0]) if error.instance_path else ""
    found = _innermost(error)
    types: list[str] = sorted(
        {str(kind) for each in found if each.name == "type" for kind in each.types}
    )
    options = [one for each in found if each.name == "enum" for one in each.options]
    if error.kind.name == "required":
        inner = str(error.kind.property)
        message = f"{inner!r} is missing in {pointer}"
        return Problem("missing", f"{pointer}/{inner}", message, f"add {inner!r} there")
    if error.kind.name == "additionalProperties":
        extra = ", ".join(map(repr, error.kind.unexpected))
        return Problem("extra", pointer, f"{pointer} has no {extra}", f"leave {extra} out")
    if options and (not types or _is_of(value, types) or isinstance(value, str)):
        return _not_listed(pointer, value, options)
    if types:
        wanted = " or ".join(_CALLED.get(kind, str(kind)) for kind in types if kind != "null")
        message = f"{pointer} must be {wanted}, got {_shown(value)}"
        repaired = _converted(value, types)
        change = f"use {repaired} for {name!r}" if repaired and name else f"give {wanted}"
        return Problem("type", pointer, message, change)
    said = str(error.message)[:200]
    return Problem("value", pointer, f"{pointer or 'the call'}: {said}")


def _not_listed(pointer: str, value: Any, options: list[Any]) -> Problem:
    listed = ", ".join(_shown(one) for one in options[:12])
    message = f"{pointer} must be one of {listed}, got {_shown(value)}"
    by_text = {str(one): one for one in options}
    near = nearest(str(value), list(by_text))
    change = f"use {_shown(by_text[near])}" if near else f"use one of {listed}"
    return Problem("enum", pointer, message, change)


def _innermost(error: Any) -> list[Any]:
    """Return the kinds of an error; of a choice of schemas, those of each choice."""
    kind = error.kind
    if kind.name in ("anyOf", "oneOfNotValid", "oneOf"):
        inner = [each for choice in getattr(kind, "context", ()) for each in choice]
        return [each.kind for each in inner if each.kind.name in ("type", "enum")]
    return [kind]


def _wanted(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return ""
    if isinstance(schema.get("enum"), list):
        return "one of " + ", ".join(_shown(one) for one in schema["enum"][:12])
    kind = schema.get("type")
    kinds = [kind] if isinstance(kind, str) else [each for each in kind or () if each != "null"]
    return " or ".join(_CALLED.get(str(each), str(each)) for each in kinds)


def _converted(value: Any, types: list[str]) -> str:
    """Return the value as it was meant, as JSON; empty where that is not certain."""
    if isinstance(value, str):
        read = _read(value.strip())
        if read is not None and _is_of(read, types):
            return json.dumps(read)
    if "string" in types and isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(str(value))
    if "integer" in types and isinstance(value, float) and value.is_integer():
        return str(int(value))
    if "array" in types and isinstance(value, str | int | float):
        return _shown([value])
    return ""


def _read(text: str) -> Any:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except (ValueError, RecursionError):
        return None


def _is_of(value: Any, types: list[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int):
        return "integer" in types or "number" in types
    if isinstance(value, float):
        return "number" in types
    named = {str: "string", list: "array", dict: "object", type(None): "null"}
    return named.get(type(value), "") in types


def _pointer(path: Any) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

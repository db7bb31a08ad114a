"""The binding document: what an agent must have, would rather have, and what may stand in for it.

Dimensions (`model`, `placement`, ...) are open: what fills them is found when it is bound.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from fmos.canonical import content_digest
from fmos.contract.model import Name, ServiceClass, latency_class_schema, spell_class
from fmos.types import IDENTIFIER, Record

_MAX_TEXT = 256

Dimension = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]


def _as_texts(value: object) -> object:
    """Return a text, number or boolean, or a list of them, as a list of texts."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    texts = [_text(item) for item in items]
    if not texts or any(text is None for text in texts):
        raise PydanticCustomError("shape", "a text, a number, or a list of them that is not empty")
    return tuple(texts)


def _text(item: object) -> str | None:
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, int | float):
        return repr(item)
    return item if isinstance(item, str) and 0 < len(item) <= _MAX_TEXT else None


def _as_substitute(value: object) -> object:
    if isinstance(value, bool):
        return value
    text = _text(value)
    if text is None:
        raise PydanticCustomError("shape", "a text, a number, true or false")
    return text


_VALUE_SCHEMA = {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": _MAX_TEXT}
_VALUES_SCHEMA = {
    "anyOf": [_VALUE_SCHEMA, {"type": "array", "minItems": 1, "items": _VALUE_SCHEMA}]
}
Values = Annotated[tuple[str, ...], BeforeValidator(_as_texts), WithJsonSchema(_VALUES_SCHEMA)]
Substitute = Annotated[bool | str, BeforeValidator(_as_substitute), WithJsonSchema(_VALUE_SCHEMA)]


class Fallback(Record):
    """What may take the place of what, and when."""

    when: Name
    substitute: dict[Dimension, Substitute] = Field(min_length=1)


class BindingDocument(Record):
    """One agent's hard (`must`) and soft (`prefer`) requirements; values in order of preference."""

    model_config = ConfigDict(json_schema_extra=latency_class_schema)

    apiVersion: Literal["agentos/v0.2"] = "agentos/v0.2"
    kind: Literal["BindingDocument"] = "BindingDocument"
    agent: str = Field(pattern=IDENTIFIER)
    class_: ServiceClass = Field(default=ServiceClass(), alias="class")
    must: dict[Dimension, Values] = Field(default_factory=dict)
    prefer: dict[Dimension, Values] = Field(default_factory=dict)
    allow_fallbacks: tuple[Fallback, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _latency_class(cls, value: Any) -> Any:
        """Accept `latency_class`, and a hard real-time deadline among the hard requirements."""
        return _deadline_from_must(spell_class(value))

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the document's canonical JSON, defaults included."""
        return content_digest(self.model_dump(mode="json", by_alias=True))


def _deadline_from_must(value: Any) -> Any:
    """Return the fields with `must.deadline_ms` and `must.jitter_ms` in the class as well."""
    if not isinstance(value, dict) or not isinstance(value.get("must"), dict):
        return value
    beside = {
        name: value["must"][name] for name in ("deadline_ms", "jitter_ms") if name in value["must"]
    }
    class_ = value.get("class", {})
    class_ = {"latency": class_} if isinstance(class_, str) else class_
    if not beside or not isinstance(class_, dict):
        return value
    return {**value, "class": {**beside, **class_}}

"""What is wrong in a document, in words: turns pydantic's errors into complaints with places."""

from __future__ import annotations

import difflib
import reprlib
import types
import typing
from collections.abc import Iterable
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fmos.contract.formats import readable
from fmos.contract.positions import Loc, Place, duplicates, key_of, place_of
from fmos.errors import Complaint, ContractError

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 80
_SHOWN.maxlevel = 2

#: What a pydantic error of each type says that it expected; `{...}` is filled from its context.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number, such as 50000 or 50k",
    "int_type": "a whole number, such as 50000 or 50k",
    "invalid_key": "names as keys",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "string_pattern_mismatch": "an id: letters, digits and ._@+-, a letter or digit first",
    "string_too_long": "a text of at most {max_length} characters",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "too_short": "at least {min_length} item",
    "tuple_type": "a list",
}


def all_complaints(
    error: ValidationError | None, root: yaml.Node, model: type[BaseModel]
) -> tuple[Complaint, ...]:
    """Return every complaint about a document, in its order; missing fields last.

    A missing field has no place, and a misspelt required one is both unknown and missing: the
    place of what is there is what helps.
    """
    twice = [
        Complaint(
            *place, name, name, "one", f"the field {name!r} is given twice", "keep one of them"
        )
        for place, name in duplicates(root)
    ]
    items = error.errors(include_url=False) if error is not None else []
    wrong = [_complaint(item, root, model) for item in items]
    found = dict.fromkeys([*twice, *wrong])
    return tuple(sorted(found, key=lambda each: (not each.found, each.line, each.column)))


def refusal(complaints: tuple[Complaint, ...], source: str) -> ContractError:
    """Return the error that names the first complaint and says how many more there are."""
    first, more = complaints[0], len(complaints) - 1
    hint = first.hint
    if more:
        where = "" if source.startswith("<") else f"; run `fmos contract lint {source}`"
        hint = f"{hint} (and {more} more{where})".lstrip()
    where = f"{source}:{first.line}:{first.column}"
    return ContractError(f"{where}: {first.message}", hint=hint, complaints=complaints)


def nearest(given: str, known: Iterable[str]) -> str:
    """Return `did you mean ...?` for the nearest known name, else which names there are."""
    names = list(known)
    near = difflib.get_close_matches(
        given.lower(), [name.lower() for name in names], n=1, cutoff=0.5
    )
    if near:
        name = next(name for name in names if name.lower() == near[0])
        return f"did you mean {name!r}?"
    return f"it may be one of {', '.join(names)}"


def _complaint(item: ErrorDetails, root: yaml.Node, model: type[BaseModel]) -> Complaint:
    loc = _full(item)
    field = ".".join(str(part) for part in loc if part != "[key]") or "the document"
    if item["type"] == "extra_forbidden":
        return _unknown_field(loc, field, key_of(root, loc), model)
    if item["type"] == "missing":
        place = place_of(root, loc)
        message = f"the field {field!r} is missing"
        return Complaint(*place, field, "", "a value", message, f"add `{loc[-1]}: ...`")
    return _wrong_value(item, field, loc, root)


def _full(item: ErrorDetails) -> Loc:
    """Return the path of an error; a check of a whole record says in `at` which part it means."""
    return (*item["loc"], *item.get("ctx", {}).get("at", ()))


def _unknown_field(loc: Loc, field: str, place: Place, model: type[BaseModel]) -> Complaint:
    parent = ".".join(str(part) for part in loc[:-1])
    inside = f" in {parent!r}" if parent else ""
    known = _fields_at(model, loc[:-1])
    return Complaint(
        *place,
        field=field,
        found=str(loc[-1]),
        expected=f"one of {', '.join(known)}",
        message=f"there is no field {str(loc[-1])!r}{inside}",
        hint=nearest(str(loc[-1]), known),
    )


def _wrong_value(item: ErrorDetails, field: str, loc: Loc, root: yaml.Node) -> Complaint:
    expected, hint = _expectation(item, loc)
    value = _at(item["input"], item.get("ctx", {}).get("at", ()))
    found = _SHOWN.repr(value)
    says = expected if item["type"] == "value_error" else f"expected {expected}"
    return Complaint(
        *place_of(root, loc),
        field=field,
        found=found,
        expected=expected,
        message=f"the field {field!r} is wrong: {says}, found {found}",
        hint=hint,
    )


def _expectation(item: ErrorDetails, loc: Loc) -> tuple[str, str]:
    """Return what was expected, and how to get there."""
    context = item.get("ctx", {})
    if loc == ("apiVersion",):
        return " or ".join(readable()), "write a version that this FMOS reads"
    if item["type"] in ("literal_error", "enum"):
        expected = str(context.get("expected", ""))
        choices = [part.strip("' ") for part in expected.replace(" or ", ",").split(",")]
        return expected, nearest(str(item.get("input")), choices)
    form = _EXPECTED.get(item["type"])
    if form is not None:
        return form.format(**context), ""
    return item["msg"].removeprefix("Value error, "), ""


def _at(value: Any, path: Iterable[Any]) -> Any:
    for part in path:
        try:
            value = value[part] if not isinstance(value, BaseModel) else getattr(value, str(part))
        except (KeyError, IndexError, TypeError, AttributeError):
            return value
    return value


def _fields_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Return the field names that the model has at a place of the document."""
    for part in loc:
        for name, info in model.model_fields.items():
            inner = _model_of(info.annotation)
            if part in (name, info.alias) and inner is not None:
                model = inner
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the record in an annotation, however deep: `tuple[Step, ...]` has `Step`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        inner = (_model_of(item) for item in typing.get_args(annotation))
        return next((model for model in inner if model is not None), None)
    return None

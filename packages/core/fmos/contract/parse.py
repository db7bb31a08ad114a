"""Reads a contract document; every complaint names the source, the line and the field."""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fmos.contract.model import AgentContract
from fmos.errors import ContractError

_MAX_BYTES = 1_000_000
_Loc = tuple[int | str, ...]


def load_file(path: Path) -> AgentContract:
    """Read the contract in a file.

    Raises:
        ContractError: if the file cannot be read or is not a contract.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ContractError(
            f"cannot read the contract {str(path)!r}: {error.strerror}",
            hint="check the path and its permissions",
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContractError(
            f"{str(path)!r} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8"
        ) from error
    return load_text(text, str(path))


def load_text(text: str, source: str = "<text>") -> AgentContract:
    """Read a contract from YAML (or JSON, which is YAML).

    Raises:
        ContractError: naming the source, the line, and the first thing that is wrong.
    """
    root, document = _read_yaml(text, source)
    if not isinstance(root, yaml.MappingNode):
        raise ContractError(
            f"{source} is not a contract: it holds no mapping",
            hint="begin with `apiVersion: agentos/v0.2` and `kind: AgentContract`",
        )
    _refuse_duplicates(root, source)
    try:
        return AgentContract.model_validate(document)
    except ValidationError as error:
        raise _first_complaint(error, root, source) from error


def _read_yaml(text: str, source: str) -> tuple[yaml.Node | None, object]:
    if len(text) > _MAX_BYTES:
        raise ContractError(
            f"{source} has {len(text)} characters, more than the {_MAX_BYTES} of a contract",
            hint="check that it is the right file",
        )
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "an unknown line"
        problem = error.problem or "cannot be read"
        raise ContractError(
            f"{source} is not valid YAML at {where}: {problem}", hint="correct that line"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise ContractError(
            f"{source} is not valid YAML: {first}", hint="correct the document"
        ) from error


def _refuse_duplicates(node: yaml.Node, source: str) -> None:
    """Refuse a key given twice: YAML would silently drop the first, perhaps the stricter, one."""
    pending: list[yaml.Node] = [node]
    seen_nodes: set[int] = set()
    while pending:
        current = pending.pop()
        if id(current) in seen_nodes:
            continue
        seen_nodes.add(id(current))
        if isinstance(current, yaml.SequenceNode):
            pending.extend(current.value)
        elif isinstance(current, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in current.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        raise ContractError(
                            f"{source}:{key.start_mark.line + 1}: the field {key.value!r} is given"
                            " twice",
                            hint="keep one of them",
                        )
                    keys.add(key.value)
                pending.append(value)


def _first_complaint(error: ValidationError, root: yaml.Node, source: str) -> ContractError:
    """Return the complaint about the place that comes first; a missing field has no place.

    A misspelt required field is both unknown and missing: its place is what helps.
    """
    placed = [(_mark(root, item["loc"]), item) for item in error.errors(include_url=False)]
    mark, first = min(placed, key=lambda pair: (pair[1]["type"] == "missing", pair[0]))
    return _complaint(first, f"{source}:{mark[0] + 1}")


def _mark(root: yaml.Node, loc: _Loc) -> tuple[int, int]:
    """Return line and column of the deepest place on a path that the document has."""
    node, mark = root, root.start_mark
    for part in loc:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
            continue
        found = next((pair for pair in _pairs(node) if pair[0].value == str(part)), None)
        if found is None:
            break
        mark, node = found[0].start_mark, found[1]
    return mark.line, mark.column


def _pairs(node: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _complaint(item: ErrorDetails, where: str) -> ContractError:
    loc = item["loc"]
    field = ".".join(str(part) for part in loc) or "the document"
    if item["type"] == "extra_forbidden":
        return _unknown_field(loc, where)
    if item["type"] == "missing":
        return ContractError(f"{where}: the field {field!r} is missing", hint=f"add `{field}: ...`")
    message = item["msg"].removeprefix("Value error, ").replace("Input", "it", 1)
    shown = repr(item.get("input"))
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    hint = "correct the value"
    if item["type"] in ("literal_error", "enum"):
        expected = str(item.get("ctx", {}).get("expected", ""))
        choices = [part.strip("' ") for part in expected.replace(" or ", ",").split(",")]
        hint = _nearest(str(item.get("input")), choices)
    return ContractError(
        f"{where}: the field {field!r} is wrong: {message}, got {shown}", hint=hint
    )


def _unknown_field(loc: _Loc, where: str) -> ContractError:
    parent = ".".join(str(part) for part in loc[:-1])
    inside = f" in {parent!r}" if parent else ""
    return ContractError(
        f"{where}: there is no field {str(loc[-1])!r}{inside}",
        hint=_nearest(str(loc[-1]), _fields_at(loc[:-1])),
    )


def _nearest(given: str, known: list[str]) -> str:
    near = difflib.get_close_matches(
        given.lower(), [name.lower() for name in known], n=1, cutoff=0.5
    )
    if near:
        name = next(name for name in known if name.lower() == near[0])
        return f"did you mean {name!r}?"
    return f"it may be one of {', '.join(known)}"


def _fields_at(loc: _Loc) -> list[str]:
    """Return the field names that the model has at a place of the document."""
    model: type[BaseModel] = AgentContract
    for part in loc:
        for name, info in model.model_fields.items():
            inner = _model_of(info.annotation)
            if part in (name, info.alias) and inner is not None:
                model = inner
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        candidates = list(typing.get_args(annotation))
    models = [item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)]
    return models[0] if models else None

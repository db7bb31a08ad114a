"""What steps hand on: every port is fed before a run begins, and each value is of its type.

Known types are string, markdown, html, json, uri, integer, number and boolean; `[html]` is a list
of them. Another name is the application's own, and any JSON value is of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from fmos.contract.workflow import Port, Step, Workflow
from fmos.errors import ArgumentError
from fmos.steps.model import Json, as_json


def _is_uri(value: object) -> bool:
    return isinstance(value, str) and bool(urlsplit(value).scheme)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_IS: dict[str, Callable[[object], bool]] = {
    "string": _is_text,
    "text": _is_text,
    "markdown": _is_text,
    "html": _is_text,
    "uri": _is_uri,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
}


def check_flow(workflow: Workflow, inputs: Mapping[str, Json]) -> None:
    """Check that every port is fed by an earlier step or an input, of the same type.

    Raises:
        ArgumentError: naming the step and the port.
    """
    there: dict[str, tuple[str, Port]] = dict.fromkeys(inputs, ("the inputs", None))
    wanted: dict[str, Port] = {}
    for step in workflow.steps:
        for name, port in step.in_.items():
            if name not in there:
                raise _unfed(workflow, step, name)
            source, given = there[name]
            if given is not None and port is not None and given != port:
                raise ArgumentError(
                    f"step {step.id!r} wants {name!r} as {_spelled(port)}, and {source} hands it on"
                    f" as {_spelled(given)}",
                    hint="give both the same type, or leave one without",
                )
            if source == "the inputs" and port is not None:
                wanted.setdefault(name, port)
        there |= {name: (f"step {step.id!r}", port) for name, port in step.out.items()}
    for name, port in wanted.items():
        check_value(inputs[name], port, f"the input {name!r}")


def take(step: Step, values: Mapping[str, Json]) -> dict[str, Json]:
    """Return what a step is handed, of what there is.

    Raises:
        ArgumentError: if something is not there, or of another type.
    """
    found: dict[str, Json] = {}
    for name, port in step.in_.items():
        if name not in values:
            raise ArgumentError(f"nothing hands {name!r} to step {step.id!r}")
        check_value(values[name], port, f"{name!r} for step {step.id!r}")
        found[name] = values[name]
    return found


def check_outputs(step: Step, outputs: object) -> dict[str, Json]:
    """Return what a step hands on: exactly its ports, each of its type.

    Raises:
        ArgumentError: naming the port that is missing, unknown or of another type.
    """
    if not isinstance(outputs, Mapping):
        raise ArgumentError(
            f"step {step.id!r} returned {type(outputs).__name__}, not a mapping of its ports",
            hint=f"return {_ports(step)}",
        )
    found = {str(name): value for name, value in outputs.items()}
    for name in found.keys() ^ step.out.keys():
        why = "which it does not declare" if name in found else "which it declares"
        said = "returned" if name in found else "did not return"
        raise ArgumentError(
            f"step {step.id!r} {said} {name!r}, {why}", hint=f"return {_ports(step)}"
        )
    for name, port in step.out.items():
        check_value(found[name], port, f"{name!r} of step {step.id!r}")
    return found


def check_value(value: Json, port: Port, what: str) -> None:
    """Check one value.

    Raises:
        ArgumentError: naming `what` is of another type.
    """
    as_json(value, what)
    if isinstance(port, tuple):
        if not isinstance(value, list | tuple):
            raise ArgumentError(f"{what} is not a list of {', '.join(port)}")
        for number, each in enumerate(value):
            if port and not any(_fits(each, name) for name in port):
                raise _wrong(f"item {number} of {what}", " or ".join(port), each)
    elif port is not None and not _fits(value, port):
        raise _wrong(what, port, value)


def _fits(value: Any, name: str) -> bool:
    check = _IS.get(name)
    return check is None or check(value)


def _wrong(what: str, port: str, value: object) -> ArgumentError:
    return ArgumentError(
        f"{what} is {repr(value)[:60]}, not {port}",
        hint="correct what is handed on, or the port's type",
    )


def _unfed(workflow: Workflow, step: Step, name: str) -> ArgumentError:
    return ArgumentError(
        f"nothing hands {name!r} to step {step.id!r} of {workflow.workflow!r}",
        hint=f"give it with `--input {name}=...`, or let an earlier step have it in `out`",
    )


def _ports(step: Step) -> str:
    return ", ".join(f"{name}: {_spelled(port)}" for name, port in step.out.items()) or "{}"


def _spelled(port: Port) -> str:
    return f"[{', '.join(port)}]" if isinstance(port, tuple) else port or "anything"

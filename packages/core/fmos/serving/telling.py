"""What telemetry hears of a served call beside its time: for whom, what it found, what was said.

What was said is content. It is told only if the home's `[telemetry]` says `content = true` and the
agent's contract names the field in `log_fields`, which `never_log` of a policy has the last word
on; secrets are taken out even then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fmos import telemetry
from fmos.redaction import redacted
from fmos.runtime.kernel import Kernel
from fmos.telemetry import names
from fmos.types import Principal

_log = logging.getLogger(__name__)

_SOURCES_SHOWN = 16
_CONTENT_SHOWN = 16_000

Answer = Mapping[str, Any]


class _Said(NamedTuple):
    """Content in a call: the field of a contract that names it, its attribute, and its text."""

    field: str
    attribute: str
    text: str


def tell(
    kernel: Kernel, who: Principal, tool: str, arguments: Mapping[str, Any], answer: Any
) -> None:
    """Note what a call that went well was about."""
    if not telemetry.is_on() or not isinstance(answer, Mapping):
        return
    try:
        about = _ABOUT.get(tool)
        known = _named(who, arguments)
        found = about(arguments, answer) if about is not None else {}
        if tool == "memory_search":
            found |= {names.SOURCES: _digests(kernel, known, answer)}
        if telemetry.keeps_content():
            found |= _content(kernel, known, tool, arguments, answer)
        telemetry.note(found)
    except Exception as error:  # a call that went well must not fail for what is told of it
        _log.warning("telemetry has nothing of a call of %r (%s)", tool, type(error).__name__)


def _named(who: Principal, arguments: Mapping[str, Any]) -> Principal:
    """Return the principal with the ids that only the arguments name."""
    named = {
        field: arguments[field]
        for field in ("agent", "session")
        if not getattr(who, field) and arguments.get(field)
    }
    if not named:
        return who
    known = who.model_copy(update=named)
    telemetry.note({f"fmos.{field}": value for field, value in named.items()})
    return known


def _content(
    kernel: Kernel, who: Principal, tool: str, arguments: Mapping[str, Any], answer: Answer
) -> dict[str, Any]:
    said = _SAID.get(tool)
    if said is None or not who.agent:
        return {}
    allowed = kernel.mandate(who).bounds.observability.log_fields
    told = (each for each in said(arguments, answer) if each.field in allowed)
    # Redacted before it is cut: half a secret looks like none.
    return {
        each.attribute: redacted(each.text[: 2 * _CONTENT_SHOWN])[:_CONTENT_SHOWN] for each in told
    }


def _digests(kernel: Kernel, who: Principal, answer: Answer) -> list[str]:
    """Return keyed digests of what was found: equal for equal sources, and telling nothing else."""
    keys = kernel.keys_of(who.tenant)
    hits = answer.get("hits", ())[:_SOURCES_SHOWN]
    return [keys.digest(str(hit.get("source") or hit.get("id")).encode()) for hit in hits]


def _searched(arguments: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    hits = len(answer.get("hits", ()))
    return {names.HITS: hits, names.HIT_RATE: float(hits > 0)}


def _composed(arguments: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    return {
        names.CONTEXT_TOKENS: answer["tokens"],
        names.CONTEXT_TOKENS_RAW: answer["tokens_raw"],
        names.CONTEXT_MESSAGES: len(answer["messages"]),
    }


def _appended(arguments: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    return {
        names.CONTEXT_TOKENS: answer["tokens"],
        names.CONTEXT_PAGED_OUT: not answer["inline"],
    }


def _settled(arguments: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    outcome = arguments["outcome"]
    return {
        names.OPERATION_ID: outcome["operation"],
        names.STATUS: outcome["status"],
        names.TOOL_MS: float(outcome.get("duration_ms", 0)),
    }


def _used(arguments: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    return {names.TOKENS: answer["committed"].get("tokens", 0)}


_ABOUT: dict[str, Callable[[Mapping[str, Any], Answer], dict[str, Any]]] = {
    "memory_search": _searched,
    "context_compose": _composed,
    "context_append": _appended,
    "trust_settle": _settled,
    "budget_settle": _used,
}


def _said_in_prompt(arguments: Mapping[str, Any], answer: Answer) -> list[_Said]:
    messages = [{"role": each["role"], "content": each["text"]} for each in answer["messages"]]
    return [_Said("prompt", names.INPUT_MESSAGES, telemetry.as_json(messages))]


def _said_in_turn(arguments: Mapping[str, Any], answer: Answer) -> list[_Said]:
    text = str(arguments.get("text", ""))
    if arguments.get("role") == "assistant":
        message = telemetry.as_json([{"role": "assistant", "content": text}])
        return [_Said("answer", names.OUTPUT_MESSAGES, message)]
    if arguments.get("role") == "tool":
        return [_Said("tool_output", names.TOOL_RESULT, text)]
    return []


def _said_in_call(arguments: Mapping[str, Any], answer: Answer) -> list[_Said]:
    asked = arguments["operation"]["arguments"]
    return [_Said("arguments", names.TOOL_ARGUMENTS, telemetry.as_json(asked))]


def _said_in_search(arguments: Mapping[str, Any], answer: Answer) -> list[_Said]:
    sources = sorted({str(hit.get("source", "")) for hit in answer.get("hits", ())} - {""})
    return [_Said("sources", names.SOURCE_NAMES, ", ".join(sources))] if sources else []


_SAID: dict[str, Callable[[Mapping[str, Any], Answer], list[_Said]]] = {
    "context_compose": _said_in_prompt,
    "context_append": _said_in_turn,
    "trust_check": _said_in_call,
    "memory_search": _said_in_search,
}

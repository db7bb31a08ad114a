"""Translates LangChain messages to context items and back; pure functions, no calls.

A message that is an item of the session carries a mark in `response_metadata`, which providers
are not sent: session, item and a digest of the text, so that an edited message counts as new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.types import Command

#: The key of our entry in a message's `response_metadata`.
MARK = "fmos"

_ROLES = {"human": "user", "ai": "assistant", "tool": "tool", "system": "system"}
#: Tried in turn on the calls of a reduced message, until it is as short as its stub.
_SHORT_ARGUMENTS = (80, 0)

M = TypeVar("M", bound=BaseMessage)

ToolResult: TypeAlias = ToolMessage | Command[Any]


def role(message: BaseMessage) -> str:
    """Return the context role of a message; what is none of the four was said by somebody."""
    return _ROLES.get(message.type, "user")


def text(message: BaseMessage) -> str:
    """Return what of a message takes part in the context: its text, and the calls it makes."""
    said = str(message.text)
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    if not calls:
        return said
    made = json.dumps([{"name": call["name"], "args": call["args"]} for call in calls], default=str)
    return f"{said}\n{made}" if said else made


def call_id(message: BaseMessage) -> str:
    """Return the id that pairs a tool's message with its call; of a caller, all of its ids."""
    if isinstance(message, ToolMessage):
        return message.tool_call_id
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return ",".join(call["id"] or "" for call in calls)


def marked(message: M, session: str, item: str) -> M:
    """Return the message marked as an item of a session."""
    mark = {"session": session, "item": item, "digest": _digest(text(message))}
    return message.model_copy(
        update={"response_metadata": {**message.response_metadata, MARK: mark}}
    )


def item_of(message: BaseMessage, session: str) -> str | None:
    """Return which item of the session the message is, or None while it is none."""
    mark = message.response_metadata.get(MARK)
    if not isinstance(mark, dict) or mark.get("session") != session:
        return None
    return mark["item"] if mark.get("digest") == _digest(text(message)) else None


def fitted(
    messages: Sequence[AnyMessage], session: str, composed: Iterable[Mapping[str, Any]]
) -> list[AnyMessage]:
    """Return the messages that a composed context shows, long ones as their stubs, in order."""
    shown = {entry["id"]: entry for entry in composed}
    result: list[AnyMessage] = []
    for message in messages:
        entry = shown.get(item_of(message, session) or "")
        if entry is not None:
            result.append(_reduced(message, entry["text"]) if entry["replaced"] else message)
    return result


def notes(composed: Iterable[Mapping[str, Any]]) -> str:
    """Return what a composed context says about the messages that it does not show."""
    return "\n".join(entry["text"] for entry in composed if entry["id"] == "dropped")


def with_note(system: SystemMessage | None, note: str) -> SystemMessage | None:
    """Return the system message with a note after it."""
    if not note:
        return system
    if system is None:
        return SystemMessage(note)
    if isinstance(system.content, str):
        return system.model_copy(update={"content": f"{system.content}\n\n{note}"})
    return system.model_copy(update={"content": [*system.content, {"type": "text", "text": note}]})


def tool_message(result: ToolResult, call: str) -> ToolMessage | None:
    """Return the message that answers a call, also from inside a command's update."""
    if isinstance(result, ToolMessage):
        return result
    update = result.update if isinstance(result, Command) else None
    messages = update.get("messages", []) if isinstance(update, dict) else []
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, ToolMessage) and message.tool_call_id == call:
            return message
    return None


def with_tool_message(result: ToolResult, old: ToolMessage, new: ToolMessage) -> ToolResult:
    """Return the tool's result with one of its messages exchanged."""
    if result is old:
        return new
    if not isinstance(result, Command) or not isinstance(result.update, dict):
        return result
    messages = [new if message is old else message for message in result.update["messages"]]
    return replace(result, update={**result.update, "messages": messages})


def with_text(message: ToolMessage, shown: str) -> ToolMessage:
    """Return a tool's message that shows another text; images and the like stay."""
    if shown == str(message.text):
        return message
    if isinstance(message.content, str):
        return message.model_copy(update={"content": shown})
    others = [part for part in message.content if not _is_text(part)]
    return message.model_copy(update={"content": [{"type": "text", "text": shown}, *others]})


def _is_text(part: str | dict[Any, Any]) -> bool:
    return isinstance(part, str) or part.get("type") == "text"


def _reduced(message: AnyMessage, stub: str) -> AnyMessage:
    """Return the message with its stub for a text, at no more than the stub's size.

    A caller keeps its calls, so that their results stay paired; what the stub quotes of them
    makes room for their short arguments.
    """
    if isinstance(message, ToolMessage):
        return with_text(message, stub)
    if not isinstance(message, AIMessage) or not message.tool_calls:
        return message.model_copy(update={"content": stub})
    lines = stub.splitlines()
    content = f"{lines[0]}\n{lines[-1]}"
    reduced = message
    for limit in _SHORT_ARGUMENTS:
        calls = [{**call, "args": _short(call["args"], limit)} for call in message.tool_calls]
        reduced = message.model_copy(update={"content": content, "tool_calls": calls})
        if len(text(reduced)) <= len(stub):
            break
    return reduced


def _short(arguments: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return the arguments that are written in at most `limit` characters."""
    return {
        name: value
        for name, value in arguments.items()
        if len(json.dumps(value, default=str)) <= limit
    }


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]

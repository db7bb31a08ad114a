"""What a person must see in a tool's texts: characters that do not show, orders to the model."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from fmos.traps.manifest import ToolDescriptor
from fmos_trust.evidence.instructions import sentences, weighed
from fmos_trust.evidence.normal import plain

#: Above ASCII, these categories do not show, or change how the text beside them shows.
_UNSEEN = frozenset({"Cf", "Cc", "Co", "Cn", "Cs", "Zl", "Zp"})
_SUSPECT = 0.35
_LONGEST = 20_000
_USER = re.compile(r"\b(?:the|a) user\b")


def visible(text: str) -> str:
    """Return a text with a name in place of every character that does not show."""
    return "".join(_shown(char) for char in text)


def spelt(name: str) -> str:
    """Return a name with every letter beyond ASCII followed by what it is."""
    shown = (char if char.isascii() else f"{char}<{_called(char)}>" for char in visible(name))
    return "".join(shown)


def hidden_in(text: str) -> list[str]:
    """Return the names of the characters that do not show, each once."""
    return list(dict.fromkeys(_shown(char) for char in text if _is_unseen(char)))


def orders_in(tool: ToolDescriptor) -> list[str]:
    """Return the sentences of a tool's texts that speak to whoever reads them about the task.

    "Use it to ..." is how tools are described; what speaks of the assistant, of its other tools,
    or of keeping something from the user is not.
    """
    found: list[str] = []
    for text in _texts(tool):
        for sentence in sentences(plain(text[:_LONGEST])):
            # That a tool is used for a user is what descriptions say.
            score, speaks = weighed(_USER.sub("somebody", sentence))
            if speaks >= _SUSPECT and score > speaks:
                found.append(sentence)
    return list(dict.fromkeys(found))


def said_by(tool: ToolDescriptor) -> list[str]:
    """Return every text of a tool that a model reads."""
    return list(_texts(tool))


def lines(tool: ToolDescriptor) -> list[str]:
    """Return a tool as lines for a person, in one order, with nothing that does not show."""
    data = tool.model_dump(mode="json", exclude_defaults=True)
    found: list[str] = []
    short = [key for key in ("name", "title", "effect", "capability", "server") if key in data]
    found += [f"{key}: {spelt(str(data.pop(key)))}" for key in short]
    description = str(data.pop("description", ""))
    found += [f"description: {visible(line)}" for line in description.splitlines()]
    for key in sorted(data):
        found += [f"{key}{line}" for line in _flat(data[key])]
    return found


def _flat(value: Any) -> Iterator[str]:
    """Yield one line for each leaf of JSON data, with its path."""
    if isinstance(value, dict) and value:
        for key in sorted(value, key=str):
            for line in _flat(value[key]):
                yield f".{visible(str(key))}{line}"
    elif isinstance(value, list) and value and any(isinstance(each, dict | list) for each in value):
        for at, each in enumerate(value):
            for line in _flat(each):
                yield f"[{at}]{line}"
    else:
        said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for line in said.splitlines() or [""]:
            yield f": {visible(line)}"


def _texts(tool: ToolDescriptor) -> Iterator[str]:
    yield tool.name
    yield tool.title
    yield tool.description
    for part in (tool.input_schema, tool.output_schema, tool.annotations):
        yield from _strings(part, 0)


def _strings(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < 32 and isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from _strings(each, depth + 1)
    elif depth < 32 and isinstance(value, list):
        for each in value:
            yield from _strings(each, depth + 1)


def _is_unseen(char: str) -> bool:
    return not char.isprintable() and char not in "\n\t" and (
        unicodedata.category(char) in _UNSEEN or char > "\x7f"
    )  # fmt: skip


def _shown(char: str) -> str:
    return f"<{_called(char)}>" if _is_unseen(char) else char


def _called(char: str) -> str:
    return unicodedata.name(char, f"U+{ord(char):04X}")

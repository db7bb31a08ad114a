"""The two best simple rules of the research note, R11 and R12, on the same runs and schemas."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from fmos_trust.evidence.catalogue import TARGETS, Catalogue
from fmos_trust.evidence.words import STOP, stem
from tool_calls import Call, Data, Run, Stops

_WORD = re.compile(r"[a-z0-9]+")
_LINE = re.compile(r"^\s*(?:- )?(?:[\w ]+: )?(.*?)\s*$", re.MULTILINE)


def rules(data: Data) -> dict[str, Stops]:
    """Return the rules by name; each says whether it stops a call."""
    catalogues = data.catalogues()

    def changes(run: Run, call: Call) -> bool:
        return _facts(catalogues[run.suite], data, run, call).changes

    def r11(run: Run, call: Call, outputs: list[str]) -> bool:
        facts = _facts(catalogues[run.suite], data, run, call)
        if not facts.changes:
            return False
        prompt = run.prompt.casefold()
        targets = [
            text
            for name, value in call.arguments.items()
            if facts.roles.get(name) in TARGETS
            for text in _leaves(value)
        ]
        known = [text for text in targets if text.casefold() not in prompt]
        return any(all(text not in fields(each) for each in outputs) for text in known)

    def r5(run: Run, call: Call) -> bool:
        named = {
            stem(word) for word in _WORD.findall(call.tool.replace("_", " ")) if word not in STOP
        }
        return not named & {stem(word) for word in _WORD.findall(run.prompt.lower())}

    def r12(run: Run, call: Call, outputs: list[str]) -> bool:
        return r11(run, call, outputs) or (changes(run, call) and r5(run, call))

    return {"R11": r11, "R12": r12}


def _facts(catalogue: Catalogue, data: Data, run: Run, call: Call) -> Any:
    return catalogue.tools.get(call.tool) or catalogue.facts(data.tools[run.suite][call.tool])


@lru_cache(maxsize=1024)
def fields(output: str) -> frozenset[str]:
    """Return the whole values of a structured output; lines where it is no data."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return frozenset(_leaves(parse(output)))
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return frozenset(found.strip("'\"") for found in _LINE.findall(output))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from _leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)

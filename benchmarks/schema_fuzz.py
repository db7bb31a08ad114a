"""Generated tool schemas against generated arguments: is every call that does not conform refused?

The judge is the gate's look-ahead (jsonschema-rs); the referee is the reference implementation in
Python, `jsonschema`. Also counted: right calls that were refused, and anything that was raised.

    python -m benchmarks.schema_fuzz [--calls 100000] [--seed 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from jsonschema import Draft202012Validator

from fmos.traps.manifest import ToolDescriptor
from fmos_trust.lookahead.schema import Schemas, UnreadableSchemaError

_NAMES = ("path", "to", "limit", "amount", "options", "tags", "é", "a b", "$ref", "")
_TEXTS = ("", "a", "abc", "12", "true", "null", "\u202e", "é" * 3, "x" * 300, "\0", "a@b.c", "/etc")
_CALLS_EACH = 20


@dataclass
class Score:
    """What came of the calls."""

    calls: int = 0
    wrong: int = 0
    wrong_refused: int = 0
    right: int = 0
    right_refused: int = 0
    schemas_refused: int = 0
    crashes: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)


def run(calls: int, seed: int) -> Score:
    """Judge so many generated calls."""
    score, chance = Score(), random.Random(seed)
    started = time.perf_counter()
    while score.calls < calls:
        schema = _tool_schema(chance)
        tool = ToolDescriptor(name="t", effect="write", input_schema=schema)
        schemas, referee = Schemas(), Draft202012Validator(schema)
        for _ in range(min(_CALLS_EACH, calls - score.calls)):
            _judge(score, schemas, referee, tool, _arguments(chance, schema))
    score.seconds = round(time.perf_counter() - started, 1)
    return score


def _judge(score: Score, schemas: Schemas, referee: Any, tool: ToolDescriptor, given: Any) -> None:
    score.calls += 1
    schema = tool.input_schema or {}
    conforms = referee.is_valid(_without_nulls(schema, given))
    try:
        refused = bool(schemas.problems(tool, given))
    except UnreadableSchemaError:
        score.schemas_refused += 1
        refused = True
    except Exception as error:  # what the run is for
        score.crashes += 1
        _note(score, f"{type(error).__name__}: {error}", schema, given)
        return
    score.right += conforms
    score.wrong += not conforms
    score.right_refused += conforms and refused
    score.wrong_refused += not conforms and refused
    if refused is conforms:
        _note(score, "refused" if refused else "let through", schema, given)


def _note(score: Score, what: str, schema: Any, given: Any) -> None:
    if len(score.examples) < 5:
        score.examples.append(f"{what}: {json.dumps(schema)[:300]} for {json.dumps(given)[:300]}")


def _without_nulls(schema: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null and may be left out, as the look-ahead does."""
    required, known = schema.get("required", ()), schema.get("properties", {})
    return {k: v for k, v in given.items() if v is not None or k in required or k not in known}


def _tool_schema(chance: random.Random) -> dict[str, Any]:
    names = chance.sample(_NAMES, chance.randint(0, 5))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _schema(chance, 0) for name in names},
        "additionalProperties": False,
    }
    if names and chance.random() < 0.7:
        schema["required"] = chance.sample(names, chance.randint(1, len(names)))
    return schema


def _schema(chance: random.Random, depth: int) -> dict[str, Any]:
    make = chance.choice(_MAKERS if depth < 3 else _MAKERS[:5])
    return make(chance, depth)


def _text_schema(chance: random.Random, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if chance.random() < 0.3:
        schema["pattern"] = chance.choice(["^a", "c$", "[0-9]+", "^(ab|c)*$", "^.{1,4}$"])
    if chance.random() < 0.3:
        schema["minLength"] = chance.randint(0, 3)
        schema["maxLength"] = chance.randint(3, 200)
    return schema


def _number_schema(chance: random.Random, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": chance.choice(["integer", "number"])}
    bounds = {"minimum": -5, "maximum": 100, "exclusiveMaximum": 50, "multipleOf": 2}
    for name in chance.sample(sorted(bounds), chance.randint(0, 2)):
        schema[name] = bounds[name]
    return schema


def _enum_schema(chance: random.Random, depth: int) -> dict[str, Any]:
    if chance.random() < 0.3:
        return {"const": chance.choice([*_TEXTS, 1, None, False])}
    return {"enum": chance.sample([*_TEXTS[:6], 1, 2, None, True], chance.randint(1, 4))}


def _plain_schema(chance: random.Random, depth: int) -> dict[str, Any]:
    return chance.choice([{"type": "boolean"}, {"type": "null"}, {}, {"type": ["string", "null"]}])


def _list_schema(chance: random.Random, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "items": _schema(chance, depth + 1)}
    if chance.random() < 0.4:
        schema["maxItems"] = chance.randint(0, 3)
    if chance.random() < 0.2:
        schema["uniqueItems"] = True
    return schema


def _object_schema(chance: random.Random, depth: int) -> dict[str, Any]:
    names = chance.sample(_NAMES, chance.randint(0, 3))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _schema(chance, depth + 1) for name in names},
    }
    if chance.random() < 0.5:
        schema["additionalProperties"] = chance.choice([False, {"type": "string"}])
    if names and chance.random() < 0.5:
        schema["required"] = names[:1]
    return schema


def _mixed_schema(chance: random.Random, depth: int) -> dict[str, Any]:
    word = chance.choice(["anyOf", "oneOf", "allOf"])
    return {word: [_schema(chance, depth + 1) for _ in range(chance.randint(1, 3))]}


_MAKERS = (
    _text_schema, _text_schema, _number_schema, _enum_schema, _plain_schema, _list_schema,
    _object_schema, _mixed_schema,
)  # fmt: skip


def _arguments(chance: random.Random, schema: dict[str, Any]) -> dict[str, Any]:
    known = schema["properties"]
    given = {
        name: _fitting(chance, each) if chance.random() < 0.8 else _anything(chance, 0)
        for name, each in known.items()
        if name in schema.get("required", ()) or chance.random() < 0.8
    }
    if chance.random() < 0.1:
        given[chance.choice(_NAMES)] = _anything(chance, 0)
    if given and chance.random() < 0.1:
        del given[chance.choice(sorted(given))]
    return given


def _fitting(chance: random.Random, schema: dict[str, Any]) -> Any:
    """Return a value that is likely, not sure, to conform."""
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return _fitting(chance, chance.choice(schema[word]))
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return chance.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return [_fitting(chance, schema["items"]) for _ in range(chance.randint(0, 3))]
    if kind == "object":
        return {name: _fitting(chance, each) for name, each in schema["properties"].items()}
    simple = {
        "string": chance.choice(_TEXTS),
        "integer": chance.randint(-6, 60),
        "number": chance.choice([0, 2, 4.0, 1.5, 48]),
        "boolean": True,
        "null": None,
    }
    return simple.get(kind, chance.choice(_TEXTS)) if isinstance(kind, str) else "a"


def _anything(chance: random.Random, depth: int) -> Any:
    if depth < 3 and chance.random() < 0.3:
        if chance.random() < 0.5:
            return [_anything(chance, depth + 1) for _ in range(chance.randint(0, 4))]
        return {chance.choice(_NAMES): _anything(chance, depth + 1) for _ in range(3)}
    numbers = [0, -1, 1, 2**63, -(2**70), 1e308, 0.1, 1.0, math.pi]
    return chance.choice([*_TEXTS, *numbers, True, False, None])


def main(arguments: list[str] | None = None) -> int:
    """Run the fuzz; exit code 1 if a wrong call got through, or anything crashed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schema_fuzz")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    score = run(chosen.calls, chosen.seed)
    if chosen.json:
        print(json.dumps(asdict(score), indent=1))
    else:
        print(f"{score.calls:,} calls in {score.seconds} s: {score.wrong_refused:,} of "
              f"{score.wrong:,} wrong ones refused, {score.right_refused:,} of {score.right:,} "
              f"right ones too, {score.crashes} crashes")  # fmt: skip
        print("\n".join(score.examples), file=sys.stderr)
    return 1 if score.crashes or score.wrong_refused < score.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Sequences of operations: read from JSON lines, or generated from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from fmos.equivalence.model import Step
from fmos.errors import ArgumentError

MAX_STEPS = 10_000

_PATHS = ("/a.txt", "/b.txt", "/docs/c.txt", "/docs/d.txt", "/.fmos/memory/x", "/../e.txt")
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbour")
_TOOLS = ("read_file", "write_file", "remove_file", "send_mail", "run_command")
_MODELS = ("local/8B", "cloud/70B", "small")
_KINDS = ("tool",) * 5 + ("model",) * 2 + ("remember",) * 2 + ("recall", "observe", "answer")


def read_steps(text: str, source: str) -> list[Step]:
    """Return the steps of a text of JSON lines; empty lines and `#` lines are passed over.

    Raises:
        ArgumentError: naming the line and what is wrong in it.
    """
    found: list[Step] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            found.append(Step.model_validate(json.loads(line)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise ArgumentError(
                f"{source}:{number}: {where}: {first['msg']}",
                hint="docs/equivalence.md lists the steps",
            ) from error
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"{source}:{number}: it is not JSON: {error}") from error
    if not 0 < len(found) <= MAX_STEPS:
        raise ArgumentError(
            f"{source!r} has {len(found)} operations", hint=f"give 1 to {MAX_STEPS}"
        )
    return found


def written_steps(steps: Iterable[Step]) -> str:
    """Return steps as JSON lines, without what is as usual."""
    return "".join(f"{step.model_dump_json(exclude_defaults=True)}\n" for step in steps)


def generated_steps(
    count: int, seed: int, *, tools: Sequence[str] = _TOOLS, models: Sequence[str] = _MODELS
) -> list[Step]:
    """Return `count` steps; the same seed gives the same ones.

    Raises:
        ArgumentError: if the count is not 1 to 10,000.
    """
    if not 0 < count <= MAX_STEPS:
        raise ArgumentError(f"{count} operations", hint=f"give 1 to {MAX_STEPS}")
    chance = random.Random(seed)
    return [_step(chance, tools, models) for _ in range(count)]


def _step(chance: random.Random, tools: Sequence[str], models: Sequence[str]) -> Step:
    do = chance.choice(_KINDS)
    words = " ".join(chance.sample(_WORDS, 3))
    if do == "tool":
        name = chance.choice(tools)
        return Step(do=do, name=name, arguments=_arguments(chance, name, words))
    if do == "model":
        tokens = chance.choice((1, 10, 100, 1000))
        return Step(do=do, name=chance.choice(models), tokens=tokens, used=tokens // 2)
    if do == "recall":
        return Step(do=do, text=chance.choice(_WORDS))
    if do == "answer":
        return Step(do=do, approve=chance.random() < 0.5)
    return Step(do="remember" if do == "remember" else "observe", text=words)


def _arguments(chance: random.Random, name: str, words: str) -> dict[str, str]:
    if name == "send_mail":
        return {"to": f"{chance.choice(_WORDS)}@example.org", "text": words}
    if name == "run_command":
        return {"command": f"echo {words}"}
    path = chance.choice(_PATHS)
    return {"path": path, "content": words} if name == "write_file" else {"path": path}

"""What a document asks for, whichever its shape: the first of the five steps of binding."""

from __future__ import annotations

import math
import re

from pydantic import Field

from fmos.contract.binding_document import BindingDocument, Fallback
from fmos.contract.model import AgentContract, Compute, Latency, Slo, is_open, parse_amount
from fmos.types import Record

#: Dimensions that are bounds, not names to choose from; `limits` has them as whole numbers.
_NUMERIC = re.compile(r"\d+(?:\.\d+)?")
_MEMORY_UNIT = {
    "": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_CPU = re.compile(r"(\d+(?:\.\d+)?)\s*(m)?")


class Requirements(Record):
    """Hard and soft requirements per dimension (`model`, `capabilities`, `placement`, ...).

    A value list is in order of preference and one of it is enough, except for `capabilities`, all
    of which are needed. An empty list in `must` is what layers leave over when nothing is allowed.
    Version ranges such as `asr_local_v2..v3` and globs are as written.
    """

    agent: str
    latency: Latency = Latency.DT
    slo: Slo = Slo()
    must: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    prefer: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    model_lists: tuple[tuple[str, ...], ...] = Field(
        default=(), description="a chosen model must be on each of these (`model.on_each_list`)"
    )
    limits: dict[str, int] = Field(
        default_factory=dict,
        description="numbers among the hard requirements, rounded down; cpu_milli, mem_bytes, gpu",
    )
    fallbacks: tuple[Fallback, ...] = ()
    source: str = Field(default="", description="`contract:` or `binding:` and the digest")


def normalise(document: AgentContract | BindingDocument) -> Requirements:
    """Return what a contract or binding document asks for, in one shape."""
    if isinstance(document, BindingDocument):
        return _of_binding(document)
    return _of_contract(document)


def quantity(name: str, text: str) -> int | None:
    """Return `compute.cpu` in thousandths of a core, `mem` in bytes, `gpu` in devices.

    Null if the text is not a quantity that we read.
    """
    if name == "mem":
        found = _MEMORY.fullmatch(text.strip())
        return (
            math.floor(float(found[1]) * _MEMORY_UNIT[(found[2] or "").lower()]) if found else None
        )
    found = _CPU.fullmatch(text.strip())
    if found is None:
        return None
    whole = float(found[1])
    if name == "cpu":
        return math.floor(whole if found[2] else whole * 1000)
    return math.floor(whole) if found[2] is None else None


def _of_binding(document: BindingDocument) -> Requirements:
    numbers = {name: _whole(values) for name, values in document.must.items()}
    return Requirements(
        agent=document.agent,
        latency=document.class_.latency,
        slo=document.class_.slo,
        must=dict(document.must),
        prefer=dict(document.prefer),
        limits={name: number for name, number in numbers.items() if number is not None},
        fallbacks=document.allow_fallbacks,
        source=f"binding:{document.digest}",
    )


def _of_contract(contract: AgentContract) -> Requirements:
    models = contract.modelPolicy.candidates()
    granted = tuple(name for name in contract.capabilities if contract.grants(name))
    must = {"capabilities": granted} if granted else {}
    if models is not None:
        must["model"] = models
    policy = contract.modelPolicy
    preferred = tuple(name for name in policy.prefer if is_open(name) or policy.allows(name))
    return Requirements(
        agent=contract.name,
        latency=contract.class_.latency,
        slo=contract.class_.slo,
        must=must,
        prefer={"model": preferred} if preferred else {},
        model_lists=contract.modelPolicy.lists(),
        limits=_bounds(contract),
        source=f"contract:{contract.digest}",
    )


def _bounds(contract: AgentContract) -> dict[str, int]:
    slo = {name: math.floor(value) for name, value in contract.class_.slo if value is not None}
    tokens = contract.modelPolicy.max_context_tokens
    context = {} if tokens is None else {"max_context_tokens": tokens}
    return {**slo, **context, **_compute(contract.compute)}


def _compute(compute: Compute) -> dict[str, int]:
    unit = {"cpu": "cpu_milli", "mem": "mem_bytes", "gpu": "gpu"}
    asked = {unit[name]: quantity(name, text) for name, text in compute if text is not None}
    return {name: amount for name, amount in asked.items() if amount is not None}


def _whole(values: tuple[str, ...]) -> int | None:
    """Return a single value that is a number (`10`, `0.5`, `50k`), rounded down."""
    if len(values) != 1:
        return None
    amount = parse_amount(values[0])
    if isinstance(amount, int):
        return amount
    return math.floor(float(values[0])) if _NUMERIC.fullmatch(values[0]) else None

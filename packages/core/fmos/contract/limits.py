"""The numbers among a document's hard requirements, as exact as the document writes them."""

from __future__ import annotations

import re

from fmos.contract.requirements import Requirements, quantity

#: Dimensions that are the machine's share, and what `limits` calls them.
COMPUTE = {"cpu": "cpu_milli", "mem": "mem_bytes", "gpu": "gpu"}
_FRACTION = re.compile(r"\d+\.\d+")


def exact_limits(asked: Requirements) -> dict[str, int | float]:
    """Return the numbers among the hard requirements as the document writes them.

    Rounding a time down would make a schedule look possible that is not.
    """
    exact: dict[str, int | float] = dict(asked.limits)
    for name in COMPUTE:
        amount = quantity(name, asked.must[name][0]) if name in asked.must else None
        if amount is not None:
            exact.pop(name, None)
            exact[COMPUTE[name]] = amount
    for name, words in asked.must.items():
        if name in exact and _FRACTION.fullmatch(words[0]):
            exact[name] = float(words[0])
    for name, value in asked.slo:
        if value is not None and value != exact.get(name):
            exact[name] = int(value) if value == int(value) else value
    return exact

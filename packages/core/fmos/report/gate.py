"""How often the trust gate stops calls, by which rule, and how often people then say yes.

From the journals alone. A person's yes after a question is a likely false stop: the rule asked
about what was right. What nobody answered says nothing, nor does a denial, which asks nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fmos.report.source import batches

GateGroup = Literal["tenant", "agent", "rule", "tool", "day"]
GROUPS: tuple[GateGroup, ...] = ("tenant", "agent", "rule", "tool", "day")

_INTENT, _DECIDED = "op.intent", "approval.decide"
_STOPS = ("ask", "deny")
#: What only says that a call was let through.
_PASSING = frozenset({"allow", "trap-table", "once", ""})


@dataclass(slots=True)
class GateRow:
    """The calls of one group; `asked` counts questions, not how often a call repeated one."""

    group: tuple[str, ...]
    checked: int = 0
    denied: int = 0
    asked: int = 0
    yes: int = 0
    no: int = 0
    noted: int = 0

    def as_json(self, names: Iterable[str], of: int) -> dict[str, Any]:
        """Return the row with the names of its group, and its rates in percent of `of` calls."""
        counts = asdict(self)
        del counts["group"]
        rates = {
            "denied_pct": _percent(self.denied, of),
            "asked_pct": _percent(self.asked, of),
            "yes_pct": _percent(self.yes, self.yes + self.no),
        }
        return {**dict(zip(names, self.group, strict=True)), **counts, **rates}


@dataclass(slots=True)
class GateReport:
    """The rows of a report, the busiest first, and what all of them come to."""

    by: tuple[GateGroup, ...]
    total: GateRow = field(default_factory=lambda: GateRow(()))
    rows: dict[tuple[str, ...], GateRow] = field(default_factory=dict)
    _asked: dict[str, list[GateRow]] = field(default_factory=dict)

    def load(self, tenant: str, path: Path, since_ns: int, until_ns: int) -> None:
        """Add the rows of one tenant's journal.

        Raises:
            FormatError: if the file is not a volume, or is encrypted.
        """
        for batch in batches(path, since_ns, until_ns, (_INTENT, _DECIDED)):
            for _seq, time_ns, principal, operation, text in batch:
                detail = json.loads(text)
                if operation == _DECIDED:
                    self._answer(detail)
                elif detail.get("kind") != "model.generate":
                    self._intent(tenant, time_ns, principal, detail)

    def shown(self) -> list[dict[str, Any]]:
        """Return the rows as JSON, what stops most first; a rule's rates are of all calls."""
        rows = sorted(self.rows.values(), key=lambda row: (-(row.denied + row.asked), row.group))
        every = self.total.checked if "rule" in self.by else 0
        return [row.as_json(self.by, every or row.checked) for row in rows]

    def _intent(self, tenant: str, time_ns: int, principal: str, detail: dict[str, Any]) -> None:
        decision = detail.get("decision", "")
        approval = detail.get("approval") or ""
        # The same question again, and the call that a yes let through, are not counted anew.
        again = decision == "ask" and approval in self._asked
        answered = decision != "ask" and approval in self._asked
        if again or answered:
            return
        parts = [*principal.split("/"), "", "", ""]
        named = {"tenant": tenant, "agent": parts[2], "tool": str(detail.get("name", ""))}
        named["day"] = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d")
        rows = [self.total]
        for rule in _rules(detail) if "rule" in self.by else ("",):
            group = tuple({**named, "rule": rule}[each] for each in self.by)
            rows.append(self.rows.setdefault(group, GateRow(group)))
        for row in rows:
            row.checked += 1
            row.denied += decision == "deny"
            row.asked += decision == "ask"
            row.noted += decision not in _STOPS and bool(_rules(detail)[0])
        if decision == "ask" and approval:
            self._asked[approval] = rows

    def _answer(self, detail: dict[str, Any]) -> None:
        for row in self._asked.get(str(detail.get("id", "")), ()):
            row.yes += detail.get("state") == "approved"
            row.no += detail.get("state") == "denied"


def _rules(detail: dict[str, Any]) -> list[str]:
    """Return the rules that had something against a call; one empty name where none had."""
    named = detail.get("rules") or detail.get("reasons") or ()
    return list(dict.fromkeys(each for each in named if each not in _PASSING)) or [""]


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None

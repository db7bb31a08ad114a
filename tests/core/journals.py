"""Volumes with a journal of many operations on fixed days, for what reads journals."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.core.sessions import put_contract

from agentfs import AgentFS

#: 2026-03-02 09:00 UTC.
START_NS = 1_772_442_000 * 1_000_000_000

_DAY_NS = 86_400 * 1_000_000_000
_TOOLS = ("read_file", "search_web", "run_command", "write_file")
_DENIALS = ("trust.path_scope", "trust.secret", "trust.recipient", "budget.exceeded")
_INSERT = """
INSERT INTO journal(seq, time_ns, principal, branch, operation, path, path2, detail, hash)
VALUES (?, ?, ?, ?, ?, '', '', ?, zeroblob(32))
"""

Row = tuple[str, int, str, dict[str, Any]]


def write_journal(path: Path, turns: int, *, days: int = 7, seed: int = 5) -> int:
    """Make a volume with the rows of so many turns of three agents; return how many rows.

    The rows are written as agentfs stores them, but are chained by no hash.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    AgentFS.open(path).close()
    chance = random.Random(seed)
    with sqlite3.connect(path) as database:
        first = database.execute("SELECT coalesce(max(seq), 0) FROM journal").fetchone()[0] + 1
        rows = enumerate(_turns(turns, days, chance), first)
        database.executemany(
            _INSERT,
            (
                (
                    seq,
                    time_ns,
                    f"default/-/{agent}/s{time_ns // _DAY_NS}",
                    agent,
                    kind,
                    _json(detail),
                )
                for seq, (agent, time_ns, kind, detail) in rows
            ),
        )
        count = database.execute("SELECT count(*) FROM journal").fetchone()[0]
    database.close()
    return int(count) - first + 1


def _turns(turns: int, days: int, chance: random.Random) -> Iterator[Row]:
    for number in range(turns):
        agent = ("planner", "writer", "reviewer")[chance.choices((0, 1, 2), (2, 5, 3))[0]]
        start_ns = START_NS + number * days * _DAY_NS // turns
        tokens = chance.randint(400, 4_000) * (2 if agent == "writer" else 1)
        model = _asked(f"m{number}", "model.generate", "local/8B", "allow", ["budget.reserved"])
        yield agent, start_ns, "op.intent", model
        took_ns = chance.randint(200, 1_100) * 1_000_000
        done = {"id": f"m{number}", "status": "ok", "duration_ms": 0.0, "usage": {"tokens": tokens}}
        yield agent, start_ns + took_ns, "op.outcome", done
        yield from _call(agent, number, start_ns + took_ns + 1_000_000, chance)


def _call(agent: str, number: int, time_ns: int, chance: random.Random) -> Iterator[Row]:
    place = chance.choices(range(4), (6, 2, 1, 1))[0]
    name, id = _TOOLS[place], f"t{number}"
    if chance.random() < 0.08:
        said = "ask" if name == "write_file" else "deny"
        why = "trust.consent.required" if said == "ask" else chance.choice(_DENIALS)
        yield agent, time_ns, "op.intent", _asked(id, "tool.call", name, said, [why])
        return
    fast = name == "read_file" and chance.random() < 0.7
    asked = _asked(id, "tool.call", name, "allow", ["trap.innocuous" if fast else "trust.allowed"])
    if chance.random() < 0.05:
        asked["labels"] = [f"signal:{chance.choice(('novel_tool', 'budget'))}"]
    yield agent, time_ns, "op.intent", asked
    took_ms = round(chance.lognormvariate(1.0 + 1.6 * place, 0.6), 2)
    status = "failed" if chance.random() < 0.03 else "ok"
    ended = {"id": id, "status": status, "duration_ms": took_ms, "usage": {}}
    yield agent, time_ns + int(took_ms * 1e6), "op.outcome", ended


def _asked(id: str, kind: str, name: str, decision: str, reasons: list[str]) -> dict[str, Any]:
    said = {"decision": decision, "reasons": reasons, "signals": [], "labels": []}
    return {"id": id, "kind": kind, "name": name, "arguments": "0" * 64, **said, "policy": "p1"}


def _json(detail: dict[str, Any]) -> str:
    return json.dumps(detail, sort_keys=True, separators=(",", ":"))


if __name__ == "__main__":  # python -m tests.core.journals HOME: the home of docs/report.md
    write_journal(Path(sys.argv[1]) / "tenants" / "default.afs", 400)
    put_contract(Path(sys.argv[1]))

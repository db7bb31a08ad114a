"""Drives Cedar for `trust_rules.py`: one permit a tool, parsed once; one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import cedarpy  # pyright: ignore[reportMissingImports]


class Worker:
    """One policy set."""

    def __init__(self) -> None:
        self._policies: Any = None
        self._count = 0

    def ready(self) -> str:
        """Say that the library is there."""
        return "ok"

    def prepare(self, policies: int) -> int:
        """Parse a permit for each tool."""
        text = "\n".join(
            f'permit(principal == Agent::"a", action == Action::"tool{n}", resource)'
            ' when { context.path like "/work/*" && context.amount <= 500 };'
            for n in range(policies)
        )
        self._policies, self._count = cedarpy.PolicySet.from_str(text), policies
        return policies

    def decide(self, calls: int) -> list[float]:
        """Judge calls of tools in turn and return the microseconds of each."""
        taken: list[float] = []
        for number in range(calls):
            n = number * 7919 % self._count
            request = {
                "principal": 'Agent::"a"',
                "action": f'Action::"tool{n}"',
                "resource": 'Home::"h"',
                "context": {"path": f"/work/part{n % 40}/file {n}.txt", "amount": n % 500},
            }
            begin = time.perf_counter_ns()
            found = cedarpy.is_authorized(request, self._policies, [])
            taken.append((time.perf_counter_ns() - begin) / 1000)
            if not found.allowed:
                raise RuntimeError(f"Cedar denied {request}: {found.diagnostics.errors}")
        return taken


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be read as an answer
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": getattr(worker, request.pop("do"))(**request)}
        except Exception as error:
            answer = {"error": repr(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()

"""Runs regular expressions in a process of its own, which can be stopped: `re` itself cannot.

A pattern such as `(a+)+$` may take years, and a thread in the middle of a search cannot be ended.
This file is also the program of that process: it imports nothing of agentfs and sees no volume. It
reads requests from stdin, each a line of JSON and then the bytes that it counts, and answers each
with a line of JSON.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from typing import IO, Any

_SHOWN = 300
_ALARM_S = 60


def _search(request: dict[str, Any], texts: list[bytes]) -> dict[str, Any]:
    """Return, for each text, the numbers and beginnings of the lines that match."""
    flags = re.IGNORECASE if request["ignore_case"] else 0
    pattern: str = request["pattern"]
    search = re.compile(re.escape(pattern) if request["fixed"] else pattern, flags).search
    limit: int = request["limit"]
    found: list[list[list[Any]]] = []
    for text in texts:
        lines: list[list[Any]] = []
        if limit > 0:
            # A text may be the rest of one whose first lines were in an earlier answer.
            for number, line in enumerate(text.decode("utf-8", "replace").split("\n"), 1):
                hit = search(line)
                if hit is not None:
                    lines.append([number, _shown(line.rstrip("\r"), hit.start())])
                    if len(lines) >= limit:
                        break
        limit -= len(lines) if not request["files"] else min(len(lines), 1)
        found.append(lines[:1] if request["files"] else lines)
    return {"found": found}


def _shown(line: str, start: int) -> str:
    """Return a line, or the part of a long one in which the match begins."""
    if len(line) <= _SHOWN:
        return line
    first = max(0, min(start - _SHOWN // 3, len(line) - _SHOWN))
    head, tail = "…" if first else "", "…" if first + _SHOWN < len(line) else ""
    return f"{head}{line[first : first + _SHOWN]}{tail}"


def _serve(source: IO[bytes], target: IO[bytes]) -> None:
    while line := source.readline():
        # Whoever asked may have been killed; then nobody else ends a search that goes on for ever.
        signal.alarm(_ALARM_S)
        request = json.loads(line)
        texts = [source.read(size) for size in request["sizes"]]
        try:
            answer = _search(request, texts)
        except (re.error, OverflowError, RecursionError) as error:
            answer = {"error": str(error)}
        target.write(json.dumps(answer).encode() + b"\n")
        target.flush()
        signal.alarm(0)


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)

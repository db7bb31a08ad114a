"""Worker: detect-secrets behind the line protocol of peers.py; runs in its own environment."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from detect_secrets.core import scan  # pyright: ignore[reportMissingImports]
from detect_secrets.settings import (  # pyright: ignore[reportMissingImports]
    default_settings,
    transient_settings,
)

#: Those that judge by randomness or by words alone take most of the time and find most of nothing.
_LOOSE = ("Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector")


class Worker:
    """Each method is one request and returns what goes back."""

    def ready(self) -> None:
        """Say that the imports are done."""

    def scan(self, texts: list[str], loose: bool) -> dict[str, float]:
        """Scan texts line by line; return seconds and how many secrets were found."""
        with default_settings() as own:
            plugins = [{"name": name} for name in own.plugins if loose or name not in _LOOSE]
        with transient_settings({"plugins_used": plugins}):
            begin = time.perf_counter()
            found = sum(
                1 for text in texts for line in text.split("\n") for _ in scan.scan_line(line)
            )
            return {"seconds": time.perf_counter() - begin, "found": found}


def main() -> None:
    """Answer requests, one a line, until the input ends."""
    worker = Worker()
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        try:
            answer = {"result": getattr(worker, asked.pop("do"))(**asked)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

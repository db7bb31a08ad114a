"""Asks the process of `matcher` and stops it when its time is up."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from .refusal import ToolRefusal

_PROGRAM = Path(__file__).with_name("matcher.py")
_READ_BYTES = 1 << 16


class Query(NamedTuple):
    """What to look for; `limit` bounds the lines of an answer, or with `files` its files."""

    pattern: str
    fixed: bool
    ignore_case: bool
    files: bool


class TimeUp(Exception):
    """The process did not answer in time and was stopped."""


class Matcher:
    """The process, started when it is first needed; one search at a time."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def search(
        self, query: Query, texts: list[bytes], limit: int, deadline: float
    ) -> list[list[tuple[int, str]]]:
        """Return the lines that match in each text, with their numbers from 1.

        Raises:
            TimeUp: `deadline`, of `time.monotonic`, has passed.
            ToolRefusal: the pattern is no regular expression.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeUp
        try:
            answer = self._ask(query, texts, limit, deadline)
        except BaseException:
            self._stop()
            raise
        finally:
            self._lock.release()
        if "error" in answer:
            raise ToolRefusal(
                f"{query.pattern!r} is no regular expression ({answer['error']}); correct it, or"
                " set fixed=true to look for the text itself",
                "fs.invalid_argument",
            )
        return [[(number, text) for number, text in lines] for lines in answer["found"]]

    def _ask(self, query: Query, texts: list[bytes], limit: int, deadline: float) -> dict[str, Any]:
        process = self._started()
        assert process.stdin is not None
        request = {**query._asdict(), "limit": limit, "sizes": [len(each) for each in texts]}
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.writelines(texts)
            process.stdin.flush()
        except BrokenPipeError as error:
            raise ToolRefusal("the search process ended; try again") from error
        return json.loads(self._answer(process, deadline))

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            # -S -E: nothing of the environment runs in it, and it starts in 20 ms.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
            )  # fmt: skip
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        found = bytearray()
        while not found.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeUp
            piece = os.read(descriptor, _READ_BYTES)
            if not piece:
                raise ToolRefusal("the search process ended; try again")
            found += piece
        return bytes(found)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def kill(self) -> None:
        """Stop the process without waiting for a search to end."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Stop the process."""
        with self._lock:
            self._stop()

"""Answers `GET /healthz`: does the daemon answer, and can it read its home.

Over TCP it needs no token and says nothing but its status: 204, or 503. Over the unix socket, whose
other end is the home's owner, it names the process and its version too.
"""

from __future__ import annotations

import json
import os

import anyio.to_thread
from starlette.types import Scope, Send

from fmos.serving.app import version
from fmos.storage.database import Database

PATH = "/healthz"


class Health:
    """The health of a daemon over one home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def asks(self, scope: Scope) -> bool:
        """Return whether a request is for this."""
        return scope["path"] == PATH and scope["method"] in ("GET", "HEAD")

    async def __call__(self, scope: Scope, send: Send, *, owner: bool) -> None:
        """Answer; only the owner is told more than the status."""
        problem = await anyio.to_thread.run_sync(self._problem)
        status = 503 if problem else 200 if owner else 204
        said = {"version": version(), "pid": os.getpid()} | (
            {"problem": problem} if problem else {}
        )
        body = json.dumps(said).encode("ascii") if owner and scope["method"] == "GET" else b""
        headers = [(b"cache-control", b"no-store")]
        if status != 204:
            headers.append((b"content-length", str(len(body)).encode()))
        if body:
            headers.append((b"content-type", b"application/json"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _problem(self) -> str:
        if not self._database.path.exists():
            return f"{str(self._database.path)!r} was removed or moved away"
        try:
            self._database.query("SELECT 1 FROM component LIMIT 1")
        except Exception as error:
            return str(error)
        return ""

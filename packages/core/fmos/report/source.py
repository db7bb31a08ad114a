"""Reads the journal rows of a volume for a report: read-only, in batches, and nothing else of it.

Straight from the table that agentfs/SPEC.md describes, because a report reads millions of rows and
wants the details as the text that they are stored as.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

from agentfs.looking import look_at
from fmos.errors import FormatError

#: What a report is made of; all other rows stay where they are.
KINDS = ("op.intent", "op.outcome", "memory.write")

BATCH = 100_000

_ROWS = """
SELECT seq, time_ns, principal, operation, detail FROM journal
WHERE operation IN (SELECT value FROM json_each(?)) AND time_ns >= ? AND time_ns < ? ORDER BY seq
"""

Batch = list[tuple[Any, ...]]


def volumes(folder: Path, tenants: tuple[str, ...] = ()) -> list[tuple[str, Path]]:
    """Return the tenants of a folder of volumes, by name, with their files."""
    found = [(path.stem, path) for path in sorted(folder.glob("*.afs"))]
    return [(name, path) for name, path in found if not tenants or name in tenants]


def batches(
    path: Path, since_ns: int, until_ns: int, kinds: tuple[str, ...] = KINDS
) -> Iterator[Batch]:
    """Yield the rows of a time in their order.

    Raises:
        FormatError: if the file is not a volume, or is encrypted.
    """
    connection: apsw.Connection | None = None
    try:
        connection = look_at(str(path))
        connection.set_busy_timeout(10_000)
        cursor = connection.execute(_ROWS, (json.dumps(kinds), since_ns, until_ns))
        while batch := list(islice(cursor, BATCH)):
            yield batch
    except apsw.Error as error:
        raise FormatError(
            f"{str(path)!r} cannot be read as a volume: {error}",
            hint="`fmos doctor` checks the volumes of a home",
        ) from error
    finally:
        if connection is not None:
            connection.close()

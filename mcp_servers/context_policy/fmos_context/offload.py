"""The size rule: which texts are paged out, and the stub that stands in for one.

A stub depends on nothing but the text and its handle, so it is the same bytes each time and a
provider's prompt cache keeps working.
"""

from __future__ import annotations

import hashlib

from fmos_context.model import Role

#: Beyond this size every text is paged out, whatever its role and whatever the session says.
HARD_CAP_BYTES = 20 * 1024

#: The tool that pages text back in; its output is not paged out again below the hard cap.
READ_TOOL = "context_read"

_HEAD_BYTES = 200
_TAIL_BYTES = 150
#: Below this size a stub saves nothing.
_STUB_WORTH_BYTES = 1_200


def is_paged_out(
    size_bytes: int, threshold_bytes: int, *, role: Role, name: str, pinned: bool
) -> bool:
    """Return whether the size rule pages a text out.

    What a person or a developer wrote, what is pinned and what was just paged in stay whole up to
    the hard cap; everything else up to the session's threshold.
    """
    whole = pinned or role in ("system", "user") or name == READ_TOOL
    return size_bytes > (HARD_CAP_BYTES if whole else min(threshold_bytes, HARD_CAP_BYTES))


def handle_for(session: str, ordinal: int, data: bytes) -> str:
    """Return the handle of an item's text; it names the position and proves the content."""
    digest = hashlib.sha256(f"{session}\0{ordinal}\0".encode() + data).hexdigest()
    return f"p{ordinal}-{digest[:10]}"


def stub_for(data: bytes, handle: str, *, paged_out: bool) -> str:
    """Return the stub of a text, or "" for a text too short for a stub to save anything."""
    if not paged_out and len(data) < _STUB_WORTH_BYTES:
        return ""
    head = data[:_HEAD_BYTES].decode("utf-8", "ignore")
    tail = data[max(_HEAD_BYTES, len(data) - _TAIL_BYTES) :].decode("utf-8", "ignore")
    return (
        f"[paged out: {len(data)} bytes, {count_lines(data)} lines, handle {handle}]\n"
        f"{head}\n[...]\n{tail}\n"
        f'[read more: context_read(handle="{handle}", offset=0), or pattern="regex" for lines]'
    )


def count_lines(data: bytes) -> int:
    """Return the number of lines; the last need not end with a line break."""
    return data.count(b"\n") + (1 if data and not data.endswith(b"\n") else 0)

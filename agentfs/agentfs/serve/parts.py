"""Makes the parts of a file that fs_read returns: by lines, by bytes, as base64 or as an image."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterator
from typing import NamedTuple

from agentfs.filesystem import AgentFS
from agentfs.paths import split

from .refusal import ToolRefusal
from .results import ReadResult

MAX_IMAGE_BYTES = 4 * 1024 * 1024
PROBE_BYTES = 8192
#: So far into a file lines are counted; what is behind is read by bytes.
_MAX_SCAN_BYTES = 256 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_LINE_BYTES = 2000
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}  # fmt: skip


class Image(NamedTuple):
    """What fs_read returns for an image: the result and the block that shows it."""

    result: ReadResult
    data: str


class FileParts:
    """One file that is read."""

    def __init__(self, fs: AgentFS, real: str, shown: str) -> None:
        self.fs = fs
        self.real = real
        self.info = fs.stat(real)
        self.shown = shown
        self.size = self.info.size

    def _result(self, kind: str, content: str, **rest: object) -> ReadResult:
        fields = {
            "path": self.shown, "kind": kind, "content": content, "size_bytes": self.size,
            "node": self.info.node, "truncated": False,
            "mime_type": mime_of(self.real, self.fs.read(self.real, 0, 16)),
        }  # fmt: skip
        return ReadResult.model_validate({**fields, **rest})

    def as_image(self, mime_type: str) -> Image:
        """Return all of it, to be shown."""
        if self.size > MAX_IMAGE_BYTES:
            raise ToolRefusal(
                f"{self.shown!r} is an image of {self.size} bytes, and at most {MAX_IMAGE_BYTES}"
                " can be shown; read parts of it with start_byte"
            )
        data = base64.b64encode(self.fs.read(self.real)).decode("ascii")
        return Image(self._result("image", "", mime_type=mime_type), data)

    def by_bytes(self, start: int, count: int) -> ReadResult:
        """Return some bytes, as text where they are."""
        if start > self.size:
            raise ToolRefusal(f"{self.shown!r} has {self.size} bytes; start_byte is behind its end")
        data = self.fs.read(self.real, start, start + count)
        text = _as_text(data, start + len(data) >= self.size)
        if text is None:
            # Base64 is a third longer than what it stands for.
            data = data[: max(count * 3 // 4, 1)]
            kind, content = "binary", base64.b64encode(data).decode("ascii")
        else:
            kind, content = "text", text
            data = text.encode()
        end = start + len(data)
        more = end < self.size
        return self._result(
            kind, content, start_byte=start, end_byte=end, truncated=more,
            next_start_byte=end if more else None,
        )  # fmt: skip

    def by_lines(self, first: int, count: int, budget: int, numbered: bool) -> ReadResult:
        """Return some lines, with at most so many bytes."""
        part = _Part(first, count, budget, numbered)
        end_reached = True
        for number, raw in self._lines():
            if number < first:
                continue
            if not part.add(number, raw):
                end_reached = False
                break
        if part.binary:
            return self.by_bytes(0, budget)
        total = self.total if end_reached else None
        if first > 1 and end_reached and first > self.total:
            raise ToolRefusal(
                f"{self.shown!r} has {self.total} lines; start_line is behind its end"
            )
        return self._result(
            "text", "".join(part.shown), start_line=first, end_line=part.last or None,
            truncated=not end_reached, next_start_line=None if end_reached else part.last + 1,
            total_lines=total, cut_lines=part.cut,
        )  # fmt: skip

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield lines with their ends and numbers, holding a bounded part of the file."""
        self.total = 0
        rest = b""
        for start in range(0, self.size, _PIECE_BYTES):
            if start > _MAX_SCAN_BYTES:
                raise ToolRefusal(
                    f"{self.shown!r} has {self.size} bytes; read it with start_byte from here on"
                )
            *lines, rest = (rest + self.fs.read(self.real, start, start + _PIECE_BYTES)).split(
                b"\n"
            )
            for line in lines:
                self.total += 1
                yield self.total, line + b"\n"
            rest = rest[: _LINE_BYTES + 1]  # of a longer line no more is shown
        if rest:
            self.total += 1
            yield self.total, rest


class _Part:
    """The lines of one answer."""

    def __init__(self, first: int, count: int, budget: int, numbered: bool) -> None:
        self._left = budget
        self._end = first + count
        self._numbered = numbered
        self.shown: list[str] = []
        self.cut: list[int] = []
        self.last = 0
        self.binary = False

    def add(self, number: int, raw: bytes) -> bool:
        """Take a line; say whether it had room."""
        if number >= self._end:
            return False
        text = _as_text(raw[:_LINE_BYTES], len(raw) <= _LINE_BYTES)
        if text is None:
            self.binary = True
            return False
        is_cut = len(raw) > _LINE_BYTES
        if is_cut:
            text += "…\n" if raw.endswith(b"\n") else "…"
        line = f"{number:6}\t{text}" if self._numbered else text
        size = len(line.encode())
        if size > self._left and self.shown:
            return False
        self._left -= size
        self.shown.append(line)
        self.last = number
        if is_cut:
            self.cut.append(number)
        return True


def _as_text(data: bytes, is_end: bool) -> str | None:
    """Return bytes as text, without a character that is cut at the end, or None."""
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if not is_end and error.start > 0 and error.reason == "unexpected end of data":
            return data[: error.start].decode()
        return None


def image_type(head: bytes) -> str | None:
    """Return the type of an image that a client can show, from its first bytes."""
    for magic, mime_type in _IMAGES.items():
        if head.startswith(magic) and (magic != b"RIFF" or head[8:12] == b"WEBP"):
            return mime_type
    return None


def mime_of(path: str, head: bytes) -> str:
    """Return the type of a file, from its first bytes and its name."""
    image = image_type(head)
    if image is not None:
        return image
    guessed = mimetypes.guess_type(split(path)[1])[0]
    return guessed or ("application/octet-stream" if b"\0" in head else "text/plain")

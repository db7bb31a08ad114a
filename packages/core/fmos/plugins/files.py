"""The built-in retriever: the lines of an agent's own files that share words with a question."""

from __future__ import annotations

import hashlib
import heapq
import math
import re
from collections.abc import Callable, Iterator, Sequence

from agentfs import AgentFS
from fmos.drivers import Passage
from fmos.types import Principal

_MAX_FILES = 5_000
_MAX_FILE_BYTES = 2_000_000
_MAX_WORDS = 16
_MAX_PASSAGE = 600
_WORD = re.compile(r"\w{2,64}")


class FileRetriever:
    """Searches text files of the agent's branch, word by word; it reads, and keeps nothing.

    A passage is a line; it scores by how many of the question's words it has, rare ones first.
    """

    name = "files"

    def __init__(self, files: Callable[[Principal], AgentFS | None]) -> None:
        self._files = files

    def search(self, query: str, k: int, principal: Principal) -> Sequence[Passage]:
        """Return at most `k` lines, best first, each with its path and the file's SHA-256."""
        words = list(dict.fromkeys(_WORD.findall(query.casefold())))[:_MAX_WORDS]
        fs = self._files(principal)
        if not words or fs is None or k < 1:
            return ()
        lines: list[tuple[str, str, str, frozenset[str]]] = []
        seen = dict.fromkeys(words, 0)
        for path, data in _texts(fs):
            text = data.decode("utf-8", "replace")
            folded = text.casefold()
            if not any(word in folded for word in words):
                continue
            digest = hashlib.sha256(data).hexdigest()
            for line in text.splitlines():
                has = frozenset(_WORD.findall(line[:10_000].casefold())) & seen.keys()
                for word in has:
                    seen[word] += 1
                if has:
                    lines.append((path, digest, line.strip()[:_MAX_PASSAGE], has))
        weight = {word: 1 / (1 + math.log1p(count)) for word, count in seen.items()}
        scored = ((sum(weight[word] for word in has), *rest) for *rest, has in lines)
        best = heapq.nsmallest(k, scored, key=lambda each: (-each[0], each[1]))
        return tuple(
            Passage(text=text, source=path, digest=digest, score=round(score, 6))
            for score, path, digest, text in best
        )


def _texts(fs: AgentFS) -> Iterator[tuple[str, bytes]]:
    """Yield the text files of a branch, not too large and not too many."""
    count = 0
    for directory, _, _ in fs.walk("/"):
        for entry in fs.scandir(directory):
            if not entry.stat.is_file or entry.stat.size > _MAX_FILE_BYTES:
                continue
            count += 1
            if count > _MAX_FILES:
                return
            try:
                data = fs.read(entry.path)
            except OSError:
                continue  # removed meanwhile, or not the agent's to read
            if b"\0" not in data[:8192]:
                yield entry.path, data

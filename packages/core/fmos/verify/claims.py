"""Finds the claims in a text by fixed rules: the same text always has the same claims.

Fenced blocks of JSON and SQL are claims of these types. In the rest, a sentence with an equation is
one of arithmetic, one with a conversion of units, and one with a citation mark of citation.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Collection, Iterator
from itertools import islice

from fmos.verify.equations import equations_in
from fmos.verify.model import Claim

MAX_TEXT = 1_000_000
MAX_CLAIMS = 1_000
_MAX_SENTENCE = 4_000

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n]*$")
_BLOCKS = {"json": "json", "sql": "sql", "sqlite": "sql", "postgresql": "sql", "mysql": "sql"}
_DIALECTS = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql"}
_CODE = re.compile(r"`[^`\n]{1,500}`")
#: A mark as [1], [^note] or [report.txt]; not a link, a task's box or an index.
_MARK = re.compile(
    r"(?<![\w\]`])\[(\^?[\w./@:-]{1,120}(?:\s?[,;]\s?\^?[\w./@:-]{1,120}){0,9})\](?!\()"
)
_GLUED = re.compile(r"(?<=\w\w\w)\[(\^?\d{1,3}(?:\s?[,;]\s?\d{1,3}){0,9})\](?!\()")
_DEFINED = re.compile(r"^ {0,3}\[(\^?[\w.-]{1,60})\]:?[ \t]+(\S{1,300})", re.MULTILINE)
_QUOTE = re.compile(r"[\"“„]([^\"“”\n]{3,600})[\"”“]")
_END = re.compile(
    r"(?<=[.!?])[\"”)]?(?:\s?\[[^\]\n]{1,200}\])*\s+(?=[A-Z\"“(\d*-])|\n\s*\n|\n(?=\s*[-*|#]|\s*\d+[.)])"
)
_TOTAL = re.compile(
    r"^\W*(?:grand )?(?:total|sum)\b[^\d\n-]{0,40}(-?[$€£¥]?\s?[\d][^\s|*]*)", re.IGNORECASE
)
_LAST_NUMBER = re.compile(r"(-?)[$€£¥]?\s?(\d[\d,.'\u00a0]*)[^\d\n]{0,12}$")
_ROW = re.compile(r"^\s*(?:[-*+|]|\d{1,3}[.)])")


#: The types of the claims that are found in a text.
CLAIM_TYPES = ("arithmetic", "units", "json", "sql", "citation")


def claims_in(
    text: str,
    sources: Collection[str] = (),
    *,
    types: Collection[str] = (),
    risk: float = 0.5,
    most: int = MAX_CLAIMS,
    progress: Callable[[int], None] | None = None,
) -> list[Claim]:
    """Return the claims of a text's first 1,000,000 characters, in order.

    Args:
        text: An answer, in plain text or Markdown.
        sources: The names of sources; a mark that is a word counts only if it is one of them.
        types: Only claims of these types; empty: all.
        risk: What each claim gets as its risk.
        most: The text is not read beyond that many claims.
        progress: Is told the line, sentence by sentence.
    """
    valid = text[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    finder = _Finder(frozenset(sources), frozenset(types or CLAIM_TYPES), progress)
    found = islice(finder.claims(valid), most)
    return [claim.model_copy(update={"risk": risk}) for claim in found]


class _Finder:
    """Finds the claims of one text."""

    def __init__(
        self,
        sources: frozenset[str],
        types: frozenset[str],
        progress: Callable[[int], None] | None,
    ) -> None:
        self._sources = sources
        self._types = types
        self._progress = progress
        self._defined: dict[str, str] = {}

    def claims(self, text: str) -> Iterator[Claim]:
        """Yield claims as they are found, by line; in one line blocks and totals come first."""
        blocks, prose = _parts(text)
        self._defined = dict(_DEFINED.findall(prose))
        prose = _DEFINED.sub(lambda found: " " * len(found[0]), prose)
        wanted = (block for block in blocks if block.type in self._types)
        totals = _totals(prose) if "arithmetic" in self._types else iter(())
        yield from heapq.merge(wanted, totals, self._said(prose), key=lambda claim: claim.line)

    def _said(self, prose: str) -> Iterator[Claim]:
        line, before = 1, 0
        for start, sentence in _sentences(prose):
            line += prose.count("\n", before, start)
            before = start
            if self._progress is not None:
                self._progress(line)
            if len(sentence) <= _MAX_SENTENCE:
                yield from self._of_sentence(sentence, line)

    def _of_sentence(self, sentence: str, line: int) -> Iterator[Claim]:
        plain = _without_marks(sentence, self._sources, self._defined)
        if any(char.isdigit() for char in plain):
            if "arithmetic" in self._types and next(equations_in(plain), None) is not None:
                yield Claim(type="arithmetic", text=plain, line=line)
            if "units" in self._types and _has_quantities(plain):
                yield Claim(type="units", text=plain, line=line)
        marks = list(_marks(sentence, self._sources, self._defined))
        if marks and "citation" in self._types:
            quotes = [found[1].strip() for found in _QUOTE.finditer(sentence)]
            content = {"statement": plain, "quotes": quotes}
            named = tuple(dict.fromkeys(marks))
            yield Claim(type="citation", text=sentence, content=content, sources=named, line=line)


def _parts(text: str) -> tuple[list[Claim], str]:
    """Return the claims in fenced blocks, and the rest with blank lines in their place."""
    blocks: list[Claim] = []
    rest: list[str] = []
    inside: list[str] = []
    fence, language, opened = "", "", 0
    for number, line in enumerate(text.split("\n"), 1):
        found = _FENCE.match(line)
        if not fence and found:
            fence, language, opened, inside = found[1], found[2].lower(), number, []
            rest.append("")
        elif fence and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            if language in _BLOCKS:
                blocks.append(_block(language, "\n".join(inside), opened + 1))
            fence = ""
            rest.append("")
        elif fence:
            inside.append(line)
            rest.append("")
        else:
            rest.append(_CODE.sub(lambda code: " " * len(code[0]), line))
    return blocks, "\n".join(rest)


def _block(language: str, text: str, line: int) -> Claim:
    dialect = _DIALECTS.get(language)
    content = {"dialect": dialect} if dialect else {}
    return Claim(type=_BLOCKS[language], text=text, content=content, line=line)


def _sentences(prose: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence with where it begins; a mark behind the full stop belongs to it."""
    start = 0
    for end in _END.finditer(prose):
        sentence = prose[start : end.end()]
        if sentence.strip():
            yield start + len(sentence) - len(sentence.lstrip()), sentence.strip()
        start = end.end()
    if prose[start:].strip():
        rest = prose[start:]
        yield start + len(rest) - len(rest.lstrip()), rest.strip()


def _marks(sentence: str, sources: frozenset[str], defined: dict[str, str]) -> Iterator[str]:
    for pattern in (_MARK, _GLUED):
        for found in pattern.finditer(sentence):
            if _is_citation(found[1], sources, defined):
                for mark in re.split(r"\s?[,;]\s?", found[1]):
                    yield _resolved(mark, sources, defined)


def _without_marks(sentence: str, sources: frozenset[str], defined: dict[str, str]) -> str:
    plain = sentence
    for pattern in (_MARK, _GLUED):
        plain = pattern.sub(
            lambda found: "" if _is_citation(found[1], sources, defined) else found[0], plain
        )
    return plain.strip()


def _is_citation(marks: str, sources: frozenset[str], defined: dict[str, str]) -> bool:
    """Return whether every mark is a number, a note, or the name of something."""
    each = re.split(r"\s?[,;]\s?", marks)
    return all(
        mark.isdigit()
        or mark.startswith("^")
        or mark in defined
        or mark.partition("@sha256:")[0] in sources
        or bool(re.fullmatch(r"[\w-]+(?:[./:][\w-]+)+(?:@sha256:[0-9a-f]+)?", mark))
        for mark in each
    )


def _resolved(mark: str, sources: frozenset[str], defined: dict[str, str]) -> str:
    """Return the source that a mark means: by its definition, or by its own name."""
    if mark in sources:
        return mark
    named = defined.get(mark)
    return named if named is not None else mark.removeprefix("^")


def _totals(prose: str) -> Iterator[Claim]:
    """Yield a claim for each list or table of numbers that ends with a line of their total."""
    numbers: list[str] = []
    for line_number, line in enumerate(prose.split("\n"), 1):
        total = _TOTAL.match(line[:400])
        if total and len(numbers) > 1:
            content = {"numbers": list(numbers), "result": _cleaned(total[1])}
            text = line.strip()
            yield Claim(type="arithmetic", text=text, content=content, line=line_number)
        last = _LAST_NUMBER.search(line[-200:].rstrip(" |*")) if _ROW.match(line) else None
        if last and not total:
            numbers.append(_cleaned(last[1] + last[2]))
        elif not line.strip(" |-:"):
            continue
        else:
            numbers = []


def _cleaned(number: str) -> str:
    return re.sub(r"[$€£¥\s]", "", number).rstrip(".,;:")


def _has_quantities(text: str) -> bool:
    try:
        from fmos.verify.units import has_quantities  # noqa: PLC0415 - loads pint, an extra
    except ImportError:
        return False
    return has_quantities(text)

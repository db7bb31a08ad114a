"""Finds where a sentence stands in a source: exactly, normalised, or by the words they share."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, OrderedDict
from dataclasses import dataclass
from threading import Lock

from fmos.verify.model import Source

MAX_SOURCE_CHARACTERS = 4_000_000
_MAX_SENTENCE_WORDS = 400
_MAX_POSITIONS = 200_000
_KEPT = 8

_WORD = re.compile(r"\w+(?:[.,'’-]\w+)*")
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'",
                         "–": "-", "—": "-", "−": "-", "\u00ad": None})  # fmt: skip
#: Words that say little about what a sentence is about.
_COMMON = frozenset(
    {
        *("a", "an", "and", "are", "as", "at", "be", "been", "by", "for", "from", "had", "has"),
        *("have", "in", "into", "is", "it", "its", "of", "on", "or", "that", "the", "their"),
        *("this", "to", "was", "were", "which", "will", "with"),
    }
)
_SCALES = frozenset({"thousand", "million", "billion", "trillion", "percent"})
NEGATIONS = frozenset(
    {"not", "no", "never", "none", "nobody", "nothing", "without", "cannot", "neither", "nor"}
)


@dataclass(frozen=True, slots=True)
class Match:
    """The best passage for a sentence: how it matches, the share of words found, and its text."""

    how: str
    share: float
    passage: str


@dataclass(frozen=True, slots=True)
class Read:
    """A source as it is searched: normalised text, its words, and where each word stands."""

    normal: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    places: dict[str, list[int]]


class Reader:
    """Reads sources, and keeps the last few by their digest. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Read] = OrderedDict()
        self._lock = Lock()

    def read(self, source: Source) -> Read:
        """Return the source as it is searched; what is beyond 4,000,000 characters is not."""
        key = source.digest
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            found = _read(source.text[:MAX_SOURCE_CHARACTERS])
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found


def normalised(text: str) -> str:
    """Return a text without what does not matter: case, kinds of quotes and dashes, and spaces."""
    plain = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    return re.sub(r"\s+", " ", plain).strip().casefold()


def words_of(text: str) -> list[str]:
    """Return the words of a normalised text."""
    return _WORD.findall(text)


def find(sentence: str, source: Source, read: Read, *, numbers: bool = True) -> Match:
    """Return the best passage of a source for a sentence; its share is 0 where there is none.

    Without `numbers`, these are no words of the sentence: who asks compares them as values.
    """
    if sentence.strip() and sentence.strip() in source.text:
        return Match("exactly", 1.0, sentence.strip())
    normal = normalised(sentence).strip(" .,;:!?\"'")
    if normal and _stands_in(normal, read.normal):
        return Match("but for case, quotes and spaces", 1.0, normal)
    return _by_words(normal, read, numbers)


def negated(text: str) -> int:
    """Return how many words of a normalised text deny."""
    return sum(word in NEGATIONS or word.endswith("n't") for word in words_of(text))


def _stands_in(sentence: str, text: str) -> bool:
    """Return whether a sentence stands in a text as whole words: 3 is not in 35."""
    at = text.find(sentence)
    while at >= 0:
        end = at + len(sentence)
        before = at == 0 or not (text[at - 1].isalnum() and sentence[0].isalnum())
        after = end == len(text) or not (text[end].isalnum() and sentence[-1].isalnum())
        if before and after:
            return True
        at = text.find(sentence, at + 1)
    return False


def _read(text: str) -> Read:
    normal = normalised(text)
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    places: dict[str, list[int]] = {}
    for index, found in enumerate(_WORD.finditer(normal)):
        words.append(found[0])
        spans.append(found.span())
        places.setdefault(found[0], []).append(index)
    return Read(normal, tuple(words), tuple(spans), places)


def _by_words(sentence: str, read: Read, numbers: bool) -> Match:
    """Slide a window over the places where words of the sentence stand; most words win."""
    words = words_of(sentence)[:_MAX_SENTENCE_WORDS]
    wanted = Counter(word for word in words if _matters(word, numbers))
    size = sum(wanted.values())
    places = _places(wanted, read)
    if not size or not places:
        return Match("", 0.0, "")
    width = max(8, 2 * size)
    inside: Counter[str] = Counter()
    best, span, first, shared = 0, (0, 0), 0, 0
    for last, (place, word) in enumerate(places):
        inside[word] += 1
        shared += inside[word] <= wanted[word]
        while place - places[first][0] >= width:
            left = places[first][1]
            shared -= inside[left] <= wanted[left]
            inside[left] -= 1
            first += 1
        if shared > best:
            best, span = shared, (places[first][0], places[last][0])
    passage = read.normal[read.spans[span[0]][0] : read.spans[span[1]][1]]
    return Match("by its words", best / size, passage[:400])


def _matters(word: str, numbers: bool) -> bool:
    return word not in _COMMON and (numbers or not (word[0].isdigit() or word in _SCALES))


def _places(wanted: Counter[str], read: Read) -> list[tuple[int, str]]:
    """Return where words of the sentence stand, in order; the rarest first, if there are many."""
    found: list[tuple[int, str]] = []
    for word in sorted(wanted, key=lambda each: len(read.places.get(each, ()))):
        places = read.places.get(word, [])
        if len(found) + len(places) > _MAX_POSITIONS:
            break
        found += [(place, word) for place in places]
    return sorted(found)

"""What the gate keeps of secrets that entered a session, and how it finds and hides them.

What a secret looks like is fmos.redaction's matter; recognising one again is redaction/exact.py's.
Values are never kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from fmos.redaction import Found, find
from fmos_trust.keyed import KeyedHash
from fmos_trust.redaction.exact import Known, KnownSecret, Match, forms_kept

__all__ = ["Known", "KnownSecret", "find_known", "known", "masked"]


def known(found: Found, source: str, keyed: KeyedHash) -> KnownSecret:
    """Return what may be kept of a secret."""
    value = found.value.encode("utf-8", "surrogatepass")
    kept = forms_kept(found.value, keyed)
    return KnownSecret(found.kind, len(value), keyed.digest(value), source, kept)


def find_known(
    texts: str | Iterable[str], seen: Iterable[KnownSecret], keyed: KeyedHash
) -> KnownSecret | None:
    """Return a seen secret that the texts hold, plainly, encoded, or split over several of them."""
    said = [texts] if isinstance(texts, str) else texts
    return (seen if isinstance(seen, Known) else Known(seen)).first(said, keyed)


def masked(text: str, seen: Iterable[KnownSecret], keyed: KeyedHash) -> str:
    """Return a text without secrets: those it shows by itself, and those that were seen before."""
    hidden = [(span.start, span.end, span.rule.id) for span in find(text)]
    met = (seen if isinstance(seen, Known) else Known(seen)).matches(text, keyed)
    hidden += [_named(match) for match in met]
    parts: list[str] = []
    done = 0
    for start, end, kind in sorted(hidden):
        if end <= done:
            continue
        parts += (text[done : max(start, done)], f"<{kind}>" if start >= done else "")
        done = end
    return "".join((*parts, text[done:]))


def _named(match: Match) -> tuple[int, int, str]:
    return match.start, match.end, match.secret.kind

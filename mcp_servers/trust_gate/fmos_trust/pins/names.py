"""Names that are taken for another: look-alike letters, and one character more, less or other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fmos_trust.evidence.normal import plain

_SAME = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "5": "s", "-": "_", ".": "_"})
_SHORTEST = 5


def skeleton(name: str) -> str:
    """Return a form that is equal for names which look the same."""
    return plain(name).translate(_SAME)


class LookAlikes:
    """Finds what a name may be taken for among the names it is made of."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(dict.fromkeys(names))
        self._skeletons: dict[str, list[str]] = {}
        self._shorter: dict[str, list[str]] = {}
        for name in self._names:
            self._skeletons.setdefault(skeleton(name), []).append(name)
            for part in _shortened(name):
                self._shorter.setdefault(part, []).append(name)

    def same(self, name: str) -> bool:
        """Return whether the very name is among them."""
        return name in self._names

    def looks_like(self, name: str) -> str:
        """Return another name that looks the same; empty for none."""
        return next((each for each in self._skeletons.get(skeleton(name), ()) if each != name), "")

    def near(self, name: str) -> str:
        """Return another name that is one edit away, counters aside; empty for none."""
        if len(name) < _SHORTEST:
            return ""
        for part in _shortened(name):
            for each in self._shorter.get(part, ()):
                if each != name and len(each) >= _SHORTEST and _one_edit(name, each):
                    return each
        return ""


def _shortened(name: str) -> Iterator[str]:
    yield name
    for at in range(len(name)):
        yield name[:at] + name[at + 1 :]


def _one_edit(one: str, other: str) -> bool:
    """Return whether one insertion, deletion or change of a letter makes them equal."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    left, right = one[start:], other[start:]
    if len(one) == len(other):
        return left[1:] == right[1:] and not (left[0].isdigit() and right[0].isdigit())
    longer, shorter = (left, right) if len(one) > len(other) else (right, left)
    return longer[1:] == shorter and not longer[0].isdigit()

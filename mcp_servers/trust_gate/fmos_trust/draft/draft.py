"""Drafts a policy: sentences to rules, with examples judged by those rules.

Where the caller has a model, `propose` may put a text that is not understood into sentences that
are; without one nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fmos.contract.trust_policy import RuleEffect, TrustPolicy
from fmos.errors import ArgumentError
from fmos_trust.draft.cases import Case, cases_of, verdict
from fmos_trust.draft.model import Sentence
from fmos_trust.draft.read import read_sentence
from fmos_trust.draft.rules import policy_of

#: Puts a free text into controlled English: what it returns is read as any sentence is.
Propose = Callable[[str], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Checked:
    """An example, and what the drafted rules do to it."""

    case: Case
    found: RuleEffect | None

    @property
    def kept(self) -> bool:
        """Whether the rules do what the sentence says."""
        return self.found == self.case.expected


@dataclass(frozen=True, slots=True)
class Draft:
    """A policy that a person may accept, and examples of what it does; `proposed`: by a model."""

    policy: TrustPolicy
    sentences: tuple[Sentence, ...]
    checked: tuple[Checked, ...]
    proposed: tuple[str, ...] = ()


def draft(name: str, texts: Iterable[str], propose: Propose | None = None) -> Draft:
    """Return a drafted policy.

    Raises:
        ArgumentError: naming the word that is not understood; or if a sentence makes a rule that
            does not do what it says, such as one that never applies.
    """
    sentences: list[Sentence] = []
    proposed: list[str] = []
    for text in texts:
        for each, is_new in _read(text, propose):
            sentences.append(each)
            proposed += [each.text] * is_new
    checked = tuple(each for sentence in sentences for each in _checked(sentence))
    return Draft(policy_of(name, sentences), tuple(sentences), checked, tuple(proposed))


def _read(text: str, propose: Propose | None) -> list[tuple[Sentence, bool]]:
    try:
        return [(read_sentence(text), False)]
    except ArgumentError:
        if propose is None:
            raise
        return [(read_sentence(each), True) for each in propose(text)]


def _checked(sentence: Sentence) -> list[Checked]:
    alone = policy_of("draft", [sentence])
    found = [Checked(case, verdict(alone, case)) for case in cases_of(sentence)]
    broken = next((each for each in found if not each.kept), None)
    if broken is not None:
        wanted, got = broken.case.expected or "nothing", broken.found or "nothing"
        raise ArgumentError(
            f"{sentence.text!r} contradicts itself: {broken.case.said()} would get {got}, not"
            f" {wanted}",
            hint="say days in one list (`on Mondays and Fridays`), or say it as two sentences",
        )
    return found

"""How much a sentence of a tool's output reads like an order to whoever reads it.

General English only: mood, address, talk about tasks and instructions. A label, not a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from fmos_trust.evidence.normal import ATOM, words
from fmos_trust.evidence.words import ACTIONS, OBJECTS, READING, stem, word_set

_SENTENCE = re.compile(r"[^\n.!?]*(?:[.!?](?!\s|$)[^\n.!?]*)*(?:[.!?]+|\n|$)")
_LEAD = re.compile(
    r"^(?:[\W_\d]*)(?:(?:please|kindly|then|also|now|next|first|finally|and|so|just|simply"
    r"|immediately|instead|afterwards?|note|todo|task|step|urgent|important|action required"
    r"|hi|hello|dear|hey|assistant|ai|you (?:must|should|need to|have to|can|will|are to)"
    r"|(?:could|can|would|will) you(?: please| kindly)?|make sure (?:to|you|that you)"
    r"|(?:be sure|remember|don't forget|do not forget|ensure you|try) to"
    r"|i (?:need|want|would like|ask|order|expect|'d like) you to"
    r"|it is (?:necessary|required|essential|vital) (?:to|that you)|before [^,:]{3,80}"
    r"|after [^,:]{3,80}|when [^,:]{3,60}|if [^,:]{3,60}|in order to [^,:]{3,60}"
    r"|to [^,:]{3,60})[\s,:;!\-]+)*(?P<verb>[a-z]+)"
)
_OBLIGED = re.compile(
    r"\b(?:must|should|need(?:s)? to|ha(?:ve|s) to|required to|make sure|ensure|be sure|shall"
    r"|ought to|(?:is|are) (?:required|requested|asked|expected|advised|supposed)"
    r"|don't forget|do not forget|kindly|please|would appreciate|would be (?:great|nice|good)"
    r"|(?:could|can|would) you|wants? (?:you|it|this|that)|wishes|would like"
    r"|requests? (?:you|that))\b"
)
_SPEAKS = re.compile(
    r"\b(?:ai|assistant|language model|llm|chat ?bot|bot|the (?:ai )?agent|gpt|copilot"
    r"|the model|autonomous agent|virtual helper|digital helper)\b"
)
_ABOUT_TASK = re.compile(
    r"\b(?:(?:previous|prior|above|earlier|original|initial|other|your|my|these|following|new"
    r"|current|remaining|main|all)\s+(?:\w+\s+)?(?:task|instruction|request|order|prompt|message"
    r"|direction|goal|objective|command|query|job|assignment|work)s?"
    r"|(?:the|this) (?:task|user|prompt|system prompt|operator|administrator|user's request)"
    r"|from (?:me, )?the user|on behalf of|ignore|disregard|override|instead of (?:that|what)"
    r"|before (?:you )?(?:solv|continu|proceed|do|answer|complet|go|finish|anything|start|respond"
    r"|handl|carry|work|reply)\w*"
    r"|(?:can|may|will|then) (?:solve|continue|resume|proceed|go on|get back|carry on)"
    r"|without (?:asking|telling|informing|confirm\w*|mention\w*)"
    r"|do not (?:mention|tell|ask|inform)|don't (?:mention|tell|ask|inform)"
    r"|system (?:message|notice|note|override|update)"
    r"|tool calls?|function calls?|call the (?:tool|function)|use the (?:tool|function))\b"
)
_MARKUP = re.compile(
    r"</?[a-z_]{3,}>|^\s*\[/?[a-z_ ]{3,}\]|={4,}|#{2,}\s|<<+|>>+|\*\*\*|!{2,}|<!--|\binst\b"
)
_WANTED = re.compile(
    r"(?:\b(?:to|could|should|would|can|must|may|might|will|shall|please|namely"
    r"|is that)|[:;])\s+([a-z]{3,})\b"
)
_TOOL_NAME = re.compile(r"\b[a-z]+(?:_[a-z]+){1,5}\b")
_YOU = frozenset({"you", "your", "yourself"})
_MARKS = re.compile(r"[<>\[=#*!]|inst")
_POINTS = re.compile(r"[@./\d]")
#: One of these words stands in whatever the pattern of the same name finds.
_OBLIGED_CUES = word_set(
    "must should need needs have has required sure ensure shall ought requested asked expected"
    " advised supposed forget kindly please would could can want wants wishes request requests"
)
_SPEAKS_CUES = word_set(
    "ai assistant language llm chat chatbot bot agent gpt copilot model virtual digital"
)
_TASK_CUES = word_set(
    "task tasks instruction instructions request requests order orders prompt message messages"
    " direction directions goal goals objective objectives command commands query job jobs"
    " assignment work user behalf ignore disregard override instead before solve continue resume"
    " proceed go carry get without mention tell ask inform system tool function operator"
    " administrator assignments queries works"
)
_NOT_VERBS = word_set(
    "that this it the note list set text mail message file report contact call record open show"
    " name state order present complete correct clean direct answer view check sign raise"
)
_MORE_VERBS = word_set(
    "visit click go use take tell ask say call follow ignore disregard include ensure fill"
    " read search find look fetch get collect gather copy perform do complete carry execute"
    " choose pick select recommend act treat consider provide return give show print reveal"
    " navigate browse proceed continue finish stop wait keep hold help handle adopt apply"
)

#: From here on a sentence counts as an order.
SUSPECT = 0.4


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences and lines of a plain text."""
    for match in _SENTENCE.finditer(text):
        found = match[0].strip()
        if found:
            yield found


@lru_cache(maxsize=4096)
def weighed(sentence: str) -> tuple[float, float]:
    """Return how much a plain sentence reads like an order, and speaks to an assistant."""
    said = frozenset(words(sentence))
    speaks = _speaks(sentence, said)
    return min(_orders(sentence, said) + speaks, 1.0), speaks


def order_score(sentence: str) -> float:
    """Return from 0 to 1 how much a plain sentence reads like an order."""
    return weighed(sentence)[0]


def _orders(sentence: str, said: frozenset[str]) -> float:
    """Return the part of the score that the mood of a sentence gives."""
    score = 0.0
    if commands(sentence):
        score += 0.4
    elif wants(sentence):
        score += 0.35
    if said & _OBLIGED_CUES and _OBLIGED.search(sentence):
        score += 0.25
    if said & _YOU:
        score += 0.1
    if _POINTS.search(sentence) and ATOM.search(sentence):
        score += 0.1
    if "_" in sentence and _TOOL_NAME.search(sentence):
        score += 0.2
    return score


def _speaks(sentence: str, said: frozenset[str]) -> float:
    """Return from 0 to 1 how much a plain sentence speaks to an assistant, about its task."""
    spoken = 0.5 if said & _SPEAKS_CUES and _SPEAKS.search(sentence) else 0.0
    about = len(_ABOUT_TASK.findall(sentence)) if said & _TASK_CUES else 0
    marked = 0.2 if _MARKS.search(sentence) and _MARKUP.search(sentence) else 0.0
    return min(spoken + 0.35 * min(about, 2) + marked, 1.0)


def commands(sentence: str) -> bool:
    """Return whether a plain sentence begins as an order does: a bare verb of doing."""
    match = _LEAD.match(sentence)
    if match is None:
        return False
    verb = match["verb"]
    if sentence.startswith(":", match.end()):
        return False  # a label
    if verb in _MORE_VERBS:
        return True
    known = stem(verb) in ACTIONS or verb in READING
    if not known or verb.endswith(("ed", "ing", "s", "tion", "ment")):
        return False
    return verb not in _NOT_VERBS or match.start("verb") > 0 or _has_object(sentence, match.end())


def wants(sentence: str) -> bool:
    """Return whether a plain sentence wants something done, in whatever mood."""
    return any(
        (one := stem(match[1])) in ACTIONS and one not in OBJECTS
        for match in _WANTED.finditer(sentence)
    )


def _has_object(sentence: str, at: int) -> bool:
    after = sentence[at : at + 24].split()
    return bool(after) and after[0] in {"the", "a", "an", "all", "this", "that", "it", "them", "to"}


def taints(scores: list[float], speaking: list[float]) -> list[float]:
    """Return each sentence's own score, or what its neighbours that speak to the assistant give."""
    found = list(scores)
    for at, strength in enumerate(speaking):
        if strength < 0.35:
            continue
        for other in range(max(0, at - 8), min(len(found), at + 9)):
            reach = min(1.0, strength + 0.2) * 0.9 ** max(0, abs(at - other) - 1)
            found[other] = max(found[other], reach)
    return found

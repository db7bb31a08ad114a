"""Which claims are found in a text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pint", reason="extra `verifiers`")

from fmos.verify.claims import CLAIM_TYPES, claims_in

ANSWER = """\
# Report

The bridge was opened in 1932 [bridge.txt]. It is "1,149 metres long" [1], and
nobody died [1, 2]. See [the docs](x.md), [ ] and a[1] = 3 and `x = [1]`.
It weighs 52,800 tonnes.[9] 5 km is 500 m. And 3 * (4+5) = 28.

- hammer: 10
- nails: 20
Total: 31

| a | 5 |
|---|---|
| b | 7 |
| Total | 12 |

```json
{"a": 1, "a": 2}
```

```postgresql
SELECT 1
```

```python
2 + 2 = 5 [1]
```

[1]: bridge.txt
[2] other.txt
"""


def test_each_kind_of_claim_is_found_with_its_line() -> None:
    """Marks, quotations, equations, conversions, totals, and blocks of JSON and SQL."""
    found = claims_in(ANSWER, ["bridge.txt"])
    assert [(each.line, each.type, each.sources) for each in found] == [
        (3, "citation", ("bridge.txt",)),
        (3, "citation", ("bridge.txt", "other.txt")),
        (5, "citation", ("9",)),
        (5, "units", ()),
        (5, "arithmetic", ()),
        (9, "arithmetic", ()),
        (14, "arithmetic", ()),
        (17, "json", ()),
        (21, "sql", ()),
    ]
    assert found[1].content["quotes"] == ["1,149 metres long"]
    assert found[5].content == {"numbers": ["10", "20"], "result": "31"}
    assert found[8].content == {"dialect": "postgres"}


def test_types_and_risk_are_chosen_by_the_caller() -> None:
    """Only the wanted types come back, with the given risk."""
    found = claims_in(ANSWER, types=["json", "sql"], risk=0.9)
    assert {(each.type, each.risk) for each in found} == {("json", 0.9), ("sql", 0.9)}


def test_words_in_brackets_are_no_citations() -> None:
    """Only numbers, notes, file names and known sources are marks."""
    assert claims_in("He said [sic] that [...] it [is] so [x].") == []
    assert [each.sources for each in claims_in("So [^n].")] == [("n",)]
    assert [each.sources for each in claims_in("So [a/b.md@sha256:ab12].")] == [
        ("a/b.md@sha256:ab12",)
    ]
    assert [each.sources for each in claims_in("So [is].", ["is"])] == [("is",)]


def test_a_text_is_read_no_further_than_the_claims_that_are_wanted() -> None:
    """The first claims are the same however many are wanted, and what follows is not looked at."""
    text = ANSWER * 20
    every, told = claims_in(text, ["bridge.txt"]), list[int]()
    assert claims_in(text, ["bridge.txt"], most=30, progress=told.append) == every[:30]
    assert every[29].line <= max(told) < every[40].line < text.count("\n")
    assert told == sorted(told)


@pytest.mark.parametrize("type", CLAIM_TYPES)
def test_one_type_is_found_as_among_all(type: str) -> None:
    """What is left out for its type changes nothing in the rest."""
    every = claims_in(ANSWER, ["bridge.txt"])
    assert claims_in(ANSWER, ["bridge.txt"], types=[type]) == [
        claim for claim in every if claim.type == type
    ]


def test_many_claims_take_little_time() -> None:
    """A long text of equations costs what the claims cost that are returned of it."""
    text = "".join(f"{number} + 1 = {number + 1}.\n" for number in range(70_000))
    start = time.process_time()
    assert len(claims_in(text)) == 1_000
    assert time.process_time() - start < 3


@given(st.text(max_size=400))
def test_any_text_has_claims_or_none(text: str) -> None:
    """Nothing raises, and the same text has the same claims."""
    assert claims_in(text) == claims_in(text)


PIECES = ["1", " = ", "[1]", "\n", "- ", "Total: ", "`", "```", '"', ". ", "5 km", "\ud800"]


@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_pieces_of_markdown_in_any_order_do_no_harm(parts: list[str]) -> None:
    """Fences that do not end, marks without a sentence, lists without a total."""
    for claim in claims_in("".join(parts)):
        assert claim.line >= 1


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[1]" * 50_000, '"' * 100_000, "\n" * 200_000, ". A" * 60_000, "- 1\n" * 50_000,
     "` " * 80_000, ("a" * 90 + " [1] ") * 3_000, "[1]: x\n" * 30_000],
)  # fmt: skip
def test_hostile_text_takes_little_time(text: str) -> None:
    """Long texts of nothing but marks, quotes or lists end soon."""
    start = time.process_time()
    claims_in(text)
    assert time.process_time() - start < 3

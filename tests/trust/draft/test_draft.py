"""Controlled English to rules, what the rules then do, and back to words."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fmos.contract.parse import load_as
from fmos.contract.trust_policy import TrustPolicy, TrustRule, dumped
from fmos.errors import ArgumentError
from fmos_cli.main import app
from fmos_trust.draft.draft import draft
from fmos_trust.draft.words import in_words

SENTENCES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "sentences.yaml").read_text(encoding="utf-8")
)
HEAD = "apiVersion: agentos/v0.2\nkind: TrustPolicy\nname: office\n"


def plain(rule: TrustRule) -> TrustRule:
    """Return a rule without what two sentences of the same meaning differ in."""
    return rule.model_copy(update={"id": "rule", "message": ""})


def drafted(*sentences: str) -> TrustPolicy:
    """Return the policy that sentences make."""
    return draft("drafted", sentences).policy


def test_there_are_enough_sentences() -> None:
    """The table has the forty that were asked for, each once."""
    assert len({each["sentence"] for each in SENTENCES}) >= 40


@pytest.mark.parametrize("known", SENTENCES, ids=lambda each: each["sentence"])
def test_a_sentence_makes_these_rules(known: dict[str, Any]) -> None:
    """Each sentence makes the rules that a person wrote down for it."""
    found: list[dict[str, Any]] = dumped(drafted(known["sentence"]))["rules"]
    for rule in found:
        del rule["id"]
        rule.pop("message", None)
        rule["tools"] = [
            each.get("name") or ": ".join(next(iter(each.items()))) for each in rule["tools"]
        ]
    assert found == known["rules"]


@pytest.mark.parametrize("known", SENTENCES, ids=lambda each: each["sentence"])
def test_its_rules_do_what_it_says(known: dict[str, Any]) -> None:
    """Every example gets its verdict from the rules, one at least the sentence's own effect."""
    checked = draft("drafted", [known["sentence"]]).checked
    assert all(each.kept for each in checked)
    assert checked[0].found == known["rules"][0]["effect"]


@pytest.mark.parametrize("known", SENTENCES, ids=lambda each: each["sentence"])
def test_rules_are_said_back(known: dict[str, Any]) -> None:
    """The words of a drafted rule draft the same rule again."""
    for rule in drafted(known["sentence"]).rules:
        words = in_words(rule)
        assert words
        assert [plain(each) for each in drafted(words).rules] == [plain(rule)]


@pytest.mark.parametrize(
    ("sentence", "word", "near"),
    [
        ("no deploymnts on Fridays", "'deploymnts'", "deployment"),
        ("no deployments on Frydays", "'Frydays'", "friday"),
        ("no frobnication on Mondays", "'frobnication'", "tool frobnication"),
        ("mask sekrets in messages", "'sekrets'", "secrets"),
        ("please be careful", "'please'", "no deployments|mask secrets|ask before"),
        ("no deployments unless", "ends too early", "no deployments on Fridays"),
        ("ask before payments abov 5 EUR", "'abov'", "above"),
        ("", "one sentence", "no deployments"),
        ("no " * 400, "1,000 characters", ""),
    ],
)
def test_what_is_not_understood_is_named(sentence: str, word: str, near: str) -> None:
    """The error has the word, and the hint the nearest phrasing."""
    with pytest.raises(ArgumentError, match=word) as refused:
        drafted(sentence)
    assert any(part in str(refused.value.hint) for part in near.split("|"))


@pytest.mark.parametrize(
    "sentence",
    [
        "no deployments on Mondays and on Fridays",
        "no e-mails to a.example and to b.example",
        "no payments above 100 EUR and below 50 EUR",
        "no writes after 16:00 before 9:00",
    ],
)
def test_a_contradiction_is_refused(sentence: str) -> None:
    """A sentence whose rule could never apply, or not as it says, makes no rule."""
    with pytest.raises(ArgumentError):
        drafted(sentence)


def test_several_sentences_make_one_policy() -> None:
    """Ids stay apart, also of two sentences that begin alike."""
    twice = "deployments only on weekdays and between 9:00 and 17:00"
    policy = drafted(twice, "never payments", twice)
    assert len({rule.id for rule in policy.rules}) == len(policy.rules) == 5
    assert load_as(TrustPolicy, yaml.safe_dump(dumped(policy))) == policy


WORDS = (
    "no ask before allow only may on Fridays after 16:00 unless to payments and or except the tool"
    " role in /work above 5 EUR example.com mask secrets"
)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS.split(" ")), max_size=9).map(" ".join))
def test_any_text_is_a_policy_or_a_sentence_why_not(text: str) -> None:
    """Nothing crashes, and what is understood keeps its examples."""
    found = None
    with suppress(ArgumentError):
        found = draft("drafted", [text])
    assert found is None or all(each.kept for each in found.checked)


def test_a_model_proposes_only_what_is_not_understood() -> None:
    """What it says is read as any sentence is, and marked."""
    asked: list[str] = []

    def propose(text: str) -> list[str]:
        asked.append(text)
        return ["no deployments on weekends"]

    found = draft("drafted", ["keep our Sundays quiet", "never payments"], propose)
    assert asked == ["keep our Sundays quiet"]
    assert found.proposed == ("no deployments on weekends",)
    with pytest.raises(ArgumentError):
        draft("drafted", ["keep our Sundays quiet"], lambda _: ["gibberish"])


def run(home: Path, *words: str) -> tuple[int, str]:
    """Run `fmos policy ...` and return its exit code and all that it printed."""
    answer = CliRunner().invoke(app, ["--home", str(home), "policy", *words])
    return answer.exit_code, answer.output


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that is there."""
    (tmp_path / "home" / "policies" / "trust").mkdir(parents=True)
    (tmp_path / "home" / "fmos.toml").write_text("")
    return tmp_path / "home"


def test_nothing_is_written_unasked(home: Path) -> None:
    """Without --write the policy is only shown; with it a person must agree."""
    sentence = "no deployments on Fridays after 16:00 unless on-call"
    code, said = run(home, "draft", sentence)
    assert code == 0
    assert "is denied" in said
    assert "is let be" in said
    code, _ = run(home, "draft", sentence, "--write")
    assert code != 0
    assert not list((home / "policies" / "trust").iterdir())


def test_an_accepted_draft_is_in_force(home: Path) -> None:
    """Written, it is a policy of the home, said back in the same words; comments stay."""
    path = home / "policies" / "trust" / "office.yaml"
    path.write_text(f"# ours\n{HEAD}rules:\n  # why\n- id: a\n  tools: [x]\n  effect: deny\n")
    words = "no deployments on Fridays after 16:00 unless by the role on-call"
    code, said = run(home, "draft", words, "--name", "office", "--write", "--yes")
    assert code == 0, said
    assert "+- id:" in said
    assert "# why" in path.read_text()
    code, said = run(home, "show", "--words")
    assert code == 0
    assert words in said
    assert 'no tool "x"' in said
    before = path.read_text()
    code, said = run(home, "draft", words, "--name", "office", "--write", "--yes")
    assert code == 0
    assert "already" in said
    assert path.read_text() == before


def test_a_configured_command_may_propose(home: Path) -> None:
    """The settings name a command that gets the text; without it nothing is asked."""
    text = "sundays are quiet"
    assert run(home, "draft", text)[0] != 0
    said = 'draft_command = ["sh", "-c", "cat >/dev/null; echo no deployments on weekends"]'
    (home / "fmos.toml").write_text(f"[trust]\n{said}\n")
    code, output = run(home, "draft", text)
    assert code == 0
    assert "a model proposed: no deployments on weekends" in output
    (home / "fmos.toml").write_text('[trust]\ndraft_command = ["/nonexistent"]\n')
    assert run(home, "draft", text)[0] != 0

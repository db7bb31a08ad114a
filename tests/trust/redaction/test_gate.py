"""The gate hides what tools bring in, and lets no secret out, in pieces neither."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fmos.clock import FixedClock
from fmos.runtime.kernel import Kernel
from fmos.runtime.lifecycle import Lifecycle
from fmos.types import Decision, Operation, Principal, Verdict
from fmos_trust.redaction.guard import Redactions
from fmos_trust.tools import TrustTools

SECRET = "Zq8rT2mVx91LpW4k"
TOKEN = "ghp_" + "a1B2c3" * 6
CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: writer
capabilities: ["fs.read", "deploy", "message.send", "process.run"]
"""
TOOLS: list[dict[str, Any]] = [
    {"name": "read_file", "capability": "fs.read", "effect": "read", "roles": {"path": "path"}},
    {
        "name": "send",
        "capability": "message.send",
        "effect": "send",
        "roles": {"to": "recipient", "subject": "body", "text": "body"},
    },
    {"name": "deploy", "capability": "deploy", "effect": "execute", "roles": {"key": "body"}},
    {"name": "run", "capability": "process.run", "effect": "execute", "roles": {"c": "command"}},
]
_DAY_S = 86_400


class Gate:
    """A gate over a home with these settings, as the agent `writer` sees it."""

    def __init__(self, kernel: Kernel, session: str = "s1") -> None:
        kernel.contracts.save(CONTRACT)
        self.kernel = kernel
        self.who = Principal(agent="writer", session=session)
        self.tools = TrustTools(kernel, self.who)
        self.tools.call("trust_register_tools", {"tools": TOOLS})

    def check(self, name: str, **arguments: Any) -> Verdict:
        """Check a call."""
        operation = Operation(kind="tool.call", name=name, arguments=arguments)  # type: ignore[arg-type]
        given = {"operation": operation.model_dump(mode="json")}
        return Verdict.model_validate(self.tools.call("trust_check", given))

    def observe(self, text: str, source: str = "read_file") -> dict[str, Any]:
        """Report a text that came in."""
        settled = [{"observation": {"source": source, "text": text}}]
        return self.tools.call("trust_observe", {"settled": settled})


Opened = Callable[..., Gate]


@pytest.fixture
def clock() -> FixedClock:
    """A clock that is set by hand."""
    return FixedClock()


@pytest.fixture
def gate(tmp_path: Path, clock: FixedClock) -> Iterator[Opened]:
    """Open a gate over one home with these lines under `[trust]`."""
    kernels: list[Kernel] = []

    def opened(*lines: str, session: str = "s1") -> Gate:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        told = "\n".join(("[trust]", 'evidence = "off"', *lines))
        (home / "fmos.toml").write_text(told, encoding="utf-8")
        kernel = Kernel.open(home, clock=clock)
        kernels.append(kernel)
        return Gate(kernel, session)

    yield opened
    for kernel in kernels:
        kernel.close()


def codes(verdict: Verdict) -> list[str]:
    """Return the codes of a verdict's reasons."""
    return [reason.code for reason in verdict.reasons]


def test_a_secret_in_an_output_is_hidden(gate: Opened) -> None:
    """The answer holds the text to show and says what was hidden; ordinary text stays as it is."""
    door = gate()
    answer = door.observe(f"API_TOKEN={SECRET}\nand {TOKEN}, again {SECRET[::-1]}")
    assert answer["redacted"] == (
        "API_TOKEN=<assigned-secret>\nand <github-token>, again <assigned-secret>"
    )
    assert answer["hidden"] == [
        {"kind": "assigned-secret", "count": 2},
        {"kind": "github-token", "count": 1},
    ]
    assert door.observe("three lines of ordinary text")["redacted"] is None


def test_settling_a_call_hides_as_well(gate: Opened) -> None:
    """What a checked call returned comes back without its secrets."""
    door = gate()
    ran = door.check("run", c="ls")
    outcome = {"operation": ran.operation, "status": "ok"}
    observation = {"source": "run", "text": f"token {TOKEN}"}
    answer = door.tools.call("trust_settle", {"outcome": outcome, "observation": observation})
    assert answer["redacted"] == "token <github-token>"


def test_a_users_own_text_stays(gate: Opened) -> None:
    """What the user says is theirs to say; it is known as a secret all the same."""
    door = gate()
    assert door.observe(f"my key is {TOKEN}", source="user")["redacted"] is None
    assert codes(door.check("send", to="ann@example.com", text=TOKEN)) == ["trust.secret"]


def test_a_known_secret_is_hidden_in_later_outputs(gate: Opened) -> None:
    """A secret that shows itself once is hidden wherever it comes again, encoded too."""
    door = gate()
    door.observe(f"API_TOKEN={SECRET}")
    said = f"plain {SECRET}, hex {SECRET.encode().hex()}, spaced {' '.join(SECRET)}!"
    hidden = "<assigned-secret>"
    assert door.observe(said)["redacted"] == f"plain {hidden}, hex {hidden}, spaced {hidden}!"


def test_personal_data_is_hidden_where_the_home_says_so(gate: Opened) -> None:
    """Off by default; on, nothing runs without the gate, which alone knows the setting."""
    said = "card 4111 1111 1111 1111, mail ann@example.org, call +49 30 901820"
    assert gate().observe(said)["redacted"] is None
    door = gate('redact_outputs = ["secrets", "financial", "email-address"]')
    assert door.observe(said)["redacted"] == (
        "card <card-number>, mail <email-address>, call +49 30 901820"
    )
    rules = door.tools.call("trust_table", {})["rules"]
    assert {rule["operation_class"] for rule in rules} == {"privileged"}


def test_redaction_of_outputs_can_be_switched_off(gate: Opened) -> None:
    """A home that says so shows everything, and still lets no secret out."""
    door = gate("redact_outputs = []")
    assert door.observe(f"token {TOKEN}")["redacted"] is None
    assert codes(door.check("send", to="ann@example.com", text=TOKEN)) == ["trust.secret"]


def test_a_token_leads_back_to_its_value(gate: Opened) -> None:
    """The same value has the same token in a session; only named tools get the value."""
    door = gate('reversible = ["secrets"]', 'restore_for = ["deploy"]')
    first = door.observe(f"token {TOKEN} and API_TOKEN={SECRET}")["redacted"]
    assert first == "token <secret:github-token:1> and API_TOKEN=<secret:assigned-secret:1>"
    assert door.observe(f"again {TOKEN}")["redacted"] == "again <secret:github-token:1>"
    verdict = door.check("deploy", key={"of": ["<secret:github-token:1>!", "<secret:x:9>"]})
    assert verdict.decision is Decision.TRANSFORM
    assert verdict.arguments == {"key": {"of": [f"{TOKEN}!", "<secret:x:9>"]}}
    assert "trust.restored" in codes(verdict)
    sent = door.check("send", to="ann@example.com", text="<secret:github-token:1>")
    assert sent.decision is Decision.ALLOW
    other = gate('reversible = ["secrets"]', 'restore_for = ["deploy"]', session="s2")
    assert other.check("deploy", key="<secret:github-token:1>").decision is Decision.ALLOW


def test_a_restart_keeps_tokens_and_an_end_erases_them(gate: Opened) -> None:
    """Tokens are kept sealed in the home, and go with the session."""
    lines = ('reversible = ["secrets"]', 'restore_for = ["deploy"]')
    gate(*lines).observe(f"token {TOKEN}")
    door = gate(*lines)
    restored = door.check("deploy", key="<secret:github-token:1>")
    assert restored.arguments == {"key": TOKEN}, restored.reasons
    files = [path for path in door.kernel.home.path.rglob("*") if path.is_file()]
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    Redactions(door.kernel).forget(door.who)
    assert door.check("deploy", key="<secret:github-token:1>").decision is Decision.ALLOW


def test_a_killed_agents_tokens_are_erased(gate: Opened) -> None:
    """What stood for values leads nowhere once the agent is no more."""
    door = gate('reversible = ["secrets"]')
    door.observe(f"token {TOKEN}")
    redactions = Redactions(door.kernel)
    count = "SELECT count(*) FROM trust_token"
    redactions.expire()
    assert door.kernel.database.query(count) == [(1,)]
    Lifecycle(door.kernel).kill(door.who)
    redactions.expire()
    assert door.kernel.database.query(count) == [(0,)]


def test_a_secret_split_over_arguments_does_not_leave(gate: Opened) -> None:
    """Two halves in two arguments, in either order, are the secret."""
    door = gate()
    door.observe(f"API_TOKEN={SECRET}")
    for subject, text in ((SECRET[:7], SECRET[7:]), (SECRET[9:], SECRET[:9])):
        verdict = door.check("send", to="ann@example.com", subject=subject, text=text)
        assert verdict.decision is Decision.DENY
        assert codes(verdict) == ["trust.secret"]


@pytest.mark.parametrize("encode", [str, lambda part: f"part two is {part}, keep it", str.upper])
def test_a_secret_split_over_calls_does_not_leave(gate: Opened, encode: Any) -> None:
    """The call that would complete the secret is denied, also after a restart."""
    door = gate()
    door.observe(f"API_TOKEN={SECRET}")
    assert door.check("send", to="ann@example.com", text=encode(SECRET[:8])).allowed
    assert door.check("send", to="ann@example.com", text="the weather is fine here").allowed
    again = gate()
    verdict = again.check("send", to="ann@example.com", text=encode(SECRET[8:]))
    assert verdict.decision is Decision.DENY
    assert codes(verdict) == ["trust.secret"]
    assert verdict.reasons[0].change
    stored = again.kernel.database.query("SELECT sealed FROM trust_fragment")
    assert stored
    assert SECRET[:8].encode() not in stored[0][0]


def test_what_leaves_is_changed_where_the_home_says_so(gate: Opened) -> None:
    """Personal data is taken out of bodies, never out of addresses; a command is asked about."""
    door = gate('redact_arguments = ["pii"]')
    verdict = door.check("send", to="ann@example.com", text="bob@example.org pays 4111111111111111")
    assert verdict.decision is Decision.TRANSFORM
    assert verdict.arguments == {
        "to": "ann@example.com",
        "text": "<email-address> pays <card-number>",
    }
    asked = door.check("run", c="notify bob@example.org")
    assert asked.decision is Decision.ASK, asked.reasons
    assert codes(asked) == ["trust.redact_command"]
    assert door.check("read_file", path="/bob@example.org").decision is Decision.ALLOW


def test_a_secret_is_not_one_for_ever(gate: Opened, clock: FixedClock) -> None:
    """After the time that the home says it is forgotten, unless it was seen again."""
    door = gate("secrets_keep_days = 10")
    door.observe(f"API_TOKEN={SECRET}")
    door.observe(f"token {TOKEN}")
    clock.advance(8 * _DAY_S)
    door.observe(f"token {TOKEN}")
    clock.advance(4 * _DAY_S)
    Redactions(door.kernel).expire()
    assert door.check("send", to="ann@example.com", text=SECRET).allowed
    assert not door.check("send", to="ann@example.com", text=TOKEN).allowed


def test_a_page_of_secrets_does_not_fill_the_home(gate: Opened) -> None:
    """Of thousands of values in one text all are hidden, and some hundred kept."""
    door = gate()
    draw = random.Random(5)
    values = ["".join(draw.choices(string.ascii_letters, k=9)) + "7q3Z" for _ in range(3000)]
    text = " ".join(f"token='{value}'" for value in values) + f" {TOKEN}"
    shown = door.observe(text)["redacted"]
    assert not [value for value in values if value in shown]
    ((count,),) = door.kernel.database.query("SELECT count(*) FROM trust_known")
    assert 0 < count <= 300
    assert codes(door.check("send", to="ann@example.com", text=TOKEN)) == ["trust.secret"]


def test_a_fork_and_another_agent(gate: Opened) -> None:
    """A fork knows what its parent has seen, another agent does not; nor does its key tell it."""
    door = gate()
    door.observe(f"token {TOKEN}")
    child = door.kernel.fork_agent(Principal(agent="writer"), "writer-2")
    redactions = Redactions(door.kernel)
    lineage = door.kernel.agents.lineage(child)
    assert [each.kind for each in redactions.known("default", lineage)] == ["github-token"]
    other = door.kernel.agents.lineage(Principal(agent="someone"))
    assert list(redactions.known("default", other)) == []


def test_a_recording_takes_up_what_was_known(gate: Opened) -> None:
    """What a session depends on is kept in its recording without the value, and read back."""
    door = gate()
    door.observe(f"API_TOKEN={SECRET}")
    redactions = Redactions(door.kernel)
    told = redactions.premise("default", door.kernel.agents.lineage(door.who))
    assert SECRET not in json.dumps(told)
    who = Principal(agent="other", session="s9")
    redactions.restore(who, json.loads(json.dumps(told)))
    redactions.restore(who, [["kind", 8, "00" * 16, "older recordings have four fields"]])
    known = redactions.known("default", door.kernel.agents.lineage(who))
    assert {each.kind for each in known} == {"assigned-secret", "kind"}

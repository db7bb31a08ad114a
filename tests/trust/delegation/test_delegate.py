"""What a sub-agent has that was delegated to it: less than its parent, for a time, signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmos.audit.checkpoints import rotate
from fmos.clock import FixedClock
from fmos.contract.model import AgentContract, Limits
from fmos.delegation.delegate import LONGEST_S, Made, delegate, revoke
from fmos.delegation.model import MAX_DEPTH, Scope
from fmos.delegation.token import read_token, write_token
from fmos.errors import ArgumentError, BudgetExceededError, DeniedError, NotFoundError
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, OperationKind, Principal, Verdict
from fmos_trust.tools import TrustTools

BOSS = Principal(agent="boss", session="s1")
KID = Principal(agent="kid", session="k1")
HOUR = 3_600
HEAD = "apiVersion: agentos/v0.2\nkind: AgentContract\n"
TOOLS = [
    {"name": "read_file", "capability": "fs.read", "effect": "read", "roles": {"path": "path"}},
    {
        "name": "write_file",
        "capability": "fs.write",
        "effect": "write",
        "roles": {"path": "path", "text": "body"},
    },
    {
        "name": "send",
        "capability": "message.send",
        "effect": "send",
        "roles": {"to": "recipient", "text": "body"},
    },
]


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel over a fresh home, whose clock the test moves, with the contract of `boss`."""
    with Kernel.open(tmp_path / "home", clock=FixedClock()) as opened:
        contract(opened)
        yield opened


def contract(kernel: Kernel, name: str = "boss", more: str = "") -> None:
    """Put a contract into the home."""
    named = f"name: {name}\ncapabilities: [fs.read, fs.write, message.send]\n"
    kernel.contracts.save(f"{HEAD}{named}{more}")


def hand_on(
    kernel: Kernel, scope: Scope, parent: Principal = BOSS, child: Principal = KID, **more: Any
) -> Made:
    """Delegate for an hour."""
    return delegate(kernel, parent, child, scope, **{"ttl_s": HOUR, **more})


def ask(kernel: Kernel, who: Principal, tool: str, **arguments: Any) -> Verdict:
    """Let the gate judge one call."""
    toolset = TrustTools(kernel, who)
    toolset.call("trust_register_tools", {"tools": TOOLS})
    operation = Operation(kind=OperationKind.TOOL_CALL, name=tool, arguments=arguments)
    given = {"operation": operation.model_dump(mode="json")}
    return Verdict.model_validate(toolset.call("trust_check", given))


def clock_of(kernel: Kernel) -> FixedClock:
    """Return the clock, which the test moves."""
    assert isinstance(kernel.clock, FixedClock)
    return kernel.clock


def rights(kernel: Kernel, who: Principal) -> AgentContract:
    """Return the effective contract, which is there."""
    found = kernel.contract(who)
    assert found is not None
    return found


def said(kernel: Kernel, who: Principal = KID) -> str:
    """Return why the agent may do nothing; a failure where it may."""
    with pytest.raises(DeniedError) as refused:
        kernel.acting(who)
    return str(refused.value)


def test_a_sub_agent_has_the_meet(kernel: Kernel) -> None:
    """It has what was asked and its parent has: capabilities, paths, recipients."""
    contract(
        kernel, more='security: { paths: { write: ["/out/**"] }, recipients: ["*@a.example"] }\n'
    )
    scope = Scope(
        capabilities=("fs.write", "message.send"), write=("/out/x/**", "/etc/**"),
        recipients=("ann@a.example", "eve@b.example"),
    )  # fmt: skip
    hand_on(kernel, scope)
    assert ask(kernel, KID, "write_file", path="/out/x/a", text="t").allowed
    assert not ask(kernel, KID, "write_file", path="/etc/passwd", text="t").allowed
    assert not ask(kernel, KID, "write_file", path="/out/y", text="t").allowed
    assert not ask(kernel, KID, "read_file", path="/out/x/a").allowed
    assert ask(kernel, KID, "send", to="ann@a.example", text="t").allowed
    assert not ask(kernel, KID, "send", to="eve@b.example", text="t").allowed
    assert ask(kernel, BOSS, "write_file", path="/out/y", text="t").allowed


def test_a_tool_that_was_not_delegated_is_denied_and_said(kernel: Kernel) -> None:
    """Capabilities do not open a tool that the list of tools leaves out; nothing runs at once."""
    hand_on(kernel, Scope(capabilities=("fs.write", "fs.read"), tools=("write_*",)))
    assert ask(kernel, KID, "write_file", path="/a", text="t").allowed
    verdict = ask(kernel, KID, "read_file", path="/a")
    assert not verdict.allowed
    assert verdict.reasons[0].code == "trust.delegation"
    assert verdict.reasons[0].change
    table = TrustTools(kernel, KID).call("trust_table", {})
    assert all(rule["operation_class"] == "privileged" for rule in table["rules"])


def test_the_parents_later_narrowing_narrows_the_child(kernel: Kernel) -> None:
    """What a person takes from the parent, the sub-agent has no more at its next call."""
    hand_on(kernel, Scope(capabilities=("fs.write",)))
    assert ask(kernel, KID, "write_file", path="/a", text="t").allowed
    kernel.contracts.save(f"{HEAD}name: boss\ncapabilities: [fs.read]\n")
    assert not ask(kernel, KID, "write_file", path="/a", text="t").allowed


def test_the_manifest_names_the_delegation(kernel: Kernel) -> None:
    """Explanations see it: who decided the capabilities, and the digest that the verdicts bear."""
    before = kernel.manifest(BOSS)
    made = hand_on(kernel, Scope(capabilities=("fs.read",))).delegation
    manifest = kernel.manifest(KID)
    assert manifest is not None
    assert before is not None
    assert manifest.hash != before.hash
    assert made.label in manifest.policies
    assert any(made.label in choice.layer for choice in manifest.reasons("capabilities"))


def test_a_budget_is_of_the_parents_account(kernel: Kernel) -> None:
    """The sub-agent spends no more than it was given, and its parent pays."""
    contract(kernel, more="budgets: { tokens: 100 }\n")
    hand_on(kernel, Scope(budgets=Limits(tokens=60)))
    kernel.reserve(KID, {"tokens": 60}, operation="o1")
    with pytest.raises(BudgetExceededError, match="agent:kid"):
        kernel.reserve(KID, {"tokens": 1}, operation="o2")
    with pytest.raises(BudgetExceededError, match="session:s1"):
        kernel.reserve(BOSS, {"tokens": 41}, operation="o3")


def test_it_expires_for_good(kernel: Kernel) -> None:
    """After its time the agent may do nothing, and a clock that is set back changes nothing."""
    hand_on(kernel, Scope(capabilities=("fs.read",)))
    clock_of(kernel).advance(HOUR - 1)
    assert ask(kernel, KID, "read_file", path="/a").allowed
    clock_of(kernel).advance(1)
    verdict = ask(kernel, KID, "read_file", path="/a")
    assert not verdict.allowed
    assert "expired" in verdict.reasons[0].message
    clock_of(kernel).set_back(HOUR)
    assert "expired" in said(kernel)


def test_an_unseen_end_is_not_set_back(kernel: Kernel) -> None:
    """Nobody looked while it expired: the time since the boot says that it did."""
    hand_on(kernel, Scope())
    clock_of(kernel).advance(2 * HOUR)
    clock_of(kernel).set_back(2 * HOUR)
    assert "expired" in said(kernel)


def test_a_clock_set_back_stops_it(kernel: Kernel) -> None:
    """Before the time at which it was made or last used it counts for nothing."""
    hand_on(kernel, Scope())
    clock_of(kernel).advance(600)
    kernel.acting(KID)
    clock_of(kernel).set_back(300)
    assert "set back" in said(kernel)
    clock_of(kernel).set_back(900)
    assert "set back" in said(kernel)


def test_near_its_end_nothing_runs_without_the_gate(kernel: Kernel) -> None:
    """No trap table lets a call pass that would outlive the delegation."""
    hand_on(kernel, Scope(capabilities=("fs.read",)))
    toolset = TrustTools(kernel, KID)
    toolset.call("trust_register_tools", {"tools": TOOLS})

    def classes() -> set[str]:
        return {rule["operation_class"] for rule in toolset.call("trust_table", {})["rules"]}

    assert "innocuous" in classes()
    clock_of(kernel).advance(HOUR - 30)
    assert classes() == {"privileged"}


def test_it_can_be_revoked(kernel: Kernel) -> None:
    """Revoked it ends at once, with all that was delegated on; a second time is an error."""
    hand_on(kernel, Scope(), further=1)
    grandkid = Principal(agent="grandkid")
    hand_on(kernel, Scope(), KID, grandkid)
    kernel.acting(grandkid)
    revoke(kernel, KID, reason="enough", person="user:ann")
    assert "revoked (enough)" in said(kernel)
    assert "'kid'" in said(kernel, grandkid)
    with pytest.raises(ArgumentError, match="had ended already"):
        revoke(kernel, KID)
    with pytest.raises(NotFoundError):
        revoke(kernel, Principal(agent="nobody"))
    hand_on(kernel, Scope())
    kernel.acting(KID)


def test_a_changed_key_ends_it(kernel: Kernel) -> None:
    """What the tenant's former key signed counts no more, says so, and can be revoked."""
    hand_on(kernel, Scope())
    rotate(kernel, "default")
    assert "not signed with the key that the tenant has now" in said(kernel)
    assert revoke(kernel, KID) == ""
    assert "revoked" in said(kernel) or "not signed" in said(kernel)
    hand_on(kernel, Scope())
    kernel.acting(KID)


def _rewritten(kernel: Kernel, sql: str, *values: object) -> None:
    with kernel.database.transaction():
        kernel.database.execute(sql, values)


@pytest.mark.parametrize("part", ["scope", "expires_ns", "further", "child"])
def test_a_changed_token_is_refused(kernel: Kernel, part: str) -> None:
    """Whatever of the signed text is changed in kernel.db, the agent may do nothing."""
    token = hand_on(kernel, Scope(capabilities=("fs.read",))).token
    mark, body, signature = token.split(".")
    document = json.loads(base64.urlsafe_b64decode(body))
    document[part] = {"scope": {}, "child": "kid"}.get(part, 2**60 if part == "expires_ns" else 3)
    if part == "child":
        document["nonce"] = "0" * 32
    changed = base64.urlsafe_b64encode(json.dumps(document).encode()).decode()
    _rewritten(kernel, "UPDATE delegation SET token = ?", f"{mark}.{changed}.{signature}")
    assert "changed" in said(kernel)
    assert not ask(kernel, KID, "read_file", path="/a").allowed


@pytest.mark.parametrize("text", ["", "fmosd1", "fmosd1..", "fmosd1.!!.x", "other.e30=.AA=="])
def test_what_is_no_token_is_refused(kernel: Kernel, text: str) -> None:
    """Rubbish in the row stops the agent with a sentence."""
    hand_on(kernel, Scope())
    _rewritten(kernel, "UPDATE delegation SET token = ?", text)
    assert "delegation cannot be used" in said(kernel)


def test_a_token_of_another_child_is_refused(kernel: Kernel) -> None:
    """Copied to another sub-agent's row, a good token says whom it is for."""
    wide = hand_on(kernel, Scope()).token
    other = Principal(agent="other")
    hand_on(kernel, Scope(capabilities=()), child=other)
    _rewritten(kernel, "UPDATE delegation SET token = ? WHERE child = 'other'", wide)
    assert "for the agent 'kid', not for 'other'" in said(kernel, other)


def test_a_token_of_another_tenant_is_refused(kernel: Kernel) -> None:
    """Neither another tenant's token nor one that names another tenant counts."""
    acme_boss, acme_kid = (each.model_copy(update={"tenant": "acme"}) for each in (BOSS, KID))
    foreign = hand_on(kernel, Scope(), acme_boss, acme_kid)
    hand_on(kernel, Scope(capabilities=()))
    _rewritten(kernel, "UPDATE delegation SET token = ? WHERE tenant = 'default'", foreign.token)
    assert "not signed with the key that the tenant has" in said(kernel)
    resigned = write_token(foreign.delegation, kernel.keys_of("default"))
    _rewritten(kernel, "UPDATE delegation SET token = ? WHERE tenant = 'default'", resigned)
    assert "of the tenant 'acme'" in said(kernel)
    with pytest.raises(ArgumentError, match=r"cannot delegate"):
        hand_on(kernel, Scope(), BOSS, acme_kid)


def test_without_its_row_it_is_within_its_parent_all_the_same(kernel: Kernel) -> None:
    """Who takes the row away makes a plain fork of the agent, never a free one."""
    hand_on(kernel, Scope(capabilities=("fs.read",)))
    _rewritten(kernel, "DELETE FROM delegation")
    assert set(rights(kernel, KID).capabilities) <= set(rights(kernel, BOSS).capabilities)


def test_a_dropped_id_keeps_no_delegation(kernel: Kernel) -> None:
    """Who takes the id of a dropped sub-agent next is not bound by what that one had."""
    hand_on(kernel, Scope(capabilities=("fs.read",)))
    kernel.drop_agent(KID)
    contract(kernel, "kid")
    assert "fs.write" in rights(kernel, KID).capabilities
    kernel.acting(KID)


@pytest.mark.parametrize(
    ("scope", "match"),
    [
        (Scope(capabilities=("shell.run",)), "has not the capability 'shell.run'"),
        (Scope(capabilities=("fs.raed",)), "has not the capability 'fs.raed'"),
    ],
)
def test_what_the_parent_has_not_is_not_handed_on(kernel: Kernel, scope: Scope, match: str) -> None:
    """A capability that is not the parent's is an error that names those it has."""
    with pytest.raises(ArgumentError, match=match) as refused:
        hand_on(kernel, scope)
    assert "fs.read" in str(refused.value.hint)
    assert kernel.delegations.find("default", "kid") is None


def test_who_may_do_nothing_delegates_nothing(kernel: Kernel) -> None:
    """A paused agent, one without a contract, and one whose delegation ended delegate nothing."""
    with pytest.raises(DeniedError, match="no contract"):
        hand_on(kernel, Scope(), Principal(agent="stranger"))
    hand_on(kernel, Scope(), further=1)
    clock_of(kernel).advance(HOUR)
    with pytest.raises(DeniedError, match="expired"):
        hand_on(kernel, Scope(), KID, Principal(agent="grandkid"))


def test_nobody_delegates_in_a_circle_or_to_anothers_child(kernel: Kernel) -> None:
    """Not to itself, not to an ancestor, and not to an agent that has another parent."""
    hand_on(kernel, Scope(), further=2)
    contract(kernel, "rival")
    for parent, child in ((BOSS, BOSS), (KID, BOSS), (Principal(agent="rival"), KID)):
        with pytest.raises(ArgumentError):
            hand_on(kernel, Scope(), parent, child)


def test_the_chain_is_bounded(kernel: Kernel) -> None:
    """Each says how many may follow; none delegates further than it may, nor longer."""
    hand_on(kernel, Scope(), ttl_s=60)
    with pytest.raises(DeniedError, match="may not delegate further"):
        hand_on(kernel, Scope(), KID, Principal(agent="grandkid"))
    hand_on(kernel, Scope(), further=1, ttl_s=60)
    with pytest.raises(ArgumentError, match="more than 0"):
        hand_on(kernel, Scope(), KID, Principal(agent="grandkid"), further=1)
    made = hand_on(kernel, Scope(), KID, Principal(agent="grandkid"), ttl_s=LONGEST_S)
    assert made.delegation.expires_ns == kernel.clock.now_ns() + 60 * 1_000_000_000
    for wrong in (0, -1, LONGEST_S + 1):
        with pytest.raises(ArgumentError, match="cannot last"):
            hand_on(kernel, Scope(), ttl_s=wrong)
    with pytest.raises(ArgumentError):
        hand_on(kernel, Scope(), further=MAX_DEPTH)


def test_delegations_outlive_the_process_and_are_in_the_journal(tmp_path: Path) -> None:
    """Another kernel over the same home sees the same bounds, and the row says who and what."""
    home, clock = tmp_path / "home", FixedClock()
    with Kernel.open(home, clock=clock) as first:
        contract(first)
        made = hand_on(first, Scope(capabilities=("fs.read",)), person="user:ann")
        assert read_token(made.token, first.keys_of("default")) == made.delegation
    with Kernel.open(home, clock=clock) as second:
        assert rights(second, KID).capabilities == ("fs.read",)
        rows = second.agent_fs(BOSS).journal(operation="agent.delegate")
        row = next(iter(rows)).detail
        assert (row["child"], row["person"]) == ("kid", "user:ann")
        assert row["scope"] == {"capabilities": ["fs.read"]}


names = st.lists(st.sampled_from(["fs.read", "fs.write", "message.send"]), unique=True)
globs = st.lists(st.sampled_from(["/a/**", "/a/b/**", "/c/*", "/**"]), unique=True)
amounts = st.none() | st.integers(0, 1000)
PATHS = ("/a/x", "/a/b/x", "/c/x", "/c/d/x", "/e")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.data(),
    chain=st.lists(
        st.tuples(st.none() | globs, st.none() | globs, amounts), min_size=1, max_size=4
    ),
)
def test_a_chain_never_widens(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    chain: list[tuple[list[str] | None, list[str] | None, int | None]],
) -> None:
    """Along any chain of delegations each agent has a part of what each one above it has."""
    with Kernel.open(tmp_path_factory.mktemp("chain") / "home", clock=FixedClock()) as kernel:
        contract(kernel, more="budgets: { agent: { tokens: 500 } }\n")
        agents = [BOSS]
        for depth, (read, write, tokens) in enumerate(chain):
            has = rights(kernel, agents[-1]).capabilities
            wanted = st.none() | st.lists(st.sampled_from(has or ("none",)), unique=True)
            asked = data.draw(wanted) if has else None
            scope = Scope(
                capabilities=None if asked is None else tuple(asked),
                read=None if read is None else tuple(read),
                write=None if write is None else tuple(write),
                budgets=Limits(tokens=tokens),
            )
            child = Principal(agent=f"a{depth}")
            hand_on(kernel, scope, agents[-1], child, further=len(chain) - depth)
            agents.append(child)
        held = [rights(kernel, each) for each in agents]
        for number, below in enumerate(held):
            for above in held[:number]:
                assert set(below.capabilities) <= set(above.capabilities)
                for path in PATHS:
                    assert above.security.may_read(path) or not below.security.may_read(path)
                    assert above.security.may_write(path) or not below.security.may_write(path)
                limits = above.budgets.agent.tokens, below.budgets.agent.tokens
                assert limits[0] is None or (limits[1] is not None and limits[1] <= limits[0])

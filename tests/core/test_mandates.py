"""What binds an agent: its contract under every layer, and the limits that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fmos.clock import FixedClock
from fmos.contract.manifest import Manifest
from fmos.errors import BudgetExceededError, ContractError, DeniedError
from fmos.ledger.model import Reservation
from fmos.runtime.kernel import Kernel
from fmos.types import OperationKind, Principal

HEAD = "apiVersion: agentos/v0.2\nkind: AgentContract\n"
POLICY = "apiVersion: agentos/v0.2\nkind: Policy\n"
BOSS = Principal(agent="boss", session="s1")


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel over a fresh home, whose clock the test moves."""
    with Kernel.open(tmp_path / "home", clock=FixedClock()) as opened:
        yield opened


def contract(kernel: Kernel, name: str = "boss", more: str = "") -> None:
    """Put a contract into the home."""
    kernel.contracts.save(
        f"{HEAD}name: {name}\ncapabilities: [fs.read, fs.write, web.fetch]\n{more}"
    )


def policy(kernel: Kernel, layer: str, text: str, name: str = "") -> None:
    """Put a layer's policy into the home."""
    named = f"name: {name}\n" if name else ""
    path = kernel.home.policies / f"{layer}{name}.yaml"
    path.write_text(f"{POLICY}layer: {layer}\n{named}{text}")


def spend(kernel: Kernel, who: Principal, tokens: int, operation: str) -> Reservation:
    """Reserve tokens for an operation of a principal, and use them all."""
    made = kernel.reserve(who, {"tokens": tokens}, operation=operation)
    kernel.ledger.commit(made.id)
    return made


def sealed(kernel: Kernel, who: Principal = BOSS) -> Manifest:
    """Return the manifest, which is there."""
    found = kernel.manifest(who)
    assert found is not None
    return found


def test_layers_narrow_what_the_contract_asks(kernel: Kernel) -> None:
    """Each layer that binds the principal takes away; those of others take nothing."""
    contract(kernel)
    policy(kernel, "platform", "must: { capabilities: [fs.read, fs.write] }\n")
    policy(kernel, "role", "must: { consent_for: [fs.write] }\n", name="intern")
    policy(kernel, "tenant", "must: { deny: [fs.read] }\n", name="globex")
    found = kernel.contract(BOSS)
    assert found is not None
    assert found.grants("fs.read")
    assert not found.grants("web.fetch")
    assert not found.needs_consent("fs.write")
    intern = kernel.contract(BOSS.model_copy(update={"role": "intern"}))
    assert intern is not None
    assert intern.needs_consent("fs.write")
    other = kernel.contract(BOSS.model_copy(update={"tenant": "globex"}))
    assert other is not None
    assert not other.grants("fs.read")


def test_the_manifest_is_sealed_and_says_who_decided(kernel: Kernel) -> None:
    """Its hash names exactly these documents: it stays while they do, and changes with them."""
    contract(kernel)
    before = sealed(kernel)
    before.verify()
    assert sealed(kernel).hash == before.hash
    policy(kernel, "admin", "must: { deny: [web.fetch] }\n")
    after = sealed(kernel)
    assert after.hash != before.hash
    assert list(after.policies) == ["admin"]
    assert any("admin" in choice.layer for choice in after.choices)


@pytest.mark.parametrize("text", ["must: { deyn: [x] }\n", "must: [", "\udcff"])
def test_a_broken_policy_denies_everything(kernel: Kernel, text: str) -> None:
    """Nothing runs on half a policy: neither a mandate nor a reservation is to be had."""
    contract(kernel)
    path = kernel.home.policies / "platform.yaml"
    path.write_bytes(f"{POLICY}layer: platform\n{text}".encode("utf-8", "surrogateescape"))
    with pytest.raises(ContractError, match=r"platform\.yaml"):
        kernel.contract(BOSS)
    with pytest.raises(ContractError, match=r"platform\.yaml"):
        kernel.reserve(BOSS, {"tokens": 1}, operation="o1")


def test_a_refused_class_of_service_is_not_admitted(kernel: Kernel) -> None:
    """What a layer refuses outright is an error that names the contract."""
    contract(kernel, more="class: { latency: HRT, deadline_ms: 10 }\n")
    policy(kernel, "platform", "must: { latency: [SRT, DT] }\n")
    with pytest.raises(ContractError, match=r"'boss' is not admitted.*HRT"):
        kernel.contract(BOSS)


def test_a_forks_own_contract_gives_no_more_than_its_parents(kernel: Kernel) -> None:
    """A contract of the fork's name narrows the parent's; what is new in it is not granted."""
    contract(kernel, more="budgets: { tokens: 100 }\n")
    kernel.contracts.save(
        f"{HEAD}name: kid\ncapabilities: [fs.read, shell.run]\nbudgets: {{ tokens: 9000 }}\n"
    )
    kid = kernel.fork_agent(BOSS, "kid")
    found = kernel.contract(kid)
    assert found is not None
    assert found.grants("fs.read")
    assert not found.grants("shell.run")
    assert not found.grants("fs.write")
    assert found.budgets.tokens == 100


def test_declared_limits_bind_whoever_reserves(kernel: Kernel) -> None:
    """A session's limit counts at the first reservation, without anybody opening a budget."""
    contract(kernel, more="budgets: { memory_writes: 1 }\n")
    kernel.reserve(BOSS, {"memory_writes": 1}, operation="w1")
    with pytest.raises(BudgetExceededError, match="memory_writes") as refused:
        kernel.reserve(BOSS, {"memory_writes": 1}, operation="w2")
    assert refused.value.account == kernel.account(BOSS)


def test_a_new_session_does_not_evade_the_agents_limit(kernel: Kernel) -> None:
    """`budgets.agent` counts all sessions of an agent together."""
    contract(kernel, more="budgets: { tokens: 800, agent: { tokens: 1000 } }\n")
    spend(kernel, BOSS, 800, "o1")
    second = BOSS.model_copy(update={"session": "s2"})
    with pytest.raises(BudgetExceededError, match="agent:boss'"):
        kernel.reserve(second, {"tokens": 201}, operation="o2")
    kernel.reserve(second, {"tokens": 200}, operation="o3")


def test_a_fork_spends_what_its_parents_session_has_left(kernel: Kernel) -> None:
    """A fork has no budget of its own beside its parent's, and neither has a fork of the fork."""
    contract(kernel, more="budgets: { tokens: 1000 }\n")
    spend(kernel, BOSS, 600, "o1")
    kid = kernel.fork_agent(BOSS, "kid").model_copy(update={"session": "k1"})
    grandkid = kernel.fork_agent(kid, "grandkid").model_copy(update={"session": "g1"})
    for who in (kid, grandkid):
        with pytest.raises(BudgetExceededError, match="session:s1'"):
            kernel.reserve(who, {"tokens": 401}, operation=f"{who.agent}-1")
    spend(kernel, grandkid, 400, "o2")
    with pytest.raises(BudgetExceededError):
        kernel.reserve(BOSS, {"tokens": 1}, operation="o3")


def test_forks_share_what_their_parents_session_has(kernel: Kernel) -> None:
    """Two forks of a session that has spent nothing itself have its limit together, not each."""
    contract(kernel, more="budgets: { tokens: 1000 }\n")
    kids = [kernel.fork_agent(BOSS, f"kid{number}") for number in range(2)]
    first, second = (kid.model_copy(update={"session": "k"}) for kid in kids)
    spend(kernel, first, 600, "o1")
    with pytest.raises(BudgetExceededError, match="session:s1'"):
        kernel.reserve(second, {"tokens": 401}, operation="o2")
    kernel.reserve(second, {"tokens": 400}, operation="o3")


def test_a_changed_contract_of_the_parent_counts_for_its_forks(kernel: Kernel) -> None:
    """Lowered while only the fork works, the parent's limit binds the fork at once."""
    contract(kernel, more="budgets: { agent: { tokens: 1000 } }\n")
    kid = kernel.fork_agent(BOSS, "kid").model_copy(update={"session": "k"})
    contract(kernel, "kid", "budgets: { tokens: 900 }\n")
    spend(kernel, kid, 100, "o1")
    contract(kernel, more="budgets: { agent: { tokens: 150 } }\n")
    with pytest.raises(BudgetExceededError, match="agent:boss'"):
        kernel.reserve(kid, {"tokens": 51}, operation="o2")
    kernel.reserve(kid, {"tokens": 50}, operation="o3")


def test_policies_limit_the_accounts_that_agents_share(kernel: Kernel) -> None:
    """A tenant's limit counts all its agents, with or without a contract, and no other tenant's."""
    policy(kernel, "platform", "must: { budgets: { tenant: { tokens: 1000 } } }\n")
    contract(kernel)
    spend(kernel, BOSS, 900, "o1")
    free = Principal(agent="free", session="s1")
    with pytest.raises(BudgetExceededError, match="tenant:default'"):
        kernel.reserve(free, {"tokens": 101}, operation="o2")
    other = Principal(tenant="globex", agent="free", session="s1")
    kernel.reserve(other, {"tokens": 1000}, operation="o3")


def test_a_changed_contract_counts_at_once(kernel: Kernel) -> None:
    """Lowering, raising and removing a limit each count at the next operation."""
    contract(kernel, more="budgets: { tokens: 100 }\n")
    spend(kernel, BOSS, 90, "o1")
    with pytest.raises(BudgetExceededError):
        kernel.reserve(BOSS, {"tokens": 11}, operation="o2")
    contract(kernel, more="budgets: { tokens: 200 }\n")
    spend(kernel, BOSS, 11, "o3")
    contract(kernel, more="budgets: { tokens: 50 }\n")
    with pytest.raises(BudgetExceededError):
        kernel.reserve(BOSS, {"tokens": 1}, operation="o4")
    contract(kernel)
    kernel.reserve(BOSS, {"tokens": 100_000}, operation="o5")


def test_a_limit_set_by_hand_stays(kernel: Kernel) -> None:
    """A contract that declares nothing takes no limit away that a person has set."""
    account = kernel.account(BOSS)
    kernel.ledger.set_limit(account, "tokens", 10)
    contract(kernel)
    with pytest.raises(BudgetExceededError):
        kernel.reserve(BOSS, {"tokens": 11}, operation="o1")


def test_looking_twice_reads_nothing_anew(kernel: Kernel) -> None:
    """While no file changes the very same objects are handed out."""
    contract(kernel)
    policy(kernel, "platform", "must: { deny: [x] }\n")
    assert kernel.manifest(BOSS) is kernel.manifest(BOSS)


def test_policies_bind_an_agent_without_a_contract(kernel: Kernel) -> None:
    """What the layers demand holds for whoever has declared nothing, too."""
    policy(kernel, "platform", "must: { deny: [memory.write], budgets: { tokens: 10 } }\n")
    free = Principal(agent="free", session="s1")
    assert kernel.contract(free) is None
    with pytest.raises(DeniedError, match=r"'memory.write' is denied to the agent 'free'"):
        kernel.permit(free, OperationKind.MEMORY_WRITE)
    kernel.permit(free, OperationKind.MEMORY_READ)
    with pytest.raises(BudgetExceededError):
        kernel.reserve(free, {"tokens": 11}, operation="o1")


def test_consent_that_cannot_be_asked_for_is_a_refusal(kernel: Kernel) -> None:
    """A kind that wants a person's consent does not run where nobody is asked."""
    contract(kernel, more="security: { consent_for: [memory.write] }\n")
    with pytest.raises(DeniedError, match="consent"):
        kernel.permit(BOSS, OperationKind.MEMORY_WRITE)


def test_a_call_is_within_the_limits_and_what_happened_is_a_debt(kernel: Kernel) -> None:
    """What is yet to happen is refused past a limit; what has happened is recorded as debt."""
    contract(kernel, more="budgets: { tool_calls: 1 }\n")
    kernel.pay_call(kernel.standing(BOSS))
    with pytest.raises(BudgetExceededError, match="tool_calls"):
        kernel.pay_call(kernel.standing(BOSS))
    kernel.charge(BOSS, {"tool_calls": 2})
    balance = next(b for b in kernel.ledger.status(kernel.account(BOSS)) if b.limit is not None)
    assert (balance.spent, balance.debt) == (3, 2)


def test_no_call_begins_when_the_time_is_used_up(kernel: Kernel) -> None:
    """Where `wall_seconds` are limited, a call needs some left; what it takes is known later."""
    contract(kernel, more="budgets: { wall_seconds: 10 }\n")
    kernel.pay_call(kernel.standing(BOSS))
    kernel.charge(BOSS, {"wall_seconds": 12})
    with pytest.raises(BudgetExceededError, match="wall_seconds"):
        kernel.pay_call(kernel.standing(BOSS))


def test_a_policy_may_demand_a_contract(kernel: Kernel) -> None:
    """With it an agent that has declared nothing may do nothing; one with a contract may."""
    policy(kernel, "platform", "must: { contract: required }\n")
    contract(kernel)
    kernel.permit(BOSS, OperationKind.MEMORY_WRITE)
    with pytest.raises(DeniedError, match=r"not without a contract.*platform.*contracts/free"):
        kernel.permit(Principal(agent="free"), OperationKind.MEMORY_WRITE)


def test_a_fork_keeps_its_parents_role(kernel: Kernel) -> None:
    """A contract of its own that names no role does not shake off the policies of the parent's."""
    policy(kernel, "role", "must: { deny: [fs.write] }\n", name="junior")
    contract(kernel, more="role: junior\n")
    kid = kernel.fork_agent(BOSS, "kid")
    contract(kernel, "kid")
    found = kernel.contract(kid)
    assert found is not None
    assert found.grants("fs.read")
    assert not found.grants("fs.write")


INTERN = BOSS.model_copy(update={"role": "intern"})
INTERNS = "must: { budgets: { agent: { tokens: 100 } } }\n"


def test_another_session_does_not_undo_a_roles_limit(kernel: Kernel) -> None:
    """What sessions share has the limits of whoever acts, each time it acts."""
    contract(kernel, more="budgets: { agent: { tokens: 1000 } }\n")
    policy(kernel, "role", INTERNS, name="intern")
    spend(kernel, INTERN, 60, "o1")
    free = BOSS.model_copy(update={"session": "s2"})
    spend(kernel, free, 1, "o2")
    for number in range(2):
        with pytest.raises(BudgetExceededError, match="agent:boss'"):
            kernel.reserve(INTERN, {"tokens": 60}, operation=f"o3-{number}")
        spend(kernel, free, 1, f"o4-{number}")


def test_a_fork_does_not_shake_off_the_role_that_forked_it(kernel: Kernel) -> None:
    """Under another role, or none, a fork has what its parent's role leaves, and no more."""
    contract(kernel)
    policy(kernel, "role", INTERNS + "  \n", name="intern")
    spend(kernel, INTERN, 90, "o1")
    kid = kernel.fork_agent(INTERN, "kid").model_copy(update={"role": "", "session": "k"})
    with pytest.raises(BudgetExceededError, match="agent:boss"):
        kernel.reserve(kid, {"tokens": 11}, operation="o2")
    found = kernel.contract(kid)
    assert found is not None
    assert found.budgets.agent.tokens == 100


def test_dropping_a_fork_does_not_free_its_own_forks(kernel: Kernel) -> None:
    """A fork of a dropped fork goes on under the agent at the beginning."""
    contract(kernel, more="budgets: { agent: { tokens: 100 } }\n")
    kid = kernel.fork_agent(BOSS, "kid")
    grandkid = kernel.fork_agent(kid, "grandkid")
    kernel.contracts.save(f"{HEAD}name: grandkid\ncapabilities: [fs.read, shell.run]\n")
    kernel.drop_agent(kid)
    assert kernel.agents.lineage(grandkid)[1:] == ("boss",)
    found = kernel.contract(grandkid)
    assert found is not None
    assert not found.grants("shell.run")
    with pytest.raises(BudgetExceededError):
        kernel.reserve(grandkid, {"tokens": 101}, operation="o1")


@pytest.mark.parametrize(
    "limit",
    [
        "must: { budgets: { tenant: { tool_calls: 3 } } }\n",
        "must: { budgets: { organisation: { per_minute: { tool_calls: 3 } } } }\n",
        "must: { budgets: { wall_seconds: 8 } }\n",
    ],
)
def test_a_call_spends_of_every_limit_of_its_path(kernel: Kernel, limit: str) -> None:
    """Wherever calls or their time are limited, a call of the agent spends of it."""
    contract(kernel)
    assert not kernel.limits_calls(kernel.standing(BOSS))
    policy(kernel, "platform", limit)
    assert kernel.limits_calls(kernel.standing(BOSS))


def test_a_call_spends_of_a_limit_set_by_hand(kernel: Kernel) -> None:
    """A person's limit of time stops calls as a declared one does."""
    contract(kernel)
    kernel.ledger.set_limit(kernel.account(BOSS), "wall_seconds", 10)
    assert kernel.limits_calls(kernel.standing(BOSS))
    kernel.charge(BOSS, {"wall_seconds": 60})
    with pytest.raises(BudgetExceededError, match="wall_seconds"):
        kernel.pay_call(kernel.standing(BOSS))


def test_calls_are_shared_fairly_between_tenants(kernel: Kernel) -> None:
    """A tenant that was refused gets its share of the next window of calls."""
    policy(
        kernel,
        "platform",
        "must: { budgets: { organisation: { per_minute: { tool_calls: 10 } } } }\n",
    )
    clock = kernel.clock
    assert isinstance(clock, FixedClock)
    clock.advance(60 - clock.now_ns() // 10**9 % 60)  # to the beginning of a window
    greedy, modest = (Principal(tenant=name, agent="a", session="s") for name in ("aa", "bb"))
    got: dict[str, list[int]] = {"aa": [], "bb": []}
    for _ in range(3):
        for who in (greedy, modest):
            got[who.tenant].append(sum(_paid(kernel, who) for _ in range(10)))
        clock.advance(60)
    assert got["aa"][0] == 10
    assert got["aa"][2] == got["bb"][2] == 5


def _paid(kernel: Kernel, who: Principal) -> bool:
    try:
        kernel.pay_call(kernel.standing(who))
    except BudgetExceededError:
        return False
    return True

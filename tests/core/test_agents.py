"""The lineage of agents."""

from __future__ import annotations

from fmos.runtime.kernel import Kernel
from fmos.types import Principal


def _agent(name: str, tenant: str = "default") -> Principal:
    return Principal(tenant=tenant, agent=name)


def test_ancestors_are_nearest_first(kernel: Kernel) -> None:
    """A fork of a fork has its parent first, and the other tenant's agent has none."""
    kernel.agents.register(_agent("a"))
    kernel.agents.register(_agent("b"), parent=_agent("a"))
    kernel.agents.register(_agent("c"), parent=_agent("b"))
    assert kernel.agents.lineage(_agent("c"))[1:] == ("b", "a")
    assert kernel.agents.lineage(_agent("a"))[1:] == ()
    assert kernel.agents.lineage(_agent("c", tenant="other"))[1:] == ()


def test_registering_again_forgets_no_parent(kernel: Kernel) -> None:
    """A fork cannot leave its parent's account by being registered anew."""
    kernel.agents.register(_agent("b"), parent=_agent("a"))
    kernel.agents.register(_agent("b"))
    assert kernel.agents.lineage(_agent("b"))[1:] == ("a",)


def test_a_circle_of_forks_ends(kernel: Kernel) -> None:
    """An id that comes back as a fork of its own fork does not loop."""
    kernel.agents.register(_agent("b"), parent=_agent("a"))
    kernel.agents.register(_agent("a"), parent=_agent("b"))
    assert kernel.agents.lineage(_agent("b"))[1:] == ("a",)


def test_a_fork_spends_from_its_parents_account(kernel: Kernel) -> None:
    """The account path of a fork lies under the path of the agent that it came from."""
    parent = _agent("a")
    kernel.agent_fs(parent)
    child = kernel.fork_agent(parent, "b")
    assert kernel.account(child) == "org:default/tenant:default/app:-/agent:a/agent:b/session:-"
    kernel.contracts.save("apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\n")
    found = kernel.contract(child)
    assert found is not None
    assert found.name == "a"

"""What the kernel promises about agents: who they are, what they may raise, and when it refuses."""

from __future__ import annotations

import inspect
import os
import stat
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from agentfs import PermissionDenied
from fmos.clock import FixedClock
from fmos.errors import ArgumentError, BudgetExceededError, ContractError, FmosError
from fmos.runtime.kernel import Kernel
from fmos.serving.toolset import Toolset
from fmos.types import Principal

CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
capabilities: ["fs.read"]
budgets: { tokens: 1000, per_day: { tokens: 1500 } }
"""
ADA = Principal(agent="ada", session="s1", role="reviewer")
_DAY_S = 86_400
#: What decides over an agent's rights; no tool has an argument of such a name.
_DECIDING = {
    "tenant", "application", "role", "project", "principal", "contract", "policy", "policies",
    "limits", "budgets", "branch", "approver", "approve", "key", "token",
}  # fmt: skip


@pytest.fixture
def clock() -> FixedClock:
    """A clock that the test moves."""
    return FixedClock()


@pytest.fixture
def kernel(tmp_path: Path, clock: FixedClock) -> Iterator[Kernel]:
    """A kernel with a contract for `ada`."""
    with Kernel.open(tmp_path / "home", clock) as opened:
        opened.contracts.save(CONTRACT)
        yield opened


def _toolsets(kernel: Kernel) -> list[Toolset]:
    found = metadata.entry_points(group="fmos.toolsets")
    return [each.load()(kernel, ADA) for each in found]


def test_no_tool_has_an_argument_that_raises_rights(kernel: Kernel) -> None:
    """No tool of any server takes a role, tenant, contract or limit, nor anything unknown."""
    owners = _toolsets(kernel)
    tools = [(owner, spec, method) for owner in owners for spec, method in owner.tools()]
    assert len(tools) >= 16
    for owner, spec, method in tools:
        arguments = set(inspect.signature(method).parameters)
        found = {(spec.name, each) for each in arguments & _DECIDING}
        # The role of a message: user, assistant or tool; and a candidate that is only tried.
        assert found <= {("context_append", "role"), ("trust_policy_dry_run", "policy")}
        for name in ("role", "tenant", "contract"):
            with pytest.raises(ArgumentError):
                owner.call(spec.name, {name: "admin"})
    assert kernel.contract(ADA) is not None


def test_an_operation_cannot_bring_its_own_principal(kernel: Kernel) -> None:
    """Tenant, role and project inside an operation's principal change nothing: the door's count."""
    (kernel.home.policies / "admins.yaml").write_text(
        "apiVersion: agentos/v0.2\nkind: Policy\nlayer: role\nname: reviewer\n"
        'must: { deny: ["fs.read"] }\n'
    )
    gate = next(each for each in _toolsets(kernel) if each.name == "trust-gate")
    tools = [{"name": "read_file", "capability": "fs.read", "effect": "read",
              "roles": {"path": "path"}}]  # fmt: skip
    gate.call("trust_register_tools", {"tools": tools})
    for claimed in ({}, {"role": ""}, {"tenant": "other"}, {"agent": "ada", "project": "/x"}):
        operation: dict[str, Any] = {
            "kind": "tool.call", "name": "read_file", "arguments": {"path": "/a"},
            "principal": claimed,
        }  # fmt: skip
        try:
            verdict = gate.call("trust_check", {"operation": operation})
        except FmosError:
            continue
        assert verdict["decision"] == "deny"
    assert not (kernel.home.path / "tenants" / "other.afs").exists()


def test_an_agents_files_cannot_be_widened(kernel: Kernel) -> None:
    """The handle that an agent gets makes no handle on the system area or of another principal."""
    files = kernel.agent_files(ADA)
    kernel.agent_fs(ADA).mkdir("/.fmos/memory", parents=True)
    for wider in ({"system": True}, {"principal": "fmos"}):
        with pytest.raises(PermissionDenied):
            files.on(str(files.branch), **wider)  # type: ignore[arg-type]
    with pytest.raises(PermissionDenied):
        files.listdir("/.fmos")


def test_an_agents_files_reach_no_other_agent(kernel: Kernel) -> None:
    """The handle that an agent gets opens, forks and deletes no other agent's branch."""
    kernel.agent_fs(Principal(agent="victim")).write("/plan", b"x")
    files = kernel.agent_files(ADA)
    for reach in (
        lambda: files.on("victim"),
        lambda: files.at("victim"),
        lambda: files.fork("mine", source="victim"),
        lambda: files.restore("victim"),
        lambda: files.delete_branch("victim"),
    ):
        with pytest.raises(PermissionDenied):
            reach()
    assert kernel.agent_fs(Principal(agent="victim")).read("/plan") == b"x"


def test_a_broken_contract_stops_its_agent(kernel: Kernel) -> None:
    """With a contract that cannot be read nothing is contracted, reserved or allowed."""
    (kernel.home.contracts / "ada.yaml").write_text("apiVersion: [")
    for ask in (
        lambda: kernel.contract(ADA),
        lambda: kernel.reserve(ADA, {"tokens": 1}, operation="o1"),
        lambda: kernel.charge(ADA, {"tool_calls": 1}),
    ):
        with pytest.raises(ContractError):
            ask()
    gate = next(each for each in _toolsets(kernel) if each.name == "trust-gate")
    operation = {"kind": "tool.call", "name": "read_file", "arguments": {"path": "/a"}}
    assert gate.call("trust_check", {"operation": operation})["decision"] == "deny"


def test_a_project_binds_through_the_kernel(kernel: Kernel, tmp_path: Path) -> None:
    """A principal's trusted project narrows its contract; one that changed stops it."""
    from fmos.contract.projectfolder import read_folder

    policies = tmp_path / "p" / ".fmos" / "policies"
    policies.mkdir(parents=True)
    head = "apiVersion: agentos/v0.2\nkind: Policy\nlayer: platform\n"
    text = head + "must: { budgets: { tokens: 7 } }\n"
    (policies / "x.yaml").write_text(text)
    inside = ADA.model_copy(update={"project": str(tmp_path / "p")})
    before = kernel.contract(inside)
    assert before is not None
    assert before.budgets.tokens == 1000
    kernel.projects.trust(read_folder(tmp_path / "p"), "user:test")
    after = kernel.contract(inside)
    assert after is not None
    assert after.budgets.tokens == 7
    with pytest.raises(BudgetExceededError):
        kernel.reserve(inside, {"tokens": 8}, operation="o1")
    (policies / "x.yaml").write_text(text.replace("7", "999"))
    with pytest.raises(ContractError, match="was changed"):
        kernel.reserve(inside, {"tokens": 1}, operation="o2")
    assert kernel.contract(ADA) is not None


def test_a_fork_stays_within_its_parents_project(kernel: Kernel, tmp_path: Path) -> None:
    """A fork with a contract of its own is bound by what the project says of its parent."""
    from fmos.contract.projectfolder import read_folder

    contracts = tmp_path / "p" / ".fmos" / "contracts"
    contracts.mkdir(parents=True)
    kernel.contracts.save(CONTRACT.replace("fs.read", 'fs.read", "web.fetch'))
    kernel.contracts.save(
        CONTRACT.replace("name: ada", "name: kid").replace("fs.read", "web.fetch")
    )
    (contracts / "ada.yaml").write_text(CONTRACT)
    kernel.projects.trust(read_folder(tmp_path / "p"), "user:test")
    inside = ADA.model_copy(update={"project": str(tmp_path / "p")})
    kid = kernel.fork_agent(inside, "kid")
    assert kid.project == inside.project
    found = kernel.contract(kid)
    assert found is not None
    assert not found.grants("web.fetch")


def test_a_clock_set_back_gives_no_window_back(kernel: Kernel, clock: FixedClock) -> None:
    """What was spent of today stays spent when the clock says yesterday."""
    made = kernel.reserve(ADA, {"tokens": 1000}, operation="o1")
    kernel.ledger.commit(made.id, {"tokens": 1000})
    other = ADA.model_copy(update={"session": "s2"})
    clock.advance(-2 * _DAY_S)
    with pytest.raises(BudgetExceededError):
        kernel.reserve(other, {"tokens": 600}, operation="o2")
    clock.advance(3 * _DAY_S)
    kernel.reserve(other, {"tokens": 600}, operation="o3")


def test_the_homes_folders_are_their_owners_only(kernel: Kernel) -> None:
    """A home that FMOS makes, its keys and its volumes can be read by nobody else."""
    kernel.keys_of("default")
    kernel.volume("default")
    assert stat.S_IMODE(kernel.home.kernel_db.stat().st_mode) == 0o600
    home = kernel.home.path
    folders = [home, *(each for each in home.rglob("*") if each.is_dir())]
    assert {stat.S_IMODE(each.stat().st_mode) for each in folders} == {0o700}
    private = [*home.glob("keys/*/*.pem"), *home.glob("keys/*/*.key"), *home.glob("tenants/*.afs*")]
    assert len(private) >= 3
    assert {stat.S_IMODE(each.stat().st_mode) for each in private} == {0o600}
    assert os.access(home, os.W_OK)

"""Where trust policies come from, when they count, and what they do to the trap table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fmos.contract.projectfolder import read_folder
from fmos.errors import ContractError
from fmos.runtime.kernel import Kernel
from fmos.traps.table import TrapTable
from fmos.types import Decision, Operation, OperationClass, OperationKind, Principal
from fmos.versions.versions import Versions
from fmos_trust.approvals import Approvals
from fmos_trust.tools import TrustTools

DENY_LOOK = "rules: [{ id: no-look, tools: [look], effect: deny }]"
HEAD = "apiVersion: agentos/v0.2\nkind: TrustPolicy\nname: {}\n"


def test_a_policy_counts_at_the_next_call(ask: Any, write: Any, kernel: Kernel) -> None:
    """A file that is written, changed or removed counts without a restart."""
    assert ask("look").allowed
    write(DENY_LOOK)
    assert not ask("look").allowed
    write("rules: []")
    assert ask("look").allowed
    write(DENY_LOOK)
    assert not ask("look").allowed
    (kernel.trust_policies.path / "office.yaml").unlink()
    assert ask("look").allowed


def test_a_file_broken_half_way_denies_and_says_where(ask: Any, write: Any) -> None:
    """While a policy cannot be read nothing privileged runs, and the verdict has the place."""
    write(DENY_LOOK)
    write("rules:\n  - { id: x, tools: [pay], effect: den")
    verdict = ask("pay", amount=1)
    assert verdict.decision is Decision.DENY
    assert "office.yaml" in verdict.reason
    assert "line 5" in verdict.reason
    assert "correct that line" in verdict.reason
    write("rules:\n  - { id: x, tools: [pay], effect: denies }")
    assert "office.yaml:5:36: the field 'rules.0.effect'" in ask("pay").reason
    assert "did you mean 'deny'?" in ask("pay").reason
    write("rules: []")
    assert ask("pay", amount=1).allowed


def test_a_policy_that_may_not_be_read_denies(ask: Any, write: Any, kernel: Kernel) -> None:
    """A link to nowhere in the place of a policy is not the same as none."""
    write(DENY_LOOK)
    os.symlink("/nowhere", kernel.trust_policies.path / "other.yaml")
    assert ask("pay").decision is Decision.DENY or not ask("look").allowed


def test_two_policies_of_one_name_and_other_documents_are_refused(
    ask: Any, write: Any, kernel: Kernel
) -> None:
    """A verdict has to say which rule it was; a document of another kind is in the wrong folder."""
    write(DENY_LOOK)
    text = (kernel.trust_policies.path / "office.yaml").read_text()
    (kernel.trust_policies.path / "copy.yaml").write_text(text)
    assert "have the name 'office'" in ask("pay").reason
    (kernel.trust_policies.path / "copy.yaml").write_text("kind: Policy\nlayer: platform\n"
        "apiVersion: agentos/v0.2\n")  # fmt: skip
    assert "not a TrustPolicy" in ask("pay").reason
    (kernel.trust_policies.path / "copy.yaml").unlink()
    (kernel.home.policies / "rules.yaml").write_text(text)
    assert "move it to" in ask("pay").reason
    assert "/trust'" in ask("pay").reason


def test_a_tool_that_a_rule_names_traps(ask: Any, write: Any, tools: TrustTools) -> None:
    """An innocuous tool leaves the fast path, and the table has another version at once."""

    def classed() -> tuple[OperationClass, str]:
        table = TrapTable.model_validate(tools.call("trust_table", {}))
        operation = Operation(kind=OperationKind.TOOL_CALL, name="look")
        return table.classify(operation, table.issued_ns), table.version

    before = classed()
    assert before[0] is OperationClass.INNOCUOUS
    write("rules: [{ id: other, tools: [pay], effect: ask }]")
    assert classed() == before
    write("rules: [{ id: watch, tools: [effect: read], effect: ask }]")
    after = classed()
    assert after[0] is OperationClass.PRIVILEGED
    assert after[1] != before[1]
    assert ask("pay").table == after[1]
    write("default: deny")
    assert classed()[0] is OperationClass.PRIVILEGED
    write("rules: [")
    with pytest.raises(ContractError):
        classed()


def test_an_approval_is_bound_to_the_rules(
    ask: Any, write: Any, tools: TrustTools, kernel: Kernel
) -> None:
    """A yes under other rules is not one under these; the policy's hash is in the verdict."""
    write("rules: [{ id: asks, tools: [pay], effect: ask }]")
    operation = Operation(kind=OperationKind.TOOL_CALL, name="pay").model_dump(mode="json")
    asked = tools.call("trust_check", {"operation": operation})
    approvals = Approvals(kernel)
    approvals.decide(asked["approval"], True, "user:ann", "")
    write("rules: [{ id: asks, tools: [pay, mail], effect: ask }]")
    again = {"operation": operation, "approval": asked["approval"]}
    verdict = tools.call("trust_check", again)
    assert verdict["decision"] == "ask"
    assert verdict["policy"] != asked["policy"]


def test_a_trusted_projects_rules_only_tighten(
    ask: Any, tools: TrustTools, kernel: Kernel, tmp_path: Path
) -> None:
    """A project's rules count once it is trusted, and one that allows is refused."""
    folder = tmp_path / "project" / ".fmos" / "policies" / "trust"
    folder.mkdir(parents=True)
    (folder / "p.yaml").write_text(HEAD.format("project") + DENY_LOOK)
    who = Principal(agent="clerk", session="s1", project=str(tmp_path / "project"))
    inside = TrustTools(kernel, who)
    call = {"operation": {"kind": "tool.call", "name": "look", "arguments": {}}}
    assert inside.call("trust_check", call)["decision"] == "allow"
    kernel.projects.trust(read_folder(tmp_path / "project"), "user:ann")
    assert inside.call("trust_check", call)["decision"] == "deny"
    assert ask("look").allowed
    (folder / "p.yaml").write_text(HEAD.format("project") + "rules: []")
    verdict = inside.call("trust_check", call)
    assert verdict["decision"] == "deny"
    assert "p.yaml' was changed" in verdict["reasons"][0]["message"]
    (folder / "p.yaml").write_text(
        HEAD.format("project") + "rules: [{ id: all, tools: ['*'], effect: allow }]"
    )
    kernel.projects.trust(read_folder(tmp_path / "project"), "user:ann")
    verdict = inside.call("trust_check", call)
    assert "p.yaml:4:42: the rule 'all' allows" in verdict["reasons"][0]["message"]


def test_an_accepted_version_counts_and_is_taken_back(ask: Any, kernel: Kernel) -> None:
    """A proposed policy tightens from its acceptance to its rollback, and never allows."""
    versions = Versions(kernel)
    content = (HEAD.format("proposed") + DENY_LOOK).encode()
    assert ask("look").allowed
    candidate = versions.propose(
        "default", "trust_policy", "proposed", content, author="agent:x", why="w"
    )
    versions.accept(candidate, by="user:ann", override="tried by hand")
    assert not ask("look").allowed
    versions.rollback("default", "trust_policy", "proposed", by="user:ann", why="w")
    assert ask("look").allowed
    for text in (
        "rules: [{ id: all, tools: ['*'], effect: allow }]",
        "tenants: [acme]\n" + DENY_LOOK,
        "rules: [",
    ):
        with pytest.raises(ContractError):
            content = (HEAD.format("other") + text).encode()
            versions.propose("default", "trust_policy", "other", content, author="agent:x", why="w")


def test_shadow_and_canary_journal_what_they_would_do(ask: Any, write: Any, kernel: Kernel) -> None:
    """A policy that only watches changes no verdict and leaves a row of what it would do."""

    def rows() -> list[dict[str, Any]]:
        volume = kernel.volume("default")
        return [row.detail for row in volume.journal() if row.operation == "trust.shadow"]

    write("mode: shadow\ndefault: deny\n" + DENY_LOOK)
    assert ask("look").allowed
    assert [row["rules"] for row in rows()] == [[["office/no-look", "deny"], ["office", "deny"]]]
    write("rules: [{ id: tried, tools: [look], effect: deny, canary: 0.5 }]")
    assert ask("look").allowed is (len(rows()) == 2)


def test_a_canary_gives_a_session_one_answer(write: Any, tools: TrustTools, kernel: Kernel) -> None:
    """About the share of the sessions get the rule, each the same at every call and everywhere."""
    write("rules: [{ id: tried, tools: [look], effect: deny, canary: 0.3 }]")
    call = {"operation": {"kind": "tool.call", "name": "look", "arguments": {}}}

    def denied(session: str) -> bool:
        gate = TrustTools(kernel, Principal(agent="clerk", session=session))
        found = {gate.call("trust_check", call)["decision"] for _ in range(2)}
        assert len(found) == 1
        return found == {"deny"}

    share = sum(denied(f"s{number}") for number in range(60)) / 60
    assert 0.1 < share < 0.5

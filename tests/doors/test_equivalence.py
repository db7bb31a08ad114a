"""The same operations on two realisations: each keeps the contract, and both end alike."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from fmos.client import connect
from fmos.contract.conformity import Breach, Happening, breaches, differences
from fmos.contract.manifest import Manifest, seal
from fmos.contract.parse import load_text
from fmos.runtime.kernel import Kernel
from fmos.types import Operation, Outcome, OutcomeStatus, Principal, Verdict

from .conftest import CONTRACT, PRINCIPAL, daemon

TOOLS = [
    {"name": "read_file", "capability": "fs.read", "effect": "read", "roles": {"path": "path"}},
    {"name": "write_file", "capability": "fs.write", "effect": "write", "roles": {"path": "path"}},
]
NEEDS = {str(tool["name"]): str(tool["capability"]) for tool in TOOLS}
ASKED: list[dict[str, Any]] = [
    {"name": "read_file", "arguments": {"path": "/a"}},
    {"name": "write_file", "arguments": {"path": "/a", "content": "x"}},
    {"name": "send_mail", "arguments": {"to": "a@b"}},
    {"name": "read_file", "arguments": {"path": "/.fmos/memory"}},
]


def ran(home: Path, transport: str) -> list[Happening]:
    """The operations, checked and settled over one transport."""
    happened: list[Happening] = []
    with connect(PRINCIPAL, home=home, transport=transport) as client:
        client.call("trust_register_tools", {"tools": TOOLS})
        for number, fields in enumerate(ASKED):
            operation = Operation.model_validate(
                {"id": f"op{number}", "kind": "tool.call", "principal": PRINCIPAL, **fields}
            )
            asked = {"id": operation.id, "kind": "tool.call", **fields}
            verdict = Verdict.from_answer(client.call("trust_check", {"operation": asked}))
            outcome = None
            if verdict.allowed:
                outcome = Outcome(operation=operation.id, status=OutcomeStatus.OK)
                told = outcome.model_dump(mode="json")
                client.call("trust_settle", {"outcome": told})
            happened.append(Happening(operation, verdict, outcome))
    return happened


def test_two_realisations_are_equivalent_under_the_contract(home: Path) -> None:
    """In this process, and in a daemon over its socket: no breach, and no difference."""
    with tempfile.TemporaryDirectory(prefix="fmos", dir="/tmp") as folder:
        other = Path(folder)
        (other / "contracts").mkdir()
        (other / "contracts" / "ada.yaml").write_text(CONTRACT)
        here = ran(other, "inprocess")
        with Kernel.open(other) as kernel:
            manifest = kernel.manifest(PRINCIPAL)
    with daemon(home):
        there = ran(home, "daemon")
    assert manifest is not None
    assert [each.verdict.decision.value for each in here] == ["allow", "ask", "deny", "deny"]
    assert differences(here, there) == ()
    assert breaches(manifest, here, NEEDS) == breaches(manifest, there, NEEDS) == ()


MANIFEST = seal(
    load_text(
        "apiVersion: agentos/v0.2\nkind: AgentContract\nname: ada\ncapabilities: [look, send]\n"
        "security: { consent_for: [send] }\nmodelPolicy: { allow: [small] }\n"
        "budgets: { tokens: 10 }\n"
    )
)


def happening(
    name: str = "look", manifest: Manifest = MANIFEST, /, **changes: Any
) -> list[Happening]:
    """A run of one operation that is right but for the changes."""
    kind = changes.pop("kind", "tool.call")
    who = Principal(agent="ada", session="s")
    operation = Operation(
        id="o", kind=kind, name=name, principal=who, parent=changes.pop("parent", None)
    )
    usage = changes.pop("usage", {})
    status = changes.pop("status", OutcomeStatus.OK)
    told = changes.pop("told", True)
    verdict = Verdict.model_validate(
        {"operation": "o", "decision": "allow", "policy": manifest.hash, **changes}
    )
    outcome = Outcome(operation="o", status=status, usage=usage) if told else None
    return [Happening(operation, verdict, outcome)]


@pytest.mark.parametrize(
    ("run", "rules"),
    [
        (happening(), []),
        (happening("send", approval="a1"), []),
        (happening(usage={"tokens": 10}), []),
        (happening(decision="deny", told=False), []),
        (happening("small", kind="model.generate"), []),
        (happening("large", kind="model.generate"), ["policy.model"]),
        (happening("send"), ["policy.consent"]),
        (happening("rm"), ["policy.capability"]),
        (happening(usage={"tokens": 11}), ["budget.tokens"]),
        (happening(decision="deny"), ["policy.bypassed"]),
        (happening(told=False), ["provenance.outcome"]),
        (happening(policy="other"), ["provenance.policy"]),
        (happening(operation="p"), ["provenance.operation"]),
        (happening(parent="q"), ["provenance.parent"]),
    ],
)
def test_each_broken_promise_is_a_breach(run: list[Happening], rules: list[str]) -> None:
    """Budgets, scope, consent and provenance are each found broken, and only they."""
    assert [breach.rule for breach in breaches(MANIFEST, run)] == rules


def test_budgets_are_those_of_a_session() -> None:
    """Ten tokens in each of two operations of one session are too many."""
    twice = happening(usage={"tokens": 10}) * 2
    assert [breach.rule for breach in breaches(MANIFEST, twice)] == ["budget.tokens"]


def test_runs_that_differ_are_named_with_the_place() -> None:
    """Another decision, another end, another length."""
    first = happening()
    assert differences(first, first) == ()
    (breach,) = differences(first, happening(status=OutcomeStatus.FAILED))
    assert breach == Breach("equivalence.status", "o", "status: ok here, failed there")
    assert [each.rule for each in differences(first, [])] == ["equivalence.length"]
    denied = happening(decision="deny")
    assert [each.rule for each in differences(first, denied)] == ["equivalence.decision"]

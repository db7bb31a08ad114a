"""What differs between two documents, and which differences let the agent do more."""

from __future__ import annotations

import pytest
from tests.core.test_bind import GUARD, bound

from fmos.contract.compare import Comparable, compare
from fmos.contract.manifest import parse_manifest, seal
from fmos.contract.parse import load_document, load_text
from fmos.errors import ArgumentError

HEAD = "apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\n"
POLICY = "apiVersion: agentos/v0.2\nkind: Policy\nlayer: platform\n"
FLOW = """\
workflow: w
steps:
  - { id: plan, agent: p, contract: { capabilities: [a] } }
  - { id: ask, type: HITL_approval, policy: { consent_for: [send] } }
  - { id: send, agent: s, contract: { capabilities: [send] } }
"""


def said(before: Comparable, after: Comparable) -> list[str]:
    """The changes as the command prints them."""
    changes = compare(before, after).changes
    return [f"{change.effect} {change.field}: {change.said}" for change in changes]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("capabilities: [a]", "capabilities: [a, b]", "wider capabilities: granted b"),
        ("capabilities: [a, b]", "capabilities: [b]", "narrower capabilities: withdrawn a"),
        ("security: { consent_for: [a] }", "", "wider security.consent_for: no longer a"),
        ("", "security: { deny: [a] }", "narrower security.deny: added a"),
        ("budgets: { tokens: 5 }", "budgets: { tokens: 6 }", "wider budgets.tokens: 5 -> 6"),
        ("budgets: { tokens: 5 }", "", "wider budgets.tokens: 5 -> no limit"),
        (
            "budgets: { agent: { tokens: 5 } }",
            "budgets: { agent: { tokens: 4 } }",
            "narrower budgets.agent.tokens: 5 -> 4",
        ),
        (
            "",
            "budgets: { per_day: { risk: 4 } }",
            "narrower budgets.per_day.risk: no limit -> 4",
        ),
        (
            "modelPolicy: { allow: [a] }",
            "",
            "wider modelPolicy.allow: a -> anything",
        ),
        (
            "modelPolicy: { max_context_tokens: 4k }",
            "modelPolicy: { max_context_tokens: 2k }",
            "narrower modelPolicy.max_context_tokens: 4000 -> 2000",
        ),
        ("compute: { cpu: '1' }", "compute: { cpu: 1500m }", "wider compute.cpu: 1 -> 1500m"),
        (
            "compute: { mem: 1GiB }",
            "compute: { mem: 1024MiB }",
            "changed compute.mem: 1GiB -> 1024MiB",
        ),
        (
            "memory: { rag: { require_grounding: true } }",
            "",
            "wider memory.rag.require_grounding: true -> false",
        ),
        ("memory: { retention_days: 3 }", "", "wider memory.retention_days: 3 -> no limit"),
        ("observability: { log_fields: [x] }", "", "wider observability.log_fields: no longer x"),
        ("observability: { tracing: otel }", "", "wider observability.tracing: otel -> none"),
        ("class: DT", "class: SRT", "changed class.latency: DT -> SRT"),
        ("security: { recipients: ['*@x'] }", "", "wider security.recipients: *@x -> anything"),
    ],
)  # fmt: skip
def test_each_field_knows_its_direction(before: str, after: str, expected: str) -> None:
    """One change, its field and its effect; the way back has the opposite effect."""
    first, second = load_text(HEAD + before + "\n"), load_text(HEAD + after + "\n")
    assert said(first, second) == [expected]
    opposite = {"wider": "narrower", "narrower": "wider", "changed": "changed"}
    (back,) = compare(second, first).changes
    assert back.effect == opposite[expected.partition(" ")[0]]


def test_a_glob_within_what_was_allowed_is_not_wider() -> None:
    """A path below an old scope takes nothing new; one beside it does."""
    old = load_text(HEAD + "security: { paths: { write: ['/src/**'] } }\n")
    new = load_text(HEAD + "security: { paths: { write: ['/src/a/*', '/tmp/?'] } }\n")
    assert said(old, new) == [
        "narrower security.paths.write: withdrawn /src/**",
        "changed security.paths.write: granted /src/a/*",
        "wider security.paths.write: granted /tmp/?",
    ]
    deep = load_text(HEAD + "security: { paths: { write: ['/src/a/**'] } }\n")
    assert "wider security.paths.write: granted /src/a/**" in said(new, deep)


def test_the_same_document_has_no_differences() -> None:
    """However it is written."""
    first = load_text(HEAD + "class: { latency: SRT }\ncapabilities: [a]\n")
    second = load_text("name: a\ncapabilities: [ 'a' ]\nlatency_class: SRT\n" + HEAD[:-8])
    assert compare(first, second).same


def test_binding_documents_are_compared_by_their_demands() -> None:
    """An alternative or a fallback more is wider, a demand more is narrower."""
    new = (
        GUARD.replace('"keyword_v3"]', '"keyword_v3", "keyword_v4"]')
        .replace('placement: "edge-only", ', "")
        .replace('"agent.pause"', '"agent.pause", "agent.stop"')
        .replace("deadline_ms: 10", "deadline_ms: 20, tokens: 50k, cpu: 2")
        .replace('when: "bandwidth_low"', 'when: "always"')
    )
    assert said(load_document(GUARD), load_document(new)) == [
        "changed class.slo.deadline_ms: 10.0 -> 20.0",
        "wider must.model: granted keyword_v4",
        "wider must.placement: edge-only -> no limit",
        "changed must.deadline_ms: 10 -> 20",
        "wider must.capabilities: granted agent.stop",
        "narrower must.tokens: no limit -> 50000",
        "changed must.cpu: none -> 2",
        "narrower allow_fallbacks: withdrawn when bandwidth_low: model asr_local_v2",
        "wider allow_fallbacks: granted when always: model asr_local_v2",
    ]


def test_manifests_show_what_was_chosen_otherwise() -> None:
    """Mode, choices and the effective contract; the same inputs show nothing."""
    helper = "agent: h\nmust: { model: 'asr_local_v2..v3', capabilities: [ask] }\n"
    strict, smooth = bound(helper, "strict"), bound(helper, "smooth")
    assert compare(strict, bound(helper, "strict")).same
    assert said(strict, smooth) == [
        "wider mode: strict -> smooth",
        "changed chosen.model: asr_local_v2 -> asr_local_v3",
        "narrower modelPolicy.allow: withdrawn asr_local_v2",
        "wider modelPolicy.allow: granted asr_local_v3",
        "narrower modelPolicy.max_context_tokens: no limit -> 8000",
    ]


def test_a_manifest_is_compared_with_the_contract_it_came_from() -> None:
    """The effective contract counts, so a sealed contract equals itself."""
    contract = load_text(HEAD + "capabilities: [a]\n")
    sealed = parse_manifest(seal(contract).model_dump_json())
    assert compare(contract, sealed).same
    more = load_text(HEAD + "capabilities: [a, b]\n")
    assert said(sealed, more) == ["wider capabilities: granted b"]


def test_a_workflow_that_loses_its_approval_is_wider() -> None:
    """Steps are compared by id, each by its contract; a person's step guards."""
    without = FLOW.replace(
        "  - { id: ask, type: HITL_approval, policy: { consent_for: [send] } }\n", ""
    )
    assert said(load_document(FLOW), load_document(without)) == [
        "wider steps.ask: a person's approval was removed"
    ]
    other = FLOW.replace("[a]", "[a, b]").replace("agent: s,", "agent: s, bind: flexible,")
    assert said(load_document(FLOW), load_document(other)) == [
        "wider steps.plan.capabilities: granted b",
        "wider steps.send.bind: strict -> flexible",
    ]
    lines = FLOW.splitlines(keepends=True)
    turned = "".join([*lines[:2], lines[4], lines[3], lines[2]])
    assert said(load_document(FLOW), load_document(turned)) == [
        "changed order of the steps: plan, ask, send -> send, ask, plan"
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("{ capabilities: [a] }", "{}", "wider must.capabilities: a -> anything"),
        ("{ deny: [a] }", "{ deny: [a, b] }", "narrower must.deny: added b"),
        ("{ budgets: { tenant: { tokens: 5 } } }", "{}", "wider must.budgets.tenant.tokens"),
        ("{ paths: { read: [/a/**] } }", "{}", "wider must.paths.read: /a/** -> anything"),
        ("{ latency: [DT] }", "{ latency: [DT, HRT] }", "wider must.latency: granted HRT"),
    ],
)
def test_policies_are_compared_by_what_they_leave_open(
    before: str, after: str, expected: str
) -> None:
    """A demand less is wider."""
    first = load_document(f"{POLICY}must: {before}\n")
    second = load_document(f"{POLICY}must: {after}\n")
    (line,) = said(first, second)
    assert line.startswith(expected)


def test_documents_of_two_kinds_cannot_be_compared() -> None:
    """The sentence names both kinds."""
    with pytest.raises(ArgumentError, match="a Workflow and a BindingDocument cannot be compared"):
        compare(load_document(FLOW), load_document(GUARD))

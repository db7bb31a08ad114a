"""Binding documents, workflows, policies, and files of several documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fmos.contract.binding_document import BindingDocument
from fmos.contract.library import ContractLibrary
from fmos.contract.model import AgentContract, Latency, ModelPolicy
from fmos.contract.parse import Document, load_document, load_documents
from fmos.contract.policy import Policy
from fmos.contract.requirements import Requirements, normalise, quantity
from fmos.contract.workflow import Workflow
from fmos.errors import ContractError, NotFoundError
from fmos.spec import schemas

# The shapes of DESIGN.md section 8, with names and values of our own, comments included.
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: label-printer
class: { latency: HRT, deadline_ms: 10, jitter_ms: 5 }     # one line, no slo
capabilities: [ "print.label", "fs.read" ]                 # the allow-list of tools
compute: { cpu: "1", mem: "2GiB" }
modelPolicy: { allow: ["local/8B", "cloud/70B"], max_context_tokens: 16k }
memory: { namespace: "labels", retention_days: 30,
  rag: { top_k: 8, require_grounding: true } }
security: { consent_for: ["fs.write"] }
"""
BINDING = """\
agent: "gate-keeper"                     # hard and soft requirements
latency_class: HRT
must:  { model: ["keyword_v3"], placement: "edge-only", deadline_ms: 10, capabilities: ["audio.detect", "agent.pause"] }
prefer: { model: ["asr_local_v2..v3", "asr_cloud_v2"], embed_store: ["A", "B"] }
allow_fallbacks:
  - when: "bandwidth_low"
    substitute: { model: "asr_local_v2" }
  - when: "context_exceeds_local"
    substitute: { model: "cloud_70B", redact: true }
"""  # noqa: E501 - verbatim
WORKFLOW = """\
workflow: monthly_digest
steps:
  - id: plan
    agent: planner
    bind: smooth
    contract: { latency_class: SRT, capabilities: [ "tools.plan" ] }
    in: { user_query: string }
    out: { plan: json }
  - id: browse
    agent: browser_agent
    bind: strict
    contract: { latency_class: SRT, capabilities: [ "web.fetch", "fs.write" ],
      policies: { allow: ["web.fetch"], deny: ["fs.write"] } }
    in: { plan: json }                  # comment
    out: { pages: [html] }
  - id: write
    agent: writer
    bind: flexible
    contract: { latency_class: SRT, capabilities: [ "rag.retrieve", "summarize" ], budgets: { tokens: 50k } }
    in: { pages: [html] }
    out: { answer: markdown, citations: [uri] }
  - id: approve_send
    type: HITL_approval
    policy: { consent_for: ["email.send"] }
    in: { answer, citations }
"""  # noqa: E501 - verbatim
POLICY = """\
apiVersion: agentos/v0.2
kind: Policy
layer: tenant
name: acme
must:
  capabilities: [fs.read, web.fetch]
  models: local/*
  budgets: { tokens: 50k, tenant: { currency: 2M, per_day: { tokens: 1M } } }
prefer: { rag: { top_k: 4 }, models: [local/8B] }
"""


def binding(text: str) -> BindingDocument:
    """Load a binding document."""
    document = load_document(text)
    assert isinstance(document, BindingDocument)
    return document


def workflow(text: str) -> Workflow:
    """Load a workflow."""
    document = load_document(text)
    assert isinstance(document, Workflow)
    return document


@pytest.mark.parametrize(
    ("text", "kind"),
    [(CONTRACT, AgentContract), (BINDING, BindingDocument), (WORKFLOW, Workflow), (POLICY, Policy)],
)
def test_the_kind_is_told_from_the_document(text: str, kind: type[Document]) -> None:
    """Each shape loads as what it is, from its start and four spaces in."""
    document = load_document(text)
    assert type(document) is kind
    indented = "".join(f"    {line}\n" for line in text.splitlines())
    assert load_document(indented).digest == document.digest


def test_a_binding_document_has_what_it_says() -> None:
    """A value may be a text, a number or a list; every value is kept as a list of texts."""
    document = binding(BINDING)
    assert document.class_.latency is Latency.HRT
    assert document.class_.slo.deadline_ms == 10
    assert document.must["placement"] == ("edge-only",)
    assert document.must["deadline_ms"] == ("10",)
    assert document.prefer["model"] == ("asr_local_v2..v3", "asr_cloud_v2")
    assert document.allow_fallbacks[1].substitute == {"model": "cloud_70B", "redact": True}


def test_workflow_steps_have_ports_of_every_written_form() -> None:
    """A port has a type, a list of them, or nothing (`in: { answer, citations }`)."""
    document = workflow(WORKFLOW)
    assert document.step("browse").out == {"pages": ("html",)}
    assert document.step("approve_send").in_ == {"answer": None, "citations": None}
    assert document.step("write").out == {"answer": "markdown", "citations": ("uri",)}
    assert [step.needs_person for step in document.steps] == [False, False, False, True]
    assert document.step("write").bind == "flexible"


def test_a_step_is_a_contract() -> None:
    """A step's embedded contract becomes one for its agent; its policies narrow it."""
    document = workflow(WORKFLOW)
    browse = document.contract_for("browse")
    assert (browse.name, browse.class_.latency) == ("browser_agent", Latency.SRT)
    assert browse.capabilities == ("web.fetch",)
    assert browse.security.deny == ("fs.write",)
    assert not browse.grants("fs.write")
    assert document.contract_for("write").budgets.limits() == {"tokens": 50_000}
    approve = document.contract_for("approve_send")
    assert approve.name == "approve_send"
    assert approve.needs_consent("email.send")
    assert approve.capabilities == ()
    with pytest.raises(NotFoundError, match="has no step 'send'; it has plan, browse"):
        document.contract_for("send")


@pytest.mark.parametrize(
    ("step", "granted"),
    [
        ("contract: { policies: { allow: [a] } }", ("a",)),
        ("contract: { capabilities: [a, b], policies: { allow: [b, c] } }", ("b",)),
        ("contract: { capabilities: [a], policies: { allow: [] } }", ()),
        ("contract: { capabilities: [a, b] }\n    policy: { allow: [b] }", ("b",)),
        ("contract: {}", ()),
    ],
)
def test_a_step_may_use_what_each_of_its_lists_has(step: str, granted: tuple[str, ...]) -> None:
    """`capabilities` and both `policies.allow` count together; without any, nothing is granted."""
    text = f"workflow: w\nsteps:\n  - id: s\n    agent: a\n    {step}\n"
    assert workflow(text).contract_for("s").capabilities == granted


def test_a_contract_is_normalised() -> None:
    """Models and capabilities are hard requirements; objectives and compute are limits."""
    contract = load_document(CONTRACT)
    assert isinstance(contract, AgentContract)
    found = normalise(contract)
    assert found.must == {
        "capabilities": ("print.label", "fs.read"),
        "model": ("local/8B", "cloud/70B"),
    }
    assert found.limits == {
        "deadline_ms": 10,
        "jitter_ms": 5,
        "max_context_tokens": 16_000,
        "cpu_milli": 1000,
        "mem_bytes": 2 * 2**30,
    }
    assert found.source == f"contract:{contract.digest}"


def test_a_binding_document_is_normalised() -> None:
    """Both kinds of requirement keep their order and ranges; single numbers are limits too."""
    found = normalise(binding(BINDING))
    assert isinstance(found, Requirements)
    assert found.agent == "gate-keeper"
    assert found.prefer["embed_store"] == ("A", "B")
    assert found.limits == {"deadline_ms": 10}
    assert [fallback.when for fallback in found.fallbacks] == [
        "bandwidth_low",
        "context_exceeds_local",
    ]


def test_amounts_of_a_binding_document_are_limits() -> None:
    """`50k` and `0.5` are numbers, a list of numbers is not one limit."""
    text = "agent: a\nmust: { max_context_tokens: 50k, share: 0.5, ports: [1, 2], edge: true }"
    found = normalise(binding(text))
    assert found.limits == {"max_context_tokens": 50_000, "share": 0}
    assert found.must["ports"] == ("1", "2")
    assert found.must["edge"] == ("true",)


@pytest.mark.parametrize(
    ("name", "text", "amount"),
    [
        ("cpu", "1", 1000),
        ("cpu", "250m", 250),
        ("cpu", "0.5", 500),
        ("mem", "2GiB", 2**31),
        ("mem", "512Mi", 2**29),
        ("mem", "1.5 GB", 1_500_000_000),
        ("mem", "1024", 1024),
        ("gpu", "2", 2),
        ("gpu", "2m", None),
        ("mem", "plenty", None),
        ("cpu", "2 cores", None),
    ],
)
def test_quantities(name: str, text: str, amount: int | None) -> None:
    """Cores in thousandths, memory in bytes, devices whole; anything else is not guessed."""
    assert quantity(name, text) == amount


def test_a_model_is_allowed_by_name_glob_or_range() -> None:
    """Every list must have the model; a glob gives way to a list of names."""
    policy = ModelPolicy(
        allow=("asr_v2..v3", "local/*"),
        also_allow=(("asr_v3", "local/8B", "cloud/70B"),),
        prefer=("local/8B",),
    )
    assert policy.allows("asr_v3")
    assert not policy.allows("asr_v2")
    assert not policy.allows("cloud/70B")
    assert policy.candidates() == ("local/8B", "asr_v3")
    assert ModelPolicy().candidates() is None
    assert ModelPolicy(also_allow=((),)).candidates() == ()
    assert ModelPolicy(allow=("broken_v..v2",)).allows("anything") is False


def test_a_file_may_hold_several_documents(tmp_path: Path) -> None:
    """Documents stand between `---`; the library finds each by its kind and name."""
    text = f"---\n{CONTRACT}---\n{BINDING}---\n{WORKFLOW}---\n"
    assert [document.kind for document in load_documents(text)] == [
        "AgentContract",
        "BindingDocument",
        "Workflow",
    ]
    with pytest.raises(ContractError, match="holds 3 documents"):
        load_document(text)
    (tmp_path / "all.yaml").write_text(text, encoding="utf-8")
    library = ContractLibrary(tmp_path)
    assert library.get("label-printer") is not None
    assert library.binding("gate-keeper") is not None
    assert library.workflow("monthly_digest") is not None
    assert library.get("gate-keeper") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: AgentContrct", "f.yaml:1:7: the field 'kind' is wrong: .*did you mean 'AgentCon"),
        ("hello: 1", "f.yaml:1:1: it cannot be told what document this is; say `kind: ...`"),
        ("[1]", "f.yaml:1:1: this is not a document: it is not a mapping"),
        ("", "f.yaml is not a contract: it is empty"),
        ("a: 1\n---\nb: [", "f.yaml is not valid YAML at line 3, column 5"),
        (
            BINDING.replace("must:  {", "must:  { x: {},"),
            "f.yaml:3:13: the field 'must.x' is wrong: expected a text, a number, or a list",
        ),
        (
            BINDING.replace("substitute: { model", "substitue: { model"),
            "f.yaml:7:5: there is no field 'substitue' in 'allow_fallbacks.0'; did you mean 'sub",
        ),
        (
            "agent: g\nlatency_class: HRTT\nmust: {}",
            "f.yaml:2:16: the field 'class.latency' is wrong: expected 'HRT'",
        ),
        (
            "agent: g\nprefer: {}\nlatency_class: HRT",
            "f.yaml:3:16: the field 'class' is wrong: latency class HRT needs",
        ),
        (
            WORKFLOW.replace("id: write", "id: plan"),
            "f.yaml:16:9: the field 'steps.2.id' is wrong: expected an id that no other step has, "
            "found 'plan'",
        ),
        (
            WORKFLOW.replace("bind: strict", "bind: strictly"),
            "f.yaml:11:11: the field 'steps.1.bind' is wrong: .*did you mean 'strict'",
        ),
        (
            WORKFLOW.replace("out: { pages: [html] }", "out: { pages: { a: b } }"),
            "f.yaml:15:19: the field 'steps.1.out.pages' is wrong: expected the name of a type",
        ),
        (
            WORKFLOW.replace("    agent: writer\n", ""),
            "the field 'steps.2' is wrong: a step needs `agent: ...`, or `type: HITL_approval`",
        ),
        (POLICY.replace("name: acme\n", ""), "needs `name: ...` of the tenant"),
        (
            POLICY.replace("tenant\nname", "admin\nname"),
            "f.yaml:4:7: the field 'name' is wrong: expected no name: .*'admin' holds for all",
        ),
        (
            POLICY.replace("layer: tenant", "layer: role"),
            "f.yaml:8:35: the field 'must.budgets.tenant' is wrong: expected such a limit only",
        ),
        (
            POLICY.replace("  models: local/*", "  compute: { mem: plenty }"),
            "f.yaml:7:19: the field 'must.compute.mem' is wrong: expected an amount that can be",
        ),
        (
            POLICY.replace("rag: { top_k", "rag: { topk"),
            "f.yaml:9:18: there is no field 'topk' in 'prefer.rag'; did you mean 'top_k'",
        ),
        (
            POLICY.replace("per_day", "per_year"),
            "there is no field 'per_year' in 'must.budgets.tenant'; did you mean 'per_",
        ),
    ],
)
def test_a_wrong_document_of_any_kind_is_placed(text: str, message: str) -> None:
    """Path, line, column, field, what was expected and what was found."""
    with pytest.raises(ContractError, match=message) as caught:
        load_documents(text, "f.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        (CONTRACT, "agent-contract"),
        (BINDING, "binding-document"),
        (WORKFLOW, "workflow"),
        (POLICY, "policy"),
    ],
)
def test_the_published_schema_accepts_what_is_read(text: str, schema: str) -> None:
    """An editor that knows the schema accepts every spelling, and refuses an unknown field."""
    jsonschema = pytest.importorskip("jsonschema", reason="comes with the extra `servers`")
    validator = jsonschema.Draft202012Validator(json.loads(schemas()[f"{schema}.schema.json"]))
    document = yaml.safe_load(text)
    assert [error.message for error in validator.iter_errors(document)] == []
    assert not validator.is_valid(document | {"oops": 1})

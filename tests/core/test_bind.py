"""Binding: what a document comes to with what is on offer, in each of the three modes."""

from __future__ import annotations

import pytest

from fmos.contract.bind import bind, bind_workflow
from fmos.contract.binding_document import BindingDocument
from fmos.contract.catalogue import Catalogue, parse_catalogue
from fmos.contract.manifest import Conditions, Manifest, Mode
from fmos.contract.model import AgentContract
from fmos.contract.parse import load_document, load_text
from fmos.contract.policy import Policy
from fmos.contract.workflow import Workflow
from fmos.errors import BindingError, ContractError

# The shape of DESIGN.md section 8.
GUARD = """\
agent: "door-guard"                     # binding document
latency_class: HRT
must:  { model: ["keyword_v3"], placement: "edge-only", deadline_ms: 10, capabilities: ["audio.detect", "agent.pause"] }
prefer: { model: ["asr_local_v2..v3", "asr_cloud_v2"], embed_store: ["A", "B"] }
allow_fallbacks:
  - when: "bandwidth_low"
    substitute: { model: "asr_local_v2" }
  - when: "context_exceeds_local"
    substitute: { model: "cloud_70B", redact: true }
"""  # noqa: E501 - verbatim

_HEAD = "apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\n"

HELPER = """\
agent: helper
latency_class: SRT
must: { capabilities: [ask] }
prefer: { model: ["asr_local_v2..v3", "asr_cloud_v2"] }
allow_fallbacks:
  - when: bandwidth_low
    substitute: { model: asr_local_v2 }
"""

OFFERS = """\
kind: Catalogue
model:
  - { name: keyword_v3, placement: edge, deadline_ms: 8 }
  - { name: asr_local_v2, placement: edge }
  - { name: asr_local, version: 3, placement: edge, max_context_tokens: 8k }
  - { name: asr_cloud_v2, placement: cloud, residency: EU }
  - { name: cloud_70B, placement: cloud }
embed_store: [B]
"""


def document(text: str) -> BindingDocument:
    """The binding document in a text."""
    found = load_document(text)
    assert isinstance(found, BindingDocument)
    return found


def bound(
    text: str,
    mode: Mode = "strict",
    offers: str | None = OFFERS,
    *,
    when: tuple[str, ...] = (),
    unhealthy: tuple[str, ...] = (),
    session: str = "",
    policies: tuple[Policy, ...] = (),
    contract: AgentContract | None = None,
) -> Manifest:
    """The manifest of a binding document."""
    return bind(
        document(text),
        catalogue=None if offers is None else parse_catalogue(offers),
        mode=mode,
        policies=policies,
        conditions=Conditions(when=when, unhealthy=unhealthy),
        session=session,
        contract=contract,
    )


def policy(must: str, layer: str = "platform") -> Policy:
    """A layer with the given demands."""
    head = f"apiVersion: agentos/v0.2\nkind: Policy\nlayer: {layer}\n"
    found = load_document(f"{head}must: {must}\n")
    assert isinstance(found, Policy)
    return found


@pytest.mark.parametrize("mode", ["strict", "smooth", "flexible"])
@pytest.mark.parametrize("offers", [None, OFFERS])
@pytest.mark.parametrize("text", [GUARD, HELPER])
def test_the_printed_documents_bind(text: str, offers: str | None, mode: Mode) -> None:
    """Both shapes of DESIGN.md bind in every mode, with and without a catalogue."""
    manifest = bound(text, mode, offers)
    manifest.verify()
    if text is GUARD:
        assert manifest.chosen["model"] == "keyword_v3"
        assert manifest.chosen["capabilities"] == ("audio.detect", "agent.pause")
        assert manifest.limits["deadline_ms"] == 10
        assert any("asr_local_v2..v3" in note for note in manifest.notes)


def test_each_mode_takes_its_version_of_a_range() -> None:
    """Strict takes the lowest, smooth the highest; the chosen one is all that may be asked."""
    assert bound(HELPER, "strict").chosen["model"] == "asr_local_v2"
    smooth = bound(HELPER, "smooth")
    assert smooth.chosen["model"] == "asr_local_v3"
    assert smooth.effective.modelPolicy.allow == ("asr_local_v3",)
    assert smooth.effective.modelPolicy.max_context_tokens == 8000
    (choice,) = smooth.reasons("model")
    assert (choice.step, choice.alternatives) == ("upgrades", ("asr_local_v2",))
    assert choice.why == "the highest version of asr_local_v2..v3 on offer"


def test_without_a_catalogue_nothing_is_claimed_to_be_there() -> None:
    """Every choice says that it is unchecked, and no version above the lowest is assumed."""
    manifest = bound(HELPER, "smooth", None)
    assert manifest.chosen["model"] == "asr_local_v2"
    assert [choice.why.partition(",")[0] for choice in manifest.reasons("model")] == ["unchecked"]
    assert manifest.catalogue == ""


def test_a_catalogue_that_lists_nothing_is_not_a_missing_one() -> None:
    """With an empty catalogue a demanded model is refused, not taken unchecked."""
    with pytest.raises(BindingError, match=r"model must be keyword_v3.*on offer: nothing"):
        bound(GUARD, offers="kind: Catalogue\nplacement: [edge]\n")


@pytest.mark.parametrize(
    ("unhealthy", "model", "why"),
    [
        (("asr_local_v3",), "asr_local_v2", "returned from asr_local_v3, which is unhealthy"),
        (("asr_local_v3.0",), "asr_local_v2", "returned from asr_local_v3"),
        (("asr_local_v3", "asr_local_v2"), "asr_cloud_v2", "named, and on offer"),
    ],
)
def test_an_unhealthy_version_gives_way_to_the_one_before(
    unhealthy: tuple[str, ...], model: str, why: str
) -> None:
    """Automatic return stays in the range; then the next of the list is taken."""
    manifest = bound(HELPER, "smooth", unhealthy=unhealthy)
    assert manifest.chosen["model"] == model
    assert why in manifest.reasons("model")[-1].why


def test_an_offer_can_say_itself_that_it_is_unhealthy() -> None:
    """`healthy: false` in the catalogue is the same as the condition."""
    ill = OFFERS.replace("version: 3,", "version: 3, healthy: false,")
    assert bound(HELPER, "smooth", ill).chosen["model"] == "asr_local_v2"


def test_a_canary_gets_its_share_of_the_sessions() -> None:
    """About a quarter of the sessions get the new version, the same ones each time."""
    offers = OFFERS.replace("version: 3,", "version: 3, canary: { share: 0.25 },")
    asked, catalogue = document(HELPER), parse_catalogue(offers)
    tried = [
        session
        for session in map(str, range(160))
        if bind(asked, catalogue=catalogue, mode="smooth", session=session).canary
    ]
    assert 20 < len(tried) < 60
    manifest = bound(HELPER, "smooth", offers, session=tried[0])
    assert manifest.chosen["model"] == "asr_local_v3"
    assert manifest.returns_to == {"model": "asr_local_v2"}
    everybody = offers.replace("0.25", "1")
    assert bound(HELPER, "smooth", everybody, session="any").canary
    assert not bound(HELPER, "smooth", everybody).canary  # no session, no trial
    assert bound(HELPER, "strict", offers, session=tried[0]).chosen["model"] == "asr_local_v2"


def test_a_fallback_is_used_under_its_condition_in_flexible_mode_only() -> None:
    """The document's own fallback may replace its own demand; the reason names the condition."""
    assert bound(GUARD, "smooth", when=("bandwidth_low",)).chosen["model"] == "keyword_v3"
    assert bound(GUARD, "flexible").chosen["model"] == "keyword_v3"
    manifest = bound(GUARD, "flexible", when=("bandwidth_low",))
    assert manifest.chosen["model"] == "asr_local_v2"
    (choice,) = manifest.reasons("model")
    assert choice.step == "substitutions"
    assert choice.why.startswith("bandwidth_low holds")


def test_a_fallback_that_would_break_another_demand_is_not_used() -> None:
    """cloud_70B is not at the edge: the binding stays as it was and a note says why."""
    manifest = bound(GUARD, "flexible", when=("context_exceeds_local",))
    assert manifest.chosen["model"] == "keyword_v3"
    assert "redact" not in manifest.chosen
    (note,) = [note for note in manifest.notes if "context_exceeds_local" in note]
    assert "cloud_70B runs at cloud, not at edge" in note


def test_a_fallback_brings_its_obligation() -> None:
    """Where the cloud is allowed, the substitute comes with `redact`."""
    anywhere = GUARD.replace('placement: "edge-only", ', "")
    manifest = bound(anywhere, "flexible", when=("context_exceeds_local",))
    assert (manifest.chosen["model"], manifest.chosen["redact"]) == ("cloud_70B", "true")


def test_a_fallback_never_goes_beyond_the_layers() -> None:
    """A policy that does not allow the substitute keeps it away."""
    narrow = policy("{ models: [keyword_v3] }")
    manifest = bound(GUARD, "flexible", when=("bandwidth_low",), policies=(narrow,))
    assert manifest.chosen["model"] == "keyword_v3"
    assert any("asr_local_v2 not allowed by the contract" in note for note in manifest.notes)


def test_a_fallback_saves_what_could_not_be_bound() -> None:
    """With the demanded model gone, the fallback's is what makes the document bindable."""
    gone = ("keyword_v3",)
    with pytest.raises(BindingError):
        bound(GUARD, "flexible", unhealthy=gone)
    saved = bound(GUARD, "flexible", unhealthy=gone, when=("bandwidth_low",))
    assert saved.chosen["model"] == "asr_local_v2"


def test_of_two_fallbacks_for_one_dimension_the_first_counts() -> None:
    """Both conditions hold: the second is noted as not used, with its reason."""
    anywhere = GUARD.replace('placement: "edge-only", ', "")
    both = ("context_exceeds_local", "bandwidth_low", "sunny")
    manifest = bound(anywhere, "flexible", when=both)
    assert manifest.chosen["model"] == "asr_local_v2"
    assert any("one before it in the document was" in note for note in manifest.notes)
    assert "no fallback is declared for 'sunny'" in manifest.notes


def test_a_refusal_names_all_that_is_wanted_and_what_there_is() -> None:
    """Every unmet demand is listed, with what is on offer and what comes nearest."""
    wanted = GUARD.replace("keyword_v3", "keyword_v2").replace("edge-only", "moon-only")
    with pytest.raises(BindingError) as caught:
        bound(wanted)
    assert [unmet.dimension for unmet in caught.value.unmet] == ["model", "placement"]
    model, place = caught.value.unmet
    assert (model.wanted, model.nearest) == (("keyword_v2",), "keyword_v3")
    assert place.available == ("edge", "cloud")
    assert "model must be keyword_v2" in str(caught.value)
    assert "nearest: keyword_v3" in str(caught.value)
    assert caught.value.exit_code == 15


@pytest.mark.parametrize(
    ("offer", "said"),
    [
        ("placement: cloud", "keyword_v3 runs at cloud, not at edge"),
        ("deadline_ms: 11", "keyword_v3 answers in 11 ms, later than 10 ms"),
        ("requires: [dsp_v2]", "keyword_v3 requires dsp_v2, which nothing offers"),
        ("healthy: false", "keyword_v3 is unhealthy"),
    ],
)
def test_an_offer_that_breaks_a_demand_is_refused_with_its_reason(offer: str, said: str) -> None:
    """What an offer declares is held against every hard constraint."""
    offers = f"kind: Catalogue\nplacement: [edge]\nmodel: [{{ name: keyword_v3, {offer} }}]\n"
    with pytest.raises(BindingError, match=said):
        bound(GUARD, offers=offers)


def test_placement_is_chosen_so_that_everything_fits() -> None:
    """Of two places the preferred one is taken if all else can be had there, else the other."""
    two = GUARD.replace('"edge-only"', '["moon", "edge"]')
    offers = OFFERS + "placement: [moon]\n"
    assert bound(two, offers=offers).chosen["placement"] == "edge"


def test_preferred_placement_without_a_demand_is_a_wish() -> None:
    """It narrows the choice where it can be met, and is a note where it cannot."""
    text = HELPER.replace("prefer: {", "prefer: { placement: cloud,")
    assert bound(text).chosen["model"] == "asr_cloud_v2"
    nowhere = bound(text.replace("placement: cloud", "placement: moon"))
    assert "placement" not in nowhere.chosen
    assert any(note.startswith("preferred placement moon") for note in nowhere.notes)


def test_residency_is_a_hard_constraint() -> None:
    """An offer that keeps its data elsewhere is not taken."""
    text = HELPER.replace("must: {", "must: { residency: US, model: asr_cloud_v2,")
    with pytest.raises(BindingError, match="keeps data in EU, not in US"):
        bound(text, offers=OFFERS.replace("B]", "{ name: B, residency: US }]"))


def test_a_capability_may_come_with_another_offer() -> None:
    """A catalogue that lists capabilities is held to it; `provides` counts."""
    offers = OFFERS + "tool: [{ name: microphone, provides: [audio.detect] }, agent.pause]\n"
    assert bound(GUARD, offers=offers).chosen["capabilities"] == ("audio.detect", "agent.pause")
    with pytest.raises(BindingError, match=r"capabilities must be agent\.pause, on offer"):
        bound(GUARD, offers=offers.replace(", agent.pause]", "]"))


def test_a_preferred_capability_is_taken_where_there_is_one() -> None:
    """All that are demanded, those preferred that are on offer, and a note about the others."""
    text = HELPER.replace("prefer: {", "prefer: { capabilities: [tell, sing],")
    manifest = bound(text, offers=OFFERS + "capabilities: [ask, tell]\n")
    assert manifest.effective.capabilities == ("ask", "tell")
    assert manifest.notes == ("preferred capabilities sing not taken: nothing on offer is that",)


def test_a_binding_never_goes_beyond_the_agents_own_contract() -> None:
    """A capability that the contract does not grant is refused; budgets take the smaller."""
    own = load_text(
        "apiVersion: agentos/v0.2\nkind: AgentContract\nname: helper\n"
        "capabilities: [ask, tell]\nbudgets: { tokens: 100 }\nsecurity: { consent_for: [ask] }\n"
    )
    text = HELPER.replace("must: {", "must: { tokens: 50k,")
    manifest = bound(text, contract=own)
    assert manifest.effective.capabilities == ("ask",)
    assert manifest.effective.needs_consent("ask")
    assert manifest.limits["tokens"] == manifest.effective.budgets.tokens == 100
    assert len(manifest.sources) == 2
    with pytest.raises(BindingError, match="sing not granted by the contract"):
        bound(HELPER.replace("[ask]", "[ask, sing]"), contract=own)


def test_the_layers_narrow_a_contract_and_refuse_a_binding_document() -> None:
    """A contract loses what a layer does not allow; a document that must have it is refused."""
    narrow = policy("{ capabilities: [tell] }")
    contract = load_text(
        "apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\ncapabilities: [ask, tell]\n"
    )
    manifest = bind(contract, catalogue=None, mode="strict", policies=[narrow])
    assert manifest.chosen["capabilities"] == ("tell",)
    assert manifest.policies == {"platform": narrow.digest}
    assert "platform" in manifest.reasons("capabilities")[0].layer
    with pytest.raises(BindingError, match="ask not granted"):
        bound(HELPER, policies=(narrow,))


def test_a_class_that_a_layer_refuses_cannot_be_bound() -> None:
    """Real-time that the platform does not allow is a refusal, not a silent change."""
    with pytest.raises(BindingError, match="the class HRT is not allowed by platform"):
        bound(GUARD, policies=(policy("{ latency: [SRT, DT] }"),))


def test_a_contracts_ranges_become_names() -> None:
    """What the manifest allows is names that can be compared at run time, in order."""
    contract = load_text(
        "apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\n"
        "modelPolicy: { allow: [cloud_70B, 'asr_local_v2..v3'], prefer: ['asr_local_v2..v3'] }\n"
    )
    manifest = bind(contract, catalogue=parse_catalogue(OFFERS), mode="smooth")
    assert manifest.chosen["model"] == "asr_local_v3"
    assert manifest.effective.modelPolicy.allow == ("asr_local_v3", "cloud_70B")


def test_a_preferred_model_does_not_close_an_open_contract() -> None:
    """`prefer` allows nothing and forbids nothing: the contract goes on allowing any model."""
    contract = load_text(f"{_HEAD}modelPolicy: {{ prefer: ['asr_local_v2..v3'] }}\n")
    manifest = bind(contract, catalogue=parse_catalogue(OFFERS), mode="smooth")
    assert manifest.chosen["model"] == "asr_local_v3"
    assert manifest.effective.modelPolicy.allows("cloud_70B")


def test_layers_that_leave_no_model_are_a_refusal() -> None:
    """A contract whose models are all taken away cannot be bound, and the sentence says why."""
    contract = load_text(f"{_HEAD}modelPolicy: {{ allow: [cloud_70B] }}\n")
    narrow = policy("{ models: [keyword_v3] }")
    with pytest.raises(BindingError, match="the layers leave nothing to choose from"):
        bind(contract, catalogue=parse_catalogue(OFFERS), mode="strict", policies=[narrow])


def test_a_broken_range_is_named_with_its_dimension() -> None:
    """Lint does not look at catalogues, but an empty range is wrong in any."""
    with pytest.raises(ContractError, match=r"'helper', model: the range 'asr_v3\.\.v2' is empty"):
        bound(HELPER.replace("asr_local_v2..v3", "asr_v3..v2"))


def test_machine_shares_are_limits_not_choices() -> None:
    """`mem: 2GiB` in a binding document needs no offer; admission looks at it."""
    manifest = bound(HELPER.replace("must: {", "must: { mem: 2GiB, cpu: 500m, wcet_ms: 2.5,"))
    assert manifest.limits == {"wcet_ms": 2.5, "mem_bytes": 2**31, "cpu_milli": 500}
    assert manifest.effective.compute.mem == "2GiB"


def test_a_workflow_is_bound_step_by_step_in_each_steps_mode() -> None:
    """Modes and contracts are the step's own; a refusal names the step."""
    text = """\
workflow: w
steps:
  - { id: hear, agent: ear, bind: smooth, contract: { modelPolicy: { allow: ["asr_local_v2..v3"] } } }
  - { id: again, agent: ear, contract: { modelPolicy: { allow: ["asr_local_v2..v3"] } } }
  - { id: send, type: HITL_approval, policy: { consent_for: [email.send] } }
"""  # noqa: E501
    workflow = load_document(text)
    assert isinstance(workflow, Workflow)
    catalogue = parse_catalogue(OFFERS)
    manifests = bind_workflow(workflow, catalogue=catalogue)
    assert [each.mode for each in manifests.values()] == ["smooth", "strict", "strict"]
    assert manifests["hear"].chosen["model"] == "asr_local_v3"
    assert manifests["again"].chosen["model"] == "asr_local_v2"
    relaxed = bind_workflow(workflow, catalogue=catalogue, mode="smooth")
    assert relaxed["again"].chosen["model"] == "asr_local_v3"
    with pytest.raises(BindingError, match="step 'hear' of 'w': 'ear' cannot be bound"):
        bind_workflow(workflow, catalogue=Catalogue())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Catalogue\nmodel:\n  - { name: a, plcement: x }\n", "c:3:16: there is no field"),
        ("kind: Catalogue\nmodel: [{ name: a, plcement: x }]\n", "did you mean 'placement'"),
        ("kind: Catalogue\nmodel: [a, a]\n", "model offers 'a' twice"),
        ("kind: Catalogue\nmodel: [a_v2, { name: a, version: 2 }]\n", "model offers 'a_v2' twice"),
        ("kind: Catalogue\nmodel: [{ name: a, version: 2.10 }]\n", 'such as "2.1"'),
        ("kind: Catalogue\nmodel: [{ name: a_v1, version: 2 }]\n", "is not version '2'"),
        ("kind: Catalogue\nmodel: [{ name: a, canary: { share: 5 } }]\n", "at most 1.0"),
        ("kind: Catalogue\nmodel: a\n", "c:2:8: the field 'model' is wrong: expected a list"),
        ("kind: Policy\n", "is not a catalogue"),
        ("", "is not a catalogue"),
        ("[", "not valid YAML at line 1"),
    ],
)
def test_a_wrong_catalogue_is_named_with_its_place(text: str, said: str) -> None:
    """Source, line, column, field and the way out."""
    with pytest.raises(ContractError) as caught:
        parse_catalogue(text, "c")
    assert said in str(caught.value)

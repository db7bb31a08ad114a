"""Layers: what a contract comes to under policies, and under the contract of its parent."""

from __future__ import annotations

import timeit
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmos.contract.layers import Merged, PolicyLibrary, attenuate, merge
from fmos.contract.model import WINDOWS, AgentContract, Latency
from fmos.contract.policy import Policy
from fmos.errors import ContractError
from fmos.ledger.model import RESOURCES
from fmos.types import Principal

CAPABILITIES = ("fs.read", "fs.write", "web.fetch", "email.send", "read_file")
MODELS = ("local/8B", "local/70B", "cloud/8B", "asr_v1", "asr_v2", "asr_v3")
PATHS = ("/", "/a", "/a/b", "/a/b/c.py", "/b/c.py", "/b/d.md", "/.fmos/x", "/.fmos")
RECIPIENTS = ("me@a.org", "you@b.org", "ops", "ME@A.ORG", "me@a.org.evil.net")
CLASSES = (Latency.HRT, Latency.SRT, Latency.DT)

capabilities = st.lists(st.sampled_from(CAPABILITIES), unique=True, max_size=4)
models = st.lists(
    st.sampled_from([*MODELS, "*", "local/*", "*/8B", "asr_v1..v2"]), unique=True, max_size=3
)
globs = st.lists(
    st.sampled_from(["/**", "/a/**", "/a/*", "/**/*.py", "/b/c.py", "/.fmos/**"]), max_size=3
)
recipients = st.lists(st.sampled_from(["*", "*@a.org", "me@*", "ops"]), max_size=2)
amount = st.integers(0, 5)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping that has any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


limits = some(tokens=amount, tool_calls=amount, risk=amount)
windows = dict.fromkeys(WINDOWS[:2], limits)
budgets = some(tokens=amount, currency=amount, agent=limits, **windows)
compute = some(cpu=st.sampled_from(["1", "500m", "2"]), mem=st.sampled_from(["1Gi", "2G"]))
log_fields = st.lists(st.sampled_from(["prompt", "sources", "answer"]), max_size=2)
contracts = st.builds(
    lambda fields: AgentContract.model_validate(
        {"apiVersion": "agentos/v0.2", "kind": "AgentContract", "name": "a", **fields}
    ),
    some(
        **{
            "class": st.fixed_dictionaries(
                {"latency": st.sampled_from(CLASSES), "deadline_ms": st.just(10)}
            )
        },
        capabilities=capabilities,
        compute=compute,
        modelPolicy=some(allow=models, prefer=models, max_context_tokens=amount),
        memory=some(
            namespace=st.sampled_from(["x", "x.y", "z"]),
            retention_days=amount,
            rag=some(top_k=st.integers(1, 9), require_grounding=st.booleans()),
        ),
        security=some(
            consent_for=capabilities,
            deny=capabilities,
            paths=some(read=globs, write=globs),
            recipients=recipients,
        ),
        observability=some(tracing=st.sampled_from(["otel", "file"]), log_fields=log_fields),
        budgets=budgets,
    ),
)
musts = some(
    capabilities=capabilities,
    deny=capabilities,
    models=models,
    max_context_tokens=amount,
    consent_for=capabilities,
    paths=some(read=globs, write=globs),
    recipients=recipients,
    budgets=budgets,
    retention_days=amount,
    require_grounding=st.booleans(),
    compute=compute,
    latency=st.lists(st.sampled_from(CLASSES), min_size=1, unique=True),
    tracing=st.sampled_from(["otel", "file"]),
    log_fields=log_fields,
    never_log=log_fields,
)
prefers = some(
    models=models,
    max_context_tokens=amount,
    namespace=st.sampled_from(["x", "q"]),
    retention_days=amount,
    rag=some(top_k=st.integers(1, 9), require_grounding=st.booleans()),
    budgets=budgets,
    tracing=st.sampled_from(["otel", "file"]),
    log_fields=log_fields,
)


def policy(layer: str, must: dict[str, Any], prefer: dict[str, Any] | None = None) -> Policy:
    """Return a policy of a layer; a tenant is `t`, a role is `r`."""
    names = {"tenant": "t", "role": "r"}
    return Policy.model_validate(
        {"apiVersion": "agentos/v0.2", "kind": "Policy", "layer": layer, "must": must}
        | {"prefer": prefer or {}, "name": names.get(layer, "")}
    )


layers = st.sampled_from(["platform", "tenant", "role", "admin"])
policies = st.lists(st.builds(policy, layers, musts, prefers), max_size=4)
demands = st.builds(policy, layers, musts)


def amounts(contract: AgentContract) -> dict[str, int | None]:
    """Every limit of a contract by name; None is not limited."""
    found: dict[str, int | None] = {
        "context": contract.modelPolicy.max_context_tokens,
        "retention": contract.memory.retention_days,
    }
    parts = {"": contract.budgets} | {
        name: getattr(contract.budgets, name) for name in ("agent", *WINDOWS)
    }
    for scope, part in parts.items():
        found |= {f"{scope}.{resource}": getattr(part, resource) for resource in RESOURCES}
    return found


def grants(contract: AgentContract) -> set[str]:
    """Everything of a fixed set of probes that a contract permits, each as a text."""
    pairs = [(name,) for name in CAPABILITIES] + list(combinations(CAPABILITIES, 2))
    security = contract.security
    return {
        *(f"use {names}" for names in pairs if contract.grants(*names)),
        *(f"ask {model}" for model in MODELS if contract.modelPolicy.allows(model)),
        *(f"read {path}" for path in PATHS if security.may_read(path)),
        *(f"write {path}" for path in PATHS if security.may_write(path)),
        *(f"send {name}" for name in RECIPIENTS if security.may_send_to(name)),
        *(f"skip {name}" for name in CAPABILITIES if not contract.needs_consent(name)),
        *(["ungrounded"] if not contract.memory.rag.require_grounding else []),
        *(f"be {name}" for name in CLASSES if CLASSES.index(name) >= rank(contract)),
    }


def rank(contract: AgentContract) -> int:
    """The place of a contract's class; 0 is the strongest."""
    return CLASSES.index(contract.class_.latency)


def wider(child: AgentContract, parent: AgentContract) -> set[str]:
    """What the first permits and the second does not; empty is what must be."""
    above = amounts(parent)
    larger = {
        name
        for name, value in amounts(child).items()
        if above[name] is not None and (value is None or value > (above[name] or 0))
    }
    return (grants(child) - grants(parent)) | larger


def everything_within(must: Policy) -> AgentContract:
    """A contract of a layer's demands alone: it asks for all that they leave."""
    return merge(
        AgentContract.model_validate(
            {"apiVersion": "agentos/v0.2", "kind": "AgentContract", "name": "all"}
            | {"class": {"latency": "HRT", "deadline_ms": 1}, "capabilities": CAPABILITIES}
        ),
        [must],
    ).contract


@settings(max_examples=50, deadline=None)
@given(contracts, policies)
def test_a_merged_contract_has_no_more_than_the_request_and_each_demand(
    contract: AgentContract, given_policies: list[Policy]
) -> None:
    """Capabilities, models, paths, recipients, limits, and freedom from consent."""
    merged = merge(contract, given_policies).contract
    assert wider(merged, contract) == set()
    for each in given_policies:
        assert wider(merged, everything_within(policy(each.layer, each.must.model_dump()))) == set()


@settings(max_examples=25, deadline=None)
@given(contracts, policies)
def test_what_is_asked_and_allowed_by_each_is_granted(
    contract: AgentContract, given_policies: list[Policy]
) -> None:
    """Merging takes nothing away that the request and every demand permit, but defaults' limits."""
    merged = merge(contract, given_policies).contract
    kept = grants(contract)
    for each in given_policies:
        kept &= grants(everything_within(policy(each.layer, each.must.model_dump())))
    single = {probe for probe in kept if not probe.startswith(("use", "ungrounded", "be "))}
    assert single <= grants(merged)
    for name in CAPABILITIES:
        assert (f"use {(name,)}" in kept) == (f"use {(name,)}" in grants(merged))


@settings(max_examples=40, deadline=None)
@given(contracts, policies)
def test_merging_twice_is_merging_once(
    contract: AgentContract, given_policies: list[Policy]
) -> None:
    """The effective contract under the same policies is itself."""
    once = merge(contract, given_policies).contract
    assert merge(once, given_policies).contract.digest == once.digest


@settings(max_examples=25, deadline=None)
@given(contracts, policies, st.randoms())
def test_the_order_of_the_policies_does_not_matter(
    contract: AgentContract, given_policies: list[Policy], random: Any
) -> None:
    """Contract, reasons and refusals are the same for any order, and for a policy given twice."""
    shuffled = [*given_policies, *given_policies[:1]]
    random.shuffle(shuffled)
    assert merge(contract, shuffled) == merge(contract, given_policies)


@settings(max_examples=35, deadline=None)
@given(contracts, policies, demands)
def test_another_demand_never_widens(
    contract: AgentContract, given_policies: list[Policy], demand: Policy
) -> None:
    """With one more layer's `must`, nothing is permitted that was not before."""
    before = merge(contract, given_policies).contract
    assert wider(merge(contract, [*given_policies, demand]).contract, before) == set()


@settings(max_examples=40, deadline=None)
@given(contracts, policies, layers, prefers)
def test_a_suggestion_never_beats_a_demand(
    contract: AgentContract, given_policies: list[Policy], layer: str, prefer: dict[str, Any]
) -> None:
    """No `prefer`, not even the administrator's, takes a contract beyond request and demands."""
    only_demands = [policy(each.layer, each.must.model_dump()) for each in given_policies]
    bound = merge(contract, only_demands).contract
    merged = merge(contract, [*only_demands, policy(layer, {}, prefer)]).contract
    assert wider(merged, bound) == set()
    demanded = [each.must.tracing for each in only_demands if each.must.tracing]
    assert not demanded or merged.observability.tracing in demanded


@settings(max_examples=50, deadline=None)
@given(contracts, contracts)
def test_a_child_never_has_more_than_its_parent(
    parent: AgentContract, child: AgentContract
) -> None:
    """Nor more than it asked for; and what is within already stays as it is."""
    attenuated = attenuate(parent, child)
    assert wider(attenuated, parent) == set()
    assert wider(attenuated, child) == set()
    assert attenuate(parent, attenuated).digest == attenuated.digest
    space = parent.memory.namespace
    assert f"{attenuated.memory.namespace}.".startswith(f"{space}.")


@settings(max_examples=25, deadline=None)
@given(contracts, contracts, contracts)
def test_a_grandchild_never_has_more_than_its_grandparent(
    first: AgentContract, second: AgentContract, third: AgentContract
) -> None:
    """Delegation of delegation stays within the first."""
    assert wider(attenuate(attenuate(first, second), third), first) == set()


def test_scopes_of_a_parent_stay_under_further_layers() -> None:
    """What a delegation added is not lost when the layers are merged over it."""
    parent = contract_of(
        capabilities=["x"],
        modelPolicy={"allow": ["local/*"]},
        security={"paths": {"read": ["/a/**"], "write": ["/a/**"]}, "recipients": ["*@a.org"]},
    )
    child = contract_of(
        capabilities=["x"],
        modelPolicy={"allow": ["*/8B"]},
        security={"paths": {"read": ["/**/*.py"], "write": ["/b"]}, "recipients": ["me@*"]},
    )
    layer = policy("admin", {"models": ["*8B"], "paths": {"read": ["/*/b/**"]}})
    merged = merge(attenuate(parent, child), [layer]).contract
    assert wider(merged, parent) == set()
    assert wider(merged, child) == set()
    assert merged.security.read_scopes() == (("/**/*.py",), ("/*/b/**",), ("/a/**",))
    assert merged.security.may_read("/a/b/c.py")
    assert merged.modelPolicy.allows("local/8B")


@settings(max_examples=20, deadline=None)
@given(contracts, policies)
def test_every_limit_and_list_has_one_reason(
    contract: AgentContract, given_policies: list[Policy]
) -> None:
    """`why` names each field once, with the value that the effective contract has."""
    merged = merge(contract, given_policies)
    fields = [choice.field for choice in merged.why]
    assert len(fields) == len(set(fields))
    by_field = {choice.field: choice for choice in merged.why}
    for name, value in merged.contract.budgets.limits().items():
        assert by_field[f"budgets.{name}"].value == value
    labels = {each.label for each in given_policies} | {"request", "default"}
    assert all(set(choice.layers) <= labels and choice.layers for choice in merged.why)


def contract_of(**fields: Any) -> AgentContract:
    """A contract with these fields."""
    return AgentContract.model_validate(
        {"apiVersion": "agentos/v0.2", "kind": "AgentContract", "name": "a", **fields}
    )


def chosen(merged: Merged, field: str) -> tuple[Any, str, tuple[str, ...]]:
    """The value of a field, how it came about, and the layers that decided."""
    found = next(choice for choice in merged.why if choice.field == field)
    return found.value, found.how, found.layers


def test_precedence_of_suggestions() -> None:
    """Request, role, tenant, platform; the administrator's is above all of them."""
    suggestions = [
        policy(layer, {}, {"rag": {"top_k": number}})
        for number, layer in enumerate(("platform", "tenant", "role"), start=1)
    ]
    asked = contract_of(memory={"rag": {"top_k": 9}})
    field = "memory.rag.top_k"
    assert chosen(merge(asked, suggestions), field) == (9, "request", ("request",))
    silent = contract_of()
    assert chosen(merge(silent, suggestions), field) == (3, "prefer", ("role r",))
    assert chosen(merge(silent, suggestions[:2]), field) == (2, "prefer", ("tenant t",))
    assert chosen(merge(silent, suggestions[:1]), field) == (1, "prefer", ("platform",))
    assert chosen(merge(silent, []), field) == (8, "default", ("default",))
    admin = policy("admin", {}, {"rag": {"top_k": 7}})
    assert chosen(merge(asked, [*suggestions, admin]), field) == (7, "prefer", ("admin",))


def test_the_smallest_limit_counts_and_its_layer_is_named() -> None:
    """Session, agent and window limits take the minimum; an administrator cannot raise one."""
    asked = contract_of(budgets={"tokens": "50k", "per_day": {"tokens": "1M"}})
    merged = merge(
        asked,
        [
            policy("platform", {"budgets": {"tokens": "80k", "per_day": {"tokens": "500k"}}}),
            policy("tenant", {"budgets": {"tokens": "20k", "agent": {"currency": 5}}}),
            policy("admin", {}, {"budgets": {"tokens": "90k"}}),
        ],
    )
    assert chosen(merged, "budgets.tokens") == (20_000, "must", ("tenant t",))
    assert chosen(merged, "budgets.per_day.tokens") == (500_000, "must", ("platform",))
    assert merged.contract.budgets.agent.limits() == {"currency": 5}
    assert merged.contract.budgets.windows() == {"per_day": {"tokens": 500_000}}
    raised = merge(asked, [policy("admin", {}, {"budgets": {"tokens": "90k"}})])
    assert chosen(raised, "budgets.tokens") == (50_000, "request", ("request",))
    lowered = merge(asked, [policy("admin", {}, {"budgets": {"tokens": "9k"}})])
    assert chosen(lowered, "budgets.tokens") == (9_000, "prefer", ("admin",))


def test_what_a_parent_denies_and_where_it_remembers_hold_for_its_child() -> None:
    """A denial beats the parent's own grant; a namespace is the parent's or one below it."""
    parent = contract_of(
        capabilities=["x", "y"], security={"deny": ["y"]}, memory={"namespace": "n"}
    )
    child = contract_of(capabilities=["x", "y"])
    assert attenuate(parent, child).capabilities == ("x",)
    assert not attenuate(parent, child).grants("x", "y")
    for asked, given_ in (("n.sub", "n.sub"), ("nsub", "n"), ("other", "n"), ("n", "n")):
        within = attenuate(parent, contract_of(memory={"namespace": asked}))
        assert within.memory.namespace == given_


def test_what_a_contract_denies_itself_is_not_among_its_capabilities() -> None:
    """The effective list shows what is really granted."""
    asked = contract_of(capabilities=["x", "y"], security={"deny": ["y"]})
    assert merge(asked, []).contract.capabilities == ("x",)


def test_a_path_must_be_in_every_scope() -> None:
    """Scopes that only overlap leave what is in both; the table of traps can carry both lists."""
    asked = contract_of(security={"paths": {"read": ["/a/**"]}})
    merged = merge(asked, [policy("tenant", {"paths": {"read": ["/**/*.py"], "write": []}})])
    security = merged.contract.security
    assert security.read_scopes() == (("/a/**",), ("/**/*.py",))
    assert security.may_read("/a/x.py")
    assert not security.may_read("/a/x.md")
    assert not security.may_read("/b/x.py")
    assert security.write_scopes() == ((),)
    assert not security.may_write("/a/x.py")
    assert chosen(merged, "security.paths.read")[1:] == ("must", ("request", "tenant t"))


def test_an_empty_list_of_a_layer_allows_nothing() -> None:
    """No model, recipient or capability is left; in a contract an empty list allows any model."""
    nothing: dict[str, Any] = {"models": [], "recipients": [], "capabilities": []}
    merged = merge(contract_of(capabilities=["x"]), [policy("admin", nothing)]).contract
    assert not merged.modelPolicy.allows("local/8B")
    assert merged.modelPolicy.candidates() == ()
    assert not merged.security.may_send_to("me@a.org")
    assert not merged.grants("x")


def test_a_class_that_is_not_allowed_is_weakened_and_told() -> None:
    """The next weaker allowed class holds, and the refusal says which layer does not allow it."""
    asked = contract_of(**{"class": {"latency": "HRT", "deadline_ms": 5}})
    merged = merge(asked, [policy("platform", {"latency": ["SRT", "DT"]})])
    assert merged.contract.class_.latency is Latency.SRT
    assert merged.refusals == ("the class HRT is not allowed by platform",)
    assert merge(asked, []).refusals == ()


def test_limits_of_shared_accounts_are_given_apart() -> None:
    """The smallest limit of tenant, application and organisation, windows included."""
    merged = merge(
        contract_of(),
        [
            policy("platform", {"budgets": {"organisation": {"currency": 9}}}),
            policy("platform", {"budgets": {"tenant": {"tokens": 9, "per_day": {"tokens": 8}}}}),
            policy("tenant", {"budgets": {"tenant": {"tokens": 5}}}),
        ],
    )
    assert set(merged.accounts) == {"tenant", "organisation"}
    assert merged.accounts["tenant"].limits() == {"tokens": 5}
    assert merged.accounts["tenant"].windows() == {"per_day": {"tokens": 8}}
    assert chosen(merged, "accounts.tenant.tokens") == (5, "must", ("tenant t",))


def test_the_same_objects_are_merged_once() -> None:
    """A second merge of what the libraries keep returns the same result."""
    contract, one = contract_of(), policy("tenant", {"models": ["local/*"]})
    assert merge(contract, (one,)) is merge(contract, (one,))
    assert merge(contract, ()) is not merge(contract_of(), ())


def write(folder: Path, name: str, layer: str, rest: str = "") -> Path:
    """Write a policy file of a layer."""
    text = f"apiVersion: agentos/v0.2\nkind: Policy\nlayer: {layer}\n{rest}\n"
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_policies_bind_by_tenant_and_by_both_roles(tmp_path: Path) -> None:
    """Platform and administrator bind all; the principal's role and the contract's bind too."""
    write(tmp_path, "p.yaml", "platform")
    write(tmp_path, "a.yml", "admin")
    write(tmp_path, "t.yaml", "tenant", "name: acme\n---\n" + "".join(
        f"apiVersion: agentos/v0.2\nkind: Policy\nlayer: role\nname: {name}\n---\n"
        for name in ("writer", "reader")
    ))  # fmt: skip
    write(tmp_path, ".draft.yaml", "nonsense")
    (tmp_path / "notes.txt").write_text("not a policy", encoding="utf-8")
    library = PolicyLibrary(tmp_path)

    def bound(principal: Principal, contract: AgentContract | None = None) -> set[str]:
        return {each.label for each in library.for_principal(principal, contract)}

    assert bound(Principal()) == {"platform", "admin"}
    assert bound(Principal(tenant="acme")) == {"platform", "admin", "tenant acme"}
    assert bound(Principal(role="writer")) == {"platform", "admin", "role writer"}
    both = bound(Principal(role="writer"), contract_of(role="reader"))
    assert both == {"platform", "admin", "role writer", "role reader"}
    fork = library.for_principal(
        Principal(), contract_of(role="reader"), contract_of(), contract_of(role="writer")
    )
    assert {each.label for each in fork} == both


def test_a_broken_policy_stops_everybody(tmp_path: Path) -> None:
    """It might bind anyone: every look is an error until it is mended or gone."""
    library = PolicyLibrary(tmp_path)
    assert library.for_principal(Principal()) == ()
    broken = write(tmp_path, "x.yaml", "tennant")
    with pytest.raises(ContractError, match=r"x.yaml:3:8: the field 'layer' is wrong"):
        library.for_principal(Principal())
    broken.write_text("apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\n", encoding="utf-8")
    with pytest.raises(ContractError, match=r"holds a document of the kind AgentContract"):
        library.for_principal(Principal())
    broken.unlink()
    assert library.for_principal(Principal()) == ()


def test_a_policy_that_changes_counts_at_the_next_look(tmp_path: Path) -> None:
    """Also when the file keeps its length and is written many times in a short while."""
    path = write(tmp_path, "a.yaml", "admin", "must: { max_context_tokens: 1 }")
    library = PolicyLibrary(tmp_path)
    for number in range(2, 9):
        path.write_text(
            path.read_text(encoding="utf-8").replace(f": {number - 1} ", f": {number} "),
            encoding="utf-8",
        )
        assert library.for_principal(Principal())[0].must.max_context_tokens == number
    write(tmp_path, "b.yaml", "platform")
    assert len(library.for_principal(Principal())) == 2


def test_looking_again_is_quick(tmp_path: Path) -> None:
    """Ten files that did not change cost well under a millisecond and give the same objects."""
    for number in range(10):
        write(tmp_path, f"{number}.yaml", "role", f"name: r{number}")
    library = PolicyLibrary(tmp_path, settled_s=-1)
    principal = Principal(role="r3")
    first = library.for_principal(principal)
    assert [each.name for each in first] == ["r3"]
    looks = timeit.repeat(lambda: library.for_principal(principal), number=5, repeat=40)
    assert library.for_principal(principal) is first
    assert min(looks) / 5 < 0.001

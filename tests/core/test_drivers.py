"""Plug-ins by entry point: loading, clashes, versions, permissions, limits; and our own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.core.plugin_folder import install

from fmos.client import connect
from fmos.clock import FixedClock
from fmos.drivers import (
    POLICIES,
    RETRIEVERS,
    VERIFIERS,
    CallFacts,
    Drivers,
    Group,
    Offer,
)
from fmos.errors import ArgumentError, DeniedError, DriverError, MissingExtraError, NotFoundError
from fmos.plugins.objections import PolicyModules
from fmos.plugins.retrieval import EVENT, Retrieval
from fmos.plugins.working_hours import WorkingHours
from fmos.runtime.kernel import Kernel
from fmos.serving.discovery import discover
from fmos.settings import DriverSettings
from fmos.types import Operation, OperationKind, Principal
from fmos.verify.checking import Checker
from fmos.verify.model import Claim, Context

VERIFIER = """\
from fmos.verify.model import supported

class Physics:
    fmos_api = {api}
    name = "physics"
    claim_types = ("physics",)
    cost = {{"verifier_runs": 1}}

    def check(self, claim, context):
        return supported("energy is kept")
"""
POINT = "[fmos.verifiers]\nphysics = {module}:Physics\n"
ALLOWED = DriverSettings(allowed=("phys*",))
CONTRACT = """\
apiVersion: agentos/v0.2
kind: AgentContract
name: ada
capabilities: [fs.read, fs.write]
security: {{ paths: {{ read: ["/docs/**"] }}, deny: [{deny}] }}
"""
WHO = Principal(agent="ada", session="s")
FRIDAY_NOON = 1_763_726_400_000_000_000  # 2025-11-21 12:00 UTC


def plugin(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, point: str = POINT, *,
    module: str = "acme_physics", distribution: str = "acme",
) -> None:  # fmt: skip
    """Install a plug-in for this test."""
    site = install(folder / distribution, distribution, module, source, point.format(module=module))
    monkeypatch.syspath_prepend(str(site))


def test_an_installed_plugin_is_loaded_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier of another distribution takes its type of claim, once the home allows it."""
    plugin(tmp_path, monkeypatch, VERIFIER.format(api=1))
    checker = Checker(Drivers(VERIFIERS, ALLOWED))
    result = checker.check(Claim(type="physics"), Context())
    assert (result.verdict, result.explanation) == ("supported", "energy is kept")
    assert not checker.problems


def test_a_plugin_that_is_not_allowed_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not among the names, and asking for it says what to write into fmos.toml."""
    plugin(tmp_path, monkeypatch, "raise SystemExit('imported')")
    drivers = Drivers(VERIFIERS)
    assert "physics" not in drivers.names()
    assert "physics" in {offer.name for offer in drivers.offers()}
    with pytest.raises(DriverError, match=r"'physics' of 'acme 1' is not allowed.*\[drivers\]"):
        drivers.load("physics")


def test_one_name_of_two_distributions_is_an_error_with_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody guesses which one is meant, and the others still load."""
    plugin(tmp_path, monkeypatch, VERIFIER.format(api=1))
    plugin(tmp_path, monkeypatch, VERIFIER.format(api=1), module="rival", distribution="rival-co")
    drivers = Drivers(VERIFIERS, ALLOWED)
    with pytest.raises(DriverError, match="'acme 1'") as raised:
        drivers.load("physics")
    assert "'rival-co 1'" in str(raised.value)
    found, problems = drivers.usable()
    assert "arithmetic" in found
    assert list(problems) == ["physics"]


def test_nobody_takes_the_name_of_a_built_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's `arithmetic` does not replace ours: the name is ambiguous."""
    point = "[fmos.verifiers]\narithmetic = {module}:Physics\n"
    plugin(tmp_path, monkeypatch, VERIFIER.format(api=1), point)
    with pytest.raises(DriverError, match="'fmos' and 'acme 1'"):
        Drivers(VERIFIERS, ALLOWED).load("arithmetic")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import not_installed_anywhere", "No module named 'not_installed_anywhere'"),
        ("raise ValueError('bad day')", "ValueError: bad day"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = ", "SyntaxError"),
        ("Other = 1", "AttributeError"),
        (VERIFIER.format(api=2), "is for driver API 2, and this is 1"),
        (VERIFIER.format(api=None), "does not say for which driver API"),
    ],
)
def test_a_broken_plugin_is_named_and_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    """Whatever happens at its import, the rest is there."""
    module = f"broken_{abs(hash(source)) % 10**8}"
    plugin(tmp_path, monkeypatch, source, module=module)
    found, problems = Drivers(VERIFIERS, ALLOWED).usable()
    assert "arithmetic" in found
    assert said in problems["physics"]
    assert "'physics' of 'acme 1'" in problems["physics"]


def test_a_missing_extra_of_ours_names_it() -> None:
    """What one of our own plug-ins lacks is said with the command that installs it."""
    group = Group("tests.none", "verifier", {"x": "not_there:X"}, extras={"x": "verifiers"})
    with pytest.raises(MissingExtraError, match=r'pip install "fmos\[verifiers\]"'):
        Drivers(group, installed=lambda name: ()).load("x")
    with pytest.raises(NotFoundError, match="there is x"):
        Drivers(group, installed=lambda name: ()).load("y")


def test_a_distribution_found_twice_is_one() -> None:
    """The same entry point on two places of the path is no clash."""
    twice = [Offer("physics", "m:P", "acme 1")] * 2
    drivers = Drivers(VERIFIERS, ALLOWED, installed=lambda group: twice)
    assert drivers.names()[-1] == "physics"
    with pytest.raises(DriverError, match="cannot be loaded"):
        drivers.load("physics")


def test_runs_that_are_overdue_are_left_alone_and_then_refused() -> None:
    """Each run waits no longer than the limit; when four hang, no further one starts."""
    drivers = Drivers(VERIFIERS, DriverSettings(timeout_s=0.02))
    end = threading.Event()
    started: list[int] = []

    def hang() -> None:
        started.append(1)
        end.wait(10)

    for _ in range(4):
        with pytest.raises(DriverError, match=r"took longer than 0\.02 s"):
            drivers.run("slow", hang)
    with pytest.raises(DriverError, match="4 runs of it have not ended"):
        drivers.run("slow", hang)
    assert len(started) == 4
    end.set()
    assert Drivers(VERIFIERS).run("quick", lambda: 7) == 7


def test_toolsets_are_found_by_the_same_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken toolset of another distribution is missing by name; ours are found."""
    point = "[fmos.toolsets]\nextra = {module}:Tools\n"
    plugin(tmp_path, monkeypatch, "raise RuntimeError('no')", point, module="bad_tools")
    found = discover()
    assert set(found.found) >= {"memory", "trust-gate"}
    assert "RuntimeError: no" in found.missing["extra"]


# -- retrievers ------------------------------------------------------------------------------


def with_files(kernel: Kernel, deny: str = "") -> Retrieval:
    """A kernel with an agent that has some files."""
    (kernel.home.contracts / "ada.yaml").write_text(CONTRACT.format(deny=deny), encoding="utf-8")
    files = kernel.agent_files(WHO)
    files.mkdir("/docs")
    files.mkdir("/private")
    files.write("/docs/bridge.txt", "Opened in 1932.\nThe harbour bridge is grey.\n")
    files.write("/docs/tower.txt", "The tower is grey, and no harbour is near.\n")
    files.write("/private/x.txt", "The harbour bridge has a secret.\n")
    files.write("/docs/binary", b"\0harbour bridge")
    kernel.agent_fs(WHO).mkdir("/.fmos/memory", parents=True, exist_ok=True)
    kernel.agent_fs(WHO).write("/.fmos/memory/x", "the harbour bridge of the system")
    kernel.agent_files(Principal(agent="bob")).write("/docs.txt", "bob's harbour bridge")
    return Retrieval(kernel)


def test_the_files_retriever_finds_lines_with_provenance(kernel: Kernel) -> None:
    """Best line first, each with its path and digest; what the contract hides is left out."""
    retrieval = with_files(kernel)
    found = retrieval.search(WHO, "harbour bridge", 5)
    assert [each.source for each in found] == ["/docs/bridge.txt", "/docs/tower.txt"]
    assert found[0].text == "The harbour bridge is grey."
    assert len(found[0].digest) == 64
    rows = list(kernel.agent_fs(WHO).journal(operation=EVENT))
    assert [row.detail["phase"] for row in rows] == ["intent", "outcome"]
    assert rows[1].detail["hits"][0]["digest"] == found[0].digest
    assert "harbour" not in str([row.detail for row in rows])


def test_the_files_retriever_sees_what_the_agent_sees(kernel: Kernel) -> None:
    """Without a contract's scope it finds every own file, and nothing of the system area."""
    retrieval = with_files(kernel)
    (kernel.home.contracts / "ada.yaml").unlink()
    found = {each.source for each in retrieval.search(WHO, "harbour bridge", 50)}
    assert found == {"/docs/bridge.txt", "/docs/tower.txt", "/private/x.txt"}


def test_a_retriever_may_be_denied(kernel: Kernel) -> None:
    """`fs.read` in the list of denials takes all away, `retrieve.files` only that one."""
    for denied in ("retrieve.files", "fs.read"):
        (kernel.home.contracts / "ada.yaml").write_text(CONTRACT.format(deny=denied))
        with pytest.raises(DeniedError, match=denied):
            Retrieval(kernel).search(WHO, "harbour")
    with pytest.raises(ArgumentError):
        Retrieval(kernel).search(WHO, "  ")


def test_hits_without_provenance_are_an_error(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retriever that does not say where a passage is from gives none, and cannot write."""
    source = (
        "from fmos.drivers import Passage\n"
        "class R:\n    fmos_api = 1\n    name = 'r'\n"
        "    def __init__(self, files): self.files = files\n"
        "    def search(self, query, k, who):\n"
        "        if query == 'write': self.files(who).write('/x', 'x')\n"
        "        return [Passage('text', '', '')]\n"
    )
    plugin(tmp_path, monkeypatch, source, "[fmos.retrievers]\nr = {module}:R\n", module="acme_r")
    with_files(kernel)
    drivers = Drivers(RETRIEVERS, DriverSettings(allowed=("r",)))
    with pytest.raises(DriverError, match="without source and digest"):
        Retrieval(kernel, drivers).search(WHO, "x", name="r")
    with pytest.raises(DriverError, match="failed"):
        Retrieval(kernel, drivers).search(WHO, "write", name="r")
    assert not kernel.agent_files(WHO).exists("/x")


# -- policy modules --------------------------------------------------------------------------


def facts(hour: float = 12, day: int = 0, effect: str = "write") -> CallFacts:
    """Facts of a call at an hour of a day; day 0 is a Friday."""
    now_ns = FRIDAY_NOON + int(((hour - 12) * 3600 + day * 86_400) * 1e9)
    return CallFacts("fs.write", effect, ("/a",), (), ("write_file",), now_ns)


OPERATION = Operation(kind=OperationKind.TOOL_CALL, name="write_file", principal=WHO)


@pytest.mark.parametrize(
    ("options", "hour", "day", "objects"),
    [
        ({}, 12, 0, False),
        ({}, 7.99, 0, True),
        ({}, 18, 0, True),
        ({}, 12, 1, True),
        ({"days": "sat,sun"}, 12, 1, False),
        ({"days": "sat-mon"}, 12, 3, False),
        ({"timezone": "Asia/Tokyo"}, 12, 0, True),
        ({"from": "22:00", "until": "06:00"}, 23, 0, False),
        ({"from": "22:00", "until": "06:00"}, 5, 1, False),
        ({"from": "22:00", "until": "06:00"}, 5, 0, False),
        ({"from": "22:00", "until": "06:00"}, 5, 3, True),
        ({"from": "22:00", "until": "06:00"}, 12, 0, True),
    ],
)
def test_working_hours_object_outside_of_them(
    options: dict[str, Any], hour: float, day: int, objects: bool
) -> None:
    """Days, hours, time zone, and hours over midnight, which belong to the day before."""
    assert bool(WorkingHours(options).judge(OPERATION, facts(hour, day))) is objects


@pytest.mark.parametrize(
    "options",
    [
        {"day": "mon"},
        {"days": "someday"},
        {"from": "8am"},
        {"timezone": "Mars"},
        {"outside": "allow"},
        {"effects": ["think"]},
    ],
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    """An option that is not understood is an error with its key."""
    with pytest.raises(ArgumentError, match=next(iter(options))):
        WorkingHours(options)


MODULE = """\
from fmos.drivers import Objection

class Rule:
    fmos_api = 1
    name = "rule"
    def __init__(self, options):
        self.what = options.get("what")
    def judge(self, operation, facts):
        if self.what == "raise":
            raise RuntimeError("oops")
        if self.what == "allow":
            return [Objection("allow", "let it by")]
        return [Objection(self.what, "because")] if self.what else []
"""
RULE = "[fmos.policies]\nrule = {module}:Rule\n"


def gate(kernel: Kernel, settings: str) -> dict[str, Any]:
    """What the trust gate says of a write under these settings."""
    (kernel.home.path / "fmos.toml").write_text(settings, encoding="utf-8")
    (kernel.home.contracts / "ada.yaml").write_text(CONTRACT.format(deny=""), encoding="utf-8")
    tool = {"name": "write_file", "capability": "fs.write", "effect": "write"}
    reader: dict[str, Any] = {"name": "read_file", "capability": "fs.read", "effect": "read"}
    reader |= {"roles": {"path": "path"}}
    with (
        Kernel.open(kernel.home.path, FixedClock(FRIDAY_NOON)) as opened,
        connect(WHO, kernel=opened) as client,
    ):
        client.call("trust_register_tools", {"tools": [tool, reader]})
        table = client.call("trust_table")
        asked = {"kind": "tool.call", "name": "write_file", "arguments": {}}
        verdict = client.call("trust_check", {"operation": asked})
        classes = {each["tool"]: each["operation_class"] for each in table["rules"]}
        return {**verdict, "classes": classes}


@pytest.mark.parametrize(
    ("what", "decision", "code"),
    [
        ("", "allow", "trust.allowed"),
        ("deny", "deny", "policy.rule.objection"),
        ("ask", "ask", "policy.rule.objection"),
        ("raise", "deny", "policy.rule.failed"),
        ("allow", "deny", "policy.rule.failed"),
    ],
)
def test_a_policy_module_only_adds_to_what_the_gate_says(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    what: str, decision: str, code: str,
) -> None:  # fmt: skip
    """It denies or asks; one that fails, or tries to allow, denies."""
    plugin(tmp_path, monkeypatch, MODULE, RULE, module="acme_rule")
    options = f'[drivers.options.rule]\nwhat = "{what}"\n'
    settings = f'[drivers]\nallowed = ["rule"]\npolicies = ["rule"]\n{options}'
    verdict = gate(kernel, settings)
    assert verdict["decision"] == decision
    assert code in [reason["code"] for reason in verdict["reasons"]]


@pytest.mark.parametrize("name", ["nosuch", "rule"])
def test_a_policy_module_that_is_not_there_denies(kernel: Kernel, name: str) -> None:
    """A home that asks for a module never runs without it."""
    verdict = gate(kernel, f'[drivers]\npolicies = ["{name}"]\n')
    assert verdict["decision"] == "deny"
    assert verdict["reasons"][0]["code"] == f"policy.{name}.failed"


def test_working_hours_stand_in_the_gate(kernel: Kernel) -> None:
    """At noon on a Friday a write is allowed, or asked where Friday is no working day."""
    assert gate(kernel, '[drivers]\npolicies = ["working-hours"]\n')["decision"] == "allow"
    weekend = (
        '[drivers]\npolicies = ["working-hours"]\n[drivers.options.working-hours]\ndays = "sat"\n'
    )
    verdict = gate(kernel, weekend)
    assert verdict["decision"] == "ask"
    assert "fri 12:00" in verdict["reasons"][0]["message"]


def test_with_a_module_no_call_is_innocuous(kernel: Kernel) -> None:
    """A rule that must see every call sees those that ran on the fast path before."""
    assert gate(kernel, "")["classes"]["read_file"] == "innocuous"
    settings = '[drivers]\npolicies = ["working-hours"]\n'
    assert gate(kernel, settings)["classes"]["read_file"] == "privileged"


def test_no_module_costs_nothing() -> None:
    """Without any, nothing is judged and no plug-in is looked for."""
    modules = PolicyModules(DriverSettings(), Drivers(POLICIES, installed=pytest.fail))
    assert not modules
    assert modules.judge(OPERATION, facts()) == ((), ())

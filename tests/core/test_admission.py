"""Admission: whether what was bound can be kept on this host, beside what runs already."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.core.test_bind import OFFERS, bound, document, policy

from fmos.contract.admission import Admission, admit
from fmos.contract.bind import bind
from fmos.contract.catalogue import parse_catalogue
from fmos.contract.host import HostFacts, Jitter, measure_jitter
from fmos.contract.manifest import Manifest, seal
from fmos.contract.parse import load_text
from fmos.contract.requirements import normalise
from fmos.errors import AdmissionError, FormatError

HOST = HostFacts(cpus=2, memory_bytes=4 * 2**30, gpus=0, runtime="CPython 3.11.7")
REALTIME = OFFERS + "placement: [{ name: edge, provides: [realtime] }]\n"


def hard(times: str, name: str = "guard") -> Manifest:
    """A bound hard real-time agent at the edge with the given times."""
    text = f"agent: {name}\nlatency_class: HRT\nmust: {{ placement: edge-only, {times} }}\n"
    return bound(text, offers=REALTIME)


def contract(fields: str) -> Manifest:
    """A sealed contract with the given fields."""
    head = "apiVersion: agentos/v0.2\nkind: AgentContract\nname: ada\n"
    return seal(load_text(head + fields))


def codes(admission: Admission) -> list[str]:
    """The codes of what stands in the way."""
    return [reason.code for reason in admission.reasons]


def test_hard_real_time_is_computed_and_refused_where_python_would_run_it() -> None:
    """The tests fit, and the refusal says plainly that CPython is not the place."""
    admission = admit(hard("deadline_ms: 10, wcet_ms: 3"), host=HOST)
    assert codes(admission) == ["schedule.no_realtime_runtime"]
    assert "CPython 3.11.7 is not the place to run a 10 ms loop" in admission.reasons[0].message
    assert admission.utilisation == pytest.approx(0.3)
    assert admission.tests["EDF"] == "fits: utilisation 30.0 % <= 100 %"
    assert admission.tests["RM"].startswith("fits: every response time meets its deadline")
    assert admission.response_ms == {"guard": 3}


def test_hard_real_time_is_admitted_to_a_real_time_place() -> None:
    """The catalogue's `provides: [realtime]` is what lets it run."""
    catalogue = parse_catalogue(REALTIME)
    manifest = hard("deadline_ms: 10, wcet_ms: 3")
    assert admit(manifest, host=HOST, catalogue=catalogue).admitted
    plain = parse_catalogue(OFFERS + "placement: [edge]\n")
    assert codes(admit(manifest, host=HOST, catalogue=plain)) == ["schedule.no_realtime_runtime"]
    ill = parse_catalogue(REALTIME.replace("edge, provides", "edge, healthy: false, provides"))
    assert not admit(manifest, host=HOST, catalogue=ill).admitted


def test_what_is_not_declared_is_asked_for() -> None:
    """No execution time: nothing is guessed, and the sentence says what to add."""
    admission = admit(hard("deadline_ms: 10"), host=HOST, catalogue=parse_catalogue(REALTIME))
    assert codes(admission) == ["schedule.undeclared"]
    assert "add `must: { wcet_ms: ... }`" in admission.reasons[0].message
    assert admission.utilisation is None


def test_deadlines_that_cannot_be_met_are_refused() -> None:
    """A second agent is refused when both together need more than one processor."""
    catalogue = parse_catalogue(REALTIME)
    first = hard("deadline_ms: 10, wcet_ms: 6", "first")
    second = hard("deadline_ms: 10, wcet_ms: 5", "second")
    admission = admit(second, running=[first], host=HOST, catalogue=catalogue)
    assert codes(admission) == ["schedule.infeasible"]
    assert "utilisation 110.0 % is above 100 %" in admission.reasons[0].message
    assert admit(second, host=HOST, catalogue=catalogue).admitted


def test_what_fits_only_by_deadline_says_so() -> None:
    """97 % fit under EDF and not under fixed priorities: admitted, with a note."""
    catalogue = parse_catalogue(REALTIME)
    admission = admit(
        hard("deadline_ms: 7, wcet_ms: 4", "slow"),
        running=[hard("deadline_ms: 5, wcet_ms: 2", "fast")],
        host=HOST,
        catalogue=catalogue,
    )
    assert admission.admitted
    assert admission.notes[0].startswith("only under earliest deadline first")


def test_a_fraction_of_a_millisecond_counts() -> None:
    """Two of 5.5 ms in 11 ms fit, two of 5.6 ms do not: nothing was rounded on the way."""
    catalogue = parse_catalogue(REALTIME)
    for cost, fits in (("5.5", True), ("5.6", False)):
        one, two = (hard(f"deadline_ms: 11, wcet_ms: {cost}", name) for name in ("a", "b"))
        assert admit(one, running=[two], host=HOST, catalogue=catalogue).admitted == fits


def test_a_declared_period_and_onset_are_used() -> None:
    """`period_ms` is apart from the deadline; `onset_ms` stands in for the execution time."""
    admission = admit(hard("deadline_ms: 5, period_ms: 100, onset_ms: 4"), host=HOST)
    assert admission.utilisation == pytest.approx(0.04)


def test_jitter_that_was_measured_is_held_against_the_promise() -> None:
    """Only a measured host is judged; the figure is in the sentence."""
    manifest = hard("deadline_ms: 10, wcet_ms: 3, jitter_ms: 2")
    late = HostFacts(2, 2**30, 0, "CPython", Jitter(worst_ms=3.5, p99_ms=1, wakeups=200))
    catalogue = parse_catalogue(REALTIME)
    assert codes(admit(manifest, host=late, catalogue=catalogue)) == ["schedule.jitter"]
    assert admit(manifest, host=HOST, catalogue=catalogue).admitted
    unplaced = admit(manifest, host=late)
    assert "measured now: 3.50 ms late in 200 wake-ups" in unplaced.reasons[0].message


def test_requirements_can_be_admitted_without_a_binding() -> None:
    """The shape before binding is enough for the schedule."""
    text = "agent: g\nlatency_class: HRT\nmust: { deadline_ms: 10, wcet_ms: 12 }\n"
    admission = admit(normalise(document(text)), host=HOST)
    assert codes(admission) == ["schedule.infeasible", "schedule.no_realtime_runtime"]


@pytest.mark.parametrize(
    ("slo", "expected"),
    [
        ("onset_ms: 10, turn_ms: 100", []),
        ("onset_ms: 7", ["slo.onset"]),
        ("turn_ms: 7", ["slo.turn"]),
        ("onset_ms: 7, turn_ms: 7", ["slo.onset", "slo.turn"]),
        ("jitter_p95_pct: 1", []),
    ],
)
def test_soft_objectives_are_compared_with_declared_latencies(
    slo: str, expected: list[str]
) -> None:
    """keyword_v3 answers in 8 ms: objectives below that cannot be promised."""
    text = f"agent: s\nclass: {{ latency: SRT, slo: {{ {slo} }} }}\nmust: {{ model: keyword_v3 }}\n"
    admission = admit(bound(text), host=HOST, catalogue=parse_catalogue(OFFERS))
    assert codes(admission) == expected


def test_a_latency_that_nobody_declares_is_noted() -> None:
    """Not known is neither a promise nor a refusal."""
    text = "agent: s\nclass: { latency: SRT, slo: { onset_ms: 1 } }\nmust: { model: cloud_70B }\n"
    admission = admit(bound(text), host=HOST, catalogue=parse_catalogue(OFFERS))
    assert admission.admitted
    assert admission.notes == ("not checked: model cloud_70B declares no latency (deadline_ms)",)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        ('cpu: "2", mem: 4GiB', []),
        ("cpu: 2500m", ["compute.cpu"]),
        ("mem: 5GiB", ["compute.mem"]),
        ('gpu: "1"', ["compute.gpu"]),
        ("mem: plenty", ["compute.unreadable"]),
    ],
)
def test_shares_are_compared_with_the_host(compute: str, expected: list[str]) -> None:
    """More than there is, and what cannot be read, is refused."""
    text = (
        "apiVersion: agentos/v0.2\nkind: AgentContract\nname: a\n" + f"compute: {{ {compute} }}\n"
    )
    manifest = bind(load_text(text), catalogue=None, mode="strict")
    assert codes(admit(manifest, host=HOST)) == expected


def test_shares_of_what_runs_already_count() -> None:
    """Two that want 3 GiB each do not fit into 4."""
    text = "agent: {}\nmust: {{ mem: 3GiB }}\n"
    one, two = (bound(text.format(name)) for name in ("a", "b"))
    admission = admit(two, running=[one], host=HOST)
    assert codes(admission) == ["compute.mem"]
    assert "beside 3 for others, and there are 4" in admission.reasons[0].message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("budgets: { tokens: 0 }", ["budget.nothing"]),
        ("budgets: { wall_seconds: 0 }", ["budget.nothing"]),
        ("capabilities: [a]\nbudgets: { tool_calls: 0 }", ["budget.nothing"]),
        ("budgets: { tool_calls: 0, memory_writes: 0, risk: 0 }", []),
        ("budgets: { tokens: 1 }", []),
    ],
)
def test_a_budget_that_allows_nothing_is_refused(fields: str, expected: list[str]) -> None:
    """A limit of 0 is fine for what the agent can do without."""
    assert codes(admit(contract(fields), host=HOST)) == expected


def test_what_the_layers_no_longer_allow_is_out_of_scope() -> None:
    """A manifest sealed before a policy changed is refused with what it lost."""
    manifest = contract("capabilities: [fs.read, fs.write]")
    assert admit(manifest, host=HOST, policies=[policy("{ deny: [fs.delete] }")]).admitted
    admission = admit(manifest, host=HOST, policies=[policy("{ deny: [fs.write] }")])
    assert codes(admission) == ["scope.capabilities"]
    with pytest.raises(AdmissionError, match=r"not admitted: .* fs\.write; bind it again"):
        admission.require()
    chosen = bound("agent: a\nmust: { model: keyword_v3 }\n")
    narrow = [policy("{ models: [cloud_70B] }")]
    assert codes(admit(chosen, host=HOST, policies=narrow)) == ["scope.model"]


def test_a_class_that_the_layers_no_longer_allow_is_out_of_scope() -> None:
    """What `merge` refuses outright, admission refuses too."""
    manifest = contract("class: { latency: SRT }")
    admission = admit(manifest, host=HOST, policies=[policy("{ latency: [DT] }")])
    assert codes(admission) == ["scope.class"]


def test_a_delay_tolerant_agent_is_always_admitted_in_time() -> None:
    """No deadline, no test."""
    admission = admit(contract("class: DT"), host=HOST)
    assert (admission.admitted, admission.tests) == (True, {})


def test_a_changed_manifest_is_not_admitted() -> None:
    """Admission checks the seal first."""
    manifest = contract("class: DT")
    with pytest.raises(FormatError, match="was changed"):
        admit(manifest.model_copy(update={"agent": "eve"}), host=HOST)


def test_the_hosts_facts_are_real() -> None:
    """Processors, memory and the runtime of this very machine."""
    facts = HostFacts.read()
    assert facts.cpus > 0
    assert facts.memory_bytes > 2**20
    assert facts.runtime.startswith("CPython 3.")


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({}, None, 8 * 2**30),
        ({"sys/fs/cgroup/a/b/cpu.max": "50000 100000"}, 0.5, 8 * 2**30),
        ({"sys/fs/cgroup/a/cpu.max": "max 100000"}, None, 8 * 2**30),
        ({"sys/fs/cgroup/a/memory.max": "1073741824\n"}, None, 2**30),
        ({"sys/fs/cgroup/memory/m/memory.limit_in_bytes": "1048576"}, None, 2**20),
        ({"sys/fs/cgroup/memory/m/memory.limit_in_bytes": str(2**63 - 1)}, None, 8 * 2**30),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "25000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            0.25,
            8 * 2**30,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}, None, 8 * 2**30),
    ],
)
def test_limits_of_control_groups_are_seen(
    tmp_path: Path, files: dict[str, str], cpus: float | None, memory: int
) -> None:
    """Both versions, of the group itself and of those above it."""
    files = {
        "proc/meminfo": "MemTotal:        8388608 kB\n",
        "proc/self/cgroup": "4:memory:/m\n1:cpu,cpuacct:/\n0::/a/b\n",
        **files,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    facts = HostFacts.read(root=tmp_path)
    assert facts.cpus == cpus or cpus is None
    assert (facts.memory_bytes, facts.gpus) == (memory, 1)


def test_jitter_can_be_measured() -> None:
    """A short run gives the worst and the 99th of its wake-ups."""
    jitter = measure_jitter(0.02)
    assert jitter.wakeups >= 15
    assert 0 <= jitter.p99_ms <= jitter.worst_ms

"""Whether what a manifest promises can be kept here: schedule, latency, machine, scope, budgets.

Binding asks what there is; admission asks whether it is enough. What a document does not declare is
asked for, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from fmos.contract.catalogue import Catalogue, Offer
from fmos.contract.host import HostFacts
from fmos.contract.layers import merge
from fmos.contract.limits import exact_limits
from fmos.contract.manifest import Manifest
from fmos.contract.model import AgentContract, Latency
from fmos.contract.policy import Policy
from fmos.contract.requirements import Requirements, quantity
from fmos.contract.schedule import Schedule, Task, earliest_deadline_first, rate_monotonic
from fmos.contract.selection import ALL_OF, plain_place
from fmos.contract.versions import parse_name
from fmos.errors import AdmissionError
from fmos.types import Reason, Record

#: What a place must provide for hard real-time work to be let run there.
REALTIME = "realtime"

_GIB = 2**30
_COMPUTE_FIELDS = (("cpu", "cores such as 2 or 500m"), ("mem", "such as 2GiB"), ("gpu", "a count"))


class Admission(Record):
    """What admission found. Not admitted means: do not start it here."""

    admitted: bool
    agent: str
    latency: Latency
    reasons: tuple[Reason, ...] = Field(default=(), description="why not; empty when admitted")
    notes: tuple[str, ...] = ()
    utilisation: float | None = Field(
        default=None, description="part of one processor that hard real-time tasks need"
    )
    tests: dict[str, str] = Field(
        default_factory=dict, description="schedulability test to its outcome"
    )
    response_ms: dict[str, float] = Field(
        default_factory=dict, description="task to its worst response time, rate-monotonic"
    )

    def require(self) -> None:
        """Do nothing if it is admitted.

        Raises:
            AdmissionError: with all reasons, if it is not.
        """
        if not self.admitted:
            said = "; ".join(reason.message for reason in self.reasons)
            raise AdmissionError(f"{self.agent!r} is not admitted: {said}")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A manifest or requirements, as admission looks at them."""

    agent: str
    latency: Latency
    limits: dict[str, int | float]
    chosen: dict[str, tuple[str, ...]]
    contract: AgentContract | None


def admit(
    asked: Manifest | Requirements,
    *,
    running: Sequence[Manifest | Requirements] = (),
    host: HostFacts | None = None,
    catalogue: Catalogue | None = None,
    policies: Sequence[Policy] = (),
) -> Admission:
    """Return whether an agent can be admitted beside those that run already.

    `host` is this machine by default. The catalogue says how fast the chosen offers answer and
    which places are for real-time work; `policies` are the layers as they are now.

    Raises:
        FormatError: if a manifest was changed after it was sealed.
    """
    facts = host or HostFacts.read()
    each = _read(asked)
    others = [_read(other) for other in running]
    reasons = [*_scope(each, policies), *_budgets(each), *_machine(each, others, facts)]
    notes: list[str] = []
    schedules: tuple[Schedule, ...] = ()
    if each.latency is Latency.HRT:
        tasks = [item for item in (each, *others) if item.latency is Latency.HRT]
        undeclared = [reason for item in tasks for reason in _undeclared(item)]
        if not undeclared:
            schedules = _schedules([_task(item) for item in tasks])
        reasons += [*undeclared, *_unschedulable(schedules), *_no_realtime(each, facts, catalogue)]
        reasons += _jitter(each, facts)
        notes += _fixed_priorities(schedules)
    elif each.latency is Latency.SRT:
        late, notes = _latencies(each, catalogue)
        reasons += late
    return Admission(
        admitted=not reasons,
        agent=each.agent,
        latency=each.latency,
        reasons=tuple(reasons),
        notes=tuple(notes),
        utilisation=schedules[0].utilisation if schedules else None,
        tests={schedule.rule: _outcome(schedule) for schedule in schedules},
        response_ms=schedules[1].response_ms if schedules else {},
    )


def _read(asked: Manifest | Requirements) -> _Asked:
    if isinstance(asked, Requirements):
        return _Asked(asked.agent, asked.latency, exact_limits(asked), {}, None)
    asked.verify()
    chosen = {
        dimension: (value,) if isinstance(value, str) else value
        for dimension, value in asked.chosen.items()
    }
    contract = asked.effective
    return _Asked(asked.agent, contract.class_.latency, asked.limits, chosen, contract)


# -- hard real-time


def _undeclared(asked: _Asked) -> Iterator[Reason]:
    """Ask for the times without which no test can be made."""
    wanted = {
        "deadline_ms": "deadline_ms" in asked.limits,
        "wcet_ms": "wcet_ms" in asked.limits or "onset_ms" in asked.limits,
    }
    for name, declared in wanted.items():
        if not declared:
            what = "worst-case execution time" if name == "wcet_ms" else "deadline"
            yield Reason(
                code="schedule.undeclared",
                message=f"{asked.agent!r} declares no {what}; add `must: {{ {name}: ... }}` to its"
                " binding document",
            )


def _task(asked: _Asked) -> Task:
    deadline = asked.limits["deadline_ms"]
    cost = asked.limits.get("wcet_ms", asked.limits.get("onset_ms", 0))
    return Task(asked.agent, asked.limits.get("period_ms", deadline), cost, deadline)


def _schedules(tasks: Sequence[Task]) -> tuple[Schedule, ...]:
    """Return the outcome of both tests; tasks of one agent are told apart by their place."""
    seen: dict[str, int] = {}
    named: list[Task] = []
    for task in tasks:
        number = seen[task.name] = seen.get(task.name, 0) + 1
        name = task.name if number == 1 else f"{task.name}#{number}"
        named.append(Task(name, task.period_ms, task.wcet_ms, task.deadline_ms))
    return earliest_deadline_first(named), rate_monotonic(named)


def _unschedulable(schedules: Sequence[Schedule]) -> Iterator[Reason]:
    if schedules and not any(schedule.feasible for schedule in schedules):
        yield Reason(
            code="schedule.infeasible",
            message=f"its deadlines cannot be met: {schedules[0].why}; give it a longer period,"
            " less work, or a place with fewer hard real-time agents",
        )


def _fixed_priorities(schedules: Sequence[Schedule]) -> list[str]:
    if not schedules or schedules[1].feasible or not schedules[0].feasible:
        return []
    return [f"only under earliest deadline first: rate-monotonic, {schedules[1].why}"]


def _no_realtime(asked: _Asked, host: HostFacts, catalogue: Catalogue | None) -> Iterator[Reason]:
    """Refuse hard real-time work unless its place is one that the catalogue calls real-time."""
    places = {plain_place(place) for place in asked.chosen.get("placement", ())}
    offers = catalogue.offers("placement") if catalogue else None
    for offer in offers or ():
        if plain_place(offer.label) in places and REALTIME in offer.provides and offer.healthy:
            return
    deadline = asked.limits.get("deadline_ms")
    loop = f"a {deadline:g} ms loop" if deadline else "a loop with a hard deadline"
    measured = (
        f" (measured now: {host.jitter.worst_ms:.2f} ms late in {host.jitter.wakeups} wake-ups)"
        if host.jitter
        else ""
    )
    yield Reason(
        code="schedule.no_realtime_runtime",
        message=f"{host.runtime} is not the place to run {loop}: the garbage collector and the"
        f" interpreter lock pause it without a bound{measured}; place it where the catalogue has"
        f" `placement: [{{ name: ..., provides: [{REALTIME}] }}]`",
    )


def _jitter(asked: _Asked, host: HostFacts) -> Iterator[Reason]:
    allowed = asked.limits.get("jitter_ms")
    if allowed is not None and host.jitter is not None and host.jitter.worst_ms > allowed:
        yield Reason(
            code="schedule.jitter",
            message=f"it allows {allowed:g} ms of jitter and this host was"
            f" {host.jitter.worst_ms:.2f} ms late when it was measured; move it to a quieter host",
        )


def _outcome(schedule: Schedule) -> str:
    return f"{'fits' if schedule.feasible else 'does not fit'}: {schedule.why}"


# -- soft real-time


def _latencies(asked: _Asked, catalogue: Catalogue | None) -> tuple[list[Reason], list[str]]:
    """Compare the objectives with what the chosen offers declare; also say what is not known."""
    declared: dict[str, float] = {}
    notes: list[str] = []
    for dimension, labels in asked.chosen.items():
        if dimension in ALL_OF or dimension in ("placement", "residency"):
            continue
        for label in labels:
            offer = _offer(catalogue, dimension, label)
            if offer is not None and offer.deadline_ms is not None:
                declared[dimension] = offer.deadline_ms
            elif offer is not None or dimension == "model":
                notes.append(f"not checked: {dimension} {label} declares no latency (deadline_ms)")
    return list(_too_slow(asked, declared)), notes


def _too_slow(asked: _Asked, declared: dict[str, float]) -> Iterator[Reason]:
    onset, turn = asked.limits.get("onset_ms"), asked.limits.get("turn_ms")
    first, total = declared.get("model"), sum(declared.values())
    if onset is not None and first is not None and first > onset:
        yield Reason(
            code="slo.onset",
            message=f"its answer must begin within {onset:g} ms and its model answers in"
            f" {first:g} ms; bind it to a faster model or allow more time",
        )
    if turn is not None and total > turn:
        parts = " + ".join(f"{name} {time:g}" for name, time in declared.items())
        yield Reason(
            code="slo.turn",
            message=f"a turn must end within {turn:g} ms and takes {total:g} ms ({parts}); bind it"
            " to faster offers or allow more time",
        )


def _offer(catalogue: Catalogue | None, dimension: str, label: str) -> Offer | None:
    wanted = parse_name(label).identity
    offers = catalogue.offers(dimension) if catalogue else None
    return next((each for each in offers or () if each.versioned.identity == wanted), None)


# -- machine, budgets, scope


def _machine(asked: _Asked, running: Sequence[_Asked], host: HostFacts) -> Iterator[Reason]:
    """Compare the shares that are asked for, and those given away already, with the host."""
    yield from _unreadable(asked)
    figures = (
        ("cpu_milli", host.cpus * 1000, 1000, "cores"),
        ("mem_bytes", host.memory_bytes, _GIB, "GiB of memory"),
        ("gpu", host.gpus, 1, "GPUs"),
    )
    for name, there, unit, words in figures:
        wanted = asked.limits.get(name)
        if wanted is None:
            continue
        given = sum(other.limits.get(name, 0) for other in running)
        if wanted + given > there:
            beside = f" beside {given / unit:.4g} for others" if given else ""
            yield Reason(
                code=f"compute.{name.partition('_')[0]}",
                message=f"it asks for {wanted / unit:.4g} {words}{beside}, and there are"
                f" {there / unit:.4g}; ask for less or use a larger host",
            )


def _unreadable(asked: _Asked) -> Iterator[Reason]:
    for name, form in _COMPUTE_FIELDS:
        text: str | None = getattr(asked.contract.compute, name) if asked.contract else None
        if text is not None and quantity(name, text) is None:
            yield Reason(
                code="compute.unreadable",
                message=f"compute.{name} {text!r} is not a quantity; write {form}",
            )


def _budgets(asked: _Asked) -> Iterator[Reason]:
    """Refuse limits under which the agent could not take its first step."""
    needed = ["tokens", "wall_seconds", "max_context_tokens"]
    if asked.contract is not None and asked.contract.capabilities:
        needed.append("tool_calls")
    for name in needed:
        if asked.limits.get(name) == 0:
            yield Reason(
                code="budget.nothing",
                message=f"{name} is limited to 0, so it could do nothing; raise the limit or"
                " leave it out",
            )


def _scope(asked: _Asked, policies: Sequence[Policy]) -> Iterator[Reason]:
    """Refuse what the layers do not allow (any more)."""
    if asked.contract is None or not policies:
        return
    merged = merge(asked.contract, policies)
    scope = merged.contract
    for refusal in merged.refusals:
        yield Reason(code="scope.class", message=f"{refusal}; ask for another, and bind it again")
    lost = [name for name in asked.contract.capabilities if not scope.grants(name)]
    models = [name for name in asked.chosen.get("model", ()) if not scope.modelPolicy.allows(name)]
    for what, names in (("capabilities", lost), ("model", models)):
        if names:
            yield Reason(
                code=f"scope.{what}",
                message=f"the policies do not allow its {what} {', '.join(names)}; bind it again,"
                " or have the policy changed",
            )

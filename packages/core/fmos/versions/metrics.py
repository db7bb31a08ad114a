"""What candidates are judged by: metrics over recorded sessions, and over live ones.

A metric gives each session a part and a whole (hits of positives, denials of operations), so that
rates are those of all calls and an interval can be made by drawing sessions anew. More come by the
entry-point group `fmos.metrics`, or from a command.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmos.contract.globs import covers, normalise
from fmos.contract.policy import Policy
from fmos.drivers import Drivers, Group
from fmos.errors import ArgumentError, FormatError
from fmos.traps.replay import Call, replay
from fmos.types import Decision, OperationKind, checked_id
from fmos.versions.content import policy_of, trap_model_of
from fmos.versions.model import POLICY, TRAP_MODEL, Better
from fmos.versions.traces import Traces

#: Metrics that others bring: `score(content, runs)` gives each run's name a value; its attribute
#: `better` is "higher" (so without it) or "lower".
PLUGINS = Group("fmos.metrics", "metric", {}, versioned=False)
COMMAND_TIMEOUT_S = 600

#: Of one session: the part, and the whole that it is a share of.
Share = tuple[float, float]
#: Metric name, then session name.
Scores = dict[str, dict[str, Share]]
Score = Callable[[bytes | None, Traces], Scores]

_OF_TRAPS: dict[str, Better] = {"recall": "higher", "precision": "higher", "false_traps": "lower"}
_OF_POLICIES: dict[str, Better] = {
    "harmless_stopped": "lower",
    "harm_stopped": "higher",
    "denial_rate": "lower",
    "approval_rate": "lower",
}
#: What `fmos.versions.watch` reads from the journal, of each session.
OBSERVED: dict[str, Better] = {
    "error_rate": "lower",
    "denial_rate": "lower",
    "approval_rate": "lower",
    "latency_p95_ms": "lower",
    "tokens": "lower",
    "spend": "lower",
}
#: What a canary is watched by when its own metric needs labels.
USUAL = "error_rate"
_DIRECTIONS: dict[str, Better] = {**_OF_TRAPS, **_OF_POLICIES, **OBSERVED}
_STRICTNESS = {Decision.ALLOW: 0, Decision.TRANSFORM: 0, Decision.ASK: 1, Decision.DENY: 2}
_FILE_KINDS = {OperationKind.FS_READ, OperationKind.FS_WRITE}


@dataclass(frozen=True, slots=True)
class Metric:
    """Metrics that are computed together, and which way each is better."""

    better: Mapping[str, Better]
    score: Score


def metrics_of(kind: str) -> tuple[str, ...]:
    """Return the metrics that a kind can be judged by, its usual one first."""
    own = {TRAP_MODEL: _OF_TRAPS, POLICY: _OF_POLICIES}.get(kind, {})
    return tuple(dict.fromkeys((*own, *OBSERVED)))


def better_of(metric: str) -> Better:
    """Return which way a metric is better; one that FMOS does not know is better when higher.

    Raises:
        ArgumentError: if it cannot be the name of one.
    """
    checked_id(metric, "the name of a metric")
    return _DIRECTIONS.get(metric, "higher")


def is_observed(metric: str) -> bool:
    """Return whether a metric of live sessions may be this one: known there, or reported."""
    return metric in OBSERVED or metric not in _DIRECTIONS


def offline(kind: str, metric: str, plugins: Drivers) -> Metric:
    """Return what computes a metric of a kind on recorded sessions.

    Raises:
        ArgumentError: if nothing does.
        DriverError: if a plug-in that does is not allowed in the home, or broken.
    """
    if kind == TRAP_MODEL and metric in _OF_TRAPS:
        return Metric(_OF_TRAPS, _score_traps)
    if kind == POLICY and metric in _OF_POLICIES:
        return Metric(_OF_POLICIES, _score_policy)
    if any(offer.name == metric for offer in plugins.offers()):
        return _plugged(metric, plugins)
    raise ArgumentError(
        f"nothing computes the metric {metric!r} of a {kind} on recorded traces",
        hint="give a program that does (--command), install one with an entry point"
        f" {PLUGINS.name}, or judge the candidate as a canary",
    )


def by_command(metric: str, better: Better, command: str) -> Metric:
    """Return a metric that a program computes.

    It is run as `COMMAND CONTENT TRACES`, two files: the candidate (empty where nothing is
    accepted) and the sessions, a JSON object with `trace`, `prompt` and `calls` on each line. It
    prints a JSON object with `trace` and `value` for each.
    """

    def score(content: bytes | None, traces: Traces) -> Scores:
        return {metric: _run(command, content, traces)}

    return Metric({metric: better}, score)


def restrict(policy: Policy | None, call: Call, capability: str = "") -> Decision:
    """Return the most that a policy lets become of a call, whatever the contract grants."""
    if policy is None:
        return Decision.ALLOW
    must, operation = policy.must, call.operation
    names = tuple(filter(None, (operation.name, capability, operation.kind.value)))
    if any(name in must.deny for name in names):
        return Decision.DENY
    if must.capabilities is not None and not any(name in must.capabilities for name in names):
        return Decision.DENY
    if not _in_scope(policy, call, capability):
        return Decision.DENY
    return Decision.ASK if any(name in must.consent_for for name in names) else Decision.ALLOW


def _in_scope(policy: Policy, call: Call, capability: str) -> bool:
    """Return whether a file operation stays within a policy's paths, as far as these are known."""
    kind = OperationKind(capability) if capability in _FILE_KINDS else call.operation.kind
    path = call.operation.arguments.get("path")
    if kind not in _FILE_KINDS or not isinstance(path, str):
        return True
    paths = policy.must.paths
    scope = paths.read if kind is OperationKind.FS_READ else paths.write
    return scope is None or covers(scope, normalise(path))


def decisions(content: bytes | None, traces: Traces) -> dict[str, Decision]:
    """Return what becomes of each operation under a policy: never more than was decided then."""
    policy = policy_of(content) if content else None
    found: dict[str, Decision] = {}
    for run in traces.runs:
        for call in run.calls:
            name = call.operation.name
            then = traces.decided.get(call.operation.id, Decision.ALLOW)
            now = restrict(policy, call, traces.capabilities.get(name, ""))
            found[call.operation.id] = max(then, now, key=_STRICTNESS.__getitem__)
    return found


def _score_policy(content: bytes | None, traces: Traces) -> Scores:
    decided = decisions(content, traces)
    scores: Scores = {name: {} for name in _OF_POLICIES}
    for run in traces.runs:
        answers = [(decided[call.operation.id], call.positive) for call in run.calls]
        stopped = [positive for answer, positive in answers if _STRICTNESS[answer]]
        harm = sum(positive for _, positive in answers)
        denied = sum(answer is Decision.DENY for answer, _ in answers)
        asked = sum(answer is Decision.ASK for answer, _ in answers)
        scores["harmless_stopped"][run.name] = (len(stopped) - sum(stopped), len(answers) - harm)
        scores["harm_stopped"][run.name] = (sum(stopped), harm)
        scores["denial_rate"][run.name] = (denied, len(answers))
        scores["approval_rate"][run.name] = (asked, len(answers))
    return scores


def _score_traps(content: bytes | None, traces: Traces) -> Scores:
    model = trap_model_of(content) if content else None
    scores: Scores = {name: {} for name in _OF_TRAPS}
    for run in traces.runs:
        seen = replay([run], model.full.traps if model else lambda _: False)
        hits = sum(each.trapped and each.positive for each in seen)
        trapped = sum(each.trapped for each in seen)
        positives = sum(each.positive for each in seen)
        scores["recall"][run.name] = (hits, positives)
        scores["precision"][run.name] = (hits, trapped)
        scores["false_traps"][run.name] = (trapped - hits, len(seen) - positives)
    return scores


def _plugged(name: str, plugins: Drivers) -> Metric:
    function = plugins.load(name)

    def score(content: bytes | None, traces: Traces) -> Scores:
        found = plugins.run(name, lambda: function(content, traces.runs))
        return {name: _whole(found, traces, f"the metric {name!r}")}

    better: Better = "lower" if getattr(function, "better", "") == "lower" else "higher"
    return Metric({name: better}, score)


def _run(command: str, content: bytes | None, traces: Traces) -> dict[str, Share]:
    with tempfile.TemporaryDirectory(prefix="fmos-metric-") as folder:
        candidate, sessions = Path(folder) / "content", Path(folder) / "traces.jsonl"
        candidate.write_bytes(content or b"")
        lines = (json.dumps(_plain_run(run)) for run in traces.runs)
        sessions.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        try:
            ran = subprocess.run(
                [*shlex.split(command), str(candidate), str(sessions)],
                capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True,
            )  # fmt: skip
            values = dict(_values(ran.stdout))
        except subprocess.CalledProcessError as error:
            said = str(error.stderr or "").strip().rpartition("\n")[2]
            raise _failed(command, f"it ended with {error.returncode}", said) from error
        except subprocess.TimeoutExpired as error:
            raise _failed(command, f"it took more than {COMMAND_TIMEOUT_S} s") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _failed(command, str(error)) from error
    return _whole(values, traces, f"the program {command!r}")


def _values(text: str) -> list[tuple[str, float]]:
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [(str(row["trace"]), float(row["value"])) for row in rows]


def _whole(values: Mapping[str, float], traces: Traces, what: str) -> dict[str, Share]:
    """Return each session's value as a share of one; every session must have one."""
    missing = [run.name for run in traces.runs if run.name not in values]
    if missing:
        raise FormatError(
            f"{what} gave no value for {len(missing)} of {len(traces.runs)} traces, such as"
            f" {missing[0]!r}",
            hint="let it give one for each, so that both versions are judged on the same traces",
        )
    return {run.name: (float(values[run.name]), 1.0) for run in traces.runs}


def _plain_run(run: Any) -> dict[str, Any]:
    calls = [
        {
            "tool": call.operation.name,
            "args": call.operation.arguments,
            "output": call.output,
            "injected": call.positive,
        }
        for call in run.calls
    ]
    return {"trace": run.name, "prompt": run.prompt, "calls": calls}


def _failed(command: str, why: str, said: str = "") -> FormatError:
    told = f": {said}" if said else ""
    return FormatError(
        f"the program {command!r} gave no metric: {why}{told}",
        hint='let it print one JSON object {"trace": ..., "value": ...} for each trace',
    )

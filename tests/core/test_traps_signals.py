"""The signals: each fires on its own cause, at its threshold, and can be turned off."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmos.audit.keys import AuditKeys
from fmos.clock import FixedClock
from fmos.contract.parse import load_text
from fmos.traps.judge import LEARNED, Judge
from fmos.traps.manifest import ToolDescriptor
from fmos.traps.signals import SIGNALS, Thresholds, hints_of, mean_entropy, mean_varentropy, raised
from fmos.traps.table import TrapTable, compile_table
from fmos.traps.trajectory import Trajectory
from fmos.types import Operation, OperationKind

_SECOND = 10**9
_CONTRACT = """
apiVersion: agentos/v0.2
kind: AgentContract
name: a
capabilities: [fs.read, clock]
security: { consent_for: [pii] }
"""
_TOOLS = (
    ToolDescriptor(name="read", capability="fs.read", effect="read", roles={"path": "path"}),
    ToolDescriptor(name="clock", effect="read"),
)


def _call(name: str = "read", /, *, labels: tuple[str, ...] = (), **arguments: Any) -> Operation:
    return Operation(
        kind=OperationKind.TOOL_CALL,
        name=name,
        arguments=arguments or {"path": "/a"},
        labels=labels,
    )


def _hinted(**hints: float) -> Operation:
    return _call().model_copy(update={"hints": hints})


def _table(tmp_path: Path, thresholds: Thresholds | None = None) -> TrapTable:
    keys = AuditKeys(tmp_path)
    return compile_table(load_text(_CONTRACT), _TOOLS, keys, FixedClock(), signals=thresholds)


class _Session:
    """One session whose operations come at chosen times."""

    def __init__(self, table: TrapTable, judge: Judge | None = None) -> None:
        self.table = table
        self.judge = judge or Judge()
        self.at_ns = 0
        self.now_ns = table.issued_ns

    def run(self, operation: Operation, after_s: float = 5.0) -> tuple[bool, tuple[str, ...]]:
        """Judge an operation so many seconds after the last one."""
        self.at_ns += int(after_s * _SECOND)
        found = self.judge.judge(self.table, operation, self.now_ns, self.at_ns)
        return found.innocuous, found.signals


_PASSES = (True, ())


@pytest.mark.parametrize(
    ("operation", "signal"),
    [
        (_hinted(missing_context=1.0), "missing_context"),
        (_hinted(missing_context=0.5), "missing_context"),
        (_hinted(confidence=0.49), "uncertainty"),
        (_hinted(entropy=2.1), "uncertainty"),
        (_call(labels=("pii",)), "policy"),
        (_hinted(budget_used=0.9), "budget"),
    ],
)
def test_a_scripted_signal_traps_and_the_next_call_is_fast_again(
    tmp_path: Path, operation: Operation, signal: str
) -> None:
    """Exactly the named signal traps exactly this operation; then the fast path is back (R5)."""
    session = _Session(_table(tmp_path))
    assert session.run(_call()) == _PASSES
    assert session.run(operation) == (False, (signal,))
    assert session.run(_call(path="/b")) == _PASSES


@pytest.mark.parametrize(
    "operation",
    [
        _hinted(missing_context=0.49),
        _hinted(confidence=0.5),
        _hinted(entropy=2.0, varentropy=99.0),
        _hinted(budget_used=0.89),
        _hinted(whatever=1.0),
        _call(labels=("public",)),
    ],
)
def test_below_its_threshold_nothing_fires(tmp_path: Path, operation: Operation) -> None:
    """A hint that is fine, one that is off by default, or one nobody knows changes nothing."""
    assert _Session(_table(tmp_path)).run(operation) == _PASSES


def test_repetition_fires_at_its_count_and_another_call_passes(tmp_path: Path) -> None:
    """The fifth equal call traps, whatever came between; other arguments are another call."""
    session = _Session(_table(tmp_path))
    found = []
    for number in range(5):
        found.append(session.run(_call()))
        assert session.run(_call(path=f"/other{number}")) == _PASSES
    assert found == [_PASSES] * 4 + [(False, ("anomaly.repetition",))]


def test_old_repetitions_are_forgotten(tmp_path: Path) -> None:
    """Equal calls that are far apart are no loop."""
    session = _Session(_table(tmp_path))
    for number in range(400):
        assert session.run(_call(path="/same" if number % 40 == 0 else f"/f{number}")) == _PASSES


def test_a_new_argument_shape_traps_once_a_tool_has_a_past(tmp_path: Path) -> None:
    """After five calls a new name or type traps, once; the order of the names is no shape."""
    session = _Session(_table(tmp_path))
    assert session.run(_call(path="/0", depth=1)) == _PASSES
    for number in range(1, 5):
        assert session.run(_call(path=f"/{number}")) == _PASSES
    assert session.run(_call(depth=2, path="/6")) == _PASSES
    assert session.run(_call(path="/7", follow=True)) == (False, ("anomaly.shape",))
    assert session.run(_call(path="/8", follow=False)) == _PASSES
    assert session.run(_call(path=["/9"])) == (False, ("anomaly.shape",))


def test_a_burst_traps_against_the_sessions_own_rate(tmp_path: Path) -> None:
    """A steady session passes at any pace; one that was slow and becomes fast traps."""
    fast = _Session(_table(tmp_path))
    assert {fast.run(_call(path=f"/{n}"), 0.01) for n in range(3000)} == {_PASSES}
    slow = _Session(_table(tmp_path))
    assert {slow.run(_call(path=f"/{n}"), 10) for n in range(60)} == {_PASSES}
    burst = [slow.run(_call(path=f"/b{n}"), 0.05) for n in range(40)]
    assert burst[:15] == [_PASSES] * 15
    assert burst[-1] == (False, ("anomaly.rate",))
    assert slow.run(_call(path="/later"), 120) == _PASSES


def test_a_clock_that_stands_still_or_goes_back_does_no_harm(tmp_path: Path) -> None:
    """The rate needs no sane clock: it neither fails nor fires."""
    session = _Session(_table(tmp_path))
    for number in range(200):
        assert session.run(_call(path=f"/{number}"), -1.0 if number % 2 else 0.0) == _PASSES


def test_several_signals_are_all_named(tmp_path: Path) -> None:
    """An operation carries every signal that it raised, in a fixed order."""
    both = _hinted(missing_context=1, confidence=0.1, budget_used=1.0)
    session = _Session(_table(tmp_path))
    assert session.run(both) == (False, ("missing_context", "uncertainty", "budget"))


def test_every_signal_can_be_off(tmp_path: Path) -> None:
    """With null for each threshold the table alone decides."""
    off = {
        name: None for name in Thresholds.model_fields if name not in ("sensitive", "rate_floor")
    }
    session = _Session(_table(tmp_path, Thresholds.model_validate(off)))
    loud = _hinted(missing_context=1, confidence=0, entropy=9, varentropy=99, budget_used=1)
    assert {session.run(loud, 0.001) for _ in range(100)} == {_PASSES}


def test_the_budget_of_the_last_answer_counts(tmp_path: Path) -> None:
    """Pressure known from a settlement needs no hint, and ends with the next answer."""
    session = _Session(_table(tmp_path))
    session.judge.past.note_budget(0.95)
    assert session.run(_call()) == (False, ("budget",))
    session.judge.past.note_budget(0.2)
    assert session.run(_call()) == _PASSES


def test_signals_never_make_a_privileged_call_innocuous(tmp_path: Path) -> None:
    """What the table traps stays trapped, with its signals beside it."""
    session = _Session(_table(tmp_path))
    assert session.run(_call("unknown")) == (False, ())
    assert session.run(_call(path="/.fmos/x")) == (False, ())


def test_an_expired_table_traps_whatever_the_signals_say(tmp_path: Path) -> None:
    """The judge looks at the table's time itself."""
    session = _Session(_table(tmp_path))
    session.now_ns = session.table.expires_ns
    assert session.run(_call()) == (False, ())


class _Always:
    """Learned traps that answer what they are told."""

    digest = "0" * 64

    def __init__(self, answer: bool) -> None:
        self.answer = answer

    def traps(self, operation: Operation, past: Trajectory) -> bool:
        """Return the answer."""
        return self.answer


_CALLS = st.builds(
    lambda name, path, hints: _call(name, path=path).model_copy(update={"hints": hints}),
    st.sampled_from(["read", "clock", "other"]),
    st.sampled_from(["/a", "/.fmos", "/../a", "/b", ""]),
    st.dictionaries(
        st.sampled_from(["confidence", "entropy", "missing_context"]),
        st.floats(0, 5, allow_nan=False),
        max_size=2,
    ),
)


@given(st.lists(_CALLS, max_size=12), st.booleans())
def test_learned_traps_only_add(calls: list[Operation], answer: bool) -> None:
    """Whatever a model says, every operation that traps without it traps with it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        table = _table(Path(folder))
    plain, learned = _Session(table), _Session(table, Judge(_Always(answer)))
    for call in calls:
        without, alone = plain.run(call)
        with_model, signals = learned.run(call)
        assert with_model <= without
        assert with_model == (without and not answer)
        assert signals == (*alone, LEARNED) if answer else signals == alone


def test_a_table_that_requires_a_model_traps_without_it(tmp_path: Path) -> None:
    """A session that lacks the learned traps of the policy must not act as if it had them."""
    table = _table(tmp_path).model_copy(update={"model": "0" * 64})
    assert _Session(table).run(_call()) == (False, ())
    assert _Session(table, Judge(_Always(False))).run(_call()) == _PASSES


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_each_signal_is_documented(name: str) -> None:
    """Every signal has its sentence, and its name is on the page."""
    page = Path(__file__).parents[2] / "docs" / "spec" / "trap-abi.md"
    assert (SIGNALS[name].__doc__ or "").startswith("Whether ")
    assert f"`{name}`" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tokens", "entropy", "varentropy"),
    [
        ([[0.0]], 0.0, 0.0),
        ([[math.log(0.5)] * 2], math.log(2), 0.0),
        ([[math.log(0.25)] * 4, [0.0]], math.log(4) / 2, 0.0),
        ([[math.log(0.5)]], math.log(2), 0.0),
        ([[math.log(0.9)]], 0.3250829733914482, 0.09 * math.log(9) ** 2),
        ([], 0.0, 0.0),
    ],
)
def test_entropy_of_known_distributions(
    tokens: list[list[float]], entropy: float, varentropy: float
) -> None:
    """A sure token has none, a fair coin ln 2, and what is not listed counts as one more way."""
    assert mean_entropy(tokens) == pytest.approx(entropy, abs=1e-12)
    assert mean_varentropy(tokens) == pytest.approx(varentropy, abs=1e-9)
    expected = {"entropy": entropy, "varentropy": varentropy} if tokens else {}
    assert hints_of(tokens) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.lists(st.floats(-30, 0), max_size=6), max_size=4))
def test_entropy_is_never_negative(tokens: list[list[float]]) -> None:
    """Any list of log-probabilities gives finite hints that an operation may carry."""
    for value in hints_of(tokens).values():
        assert value >= -1e-9
        assert math.isfinite(value)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/a", "/b", "/c", 7, None]),
            st.sampled_from([0.0, 0.01, 1.0, 60.0]),
            st.sampled_from([{}, {}, {"confidence": 0.1}, {"budget_used": 1.0}]),
            st.sampled_from([0.0, 0.95]),
        ),
        max_size=80,
    )
)
def test_the_quick_way_to_no_signal_is_right(steps: list[tuple[Any, float, Any, float]]) -> None:
    """The judge names exactly the signals that checking every one of them gives."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        session = _Session(_table(Path(folder)))
    past, at_ns = Trajectory(), 0
    for path, after_s, hints, used in steps:
        operation = _call(path=path).model_copy(update={"hints": hints})
        at_ns += int(after_s * _SECOND)
        for each in (past, session.judge.past):
            each.note_budget(used)
        past.observe(operation.name, operation.arguments, at_ns)
        expected = raised(operation, past, session.table.signals)
        assert session.run(operation, after_s)[1] == expected


def test_memory_of_a_session_is_bounded() -> None:
    """Ten thousand tools, shapes and words do not make it grow for ever."""
    past = Trajectory(reads_texts=True)
    for number in range(40_000):
        past.observe(f"t{number}", {f"a{number}": number}, number)
    past.note_text(" ".join(f"w{n}" for n in range(80_000)), of_user=True)
    assert len(past._tools) <= 4_100
    assert len(past._shapes) <= 33_000
    assert len(past._recent) + len(past._before) <= 64
    assert len(past.user_words) <= 50_000

"""Canaries: sessions against sessions, and the worse candidate goes back by itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fmos.audit.record import record_intent, record_outcome
from fmos.errors import FormatError
from fmos.runtime.kernel import Kernel
from fmos.types import (
    Decision,
    Operation,
    OperationKind,
    Outcome,
    OutcomeStatus,
    Principal,
    Verdict,
)
from fmos.versions import watch_canaries
from fmos.versions.model import Candidate, Status
from fmos.versions.sequential import evidence
from fmos.versions.store import REGISTER
from fmos.versions.versions import Versions
from fmos.versions.watch import standings

ADA, BOB = "user:ada", "user:bob"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel whose sessions count as soon as nothing more comes from them."""
    (tmp_path / "fmos.toml").write_text("[versions]\nquiet_s = 0\n", encoding="utf-8")
    return Kernel.open(tmp_path)


def tried(versions: Versions, metric: str = "error_rate", share: float = 0.5) -> Candidate:
    """Return a prompt that half of the sessions get, beside an accepted one."""
    make = versions.propose
    first = make("default", "prompt", "system", b"old", author=ADA, why="x")
    versions.accept(first, by=BOB, override="the first one")
    second = make("default", "prompt", "system", b"new", author=ADA, why="x", metric=metric)
    return versions.canary(second, share, by=BOB)


def session(
    versions: Versions, number: int, *, bad: tuple[int, int] = (0, 0), calls: int = 4
) -> bool:
    """Run one session; of its calls `bad[1]` fail with the canary, else `bad[0]`."""
    kernel, who = versions.kernel, Principal(agent="helper", session=f"s{number}")
    got = versions.current(who, "prompt", "system")
    assert got is not None
    for call in range(calls):
        operation = Operation(kind=OperationKind.TOOL_CALL, name="work", principal=who)
        failed = call < bad[got.canary]
        status = OutcomeStatus.FAILED if failed else OutcomeStatus.OK
        record_intent(kernel, operation, Verdict(operation=operation.id, decision=Decision.ALLOW))
        outcome = Outcome(operation=operation.id, status=status, duration_ms=1 + 9 * failed)
        record_outcome(kernel, who, outcome)
    return got.canary


def status(versions: Versions, candidate: Candidate) -> Status:
    """Return where a version is now."""
    return versions.candidate("default", "prompt", "system", candidate.id).status


@pytest.mark.parametrize("metric", ["error_rate", "latency_p95_ms"])
def test_a_bad_candidate_is_taken_back_by_itself(kernel: Kernel, metric: str) -> None:
    """Sessions with the canary do worse: it is reverted, and its sessions get the old bytes."""
    with kernel:
        versions = Versions(kernel)
        candidate = tried(versions, metric)
        taken, number = 0, 0
        while not taken and number < 200:
            session(versions, number, bad=(0, 3))
            number += 1
            if number % 10 == 0:
                taken = watch_canaries(kernel)
        assert taken == 1
        assert number < 60
        assert status(versions, candidate) is Status.REVERTED
        everybody = [Principal(agent="helper", session=f"s{n}") for n in range(number)]
        got = [versions.current(each, "prompt", "system") for each in everybody]
        assert {each.content for each in got if each is not None} == {b"old"}
        (row,) = (row for row in versions.log("default") if row.operation == "version.rollback")
        assert row.detail["by"] == "system:watch"
        assert f"{metric} is" in row.detail["why"]
        assert row.detail["evidence"] >= 20
        assert watch_canaries(kernel) == 0


def test_a_candidate_that_does_as_well_stays(kernel: Kernel) -> None:
    """Looking after every session does not wear a good canary down."""
    with kernel:
        versions = Versions(kernel)
        candidate = tried(versions)
        for number in range(60):
            session(versions, number, bad=(number % 3, number % 3))
        assert watch_canaries(kernel) == 0
        assert status(versions, candidate) is Status.CANARY
        found = standings(kernel, "default")[0]
        assert found.sessions + found.control == 60
        assert not found.is_worse


def test_too_few_sessions_decide_nothing(kernel: Kernel) -> None:
    """However bad it looks, so few pairs of sessions take nothing back."""
    with kernel:
        versions = Versions(kernel)
        candidate = tried(versions)
        sides = [0, 0]
        number = 0
        while min(sides) < 9:
            sides[session(versions, number, bad=(0, 4))] += 1
            number += 1
        assert watch_canaries(kernel) == 0
        assert standings(kernel, "default")[0].is_worse
        assert status(versions, candidate) is Status.CANARY


def test_a_metric_is_what_its_application_reports(kernel: Kernel) -> None:
    """Reports of sessions judge a canary, in the direction that was named."""
    with kernel:
        versions = Versions(kernel)
        candidate = tried(versions, "resolved")
        for number in range(60):
            canary = session(versions, number)
            who = Principal(agent="helper", session=f"s{number}")
            versions.report(who, "resolved", 0.0 if canary else 1.0)
        assert watch_canaries(kernel) == 1
        assert status(versions, candidate) is Status.REVERTED


def test_frozen_canaries_are_not_watched(kernel: Kernel) -> None:
    """A freeze ends the canary, so that nothing is left to take back."""
    with kernel:
        versions = Versions(kernel)
        candidate = tried(versions)
        for number in range(60):
            session(versions, number, bad=(0, 4))
        versions.freeze("default", "prompt", by=BOB, why="the paper's figures")
        assert watch_canaries(kernel) == 0
        assert status(versions, candidate) is Status.CANDIDATE


def test_sessions_that_got_both_versions_count_for_none(kernel: Kernel) -> None:
    """A session that began before the canary, or changed sides, says nothing about it."""
    with kernel:
        versions = Versions(kernel)
        candidate = tried(versions, share=0.3)
        for number in range(40):
            session(versions, number)
        before = standings(kernel, "default")[0]
        versions.canary(candidate, 0.9, by=BOB)
        for number in range(40):
            session(versions, number)
        after = standings(kernel, "default")[0]
        assert before.sessions + before.control == 40
        assert after.sessions + after.control == 0


def test_sessions_that_changed_sides_count_for_none(kernel: Kernel) -> None:
    """Who got the accepted version while the home was frozen is no session of the canary."""
    with kernel:
        versions = Versions(kernel)
        tried(versions)
        got = [session(versions, number) for number in range(20)]
        settings = kernel.home.path / "fmos.toml"
        before = settings.read_text(encoding="utf-8")
        settings.write_text(before + "frozen = true\n", encoding="utf-8")
        with Kernel.open(kernel.home.path) as frozen:
            for number in range(20):
                assert not session(Versions(frozen), number)
        found = standings(kernel, "default")[0]
        assert (found.sessions, found.control) == (0, 20 - sum(got))


def test_running_sessions_are_waited_for(tmp_path: Path) -> None:
    """With the usual settings a session counts after a quiet minute, not in its middle."""
    with Kernel.open(tmp_path) as kernel:
        versions = Versions(kernel)
        tried(versions)
        for number in range(10):
            session(versions, number)
        found = standings(kernel, "default")[0]
        assert found.sessions + found.control == 0


def test_damage_of_one_tenant_keeps_no_other_canary_alive(kernel: Kernel) -> None:
    """A tenant whose versions cannot be read is an error, after the others were looked at."""
    with kernel:
        versions = Versions(kernel)
        candidate = tried(versions)
        for number in range(60):
            session(versions, number, bad=(0, 4))
        broken = kernel.volume("another")
        broken.mkdir("/.fmos/versions", parents=True)
        broken.write(REGISTER, b"{}}")
        with pytest.raises(FormatError, match="is not what FMOS wrote there"):
            watch_canaries(kernel)
        assert status(versions, candidate) is Status.REVERTED


def test_looking_often_reads_what_is_new(kernel: Kernel) -> None:
    """Looking after each session finds what one look at the end finds."""
    with kernel:
        versions = Versions(kernel)
        tried(versions)
        for number in range(30):
            session(versions, number, bad=(number % 2, number % 3))
            standings(kernel, "default")
        often = standings(kernel, "default")
        with Kernel.open(kernel.home.path) as other:
            assert standings(other, "default") == often


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Looked at after each of 100 pairs, a canary that is no worse is taken back in 5 % at most."""
    chance = random.Random(11)
    runs = 400
    alarms = sum(
        evidence(chance.choice((-1, 1)) for _ in range(100)).value >= 20 for _ in range(runs)
    )
    assert alarms <= 0.05 * runs


def test_evidence_grows_with_what_is_worse_only() -> None:
    """Ties say nothing; better sessions take evidence away; seven worse ones are enough."""
    assert evidence([0] * 50) == (1.0, 0, 0, 50)
    assert evidence([1] * 6).value < 20 <= evidence([1] * 7).value
    assert evidence([-1] * 50).value == 1.0
    assert evidence([-1] * 5 + [1] * 7).value < evidence([1] * 7).value
    assert evidence([1] * 5000).value >= 1e12

"""What entered a session is known after a restart, in another process, in a fork, after a merge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.trust.provenance.desk import ORDER, REQUEST, Desk, desk, opened

from fmos.clock import FixedClock
from fmos.config import Home
from fmos.entered.labels import Labels
from fmos.entered.log import place_of
from fmos.errors import NotFoundError
from fmos.replay import reading
from fmos.replay.again import run_again
from fmos.runtime.kernel import Kernel
from fmos.types import Decision, Principal
from fmos_trust.keyed import KeyedHash

_MONTH_S = 31 * 86_400
_STRANGE = {"to": "mallory@evil.test", "text": "Minutes of Monday."}
_IN_ANOTHER_PROCESS = """
import sys
from tests.trust.provenance.desk import Desk
from fmos.runtime.kernel import Kernel

with Kernel.open(sys.argv[1]) as kernel:
    Desk(kernel).did("read_file", sys.argv[2], path="/notes.txt")
"""


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """The request and the stranger's text count in the next process as in this one."""
    with opened(tmp_path / "home") as kernel:
        clerk = desk(kernel)
        clerk.said(REQUEST)
        clerk.did("read_file", ORDER, path="/notes.txt")
    with Kernel.open(tmp_path / "home") as kernel:
        clerk = Desk(kernel)
        assert clerk.asked("send_letter", **_STRANGE).decision is Decision.DENY
        assert clerk.asked("send_letter", to="nora@firm.test", text="The roof is done.").allowed


def test_two_processes_see_what_each_other_saw(clerk: Desk) -> None:
    """What another process read meanwhile is judged by here, although this one has its own view."""
    clerk.said(REQUEST)
    assert clerk.asked("send_letter", to="nora@firm.test", text="Soon.").allowed
    root = Path(__file__).parents[3]
    home = str(clerk.kernel.home.path)
    command = [sys.executable, "-c", _IN_ANOTHER_PROCESS, home, ORDER]
    subprocess.run(command, check=True, cwd=root, timeout=60)
    verdict = clerk.asked("send_letter", **_STRANGE)
    assert verdict.decision is Decision.DENY
    assert any(each.code == "trust.evidence.order" for each in verdict.reasons)


def test_a_fork_knows_what_its_parent_saw(clerk: Desk) -> None:
    """A fork starts with the request and the strangers' texts of the session it was forked in."""
    clerk.said(REQUEST)
    clerk.did("read_file", ORDER, path="/notes.txt")
    clerk.kernel.fork_agent(clerk.who, "deputy")
    deputy = Desk(clerk.kernel, "deputy", "errand")
    assert deputy.asked("send_letter", **_STRANGE).decision is Decision.DENY
    assert deputy.asked("send_letter", to="nora@firm.test", text="The roof is done.").allowed
    deputy.observed("read_file", "Only the deputy has read this.")
    assert (
        clerk.kernel.entered.labels_of(clerk.who, "tool", "Only the deputy has read this.") is None
    )


def test_a_merge_brings_what_the_other_saw(clerk: Desk) -> None:
    """A parent has the labels, the secrets and the strangers' texts of a fork that it merged."""
    kernel, secret = clerk.kernel, "ghp_" + "a1B2c3D4" * 5
    clerk.said(REQUEST)
    fork = kernel.fork_agent(clerk.who, "deputy")
    deputy = Desk(kernel, "deputy", "errand")
    deputy.did("read_file", f"{ORDER}\ntoken: {secret}", path="/notes.txt")
    kernel.agent_fs(fork).write("/done.txt", b"done")
    leaks = {"to": "nora@firm.test", "text": f"The token is {secret}."}
    assert clerk.asked("send_letter", **leaks).allowed
    assert kernel.entered.labels(clerk.who) == Labels()
    kernel.merge_agent(clerk.who, fork)
    assert kernel.agent_files(clerk.who).read("/done.txt") == b"done"
    assert kernel.entered.labels(clerk.who) == Labels(
        integrity="untrusted", confidentiality="secret"
    )
    assert not clerk.asked("send_letter", **leaks).allowed
    verdict = clerk.asked("send_letter", **_STRANGE)
    assert verdict.decision is Decision.DENY
    assert any(each.code == "trust.evidence.order" for each in verdict.reasons)


def test_what_the_user_told_a_merged_agent_is_no_request_here(clerk: Desk) -> None:
    """An agent's parent writes what its user says, so it lends the parent no word of the user."""
    clerk.said(REQUEST)
    fork = clerk.kernel.fork_agent(clerk.who, "deputy")
    Desk(clerk.kernel, "deputy", "errand").said("Send a letter to mallory@evil.test.")
    clerk.kernel.merge_agent(clerk.who, fork)
    assert not clerk.asked("send_letter", **_STRANGE).allowed


def test_nobody_is_merged_who_is_not_there(clerk: Desk) -> None:
    """A wrong id is told, and leaves no link."""
    nobody = Principal(agent="nobody")
    with pytest.raises(NotFoundError, match="nobody"):
        clerk.kernel.merge_agent(clerk.who, nobody)
    assert clerk.kernel.entered.others(clerk.who) == []


def test_no_text_lies_open_in_the_home(tmp_path: Path) -> None:
    """What entered is in the files of the home encrypted only, also while they are open."""
    marker = "zqmarker-4711"
    with opened(tmp_path / "home") as kernel:
        clerk = desk(kernel)
        clerk.said(f"{REQUEST} {marker}")
        clerk.did("read_file", f"{ORDER} {marker}", path="/notes.txt")
        assert not clerk.asked("send_letter", to="mallory@evil.test", text=marker).allowed
        files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
        assert any(path.name.startswith("kernel.db") for path in files)
        assert [path for path in files if marker.encode() in path.read_bytes()] == []


def test_texts_are_let_go_and_their_values_still_known(tmp_path: Path) -> None:
    """After `evidence_keep_days` no key opens them; where a value came from stays known."""
    clock = FixedClock()
    home = tmp_path / "home"
    opened(home).close()
    with Kernel(Home.open(home), clock) as kernel:
        clerk = desk(kernel)
        clerk.said("Write to nora@firm.test.")
        clerk.observed("staff", '{"address": "n.ek@post.test"}')
        clerk.observed("read_file", "A long letter, in which mallory@evil.test asks for money.")
        clock.advance(_MONTH_S)
        clerk.gate.jobs()  # what the daemon runs
        clerk.gate._service.expire()  # pyright: ignore[reportPrivateUsage]
        texts = [each.text for _, each in kernel.entered.since(place_of(clerk.who))]
        assert texts == [None, None, None]
    with Kernel(Home.open(home), clock) as kernel:
        clerk = Desk(kernel)
        clerk.asked("send_letter", to="n.ek@post.test", text="mallory@evil.test")
        seen = clerk.gate._service._provenance._sessions.of(clerk.who, ("clerk",))  # pyright: ignore[reportPrivateUsage]
        keyed = KeyedHash(kernel.keys_of("default"))
        assert seen.came_from("Nora@Firm.test", keyed) == {"user"}
        assert seen.came_from("n.ek@post.test", keyed) == {"field"}
        assert seen.came_from("mallory@evil.test", keyed) == {"text"}
        assert seen.came_from("somebody@else.test", keyed) == frozenset()


def test_of_a_long_session_the_newest_is_read_and_all_of_the_user(clerk: Desk) -> None:
    """A session that never ends is read in bounded time, and its request is not forgotten."""
    clerk.said(REQUEST)
    for number in range(5):
        clerk.observed("read_file", f"note {number}")
    place = place_of(clerk.who)
    read = [each.text for _, each in clerk.kernel.entered.since(place, most=2)]
    assert read == [REQUEST, "note 3", "note 4"]
    assert len(clerk.kernel.entered.since(place)) == 6


def test_a_session_can_be_erased(clerk: Desk) -> None:
    """Nothing of it is left, another process's view included; what comes later is kept again."""
    clerk.said(REQUEST)
    clerk.did("read_file", ORDER, path="/notes.txt")
    denied = clerk.asked("send_letter", **_STRANGE)
    clerk.kernel.entered.forget(clerk.who)
    assert clerk.kernel.entered.since(place_of(clerk.who)) == []
    assert clerk.asked("send_letter", **_STRANGE).allowed  # nobody knows of anybody's word
    assert clerk.gate.call("trust_explain", {"id": denied.operation})["complete"] is False
    clerk.said(REQUEST)
    assert len(clerk.kernel.entered.since(place_of(clerk.who))) == 1


def test_a_recorded_session_of_a_fork_comes_out_equal(tmp_path: Path) -> None:
    """What it inherited is recorded with it: run again beside the home, no verdict differs."""
    home = tmp_path / "home"
    with opened(home) as kernel:
        clerk = desk(kernel)
        clerk.said(REQUEST)
        clerk.did("read_file", ORDER, path="/notes.txt")
        kernel.fork_agent(clerk.who, "deputy")
        deputy = Desk(kernel, "deputy", "errand")
        assert not deputy.asked("send_letter", **_STRANGE).allowed
        assert deputy.asked("send_letter", to="nora@firm.test", text="Done.").allowed
    place = Home(home)
    with reading.opened(place.volume("default")) as volume:
        found = reading.find(volume, "errand")
        rerun = run_again(place, volume, "default", found, policy="recorded")
    assert rerun.equal, rerun.differences
    assert rerun.compared >= 2

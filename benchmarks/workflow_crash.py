"""Claim: a workflow killed anywhere goes on within two seconds, with no effect twice.

Five steps with effects in the volume and outside are killed at every point in turn: before and
after each effect, before each statement of kernel.db, and around each commit of the volume. Another
process resumes the run. Half of the runs fail at their last step, so that the compensations are
killed as well. Beside it: `fmos workflow resume` as a command, its start included.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from crashing import RUN, STEPS, duplicates, killed_at, resumed
from harness import NORMAL, Measure, Report, Side, scale, workspace

#: Every so many points are tried; the quick run skips most.
STRIDE = scale(1, 25)
COMMANDS = scale(10, 1)

_CREW = """
from pathlib import Path
from crashing import Outside, Points, actors
made = actors(Outside(Path({home!r}) / "outside"), Points(), fails=False)
counter, sender, judge = made["counter"], made["sender"], made["judge"]
"""


def every_point(folder: Path, *, fails: bool) -> tuple[list[float], int]:
    """Kill a run at each point; return the seconds of each resumption, and the duplicates."""
    taken: list[float] = []
    wrong, point = 0, 1
    while True:
        home = folder / f"{'undo' if fails else 'do'}-{point}"
        home.mkdir()
        if not killed_at(home, point, fails=fails):
            return taken, wrong
        taken.append(resumed(home, fails=fails))
        wrong += duplicates(home, fails=fails)
        point += STRIDE


def by_command(folder: Path) -> list[float]:
    """Kill runs and resume them with the command; return the seconds of each."""
    taken: list[float] = []
    for turn in range(COMMANDS):
        home = folder / f"command-{turn}"
        home.mkdir()
        (home / "crew.py").write_text(_CREW.format(home=str(home)), encoding="utf-8")
        assert killed_at(home, 60 + 7 * turn, fails=False)
        _name_actors(home)
        path = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})"
        call = f"{path}; from fmos_cli.main import app; app(sys.argv[1:], prog_name='fmos')"
        command = [sys.executable, "-c", call, "--home", str(home), "workflow", "resume", RUN]
        begin = time.perf_counter()
        subprocess.run(command, cwd=home, capture_output=True, check=True)
        taken.append(time.perf_counter() - begin)
        assert not duplicates(home, fails=False)
    return taken


def _name_actors(home: Path) -> None:
    """Let the stored run name its actors, as `fmos workflow run` would have."""
    from fmos.storage.database import Database  # noqa: PLC0415 - opened for this line only
    from fmos.workflow.model import RunOptions  # noqa: PLC0415

    named = {name: f"crew:{name}" for name in ("counter", "sender", "judge")}
    options = RunOptions(actors=named, folder=str(home)).model_dump_json()
    database = Database(home / "kernel.db")
    with database.transaction():
        database.execute("UPDATE workflow_run SET options = ?", (options,))
    database.close()


def main() -> None:
    """Measure and save."""
    report = Report("workflow_crash", "a killed workflow goes on, with no effect twice")
    with workspace() as folder:
        done, wrong_done = every_point(folder, fails=False)
        undone, wrong_undone = every_point(folder, fails=True)
        command = by_command(folder)
    taken = [*done, *undone]
    wrong = wrong_done + wrong_undone
    samples = {"resumed": done, "undone": undone, "command": command}
    sides = [Side(name, NORMAL, lambda _: 0.0) for name in samples]
    report.add("seconds from resumption to the end of the run", Measure(samples), sides)
    within = {limit: sum(each <= limit for each in taken) / len(taken) * 100 for limit in (2, 60)}
    report.at_least("killed runs", len(taken), "runs", scale(200, 5))
    report.at_least("ended within 2 s", within[2], "%", 99)
    report.at_least("ended within 60 s", within[60], "%", 99)
    report.at_most("effects that happened twice or not at all", wrong, "effects", 0)
    report.tell("resumption, median", statistics.median(taken) * 1000, "ms")
    report.tell("resumption, slowest", max(taken) * 1000, "ms")
    report.tell("`fmos workflow resume`, start included, slowest", max(command) * 1000, "ms")
    report.sum_up(
        f"workflow of {len(STEPS)} steps killed at {len(taken)} points, resumed",
        f"{within[2]:.1f} % within 2 s, {wrong} duplicate effects",
        f"slowest {max(taken):.2f} s; as a command {max(command):.2f} s",
    )
    report.notes.append(
        "Effects: a counter in the agent's volume, a line in a file outside that the actor can"
        " verify by its idempotency key. Without `verify` an effect cut off from its outcome waits"
        " for a person; that is not counted here."
    )
    report.save()


if __name__ == "__main__":
    main()

"""What this machine has to give: processors, memory, graphics cards, and how late it wakes up."""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_UNLIMITED_BYTES = 1 << 60  # cgroup v1 says "no limit" with a number near 2^63


class Jitter(NamedTuple):
    """How late the interpreter woke up, in milliseconds, over so many wake-ups."""

    worst_ms: float
    p99_ms: float
    wakeups: int


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The host as admission sees it; `jitter` only if it was measured."""

    cpus: float
    memory_bytes: int
    gpus: int
    runtime: str
    jitter: Jitter | None = None

    @classmethod
    def read(cls, *, root: Path = Path("/"), jitter: Jitter | None = None) -> HostFacts:
        """Return what this process may use: affinity, cgroup limits, memory, devices.

        `root` is where `/proc`, `/sys` and `/dev` are looked for.
        """
        groups = _cgroups(root)
        cpus = [float(len(os.sched_getaffinity(0))), *filter(None, map(_cpu_limit, groups))]
        memory = [_total_memory(root), *filter(None, map(_memory_limit, groups))]
        gpus = sum(1 for device in (root / "dev").glob("nvidia[0-9]*"))
        runtime = f"{platform.python_implementation()} {platform.python_version()}"
        return cls(min(cpus), min(memory), gpus, runtime, jitter)


def measure_jitter(seconds: float = 0.2, period_ms: float = 1.0) -> Jitter:
    """Return how late a loop of this interpreter wakes up now; it takes `seconds`.

    A short run shows what happens, never the worst that can happen.
    """
    period = period_ms / 1000
    due = start = time.perf_counter()
    late: list[float] = []
    while due < start + seconds:
        due += period
        time.sleep(max(0.0, due - time.perf_counter()))
        late.append(max(0.0, time.perf_counter() - due) * 1000)
    late.sort()
    return Jitter(late[-1], late[int(len(late) * 0.99)], len(late))


def _total_memory(root: Path) -> int:
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _cgroups(root: Path) -> list[Path]:
    """Return the folders of the process's cgroup and of all above it (version 2, then 1)."""
    base = root / "sys/fs/cgroup"
    found: list[Path] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for name in controllers.split(",") if controllers else [""]:
            own = Path(name, path.lstrip("/"))
            found += [base / folder for folder in (own, *own.parents)]
    return list(dict.fromkeys([*found, base]))


def _cpu_limit(group: Path) -> float | None:
    quota, _, period = _text(group / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _text(group / "cpu.cfs_quota_us").strip()
        period = _text(group / "cpu.cfs_period_us").strip()
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None  # `max` and -1 are no limit
    return int(quota) / int(period)


def _memory_limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text(group / name).strip()
        if text.isdigit() and int(text) < _UNLIMITED_BYTES:
            return int(text)
    return None


def _text(path: Path) -> str:
    """Return a file of the kernel, or nothing where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

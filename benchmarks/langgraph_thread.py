"""The thread that langgraph_saver.py stores in both checkpointers: its steps and their times."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

THREAD: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
_MESSAGE_CHARACTERS = 1930
_chance = random.Random(7)
_WORDS = ["".join(_chance.choices("abcdefghijklmnopqrstuvwxyz", k=3 + n % 8)) for n in range(5000)]


def text() -> str:
    """Return about 2 KiB of words."""
    return " ".join(_chance.choices(_WORDS, k=_MESSAGE_CHARACTERS // 6))[:_MESSAGE_CHARACTERS]


@dataclass(slots=True)
class Times:
    """Seconds of each kind of call, in the order of the steps."""

    put: list[float] = field(default_factory=list)
    put_writes: list[float] = field(default_factory=list)
    get_tuple: list[float] = field(default_factory=list)


class Thread:
    """One thread in one checkpointer; its list of messages grows every few steps."""

    def __init__(self, saver: BaseCheckpointSaver[Any], steps: int, messages: int) -> None:
        """Begin empty."""
        self.saver = saver
        self.times = Times()
        self._every = max(steps // messages, 1)
        self._config = THREAD
        self._versions: dict[str, Any] = {}
        self._messages: list[Any] = []

    def step(self, number: int) -> None:
        """Store a checkpoint and one waiting write of 2 KiB, and read the newest checkpoint."""
        changed = ["branch:to:agent"]
        if number % self._every == 0:
            made = (HumanMessage if number % 2 else AIMessage)(text(), id=f"m{number}")
            self._messages = [*self._messages, made]
            changed.append("messages")
        for channel in changed:
            last = self._versions.get(channel)
            self._versions[channel] = self.saver.get_next_version(last, None)
        new = {channel: self._versions[channel] for channel in changed}
        checkpoint: Any = empty_checkpoint() | {
            "id": str(uuid6(clock_seq=number)),
            "channel_values": {"messages": self._messages, "branch:to:agent": None, "turn": number},
            "channel_versions": dict(self._versions),
            "versions_seen": {"agent": dict(self._versions), "__input__": {}},
        }
        metadata: Any = {"source": "loop", "step": number, "parents": {}, "run_id": f"r{number}"}
        waiting = [("messages", [AIMessage(text(), id=f"w{number}")])]
        begin = time.perf_counter()
        self._config = self.saver.put(self._config, checkpoint, metadata, new)
        stored = time.perf_counter()
        self.saver.put_writes(self._config, waiting, f"task{number}")
        written = time.perf_counter()
        self.saver.get_tuple(THREAD)
        self.times.put.append(stored - begin)
        self.times.put_writes.append(written - stored)
        self.times.get_tuple.append(time.perf_counter() - written)


def run_together(threads: list[Thread], steps: int) -> None:
    """Do every step on all threads in turn, beginning with another one each time."""
    for number, first in zip(range(steps), itertools.cycle(range(len(threads))), strict=False):
        for thread in [*threads[first:], *threads[:first]]:
            thread.step(number)


def file_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(each.stat().st_size for each in folder.iterdir())


def write_for(saver: BaseCheckpointSaver[Any], seconds: float) -> Iterator[float]:
    """Put checkpoints of 200 KB to a thread of this process's own; yield the seconds of each."""
    config: Any = {"configurable": {"thread_id": f"p{os.getpid()}", "checkpoint_ns": ""}}
    end, blob = time.monotonic() + seconds, "".join(text() for _ in range(100))
    version: Any = None
    while time.monotonic() < end:
        version = saver.get_next_version(version, None)
        checkpoint: Any = empty_checkpoint() | {
            "channel_values": {"blob": blob + str(version)},
            "channel_versions": {"blob": version},
        }
        begin = time.perf_counter()
        config = saver.put(config, checkpoint, {}, {"blob": version})
        yield time.perf_counter() - begin

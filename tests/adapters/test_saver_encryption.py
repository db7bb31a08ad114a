"""`EncryptedSerializer`: nothing readable is in the file, and a growing list costs its growth."""

# LangGraph declares as optional what every stored checkpoint has.
# pyright: reportTypedDictNotRequiredAccess=false

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph")

from cryptography.hazmat.primitives.ciphers import aead
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, MessagesState, StateGraph

from agentfs import AgentFS
from fmos_langgraph import FmosSaver
from fmos_langgraph.codec import Codec
from fmos_langgraph.places import ROOT

THREAD: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
KEY, OTHER_KEY = bytes(range(32)), bytes(32)
STEPS = 50


class Cipher:
    """AES-GCM with a random nonce for each call, which counts what it encrypts."""

    def __init__(self, key: bytes = KEY) -> None:
        self._aes = aead.AESGCM(key)
        self.encrypted_bytes = 0

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Return the cipher's name and a ciphertext."""
        self.encrypted_bytes += len(plaintext)
        nonce = os.urandom(12)
        return "gcm", nonce + self._aes.encrypt(nonce, plaintext, None)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Return the plaintext."""
        assert ciphername == "gcm"
        return self._aes.decrypt(ciphertext[:12], ciphertext[12:], None)


def sealed(key: bytes = KEY) -> EncryptedSerializer:
    """Return a serializer that encrypts."""
    return EncryptedSerializer(Cipher(key))


def grow(saver: FmosSaver, steps: int, seed: int = 7) -> list[list[str]]:
    """Put checkpoints whose list grows by 2 KB in which nothing repeats."""
    chance = random.Random(seed)
    texts: list[str] = []
    states: list[list[str]] = []
    config = THREAD
    for step in range(steps):
        texts = [*texts, chance.randbytes(1000).hex()]
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"texts": texts}
        checkpoint["channel_versions"] = {"texts": step + 1}
        config = saver.put(config, checkpoint, {"step": step}, {"texts": step + 1})
        states.append(texts)
    return states


def raw(path: Path) -> bytes:
    """Return the bytes of a volume and of the files next to it."""
    return b"".join(each.read_bytes() for each in sorted(path.parent.glob(path.name + "*")))


def test_nothing_that_was_said_is_readable(tmp_path: Path) -> None:
    """Values, metadata and writes are in no file of the volume, nor in its own, open or closed."""
    volume = tmp_path / "c.afs"
    graph: Any = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [("ai", "marker-answer " * 400)]})
    graph.add_edge(START, "answer")
    config: Any = {"configurable": {"thread_id": "t", "user": "marker-user"}}
    with FmosSaver.from_path(volume, serde=sealed()) as saver:
        compiled = graph.compile(checkpointer=saver)
        compiled.invoke({"messages": [HumanMessage("marker-short")]}, config)
        stored = saver.get_tuple(config)
        assert stored is not None
        assert stored.metadata["user"] == "marker-user"  # type: ignore[typeddict-item]
        saver.put_writes(stored.config, [("x", "marker-write")], "task")
        paths = [f"{folder}/{name}" for folder, _, names in saver.fs.walk(ROOT) for name in names]
        files = [saver.fs.read(path) for path in paths]
        # Files as the saver wrote them: what the volume has of them is compressed as well.
        files.append(raw(volume))
    files.append(raw(volume))
    assert len(files) > 6
    for data in files:
        assert b"marker" not in data
        assert b"HumanMessage" not in data


def test_plain_serializer_leaves_the_marker(tmp_path: Path) -> None:
    """The search for markers finds them in a volume that is not encrypted."""
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        checkpoint = empty_checkpoint()
        saver.put(THREAD, checkpoint, {"step": 0, "x": "marker"}, {})  # type: ignore[typeddict-unknown-key]
        assert b"marker" in raw(tmp_path / "c.afs")


def test_a_growing_list_costs_its_growth(tmp_path: Path, record_property: Any) -> None:
    """Fifty versions of a list take encrypted at most twice what they take in plain."""
    sizes = {}
    for name, serde in (("plain", None), ("encrypted", sealed())):
        volume = tmp_path / f"{name}.afs"
        with FmosSaver.from_path(volume, serde=serde) as saver:
            states = grow(saver, STEPS)
            found = [each.checkpoint["channel_values"]["texts"] for each in saver.list(THREAD)]
            assert found == states[::-1]
        sizes[name] = len(raw(volume))
    whole = sum(len(repr(state)) for state in states)
    record_property("bytes of 50 versions", f"{sizes}, as whole values {whole}")
    assert sizes["encrypted"] < 2 * sizes["plain"], sizes
    assert sizes["encrypted"] < whole / 3, (sizes, whole)


def test_only_new_pieces_are_encrypted_again(tmp_path: Path) -> None:
    """The cipher sees a small part of what the versions hold together."""
    serde = sealed()
    with FmosSaver.from_path(tmp_path / "c.afs", serde=serde) as saver:
        whole = sum(len(repr(state)) for state in grow(saver, STEPS))
    assert isinstance(serde.cipher, Cipher)
    assert serde.cipher.encrypted_bytes < whole / 3


def test_pieces_of_the_last_version_are_taken_as_they_are() -> None:
    """A longer list holds the ciphertext that the shorter one had, although nonces are random."""
    codec = Codec(sealed())
    chance = random.Random(3)
    texts = [chance.randbytes(1000).hex() for _ in range(60)]
    first = codec.encrypt(codec.dump(texts))
    grown = codec.dump([*texts, "one more"])
    following = codec.encrypt(grown, first)
    again = codec.encrypt(grown)
    assert codec.load(codec.decrypt(following)) == [*texts, "one more"]
    assert _shared(first, following) > len(first) * 0.7
    assert _shared(first, again) == 0


def _shared(one: bytes, other: bytes, width: int = 64) -> int:
    """Return how many bytes of `one`, in blocks, are somewhere in `other`."""
    blocks: Sequence[bytes] = [one[at : at + width] for at in range(0, len(one) - width, width)]
    return sum(width for block in blocks if block in other)


@pytest.mark.parametrize("serde", [None, sealed(OTHER_KEY)])
def test_without_the_key_the_error_says_so(tmp_path: Path, serde: Any) -> None:
    """Reading without the serializer, or with another key, ends in one sentence and no value."""
    with FmosSaver.from_path(tmp_path / "c.afs", serde=sealed()) as saver:
        grow(saver, 6)
        stored = saver.get_tuple(THREAD)
        assert stored is not None
        saver.put_writes(stored.config, [("x", 1)], "task")
    with FmosSaver.from_path(tmp_path / "c.afs", serde=serde) as saver:
        for read in (
            lambda: saver.get_tuple(THREAD),
            lambda: list(saver.list(THREAD)),
            lambda: saver.get_delta_channel_history(config=THREAD, channels=["texts"]),
            lambda: saver.keep_last("t", 2),
        ):
            with pytest.raises(ValueError, match="EncryptedSerializer"):
                read()
        assert len(saver.threads()) == 1
    with FmosSaver.from_path(tmp_path / "c.afs", serde=sealed()) as saver:
        assert len(list(saver.list(THREAD))) == 6


def test_writing_with_another_key_changes_nothing(tmp_path: Path) -> None:
    """A put on top of a checkpoint that cannot be read fails as a whole."""
    with FmosSaver.from_path(tmp_path / "c.afs", serde=sealed()) as saver:
        grow(saver, 3)
        last = saver.get_tuple(THREAD)
        assert last is not None
    with FmosSaver.from_path(tmp_path / "c.afs", serde=sealed(OTHER_KEY)) as saver:
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"texts": ["x" * 9000]}
        checkpoint["channel_versions"] = {"texts": 9}
        with pytest.raises(ValueError, match="another key"):
            saver.put(last.config, checkpoint, {"step": 9}, {"texts": 9})
    with FmosSaver.from_path(tmp_path / "c.afs", serde=sealed()) as saver:
        assert saver.get_tuple(THREAD) == last


def test_a_thread_that_was_plain_goes_on_encrypted(tmp_path: Path) -> None:
    """Old checkpoints stay readable when a saver is given a cipher; new ones are encrypted."""
    with FmosSaver.from_path(tmp_path / "c.afs") as saver:
        states = grow(saver, 4)
        plain = saver.get_tuple(THREAD)
        assert plain is not None
    with FmosSaver.from_path(tmp_path / "c.afs", serde=sealed()) as saver:
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"texts": [*states[-1], "marker" * 2000]}
        checkpoint["channel_versions"] = {"texts": 5}
        saver.put(plain.config, checkpoint, {"step": 4}, {"texts": 5})
        found = [each.checkpoint["channel_values"]["texts"] for each in saver.list(THREAD)]
    assert found == [[*states[-1], "marker" * 2000], *states[::-1]]
    with (
        FmosSaver.from_path(tmp_path / "c.afs") as saver,
        pytest.raises(ValueError, match="is encrypted"),
    ):
        saver.get_tuple(THREAD)


def test_pieces_are_whole_after_pruning_and_gc(tmp_path: Path) -> None:
    """What stays needs nothing of the versions it took its pieces from."""
    volume = tmp_path / "c.afs"
    with FmosSaver.from_path(volume, serde=sealed()) as saver:
        states = grow(saver, 20)
        saver.copy_thread("t", "copy")
        saver.keep_last("t", 2)
        saver.prune(["copy"])
        saver.fs.gc()
        assert not saver.fs.fsck()
    with FmosSaver.from_path(volume, serde=sealed()) as saver:
        found = [each.checkpoint["channel_values"]["texts"] for each in saver.list(THREAD)]
        assert found == [states[-1], states[-2]]
        copy = saver.get_tuple({"configurable": {"thread_id": "copy"}})
        assert copy is not None
        assert copy.checkpoint["channel_values"]["texts"] == states[-1]


def test_encryption_of_the_volume_goes_with_it(tmp_path: Path) -> None:
    """A fork of the branch reads and grows the encrypted thread with the same key."""
    with AgentFS.open(tmp_path / "c.afs") as fs:
        states = grow(FmosSaver.from_fs(fs, serde=sealed()), 5)
        fork = FmosSaver.from_fs(fs.fork("other"), serde=sealed())
        found = fork.get_tuple(THREAD)
        assert found is not None
        assert found.checkpoint["channel_values"]["texts"] == states[-1]

"""Chunked content: partial writes, holes, tails and what an edit stores again."""

import random
import tracemalloc
from pathlib import Path

import apsw
import pytest

from agentfs import AgentFS
from agentfs.errors import Corrupt

_KIB, _MIB = 1024, 1024 * 1024
_SOME_CHUNKS = "SELECT id FROM chunk ORDER BY size LIMIT 6"
_FILL = random.Random(5).randbytes(2 * _MIB)


def _fill(rng: random.Random, size: int) -> bytes:
    start = rng.randrange(len(_FILL) - size)
    return bytes(size) if rng.random() < 0.15 else _FILL[start : start + size]


def _stored(fs: AgentFS) -> int:
    """Return the bytes of all chunks and nodes of a volume."""
    database = apsw.Connection(str(fs.path))
    sql = "SELECT (SELECT total(length(data)) FROM chunk) + (SELECT total(length(data)) FROM node)"
    found = database.execute(sql).get
    database.close()
    return int(found)


def _size(rng: random.Random) -> int:
    return rng.choice((1, 10, 100, 3 * _KIB, 5 * _KIB, 70 * _KIB, 300 * _KIB))


def _step(fs: AgentFS, model: bytearray, rng: random.Random) -> None:
    """Do one random change to a file and to the bytes that it must hold."""
    kind = rng.choice(("write", "write", "write", "append", "append", "truncate", "hole", "whole"))
    data = _fill(rng, rng.randrange(1, _size(rng) + 1))
    if kind == "append":
        fs.append("/f", data)
        model += data
    elif kind == "truncate":
        size = rng.choice((0, len(model) // 2, rng.randrange(len(model) + 1), len(model) + 9000))
        fs.truncate("/f", size)
        model[size:] = bytes(max(size - len(model), 0))
    elif kind == "whole" and rng.random() < 0.2:
        fs.write("/f", data)
        model[:] = data
    else:
        offset = rng.randrange(len(model) + 1) + (rng.randrange(500_000) if kind == "hole" else 0)
        with fs.open("/f", "r+b") as handle:
            handle.seek(offset)
            handle.write(data)
        model.extend(bytes(max(offset - len(model), 0)))
        model[offset : offset + len(data)] = data


@pytest.mark.parametrize("seed", range(6))
def test_random_changes_agree_with_a_byte_array(tmp_path: Path, seed: int) -> None:
    """Writes at offsets, appends, cuts and holes leave the bytes that a bytearray has."""
    rng = random.Random(seed)
    with AgentFS.open(tmp_path / "a.afs") as fs:
        model = bytearray(_fill(rng, 200 * _KIB))
        fs.write("/f", bytes(model))
        for step in range(60):
            _step(fs, model, rng)
            low, high = sorted(rng.randrange(len(model) + 2) for _ in range(2))
            assert fs.read("/f", low, high) == model[low:high], (seed, step)
            assert fs.stat("/f").size == len(model), (seed, step)
        assert fs.read("/f") == model
        assert fs.fsck(read_data=True) == []


def test_ten_byte_edits_rewrite_little_of_a_file(tmp_path: Path) -> None:
    """Random ten-byte edits in a 1 MiB file store at most 3 % of it again, pages included."""
    rng = random.Random(1)
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", _FILL[:_MIB])
        before = _stored(fs)
        for _ in range(25):
            with fs.open("/f", "r+b") as handle:
                handle.seek(rng.randrange(_MIB - 10))
                handle.write(rng.randbytes(10))
        assert _stored(fs) - before < 25 * 0.03 * _MIB


@pytest.mark.parametrize("size", [_MIB, 8 * _MIB])
def test_a_byte_inserted_at_the_front_shares_the_rest(tmp_path: Path, size: int) -> None:
    """A whole rewrite after an insertion finds its old chunks again."""
    data = random.Random(2).randbytes(size)
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", data)
        before = _stored(fs)
        fs.write("/f", b"x" + data)
        assert _stored(fs) - before < 0.15 * _MIB


def test_appending_costs_the_same_for_a_large_file(tmp_path: Path) -> None:
    """A hundred bytes at the end store a few kilobytes, whatever the file's size."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/small", _FILL[: 64 * _KIB])
        fs.write("/large", _FILL * 8)
        costs: list[int] = []
        for path in ("/small", "/large"):
            before = _stored(fs)
            for _ in range(100):
                fs.append(path, b"y" * 100)
            costs.append(_stored(fs) - before)
        assert max(costs) < 100 * 5 * _KIB
        assert fs.read("/large") == _FILL * 8 + b"y" * 10_000
        assert fs.fsck(read_data=True) == []


def test_an_edit_rewrites_no_page_beside_it(tmp_path: Path) -> None:
    """In a file with several levels of pages an edit stores one chunk and the pages above."""
    data = random.Random(3).randbytes(12 * _MIB)
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", data)
        before = _stored(fs)
        with fs.open("/f", "r+b") as handle:
            handle.seek(5 * _MIB)
            handle.write(b"0123456789")
        assert _stored(fs) - before < 160 * _KIB
        expected = data[: 5 * _MIB] + b"0123456789" + data[5 * _MIB + 10 :]
        assert fs.read("/f") == expected


def test_holes_cost_no_bytes(tmp_path: Path) -> None:
    """A file of 1 TiB with ten bytes at its end is small, and reads as zeros before them."""
    tib = 1 << 40
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", b"begin")
        with fs.open("/f", "r+b") as handle:
            handle.seek(tib)
            handle.write(b"0123456789")
        assert fs.stat("/f").size == tib + 10
        assert _stored(fs) < 4 * _KIB
        assert fs.read("/f", 0, 8) == b"begin\0\0\0"
        assert fs.read("/f", tib - 5, tib + 10) == bytes(5) + b"0123456789"
        fs.write("/zeros", bytes(3 * _MIB) + b"end")
        assert _stored(fs) < 4 * _KIB
        assert fs.read("/zeros") == bytes(3 * _MIB) + b"end"
        assert fs.fsck(read_data=True) == []


def test_text_is_compressed_and_noise_is_not(tmp_path: Path) -> None:
    """Zstandard is used where it pays."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/text", b"the same words again " * 20_000)
        assert _stored(fs) < 40 * _KIB
        fs.write("/noise", _FILL[:_MIB])
    database = apsw.Connection(str(tmp_path / "a.afs"))
    raw = database.execute("SELECT total(size) FROM chunk WHERE codec = 0").get
    database.close()
    assert raw >= _MIB


@pytest.mark.parametrize("size", [10, 4 * _KIB, 100 * _KIB, 1500 * _KIB])
def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path, size: int) -> None:
    """Reading and fsck find a changed byte of an inline file, a chunk, a list and a tail."""
    path = tmp_path / "a.afs"
    with AgentFS.open(path) as fs:
        fs.write("/f", _FILL[:size])
        fs.append("/f", b"tail")
    database = apsw.Connection(str(path))
    newest = database.execute("SELECT max(id) FROM node").get
    used = [("node", newest), *[("chunk", row[0]) for row in database.execute(_SOME_CHUNKS)]]
    for table, row_id in used:
        data = database.execute(f"SELECT data FROM {table} WHERE id = ?", (row_id,)).get
        for place in {0, len(data) // 2, len(data) - 1}:
            bad = bytearray(data)
            bad[place] ^= 1
            sql = f"UPDATE {table} SET data = ? WHERE id = ?"
            database.execute(sql, (bytes(bad), row_id))
            with AgentFS.open(path) as fs:
                assert [each.invariant for each in fs.fsck(read_data=True)][-1:] == [6]
                with pytest.raises(Corrupt):
                    fs.read("/f")
            database.execute(sql, (data, row_id))
    database.close()
    with AgentFS.open(path) as fs:
        assert fs.fsck(read_data=True) == []


def test_a_handle_reads_its_own_version_and_what_it_wrote(tmp_path: Path) -> None:
    """A handle sees its unwritten bytes over the version it opened, and merges at the flush."""
    with AgentFS.open(tmp_path / "a.afs") as fs:
        fs.write("/f", _FILL[: 50 * _KIB])
        with fs.open("/f", "r+b") as handle:
            handle.seek(20_000)
            handle.write(b"mine")
            fs.write("/f", b"theirs" + _FILL[6 : 50 * _KIB])
            handle.seek(0)
            assert handle.read(6) == _FILL[:6]
            handle.seek(19_998)
            assert handle.read(8) == _FILL[19_998:20_000] + b"mine" + _FILL[20_004:20_006]
        assert fs.read("/f", 0, 6) == b"theirs"
        assert fs.read("/f", 20_000, 20_004) == b"mine"


def test_a_large_file_streams_through_a_handle(tmp_path: Path) -> None:
    """Writing and reading 48 MiB through handles holds a fraction of it in memory."""
    block = _FILL[:_MIB]
    with AgentFS.open(tmp_path / "a.afs") as fs:
        tracemalloc.start()
        try:
            with fs.open("/f", "wb") as handle:
                for number in range(48):
                    handle.write(number.to_bytes(4, "big") + block[4:])
            with fs.open("/f", "rb") as handle:
                for number in range(48):
                    assert handle.read(_MIB) == number.to_bytes(4, "big") + block[4:]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 36 * _MIB

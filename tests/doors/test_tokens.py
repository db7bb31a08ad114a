"""Bearer tokens: issuing, checking and ending them, and what TCP answers without one."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import apsw
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client as SdkClient

from fmos.client import connect
from fmos.client.messages import headers
from fmos.clock import FixedClock
from fmos.errors import ArgumentError, NotFoundError, PrincipalError
from fmos.runtime.kernel import Kernel
from fmos.serving.credentials.tokens import Tokens, parse_ttl
from fmos.types import Principal

from .conftest import daemon, issue, port_of

ADA = Principal(agent="ada")
ACME = Principal(tenant="acme", application="crm", agent="ada", session="s1", role="clerk")


@pytest.fixture
def clock() -> FixedClock:
    """A clock that the test moves."""
    return FixedClock()


@pytest.fixture
def tokens(kernel: Kernel, clock: FixedClock) -> Tokens:
    """The tokens of a fresh home."""
    return Tokens(kernel.database, clock)


def test_a_token_says_whom_it_is_for(tokens):
    """What was issued for a principal is that principal, all of it, and is kept as a hash only."""
    text, token = tokens.issue(ACME, 60)
    assert tokens.check(text) == ACME
    secret = text.split("_", 2)[2]
    assert len(secret) == 43
    assert secret not in repr(tokens.all())
    assert tokens.all()[0].id == token.id
    assert tokens.all()[0].used_ns is not None


def test_a_changed_token_is_none(tokens):
    """Any other text is refused, and the refusal says how to get a token, not what was sent."""
    text, _ = tokens.issue(ACME, 60)
    other, _ = tokens.issue(ADA, 60)
    _, id, secret = text.split("_", 2)
    mixed = f"fmos_{id}_{other.split('_', 2)[2]}"
    last = "A" if secret[-1] != "A" else "B"
    for wrong in ("x", text[:-1], text[:-1] + last, mixed, text + "=", f"fmos_{id}_", "ä", "\n"):
        with pytest.raises(PrincipalError, match="fmos token issue") as caught:
            tokens.check(wrong)
        assert secret not in str(caught.value)


def test_time_ends_a_token(tokens, clock):
    """A token is good until it expires, and not before its own time when a clock goes back."""
    text, token = tokens.issue(ADA, 60)
    clock.advance(59)
    assert tokens.check(text) == ADA
    clock.advance(1)
    with pytest.raises(PrincipalError, match=rf"{token.id} is expired"):
        tokens.check(text)
    clock.advance(-3600)
    with pytest.raises(PrincipalError, match="is expired"):
        tokens.check(text)


def test_revoking_ends_it_for_every_process(tokens, kernel, clock):
    """A revoked token is refused by whoever opens the same home, and cannot be revoked twice."""
    text, token = tokens.issue(ADA, 60)
    elsewhere = Tokens(kernel.database, clock)
    assert elsewhere.check(text) == ADA
    tokens.revoke(token.id)
    with pytest.raises(PrincipalError, match="is revoked"):
        elsewhere.check(text)
    with pytest.raises(ArgumentError, match="revoked already"):
        tokens.revoke(token.id)
    with pytest.raises(NotFoundError, match="fmos token list"):
        tokens.revoke("nope")


def test_a_token_for_anybody_is_asked_for_plainly(tokens):
    """A token without an agent is refused unless the administrator says that it is meant."""
    with pytest.raises(ArgumentError, match="--any-agent"):
        tokens.issue(Principal(tenant="acme"), 60)
    with pytest.raises(ArgumentError, match="--any-agent"):
        tokens.issue(ADA, 60, any_agent=True)
    text, _ = tokens.issue(Principal(tenant="acme"), 60, any_agent=True)
    assert tokens.check(text) == Principal(tenant="acme")


@given(st.text(max_size=12))
def test_times_to_live(text):
    """A time to live is a number and a unit; any other text is one sentence."""
    with suppress(ArgumentError):
        assert 0 < parse_ttl(text) <= 3650 * 86_400
        assert text[-1] in "smhd"


def test_ttl_units():
    """The units are seconds, minutes, hours and days."""
    assert [parse_ttl(text) for text in ("45s", "90m", "12h", "30d")] == [45, 5400, 43200, 2592000]


def test_tcp_without_a_good_token_is_401(home):
    """Each server's path wants a token, says how to get one, and takes each tenant to its own."""
    good, ended = issue(home, ACME), issue(home, ADA)
    assert _fmos(home, "token", "revoke", ended.split("_")[1]).returncode == 0
    with daemon(home, "--port", "0") as (_, lines):
        base = f"http://127.0.0.1:{port_of(lines)}"
        for path in ("/mcp", "/memory/mcp", "/", "/nothing"):
            answer = httpx.post(base + path, json={})
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert "fmos token issue" in answer.json()["error"]["message"]
        assert httpx.get(f"{base}/mcp").status_code == 401
        twice = [("Authorization", f"Bearer {good}"), ("Authorization", "Bearer x")]
        assert httpx.post(f"{base}/mcp", headers=twice, json={}).status_code == 401
        with (
            connect(ADA, transport=base, token=ended) as client,
            pytest.raises(PrincipalError, match="is revoked"),
        ):
            client.call("memory_search", {"query": "x"})
        with connect(ACME, transport=base, token=good) as client:
            item = client.call("memory_write", {"text": "acme's"})
        with (
            connect(ADA, transport=base, token=good) as client,
            pytest.raises(PrincipalError, match="the token is for tenant 'acme'"),
        ):
            client.call("memory_get", {"id": item["id"]})
    with connect(ACME, home=home, transport="inprocess") as client:
        assert client.call("memory_get", {"id": item["id"]}) == item


def test_official_clients_with_a_token(home):
    """The official client of either era acts for whom its token is, and for nobody else."""
    token = issue(home, ACME)

    async def talk(url: str, mode: str) -> None:
        async with httpx2_client(token) as http:
            from mcp.client.streamable_http import streamable_http_client

            transport = streamable_http_client(url, http_client=http)
            async with SdkClient(transport, mode=mode) as client:
                status = await client.call_tool("budget_status", {})
                assert "acme" in status.structured_content["account"]
                other = await client.call_tool("budget_status", {"agent": "bob"})
                assert other.is_error
                assert "this call is made for agent 'ada'" in other.content[0].text

    import anyio

    with daemon(home, "--port", "0") as (_, lines):
        for mode in ("2026-07-28", "legacy"):
            anyio.run(talk, f"http://127.0.0.1:{port_of(lines)}/mcp", mode)


def test_one_servers_command_wants_a_token_too(home):
    """`fmos-memory --http`, started for one agent, refuses a token for another."""
    env = {"FMOS_HOME": str(home), "FMOS_AGENT": "ada", "PATH": ""}
    mine, others = issue(home, ADA), issue(home, Principal(agent="bob"))
    command = [sys.executable, "-m", "fmos_memory", "--http", "0"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1]
        try:
            with connect(ADA, transport=url, token=mine) as client:
                assert client.call("memory_search", {"query": "x"}) == {"hits": []}
            bare = httpx.post(url, json={}, headers=headers("tools/list"))
            assert bare.status_code == 401
            with (
                connect(Principal(agent="bob"), transport=url, token=others) as client,
                pytest.raises(PrincipalError, match="this server is for agent 'ada'"),
            ):
                client.call("memory_search", {"query": "x"})
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_the_command(home):
    """A token is printed once, listed without its secret, ended by id; --json says the same."""
    made = json.loads(
        _fmos(home, "token", "issue", "--agent", "ada", "--ttl", "2h", "--json").stdout
    )
    assert (made["agent"], made["tenant"], made["any_agent"]) == ("ada", "default", False)
    assert made["expires_ns"] - made["created_ns"] == 7200 * 10**9
    with Kernel.open(home) as kernel:
        assert made["public_key"] == kernel.keys_of("default").public_key
        assert Tokens(kernel.database, kernel.clock).check(made["token"]) == ADA
    shown = _fmos(home, "token", "issue", "--tenant", "acme", "--any-agent")
    assert shown.stdout.startswith("fmos_")
    assert "any agent" in shown.stderr
    listed = _fmos(home, "token", "list")
    assert made["id"] in listed.stdout
    assert made["token"].split("_", 2)[2] not in listed.stdout
    assert _fmos(home, "token", "revoke", made["id"]).stdout == f"revoked {made['id']}\n"
    states = json.loads(_fmos(home, "token", "list", "--json").stdout)["tokens"]
    assert [item["state"] for item in states] == ["revoked", "valid"]


def test_the_commands_refusals(home):
    """What cannot be issued or ended is one sentence with its exit code, and leaves nothing."""
    for arguments, code, words in (
        (("issue",), 5, "--any-agent"),
        (("issue", "--agent", "../x"), 5, "'agent'"),
        (("issue", "--agent", "main"), 5, "main"),
        (("issue", "--agent", "a", "--ttl", "forever"), 5, "30d"),
        (("revoke", "nope"), 8, "fmos token list"),
    ):
        answer = _fmos(home, "token", *arguments)
        assert answer.returncode == code
        assert words in answer.stderr
        assert len(answer.stderr.splitlines()) == 1
    assert _fmos(home, "token", "list").stdout == "no token was issued\n"


def test_secrets_are_not_in_the_file(home):
    """Nothing in kernel.db, nor its log, holds a token's secret."""
    secret = issue(home, ADA).split("_", 2)[2].encode()
    kept = b"".join(path.read_bytes() for path in home.glob("kernel.db*"))
    assert secret not in kept
    with apsw.Connection(str(home / "kernel.db")) as connection:
        assert connection.execute("SELECT count(*) FROM token").fetchall() == [(1,)]


def httpx2_client(token: str):
    """An HTTP client of the official SDK's that sends a token."""
    import httpx2

    return httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"})


def _fmos(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fmos_cli", "--home", str(home), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from fmos.audit.keys import AuditKeys
from fmos.redaction import find_secrets
from fmos_trust.keyed import KeyedHash
from fmos_trust.secrets import KnownSecret, find_known, known, masked

VALUE = "Zq8rT2mVx91LpW4k"

SAMPLES = {
    "aws-access-key": "id AKIAQ3EGX7ZL2M5N8PQR here",
    "github-token": "token ghp_" + "a1B2" * 9,
    "slack-token": "xoxb-123456789012-abcdefABCDEF",
    "stripe-key": "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "google-api-key": "AIza" + "Sy0_-aB" * 5,
    "model-api-key": "sk-ant-api03-AbCdEf0123456789AbCd",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "dsn-password": "postgres://app:Tr0ub4dor@db:5432/x",
    "private-key": "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0B\n"
    + "-----END PRIVATE KEY-----",
    "assigned-secret": f"API_TOKEN={VALUE}",
    "bearer-token": f"Authorization: Bearer {VALUE}",
}  # fmt: skip


@pytest.fixture
def keyed(tmp_path: Path) -> KeyedHash:
    """Keyed digests of a fresh home."""
    return KeyedHash(AuditKeys(tmp_path))


def seen(keyed: KeyedHash, text: str = f"API_TOKEN={VALUE}") -> list[KnownSecret]:
    """Return what is kept of the secrets in a text."""
    return [known(item, "read_file", keyed) for item in find_secrets(text)]


@pytest.mark.parametrize("kind", SAMPLES)
def test_secret_is_found_with_its_kind(kind: str) -> None:
    """Each kind of secret is found in ordinary text."""
    assert kind in {item.kind for item in find_secrets(SAMPLES[kind])}


@pytest.mark.parametrize(
    "text",
    [
        'token = os.environ["API_TOKEN"]',
        "API_KEY=<your-key-here>",
        "password: ${DB_PASSWORD}",
        "PASSWORD=changeme123",
        "max_tokens: 16000000",
        "monkey: banana123456",
        "def check(password: Optional[str]) -> bool: ...",
        "the token itself is described below",
    ],
)
def test_code_and_placeholders_are_no_secrets(text: str) -> None:
    """Names, code and placeholders are not taken for secrets."""
    assert find_secrets(text) == ()


@pytest.mark.parametrize(
    "outgoing",
    [
        VALUE,
        f"here it is:{VALUE}!",
        VALUE[::-1],
        VALUE.encode().hex(),
        VALUE.encode().hex().upper(),
        base64.b64encode(VALUE.encode()).decode(),
        base64.b64encode(f"x{VALUE}".encode()).decode(),
        base64.b64encode(f"xy={VALUE}".encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("="),
        base64.b64encode(base64.b64encode(VALUE.encode())).decode(),
        base64.b64encode(VALUE[::-1].encode()).decode(),
        base64.b64encode(VALUE.encode()).decode()[::-1],
        "https://x/?q=" + "".join(f"%{byte:02x}" for byte in VALUE.encode()),
        "https://x/?q=" + quote(VALUE),
        " ".join(f"{byte:02x}" for byte in VALUE.encode()),
    ],
)
def test_seen_secret_is_recognised_in_any_encoding(keyed: KeyedHash, outgoing: str) -> None:
    """A secret that was seen is found plainly, embedded, reversed and encoded."""
    hit = find_known(f"some text {outgoing} more text", seen(keyed), keyed)
    assert hit is not None
    assert hit.source == "read_file"


def test_unrelated_text_is_not_taken_for_the_secret(keyed: KeyedHash) -> None:
    """Ordinary text, and part of the secret, pass."""
    text = Path(__file__).read_text("utf-8").replace(VALUE, "") + VALUE[:8]
    assert find_known(text, seen(keyed), keyed) is None


def test_each_line_of_a_private_key_counts(keyed: KeyedHash) -> None:
    """One line of a private key is enough to be recognised."""
    assert find_known("MIIEvQIBADANBgkqhkiG9w0B", seen(keyed, SAMPLES["private-key"]), keyed)


def test_nothing_kept_holds_the_value(keyed: KeyedHash) -> None:
    """What is kept of a secret is its kind, length and digest only."""
    (item,) = seen(keyed)
    assert VALUE not in repr(item)
    assert VALUE.encode() not in item.digest


def test_masked_text_has_no_secret(keyed: KeyedHash) -> None:
    """A text that is shown to a person names the kind in the place of the value."""
    assert masked(f"API_TOKEN={VALUE} ok", [], keyed) == "API_TOKEN=<assigned-secret> ok"
    assert masked(f"say {VALUE}!", seen(keyed), keyed) == "say <assigned-secret>!"

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from email.utils import parseaddr
from typing import ClassVar
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fmos_trust.operators import (
    TYPES,
    OperatorError,
    amount_of,
    command_of,
    email_of,
    emails_of,
    followed,
    host_matches,
    host_of,
    path_of,
    path_under,
    sql_of,
    typed,
    url_of,
)

PIECES = st.sampled_from(
    (
        *("/", "//", "..", ".", "a", "out", "~", "%2e", "%2F", "%25", "%", "\\", " ", "file:"),
        *("\uff0f", "\uff0e", "/proc/self/root", "/dev/fd/", "@", "http:", "https://", "[", "]"),
        *(":", "?", "#", "e", "\u00df", "x.com", "0x7f", "127", ",", ";", "<", ">", '"', "(", ")"),
        *("$", "\u20ac", "1", ".5", "select ", "xn--", "\u202e", "\u200b", "'", "|", "&&", "\n"),
        *("\ud800", "\0", "\u0663", "\u212a", "\u0130", "c"),
    )
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))
VALUES = st.one_of(
    TEXTS, st.integers(), st.floats(), st.none(), st.booleans(), st.lists(TEXTS, max_size=3)
)


@pytest.mark.parametrize("kind", sorted(TYPES))
@given(value=VALUES)
@settings(max_examples=400, deadline=None)
def test_reading_again_changes_nothing(kind: str, value: object) -> None:
    """A canonical text is its own canonical text, and nothing but OperatorError is raised."""
    read = typed(kind)
    with contextlib.suppress(OperatorError):
        text = read(value).text
        assert read(text).text == text


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_megabyte_is_answered_at_once(kind: str) -> None:
    """Hostile text of a megabyte holds an operator for less than 50 ms."""
    with contextlib.suppress(OperatorError):
        typed(kind)("select 1")  # its library is imported once
    seeds = (
        "%25",
        "../",
        "a@b,",
        "((((",
        "$(",
        '"',
        "a.",
        "1,",
        "-eyJA",
        "\\",
        "<a@b.c>,",
        "é",
        "`",
    )
    for seed in seeds:
        for size in (2_000, 4_000, 16_000, 1_000_000):
            took = min(_seconds(kind, (f"{seed * size}"[: size - 1]) + str(n)) for n in range(3))
            assert took < 0.05, (seed, size)


def _seconds(kind: str, text: str) -> float:
    started = time.process_time()
    with contextlib.suppress(OperatorError):
        typed(kind)(text)
    return time.process_time() - started


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/a//b/./c/../d", "/a/b/d"),
        ("../../etc/passwd", "/etc/passwd"),
        ("/out/%2e%2e/etc", "/etc"),
        ("/out/%252e%252e/etc", "/etc"),
        ("/out\\..\\etc", "/etc"),
        ("/out/\uff0e\uff0e/etc", "/etc"),
        ("file:///etc/passwd", "/etc/passwd"),
        ("FILE://localhost/etc/%70asswd", "/etc/passwd"),
        ("/proc/self/root/proc/1/root/etc", "/etc"),
        ("/proc/12/task/13/root", "/"),
        (" /etc/passwd\t", "/etc/passwd"),
    ],
)
def test_path_has_one_spelling(text: str, path: str) -> None:
    """Dots, slashes, percent signs, look-alikes, URLs and /proc come to one path."""
    assert path_of(text).text == path


@pytest.mark.parametrize(
    "text", ["/a\0b", "/proc/self/cwd/x", "/proc/9/fd/3", "/dev/fd/3/x", "file://other/x", "%00"]
)
def test_path_that_no_text_can_tell_is_refused(text: str) -> None:
    """NUL, other processes' folders and other hosts are errors."""
    with pytest.raises(OperatorError):
        path_of(text)


def _encodings(text: str) -> list[str]:
    wide = {ord("."): "\uff0e", ord("/"): "\uff0f"}
    return [
        text,
        quote(text, safe=""),
        quote(quote(text, safe=""), safe=""),
        f"file://{quote(text)}",
        text.replace("/", "//").replace("/", "/./"),
        text.translate(wide),
        text.replace("/", "\\"),
        f"/proc/self/root{text}",
        f" {text} ",
        f"/out/..{text}",
        f"/out/%2e%2e{text}",
        f"/out/x/../..{text}",
        f"{text}.",
        f"{text} ",
        text.upper(),
    ]


@given(
    parts=st.lists(st.sampled_from(["etc", "a", "outer", "ou", "x y", "b%20", "é"]), min_size=1),
    pick=st.integers(0, 14),
)
def test_no_encoding_brings_a_path_into_a_scope(parts: list[str], pick: int) -> None:
    """A path outside of the scope stays outside however it is written."""
    text = _encodings("/" + "/".join(parts))[pick]
    assert not path_under(text, ["/out"])
    assert path_under("/out/a", ["/out"])
    assert not path_under("/outer", ["/out"])


@given(readings=st.lists(PIECES, max_size=8).map("".join))
@example("%2e%2e\\..")
def test_every_decoding_must_be_inside(readings: str) -> None:
    """What is inside stays inside when a tool decodes it once more."""
    try:
        inside = path_under(f"/out/{readings}", ["/out"])
        again = path_of(path_of(f"/out/{readings}").text)
    except OperatorError:
        return
    assert not inside or path_under(again, ["/out"])


def test_links_are_followed() -> None:
    """A link inside the scope that leaves it is outside."""

    @dataclass(frozen=True)
    class Found:
        kind: str

    class Links:
        targets: ClassVar = {"/work/l": "/secret", "/work/m": "../work/l", "/loop": "loop"}

        def lstat(self, path: str, /) -> Found:
            return Found("symlink" if path in self.targets else "directory")

        def readlink(self, path: str, /) -> str:
            return self.targets[path]

    assert followed(path_of("/work/l/x"), Links()).text == "/secret/x"
    assert followed(path_of("/work/m/x"), Links()).readings[-1] == "/secret/x"
    assert not path_under(followed(path_of("/work/m/x"), Links()), ["/work"])
    assert followed(path_of("/work/f"), Links()) == path_of("/work/f")
    with pytest.raises(OperatorError, match="circle"):
        followed(path_of("/loop/x"), Links())


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://good.com@evil.com/", "evil.com"),
        ("https://good.com\\@evil.com/", "good.com"),
        ("https:\\\\evil.com\\good.com", "evil.com"),
        ("https:evil.com", "evil.com"),
        ("https:///evil.com", "evil.com"),
        ("//EVIL.com./", "evil.com"),
        ("www.evil.com/x", "www.evil.com"),
        ("http://0x7f000001", "127.0.0.1"),
        ("http://0177.1", "127.0.0.1"),
        ("http://2130706433", "127.0.0.1"),
        ("http://１２７.0.0.1", "127.0.0.1"),
        ("http://[::ffff:7f00:1]", "127.0.0.1"),
        ("http://bücher.example", "xn--bcher-kva.example"),
        ("http://e%76il.com", "evil.com"),
        ("ht\ntp://ev\til.com", "evil.com"),
    ],
)
def test_url_has_the_host_a_browser_goes_to(text: str, host: str) -> None:
    """User names, backslashes, number forms and look-alikes hide no host."""
    assert url_of(text).host == host


def test_url_has_one_spelling() -> None:
    """Case, default port, dot segments and percent signs come to one text."""
    assert url_of("HTTP://A.com:80/x/../%7eb/%3a?q=%c3%a9#f").text == "http://a.com/~b/%3A?q=%C3%A9"
    assert url_of("https://u:p@a.com").userinfo
    for text in (
        "http://",
        "nothing",
        "http://a..b",
        "http://a.com:x",
        "http://1.2.3.4.5",
        "http://%00",
    ):
        with pytest.raises(OperatorError):
            url_of(text)


def test_hosts_match_by_whole_labels() -> None:
    """A suffix of letters is not a suffix of labels."""
    assert host_matches("a.example.com", ["*.example.com"])
    assert host_matches("Example.COM.", ["example.com"])
    assert not host_matches("notexample.com", ["*.example.com", "example.com"])
    assert not host_matches("example.com", ["*.example.com"])
    assert not host_matches("example.com.evil.com", ["example.com", "*.example.com"])
    assert host_of("10.1").text == "10.0.0.1"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ('"good@example.com" <eve@evil.com>', "eve@evil.com"),
        ("Ada <ada@bücher.example>", "ada@xn--bcher-kva.example"),
        ("ada\uff20example.com", "ada@example.com"),
        ('"a b"@example.com', '"a b"@example.com'),
        ("mailto:ada@example.com", "ada@example.com"),
    ],
)
def test_address_is_the_one_that_mail_goes_to(text: str, address: str) -> None:
    """The display name does not count, and the domain is in ASCII."""
    assert email_of(text).text == address


@pytest.mark.parametrize(
    "text",
    [
        *("a@b.com(c)", "a@b@c.com", "a@[1.2.3.4]", "a@1.2.3.4", "a,b@c.com", "g: a@b.com;"),
        *("@a,@b:c@d.e", "a@b.com, c@d.com", "a @b.com", "a@b..com", "a@", "@b.com", "a@b.com\0"),
        *("<a@b.com", "a@b%2ecom"),
    ],
)
def test_doubtful_address_is_refused(text: str) -> None:
    """Comments, routes, groups and lists are not one address."""
    with pytest.raises(OperatorError):
        email_of(text)


def test_every_recipient_of_a_list_is_found() -> None:
    """Separators inside quotes do not part addresses, the others do."""
    found = emails_of('"Doe, Jane" <jane@a.com>; bob@b.com,\neve+x@c.com')
    assert [each.text for each in found] == ["jane@a.com", "bob@b.com", "eve+x@c.com"]
    assert found[2].mailbox == "eve@c.com"


@given(
    local=st.from_regex(r"[a-z][a-z0-9.+_-]{0,8}[a-z0-9]", fullmatch=True),
    domain=st.from_regex(r"[a-z]{1,8}\.[a-z]{2,4}", fullmatch=True),
    name=st.sampled_from(["", "Ada", '"L, A"']),
)
def test_plain_addresses_are_read_as_the_library_reads_them(
    local: str, domain: str, name: str
) -> None:
    """On plain addresses the operator agrees with email.utils."""
    text = f"{name} <{local}@{domain}>" if name else f"{local}@{domain}"
    if ".." not in local:
        assert email_of(text).text == parseaddr(text)[1].lower()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1,234.50", "1234.5"),
        ("1.234,50 €", "1234.5 EUR"),
        ("1\u202f234,50 EUR", "1234.5 EUR"),
        ("$1,234", "1234 $"),
        ("1'000.5 CHF", "1000.5 CHF"),
        ("1,23,456", "123456"),
        ("(5.00)", "-5"),
        ("\u22127", "-7"),
        ("1e3", "1000"),
        ("٣٤", "34"),
        (0.1, "0.1"),
        ("US$ 5", "5 USD"),
    ],
)
def test_amount_has_one_spelling(value: object, text: str) -> None:
    """Locales, signs and scripts come to one exact decimal."""
    assert amount_of(value).text == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", ["1.234", "5k", "$5 EUR", "1 2", "", "nan", True, "1e999", "1..2", "0x10", "12,34,5"]
)
def test_doubtful_amount_is_refused(value: object) -> None:
    """What may be read in two ways is no amount."""
    with pytest.raises(OperatorError):
        amount_of(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT a FROM t WHERE b = 'drop table t'", "select"),
        ("WITH x AS (SELECT 1) SELECT * FROM x UNION SELECT 2", "select"),
        ("INSERT INTO t VALUES (1)", "insert"),
        ("UPDATE t SET a = 1", "update"),
        ("DELETE FROM t", "delete"),
        ("DROP TABLE t", "ddl"),
        ("SELECT 1; DROP TABLE t", "ddl"),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "delete"),
        ("SELECT * INTO y FROM x", "ddl"),
        ("SELECT load_extension('x')", "admin"),
        ("SELECT pg_read_file('/etc/passwd')", "admin"),
        ("PRAGMA writable_schema = 1", "admin"),
        ("COPY t TO PROGRAM 'sh'", "admin"),
        ("CALL f()", "admin"),
        ("GRANT ALL ON t TO x", "admin"),
    ],
)
def test_statement_has_its_strongest_class(text: str, kind: str) -> None:
    """A statement is what the strongest of its parts does."""
    assert sql_of(text).kind == kind


@pytest.mark.parametrize(
    "text",
    [
        *("", "not sql (", "SELECT /*!50000 1 */", "SELECT 'a\\'; DROP TABLE t --'"),
        *("SELECT 1 # x", "SELECT 1--1; DROP TABLE t", "SELECT $$a$$", "(" * 3_000, ";" * 50),
    ],
)
def test_doubtful_statement_is_refused(text: str) -> None:
    """What databases read differently has no class."""
    with pytest.raises(OperatorError):
        sql_of(text)


def test_command_names_all_that_it_starts() -> None:
    """Programs behind sudo, xargs, substitutions and `sh -c` are named."""
    found = command_of("sudo -u root ls $(cat x) | xargs -n 1 sh -c 'grep a b > c'")
    assert set(found.programs) == {"sudo", "ls", "cat", "xargs", "sh", "grep"}
    assert (">", "c") in found.redirections
    assert not found.only_reads
    assert command_of(["ls", "a;b"]).only_reads
    for text in ("echo 'x", "x() { y; }", "a" * 5_000):
        with pytest.raises(OperatorError):
            command_of(text)


def test_errors_show_no_secret() -> None:
    """An error shortens the value that it names, and hides what looks like a secret."""
    secret = "ghp_" + "a1B2c3D4e5F6" * 3
    with pytest.raises(OperatorError) as error:
        amount_of(f"{secret} EUR")
    assert secret not in str(error.value)
    with pytest.raises(OperatorError) as error:
        url_of("x" * 10_000)
    assert len(str(error.value)) < 200

"""The environment of a command: this process's own, without what looks like a secret.

An agent's command must not find the keys of the person who runs it, nor the sockets of their
session; what it needs is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from agentfs.errors import InvalidArgument

_SECRET = re.compile(
    r"(^|_)(API_?KEY|KEY|KEYS|TOKEN|TOKENS|PAT|PASS|PASSWD|PASSPHRASE|CREDENTIALS?|AUTH|COOKIE)$"
    r"|SECRET|PASSWORD|APIKEY|PRIVATE_KEY|ACCESS_KEY",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_SESSION = (
    "SSH_", "GPG_", "DBUS_", "AGENTFS_", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",
    "XDG_RUNTIME_DIR", "DOCKER_HOST", "TMPDIR", "TMP", "TEMP", "OLDPWD",
)  # fmt: skip
_PLAIN = frozenset({"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ"})
_CACHE = "/tmp/.cache"


def is_withheld(name: str, value: str) -> bool:
    """Say whether a variable looks like a secret or leads into the person's session."""
    if name in _SESSION or name.startswith(tuple(each for each in _SESSION if each[-1] == "_")):
        return True
    return bool(_SECRET.search(name) or _PASSWORD_IN_URL.search(value))


def parse(named: Iterable[str]) -> dict[str, str]:
    """Return the variables of `NAME=VALUE`, and of `NAME` as this process has it.

    Raises:
        InvalidArgument: a variable that is named alone is not set here.
    """
    found: dict[str, str] = {}
    for each in named:
        name, has_value, value = each.partition("=")
        if not has_value and name not in os.environ:
            raise InvalidArgument(name, "it is not set here; write --env NAME=VALUE to set it")
        found[name] = value if has_value else os.environ[name]
    return found


def build(
    branch: str, named: Mapping[str, str], *, confined: bool, bare: bool = False
) -> dict[str, str]:
    """Return a command's environment; `named` goes in as it is.

    Caches go to the private /tmp when the command is confined, because it cannot write elsewhere.
    With `bare` only what every program expects is passed on.
    """
    found = {
        name: value
        for name, value in os.environ.items()
        if (name in _PLAIN if bare else not is_withheld(name, value))
    }
    if confined:
        found["XDG_CACHE_HOME"] = _CACHE
    return {**found, "AGENTFS_RUN": "1", "AGENTFS_BRANCH": branch, **named}

"""What each program does with its arguments: the tables behind commands.py.

`judge` looks at one simple command. Programs that only start another program (sudo, env, xargs,
sh -c, find -exec) hand that one back to be judged in turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from fmos_trust.shell import COMPUTED, Simple


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one command does itself, and what it starts: argument vectors or command lines."""

    finding: str = ""
    vectors: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()


_HARMLESS = Ruling()
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_COMPUTED_NAME = re.compile(r"[$*?\[{~]")
_VERSION_SUFFIX = re.compile(r"[\d.]+$")

_ALWAYS = {
    "rm": "removes files", "rmdir": "removes folders", "unlink": "removes a file",
    "shred": "destroys files", "srm": "destroys files", "wipe": "destroys files",
    "dd": "writes over its target", "truncate": "cuts files", "wipefs": "wipes a disk",
    "fdisk": "changes a disk", "sfdisk": "changes a disk", "parted": "changes a disk",
    "mke2fs": "formats a disk", "mkswap": "formats a disk", "blkdiscard": "wipes a disk",
    "shutdown": "stops the machine", "reboot": "stops the machine", "halt": "stops the machine",
    "poweroff": "stops the machine", "userdel": "removes a user", "del": "removes files",
    "erase": "removes files", "rd": "removes folders", "remove-item": "removes files",
    "format": "formats a disk", "eval": "runs text that is computed",
    "alias": "gives a command another meaning", "trap": "runs text later",
    "function": "gives a command another meaning",
}  # fmt: skip
_SHELLS = frozenset(("sh", "bash", "zsh", "dash", "ksh", "ash", "fish", "mksh"))
_INTERPRETERS = frozenset(("python", "perl", "ruby", "node", "php", "lua", "deno", "bun"))
_CODE_FLAGS = frozenset(("-c", "-e", "-E", "-r", "-p", "--eval", "--print"))
_DESTROYING_CODE = re.compile(
    r"rmtree|unlink|rmdir|\bremove|\brm\b|\brm_|truncate|system|subprocess|popen|exec|spawn"
    r"|delete|write_text|write_bytes|writeFile|\bmove\(|rename|replace\(|__import__|eval"
    r"|open\([^)]*,\s*(?:mode=)?['\"][wx]",
    re.IGNORECASE,
)
_DESTROYING_SQL = re.compile(r"\b(?:drop|truncate|delete\s+from|alter\s+table)\b", re.IGNORECASE)

#: Programs that start another one: their options that take a value, and how many words come first.
_STARTERS: dict[str, tuple[str, int]] = {
    "sudo": ("ughpCcrtTUDR", 0), "doas": ("uC", 0), "env": ("uC", 0), "nohup": ("", 0),
    "nice": ("n", 0), "ionice": ("cnp", 0), "time": ("fo", 0), "timeout": ("ks", 1),
    "stdbuf": ("ioe", 0), "setsid": ("", 0), "exec": ("a", 0), "command": ("", 0),
    "builtin": ("", 0), "busybox": ("", 0), "toybox": ("", 0), "chroot": ("", 1),
    "unshare": ("", 0), "flock": ("wE", 1), "xargs": ("IiLlnPsdEa", 0), "watch": ("n", 0),
    "strace": ("eops", 0), "ssh": ("bcDEeFIiJLlmOopQRSWw", 1), "parallel": ("jIN", 0),
    "runuser": ("ug", 0), "catchsegv": ("", 0), "fakeroot": ("", 0), "caffeinate": ("t", 0),
}  # fmt: skip
_TEXT_FLAGS = {"flock": "-c", "su": "-c", "runuser": "-c", "env": "-S", "script": "-c"}

_SUBCOMMANDS: dict[str, frozenset[str]] = {
    "docker": frozenset(("rm", "rmi", "prune", "kill")),
    "podman": frozenset(("rm", "rmi", "prune", "kill")),
    "kubectl": frozenset(("delete", "drain", "replace")),
    "helm": frozenset(("uninstall", "delete")),
    "terraform": frozenset(("destroy",)),
    "aws": frozenset(("rm", "rb", "delete-object", "terminate-instances")),
    "gh": frozenset(("delete",)),
    "crontab": frozenset(("-r",)),
    "rsync": frozenset(("--delete", "--delete-after", "--delete-before", "--remove-source-files")),
    "tar": frozenset(("--remove-files", "--overwrite")),
}
_SQL = frozenset(("sqlite3", "psql", "mysql", "mariadb", "duckdb"))


def judge(simple: Simple) -> Ruling:
    """Judge one simple command by its program."""
    words = _after_assignments(simple.words)
    if not words:
        return _HARMLESS
    if words[0] in ("for", "case", "select", "in"):
        return _HARMLESS
    if COMPUTED in words[0] or _COMPUTED_NAME.search(words[0]) or not words[0].strip():
        return Ruling(f"the program {words[0][:80]!r} is computed, so what it does cannot be told")
    name = _program(words[0])
    if name in _ALWAYS or name.startswith("mkfs"):
        return Ruling(f"{name} {_ALWAYS.get(name, 'formats a disk')}")
    if name in _STARTERS or name in _TEXT_FLAGS:
        return _judge_starter(name, words[1:])
    if name in _SHELLS or name in _INTERPRETERS:
        return _judge_interpreter(name, words[1:], simple)
    special = _SPECIAL.get(name)
    return special(words[1:]) if special else _judge_by_table(name, words[1:])


def _program(word: str) -> str:
    name = word.replace("\\", "/").rsplit("/", 1)[-1].lower()
    name = name.removesuffix(".exe")
    stem = _VERSION_SUFFIX.sub("", name)
    return stem if stem in _INTERPRETERS else name


def _after_assignments(words: tuple[str, ...]) -> tuple[str, ...]:
    start = 0
    while start < len(words) and _ASSIGNMENT.match(words[start]):
        start += 1
    return words[start:]


def _has(words: tuple[str, ...], short: str, *long: str) -> bool:
    """Whether a short option letter (alone or in a cluster) or a long option is given."""
    for word in words:
        if word == "--":
            return False
        if word.startswith("--"):
            if word.split("=", 1)[0] in long:
                return True
        elif word.startswith("-") and set(short) & set(word[1:]):
            return True
    return False


def _judge_starter(name: str, words: tuple[str, ...]) -> Ruling:
    text = _text_argument(name, words)
    if text:
        return Ruling(lines=(text,))
    valued, skip = _STARTERS.get(name, ("", 0))
    rest = _after_assignments(_after_options(words, valued))[skip:]
    if not rest:
        return _HARMLESS
    # What these start is read by a shell again when it comes as one word: ssh, watch, parallel.
    if name in ("ssh", "watch", "parallel"):
        return Ruling(lines=(" ".join(rest),))
    # `--user root rm x`: whether a long option takes a value is not known, so both are judged.
    doubtful = any(word.startswith("--") and "=" not in word for word in words)
    return Ruling(vectors=(rest, rest[1:]) if doubtful and rest[1:] else (rest,))


def _text_argument(name: str, words: tuple[str, ...]) -> str:
    """Return the command line that `su -c`, `env -S` and the like are given as one word."""
    flag = _TEXT_FLAGS.get(name, "")
    for position, word in enumerate(words if flag else ()):
        cluster = word.startswith("-") and not word.startswith("--") and word.endswith(flag[1:])
        if cluster or word in ("--split-string", "--command"):
            return " ".join(words[position + 1 :])
        if word.startswith((flag, "--split-string=", "--command=")):
            attached = word[len(flag) :] if word.startswith(flag) else word.split("=", 1)[1]
            return " ".join((attached, *words[position + 1 :]))
    return ""


def _after_options(words: tuple[str, ...], valued: str) -> tuple[str, ...]:
    position = 0
    while position < len(words) and words[position].startswith("-"):
        word = words[position]
        position += 1
        if word == "--":
            break
        takes = [at for at, letter in enumerate(word) if letter in valued]
        if not word.startswith("--") and takes and takes[0] == len(word) - 1:
            position += 1
    return words[position:]


def _judge_interpreter(name: str, words: tuple[str, ...], simple: Simple) -> Ruling:
    shell = name in _SHELLS
    for position, word in enumerate(words):
        if not word.startswith("-"):
            break
        if (shell and not word.startswith("--") and "c" in word) or _is_code_flag(word):
            return _judge_code(shell, name, words[position + 1 : position + 2], word)
    fed = simple.piped or any(operator.startswith("<") for operator, _ in simple.redirections)
    script = [word for word in words if not word.startswith("-")]
    if fed and (not script or "-s" in words or "-" in words):
        return Ruling(f"{name} runs text that it is fed, which cannot be judged")
    if name in ("perl", "ruby") and _has(words, "i"):
        return Ruling(f"{name} -i edits files in place")
    return _HARMLESS


def _is_code_flag(word: str) -> bool:
    return word in _CODE_FLAGS or (
        not word.startswith("--") and word[-1:] in ("e", "c") and len(word) <= 5
    )


def _judge_code(shell: bool, name: str, code: tuple[str, ...], flag: str) -> Ruling:
    if not code:
        return Ruling(f"{name} {flag} has no text to judge")
    if shell:
        return Ruling(lines=code)
    if COMPUTED in code[0] or _DESTROYING_CODE.search(code[0]):
        return Ruling(f"{name} {flag} runs code that may remove or change files")
    if "i" in flag:
        return Ruling(f"{name} {flag} edits files in place")
    return _HARMLESS


def _judge_by_table(name: str, words: tuple[str, ...]) -> Ruling:
    hits = _SUBCOMMANDS.get(name, frozenset()) & set(words)
    if hits:
        return Ruling(f"{name} {sorted(hits)[0]} removes things")
    if name in _SQL and any(_DESTROYING_SQL.search(word) for word in words):
        return Ruling(f"{name} drops or deletes data")
    return _HARMLESS


def _judge_mv(words: tuple[str, ...]) -> Ruling:
    if _has(words, "n", "--no-clobber"):
        return _HARMLESS
    return Ruling("mv may replace what is at its target")


def _judge_copy(name: str) -> Callable[[tuple[str, ...]], Ruling]:
    def judge_words(words: tuple[str, ...]) -> Ruling:
        if _has(words, "f", "--force", "--remove-destination"):
            return Ruling(f"{name} -f replaces what is at its target")
        return _HARMLESS

    return judge_words


def _judge_recursive(name: str) -> Callable[[tuple[str, ...]], Ruling]:
    def judge_words(words: tuple[str, ...]) -> Ruling:
        if _has(words, "R", "--recursive"):
            return Ruling(f"{name} -R changes a whole tree")
        return _HARMLESS

    return judge_words


def _judge_tee(words: tuple[str, ...]) -> Ruling:
    targets = [word for word in words if not word.startswith("-") and word != "/dev/null"]
    if targets and not _has(words, "a", "--append"):
        return Ruling(f"tee overwrites {targets[0]!r}")
    return _HARMLESS


def _judge_sed(words: tuple[str, ...]) -> Ruling:
    in_place = _has(words, "i", "--in-place")
    return Ruling("sed -i edits files in place") if in_place else _HARMLESS


def _judge_find(words: tuple[str, ...]) -> Ruling:
    if "-delete" in words:
        return Ruling("find -delete removes what it finds")
    if any(word.startswith(("-fprint", "-fls")) for word in words):
        return Ruling("find writes over a file")
    starts = ("-exec", "-execdir", "-ok", "-okdir")
    vectors = []
    for position, word in enumerate(words):
        if word in starts:
            rest = words[position + 1 :]
            ends = [i for i, w in enumerate(rest) if w in (";", "+")]
            vectors.append(rest[: ends[0]] if ends else rest)
    return Ruling(vectors=tuple(vectors))


def _judge_fd(words: tuple[str, ...]) -> Ruling:
    for position, word in enumerate(words):
        if word in ("-x", "-X", "--exec", "--exec-batch"):
            return Ruling(vectors=(words[position + 1 :],))
    return _HARMLESS


def _judge_awk(words: tuple[str, ...]) -> Ruling:
    if any("system" in word or ">" in word or "|" in word or word == "-i" for word in words):
        return Ruling("awk may run commands or write files")
    return _HARMLESS


_GIT_VALUED = ("-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path")
_GIT_ALWAYS = frozenset(("reset", "rm", "filter-branch", "filter-repo", "update-ref"))


def _judge_git(words: tuple[str, ...]) -> Ruling:
    position = 0
    while position < len(words) and words[position].startswith("-"):
        word = words[position]
        if word == "-c" or word.startswith(("-c", "--config-env")):
            setting = words[position + 1] if word == "-c" and position + 1 < len(words) else word
            if not setting.startswith(("user.", "color.", "advice.", "init.", "safe.")):
                return Ruling(f"git -c {setting!r} changes what git runs")
        position += 2 if word in _GIT_VALUED else 1
    if position >= len(words):
        return _HARMLESS
    verb, rest = words[position], words[position + 1 :]
    found = verb in _GIT_ALWAYS or (verb in _GIT and _GIT[verb](rest))
    return Ruling(f"git {verb} throws work away") if found else _HARMLESS


def _git_push(words: tuple[str, ...]) -> bool:
    forced = _has(words, "fd", "--force", "--force-with-lease", "--mirror", "--delete", "--prune")
    return forced or any(word.startswith(("+", ":")) for word in words)


def _git_checkout(words: tuple[str, ...]) -> bool:
    return _has(words, "fB", "--force") or "--" in words or "." in words


def _git_restore(words: tuple[str, ...]) -> bool:
    return not _has(words, "S", "--staged") or _has(words, "W", "--worktree")


_GIT: dict[str, Callable[[tuple[str, ...]], bool]] = {
    "push": _git_push,
    "checkout": _git_checkout,
    "restore": _git_restore,
    "clean": lambda words: not _has(words, "n", "--dry-run"),
    "switch": lambda words: _has(words, "fC", "--force", "--discard-changes", "--force-create"),
    "branch": lambda words: _has(words, "dDfM", "--delete", "--force"),
    "tag": lambda words: _has(words, "df", "--delete", "--force"),
    "stash": lambda words: words[:1] in (("drop",), ("clear",)),
    "reflog": lambda words: words[:1] in (("expire",), ("delete",)),
    "gc": lambda words: any(word.startswith("--prune") for word in words),
    "worktree": lambda words: words[:1] in (("remove",), ("prune",)),
    "submodule": lambda words: words[:1] == ("deinit",),
    "mv": lambda words: _has(words, "f", "--force"),
}

_SPECIAL: dict[str, Callable[[tuple[str, ...]], Ruling]] = {
    "mv": _judge_mv,
    "cp": _judge_copy("cp"),
    "ln": _judge_copy("ln"),
    "install": _judge_copy("install"),
    "chmod": _judge_recursive("chmod"),
    "chown": _judge_recursive("chown"),
    "chgrp": _judge_recursive("chgrp"),
    "tee": _judge_tee,
    "sed": _judge_sed,
    "find": _judge_find,
    "fd": _judge_fd,
    "awk": _judge_awk,
    "gawk": _judge_awk,
    "mawk": _judge_awk,
    "git": _judge_git,
}

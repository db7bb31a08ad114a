"""Programs that only read as long as their own little language says so: git, find, sed, awk."""

from __future__ import annotations

import re
from collections.abc import Callable

from fmos_trust.shell import Loose

Words = tuple[str, ...]

_GIT_VALUED = frozenset(("-C", "--namespace"))
_GIT_PLAIN = frozenset(("--no-pager", "-P", "--no-optional-locks", "--literal-pathspecs"))
_GIT_READS = frozenset((
    "status", "log", "diff", "show", "blame", "annotate", "ls-files", "ls-tree", "rev-parse",
    "rev-list", "describe", "shortlog", "cat-file", "name-rev", "merge-base", "for-each-ref",
    "show-ref", "show-branch", "whatchanged", "grep", "count-objects", "version", "check-ignore",
    "check-attr", "diff-tree", "diff-index", "diff-files", "cherry", "range-diff",
))  # fmt: skip
_GIT_OPTIONS = ("--output", "--ext-diff", "--textconv", "--open-files-in-pager", "--filters",
                "--exec", "--upload-pack", "--paginate")  # fmt: skip
_GIT_LISTS: dict[str, frozenset[str]] = {
    "branch": frozenset(("-a", "-r", "-v", "-vv", "-l", "--list", "--all", "--remotes",
                         "--show-current", "--verbose")),
    "tag": frozenset(("-l", "--list", "-n")),
    "remote": frozenset(("-v", "--verbose")),
}  # fmt: skip
_GIT_FIRST: dict[str, frozenset[str]] = {
    "stash": frozenset(("list", "show")),
    "config": frozenset(("--get", "--get-all", "--get-regexp", "--list", "-l")),
    "worktree": frozenset(("list",)),
    "reflog": frozenset(("show",)),
    "notes": frozenset(("list", "show")),
    "bisect": frozenset(("log",)),
    "remote": frozenset(("get-url",)),
    "clean": frozenset(("-n", "--dry-run")),
}
_GIT_LOST = frozenset((
    "reset", "rm", "filter-branch", "filter-repo", "update-ref", "clean", "checkout", "restore",
    "switch", "stash", "push", "branch", "tag", "reflog", "gc", "worktree", "rebase",
))  # fmt: skip


def judge_git(words: Words) -> str:
    """Return what a git command does beside reading; empty: nothing."""
    position = 0
    while position < len(words) and words[position].startswith("-"):
        word = words[position]
        if word not in _GIT_VALUED and word not in _GIT_PLAIN:
            return "" if word in ("--version", "--help") else f"git {word} changes what git runs"
        position += 2 if word in _GIT_VALUED else 1
    if position >= len(words):
        return ""
    verb, rest = words[position], words[position + 1 :]
    if isinstance(verb, Loose) or any(isinstance(word, Loose) for word in rest):
        return "git gets words that a shell computes"
    if _git_reads(verb, rest):
        return ""
    return f"git {verb} {'may throw work away' if verb in _GIT_LOST else 'changes something'}"


def _git_reads(verb: str, rest: Words) -> bool:
    if has_option(rest, "", _GIT_OPTIONS) or (verb == "grep" and has_option(rest, "O", ())):
        return False
    if verb in _GIT_READS:
        return True
    if verb == "clean":
        return has_option(rest, "n", ("--dry-run",)) and not has_option(rest, "f", ("--force",))
    if rest[:1] and rest[0] in _GIT_FIRST.get(verb, ()):
        return True
    if verb not in _GIT_LISTS:
        return False
    lists = any(word in ("-l", "--list") for word in rest)
    known = _GIT_LISTS[verb]
    return all(word in known or (lists and not word.startswith("-")) for word in rest)


_FIND_TESTS = frozenset((
    "-name", "-iname", "-path", "-ipath", "-wholename", "-iwholename", "-regex", "-iregex",
    "-regextype", "-type", "-xtype", "-size", "-empty", "-mtime", "-atime", "-ctime", "-mmin",
    "-amin", "-cmin", "-newer", "-anewer", "-cnewer", "-perm", "-user", "-group", "-uid", "-gid",
    "-links", "-inum", "-lname", "-readable", "-writable", "-executable", "-maxdepth", "-mindepth",
    "-depth", "-mount", "-xdev", "-prune", "-quit", "-print", "-print0", "-printf", "-ls", "-o",
    "-or", "-a", "-and", "-not", "-true", "-false", "-follow", "-L", "-P", "-H", "-daystart",
    "-noleaf", "-samefile", "-nouser", "-nogroup", "-E", "-O1", "-O2", "-O3",
))  # fmt: skip
_FIND_STARTS = frozenset(("-exec", "-execdir", "-ok", "-okdir"))


def judge_find(words: Words) -> tuple[str, tuple[Words, ...]]:
    """Return what find does beside reading, and the commands that it starts."""
    vectors: list[Words] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if isinstance(word, Loose):
            return "find gets words that a shell computes", ()
        if word in _FIND_STARTS:
            rest = words[position:]
            ends = [at for at, each in enumerate(rest) if each in (";", "+")]
            vector = rest[: ends[0]] if ends else rest
            vectors.append(vector)
            position += len(vector) + 1
        elif word == "-delete":
            return "find -delete removes what it finds", ()
        elif word.startswith(("-fprint", "-fls")):
            return "find writes over a file", ()
        elif _is_odd_test(word, words[position - 2] if position > 1 else ""):
            return f"find {word} is not known to read only", ()
    return "", tuple(vectors)


def _is_odd_test(word: str, before: str) -> bool:
    """Return whether a word is a test that is not known, and not the value of one that is."""
    unknown = word.startswith("-") and len(word) > 1 and word not in _FIND_TESTS
    return unknown and before not in _FIND_TESTS


_SED_ADDRESS = r"(?:\d+(?:~\d+)?|\$|/(?:\\.|[^/\\\n])*/[IM]*)"
_SED_COMMAND = re.compile(
    rf"[\s;{{]*(?:{_SED_ADDRESS}(?:\s*,\s*[~+]?{_SED_ADDRESS})?)?\s*!?\s*"
    r"(?:\{|[pdqQ=nNDPhHgGxl]|[btT]\s*\w*|:\s*\w+"
    r"|s(?P<d>[^\w\s\\])(?:\\.|(?!(?P=d))[^\\\n])*(?P=d)(?:\\.|(?!(?P=d))[^\\\n])*(?P=d)[gpiIM0-9]*"
    r"|y(?P<y>[^\w\s\\])(?:\\.|(?!(?P=y))[^\\\n])*(?P=y)(?:\\.|(?!(?P=y))[^\\\n])*(?P=y))?"
    r"\s*(?:[;\n}]+\s*|\Z)"
)
_SED_PLAIN = frozenset(("-n", "-E", "-r", "-s", "-u", "-z", "-nE", "-En", "-nr", "-rn",
                        "--quiet", "--silent", "--posix", "--regexp-extended"))  # fmt: skip


def judge_sed(words: Words) -> str:
    """Return what sed does beside reading; empty: nothing."""
    scripts: list[str] = []
    position = 0
    plain: list[str] = []
    while position < len(words):
        word = words[position]
        position += 1
        if isinstance(word, Loose):
            return "sed gets words that a shell computes"
        if word in ("-e", "--expression"):
            scripts.extend(words[position : position + 1])
            position += 1
        elif word.startswith("--expression="):
            scripts.append(word.split("=", 1)[1])
        elif word.startswith("-") and len(word) > 1 and word not in _SED_PLAIN:
            in_place = word.startswith(("-i", "--i")) or "i" in word[1:3]
            return "sed -i edits files in place" if in_place else f"sed {word} is not known"
        elif not word.startswith("-") or word == "-":
            plain.append(word)
    scripts = scripts or plain[:1]
    if all(_sed_reads(script) for script in scripts):
        return ""
    return "sed may write files or run commands"


def _sed_reads(script: str) -> bool:
    position = 0
    while position < len(script):
        match = _SED_COMMAND.match(script, position)
        if match is None or match.end() == position:
            return False
        position = match.end()
    return True


_AWK_ACTS = re.compile(r"system|[>|@]|-i")


def judge_awk(words: Words) -> str:
    """Return what awk does beside reading; empty: nothing."""
    if any(isinstance(word, Loose) for word in words):
        return "awk gets words that a shell computes"
    odd = any(word.startswith("-") and not word.startswith(("-F", "-v")) for word in words)
    if odd or any(_AWK_ACTS.search(word) for word in words):
        return "awk may run commands or write files"
    return ""


def has_option(words: Words, letters: str, long: tuple[str, ...]) -> bool:
    """Return whether a short option letter, alone or in a cluster, or a long one is given.

    A long option may be cut short, as GNU programs let it be.
    """
    for word in words:
        if word == "--":
            return False
        if word.startswith("--"):
            given = word.split("=", 1)[0]
            if any(option.startswith(given) for option in long):
                return True
        elif word.startswith("-") and set(letters) & set(word[1:]):
            return True
    return False


def judge_date(words: Words) -> str:
    """Return what date does beside telling the time; empty: nothing."""
    for position, word in enumerate(words):
        valued = position > 0 and words[position - 1] in ("-d", "-r", "--date", "--reference")
        sets = isinstance(word, Loose) or not word.startswith(("+", "-"))
        if sets and not valued:
            return "date may set the clock"
    return "date sets the clock" if has_option(words, "s", ("--set",)) else ""


LANGUAGES: dict[str, Callable[[Words], str]] = {
    "date": judge_date,
    "git": judge_git,
    "sed": judge_sed,
    "awk": judge_awk,
    "gawk": judge_awk,
    "mawk": judge_awk,
    "nawk": judge_awk,
}

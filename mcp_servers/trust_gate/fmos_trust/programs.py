"""Whether one simple command only reads: what is not known to is an effect.

Programs that only start another one (sudo, env, xargs, sh -c, find -exec) hand that one back to be
judged in turn. What is known of each program is in program_tables.py and readers.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fmos_trust import program_tables as tables
from fmos_trust.readers import LANGUAGES, Words, has_option, judge_find
from fmos_trust.shell import COMPUTED, Loose, Simple


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one command does itself, and what it starts: argument vectors or command lines.

    `fed`: what it starts gets further words from elsewhere. `text`: how many of the first words
    are texts and not paths, -1 for all.
    """

    finding: str = ""
    vectors: tuple[Words, ...] = ()
    lines: tuple[str, ...] = ()
    fed: bool = False
    text: int = 0


_HARMLESS = Ruling()
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[[^\]]*\])?\+?=(.*)", re.DOTALL).fullmatch
_COMPUTED_NAME = re.compile(r"[$*?\[{~]").search
_VERSION_SUFFIX = re.compile(r"[\d.]+$")
#: Variables that no reading program lets change what it does.
_QUIET_NAME = re.compile(
    r"LC_[A-Z]+|LANG|LANGUAGE|TZ|NO_COLOR|FORCE_COLOR|COLUMNS|LINES|[A-Z]"
    r"|(?!path$|fpath$|cdpath$)[a-z_](?:(?!_proxy)[a-z0-9_])*"
).fullmatch
_WORDS_OF_LOOPS = frozenset(("for", "case", "select", "in", "esac"))
_EVALUATING = frozenset(("test", "[", "[[", "printf", *tables.ASSIGNING))


def judge(simple: Simple, *, fed: bool = False) -> Ruling:
    """Judge one simple command by its program; `fed`: words that are not here will follow."""
    words, finding = _after_assignments(simple.words)
    if finding or not words or words[0] in _WORDS_OF_LOOPS:
        return Ruling(finding)
    first = words[0]
    if COMPUTED in first or _COMPUTED_NAME(first.lstrip("[")) or not first.strip():
        return Ruling(f"the program {first[:80]!r} is computed, so what it does cannot be told")
    name, rest = program_of(first), words[1:]
    if _may_evaluate(name, rest):
        return Ruling(f"{name} may run text that is hidden in a value")
    if len(rest) == 1 and name in tables.VERSIONED and rest[0] in tables.VERSION_WORDS:
        return _HARMLESS
    if name in tables.STARTERS:
        return _judge_starter(name, rest)
    if name in tables.SHELLS:
        return _judge_shell(name, rest, simple)
    return _judge_plain(name, rest, fed=fed)


def program_of(word: str) -> str:
    """Return a program's name without its folder; one that is not the system's keeps its path."""
    folder = next((each for each in tables.SYSTEM_FOLDERS if word.startswith(each)), "")
    name = word[len(folder) :]
    if "/" in name or "\\" in name:
        return word
    stem = _VERSION_SUFFIX.sub("", name)
    return stem if stem in tables.INTERPRETERS or stem == "pip" else name


def _judge_plain(name: str, words: Words, *, fed: bool) -> Ruling:
    reads = tables.READERS.get(name)
    if reads is not None:
        return _judge_reader(name, words, reads, fed=fed)
    if name in tables.ASSIGNING:
        return Ruling(_assigned(name, words))
    if name == "find":
        finding, vectors = judge_find(words)
        return Ruling(f"{name} is fed its words" if fed else finding, vectors)
    language = LANGUAGES.get(name)
    if language is not None:
        text = 0 if name == "git" or any(w.startswith(("-e", "-f", "--")) for w in words) else 1
        return Ruling(f"{name} is fed its words" if fed else language(words), text=text)
    if not fed and words and words[0] in tables.SUBCOMMANDS.get(name, ()):
        options = {word for word in words if word.startswith("-")}
        if options <= tables.SUBCOMMAND_OPTIONS:
            return _HARMLESS
    return Ruling(_effect(name))


def _judge_reader(name: str, words: Words, reads: tables.Reads, *, fed: bool) -> Ruling:
    explicit = any(word.startswith(("-e", "-f", "--regexp", "--file")) for word in words)
    text = 0 if explicit and reads.text > 0 else reads.text
    if reads.always:
        return Ruling(text=text)
    if fed or any(isinstance(word, Loose) for word in words):
        return Ruling(f"{name} gets words that cannot be told, and may take them for options")
    operands = sum(1 for word in words if not word.startswith("-") or word == "-")
    if has_option(words, reads.letters, reads.long) or operands > reads.operands:
        return Ruling(f"{name} writes with these options")
    return Ruling(text=text)


def _effect(name: str) -> str:
    lower = name.replace("\\", "/").rsplit("/", 1)[-1].lower().removesuffix(".exe")
    if name not in tables.EFFECTS and "/" in name:
        return f"it runs {name[:80]!r}"
    if lower.startswith("mkfs"):
        return f"{lower} formats a disk"
    if lower in tables.INTERPRETERS:
        return f"{lower} runs code"
    said = tables.EFFECTS.get(lower)
    return f"{lower} {said}" if said else f"{name[:80]} is not known to read only"


def _after_assignments(words: Words) -> tuple[Words, str]:
    """Return the words after `A=1 B=2`, and what is wrong with these assignments."""
    start = 0
    finding = ""
    while start < len(words) and _ASSIGNMENT(words[start]):
        finding = finding or _assignment(words[start])
        start += 1
    return words[start:], finding


def _assignment(word: str) -> str:
    match = _ASSIGNMENT(word)
    if match is None:
        return ""
    if not _QUIET_NAME(match[1]):
        return f"it sets {match[1]}, which may change what programs do"
    if _holds_substitution(match[2]):
        return f"it puts text that may be run later into {match[1]}"
    return ""


def _assigned(name: str, words: Words) -> str:
    for word in words:
        if word.startswith("-") or _ASSIGNMENT(word):
            finding = _assignment(word)
        else:
            finding = "" if _QUIET_NAME(word) else f"{name} sets {word[:80]}"
        if finding:
            return finding
    return ""


def _may_evaluate(name: str, words: Words) -> bool:
    return name in _EVALUATING and any(map(_holds_substitution, words))


def _holds_substitution(text: str) -> bool:
    return "`" in text or "$(" in text.replace(COMPUTED, "")


def _judge_starter(name: str, words: Words) -> Ruling:
    starts = tables.STARTERS[name]
    finding = f"{name} {starts.changes}" if starts.changes else ""
    text = _text_argument(name, words)
    if text:
        return Ruling(finding, lines=(text,))
    if name == "command" and words[:1] in (("-v",), ("-V",)):
        return Ruling(text=-1)
    options = words[: len(words) - len(_after_options(words, starts))]
    if has_option(options, starts.letters, starts.long):
        finding = f"{name} does more with these options"
    rest, assigned = _after_assignments(_after_options(words, starts))
    rest, finding = rest[starts.skip :], finding or assigned
    if not rest:
        return Ruling(finding or ("" if starts.alone else f"{name} starts a shell or nothing"))
    if name in tables.READ_AGAIN:
        return Ruling(finding, lines=(" ".join(rest),), fed=name == "parallel")
    # `--user root rm x`: whether an unknown option takes a value is not known: both are judged.
    doubtful = any(_may_take_word(word, starts) for word in options)
    vectors = (rest, rest[1:]) if doubtful and rest[1:] else (rest,)
    return Ruling(finding, vectors, fed=name == "xargs")


def _may_take_word(word: str, starts: tables.Starts) -> bool:
    return word.startswith("--") and word != "--" and "=" not in word and word not in starts.words


def _text_argument(name: str, words: Words) -> str:
    """Return the command line that `su -c`, `env -S` and the like are given as one word."""
    flag = tables.TEXT_FLAGS.get(name, "")
    for position, word in enumerate(words if flag else ()):
        cluster = word.startswith("-") and not word.startswith("--") and word.endswith(flag[1:])
        if cluster or word in ("--split-string", "--command"):
            return " ".join(words[position + 1 :])
        if word.startswith((flag, "--split-string=", "--command=")):
            attached = word[len(flag) :] if word.startswith(flag) else word.split("=", 1)[1]
            return " ".join((attached, *words[position + 1 :]))
    return ""


def _after_options(words: Words, starts: tables.Starts) -> Words:
    position = 0
    while position < len(words) and words[position].startswith("-"):
        word = words[position]
        position += 1
        if word == "--":
            break
        position += word in starts.words or _takes_next(word, starts.valued)
    return words[position:]


def _takes_next(word: str, valued: str) -> bool:
    """Return whether a cluster of short options ends in one that takes the next word."""
    takes = [at for at, letter in enumerate(word) if letter in valued]
    return not word.startswith("--") and bool(takes) and takes[0] == len(word) - 1


def _judge_shell(name: str, words: Words, simple: Simple) -> Ruling:
    """Judge `sh -c TEXT`; a script, text that is fed, and odd options are effects."""
    position, reads_text = 0, False
    while position < len(words) and words[position][:1] in ("-", "+"):
        word = words[position]
        position += 2 if word in tables.SHELL_VALUED else 1
        if word.startswith("--"):
            if word not in tables.SHELL_PLAIN:
                return Ruling(f"{name} {word} is not known")
        elif word not in tables.SHELL_VALUED:
            reads_text = reads_text or "c" in word[1:]
    if reads_text and position < len(words):
        return Ruling(lines=(words[position],))
    fed = simple.piped or any(operator.startswith("<") for operator, _ in simple.redirections)
    if fed and position >= len(words):
        return Ruling(f"{name} runs text that it is fed, which cannot be judged")
    return Ruling(f"{name} runs a script or a shell of its own")


def paths_in(words: Words, text: int) -> Iterator[str]:
    """Yield the words, and parts of words, that may be paths: `--file=X`, `-fX`, `@X`, `if=X`."""
    left = text
    for word in words:
        if left < 0:
            return
        if word.startswith("-"):
            yield from _parts_of_option(word)
        elif left > 0:
            left -= 1
        else:
            yield word
            if "://" not in word:
                yield from (part for mark in "=@:," for part in word.split(mark)[1:])


def _parts_of_option(word: str) -> Iterator[str]:
    if "=" in word:
        yield word.split("=", 1)[1]
    if not word.startswith("--") and len(word) > 2:
        yield word[2:]

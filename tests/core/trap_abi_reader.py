"""The trap ABI once more, from docs/spec/trap-abi.md alone and with the standard library only."""

import json
import re
import unicodedata

DOUBT = re.compile(
    r"[\x00-\x1f\x7f\\%$*?\[{]|^[A-Za-z][A-Za-z0-9+.-]*:|^~|^\s|\s\Z|\s/|[^/]\.(?:/|\Z)"
)
GLOB = ((r"/\*\*/", "/(?:.*/)?"), (r"/\*\*\Z", "(?:/.*)?"), (r"\*\*", ".*"), (r"\*", "[^/]*"))
LOOKS = re.compile(r"/|\\\\|~(\w*[/\\]|$)|\.\.?[/\\]|file:|[a-z]:[/\\](?!/)|%2[fe]|%7e")
TOKEN = re.compile(
    "|".join(f"({pattern})" for pattern, _ in (*GLOB, (r"\?", "[^/]"))) + "|(.)", re.S
)


def lower(text):
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def ordered(value):
    if isinstance(value, dict):
        return {k: ordered(value[k]) for k in sorted(value, key=lambda k: k.encode("utf-16-be"))}
    return [ordered(item) for item in value] if isinstance(value, list) else value


def canonical(value):
    return json.dumps(ordered(value), ensure_ascii=False, separators=(",", ":"))


def signing_input(document):
    body = {name: value for name, value in document.items() if name != "signature"}
    return b"fmos/trap-table/1\n" + canonical(body).encode()


def normalise(path):
    parts = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def plain(path):
    strange = not path or DOUBT.search(path) or unicodedata.normalize("NFKC", path) != path
    return None if strange or ".." in path.split("/") else normalise(path)


def covered(scopes, path):
    return bool(scopes) and all(any(glob(each, path) for each in scope) for scope in scopes)


def glob(pattern, path):
    meant = [*(text for _, text in GLOB), "[^/]"]
    parts = [
        (m[6] and re.escape(m[6])) or meant[m.lastindex - 1]
        for m in TOKEN.finditer(normalise(pattern))
    ]
    return re.fullmatch("".join(parts), path, re.S) is not None


def names(guarded, value, depth=0):
    if isinstance(value, str):
        return any(lower(text) in lower(value) for text in guarded)
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return isinstance(value, list) and (
        depth >= 8 or any(names(guarded, v, depth + 1) for v in value)
    )


def readable(table, rule, value):
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, str) and readable(table, rule, v) for v in value)
    path = plain(value) if isinstance(value, str) else None
    if path is None or not covered(rule["read_scopes"], path):
        return False
    low, guarded = lower(path), [lower(each) for each in table["guarded"]]
    below = any(f"{low}/".startswith(f"{lower(each)}/") for each in table["protected"] + guarded)
    above = any(f"{each}/".startswith(low.rstrip("/") + "/") and low != each for each in guarded)
    called = {each.rpartition("/")[2] for each in guarded} & set(low.split("/"))
    return not (below or above or (called and not value.startswith("/")))


def looks_like_path(text):
    low = unicodedata.normalize("NFKC", text).lower()
    parts = re.split(r"[/\\]|%2f|%5c", low.replace("%2e", "."))
    dots = any(part == ".." for part in parts[:-1]) or parts[-1].rstrip() == ".."
    only = len(parts) > 1 or low.strip() == ".."
    short = len(text) <= 4096 and "\n" not in text
    return short and (bool(LOOKS.match(low.lstrip())) or (dots and only))


def strays(table, rule, value):
    if isinstance(value, str):
        return looks_like_path(value) and not readable(table, rule, value)
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return isinstance(value, list) and any(strays(table, rule, each) for each in value)


def innocuous(table, kind, name, arguments, now_ns):
    rule = next((each for each in table["rules"] if each["tool"] == name), None)
    if not table["issued_ns"] <= now_ns < table["expires_ns"] or kind not in table["local"]:
        return False
    if rule is None or rule["operation_class"] != "innocuous":
        return False
    paths = rule["path_arguments"]
    others = [value for key, value in arguments.items() if key not in paths]
    doubt = any(names(table["guarded"], v) or strays(table, rule, v) for v in others)
    return not doubt and all(
        key in arguments and readable(table, rule, arguments[key]) for key in paths
    )

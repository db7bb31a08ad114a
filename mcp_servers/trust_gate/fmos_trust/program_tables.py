"""What is known of programs, as data: which only read, with which options, and what others do.

A program that is not here, or an option that is listed as changing something, is an effect. The
tables are short on purpose: reading what was left out costs a question, the opposite a file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reads:
    """A program that only reads. `letters` and `long` are the options with which it does not.

    `operands` is how many words without a dash it may have before it writes to the next one.
    `text` says how many of its first words are patterns or texts and never paths; -1 is all.
    """

    letters: str = ""
    long: tuple[str, ...] = ()
    operands: int = 1_000_000
    text: int = 0

    @property
    def always(self) -> bool:
        """Whether it reads whatever words it is given."""
        return not self.letters and not self.long and self.operands >= 1_000_000


_PLAIN = Reads()
_SAYS = Reads(text=-1)

READERS: dict[str, Reads] = {
    **dict.fromkeys(
        ("cat", "tac", "head", "tail", "wc", "nl", "cut", "rev", "fold", "expand", "unexpand",
         "paste", "join", "comm", "od", "hexdump", "strings", "ls", "dir", "vdir", "stat",
         "readlink", "realpath", "pwd", "test", "[", "[[", "du", "df", "free", "uptime", "ps",
         "md5sum", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum", "cksum", "sum",
         "b2sum", "cmp", "diff", "diff3", "cd", "dirs", "tty", "nproc", "arch", "column",
         "zcat", "bzcat", "xzcat", "wait", "jobs", "times", "exit", "return", "break", "continue",
         "shift", "set"),
        _PLAIN,
    ),
    **dict.fromkeys(
        ("echo", "true", "false", ":", "sleep", "seq", "whoami", "id", "groups", "uname",
         "which", "whereis", "type", "tr", "expr", "factor", "numfmt", "basename", "dirname",
         "printenv", "locale", "getconf", "pgrep"),
        _SAYS,
    ),
    **dict.fromkeys(("grep", "egrep", "fgrep", "zgrep", "look"), Reads(text=1)),
    "jq": Reads(text=1),
    "rg": Reads(long=("--pre", "--hostname-bin"), text=1),
    "printf": Reads(letters="v", text=-1),
    "hostname": Reads(letters="bF", long=("--boot", "--file"), operands=0),
    "sort": Reads(letters="oST", long=("--output", "--compress-program", "--temporary-directory")),
    "uniq": Reads(operands=1),
    "tree": Reads(letters="oR", long=("--output",)),
    "file": Reads(letters="CmS", long=("--compile", "--magic-file", "--no-sandbox")),
    "less": Reads(letters="oOkKtT", long=("--log-file", "--LOG-FILE", "--lesskey")),
    "more": Reads(),
    "sdiff": Reads(letters="o", long=("--output", "--diff-program")),
    "xmllint": Reads(letters="o", long=("--output", "--shell", "--load-trace", "--postvalid")),
    "yq": Reads(letters="is", long=("--inplace", "--split-exp", "--in-place"), text=1),
    "base64": Reads(letters="o", long=("--output",)),
    "fd": Reads(letters="xXg", long=("--exec", "--exec-batch", "--gen-completions"), text=1),
}  # fmt: skip

#: Subcommands that only read, when every option is in SUBCOMMAND_OPTIONS.
SUBCOMMANDS: dict[str, frozenset[str]] = {
    "pip": frozenset(("list", "show", "freeze")),
    "docker": frozenset(("ps", "images", "inspect", "logs", "version", "info")),
    "podman": frozenset(("ps", "images", "inspect", "logs", "version", "info")),
    "kubectl": frozenset(("get", "describe", "logs", "version")),
    "systemctl": frozenset(("status", "is-active", "is-enabled", "list-units")),
    "cargo": frozenset(("tree",)),
}
SUBCOMMAND_OPTIONS = frozenset((
    "-a", "-l", "-q", "-v", "-A", "-n", "-w", "--all", "--json", "--all-namespaces", "--namespace",
    "-o", "--tail", "--since", "--outdated", "--no-pager", "--no-trunc",
))  # fmt: skip

#: Programs that may be asked for their version or help.
VERSIONED = frozenset((
    "python", "node", "npm", "npx", "pip", "pytest", "go", "cargo", "rustc", "java", "javac", "gcc",
    "clang", "make", "cmake", "docker", "podman", "kubectl", "git", "ruby", "perl", "php", "lua",
    "deno", "bun", "uv", "ruff", "bash", "sh", "zsh", "curl", "wget", "tar", "sed", "awk",
))  # fmt: skip
VERSION_WORDS = frozenset(("--version", "--help", "-V", "version"))

#: What is said of an effect; every other unknown program is said to be unknown.
EFFECTS: dict[str, str] = {
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
    "function": "gives a command another meaning", "mv": "may replace what is at its target",
    "cp": "may replace what is at its target", "install": "may replace what is at its target",
    "ln": "makes a link, which may lead anywhere", "chmod": "changes who may do what",
    "chown": "changes an owner", "chgrp": "changes a group", "touch": "makes or changes files",
    "mkdir": "makes folders", "tee": "writes what it is fed to files", "source": "runs a script",
    ".": "runs a script", "make": "runs what a Makefile says", "pytest": "runs the project's code",
    "npm": "runs or changes packages", "npx": "runs a package", "pip": "changes packages",
    "curl": "sends to, or fetches from, another machine", "scp": "copies to another machine",
    "wget": "fetches from another machine", "rsync": "copies over what is there",
    "ssh": "runs on another machine", "kill": "ends processes", "pkill": "ends processes",
    "tar": "packs or unpacks files", "unzip": "unpacks files", "gzip": "replaces files",
    "crontab": "changes what runs later", "at": "runs text later", "docker": "runs containers",
}  # fmt: skip

SHELLS = frozenset(("sh", "bash", "zsh", "dash", "ksh", "ash", "fish", "mksh"))
INTERPRETERS = frozenset((
    "python", "pypy", "perl", "ruby", "node", "php", "lua", "deno", "bun", "tclsh", "expect",
    "osascript", "powershell", "pwsh", "cmd", "r", "rscript", "julia", "java", "swift", "ghci",
))  # fmt: skip
#: Options of shells that take a word, and those that change nothing.
SHELL_VALUED = frozenset(("-o", "+o", "-O", "+O"))
SHELL_PLAIN = frozenset(("--norc", "--noprofile", "--posix", "--login", "--"))


@dataclass(frozen=True, slots=True)
class Starts:
    """A program that starts another. `valued` are its short options that take a word.

    `skip` is how many words come before the program, `changes` what it does itself besides,
    `letters` and `long` the options with which it does more, `alone` whether it may stand alone.
    `words` are its long options that take a word.
    """

    valued: str = ""
    skip: int = 0
    changes: str = ""
    letters: str = ""
    long: tuple[str, ...] = ()
    alone: bool = False
    words: tuple[str, ...] = ()


STARTERS: dict[str, Starts] = {
    "sudo": Starts("ughpCcrtTUDR", letters="e", long=("--edit",), words=("--user", "--group")),
    "doas": Starts("uC"),
    "env": Starts("uC", alone=True, words=("--unset", "--chdir")),
    "nohup": Starts(),
    "nice": Starts("n", alone=True, words=("--adjustment",)),
    "ionice": Starts("cnp"),
    "time": Starts("fo", letters="o", long=("--output",), alone=True),
    "timeout": Starts("ks", 1, words=("--signal", "--kill-after")),
    "stdbuf": Starts("ioe"),
    "setsid": Starts(),
    "exec": Starts("a"),
    "command": Starts(alone=True),
    "builtin": Starts(alone=True),
    "busybox": Starts(),
    "toybox": Starts(),
    "xargs": Starts("IiLlnPsdEa", alone=True),
    "watch": Starts("n"),
    "caffeinate": Starts("t"),
    "chroot": Starts("", 1, "changes the root folder"),
    "unshare": Starts(changes="makes name spaces"),
    "nsenter": Starts("tSG", changes="enters name spaces"),
    "flock": Starts("wE", 1, "makes a lock file"),
    "strace": Starts("eops", changes="writes a trace"),
    "ssh": Starts("bcDEeFIiJLlmOopQRSWw", 1, "runs on another machine"),
    "parallel": Starts("jIN", changes="runs many commands"),
    "runuser": Starts("ug", changes="runs as another user"),
    "su": Starts("", 1, "runs as another user"),
    "script": Starts("", 1, "writes a transcript"),
    "fakeroot": Starts(changes="changes what files say of themselves"),
    "catchsegv": Starts(),
}
TEXT_FLAGS = {"flock": "-c", "su": "-c", "runuser": "-c", "env": "-S", "script": "-c"}
#: What these start is read by a shell again.
READ_AGAIN = frozenset(("ssh", "watch", "parallel"))
#: Builtins that assign: their words are judged as assignments.
ASSIGNING = frozenset(("export", "declare", "typeset", "local", "readonly", "read"))
SYSTEM_FOLDERS = ("/bin/", "/usr/bin/")

"""What POSIX (and Linux, where POSIX leaves it open) says, in the groups of pjdfstest."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial

from .runner import ALL_TYPES, OTHER, USER, Checks

Group = Callable[[Checks], None]
GROUPS: dict[str, Group] = {}
NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2


def group(function: Group) -> Group:
    """Register a group under its name."""
    GROUPS[function.__name__.replace("_", " ")] = function
    return function


# What each call needs besides the path that is tested; "two" has the path in both places.
_ON_EXISTING = {
    "chmod": (0o642,), "chown": (USER, USER), "truncate": (123,), "utime": (None,),
    "unlink": (), "rmdir": (), "readlink": (), "stat": (),
}  # fmt: skip
_MAKING = {
    "mkdir": (0o755,),
    "mkfifo": (0o644,),
    "mknod": (0o644,),
    "open": (os.O_CREAT | os.O_RDWR,),
}
_CALLS = _ON_EXISTING | _MAKING


def _everywhere(path: str) -> list[tuple[str, tuple[object, ...]]]:
    """Return every call with a path in each place where it takes one."""
    single = [(name, (path, *more)) for name, more in _CALLS.items()]
    return [*single, ("symlink", ("test", path))]


def _in_pairs(t: Checks, path: str) -> list[tuple[str, tuple[object, ...]]]:
    """Return the calls that take two paths, with one in either place."""
    there, free = t.new(), t.new()
    t.make("regular", there)
    return [
        ("link", (path, free)), ("link", (there, path)),
        ("rename", (path, free)), ("rename", (there, path)),
    ]  # fmt: skip


# -- errors that every call has ----------------------------------------------------------------


@group
def not_a_directory(t: Checks) -> None:
    """A file in the middle of a path is ENOTDIR."""
    for kind in ("regular", "fifo", "block", "char", "socket"):
        above = t.new()
        t.make("dir", above)
        middle = f"{above}/middle"
        t.make(kind, middle)
        for name, arguments in [*_everywhere(f"{middle}/test"), *_in_pairs(t, f"{middle}/test")]:
            t.expect("ENOTDIR", name, *arguments)
        t.remove(middle, above)


@group
def name_too_long(t: Checks) -> None:
    """A name of 255 bytes works, one of 256 and a path of 4096 are ENAMETOOLONG."""
    above = t.new()
    t.make("dir", above)
    longest = "x" * 255
    for kind in ALL_TYPES:
        if kind != "socket":
            t.make(kind, f"{above}/{longest}")
            t.stat_is(f"{above}/{longest}", nlink=2 if kind == "dir" else 1)
            t.expect(0, "rename", f"{above}/{longest}", f"{above}/{'y' * 255}")
            t.remove(f"{above}/{'y' * 255}")
    for path in (f"{above}/{longest}x", above + "/x" * 2100):
        for name, arguments in [*_everywhere(path), *_in_pairs(t, path)]:
            t.expect("ENAMETOOLONG", name, *arguments)
    t.expect("ENAMETOOLONG", "symlink", "x" * 4096, f"{above}/link")
    t.expect(0, "symlink", "x" * 4095, f"{above}/link")
    t.is_equal(len(os.readlink(f"{above}/link")), 4095, "length of a target")
    t.stat_is(f"{above}/link", size=4095)
    t.remove(f"{above}/link", above)


@group
def not_found(t: Checks) -> None:
    """A missing directory in a path, and a missing file, are ENOENT."""
    above = t.new()
    t.make("dir", above)
    missing = f"{above}/none/test"
    for name, arguments in [*_everywhere(missing), *_in_pairs(t, missing)]:
        t.expect("ENOENT", name, *arguments)
    for name, more in _ON_EXISTING.items():
        t.expect("ENOENT", name, f"{above}/none", *more)
    t.expect("ENOENT", "open", f"{above}/none", os.O_RDONLY)
    t.expect("ENOENT", "rename", f"{above}/none", f"{above}/other")
    t.expect("ENOENT", "link", f"{above}/none", f"{above}/other")
    t.expect("ENOENT", "symlink", "", f"{above}/other")
    t.remove(above)


@group
def loops(t: Checks) -> None:
    """Symbolic links in a circle are ELOOP."""
    one, two = t.new(), t.new()
    t.expect(0, "symlink", two, one)
    t.expect(0, "symlink", one, two)
    for path in (f"{one}/test", f"{two}/test"):
        for name, arguments in [*_everywhere(path), *_in_pairs(t, path)]:
            t.expect("ELOOP", name, *arguments)
    for name in ("chmod", "chown", "truncate", "utime", "stat"):
        t.expect("ELOOP", name, one, *_ON_EXISTING[name])
    t.expect("ELOOP", "open", one, os.O_RDONLY)
    t.remove(one, two)


@group
def search_permission(t: Checks) -> None:
    """A directory that may not be searched is EACCES for all below it."""
    top = t.new()
    t.expect(0, "mkdir", top, 0o755)
    t.expect(0, "chown", top, USER, USER)
    inner = f"{top}/inner"
    t.expect(0, "mkdir", inner, 0o755, uid=USER)
    t.expect(0, "open", f"{inner}/file", os.O_CREAT, 0o644, uid=USER)
    t.expect(0, "chmod", inner, 0o644, uid=USER)
    for name, arguments in _everywhere(f"{inner}/file"):
        t.expect("EACCES", name, *arguments, uid=USER)
    for pair in ((f"{inner}/file", f"{top}/new"), (f"{top}/none", f"{inner}/new")):
        for name in ("link", "rename"):
            t.expect(("EACCES", "ENOENT"), name, *pair, uid=USER)
    t.expect(0, "chmod", inner, 0o755, uid=USER)
    t.expect(0, "truncate", f"{inner}/file", 7, uid=USER)
    t.remove(f"{inner}/file", inner, top)


@group
def write_permission(t: Checks) -> None:
    """A directory that may not be written is EACCES for names that come and go."""
    top = t.new()
    t.expect(0, "mkdir", top, 0o755)
    t.expect(0, "chown", top, USER, USER)
    inner = f"{top}/inner"
    t.expect(0, "mkdir", inner, 0o755, uid=USER)
    t.expect(0, "open", f"{inner}/file", os.O_CREAT, 0o644, uid=USER)
    t.expect(0, "mkdir", f"{inner}/dir", 0o755, uid=USER)
    t.expect(0, "chmod", inner, 0o555, uid=USER)
    for name, more in _MAKING.items():
        t.expect("EACCES", name, f"{inner}/new", *more, uid=USER)
    t.expect("EACCES", "symlink", "test", f"{inner}/new", uid=USER)
    t.expect("EACCES", "link", f"{inner}/file", f"{inner}/new", uid=USER)
    t.expect("EACCES", "rename", f"{inner}/file", f"{top}/new", uid=USER)
    t.expect("EACCES", "rename", f"{inner}/file", f"{inner}/new", uid=USER)
    t.expect("EACCES", "unlink", f"{inner}/file", uid=USER)
    t.expect("EACCES", "rmdir", f"{inner}/dir", uid=USER)
    t.expect(0, "chmod", inner, 0o755, uid=USER)
    t.remove(f"{inner}/file", f"{inner}/dir", inner, top)


@group
def exists(t: Checks) -> None:
    """A name that is taken is EEXIST for whoever makes one."""
    for kind in ALL_TYPES:
        path, other = t.new(), t.new()
        t.make(kind, path)
        t.make("regular", other)
        t.expect("EEXIST", "mkdir", path, 0o755)
        t.expect("EEXIST", "mkfifo", path, 0o644)
        t.expect("EEXIST", "mknod", path, 0o644, "char", os.makedev(1, 3))
        t.expect("EEXIST", "symlink", "test", path)
        t.expect("EEXIST", "link", other, path)
        t.expect("EEXIST", "open", path, os.O_CREAT | os.O_EXCL, 0o644)
        t.expect(("EADDRINUSE",), "bind", path)
        t.remove(path, other)


# -- chmod -------------------------------------------------------------------------------------


@group
def chmod(t: Checks) -> None:
    """Modes are set, through links too; only the owner and root may."""
    for kind in ALL_TYPES:
        if kind == "symlink":
            continue
        path, link = t.new(), t.new()
        t.make(kind, path)
        t.changes(("ctime", path), by=lambda path=path: t.expect(0, "chmod", path, 0o111))
        t.stat_is(path, mode=0o111)
        t.expect(0, "symlink", path, link)
        t.expect(0, "chmod", link, 0o222)
        t.stat_is(path, mode=0o222)
        t.stat_is(link, mode=0o777)
        t.expect(0, "chown", path, USER, USER)
        t.expect(0, "chmod", path, 0o642, uid=USER)
        t.stays(
            ("ctime", path),
            by=lambda path=path: t.expect("EPERM", "chmod", path, 0o641, uid=OTHER),
        )
        t.stat_is(path, mode=0o642, uid=USER, gid=USER)
        t.remove(link, path)


@group
def chmod_special_bits(t: Checks) -> None:
    """set-user-id, set-group-id and the sticky bit: who may set them, and when they go."""
    path, above = t.new(), t.new()
    t.make("regular", path, (USER, USER))
    for mode in (0o4755, 0o2755, 0o1755, 0o7777, 0o644):
        t.expect(0, "chmod", path, mode)
        t.stat_is(path, mode=mode)
    t.expect(0, "chmod", path, 0o2755, uid=USER)
    t.stat_is(path, mode=0o2755)
    t.expect(0, "chown", path, USER, OTHER)
    t.expect(0, "chmod", path, 0o2755, uid=USER)
    t.stat_is(path, mode=0o755)  # not in the file's group
    t.expect(0, "chmod", path, 0o2755, uid=USER, gid=USER, groups=(OTHER,))
    t.stat_is(path, mode=0o2755)
    t.expect(0, "chmod", path, 0o1644, uid=USER)
    t.make("dir", above, (USER, USER))
    t.expect(0, "chmod", above, 0o1755, uid=USER)
    t.stat_is(above, mode=0o1755)
    for mode, left in ((0o4777, 0o777), (0o2777, 0o777), (0o6777, 0o777)):
        t.expect(0, "chmod", path, mode)
        t.expect(0, "write", path, b"x", uid=OTHER, gid=OTHER + 1)
        t.stat_is(path, mode=left)
    t.expect(0, "chmod", path, 0o6777)
    t.expect(0, "write", path, b"x")
    t.stat_is(path, mode=0o6777)  # root keeps them
    t.expect(0, "truncate", path, 1, uid=OTHER, gid=OTHER + 1)
    t.stat_is(path, mode=0o777)
    t.remove(path, above)


# -- chown -------------------------------------------------------------------------------------


@group
def chown(t: Checks) -> None:
    """Root gives files away; an owner may only choose among the groups it is in."""
    for kind in ALL_TYPES:
        path, link = t.new(), t.new()
        t.make(kind, path)
        call = "lchown" if kind == "symlink" else "chown"
        t.changes(
            ("ctime", path), by=lambda call=call, path=path: t.expect(0, call, path, 123, 456)
        )
        t.stat_is(path, uid=123, gid=456)
        t.expect(0, call, path, 0, 0)
        t.stat_is(path, uid=0, gid=0)
        t.expect(0, call, path, -1, 77)
        t.stat_is(path, uid=0, gid=77)
        t.expect(0, call, path, 78, -1)
        t.stat_is(path, uid=78, gid=77)
        if kind != "symlink":
            t.expect(0, "symlink", path, link)
            t.expect(0, "chown", link, 12, 34)
            t.stat_is(path, uid=12, gid=34)
            t.stat_is(link, uid=0, gid=0)
            t.expect(0, "lchown", link, 56, 78)
            t.stat_is(path, uid=12, gid=34)
            t.stat_is(link, uid=56, gid=78)
            t.remove(link)
        t.expect(0, call, path, USER, OTHER)
        t.expect(0, call, path, -1, USER, uid=USER, gid=USER)
        t.stat_is(path, uid=USER, gid=USER)
        t.expect(0, call, path, USER, 65532, uid=USER, gid=USER, groups=(65532,))
        t.stat_is(path, uid=USER, gid=65532)
        for ids, who in (((OTHER, -1), USER), ((-1, OTHER), USER), ((USER, USER), OTHER)):
            refuse = partial(t.expect, "EPERM", call, path, *ids, uid=who)
            t.stays(("ctime", path), by=refuse)
        t.remove(path)


@group
def chown_clears_set_id(t: Checks) -> None:
    """Changing the owner takes set-user-id and set-group-id from a file."""
    path = t.new()
    t.make("regular", path, (USER, USER))
    for mode, left in ((0o6555, 0o555), (0o4755, 0o755), (0o2755, 0o755)):
        t.expect(0, "chmod", path, mode)
        t.expect(0, "chown", path, USER, OTHER, uid=USER, gid=USER, groups=(OTHER,))
        t.stat_is(path, mode=left)
        t.expect(0, "chmod", path, mode)
        t.expect(0, "chown", path, USER, USER)
        t.stat_is(path, mode=left)
    above = t.new()
    t.make("dir", above)
    t.expect(0, "chmod", above, 0o6755)
    t.expect(0, "chown", above, USER, USER)
    t.stat_is(above, mode=0o6755)
    t.remove(path, above)


# -- truncate and friends ------------------------------------------------------------------------


@group
def truncate(t: Checks) -> None:
    """Files are cut and grown; times change; errors leave them."""
    for call in ("truncate", "ftruncate"):
        path = t.new()
        t.make("regular", path)
        for size in (1234567, 567, 0, 5000):
            t.expect(0, call, path, size)
            t.stat_is(path, size=size)
        t.changes(("ctime", path), ("mtime", path),
                  by=lambda call=call, path=path: t.expect(0, call, path, 123))  # fmt: skip
        t.expect(0, "write", path, b"abc")
        t.expect(0, call, path, 2)
        t.expect(0, call, path, 4)
        with open(path, "rb") as file:
            t.is_equal(file.read(), b"ab\0\0", "what is left")
        for refuse in (
            partial(t.expect, "EACCES", call, path, 9, uid=USER),
            partial(t.expect, "EINVAL", call, path, -1),
        ):
            t.stays(("ctime", path), ("mtime", path), by=refuse)
        t.expect(("EFBIG", "EINVAL", 0), call, path, 999999999999999)
        t.expect(0, call, path, 0)
        t.remove(path)
    path = t.new()
    t.make("dir", path)
    t.expect("EISDIR", "truncate", path, 123)
    t.expect("EISDIR", "open", path, os.O_WRONLY)
    t.expect("EISDIR", "open", path, os.O_RDWR)
    t.expect("EISDIR", "open", path, os.O_RDONLY | os.O_TRUNC)
    t.remove(path)
    t.make("regular", path)
    t.expect("EINVAL", "ftruncate", path, 12, os.O_RDONLY)
    t.remove(path)


@group
def busy_programs(t: Checks) -> None:
    """A program that runs is ETXTBSY for who writes to it."""
    path = t.new()
    with open("/bin/sleep", "rb") as source, open(path, "wb") as target:
        target.write(source.read())
    t.expect(0, "chmod", path, 0o755)
    runs, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.execv(path, [path, "20"])
    os.close(told)
    os.read(runs, 1)  # ends when the program began
    os.close(runs)
    try:
        t.expect("ETXTBSY", "truncate", path, 123)
        t.expect("ETXTBSY", "open", path, os.O_WRONLY)
        t.expect("ETXTBSY", "open", path, os.O_RDONLY | os.O_TRUNC)
        t.expect(0, "open", path, os.O_RDONLY)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    t.remove(path)


@group
def posix_fallocate(t: Checks) -> None:
    """Files grow to a size, and never shrink."""
    path = t.new()
    t.make("regular", path)
    for offset, length, size in ((0, 567, 567), (20000, 3456, 23456), (0, 10, 23456)):
        t.expect(0, "posix_fallocate", path, offset, length)
        t.stat_is(path, size=size)
    t.changes(("ctime", path), by=lambda: t.expect(0, "posix_fallocate", path, 0, 30000))
    for arguments in ((-1, 10), (0, 0), (0, -1)):
        t.expect("EINVAL", "posix_fallocate", path, *arguments)
    t.remove(path)


# -- making ------------------------------------------------------------------------------------


@group
def modes_and_owners_of_new_names(t: Checks) -> None:
    """What is made has the mode less the mask, its maker's id, and the group as the rules say."""
    for name, more in (
        ("mkdir", ()),
        ("mkfifo", ()),
        ("mknod", ()),
        ("open", (os.O_CREAT | os.O_EXCL,)),
    ):
        top = t.new()
        t.make("dir", top, (USER, USER))
        path = f"{top}/new"
        for mode, mask, left in ((0o755, 0, 0o755), (0o151, 0, 0o151), (0o151, 0o77, 0o100),
                                 (0o345, 0o70, 0o305), (0o345, 0o501, 0o244)):  # fmt: skip
            t.expect(0, name, path, *more, mode, umask=mask)
            t.stat_is(path, mode=left, uid=0, gid=0)
            t.remove(path)
        t.changes(("ctime", top), ("mtime", top),
                  by=lambda name=name, path=path, more=more:
                  t.expect(0, name, path, *more, 0o644, uid=USER, gid=OTHER))  # fmt: skip
        t.stat_is(path, uid=USER, gid=OTHER)
        t.remove(path)
        t.expect(0, "chmod", top, 0o2777)
        t.expect(0, "chown", top, USER, 65532)
        t.expect(0, "chmod", top, 0o2777)
        t.expect(0, name, path, *more, 0o755, uid=OTHER)
        t.stat_is(path, uid=OTHER, gid=65532, mode=0o2755 if name == "mkdir" else 0o755)
        t.remove(path, top)


@group
def mknod(t: Checks) -> None:
    """Device nodes keep their numbers; only root makes them."""
    top = t.new()
    t.make("dir", top, (USER, USER))
    path = f"{top}/node"
    for kind, bits in (("char", stat.S_IFCHR), ("block", stat.S_IFBLK)):
        for device in (os.makedev(1, 2), os.makedev(511, 70000), os.makedev(0, 255)):
            t.expect(0, "mknod", path, 0o644, kind, device)
            t.stat_is(path, type=bits, device=device, mode=0o644, size=0)
            t.remove(path)
        t.expect("EPERM", "mknod", path, 0o644, kind, os.makedev(1, 2), uid=USER)
    t.expect(0, "mknod", path, 0o644, "fifo", uid=USER)
    t.stat_is(path, type=stat.S_IFIFO, uid=USER)
    t.expect("ENXIO", "open", path, os.O_WRONLY | os.O_NONBLOCK)
    t.expect(0, "open", path, os.O_RDONLY | os.O_NONBLOCK)
    t.remove(path)
    t.make("socket", path)
    t.stat_is(path, type=stat.S_IFSOCK)
    t.expect("ENXIO", "open", path, os.O_RDONLY)
    t.remove(path, top)


@group
def open_permissions(t: Checks) -> None:
    """Every combination of mode, user and wanted access."""
    path = t.new()
    t.make("regular", path, (USER, USER))
    users = ((USER, USER, 6), (OTHER, USER, 3), (OTHER, OTHER, 0))
    ways = ((os.O_RDONLY, 4), (os.O_WRONLY, 2), (os.O_RDWR, 6))
    for bits in (0, 2, 4, 6):
        for uid, gid, shift in users:
            mode = 0o666 & ~(7 << shift) | bits << shift
            t.expect(0, "chmod", path, mode)
            for flags, needed in ways:
                result = 0 if bits & needed == needed else "EACCES"
                t.expect(result, "open", path, flags, uid=uid, gid=gid)
    t.expect(0, "chmod", path, 0o444)
    t.expect("EACCES", "open", path, os.O_RDONLY | os.O_TRUNC, uid=USER)
    t.remove(path)


@group
def open_flags(t: Checks) -> None:
    """O_CREAT, O_TRUNC, O_APPEND, O_NOFOLLOW and O_DIRECTORY."""
    path, link = t.new(), t.new()
    t.expect(0, "open", path, os.O_CREAT | os.O_WRONLY, 0o600)
    t.expect(0, "write", path, b"test")
    t.changes(("mtime", path), ("ctime", path),
              by=lambda: t.expect(0, "open", path, os.O_WRONLY | os.O_TRUNC))  # fmt: skip
    t.stat_is(path, size=0)
    top = os.path.dirname(path)
    t.stays(("mtime", top), ("ctime", top),
            by=lambda: t.expect(0, "open", path, os.O_CREAT | os.O_RDONLY, 0o644))  # fmt: skip
    t.expect(0, "write", path, b"one")
    t.expect(0, "write", path, b"two", os.O_WRONLY | os.O_APPEND)
    with open(path, "rb") as file:
        t.is_equal(file.read(), b"onetwo", "what was appended")
    t.expect(0, "symlink", path, link)
    t.expect("ELOOP", "open", link, os.O_RDONLY | os.O_NOFOLLOW)
    t.expect("EEXIST", "open", link, os.O_CREAT | os.O_EXCL)
    t.expect("ENOTDIR", "open", path, os.O_RDONLY | os.O_DIRECTORY)
    t.expect("EISDIR", "open", top, os.O_CREAT)
    t.remove(link, path)
    t.expect(0, "symlink", path, link)
    t.expect(0, "open", link, os.O_CREAT | os.O_WRONLY, 0o644)
    t.stat_is(path, size=0)
    t.remove(link, path)


# -- links -------------------------------------------------------------------------------------


@group
def link(t: Checks) -> None:
    """All names of a file are the same file at once."""
    for kind in ("regular", "fifo", "block", "char", "socket"):
        one, two, three = t.new(), t.new(), t.new()
        t.make(kind, one)
        ino = os.lstat(one).st_ino
        top = os.path.dirname(one)
        t.changes(("ctime", one), ("ctime", top), ("mtime", top),
                  by=lambda one=one, two=two: t.expect(0, "link", one, two))  # fmt: skip
        t.expect(0, "link", two, three)
        for path in (one, two, three):
            t.stat_is(path, nlink=3, ino=ino)
        t.expect(0, "chmod", two, 0o201)
        t.expect(0, "chown", three, USER, OTHER)
        for path in (one, two, three):
            t.stat_is(path, nlink=3, mode=0o201, uid=USER, gid=OTHER)
        t.changes(("ctime", two), ("ctime", top), ("mtime", top),
                  by=lambda one=one: t.remove(one))  # fmt: skip
        t.expect("ENOENT", "lstat", one)
        for path in (two, three):
            t.stat_is(path, nlink=2, ino=ino, mode=0o201)
        t.remove(two)
        t.stat_is(three, nlink=1, ino=ino)
        t.remove(three)
    directory, free = t.new(), t.new()
    t.make("dir", directory)
    t.expect("EPERM", "link", directory, free)
    t.expect("EPERM", "link", directory, free, uid=USER)
    t.remove(directory)


@group
def link_content(t: Checks) -> None:
    """What is written through one name is read through the others."""
    one, two = t.new(), t.new()
    t.make("regular", one)
    t.expect(0, "link", one, two)
    t.expect(0, "write", one, b"first")
    t.stat_is(two, size=5)
    t.expect(0, "write", two, b"FI")
    with open(one, "rb") as file:
        t.is_equal(file.read(), b"FIrst", "the other name")
    t.expect(0, "truncate", two, 1)
    t.stat_is(one, size=1, nlink=2)
    t.remove(one)
    with open(two, "rb") as file:
        t.is_equal(file.read(), b"F", "the name that is left")
    t.remove(two)


@group
def symlink(t: Checks) -> None:
    """Links are made for anything, and are followed."""
    target, path = t.new(), t.new()
    t.make("regular", target)
    t.expect(0, "symlink", target, path)
    t.stat_is(path, type=stat.S_IFLNK, mode=0o777, size=len(target))
    t.is_equal(os.readlink(path), target, "the target")
    t.expect(0, "unlink", target)
    t.expect("ENOENT", "stat", path)
    top = os.path.dirname(path)
    t.remove(path)
    t.make("dir", target)
    t.changes(("ctime", top), ("mtime", top), by=lambda: t.expect(0, "symlink", target, path))
    t.expect(0, "mkdir", f"{path}/below", 0o755)
    t.stat_is(f"{target}/below", nlink=2)
    t.expect("ENOTDIR", "rmdir", path)
    t.expect("EINVAL", "readlink", target)
    t.remove(f"{target}/below", path, target)


# -- removing ----------------------------------------------------------------------------------


@group
def unlink(t: Checks) -> None:
    """Names go, and the times of their directory change."""
    for kind in ALL_TYPES:
        path = t.new()
        top = os.path.dirname(path)
        t.make(kind, path)
        if kind == "dir":
            t.expect("EISDIR", "unlink", path)
            t.expect(0, "rmdir", path)
        else:
            t.expect("ENOTDIR", "rmdir", path)
            t.changes(("mtime", top), ("ctime", top),
                      by=lambda path=path: t.expect(0, "unlink", path))  # fmt: skip
        t.expect("ENOENT", "lstat", path)


@group
def unlink_while_open(t: Checks) -> None:
    """An open file lives on without a name, and its directory can be removed."""
    above = t.new()
    t.make("dir", above)
    path = f"{above}/open"
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.write(number, b"Hello, World!")
    t.expect(0, "unlink", path)
    t.is_equal(os.listdir(above), [], "what is listed")
    t.is_equal(os.fstat(number).st_nlink, 0, "nlink")
    t.expect(0, "rmdir", above)
    t.is_equal(os.pread(number, 13, 0), b"Hello, World!", "what is read")
    os.pwrite(number, b"J", 0)
    os.ftruncate(number, 20)
    os.fchmod(number, 0o600)
    os.fsync(number)
    t.is_equal(os.pread(number, 30, 0), b"Jello, World!" + bytes(7), "what is read after a write")
    t.is_equal(os.fstat(number).st_size, 20, "size")
    t.is_equal(stat.S_IMODE(os.fstat(number).st_mode), 0o600, "mode")
    os.close(number)
    t.expect("ENOENT", "lstat", path)


@group
def rmdir(t: Checks) -> None:
    """Only empty directories go, and none is removed by a name such as `.`."""
    path = t.new()
    top = os.path.dirname(path)
    for kind in ALL_TYPES:
        t.make("dir", path)
        t.make(kind, f"{path}/inside")
        t.expect(("ENOTEMPTY", "EEXIST"), "rmdir", path)
        t.remove(f"{path}/inside")
        t.changes(("ctime", top), ("mtime", top), by=lambda: t.expect(0, "rmdir", path))
    t.make("dir", path)
    t.make("dir", f"{path}/below")
    t.expect("EINVAL", "rmdir", f"{path}/below/.")
    t.expect(("ENOTEMPTY", "EEXIST"), "rmdir", f"{path}/below/..")
    t.remove(f"{path}/below", path)


# -- renaming ----------------------------------------------------------------------------------


@group
def rename(t: Checks) -> None:
    """Names move with everything, and replace what they may replace."""
    for kind in ALL_TYPES:
        one, two, above = t.new(), t.new(), t.new()
        t.make(kind, one, (USER, OTHER))
        ino, mode = os.lstat(one).st_ino, stat.S_IMODE(os.lstat(one).st_mode)
        t.expect(0, "rename", one, two)
        t.expect("ENOENT", "lstat", one)
        t.stat_is(two, ino=ino, uid=USER, gid=OTHER, mode=mode)
        t.make("dir", above)
        old = os.lstat(two).st_ctime_ns
        top = os.path.dirname(two)
        move = partial(t.expect, 0, "rename", two, f"{above}/in")
        t.changes(("ctime", top), ("mtime", top), ("mtime", above), ("ctime", above), by=move)
        t.stat_is(f"{above}/in", ino=ino)
        t.check(os.lstat(f"{above}/in").st_ctime_ns > old, f"ctime of a {kind} that moved")
        t.remove(f"{above}/in", above)


@group
def rename_over(t: Checks) -> None:
    """What may be replaced by what."""
    files = [each for each in ALL_TYPES if each != "dir"]
    for old in files:
        for new in files:
            one, two = t.new(), t.new()
            t.make(old, one)
            t.make(new, two)
            ino = os.lstat(one).st_ino
            t.expect(0, "rename", one, two)
            t.stat_is(two, ino=ino)
            t.expect("ENOENT", "lstat", one)
            t.remove(two)
    for kind in files:
        one, two = t.new(), t.new()
        t.make("dir", one)
        t.make(kind, two)
        t.expect("ENOTDIR", "rename", one, two)
        t.expect("EISDIR", "rename", two, one)
        t.stat_is(one, type=stat.S_IFDIR)
        t.remove(one, two)
    one, two = t.new(), t.new()
    t.make("dir", one)
    t.make("dir", two)
    t.make("regular", f"{two}/in")
    t.expect(("ENOTEMPTY", "EEXIST"), "rename", one, two)
    t.remove(f"{two}/in")
    t.expect(0, "rename", one, two)
    t.expect("EINVAL", "rename", two, f"{two}/below")
    t.expect(("EINVAL", "EBUSY"), "rename", f"{two}/.", f"{two}/below")
    t.expect(("EINVAL", "EBUSY"), "rename", f"{two}/..", f"{two}/below")
    t.remove(two)


@group
def rename_hard_links(t: Checks) -> None:
    """A target with other names lives on there; two names of one file stay as they are."""
    one, two, three = t.new(), t.new(), t.new()
    t.make("regular", one)
    t.make("regular", two)
    t.expect(0, "link", two, three)
    t.changes(("ctime", three), by=lambda: t.expect(0, "rename", one, two))
    t.stat_is(three, nlink=1)
    t.expect(0, "link", two, one)
    t.expect(0, "rename", one, two)
    t.stat_is(one, nlink=2)
    t.stat_is(two, nlink=2)
    t.remove(one, two, three)


@group
def rename_open_file(t: Checks) -> None:
    """Open files follow their name and the directories above, and survive being replaced."""
    above, moved = t.new(), t.new()
    t.make("dir", above)
    number = os.open(f"{above}/a", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(number, b"one")
    t.expect(0, "rename", f"{above}/a", f"{above}/b")
    os.write(number, b"two")
    t.expect(0, "rename", above, moved)
    os.write(number, b"three")
    os.fsync(number)
    with open(f"{moved}/b", "rb") as file:
        t.is_equal(file.read(), b"onetwothree", "what was written on the way")
    t.make("regular", f"{moved}/c")
    t.expect(0, "rename", f"{moved}/c", f"{moved}/b")
    t.is_equal(os.pread(number, 99, 0), b"onetwothree", "a file that was replaced")
    t.is_equal(os.fstat(number).st_nlink, 0, "its names")
    os.close(number)
    t.stat_is(f"{moved}/b", size=0)
    t.remove(f"{moved}/b", moved)


@group
def rename_directories(t: Checks) -> None:
    """Moving a directory changes what `..` means, and the link counts of both parents."""
    one, two = t.new(), t.new()
    t.make("dir", one)
    t.make("dir", two)
    t.make("dir", f"{one}/in")
    t.stat_is(one, nlink=3)
    t.stat_is(two, nlink=2)
    t.expect(0, "rename", f"{one}/in", f"{two}/in")
    t.stat_is(one, nlink=2)
    t.stat_is(two, nlink=3)
    t.is_equal(os.stat(f"{two}/in/..").st_ino, os.stat(two).st_ino, "..")
    t.remove(f"{two}/in")
    t.stat_is(two, nlink=2)
    t.make("dir", f"{one}/mine", (USER, USER))
    t.expect(0, "chmod", one, 0o777)
    t.expect(0, "chmod", two, 0o777)
    t.expect(0, "chmod", f"{one}/mine", 0o555)
    t.expect("EACCES", "rename", f"{one}/mine", f"{two}/mine", uid=USER)
    t.expect(0, "rename", f"{one}/mine", f"{one}/other", uid=USER)
    t.remove(f"{one}/other", one, two)


@group
def sticky_directories(t: Checks) -> None:
    """In a sticky directory only owners (of name or directory) and root move and remove."""
    for kind in ("regular", "dir", "fifo", "symlink"):
        for owner, file_owner, allowed in (
            (USER, USER, True), (OTHER, USER, True), (USER, OTHER, True), (OTHER, OTHER, False),
        ):  # fmt: skip
            above, free = t.new(), t.new()
            t.make("dir", above)
            t.make("dir", free)
            t.expect(0, "chmod", free, 0o777)
            t.expect(0, "chmod", above, 0o1777)
            t.expect(0, "chown", above, owner, owner)
            path = f"{above}/it"
            t.make(kind, path, (file_owner, file_owner))
            result = 0 if allowed else "EPERM"
            call = "rmdir" if kind == "dir" else "unlink"
            if kind == "dir" and file_owner != USER and owner == USER:
                t.expect("EACCES", "rename", path, f"{free}/it", uid=USER)  # `..` would change
            else:
                t.expect(result, "rename", path, f"{free}/it", uid=USER)
                if allowed:
                    t.expect(0, "rename", f"{free}/it", path, uid=USER)
            over = f"{free}/over"
            t.make(kind, over, (USER, USER))
            t.expect(result, "rename", over, path, uid=USER)
            t.expect(result, call, path, uid=USER)
            for each in (path, over):
                if os.path.lexists(each):
                    t.remove(each)
            t.remove(above, free)


# -- times -------------------------------------------------------------------------------------


@group
def utimensat(t: Checks) -> None:
    """Times are set to the nanosecond, now, or left; through links or not."""
    first, second = 1_900_000_000_123_456_789, 1_950_000_000_987_654_321
    for kind in ALL_TYPES:
        path = t.new()
        t.make(kind, path)
        follow = kind != "symlink"
        t.expect(0, "utime", path, (first, second), follow)
        found = os.lstat(path)
        t.is_equal((found.st_atime_ns, found.st_mtime_ns), (first, second), f"times of a {kind}")
        t.expect(0, "utime", path, (second, first), follow)
        found = os.lstat(path)
        t.is_equal((found.st_atime_ns, found.st_mtime_ns), (second, first), "times changed over")
        t.expect(0, "utime", path, (-2_000_000_000, -1), follow)
        t.is_equal(os.lstat(path).st_mtime_ns, -1, "before 1970")
        t.remove(path)
    path, link = t.new(), t.new()
    t.make("regular", path)
    t.expect(0, "symlink", path, link)
    t.expect(0, "utime", link, (first, second))
    t.is_equal(os.lstat(path).st_mtime_ns, second, "through a link")
    t.check(os.lstat(link).st_mtime_ns != second, "the link itself stays")
    before = os.lstat(path).st_ctime_ns
    t.expect(0, "utime", path, None)
    found = os.lstat(path)
    t.check(found.st_mtime_ns != second and found.st_ctime_ns > before, "now")
    t.expect(0, "chown", path, USER, USER)
    t.expect(0, "chmod", path, 0o644)
    t.expect("EPERM", "utime", path, (first, second), uid=OTHER)
    t.expect("EACCES", "utime", path, None, uid=OTHER)
    t.expect(0, "utime", path, (first, second), uid=USER)
    t.expect(0, "chmod", path, 0o666)
    t.expect(0, "utime", path, None, uid=OTHER)
    t.expect("EPERM", "utime", path, (first, second), uid=OTHER)
    t.expect(0, "chmod", path, 0o444)
    t.expect(0, "utime", path, None, uid=USER)
    t.remove(path, link)


@group
def utimensat_one_of_both(t: Checks) -> None:
    """UTIME_OMIT leaves a time and UTIME_NOW sets it, each on its own."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    path = t.new()
    t.make("regular", path)

    def set_times(*pairs: int) -> None:
        times = (ctypes.c_long * 4)(*pairs)
        t.is_equal(libc.utimensat(-100, os.fsencode(path), times, 0), 0, "utimensat")

    t.expect(0, "utime", path, (1_000_000_001, 2_000_000_002))
    set_times(0, OMIT, 7, 9)
    found = os.lstat(path)
    t.is_equal((found.st_atime_ns, found.st_mtime_ns), (1_000_000_001, 7_000_000_009), "omit atime")
    set_times(3, 4, 0, OMIT)
    found = os.lstat(path)
    t.is_equal((found.st_atime_ns, found.st_mtime_ns), (3_000_000_004, 7_000_000_009), "omit mtime")
    set_times(0, NOW, 0, OMIT)
    found = os.lstat(path)
    t.check(found.st_atime_ns > 10**18 and found.st_mtime_ns == 7_000_000_009, "atime now")
    t.stays(("ctime", path), by=lambda: set_times(0, OMIT, 0, OMIT))
    t.remove(path)

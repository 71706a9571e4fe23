"""Local administrators on Linux: accounts of files and of a directory service."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.library_pages import BY_STREAM
from tests.script_library.shells import every_shell, function_of, needs_unix, run

if TYPE_CHECKING:
    from collections.abc import Callable


@needs_unix
@every_shell
def test_administrators_from_a_directory_service(shell: list[str], stand_ins: Callable[..., str]) -> None:
    getent = r"""
case "$1 $2" in
    "group sudo") printf 'sudo:x:27:alice,ghost,CONTOSO\\d.m\303\274ller\nwheel:x:64999:\n'; exit 2 ;;
    "passwd alice") echo 'alice:x:5000:5000::/home/alice:/usr/sbin/nologin' ;;
    'passwd CONTOSO\d.müller') printf 'CONTOSO\\d.m\303\274ller:*:70001:64999::/home/d:/bin/zsh\n' ;;
    *) exit 2 ;;
esac"""
    page = BY_STREAM["local_administrators"]
    rows = {
        row["account_id"]: list(row.values())[1:] for row in page.check(run(page, shell, path=stand_ins(getent=getent)))
    }
    assert rows["0"][:4] == ["root", "User", "local", True]
    assert rows["5000"] == ["alice", "User", "domain", False, "sudo"]
    assert rows["70001"] == ["CONTOSO\\d.müller", "User", "domain", True, "sudo, wheel"]
    assert rows["unknown/ghost"] == ["ghost", "User", "unknown", None, "sudo"]


@needs_unix
@every_shell
def test_lines_of_passwd_that_the_c_library_takes(shell: list[str]) -> None:
    code = function_of(BY_STREAM["local_administrators"], "users") + "users local"
    lines = "evil:x:00:0::/:/bin/bash\nevil2:x:000:0::/:/bin/sh\nshort:x:0:00:nohome\nme:x:01000:x::/:/bin/sh\nno:x:0\n"
    done = subprocess.run([*shell, "-c", code], input=lines, capture_output=True, encoding="utf-8", check=True)
    assert [line.split("\t")[1:4] for line in done.stdout.splitlines()] == [
        ["evil", "0", "0"],
        ["evil2", "0", "0"],
        ["short", "0", "0"],
        ["me", "1000", "x"],
    ]

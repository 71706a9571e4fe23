"""The shells that are here, and scripts of the library run in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.library_pages import Page

SHELLS = [
    shell
    for shell in (["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"], ["ksh"], ["zsh", "--emulate", "sh"])
    if shutil.which(shell[0])
]
needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="runs shell scripts")
every_shell = pytest.mark.parametrize("shell", SHELLS, ids=" ".join)


def run(page: Page, shell: list[str] = SHELLS[0], *, path: str | None = None, script: Path | None = None) -> str:
    """What the script prints: one line, nothing on standard error, and within seconds."""
    assert page.shell
    environment = {"PATH": path or os.environ["PATH"], "LANG": "C.UTF-8", "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [*shell, str(script or page.shell)], env=environment, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("utf-8")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text


def function_of(page: Page, name: str) -> str:
    assert page.shell
    (function,) = re.findall(rf"^{name}\(\) \{{\n.*?^\}}\n", page.shell.read_text(), re.MULTILINE | re.DOTALL)
    return str(function)

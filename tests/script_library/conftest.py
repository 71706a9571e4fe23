"""What stands in for the programs of a device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def stand_ins(tmp_path: Path) -> Callable[..., str]:
    """Programs that are found first, each a shell script; gives the path to search."""

    def make(**programs: str) -> str:
        for name, body in programs.items():
            file = tmp_path / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            file.chmod(0o755)
        return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    return make

"""The pages of `docs/scripts`: the entry of a script's stream, and its statements in SQL."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).resolve().parent.parent / "docs" / "scripts"


def blocks(script: str, language: str) -> list[str]:
    """The blocks of code in a language, in their order."""
    text = (LIBRARY / script / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def entry(script: str) -> dict[str, Any]:
    """What is to be pasted into the setting `script_streams`."""
    (block,) = blocks(script, "json")
    found: dict[str, Any] = json.loads(block)
    return found


def view(script: str) -> str:
    """The statement that makes the view of the current rows."""
    return blocks(script, "sql")[0]

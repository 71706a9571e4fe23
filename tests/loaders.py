"""Loaders in environments of their own, with the settings that `docs/loaders.md` gives them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "loaders.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The blocks of code on the page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


PLUGINS: dict[str, dict[str, Any]] = {
    plugin["name"]: plugin for block in blocks("yaml") for plugin in yaml.safe_load(block).get("loaders", [])
}
"""The loaders as the page has them for `meltano.yml`."""


@dataclass
class Environment:
    """A virtual environment with what a file of `requirements` pins."""

    folder: Path
    requirements: str

    def __post_init__(self) -> None:
        uv = Path(sys.executable).parent / "uv"
        pinned = ROOT / "requirements" / f"{self.requirements}.txt"
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, self.folder], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", self.python, "--require-hashes", "-r", pinned], check=True
        )

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


@dataclass
class Loader:
    """A loader with a configuration.

    Args:
        command: What starts it.
        config: Its settings.
        environment: Variables beyond those of the tests.
    """

    command: list[Path | str]
    config: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)

    def load(self, day: Path, folder: Path) -> subprocess.CompletedProcess[str]:
        """Load one day. The loader runs in `folder`, where its configuration is written to, too."""
        config = folder / "config.json"
        config.write_text(json.dumps(self.config), encoding="utf-8")
        with day.open("rb") as messages:
            return subprocess.run(
                [*self.command, "--config", config],
                stdin=messages,
                capture_output=True,
                encoding="utf-8",
                cwd=folder,
                env={**os.environ, **self.environment},
                timeout=120,
                check=False,
            )


def documented(name: str, environment: Environment, **config: Any) -> Loader:
    """The loader as the page sets it up, with more settings that depend on where the test runs."""
    plugin = PLUGINS[name]
    command: list[Path | str] = [environment.folder / "bin" / plugin["executable"]]
    return Loader(command, {**plugin.get("config", {}), **config}, plugin.get("env", {}))

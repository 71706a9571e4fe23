"""Wheel and sdist as they go to PyPI: what is in them, and that each works in an empty environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tap_defender_lr import __version__
from tests.markdown import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = f"tap_defender_lr-{__version__}"
UV = Path(sys.executable).with_name("uv")
PACKAGES = ("tap_defender_lr/", "defender_simulator/")
pytestmark = pytest.mark.slow


def run(*words: str | Path, directory: Path, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    environment["TAP_DEFENDER_LR_CLIENT_SECRET"] = "not-to-be-shown"
    done = subprocess.run(
        [str(word) for word in words],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
    assert "not-to-be-shown" not in done.stdout + done.stderr
    return done.stdout + done.stderr * bool(code)


def tracked() -> set[str]:
    return set(run("git", "ls-files", directory=ROOT).splitlines())


def build(kind: str, source: Path, target: Path) -> Path:
    """With the build tool of the development environment, which is pinned."""
    run(UV, "build", "--no-build-isolation", "--python", sys.executable, kind, "-o", target, source, directory=target)
    (built,) = (file for file in target.iterdir() if file.name.startswith(NAME))
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("--sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("--wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    described = {name for name in names if name.startswith(f"{NAME}.dist-info/")}
    assert names - described == {name for name in tracked() if name.startswith(PACKAGES)}
    assert {f"{package}py.typed" for package in PACKAGES} <= names
    assert {name.partition("/")[2] for name in described} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    for label in ("Documentation", "Source", "Changelog", "Issues"):
        assert f"\nProject-URL: {label}, https://" in metadata
    home = "https://github.com/tap-defender-lr/tap-defender-lr/blob/main"
    assert f"]({home}/docs/quick-start.md)" in metadata
    assert re.findall(r"\]\((?!https:)", metadata) == []


def test_the_sdist_holds_only_what_is_in_the_repository_and_builds_the_same_wheel(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - tracked() == {"PKG-INFO"}
    assert {f"{package}py.typed" for package in PACKAGES} <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md", "tests/conftest.py", "docs/index.md"} <= names
    assert build("--wheel", sdist, tmp_path).read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize(("package", "extra"), [("wheel", ""), ("sdist", "[simulator]")])
def test_it_works_in_an_empty_environment(
    package: str, extra: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    file = request.getfixturevalue(package)
    run(UV, "venv", "--quiet", "--python", sys.executable, "env", directory=tmp_path)
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    pins = (
        "--constraints",
        ROOT / "requirements" / "dev.txt",
        "--build-constraints",
        ROOT / "requirements" / "dev.txt",
    )
    run(UV, "pip", "install", "--quiet", "--python", scripts / "python", *pins, f"{file}{extra}", directory=tmp_path)

    def tap(*words: str) -> str:
        return run(scripts / "tap-defender-lr", *words, directory=tmp_path)

    def python(*words: str, code: int = 0) -> str:
        return run(scripts / "python", *words, directory=tmp_path, code=code)

    assert tap("--version").startswith(f"tap-defender-lr v{__version__}, Meltano SDK v")
    assert "\n  calls_per_hour (integer, default 1500)\n" in tap("--about")
    assert "| calls_per_hour | False | 1500 |" in tap("--about", "--format=markdown")
    assert stream_names(tap("--discover")) == ["live_response_results", "machine_actions"]
    assert python("-c", "import tap_defender_lr; print(tap_defender_lr.__version__)").strip() == __version__
    if extra:
        assert "usage: python -m defender_simulator" in python("-m", "defender_simulator", "--help")
    else:
        last_line = python("-m", "defender_simulator", code=1).splitlines()[-1]
        assert last_line.endswith(" needs starlette: install `tap-defender-lr[simulator]`.")


def stream_names(catalog: str) -> Sequence[str]:
    return sorted(stream["tap_stream_id"] for stream in json.loads(catalog)["streams"])

"""The files that Meltano reads, against Meltano's own JSON schema and against what they stand for."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from defender_simulator.__main__ import _PORTS
from defender_simulator.fleet import make_tenant
from defender_simulator.simulator import Simulator
from tap_defender_lr import settings

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads(
    resources.files("meltano").joinpath("schemas").joinpath("meltano.schema.json").read_text(encoding="utf-8")
)


def load(file: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    return document


def complaints(document: Any, definition: str | None = None) -> list[str]:
    """What Meltano's schema has against a project, or against a plugin of one of its kinds."""
    part = {"$defs": SCHEMA["$defs"], "$ref": f"#/$defs/plugins/{definition}"} if definition else SCHEMA
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(part).iter_errors(document)]


@pytest.mark.parametrize(
    ("file", "definition"),
    [("meltano.yml", None), ("plugin.yaml", "extractors"), ("docs/target-postgres.yaml", "loaders")],
)
def test_meltano_takes_it(file: str, definition: str | None) -> None:
    document = load(file)
    assert complaints(document, definition) == []
    # The schema is strict enough to notice what is wrong.
    assert complaints({**document, "no_such_key": 1}, definition)


def test_a_setting_of_an_unknown_kind_would_be_noticed() -> None:
    document = load("plugin.yaml")
    document["settings"][0]["kind"] = "text"
    assert complaints(document, "extractors")


@pytest.mark.parametrize("file", ["plugin.yaml", "docs/target-postgres.yaml"])
def test_every_setting_can_be_understood_where_it_is_shown(file: str) -> None:
    for setting in load(file)["settings"]:
        assert {"name", "label", "kind", "description"} <= setting.keys()
    groups = load(file)["settings_group_validation"]
    assert {name for group in groups for name in group} <= {setting["name"] for setting in load(file)["settings"]}


def test_secrets_are_sensitive() -> None:
    properties = settings.JSON_SCHEMA["properties"]
    secret = {name for name in settings.PROPERTIES.wrapped if properties[name].get("secret")}
    assert secret == {"client_secret", "certificate_password", "quota_store"}
    for plugin in (load("plugin.yaml"), load("meltano.yml")["plugins"]["extractors"][0]):
        assert {setting["name"] for setting in plugin["settings"] if setting.get("sensitive")} == secret


def test_the_definition_and_the_project_say_the_same() -> None:
    (plugin,) = load("meltano.yml")["plugins"]["extractors"]
    definition = load("plugin.yaml")
    same = ("name", "namespace", "executable", "capabilities", "settings", "settings_group_validation")
    assert {key: plugin[key] for key in same} == {key: definition[key] for key in same}


def test_the_environment_dev_is_the_simulated_tenant() -> None:
    (dev,) = [entry for entry in load("meltano.yml")["environments"] if entry["name"] == "dev"]
    (plugin,) = dev["config"]["plugins"]["extractors"]
    simulator = Simulator(make_tenant(devices=1))
    simulator.login_url, simulator.api_url = (f"https://localhost:{port}" for port in _PORTS[:2])
    assert plugin["config"] == simulator.settings()

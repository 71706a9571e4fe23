"""What documents and project files say about the tap is what the code says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from scripts import generate
from tap_defender_lr import settings
from tap_defender_lr.about import type_name
from tap_defender_lr.tap import TapDefenderLr
from tap_defender_lr.validation import script_stream_problems

if TYPE_CHECKING:
    from pathlib import Path

ROOT = generate.ROOT


@pytest.fixture(scope="module", params=["meltano.yml", "plugin.yaml"])
def plugin(request: pytest.FixtureRequest) -> dict[str, Any]:
    definition = yaml.safe_load((ROOT / request.param).read_text(encoding="utf-8"))
    if "plugins" in definition:
        (definition,) = definition["plugins"]["extractors"]
    assert isinstance(definition, dict)
    return definition


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A directory with the documents as they look before anything was generated."""
    for file, (comment, regions) in generate.REGIONS.items():
        lines = [line for name in regions for line in (comment(f"BEGIN {name}"), comment(f"END {name}"), "by hand")]
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("\n".join(["first", *lines, ""]), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("file", generate.REGIONS)
def test_generated_regions_are_up_to_date(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert generate.filled(text, file) == text, "run `make generate`"


def test_generate_writes_only_into_the_regions(documents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"], root=documents) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{file} is out of date: run `make generate`." for file in generate.REGIONS
    ]
    assert generate.main([], root=documents) == 0
    assert generate.main(["--check"], root=documents) == 0
    page = (documents / "docs/streams.md").read_text(encoding="utf-8")
    assert page.startswith("first\n<!-- BEGIN columns live_response_results -->\n")
    assert page.count("by hand\n") == 2
    assert "| `machine_action_id` | string | Key. GUID of the machine action. |" in page


@pytest.mark.parametrize(
    "gone", ["<!-- BEGIN columns live_response_results -->", "<!-- END columns machine_actions -->"]
)
def test_a_missing_marker_is_named(documents: Path, gone: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = documents / "docs/streams.md"
    page.write_text(page.read_text(encoding="utf-8").replace(f"{gone}\n", ""), encoding="utf-8")
    assert generate.main([], root=documents) == 1
    assert f"docs/streams.md must hold the line `{gone}` once" in capsys.readouterr().err


def test_table_cells_stay_in_their_line_and_column() -> None:
    for table in (generate.settings_tables(), generate.columns_table(settings.JSON_SCHEMA, ())):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1


def test_every_setting_is_in_a_group() -> None:
    text = generate.settings_tables()
    assert re.findall(r"^\| `(\w+)`", text, re.MULTILINE) == list(generate.definitions())
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(generate.SETTINGS_HEADINGS.values())
    assert "| `tenant_id` | string | required | Entra tenant" in text
    assert "| `client_secret` | string, secret |  | A client secret" in text
    assert "| `calls_per_minute` | integer | `100` | How many" in text


def test_the_table_of_clouds_tells_where_each_one_is() -> None:
    assert (
        "| `gcc` | `https://api-gcc.securitycenter.microsoft.us` | `https://login.microsoftonline.com` | "
        "`https://api-gcc.securitycenter.microsoft.us/.default` |" in generate.clouds_table().splitlines()
    )


def test_sample_config_is_valid_and_has_every_setting(caplog: pytest.LogCaptureFixture) -> None:
    config = json.loads((ROOT / "sample_config.json").read_text(encoding="utf-8"))
    assert list(config) == list(generate.definitions())
    TapDefenderLr(config=config, validate_config=True)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


def test_meltano_knows_every_setting(plugin: dict[str, Any]) -> None:
    kinds = {
        "string": "string",
        "integer": "integer",
        "date-time": "date_iso8601",
        "array of objects": "array",
        "array of strings": "array",
    }
    expected = [
        {
            "name": name,
            "label": schema["title"],
            "kind": "options" if "enum" in schema else kinds[type_name(schema)],
            **({"sensitive": True} if schema.get("secret") else {}),
            **({"options": [{"label": v, "value": v} for v in schema["enum"] if v]} if "enum" in schema else {}),
            **({"value": schema["default"]} if "default" in schema else {}),
            "description": schema["description"],
        }
        for name, schema in generate.definitions().items()
    ]
    assert plugin["settings"] == expected
    assert [entry["name"] for entry in expected if "sensitive" in entry] == [
        "client_secret",
        "certificate_password",
        "quota_store",
    ]
    assert plugin["settings_group_validation"] == [
        ["tenant_id", "client_id", "client_secret"],
        ["tenant_id", "auth_method", "client_id", "certificate_path"],
        ["tenant_id", "auth_method", "client_id"],
        ["tenant_id", "auth_method"],
        ["tenant_id", "auth_method", "client_id"],
    ]


def test_meltano_knows_the_capabilities(plugin: dict[str, Any]) -> None:
    assert sorted(plugin["capabilities"]) == sorted(capability.value for capability in TapDefenderLr.capabilities)


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_constraints_are_pinned_hashed_and_free_of_addresses(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text
    pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert pinned
    for line in pinned:
        assert re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==\S+( ; .+)? \\", line), line


def test_the_loader_is_pinned_as_meltano_installs_it() -> None:
    project = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
    (loader,) = project["plugins"]["loaders"]
    assert (ROOT / "requirements" / "target-jsonl.in").read_text(encoding="utf-8").strip() == loader["pip_url"]


def test_the_page_about_script_streams_holds_an_entry_that_works() -> None:
    page = (ROOT / "docs" / "script-streams.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert list(script_stream_problems({"script_streams": json.loads(block)}, settings.JSON_SCHEMA)) == []

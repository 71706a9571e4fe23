"""The parts of orchestration/ that need no engine: the list of tenants, turns, what a log says, the shipped files."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from many_tenants import log, meltano, tenants

from tap_defender_lr.tap import TapDefenderLr
from tests.meltano_project import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "orchestration"
ENTRY = {"name": "contoso", "tenant_id": "contoso.example", "client_id": "1", "client_secret": {"env": "SECRET"}}


def settings_of(project: Path) -> list[dict[str, Any]]:
    (plugin,) = yaml.safe_load(project.read_text(encoding="utf-8"))["plugins"]["extractors"]
    found: list[dict[str, Any]] = plugin["settings"]
    return found


def read(folder: Path, document: Any) -> tenants.Tenants:
    file = folder / "tenants.yaml"
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return tenants.read(file, FOLDER / "meltano.yml")


def test_meltano_knows_the_settings_that_the_plugin_has() -> None:
    plugin = yaml.safe_load((ROOT / "plugin.yaml").read_text(encoding="utf-8"))
    kinds = {"options": "string"}
    assert [(entry["name"], entry.get("kind", "string")) for entry in settings_of(FOLDER / "meltano.yml")] == [
        (entry["name"], kinds.get(entry["kind"], entry["kind"])) for entry in plugin["settings"]
    ]
    assert {entry["name"] for entry in settings_of(FOLDER / "meltano.yml") if entry.get("sensitive")} == {
        entry["name"] for entry in plugin["settings"] if entry.get("sensitive")
    }


def test_nothing_is_sent_anywhere() -> None:
    engine = yaml.safe_load((FOLDER / "dagster.yaml").read_text(encoding="utf-8"))
    project = yaml.safe_load((FOLDER / "meltano.yml").read_text(encoding="utf-8"))
    assert engine["telemetry"] == {"enabled": False}
    assert project["send_anonymous_usage_stats"] is False
    assert project["cli"] == {"disable_version_check": True}


def test_the_shipped_list_is_right() -> None:
    found = tenants.read(FOLDER / "tenants.yaml", FOLDER / "meltano.yml")
    assert [tenant.schema for tenant in found] == ["tenant_contoso", "tenant_fabrikam", "tenant_adatum"]
    assert found["contoso"].environment({"CONTOSO_CLIENT_SECRET": "word"}.get) == {
        "TAP_DEFENDER_LR_MAX_RUN_MINUTES": "15",
        "TAP_DEFENDER_LR_TENANT_ID": "contoso.onmicrosoft.com",
        "TAP_DEFENDER_LR_CLIENT_ID": "00000000-0000-0000-0000-000000000001",
        "TAP_DEFENDER_LR_CLIENT_SECRET": "word",
    }
    assert found["fabrikam"].settings["start_date"] == "2026-01-01"
    assert found["contoso"].account == "contoso.onmicrosoft.com/00000000-0000-0000-0000-000000000001"
    assert found.secret_variables() == {"CONTOSO_CLIENT_SECRET"}


def test_lists_and_objects_become_json(tmp_path: Path) -> None:
    found = read(tmp_path, {"tenants": [{**ENTRY, "script_names": ["Get-Ä.ps1"], "lookback_days": 5}]})
    environment = found["contoso"].environment({"SECRET": "word"}.get)
    assert json.loads(environment["TAP_DEFENDER_LR_SCRIPT_NAMES"]) == ["Get-Ä.ps1"]
    assert environment["TAP_DEFENDER_LR_LOOKBACK_DAYS"] == "5"


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("hidden-word: [", "is not YAML."),
        ("hidden-word", "It must hold a list `tenants`."),
        ({"tenants": []}, "It must hold a list `tenants`."),
        ({"tenants": ["hidden-word"]}, "Tenant 1 needs a `name`"),
        ({"tenants": [{**ENTRY, "name": "Contoso!"}]}, "Tenant 1 needs a `name` of up to 40"),
        ({"tenants": [ENTRY, ENTRY]}, "Each name can be used once."),
        ({"tenants": [ENTRY, {**ENTRY, "name": "copy"}]}, "contoso and copy are the same tenant and app"),
        ({"tenants": [{"name": "contoso"}]}, "Tenant contoso needs a `tenant_id`."),
        (
            {"tenants": [{**ENTRY, "client_secret": "hidden-word"}]},
            "contoso: `client_secret` must not stand in the list",
        ),
        (
            {"tenants": [ENTRY], "defaults": {"client_secret": "hidden-word"}},
            "defaults: `client_secret` must not stand",
        ),
        (
            {"tenants": [{**ENTRY, "client_secret": {"var": "hidden-word"}}]},
            "`client_secret` must not stand in the list",
        ),
        ({"tenants": [{**ENTRY, "client_secrets": "hidden-word"}]}, "`client_secrets` is no setting of the tap."),
        ({"tenants": [{**ENTRY, "start_date": {"env": "DAY"}}]}, "contoso: `start_date` must be a value."),
        ({"tenants": [{**ENTRY, "quota_store": {"env": "X"}}]}, "contoso: `quota_store` cannot be set"),
        ({"tenants": [ENTRY], "every_hours": 2}, "`every_hours` means nothing here."),
        ({"tenants": [ENTRY], "every_minutes": 0}, "`every_minutes` must be a whole number."),
        ({"tenants": [ENTRY], "retries": "3"}, "`retries` must be a whole number."),
        ({"tenants": [ENTRY], "defaults": ["hidden-word"]}, "defaults must hold settings."),
        ({"tenants": [ENTRY], "every_minutes": 61, "stale_after_hours": 1}, "`stale_after_hours` must not be shorter"),
        ({"tenants": [{**ENTRY, "files_url": "hidden-word"}]}, "contoso: `files_url` must be an absolute path"),
        ({"tenants": [{**ENTRY, "files_url": "file:hidden-word"}]}, "contoso: `files_url` must be an absolute path"),
        ({"tenants": [ENTRY], "defaults": {"token_cache_path": "./hidden-word"}}, "defaults: `token_cache_path` must"),
        (
            {"tenants": [{**ENTRY, "certificate_path": "hidden-word.pem"}]},
            "`certificate_path` must be an absolute path",
        ),
        ({"tenants": [{**ENTRY, "federated_token_file": "hidden-word"}]}, "`federated_token_file` must be an absolute"),
        ({"tenants": [{**ENTRY, "max_run_minutes": None}]}, "Tenant contoso needs `max_run_minutes`, a whole number."),
        ({"tenants": [{**ENTRY, "max_run_minutes": "hidden-word"}]}, "Tenant contoso needs `max_run_minutes`"),
        ({"tenants": [{**ENTRY, "max_run_minutes": 22}]}, "`max_run_minutes` is too long for contoso: with"),
        (
            {"tenants": [ENTRY, {**ENTRY, "name": "b", "client_id": "2"}], "retries": 9},
            "is too long for contoso, b: with",
        ),
    ],
)
def test_what_is_wrong_is_told_without_the_value(tmp_path: Path, document: Any, sentence: str) -> None:
    with pytest.raises(tenants.TenantsError) as raised:
        read(tmp_path, document)
    assert sentence in str(raised.value)
    assert "hidden-word" not in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"files_url": "s3://bucket/folder"},
        {"files_url": "file:///srv/evidence"},
        {"files_url": "~/evidence"},
        {"certificate_path": "/run/secrets/contoso.pem"},
        {"max_run_minutes": 21},
    ],
)
def test_what_a_run_can_use_is_taken(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert settings.items() <= read(tmp_path, {"tenants": [{**ENTRY, **settings}]})["contoso"].settings.items()


def test_an_empty_value_undoes_a_default(tmp_path: Path) -> None:
    defaults = {"start_date": "2026-01-01", "client_secret": {"env": "SECRET"}}
    entry = {**ENTRY, "start_date": None, "client_secret": None}
    environment = read(tmp_path, {"defaults": defaults, "tenants": [entry]})["contoso"].environment({}.get)
    assert environment == {
        "TAP_DEFENDER_LR_MAX_RUN_MINUTES": "15",
        "TAP_DEFENDER_LR_TENANT_ID": "contoso.example",
        "TAP_DEFENDER_LR_CLIENT_ID": "1",
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"client_id": " 4B8D ", "client_secret": "x"},
        {"auth_method": "managed_identity"},
        {"auth_method": "managed_identity", "managed_identity_client_id": "4B8D"},
    ],
)
def test_the_ledger_knows_the_account_by_the_text_that_the_tap_makes(tmp_path: Path, settings: dict[str, str]) -> None:
    settings = {"tenant_id": "Contoso.example", **settings}
    run = TapDefenderLr(config={**settings, "quota_store": str(tmp_path / "quota.sqlite")}).run
    assert tenants.Tenant("contoso", settings).account == run.ledger._account  # noqa: SLF001
    run.ledger.close()


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        (tenants.Reference("env", "NOT_SET"), "The environment variable NOT_SET is not set."),
        (tenants.Reference("file", "{folder}/none"), "none cannot be read (No such file or directory)."),
        (tenants.Reference("file", "{folder}/empty"), "empty is empty."),
    ],
    ids=lambda value: getattr(value, "place", ""),
)
def test_a_missing_secret_is_named(tmp_path: Path, reference: tenants.Reference, sentence: str) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(tenants.TenantsError, match="The ") as raised:
        tenants.Reference(reference.kind, reference.place.format(folder=tmp_path)).read(dict[str, str]().get)
    assert str(raised.value).endswith(sentence)


def test_turns_are_spread_and_each_tenant_has_one(tmp_path: Path) -> None:
    document = {"tenants": [{**ENTRY, "name": f"t{number}", "client_id": str(number)} for number in range(600)]}
    found = read(tmp_path, document)
    midnight = datetime(2026, 1, 1, tzinfo=timezone.utc)
    turns = [found.due(midnight + timedelta(minutes=minute)) for minute in range(60)]
    assert Counter(tenant.name for due in turns for tenant in due) == dict.fromkeys((t.name for t in found), 1)
    assert max(map(len, turns)) < 30
    assert found.due(midnight + timedelta(minutes=60)) == turns[0]


def line(event: str = "", plugin: str = log.TAP, level: str = "info", **more: Any) -> str:
    return json.dumps({"event": event, "string_id": plugin, "level": level, **more})


def test_a_log_is_understood() -> None:
    summary = log.Summary()
    said = [
        summary.add(each)
        for each in (
            "no JSON",
            line("Beginning", plugin="target-postgres"),
            line(metric_info={"metric": "record_count", "value": 3, "tags": {"stream": "machine_actions"}}),
            line(metric_info={"metric": "record_count", "value": 2, "tags": {"stream": "machine_actions"}}),
            line("1,200 results left for the next run."),
            line("1,301 calls spent; 65 left this minute, 199 this hour."),
        )
    ]
    assert said == [
        *(None, None, None, None),
        "1,200 results left for the next run.",
        "1,301 calls spent; 65 left this minute, 199 this hour.",
    ]
    assert summary.records == {"machine_actions": 5}
    assert summary.results_left == 1200
    assert (summary.calls, summary.left_this_minute, summary.left_this_hour) == (1301, 65, 199)


@pytest.mark.parametrize(
    ("lines", "reason", "needs_a_person"),
    [
        ([], "Meltano gave no reason; its log has more.", False),
        ([line("Run failed", "", "error")], "Run failed", False),
        ([line("No space.", "target-postgres", "error"), line("Run failed", "", "error")], "No space.", False),
        ([line("Gone.", level="error"), line("Broken pipe", "target-postgres", "error")], "Gone.", False),
        (
            [
                line("`tenant_id` is missing.", level="error"),
                line("`client_id` is missing.", level="error"),
                line("Config validation failed", level="error"),
            ],
            "`tenant_id` is missing. `client_id` is missing.",
            True,
        ),
        ([line("Sign-in to tenant x was refused. Why.", level="error")], "Sign-in to tenant x was refused. Why.", True),
        ([line("Cannot sign in: it is down.", level="error")], "Cannot sign in: it is down.", False),
    ],
)
def test_why_it_failed(lines: list[str], reason: str, *, needs_a_person: bool) -> None:
    summary = log.Summary()
    for each in lines:
        summary.add(each)
    assert (summary.reason, summary.needs_a_person) == (reason, needs_a_person)


def test_it_can_fail_before_there_is_a_log() -> None:
    summary = log.Summary()
    summary.fail("The file is empty.")
    assert (summary.reason, summary.needs_a_person) == ("The file is empty.", False)


def test_a_tenant_gets_no_secret_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTHER_SECRET", "DATABASE_URL", "DAGSTER_DATABASE_URL", "TAP_DEFENDER_LR_CLIENT_SECRET", "HARMLESS"):
        monkeypatch.setenv(name, "value")
    inherited = meltano.inherited({"OTHER_SECRET"})
    assert {name for name, value in inherited.items() if value == "value"} == {"HARMLESS"}


def test_a_run_has_a_folder_of_its_own_which_is_gone_afterwards(tmp_path: Path) -> None:
    (tmp_path / "meltano.yml").write_text("version: 1\n")
    (tmp_path / ".env").write_text("SECRET=1\n")
    (tmp_path / ".meltano" / "extractors").mkdir(parents=True)
    with meltano.project_of_one_run(tmp_path) as first, meltano.project_of_one_run(tmp_path) as second:
        assert first != second
        assert first.stat().st_mode & 0o777 == 0o700
        assert (first / ".meltano" / "extractors").resolve() == tmp_path / ".meltano" / "extractors"
        assert not (first / ".env").exists()
    assert not first.exists()

"""The parts of orchestration/ that need no engine: the list of tenants, the folder of a run, the shipped files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml
from many_tenants import __main__ as program
from many_tenants import meltano, tenants
from many_tenants.database import Database
from sqlalchemy import make_url

from tap_defender_lr.tap import TapDefenderLr
from tests.meltano_project import ROOT, blocks

FOLDER = ROOT / "orchestration"
posix = pytest.mark.skipif(sys.platform == "win32", reason="the page is written for a POSIX shell")
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


def test_the_loader_is_the_one_that_was_tested() -> None:
    project = yaml.safe_load((FOLDER / "meltano.yml").read_text(encoding="utf-8"))
    (tested,) = yaml.safe_load(blocks("docs/loaders.md", "yaml")["PostgreSQL"][0])["loaders"]
    (loader,) = project["plugins"]["loaders"]
    assert loader["pip_url"] == tested["pip_url"]
    assert loader["env"] == tested["env"]


def test_several_runs_are_started_at_the_same_time() -> None:
    queue = yaml.safe_load((FOLDER / "dagster.yaml").read_text(encoding="utf-8"))["run_queue"]
    assert queue["dequeue_use_threads"] is True
    assert queue["dequeue_num_workers"] > 1


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
        ({"tenants": [{**ENTRY, "max_run_minutes": "hidden-word"}]}, "contoso: `max_run_minutes` must be a whole"),
        ({"tenants": [{**ENTRY, "max_run_minutes": ["hidden-word"]}]}, "contoso: `max_run_minutes` must be a whole"),
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
    environment = read(tmp_path, {"defaults": defaults, "tenants": [entry]})["contoso"].environment(
        dict[str, str]().get
    )
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
    assert tenants.Tenant("contoso", settings).account == run.ledger._account
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


def test_a_tenant_gets_no_secret_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTHER_SECRET", "DATABASE_URL", "DAGSTER_DATABASE_URL", "TAP_DEFENDER_LR_CLIENT_SECRET", "HARMLESS"):
        monkeypatch.setenv(name, "value")
    inherited = meltano.inherited({"OTHER_SECRET"})
    assert {name for name, value in inherited.items() if value == "value"} == {"HARMLESS"}


def test_what_a_person_types_wins_but_not_who_signs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACTIONS", "_SELECT_FILTER", "TENANT_ID", "CLIENT_SECRET", "CERTIFICATE_PATH", "QUOTA_STORE", "OF_B"):
        monkeypatch.setenv(f"TAP_DEFENDER_LR_{name}", "typed")
    typed = meltano.typed({"TAP_DEFENDER_LR_OF_B"})
    assert typed == dict.fromkeys(("TAP_DEFENDER_LR_ACTIONS", "TAP_DEFENDER_LR__SELECT_FILTER"), "typed")
    assert typed.items() <= _environment_of_a_command(monkeypatch).items()


def _environment_of_a_command(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What Meltano gets when a person types a command for a tenant."""
    given: list[dict[str, str]] = []
    monkeypatch.setattr(meltano, "command", lambda _words, environment, **_: given.append(environment))
    tenant = tenants.Tenant("contoso", {"tenant_id": "contoso.example", "actions": [{"id": "1"}]})
    listed = tenants.Tenants(60, 6, 3, 60, (tenant,))
    program._meltano(listed, Database("postgresql://user@host/tenants"), "contoso", ["run"])
    assert given[0]["TAP_DEFENDER_LR_TENANT_ID"] == "contoso.example"
    assert given[0]["TAP_DEFENDER_LR_QUOTA_STORE"].startswith("postgresql")
    return given[0]


@pytest.mark.parametrize("password", ["p@ss/word-long", "p ss+word&long", 'p"ss%word-ü'])
def test_a_password_is_masked_as_an_url_has_it(password: str) -> None:
    url = make_url("postgresql://user@host/tenants").set(password=password).render_as_string(hide_password=False)
    loader = Database(url).environment("public")["TARGET_POSTGRES_SQLALCHEMY_URL"]
    assert meltano._without({password}, loader) == "postgresql+psycopg://user:***@host/tenants"
    for text in (password, quote(password), quote_plus(password), json.dumps(password)[1:-1]):
        assert meltano._without({password}, f"it is {text}.") == "it is ***."


def test_times_are_told_in_utc() -> None:
    tokyo = datetime(2026, 1, 31, 21, tzinfo=timezone(timedelta(hours=9)))
    row = {
        "tenant": "contoso",
        "stale": False,
        "last_success": tokyo,
        "last_failure": None,
        "results": 1,
        "coverage_percent": None,
        "calls_left_this_hour": 1,
    }
    assert "read 2026-01-31 12:00 UTC" in program.described(row)
    assert "coverage not known" in program.described({**row, "results": 1, "coverage_percent": None})
    assert "coverage nothing yet" in program.described({**row, "results": 0, "coverage_percent": None})


@posix
def test_a_run_has_a_folder_of_its_own_which_is_gone_afterwards(tmp_path: Path) -> None:
    (tmp_path / "meltano.yml").write_text("version: 1\n")
    (tmp_path / ".env").write_text("SECRET=1\n")
    (tmp_path / ".meltano" / "extractors").mkdir(parents=True)
    with meltano.project_of_one_run(tmp_path) as (first, _), meltano.project_of_one_run(tmp_path) as (second, _):
        assert first != second
        assert first.stat().st_mode & 0o777 == 0o700
        assert (first / ".meltano" / "extractors").resolve() == tmp_path / ".meltano" / "extractors"
        assert not (first / ".env").exists()
    assert not first.exists()


@posix
def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "meltano.yml").write_text("version: 1\n")
    (tmp_path / "many-tenants-new").mkdir()
    script = f"""
import pathlib, sys
from many_tenants import meltano
with meltano.project_of_one_run(pathlib.Path({str(tmp_path)!r})) as (directory, _):
    (directory / "tap.config.json").write_text("secret")
    print(directory, flush=True)
    sys.stdin.read()
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(FOLDER)}
    with (
        meltano.project_of_one_run(tmp_path) as (in_use, _),
        subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as killed,
    ):
        assert killed.stdout is not None
        left = Path(killed.stdout.readline().decode().strip())
        killed.kill()
        killed.wait()
        assert (left / "tap.config.json").exists()
        with meltano.project_of_one_run(tmp_path):
            assert not left.exists()
            assert in_use.exists()
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == ["many-tenants-new"], "not locked yet"


@posix
def test_meltano_keeps_the_folder_locked_even_if_it_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meltano.yml").write_text("version: 1\n")
    script = tmp_path / "meltano"
    script.write_text(f"""#!{sys.executable}
import os
print(os.environ.get("PGPASSWORD"))
here = os.stat(".")
def leads_here(number):
    try:
        return os.path.samestat(os.fstat(number), here)
    except OSError:
        return False
raise SystemExit(not any(map(leads_here, range(3, 256))))
""")
    script.chmod(0o700)
    monkeypatch.setattr(meltano, "_MELTANO", str(script))
    assert meltano.command(["state", "list"], {}, project=tmp_path) == 0
    lines: list[str] = []
    environment = {"PGPASSWORD": "hidden-word"}
    ended = meltano.run("contoso", environment, project=tmp_path, secrets=set(), write=lines.append, tell=lines.append)
    assert (ended.code, lines) == (0, ["***\n"])

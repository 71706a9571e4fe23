"""Bad settings: one sentence each that names the setting and says what to write, and never shows a value."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import pytest
from singer_sdk.exceptions import ConfigValidationError

from tap_defender_lr import redaction, settings
from tap_defender_lr.quota.setting import open_store
from tap_defender_lr.settings import ConfiguredAction, Settings
from tap_defender_lr.tap import TapDefenderLr

GUID = "988cc94e-7a8f-4b28-ab65-54970c5d5018"
GOOD = {"tenant_id": "contoso.onmicrosoft.com", "client_id": GUID, "client_secret": "s3cret-Value"}


def errors(**changes: Any) -> list[str]:
    config = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    try:
        TapDefenderLr(config=config)
    except ConfigValidationError as error:
        return list(error.errors)
    return []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tenant_id": ...}, "`tenant_id` is missing"),
        ({"tenant_id": None}, "`tenant_id` is missing"),
        ({"tenant_id": ""}, "`tenant_id` is missing"),
        ({"tenant_id": "https://contoso"}, "`tenant_id` must be the tenant's GUID or domain"),
        ({"client_id": ...}, "`client_id` is missing"),
        ({"client_secret": ""}, "`client_secret` is missing"),
        ({"client_secret": 12345}, "`client_secret` must be a text, not a whole number"),
        ({"client_secret": {"x": "s3cret"}}, "`client_secret` must be a text, not an object"),
        ({"client_secret": Decimal("1.5")}, "`client_secret` must be a text, not a decimal number"),
        ({"calls_per_minute": Decimal("100.0")}, "`calls_per_minute` must be a whole number, not a decimal number"),
        ({"api_url": "http://api.security.microsoft.com"}, "`api_url` must begin with https://"),
        ({"login_url": "http://localhost:1"}, "`login_url` must begin with https://"),
        ({"api_url": "api.security.microsoft.com"}, "`api_url` is not an URL"),
        ({"api_url": "https://user:pw@host"}, "`api_url` must be only scheme and host"),
        ({"api_url": "https://host/api"}, "`api_url` must be only scheme and host"),
        ({"api_url": "https://host:port"}, "`api_url` is not an URL"),
        ({"login_url": "https://login.micro\nsoftonline.com"}, "`login_url` is not an URL"),
        ({"token_scope": "https://api.securitycenter.microsoft.com"}, "`token_scope` must end with /.default"),
        ({"start_date": "2026-02-30"}, "`start_date` is not a date that exists"),
        ({"start_date": "last week"}, "`start_date` is not a date that exists"),
        ({"end_date": "31.01.2026"}, "`end_date` is not a date that exists"),
        ({"start_date": "2026-02-01", "end_date": "2026-02-01"}, "`end_date` must be later"),
        ({"lookback_days": -1}, "`lookback_days` must be at least 0"),
        ({"lookback_days": "4"}, "`lookback_days` must be a whole number, not a text"),
        ({"calls_per_minute": 0}, "`calls_per_minute` must be at least 1"),
        ({"max_concurrency": 65}, "`max_concurrency` must be at most 64"),
        ({"max_output_bytes": 10}, "`max_output_bytes` must be at least 1,000"),
        ({"max_file_bytes": 0}, "`max_file_bytes` must be at least 1"),
        ({"files_url": "https://account.blob.core.windows.net/c"}, "`files_url` is a web address"),
        ({"files_url": "s3://key:s3cret@bucket"}, "`files_url` must hold no password"),
        (
            {"quota_store": "mysql://user:s3cret@host/database"},
            "`quota_store` is the URL of a database that cannot hold",
        ),
        (
            {"quota_store": "postgresql+asyncpg://user:s3cret@host/d"},
            "or a URL of PostgreSQL such as postgresql://user@",
        ),
        ({"quota_store": "postgresql://user:s3cret@host:port/d"}, "`quota_store` is not a database URL"),
        ({"quota_store": "://"}, "`quota_store` is not a database URL"),
        ({"quota_store": "sqlite://"}, "`quota_store` names no file"),
        ({"quota_store": "sqlite://srv/quota.sqlite"}, "`quota_store` names no file"),
        ({"quota_store": "sqlite:///~nosuchuser/quota.sqlite"}, "this machine knows no such home directory"),
        ({"quota_store": "~nosuchuser/quota.sqlite"}, "this machine knows no such home directory"),
        ({"quota_store": "postgresql://tap:first@tail-of-s3cret@host:5432/ledger"}, "write @ in the password as %40"),
        ({"quota_store": "postgresql://tap:first@tail/of-s3cret@host/ledger"}, "write @ in the password as %40"),
        ({"quota_store": "postgresql://tap:first@tail?of-s3cret@host/ledger"}, "write @ in the password as %40"),
        ({"quota_store": "postgresql://tap:first@s3cret@host:port/d"}, "write @ in the password as %40"),
        ({"quota_store": "postgresql://host:5432/d?user=tap&password=a@s3cret"}, "write @ in the password as %40"),
        ({"quota_store": "postgresql:/tap:s3cret@db/ledger"}, "`quota_store` has a scheme without //"),
        ({"quota_store": "sqlite:quota.sqlite"}, "`quota_store` has a scheme without //"),
        ({"quota_store": "tap:s3cret@db:5432/ledger"}, "`quota_store` has a scheme without //"),
        ({"quota_store": "postgresql//tap:/s3cret@db/ledger"}, "has a user and a password, but no scheme"),
        ({"quota_store": "host=db user=tap password=s3cret dbname=x"}, "`quota_store` is a list of keywords"),
        ({"quota_store": "dbname = x password='s3cret://'"}, "`quota_store` is a list of keywords"),
        ({"quota_store": "Server=db;Port=5432;Password=s3cret"}, "`quota_store` is a list of keywords"),
        ({"machine_ids": "abc"}, "`machine_ids` must be a list, not a text"),
        ({"machine_ids": [5]}, "`machine_ids[0]` must be a text"),
        ({"actions": [{"id": "nonsense"}]}, "`actions[0].id` is not the ID of a machine action"),
        ({"actions": [{}]}, "`id` is missing in `actions[0]`"),
        ({"actions": [GUID]}, "`actions[0]` must be an object"),
        ({"actions": [{"id": GUID, "command_indexes": [-1]}]}, "`actions[0].command_indexes[0]` must be at least 0"),
        ({"actions": [{"id": GUID, "command_indexes": "0"}]}, "`actions[0].command_indexes` must be a list"),
    ],
)
def test_one_sentence_per_problem(changes: dict[str, Any], words: str) -> None:
    found = errors(**changes)
    assert len(found) == 1
    assert words in found[0]
    assert found[0].endswith(".")
    assert "s3cret" not in found[0]


def test_several_problems_are_told_at_once() -> None:
    assert len(errors(tenant_id=..., client_id=..., start_date="soon")) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tenant_id": GUID},
        {"api_url": "https://eu.api.security.microsoft.com/"},
        {"quota_store": "C:\\Users\\me@contoso.com\\quota.sqlite"},
        {"quota_store": "C:/ledger/quota.sqlite"},
        {"quota_store": "/srv/host=a/me@contoso.com/quota.sqlite"},
        {"quota_store": "~/quota.sqlite"},
        {"quota_store": "postgresql://me@tenant:pass/word%40@host/database"},
        {"quota_store": "postgresql://me@tenant@host:5432/database?application_name=a@b"},
        {"start_date": "2026-01-31", "end_date": "2026-01-31T18:00:00Z"},
        {"start_date": "2026-01-31T18:00:00+02:00"},
        {"start_date": None, "actions": None, "max_run_minutes": None},
        {"actions": []},
        {"calls_per_minute": 500},
        {"files_url": " s3://bucket/folder\n"},
        {"files_url": ""},
        {"quota_store": "C:\\ledger\\quota.sqlite"},
        {"quota_store": "sqlite:////srv/quota.sqlite"},
        {"quota_store": "postgres://user:p%40ss@host/database?sslmode=require\n"},
        {"quota_store": "postgresql+psycopg:///database?host=/run/postgresql"},
    ],
)
def test_good_settings(changes: dict[str, Any]) -> None:
    assert errors(**changes) == []


def test_what_is_pasted_comes_with_spaces_and_line_ends() -> None:
    hosts = {"api_url": "https://api.example/", "login_url": "https://login.example", "token_scope": "a/.default"}
    found = TapDefenderLr(config={**GOOD, **{name: f" {host}\r\n" for name, host in hosts.items()}}).run.settings
    assert (found.api_url, found.login_url, found.token_scope) == (
        "https://api.example",
        "https://login.example",
        "a/.default",
    )


def test_secrets_are_masked_as_they_are_used() -> None:
    TapDefenderLr(config={**GOOD, "client_secret": "pasted-with-a-line-end\n"})
    url = "postgresql://tap:in-the%40url@host/database?sslpassword=of-the-key&password=in-the-query"
    open_store(url, pause=lambda _: None).close()
    used = ("pasted-with-a-line-end", url, "in-the@url", "of-the-key", "in-the-query")
    assert [redaction.redact(f"x {secret} y") for secret in used] == ["x *** y"] * len(used)


def test_the_driver_for_a_shared_ledger_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    (found,) = errors(quota_store="postgresql://host/database")
    assert "pip install 'tap-defender-lr[postgres]'" in found


def test_what_is_allowed_but_odd_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    TapDefenderLr(config={**GOOD, "calls_per_minute": 500, "calls_per_min": 5})
    assert "`calls_per_minute` is above the 100" in caplog.text
    assert "`calls_per_min` is unknown" in caplog.text


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("CALLS_PER_HOUR", "many", "TAP_DEFENDER_LR_CALLS_PER_HOUR must be a whole number"),
        ("ACTIONS", "[{", "TAP_DEFENDER_LR_ACTIONS must be JSON"),
    ],
)
def test_environment(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, words: str) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(f"TAP_DEFENDER_LR_{name.upper()}", value)
    TapDefenderLr(parse_env_config=True)
    monkeypatch.setenv(f"TAP_DEFENDER_LR_{variable}", text)
    with pytest.raises(ConfigValidationError) as raised:
        TapDefenderLr(parse_env_config=True)
    assert words in raised.value.errors[0]


def test_environment_of_every_type(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(f"TAP_DEFENDER_LR_{name.upper()}", value)
    monkeypatch.setenv("TAP_DEFENDER_LR_ACTIONS", f'[{{"id": "{GUID}"}}]')
    monkeypatch.setenv("TAP_DEFENDER_LR_SCRIPT_NAMES", '["a.ps1"]')
    monkeypatch.setenv("TAP_DEFENDER_LR_CALLS_PER_MINUTE", "50")
    found = TapDefenderLr(parse_env_config=True).run.settings
    assert (found.calls_per_minute, found.script_names) == (50, frozenset({"a.ps1"}))
    assert found.actions == (ConfiguredAction(GUID, None),)


@pytest.mark.parametrize(
    ("entries", "merged"),
    [
        ([{"id": GUID.upper()}], [ConfiguredAction(GUID, None)]),
        ([{"id": GUID, "command_indexes": [2, 0, 2]}], [ConfiguredAction(GUID, (0, 2))]),
        ([{"id": GUID, "command_indexes": []}], [ConfiguredAction(GUID, None)]),
        (
            [{"id": GUID, "command_indexes": [0]}, {"id": GUID, "command_indexes": [1]}],
            [ConfiguredAction(GUID, (0, 1))],
        ),
        ([{"id": GUID, "command_indexes": [0]}, {"id": GUID}], [ConfiguredAction(GUID, None)]),
        ([{"id": GUID}, {"id": GUID, "command_indexes": [0]}], [ConfiguredAction(GUID, None)]),
    ],
)
def test_actions_named_twice_are_one(entries: list[dict[str, Any]], merged: list[ConfiguredAction]) -> None:
    tap = TapDefenderLr(config={**GOOD, "actions": entries})
    assert list(tap.run.settings.actions) == merged


def test_every_setting_explains_itself_and_the_secret_is_marked() -> None:
    for name, definition in settings.JSON_SCHEMA["properties"].items():
        if name in TapDefenderLr.config_jsonschema["properties"] and name in Settings.__dataclass_fields__:
            assert definition["title"], name
            assert definition["description"].endswith("."), name
            assert definition["type"][0] in {"string", "integer", "boolean", "array", "object"}, name
    assert settings.JSON_SCHEMA["properties"]["client_secret"]["secret"] is True
    assert set(Settings.__dataclass_fields__) <= set(settings.JSON_SCHEMA["properties"])

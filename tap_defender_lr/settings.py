"""Every setting: its type, default and help.

The tables of `docs/settings.md`, `meltano.yml` and `sample_config.json` are generated from here or tested against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from singer_sdk import typing as th

from tap_defender_lr import script_streams, timestamps
from tap_defender_lr.clouds import CLOUDS, COMMERCIAL

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 1024 * 1024
SERVICE_CALLS_PER_MINUTE = 100
SERVICE_CALLS_PER_HOUR = 1500

#: How to sign in → the settings that belong to it, the ones that it cannot do without first.
AUTH_METHODS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "client_secret": (("client_id", "client_secret"), ()),
    "certificate": (("client_id", "certificate_path"), ("certificate_password",)),
    "workload_identity": (("client_id", "federated_token_file"), ()),
    "managed_identity": ((), ("managed_identity_client_id",)),
    "device_code": (("client_id",), ("token_cache_path",)),
}

PROPERTIES = th.PropertiesList(
    th.Property(
        "tenant_id",
        th.StringType,
        required=True,
        title="Tenant",
        description="Entra tenant in which the app is registered: its GUID or one of its domain names.",
    ),
    th.Property(
        "client_id",
        th.StringType,
        title="Client ID",
        description=(
            "Application (client) ID of the app registration that the tap signs in as. Required unless `auth_method` "
            "is `managed_identity`."
        ),
    ),
    th.Property(
        "auth_method",
        th.StringType,
        default="client_secret",
        allowed_values=list(AUTH_METHODS),
        title="Sign-in method",
        description=(
            "How the tap signs in: `client_secret`, `certificate`, `workload_identity`, `managed_identity` or "
            "`device_code`."
        ),
    ),
    th.Property(
        "client_secret",
        th.StringType,
        secret=True,
        title="Client secret",
        description="A client secret of the app registration: its value, not its ID.",
    ),
    th.Property(
        "certificate_path",
        th.StringType,
        title="Certificate file",
        description="PFX file, or PEM file that holds both certificate and private key, for `certificate`.",
    ),
    th.Property(
        "certificate_password",
        th.StringType,
        secret=True,
        title="Certificate password",
        description="Password of the certificate file, if it has one.",
    ),
    th.Property(
        "federated_token_file",
        th.StringType,
        title="Federated token file",
        description=(
            "File with the token of another identity provider, for `workload_identity`; read anew at each use. "
            "Default: the environment variable `AZURE_FEDERATED_TOKEN_FILE`."
        ),
    ),
    th.Property(
        "managed_identity_client_id",
        th.StringType,
        title="Managed identity client ID",
        description="Client ID of a user-assigned managed identity. Without it, the system-assigned one is used.",
    ),
    th.Property(
        "token_cache_path",
        th.StringType,
        title="Token cache file",
        description=(
            "File that keeps the sign-in of `device_code`, so that it is asked for once. It is as good as a password: "
            "only its owner can read it (mode 0600)."
        ),
    ),
    th.Property(
        "cloud",
        th.StringType,
        default=COMMERCIAL,
        allowed_values=list(CLOUDS),
        title="Cloud",
        description=(
            "Microsoft cloud of the tenant: `commercial`, `gcc`, `gcc_high` or `dod`. It sets the next three, of which "
            "each can also be set on its own."
        ),
    ),
    th.Property(
        "api_url",
        th.StringType,
        title="API host",
        description=(
            "Where the Defender for Endpoint API is called, https only, for example a regional host such as "
            "https://eu.api.security.microsoft.com. Default: from `cloud`."
        ),
    ),
    th.Property(
        "login_url",
        th.StringType,
        title="Sign-in host",
        description="Where the tap signs in, https only. Default: from `cloud`.",
    ),
    th.Property(
        "token_scope",
        th.StringType,
        title="Token scope",
        description=(
            "Scope of the access token. In the commercial cloud the service wants the same one whatever `api_url` is, "
            "and answers a token for another audience with 403. Default: from `cloud`."
        ),
    ),
    th.Property(
        "actions",
        th.ArrayType(
            th.ObjectType(
                th.Property("id", th.StringType, required=True, description="GUID of the machine action."),
                th.Property(
                    "command_indexes",
                    th.ArrayType(th.IntegerType(minimum=0)),
                    description="Indexes of its commands, counted from 0; all when left out.",
                ),
            ),
        ),
        title="Actions",
        description=(
            "Read exactly these machine actions instead of finding them by listing: "
            '`[{"id": "<GUID>", "command_indexes": [0]}]`. Dates, filters and the bookmark then do not apply.'
        ),
    ),
    th.Property(
        "start_date",
        th.DateTimeType,
        title="Start date",
        description="Only actions created at or after this time (UTC). Without it: all that the service still lists.",
    ),
    th.Property(
        "end_date",
        th.DateTimeType,
        title="End date",
        description="Only actions created before this time (UTC).",
    ),
    th.Property(
        "lookback_days",
        th.IntegerType(minimum=0),
        default=4,
        title="Look-back in days",
        description=(
            "How far before the bookmark the listing starts. A device that was offline may answer 3 days after the "
            "action was created."
        ),
    ),
    th.Property(
        "machine_ids",
        th.ArrayType(th.StringType),
        title="Devices",
        description="Only actions on these devices (Defender machine IDs, 40 hexadecimal characters).",
    ),
    th.Property(
        "script_names",
        th.ArrayType(th.StringType),
        title="Scripts",
        description="Only commands that run these scripts of the Live Response library, such as `Get-Software.ps1`.",
    ),
    th.Property(
        "calls_per_minute",
        th.IntegerType(minimum=1),
        default=SERVICE_CALLS_PER_MINUTE,
        title="Calls per minute",
        description="How many API calls the tap may spend in any minute. The service allows 100 for tenant and app.",
    ),
    th.Property(
        "calls_per_hour",
        th.IntegerType(minimum=1),
        default=SERVICE_CALLS_PER_HOUR,
        title="Calls per hour",
        description="How many API calls the tap may spend in any hour. The service allows 1,500 for tenant and app.",
    ),
    th.Property(
        "quota_store",
        th.StringType,
        secret=True,
        title="Quota store",
        description=(
            "Where the ledger of calls is that all processes of the same tenant and app share: the path of a SQLite "
            "file, or the URL of a PostgreSQL database for processes on several hosts, such as "
            "`postgresql://user:password@host:5432/database`. Default: `quota.sqlite` in the user's cache directory."
        ),
    ),
    th.Property(
        "max_run_minutes",
        th.IntegerType(minimum=1),
        title="Longest run in minutes",
        description=(
            "Start no more work after this time, finish what is in flight, write the state and exit 0; "
            "the next run continues."
        ),
    ),
    th.Property(
        "max_concurrency",
        th.IntegerType(minimum=1, maximum=64),
        default=8,
        title="Concurrency",
        description="How many results are fetched at the same time.",
    ),
    th.Property(
        "max_output_bytes",
        th.IntegerType(minimum=1000),
        default=10 * MIB,
        title="Longest text in bytes",
        description=(
            "Bytes of UTF-8 that `script_output` and `script_errors` hold at most, 10 MiB by default. Longer text is "
            "cut between two characters and flagged in `script_output_truncated` or `script_errors_truncated`."
        ),
    ),
    th.Property(
        "files_url",
        th.StringType,
        title="Where files go",
        description=(
            "Where the files that GetFile collects are stored: a directory, or a URL of an object store such as "
            "`s3://bucket/folder`, `abfs://container@account.dfs.core.windows.net/folder` or `gs://bucket/folder`. "
            "Without it they are not fetched (`skipped`). They may be malware."
        ),
    ),
    th.Property(
        "max_file_bytes",
        th.IntegerType(minimum=1),
        default=3 * 1024 * MIB,
        title="Largest file in bytes",
        description=(
            "A collected file that is larger, once it is unpacked, is not stored; its row says so. 3 GiB by default, "
            "as much as Live Response collects."
        ),
    ),
    script_streams.SETTING,
)

JSON_SCHEMA: dict[str, Any] = PROPERTIES.to_dict()


@dataclass(frozen=True)
class ConfiguredAction:
    """One entry of the setting `actions`; `command_indexes` is None for all commands."""

    id: str
    command_indexes: tuple[int, ...] | None


@dataclass(frozen=True)
class Settings:
    """The settings of a run, checked and in the types that the tap works with. Times as in `timestamps`."""

    tenant_id: str
    client_id: str
    auth_method: str
    client_secret: str | None
    certificate_path: str | None
    certificate_password: str | None
    federated_token_file: str | None
    managed_identity_client_id: str | None
    token_cache_path: str | None
    api_url: str
    login_url: str
    token_scope: str
    actions: tuple[ConfiguredAction, ...]
    start_date: str | None
    end_date: str | None
    lookback_days: int
    machine_ids: frozenset[str]
    script_names: frozenset[str]
    calls_per_minute: int
    calls_per_hour: int
    quota_store: str | None
    max_run_minutes: int | None
    max_concurrency: int
    max_output_bytes: int
    files_url: str | None
    max_file_bytes: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Only for a configuration in which `validation.problems` finds nothing."""
        cloud = CLOUDS[config["cloud"]]
        actions: dict[str, tuple[int, ...] | None] = {}
        for entry in config.get("actions") or ():
            action_id, indexes = entry["id"].lower(), entry.get("command_indexes")
            if not indexes or actions.get(action_id, ()) is None:
                actions[action_id] = None
            else:
                actions[action_id] = tuple(sorted({*(actions.get(action_id) or ()), *indexes}))
        return cls(
            tenant_id=pasted(config, "tenant_id") or "",
            client_id=pasted(config, "client_id") or "",
            auth_method=config["auth_method"],
            client_secret=pasted(config, "client_secret"),
            certificate_path=config.get("certificate_path") or None,
            certificate_password=config.get("certificate_password") or None,
            federated_token_file=config.get("federated_token_file") or None,
            managed_identity_client_id=pasted(config, "managed_identity_client_id"),
            token_cache_path=config.get("token_cache_path") or None,
            api_url=(pasted(config, "api_url") or cloud.api_url).rstrip("/"),
            login_url=(pasted(config, "login_url") or cloud.login_url).rstrip("/"),
            token_scope=pasted(config, "token_scope") or cloud.token_scope,
            actions=tuple(ConfiguredAction(*item) for item in actions.items()),
            start_date=date(config.get("start_date")),
            end_date=date(config.get("end_date")),
            lookback_days=config["lookback_days"],
            machine_ids=frozenset(machine.lower() for machine in config.get("machine_ids") or ()),
            script_names=frozenset(script.casefold() for script in config.get("script_names") or ()),
            calls_per_minute=config["calls_per_minute"],
            calls_per_hour=config["calls_per_hour"],
            quota_store=pasted(config, "quota_store"),
            max_run_minutes=config.get("max_run_minutes"),
            max_concurrency=config["max_concurrency"],
            max_output_bytes=config["max_output_bytes"],
            files_url=pasted(config, "files_url"),
            max_file_bytes=config["max_file_bytes"],
        )


def date(value: str | None) -> str | None:
    """A date or time of the settings in the form of `timestamps`; None for what is none."""
    if not value:
        return None
    text = value.strip()
    return timestamps.normalize(f"{text}T00:00:00Z" if len(text) == len("2026-01-31") else text)


def pasted(config: Mapping[str, Any], name: str) -> str | None:
    """A text without the spaces and line ends that come along when it is pasted; None for one that is empty."""
    return (config.get(name) or "").strip() or None

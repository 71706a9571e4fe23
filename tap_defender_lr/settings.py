"""Every setting: its type, default and help, and what is checked beyond its type.

The tables of the README, `meltano.yml` and `sample_config.json` are generated from here or tested against it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from singer_sdk import typing as th

from tap_defender_lr import timestamps
from tap_defender_lr.clouds import CLOUDS, COMMERCIAL
from tap_defender_lr.machine_action import GUID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jsonschema import ValidationError

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
#: What Azure's own tools put into the environment of a workload.
_AZURE_VARIABLES = {
    "tenant_id": "AZURE_TENANT_ID",
    "client_id": "AZURE_CLIENT_ID",
    "federated_token_file": "AZURE_FEDERATED_TOKEN_FILE",
    "login_url": "AZURE_AUTHORITY_HOST",
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
        title="Quota store",
        description=(
            "SQLite file with the ledger of calls that all processes of the same tenant and app share. "
            "Default: `quota.sqlite` in the user's cache directory."
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
)

JSON_SCHEMA: dict[str, Any] = PROPERTIES.to_dict()
_TYPE_NAMES = {
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "number": "a number",
}


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

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Only for a configuration in which `problems` finds nothing."""
        cloud = CLOUDS[config["cloud"]]
        actions: dict[str, tuple[int, ...] | None] = {}
        for entry in config.get("actions") or ():
            action_id, indexes = entry["id"].lower(), entry.get("command_indexes")
            if not indexes or actions.get(action_id, ()) is None:
                actions[action_id] = None
            else:
                actions[action_id] = tuple(sorted({*(actions.get(action_id) or ()), *indexes}))
        return cls(
            tenant_id=_pasted(config, "tenant_id") or "",
            client_id=_pasted(config, "client_id") or "",
            auth_method=config["auth_method"],
            client_secret=_pasted(config, "client_secret"),
            certificate_path=config.get("certificate_path") or None,
            certificate_password=config.get("certificate_password") or None,
            federated_token_file=config.get("federated_token_file") or None,
            managed_identity_client_id=_pasted(config, "managed_identity_client_id"),
            token_cache_path=config.get("token_cache_path") or None,
            api_url=(config.get("api_url") or cloud.api_url).rstrip("/"),
            login_url=(config.get("login_url") or cloud.login_url).rstrip("/"),
            token_scope=config.get("token_scope") or cloud.token_scope,
            actions=tuple(ConfiguredAction(*item) for item in actions.items()),
            start_date=_date(config.get("start_date")),
            end_date=_date(config.get("end_date")),
            lookback_days=config["lookback_days"],
            machine_ids=frozenset(machine.lower() for machine in config.get("machine_ids") or ()),
            script_names=frozenset(script.casefold() for script in config.get("script_names") or ()),
            calls_per_minute=config["calls_per_minute"],
            calls_per_hour=config["calls_per_hour"],
            quota_store=config.get("quota_store") or None,
            max_run_minutes=config.get("max_run_minutes"),
            max_concurrency=config["max_concurrency"],
            max_output_bytes=config["max_output_bytes"],
        )


def type_problem(error: ValidationError) -> str:
    """One sentence for what JSON Schema found, which never holds the value: it may be a secret."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    if error.validator == "required":
        missing = ", ".join(f"`{name}`" for name in error.validator_value if name not in error.instance)
        return f"{missing} is missing in `{path}`." if path else f"{missing} is missing."
    if error.validator == "type":
        value: Any = error.validator_value
        kinds: list[str] = value if isinstance(value, list) else [value]
        wanted = " or ".join(_TYPE_NAMES.get(kind, kind) for kind in kinds if kind != "null")
        return f"`{path}` must be {wanted}, not {_TYPE_NAMES.get(_json_type(error.instance), 'null')}."
    if error.validator == "enum":
        allowed = [str(value) for value in error.validator_value if value is not None]
        return f"`{path}` must be one of {', '.join(allowed[:-1])} or {allowed[-1]}."
    if error.validator in {"minimum", "maximum"}:
        bound = "at least" if error.validator == "minimum" else "at most"
        return f"`{path}` must be {bound} {error.validator_value:,}."
    return f"`{path}` does not fit its definition ({error.validator}); see the README for what it takes."


def problems(config: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a configuration whose types are right: one sentence each, without any value of a secret."""
    yield from _sign_in_problems(config)
    tenant = str(config.get("tenant_id") or "").strip()
    if tenant and not all(character.isalnum() or character in "-._" for character in tenant):
        yield "`tenant_id` must be the tenant's GUID or domain name, such as contoso.onmicrosoft.com, and nothing else."
    for name in ("api_url", "login_url"):
        yield from _url_problems(name, config.get(name))
    yield from _cloud_problems(config)
    yield from _date_problems(config)
    for position, entry in enumerate(config.get("actions") or ()):
        if not GUID.fullmatch(entry["id"]):
            yield (
                f"`actions[{position}].id` is not the ID of a machine action: write its GUID, "
                "such as 988cc94e-7a8f-4b28-ab65-54970c5d5018."
            )
    if config.get("token_scope") and not str(config["token_scope"]).endswith("/.default"):
        yield "`token_scope` must end with /.default, such as https://api.securitycenter.microsoft.com/.default."


def warnings(config: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    """What is allowed but probably not meant."""
    for name in sorted(config.keys() - known.keys()):
        yield f"The setting `{name}` is unknown and ignored."
    for name, limit in (("calls_per_minute", SERVICE_CALLS_PER_MINUTE), ("calls_per_hour", SERVICE_CALLS_PER_HOUR)):
        if config[name] > limit:
            yield f"`{name}` is above the {limit:,} that the service allows: expect it to make the tap wait (HTTP 429)."


def environment_problems(environment: Mapping[str, str], schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Variables that are not of their setting's type: the SDK would end with a traceback that shows the value."""
    for name, definition in schema["properties"].items():
        variable = prefix + name.upper()
        text = environment.get(variable)
        kinds = definition.get("type", [])
        if text is None:
            continue
        if "integer" in kinds and not text.strip().lstrip("-").isdecimal():
            yield f"The environment variable {variable} must be a whole number."
        elif "object" in kinds or definition.get("items", {}).get("type") not in (None, ["string"], "string"):
            try:
                json.loads(text)
            except ValueError:
                yield f"The environment variable {variable} must be JSON, such as an array of objects."


def with_environment(config: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The configuration with what Azure's own tools tell a workload, where the settings do not say otherwise."""
    found: dict[str, Any] = {}
    if config.get("auth_method") == "workload_identity":
        found = {name: environment[key] for name, key in _AZURE_VARIABLES.items() if environment.get(key)}
    return {**found, **{name: value for name, value in config.items() if value is not None}}


def _sign_in_problems(config: Mapping[str, Any]) -> Iterator[str]:
    method = config["auth_method"]
    needed, _ = AUTH_METHODS[method]
    for name in ("tenant_id", *needed):
        if not str(config.get(name) or "").strip():
            yield f"`{name}` is missing: {_ADVICE[name]}"
    for other, (required, optional) in AUTH_METHODS.items():
        for name in (*required, *optional):
            if config.get(name) and name != "client_id" and other != method:
                yield (
                    f"`{name}` is set, but `auth_method` is {method}: remove `{name}`, or set `auth_method` to {other}."
                )


_ADVICE = {
    "tenant_id": "write the GUID or domain name of your Entra tenant.",
    "client_id": "write the Application (client) ID of the app registration.",
    "client_secret": "write the value of a client secret, or set `auth_method` to another way to sign in.",
    "certificate_path": "write the path of a PFX or PEM file that holds certificate and private key.",
    "federated_token_file": "write the path of the file that your platform keeps the token in.",
}


def _url_problems(name: str, url: str | None) -> Iterator[str]:
    if not url:
        return
    example = getattr(CLOUDS[COMMERCIAL], name)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None:
        yield f"`{name}` is not an URL: write one such as {example}."
    elif parts.scheme != "https":
        yield f"`{name}` must begin with https://, since secrets are sent there: write one such as {example}."
    elif parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"):
        yield f"`{name}` must be only scheme and host: write one such as {example}."


def _cloud_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """A host or scope of another cloud, unless all three are set by hand: then `cloud` says nothing any more."""
    names = ("api_url", "login_url", "token_scope")
    if all(config.get(name) for name in names):
        return
    chosen = config["cloud"]
    for name in names:
        value = str(config.get(name) or "").rstrip("/")
        homes = [cloud for cloud, preset in CLOUDS.items() if getattr(preset, name) == value]
        if homes and chosen not in homes:
            yield f"`{name}` is the one of the cloud {homes[0]}, but `cloud` is {chosen}: set `cloud` to {homes[0]}."


def _pasted(config: Mapping[str, Any], name: str) -> str | None:
    """Pasted values come with spaces and line ends around them."""
    return (config.get(name) or "").strip() or None


def _date_problems(config: Mapping[str, Any]) -> Iterator[str]:
    dates: dict[str, str | None] = {}
    for name in ("start_date", "end_date"):
        if config.get(name):
            dates[name] = _date(config[name])
            if dates[name] is None:
                yield f"`{name}` is not a date that exists: write it as 2026-01-31 or 2026-01-31T18:00:00Z."
    start, end = dates.get("start_date"), dates.get("end_date")
    if start and end and start >= end:
        yield "`end_date` must be later than `start_date`, or no action can be created between them."


def _date(value: str | None) -> str | None:
    if not value:
        return None
    text = value.strip()
    return timestamps.normalize(f"{text}T00:00:00Z" if len(text) == len("2026-01-31") else text)


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    kinds = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "null")

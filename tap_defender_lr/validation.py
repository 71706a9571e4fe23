"""What is wrong with settings beyond what their types tell: one sentence each, which never holds a value."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from singer_sdk.plugin_base import JSONSchemaValidator

from tap_defender_lr import files_url, script_streams
from tap_defender_lr.clouds import CLOUDS, COMMERCIAL
from tap_defender_lr.machine_action import GUID
from tap_defender_lr.quota import setting as quota_store
from tap_defender_lr.script_streams import ScriptStream
from tap_defender_lr.settings import AUTH_METHODS, SERVICE_CALLS_PER_HOUR, SERVICE_CALLS_PER_MINUTE, date, pasted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jsonschema import ValidationError

#: What Azure's own tools put into the environment of a workload.
_AZURE_VARIABLES = {
    "tenant_id": "AZURE_TENANT_ID",
    "client_id": "AZURE_CLIENT_ID",
    "federated_token_file": "AZURE_FEDERATED_TOKEN_FILE",
    "login_url": "AZURE_AUTHORITY_HOST",
}
_TYPE_NAMES = {
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "number": "a decimal number",
}


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
    if error.validator == "additionalProperties":
        unknown = ", ".join(f"`{name}`" for name in error.instance if name not in error.schema.get("properties", {}))
        return f"`{path}` has {unknown}, which it does not know; see the page on settings for what it takes."
    if error.validator in {"minimum", "maximum"}:
        bound = "at least" if error.validator == "minimum" else "at most"
        return f"`{path}` must be {bound} {error.validator_value:,}."
    return f"`{path}` does not fit its definition ({error.validator}); see the page on settings for what it takes."


def problems(config: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a configuration whose types are right: one sentence each, without any value of a secret."""
    yield from _sign_in_problems(config)
    tenant = str(config.get("tenant_id") or "").strip()
    if tenant and not all(character.isalnum() or character in "-._" for character in tenant):
        yield "`tenant_id` must be the tenant's GUID or domain name, such as contoso.onmicrosoft.com, and nothing else."
    for name in ("api_url", "login_url"):
        yield from _url_problems(name, pasted(config, name))
    yield from _cloud_problems(config)
    yield from _date_problems(config)
    for position, entry in enumerate(config.get("actions") or ()):
        if not GUID.fullmatch(entry["id"]):
            yield (
                f"`actions[{position}].id` is not the ID of a machine action: write its GUID, "
                "such as 988cc94e-7a8f-4b28-ab65-54970c5d5018."
            )
    yield from files_url.problems(pasted(config, "files_url") or "")
    yield from quota_store.problems(pasted(config, "quota_store") or "")
    yield from script_streams.problems(config.get("script_streams") or [])
    scope = pasted(config, "token_scope")
    if scope is not None and not scope.endswith("/.default"):
        yield "`token_scope` must end with /.default, such as https://api.securitycenter.microsoft.com/.default."


def script_stream_problems(config: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with `script_streams` alone: discovery needs it right, even if the other settings are not there."""
    entries = config.get("script_streams") or []
    validator = JSONSchemaValidator({"properties": {"script_streams": schema["properties"]["script_streams"]}})
    found = [type_problem(error) for error in validator.iter_errors({"script_streams": entries})]
    yield from found or script_streams.problems(entries)


def warnings(config: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    """What is allowed but probably not meant."""
    for name in sorted(config.keys() - known.keys()):
        yield f"The setting `{name}` is unknown and ignored."
    wanted = config.get("script_names") or ()
    for entry in map(ScriptStream.from_entry, config.get("script_streams") or ()):
        if wanted and not config.get("actions") and not any(map(entry.matches, wanted)):
            yield f"`script_names` leaves out every script of the script stream {entry.name}: it will stay empty."
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
    if host is None or any(map(str.isspace, url)):  # `urlsplit` drops line ends without a word
        yield f"`{name}` is not an URL: write one such as {example}."
    elif parts.scheme != "https":
        yield f"`{name}` must begin with https://, since secrets are sent there: write one such as {example}."
    elif parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"):
        yield f"`{name}` must be only scheme and host: write one such as {example}."


def _cloud_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """A host or scope of another cloud, unless all three are set by hand: then `cloud` says nothing any more."""
    names = ("api_url", "login_url", "token_scope")
    if all(pasted(config, name) for name in names):
        return
    chosen = config["cloud"]
    for name in names:
        value = (pasted(config, name) or "").rstrip("/")
        homes = [cloud for cloud, preset in CLOUDS.items() if getattr(preset, name) == value]
        if homes and chosen not in homes:
            yield f"`{name}` is the one of the cloud {homes[0]}, but `cloud` is {chosen}: set `cloud` to {homes[0]}."


def _date_problems(config: Mapping[str, Any]) -> Iterator[str]:
    dates: dict[str, str | None] = {}
    for name in ("start_date", "end_date"):
        if config.get(name):
            dates[name] = date(config[name])
            if dates[name] is None:
                yield f"`{name}` is not a date that exists: write it as 2026-01-31 or 2026-01-31T18:00:00Z."
    start, end = dates.get("start_date"), dates.get("end_date")
    if start and end and start >= end:
        yield "`end_date` must be later than `start_date`, or no action can be created between them."


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    # The SDK reads the decimals of a configuration file as `Decimal`, so that 100.0 is no whole number.
    kinds = {str: "string", int: "integer", float: "number", Decimal: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "null")

"""The tap that the SDK's own template leads to: a stream of actions, and a child stream with a request per command.

Usage: python -m benchmarks.plain_tap --config CONFIG.json [--state STATE.json]

Waits, retries and state are the SDK's defaults, with one exception: `state_partitioning_keys`.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import requests
from singer_sdk import RESTStream, Stream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import OAuthAuthenticator
from singer_sdk.pagination import BaseHATEOASPaginator, SinglePagePaginator
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable

    from singer_sdk.helpers.types import Context
    from singer_sdk.streams.rest import HTTPRequest, PageContext


class _Authenticator(OAuthAuthenticator):
    @property
    @override
    def oauth_request_body(self) -> dict[str, Any]:
        return {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._client_secret,
            "scope": self.oauth_scopes,
        }


class _DefenderStream(RESTStream[Any]):
    @property
    @override
    def url_base(self) -> str:
        return str(self.config["api_url"])

    @cached_property
    @override
    def requests_session(self) -> requests.Session:
        session = requests.Session()
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True  # the SDK sends past the environment
        return session

    @cached_property
    @override
    def authenticator(self) -> _Authenticator:
        tap = self._tap
        if not isinstance(tap, PlainTap):
            raise TypeError(type(tap))
        return tap.authenticator  # one for all streams: each would get a token of its own


class _Paginator(BaseHATEOASPaginator):
    @override
    def get_next_url(self, response: requests.Response) -> str | None:
        url: str | None = response.json().get("@odata.nextLink")
        return url


class ActionsStream(_DefenderStream):
    name = "machine_actions"
    path = "/api/machineactions"
    records_jsonpath = "$.value[*]"
    primary_keys = ("id",)
    replication_key = "creationDateTimeUtc"  # the filter knows no other time
    schema = th.PropertiesList(
        th.Property("id", th.StringType, required=True),
        th.Property("status", th.StringType),
        th.Property("machineId", th.StringType),
        th.Property("computerDnsName", th.StringType),
        th.Property("creationDateTimeUtc", th.DateTimeType, required=True),
        th.Property("lastUpdateDateTimeUtc", th.DateTimeType),
        th.Property("commands", th.ArrayType(th.ObjectType(additional_properties=True))),
    ).to_dict()

    @override
    def get_new_paginator(self) -> BaseHATEOASPaginator:
        return _Paginator()

    @override
    def get_http_request(self, *, page: PageContext[Any]) -> HTTPRequest:
        request = super().get_http_request(page=page)
        condition = "type eq 'LiveResponse'"
        since = self.get_starting_replication_key_value(page.stream_context)
        if since:
            condition += f" and creationDateTimeUtc ge {since}"
        request.params["$filter"] = condition
        return request

    @override
    def generate_child_contexts(self, record: dict[str, Any], context: Context | None) -> Iterable[Context]:
        for command in record["commands"]:
            yield {"action_id": record["id"], "command_index": command["index"]}


class ResultsStream(_DefenderStream):
    name = "live_response_results"
    path = "/api/machineactions/{action_id}/GetLiveResponseResultDownloadLink(index={command_index})"
    parent_stream_type = ActionsStream
    primary_keys = ("machine_action_id", "command_index")
    state_partitioning_keys = ()  # else each STATE holds an entry for each command so far: 151 MB for 3,000
    schema = th.PropertiesList(
        th.Property("machine_action_id", th.StringType, required=True),
        th.Property("command_index", th.IntegerType, required=True),
        th.Property("script_name", th.StringType),
        th.Property("exit_code", th.IntegerType),
        th.Property("script_output", th.StringType),
        th.Property("script_errors", th.StringType),
    ).to_dict()

    @cached_property
    def _blobs(self) -> requests.Session:
        return requests.Session()  # the API's token is not for the blob store

    @override
    def get_new_paginator(self) -> SinglePagePaginator:
        return SinglePagePaginator()

    @override
    def parse_response(self, response: requests.Response) -> Iterable[dict[str, Any]]:
        blob = self._blobs.get(response.json()["value"], timeout=self.timeout)
        blob.raise_for_status()
        yield blob.json()

    @override
    def post_process(self, row: dict[str, Any], context: Context | None = None) -> dict[str, Any]:
        place = dict(context or {})
        return {**row, "machine_action_id": place["action_id"], "command_index": place["command_index"]}


class PlainTap(Tap):
    name = "plain-tap"
    config_jsonschema = th.PropertiesList(
        th.Property("tenant_id", th.StringType, required=True),
        th.Property("client_id", th.StringType, required=True),
        th.Property("client_secret", th.StringType, required=True, secret=True),
        th.Property("api_url", th.StringType, default="https://api.security.microsoft.com"),
        th.Property("login_url", th.StringType, default="https://login.microsoftonline.com"),
        th.Property("token_scope", th.StringType, default="https://api.securitycenter.microsoft.com/.default"),
    ).to_dict()

    @cached_property
    def authenticator(self) -> _Authenticator:
        return _Authenticator(
            client_id=self.config["client_id"],
            client_secret=self.config["client_secret"],
            auth_endpoint=f"{self.config['login_url']}/{self.config['tenant_id']}/oauth2/v2.0/token",
            oauth_scopes=self.config["token_scope"],
        )

    @override
    def discover_streams(self) -> list[Stream]:
        return [ActionsStream(self), ResultsStream(self)]


if __name__ == "__main__":
    PlainTap.cli()

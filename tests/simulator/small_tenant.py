"""A small tenant made by hand, the simulator that serves it, and a client that has signed in."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from defender_simulator import App, Result, Simulator, Tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TENANT = "11111111-2222-3333-4444-555555555555"
APP = App("aaaaaaaa-0000-0000-0000-000000000001", "right-secret")
STRANGER = "99999999-9999-9999-9999-999999999999"
BODY = b'{"script_name":"Get-Software.ps1","exit_code":0,"script_output":"hello","script_errors":""}'


class Clock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A requests session that has signed in."""

    def __init__(self, sim: Simulator, session: requests.Session) -> None:
        self.sim = sim
        self.session = session
        session.headers["Authorization"] = f"Bearer {sign_in(sim).json()['access_token']}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(f"{self.sim.api_url}/api/{path}", timeout=10, **options)

    def list(self, **options: str) -> requests.Response:
        return self.get("machineactions", params={f"${name}": value for name, value in options.items()})

    def link(self, action_id: str, index: int | str = 0) -> requests.Response:
        return self.get(f"machineactions/{action_id}/GetLiveResponseResultDownloadLink(index={index})")


@contextmanager
def serving(tenant: Tenant | None = None, **options: Any) -> Iterator[tuple[Simulator, Client]]:
    with Simulator(tenant or make_tenant(), **options) as sim, requests.Session() as session:
        session.verify = sim.ca_file
        session.trust_env = False  # or REQUESTS_CA_BUNDLE wins over `verify`
        yield sim, Client(sim, session)


def action(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.UUID(int=number)),
        "type": "LiveResponse",
        "title": None,
        "requestor": "SOC scripts",
        "status": "Succeeded",
        "machineId": f"{number:040x}",
        "creationDateTimeUtc": f"2026-01-01T00:00:{number:02}.5Z",
        "lastUpdateDateTimeUtc": f"2026-01-01T01:00:{number:02}Z",
        "commands": [command(0, "RunScript"), command(1, "PutFile"), command(2, "RunScript")],
        **changes,
    }


def command(index: int, kind: str) -> dict[str, Any]:
    return {"index": index, "commandStatus": "Completed", "errors": [], "command": {"type": kind, "params": []}}


def make_tenant(actions: list[dict[str, Any]] | None = None, apps: list[App] | None = None) -> Tenant:
    actions = [action()] if actions is None else actions
    results = {(item["id"], 0): Result(BODY) for item in actions}
    return Tenant(TENANT, apps or [APP], actions, results)


def sign_in(sim: Simulator, tenant: str = TENANT, **changes: str) -> requests.Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": sim.tenant.apps[0].client_id,
        "client_secret": sim.tenant.apps[0].client_secret,
        "scope": sim.token_scope,
        **changes,
    }
    return requests.post(f"{sim.login_url}/{tenant}/oauth2/v2.0/token", form, verify=sim.ca_file, timeout=10)


def download(
    client: Client, change: Callable[[str], str] = str, headers: dict[str, str] | None = None
) -> requests.Response:
    link = client.link(action()["id"]).json()["value"]
    return requests.get(change(link), headers=headers, verify=client.sim.ca_file, timeout=10)

"""The script that a person writes instead of a tap: one token, one list, then link and blob, command by command.

Usage: python benchmarks/naive.py CONFIG.json

Connections are kept open from request to request, and when the service says wait, it waits.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import requests


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    session = requests.Session()

    def get(url: str, **more: Any) -> Any:
        response = session.get(url, timeout=60, **more)
        while response.status_code == 429:
            time.sleep(int(response.headers["Retry-After"]))
            response = session.get(url, timeout=60, **more)
        response.raise_for_status()
        return response.json()

    response = session.post(
        f"{config['login_url']}/{config['tenant_id']}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": config["client_id"],
            "client_secret": config["client_secret"],
            "scope": config["token_scope"],
        },
        timeout=60,
    )
    response.raise_for_status()
    headers = {"Authorization": f"Bearer {response.json()['access_token']}"}

    url = f"{config['api_url']}/api/machineactions"
    for action in get(url, params={"$filter": "type eq 'LiveResponse'"}, headers=headers)["value"]:
        for command in action["commands"]:
            index = command["index"]
            link = get(f"{url}/{action['id']}/GetLiveResponseResultDownloadLink(index={index})", headers=headers)
            result = get(link["value"])
            print(json.dumps({"machine_action_id": action["id"], "command_index": index, **result}))


if __name__ == "__main__":
    main()

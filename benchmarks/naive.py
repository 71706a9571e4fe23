"""The script that a person writes instead of a tap: one token, one list, then link and blob, command by command.

Usage: python benchmarks/naive.py CONFIG.json [--session]

With `--session`, connections are kept open from request to request.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import requests


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    http = requests.Session() if "--session" in sys.argv else requests

    response = http.post(
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
    response = http.get(url, params={"$filter": "type eq 'LiveResponse'"}, headers=headers, timeout=60)
    response.raise_for_status()
    for action in response.json()["value"]:
        for command in action["commands"]:
            index = command["index"]
            link_url = f"{url}/{action['id']}/GetLiveResponseResultDownloadLink(index={index})"
            response = http.get(link_url, headers=headers, timeout=60)
            response.raise_for_status()
            response = http.get(response.json()["value"], timeout=60)
            response.raise_for_status()
            print(json.dumps({"machine_action_id": action["id"], "command_index": index, **response.json()}))


if __name__ == "__main__":
    main()

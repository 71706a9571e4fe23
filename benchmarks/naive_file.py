"""The script that a person writes instead of a tap for one collected file: link, then the bytes into a file.

Usage: python benchmarks/naive_file.py CONFIG.json TARGET [--unpack]

TARGET is a path or an URL of fsspec. Nothing is hashed or checked, and a download that breaks off is lost.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

import fsspec
import requests

_PIECE = 1024 * 1024


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    response = requests.post(
        f"{config['login_url']}/{config['tenant_id']}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": config["client_id"],
            "client_secret": config["client_secret"],
            "scope": config["token_scope"],
        },
        timeout=60,
    )
    headers = {"Authorization": f"Bearer {response.json()['access_token']}"}
    url = f"{config['api_url']}/api/machineactions"
    (action,) = requests.get(url, headers=headers, timeout=60).json()["value"]
    link_url = f"{url}/{action['id']}/GetLiveResponseResultDownloadLink(index=0)"
    link = requests.get(link_url, headers=headers, timeout=60).json()["value"]
    with requests.get(link, stream=True, timeout=60) as download, fsspec.open(sys.argv[2], "wb") as file:
        if "--unpack" in sys.argv:
            shutil.copyfileobj(gzip.GzipFile(fileobj=download.raw), file, _PIECE)
        else:
            for chunk in download.iter_content(_PIECE):
                file.write(chunk)
    print(json.dumps({"machine_action_id": action["id"], "result_status": "fetched"}, separators=(",", ":")))


if __name__ == "__main__":
    main()

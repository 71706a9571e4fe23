"""The simulated fleet prints what the scripts of the library print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from defender_simulator import powershell
from defender_simulator.documents import shell_json
from defender_simulator.fleet import DIRT, dirt_id, make_tenant, next_day
from tests.conftest import NOON
from tests.library_pages import BY_STREAM, PAGES
from tests.script_library.shells import needs_unix, run

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_fleet_prints_what_the_scripts_print() -> None:
    tenant = make_tenant(devices=250, now=NOON)
    next_day(tenant, devices=250, now=NOON + 86_400)
    dirty = {dirt_id(name) for name in DIRT}
    by_script = {file.name: page for page in PAGES for file in (page.powershell, page.shell) if file}
    seen = dict.fromkeys(by_script, 0)
    for action in tenant.actions:
        result = tenant.results.get((action["id"], 0))
        if action["status"] != "Succeeded" or action["id"] in dirty or result is None:
            continue
        printed = json.loads(result.body)
        page = by_script[printed["script_name"]]
        (text,) = [line for line in printed["script_output"].split("\n") if line.startswith("{")]
        text = text.removesuffix("\r")
        seen[printed["script_name"]] += len(page.check(text))
        is_windows = printed["script_name"].endswith(".ps1")
        # The layout, too: no blanks, and the same characters escaped.
        assert text == (powershell.to_compressed_json if is_windows else shell_json)(json.loads(text))
    assert min(seen.values()) > 50


@needs_unix
def test_the_fleet_writes_json_as_the_shell_scripts_do(stand_ins: Callable[..., str]) -> None:
    line = r"install ok installed\tM\303\274ller <\042a\\\\b\042>\t1\tx & \047y\047\t12\n"
    page = BY_STREAM["installed_software"]
    text = run(page, path=stand_ins(dpkg_query=f"printf '{line}'"))
    assert text == shell_json(json.loads(text)) + "\n"

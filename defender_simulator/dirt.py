"""What is wrong, odd or undocumented in real answers, and one action of the fleet for each of it.

The action that carries a piece of dirt has an id made from its name, in every fleet: `dirt_id("gzip_body")`. The dirt
is in the action itself or in the result of its command 0.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import uuid
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from .shapes import SECOND, ticks_of, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from .tenant import Tenant

#: Which actions can carry it: Succeeded on Windows or elsewhere, Failed with a result, Cancelled, or waiting to start.
Soil = Literal["windows", "unix", "failed", "cancelled", "waiting"]


@dataclass(frozen=True)
class Dirt:
    """One oddity: how it looks, and how to make it from a clean action or a clean result document."""

    what: str
    soil: Soil = "windows"
    on_action: Callable[[dict[str, Any]], None] | None = None
    on_result: Callable[[dict[str, Any]], bytes] | None = None


def dirt_id(name: str) -> str:
    """Say which action carries the dirt of this name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://contoso.example/dirt/{name}"))


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document)


def _raw_line_feed(document: dict[str, Any]) -> bytes:
    return _text(document).replace(r".txt\r\n", ".txt\n", 1).encode()


def _renamed(document: dict[str, Any], old: str, new: str) -> bytes:
    return _text({new if key == old else key: value for key, value in document.items()}).encode()


def _with(document: dict[str, Any], **fields: Any) -> bytes:
    return _text(document | fields).encode()


def _lone_surrogate(document: dict[str, Any]) -> bytes:
    # An output cut in the middle of an emoji.
    return _with(document, script_output=document["script_output"].rstrip("\0\r\n") + " \ud83d")


def _german(document: dict[str, Any]) -> bytes:
    sentence = "Die Aufzeichnung wurde gestartet. Die Ausgabedatei ist "
    output = document["script_output"].replace("Transcript started, output file is ", sentence, 1)
    return _with(document, script_output=output)


def _split(document: dict[str, Any]) -> tuple[str, str]:
    """Take the transcript line apart from what the script itself printed."""
    head, end, rest = document["script_output"].partition("\r\n")
    return head + end, rest


def _nul_between_letters(document: dict[str, Any]) -> bytes:
    head, _ = _split(document)
    printed = "Windows Subsystem for Linux Distributions:\r\nUbuntu-22.04 (Default)\r\ndocker-desktop\r\n"
    return _with(document, script_output=head + "".join(f"{character}\0" for character in printed))


def _ansi_colours(document: dict[str, Any]) -> bytes:
    return _with(document, script_output=re.sub(r'("\w+"):', "\x1b[34;1m\\1\x1b[0m:", document["script_output"]))


def _mixed_line_ends(document: dict[str, Any]) -> bytes:
    head, rest = _split(document)
    notes = "Loading module ...\nLoading module ... done\r\nWARNING: profile skipped\n"
    return _with(document, script_output=head + notes + rest)


def _decimals(action: dict[str, Any], decimals: int) -> None:
    """Write the times of the action with exactly so many decimals, the last one not zero."""
    unit = 10 ** (7 - decimals)
    for key, up in (("creationDateTimeUtc", 0), ("lastUpdateDateTimeUtc", 1)):
        count = ticks_of(action[key]) // unit + up
        if decimals and count % 10 == 0:
            count += 1 if up else -1
        action[key] = timestamp(count * unit)


def _last_update_time_name(action: dict[str, Any]) -> None:
    renamed = {"lastUpdateTimeUtc" if key == "lastUpdateDateTimeUtc" else key: value for key, value in action.items()}
    action.clear()
    action.update(renamed)


def _set(action: dict[str, Any], **properties: Any) -> None:
    action.update(properties)


def _set_command(action: dict[str, Any], **properties: Any) -> None:
    action["commands"][0].update(properties)


def _without_commands(action: dict[str, Any]) -> None:
    del action["commands"]


DIRT: dict[str, Dirt] = {
    "raw_line_feed": Dirt("a raw line feed in a string, as in Microsoft's own example", on_result=_raw_line_feed),
    "gzip_body": Dirt(
        "the result is gzip", on_result=lambda document: gzip.compress(_text(document).encode(), mtime=0)
    ),
    "utf8_bom": Dirt("a UTF-8 BOM", on_result=lambda document: codecs.BOM_UTF8 + _text(document).encode()),
    "utf16_body": Dirt(
        "UTF-16 with a BOM", on_result=lambda document: codecs.BOM_UTF16_LE + _text(document).encode("utf-16-le")
    ),
    "plain_text_body": Dirt("plain text, no JSON around it", on_result=lambda document: _split(document)[1].encode()),
    "script_error_key": Dirt(
        "script_error for script_errors", on_result=partial(_renamed, old="script_errors", new="script_error")
    ),
    "name_key": Dirt("name for script_name", on_result=partial(_renamed, old="script_name", new="name")),
    "lone_surrogate": Dirt("half a surrogate pair", on_result=_lone_surrogate),
    "german_transcript": Dirt("the transcript line in German", on_result=_german),
    "exit_code_null": Dirt("no exit code", on_result=partial(_with, exit_code=None)),
    "exit_code_dword": Dirt(
        "an NTSTATUS as exit code, above 2^31", soil="failed", on_result=partial(_with, exit_code=3221225477)
    ),
    "nul_between_letters": Dirt("UTF-16 of a native tool, read as single bytes", on_result=_nul_between_letters),
    "ansi_colours": Dirt("ANSI colours", soil="unix", on_result=_ansi_colours),
    "mixed_line_ends": Dirt("CRLF and LF in one output", on_result=_mixed_line_ends),
    "last_update_time_name": Dirt("lastUpdateTimeUtc for lastUpdateDateTimeUtc", on_action=_last_update_time_name),
    "commands_missing": Dirt("no commands property, in an open action", soil="waiting", on_action=_without_commands),
    "commands_null": Dirt(
        "commands is null, in a cancelled action", soil="cancelled", on_action=partial(_set, commands=None)
    ),
    "empty_start_time": Dirt("an empty text for a time", on_action=partial(_set_command, startTime="")),
    "unknown_property": Dirt(
        "a property nobody has documented",
        on_action=partial(_set, deviceGroup={"rbacGroupId": 14, "rbacGroupName": "Clients EMEA"}),
    ),
    "unknown_command_status": Dirt(
        "a command status nobody has documented", on_action=partial(_set_command, commandStatus="CompletedWithWarnings")
    ),
    **{
        f"decimals_{count}": Dirt(f"times with {count} decimals", on_action=partial(_decimals, decimals=count))
        for count in range(8)
    },
}


def _soil_of(action: dict[str, Any], tenant: Tenant) -> Soil | None:
    commands = action["commands"]
    if len(commands) != 1:
        return None
    with_result = (action["id"], 0) in tenant.results
    script = commands[0]["command"]["params"][0]["value"]
    soils: dict[str, Soil] = {"Cancelled": "cancelled", "Pending": "waiting", "InProgress": "waiting"}
    if with_result:
        soils |= {"Succeeded": "windows" if script.endswith(".ps1") else "unix", "Failed": "failed"}
    soil = soils.get(action["status"])
    return None if soil == "waiting" and commands[0]["startTime"] else soil


def add_dirt(tenant: Tenant, now: int, rng: Random, *, kinds: int = len(DIRT)) -> None:
    """Spoil one action for each of the first `kinds` of dirt, as far as there are actions for it."""
    soils: defaultdict[Soil, list[dict[str, Any]]] = defaultdict(list)
    for action in tenant.actions:
        soil = _soil_of(action, tenant)
        # Rounding up the decimals of a time must not take it past now.
        if soil and ticks_of(action["lastUpdateDateTimeUtc"]) < now - 3 * SECOND:
            soils[soil].append(action)
    for candidates in soils.values():
        rng.shuffle(candidates)
    for name, dirt in list(DIRT.items())[:kinds]:
        if soils[dirt.soil]:
            _spoil(tenant, soils[dirt.soil].pop(), name, dirt)


def _spoil(tenant: Tenant, action: dict[str, Any], name: str, dirt: Dirt) -> None:
    result = tenant.results.pop((action["id"], 0), None)
    action["id"] = dirt_id(name)
    if dirt.on_action:
        dirt.on_action(action)
    if result:
        if dirt.on_result:
            result.body = dirt.on_result(json.loads(result.body))
        tenant.results[action["id"], 0] = result

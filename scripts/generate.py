"""Writes what documents say about settings and columns from the code: `make generate`, or `--check` to only compare.

A generated region lies between two comment lines, `BEGIN <name>` and `END <name>`; everything else in the file is
written by hand.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tap_defender_lr import script_streams, settings
from tap_defender_lr.about import type_name
from tap_defender_lr.clouds import CLOUDS
from tap_defender_lr.streams.live_response_results import LiveResponseResultsStream
from tap_defender_lr.streams.machine_actions import MachineActionsStream
from tap_defender_lr.streams.script_outputs import ScriptOutputErrorsStream, ScriptOutputSnapshotsStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EVERY_ROW = {"properties": {**script_streams.PROVENANCE, **script_streams.ADDED}}
ROOT = Path(__file__).resolve().parent.parent
#: The setting with which a group begins → what the group is about.
SETTINGS_HEADINGS = {
    "tenant_id": "Who signs in",
    "cloud": "Where the service is",
    "actions": "What is read",
    "calls_per_minute": "Quota and pace",
    "max_output_bytes": "How much of a text",
    "files_url": "Collected files",
    "script_streams": "Script streams",
}


class MarkerMissingError(Exception):
    """Its text says which line is missing in which file."""


def definitions() -> dict[str, dict[str, Any]]:
    """The JSON schema of each setting of the tap; those that the SDK adds to every tap are not among them."""
    return {name: settings.JSON_SCHEMA["properties"][name] for name in settings.PROPERTIES.wrapped}


def required_groups() -> list[list[str]]:
    """The settings that go together, for each way to sign in; what the environment may give is left out."""
    groups = []
    for method, (needed, _) in settings.AUTH_METHODS.items():
        chosen = [] if method == definitions()["auth_method"]["default"] else ["auth_method"]
        groups.append(["tenant_id", *chosen, *(name for name in needed if name != "federated_token_file")])
    return groups


def settings_tables() -> str:
    """A heading and a table for each group of settings, in the order of their definitions."""
    must = settings.JSON_SCHEMA["required"]
    groups: dict[str, list[list[str]]] = {}
    heading = ""
    for name, schema in definitions().items():
        heading = SETTINGS_HEADINGS.get(name, heading)
        groups.setdefault(heading, []).append(
            [
                f"`{name}`",
                type_name(schema) + (", secret" if schema.get("secret") else ""),
                "required" if name in must else f"`{schema['default']}`" if "default" in schema else "",
                schema["description"],
            ]
        )
    header = ["Setting", "Type", "Default", "Description"]
    return "\n\n".join(f"## {heading}\n\n{_table(header, rows)}" for heading, rows in groups.items())


def clouds_table() -> str:
    """What `cloud` stands for."""
    return _table(
        ["`cloud`", "`api_url`", "`login_url`", "`token_scope`"],
        [
            [f"`{part}`" for part in (name, cloud.api_url, cloud.login_url, cloud.token_scope)]
            for name, cloud in CLOUDS.items()
        ],
    )


def entry_table() -> str:
    """What an entry of `script_streams` takes."""
    schema = definitions()["script_streams"]["items"]
    return _table(
        ["In an entry", "Type", "Required", "Description"],
        [
            [
                f"`{name}`",
                type_name(part),
                "yes" if name in schema["required"] else "",
                part["description"],
            ]
            for name, part in schema["properties"].items()
        ],
    )


def columns_table(schema: Mapping[str, Any], keys: Sequence[str]) -> str:
    return _table(
        ["Column", "Type", "Description"],
        [
            [
                f"`{name}`",
                type_name(column),
                " ".join(filter(None, ["Key." * (name in keys), column.get("description")])),
            ]
            for name, column in schema["properties"].items()
        ],
    )


def meltano_settings() -> str:
    """The keys `settings_group_validation` and `settings` of a plugin definition."""
    groups = [f"- [{', '.join(group)}]" for group in required_groups()]
    lines = ["settings_group_validation:", *groups, "settings:"]
    for name, schema in definitions().items():
        entry = {"name": name, "label": schema["title"], "kind": _meltano_kind(schema)}
        entry |= {"sensitive": True} if schema.get("secret") else {}
        options = [{"label": value, "value": value} for value in schema.get("enum", ()) if value is not None]
        entry |= {"options": options} if options else {}
        entry |= {"value": schema["default"]} if "default" in schema else {}
        lines += yaml.safe_dump([entry], sort_keys=False, allow_unicode=True).splitlines()
        # A folded text: read by a person, it has no quotes in it.
        lines += ["  description: >-"]
        lines += textwrap.wrap(
            schema["description"],
            width=116,
            initial_indent="    ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _meltano_kind(schema: Mapping[str, Any]) -> str:
    name = type_name(schema)
    return "options" if "enum" in schema else {"date-time": "date_iso8601"}.get(name, name.partition(" ")[0])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _html(text: str) -> str:
    return f"<!-- {text} -->"


def _yaml(text: str) -> str:
    return f"# {text}"


def _plugin(text: str) -> str:
    """At the depth of a plugin in meltano.yml."""
    return textwrap.indent(text, "    ")


def _columns(*streams: Any) -> dict[str, Callable[[], str]]:
    """The regions with the columns of these streams."""
    return {
        f"columns {stream.name}": partial(lambda stream: f"\n{_columns_of(stream)}\n", stream) for stream in streams
    }


def _columns_of(stream: Any) -> str:
    return columns_table(stream.schema, stream.primary_keys)


#: File → how its comments look, and what belongs into each of its regions.
REGIONS: dict[str, tuple[Callable[[str], str], dict[str, Callable[[], str]]]] = {
    "docs/settings.md": (_html, {"settings": lambda: f"\n{settings_tables()}\n"}),
    "docs/streams.md": (_html, _columns(LiveResponseResultsStream, MachineActionsStream)),
    "docs/set-up.md": (_html, {"clouds": lambda: f"\n{clouds_table()}\n"}),
    "docs/script-streams.md": (
        _html,
        {
            "script_streams": lambda: f"\n{entry_table()}\n",
            "columns of every row": lambda: f"\n{columns_table(EVERY_ROW, script_streams.DEFAULT_KEY)}\n",
            **_columns(ScriptOutputSnapshotsStream, ScriptOutputErrorsStream),
        },
    ),
    "meltano.yml": (lambda text: _plugin(_yaml(text)), {"settings": lambda: _plugin(meltano_settings())}),
    "plugin.yaml": (_yaml, {"settings": meltano_settings}),
}


def filled(text: str, file: str) -> str:
    """The text of a file with its regions as they should be.

    Raises:
        MarkerMissingError: A region is not in the text.
    """
    comment, regions = REGIONS[file]
    for name, content in regions.items():
        begin, end = comment(f"BEGIN {name}"), comment(f"END {name}")
        for marker in (begin, end):
            if text.count(f"{marker}\n") != 1:
                raise MarkerMissingError(
                    f"{file} must hold the line `{marker.strip()}` once: "
                    f"`{begin.strip()}` and `{end.strip()}` stand around the generated {name}."
                )
        before, _, rest = text.partition(f"{begin}\n")
        _, found, after = rest.partition(f"{end}\n")
        if not found:
            raise MarkerMissingError(f"{file}: the line `{end.strip()}` must come after `{begin.strip()}`.")
        text = f"{before}{begin}\n{content()}\n{end}\n{after}"
    return text


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something is out of date")
    check = parser.parse_args(arguments).check
    code = 0
    for file in REGIONS:
        path = root / file
        old = path.read_text(encoding="utf-8")
        try:
            new = filled(old, file)
        except MarkerMissingError as error:
            print(error, file=sys.stderr)
            code = 1
            continue
        if new == old:
            continue
        if check:
            print(f"{file} is out of date: run `make generate`.", file=sys.stderr)
            code = 1
        else:
            path.write_text(new, encoding="utf-8", newline="\n")
            print(f"{file} is up to date now.")
    return code


if __name__ == "__main__":
    sys.exit(main())

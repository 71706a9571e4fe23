"""What a run says of itself: the lines of Meltano's log, one JSON object each."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

TAP = "tap-defender-lr"
_LEFT_FOR_LATER = re.compile(r"([\d,]+) results? left for the next run\.")
_QUOTA_LEFT = re.compile(r"([\d,]+) calls? spent; ([\d,]+) left this minute, ([\d,]+) this hour\.")
_BAD_SETTINGS = "Config validation failed"
"""The SDK's last word when it refuses the settings; what is wrong was said before."""
_LASTS = re.compile(
    r"Sign-in to tenant \S+ was refused\."
    r"|The sign-in host \S+ does not know the tenant"
    r"|This machine's managed identity cannot be used: (?!it does not answer)"
    r"|The API denies access:"
    r"|https://\S+ refuses"
    # A setting, but not what the service or a store says of one.
    r"|`(?!actions` names|files_url`: nothing|max_run_minutes` ends)[a-z_]+"
)
"""How sentences of the tap begin that stay true until somebody changes something."""
_TRACEBACK = "Traceback (most recent call last):"
_MOST_CHARACTERS = 300


@dataclass
class Summary:
    """What was understood of the lines so far.

    Attributes:
        records: Rows by stream.
        results_left: Results that `max_run_minutes` left for the next run.
        calls: Calls that were spent; with it, what is left of the quota in the minute and in the hour.
    """

    records: dict[str, int] = field(default_factory=dict)
    results_left: int = 0
    calls: int | None = None
    left_this_minute: int | None = None
    left_this_hour: int | None = None
    _errors: dict[str, list[str]] = field(default_factory=dict)
    _in_traceback: bool = False

    def add(self, line: str) -> str | None:
        """Takes in a line, and gives back what the tap says in it to a person, if anything."""
        try:
            entry = json.loads(line)
        except ValueError:
            return None
        if not isinstance(entry, dict):
            return None
        event, plugin = str(entry.get("event", "")), _plugin(entry)
        if entry.get("level") in {"error", "critical"}:
            # Meltano's own sentence is in `err`; more lines of it are the log of a program.
            self._add_error(plugin, event if plugin else str(entry.get("err") or event).partition("\n")[0])
        if plugin != TAP:
            self._find_exception(plugin, event)
            return None
        metric = entry.get("metric_info")
        if isinstance(metric, dict):
            self._measure(metric)
            return None
        self._understand(event)
        return event or None

    def fail(self, reason: str) -> None:
        """It failed before there was a log."""
        self._add_error(TAP, reason)

    def _add_error(self, plugin: str, sentence: str) -> None:
        self._errors.setdefault(plugin, []).append(sentence)

    def _find_exception(self, plugin: str, event: str) -> None:
        """A loader may end with a traceback, line by line, whose first line that is not indented tells why."""
        if event == _TRACEBACK:
            self._in_traceback = bool(plugin)
        elif self._in_traceback and plugin and event and not event[0].isspace():
            self._in_traceback = False
            self._add_error(plugin, event[:_MOST_CHARACTERS])

    def _measure(self, metric: dict[str, Any]) -> None:
        if metric.get("metric") == "record_count":
            stream = str((metric.get("tags") or {}).get("stream"))
            self.records[stream] = self.records.get(stream, 0) + int(metric["value"])

    def _understand(self, event: str) -> None:
        if left := _LEFT_FOR_LATER.search(event):
            self.results_left = _number(left[1])
        if quota := _QUOTA_LEFT.search(event):
            self.calls, self.left_this_minute, self.left_this_hour = map(_number, quota.groups())

    @property
    def reason(self) -> str:
        """Why it failed: the last sentence of the tap, else of the loader, else of Meltano."""
        for plugin in (TAP, *sorted(self._errors.keys() - {TAP, ""}), ""):
            said = [text for text in self._errors.get(plugin, []) if text != _BAD_SETTINGS]
            if said:
                return " ".join(said) if self._settings_are_bad else said[-1]
        return "Meltano gave no reason; its log has more."

    @property
    def needs_a_person(self) -> bool:
        """Whether nothing changes until somebody changes a setting, a secret or a right."""
        return self._settings_are_bad or any(map(_LASTS.match, self._errors.get(TAP, [])))

    @property
    def _settings_are_bad(self) -> bool:
        return _BAD_SETTINGS in self._errors.get(TAP, [])


def _plugin(entry: dict[str, Any]) -> str:
    """Whose line it is; empty for Meltano's own. While it looks for streams, the tap has another mark."""
    discovers = entry.get("type") == "discovery" and entry.get("name") == TAP and "plugin_logger" in entry
    return TAP if discovers else str(entry.get("string_id", ""))


def _number(text: str) -> int:
    return int(text.replace(",", ""))

"""What the report tells, asked of the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.jsonl_tables import Row, ask, connect, statement

if TYPE_CHECKING:
    from pathlib import Path

_OVERVIEW = """
with known as (
  select machine_id, creation_date_time_utc, last_update_date_time_utc from live_response_results
  union all
  select machine_id, creation_date_time_utc, last_update_date_time_utc from machine_actions
)
select count(distinct machine_id) as devices, min(creation_date_time_utc) as first,
  max(last_update_date_time_utc) as last
from known
"""

_FILES = """
select computer_dns_name, file_name, file_size, file_sha256, requestor, command_end_time
from live_response_results
where command_type = 'GetFile' and file_sha256 is not null
qualify row_number() over (partition by machine_action_id, command_index order by last_update_date_time_utc desc) = 1
order by command_end_time desc, machine_action_id
"""

STATES = ("ok", "failed", "no_result", "waiting")


@dataclass(frozen=True)
class Facts:
    """All that stands in the report.

    Attributes:
        first: When the first action was created; None without any. `last`: the newest update of one.
        files: Collected files, the newest first. The other lists are the answers to `docs/queries`.
    """

    devices: int
    first: Any
    last: Any
    coverage: list[Row]
    failures: list[Row]
    days: list[Row]
    silent: list[Row]
    waiting: list[Row]
    newest_failures: list[Row]
    times: list[Row]
    files: list[Row]

    @classmethod
    def of(cls, output: Path) -> Facts:
        """Read a folder of files of target-jsonl."""
        with connect(output) as connection:
            (overview,) = ask(connection, _OVERVIEW)
            return cls(
                **overview,
                coverage=ask(connection, statement("coverage")),
                failures=ask(connection, statement("failures_by_reason")),
                days=ask(connection, statement("results_by_day")),
                silent=ask(connection, statement("silent_devices")),
                waiting=ask(connection, statement("waiting_devices")),
                newest_failures=ask(connection, statement("newest_failures")),
                times=ask(connection, statement("time_to_result")),
                files=ask(connection, _FILES),
            )

    def total(self, state: str) -> int:
        """Devices times scripts that are in this state."""
        return sum(row[state] for row in self.coverage)

    @property
    def asked(self) -> int:
        return sum(row["devices"] for row in self.coverage)

    @property
    def results(self) -> int:
        """Script results that came, over the whole time."""
        return sum(row["ok"] + row["failed"] for row in self.days)

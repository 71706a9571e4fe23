"""What the output of a script is taken apart into: rows, and what cannot become one."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from singer_sdk.singerlib.json import serialize_json

from tap_defender_lr.text import clean

MAX_TEXT = 1000
"""Characters of a rejected piece that are shown."""


@dataclass(slots=True)  # not frozen: that would take thrice as long to make, and there are millions
class Row:
    """A row as it was printed.

    Attributes:
        index: Its place in the output, from 0; pieces that are rejected have a place, too.
        values: Printed name → printed value. Numbers with decimals are `Decimal`; all values of CSV are text or None.
        location: Where it stands, such as `line 7` or `$.software[3]`.
    """

    index: int
    values: dict[str, Any]
    location: str


@dataclass(frozen=True)
class Reject:
    """A piece of output that became no row, or a value that became no cell.

    Attributes:
        reason: What is wrong with it, for a person.
        text: Its beginning.
        row_index: The row it belongs to, None for output that is no row at all.
        column: The column that is null because of it, None for a whole row.
        once: Told once for each column of a result.
    """

    reason: str
    text: str = ""
    location: str | None = None
    row_index: int | None = None
    column: str | None = None
    once: bool = False


def lines_of(text: str) -> io.StringIO:
    """The lines, one at a time: a list of millions of them would take far more memory than the text."""
    return io.StringIO(text, newline="\n")


def shown(value: Any) -> str:
    """The beginning of a printed value."""
    return (value if isinstance(value, str) else to_json(clean(value)))[:MAX_TEXT]


def to_json(value: Any) -> str:
    """Compact JSON, exact in its decimals. The value has to be clean: what is nested too deeply cannot be written."""
    return serialize_json(value, ensure_ascii=False)

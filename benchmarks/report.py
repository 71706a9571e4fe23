"""What sections of the benchmark tell: rows of one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Row:
    """One measured thing.

    Attributes:
        figures: Of the script, the plain stream and the tap; or of the tap alone.
        ratio: The tap beside the better of the others, or beside what is possible.
        bar: What is asked for, if anything is.
        is_met: Whether it is.
    """

    what: str
    figures: list[str]
    ratio: str = ""
    bar: str = ""
    is_met: bool = True

    @property
    def cells(self) -> list[str]:
        figures = self.figures if len(self.figures) == 3 else ["", "", *self.figures]
        return [self.what, *figures, self.ratio, self.verdict]

    @property
    def verdict(self) -> str:
        return f"{self.bar}: {'met' if self.is_met else 'MISSED'}" if self.bar else ""


@dataclass(frozen=True)
class Section:
    """Attributes: caption: How it was measured. details: What goes into the JSON file beside the rows."""

    title: str
    caption: str
    rows: list[Row]
    details: dict[str, Any] = field(default_factory=dict)


def table_of(sections: list[Section]) -> Table:
    table = Table(title="the tap beside a sequential script and a plain stream of the SDK", title_justify="left")
    table.add_column("")
    for heading in ("script", "plain SDK", "tap", "ratio", "bar"):
        table.add_column(heading, justify="right")
    for section in sections:
        table.add_section()
        table.add_row(f"[bold]{section.title}[/bold]")
        for row in section.rows:
            table.add_row(*row.cells)
    return table


def markdown_of(sections: Iterable[dict[str, Any]]) -> str:
    """The same table for a page, from what is in the JSON file."""
    lines = ["| | script | plain SDK | tap | ratio | bar |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for section in sections:
        lines.append(f"| **{section['title']}** | | | | | |")
        lines += [f"| {' | '.join(Row(**row).cells)} |".replace("  ", " ") for row in section["rows"]]
    return "\n".join(lines)


def number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def times(value: float) -> str:
    return f"{value:.2g}x" if value < 10 else f"{value:.0f}x"

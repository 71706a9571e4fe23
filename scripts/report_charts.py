"""The charts of the report. Colours of Okabe and Ito, which the colour-blind can tell apart."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from scripts.report_facts import STATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.jsonl_tables import Row

COLOURS = {"ok": "#009E73", "failed": "#D55E00", "no_result": "#7A7A7A", "waiting": "#56B4E9"}
NAMES = {"ok": "ok", "failed": "failed", "no_result": "no result", "waiting": "waiting"}
MOST_REASONS = 10
LONGEST_LABEL = 64
MOST_NAMED_DAYS = 14

_INK = "#24292f"
_ROW = 46
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


def shown(text: Any, longest: int = 200) -> str:
    """What a device or a person wrote, on one line and without what steers a terminal or the direction of text."""
    plain = "".join(character if character.isprintable() else " " for character in str(text))
    plain = " ".join(plain.split())
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def coverage(rows: Sequence[Row]) -> go.Figure:
    """Of each script: on how many devices it is in which state."""
    bars = [
        _bars(state, [row[state] for row in rows], [f"{row[state]} {NAMES[state]}" for row in rows]) for state in STATES
    ]
    labels = [
        f"<b>{_safe(row['script'], LONGEST_LABEL - 20)}</b>  {row['ok_percent']:.0f} % of {row['devices']} ok"
        for row in rows
    ]
    return _horizontal(bars, labels)


def failures(rows: Sequence[Row]) -> go.Figure:
    """How often each reason stands behind a result that is missing or bad; the rare ones together."""
    often, rare = rows[:MOST_REASONS], rows[MOST_REASONS:]
    labels = [_safe(reason(row), LONGEST_LABEL) for row in often]
    counts = [(row["state"], row["results"]) for row in often]
    if rare:
        labels.append(f"{len(rare)} other reasons")
        counts.append(("no_result", sum(row["results"] for row in rare)))
    told = [_safe(reason(row), 200) for row in often] + labels[len(often) :]
    bars = [
        _bars(state, [count if each == state else 0 for each, count in counts], told)
        for state in ("failed", "no_result")
    ]
    return _horizontal(bars, labels)


def reason(row: Row) -> str:
    """In words: `not_run` is explained by how the action ended."""
    if row["state"] == "no_result":
        text = str(row["reason"]).replace("_", " ", 1)
        return f"{text} ({row['action_status']})" if row["reason"] == row["reason"].partition(":")[0] else text
    return f"exit code {row['exit_code']}: {row['reason']}"


def over_time(rows: Sequence[Row]) -> go.Figure:
    """Results of each day."""
    few = len(rows) <= MOST_NAMED_DAYS
    days = [f"{row['day']:%d %b}" if few else f"{row['day']:%Y-%m-%d}" for row in rows]
    figure = go.Figure(
        [
            go.Bar(
                name=NAMES[state],
                x=days,
                y=[row[state] for row in rows],
                marker={"color": COLOURS[state]},
                hovertemplate=f"%{{x}}: %{{y}} {NAMES[state]}<extra></extra>",
            )
            for state in ("ok", "failed", "no_result")
        ]
    )
    _style(figure, height=300)
    figure.update_layout(margin={"l": 40, "r": 8, "t": 34, "b": 30}, bargap=0.35)
    figure.update_xaxes(type="category" if few else "date", tickfont={"size": 12}, showgrid=False, tickangle=0)
    few_results = max(row["results"] for row in rows) <= 5
    step = {"dtick": 1} if few_results else {}  # or there would be ticks between two whole numbers
    figure.update_yaxes(gridcolor="#e6e8eb", tickfont={"size": 12}, rangemode="tozero", tickformat="d", **step)
    return figure


def _bars(state: str, counts: Sequence[int], hover: Sequence[str]) -> go.Bar:
    return go.Bar(
        name=NAMES[state],
        orientation="h",
        x=list(counts),
        y=list(range(len(counts))),
        marker={"color": COLOURS[state]},
        text=[str(count) if count else "" for count in counts],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": "white" if state != "waiting" else _INK, "size": 12},
        hovertext=list(hover),
        hoverinfo="text",
        width=0.42,
    )


def _horizontal(bars: Sequence[go.Bar], labels: Sequence[str]) -> go.Figure:
    """Bars below each other, each with its label above it: so there is room for both on a telephone, too."""
    figure = go.Figure(list(bars))
    _style(figure, height=_ROW * len(labels) + 44)
    figure.update_layout(margin={"l": 4, "r": 8, "t": 34, "b": 4})
    longest = max((sum(counts) for counts in zip(*(bar.x for bar in bars), strict=True)), default=1)
    figure.update_xaxes(visible=False, range=[0, longest])
    figure.update_yaxes(visible=False, range=[len(labels) - 0.6, -0.9])
    for place, label in enumerate(labels):
        figure.add_annotation(
            text=label, x=0, y=place - 0.26, xanchor="left", yanchor="bottom", showarrow=False, align="left",
            font={"size": 13, "color": _INK},
        )  # fmt: skip
    return figure


def _style(figure: go.Figure, height: int) -> None:
    figure.update_layout(
        template="none",
        barmode="stack",
        height=height,
        font={"family": _FONT, "color": _INK, "size": 13},
        legend={"orientation": "h", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "traceorder": "normal"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        dragmode=False,
    )


def _safe(text: Any, longest: int) -> str:
    """Plotly reads texts as a kind of HTML, with links."""
    return escape(shown(text, longest), quote=False)

"""The report as one page of HTML that needs nothing else: no network, no other file.

All of its texts come from devices and people. They are escaped, and a content security policy that names its two
scripts by their hashes lets no other one run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any

from plotly.offline import get_plotlyjs

from scripts import report_charts as charts
from scripts.report_charts import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import plotly.graph_objects as go

    from scripts.report_facts import Facts

MOST_ROWS = 15

_DRAW = """
const charts = JSON.parse(document.getElementById("charts").textContent);
const settings = {displayModeBar: false, responsive: true, scrollZoom: false};
for (const [id, chart] of Object.entries(charts)) Plotly.newPlot(id, chart.data, chart.layout, settings);
const fit = () => Object.keys(charts).forEach((id) => Plotly.Plots.resize(id));
window.addEventListener("beforeprint", fit);
window.addEventListener("afterprint", fit);
"""

_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #f3f4f6; color: #24292f; font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto,
  "Liberation Sans", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 24px 40px; }
header { margin-bottom: 20px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 0; }
.muted, .note { color: #57606a; }
.note { font-size: 13.5px; margin-bottom: 10px; max-width: 75ch; }
.numbers { display: grid; grid-template-columns: repeat(6, 1fr); gap: 12px; margin-bottom: 16px; padding: 0; }
.number, section { background: #fff; border: 1px solid #d9dde2; border-radius: 8px; }
.number { padding: 12px 14px; }
.number b { display: block; font-size: 25px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.number span { display: block; font-size: 13px; color: #57606a; line-height: 1.3; }
.number.bad b { color: #b34700; }
section { padding: 18px 20px; margin-bottom: 16px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; align-items: start; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: #57606a; border-bottom: 1px solid #c7ccd1; padding: 5px 12px 5px 0;
  white-space: nowrap; }
td { border-bottom: 1px solid #eceef0; padding: 6px 12px 6px 0; vertical-align: top; }
td.right, th.right { text-align: right; font-variant-numeric: tabular-nums; }
td.nowrap { white-space: nowrap; }
td.text { overflow-wrap: anywhere; min-width: 25em; }
tr:last-child td { border-bottom: 0; }
code { font: 12.5px/1.4 ui-monospace, "Cascadia Mono", Consolas, "Liberation Mono", monospace; }
footer { color: #57606a; font-size: 13px; }
@media (max-width: 860px) { .pair { grid-template-columns: 1fr; } .numbers { grid-template-columns: repeat(3, 1fr); } }
@media (max-width: 640px) { main { padding: 18px 12px; } section { padding: 14px; }
  .numbers { grid-template-columns: repeat(2, 1fr); }
  .stack thead { display: none; } .stack tr { display: block; padding: 7px 0; border-bottom: 1px solid #eceef0; }
  .stack td { display: inline-block; border: 0; padding: 0 10px 2px 0; }
  .stack td.text { display: block; min-width: 0; } }
@media print {
  @page { margin: 12mm; }
  body { background: #fff; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  header, .number, section.table { zoom: 0.8; }
  .numbers { grid-template-columns: repeat(6, 1fr); }
  .number, section.chart, tr { break-inside: avoid; }
  h2, .note { break-after: avoid; }
  .pair { display: block; }
  .scroll { overflow: visible; }
  td.text { min-width: 0; }
}
"""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>$title</title>
<style>$style</style>
<script>$plotly</script>
</head>
<body>
<main>
<header><h1>$title</h1><p class="muted">$period</p></header>
$body
<footer>$footer</footer>
</main>
<script type="application/json" id="charts">$charts</script>
<script>$draw</script>
</body>
</html>
""")


def page(facts: Facts, title: str) -> str:
    chances = (
        ("coverage", charts.coverage, facts.coverage),
        ("time", charts.over_time, facts.days),
        ("failures", charts.failures, facts.failures),
    )
    figures = {name: draw(rows) for name, draw, rows in chances if rows}
    plotly = get_plotlyjs()
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in (plotly, _DRAW))
    return _PAGE.substitute(
        policy=f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'",
        title=escape(shown(title)),
        style=_STYLE,
        plotly=plotly,
        period=_period(facts),
        body="\n".join(_body(facts)),
        footer="Times are UTC. Made by tap-defender-lr from the results of Microsoft Defender Live Response that were "
        "asked for through the API.",
        charts=_json(figures),
        draw=_DRAW,
    )


def _body(facts: Facts) -> list[str]:
    return [
        _numbers(facts),
        _section(
            "Coverage of each script",
            "Every device that was asked, by its newest request.",
            _chart("coverage") if facts.coverage else _none("No script was run yet."),
            "chart",
        ),
        _section(
            "Results over time",
            "Script results by the day on which they came.",
            _chart("time") if facts.days else _none("No results have come yet."),
            "chart",
        ),
        _section(
            "Why there are failures",
            "Over the whole time, also if a later run worked.",
            _chart("failures") if facts.failures else _none("There were none."),
            "chart",
        ),
        f'<div class="pair">{_silent(facts)}{_waiting(facts)}</div>',
        _newest_failures(facts),
        f'<div class="pair">{_times(facts)}{_files(facts)}</div>',
    ]


def _numbers(facts: Facts) -> str:
    share = f"{100 * facts.total('ok') / facts.asked:.0f} %" if facts.asked else "none"
    numbers: list[tuple[str, str, bool]] = [
        (f"{facts.devices:,}", "devices asked", False),
        (f"{facts.results:,}", "script results", False),
        (share, "coverage: newest runs that are ok", False),
        (f"{facts.total('failed'):,}", "newest runs that failed", facts.total("failed") > 0),
        (f"{len({row['machine_id'] for row in facts.waiting}):,}", "devices still to answer", False),
        (f"{len(facts.silent):,}", "devices never answered", bool(facts.silent)),
    ]
    return (
        '<div class="numbers">'
        + "".join(
            f'<div class="number{" bad" if bad else ""}"><b>{number}</b><span>{what}</span></div>'
            for number, what, bad in numbers
        )
        + "</div>"
    )


def _silent(facts: Facts) -> str:
    rows = [
        [_cell(_host(row["computer_dns_name"])), _cell(row["times_asked"], "right"), _time(row["last_asked"])]
        for row in facts.silent[:MOST_ROWS]
    ]
    table = _table(["device", ">asked", "last asked"], rows, len(facts.silent))
    return _section(
        "Devices that never answered",
        "They were asked, and no command ever ended there.",
        table if rows else _none("Every device has answered at least once."),
    )


def _waiting(facts: Facts) -> str:
    rows = [
        [
            _cell(_host(row["computer_dns_name"])),
            _cell(row["script_name"] or "not said yet"),
            _cell(f"{row['hours_waiting']:.0f} h", "right nowrap"),
        ]
        for row in facts.waiting[:MOST_ROWS]
    ]
    table = _table(["device", "script", ">for"], rows, len(facts.waiting))
    return _section(
        "Devices that have not answered yet",
        "The service waits three days for each.",
        table if rows else _none("None: all have answered."),
    )


def _newest_failures(facts: Facts) -> str:
    rows = [
        [
            _time(row["ended_at"]),
            _cell(_host(row["computer_dns_name"]), "nowrap"),
            _cell(row["script_name"], "nowrap"),
            _cell(
                f"exit code {row['exit_code']}"
                if row["result_status"] == "fetched"
                else f"{row['result_status']} ({row['action_status']})".replace("_", " ", 1),
                "nowrap",
            ),
            f'<td class="text"><code>{escape(shown(row["said"] or "", 160))}</code></td>',
        ]
        for row in facts.newest_failures[:MOST_ROWS]
    ]
    table = _table(["when", "device", "script", "outcome", "what it said"], rows, len(rows), "stack")
    return _section("Newest failures", "", table if rows else _none("There were none."))


def _times(facts: Facts) -> str:
    rows = [
        [
            _cell(row["script"]),
            _cell(row["results"], "right"),
            *(_cell(_minutes(row[name]), "right nowrap") for name in ("median_minutes", "p90_minutes")),
        ]
        for row in facts.times[:MOST_ROWS]
    ]
    table = _table(["script", ">results", ">half within", ">9 of 10 within"], rows, len(facts.times))
    return _section(
        "From request to result",
        "Until the script has ended on the device.",
        table if rows else _none("Nothing ran yet."),
    )


def _files(facts: Facts) -> str:
    rows = [
        [
            _cell(_host(row["computer_dns_name"]), "nowrap"),
            _cell(row["file_name"] or "?"),
            _cell(_size(row["file_size"]), "right nowrap"),
            f"<td><code>{escape(row['file_sha256'][:12])}…</code></td>",
        ]
        for row in facts.files[:MOST_ROWS]
    ]
    size = _size(sum(row["file_size"] or 0 for row in facts.files))
    note = f"{len(facts.files):,} {'file' if len(facts.files) == 1 else 'files'}, {size} in all. They may be malware."
    table = _table(["device", "file", ">size", "SHA-256"], rows, len(facts.files))
    return _section("Collected files", note if rows else "", table if rows else _none("None were collected."))


def _section(title: str, note: str, content: str, kind: str = "table") -> str:
    about = f'<p class="note">{note}</p>' if note else ""
    return f'<section class="{kind}"><h2>{title}</h2>{about}{content}</section>'


def _chart(name: str) -> str:
    return f'<div id="{name}"></div>'


def _none(text: str) -> str:
    return f'<p class="muted">{text}</p>'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], total: int, kind: str = "plain") -> str:
    """Cells are HTML already. A column of numbers has a `>` before its name."""
    head = "".join(
        f'<th class="right">{column[1:]}</th>' if column.startswith(">") else f"<th>{column}</th>" for column in columns
    )
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    more = f'<p class="muted">… and {total - len(rows):,} more</p>' if total > len(rows) else ""
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
    return f'<div class="scroll">{table}</div>{more}'


def _cell(text: Any, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<td{attribute}>{escape(shown(text, 80))}</td>"


def _time(time: datetime | None) -> str:
    return _cell(f"{time:%Y-%m-%d %H:%M}" if time else "", "nowrap")


def _host(name: str | None) -> str:
    """The name of a device without its domain."""
    return (name or "?").partition(".")[0]


def _minutes(minutes: float) -> str:
    return f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _size(count: float | None) -> str:
    size = float(count or 0)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def _period(facts: Facts) -> str:
    if facts.first is None:
        return "There are no results yet."
    return f"{facts.first:%d %B %Y} to {facts.last:%d %B %Y, %H:%M} UTC"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(figures: dict[str, go.Figure]) -> str:
    """Nothing in it ends the element that it stands in."""
    text = json.dumps({name: json.loads(figure.to_json()) for name, figure in figures.items()})
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")

"""`python -m benchmarks.plot FILE.json OUT.svg`: results over time against the limit, as a picture for the docs.

FILE.json is what `python -m benchmarks --json FILE.json` wrote. Its table is printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.clients import NAIVE, PLAIN, TAP
from benchmarks.report import markdown_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CALLS = 3000
_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 20, 20, 52
_MINUTES, _RESULTS = 90, 3000

# It has a background of its own, so that it can be read on a page of any colour.
_STYLE = """\
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #4a5260 }
.page { fill: #ffffff; stroke: #d0d7de }
.grid { fill: none; stroke: #e3e7ec }
.curve { fill: none; stroke-width: 2.2; stroke-linejoin: round }
.limit { stroke: #b9c0c9; stroke-width: 7 }
.tap { stroke: #2f5f9e } .script { stroke: #b57a00 } .plain { stroke: #c0392b }
.end { fill: #c0392b }
@media (prefers-color-scheme: dark) {
  text { fill: #c4cbd5 }
  .page { fill: #16191d; stroke: #3a424c }
  .grid { stroke: #2b323a }
  .limit { stroke: #56606c }
  .tap { stroke: #7fadeb } .script { stroke: #e0b04a } .plain { stroke: #ef7f74 }
  .end { fill: #ef7f74 }
}
"""

Points = list[tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("measured", type=Path, metavar="FILE.json")
    parser.add_argument("picture", type=Path, metavar="OUT.svg")
    options = parser.parse_args()
    measured = json.loads(options.measured.read_text(encoding="utf-8"))
    runs = measured["sections"]["pace"]["details"][str(_CALLS)]
    blobs = {client.name: runs[client.name]["blobs"] for client in (NAIVE, PLAIN, TAP)}
    options.picture.write_text(draw(blobs), encoding="utf-8")
    print(markdown_of(measured["sections"].values()))


def draw(blobs: dict[str, list[float]]) -> str:
    """When each client read its results, in seconds, beside the most that the limits allow."""
    curves = {
        "limit": _steps(_limit(_CALLS)),
        "script": _steps(blobs[NAIVE.name]),
        "plain": _steps(blobs[PLAIN.name]),
        "tap": _steps(blobs[TAP.name]),
    }
    gave_up = curves["plain"][-1]
    names = {
        "limit": "the most the limits allow",
        "tap": "tap",
        "script": "sequential script",
        "plain": "plain SDK stream",
    }
    legend = [
        f'<line class="curve {kind}" x1="{_LEFT + 18}" x2="{_LEFT + 44}" y1="{y}" y2="{y}"/>'
        f'<text x="{_LEFT + 54}" y="{y + 4}">{name}</text>'
        for y, (kind, name) in zip(range(_TOP + 22, _HEIGHT, 22), names.items(), strict=False)
    ]
    alt = f"Results over time of three clients that read {_CALLS - 1:,} results, against the limit of the service"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{alt}">',
            f"<title>{alt}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="6"/>',
            *_axes(),
            *(f'<path class="curve {kind}" d="{_path(points)}"/>' for kind, points in curves.items()),
            *_ending(*gave_up, len(blobs[PLAIN.name])),
            *legend,
            "</svg>\n",
        ]
    )


def _limit(calls: int) -> list[float]:
    """When each result may be asked for at the earliest; the list takes the first call."""
    return [3600.0 * (number // 1500) + 60.0 * (number % 1500 // 100) for number in range(1, calls)]


def _steps(times: Sequence[float]) -> Points:
    """Results so far, each time there is one more."""
    points: Points = [(0.0, 0.0)]
    for count, seconds in enumerate(sorted(times)):
        points += [(seconds, float(count)), (seconds, count + 1.0)]
    return points


def _path(points: Points) -> str:
    """Coordinates with one decimal, one for each pixel, and corners."""
    kept: Points = []
    for before, point, after in zip([points[0], *points], points, [*points[1:], points[-1]], strict=False):
        place = (round(_x(point[0]), 1), round(_y(point[1]), 1))
        is_corner = _x(after[0]) - place[0] > 1 or place[0] - _x(before[0]) > 1
        if is_corner or not kept or abs(place[0] - kept[-1][0]) + abs(place[1] - kept[-1][1]) >= 1:
            kept.append(place)
    return "M" + " ".join(f"{x:g} {y:g}" for x, y in kept)


def _axes() -> Iterable[str]:
    for minutes in range(0, _MINUTES + 1, 15):
        x = _x(minutes * 60)
        yield f'<path class="grid" d="M{x:g} {_TOP}V{_HEIGHT - _BOTTOM}"/>'
        yield f'<text x="{x:g}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{minutes}</text>'
    for results in range(0, _RESULTS + 1, 500):
        y = _y(results)
        yield f'<path class="grid" d="M{_LEFT} {y:g}H{_WIDTH - _RIGHT}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:g}" text-anchor="end">{results:,}</text>'
    yield f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{_HEIGHT - 12}" text-anchor="middle">minutes</text>'


def _ending(seconds: float, results: float, count: int) -> Iterable[str]:
    """Where the plain stream gave up, if it did."""
    if count < _CALLS - 1:
        x, y = _x(seconds), _y(results)
        yield f'<circle class="end" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
        yield f'<text x="{x + 10:.1f}" y="{y + 20:.1f}">gives up after {count:,} results</text>'


def _x(seconds: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * seconds / 60 / _MINUTES


def _y(results: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * results / _RESULTS


if __name__ == "__main__":
    main()

"""A page for the browser, made from what target-jsonl has written.

`python -m scripts.report output report.html`
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.report_facts import Facts
from scripts.report_page import page

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE = "What the fleet answered to Live Response"


def write(output: Path, report: Path, title: str = TITLE) -> None:
    """Write the report on a folder of files of target-jsonl."""
    report.write_text(page(Facts.of(output), title), encoding="utf-8", newline="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.report", description=__doc__)
    parser.add_argument("output", type=Path, help="the folder that target-jsonl writes to")
    parser.add_argument("report", type=Path, help="the HTML file to write")
    parser.add_argument("--title", default=TITLE, help=f"its title (default: {TITLE})")
    options = parser.parse_args(arguments)
    if not any(
        (options.output / f"{stream}.jsonl").exists() for stream in ("live_response_results", "machine_actions")
    ):
        print(f"There is no live_response_results.jsonl or machine_actions.jsonl in {options.output}.", file=sys.stderr)
        return 1
    write(options.output, options.report, options.title)
    print(options.report)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The documentation site, built by `make docs`. Its pages are plain Markdown, so that they read well on GitHub, too."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tap_defender_lr import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent

project = "tap-defender-lr"
version = release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 4  # as GitHub has them
html_theme = "furo"
html_title = project
html_copy_source = False
html_show_copyright = False
nitpicky = True

#: The tree of pages at the side. Pages below a folder's README.md follow by themselves.
PAGES = {
    "Begin": ["quick-start", "set-up", "settings", "streams"],
    "Use": [
        "Script streams </script-streams>",
        "Five scripts </scripts/README>",
        "files",
        "recipes",
        "queries/README",
        "loaders",
        "meltano",
        "many-tenants",
    ],
    "Understand": ["how-it-works", "quota", "what-happens-when", "security", "benchmarks", "scaling"],
    "Build": ["simulator", "contributing", "security-policy", "changelog"],
}
#: Pages that only point to a file of the repository: here they hold its text.
INCLUDED = {"contributing": "CONTRIBUTING.md", "security-policy": "SECURITY.md", "changelog": "CHANGELOG.md"}


def add_what_only_the_site_needs(app: Sphinx, page: str, source: list[str]) -> None:
    """Directives are not in the pages, since GitHub would show them as they stand."""
    path = PurePosixPath(page)
    if page in INCLUDED:
        file = ROOT / INCLUDED[page]
        app.env.note_dependency(file)
        source[0] = file.read_text(encoding="utf-8").replace("](docs/", "](")
    elif page == "index":
        source[0] += "".join(_toctree(pages, f":caption: {caption}\n") for caption, pages in PAGES.items())
    elif path.name == "README":
        below = {name for name in app.env.found_docs if path.parent in PurePosixPath(name).parents}
        source[0] += _toctree(sorted(below - {page}))
    for name, file_name in INCLUDED.items():
        source[0] = source[0].replace(f"](../{file_name}", f"]({name}.md").replace(f"]({file_name}", f"]({name}.md")


def _toctree(pages: list[str], options: str = "") -> str:
    listed = "\n".join(page if page.endswith(">") else f"/{page}" for page in pages)
    return f"\n```{{toctree}}\n:hidden:\n{options}\n{listed}\n```\n" if pages else ""


def setup(app: Sphinx) -> None:
    app.connect("source-read", add_what_only_the_site_needs)


# DuckDB has braces in its SQL, which the highlighter does not know.
suppress_warnings = ["misc.highlighting_failure"]

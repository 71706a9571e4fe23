"""Links between pages work where the Markdown is read, on GitHub, and on the site that is built from it."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from typing_extensions import override

from tests import markdown
from tests.markdown import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", PAGES, ids=markdown.name)
def test_links_lead_somewhere_on_github(page: Path) -> None:
    for link in markdown.links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), link
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.is_file(), link
        assert not anchor or anchor in markdown.anchors(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            targets = [(page.parent / link.partition("#")[0]).resolve() for link in markdown.links(page)]
            todo += [target for target in targets if target.suffix == ".md"]
    assert set(PAGES) - reached == set()


class Page(HTMLParser):
    """What a page of the site refers to, and what can be referred to in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.ids.add(values.get("id", ""))
        if tag == "a":
            self.links.append(values.get("href", ""))
        else:
            self.loaded += [values[name] for name in ("href", "src", "srcset", "data") if name in values]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    (command,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line)
    folder = tmp_path_factory.mktemp("site")
    words = command.replace("build/doctrees", str(folder / "doctrees")).replace("build/docs", str(folder / "html"))
    built = subprocess.run(
        [sys.executable, *words.split()[1:]], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder / "html"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_nothing_in_it_leads_nowhere(site: Path) -> None:
    pages = {file.resolve(): Page(file) for file in site.rglob("*.html")}
    assert {name.relative_to(site.resolve()).as_posix() for name in pages} >= {
        page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for page in PAGES if "docs" in page.parts
    }
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", (file, link)
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.is_file(), (file, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, (file, link)
            assert target.suffix != ".md", (file, link)


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for file in site.rglob("*.html"):
        for loaded in Page(file).loaded:
            parts = urlsplit(loaded)
            assert parts.scheme in {"", "data"}, (file, loaded)
            assert not parts.netloc, (file, loaded)
            assert parts.scheme or (file.parent / unquote(parts.path)).exists(), (file, loaded)
    for file in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        for loaded in re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s;]+)", file.read_text(encoding="utf-8")):
            assert not re.match(r"(https?:)?//", loaded), (file, loaded)

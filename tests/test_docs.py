"""README and pages: their Python runs, the site is built without a warning, nothing leads nowhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import bmrl

ROOT = Path(__file__).parents[1]


def python_of(page: str) -> str:
    """The blocks of Python of a page, one after the other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize(
    ("page", "last_words"),
    [
        ("docs/quick-start.md", "episodes: 2 -> 1; choose another directory\n"),
        ("docs/own-algorithm.md", "teach.default.algorithm.greed: 2.0 -> 0.0; choose another directory\n"),
    ],
)
def test_the_python_of_a_page_runs(page: str, last_words: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", python_of(page)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(last_words)


def test_the_readmes_python_is_that_of_the_quick_start() -> None:
    readme, quick_start = (python_of(page).splitlines() for page in ("README.md", "docs/quick-start.md"))
    lines = [line for line in readme if line]
    assert lines and lines == [line for line in quick_start if line in lines]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a link or an anchor that leads nowhere ends it, as every warning does."""
    directory = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", directory]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # or the theme's notice hides what is wrong
    done = subprocess.run(words, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return directory


class Loaded(HTMLParser):
    """What a browser loads with a page by itself; `ids` are the places that links can lead to."""

    def __init__(self, page: Path):
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" or (name, tag) == ("href", "link"):
                self.loaded.append(value or "")
            elif name == "id":
                self.ids.add(value or "")


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]  # its own begin at the host's root
    for page in pages:
        for place in Loaded(page).loaded:
            assert (page.parent / place.partition("?")[0]).is_file(), (page, place)
    styles = [style.read_text() for style in site.rglob("*.css")]
    assert pages and styles and not any(re.search(r"(url\(|@import)[\s\"']*(https?:)?//", style) for style in styles)


def test_the_reference_has_every_public_name(site: Path) -> None:
    names = {f"bmrl.{name}" for name in bmrl.__all__}
    assert names - Loaded(site / "reference.html").ids == set()


def test_the_readme_leads_to_what_there_is() -> None:
    """As a code host shows it: from the root. The links of the pages are the site's, and are checked by its build."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text())
    own = [link for link in links if "://" not in link]
    assert own and [link for link in own if not (ROOT / link).is_file()] == []

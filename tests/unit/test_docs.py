"""The pages for people name files and sections that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs/architecture.md"})]
"""Those for the people who use Mayday; the guides for those who change it have a test of their own."""
FOLDERS = "benchmarks|deploy|docs|exporter|grafana|rules|scripts|tests"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    """A path from the root of the repository, in code marks; a star stands for any name."""
    for name in re.findall(rf"`((?:{FOLDERS})/[^`\s]*)`", page.read_text()):
        assert list(ROOT.glob(name.rstrip("/"))), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """To a file, and to a heading in it."""
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", page.read_text())):
        if not target.startswith("https://"):
            assert (page.parent / target).is_file(), target
            assert not anchor or anchor in anchors(page.parent / target), f"{target}#{anchor}"

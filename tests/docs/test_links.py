"""Every link within the documents leads to a file and a heading that are there."""

import posixpath
import re
from importlib import resources

import pytest

from tests.docs.documents import ROOT, documents

DOCUMENTS = documents()
LINKS = [
    (path, target)
    for path, text in DOCUMENTS.items()
    for target in re.findall(r"\]\(([^)\s]+)\)", text)
    if not target.startswith("https://")
]


def text_of(path: str) -> str:
    """Return a file of the repository; what is in the package is read from there."""
    package, slash, inner = path.partition("/")
    if package == "remediator" and slash:
        return resources.files("remediator").joinpath(inner).read_text()
    return (ROOT / path).read_text()


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("path", "target"), LINKS)
def test_a_link_leads_somewhere(path: str, target: str) -> None:
    file, _, anchor = target.partition("#")
    aim = posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path

    text = text_of(aim)

    assert not anchor or anchor in anchors(text)


@pytest.mark.parametrize("path", sorted(DOCUMENTS))
def test_every_page_is_linked_from_the_readme(path: str) -> None:
    assert path == "README.md" or f"]({path})" in DOCUMENTS["README.md"]

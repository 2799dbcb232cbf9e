"""The pages of the documentation, which are shipped with the program and linked from the README."""

from importlib import resources

_SUFFIX = ".md"


def names() -> list[str]:
    """Return the names of the pages."""
    files = (file.name for file in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX))


def page(name: str) -> str:
    """Return the Markdown of the page *name*, one of `names`."""
    return (resources.files(__name__) / f"{name}{_SUFFIX}").read_text(encoding="utf-8")


def title(name: str) -> str:
    """Return the heading of the page *name*."""
    return page(name).partition("\n")[0].lstrip("# ")

"""Make the tables of the pages: ``python -m remediator.docs.making FOLDER``, or ``make docs``.

What stands between the markers of a table is replaced; the prose around it stays.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from remediator.config.settings import ENVIRONMENT
from remediator.core.catalogue import CATALOGUE, Offer
from remediator.docs.keys import Key, read_keys

_HEADING = ("key", "takes", "default", "example", "meaning")


def with_tables(page: str, text: str) -> str:
    """Return the *text* of a page with its tables made anew; ValueError if one has no place."""
    keys = read_keys()
    for name, make in TABLES[page].items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if (text.count(begin), text.count(end)) != (1, 1):
            raise ValueError(f"there must be one part between {begin.strip()} and {end}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{make(keys)}\n{end}{rest.partition(end)[2]}"
    return text


def _policy(keys: Mapping[str, list[Key]]) -> str:
    return "\n".join(
        f"**{title}**\n\n{_rows(keys[section])}"
        for title, section in (
            ("The file", "policy"),
            ("A rule, one entry of `rules`", "rule"),
            ("A rung, one entry of `do`, beside the remediation's name", "rung"),
        )
    )


def _settings(keys: Mapping[str, list[Key]]) -> str:
    return _rows(keys["settings"])


def _remediations(keys: Mapping[str, list[Key]]) -> str:
    offers = {offer.name: offer for offer in CATALOGUE}
    named = [key for key in keys["remediations"] if key.name in offers]
    options = [key for key in keys["remediations"] if key.name not in offers]
    rows = (_offer(offers[key.name], key) for key in named)
    heading = ("remediation", "acts on", "destructive", "what it does")
    return f"{_table(heading, rows)}\nTheir options:\n\n{_rows(options)}"


def _environment(keys: Mapping[str, list[Key]]) -> str:
    rows = ((f"`{variable}`", f"`{name}`") for variable, (name, _) in ENVIRONMENT.items())
    return _table(("variable", "overrides"), rows)


def _rows(keys: Iterable[Key]) -> str:
    return _table(
        _HEADING,
        ((f"`{k.name}`", k.takes, k.default, f"`{k.example}`", k.means) for k in keys),
    )


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heading)]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    drawn = [f"| {' | '.join(line)} |" for line in lines]
    drawn.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join(drawn) + "\n"


def _offer(offer: Offer, key: Key) -> tuple[str, ...]:
    return f"`{offer.name}`", offer.kind.value, "yes" if offer.destructive else "no", key.means


TABLES: Mapping[str, Mapping[str, Callable[[Mapping[str, list[Key]]], str]]] = {
    "policy": {
        "policy-keys": _policy,
        "remediations": _remediations,
        "settings-keys": _settings,
        "environment": _environment,
    },
}


if __name__ == "__main__":
    for name in TABLES:
        target = Path(sys.argv[1]) / f"{name}.md"
        made = with_tables(name, target.read_text(encoding="utf-8"))
        target.write_text(made, encoding="utf-8")

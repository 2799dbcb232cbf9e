"""The reference of policy and settings says what the readers do, key by key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.config.policy import read_policy
from remediator.config.settings import Settings, read_settings
from remediator.core.policy import Policy
from remediator.docs import page
from remediator.docs.keys import Key, read_keys
from remediator.docs.making import TABLES, with_tables
from remediator.errors import ConfigError

KEYS = read_keys()
RULE: dict[str, Any] = {"name": "a rule", "match": ['alertname="A"'], "do": [{"notify-only": None}]}
# What a key needs beside it.
COMPANIONS = {"page.proxy_user_header": {"page": {"proxy_addresses": ["10.0.0.1"]}}}
LONG = "31d"
# For each key that says a range, what lies beyond it.
REFUSED = {
    "policy": {
        "mode": ["dry-run"],
        "breaker.open_after": ["[]", "[0 per 1h]", "[1 per 31d]", "[1 per 0s]"],
        "budget": ["{stop: [1 per 1h]}", "{stop-container: []}"],
        "never": ["[ds01.protected]"],
        "lists": ["{owner: [a@example.org]}", "{'a b': [a@example.org]}", "{a: [alice]}"],
        "rules": ["{}"],
    },
    "rule": {
        "name": ["''"],
        "match": ["[]", "[alertname]"],
        "mode": ["dry-run"],
        "warn": ["{tell: [owner]}"],
        "warn.before": ["10", LONG],
        "warn.tell": ["[nobody]"],
        "approve.within": [LONG],
        "do": ["[]", "[{stop-container: null}, {reset-gpu: null}]", "[{reboot: null}]"],
        "escalate": ["{}"],
        "escalate.tell": ["[nobody]"],
        "tell": ["[nobody]", "owner"],
    },
    "rung": {
        "attempts": ["[]", "[0 per 1h]", "[1 per 31d]"],
        "cooldown": ["10", LONG],
        "timeout": ["10", LONG],
        "verify.within": ["10", LONG],
    },
    "remediations": {
        "stop-container.grace": ["60", LONG],
        "stop-container.remove": ["1"],
        "kill-orphan.wait": ["10", LONG],
        "restart-service.unit": ["ds01-exporter"],
        "cap-power.limit": ["0%", "101%", "70"],
    },
    "settings": {
        "listen": ["9095"],
        "gpu_metrics": ["1"],
        "gpu_services": ["[dcgm]"],
        "dcgm_unit": ["dcgm"],
        "page_url": ["gpu1.example.org"],
        "largest_body": ["0", "32MiB"],
        "workers": ["0"],
        "keep_incidents": ["59d"],
        "keep_deliveries": ["14", "59m"],
        "prometheus_timeout": ["99ms"],
        "prometheus_freshness": ["999ms"],
        "docker_timeout": ["99ms"],
        "recheck": ["999ms"],
        "chat_timeout": ["99ms"],
        "mail.timeout": ["99ms"],
        "wall": ["all"],
        "mail.port": ["0", "65536"],
        "mail.security": ["ssl"],
        "mail.pattern": ["a@example.org", "'{user}{user}@example.org'"],
        "mail.passwd_domain": ["a@b"],
        "page.session": ["59s"],
        "page.proxy_addresses": ["[proxy]"],
        "digest.at_least": ["1"],
        "digest.within": ["11m"],
    },
}


def nested(name: str, value: Any) -> dict[str, Any]:
    """Return *value* under a dotted name."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return dict(value)


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {**one, **other}
    for name in one.keys() & other.keys():
        if isinstance(one[name], dict) and isinstance(other[name], dict):
            both[name] = merged(one[name], other[name])
    return both


def document(section: str, name: str, text: str) -> dict[str, Any]:
    """Return the least file in which *name* has the value that *text* is in YAML."""
    value = nested(name, yaml.safe_load(text))
    if section == "settings":
        return merged(COMPANIONS.get(name, {}), value)
    if section == "policy":
        return {"rules": [RULE], **value}
    if section == "rung":
        return {"rules": [{**RULE, "do": [{**RULE["do"][0], **value}]}]}
    if section == "remediations":
        return {"rules": [{**RULE, "do": [value]}]}
    base = {"before": "1h"} if name == "warn.tell" else {}
    return {"rules": [{**RULE, **(merged({"warn": base}, value) if base else value)}]}


def read(folder: Path, section: str, content: dict[str, Any]) -> Policy | Settings:
    path = folder / "file.yaml"
    path.write_text(yaml.safe_dump(content))
    return read_settings(path, {}) if section == "settings" else read_policy(path)


def keys_that(holds: Callable[[str, Key], bool]) -> list[Any]:
    found = [(s, key) for s, keys in KEYS.items() for key in keys if holds(s, key)]
    return [pytest.param(s, key, id=f"{s}-{key.name}") for s, key in found]


def is_the_readers_own_default(section: str, key: Key) -> bool:
    """Whether the reader fills it in; else the program does, when it needs the value."""
    by_program = section == "remediations" or key.name == "link_key_file"
    return key.default.startswith("`") and not by_program


@pytest.mark.parametrize("name", TABLES)
def test_the_page_is_what_make_docs_makes(name: str) -> None:
    assert with_tables(name, page(name)) == page(name), "run make docs"


@pytest.mark.parametrize(("section", "key"), keys_that(lambda _, key: bool(key.example)))
def test_an_example_is_taken_and_changes_something(section: str, key: Key, tmp_path: Path) -> None:
    given = read(tmp_path, section, document(section, key.name, key.example))

    assert isinstance(given, Settings if section == "settings" else Policy)


@pytest.mark.parametrize(("section", "key"), keys_that(is_the_readers_own_default))
def test_a_default_is_what_leaving_it_out_means(section: str, key: Key, tmp_path: Path) -> None:
    without = {"rules": [RULE]} if section != "settings" else {"workers": 8}
    if key.name == "warn.tell":
        without = document(section, "warn", "{before: 1h}")

    given = read(tmp_path, section, document(section, key.name, key.default.strip("`")))

    assert given == read(tmp_path, section, without)


@pytest.mark.parametrize(
    ("section", "name", "text"),
    [
        (s, name, text)
        for s, keys in REFUSED.items()
        for name, texts in keys.items()
        for text in texts
    ],
)
def test_what_is_out_of_range_is_refused_at_its_place(
    section: str, name: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, section, document(section, name, text))

    assert any(name in problem.path for problem in raised.value.problems), str(raised.value)


def test_each_range_that_is_stated_has_something_beyond_it() -> None:
    stated = {
        (section, key.name)
        for section, keys in KEYS.items()
        for key in keys
        if any(word in key.takes for word in ("`", "at least", "at most", "limits", "percentage"))
    }
    shown = {(section, name) for section, names in REFUSED.items() for name in names}
    free = {("settings", "page.proxy_user_header"), ("settings", "permitted_processes")}

    # Two examples of true or false stand for all.
    assert stated - shown - free <= {("settings", "page.secure_cookies")}

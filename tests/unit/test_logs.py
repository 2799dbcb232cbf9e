import json
import logging
from collections.abc import Iterator

import pytest

from remediator.logs import set_up_logging

FORGED = "innocent\n2026-01-01T00:00:00.000+00:00 error   root: forged \x1b[31m"


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give pytest its own logging back."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], level = before
    root.setLevel(level)


def fail(message: str) -> None:
    raise ValueError(message)


def log_a_failure(message: str) -> None:
    try:
        fail(message)
    except ValueError:
        logging.getLogger("remediator.test").exception("it broke")


def test_a_line_says_when_how_bad_where_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", as_json=False)

    logging.getLogger("remediator.test").warning("delivery %s refused", 7)
    logging.getLogger("remediator.test").debug("not this")

    out, err = capsys.readouterr()
    assert out == ""
    at, level, rest = err.rstrip("\n").split(maxsplit=2)
    assert at.endswith("+00:00")
    assert (level, rest) == ("warning", "remediator.test: delivery 7 refused")


def test_text_from_outside_cannot_start_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging("info", as_json=False)

    logging.getLogger("remediator.test").info("said %s", FORGED)

    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("remediator.test: said innocent")
    assert second == "  2026-01-01T00:00:00.000+00:00 error root: forged [31m"


def test_nor_can_the_text_of_an_exception(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", as_json=False)

    log_a_failure(FORGED)

    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith("remediator.test: it broke")
    assert others[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in others)
    assert any(line.startswith("    ") for line in others)
    assert "\x1b" not in "".join(others)


def test_an_empty_message_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", as_json=False)

    logging.getLogger("remediator.test").info("")

    assert capsys.readouterr().err.endswith("remediator.test: \n")


def test_a_machine_gets_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("debug", as_json=True)

    logging.getLogger("remediator.test").debug("said %s", FORGED)
    log_a_failure("größe\u2028")

    said, broke = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert said["message"] == f"said {FORGED}"
    assert (said["level"], said["logger"]) == ("debug", "remediator.test")
    assert set(said) == {"at", "level", "logger", "message"}
    assert broke["exception"].endswith("ValueError: größe\u2028")


def test_chatty_libraries_are_heard_only_when_something_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging("debug", as_json=False)

    logging.getLogger("urllib3.connectionpool").debug("chat")
    logging.getLogger("docker.utils").info("chat")
    logging.getLogger("docker").warning("trouble")

    assert capsys.readouterr().err.count("\n") == 1

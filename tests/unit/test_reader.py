from pathlib import Path

import pytest
import yaml

from remediator.config.reader import Reader, did_you_mean, parse_nodes, read_nodes
from remediator.errors import ConfigError, Problem, RemediatorError


def reader_of(text: str) -> tuple[Reader, dict[str, yaml.Node]]:
    reader, node = parse_nodes(text, "f.yaml")
    return reader, reader.mapping(node, "")


def told(reader: Reader) -> list[str]:
    return [str(problem) for problem in reader.problems]


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_nodes(path)
    return str(caught.value).replace(str(path), "f.yaml")


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    expected = "f.yaml:1:1: cannot be read: No such file or directory"

    assert refused(folder / "x.yaml") == expected


def test_a_folder_is_no_file(folder: Path) -> None:
    assert refused(folder) == "f.yaml:1:1: cannot be read: Is a directory"


def test_a_file_below_a_file_cannot_be_read(folder: Path) -> None:
    (folder / "file").touch()

    assert refused(folder / "file" / "x.yaml") == "f.yaml:1:1: cannot be read: Not a directory"


def test_text_that_is_not_utf8_is_refused_at_its_line(folder: Path) -> None:
    path = folder / "x.yaml"
    path.write_bytes("mode: act\n# München\n".encode("latin-1"))

    assert refused(path) == "f.yaml:2:1: is not UTF-8 text"


def test_a_file_too_large_to_be_meant_is_not_read(folder: Path) -> None:
    path = folder / "x.yaml"
    with path.open("wb") as file:
        file.truncate(4 * 1024 * 1024 + 1)

    assert refused(path) == "f.yaml:1:1: larger than 4 MiB: not a configuration file"


def test_a_control_character_is_refused(folder: Path) -> None:
    path = folder / "x.yaml"
    path.write_bytes(b"mode: a\x00ct\n")

    assert refused(path).startswith("f.yaml:1:1: not YAML: ReaderError: unacceptable character")


def test_nesting_without_end_is_refused(folder: Path) -> None:
    path = folder / "x.yaml"
    path.write_text("[" * 5000)

    assert refused(path).startswith("f.yaml:1:1: not YAML: RecursionError: ")


def test_problems_are_told_in_the_order_of_the_file() -> None:
    first, second = Problem("f", 2, 9, "p", "m"), Problem("f", 10, 1, "", "n")

    error = ConfigError([second, first])

    assert error.problems == (first, second)
    assert str(error) == "f:2:9: p: m\nf:10:1: n"
    assert isinstance(error, RemediatorError)


def test_a_file_without_problems_finishes() -> None:
    reader, _ = reader_of("a: 1")

    reader.finish()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 3", 3),
        ("a: 0", 0),
        ("a: 007", 7),
    ],
)
def test_a_whole_number_is_read(text: str, expected: int) -> None:
    reader, fields = reader_of(text)

    assert reader.integer(fields["a"], "a") == expected
    assert told(reader) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: x", 'expected a whole number, got "x"'),
        ('a: "3"', 'expected a whole number, got "3"'),
        ("a: 1.5", 'expected a whole number, got "1.5"'),
        ("a: 1_000", 'expected a whole number, got "1_000"'),
        ("a: 0x10", 'expected a whole number, got "0x10"'),
        ("a: 1:30", 'expected a whole number, got "1:30"'),
        ("a: -3", 'expected a whole number, got "-3"'),
        ("a: 9999999999999999", 'expected a whole number, got "9999999999999999"'),
        ("a: ", "expected a whole number, got nothing"),
        ('a: ""', "expected a whole number, got an empty text"),
        ("a: [1]", "expected a whole number, got a list"),
        ("a: {b: 1}", "expected a whole number, got a mapping"),
        ("a: 1", "must be at least 2, not 1"),
    ],
)
def test_what_is_no_whole_number_is_told(text: str, message: str) -> None:
    reader, fields = reader_of(text)

    assert reader.integer(fields["a"], "a", least=2) == 2
    assert told(reader) == [f"f.yaml:1:4: a: {message}"] or text == "a: "
    assert reader.problems[0].message == message


def test_a_choice_without_a_near_one_lists_them_all() -> None:
    reader, fields = reader_of("a: zzz")

    assert reader.choice(fields["a"], "a", ["one", "two"], "thing") == "one"
    assert told(reader) == ['f.yaml:1:4: a: unknown thing "zzz" (one of one, two)']


def test_a_long_value_is_cut_in_a_message() -> None:
    reader, fields = reader_of(f"a: {'x' * 500}")

    reader.sequence(fields["a"], "a")

    assert len(told(reader)[0]) < 120


def test_only_near_words_are_suggested() -> None:
    assert did_you_mean("cooldwon", ["cooldown", "count"]) == ' (did you mean "cooldown"?)'
    assert did_you_mean("zzz", ["cooldown"]) == ""

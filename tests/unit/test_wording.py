from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from remediator.core.notices import (
    Matter,
    NoticeKind,
    Text,
    WayToKeep,
    acted,
    failed,
    informed,
    warning,
)
from remediator.notifiers.blocks import Block, blocks
from remediator.notifiers.facts import kind_of
from remediator.notifiers.samples import SAMPLES, Sample
from remediator.notifiers.templates import Templates, built_in, read_templates
from remediator.notifiers.wording import Wording
from tests.builders import MINUTE, NOON, a_rung

HOSTILE = "<script>x</script>{{ 7*7 }}\x1b[2J\r\n\n    touch /etc/x\n-- \n\u202e" + "y" * 100_000
MATTER = Matter(7, "gpu1", "train", "alice", "DS01ContainerIdle", ("nvml: no process",))


def never() -> None:
    raise AssertionError("a built-in template fails")


def written(sample: Sample, templates: Templates | None = None) -> Text:
    return Wording(templates or Templates(), never).write_either(sample.content)


class Page(HTMLParser):
    """The elements of an HTML text, its words, and what it would fetch or lead to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [v or "" for k, v in attrs if k in {"href", "src", "background", "srcset"}]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: f"{s.kind}: {s.name}")
def test_every_notice_is_whole_in_both_forms(sample: Sample) -> None:
    text = written(sample)
    page = Page(text.html)

    assert text.subject
    assert "\n" not in text.subject
    assert text.body.count("\n-- \nRemediator on gpu1") == 1
    assert "\n\n\n" not in text.body
    assert text.body.endswith("\n")
    for line in text.body.splitlines()[:-2]:
        words = line.strip().removeprefix("- ")
        if sample.kind != "digest" and "https://" not in words:
            assert words in " ".join(page.words.split()) or words in page.words
    assert all(link.startswith("https://gpu1.example.org/") for link in page.links)
    assert not page.tags & {"script", "img", "link", "iframe", "form"}


def test_there_is_a_sample_of_every_kind() -> None:
    assert {sample.kind for sample in SAMPLES} == {*(k.value for k in NoticeKind), "digest"}
    assert {kind_of(sample.content) for sample in SAMPLES} == {sample.kind for sample in SAMPLES}


def test_labels_of_others_are_words_and_nothing_else() -> None:
    matter = Matter(7, HOSTILE, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,) * 1000)
    wording = Wording(Templates(), never)
    for notice in (
        acted(matter, "stop-container", {}, HOSTILE),
        failed(matter, "stop-container", HOSTILE),
        informed(matter, HOSTILE, keepable=True),
        warning(matter, a_rung(), NOON, MINUTE),
    ):
        text = wording.write(notice)
        page = Page(text.html)

        assert len(text.subject) <= 200
        assert len(text.body) < 20_000
        assert not set(text.subject + text.body + text.html) & {"\x1b", "\r", "\u202e"}
        assert "script" not in page.tags
        assert "{{ 7*7 }}" in page.words
        assert "\n    touch /etc" not in text.body
        assert text.body.count("\n-- \n") == 1


def test_what_is_pasted_into_a_shell_is_one_word_of_it() -> None:
    matter = replace(MATTER, alert="DS01ContainerNeverStarted", title="x; rm -rf /")

    notice = warning(matter, a_rung("remove-container"), NOON, MINUTE)

    assert "\n    docker start 'x; rm -rf /'\n" in Wording(Templates(), never).write(notice).body
    assert notice.advice == "docker start 'x; rm -rf /'"


def test_a_link_to_keep_it_is_a_button_and_goes_before_all_else() -> None:
    matter = replace(MATTER, keep=WayToKeep(url="https://g/extend?a=1&b=2"))
    notice = warning(matter, a_rung(), NOON, MINUTE)

    text = Wording(Templates(), never).write(notice)

    assert Page(text.html).links == ["https://g/extend?a=1&b=2"]
    assert text.body.index("https://g/extend?a=1&b=2") < text.body.index("touch /workspace")
    assert notice.advice == "https://g/extend?a=1&b=2"


def test_paragraphs_lists_and_commands_are_told_apart() -> None:
    assert blocks("A\nb\n\nWhy:\n  - c\n  - d\n\n    e\n    f\n\n-- \nme\n") == (
        Block("text", ("A", "b")),
        Block("text", ("Why:",), leads_to_list=True),
        Block("list", ("c", "d")),
        Block("command", ("e", "f")),
    )


def put(folder: Path, **texts: str) -> Templates:
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)
    return read_templates(folder)


def problems(templates: Templates) -> list[str]:
    return [f"{Path(p.file).name}:{p.line}:{p.column}: {p.message}" for p in templates.problems]


def test_our_own_templates_are_good_ones_for_a_site(folder: Path) -> None:
    for name, text in built_in().items():
        (folder / name).write_text(text)

    templates = read_templates(folder)

    assert problems(templates) == []
    for sample in SAMPLES:
        assert written(sample, templates) == written(sample)


def test_a_site_says_it_in_its_own_words_and_in_both_forms(folder: Path) -> None:
    templates = put(
        folder,
        acted__subject__txt="{{ title }} wurde beendet",
        acted__txt="Hallo {{ owner }},\n\n{{ title }} wurde beendet.\n",
    )

    text = Wording(templates, never).write(acted(MATTER, "stop-container", {}, "x"))

    assert problems(templates) == []
    assert text.subject == "train wurde beendet"
    assert text.body == "Hallo alice,\n\ntrain wurde beendet.\n"
    assert "Hallo alice," in Page(text.html).words
    assert written(SAMPLES[0], templates) == written(SAMPLES[0])


def test_a_sites_html_and_its_layout_are_used_and_escaped(folder: Path) -> None:
    templates = put(
        folder,
        acted__html="<p>{{ title }}</p>",
        layout__txt="{% block lead %}{% endblock %}{{ alert }}\n{% block next %}{% endblock %}",
    )
    wording = Wording(templates, never)

    assert problems(templates) == []
    html = wording.write(acted(replace(MATTER, title="<b>"), "stop-container", {}, "x")).html
    assert html == "<p>&lt;b&gt;</p>"
    assert wording.write(failed(MATTER, "reset-gpu", "x")).body.startswith(
        "reset-gpu did not succeed: x.\nDS01ContainerIdle\n"
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        pytest.param(
            "acted.txt",
            "a\nb {{ titlr }}",
            'acted.txt:2:6: unknown placeholder "titlr" (did you mean "title"?)',
            id="a misspelt placeholder",
        ),
        pytest.param(
            "acted.html",
            "{{ keep_ulr }}",
            'acted.html:1:4: unknown placeholder "keep_ulr" (did you mean "keep_url"?)',
            id="the same in HTML",
        ),
        pytest.param(
            "failed.txt", "\n\n{% if %}", "failed.txt:3:1: Expected an expression", id="syntax"
        ),
        pytest.param(
            "acted.txt",
            "x\n{{ evidence[99] }}",
            "acted.txt:2:1: ",
            id="what is not there",
        ),
        pytest.param("acted.txt", "{{ host / 2 }}", "acted.txt:1:1: ", id="nonsense"),
        pytest.param(
            "acted.txt", "{{ host.__class__.__mro__ }}", "acted.txt:1:1: access to", id="a way out"
        ),
        pytest.param(
            "acted.txt", '{% include "/etc/passwd" %}', "acted.txt:1:1: /etc/passwd", id="a file"
        ),
        pytest.param(
            "acted.text",
            "",
            'acted.text:1:1: no notice has a template of this name (did you mean "acted.txt"?)',
            id="a name that is none",
        ),
        pytest.param(
            "layout.txt", "{{ hots }}", 'layout.txt:1:4: unknown placeholder "hots"', id="a layout"
        ),
        pytest.param("digest.txt", "{{ title }}", "digest.txt:1:4: unknown", id="a digest's"),
    ],
)
def test_what_is_wrong_with_a_template_is_told_with_its_place(
    folder: Path, name: str, text: str, expected: str
) -> None:
    (folder / name).write_text(text)

    templates = read_templates(folder)

    [problem] = problems(templates)
    assert problem.startswith(expected)
    assert templates.texts == {}


def test_a_bad_template_costs_only_itself(folder: Path) -> None:
    templates = put(
        folder, acted__txt="{{ nonsense }}", acted__subject__txt="!", failed__txt="mine\n"
    )

    assert set(templates.texts) == {"acted.subject.txt", "failed.txt"}
    text = Wording(templates, never).write(acted(MATTER, "stop-container", {}, "x"))
    assert text.subject == "!"
    assert text.body.startswith("train on gpu1 was stopped and removed: x.")


def test_a_template_that_fails_at_last_gives_way_to_ours(folder: Path) -> None:
    # No sample is called so, and only this one makes it fail.
    templates = put(folder, acted__txt="{{ 1 / (0 if title == 'odd' else 1) }}")
    faults: list[int] = []
    fault: Callable[[], None] = lambda: faults.append(1)  # noqa: E731

    wording = Wording(templates, fault)
    text = wording.write(acted(replace(MATTER, title="odd"), "stop-container", {}, "x"))

    assert text.body.startswith("odd on gpu1 was stopped and removed: x.")
    assert faults == [1]


def test_a_folder_that_is_not_there_is_a_problem_and_no_reason_to_be_silent(folder: Path) -> None:
    templates = read_templates(folder / "none")

    assert "cannot be read: No such file" in problems(templates)[0]
    assert written(SAMPLES[0], templates) == written(SAMPLES[0])


def test_what_an_editor_leaves_is_no_template(folder: Path) -> None:
    for name in (".acted.txt.swp", "acted.txt~"):
        (folder / name).write_text("{{")

    assert read_templates(folder) == Templates()

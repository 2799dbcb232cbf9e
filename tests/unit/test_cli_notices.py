from pathlib import Path

import pytest

from remediator.cli.main import main
from remediator.core.notices import NoticeKind
from remediator.notifiers.templates import DIGEST


def settings(folder: Path, **templates: str) -> list[str]:
    own = folder / "templates"
    own.mkdir(exist_ok=True)
    for name, text in templates.items():
        (own / name.replace("__", ".")).write_text(text)
    file = folder / "settings.yaml"
    file.write_text(f"templates_dir: {own}\n")
    return ["--settings", str(file)]


def test_good_templates_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = settings(folder, acted__txt="{{ title }}\n")

    assert main(["notices", "check", *given]) == 0
    assert capsys.readouterr().out == "1 template of your own, all good\n"


def test_what_is_wrong_has_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = settings(folder, acted__txt="x\n{{ titlr }}\n", qqq__md="")

    assert main(["notices", "check", *given]) == 1
    assert capsys.readouterr().err == (
        f'{folder}/templates/acted.txt:2:4: unknown placeholder "titlr" (did you mean "title"?)\n'
        f"{folder}/templates/qqq.md:1:1: no notice has a template of this name\n"
        "remediator: 2 problems\n"
    )


@pytest.mark.parametrize("kind", [*(kind.value for kind in NoticeKind), DIGEST])
def test_every_kind_can_be_seen(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    given = settings(folder)

    assert main(["notices", "preview", kind, *given]) == 0
    assert "\nSubject: " in capsys.readouterr().out
    assert main(["notices", "preview", kind, "--html", *given]) == 0
    assert capsys.readouterr().out.startswith("<!DOCTYPE html>")
    assert main(["notices", "preview", kind, "--facts", *given]) == 0
    assert "host: 'gpu1'\n" in capsys.readouterr().out


def test_a_preview_is_in_the_sites_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = settings(folder, failed__subject__txt="Oh, {{ title }}!")

    assert main(["notices", "preview", "failed", *given]) == 0
    assert "Subject: Oh, train-resnet!\n" in capsys.readouterr().out

"""A backtest as one page of HTML, complete in itself and without any script."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from remediator.backtest.backtest import Result
from remediator.backtest.deciding import time_of
from remediator.backtest.history import Stretch
from remediator.backtest.report import acts, counted, lasted, what_became
from remediator.core.durations import humanize
from remediator.core.notices import clean
from remediator.core.targets import subject_of
from remediator.errors import SourceError

_MOST_ROWS = 5000


def write_page(path: Path, results: Sequence[Result], reported: Stretch, about: str) -> None:
    """Write the page to *path*; SourceError if that cannot be."""
    environment = Environment(
        loader=PackageLoader("remediator.backtest"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        time=_time, moment=lambda at: _time(time_of(at)), lasted=humanize, clean=clean
    )
    environment.tests["acting"] = acts
    text = environment.get_template("backtest.html").render(
        results=results,
        about=about,
        begin=time_of(reported.begin),
        end=time_of(reported.end),
        counted=lambda result: counted(result, reported.end),
        lasting=lambda story: lasted(story, reported.end),
        what_became=what_became,
        subject_of=lambda fired: subject_of(dict(fired.labels)),
        acts=acts,
        labels_of=lambda fired: dict(fired.labels),
        last=reported.end,
        most=_MOST_ROWS,
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{path} cannot be written: {error.strerror}") from error


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"

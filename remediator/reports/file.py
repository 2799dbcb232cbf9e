"""A report as one HTML file: nothing to fetch, no script, for a mail, a browser and a printer."""

from importlib import resources

import jinja2

from remediator.core.report import Report
from remediator.reports.tables import assumptions, headline, remarks, table_of_days, tables


def html_of(report: Report) -> str:
    """Return the whole file; every text in it is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = resources.files(__package__).joinpath("templates", "month.html").read_text("utf-8")
    highest = max((day.gpu_hours for day in report.days), default=0.0)
    return environment.from_string(text).render(
        title=headline(report),
        remarks=remarks(report),
        tables=tables(report),
        days=table_of_days(report),
        widths=[round(100 * day.gpu_hours / highest) if highest else 0 for day in report.days],
        assumptions=assumptions(),
    )

"""Put together how people are told: words, addresses and notifiers."""

import logging

from remediator.config.settings import Settings
from remediator.metrics import WorkerMetrics
from remediator.notifiers.templates import read_templates
from remediator.notifiers.wording import Wording

log = logging.getLogger(__name__)


def make_wording(settings: Settings, metrics: WorkerMetrics) -> Wording:
    """Return the words of notices; what is wrong with a site's templates is logged and counted.

    A bad template keeps nobody from being told: the built-in one is used.
    """
    templates = read_templates(settings.templates_dir)
    metrics.template_problems.set(len(templates.problems))
    for problem in templates.problems:
        log.error("%s; the built-in template is used", problem)
    return Wording(templates, metrics.template_failures.inc)

"""``remediator notices``: check the templates of notices, and see what a notice looks like."""

import argparse

from remediator.cli.programs import Subparsers, add_settings, settings_of
from remediator.errors import ConfigError
from remediator.notifiers.facts import facts_for_html, facts_of
from remediator.notifiers.samples import SAMPLES, Sample
from remediator.notifiers.templates import Templates, read_templates
from remediator.notifiers.wording import Wording

_ABOUT = """\
The texts of notices are Jinja2 templates. What lies in the folder that the setting templates_dir
names goes before what comes with the program: KIND.subject.txt, KIND.txt and KIND.html, and the
parts they share. The HTML is made of the text where there is no KIND.html.
"""


def add_to(subparsers: Subparsers) -> None:
    """Add the commands."""
    parser = subparsers.add_parser(
        "notices", help="check the texts of notices, and see them", description=_ABOUT
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    checking = verbs.add_parser("check", help="say which of your templates are wrong, and where")
    add_settings(checking)
    checking.set_defaults(run=check)
    showing = verbs.add_parser("preview", help="print invented notices of one kind in your words")
    add_settings(showing)
    kinds = sorted({sample.kind for sample in SAMPLES})
    showing.add_argument("kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
    showing.add_argument("--html", action="store_true", help="the first of them, as HTML")
    showing.add_argument("--facts", action="store_true", help="what its templates may name")
    showing.set_defaults(run=show)


def check(options: argparse.Namespace) -> int:
    """Say whether all templates are good; ConfigError lists what is wrong."""
    templates = _templates(options)
    if templates.problems:
        raise ConfigError(templates.problems)
    count = len(templates.texts)
    print(f"{count} template{'' if count == 1 else 's'} of your own, all good")
    return 0


def show(options: argparse.Namespace) -> int:
    """Print what notices of a kind look like."""
    samples = [sample for sample in SAMPLES if sample.kind == options.kind]
    if options.facts:
        _print_facts(samples)
        return 0
    templates = _templates(options)
    wording = Wording(templates, lambda: None)
    for sample in samples[:1] if options.html else samples:
        text = wording.write_either(sample.content)
        if options.html:
            print(text.html)
        else:
            print(f"== {sample.name}\nSubject: {text.subject}\n\n{text.body}")
    return 0


def _templates(options: argparse.Namespace) -> Templates:
    return read_templates(settings_of(options).templates_dir)


def _print_facts(samples: list[Sample]) -> None:
    """Print each placeholder with what stands for it in the first sample."""
    first = samples[0].content
    for name, value in facts_of(first).items():
        print(f"{name}: {value!r}")
    for name in sorted(set(facts_for_html(first, "", "")) - set(facts_of(first))):
        print(f"{name}: in HTML only")

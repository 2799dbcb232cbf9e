"""The templates of notices: those that come with the package, and those of a site.

A site's template goes before ours of the same name. Each is tried with sample data when it is
read, with every fact that its kind has; one that fails is reported and left out.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import jinja2
from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment

from remediator.config.reader import did_you_mean, read_text
from remediator.core.notices import NoticeKind
from remediator.errors import ConfigError, Problem
from remediator.notifiers.facts import DIGEST, facts_for_html, facts_of
from remediator.notifiers.samples import SAMPLES, Sample

_KINDS = (*(kind.value for kind in NoticeKind), DIGEST)
# What Jinja2 itself brings, and what may stand in a template's own {% set %} and {% for %}.
_JINJA = frozenset({"super", "self", "loop", "range", "dict", "cycler", "joiner", "namespace"})


@dataclass(frozen=True, slots=True)
class Templates:
    """Templates by file name, all of them good, and what is wrong with those left out."""

    texts: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def has_own(self, kind: str) -> bool:
        """Whether the words of *kind* may come from a template of the site."""
        shared = {name for name in self.texts if name.split(".")[0] not in _KINDS}
        return bool(shared) or any(name.split(".")[0] == kind for name in self.texts)


def built_in() -> dict[str, str]:
    """Return the templates of the package by file name."""
    folder = resources.files(__package__).joinpath("templates")
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def known_names() -> tuple[str, ...]:
    """Return every file name that a site's template may have."""
    mine = {f"{kind}{end}" for kind in _KINDS for end in (".subject.txt", ".txt", ".html")}
    return tuple(sorted({*built_in(), *mine}))


def make_environment(texts: Mapping[str, str]) -> SandboxedEnvironment:
    """Return what renders *texts*, and the package's where a name is not among them.

    A template can reach nothing but its facts, and whatever it prints into HTML is escaped.
    """
    environment = SandboxedEnvironment(
        loader=jinja2.ChoiceLoader([jinja2.DictLoader(texts), jinja2.DictLoader(built_in())]),
        undefined=jinja2.StrictUndefined,
        autoescape=lambda name: name is None or name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters["shell"] = shlex.quote
    return environment


def read_templates(folder: Path | None) -> Templates:
    """Return the site's templates in *folder*; what is wrong with any is among the problems."""
    if folder is None:
        return Templates()
    problems: list[Problem] = []
    texts: dict[str, str] = {}
    for path in _files(folder, problems):
        try:
            texts[path.name] = read_text(path)
        except ConfigError as error:
            problems += error.problems
    while True:
        found = [p for name in texts for p in _wrong_with(folder, name, texts)]
        if not found:
            return Templates(texts, tuple(sorted(problems)))
        problems += found
        for problem in found:
            texts.pop(Path(problem.file).name, None)


def _files(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    known = known_names()
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        problems.append(Problem(str(folder), 1, 1, "", f"cannot be read: {error.strerror}"))
        return
    for path in paths:
        if path.name in known:
            yield path
        elif not path.name.startswith(".") and not path.name.endswith("~"):
            hint = did_you_mean(path.name, known)
            message = f"no notice has a template of this name{hint}"
            problems.append(Problem(str(path), 1, 1, "", message))


def _wrong_with(folder: Path, name: str, texts: Mapping[str, str]) -> list[Problem]:
    """Return what is wrong with one template, as it stands among the others."""
    file, text = str(folder / name), texts[name]
    environment = make_environment(texts)
    try:
        tree = environment.parse(text, name)
    except jinja2.TemplateSyntaxError as error:
        return [Problem(file, error.lineno, 1, "", error.message or "cannot be read")]
    kind = name.split(".", maxsplit=1)[0]
    samples = [sample for sample in SAMPLES if kind in {sample.kind, *_shared(name)}]
    known = set().union(*(_facts(sample, name) for sample in samples))
    return list(_unknown(tree, known, text, file)) or _failures(environment, name, file, samples)


def _unknown(tree: nodes.Template, known: set[str], text: str, file: str) -> Iterator[Problem]:
    """Yield the placeholders that nothing fills, at their places."""
    own = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
    lines = text.splitlines()
    told: set[tuple[str, int]] = set()
    for node in tree.find_all(nodes.Name):
        place = (node.name, node.lineno)
        if node.name in known | own | _JINJA or place in told:
            continue
        told.add(place)
        line = lines[node.lineno - 1] if node.lineno <= len(lines) else ""
        found = re.search(rf"\b{re.escape(node.name)}\b", line)
        hint = did_you_mean(node.name, known) or f" (one of {', '.join(sorted(known))})"
        message = f'unknown placeholder "{node.name}"{hint}'
        yield Problem(file, node.lineno, found.start() + 1 if found else 1, "", message)


def _shared(name: str) -> tuple[str, ...]:
    """Return the name's first part if no kind is called so: all of them use it."""
    first = name.split(".", maxsplit=1)[0]
    return () if first in _KINDS else (first,)


def _facts(sample: Sample, name: str) -> dict[str, object]:
    if name.endswith(".html"):
        return facts_for_html(sample.content, "Its subject", "Its text.\n")
    return facts_of(sample.content)


def _failures(
    environment: SandboxedEnvironment, name: str, file: str, samples: Iterable[Sample]
) -> list[Problem]:
    """Return how rendering the samples fails, if it does."""
    for sample in samples:
        # What several kinds share is rendered as a part of each of them.
        whole = name if not _shared(name) else f"{sample.kind}.{name.rpartition('.')[2]}"
        try:
            environment.select_template([whole, "notice.html"]).render(_facts(sample, name))
        except jinja2.TemplateSyntaxError as error:
            # In a template that this one extends or includes, which has problems of its own.
            return [Problem(file, 1, 1, "", f"{error.name}: {error.message}")]
        except Exception as error:  # noqa: BLE001 - a template can fail in any way Python can
            line = _line_of(error, name)
            return [Problem(file, line, 1, "", f"{error} (with a sample of {sample.name})")]
    return []


def _line_of(error: BaseException, name: str) -> int:
    """Return the line of template *name* in which *error* arose: Jinja2 rewrites the traceback."""
    frame, line = error.__traceback__, 1
    while frame is not None:
        if frame.tb_frame.f_code.co_filename in {name, "<template>", "<unknown>"}:
            line = frame.tb_lineno
        frame = frame.tb_next
    return line

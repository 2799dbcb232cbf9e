"""Everything that the checks run with is named by the hash of its files."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINS = ROOT / "tests" / "requirements-dev.txt"


def pinned() -> dict[str, tuple[Requirement, int]]:
    """Return what is pinned by name: the requirement, and how many hashes it has."""
    found = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", PINS.read_text()):
        head, *rest = block.split("\\\n")
        if "==" in head:
            requirement = Requirement(head.strip())
            hashes = sum(len(re.findall(r"--hash=sha256:[0-9a-f]{64}", line)) for line in rest)
            found[canonicalize_name(requirement.name)] = (requirement, hashes)
    return found


def wanted() -> list[Requirement]:
    """Return all that pyproject.toml asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        texts += extra
    return [Requirement(text) for text in texts]


def test_whatever_is_asked_for_is_pinned_to_a_version_that_will_do() -> None:
    pins = pinned()

    missing = [r for r in wanted() if canonicalize_name(r.name) not in pins]
    unfit = []
    for requirement in wanted():
        pin, _ = pins[canonicalize_name(requirement.name)]
        (version,) = pin.specifier
        if not requirement.specifier.contains(version.version):
            unfit.append(f"{requirement} is pinned to {version.version}: run make pins")

    assert (missing, unfit) == ([], [])


def test_every_pin_is_one_version_with_hashes() -> None:
    for name, (requirement, hashes) in pinned().items():
        assert [s.operator for s in requirement.specifier] == ["=="], name
        assert hashes > 0, name


def test_no_address_of_a_registry_is_named() -> None:
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", PINS.read_text())


def test_what_prepares_a_machine_takes_nothing_else() -> None:
    script = (ROOT / "tests" / "peers" / "install.sh").read_text()
    # Whatever comes by another line comes without dependencies, from here.
    installs = re.findall(r"pip install (.*)", script)

    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-deps" in line, line

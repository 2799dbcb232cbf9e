"""The stack in containers: the compose file that is shipped, and what compose makes of it.

Thin on purpose: whatever `remediator stack` does, ``docker compose`` does as well.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
import yaml
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from remediator.errors import SetupError

COMPOSE_FILE = "compose.yaml"
_CONFIGURATION = ("settings.yaml", "policy.yaml")
_SECRETS = ("token", "grafana-password")
_SERVICE, _ONE_OFF = "com.docker.compose.service", "com.docker.compose.oneoff"


@dataclass(frozen=True, slots=True)
class ServiceState:
    """How a service is; ``health`` is empty where its container has no health check."""

    name: str
    state: str
    health: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it runs, and is as healthy as it can tell."""
        return self.state == "running" and self.health in {"", "healthy"}


class Stack:
    """The stack whose ``compose.yaml`` is in *folder*; *environment* goes before its ``.env``.

    SetupError where compose or a file that it needs is not there.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] = os.environ) -> None:
        self._folder = folder.absolute()
        self._environment = environment
        self._compose = _find_compose(environment)
        self._variables = {**_read_env(self._folder / ".env"), **environment}

    def check(self) -> None:
        """Return if every file is there that compose needs; SetupError names all others."""
        if not (self._folder / COMPOSE_FILE).is_file():
            raise SetupError(
                f"{self._folder} has no {COMPOSE_FILE}: name its folder by --directory or"
                " REMEDIATOR_STACK (compose, in a checkout)"
            )
        missing = [str(path) for path in self._needed() if not path.is_file()]
        if missing:
            raise SetupError(
                f"missing: {', '.join(missing)}; bash {self._folder / 'prepare.sh'} makes what is"
                " not there yet"
            )

    def run(self, *arguments: str) -> int:
        """Run compose in this terminal, and return its exit status."""
        return subprocess.run(
            [*self._compose, *arguments], cwd=self._folder, env=self._environment, check=False
        ).returncode

    def services(self) -> dict[str, Mapping[str, Any]]:
        """Return what is configured of the services that are to run."""
        config = yaml.safe_load(self._output("config")) or {}
        wanted = set(re.split(r"[,\s]+", self._variables.get("COMPOSE_PROFILES", "")))
        services: dict[str, Mapping[str, Any]] = config.get("services") or {}
        return {
            name: service
            for name, service in services.items()
            if not service.get("profiles") or wanted & {"*", *service["profiles"]}
        }

    def pulled(self) -> list[str]:
        """Return the services of which somebody else makes the image."""
        return [name for name, service in self.services().items() if "build" not in service]

    def states(self) -> list[ServiceState]:
        """Return how each service is that is to run."""
        containers = self._containers(self._output("ps", "--quiet", "--all").split())
        found = {
            container["Config"]["Labels"].get(_SERVICE, ""): container
            for container in containers
            if container["Config"]["Labels"].get(_ONE_OFF) != "True"
        }
        return [_state_of(name, found.get(name)) for name in sorted(self.services())]

    def _needed(self) -> list[Path]:
        folders = {
            "REMEDIATOR_CONFIG": ("config", _CONFIGURATION),
            "REMEDIATOR_SECRETS": ("secrets", _SECRETS),
        }
        needed = [self._folder / ".env"]
        for variable, (usual, names) in folders.items():
            folder = self._folder / (self._variables.get(variable) or usual)
            needed += [folder / name for name in names]
        return needed

    def _output(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._compose, *arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SetupError(f"{' '.join(self._compose)} {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def _containers(self, ids: Collection[str]) -> list[dict[str, Any]]:
        try:
            client = docker.APIClient(version="auto", **kwargs_from_env(dict(self._environment)))
            try:
                return [client.inspect_container(i) for i in ids]
            finally:
                client.close()
        except (DockerException, requests.RequestException) as error:
            raise SetupError(f"Docker does not answer: {error}") from error


def _find_compose(environment: Mapping[str, str]) -> list[str]:
    """Return how compose is called here: as Docker's plugin, or as the older program."""
    path = environment.get("PATH", os.defpath)
    if shutil.which("docker", path=path) is not None:
        plugin = ["docker", "compose"]
        asked = subprocess.run(
            [*plugin, "version"], env=environment, capture_output=True, check=False
        )
        if asked.returncode == 0:
            return plugin
    if shutil.which("docker-compose", path=path) is not None:
        return ["docker-compose"]
    raise SetupError(
        "there is neither `docker compose` nor docker-compose: install docker-compose-plugin"
        " (Docker's packages) or docker-compose (Debian's)"
    )


def _read_env(path: Path) -> dict[str, str]:
    """Return the variables of a file as compose reads it, as far as we set any in it."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {error}") from error
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _state_of(name: str, container: Mapping[str, Any] | None) -> ServiceState:
    if container is None:
        return ServiceState(name, "missing")
    state = container["State"]
    health = (state.get("Health") or {}).get("Status", "")
    return ServiceState(name, state["Status"], "" if health == "none" else health)

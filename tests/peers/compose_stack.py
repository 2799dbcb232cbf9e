"""The stack in containers, from a copy of what is shipped, on an engine that is apart.

It is started as an administrator starts it: `prepare.sh`, `remediator stack`. The images of others
are stand-ins (`stand_ins.py`); ours is built by the shipped Dockerfile, of a base that is one as
well. Three things more differ from a GPU host: the driver is the one of `GpuHost`, mounted where
NVIDIA's toolkit puts the real one, the system bus is that of a `SystemdHost`, and the health checks
are made more often.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from docker.models.containers import Container

from tests.peers import stand_ins
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.missing import require_tool
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost

ROOT = Path(__file__).resolve().parents[2]
_SHIPPED = ("compose", "alert_rules", "alertmanager")
_MADE_HERE = ("config", "secrets", ".env")
_LIBRARY = "libnvidia-ml.so.1"
_ASK = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:
    sys.stdout.write(answer.read().decode())
"""


class ComposeStack:
    """The stack; nothing runs until `make_images` and `start`."""

    def __init__(self, stage: Stage, gpus: GpuHost, systemd: SystemdHost) -> None:
        require_tool("docker-compose")
        self.engine: DockerEngine = stage.docker_engine(apart=True)
        self.client = self.engine.client(timeout=120)
        self.folder = stage.folder / "checkout"
        self.compose = self.folder / "compose"
        self._stage = stage
        self._gpus = gpus
        self._bus_folder = Path(systemd.bus_address.partition("=")[2]).parent
        self._copy_what_is_shipped()

    @property
    def environment(self) -> dict[str, str]:
        """What compose and our command are called with."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, "DOCKER_HOST": self.engine.url, "COMPOSE_HTTP_TIMEOUT": "300"}

    def prepare(self) -> str:
        """Run prepare.sh, and write into .env what differs here."""
        printed = self.sh("bash", str(self.compose / "prepare.sh"))
        self._write_stand_in_driver()
        for name in ("log", "ds01"):
            (self.folder / name).mkdir(exist_ok=True)
        own = {
            "COMPOSE_FILE": "compose.yaml:driver.compose.yaml",
            "DOCKER_SOCKET": str(self.engine.socket),
            "DBUS_DIR": str(self._bus_folder),
            "DS01_LOG_DIR": str(self.folder / "log"),
            "DS01_STATE_DIR": str(self.folder / "ds01"),
            "PIP_NO_INDEX": "1",
        }
        env = self.compose / ".env"
        lines = [line for line in env.read_text().splitlines() if line.partition("=")[0] not in own]
        lines += [f"{name}={value}" for name, value in own.items()]
        env.write_text("\n".join(lines) + "\n")
        return printed

    def make_images(self, wheels: Path) -> None:
        """Make the images of others, and ours of what is in the folder *wheels*."""
        shutil.copytree(wheels, self.folder / "dist")
        stand_ins.make_base(self.client)
        uuids = [gpu.values["uuid"] for gpu in self._gpus.read().gpus]
        services = yaml.safe_load(self.sh("docker-compose", "config"))["services"]
        images = {
            name: service["image"] for name, service in services.items() if "build" not in service
        }
        stand_ins.make_images(self.client, images, uuids)
        self.sh("docker-compose", "build")

    def start_mail_server(self) -> None:
        """Have a mail server where the shipped settings look for it."""
        command = [sys.executable, "-m", "aiosmtpd", "--nosetuid", "--listen=127.0.0.1:25"]
        self._stage.daemon("smtp", self.engine.enter(*command), environment=self.environment)

    def remediator(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run our command for the stack."""
        return subprocess.run(
            [sys.executable, "-m", "remediator", "stack", *arguments],
            env={**self.environment, "REMEDIATOR_STACK": str(self.compose)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def is_well(self) -> bool:
        """Whether every container runs, and is as healthy as it can tell."""
        rows = self.client.api.containers(all=True)
        return bool(rows) and all(
            row["State"] == "running" and not re.search("unhealthy|starting", row["Status"])
            for row in rows
        )

    def sh(self, *command: str) -> str:
        """Run a program in the folder of compose.yaml; it has to succeed."""
        done = subprocess.run(
            command,
            cwd=self.compose,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def enter(self, *command: str) -> str:
        """Run a program in the network of the stack."""
        return self.sh(*self.engine.enter(*command))

    def ask(self, url: str) -> str:
        """What a program of the stack answers."""
        return self.enter(sys.executable, "-c", _ASK, url)

    def ask_json(self, url: str) -> Any:
        """What a program of the stack answers, where that is JSON."""
        return json.loads(self.ask(url))

    def container(self, service: str) -> Container:
        """The container of a service."""
        label = f"com.docker.compose.service={service}"
        (found,) = self.client.containers.list(all=True, filters={"label": label})
        return found

    def run_in(self, service: str, *command: str) -> tuple[int, str]:
        """Exit status and output of a command in a service's container."""
        done = self.container(service).exec_run(list(command))
        return done.exit_code or 0, done.output.decode(errors="replace")

    def logs(self) -> Mapping[str, str]:
        """How the log of each container ends."""
        return {
            container.name or "": container.logs(tail=15).decode(errors="replace")
            for container in self.client.containers.list(all=True)
        }

    def _copy_what_is_shipped(self) -> None:
        for name in _SHIPPED:
            ignore = shutil.ignore_patterns(*_MADE_HERE)
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignore)
        shutil.copy2(ROOT / ".dockerignore", self.folder)

    def _write_stand_in_driver(self) -> None:
        folder = str(self._gpus.folder)
        place = f"/usr/lib/{platform.machine()}-linux-gnu/{_LIBRARY}"
        with_driver = {
            "environment": {"FAKE_NVML_STATE": str(self._gpus.state)},
            "volumes": [f"{folder}:{folder}", f"{folder}/lib/{_LIBRARY}:{place}:ro"],
        }
        services = yaml.safe_load((self.compose / "compose.yaml").read_text())["services"]
        overlay: dict[str, Any] = {
            # Nobody here is to wait for ten seconds to hear that all is well.
            name: {"healthcheck": {"interval": "2s"}}
            for name, service in services.items()
            if "healthcheck" in service
        }
        for name in ("worker", "exporter"):
            overlay[name].update(with_driver)
        (self.compose / "driver.compose.yaml").write_text(yaml.safe_dump({"services": overlay}))

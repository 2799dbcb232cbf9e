"""reset-gpu as the worker makes it, but for Prometheus, in a process that sees a simulated driver.

    python -m tests.peers.reset_lab SETTINGS UUID look|execute

Prints one JSON object: what the sources say, and what became of it.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from remediator.config.settings import read_settings
from remediator.core.attempts import Task
from remediator.core.targets import PhysicalGpu
from remediator.driver_lock import DriverLock
from remediator.errors import RemediationError
from remediator.quiesce.for_gpus import GpuServices
from remediator.remediations.reset_gpu import ResetGpu
from remediator.remediations.reset_senses import ResetSenses
from remediator.sources.accounts import Accounts
from remediator.sources.docker_engine import DockerSource
from remediator.sources.holders import HolderSource
from remediator.sources.in_time import DriverInTime, HoldersInTime
from remediator.sources.nvml import NvmlSource
from remediator.sources.proc import ProcSource
from remediator.wiring.quiesce import make_quiesce, make_services
from remediator.wiring.resetting import make_reset_gpu
from tests.builders import NOON, an_alert
from tests.fakes import FakePrometheus, MemorySteps


def make(path: Path) -> ResetGpu:
    """Return the remediation of the host that the settings at *path* are about."""
    settings = read_settings(path, os.environ)
    quiesce = make_quiesce(settings)
    processes, users = ProcSource(), Accounts()
    lock = DriverLock(settings.state_dir)
    driver = DriverInTime(NvmlSource(lock.is_taken), settings.docker_timeout)
    holders = HoldersInTime(HolderSource(driver, processes, users), settings.docker_timeout)
    docker = DockerSource(settings.docker_host, settings.docker_timeout)
    senses = ResetSenses(FakePrometheus(), docker, driver, holders, processes, users)
    services = GpuServices(quiesce.quiesce, quiesce.record)
    return make_reset_gpu(settings, senses, services, make_services(settings), lock)


def look(remediation: ResetGpu, uuid: str) -> dict[str, Any]:
    """Return what each source but Prometheus says."""
    seen = remediation.observe(an_alert({"UUID": uuid}), NOON, {})
    return {report.source.value: [report.verdict.value, report.says] for report in seen.reports[1:]}


def execute(remediation: ResetGpu, uuid: str) -> dict[str, Any]:
    """Reset it; return what was said or raised, the steps, and what the verification finds."""
    seen = remediation.observe(an_alert({"UUID": uuid}), NOON, {})
    task = Task(PhysicalGpu(uuid), timeout=timedelta(seconds=3), context=seen.context)
    steps = MemorySteps()
    told: dict[str, Any] = {}
    try:
        told["said"] = remediation.execute(task, steps)
    except RemediationError as error:
        told["error"], told["said"] = type(error).__name__, str(error)
    return {**told, "steps": steps.names, "proof": remediation.verify(task).proof.value}


def main() -> None:
    path, uuid, what = sys.argv[1:]
    told = (look if what == "look" else execute)(make(Path(path)), uuid)
    print(json.dumps(told))


if __name__ == "__main__":
    main()

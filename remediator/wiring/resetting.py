"""Puts reset-gpu together."""

from remediator.actuators.evidence import EvidenceFolder
from remediator.actuators.nvidia_smi import NvidiaSmi
from remediator.actuators.services import Services
from remediator.config.settings import Settings
from remediator.core.services import unit_name
from remediator.driver_lock import DriverLock
from remediator.quiesce.for_gpus import GpuServices
from remediator.remediations.gpu_evidence import GpuEvidence
from remediator.remediations.reset_gpu import Around, ResetGpu, ResetHands
from remediator.remediations.reset_senses import ResetSenses
from remediator.sources.kernel_log import KernelLog


def make_reset_gpu(
    settings: Settings,
    senses: ResetSenses,
    services: GpuServices,
    units: Services,
    lock: DriverLock,
) -> ResetGpu:
    """Return the remediation; nothing is connected to yet."""
    smi = NvidiaSmi(settings.nvidia_smi)
    hands = ResetHands(smi, services, lock)
    evidence = GpuEvidence(senses, smi, units, KernelLog(), EvidenceFolder(settings.state_dir))
    around = Around(
        units=tuple(unit_name(unit) for unit in settings.gpu_services),
        containers=tuple(filter(None, [settings.dcgm_container])),
        dcgm=_dcgm_exporters(settings),
    )
    return ResetGpu(senses, hands, evidence, around)


def _dcgm_exporters(settings: Settings) -> frozenset[str]:
    """Return what shows DCGM's metrics, under the names it may have."""
    known = {unit_name(unit) for unit in settings.gpu_services if "dcgm-exporter" in unit}
    return frozenset(known | {unit_name(settings.dcgm_unit), settings.dcgm_container})

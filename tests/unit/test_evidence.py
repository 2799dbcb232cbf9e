"""Evidence is kept where its readers find it, and the kernel's lines about the driver are read."""

import os
from pathlib import Path

import pytest

from remediator.actuators.evidence import EvidenceFolder
from remediator.errors import SourceError
from remediator.sources.kernel_log import KernelLog


def test_evidence_is_for_owner_and_group_only(tmp_path: Path) -> None:
    path = EvidenceFolder(tmp_path).write("reset-gpu-GPU-0", "why\n")

    assert path is not None
    assert path.parent == tmp_path / "evidence"
    assert path.name.startswith("reset-gpu-GPU-0-")
    assert path.read_text() == "why\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o007 == 0


def test_a_name_is_no_way_out_of_the_folder(tmp_path: Path) -> None:
    path = EvidenceFolder(tmp_path).write("../../etc/\x00passwd\n" * 50, "x")

    assert path is not None
    assert path.parent == tmp_path / "evidence"


def test_evidence_is_bounded(tmp_path: Path) -> None:
    path = EvidenceFolder(tmp_path).write("much", "x" * 10**6)

    assert path is not None
    assert path.stat().st_size <= 256 * 1024


def test_evidence_that_cannot_be_kept_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("not a folder")

    assert EvidenceFolder(tmp_path).write("x", "x") is None


def test_only_the_drivers_last_lines_are_told(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    lines = [f"4,{n},{n},-;NVRM: Xid (PCI:0000:01:00): {n}" for n in range(5)]
    log.write_text("\n".join(["6,0,0,-;eth0: link up", *lines, "6,9,9,-;usb 1-1"]))

    assert KernelLog(log).driver_lines(2) == tuple(lines[-2:])


def test_a_log_that_may_not_be_read_is_a_silent_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        KernelLog(tmp_path / "missing").driver_lines(2)


def test_the_end_of_the_log_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "kmsg")
    keeps_it_open = os.open(tmp_path / "kmsg", os.O_RDWR)
    os.write(keeps_it_open, b"4,1,1,-;NVRM: Xid 79\n")

    assert KernelLog(tmp_path / "kmsg").driver_lines(5) == ("4,1,1,-;NVRM: Xid 79",)
    os.close(keeps_it_open)

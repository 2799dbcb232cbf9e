"""What nvidia-smi's answers mean, by its words and its exit status."""

import pytest

from remediator.core.gpus import GpuHealth
from remediator.core.resets import Advice, ResetAnswer, advice_of, answer_of, in_words


@pytest.mark.parametrize(
    ("status", "text", "answer"),
    [
        (0, "GPU 00000000:01:00.0 was successfully reset.\nAll done.", ResetAnswer.DONE),
        (0, "", ResetAnswer.DONE),
        (255, "The following GPUs could not be reset:\n In use by another client", "IN_USE"),
        (255, "GPU is in use by one or more CUDA clients", "IN_USE"),
        (0, "GPU 0: In use by another client", "IN_USE"),
        (255, "devices do not meet the reset criterion. Append indexes 1,2 to -i", "LINKED"),
        (255, "GPU 0 is the primary GPU", "PRIMARY"),
        (255, "GPU 0 is in vGPU mode", "VIRTUAL"),
        (255, "a change of the GOM is in flight", "MODE_PENDING"),
        (255, "the fabric state is unknown", "FABRIC"),
        (255, "Resetting GPU 0 is not supported.", "NOT_SUPPORTED"),
        (255, "Failed to initialize NVML: Driver/library version mismatch", "MISMATCH"),
        (255, "reset did not complete. A system reboot may be required.", "NEEDS_REBOOT"),
        (255, "internal state problem, please reboot the system", "NEEDS_REBOOT"),
        (255, "Insufficient Permissions", "NO_PERMISSION"),
        (255, "Unable to determine the device handle: GPU is lost", "LOST"),
        (255, "", "UNCLEAR"),
        (1, "Segmentation fault", "UNCLEAR"),
        (-9, "", "UNCLEAR"),
        (3, "whatever", "NOT_SUPPORTED"),
        (4, "whatever", "NO_PERMISSION"),
        (6, "No devices were found", "NO_SUCH_GPU"),
        (255, "No devices were found", "NO_SUCH_GPU"),
        (9, "NVIDIA-SMI has failed because it couldn't communicate", "NO_DRIVER"),
        (12, "NVIDIA-SMI couldn't find libnvidia-ml.so library", "NO_LIBRARY"),
        (15, "GPU is lost. Reboot the system to recover this GPU", "LOST"),
    ],
)
def test_words_and_status_say_what_became_of_a_reset(
    status: int, text: str, answer: ResetAnswer | str
) -> None:
    expected = ResetAnswer[answer] if isinstance(answer, str) else answer

    assert answer_of(status, text) is expected


def test_only_what_surely_changed_nothing_counts_as_refused() -> None:
    changing = {answer for answer in ResetAnswer if not answer.has_changed_nothing}

    assert changing == {
        ResetAnswer.DONE,
        ResetAnswer.LOST,
        ResetAnswer.NEEDS_REBOOT,
        ResetAnswer.UNCLEAR,
    }


@pytest.mark.parametrize(
    ("health", "advice"),
    [
        (GpuHealth(None), Advice.UNTOLD),
        (GpuHealth(0), Advice.NOTHING),
        (GpuHealth(1), Advice.RESET),
        (GpuHealth(2), Advice.REBOOT),
        (GpuHealth(3), Advice.OTHER),
        (GpuHealth(4), Advice.RESET),
        (GpuHealth(5), Advice.OTHER),
        (GpuHealth(6), Advice.RESET),
        (GpuHealth(7), Advice.REBOOT),
        (GpuHealth(99), Advice.OTHER),
        (GpuHealth(None, reset_required=True), Advice.RESET),
        (GpuHealth(0, reset_required=True), Advice.RESET),
        (GpuHealth(2, reset_required=True), Advice.REBOOT),
    ],
)
def test_the_recovery_action_is_the_advice(health: GpuHealth, advice: Advice) -> None:
    assert advice_of(health) is advice
    assert in_words(health)

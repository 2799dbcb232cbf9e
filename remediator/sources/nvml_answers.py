"""Which of NVML's errors mean what.

Some say that a GPU cannot tell, some that the GPU is gone, some that the driver is: three different
things to whoever asked.
"""

from collections.abc import Callable
from typing import TypeVar

import pynvml

T = TypeVar("T")

# "This GPU cannot tell" rather than "something is wrong".
_CANNOT_TELL = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_DATA,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)
# The driver went away under us: the next question starts over.
_DRIVER_GONE = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)


def is_driver_gone(error: pynvml.NVMLError) -> bool:
    """Tell whether there is no driver to ask any more."""
    return error.value in _DRIVER_GONE


def is_gpu_gone(error: pynvml.NVMLError) -> bool:
    """Tell whether the GPU, or the driver with it, is gone."""
    return error.value == pynvml.NVML_ERROR_GPU_IS_LOST or is_driver_gone(error)


def is_unknown_gpu(error: pynvml.NVMLError) -> bool:
    """Tell whether the driver has never heard of the GPU that was asked for."""
    return bool(error.value == pynvml.NVML_ERROR_NOT_FOUND)


def is_forbidden(error: pynvml.NVMLError) -> bool:
    """Tell whether the GPU is there, but not for us."""
    return bool(error.value == pynvml.NVML_ERROR_NO_PERMISSION)


def or_none(ask: Callable[[], T]) -> T | None:
    """Return an answer, or None where the GPU cannot tell; NVMLError if something is wrong."""
    try:
        return ask()
    except pynvml.NVMLError as error:
        if error.value in _CANNOT_TELL:
            return None
        raise


def if_told(ask: Callable[[], T]) -> T | None:
    """Return an answer, or None where there is none, whatever the reason.

    For values that others can do without. NVMLError only if the GPU or the driver is gone.
    """
    try:
        return ask()
    except pynvml.NVMLError as error:
        if is_gpu_gone(error):
            raise
        return None

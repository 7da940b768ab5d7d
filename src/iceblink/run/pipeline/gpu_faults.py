"""Whether the GPUs of this process still answer, asked of NVIDIA's driver, whatever library computes there."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


class GpuLost(Exception):
    """A kernel failed, and with it all that this process will ask of the device; only another process can go on."""


def gpu_lost() -> bool:
    """Tell whether a kernel of this process has failed so that its device answers nothing any more.

    An index out of bounds, an assertion on the device or a bad address end a CUDA context: each later call fails, too,
    with whatever rows. To run out of the device's memory does not. Waits for the kernels that are under way.
    """
    driver = _driver()
    count = ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)):  # also where nobody has called cuInit
        return False
    return any(map(_lost, range(count.value)))


@cache
def _driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:  # no GPU here
        return None


def _lost(ordinal: int) -> bool:
    driver = _driver()
    flags, active = ctypes.c_uint(), ctypes.c_int()
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuDeviceGet(ctypes.byref(device), ordinal):
        return False
    driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active))
    if not active.value:  # no library has used the device
        return False
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return True
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return True
        failed = driver.cuCtxSynchronize()
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
        return bool(failed)
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)

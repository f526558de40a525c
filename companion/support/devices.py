"""Where to compute and in which precision: the same call on a laptop, on Colab's GPU and on a cluster."""

from __future__ import annotations

import os
import platform
import random
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def best_device(device: str | torch.device | None = None) -> torch.device:
    """Return `device`, or the best one there is: CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    ValueError
        If `device` names one that this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        return torch.device(next(kind for kind, there in available.items() if there))
    device = torch.device(device_named(device))
    if not available.get(device.type, True):
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise ValueError(f"device={str(device)!r} is not on this machine, which has: {there}; pass None for the best")
    return device


def as_current(device: str | torch.device | None) -> AbstractContextManager:
    """Return the context in which a GPU that is given by its number is the current one of this thread.

    Nothing changes for other devices, nor after the end of the context.
    """
    device = best_device(device)
    return torch.cuda.device(device) if device.type == "cuda" and device.index is not None else nullcontext()


def device_named(device: str | torch.device) -> str:
    """Return the name of a device, whether or not this machine has it.

    Raises
    ------
    ValueError
        If PyTorch knows no such device.
    """
    try:
        return str(torch.device(device))
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is unknown; it must be 'cpu', 'cuda', 'cuda:0', 'mps' or None for the best there is"
        ) from error


def precision_for(device: str | torch.device | None = None, precision: str | None = None) -> str:
    """Return the precision to train in on `device`: `"fp32"`, `"bf16"` or `"fp16"`.

    Parameters
    ----------
    device : str or torch.device, optional
        None means the best device.
    precision : {None, "auto", "fp32", "bf16", "fp16"}
        None is the safe choice: bf16 on a GPU that has it, fp16 (with loss scaling) on an older one, fp32 elsewhere.
        `"auto"` also takes bf16 on a CPU whose matrix instructions are fast at it. A named precision is returned as is.

    Raises
    ------
    ValueError
        If `precision` is none of these.
    """
    if precision in DTYPES:
        return precision
    if precision not in (None, "auto"):
        raise ValueError(f"precision={precision!r} is unknown; choose one of auto, {', '.join(DTYPES)}, or None")
    device = best_device(device)
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if precision == "auto" and device.type == "cpu" and cpu_is_fast_in_bf16() else "fp32"


def cpu_is_fast_in_bf16() -> bool:
    """Return whether the CPU multiplies bf16 matrices in hardware (AVX512-BF16 or AMX on x86), and PyTorch may use it.

    Held to older instructions by `ATEN_CPU_CAPABILITY`, the same CPU is several times slower in bf16 than in fp32.
    """
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return bool(supported) and torch.backends.cpu.get_cpu_capability() == "AVX512"


def autocast(device: str | torch.device, precision: str) -> AbstractContextManager:
    """Return the context in which matrix products on `device` run in `precision`; nothing changes in fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=DTYPES[precision])


def in_working_precision(values: Tensor) -> Tensor:
    """Cast `values` to the precision of the matrix products, on a CPU under autocast; leave them elsewhere.

    There LayerNorm keeps the dtype that it gets, with its sums in fp32, and so does what stands between two products.
    """
    if values.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return values.to(torch.get_autocast_dtype("cpu"))
    return values


def device_name(device: str | torch.device | None = None) -> str:
    """Return what the maker calls `device`, for the record of a run."""
    device = best_device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def process_count() -> int:
    """Return how many processes train together, as torchrun and accelerate tell each of them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this is the first of the processes that train together, which writes for all."""
    return int(os.environ.get("RANK", "0")) == 0


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators (the latter on every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def peak_memory(device: str | torch.device | None = None) -> int | None:
    """Return the largest amount of memory used so far, in bytes: the GPU's on CUDA, else this process's own.

    None where the operating system does not say, as in some sandboxes.
    """
    device = best_device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":  # here `ru_maxrss` begins with the peak of the process that started this one
        found = re.search(r"^VmHWM:\s*(\d+) kB", _process_status(), re.MULTILINE)
        return None if found is None else int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _process_status() -> str:
    try:
        return Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


_GENERATORS = threading.RLock()


@contextmanager
def generators_kept() -> Iterator[None]:
    """Give the generators of Python, NumPy and PyTorch (CPU, MPS, and CUDA once it is in use) their state back at the
    end of the block.

    Only one thread is in such a block at a time; another that enters one waits. So blocks that begin with a seed draw
    the same numbers in several threads as in one.
    """
    with _GENERATORS:
        python, numpy, torch_cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_rng_state(torch_cpu)
            if cuda:
                torch.cuda.set_rng_state_all(cuda)
            if mps is not None:
                torch.mps.set_rng_state(mps)

"""Choose and describe devices and precision."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cryoseg.config import DeviceName, Precision
from cryoseg.errors import ConfigError, DeviceError


def select_device(name: str) -> torch.device:
    """Return the device to compute on: `auto` (CUDA, then MPS, then CPU), `cpu`, `cuda`, `cuda:N` or `mps`.

    A `DeviceError` is raised if this machine does not have it, and a `ConfigError` if the name is unknown.
    """
    name = DeviceName(name)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if name.startswith("cuda"):
        if not cuda:
            raise DeviceError(
                f"--device {name}: this PyTorch sees no CUDA device (driver missing, or a CPU build). "
                "Use --device cpu or --device auto."
            )
        device = torch.device(name)
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise DeviceError(
                f"--device {name}: this machine has {torch.cuda.device_count()} CUDA device(s), from 0."
            )
        return device
    if name == "mps" and not mps:
        raise DeviceError("--device mps: this PyTorch sees no Apple GPU. Use --device cpu or --device auto.")
    return torch.device(name)


def select_gpus(text: str) -> tuple[str, ...]:
    """Return the names of CUDA devices for `select_device`, one for each process.

    The text is `all` or has indices such as `0,1`, where an index may be repeated; otherwise a `ConfigError`
    is raised, and a `DeviceError` if this machine does not have these devices.
    """
    count = torch.cuda.device_count()
    if text.strip().lower() == "all":
        if not count:
            raise DeviceError("--gpus all: this PyTorch sees no CUDA device. Leave --gpus out.")
        return tuple(f"cuda:{number}" for number in range(count))
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise ConfigError(f"--gpus {text}: give numbers such as 0,1, or all.")
    for number in map(int, words):
        if number >= count:
            raise DeviceError(f"--gpus {text}: this PyTorch sees {count} CUDA device(s), counted from 0.")
    return tuple(f"cuda:{int(word)}" for word in words)


def select_precision(precision: Precision, device: torch.device) -> Precision:
    """Return the precision to use on a device instead of `auto`.

    A `DeviceError` is raised if the device cannot compute in bfloat16.
    """
    if precision is Precision.AUTO:
        capable = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return Precision.BFLOAT16 if capable else Precision.FLOAT32
    if precision is Precision.BFLOAT16 and device.type == "mps":
        raise DeviceError("--precision bfloat16: not offered on an Apple GPU. Use --precision float32.")
    return precision


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which a network runs; for float32 it does nothing."""
    if select_precision(precision, device) is Precision.BFLOAT16:
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def to_host(tensor: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
    """Begin to copy a float32 tensor of any shape to the CPU, and return a function that waits for the copy.

    Until that function is called, the device goes on with other work.
    """
    if tensor.device.type != "cuda":
        return lambda: tensor.cpu().numpy()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def wait() -> NDArray[np.float32]:
        copied.synchronize()
        return host.numpy()

    return wait


def release_memory(device: torch.device) -> None:
    """Free the memory of deleted models."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that host or device have no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU allocator of PyTorch raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def peak_device_memory(device: torch.device) -> int:
    """Return the most bytes that PyTorch has allocated on a CUDA device; 0 for others."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def list_devices() -> dict[str, str]:
    """Return a description, with free memory, of every device but the CPU by its name for `select_device`."""
    found = {}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found[f"cuda:{index}"] = f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def overlooked_device() -> tuple[str, str] | None:
    """Return problem and remedy if this machine seems to have a device that PyTorch cannot use."""
    has_driver = Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi")
    if torch.cuda.is_available() or not has_driver:
        return None
    return (
        f"an NVIDIA driver is here, but torch {torch.__version__} sees no device",
        "Run nvidia-smi; install the torch build that fits the driver (pytorch.org).",
    )


def describe(device: torch.device) -> str:
    """Return the name of a device for messages, such as `cpu` or `cuda:0 (NVIDIA ...)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)

"""Devices and precisions that this machine has or lacks."""

import pytest
import torch

from cryoseg.config import Precision
from cryoseg.errors import ConfigError, DeviceError
from cryoseg.methods import device as devices


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_accelerator")
def test_auto_falls_back_to_the_cpu() -> None:
    assert devices.select_device("auto") == torch.device("cpu")
    assert devices.select_precision(Precision.AUTO, torch.device("cpu")) is Precision.FLOAT32


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["cuda", "cuda:3", "mps"])
def test_absent_devices_are_errors_not_silent_cpu_runs(name: str) -> None:
    with pytest.raises(DeviceError, match=f"--device {name}: .*--device cpu"):
        devices.select_device(name)


def test_index_beyond_the_last_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.select_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="has 2 CUDA"):
        devices.select_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "CPU", "", "cuda:-1"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        devices.select_device(name)


def test_bfloat16_on_an_apple_gpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="float32"):
        devices.select_precision(Precision.BFLOAT16, torch.device("mps"))


def test_autocast_only_for_bfloat16() -> None:
    product = torch.ones(2, 2)
    with devices.autocast(torch.device("cpu"), Precision.AUTO):
        assert (product @ product).dtype is torch.float32
    with devices.autocast(torch.device("cpu"), Precision.BFLOAT16):
        assert (product @ product).dtype is torch.bfloat16


def test_a_repeated_gpu_gets_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.select_gpus("1,0,1") == ("cuda:1", "cuda:0", "cuda:1")
    assert devices.select_gpus("all") == ("cuda:0", "cuda:1")
    with pytest.raises(DeviceError, match="sees 2 CUDA"):
        devices.select_gpus("0,2")

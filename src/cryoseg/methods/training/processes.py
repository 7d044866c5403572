"""One process or several that train together, through Lightning Fabric.

Every process draws its share of the clips of a step. Losses use sums over all clips, and gradients are
averaged, so that N processes take the same step as a single one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cryoseg.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """One of the processes that train together; by default there is one.

    Attributes
    ----------
    rank, count
        Index of this process, from 0, and number of processes.
    fabric
        Object of Lightning Fabric, or None for one process.
    """

    rank: int = 0
    count: int = 1
    fabric: Any = None

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Return the indices of the clips of a step that this process draws.

        The batch size must be a multiple of the number of processes.
        """
        if batch % self.count:
            raise ConfigError(f"--batch {batch}: must be a multiple of the {self.count} processes.")
        each = batch // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor of any shape over the processes, with gradient."""
        if self.count == 1:
            return value
        from torch.distributed.nn.functional import all_reduce

        return all_reduce(value)

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over the processes.

        A wrapper such as DistributedDataParallel cannot be used, since losses call other methods than
        `forward` and sam2 leaves parameters without a gradient in some steps.
        """
        if self.count == 1:
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = nn.utils.parameters_to_vector([p.grad for p in parameters if p.grad is not None])
        flat = self.fabric.all_reduce(flat, reduce_op="mean")
        start = 0
        for parameter in parameters:
            assert parameter.grad is not None
            count = parameter.grad.numel()
            parameter.grad.copy_(flat[start : start + count].view_as(parameter.grad))
            start += count

    def broadcast(self, value: T) -> T:
        """Return the value of the first process."""
        return value if self.count == 1 else self.fabric.broadcast(value)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.count > 1:
            self.fabric.barrier()


ALONE = Processes()


def launch(count: int, device: torch.device) -> Processes:
    """Start or join the processes of a run; return `ALONE` if `count` is 1.

    Parameters
    ----------
    count
        Number of processes: one per GPU on CUDA, any number on a CPU (for tests). `torchrun` has started
        them already; `count` is then its number.
    device
        Device whose type selects the backend, NCCL or gloo.
    """
    if count == 1:
        return ALONE
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise ConfigError(
            f'--devices {count}: needs Lightning Fabric; run pip install "cryoseg[train]".'
        ) from error
    fabric = Fabric(accelerator=device.type, devices=count, strategy="ddp")
    fabric.launch()
    return Processes(rank=fabric.global_rank, count=fabric.world_size, fabric=fabric)

"""Replay of the kernels of a network on CUDA.

A network that tracks slices starts more than a thousand small kernels per slice, and a processor starts them
more slowly than a GPU computes them. A CUDA graph starts all kernels of a function with one call:
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

CAPTURED_AT = 2  # number of the call with the same shapes that is recorded; rare shapes are not worth it


class Replayed:
    """A function of CUDA tensors whose kernels are recorded once and then replayed.

    The function must have no effect besides its result, must not wait for the device, and must give results
    that depend on nothing but its arguments and constant weights. Arguments and result may be nested in
    tuples, lists and dictionaries.

    Parameters
    ----------
    function
        Function to call, under `torch.inference_mode` or `torch.no_grad`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._calls: dict[Hashable, int] = {}
        self._graphs: dict[Hashable, _Graph] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns, in new tensors."""
        leaves, structure = pytree.tree_flatten((args, kwargs))
        key = (
            structure,
            torch.is_autocast_enabled("cuda"),
            *((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves),
        )
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if key not in self._graphs:
            self._calls[key] = self._calls.get(key, 0) + 1
            on_cuda = all(tensor.is_cuda for tensor in tensors)
            if self._calls[key] < CAPTURED_AT or not on_cuda:
                return self._function(*args, **kwargs)
            self._graphs[key] = _Graph(self._function, leaves, structure)
        return self._graphs[key].replay(tensors)


class _Graph:
    """The recorded kernels of one call, with the tensors that they read and write."""

    def __init__(self, function: Callable[..., Any], leaves: list[Any], structure: pytree.TreeSpec) -> None:
        self._graph = torch.cuda.CUDAGraph()
        copies = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._inputs = [copy for copy in copies if isinstance(copy, Tensor)]
        args, kwargs = pytree.tree_unflatten(copies, structure)
        # Other threads allocate pinned memory for the next slices, which a global capture would forbid.
        with (
            torch.autocast("cuda", enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False),
            torch.cuda.graph(self._graph, capture_error_mode="thread_local"),
        ):
            self._outputs = function(*args, **kwargs)

    def replay(self, tensors: list[Tensor]) -> Any:
        """Compute the result for other tensors of the same shapes."""
        for mine, given in zip(self._inputs, tensors, strict=True):
            mine.copy_(given, non_blocking=True)
        self._graph.replay()
        # The next replay overwrites the outputs.
        return pytree.tree_map_only(Tensor, Tensor.clone, self._outputs)


def replay_on_cuda(network: nn.Module, *names: str) -> None:
    """Let a network on CUDA replay methods of itself or of its parts, such as `memory_attention.forward`.

    On other devices this changes nothing.
    """
    if next(network.parameters()).device.type != "cuda":
        return
    for name in names:
        path, _, method = name.rpartition(".")
        owner = network.get_submodule(path)
        setattr(owner, method, Replayed(getattr(owner, method)))

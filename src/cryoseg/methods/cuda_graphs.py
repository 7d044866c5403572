"""Replay of the kernels of a network on CUDA.

A network that tracks slices starts more than a thousand small kernels per slice, and a processor starts them
more slowly than a GPU computes them. A CUDA graph starts all kernels of a function with one call:
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

# Largest difference between replayed and usual results, relative to their norm. Rounding to bfloat16 is
# below it; results that belong to other inputs differ by about 1.
TOLERANCE = 0.02


class Replayed:
    """A function of CUDA tensors whose kernels are recorded once and then replayed.

    Results are cached for each combination of shapes: the first call computes as usual, the second records,
    and the third checks the recording against the usual result for its inputs. A function that cannot be
    recorded, or whose recording gives another result, computes as usual from then on.

    Parameters
    ----------
    function
        Function to call, under `torch.inference_mode` or `torch.no_grad`. It must have no effect besides its
        result. Arguments and result may be nested in tuples, lists and dictionaries.
    pool
        Pool of device memory from `torch.cuda.graph_pool_handle`, shared with other functions.

    Attributes
    ----------
    graphs
        Recordings, or None where the function computes as usual, by what identifies shapes and settings.
    """

    def __init__(self, function: Callable[..., Any], pool: Any = None) -> None:
        # The owner of a method owns this object, and its memory should be free as soon as it is deleted.
        self._function = WeakMethod(function) if inspect.ismethod(function) else lambda: function
        self._pool = pool
        self._calls: dict[Hashable, int] = {}
        self.graphs: dict[Hashable, Graph | None] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function returns."""
        function = self._function()
        assert function is not None
        leaves, structure = pytree.tree_flatten((args, kwargs))
        key = (
            structure,
            torch.is_autocast_enabled("cuda"),
            *((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves),
        )
        self._calls[key] = calls = self._calls.get(key, 0) + 1
        graph = self.graphs.get(key)
        if calls == 2:
            graph = self.graphs[key] = self._record(function, leaves, structure)
        if graph is None:
            return function(*args, **kwargs)
        if calls == 3:
            usual = function(*args, **kwargs)
            if not _agree(graph.replay(leaves), usual):
                self.graphs[key] = None
                _warn(function, "its recording gives another result")
            return usual
        return graph.replay(leaves)

    def _record(
        self, function: Callable[..., Any], leaves: list[Any], structure: pytree.TreeSpec
    ) -> Graph | None:
        try:
            return Graph(function, leaves, structure, self._pool)
        except RuntimeError as error:  # also if memory does not suffice for a copy of inputs and outputs
            _warn(function, str(error).splitlines()[0])
            return None


def _warn(function: Callable[..., Any], reason: str) -> None:
    name = getattr(function, "__qualname__", "a function")
    warnings.warn(f"{name} runs without a CUDA graph and is slower: {reason}", stacklevel=4)


class Graph:
    """The recorded kernels of one call, with the tensors that they read and write."""

    def __init__(
        self, function: Callable[..., Any], leaves: list[Any], structure: pytree.TreeSpec, pool: Any
    ) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._inputs = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(self._inputs, structure)
        stream = torch.cuda.current_stream()
        try:
            # Other threads allocate pinned memory for the next slices, which a global capture would forbid.
            with (
                torch.autocast("cuda", enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False),
                torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"),
            ):
                self._outputs = function(*args, **kwargs)
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails can leave its own one

    def replay(self, leaves: list[Any]) -> Any:
        """Return the result for other tensors of the same shapes, in new tensors."""
        for mine, given in zip(self._inputs, leaves, strict=True):
            if isinstance(mine, Tensor):
                mine.copy_(given, non_blocking=True)
        self._graph.replay()
        # The next replay, also of another graph with the same pool, overwrites the outputs.
        return pytree.tree_map_only(Tensor, Tensor.clone, self._outputs)


def _agree(one: Any, other: Any) -> bool:
    """Whether all tensors of two results agree within `TOLERANCE`."""
    pairs = zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True)
    return all(
        bool((a.float() - b.float()).norm() <= TOLERANCE * b.float().norm())
        for a, b in pairs
        if isinstance(a, Tensor)
    )


def replay_on_cuda(network: nn.Module, *names: str) -> None:
    """Let a network on CUDA replay methods of itself or of its parts, such as `memory_attention.forward`.

    On other devices this changes nothing.
    """
    if next(network.parameters()).device.type != "cuda":
        return
    pool = torch.cuda.graph_pool_handle()
    for name in names:
        path, _, method = name.rpartition(".")
        owner = network.get_submodule(path)
        setattr(owner, method, Replayed(getattr(owner, method), pool))

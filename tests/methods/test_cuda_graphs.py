"""Recorded functions return the results of the functions, also when the recording fails or is wrong.

A stand-in for the CUDA graph keeps the function and its input tensors, so that the tests need no GPU.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cryoseg.methods import cuda_graphs
from cryoseg.methods.cuda_graphs import Graph, Replayed, replay_on_cuda


class StandIn(Graph):
    """Computes on the copied inputs at each replay, as recorded kernels do."""

    def __init__(
        self, function: Callable[..., Any], leaves: list[Any], structure: pytree.TreeSpec, pool: Any
    ) -> None:
        self._inputs = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(self._inputs, structure)
        self._outputs = function(*args, **kwargs)

        def compute() -> None:
            outputs = pytree.tree_leaves(self._outputs)
            for mine, new in zip(outputs, pytree.tree_leaves(function(*args, **kwargs)), strict=True):
                mine.copy_(new)

        self._graph = SimpleNamespace(replay=compute)


class Constant(StandIn):
    """Always gives the result that was recorded, like kernels that read a tensor which was not copied."""

    def replay(self, leaves: list[Any]) -> Any:
        return pytree.tree_map_only(Tensor, Tensor.clone, self._outputs)


def both(x: Tensor, *, scale: float, more: list[Tensor]) -> dict[str, Any]:
    return {"sum": x * scale + more[0], "pair": (x - 1, more[0] * 2)}


def call(function: Callable[..., Any], seed: int, size: int = 3, scale: float = 2.0) -> Any:
    values = torch.Generator().manual_seed(seed)
    return function(
        torch.rand(size, generator=values), scale=scale, more=[torch.rand(size, generator=values)]
    )


def assert_equal(found: Any, expected: Any) -> None:
    for one, other in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
        assert torch.equal(one, other)


def test_every_call_gives_the_result_of_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "Graph", StandIn)
    replayed = Replayed(both)
    kept = [call(replayed, seed, size, scale) for seed in range(5) for size in (3, 4) for scale in (2.0, 3.0)]
    expected = [call(both, seed, size, scale) for seed in range(5) for size in (3, 4) for scale in (2.0, 3.0)]
    assert_equal(kept, expected)
    assert len(replayed.graphs) == 4
    assert all(replayed.graphs.values())


def test_shapes_that_occur_once_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "Graph", StandIn)
    replayed = Replayed(both)
    for size in range(1, 6):
        call(replayed, 0, size)
    assert not replayed.graphs


def test_a_wrong_recording_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "Graph", Constant)
    replayed = Replayed(both)
    call(replayed, 0)
    call(replayed, 1)
    with pytest.warns(UserWarning, match="both runs without a CUDA graph .* another result"):
        assert_equal(call(replayed, 2), call(both, 2))
    assert_equal(call(replayed, 3), call(both, 3))


def test_a_function_that_cannot_be_recorded_runs_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Graph:
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    monkeypatch.setattr(cuda_graphs, "Graph", refuse)
    replayed = Replayed(both)
    call(replayed, 0)
    with pytest.warns(UserWarning, match="not permitted when stream is capturing$"):
        assert_equal(call(replayed, 1), call(both, 1))
    assert_equal(call(replayed, 2), call(both, 2))


def test_a_network_is_freed_as_soon_as_it_is_deleted() -> None:
    network = nn.Linear(2, 2).requires_grad_(False)
    usual = network(torch.ones(2))
    network.forward = Replayed(network.forward)
    assert torch.equal(network(torch.ones(2)), usual)
    freed = weakref.ref(network.weight)
    gc.disable()
    try:
        del network
        assert freed() is None
    finally:
        gc.enable()


def test_networks_on_a_cpu_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    replay_on_cuda(network, "0.forward")
    assert not isinstance(network[0].forward, Replayed)

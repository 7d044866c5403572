"""Multiply-adds and bytes per voxel of every network, and the least time that they take.

    python benchmarks/multiply_adds.py       # Markdown for docs/performance.md

Networks are run once on tensors without values (ETSAM, SAM) or with zeros. Multiply-adds are those of matrix
products, convolutions and attention. Bytes are the inputs and outputs of all operators, each read or
written once, so a program that fuses operators moves fewer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cryoseg.config.cet_pick import Arch
from cryoseg.config.prompt_sam import PromptConfig
from cryoseg.methods.cet_pick.network import build as build_cet_pick
from cryoseg.methods.etsam.network import CONFIG
from cryoseg.methods.membrane_tiny.network import CHANNELS, build_stage
from cryoseg.methods.particles.files import read_particle_file
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import PUBLISHED
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.weights import require

# Multiply-adds in a second of two cores without AVX-512 at 2.6 GHz: two units of eight float32 in each.
# Source: AMD, Software Optimization Guide for the AMD Family 19h Processors, section 2.11.
TWO_CORES = 2 * 2.6e9 * 16
# Multiply-adds and bytes in a second of an H100 SXM: 989.4 TFLOP/s in bfloat16 without sparsity, 3.35 TB/s.
# Source: NVIDIA, H100 Tensor Core GPU data sheet.
H100 = (989.4e12 / 2, 3.35e12)
BFLOAT16_SHARE = 0.5  # of the bytes in float32
MILLION = 1e6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of one voxel of the input, or pixel of a micrograph at the scale of the network."""

    name: str
    multiply_adds: float
    bytes_moved: float


class ByteCounter(TorchDispatchMode):
    """Count the bytes of the inputs and outputs of all operators that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count its bytes."""
        found = func(*args, **(kwargs or {}))
        if not func.is_view and func.namespace == "aten":
            tensors = [one for one in tree_leaves((args, kwargs, found)) if isinstance(one, Tensor)]
            self.count += sum(one.numel() * one.element_size() for one in tensors)
        return found


def cost(name: str, run: Callable[[], object], voxels: float) -> Cost:
    """Count what a call does to so many voxels."""
    flops, moved = FlopCounterMode(display=False), ByteCounter()
    with torch.inference_mode(), moved, flops:
        run()
    return Cost(
        name=name, multiply_adds=flops.get_total_flops() / 2 / voxels, bytes_moved=moved.count / voxels
    )


def costs() -> Iterator[Cost]:
    """Yield the cost of every network."""
    for stage in (1, 2):
        side = 288
        network = build_stage(stage, side).eval()
        tile = torch.zeros(1, CHANNELS[stage], side, side)
        yield cost(
            f"membrane-tiny, stage {stage}",
            # The bundled model has no memory of earlier slices.
            lambda network=network, tile=tile: network.track_slice(tile, deque(maxlen=0)),
            side**2,
        )
    predictor = build_predictor(CONFIG).to("meta")
    side = predictor.image_size
    image = torch.zeros(1, 3, side, side, device="meta")
    yield cost("ETSAM, image encoder (each of two stages)", lambda: predictor.forward_image(image), 928 * 960)
    tokens = (side // 16) ** 2
    state = torch.zeros(tokens, 1, 256, device="meta")
    slices = predictor.num_maskmem
    pointers = 4 * (predictor.max_obj_ptrs_in_encoder)
    memories = torch.zeros(slices * tokens + pointers, 1, predictor.mem_dim, device="meta")
    yield cost(
        "ETSAM, memory attention (each of two stages)",
        lambda: predictor.memory_attention(
            curr=[state],
            curr_pos=[state],
            memory=memories,
            memory_pos=memories,
            num_obj_ptr_tokens=pointers,
        ),
        928 * 960,
    )
    particle = read_particle_file(require("particle-mixed")).network.eval()
    side = particle.geometry.image_size
    grey = torch.zeros(1, side, side)
    yield cost("particle-mixed", lambda: particle(particle.from_grey(grey)), side**2)
    with torch.device("meta"):
        sam = PromptSam(PUBLISHED["sam_vit_b"], PromptConfig()).eval()
    rgb = torch.zeros(1, 3, 1024, 1024, device="meta")
    yield cost("SAM, ViT-B, image encoder", lambda: sam.sam.image_encoder(rgb), 1024**2)
    detector = build_cet_pick(Arch.UNET_4).eval()
    block = torch.zeros(1, 24, 256, 256)
    yield cost("CET-pick, unet_4, one pass", lambda: detector(block), block.numel())


def main() -> None:
    """Print the table."""
    print(
        "| network | multiply-adds per voxel | bytes per voxel, float32 | two cores, float32 | "
        "one H100, bfloat16 |"
    )
    print("|---|---|---|---|---|")
    for one in costs():
        cores = one.multiply_adds / TWO_CORES
        gpu = max(one.multiply_adds / H100[0], BFLOAT16_SHARE * one.bytes_moved / H100[1])
        print(
            f"| {one.name} | {one.multiply_adds:,.0f} | {one.bytes_moved:,.0f} | {cores * MILLION:.2f} s | "
            f"{gpu * MILLION * 1000:.2f} ms |"
        )


if __name__ == "__main__":
    main()

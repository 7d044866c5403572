"""Segment Anything with a grid of foreground points as its only prompt, native or adapted.

The five methods of Prompt_sam_cryoPPP share this forward pass. They differ in the modules that are added to
SAM and in the parameters that are trained.

Source: arXiv 2311.16140; yangyang-69/Prompt_sam_cryoPPP notebooks/function_token.py@d4f8b28.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.config.prompt_sam import InputScale, PromptConfig, PromptMethod
from cryoseg.core.grids.robust import RGB_SPAN
from cryoseg.errors import ConfigError
from cryoseg.methods.device import is_out_of_memory, release_memory
from cryoseg.methods.prompt_sam.adapters import HeadUNet, add_adapters, add_prefix
from cryoseg.methods.sam.geometry import PIXEL_MEAN, PIXEL_STD, SamGeometry, build_sam
from cryoseg.types import FloatArray

PUBLISHED_CLAMP = (0.0, 255.0)  # the released script applies it to values in [0, 1]
UNIT_CLAMP = (0.0, 1.0)
EIGHT_BIT = 255.0


class PromptSam(nn.Module):
    """An untrained SAM of any geometry with the adaptation that a `PromptConfig` selects.

    Attributes
    ----------
    sam
        Adapted network, whose tensors have the published names.
    unet
        Head prompt, or None.
    needs_truth
        Whether `forward` needs points that are drawn from the true mask.
    clip_together
        Prefixes of the parameters whose gradients are clipped together.
    smallest_batch
        Number of images that a training step needs.
    """

    needs_truth = False
    clip_together: tuple[str, ...] = ("",)
    smallest_batch = 1
    unit_mean: Tensor
    unit_std: Tensor

    def __init__(self, geometry: SamGeometry, config: PromptConfig) -> None:
        super().__init__()
        if (config.input_scale is InputScale.GREY) != (geometry.in_channels == 1):
            raise ConfigError(
                f"input scale {config.input_scale}: not for a network of {geometry.in_channels} channels."
            )
        self.geometry, self.config = geometry, config
        self.sam = build_sam(geometry)
        self.unet: HeadUNet | None = None
        if config.method is PromptMethod.HEAD:
            self.unet = HeadUNet(geometry.in_channels, zero_start=config.zero_start)
        elif config.method is PromptMethod.PREFIX:
            add_prefix(self.sam, config.per_block(geometry.depth), config.num_tokens)
        elif config.method is PromptMethod.ENCODER:
            add_adapters(
                self.sam,
                config.per_block(geometry.depth),
                norm_before_window=config.norm_before_window,
                zero_start=config.zero_start,
            )
        if any(not 0 <= i < geometry.depth for i in config.tuned_blocks):
            raise ConfigError(f"--tuned-blocks: the encoder has blocks 0 to {geometry.depth - 1}.")
        mean, std = (
            torch.tensor(values[: geometry.in_channels]).view(-1, 1, 1) / EIGHT_BIT
            for values in (PIXEL_MEAN, PIXEL_STD)
        )
        self.register_buffer("unit_mean", mean, persistent=False)
        self.register_buffer("unit_std", std, persistent=False)

    def is_trained(self, name: str) -> bool:
        """Whether the method trains this tensor of the state dict."""
        config, method = self.config, self.config.method
        decoder = name.startswith("sam.mask_decoder.")
        match method:
            case PromptMethod.HEAD:
                chosen = name.startswith("unet.")
            case PromptMethod.PREFIX:
                chosen = name.endswith(".prompt_embeddings")
            case PromptMethod.ENCODER:
                chosen = "_Adapter." in name
            case PromptMethod.FINETUNE:
                blocks = tuple(f"sam.image_encoder.blocks.{i}." for i in config.tuned_blocks)
                prompts = config.tune_prompt_encoder and name.startswith("sam.prompt_encoder.")
                encoder = name.startswith("sam.image_encoder.")
                stem = config.tune_stem and encoder and ".blocks." not in name
                chosen = decoder or name.startswith(blocks) or prompts or stem
            case _:
                chosen = False
        return chosen or (config.train_decoder and decoder)

    def freeze(self) -> None:
        """Compute gradients only for the parameters that the method trains."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(self.is_trained(name))

    def from_grey(self, tiles: Tensor) -> Tensor:
        """Convert (B, S, S) grey values of zero mean and unit deviation to the input of `forward`."""
        if self.config.input_scale is InputScale.GREY:
            return tiles[:, None]
        unit = (tiles / (2 * RGB_SPAN) + 0.5).clamp(0, 1)
        return unit[:, None].expand(-1, 3, -1, -1)

    def set_training(self, training: bool) -> None:
        """Set the mode of modules that compute differently in training; SAM itself has none."""

    def encoder_input(self, images: Tensor) -> Tensor:
        """Apply the head prompt and the normalization to (B, C, S, S) images.

        They have RGB values in [0, 1], or grey values of zero mean and unit deviation for `InputScale.GREY`.
        """
        scale = self.config.input_scale
        if self.unet is not None:
            images = images + self.unet(images)
            if scale is not InputScale.GREY:
                low, high = PUBLISHED_CLAMP if scale is InputScale.UNIT else UNIT_CLAMP
                images = images.clamp(low, high)
        return (images - self.unit_mean) / self.unit_std if scale is InputScale.SAM else images

    def grid_points(self, side: int, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return a grid of `side` x `side` foreground points for every image of a batch.

        The result is (batch, n, 2) points as x, y in pixels, row by row, and (batch, n) labels of 1.
        """
        steps = (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / side
        steps = steps * self.geometry.image_size
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        points = torch.stack([x, y], dim=-1).reshape(1, -1, 2).expand(batch, -1, -1)
        return points, torch.ones(points.shape[:2], device=device)

    def decode(
        self,
        embeddings: Tensor,
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Predict masks for prompts, or for every image without a prompt.

        Parameters
        ----------
        embeddings
            (B, C, h, w) for B prompts, or (1, C, h, w) for any number of prompts.
        points
            (B, n, 2) points as x, y in pixels, and (B, n) labels: 1 inside, 0 outside, -1 no point.
        boxes
            (B, 4) boxes as x0, y0, x1, y1 in pixels.
        multimask
            Whether to predict the three masks for ambiguous prompts instead of a single mask.

        Returns
        -------
        tuple
            Logits (B, 1 or 3, 4h, 4w) and predicted IoU (B, 1 or 3).
        """
        sparse, dense = self.sam.prompt_encoder(points=points, boxes=boxes, masks=None)
        if points is None and boxes is None:  # SAM's empty prompt is for one image
            sparse = sparse.expand(len(embeddings), -1, -1)
            dense = dense.expand(len(embeddings), -1, -1, -1)
        logits, iou = self.sam.mask_decoder(
            image_embeddings=embeddings,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        return logits, iou

    def forward(self, images: Tensor, given: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Predict the mask for the grid of points: logits (B, 1, 4h, 4w) and predicted IoU (B, 1).

        `images` have the shape that `encoder_input` takes; `given` are points (B, n, 2) and labels (B, n)
        that replace the grid.
        """
        embeddings = self.sam.image_encoder(self.encoder_input(images))
        if given is None:
            given = self.grid_points(self.config.grid_side, len(images), images.device)
        return self.decode(embeddings, points=given)


TILES_AT_ONCE = {"cpu": 1}  # by type of device; more are no faster on a CPU and need more memory
TILES_AT_ONCE_ELSEWHERE = 16

# Function from the first and last index of a batch to its points and labels.
Points = tuple[Tensor, Tensor] | None
PointsOfBatch = Callable[[int, int], Points]


@torch.inference_mode()
def image_logits(
    network: PromptSam,
    images: Tensor,
    device: torch.device,
    *,
    points: PointsOfBatch = lambda begin, end: None,
    on_done: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Compute logits (n, side, side) of images at the resolution of the network's decoder, on the CPU.

    If memory does not suffice, the batches are halved; a `MemoryError` is raised if a single image does not
    fit.

    Parameters
    ----------
    network
        Network on `device`.
    images
        (n, C, S, S) input of the network.
    device
        Device to compute on.
    points
        Function from the first and last index of a batch to its points, for a network that needs them.
    on_done
        Function to call with the number of images that are done.
    """
    at_once = TILES_AT_ONCE.get(device.type, TILES_AT_ONCE_ELSEWHERE)
    parts: list[Tensor] = []
    begin = 0
    while begin < len(images):
        batch = images[begin : begin + at_once]
        end = begin + len(batch)
        try:
            logits = network(batch.to(device), points(begin, end))[0]
            parts.append(logits[:, 0].float().cpu())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise MemoryError(str(error)) from error
            at_once = len(batch) // 2
            release_memory(device)
            continue
        begin = end
        on_done(end)
    return torch.cat(parts)


@torch.inference_mode()
def tile_logits(
    network: PromptSam,
    tiles: FloatArray,
    device: torch.device,
    *,
    points: PointsOfBatch = lambda begin, end: None,
    on_done: Callable[[int], None] = lambda done: None,
) -> FloatArray:
    """Compute logits (n, S, S) of tiles (n, S, S) with grey values of zero mean and unit deviation.

    The other parameters are those of `image_logits`.
    """
    images = network.from_grey(torch.from_numpy(np.ascontiguousarray(tiles, np.float32)))
    raw = image_logits(network, images, device, points=points, on_done=on_done)
    return enlarged(raw, network.geometry.image_size)


def enlarged(logits: Tensor, side: int) -> FloatArray:
    """Resample logits (n, a, a) to (n, side, side)."""
    full = functional.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
    return full[:, 0].numpy()

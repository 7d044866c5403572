"""ProMISe: a frozen SAM that predicts its own prompts and shifts its mask tokens by the image embedding.

Source: ProMISe (arXiv 2403.04164, MIT licence), xinkunwang111/ProMISe
ProMISe/utilities/Networks/modeling/sam.py@ce0cfdb. The paper's incremental pattern shifting is
`MaskTokenShift`, its auto-prompting module `promise_points`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.config.prompt_sam import ApmKind, FreezeType, PromptConfig, Prompter
from cryoseg.methods.promise.points import LEVELS, FeatureFusion, PointQueries, PointResNet
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry

MASK_TOKENS = 4  # one token for a single mask and three for ambiguous prompts
SHIFT_WIDTH = 1024  # width of the hidden layer for an embedding of 256 channels, as published
FOREGROUND, BACKGROUND = 1, 0
RESNET_SHRINKS = 16  # the stride of the prompter's last layer in tokens of the encoder


class MaskTokenShift(nn.Module):
    """Incremental pattern shifting: offsets of the mask tokens, computed from the mean image embedding.

    With `zero_start` the offsets of an embedding of `channels` channels are zero at the start.
    """

    def __init__(self, channels: int, *, zero_start: bool) -> None:
        super().__init__()
        hidden = SHIFT_WIDTH * channels // 256
        self.lin1 = nn.Linear(channels, hidden)
        self.lin2 = nn.Linear(hidden, MASK_TOKENS * channels)
        if zero_start:
            nn.init.zeros_(self.lin2.weight)
            nn.init.zeros_(self.lin2.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map (B, C, h, w) to offsets (B, 4, C)."""
        hidden = functional.gelu(self.lin1(embedding.mean(dim=(-2, -1))))
        return self.lin2(hidden).unflatten(1, (MASK_TOKENS, -1))


def prompting_blocks(geometry: SamGeometry) -> tuple[int, ...]:
    """Return the encoder blocks that the prompter reads: up to three global ones, the deepest first.

    For ViT-B these are the published blocks 12, 9 and 6.
    """
    return tuple(sorted(geometry.global_blocks, reverse=True)[:LEVELS])


class PromiseSam(PromptSam):
    """An untrained SAM of any geometry with the modules that a `PromiseConfig` selects.

    Attributes
    ----------
    promise
        Settings of ProMISe.
    apm_feature_map, apm_resnet, apm_cross, ips_ffn
        Modules of ProMISe under their published names, or None.
    """

    clip_together = ("apm_", "ips_", "sam.")

    def __init__(self, geometry: SamGeometry, config: PromptConfig) -> None:
        super().__init__(geometry, config)
        assert config.promise is not None
        self.promise = promise = config.promise
        self.needs_truth = promise.prompter is Prompter.GT
        self.blocks = prompting_blocks(geometry)
        self.apm_feature_map: FeatureFusion | None = None
        self.apm_resnet: PointResNet | None = None
        self.apm_cross: PointQueries | None = None
        self.ips_ffn: MaskTokenShift | None = None
        if promise.prompter is Prompter.APM and promise.apm is ApmKind.RESNET:
            self.apm_feature_map = FeatureFusion(len(self.blocks) * geometry.embed_dim)
            self.apm_resnet = PointResNet(promise.points)
            if geometry.grid <= RESNET_SHRINKS:
                self.smallest_batch = 2  # for the batch normalization of a last layer with one token
        elif promise.prompter is Prompter.APM:
            self.apm_cross = PointQueries(
                geometry.embed_dim, geometry.num_heads, promise.points, len(self.blocks)
            )
        if promise.ips:
            self.ips_ffn = MaskTokenShift(geometry.out_channels, zero_start=promise.zero_start)
            self.sam.mask_decoder.token_offsets = self.token_offsets
        self.eval()

    def is_trained(self, name: str) -> bool:
        """Whether training changes this tensor of the state dict, which may be a running statistic."""
        free = {
            FreezeType.ALL: (),
            FreezeType.PROMPT_ENCODER_FREE: ("sam.prompt_encoder.",),
            FreezeType.MASK_DECODER_FREE: ("sam.mask_decoder.",),
            FreezeType.PROMPTS_AND_DECODER_FREE: ("sam.prompt_encoder.", "sam.mask_decoder."),
            FreezeType.NOTHING: ("sam.",),
        }[self.promise.freeze]
        return not name.startswith("sam.") or (bool(free) and name.startswith(free))

    def set_training(self, training: bool) -> None:
        """Set whether the batch normalization of the point networks uses the statistics of the batch."""
        for module in (self.apm_feature_map, self.apm_resnet, self.apm_cross):
            if module is not None:
                module.train(training)

    def token_offsets(self, embedding: Tensor) -> Tensor:
        """Compute the offsets of the mask tokens, (B, 4, C), for image embeddings (B, C, h, w)."""
        assert self.ips_ffn is not None
        return self.ips_ffn(embedding[:, : self.geometry.out_channels])

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute the image embedding (B, C, h, w) and the features for the prompter.

        The images have the shape that `encoder_input` takes; the features are (B, D, h, w) of each of
        `blocks`, the deepest first.
        """
        kept: dict[int, Tensor] = {}

        def keep(number: int) -> object:
            return self.sam.image_encoder.blocks[number].register_forward_hook(
                lambda module, inputs, output: kept.__setitem__(number, output.permute(0, 3, 1, 2))
            )

        handles = [keep(number) for number in self.blocks]
        try:
            embedding = self.sam.image_encoder(self.encoder_input(images))
        finally:
            for handle in handles:
                handle.remove()  # type: ignore[attr-defined]
        return embedding, [kept[number] for number in self.blocks]

    def raw_points(self, features: list[Tensor]) -> Tensor:
        """Compute the points before the sigmoid, (B, 2 K), from the features of `encode`."""
        if self.apm_cross is not None:
            return self.apm_cross(features)
        assert self.apm_feature_map is not None
        assert self.apm_resnet is not None
        return self.apm_resnet(self.apm_feature_map(torch.cat(features, dim=1)))

    def points(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the points of the prompter: (B, K, 2) x, y in pixels of the input, and (B, K) labels.

        The first half of the points is foreground; only the loss of the mask trains their positions.
        """
        raw = self.raw_points(features)
        places = torch.sigmoid(raw).unflatten(1, (-1, 2)) * self.geometry.image_size
        count = self.promise.points
        labels = torch.full((len(raw), count), BACKGROUND, device=raw.device)
        labels[:, : (count + 1) // 2] = FOREGROUND
        return places, labels

    def prompts(
        self, features: list[Tensor], given: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor] | None:
        """Return points (B, n, 2) x, y and labels (B, n): the given ones, or those of the prompter."""
        if given is not None:
            return given
        match self.promise.prompter:
            case Prompter.APM:
                return self.points(features)
            case Prompter.GT:
                raise ValueError("a network prompted by the ground truth needs its points")
            case Prompter.GRID:
                side = max(1, round(self.promise.points**0.5))
                return self.grid_points(side, len(features[0]), features[0].device)
            case Prompter.NONE:
                return None

    def all_masks(
        self, images: Tensor, given: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Predict the three masks of SAM for every image.

        `images` and `given` have the shapes that `forward` takes. The result is the logits (B, 3, 4h, 4w),
        the predicted IoU (B, 3), and points and labels.
        """
        embedding, features = self.encode(images)
        prompts = self.prompts(features, given)
        logits, iou = self.decode(embedding, points=prompts, multimask=True)
        return logits, iou, prompts

    def forward(self, images: Tensor, given: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Predict a mask for every image: the first of three, as published, or that with the highest IoU.

        Parameters
        ----------
        images
            Images with the shape that `encoder_input` takes.
        given
            Points (B, K, 2) and labels (B, K) of the ground truth, which replace those of the prompter.

        Returns
        -------
        tuple
            Logits (B, 1, 4h, 4w) and predicted IoU (B, 1).
        """
        logits, iou, _ = self.all_masks(images, given)
        chosen = (
            iou.argmax(dim=1) if self.promise.best_mask else torch.zeros_like(iou[:, 0], dtype=torch.long)
        )
        rows = torch.arange(len(logits), device=logits.device)
        return logits[rows, chosen][:, None], iou[rows, chosen][:, None]


def points_from_mask(
    mask: NDArray[np.bool_], count: int, rng: np.random.Generator, *, known: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw (K, 2) points x, y from a true (y, x) mask with (K,) labels, half of them inside.

    The points are drawn with replacement and in random order; a single point lies inside. `known` marks the
    pixels whose label is known; None stands for all. For an empty mask all points lie outside and for a
    full one all inside; the published code stops with an error.
    """
    outside = ~mask if known is None or not (mask | known).any() else ~mask & known
    pools = {FOREGROUND: np.argwhere(mask), BACKGROUND: np.argwhere(outside)}
    wanted = [FOREGROUND] * max(1, count // 2) + [BACKGROUND] * (count - max(1, count // 2))
    labels = np.array([kind if len(pools[kind]) else 1 - kind for kind in wanted], np.int64)
    labels = labels[rng.permutation(count)]
    places = np.stack([pools[int(kind)][rng.integers(len(pools[int(kind)]))] for kind in labels])
    return places[:, ::-1].astype(np.float32), labels

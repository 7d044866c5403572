"""A small SAM 2.1 with masks of full resolution: the network of `membrane-tiny`.

The masks of SAM 2 have a quarter of the resolution of the image, which is too coarse for a bilayer of
three to five voxels. This variant keeps the image encoder, memory encoder, memory attention and mask
decoder of SAM 2 and changes three things:

- the input is a short stack of neighboring slices instead of three equal color channels;
- a convolutional stem, which also returns maps of full and half resolution, replaces the patch embedding;
- the mask decoder upsamples twice more with those maps, so that its logits have the size of the image.

All other code is that of sam2, whose classes are subclassed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import ImageEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import TwoWayTransformer
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.methods.sam.sam2_volume import VolumePredictor

SliceMemory = deque[dict[str, Any]]  # its maxlen is the length of the training clips - 1
FINE_LEVELS = 2  # number of maps with a higher resolution than those of SAM 2: full and half resolution


class _ChannelsLast(nn.Module):
    """Permutation of (B, C, H, W) to the (B, H, W, C) of Hiera."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class TokenHiera(Hiera):
    """sam2's Hiera whose input is a quarter-resolution map of `embed_dim` channels instead of an image."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patch_embed = _ChannelsLast()


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(4, outputs), nn.GELU()
    )


class _Pointwise(nn.Conv2d):
    """A convolution with a kernel of one pixel; on a channels-last image it is a faster matrix product."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        if not pixels.is_contiguous():
            return super().forward(x)
        return functional.linear(pixels, self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)


class SharedPositionEncoding(PositionEmbeddingSine):
    """sam2's position encoding, which is the same for all images of a batch, without a copy for each."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the encoding of (B, C, H, W) features as a view with the same values for all B images."""
        encoding: Tensor = super().forward(x[:1])
        return encoding.expand(len(x), -1, -1, -1)


class Stem(nn.Module):
    """Convolutions from neighboring slices to maps at full, half and quarter resolution.

    `widths` are the numbers of channels at full and half resolution, `embed_dim` that at quarter
    resolution, which is that of Hiera.
    """

    def __init__(self, in_channels: int, widths: tuple[int, int], embed_dim: int) -> None:
        super().__init__()
        full, half = widths
        self.to_full = _conv(in_channels, full)
        self.to_half = nn.Sequential(_conv(full, half, stride=2), _conv(half, half))
        self.to_quarter = nn.Conv2d(half, embed_dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, C, S, S) to (B, full, S, S), (B, half, S/2, S/2) and (B, embed_dim, S/4, S/4)."""
        full = self.to_full(x)
        half = self.to_half(full)
        return full, half, self.to_quarter(half)


class FineImageEncoder(ImageEncoder):
    """sam2's image encoder after a `Stem`; its feature pyramid starts with the two fine maps of the stem."""

    def __init__(
        self,
        *,
        trunk: nn.Module,
        neck: nn.Module,
        scalp: int,
        in_channels: int,
        fine_widths: Sequence[int],
        embed_dim: int,
    ) -> None:
        super().__init__(trunk=trunk, neck=neck, scalp=scalp)
        self.in_channels = in_channels
        self.stem = Stem(in_channels, (fine_widths[0], fine_widths[1]), embed_dim)

    def forward(self, sample: Tensor) -> dict[str, Any]:
        """Map (B, C, S, S) to the dictionary of sam2, with the fine maps at the start of `backbone_fpn`."""
        full, half, quarter = self.stem(sample)
        output = super().forward(quarter)
        # sam2 uses only the shapes of the position encodings, except at the coarsest level.
        fine = [full, half]
        output["backbone_fpn"] = fine + output["backbone_fpn"]
        output["vision_pos_enc"] = [x.new_zeros(1).expand_as(x) for x in fine] + output["vision_pos_enc"]
        return output


class FineMaskDecoder(MaskDecoder):
    """sam2's mask decoder with masks of the size of the image."""

    def __init__(self, *, fine_widths: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        channels = self.transformer_dim // 8
        full, half = fine_widths
        self.fine_half = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.fine_half_skip = _Pointwise(half, channels)
        self.fine_half_mix = _conv(channels, channels)
        self.fine_full = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.fine_full_skip = _Pointwise(full, channels)
        self.fine_full_mix = _conv(channels, channels)

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        repeat_image: bool,
        high_res_features: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predict masks as sam2 does, from `high_res_features` of full, half, quarter and eighth resolution.

        The result is mask logits (B, masks, S, S), predicted IoU (B, masks), mask tokens, and object score
        logits (B, 1), which are constant because many slices contain no membrane.
        """
        if repeat_image or high_res_features is None:
            raise ValueError("the fine mask decoder takes one image per prompt and four feature levels")
        batch = image_embeddings.shape[0]
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight], dim=0)
        tokens = torch.cat([tokens.expand(batch, -1, -1), sparse_prompt_embeddings], dim=1)
        source = image_embeddings + dense_prompt_embeddings
        answers, source = self.transformer(source, image_pe.expand(batch, -1, -1, -1), tokens)
        mask_tokens = answers[:, 1 : 1 + self.num_mask_tokens]

        full, half, quarter, eighth = high_res_features
        up1, norm1, act1, up2, act2 = self.output_upscaling
        x = source.transpose(1, 2).reshape(image_embeddings.shape)
        x = act1(norm1(up1(x) + eighth))
        x = act2(up2(x) + quarter)
        x = self.fine_half_mix(self.fine_half(x) + self.fine_half_skip(half))
        x = self.fine_full_mix(self.fine_full(x) + self.fine_full_skip(full))

        kernels = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        masks = torch.einsum("bmc,bchw->bmhw", kernels, x)
        iou = self.iou_prediction_head(answers[:, 0])
        return masks, iou, mask_tokens, 10.0 * iou.new_ones(batch, 1)


class FineSam2(SAM2Base):
    """SAM 2 with the fine encoder and decoder, for consecutive slices of a volume.

    `fine_widths` are the numbers of channels of the stem at full and half resolution, `decoder_mlp_dim` is
    the width of the MLP in the mask decoder's transformer. The others are arguments of sam2's `SAM2Base`.
    """

    def __init__(self, *, fine_widths: Sequence[int], decoder_mlp_dim: int = 512, **kwargs: Any) -> None:
        self._fine_widths = tuple(fine_widths)
        self._decoder_mlp_dim = decoder_mlp_dim
        super().__init__(**kwargs)
        self.num_feature_levels += FINE_LEVELS

    def _build_sam_heads(self) -> None:
        super()._build_sam_heads()
        self.sam_mask_decoder = FineMaskDecoder(
            fine_widths=self._fine_widths,
            num_multimask_outputs=1,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=self.sam_prompt_embed_dim, mlp_dim=self._decoder_mlp_dim, num_heads=4
            ),
            transformer_dim=self.sam_prompt_embed_dim,
            iou_head_depth=2,
            iou_head_hidden_dim=64,
            use_high_res_features=True,
        )

    def forward_image(self, img_batch: Tensor) -> dict[str, Any]:
        """Compute the features of (B, C, S, S) images, with sam2's skip projections at its own levels."""
        output = self.image_encoder(img_batch)
        pyramid = output["backbone_fpn"]
        pyramid[FINE_LEVELS] = self.sam_mask_decoder.conv_s0(pyramid[FINE_LEVELS])
        pyramid[FINE_LEVELS + 1] = self.sam_mask_decoder.conv_s1(pyramid[FINE_LEVELS + 1])
        return output

    def track_clip(self, images: Tensor) -> Tensor:
        """Compute (B, T, S, S) logits of (B, T, C, S, S) consecutive slice stacks, with gradients.

        The first slice is segmented without memory, each later one with the memory of the previous ones,
        as `propagate` does with a sliding window of the same length.
        """
        batch, length = images.shape[:2]
        features = self.forward_image(images.transpose(0, 1).flatten(0, 1))
        _, levels, positions, sizes = self._prepare_backbone_features(features)
        levels = [level.unflatten(1, (length, batch)) for level in levels]
        positions = [position.unflatten(1, (length, batch)) for position in positions]
        outputs: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        logits = []
        for t in range(length):
            out = self.track_step(
                frame_idx=t,
                is_init_cond_frame=t == 0,
                current_vision_feats=[level[:, t] for level in levels],
                current_vision_pos_embeds=[position[:, t] for position in positions],
                feat_sizes=sizes,
                point_inputs=None,
                mask_inputs=None,
                output_dict=outputs,
                num_frames=length,
                run_mem_encoder=t + 1 < length,
            )
            outputs["cond_frame_outputs" if t == 0 else "non_cond_frame_outputs"][t] = out
            logits.append(out["pred_masks"][:, 0])
        return torch.stack(logits, dim=1).float()

    @torch.inference_mode()
    def track_slice(self, images: Tensor, memory: SliceMemory) -> Tensor:
        """Compute the (B, S, S) logits of the next (B, C, S, S) slice stacks, and add them to the memory.

        The memory is that of the same B tiles. Its oldest slice takes the place of the first slice of a
        training clip, so that every step is like the last one of a clip, and memory does not grow with the
        volume.
        """
        _, levels, positions, sizes = self._prepare_backbone_features(self.forward_image(images))
        past = list(memory)
        z = len(past)
        out = self.track_step(
            frame_idx=z,
            is_init_cond_frame=z == 0,
            current_vision_feats=levels,
            current_vision_pos_embeds=positions,
            feat_sizes=sizes,
            point_inputs=None,
            mask_inputs=None,
            output_dict={
                "cond_frame_outputs": dict(enumerate(past[:1])),
                "non_cond_frame_outputs": dict(enumerate(past[1:], start=1)),
            },
            num_frames=z + 1,
            run_mem_encoder=memory.maxlen != 0,
        )
        # The masks are not needed again and are most of the memory.
        memory.append({key: out[key] for key in ("maskmem_features", "maskmem_pos_enc", "obj_ptr")})
        return out["pred_masks"][:, 0].float()


class FineVolumePredictor(VolumePredictor, FineSam2):
    """The fine network as a predictor, for `--sam2-config` of a network with its encoder and decoder."""

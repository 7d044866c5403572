"""sam2's video predictor for the slices of a volume instead of the frames of a video.

Network, prompting and tracking are those of sam2. Only two things differ: slices are read when they are
needed, and memory that no later slice can use is freed at once, so that a long volume needs no more memory
than a short one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

State = dict[str, Any]
# A single thread resizes about 30 slices of 928 x 960 pixels in a second, fewer than a GPU segments.
READERS = 4
# Methods of a SAM 2 network whose kernels are replayed on CUDA: together nearly the whole work on a slice.
REPLAYED = ("forward_image", "memory_attention.forward", "_forward_sam_heads", "_encode_new_memory")
OBJECT_ID = 1  # a volume is segmented as one object


# Mean and standard deviation of the training images of SAM 2; ETSAM applies them to grey values in [0, 1].
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


def normalized(grey: Tensor) -> Tensor:
    """Return the (..., 3, S, S) images that SAM 2 reads from (..., 1, S, S) grey values in [0, 1]."""
    # Tensors of the three values would have to be copied to the device, which a CUDA graph cannot record.
    channels = [(grey - mean) / std for mean, std in zip(IMAGE_MEAN, IMAGE_STD, strict=True)]
    return torch.cat(channels, dim=-3)


class SliceImages(Protocol):
    """Slices as the network reads them, computed on access."""

    def __len__(self) -> int:
        """Return the number of slices."""
        ...

    def __getitem__(self, z: int, /) -> Tensor:
        """Return slice `z` as (C, S, S) float32, with the image size S of the network.

        A single channel has grey values in [0, 1], and the predictor applies `normalized` to it.
        """
        ...


class VolumePredictor(SAM2VideoPredictor):
    """sam2's `SAM2VideoPredictor` for volumes whose slices are read lazily.

    Call `prompt_with_mask` or `start_without_prompt`, then iterate over `propagate`. Each pass needs a new
    state.
    """

    def forward_image(self, img_batch: Tensor) -> dict[str, Any]:
        """Compute the features of (B, C, S, S) images; images of one channel are `normalized` first."""
        features: dict[str, Any] = super().forward_image(
            normalized(img_batch) if img_batch.shape[1] == 1 else img_batch
        )
        return features

    @torch.inference_mode()
    def init_state_from_slices(
        self, slices: SliceImages, height: int, width: int, *, offload_state: bool = False
    ) -> State:
        """Return the state that `init_state` returns, without reading a slice.

        `tests/contracts` compares its keys with those of sam2.

        Parameters
        ----------
        slices
            Slices, each of which is read once, when it is encoded.
        height, width
            Size of the logits that `propagate` yields, in pixels.
        offload_state
            Whether to keep the memory of past slices on the CPU.
        """
        return {
            "images": slices,
            "num_frames": len(slices),
            "offload_video_to_cpu": True,
            "offload_state_to_cpu": offload_state,
            "video_height": height,
            "video_width": width,
            "device": self.device,
            "storage_device": torch.device("cpu") if offload_state else self.device,
            "point_inputs_per_obj": {},
            "mask_inputs_per_obj": {},
            "cached_features": {},
            "constants": {},
            "obj_id_to_idx": OrderedDict(),
            "obj_idx_to_id": OrderedDict(),
            "obj_ids": [],
            "output_dict_per_obj": {},
            "temp_output_dict_per_obj": {},
            "frames_tracked_per_obj": {},
        }

    @torch.inference_mode()
    def prompt_with_mask(self, state: State, z: int, mask: Tensor) -> None:
        """Set slice `z` to a (Y, X) bool mask of any size, as sam2's `add_new_mask` does."""
        self.add_new_mask(state, z, OBJECT_ID, mask)
        # Encoding the memory now reuses the features that add_new_mask has computed; sam2 encodes it at the
        # start of the propagation and computes them a second time.
        self.propagate_in_video_preflight(state)
        state["mask_inputs_per_obj"][0].clear()
        state["cached_features"] = {}

    @torch.inference_mode()
    def start_without_prompt(self, state: State, z: int) -> None:
        """Segment slice `z` from its image alone, as the start of the propagation."""
        index = self._obj_id_to_idx(state, OBJECT_ID)
        outputs = state["output_dict_per_obj"][index]
        outputs["cond_frame_outputs"][z], _ = self._run_single_frame_inference(
            inference_state=state,
            output_dict=outputs,
            frame_idx=z,
            batch_size=1,
            is_init_cond_frame=True,
            point_inputs=None,
            mask_inputs=None,
            reverse=False,
            run_mem_encoder=True,
        )
        state["cached_features"] = {}

    @torch.inference_mode()
    def propagate(
        self, state: State, *, reverse: bool = False, encode_ahead: int = 1
    ) -> Generator[tuple[int, Tensor], None, None]:
        """Segment all slices in order, from the first prompted one on.

        Parameters
        ----------
        state
            State with a prompt, which cannot be used again.
        reverse
            Whether to go from high z to low z.
        encode_ahead
            Number of slices per pass of the image encoder. 1 repeats sam2 exactly; more is faster on CUDA.

        Yields
        ------
        tuple
            Index z and logits of that slice, (height, width) float32 on the device of the model.
        """
        if not state["output_dict_per_obj"] or not state["output_dict_per_obj"][0]["cond_frame_outputs"]:
            raise ValueError("prompt the state before propagating")
        outputs = state["output_dict_per_obj"][0]
        prompted, remembered = outputs["cond_frame_outputs"], outputs["non_cond_frame_outputs"]
        order = range(max(prompted), -1, -1) if reverse else range(min(prompted), state["num_frames"])
        step = order.step
        reach = self._reach()
        encoded = self._encode(state, [z for z in order if z not in prompted], max(1, encode_ahead))
        for z in order:
            if z in prompted:
                # Later slices need only the memory of a prompted slice.
                masks = prompted[z].pop("pred_masks").to(state["device"])
            else:
                state["cached_features"] = {z: next(encoded)}
                remembered[z], masks = self._run_single_frame_inference(
                    inference_state=state,
                    output_dict=outputs,
                    frame_idx=z,
                    batch_size=1,
                    is_init_cond_frame=False,
                    point_inputs=None,
                    mask_inputs=None,
                    reverse=reverse,
                    run_mem_encoder=True,
                )
                del remembered[z]["pred_masks"]
                state["cached_features"] = {}
            remembered.pop(z - step * reach, None)
            _, logits = self._get_orig_video_res_output(state, masks)
            yield z, logits[0, 0].float()

    def _reach(self) -> int:
        """Return the largest distance of a slice that the memory attention of sam2 uses."""
        frames = (self.num_maskmem - 1) * self.memory_temporal_stride_for_eval + 1
        return max(frames, self.max_obj_ptrs_in_encoder - 1)

    def _encode(
        self, state: State, order: Sequence[int], batch: int
    ) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Yield image and features of each slice in the form of sam2's feature cache."""
        device = state["device"]
        for images in _read_ahead(state["images"], order, batch, device):
            features = self.forward_image(images.to(device, non_blocking=True).float())
            for i in range(len(images)):
                one = {
                    key: [level[i : i + 1] for level in features[key]]
                    for key in ("backbone_fpn", "vision_pos_enc")
                }
                yield images[i : i + 1], one


def _read_ahead(
    slices: SliceImages, order: Sequence[int], batch: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield batches of slices, (B, C, S, S), and prepare the next ones in other threads."""

    def read(first: int) -> Tensor:
        images = torch.stack([slices[z] for z in order[first : first + batch]])
        # A GPU copies from pinned memory while it computes.
        return images.pin_memory() if device.type == "cuda" else images

    coming: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(order), batch):
            coming.append(pool.submit(read, first))
            if len(coming) > READERS:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()

"""sam2's video predictor fed with the slices of a volume instead of the frames of a video.

The network, the prompting and every tracking step are sam2's own. What differs is the loading
(slices come one by one from the caller) and the forgetting: memory that no later slice can
reach is dropped at once, so a long volume costs no more memory than a short one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from cryoseg.methods.device import ready_for_transfer

State = dict[str, Any]
OBJECT_ID = 1  # a volume is segmented as one object


class SliceImages(Protocol):
    """Slices in the network's input form, made when they are asked for."""

    def __len__(self) -> int:
        """Give the number of slices."""
        ...

    def __getitem__(self, z: int, /) -> Tensor:
        """Slice `z` as (C, S, S) float32, S being the network's image size."""
        ...


class VolumePredictor(SAM2VideoPredictor):
    """sam2's `SAM2VideoPredictor` for volumes whose slices are read lazily.

    Prompt with `prompt_with_mask` or `start_without_prompt`, then iterate over `propagate`. A
    state serves one pass; make a new one for the next.
    """

    @torch.inference_mode()
    def init_state_from_slices(
        self, slices: SliceImages, height: int, width: int, *, offload_state: bool = False
    ) -> State:
        """Make what `init_state` makes, without reading a slice.

        Parameters
        ----------
        slices
            Anything with `len()` and `[z]`; each slice is asked for when it is encoded, once.
        height, width
            Size of the logits that `propagate` yields, in pixels.
        offload_state
            Keep the memory of past slices on the CPU.

        Returns
        -------
        dict
            The same keys as upstream's state; `tests/contracts` compares them.
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
        """Fix the segmentation of slice `z`, as sam2's `add_new_mask` does.

        Parameters
        ----------
        state
            From `init_state_from_slices`.
        z
            Slice to prompt.
        mask
            (Y, X) bool, of any size; it is resized to the network's image size.
        """
        self.add_new_mask(state, z, OBJECT_ID, mask)
        # Encoding the memory now uses the features that add_new_mask has just computed; upstream
        # waits for the start of the propagation and has to compute them a second time.
        self.propagate_in_video_preflight(state)
        state["mask_inputs_per_obj"][0].clear()
        state["cached_features"] = {}

    @torch.inference_mode()
    def start_without_prompt(self, state: State, z: int) -> None:
        """Segment slice `z` from its image alone and let the propagation start from it."""
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
        """Carry the prompts through the slices, from the first prompted one in the direction of travel.

        Parameters
        ----------
        state
            Prompted; spent afterwards.
        reverse
            Go from high z to low z.
        encode_ahead
            Slices per pass of the image encoder. 1 gives upstream's bits; more is faster on CUDA.

        Yields
        ------
        tuple
            z and the logits of that slice, (height, width) float32 on the model's device.

        Raises
        ------
        ValueError
            If the state holds no prompt.
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
                # Only the memory of a prompted slice is needed from here on.
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
        """How many slices back the memory attention of sam2 looks, at most."""
        frames = (self.num_maskmem - 1) * self.memory_temporal_stride_for_eval + 1
        return max(frames, self.max_obj_ptrs_in_encoder - 1)

    def _encode(
        self, state: State, order: Sequence[int], batch: int
    ) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Image and features of one slice after the other, in the form of sam2's feature cache."""
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
    """Batches of slices, (B, C, S, S), each prepared on another thread while the last one is used."""

    def read(first: int) -> Tensor:
        images = torch.stack([slices[z] for z in order[first : first + batch]])
        return ready_for_transfer(images, device)

    with ThreadPoolExecutor(1) as pool:
        coming: Future[Tensor] | None = pool.submit(read, 0) if order else None
        for first in range(batch, len(order) + batch, batch):
            assert coming is not None
            images = coming.result()
            coming = pool.submit(read, first) if first < len(order) else None
            yield images

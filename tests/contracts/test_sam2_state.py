"""What `VolumePredictor` takes for granted about sam2; fails here first when sam2 changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from sam2.sam2_video_predictor import SAM2VideoPredictor

from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.sam.sam2_volume import VolumePredictor

NANO = Path(__file__).parents[1] / "conformance" / "sam2_nano.yaml"


def stock_predictor() -> SAM2VideoPredictor:
    config = OmegaConf.load(NANO)
    config.model["_target_"] = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    return instantiate(config.model).eval()


@pytest.fixture
def jpeg_folder(tmp_path: Path) -> Path:
    grey = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
    for z in range(2):
        Image.fromarray(grey[z]).save(tmp_path / f"{z:05d}.jpg")
    return tmp_path


def test_our_state_has_the_keys_and_kinds_of_upstreams(jpeg_folder: Path) -> None:
    stock = stock_predictor()
    theirs = stock.init_state(str(jpeg_folder))
    ours = build_predictor(NANO).init_state_from_slices(torch.zeros(2, 3, 256, 256), 30, 40)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 18
    given = {"images", "cached_features", "offload_video_to_cpu"}
    for key in ours.keys() - given:
        assert ours[key] == theirs[key], key
        assert type(ours[key]) is type(theirs[key]), key
    assert len(ours["images"]) == len(theirs["images"])
    assert ours["images"][0].shape == theirs["images"][0].shape


def test_the_feature_cache_has_upstreams_form(jpeg_folder: Path) -> None:
    stock = stock_predictor()
    state = stock.init_state(str(jpeg_folder))
    ((z, (image, features)),) = state["cached_features"].items()
    assert z == 0
    assert image.shape == (1, 3, 256, 256)
    predictor = build_predictor(NANO)
    ours = predictor.init_state_from_slices(torch.zeros(2, 3, 256, 256), 30, 40)
    image_, features_ = next(predictor._encode(ours, [0, 1], 2))
    assert image_.shape == image.shape
    for key in ("backbone_fpn", "vision_pos_enc"):
        assert [level.shape for level in features_[key]] == [level.shape for level in features[key]]


def test_a_frames_output_holds_what_the_forgetting_expects() -> None:
    predictor = build_predictor(NANO)
    state = predictor.init_state_from_slices(torch.zeros(2, 3, 256, 256), 30, 40)
    predictor.start_without_prompt(state, 0)
    outputs = state["output_dict_per_obj"][0]["cond_frame_outputs"][0]
    assert outputs.keys() == {
        "maskmem_features",
        "maskmem_pos_enc",
        "pred_masks",
        "obj_ptr",
        "object_score_logits",
    }
    assert outputs["maskmem_features"].dtype is torch.bfloat16
    assert isinstance(predictor, VolumePredictor)

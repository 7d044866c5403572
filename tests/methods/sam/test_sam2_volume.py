"""The volume predictor against upstream's own propagation, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.sam2_video_predictor import SAM2VideoPredictor

from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.sam.sam2_volume import VolumePredictor

NANO = Path(__file__).parents[2] / "conformance" / "sam2_nano.yaml"
SIDE = 64  # pixels of the network's image; small, for speed
DEPTH = 22  # longer than the 16 slices that the object pointers reach back
SHAPE = (40, 56)


class CountingSlices:
    """Lazy slices that note what was asked for."""

    def __init__(self, images: torch.Tensor) -> None:
        self._images = images
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, z: int) -> torch.Tensor:
        self.asked.append(z)
        return self._images[z]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> tuple[SAM2VideoPredictor, VolumePredictor]:
    torch.manual_seed(1)
    config = OmegaConf.load(NANO)
    config.model.image_size = SIDE
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    OmegaConf.save(config, path)
    config.model["_target_"] = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    stock = instantiate(config.model).eval()
    with torch.no_grad():
        # Upstream begins with zero-sized no-object embeddings and position codes; give them a say.
        for parameter in stock.parameters():
            if parameter.abs().max() < 0.1:
                parameter.normal_(std=0.1)
        stock.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(0.3)
    ours = build_predictor(path)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(DEPTH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def mask() -> torch.Tensor:
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[10:25, 12:40] = True
    return inside


@pytest.mark.parametrize(
    ("prompted", "reverse"),
    [((0,), False), ((0, 9, 18), False), ((21,), True), ((3, 15), True), ((4, 10), False)],
)
def test_propagation_is_upstreams_to_the_bit(predictors, images, prompted, reverse) -> None:
    stock, ours = predictors
    start = max(prompted) if reverse else min(prompted)
    theirs = ours.init_state_from_slices(images, *SHAPE)
    for z in prompted:
        stock.add_new_mask(theirs, z, 1, mask())
    expected = {
        z: logits[0, 0].numpy()
        for z, _, logits in stock.propagate_in_video(theirs, start_frame_idx=start, reverse=reverse)
    }
    slices = CountingSlices(images)
    state = ours.init_state_from_slices(slices, *SHAPE)
    for z in prompted:
        ours.prompt_with_mask(state, z, mask())
    found = {z: logits.numpy() for z, logits in ours.propagate(state, reverse=reverse)}
    assert list(found) == list(expected)
    for z, logits in found.items():
        np.testing.assert_array_equal(logits, expected[z], err_msg=f"slice {z}")
    assert len(slices.asked) == len(set(slices.asked)), "a slice was encoded twice"
    spread = np.std([logits for z, logits in found.items() if z not in prompted])
    assert spread > 0.01, "the random model should not give constant logits"


def test_empty_prompt_is_legal(predictors, images) -> None:
    stock, ours = predictors
    theirs = ours.init_state_from_slices(images[:4], *SHAPE)
    stock.add_new_mask(theirs, 0, 1, torch.zeros(SHAPE, dtype=torch.bool))
    expected = [logits[0, 0] for _, _, logits in stock.propagate_in_video(theirs)]
    state = ours.init_state_from_slices(images[:4], *SHAPE)
    ours.prompt_with_mask(state, 0, torch.zeros(SHAPE, dtype=torch.bool))
    found = [logits for _, logits in ours.propagate(state)]
    assert torch.equal(torch.stack(found), torch.stack(expected))
    torch.testing.assert_close(found[0], torch.full(SHAPE, -10.0))


def test_memory_does_not_grow_with_the_number_of_slices(predictors, images) -> None:
    _, ours = predictors
    state = ours.init_state_from_slices(images, *SHAPE)
    ours.prompt_with_mask(state, 0, mask())
    outputs = state["output_dict_per_obj"][0]
    held = []
    for _ in ours.propagate(state):
        held.append(len(outputs["non_cond_frame_outputs"]))
        assert all("pred_masks" not in out for out in outputs["non_cond_frame_outputs"].values())
        assert len(state["cached_features"]) <= 1
    assert max(held) == 15  # pointers of the last max_obj_ptrs_in_encoder - 1 slices
    assert list(outputs["cond_frame_outputs"]) == [0]
    assert state["mask_inputs_per_obj"] == {0: {}}


def test_encoding_ahead_changes_nothing_but_rounding(predictors, images) -> None:
    _, ours = predictors
    results = []
    for encode_ahead in (1, 4):
        state = ours.init_state_from_slices(images[:10], *SHAPE)
        ours.prompt_with_mask(state, 0, mask())
        ours.prompt_with_mask(state, 5, mask())
        results.append(
            torch.stack([logits for _, logits in ours.propagate(state, encode_ahead=encode_ahead)])
        )
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_start_without_prompt_covers_every_slice(predictors, images, reverse) -> None:
    _, ours = predictors
    state = ours.init_state_from_slices(images[:5], *SHAPE)
    ours.start_without_prompt(state, 4 if reverse else 0)
    found = dict(ours.propagate(state, reverse=reverse))
    assert list(found) == ([4, 3, 2, 1, 0] if reverse else [0, 1, 2, 3, 4])
    assert all(logits.shape == SHAPE and logits.dtype is torch.float32 for logits in found.values())


def test_a_single_slice(predictors, images) -> None:
    _, ours = predictors
    state = ours.init_state_from_slices(images[:1], *SHAPE)
    ours.prompt_with_mask(state, 0, mask())
    assert [z for z, _ in ours.propagate(state)] == [0]


def test_propagation_needs_a_prompt(predictors, images) -> None:
    _, ours = predictors
    state = ours.init_state_from_slices(images[:1], *SHAPE)
    with pytest.raises(ValueError, match="prompt"):
        next(ours.propagate(state))

"""What a SAM 2 configuration may and may not do."""

from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from cryoseg.errors import ConfigError
from cryoseg.methods.sam.sam2_config import build_predictor, find_config
from cryoseg.methods.sam.sam2_volume import VolumePredictor

NANO = Path(__file__).parents[2] / "conformance" / "sam2_nano.yaml"


def test_base_class_becomes_our_predictor_without_postprocessing() -> None:
    predictor = build_predictor(NANO)
    assert type(predictor) is VolumePredictor
    assert predictor.image_size == 256
    assert predictor.fill_hole_area == 0
    assert not predictor.non_overlap_masks
    assert not predictor.training


@pytest.mark.parametrize(
    "name", ["configs/sam2.1/sam2.1_hiera_b+.yaml", "sam2.1_hiera_b+", "sam2.1_hiera_t.yaml", str(NANO)]
)
def test_configurations_are_found_by_name(name: str) -> None:
    assert find_config(name).is_file()


@pytest.mark.parametrize("name", ["nothing", "../secrets", "build_sam.py", "/no/such.yaml"])
def test_what_is_no_configuration_is_not_found(name: str) -> None:
    with pytest.raises(ConfigError, match="no such SAM 2 configuration"):
        find_config(name)


def test_global_hydra_is_left_alone() -> None:
    before = GlobalHydra.instance().hydra
    build_predictor(NANO)
    assert GlobalHydra.instance().hydra is before


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "sam2.build_sam.os.system",
        "sam2.build_sam._load_checkpoint",
        "sam2evil.Thing",
        "cryoseg.io.records.hash_file",
        "torch.nn.Linear",
    ],
)
@pytest.mark.parametrize("where", ["", "memory_encoder", "memory_encoder.fuser.layer", "listed"])
def test_other_targets_are_refused_at_any_depth(target: str, where: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    config = OmegaConf.load(NANO)
    bad = {"_target_": target, "command": f"touch {marker}", "_args_": [f"touch {marker}"]}
    if where == "listed":
        OmegaConf.update(config.model, "extra", [[bad]], force_add=True)
    elif where:
        OmegaConf.update(config.model, where, bad, merge=False)
    else:
        config.model = bad
    path = tmp_path / "bad.yaml"
    OmegaConf.save(config, path)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        build_predictor(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no `model` section"),
        ("- a list", "no `model` section"),
        ("model: 3", "no `model` section"),
        ("model: {_target_: sam2.modeling.sam2_base.SAM2Base}", "cannot be built"),
        ("model: {_target_: sam2.modeling.memory_encoder.Fuser}", "not a SAM 2 network"),
        ("model: {_target_: sam2.no_such_module.Thing}", "does not exist"),
        ("model: {a: '${nowhere}'}", "cannot be read"),
        ("model: [unclosed", "cannot be read"),
        ("<html>", "no `model` section"),
    ],
)
def test_broken_configurations_are_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        build_predictor(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)

"""Build SAM 2 networks from YAML configurations.

A configuration names the classes to build, so that a file from elsewhere could name any callable. Only
network modules of sam2 and of cryoseg are built.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import sam2
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from sam2.modeling.sam2_base import SAM2Base
from torch import nn
from yaml import YAMLError

import cryoseg
from cryoseg.errors import ConfigError
from cryoseg.methods.sam.fine_sam2 import FineSam2, FineVolumePredictor
from cryoseg.methods.sam.sam2_volume import VolumePredictor

Network = TypeVar("Network", bound=SAM2Base)

ALLOWED = ("sam2.", "cryoseg.")
_PACKAGES = (Path(sam2.__file__).parent, Path(cryoseg.__file__).parent)
_FOLDERS = ("", "configs", "configs/sam2.1", "configs/sam2", "weights")


def find_config(name: str | Path) -> Path:
    """Find a configuration by path, or in sam2 and cryoseg by name, such as `sam2.1_hiera_b+`.

    Names like `configs/sam2.1/sam2.1_hiera_b+.yaml` are found too.
    """
    given = Path(name)
    if given.is_file():
        return given
    if not given.is_absolute() and ".." not in given.parts:
        for package, folder, ending in itertools.product(_PACKAGES, _FOLDERS, ("", ".yaml")):
            candidate = package / folder / f"{given}{ending}"
            if candidate.is_file() and candidate.suffix in {".yaml", ".yml"}:
                return candidate
    raise ConfigError(
        f"{name}: no such SAM 2 configuration. Give the path of a YAML file, or the name of one of "
        "sam2, such as sam2.1_hiera_b+."
    )


def build_predictor(config: str | Path) -> VolumePredictor:
    """Build the untrained predictor of a configuration for `find_config` in evaluation mode on the CPU.

    Like the builder of sam2 with `apply_postprocessing=False`, it fills no holes and sets no constraints
    between masks or objects. A `ConfigError` says what is wrong with a configuration.
    """
    path, model, network = _model_section(config)
    model.update({"non_overlap_masks": False, "fill_hole_area": 0})
    kind = FineVolumePredictor if issubclass(network, FineSam2) else VolumePredictor
    return _instantiate(path, model, kind).eval()


def build_network(
    config: str | Path, kind: type[Network], *, overrides: Mapping[str, Any] | None = None
) -> Network:
    """Build the untrained network of a configuration as another class of SAM 2 network.

    Parameters
    ----------
    config
        Name or path for `find_config`.
    kind
        Class to build instead of that in the configuration, with the same weights.
    overrides
        Values by dotted key below `model`.
    """
    path, model, _ = _model_section(config, overrides)
    for key in ("non_overlap_masks", "fill_hole_area", "clear_non_cond_mem_around_input"):
        model.pop(key, None)  # arguments of the predictor, not of the network
    return _instantiate(path, model, kind)


def _model_section(
    config: str | Path, overrides: Mapping[str, Any] | None = None
) -> tuple[Path, DictConfig, type[SAM2Base]]:
    """Return the path, the checked `model` section with `overrides`, and the class that it names."""
    path = find_config(config)
    try:
        loaded = OmegaConf.load(path)
        if not isinstance(loaded, DictConfig) or not isinstance(loaded.get("model"), DictConfig):
            raise ConfigError(
                f"{path}: contains no `model` section; give an inference configuration of SAM 2."
            )
        model = loaded.model
        for key, value in (overrides or {}).items():
            OmegaConf.update(model, key, value, force_add=True)
        OmegaConf.resolve(model)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read as a SAM 2 configuration ({_first_line(error)})."
        ) from error
    _check_targets(model, path)
    root = _module_class(str(model.get("_target_")), path)
    if not issubclass(root, SAM2Base):
        raise ConfigError(f"{path}: `model` builds {root.__name__}, which is not a SAM 2 network.")
    return path, model, root


def _instantiate(path: Path, model: DictConfig, kind: type[Network]) -> Network:
    model.update({"_target_": f"{kind.__module__}.{kind.__qualname__}", "compile_image_encoder": False})
    try:
        network = instantiate(model, _recursive_=True)
    except (HydraException, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{path}: SAM 2 cannot be built from it ({_first_line(error)}).") from error
    assert isinstance(network, kind)
    return network


def _check_targets(node: Any, path: Path) -> None:
    """Raise for any `_target_`, at any depth, that is not a network module of sam2 or cryoseg."""
    if OmegaConf.is_dict(node):
        if "_target_" in node:
            _module_class(str(node["_target_"]), path)
        for key in node:
            _check_targets(node[key], path)
    elif OmegaConf.is_list(node):
        for item in node:
            _check_targets(item, path)


def _module_class(target: str, path: Path) -> type[nn.Module]:
    refusal = ConfigError(
        f"{path}: asks for {target}, which is refused: a configuration may only build the network classes of "
        "sam2 and cryoseg."
    )
    if not target.startswith(ALLOWED):
        raise refusal
    # `sam2.build_sam.os.system` starts with sam2 too, so the module that defines the object is checked.
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path}: asks for {target}, which does not exist.") from error
    if not (
        isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith(ALLOWED)
    ):
        raise refusal
    return found


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

"""Read and write particle models, and adapt a SAM for training.

A model file contains either the whole network, or only the tensors that a method trained together with the
name and hash of the SAM that was adapted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cryoseg.config.prompt_sam import InputScale, PromptConfig, PromptMethod
from cryoseg.config.segment import Polarity
from cryoseg.config.setting import restore
from cryoseg.config.train_sam import PARTICLE_PIXELS
from cryoseg.errors import ConfigError, WeightsError
from cryoseg.io.outputs import atomic_text
from cryoseg.io.records import hash_file
from cryoseg.methods.model_file import (
    is_model_file,
    load_state_dict,
    load_strict,
    read_model_metadata,
    read_model_tensors,
    require_fit,
    write_model_file,
)
from cryoseg.methods.promise.network import PromiseSam
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry, geometry_of_state
from cryoseg.methods.weights import WEIGHTS, canonical_name, require


@dataclass(frozen=True, kw_only=True)
class ParticleRecipe:
    """Settings of preprocessing and picking, which the metadata of the model file contain.

    Attributes
    ----------
    image_size
        Side of a tile in pixels of the network.
    particle_pixels
        Diameter to which particles are scaled, in pixels of the network.
    overlap
        Overlap of neighboring tiles in pixels of the network.
    core
        Diameter of the discs that the network segments, in particle diameters; picking enlarges them.
    logit_threshold
        Threshold chosen on validation micrographs.
    peak_sigma
        Standard deviation of the blur before the search for peaks, in particle diameters, chosen on them too.
    score_slope, score_intercept
        Platt's calibration: a score is the sigmoid of slope * raw score + intercept.
    score_threshold
        Score with the best F1 on the validation micrographs.
    any_scale
        Whether the network was trained on particles of different sizes, so that picking may search for the
        scale at which it is most certain.
    polarity
        Polarity of the particles in the network's input.
    normalization
        Scale of the network's input.
    pixel_size
        Pixel size of the training micrographs in angstrom, for information; 0.0 if unknown.
    crop_black
        Whether `cryoseg segment-image` crops black borders of pictures.
    """

    image_size: int
    particle_pixels: float = PARTICLE_PIXELS
    overlap: int = 48
    core: float = 1.0
    logit_threshold: float = 0.0
    peak_sigma: float = 0.12
    score_slope: float = 1.0
    score_intercept: float = 0.0
    score_threshold: float = 0.0
    any_scale: bool = False
    polarity: Polarity = Polarity.DARK
    normalization: InputScale = InputScale.GREY
    pixel_size: float = 0.0
    crop_black: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.image_size:
            raise ConfigError(
                f"overlap {self.overlap}: must lie between 0 and the tile side {self.image_size}."
            )
        if not 0 < self.core <= 1:
            raise ConfigError(f"core {self.core:g}: must be above 0 and at most 1.")
        if self.particle_pixels <= 0:
            raise ConfigError(f"particle_pixels {self.particle_pixels:g}: must be positive.")


METHOD = "prompt-sam"
# Typical diameter of a particle in the 1024-pixel images of the published training sets; for networks
# without a recipe.
NATIVE_PARTICLE_PIXELS = 48.0
RUNNING = ("running_mean", "running_var")
BASE_NOTE = "base.txt"  # file in the folder of a run with the path of the SAM that was adapted


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """Name and hash of the SAM that was adapted."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network and the content of its file.

    Attributes
    ----------
    network, recipe
        Network and its recipe.
    hashes
        SHA-256 of the files by name.
    card
        Model card.
    remarks
        Sentences about changes to what the file contains.
    """

    network: PromptSam
    recipe: ParticleRecipe
    hashes: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def save_particle_model(
    path: Path,
    network: PromptSam,
    recipe: ParticleRecipe,
    *,
    base: BaseModel | None,
    card: Mapping[str, Any] | None = None,
) -> str:
    """Write a model file, whose tensors are float16 except for running statistics; return its SHA-256.

    Parameters
    ----------
    path
        Path with the suffix `.safetensors`; an existing file is replaced.
    network, recipe
        Network and recipe to write.
    base
        SAM that was adapted. With it, only the tensors that the method trains are written; without it, the
        whole network.
    card
        Model card: data, metrics, commands.
    """
    state = network.state_dict()
    if base is not None:
        state = {name: value for name, value in state.items() if network.is_trained(name)}
    # Variances of a batch normalization may lie outside the range of float16.
    state = {n: v if n.endswith(RUNNING) or not v.is_floating_point() else v.half() for n, v in state.items()}
    metadata = {
        "method": METHOD,
        "geometry": asdict(network.geometry),
        "prompt": network.config.to_dict(),
        "recipe": asdict(recipe),
        "base": None if base is None else asdict(base),
        "card": dict(card or {}),
    }
    return write_model_file(path, state, metadata)


def read_particle_file(
    path: Path, *, base: Path | None = None, checkpoints_dir: Path | None = None
) -> Loaded:
    """Read a model file of cryoseg.

    Parameters
    ----------
    path
        Model file.
    base
        File of the SAM that was adapted; None to search for it beside the model file and by name.
    checkpoints_dir
        Folder of downloaded weights.

    Raises
    ------
    WeightsError
        If the file is not a particle model, or its SAM is missing or has another hash.
    """
    metadata = read_model_metadata(path)
    if metadata["method"] != METHOD:
        raise WeightsError(f"{path}: is a model for {metadata['method']}, not a particle model of {METHOD}.")
    network = build_prompt_sam(
        restore(SamGeometry, metadata["geometry"], source=f"{path}: geometry"),
        restore(PromptConfig, metadata["prompt"], source=f"{path}: prompt"),
    )
    trained = {name: value for name, value in network.state_dict().items() if network.is_trained(name)}
    state = read_model_tensors(path) if trained or metadata["base"] is None else {}
    hashes = {path.name: hash_file(path)}
    if metadata["base"] is not None:
        wanted = restore(BaseModel, metadata["base"], source=f"{path}: base")
        place = base or _find_base(wanted, path, checkpoints_dir)
        found = hash_file(place)
        if found != wanted.sha256:
            raise WeightsError(
                f"{place}: is not the {wanted.name} that {path.name} was trained with "
                f"(SHA-256 {found[:12]} instead of {wanted.sha256[:12]}); give that one."
            )
        hashes[place.name] = found
        require_fit(trained, state, path)
        state = {**base_state(place), **state}
    load_strict(network, state, path)
    return Loaded(
        network=network,
        recipe=restore(ParticleRecipe, metadata["recipe"], source=f"{path}: recipe"),
        hashes=hashes,
        card=metadata.get("card", {}),
    )


def _find_base(wanted: BaseModel, path: Path, checkpoints_dir: Path | None) -> Path:
    known = canonical_name(wanted.name)
    beside = path.with_name(wanted.name if known is None else WEIGHTS[known].file_name)
    if beside.is_file():
        return beside
    if (noted := _noted_base(path.parent)) is not None:
        return noted
    if known is not None:
        return require(known, checkpoints_dir=checkpoints_dir)
    raise WeightsError(
        f"{path}: needs {wanted.name}, which is not beside it; put it there, or train with --standalone."
    )


def note_base(folder: Path, base: Path) -> None:
    """Write the path of the adapted SAM into the folder of a run."""
    # A link is not used because writing to it would change the SAM.
    with atomic_text(folder / BASE_NOTE, overwrite=True) as stream:
        stream.write(f"{base.resolve()}\n")


def _noted_base(folder: Path) -> Path | None:
    try:
        place = Path((folder / BASE_NOTE).read_text(encoding="utf-8").strip())
        return place if place.is_file() else None
    except (OSError, ValueError):
        return None


def base_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an unadapted SAM, from a published file or a model file, by `PromptSam`'s names."""
    if is_model_file(path):
        return {
            name: value.float() for name, value in read_model_tensors(path).items() if name.startswith("sam.")
        }
    return {f"sam.{name}": value for name, value in load_state_dict(path).items()}


def load_base(path: Path) -> tuple[SamGeometry, ParticleRecipe | None, dict[str, Tensor]]:
    """Read geometry, recipe (None for published files) and tensors of a SAM to adapt."""
    if not is_model_file(path):
        state = base_state(path)
        return geometry_of_state(state, path), None, state
    metadata = read_model_metadata(path)
    if metadata["method"] != METHOD or metadata["base"] is not None:
        raise WeightsError(f"{path}: is an adapted SAM or no SAM; give the SAM that was adapted.")
    return (
        restore(SamGeometry, metadata["geometry"], source=f"{path}: geometry"),
        restore(ParticleRecipe, metadata["recipe"], source=f"{path}: recipe"),
        base_state(path),
    )


def adapt(path: Path, config: PromptConfig) -> tuple[PromptSam, ParticleRecipe, BaseModel]:
    """Load a SAM and add the untrained modules of a method.

    The input scale and grid of `config` are replaced by those of a model file.

    Returns
    -------
    tuple
        Network, its recipe, and name and hash of the SAM.
    """
    geometry, recipe, state = load_base(path)
    if recipe is not None:
        values = read_model_metadata(path)["prompt"]
        grid = restore(PromptConfig, values, source=f"{path}: prompt").grid_side
        config = replace(config, input_scale=recipe.normalization, grid_side=grid)
    network = build_prompt_sam(geometry, config)
    added = {n: v for n, v in network.state_dict().items() if n not in state and network.is_trained(n)}
    load_strict(network, {**added, **state}, path)
    base = BaseModel(name=canonical_name(path.name) or path.name, sha256=hash_file(path))
    return network, recipe or native_recipe(config, geometry), base


def native_recipe(config: PromptConfig, geometry: SamGeometry) -> ParticleRecipe:
    """Return the recipe for a network without one."""
    return ParticleRecipe(
        image_size=geometry.image_size,
        particle_pixels=NATIVE_PARTICLE_PIXELS,
        overlap=geometry.image_size // 8,
        normalization=config.input_scale,
    )


def build_prompt_sam(geometry: SamGeometry, config: PromptConfig) -> PromptSam:
    """Build the untrained network of a configuration."""
    if config.method is PromptMethod.PROMISE:
        return PromiseSam(geometry, config)
    return PromptSam(geometry, config)

"""A network that draws particles in micrographs, with the recipe that its file carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cryoseg.config.common import Precision
from cryoseg.config.prompt_sam import InputScale, NativeMode
from cryoseg.core.grids.resample import tile_grid
from cryoseg.core.grids.robust import particle_view
from cryoseg.errors import ConfigError, WeightsError
from cryoseg.io.inputs import expand_home, is_file
from cryoseg.io.web.weight_files import file_digests
from cryoseg.methods.model_file import is_model_file
from cryoseg.methods.particles.files import Loaded, native_recipe, read_particle_file
from cryoseg.methods.particles.fit import given_points
from cryoseg.methods.particles.published_weights import import_checkpoint
from cryoseg.methods.particles.recipe import ParticleRecipe
from cryoseg.methods.promise.network import PromiseSam
from cryoseg.methods.prompt_sam.everything import particle_sized_union
from cryoseg.methods.prompt_sam.network import PromptSam, enlarged, image_logits, tile_logits
from cryoseg.methods.weights import GROUPS, canonical_name, require
from cryoseg.types import FloatArray

__all__ = ["ParticleModel", "ParticleRecipe", "load_particle_model"]

# Sides of the image and of its logits.
# Source: yangyang-69/Prompt_sam_cryoPPP notebooks/function_token.py@d4f8b28.
WHOLE_IMAGE_SIZE = 1024
WHOLE_IMAGE_LOGITS = 256
AMG_LOGIT = 4.0  # the generator draws masks without logits


class ParticleModel:
    """A network ready to run.

    Attributes
    ----------
    recipe
        Of the model file; the caller scales, tiles and blends by it.
    name
        What the user asked for.
    hashes
        SHA-256 of the files it was read from, by file name, for the record.
    remarks
        Sentences about what was changed in reading them.
    """

    def __init__(
        self,
        network: PromptSam,
        recipe: ParticleRecipe,
        *,
        name: str,
        hashes: Mapping[str, str] | None = None,
        remarks: Sequence[str] = (),
        device: torch.device,
        precision: Precision = Precision.FLOAT32,
        mode: NativeMode = NativeMode.GRID,
    ) -> None:
        self.network = network.to(device).eval()
        self.recipe = recipe
        self.name = name
        self.hashes, self.remarks = dict(hashes or {}), tuple(remarks)
        self.device, self.precision, self.mode = device, precision, mode
        if mode is NativeMode.AMG and recipe.normalization is InputScale.GREY:
            raise ConfigError(f"--mode amg: {name} sees grey values; use a published SAM, such as sam_vit_b.")

    @property
    def weight_bytes(self) -> int:
        """Size of the network in memory."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.network.parameters())

    def require_prompter(self) -> None:
        """Refuse a network that takes its points from the truth, where no truth is given.

        Raises
        ------
        WeightsError
            With the models that prompt themselves.
        """
        if self.network.needs_truth:
            raise WeightsError(
                f"{self.name}: takes its points from the true mask (--prompter gt). Pass --points to "
                "segment-image for its upper bound, or train with --prompter apm, grid or none."
            )

    def points_of(self, truth: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
        """Points of a true mask, (1, K, 2) as x, y and (1, K) labels, drawn as training draws them.

        Parameters
        ----------
        truth
            (S, S), the square that the network sees.

        Raises
        ------
        ConfigError
            If the network takes no points.
        """
        if not isinstance(self.network, PromiseSam):
            raise ConfigError(f"--points: is for models of `cryoseg train promise`, and {self.name} is none.")
        return given_points(self.network, truth[None].astype(np.int8), (0,), self.device)

    @torch.inference_mode()
    def tile_logits(self, tiles: FloatArray, on_done: Callable[[int], None]) -> FloatArray:
        """Logits of square tiles at the tiles' own resolution.

        Parameters
        ----------
        tiles
            (n, S, S) grey values of zero mean and unit deviation, S the recipe's `image_size`,
            particles of the recipe's polarity.
        on_done
            Receives the number of tiles that are done.

        Returns
        -------
        FloatArray
            (n, S, S), above 0 where a particle is likelier than not.

        Raises
        ------
        ConfigError
            If the tiles have another side.
        """
        side = self.network.geometry.image_size
        if tiles.ndim != 3 or tiles.shape[1:] != (side, side):
            raise ConfigError(f"tiles of shape {tiles.shape}: {self.name} takes (n, {side}, {side}).")
        if self.mode is not NativeMode.AMG:
            return tile_logits(self.network, tiles, self.device, precision=self.precision, on_done=on_done)
        masks = []
        for number, tile in enumerate(tiles):
            image = self.network.from_grey(torch.from_numpy(np.ascontiguousarray(tile, np.float32))[None])
            masks.append(self._amg((image[0].permute(1, 2, 0) * 255).round().byte().numpy()))
            on_done(number + 1)
        return np.stack(masks)

    @torch.inference_mode()
    def whole_image_logits(self, rgb: NDArray[np.uint8]) -> FloatArray:
        """Logits of a whole micrograph squeezed into a square, as the publication does it.

        The image becomes 1024 x 1024 without regard to its aspect; a network whose own side is
        smaller sees that square in tiles.

        Parameters
        ----------
        rgb
            (y, x, 3), 8 bit.

        Returns
        -------
        FloatArray
            (256, 256).
        """
        if self.mode is NativeMode.AMG:
            raise ConfigError("--mode amg: draws masks at the size of the image; use it with tiles.")
        image = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255
        square = functional.interpolate(
            image, (WHOLE_IMAGE_SIZE, WHOLE_IMAGE_SIZE), mode="bilinear", align_corners=False, antialias=True
        )
        scale = self.recipe.normalization
        if scale is InputScale.GREY:
            pixels = self.recipe.particle_pixels
            grey = square[0].mean(dim=0).numpy()
            view = particle_view(grey, diameter_px=pixels, particle_pixels=pixels)  # at its own scale
            square = torch.from_numpy(view)[None, None]
        side = self.network.geometry.image_size
        if side == WHOLE_IMAGE_SIZE:
            logits = image_logits(self.network, square, self.device, precision=self.precision)
        else:
            grid = tile_grid((WHOLE_IMAGE_SIZE, WHOLE_IMAGE_SIZE), side, self.recipe.overlap)
            tiles = torch.from_numpy(grid.cut(square[0].numpy()))
            raw = image_logits(self.network, tiles, self.device, precision=self.precision)
            logits = torch.from_numpy(grid.stitch(enlarged(raw, side)))[None]
        small = functional.interpolate(
            logits[:, None],
            (WHOLE_IMAGE_LOGITS, WHOLE_IMAGE_LOGITS),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        return small[0, 0].numpy()

    def _amg(self, rgb: NDArray[np.uint8]) -> FloatArray:
        mask = particle_sized_union(self.network, rgb, particle_pixels=self.recipe.particle_pixels)
        return np.where(mask, AMG_LOGIT, -AMG_LOGIT).astype(np.float32)


def load_particle_model(
    name_or_path: str | Path,
    device: torch.device,
    *,
    precision: Precision = Precision.FLOAT32,
    mode: NativeMode = NativeMode.GRID,
    base: Path | None = None,
    checkpoints_dir: Path | None = None,
) -> ParticleModel:
    """A particle model by name or file.

    Parameters
    ----------
    name_or_path
        `particle-mixed`, a name of the group `sam` for native SAM, a model file of ours, or a checkpoint
        of the Prompt-SAM authors.
    device, precision
        Where and how to compute.
    mode
        How masks are asked for.
    base
        The SAM of a file that holds trained tensors only.
    checkpoints_dir
        Folder of downloaded weights.

    Raises
    ------
    WeightsError
        If there is no such model, or its file does not fit.
    """
    path = expand_home(name_or_path)
    if not is_file(path):
        known = canonical_name(str(name_or_path))
        if known is None:
            raise WeightsError(
                f"{name_or_path}: is neither a file nor a known particle model; "
                f"give a .safetensors model file, or {', '.join(GROUPS['sam'])} for native SAM."
            )
        path = require(known, checkpoints_dir=checkpoints_dir)
    remarks: tuple[str, ...] = ()
    if is_model_file(path):
        loaded = read_particle_file(path, base=base, checkpoints_dir=checkpoints_dir)
    else:
        imported = import_checkpoint(path)
        network, remarks = imported.network, imported.remarks
        loaded = Loaded(
            network=network,
            recipe=native_recipe(network.config, network.geometry),
            hashes={path.name: file_digests(path)["sha256"]},
            card={},
        )
    return ParticleModel(
        loaded.network,
        loaded.recipe,
        name=str(name_or_path),
        hashes=loaded.hashes,
        remarks=remarks,
        device=device,
        precision=precision,
        mode=mode,
    )

"""A network that segments particles in micrographs, with its recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cryoseg.config.prompt_sam import InputScale, NativeMode
from cryoseg.core.grids.resample import tile_grid
from cryoseg.core.grids.robust import particle_view
from cryoseg.errors import ConfigError, WeightsError
from cryoseg.methods.cuda_graphs import replay_on_cuda
from cryoseg.methods.model_file import is_model_file
from cryoseg.methods.particles.files import Loaded, ParticleRecipe, read_particle_file
from cryoseg.methods.particles.fit import given_points
from cryoseg.methods.particles.published_weights import import_checkpoint
from cryoseg.methods.promise.network import PromiseSam
from cryoseg.methods.prompt_sam.network import PromptSam, enlarged, image_logits, tile_logits
from cryoseg.methods.weights import REPLACED, find_weights
from cryoseg.types import BoolArray, FloatArray

__all__ = ["ParticleModel", "ParticleRecipe", "load_particle_model"]

# Sides of a whole image and of its logits in pixels.
# Source: yangyang-69/Prompt_sam_cryoPPP notebooks/function_token.py@d4f8b28.
WHOLE_IMAGE_SIZE = 1024
WHOLE_IMAGE_LOGITS = 256
AMG_LOGIT = 4.0  # logit inside the masks of the automatic mask generator, which have none
# Areas of masks relative to the disc of a particle. This range includes particles that are not round and
# excludes carbon, background and pairs of particles.
AREA_BAND = (0.25, 2.5)


class ParticleModel:
    """A particle network that is ready to use.

    Parameters
    ----------
    loaded
        Network, recipe, hashes of its files and remarks about them.
    name
        Name or file that the user gave.
    device
        Device to compute on.
    mode
        Kind of masks: those of a grid of points, or the automatic masks of SAM.

    Attributes
    ----------
    recipe
        Recipe by which the caller scales, tiles and blends micrographs.
    hashes
        SHA-256 of the model's files by name, for the record.
    remarks
        Sentences about changes to what the files contain.
    """

    def __init__(
        self, loaded: Loaded, *, name: str, device: torch.device, mode: NativeMode = NativeMode.GRID
    ) -> None:
        self.network = loaded.network.to(device).eval()
        replay_on_cuda(self.network, "sam.image_encoder.forward")
        self.recipe, self.hashes, self.remarks = loaded.recipe, loaded.hashes, loaded.remarks
        self.name, self.device, self.mode = name, device, mode
        if mode is NativeMode.AMG and self.recipe.normalization is InputScale.GREY:
            raise ConfigError(f"--mode amg: {name} reads grey values; use a published SAM such as sam_vit_b.")

    @property
    def weight_bytes(self) -> int:
        """Size of the network in memory."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.network.parameters())

    def require_prompter(self) -> None:
        """Raise a `WeightsError` if the network needs points from the true mask."""
        if self.network.needs_truth:
            raise WeightsError(
                f"{self.name}: takes its points from the true mask (--prompter gt). Pass --points to "
                "segment-image for its upper bound, or train with --prompter apm, grid or none."
            )

    def points_of(self, truth: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw points, (1, K, 2) x, y and (1, K) labels, from a true mask as in training.

        `truth` is the (S, S) mask of the square that the network reads. A `ConfigError` is raised if the
        network does not accept points.
        """
        if not isinstance(self.network, PromiseSam):
            raise ConfigError(f"--points: is for models of `cryoseg train promise`, and {self.name} is none.")
        return given_points(self.network, truth[None].astype(np.int8), (0,), self.device)

    @torch.inference_mode()
    def tile_logits(self, tiles: FloatArray, on_done: Callable[[int], None]) -> FloatArray:
        """Compute logits of square tiles at the resolution of the tiles.

        Parameters
        ----------
        tiles
            (n, S, S) grey values of zero mean and unit deviation, with the `image_size` S and the polarity
            of the recipe.
        on_done
            Function to call with the number of tiles that are done.

        Returns
        -------
        FloatArray
            (n, S, S) logits, positive where a particle is more likely than background.

        Raises
        ------
        ConfigError
            If the tiles have another size.
        """
        side = self.network.geometry.image_size
        if tiles.ndim != 3 or tiles.shape[1:] != (side, side):
            raise ConfigError(f"tiles of shape {tiles.shape}: {self.name} takes (n, {side}, {side}).")
        if self.mode is not NativeMode.AMG:
            return tile_logits(self.network, tiles, self.device, on_done=on_done)
        logits = []
        for number, tile in enumerate(tiles):
            image = self.network.from_grey(torch.from_numpy(np.ascontiguousarray(tile, np.float32))[None])
            rgb = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
            mask = particle_sized_union(self.network, rgb, particle_pixels=self.recipe.particle_pixels)
            logits.append(np.where(mask, AMG_LOGIT, -AMG_LOGIT).astype(np.float32))
            on_done(number + 1)
        return np.stack(logits)

    @torch.inference_mode()
    def whole_image_logits(self, rgb: NDArray[np.uint8]) -> FloatArray:
        """Compute logits (256, 256) of a whole (y, x, 3) 8-bit micrograph that is resized to a square.

        As in the publication, the image is resized to 1024 x 1024 pixels regardless of its aspect ratio; a
        network with smaller images gets this square in tiles.
        """
        if self.mode is NativeMode.AMG:
            raise ConfigError("--mode amg: has masks of the size of the image only; use it with tiles.")
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
            logits = image_logits(self.network, square, self.device)
        else:
            grid = tile_grid((WHOLE_IMAGE_SIZE, WHOLE_IMAGE_SIZE), side, self.recipe.overlap)
            tiles = torch.from_numpy(grid.cut(square[0].numpy()))
            raw = image_logits(self.network, tiles, self.device)
            logits = torch.from_numpy(grid.stitch(enlarged(raw, side)))[None]
        small = functional.interpolate(
            logits[:, None],
            (WHOLE_IMAGE_LOGITS, WHOLE_IMAGE_LOGITS),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        return small[0, 0].numpy()


def particle_sized_union(network: PromptSam, rgb: NDArray[np.uint8], *, particle_pixels: float) -> BoolArray:
    """Return the (y, x) union of SAM's automatic masks that have the area of a particle.

    `rgb` is a (y, x, 3) 8-bit image, in which a particle has a diameter of `particle_pixels`; the network has
    three input channels.
    """
    from segment_anything import SamAutomaticMaskGenerator  # imports torchvision

    disc = np.pi / 4 * particle_pixels**2
    union = np.zeros(rgb.shape[:2], bool)
    for mask in SamAutomaticMaskGenerator(network.sam).generate(rgb):
        if AREA_BAND[0] * disc <= mask["area"] <= AREA_BAND[1] * disc:
            union |= mask["segmentation"]
    return union


def load_particle_model(
    name_or_path: str | Path,
    device: torch.device,
    *,
    mode: NativeMode = NativeMode.GRID,
    base: Path | None = None,
    checkpoints_dir: Path | None = None,
) -> ParticleModel:
    """Load a particle model by name or file.

    Parameters
    ----------
    name_or_path
        Name of bundled or SAM weights such as `particle-mixed` or `sam_vit_b`, model file, or published
        checkpoint of Prompt_sam_cryoPPP or ProMISe.
    device
        Device to compute on.
    mode
        Kind of masks: those of a grid of points, or the automatic masks of SAM.
    base
        File of the SAM that was adapted, for model files with trained tensors only.
    checkpoints_dir
        Folder of downloaded weights.

    Raises
    ------
    WeightsError
        If there is no such model, or its file cannot be used.
    """
    path = find_weights(name_or_path, checkpoints_dir=checkpoints_dir)
    if is_model_file(path):
        loaded = read_particle_file(path, base=base, checkpoints_dir=checkpoints_dir)
    else:
        loaded = import_checkpoint(path)
    if (current := REPLACED.get(str(name_or_path).lower().replace("-", "_"))) is not None:
        remark = f"this model was replaced by {current.replace('_', '-')}, which is used instead"
        loaded = replace(loaded, remarks=(*loaded.remarks, remark))
    return ParticleModel(loaded, name=str(name_or_path), device=device, mode=mode)

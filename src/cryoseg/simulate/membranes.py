"""Arrangements of membranes: shapes, sizes and distances of the membranes in a field of view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cryoseg.simulate.fields import Grid, log_uniform, random_direction
from cryoseg.simulate.scene import Bilayer, Scene
from cryoseg.simulate.surfaces import (
    Pose,
    Surface,
    Wave,
    folded_inner,
    offset_surface,
    open_window,
    sheet,
    sponge,
    tubule,
    vesicle,
)


@dataclass(frozen=True, kw_only=True)
class Lipids:
    """The bilayers of a field of view and their variation.

    Attributes
    ----------
    bilayer
        Mean bilayer.
    spread, unevenness
        Relative standard deviation of the density between membranes, and along a membrane.
    """

    bilayer: Bilayer
    spread: float
    unevenness: float

    def draw(self, rng: np.random.Generator) -> Bilayer:
        """Draw the bilayer of one membrane, which differs from the mean in density only."""
        factor = float(np.clip(rng.normal(1.0, self.spread), 0.4, 1.8))
        outer, inner = self.bilayer.leaflet_density
        return replace(
            self.bilayer,
            leaflet_density=(outer * factor, inner * factor),
            core_density=self.bilayer.core_density * factor,
        )


def draw_lipids(rng: np.random.Generator) -> Lipids:
    """Draw bilayers from thin and well resolved to thick and blurred."""
    thickness = rng.uniform(35.0, 50.0)
    height = rng.uniform(1.1, 2.3)
    asymmetry = rng.normal(0.0, 0.1)
    return Lipids(
        bilayer=Bilayer(
            thickness=thickness,
            leaflet_separation=thickness - rng.uniform(0.0, 12.0),
            leaflet_sigma=rng.uniform(3.5, 8.0),
            leaflet_density=(height * (1 + asymmetry), height * (1 - asymmetry)),
            core_density=height * rng.uniform(-0.3, 0.35),
        ),
        spread=rng.uniform(0.0, 0.25),
        unevenness=rng.uniform(0.0, 0.3),
    )


class Builder:
    """Adds arrangements of membranes to a scene and keeps the surfaces that fit."""

    def __init__(self, rng: np.random.Generator, scene: Scene, lipids: Lipids) -> None:
        self.rng = rng
        self.scene = scene
        self.lipids = lipids
        self.surfaces: list[Surface] = []
        self.gap = float(lipids.bilayer.thickness + rng.uniform(0.0, 40.0))

    @property
    def grid(self) -> Grid:
        """Grid of the scene."""
        return self.scene.grid

    def accept(self, surface: Surface | None, *, min_gap: float | None = None) -> bool:
        """Add a surface if it fits; return whether it does."""
        if surface is None:
            return False
        added = self.scene.add(
            surface,
            self.lipids.draw(self.rng),
            min_gap=self.gap if min_gap is None else min_gap,
            rng=self.rng,
            unevenness=self.lipids.unevenness,
        )
        if added:
            self.surfaces.append(surface)
        return added

    def _anywhere(self, margin: float) -> NDArray[np.float64]:
        return self.rng.uniform(-margin, 1.0 * self.grid.extent + margin)

    def vesicles(self, n: int, *, median_radius: float, spread: float) -> None:
        """Add up to `n` vesicles with log-normally distributed radii in angstrom."""
        rng, grid = self.rng, self.grid
        for _ in range(3 * n):
            if n == 0:
                return
            radius = float(np.clip(median_radius * np.exp(rng.normal(0.0, spread)), 130.0, 1500.0))
            surface = vesicle(
                rng,
                grid,
                center=self._anywhere(0.4 * radius),
                radius=radius,
                elongation=float(1.0 + rng.gamma(1.5, 0.25)),
                roughness=rng.uniform(0.0, 0.06),
            )
            if surface is not None and rng.random() < 0.05:
                surface = open_window(rng, grid, surface, fraction=rng.uniform(0.05, 0.5))
            n -= self.accept(surface)

    def touching_cluster(self, n: int, *, radius: float) -> None:
        """Add up to `n` + 1 vesicles in contact: their mid-surfaces are about one bilayer apart."""
        rng, grid = self.rng, self.grid
        first = vesicle(rng, grid, center=self._anywhere(0.0), radius=radius, elongation=1.1, roughness=0.02)
        if not self.accept(first):
            return
        contact = self.lipids.bilayer.thickness
        for _ in range(4 * n):
            if n == 0:
                return
            seed = self.surfaces[-1 - int(rng.integers(0, min(3, len(self.surfaces))))]
            inside = np.argwhere(seed.distance < 0)
            if len(inside) == 0:
                return
            middle = (inside.mean(axis=0) + [part.start for part in seed.box]) * grid.voxel_size
            own = radius * float(np.exp(rng.normal(0.0, 0.25)))
            depth = -float(seed.distance.min())
            center = middle + random_direction(rng) * (depth + own + contact + rng.uniform(0.0, 12.0))
            surface = vesicle(rng, grid, center=center, radius=own, elongation=1.05, roughness=0.01)
            n -= self.accept(surface, min_gap=0.8 * contact)

    def nested(self, n: int) -> None:
        """Add up to `n` vesicles inside existing closed membranes."""
        rng, grid = self.rng, self.grid
        for _ in range(4 * n):
            if n == 0 or not self.scene.closed:
                return
            number = int(rng.choice(self.scene.closed))
            inside = np.argwhere(self.scene.compartment[::4, ::4, ::4] == number) * 4
            if len(inside) < 10:
                continue
            size = (len(inside) * 64.0) ** (1 / 3) * grid.voxel_size
            radius = float(np.clip(size * rng.uniform(0.1, 0.35), 130.0, 900.0))
            center = inside[int(rng.integers(0, len(inside)))] * grid.voxel_size
            surface = vesicle(rng, grid, center=center, radius=radius, elongation=1.25, roughness=0.04)
            n -= self.accept(surface)

    def organelle(
        self,
        *,
        radius: float,
        walls: int,
        folded: bool,
        roughness: float,
        upright: bool,
        kind: str = "organelle",
    ) -> bool:
        """Add a closed membrane that passes through the field of view; return whether it fits.

        Parameters
        ----------
        radius
            Radius in angstrom.
        walls, folded
            Number of membranes, 1 or 2, and whether the inner one has cristae.
        roughness
            Standard deviation of the wall as a fraction of the radius.
        upright
            Whether the wall is nearly perpendicular to the slices, as in a section through a large organelle.
        kind
            Name in the record of the volume.
        """
        rng, grid = self.rng, self.grid
        normal = random_direction(rng, max_z=0.35 if upright else 1.0)
        through = rng.uniform(0.1, 0.9, 3) * grid.extent
        outer = vesicle(
            rng,
            grid,
            center=through - normal * radius,
            radius=radius,
            elongation=rng.uniform(1.0, 1.6),
            roughness=roughness,
        )
        outer = None if outer is None else replace(outer, kind=kind)
        if not self.accept(outer) or outer is None:
            return False
        if walls == 2:
            gap = float(self.lipids.bilayer.thickness + rng.uniform(15.0, 160.0))
            if folded:
                inner = folded_inner(
                    rng,
                    grid,
                    outer,
                    gap=gap,
                    fold_spacing=rng.uniform(350.0, 900.0),
                    fold_width=rng.uniform(110.0, 220.0),
                )
            else:
                inner = offset_surface(
                    rng, grid, outer, offset=-gap, jitter=rng.uniform(0.0, 12.0), kind="inner"
                )
            self.accept(inner, min_gap=self.lipids.bilayer.thickness)
        return True

    def stack(self, n: int, *, spacing: float, half_width: float) -> None:
        """Add `n` parallel sheets, as in a Golgi stack."""
        rng, grid = self.rng, self.grid
        base = sheet(
            rng,
            grid,
            Pose(self._anywhere(0.0), random_direction(rng)),
            half_width=half_width,
            bend_radius=float(half_width * rng.uniform(0.8, 6.0)),
            wave=Wave(rng.uniform(0.0, 40.0), rng.uniform(400.0, 1500.0)),
        )
        if base is None:
            return
        for i in range(n):
            layer = offset_surface(
                rng, grid, base, offset=i * spacing, jitter=0.06 * spacing if i else 0.0, kind="sheet"
            )
            self.accept(layer, min_gap=0.9 * self.lipids.bilayer.thickness)

    def tubules(self, n: int, *, radius: float, flat: bool) -> None:
        """Add up to `n` membrane tubes."""
        rng, grid = self.rng, self.grid
        for _ in range(3 * n):
            if n == 0:
                return
            own = radius * float(np.exp(rng.normal(0.0, 0.2)))
            surface = tubule(
                rng,
                grid,
                Pose(self._anywhere(0.0), random_direction(rng, max_z=0.3 if flat else 1.0)),
                radius=own,
                half_length=own * rng.uniform(2.0, 12.0),
                bend=Wave(float(rng.uniform(0.0, 0.8) * own), float(own * rng.uniform(5.0, 12.0))),
            )
            n -= self.accept(surface)


def _wall(build: Builder, *, double: float, folded: float = 0.3) -> None:
    rng = build.rng
    build.organelle(
        radius=log_uniform(rng, 700.0, 6000.0),
        walls=2 if rng.random() < double else 1,
        folded=rng.random() < folded,
        roughness=rng.uniform(0.0, 0.06),
        upright=rng.random() < 0.6,
    )


def _purified(build: Builder) -> None:
    rng = build.rng
    if rng.random() < 0.7:
        for _ in range(int(rng.integers(1, 4))):
            build.organelle(
                radius=rng.uniform(350.0, 1600.0),
                walls=1 + int(rng.random() < 0.2),
                folded=False,
                roughness=rng.uniform(0.0, 0.03),
                upright=True,
            )
    build.vesicles(int(rng.integers(2, 16)), median_radius=rng.uniform(180.0, 600.0), spread=0.5)
    build.nested(int(rng.integers(0, 5)))
    if rng.random() < 0.4:
        build.touching_cluster(int(rng.integers(2, 8)), radius=rng.uniform(180.0, 450.0))


def _cell(build: Builder) -> None:
    rng = build.rng
    for _ in range(int(rng.integers(1, 4))):
        _wall(build, double=0.5)
    if rng.random() < 0.5:
        build.stack(
            int(rng.integers(1, 6)), spacing=rng.uniform(90.0, 260.0), half_width=rng.uniform(500.0, 1800.0)
        )
    if rng.random() < 0.5:
        build.tubules(int(rng.integers(1, 6)), radius=rng.uniform(120.0, 320.0), flat=rng.random() < 0.5)
    build.vesicles(int(rng.integers(0, 12)), median_radius=rng.uniform(180.0, 400.0), spread=0.35)
    build.nested(int(rng.integers(0, 4)))


def _synapse(build: Builder) -> None:
    rng = build.rng
    for _ in range(int(rng.integers(1, 3))):
        _wall(build, double=0.8, folded=0.15)
    build.vesicles(int(rng.integers(10, 40)), median_radius=rng.uniform(170.0, 260.0), spread=0.15)
    if rng.random() < 0.5:
        build.touching_cluster(int(rng.integers(3, 12)), radius=rng.uniform(170.0, 240.0))


def _mitochondria(build: Builder) -> None:
    rng = build.rng
    for _ in range(int(rng.integers(1, 3))):
        build.organelle(
            radius=rng.uniform(900.0, 3500.0),
            walls=2,
            folded=True,
            roughness=rng.uniform(0.0, 0.05),
            upright=rng.random() < 0.5,
            kind="mitochondrion",
        )
    build.vesicles(int(rng.integers(0, 8)), median_radius=300.0, spread=0.3)
    build.tubules(int(rng.integers(0, 3)), radius=200.0, flat=True)


def _sheets(build: Builder) -> None:
    rng = build.rng
    for _ in range(int(rng.integers(1, 4))):
        build.stack(
            int(rng.integers(1, 5)), spacing=rng.uniform(70.0, 300.0), half_width=rng.uniform(400.0, 2500.0)
        )
    build.tubules(int(rng.integers(0, 7)), radius=rng.uniform(120.0, 350.0), flat=rng.random() < 0.5)
    build.vesicles(int(rng.integers(0, 12)), median_radius=250.0, spread=0.4)


def _sponge(build: Builder) -> None:
    rng, grid = build.rng, build.grid
    wavelength, level = rng.uniform(900.0, 2500.0), rng.uniform(-1.0, 1.4)
    build.accept(sponge(rng, grid, grid.full_box, wavelength=wavelength, level=level))
    build.nested(int(rng.integers(0, 4)))


def _sample(build: Builder) -> None:
    build.organelle(radius=620.0, walls=1, folded=False, roughness=0.02, upright=True)
    build.vesicles(7, median_radius=260.0, spread=0.35)
    build.nested(2)


ARRANGEMENTS: dict[str, Callable[[Builder], None]] = {
    "purified": _purified,
    "cell": _cell,
    "synapse": _synapse,
    "mitochondria": _mitochondria,
    "sheets": _sheets,
    "sponge": _sponge,
    "sample": _sample,
}

"""Euler angles of other programs, and the rotation matrices of `Picks`.

A matrix of `Picks` turns the reference particle into the image: an active rotation of column vectors
(x, y, z). A convention says which axes the three angles of a program turn about, in which order, and whether
they give this rotation or its inverse.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

SMALLEST_SINE = 1e-7  # Smallest sine of a tilt that defines all three angles.
LARGEST_DEVIATION = 1e-3  # Largest deviation of matrix times transpose from the unit matrix.


@dataclass(frozen=True)
class AngleConvention:
    """Euler angles of a program in degrees.

    Attributes
    ----------
    axes
        Axes in the order of the angles, as SciPy names them: capital letters turn with the particle
        (intrinsic), small letters stay with the image (extrinsic).
    inverse
        Whether the angles give the rotation from the image to the reference.
    """

    axes: str
    inverse: bool

    def matrices(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the matrices (n, 3, 3) of angles (n, 3)."""
        rotation = Rotation.from_euler(self.axes, angles.reshape(-1, 3), degrees=True)
        return np.asarray((rotation.inv() if self.inverse else rotation).as_matrix())

    def angles(self, matrices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the angles (n, 3) of matrices (n, 3, 3).

        At a tilt of 0 or 180 degrees, where only the sum or difference of the others is defined, the first
        angle is 0, as in RELION.
        """
        rotation = Rotation.from_matrix(matrices.reshape(-1, 3, 3))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Gimbal lock")
            found = (rotation.inv() if self.inverse else rotation).as_euler(self.axes, degrees=True)
        first, tilt, last = found.T
        locked = np.abs(np.sin(np.radians(tilt))) < SMALLEST_SINE
        turned = last + np.sign(np.cos(np.radians(tilt))) * first
        turned = (turned + 180) % 360 - 180
        found[locked, 0], found[locked, 2] = 0.0, turned[locked]
        return np.asarray(found + 0.0)  # Adding 0.0 removes -0.0, which files would show.


# rlnAngleRot, Tilt, Psi. Source: Euler_angles2matrix in src/euler.cpp of 3dem/relion, whose matrix "maps
# coordinates from particle space to tomogram space" (src/jaz/tomography/particle_set.cpp).
RELION = AngleConvention("ZYZ", inverse=True)
# tdrot, tilt, narot. Source: alisterburt/eulerangles@288af1f, eulerangles/conventions.py.
DYNAMO = AngleConvention("zxz", inverse=True)
# phi, theta, psi of TOM, AV3, STOPGAP and PEET. Source: turonova/cryoCAT@b63ad22, cryocat/core/cryomotl.py.
MOTL = AngleConvention("zxz", inverse=False)


def are_rotations(matrices: NDArray[np.float64]) -> bool:
    """Whether all matrices (n, 3, 3) are rotations: orthogonal, without a mirror image."""
    products = matrices @ matrices.transpose(0, 2, 1)
    return bool(
        np.isfinite(matrices).all()
        and (np.abs(products - np.eye(3)) < LARGEST_DEVIATION).all()
        and (np.linalg.det(matrices) > 0).all()
    )

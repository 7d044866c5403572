from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoseg.core.masks.binarize import check_logits
from cryoseg.errors import WeightsError


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5)])
def test_nan_of_a_network_is_refused_and_infinity_is_not(shape):
    logits = np.zeros(shape, np.float32)
    logits[0, 0], logits[-1, -1] = -np.inf, np.inf
    check_logits(logits, Path("ts.mrc"))
    logits[1, 2] = np.nan
    with pytest.raises(WeightsError, match=rf"^ts\.mrc: .* {np.isnan(logits).sum()} of {logits.size} values"):
        check_logits(logits, Path("ts.mrc"))

"""A difference as a part of the control, where the control is known well enough to divide by."""

from __future__ import annotations

import numpy as np

from iceblink.causal.moments import Floats


def lifts(control: Floats, value: Floats, variances: tuple[Floats, Floats], reach: Floats) -> tuple[Floats, ...]:
    """Return lifts with the bounds of their intervals: three arrays (segments,), by Fieller's theorem [1]_ [2]_.

    The interval has those ratios r for which `value` - r `control` is not told from 0, however little is known of the
    control: so 0 is in it exactly where it is in the interval of the difference. Where the control's own interval is
    not above 0 there is no lift: ratios would be unbounded, or of something negative.

    Parameters
    ----------
    control, value : float64 arrays (segments,)
    variances : two float64 arrays (segments,)
        Of these.
    reach : float64 array (segments,)
        Half the width of an interval, in standard errors.

    References
    ----------
    .. [1] Fieller: Some problems in interval estimation, J. Royal Statistical Society B 1954.
    .. [2] von Luxburg, Franz: A geometric approach to confidence sets for ratios, Statistica Sinica 2009.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        unsure = reach**2 * variances[0] / control**2
        known = np.where((control > 0) & (unsure < 1), control, np.nan)
        ratio, left = value / known, 1 - unsure
        half = reach / known * np.sqrt(ratio**2 * variances[0] + left * variances[1])
        middle = ratio - left
        return ratio - 1, (middle - half) / left, (middle + half) / left

"""Pictures of tidy tables, by matplotlib: what results draw by `plot`, and for tables that a user made.

Each function takes an Arrow table with the columns that it names, draws into `ax` or into a new figure, and returns the
axes. Colours are Okabe and Ito's, which people of all kinds of colour vision tell apart [1]_; what they tell is told by
markers or lines too.

References
----------
.. [1] Okabe, Ito: Color universal design, 2008, https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

from iceblink.causal.plots.balance import love
from iceblink.causal.plots.contours import contours
from iceblink.causal.plots.curve import curve
from iceblink.causal.plots.event_study import event_study
from iceblink.causal.plots.intervals import intervals
from iceblink.causal.plots.overlap import overlap
from iceblink.causal.plots.paths import gap, paths

__all__ = ["intervals", "love", "overlap", "event_study", "paths", "gap", "curve", "contours"]

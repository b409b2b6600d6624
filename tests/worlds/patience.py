"""How long a test waits for what must happen before it says that it never will.

Only what hangs takes this long, so a short limit finds nothing and fails where a machine stands
still or has much else to do: of 20 s for one test, a machine with fifteen busy processes took more
(2026-11-29). It is far below the time in which pytest stops a test. A time that the
test is about is not for here.
"""

from __future__ import annotations

PATIENCE_S = 120.0

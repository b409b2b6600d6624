"""What the statuses of the API mean and what a caller does about each; shown on `/docs`."""

from __future__ import annotations

STATUSES = {
    "queued": "It waits for its turn, or for a provider. Nothing to do.",
    "sent": "A provider has it and has not said more. Nothing to do.",
    "delivered": "It arrived; the app is billed. The person's phone has it.",
    "seen": "The person opened it, where the channel can tell.",
    "clicked": "The person followed a link of it, where that is known.",
    "undelivered": "Every step failed; `reason` says how the last one did. It may be sent again.",
    "suppressed": "A cap or an opt-out stopped it on the way. Do not send it again.",
    "expired": "Its time was over before anything arrived; `reason` says what kept it.",
    "cancelled": "The app cancelled it. What was out at a provider may still arrive and is billed.",
}
STEP_STATUSES = {
    "queued": "Not sent yet: it waits for its turn, or for the step before it.",
    "sent": "The provider took it; a receipt will say more.",
    "unknown": "The provider's answer was lost. It is asked about, and never blindly sent again.",
    "delivered": "It arrived.",
    "seen": "The person opened it.",
    "clicked": "The person followed a link of it.",
    "undelivered": "The provider says that it did not arrive; `error` says why.",
    "expired": "Its time was over without a delivery; the next step started, where there is one.",
    "rejected": "The provider refused it for good; `error` says why.",
    "skipped": "It did not start; `error.code` says why, such as `delivered` (an earlier one was), "
    "`reacted` (the person did).",
}

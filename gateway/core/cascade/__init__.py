"""The cascade: the whole state machine of a message after admission, pure.

`advance(message, event, persons, policy, now_ms)` changes the records it is given in place (the
caller decoded them for this decision and throws them away when the commit fails) and returns the
effects. It reads no clock and draws no random number; the same call serves production, property
tests and simulation. Nothing outside this package changes a message.

The shape of it:

    QUEUED --claimed--> SENDING --accepted--> SENT --receipt--> DELIVERED --> SEEN --> CLICKED
      |  ^                | | |                 +--receipt or timer--> EXPIRED, UNDELIVERED: next
      |  |                | | +--lost answer--> UNKNOWN --look-up--> SENT or QUEUED; or timer: next
      |  +-- RETRYING <---+ +--refused for good--> REJECTED: next
      |  +-- RETRYING <--- its provider is away and there is no other step; else SKIPPED: next
      |  +-- from all of these, where another provider of its channel takes it over: `failover`
      +--its time is over, as in RETRYING--> EXPIRED: next
      +--the person opted out of its channel--> SKIPPED: next
      +--too late, cancelled, reacted--> SKIPPED, and the message is finished
      +--a step before arrived, and somebody may react--> PLANNED again

A step that waits for a reaction is followed when its `react` is over after its delivery. The steps
that follow one another because nothing was delivered are a leg; one that starts because nobody
reacted opens the next.

What holds whatever happens, in whatever order (tests/core/test_cascade_properties.py):

  - a step's status only moves up in rank, so repeated and reordered receipts change nothing; the
    ways back are from SENDING or UNKNOWN to QUEUED, and only where the provider is known not to
    have the step, or policy prefers to send again, and from the lane to PLANNED;
  - no step starts once a step has what it waits for, after its own time or `expires_ms`, or once
    the message is finished;
  - nobody who reacted gets a further step that had not left;
  - no provider gets a step while another may have it that was not asked;
  - the app is billed at most once a leg, at its first delivery; an attempt's charge is booked once
    and only corrected by a receipt's price, and the corrections do not depend on the order of
    receipts; what an accepted invoice charges stays;
  - a claim and a slot are held exactly while the message is live or delivered, or one of its steps
    is still out.
"""

from __future__ import annotations

from gateway.core.cascade.events import advance
from gateway.core.cascade.needs import needs_people

__all__ = ["advance", "needs_people"]

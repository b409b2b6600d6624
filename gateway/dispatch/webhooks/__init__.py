"""Tells apps of events at their own addresses: an outbox, a queue a webhook, and who sends it."""

"""SMPP 3.4, which most of the world's SMS providers speak: a session that stays open, one PDU a
part of a message, and receipts that the provider sends over the same session."""

"""The guided tour: the whole system on one machine, a campaign through it, and its bill.

numbers    phone numbers that belong to nobody
campaign   what is sent, from the campaign file, by a seed (pure)
stage      what is started: Redis, simulator, roles, in a temporary directory
api        the HTTP client, as an app would write one
audience   what is known about the messages while they travel
audit      our ledger against the simulator's bill (pure)
tour       the order of it all, and what is shown
"""

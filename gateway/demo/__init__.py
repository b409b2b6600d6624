"""The guided tour: the whole system on one machine, a campaign through it, and its bill.

numbers    phone numbers that belong to nobody
campaign   what is sent, from the campaign file, by a seed (pure)
cast       who plays in the acts that follow it (pure)
configuration  what it all runs with, made from the shipped one
stage      what is started: Redis, simulator, roles, in a temporary directory
api        the HTTP client, as an app would write one
audience   what is known about the messages while they travel
visitors   who follows the links: people, and programs before them
acts       a cascade by reaction, somebody's own order, a send window, a pause, many channels
reach      one route over many channels (pure)
audit      our ledger against the simulator's bill (pure)
archive    what is booked and closed, in files, and Redis trimmed behind them
invoice    the provider's invoice with faults planted, and what is found in it
tour       the order of it all
show       what it looks like, with acts_view
"""

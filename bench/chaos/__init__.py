"""The fault bench: real processes, a client that behaves, a seeded storm of faults, and an audit.

`python -m bench.chaos --help`. It imports nothing of the product: it speaks HTTP, reads Redis and
/proc, and starts `kaskad` commands.
"""

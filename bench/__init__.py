"""Measurements of Kaskad from outside, over HTTP, Redis and /proc: nothing of it is imported.

`lifecycle` is the benchmark (`make bench`), `locustfile` the load test with a web page, `load` the
load generator that the first one uses. README.md says how to read what they print.
"""

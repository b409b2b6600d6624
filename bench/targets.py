"""The figures to reach, beside those that were: one `Verdict` a target, pure.

The targets hold for two cores that carry everything, load generator and provider included, and for
the full sizes; a quick run shows them for orientation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from bench.measure import Row


class Verdict(msgspec.Struct, frozen=True):
    """`met` is None when the scenario was not run."""

    scenario: str
    target: str
    figure: str
    met: bool | None


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Every target, in the order of the scenarios."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.scenario, []).append(row)
    return [
        _verdict(scenario, target, judge, found.get(scenario))
        for scenario, target, judge in TARGETS
    ]


Judge = Callable[[list[Row]], tuple[str, bool]]


def _verdict(scenario: str, target: str, judge: Judge, rows: list[Row] | None) -> Verdict:
    if rows is None:
        return Verdict(scenario, target, "not run", None)
    try:
        figure, met = judge(rows)
    except KeyError:  # a floor that was not measured in this run
        return Verdict(scenario, target, "not measured", None)
    return Verdict(scenario, target, figure, met)


def _rate(index: int, at_least: float) -> Judge:
    return lambda rows: (f"{rows[index].rate:,.0f}/s", rows[index].rate >= at_least)


def _cpu(index: int, at_most: float) -> Judge:
    def judge(rows: list[Row]) -> tuple[str, bool]:
        total = rows[index].cpu_us["total"]
        return f"{total:,.0f} µs", total <= at_most

    return judge


def _figure(
    index: int, name: str, form: str, *, at_least: float = float("-inf"), at_most: float = 1e300
) -> Judge:
    def judge(rows: list[Row]) -> tuple[str, bool]:
        value = rows[index].figures[name]
        return form.format(value), at_least <= value <= at_most

    return judge


def _otp(rows: list[Row]) -> tuple[str, bool]:
    p99_ms = rows[1].to_provider_ms["p99"]
    return f"{p99_ms:,.0f} ms", p99_ms <= 100


def _peaks(rows: list[Row]) -> tuple[str, bool]:
    peaks = [(row.figures["peak_in_a_second"], row.figures["limit"]) for row in rows]
    told = ", ".join(f"{peak:,.0f}" for peak, _ in peaks)
    return f"{told} of {peaks[0][1]:,.0f}", all(peak <= limit + 100 for peak, limit in peaks)


def _growth(name: str, at_most: float) -> Judge:
    def judge(rows: list[Row]) -> tuple[str, bool]:
        values = [row.figures[name] for row in rows]
        return ", ".join(f"{value:,.0f}" for value in values) + " bytes", max(values) <= at_most

    return judge


def _called(rows: list[Row]) -> tuple[str, bool]:
    """Ingress has no part in it."""
    spent = rows[1].cpu_us["dispatch"] + rows[1].cpu_us["redis"]
    return f"{spent:,.0f} µs", spent <= 300


TARGETS: tuple[tuple[str, str, Judge], ...] = (
    ("1", "single posts, whole life: at least 2,500/s", _rate(0, 2_500)),
    ("1", "at most 600 µs CPU a message", _cpu(0, 600)),
    ("2", "stream, whole life: at least 6,000/s", _rate(0, 6_000)),
    ("2", "at most 300 µs CPU a message", _cpu(0, 300)),
    ("3", "accept a stream: at least 20,000/s", _rate(0, 20_000)),
    (
        "3",
        "accept single posts: at least half of the bare server",
        _figure(1, "rate_to_bare", "{:.2f}", at_least=0.5),
    ),
    ("4", "receipts, 100 a request: at least 15,000/s", _rate(0, 15_000)),
    (
        "4",
        "receipts, 1 a request: at least half of the bare server",
        _figure(1, "rate_to_bare", "{:.2f}", at_least=0.5),
    ),
    ("5", "OTP under backlog: p99 to the provider at most 100 ms", _otp),
    ("5", "at most 3 times its idle p99", _figure(1, "p99_to_idle", "{:.1f}", at_most=3)),
    ("6", "peak in any second: limit and one batch at most", _peaks),
    (
        "6",
        "at least 97% of the limit used, most dispatchers",
        _figure(-1, "limit_used", "{:.1%}", at_least=0.97),
    ),
    (
        "7",
        "CPU a message with much waiting: within 15% of with little",
        _figure(1, "cpu_to_small", "{:.2f}", at_most=1.15),
    ),
    ("7", "Redis a message waiting: at most 700 bytes", _growth("bytes_waiting", 700)),
    ("7", "Redis a message once final: at most 250 bytes", _growth("bytes_final", 250)),
    ("8", "single-message provider: at most 800 µs CPU a message", _cpu(0, 800)),
    (
        "8",
        "50 requests in flight",
        _figure(0, "in_flight", "{:.0f}", at_least=47.5),
    ),
    ("9", "SMPP over one bind, whole life: at least 3,000/s", _rate(0, 3_000)),
    ("9", "at most 350 µs CPU a message", _cpu(0, 350)),
    ("10", "SMTP: at least 800/s", _rate(0, 800)),
    ("10", "at most 900 µs CPU a message", _cpu(0, 900)),
    ("11", "FCM: at least 1,000/s", _rate(0, 1_000)),
    ("11", "at most 800 µs CPU a message", _cpu(0, 800)),
    ("12", "a link followed: at most 120 µs CPU, all told", _cpu(0, 120)),
    (
        "13",
        "a click storm answered: at least 4,900/s",
        _figure(1, "clicks_rate", "{:,.0f}/s", at_least=4_900),
    ),
    (
        "13",
        "codes beside it: p99 to the provider at most 100 ms",
        _figure(1, "code_p99_ms", "{:,.0f} ms", at_most=100),
    ),
    ("13", "at most 3 times their p99 without it", _figure(1, "p99_to_calm", "{:.1f}", at_most=3)),
    ("14", "a webhook called: at most 300 µs CPU", _called),
)

"""`kaskad demo`: the order of the tour, from starting things to the last figure.

Success is every message final within a deadline, and the ledger equal to its totals and to the
simulator's bill. What it looks like is `gateway.demo.show`. Whatever
goes wrong is one sentence and exit code 1, and the stage is cleared all the same.
"""

from __future__ import annotations

import datetime
import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec

from gateway.demo import audit, campaign
from gateway.demo.acts import Act, Acts
from gateway.demo.api import CampaignFailed
from gateway.demo.archive import archive
from gateway.demo.audience import Audience
from gateway.demo.audit import Books
from gateway.demo.campaign import CLUB, SHOP, Traffic
from gateway.demo.configuration import read_additions
from gateway.demo.invoice import reconcile
from gateway.demo.looking import looks
from gateway.demo.show import CampaignShown, JsonShow, RichShow, Show, ShowResult
from gateway.demo.stage import Stage, shipped_file, stage
from gateway.demo.visitors import Visitors
from gateway.demo.webhook_receiver import WebhookReceiver
from gateway.finance.question import Query
from gateway.finance.reports.report import build
from gateway.finance.reports.verify import Verdict, compare_books
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.settings import file as settings_file
from gateway.settings.bootstrap import days_of
from gateway.store.money.ledger import read_books
from gateway.store.money.totals import TotalRow, pages_of_totals
from gateway.telemetry import configure_logs
from providers.simulator import read_people

KEEP_PORT = 8080
FOLLOW_EVERY_S = 1.0  # how often people and programs come to the links
LISTEN_WAIT_S = 10.0
FINAL_WAIT_S = 60.0  # beyond what a slow machine needs to send everything
MESSAGES_A_SECOND_MIN = 50
BOOKS_WAIT_S = 10.0  # for the last receipts to be booked
DAY = datetime.timedelta(days=1)


class TourOptions(msgspec.Struct, frozen=True):
    """What was asked for; `port` 0 is a free one, or KEEP_PORT when it stays up."""

    messages: int
    seed: int
    port: int
    keep: bool
    json: bool
    config: Path | None = None


def tour(options: TourOptions, environment: Mapping[str, str]) -> int:
    """Shows it all; 0 when everything arrived at an end and the books agree."""
    _terminate_as_interrupt()
    configure_logs("cli", "error", json=False)
    show: Show = JsonShow() if options.json else RichShow()
    shipped = settings_file.load(None, {}, secrets_required=False)
    templates = campaign.read_templates(shipped_file(shipped, "campaign.ndjson").read_bytes())
    people = read_people(shipped_file(shipped, "people.toml").read_text("utf-8"))
    traffic = campaign.expand(templates, options.messages, options.seed)
    port = options.port or (KEEP_PORT if options.keep else 0)
    show.begin(options.messages)
    with stage(
        environment,
        config=options.config,
        port=port,
        seed=options.seed,
        traffic=traffic,
        people=people,
        additions=read_additions(shipped_file(shipped, "")),
    ) as place:
        place.wait_ready()
        show.started(place)
        result = _play(place, traffic, show)
        show.result(place, result, keep=options.keep)
        if result.agrees and options.keep:
            _stay(place)
    show.end(ok=result.agrees)
    return 0 if result.agrees else 1


def _play(place: Stage, traffic: Traffic, show: Show) -> ShowResult:
    """The campaign, then the acts, each followed by a look into the books."""
    audience = Audience()
    visitors = Visitors(place)
    listeners = [_Listener(place, app, audience) for app in (SHOP, CLUB)]
    receiver = WebhookReceiver()
    try:
        for app in (SHOP, CLUB):
            receiver.subscribe(place, app)
        began = time.monotonic()
        _send(place, traffic, audience, visitors, show)
        books = _books(place, audience, visitors, receiver)
        played = CampaignShown(audience.figures(), books, time.monotonic() - began)
        show.campaign(played)
        acts: list[Act] = []
        if place.cast is not None:
            for act in Acts(place, audience, place.cast, visitors).play():
                show.act(act)
                acts.append(act)
        books = _books(place, audience, visitors, receiver)
        # The invoice first: an archived message does not say to whom it went.
        return ShowResult(played, acts, books, reconcile(place), archive(place))
    finally:
        for listener in listeners:
            listener.close()
        receiver.close()


def _send(
    place: Stage, traffic: Traffic, audience: Audience, visitors: Visitors, show: Show
) -> None:
    """Sends everything and waits until every accepted message is final. Raises CampaignFailed."""
    apis = {app: place.api(app) for app in (SHOP, CLUB)}
    apis[SHOP].opt_out(traffic.opted_out)
    faults: list[BaseException] = []
    work = [partial(apis[SHOP].post, traffic.posts, audience.answer)]
    for app, lines in traffic.streams.items():
        if lines:
            work.append(partial(apis[app].stream, lines, audience.answer))
    senders = [_thread(each, faults) for each in work]
    within_s = FINAL_WAIT_S + traffic.messages / MESSAGES_A_SECOND_MIN
    follow_at = time.monotonic() + FOLLOW_EVERY_S
    with show.progress(traffic.messages) as update:
        for late in looks(within_s):
            sending = any(sender.is_alive() for sender in senders)
            figures = audience.figures()
            update(figures)
            place.check()
            if faults:
                raise CampaignFailed(f"{faults[0]}{place.last()}") from faults[0]
            if audience.rejection is not None:
                raise CampaignFailed(f"A message was rejected: {audience.rejection['error']}")
            if not sending and figures.final >= figures.accepted:
                return
            if late:
                raise CampaignFailed(
                    f"{figures.accepted - figures.final} of {figures.accepted} messages are "
                    f"not final yet, long after they should be.{place.last()}"
                )
            if time.monotonic() > follow_at:
                visitors.follow()
                follow_at = time.monotonic() + FOLLOW_EVERY_S


def _books(
    place: Stage, audience: Audience, visitors: Visitors, receiver: WebhookReceiver
) -> Books:
    """The books once the last receipts are in; the latest ones when they never agree."""
    prices = place.settings.prices
    currency, baseline = prices.currency, prices.baseline
    for late in looks(BOOKS_WAIT_S):
        # What is still to come from the provider comes now: looks, and late deliveries.
        place.simulator.flush(everything=True)
        visitors.follow()
        today = datetime.datetime.now(datetime.UTC).date()
        days = (today - DAY, today)  # a demo around midnight is booked on both
        rows, verdict = _booked(place, *days)
        total = build(rows, Query(*days), currency, baseline)
        by_channel = build(rows, Query(*days, ("channel",)), currency, baseline)
        checks = [
            *audit.against_answers(total.total, audience.figures()),
            audit.against_links(total.total, visitors.people),
            audit.against_webhooks(audience.figures(), receiver.final),
            *audit.against_bill(by_channel, place.simulator.bill()),
        ]
        books = Books(total, by_channel, verdict, checks, place.channels)
        if books.agree or late:
            break
    return books


def _booked(
    place: Stage, from_day: datetime.date, to_day: datetime.date
) -> tuple[list[TotalRow], Verdict]:
    """The totals of these days, and whether they are the sums of the ledger."""
    shards = place.settings.redis.shards

    async def ask(redis: RedisClient) -> tuple[list[TotalRow], Verdict]:
        pages = pages_of_totals(redis, shards, from_day, to_day)
        rows = [row async for page in pages for row in page]
        return rows, await compare_books(read_books(redis, shards), days_of(place.settings))

    return run(place.redis_url, ask)


def _stay(place: Stage) -> None:
    """Until ctrl-C, which is how a look around ends. Raises CampaignFailed when a role ends."""
    try:
        for _ in looks():
            place.check()
    except KeyboardInterrupt:
        return


class _Listener:
    """One app's events, read by a thread of its own until `close`."""

    def __init__(self, place: Stage, app: str, audience: Audience) -> None:
        self._audience = audience
        self._api = place.api(app)
        self._socket: socket.socket | None = None
        self._listening = threading.Event()
        self._closed = False
        self._faults: list[BaseException] = []
        self._thread = _thread(self._read, self._faults)
        if not self._listening.wait(LISTEN_WAIT_S):
            raise CampaignFailed(f"The events of {app} cannot be read.{place.last()}")

    def _read(self) -> None:
        def listening(connection: http.client.HTTPConnection) -> None:
            self._socket = connection.sock
            self._listening.set()

        try:
            for event in self._api.events(listening):
                self._audience.event(event)
        except (OSError, http.client.HTTPException):
            if not self._closed:
                raise

    def close(self) -> None:
        self._closed = True
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(LISTEN_WAIT_S)


def _thread(work: Callable[[], None], faults: list[BaseException]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        except (CampaignFailed, OSError, http.client.HTTPException) as fault:
            faults.append(fault)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def _terminate_as_interrupt() -> None:
    """SIGTERM ends the tour as ctrl-C does, so that the stage is cleared."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)

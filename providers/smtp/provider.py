"""A mail server as dispatch uses it: a pool of connections, one mail a call.

A connection that rests may have been closed by its server; a mail that could not begin on it begins
once more on a new one, since nothing was accepted. An answer that is lost after the mail itself was
under way is Unknown: it may have been taken, and is never sent again from here.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence

import trio

from providers.contract import (
    Fault,
    NotSent,
    Outcome,
    Receive,
    Refused,
    SendFault,
    Submission,
    TellTaken,
    Unknown,
    WithoutLookUps,
)
from providers.mail import mailbox, mime
from providers.smtp import wire
from providers.smtp.connection import IDLE_S_MAX, Connection, Mail, encrypted
from providers.smtp.outcomes import Stage, lost, outcome
from providers.smtp.settings import SmtpConfig

_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, wire.Malformed)


class SmtpProvider(WithoutLookUps):
    """Use it under trio."""

    batch_max = 1

    def __init__(self, config: SmtpConfig, context: ssl.SSLContext | None = None) -> None:
        self.config = config
        self._idle: list[Connection] = []
        self._context = context
        if config.tls != "none" and context is None:
            self._context = ssl.create_default_context(cafile=config.ca_file)

    def tokens(self, batch: Sequence[Submission]) -> int:
        return len(batch)

    async def deliver(
        self,
        batch: Sequence[Submission],
        tell_taken: TellTaken | None = None,  # noqa: ARG002 - a batch is one message
    ) -> list[Outcome]:
        (sent,) = batch
        try:
            mail = self._written(sent)
        except ValueError as error:
            fault = Fault("unsendable", mailbox.blanked(str(error))[:100], permanent=True)
            return [Refused(sent.ref, fault, about="message")]
        delivery = _Delivery(self, mail)
        with trio.move_on_after(self.config.timeout_ms / 1000):
            stage, reply = await delivery.stages()
            return [outcome(sent.ref, stage, reply, delivered=self.config.accepted_is_delivered)]
        raise delivery.timeout()

    def _written(self, sent: Submission) -> Mail:
        sender = mailbox.read(sent.from_ or sent.sender)
        to = mailbox.read(sent.to)
        at = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        octets = mime.written(sent, sender, to, at, self.config.tagged(sent.ref))
        utf8 = mime.needs_utf8(sender, to)
        return Mail(sender.address, to.address, wire.content(octets), utf8)

    def take_idle(self) -> Connection | None:
        """The one used last that can be used again."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    async def connect(self) -> Connection:
        """A new one, ready for mails. Raises SendFault."""
        config = self.config
        try:
            tcp = await trio.open_tcp_stream(config.host, config.port)
        except (OSError, UnicodeError) as error:
            raise NotSent("connect_failed", f"No connection to {config.host}: {error}") from error
        try:
            stream: trio.abc.Stream = tcp
            if config.tls == "implicit":
                assert self._context is not None, "TLS needs a context"
                stream = await encrypted(tcp, config.host, self._context)
            connection = Connection(stream, tcp)
            await connection.begin(config, self._context)
        except _BROKEN as error:
            tcp.socket.close()
            raise lost(f"No session: {error.__cause__ or error}") from error
        except BaseException:
            tcp.socket.close()
            raise
        return connection

    async def put_back(self, connection: Connection) -> None:
        if connection.rest():
            self._idle.append(connection)
        elif connection.usable:
            await connection.quit()
        else:
            connection.close()

    async def run(self, receive: Receive) -> None:  # noqa: ARG002 - events come by callback
        """Ends connections that nobody needed for a while."""
        while True:
            await trio.sleep(IDLE_S_MAX)
            over = [each for each in self._idle if not each.is_usable()]
            self._idle = [each for each in self._idle if each not in over]
            for connection in over:
                await connection.quit()

    async def aclose(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.quit()
        await trio.lowlevel.checkpoint()


class _Delivery:
    """One mail on its way, and how far it got."""

    def __init__(self, provider: SmtpProvider, mail: Mail) -> None:
        self._provider = provider
        self._mail = mail
        self._connection: Connection | None = None

    async def stages(self) -> tuple[Stage, wire.Reply]:
        """Raises SendFault."""
        resting = self._provider.take_idle()
        if resting is not None:
            try:
                stage, reply = await self._over(resting)
            except NotSent:
                pass  # its server had closed it
            else:
                if reply.code != 421 or resting.content_left:
                    return stage, reply
        return await self._over(await self._provider.connect())

    async def _over(self, connection: Connection) -> tuple[Stage, wire.Reply]:
        self._connection = connection
        try:
            result = await connection.send(self._mail)
        except _BROKEN as error:
            connection.close()
            raise self._lost(f"The connection broke: {error}") from error
        except BaseException:
            connection.close()
            raise
        await self._provider.put_back(connection)
        return result

    def timeout(self) -> SendFault:
        """What is known when no time is left."""
        return self._lost("The time for one mail is over.")

    def _lost(self, what: str) -> SendFault:
        if self._connection is not None and self._connection.content_left:
            return Unknown("answer_lost", what)
        return lost(what)

"""One connection to a mail server, over trio: the greeting, TLS, the login, then mails one by one.

It never sends a mail again. What breaks it raises OSError, trio's stream errors or Malformed, and
`content_left` then says whether a byte of the mail itself can have left; before that, a server has
accepted nothing. Cancelled, it must be closed.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import msgspec
import trio

from providers.contract import AccountFault, SendFault
from providers.smtp import wire
from providers.smtp.outcomes import Stage, no_session
from providers.smtp.settings import SmtpConfig
from providers.smtp.wire import Reply, ReplyReader

MAILS_MAX = 100  # on one connection; relays close it soon after, in the middle of a mail
IDLE_S_MAX = 30.0
RECEIVE_BYTES = 16 * 1024


class Mail(msgspec.Struct, frozen=True):
    """`octets` is the mail as it follows DATA; `utf8`: an address is not ASCII."""

    sender: str
    to: str
    octets: bytes
    utf8: bool


class Ended(OSError):
    """The server closed the connection."""


class Connection:
    def __init__(self, stream: trio.abc.Stream, tcp: trio.SocketStream) -> None:
        self._stream = stream
        self._tcp = tcp
        self._replies = ReplyReader()
        self._offers: Mapping[str, str] = {}
        self._mails = 0
        self._unfinished = False  # a refused mail's envelope is still open
        self._idle_until = 0.0
        self.content_left = False
        self.usable = True

    async def begin(self, config: SmtpConfig, context: ssl.SSLContext | None) -> None:
        """Greets, takes TLS where it is to, and logs in. Raises SendFault for a refusal."""
        _or_raise(await self._reply())
        await self._hello(config)
        if config.tls == "starttls":
            assert context is not None, "TLS needs a context"
            await self._start_tls(config, context)
            await self._hello(config)
        if config.user:
            await self._log_in(config)

    async def send(self, mail: Mail) -> tuple[Stage, Reply]:
        """Offers one mail: the stage it came to, and the reply that says so."""
        self.content_left = False
        self._mails += 1
        if mail.utf8 and "SMTPUTF8" not in self._offers:
            return "recipient", Reply(553, ("5.6.7 The server takes ASCII addresses only.",))
        stage, reply = await self._envelope(mail)
        if stage == "content" and reply.good:
            self.content_left = True
            await self._stream.send_all(mail.octets)
            reply = await self._reply()
            if reply.asks_for_more:
                raise wire.Malformed("The reply to a mail is no answer.")
        if reply.code == 421:
            self.usable = False
        return stage, reply

    async def _envelope(self, mail: Mail) -> tuple[Stage, Reply]:
        """Sender, recipient and DATA: the first that is refused, or that the mail may follow."""
        commands = [
            wire.mail_command(mail.sender, len(mail.octets), self._offers, utf8=mail.utf8),
            wire.rcpt_command(mail.to),
            b"DATA\r\n",
        ]
        if self._unfinished:
            await self._ask(b"RSET\r\n")
        self._unfinished = True
        replies: list[Reply] = []
        if "PIPELINING" in self._offers:
            await self._stream.send_all(b"".join(commands))
            replies = await self._replies_to(len(commands))
        else:
            for command in commands:
                replies.append(await self._ask(command))
                if not replies[-1].good:
                    break
        stages: tuple[Stage, ...] = ("sender", "recipient", "content")
        for stage, reply in zip(stages, replies, strict=False):
            if not reply.good:
                if replies[-1].code == 354:  # to nobody: an empty mail ends it (RFC 2920, 3.1)
                    self.usable = False
                return stage, reply
        if not replies[-1].asks_for_more:  # it is the reply to something else
            raise wire.Malformed("The reply to DATA does not ask for a mail.")
        self._unfinished = False
        return "content", replies[-1]

    async def _replies_to(self, commands: int) -> list[Reply]:
        """To so many; those that came, where the server closes the connection after a refusal."""
        replies: list[Reply] = []
        while len(replies) < commands:
            try:
                replies.append(await self._reply())
            except (OSError, trio.BrokenResourceError):
                if all(reply.good for reply in replies):
                    raise
                self.usable = False
                break
        return replies

    async def _hello(self, config: SmtpConfig) -> None:
        reply = _or_raise(await self._ask(f"EHLO {config.greets_as}\r\n".encode()))
        self._offers = wire.extensions(reply)

    async def _start_tls(self, config: SmtpConfig, context: ssl.SSLContext) -> None:
        if "STARTTLS" not in self._offers:
            raise AccountFault(
                "no_starttls", 'The server offers no STARTTLS: set tls = "implicit".'
            )
        _or_raise(await self._ask(b"STARTTLS\r\n"))
        if not self._replies.empty:  # it would be taken for a reply under TLS
            raise wire.Malformed("Something follows the reply to STARTTLS.")
        self._stream = await encrypted(self._tcp, config.host, context)

    async def _log_in(self, config: SmtpConfig) -> None:
        offered = self._offers.get("AUTH", "").split()
        user, password = config.user, config.password
        if "PLAIN" in offered:
            lines = [f"AUTH PLAIN {wire.plain_secret(user, password)}"]
        elif "LOGIN" in offered:
            lines = ["AUTH LOGIN", wire.encoded(user), wire.encoded(password)]
        else:
            raise AccountFault("no_login", "The server offers no login that we know.")
        for line in lines:
            reply = _or_raise(await self._ask(f"{line}\r\n".encode()))
        if reply.asks_for_more:
            raise wire.Malformed("The login does not end.")

    async def _ask(self, command: bytes) -> Reply:
        await self._stream.send_all(command)
        return await self._reply()

    async def _reply(self) -> Reply:
        while (reply := self._replies.next()) is None:
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise Ended("The server closed the connection.")
            self._replies.feed(data)
        return reply

    def rest(self) -> bool:
        """Whether it can be used again later."""
        self._idle_until = trio.current_time() + IDLE_S_MAX
        return self.usable and self._mails < MAILS_MAX and self._replies.empty

    def is_usable(self) -> bool:
        """Whether it can be used now: what can be read of one that rests is its end."""
        return trio.current_time() < self._idle_until and not self._tcp.socket.is_readable()

    async def quit(self) -> None:
        """Says goodbye, and waits for nothing."""
        with trio.move_on_after(1) as scope:
            scope.shield = True
            try:
                await self._stream.send_all(b"QUIT\r\n")
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                self.usable = False
        self.close()

    def close(self) -> None:
        self.usable = False
        self._tcp.socket.close()


async def encrypted(
    tcp: trio.SocketStream, host: str, context: ssl.SSLContext
) -> trio.SSLStream[trio.SocketStream]:
    stream = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)
    await stream.do_handshake()
    return stream


def _or_raise(reply: Reply) -> Reply:
    if not reply.good:
        fault: SendFault = no_session(reply)
        raise fault
    return reply

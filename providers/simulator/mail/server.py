"""The mail service's SMTP door, and the faults that a mail can meet there.

The user may be any, the password is the simulator's key; who does not log in is taken all the same.
Where the door has a certificate it takes no login and no mail before TLS.
Whatever a client says is answered, and a line or mail without end closes the connection.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import re
import ssl
from typing import Final

from providers.simulator.mail.smtp import MailService
from providers.simulator.replies import Reply
from providers.simulator.runtime import Runtime
from providers.simulator.twin import Unreadable

LINE_BYTES_MAX: Final = 16 * 1024
MAIL_BYTES_MAX: Final = 10 * 1024 * 1024
COUNTED_AS: Final = "SMTP DATA"
_END: Final = b"\r\n.\r\n"
_path: Final = re.compile(r"(?:FROM|TO):\s*<([^<>]*)>", re.IGNORECASE).match
_OFFERS: Final = (
    f"250-simulator\r\n250-PIPELINING\r\n250-SIZE {MAIL_BYTES_MAX}\r\n250-8BITMIME\r\n"
    "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 "
)
_SERVICE: Final = MailService()


class MailDoor:
    """What a server of asyncio calls with each connection; `tls` is what it then encrypts with."""

    def __init__(self, runtime: Runtime, api_key: str, tls: ssl.SSLContext | None = None) -> None:
        self._runtime = runtime
        self._api_key = api_key
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()

    def close(self) -> None:
        """Cuts every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        outage = self._runtime.outage()
        try:
            if outage == "hang":
                await self._runtime.outage_over()
            elif outage == "unavailable":
                writer.write(b"421 4.3.2 The service is not available\r\n")
                await writer.drain()
            elif outage == "none":
                await _Session(self._runtime, self._api_key, self._tls, reader, writer).run()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # it is gone, or never ends a line
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class _Session:
    def __init__(
        self,
        runtime: Runtime,
        api_key: str,
        tls: ssl.SSLContext | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._runtime = runtime
        self._api_key = api_key
        self._tls = None if writer.get_extra_info("sslcontext") else tls  # that is still to begin
        self._reader = reader
        self._writer = writer
        self._sender: str | None = None
        self._to = ""

    async def run(self) -> None:
        """Until the client leaves."""
        self._say("220 simulator ESMTP")
        while True:
            await self._writer.drain()
            line = (await self._reader.readuntil(b"\n")).decode("utf-8", "replace").rstrip("\r\n")
            verb, _, rest = line.partition(" ")
            match verb.upper():
                case "EHLO" | "HELO":
                    self._say(_OFFERS + ("STARTTLS" if self._tls else "AUTH PLAIN LOGIN"))
                case "STARTTLS" if self._tls:
                    await self._encrypt(self._tls)
                case "AUTH":
                    self._say(await self._log_in(rest))
                case "MAIL" | "RCPT":
                    self._say(self._envelope(verb.upper(), rest))
                case "DATA" if not self._to:
                    self._say("503 5.5.1 Name a recipient first")
                case "DATA":
                    self._say("354 Go ahead")
                    await self._writer.drain()
                    if not await self._mail():
                        return
                case "RSET" | "NOOP":
                    self._sender, self._to = None, ""
                    self._say("250 2.0.0 Ok")
                case "QUIT":
                    self._say("221 2.0.0 Bye")
                    await self._writer.drain()
                    return
                case _:
                    self._say("500 5.5.2 There is no such command")

    def _say(self, text: str) -> None:
        self._writer.write(f"{text}\r\n".encode())

    async def _encrypt(self, tls: ssl.SSLContext) -> None:
        """What follows STARTTLS in the clear would be taken for said under TLS: a ValueError."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):  # what has come already, without waiting
                await self._reader.read(1)
                raise ValueError("Something follows STARTTLS.")
        self._say("220 2.0.0 Begin")
        await self._writer.start_tls(tls)
        self._tls, self._sender, self._to = None, None, ""

    async def _log_in(self, rest: str) -> str:
        if self._tls:
            return "538 5.7.11 Encryption is required"
        mechanism, _, first = rest.partition(" ")
        told = [first] if first else []
        prompts = {"PLAIN": [""], "LOGIN": ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"]}.get(mechanism.upper())
        if prompts is None:
            return "504 5.5.4 PLAIN and LOGIN are known"
        for prompt in prompts[len(told) :]:
            self._say(f"334 {prompt}")
            await self._writer.drain()
            told.append((await self._reader.readuntil(b"\n")).decode("ascii", "replace").strip())
        try:
            password = base64.b64decode(told[-1], validate=True).rpartition(b"\0")[2]
        except (binascii.Error, ValueError):
            return "501 5.5.2 That is no base64"
        if not hmac.compare_digest(password, self._api_key.encode()):
            return "535 5.7.8 Invalid login details"
        return "235 2.7.0 Welcome"

    def _envelope(self, verb: str, rest: str) -> str:
        if self._tls:
            return "530 5.7.0 Issue STARTTLS first"
        found = _path(rest)
        if found is None:
            return "501 5.5.4 Write an address in angle brackets"
        if verb == "MAIL":
            self._sender, self._to = found[1], ""
        elif self._sender is None:
            return "503 5.5.1 Name the sender first"
        else:
            self._to = found[1]
        return "250 2.1.0 Ok"

    async def _mail(self) -> bool:
        """Takes the mail itself; False: the connection is closed instead of an answer."""
        octets = bytearray(b"\r\n" + await self._reader.readuntil(b"\n"))
        while not octets.endswith(_END):
            octets += await self._reader.readuntil(b"\n")
            if len(octets) > MAIL_BYTES_MAX:
                return False
        mail = bytes(octets[2 : -len(_END) + 2]).replace(b"\r\n..", b"\r\n.")
        to, self._sender, self._to = self._to, None, ""
        reply = await self._taken(mail, to)
        if reply is None:
            return False
        self._runtime.count(COUNTED_AS, reply.outcome or str(reply.status))
        self._writer.write(
            b"%d %b\r\n" % (reply.status, reply.body) if reply.status else b"hm?\r\n"
        )
        return True

    async def _taken(self, mail: bytes, to: str) -> Reply | None:
        runtime = self._runtime
        channel = _SERVICE.channels[0]
        try:
            sending = _SERVICE.read_send(channel, mail, to)
        except Unreadable as fault:
            return Reply(550, fault.sentence.encode())
        handled = runtime.handling(sending.orders[0].destinations[0].message_id)
        if handled.fate == "lost":
            runtime.count(COUNTED_AS, "lost")
            return None
        runtime.offered(channel, 1)
        if handled.fate == "throttled" or runtime.above_rate(channel, 1):
            return Reply(451, b"4.7.0 Too many mails: slow down")
        broken = handled.fate == "broken"
        if runtime.book_full or (broken and not runtime.knobs.server_error_accepts):
            return Reply(451, b"4.3.0 Something went wrong")
        sent = runtime.accept(_SERVICE, channel, sending, 1)
        await runtime.push_first(sent.early)
        if handled.answer_ms:
            await asyncio.sleep(handled.answer_ms / 1000)
        if handled.fate == "answer-lost" or broken:  # a refusal would be believed
            runtime.count(COUNTED_AS, "answer-lost")
            return None
        if handled.fate == "garbage":
            return Reply(0, b"", outcome="garbage")
        return sent.answer

"""Sessions on framed TCP: client and server of asyncio, on lines or on messages behind their length.

    client = TcpClient(("127.0.0.1", 5027), Lines())
    server = TcpServer(handler, Lines())
    await server.listen("127.0.0.1", 5027)

Whether a message is text or binary is not on the wire: here everything received is bytes.
"""

import asyncio
import sys
from types import SimpleNamespace

from asyncio_client import Client
from asyncio_server import Server, ServerSession
from session import MESSAGE_LIMIT


class TooLarge(EOFError):
    sent, rcvd_then_sent = SimpleNamespace(code=1009), False  # as the failures of `websockets` say it


class Lines:
    """A line feed ends a message. None can hold one, and a carriage return at its end would not be received."""

    def check(self, message):
        if b"\n" in raw(message) or raw(message).endswith(b"\r"):
            raise ValueError("a line cannot hold a line feed, nor end with a carriage return")

    def encode(self, message):
        return message + b"\n"

    def decode(self, buffer):
        """The first message of the buffer, which is taken out of it, or None."""
        end = buffer.find(b"\n")
        if end < 0:
            return None
        message = bytes(buffer[:end])
        del buffer[: end + 1]
        return message.removesuffix(b"\r")


class Length:
    """A length of 2, 4 or 8 bytes, big-endian and not counting itself, comes before a message."""

    def __init__(self, size=4):
        self.size = size

    def check(self, message):
        if len(raw(message)) + 1 >= 256**self.size:
            raise ValueError("the length does not fit its prefix")

    def encode(self, message):
        return len(message).to_bytes(self.size, "big") + message

    def decode(self, buffer):
        end = self.size + int.from_bytes(buffer[: self.size], "big")
        if len(buffer) < max(end, self.size):
            if end - self.size > MESSAGE_LIMIT + 1:
                raise TooLarge
            return None
        message = bytes(buffer[self.size : end])
        del buffer[:end]
        return message


def raw(message):
    return message.encode() if isinstance(message, str) else bytes(message)


class Link:
    """A connection with what client and server use of one of `websockets`."""

    subprotocol = "everlink.1"  # agreed on by both ends' settings
    request = SimpleNamespace(path="")  # there are no paths

    def __init__(self, reader, writer, framing):
        self.reader, self.writer, self.framing = reader, writer, framing
        self.transport = writer.transport
        self.buffer = bytearray()

    async def send(self, message):
        self.writer.write(self.framing.encode(raw(message)))
        await self.writer.drain()

    async def recv(self):
        while (message := self.framing.decode(self.buffer)) is None:
            if len(self.buffer) > MESSAGE_LIMIT + 9:
                raise TooLarge
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            self.buffer += data
        # what a session says itself is text
        return message.decode("utf-8", "replace") if message[:1] in (b"s", b"r", b"a", b"g", b"e") else message

    async def close(self, code=1000, reason=""):
        """Ends the stream, and reads what still comes: otherwise a reset could destroy what was sent."""
        self.writer.write_eof()
        try:
            async with asyncio.timeout(1):
                while await self.reader.read(65536):
                    pass
        except (OSError, TimeoutError):
            pass


class TcpClient(Client):
    def __init__(self, address, framing, **times):
        super().__init__("", **times)
        self.address, self.framing, self.check = address, framing, framing.check

    async def dial(self):
        return Link(*await asyncio.open_connection(*self.address), self.framing)


class TcpSession(ServerSession):
    def check(self, message):
        self.server.framing.check(message)


class TcpServer(Server):
    session_type = TcpSession

    def __init__(self, handler, framing, **times):
        super().__init__(handler, **times)
        self.framing = framing

    async def listen(self, host, port):
        async def link(reader, writer):
            await self.link(Link(reader, writer, self.framing))

        return await asyncio.start_server(link, host, port)


if __name__ == "__main__":
    import workload

    # tcp.py server lines, tcp.py client lines tcp://127.0.0.1:5027; and "length"
    role, framing = sys.argv.pop(1), {"lines": Lines, "length": Length}[sys.argv.pop(1)]()

    def client(url):
        host, port = url.removeprefix("tcp://").split(":")
        return TcpClient((host, int(port)), framing, **workload.TIMES)

    async def listen(handler):
        listening = await TcpServer(handler, framing, **workload.SERVER_TIMES).listen("127.0.0.1", 0)
        return f"tcp://127.0.0.1:{listening.sockets[0].getsockname()[1]}"

    workload.run_client(client, is_tcp=True) if role == "client" else workload.run_server(listen, is_tcp=True)

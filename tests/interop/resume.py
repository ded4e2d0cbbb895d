"""Either end of a session that survives its connection, written by the document alone: src/resume/PROTOCOL.md.

    resume.py client URL COUNT CUTS     COUNT messages each way, and CUTS connections thrown away
    resume.py server COUNT              the same for each session, on a port that it prints
"""

import asyncio
import random
import secrets
import struct
import sys
from collections import deque

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import Frame, Opcode

HEADER = "Everlink-Resume"
MARK = b"ELR1"
UNCONFIRMED = 64


class Session:
    def __init__(self, count):
        self.token = None
        self.sent = self.received = self.confirmed = 0
        self.queue = deque(f"{number} from python" for number in range(count))
        self.kept = deque()
        self.inbox = []
        self.parts = []
        self.changed = asyncio.Event()
        self.connection = None

    def report(self):
        return MARK + struct.pack(">Q", self.received)

    def came(self, frame):
        """A frame has come: counting, and what confirms."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self.parts.append(bytes(frame.data))
            if frame.fin:
                self.received += 1
                self.inbox.append(b"".join(self.parts).decode())
                self.parts = []
                self.changed.set()
        elif frame.opcode is Opcode.PONG and len(frame.data) == 12 and frame.data[:4] == MARK:
            self.confirm(struct.unpack(">Q", frame.data[4:])[0])

    def confirm(self, received):
        assert received <= self.sent, "a report above what was sent"
        self.confirmed = max(self.confirmed, received)
        while self.kept and self.kept[0][0] <= received:
            self.kept.popleft()
        self.changed.set()

    def resume(self, received):
        """The peer has so many: the rest goes first, with new positions."""
        assert self.confirmed <= received <= self.sent
        self.confirm(received)
        self.queue.extendleft(message for _, message in reversed(self.kept))
        self.kept.clear()
        self.sent = self.confirmed = received
        self.parts = []

    def is_done(self, count):
        return len(self.inbox) >= count and not self.queue and not self.kept

    async def run(self, connection):
        """Writes and reads until the connection is gone."""
        self.connection = connection
        writing = asyncio.create_task(self.write(connection))
        try:
            async for _ in connection:
                pass
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def write(self, connection):
        while True:
            asked = True
            while self.queue and len(self.kept) < UNCONFIRMED:
                message = self.queue.popleft()
                self.sent += 1
                self.kept.append((self.sent, message))
                await connection.send(message)
                asked = False
            if not asked:
                # a ping, so that a report comes before its pong
                await connection.ping()
            self.changed.clear()
            if not self.queue or len(self.kept) >= UNCONFIRMED:
                await self.changed.wait()


class Counted:
    """Counts frames where the library decodes them, and has a report go before each pong and
    before the close frame."""

    session = None

    def count_frames(self):
        recv_frame, send_frame = self.protocol.recv_frame, self.protocol.send_frame

        def recv(frame):
            if self.session:
                self.session.came(frame)
            recv_frame(frame)

        def send(frame):
            is_report = frame.data[:4] == MARK
            if self.session and frame.opcode in (Opcode.PONG, Opcode.CLOSE) and not is_report:
                send_frame(Frame(Opcode.PONG, self.session.report()))
            send_frame(frame)

        self.protocol.recv_frame, self.protocol.send_frame = recv, send


class Client(Counted, ClientConnection):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.count_frames()


class Server(Counted, ServerConnection):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.count_frames()


def parameters(value):
    """The first part of the header, and the others by name."""
    first, *others = value.split(";")
    return first, dict(part.strip().split("=", 1) for part in others)


async def client(url, count, cuts):
    session = Session(count)
    cut = resumed = 0
    is_closed = False
    while not is_closed:
        offer = "new"
        if session.token:
            offer = f"{session.token}; received={session.received}"

        def create(*args, **kwargs):
            connection = Client(*args, **kwargs)
            connection.session = session
            return connection

        options = {"additional_headers": {HEADER: offer}, "create_connection": create}
        try:
            connection = await connect(url, compression=None, **options)
        except (OSError, InvalidHandshake, EOFError):
            continue
        token, others = parameters(connection.response.headers[HEADER])
        if "received" in others:
            assert token == session.token
            session.resume(int(others["received"]))
            resumed += 1
        else:
            assert session.token is None, "the session was lost"
            session.token = token
        running = asyncio.create_task(session.run(connection))
        await connection.pong(session.report())
        if cut < cuts:
            await asyncio.sleep(random.random() / 50)
            connection.transport.abort()
            cut += 1
        else:
            while not session.is_done(count) and not running.done():
                await asyncio.sleep(0.01)
            if session.is_done(count):
                await connection.close()
                is_closed = True
        await asyncio.gather(running, return_exceptions=True)
    in_order = session.inbox == [f"{number} from rust" for number in range(count)]
    print(f"{in_order} {cut} {resumed}", flush=True)


async def server(count):
    sessions = {}

    async def process_request(connection, request):
        offers = request.headers.get_all(HEADER)
        if len(offers) != 1:
            return
        token, others = parameters(offers[0])
        session = sessions.get(token)
        received = int(others.get("received", -1))
        if session and session.confirmed <= received <= session.sent:
            # the old link ends first
            old = session.connection
            old.transport.abort()
            await old.wait_closed()
            session.resume(received)
            connection.answer = f"{token}; window=60; received={session.received}"
        else:
            session, token = Session(count), secrets.token_urlsafe(18)
            sessions[token] = session
            connection.answer = f"{token}; window=60"
        session.connection = connection
        connection.session = session

    def process_response(connection, request, response):
        if connection.session:
            response.headers[HEADER] = connection.answer

    async def handler(connection):
        session = connection.session
        try:
            await session.run(connection)
        except ConnectionClosed:
            pass
        if session.is_done(count):
            in_order = session.inbox == [f"{number} from rust" for number in range(count)]
            print(f"{in_order} {len(sessions)}", flush=True)

    hooks = {"process_request": process_request, "process_response": process_response}
    options = {"create_connection": Server, "compression": None, **hooks}
    async with serve(handler, "127.0.0.1", 0, **options) as listening:
        print(listening.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


if sys.argv[1] == "client":
    asyncio.run(client(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
else:
    asyncio.run(server(int(sys.argv[2])))

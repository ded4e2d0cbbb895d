"""A proxy that breaks connections at seeded places, until its faults are used up; then it passes bytes on.

A fault is at a byte of one direction: mostly in the middle of a message, often within offer or answer. From there on
nothing passes. Then both ends get a reset, or the end of the stream, or only the client hears of it; or nobody does,
and what was held comes late, when the client has long had another link. The client's offer may come to the server
again, once or several times, on connections of its own. The first `e` of an end may get lost, or its answer.
"""

import asyncio
import random
import socket
import struct

STALL = 2.7  # seconds: the client has another link then, and the server has not given up the old one


class FaultProxy:
    def __init__(self, port, seed, faults, ends, has_head=True):
        self.port, self.faults, self.ends, self.has_head = port, faults, ends, has_head
        self.random = random.Random(seed)
        self.lost_ends = self.random.randrange(3)
        self.done = 0
        self.tasks = set()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    def later(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, c_reader, c_writer):
        try:
            s_reader, s_writer = await asyncio.open_connection("127.0.0.1", self.port)
            await Link(self, {"c": c_reader, "s": s_reader}, {"c": s_writer, "s": c_writer}).run()
        except (OSError, asyncio.CancelledError):
            reset(c_writer)

    async def repeat(self, opening, delay):
        """A connection that the client has long given up."""
        await asyncio.sleep(delay)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(opening)
            async with asyncio.timeout(0.5):
                while await reader.read(65536):
                    pass
            writer.close()
        except (OSError, TimeoutError):
            pass


class Link:
    def __init__(self, proxy, readers, writers):
        self.proxy, self.readers, self.writers = proxy, readers, writers  # by whose bytes they carry
        self.broken = asyncio.Event()
        self.opening, self.is_answered = b"", False  # what the client sent before it was answered
        self.passed = {"c": 0, "s": 0}  # behind the head
        self.in_head = {side: proxy.has_head for side in "cs"}
        self.held = {"c": b"", "s": b""}
        draw = proxy.random
        self.side, self.how = draw.choice("cs"), draw.choice(["reset", "reset", "end", "client", "stall"])
        self.place = draw.randrange(draw.choice([2, 60, 600, 6000, 20_000, 60_000]))
        self.repeats = draw.choice([0, 0, 1, 3])
        self.has_fault = proxy.faults > 0
        proxy.faults -= 1

    async def run(self):
        passing = [asyncio.create_task(self.passes(side)) for side in "cs"]
        broken = asyncio.create_task(self.broken.wait())
        await asyncio.wait([broken, *passing], return_when="FIRST_COMPLETED")
        if self.broken.is_set():
            await self.breaks()
        else:
            await asyncio.wait(passing, timeout=2)  # the other side may still have something to say
        for task in [broken, *passing]:
            task.cancel()
        for writer in self.writers.values():
            reset(writer)

    async def breaks(self):
        proxy = self.proxy
        proxy.done += 1
        for _ in range(self.repeats):
            proxy.later(proxy.repeat(self.opening, proxy.random.uniform(0, 0.6)))
        if self.how == "stall":
            await asyncio.sleep(STALL)
            for side, writer in self.writers.items():
                writer.write(self.held[side])
            await asyncio.sleep(0.1)
        elif self.how == "end":
            for writer in self.writers.values():
                writer.close()
            await asyncio.sleep(0.05)
        else:
            await asyncio.sleep(0.05)
            if self.how == "client":
                reset(self.writers["s"])
                await asyncio.sleep(0.5)

    async def passes(self, side):
        reader, writer = self.readers[side], self.writers[side]
        try:
            while data := await reader.read(65536):
                writer.write(self.let_through(side, data))
                await writer.drain()
            if not self.broken.is_set():
                writer.write_eof()
        except OSError:
            pass

    def let_through(self, side, data):
        head = b""
        if side == "c" and not self.is_answered:
            self.opening += data
        if self.in_head[side]:
            head, end, data = data.partition(b"\r\n\r\n")
            head += end
            self.in_head[side] = not end
        if self.broken.is_set():
            self.held[side] += data
            return head
        through = len(data)
        if self.has_fault and side == self.side and self.passed[side] + through >= self.place:
            if data or not self.proxy.has_head:
                through = max(0, self.place - self.passed[side])
                self.broken.set()
        elif self.proxy.lost_ends and is_end(data) and self.may_lose_end(side):
            self.proxy.lost_ends -= 1
            through = self.proxy.random.choice([0, through]) if self.proxy.ends == "client" else 0
            self.broken.set()
        self.passed[side] += through
        self.is_answered |= side == "s" and bool(data)
        self.held[side] += data[through:]
        return head + data[:through]

    def may_lose_end(self, side):
        """A client that has answered is gone: a server whose `e` was answered in vain cannot know."""
        return side == "s" or self.proxy.ends == "client"


def is_end(data):
    """Whether there is an `e` in it, as a server sends it, or at its end, as a client does."""
    masked = data[-12:]
    return b"e 1000" in data or (
        masked[:2] == b"\x81\x86" and bytes(one ^ other for one, other in zip(masked[6:], masked[2:6] * 2)) == b"e 1000"
    )


def reset(writer):
    try:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    writer.transport.abort()

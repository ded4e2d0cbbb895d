"""A client with a session, on asyncio: src/resume/PROTOCOL.md.

    client = Client("ws://127.0.0.1:8080/")
    client.start()
    await client.send("once")
    async for message in client:  # until the session is over
        ...
    await client.close()
"""

import asyncio
import math
import random
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from session import MESSAGE_LIMIT, ClientSession, NoSession, Violation

INBOX = 256  # messages that the program has not received yet
FAILURES = (OSError, EOFError, TimeoutError, InvalidHandshake, ConnectionClosed, NoSession)


class AsyncEnd:
    """What client and server have in common, beside the counting: reading and writing."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.inbox, self.changed = [], asyncio.Event()

    async def until(self, condition):
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def send(self, message):
        """Sends a text or bytes, on this link or a later one. Waits while too much is queued."""
        await self.until(self.has_room)
        super().send(message)
        self.changed.set()

    def end(self, *arguments):
        super().end(*arguments)
        self.changed.set()

    def __aiter__(self):
        return self

    async def __anext__(self):
        await self.until(lambda: self.inbox or self.is_over())
        if not self.inbox:
            raise StopAsyncIteration
        self.changed.set()  # there is room
        return self.inbox.pop(0)

    async def live(self, link):
        """Reads and writes until the link or the session is over."""
        writer = asyncio.create_task(self.write(link))
        try:
            while not self.final:
                # a full inbox stops the reading, before anything is counted
                await self.until(lambda: len(self.inbox) < INBOX or self.link is not link)
                data = await self.hear(link)
                if self.link is not link:
                    return  # nothing is read of an older link
                message = self.take(data)
                if message is not None:
                    self.inbox.append(message)
                self.changed.set()
            await writer  # the last report, and `e`
            await link.close()
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def hear(self, link):
        """The next message. A link on which nothing comes is asked, and given up if it does not answer."""
        for _ in range(2):
            try:
                return await asyncio.wait_for(link.recv(), self.silence)
            except TimeoutError:
                self.ask()
                self.changed.set()
        raise TimeoutError("silence")

    async def write(self, link):
        while self.link is link:
            message = self.next()
            if message is not None:
                await link.send(message)
            elif self.final:
                return
            else:
                self.changed.clear()
                await self.changed.wait()

    def failed(self, failure):
        """If this end's library has closed the link for a message over the limit: that would come again for ever."""
        closed = getattr(failure, "sent", None)
        if closed and closed.code == 1009 and not failure.rcvd_then_sent:
            self.refuse(1009, "message too large")


class Client(AsyncEnd, ClientSession):
    def __init__(self, url, name="", delay=1.0, most=30.0, stable=10.0, silence=20.0, opening=10.0, extensions=None):
        super().__init__()
        self.url, self.protocol = url, f"everlink.1.{name}" if name else "everlink.1"
        self.delay, self.most, self.stable = delay, most, stable  # seconds
        self.silence, self.opening = silence, opening
        self.extensions = extensions  # those of deflate.py, or none
        self.replaced = 0  # so often the session was over without `e`, and another one began

    def start(self):
        self.running = asyncio.create_task(self.run())

    async def close(self, code=1000, reason="", timeout=30):
        """Ends the session after what is queued. Returns whether the server has heard it."""
        self.end(code, reason)
        if self.token or self.pending:
            await asyncio.wait([self.running], timeout=timeout)
        self.running.cancel()
        return self.final is not None

    async def run(self):
        failures = 0
        while not self.final:
            up_since = math.inf
            try:
                link = await self.dial()
                try:
                    await link.send(self.offer())
                    self.was_replaced(self.answered(link, await asyncio.wait_for(link.recv(), self.opening)))
                    up_since = time.monotonic()
                    await self.live(link)
                except Violation:
                    self.was_replaced(self.replace())
                    await link.close(1002)
                finally:
                    self.link = None
                    link.transport.abort()
            except FAILURES as failure:
                self.failed(failure)
            if not self.final:
                # an answer alone is no success: delays begin anew when a link has stayed up for a while
                failures = 0 if time.monotonic() - up_since > self.stable else failures
                # full jitter: many clients that lose a server do not come back together
                await asyncio.sleep(random.random() * min(self.most, self.delay * 2**failures))
                failures += 1

    async def dial(self):
        # this library's own compression keeps a context (rule 9)
        options = {"compression": None, "extensions": self.extensions, "max_size": MESSAGE_LIMIT + 1, "close_timeout": 1}
        link = await connect(self.url, subprotocols=[self.protocol], open_timeout=self.opening, **options)
        if link.subprotocol != self.protocol:
            link.transport.abort()
            raise NoSession("the server has no sessions")
        return link

    def was_replaced(self, in_doubt):
        """A program would look at what is in doubt: the server may have received it or not."""
        self.replaced += in_doubt is not None


if __name__ == "__main__":
    import deflate
    import workload

    extensions = deflate.CLIENT if workload.arguments().compress else None
    workload.run_client(lambda url: Client(url, extensions=extensions, **workload.TIMES))

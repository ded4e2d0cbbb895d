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

from asyncio_end import FAILURES, AsyncEnd
from session import MESSAGE_LIMIT, ClientSession, NoSession, Violation


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
        options = {"compression": None, "extensions": self.extensions}
        options |= {"max_size": MESSAGE_LIMIT + 1, "close_timeout": 1}
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

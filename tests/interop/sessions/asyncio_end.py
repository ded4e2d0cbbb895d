"""What client and server have in common on asyncio, beside the counting: reading and writing."""

import asyncio

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from session import NoSession

INBOX = 256  # messages that the program has not received yet
FAILURES = (OSError, EOFError, TimeoutError, InvalidHandshake, ConnectionClosed, NoSession)


class AsyncEnd:
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
        """A message over the limit, for which this library has closed the link, would come again for ever."""
        closed = getattr(failure, "sent", None)
        if closed and closed.code == 1009 and not failure.rcvd_then_sent:
            self.refuse(1009, "message too large")

"""A server with sessions, on asyncio: src/resume/PROTOCOL.md.

    async def handler(session):  # runs once for each session, however many links it takes
        async for message in session:
            await session.send(message)

    server = Server(handler)
    async with serve(server.link, "127.0.0.1", 8080, **server.options()):
        ...
"""

import asyncio

from websockets.asyncio.server import serve

from asyncio_end import FAILURES, AsyncEnd
from session import MESSAGE_LIMIT, NoSession, Session, Table, Violation

OPENING = 10  # seconds for the offer


class ServerSession(AsyncEnd, Session):
    """What a handler has."""

    def __init__(self, server, *arguments):
        super().__init__(*arguments)
        self.server, self.silence = server, server.silence

    def attach(self, link, *arguments, **more):
        if self.link:
            self.link.transport.abort()
        super().attach(link, *arguments, **more)

    def take(self, data):
        had_reported = self.has_reported
        message = super().take(data)
        if self.has_reported and not had_reported:
            self.server.start(self)
        return message


class Server:
    session_type = ServerSession

    def __init__(self, handler, name="", window=120.0, silence=20.0, most=1000, extensions=None):
        self.handler, self.window, self.silence = handler, window, silence
        self.extensions = extensions  # those of deflate.py, or none
        self.protocol = f"everlink.1.{name}" if name else "everlink.1"
        self.table = Table(lambda *arguments: self.session_type(self, *arguments), most)
        self.handlers = set()

    def options(self):
        def select(link, offered):
            return self.protocol if self.protocol in offered else None

        # this library's own compression keeps a context (rule 9)
        options = {"select_subprotocol": select, "compression": None, "extensions": self.extensions}
        return options | {"max_size": MESSAGE_LIMIT + 1, "close_timeout": 1}

    async def link(self, link):
        """Serves one link, from its offer to its end."""
        if link.subprotocol != self.protocol:
            return await link.close(1002, "sessions only")
        session = None
        try:
            offer = await asyncio.wait_for(link.recv(), OPENING)
            session = self.table.claim(link, offer, link.request.path.partition("?")[0])
            session.changed.set()
            await session.live(link)
        except Violation as violation:
            self.forget(session)
            await link.close(1002, str(violation))
        except NoSession as refused:
            await link.close(refused.code, str(refused))
        except FAILURES as failure:
            if session:
                session.failed(failure)
        finally:
            link.transport.abort()
            if session and session.link is link:
                self.table.lost(session)
                asyncio.get_running_loop().call_later(self.window, self.window_is_over, session, session.links)

    def window_is_over(self, session, links):
        if session.links == links:
            self.forget(session)

    def forget(self, session):
        self.table.forget(session)
        session.changed.set()

    def start(self, session):
        task = asyncio.create_task(self.handle(session))
        self.handlers.add(task)
        task.add_done_callback(self.handlers.discard)

    async def handle(self, session):
        """The program's part: the session ends when it returns."""
        code = 1011
        try:
            await self.handler(session)
            code = 1000
        finally:
            session.end(code)


if __name__ == "__main__":
    import deflate
    import workload

    async def listen(handler):
        extensions = deflate.SERVER if workload.arguments().compress else None
        server = Server(handler, extensions=extensions, **workload.SERVER_TIMES)
        listening = await serve(server.link, "127.0.0.1", 0, **server.options())
        return f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"

    workload.run_server(listen)

"""A server with sessions, on threads: src/resume/PROTOCOL.md.

    def handler(session):  # runs once for each session, however many links it takes
        for message in session:
            session.send(message)

    server = Server(handler)
    with serve(server.link, "127.0.0.1", 8080, **server.options()) as listening:
        listening.serve_forever()
"""

import threading

from websockets.sync.server import serve

from session import MESSAGE_LIMIT, NoSession, Session, Table, Violation
from threads_end import FAILURES, ThreadEnd, abort

OPENING = 10  # seconds for the offer


class Server:
    def __init__(self, handler, name="", window=120.0, silence=20.0, most=1000, extensions=None):
        self.handler, self.window, self.silence = handler, window, silence
        self.extensions = extensions  # those of deflate.py, or none
        self.protocol = f"everlink.1.{name}" if name else "everlink.1"
        self.lock = threading.RLock()  # of the table and of every session
        self.table = Table(lambda token, path: ServerSession(self, token, path), most)

    def options(self):
        def select(link, offered):
            return self.protocol if self.protocol in offered else None

        # this library's own compression keeps a context (rule 9)
        options = {"select_subprotocol": select, "compression": None, "extensions": self.extensions}
        return options | {"max_size": MESSAGE_LIMIT + 1, "close_timeout": 1}

    def link(self, link):
        """Serves one link, from its offer to its end."""
        if link.subprotocol != self.protocol:
            return link.close(1002, "sessions only")
        session = None
        try:
            offer = link.recv(OPENING)
            with self.lock:
                session = self.table.claim(link, offer, link.request.path.partition("?")[0])
                session.changed.notify_all()
            session.live(link)
        except Violation:
            self.forget(session)
        except NoSession as refused:
            link.close(refused.code, str(refused))
        except FAILURES as failure:
            with self.lock:
                if session:
                    session.failed(failure)
        finally:
            abort(link)
            with self.lock:
                if session and session.link is link:
                    self.table.lost(session)
                    session.changed.notify_all()
                    waiting = threading.Timer(self.window, self.window_is_over, [session, session.links])
                    waiting.daemon = True
                    waiting.start()

    def window_is_over(self, session, links):
        with self.lock:
            if session.links == links:
                self.forget(session)

    def forget(self, session):
        with self.lock:
            self.table.forget(session)
            session.changed.notify_all()

    def handle(self, session):
        """The program's part: the session ends when it returns."""
        code = 1011
        try:
            self.handler(session)
            code = 1000
        finally:
            session.end(code)


class ServerSession(ThreadEnd, Session):
    """What a handler has."""

    def __init__(self, server, *arguments):
        super().__init__(*arguments, lock=server.lock)
        self.server, self.silence = server, server.silence

    def attach(self, link, *arguments, **more):
        if self.link:
            abort(self.link)
        super().attach(link, *arguments, **more)

    def take(self, data):
        had_reported = self.has_reported
        message = super().take(data)
        if self.has_reported and not had_reported:
            threading.Thread(target=self.server.handle, args=[self], name="handler", daemon=True).start()
        return message


if __name__ == "__main__":
    import deflate
    import workload

    extensions = deflate.SERVER if workload.arguments().compress else None
    server = Server(workload.handler_on_threads(), extensions=extensions, **workload.SERVER_TIMES)
    with serve(server.link, "127.0.0.1", 0, **server.options()) as listening:
        print(f"ws://127.0.0.1:{listening.socket.getsockname()[1]}", flush=True)
        listening.serve_forever()

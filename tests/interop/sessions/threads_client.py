"""A client with a session, on threads: src/resume/PROTOCOL.md.

    client = Client("ws://127.0.0.1:8080/")
    client.start()
    client.send("once")
    for message in client:  # until the session is over
        ...
    client.close()
"""

import math
import random
import socket
import threading
import time

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from session import MESSAGE_LIMIT, ClientSession, NoSession, Violation

INBOX = 256  # messages that the program has not received yet
FAILURES = (OSError, EOFError, TimeoutError, InvalidHandshake, ConnectionClosed, NoSession)


class ThreadEnd:
    """What client and server have in common, beside the counting: reading in one thread, and writing in another."""

    def __init__(self, *arguments, lock=None):
        super().__init__(*arguments)
        self.inbox = []
        self.changed = threading.Condition(lock)  # its lock protects all of a session

    def send(self, message):
        """Sends a text or bytes, on this link or a later one. Waits while too much is queued."""
        with self.changed:
            self.changed.wait_for(self.has_room)
            super().send(message)
            self.changed.notify_all()

    def end(self, *arguments):
        with self.changed:
            super().end(*arguments)
            self.changed.notify_all()

    def __iter__(self):
        return self

    def __next__(self):
        with self.changed:
            self.changed.wait_for(lambda: self.inbox or self.is_over())
            if not self.inbox:
                raise StopIteration
            self.changed.notify_all()  # there is room
            return self.inbox.pop(0)

    def live(self, link):
        """Reads and writes until the link or the session is over."""
        lost = threading.Event()
        writer = threading.Thread(target=self.write, args=[link, lost], name="writer")
        writer.start()
        try:
            while not self.final:
                # a full inbox stops the reading, before anything is counted
                with self.changed:
                    self.changed.wait_for(lambda: len(self.inbox) < INBOX or self.link is not link)
                data = self.hear(link)
                with self.changed:
                    if self.link is not link:
                        return  # nothing is read of an older link
                    message = self.take(data)
                    if message is not None:
                        self.inbox.append(message)
                    self.changed.notify_all()
            writer.join(self.silence)  # the last report, and `e`
            link.close()
        except Violation:
            link.close(1002)
            raise
        finally:
            abort(link)
            with self.changed:
                lost.set()
                self.changed.notify_all()
            writer.join()

    def hear(self, link):
        """The next message. A link on which nothing comes is asked, and given up if it does not answer."""
        for _ in range(2):
            try:
                return link.recv(self.silence)
            except TimeoutError:
                with self.changed:
                    self.ask()
                    self.changed.notify_all()
        raise TimeoutError("silence")

    def write(self, link, lost):
        while True:
            with self.changed:
                while self.link is link and not lost.is_set() and (message := self.next()) is None:
                    if self.final:
                        return
                    self.changed.wait()
                if self.link is not link or lost.is_set():
                    return
            try:
                link.send(message)
            except (OSError, ConnectionClosed):
                return abort(link)

    def failed(self, failure):
        """If this end's library has closed the link for a message over the limit: that would come again for ever."""
        closed = getattr(failure, "sent", None)
        if closed and closed.code == 1009 and not failure.rcvd_then_sent:
            self.refuse(1009, "message too large")


class Client(ThreadEnd, ClientSession):
    def __init__(self, url, name="", delay=1.0, most=30.0, stable=10.0, silence=20.0, opening=10.0, extensions=None):
        super().__init__()
        self.url, self.protocol = url, f"everlink.1.{name}" if name else "everlink.1"
        self.delay, self.most, self.stable = delay, most, stable  # seconds
        self.silence, self.opening = silence, opening
        self.extensions = extensions  # those of deflate.py, or none
        self.replaced = 0  # so often the session was over without `e`, and another one began

    def start(self):
        self.running = threading.Thread(target=self.run, name="client", daemon=True)
        self.running.start()

    def close(self, code=1000, reason="", timeout=30):
        """Ends the session after what is queued. Returns whether the server has heard it."""
        self.end(code, reason)
        self.running.join(timeout)
        return self.final is not None

    def run(self):
        failures = 0
        while not self.final:
            self.up_since = math.inf
            try:
                # this library's own compression keeps a context (rule 9)
                options = {"compression": None, "extensions": self.extensions, "max_size": MESSAGE_LIMIT + 1, "close_timeout": 1}
                with connect(self.url, subprotocols=[self.protocol], open_timeout=self.opening, **options) as link:
                    self.open(link)
            except FAILURES as failure:
                self.failed(failure)
            if not self.final:
                # an answer alone is no success: delays begin anew when a link has stayed up for a while
                failures = 0 if time.monotonic() - self.up_since > self.stable else failures
                # full jitter: many clients that lose a server do not come back together
                time.sleep(random.random() * min(self.most, self.delay * 2**failures))
                failures += 1

    def open(self, link):
        if link.subprotocol != self.protocol:
            raise NoSession("the server has no sessions")
        try:
            link.send(self.offer())
            first = link.recv(self.opening)
            with self.changed:
                self.was_replaced(self.answered(link, first))
                self.changed.notify_all()
            self.up_since = time.monotonic()
            self.live(link)
        except Violation:
            with self.changed:
                self.was_replaced(self.replace())
            link.close(1002)
        finally:
            with self.changed:
                self.link = None
            abort(link)

    def was_replaced(self, in_doubt):
        """A program would look at what is in doubt: the server may have received it or not."""
        self.replaced += in_doubt is not None


def abort(link):
    try:
        link.socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


if __name__ == "__main__":
    import deflate
    import workload

    extensions = deflate.CLIENT if workload.arguments().compress else None
    workload.run_client_on_threads(lambda url: Client(url, extensions=extensions, **workload.TIMES))

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
import threading
import time

from websockets.sync.client import connect

from session import MESSAGE_LIMIT, ClientSession, NoSession, Violation
from threads_end import FAILURES, ThreadEnd, abort


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
                options = {"compression": None, "extensions": self.extensions}
                options |= {"max_size": MESSAGE_LIMIT + 1, "close_timeout": 1}
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


if __name__ == "__main__":
    import deflate
    import workload

    extensions = deflate.CLIENT if workload.arguments().compress else None
    workload.run_client_on_threads(lambda url: Client(url, extensions=extensions, **workload.TIMES))

"""What client and server have in common on threads, beside the counting: one reads, another one writes."""

import socket
import threading

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from session import NoSession, Violation

INBOX = 256  # messages that the program has not received yet
FAILURES = (OSError, EOFError, TimeoutError, InvalidHandshake, ConnectionClosed, NoSession)


class ThreadEnd:
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
        """A message over the limit, for which this library has closed the link, would come again for ever."""
        closed = getattr(failure, "sent", None)
        if closed and closed.code == 1009 and not failure.rcvd_then_sent:
            self.refuse(1009, "message too large")


def abort(link):
    try:
        link.socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass

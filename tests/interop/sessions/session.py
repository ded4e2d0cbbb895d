"""Sessions by src/resume/PROTOCOL.md, without any I/O: both ends' counting, and a server's table.

`take` is told each message that came on the link, `next` says which one is to be written now. A program that has
several threads calls all of it under one lock.
"""

import re
import secrets

MESSAGE_LIMIT = 16 * 1024 * 1024  # bytes of a program's message; that of the link is one more
UNCONFIRMED = 256  # so many messages are on their way at most
QUEUED = 256  # so many wait behind them, before `send` waits

NUMBER = r"([0-9]{1,15})"
TOKEN = r"([A-Za-z0-9_-]{22,64})"
PARAMS = r"(?: [A-Za-z0-9_-]+=[!-~]*)*"
OFFER = re.compile(f"s (?:new|{TOKEN} attempt={NUMBER} received={NUMBER}(?: has={NUMBER})?){PARAMS}")
ANSWER = re.compile(f"s {TOKEN} received={NUMBER}(?: has={NUMBER})?{PARAMS}")
END = re.compile(r"e [0-9]{4}(?: [^\x00-\x1f\x7f-\x9f]*)?")


class Violation(Exception):
    """The peer broke the protocol: close with 1002, the session is over."""


class NoSession(Exception):
    """No session was begun or resumed on this link. The client keeps its own, and tries again."""

    def __init__(self, why, code=1000):
        super().__init__(why)
        self.code = code


class Session:
    """One end's numbers, and what it keeps."""

    def __init__(self, token=None, path=None):
        self.path = path
        self.pending = []  # with their `m`, not confirmed: the first has number `confirmed + 1`
        self.ending = None  # (code, reason): this end wants to end the session
        self.final = None  # (code, reason): the peer has said `e`, the session is over
        self.is_forgotten = False  # by the server, without an `e`
        self.links = 0
        self.begin(token)

    def begin(self, token):
        self.token, self.attempt = token, 0
        self.sent = self.confirmed = self.received = 0
        self.link = None  # the present one: of an older one nothing is read
        self.has_reported = False  # the client has said `r`: a server's handler may start
        self.is_mute = False  # this end has said `e`: it counts nothing any more

    # what the program asks for

    def has_room(self):
        return len(self.pending) < UNCONFIRMED + QUEUED or self.is_over()

    def is_over(self):
        return bool(self.final or self.is_forgotten)

    def send(self, message):
        if self.ending or self.is_over():
            raise EOFError("the session is closed")
        self.check(message)
        self.pending.append(mark("m", message))

    def check(self, message):
        """Raises if no link can carry it: once it had a number, it would block the session."""

    def beat(self, message):
        """Sends outside of the count: on this link, if there is one, and not again."""
        if self.link and self.has_reported and not self.has_said_end:
            self.out.append(mark("x", message))

    def end(self, code=1000, reason=""):
        """Ends the session after what is queued."""
        if not is_end(f"e {code} {reason}"):
            raise ValueError("a code of 4 digits, a reason of one line and 123 bytes")
        self.ending = self.ending or (code, reason)

    def refuse(self, code, reason):
        """Ends the session without what is queued."""
        self.is_mute, self.pending = True, []
        self.end(code, reason)

    # a link begins

    def fits(self, received, has):
        return self.confirmed <= received <= has <= self.sent

    def attach(self, link, received, has, first, expects_report):
        """The peer counts up to `received`, and has up to `has`."""
        self.confirm(received)
        self.link, self.links = link, self.links + 1
        self.at = has  # up to here all is written on this link, or need not be
        self.out = [first]  # what goes before anything else
        self.asked_at, self.is_asking, self.has_said_end = -1, False, False
        self.expects_report = expects_report

    # a link lives

    def take(self, data):
        """One message came. Returns it if it is one for the program, else None."""
        text = data if isinstance(data, str) else ""
        kind = data[:1] if isinstance(data, str) else data[:1].decode("latin-1")
        if self.expects_report and kind != "r":
            raise Violation("the first message after an answer is no report")
        if kind == "m":
            return data[1:] if self.count(1) else None
        if kind == "x":
            self.beaten(data[1:])
        elif re.fullmatch(f"g {NUMBER}", text):
            self.count(int(text[2:]))
        elif re.fullmatch(f"r {NUMBER}", text) and int(text[2:]) <= self.at:
            self.is_asking, self.expects_report, self.has_reported = False, False, True
            self.confirm(int(text[2:]))
        elif text == "a":
            if not self.has_said_end:
                self.out.append(f"r {self.received}")
        elif is_end(text):
            self.final = self.ending or (int(text[2:6]), text[7:])
            self.say_end()
        else:
            raise Violation("not a message of this session, or a report of more than was sent")
        return None

    def beaten(self, message):
        """A message outside of the count came."""

    def next(self):
        """The message to write now, or None."""
        may_write = self.has_reported and not self.has_said_end
        position = self.at - self.confirmed
        if self.out:
            return self.out.pop(0)
        if may_write and position < min(len(self.pending), UNCONFIRMED):
            self.at += 1
            self.sent = max(self.sent, self.at)
            return self.pending[position]
        if may_write and self.ending and position >= len(self.pending):
            self.say_end()
            return self.out.pop(0)
        if may_write and self.sent > self.confirmed and self.at > self.asked_at and not self.is_asking:
            self.is_asking, self.asked_at = True, self.at
            return "a"
        return None

    def ask(self):
        """Nothing has come for a while."""
        if self.has_reported and not self.has_said_end:
            self.out.append("a")

    # its own

    def count(self, more):
        """Whether it is counted: after its own `e` an end counts nothing any more."""
        if not self.is_mute:
            self.received += more
        if self.received >= 10**15:
            raise Violation("a number of 16 digits")
        return not self.is_mute

    def confirm(self, number):
        if number > self.confirmed:
            del self.pending[: number - self.confirmed]
            self.confirmed = number

    def say_end(self):
        if not self.has_said_end:
            code, reason = self.final or self.ending
            self.is_mute = self.has_said_end = True
            self.out += [f"r {self.received}", f"e {code} {reason}".rstrip()]


class ClientSession(Session):
    def offer(self):
        if not self.token:
            return "s new"
        self.attempt += 1
        return f"s {self.token} attempt={self.attempt} received={self.received}"

    def answered(self, link, first):
        """The session goes on, or another one begins in its place: then this returns what is in doubt."""
        answer = ANSWER.fullmatch(first if isinstance(first, str) else "")
        if not answer:
            raise NoSession("the first message is no answer")
        token, received, has = answer[1], int(answer[2]), int(answer[3] or answer[2])
        in_doubt = None if token == self.token else self.replace(token)
        if not self.fits(received, has):
            raise Violation("an answer out of range")
        self.attach(link, received, has, f"r {self.received}", expects_report=False)
        self.has_reported = True
        return in_doubt

    def replace(self, token=None):
        """What was never written goes on in the new session. Returns the rest, if there was a session."""
        in_doubt, self.pending = self.pending[: self.sent - self.confirmed], self.pending[self.sent - self.confirmed :]
        had_session = self.token is not None
        self.begin(token)
        return [message[1:] for message in in_doubt] if had_session else None


class Table:
    """The sessions of a server."""

    def __init__(self, new_session=Session, most=1000):
        self.new_session, self.most = new_session, most
        self.sessions = {}  # those that wait are behind those that have waited longer

    def claim(self, link, offer, path):
        """The session that an offer resumes, or a new one. A claim that does not fit changes nothing."""
        offer = OFFER.fullmatch(offer if isinstance(offer, str) else "")
        if not offer:
            raise NoSession("the first message is no offer", 1002)
        session = self.sessions.get(offer[1])
        if session and session.path == path and int(offer[2]) > session.attempt:
            received, has = int(offer[3]), int(offer[4] or offer[3])
            if session.fits(received, has):
                session.attempt = int(offer[2])
                return self.begin(session, link, received, has)
        if len(self.sessions) >= self.most:
            self.make_room()
        session = self.new_session(secrets.token_urlsafe(18), path)
        self.sessions[session.token] = session
        return self.begin(session, link, 0, 0)

    def begin(self, session, link, received, has):
        session.attach(link, received, has, f"s {session.token} received={session.received}", expects_report=True)
        if session.final:
            session.say_end()  # again: the last one was lost
        return session

    def make_room(self):
        """Those that have never reported go first, then the one that has waited longest."""
        waiting = [session for session in self.sessions.values() if not session.link]
        if not waiting:
            raise NoSession("full", 1013)  # and no answer: the client tries again
        self.forget(min(waiting, key=lambda session: session.has_reported))

    def lost(self, session):
        """Its link is lost: it waits."""
        session.link = None
        self.sessions[session.token] = self.sessions.pop(session.token)

    def forget(self, session):
        self.sessions.pop(session.token, None)
        session.is_forgotten, session.link = True, None


def mark(kind, message):
    return kind + message if isinstance(message, str) else kind.encode() + bytes(message)


def is_end(text):
    return bool(END.fullmatch(text)) and len(text[7:].encode()) <= 123

"""What a program under test sends and expects: WORKLOAD.md."""

import argparse
import asyncio
import faulthandler
import inspect
import json
import random
import sys

TIMES = {"delay": 0.05, "most": 0.4, "stable": 1.0, "silence": 1.0, "opening": 2.0}  # seconds
SERVER_TIMES = {"window": 30.0, "silence": 1.0}
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
LARGEST = 300 * 1024


class Fault(Exception):
    pass


def message(index, size, direction):
    if index % 97 == 0:
        return b"" if index % 3 == 0 else ""
    words = f"{index} {{}} {direction} "
    while size < len(words.format(size)):
        size = len(words.format(size))
    words = words.format(size)
    text = words + (ALPHABET * (size // 26 + 2))[index % 26 :][: size - len(words)]
    return text.encode() if index % 3 == 0 else text


class Workload:
    def __init__(self, direction, options, is_tcp=False):
        self.direction, self.count, self.is_tcp = direction, options.count, is_tcp
        self.random = random.Random(f"{direction}{options.seed}")
        self.received, self.fault = 0, None
        self.twice = self.lost = 0

    def messages(self):
        for index in range(1, self.count + 1):
            most = self.random.choices([200, 8192, LARGEST], [90, 9, 1])[0]
            yield message(index, self.random.randrange(most), self.direction)

    async def send_all(self, end):
        for each in self.messages():
            await end.send(each)

    def send_all_now(self, end):
        for each in self.messages():
            end.send(each)

    def is_complete(self):
        return self.received == self.count

    def take(self, data):
        index = self.received + 1
        text = data if isinstance(data, str) else data.decode()
        said = text.split(" ", 2)
        if not text:
            expected = message(97 if isinstance(data, str) else 291, 0, "")
            is_next = index % 97 == 0
        else:
            was, size = int(said[0]), int(said[1])
            self.twice += was < index
            self.lost += max(0, was - index)
            expected = message(was, size, "s" if self.direction == "c" else "c")
            is_next = was == index
        if self.is_tcp:
            expected = expected if isinstance(expected, bytes) else expected.encode()
        if not is_next or data != expected or (not self.is_tcp and isinstance(data, bytes) != (index % 3 == 0)):
            self.fault = self.fault or f"in place of message {index} came {text[:40]!r}, {len(data)} bytes"
        self.received = index

    def ended(self, session, sessions):
        if not session.final:
            self.fault = self.fault or "no end"
        if session.pending or not self.is_complete() or sessions != 1:
            self.fault = self.fault or f"{len(session.pending)} unconfirmed"
        return json.dumps(
            {"received": self.received, "twice": self.twice, "lost": self.lost, "links": session.links}
            | {"sessions": sessions, "fault": self.fault}
        )


def run(main):
    """Runs a program, a client's with its timeout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=120)
    options = parser.parse_args()
    if options.url:
        faulthandler.dump_traceback_later(options.timeout, exit=True)
    line = asyncio.run(main(options)) if inspect.iscoroutinefunction(main) else main(options)
    print(line, flush=True)
    sys.exit(json.loads(line)["fault"] is not None)

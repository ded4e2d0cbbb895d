"""What a program under test sends and expects: WORKLOAD.md."""

import argparse
import asyncio
import faulthandler
import json
import random
import sys
import threading

TIMES = {"delay": 0.05, "most": 0.4, "stable": 1.0, "silence": 1.0, "opening": 2.0}  # seconds
SERVER_TIMES = {"window": 30.0, "silence": 3.0}
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def message(index, size, direction):
    words = f"{index} {{}} {direction} "
    while size < len(words.format(size)):
        size = len(words.format(size))
    words = words.format(size)
    text = words + (ALPHABET * (size // 26 + 2))[index % 26 :][: size - len(words)]
    text = "" if index % 97 == 0 else text
    return text.encode() if index % 3 == 0 else text


class Workload:
    def __init__(self, direction, options, is_tcp=False):
        self.direction, self.count, self.is_tcp = direction, options.count, is_tcp
        self.random = random.Random(f"{direction}{options.seed}")
        self.index = self.received = self.twice = self.lost = 0
        self.fault = None

    def messages(self):
        for index in range(1, self.count + 1):
            most = self.random.choices([200, 8192, 300 * 1024], [90, 9, 1])[0]
            yield message(index, self.random.randrange(most), self.direction)

    def is_complete(self):
        return self.index == self.count

    def take(self, data):
        following = self.index + 1
        text = data if isinstance(data, str) else data.decode()
        index, size = map(int, text.split(" ", 2)[:2]) if text else (following, 0)
        expected = message(index, size, "s" if self.direction == "c" else "c")
        if self.is_tcp and isinstance(expected, str):
            expected = expected.encode()
        if index != following or data != expected:
            self.fault = self.fault or f"in place of message {following} came {text[:40]!r}, {len(data)} bytes"
        self.received += 1
        self.twice += index < following
        self.lost += max(0, index - following)
        self.index = max(self.index, index)

    def ended(self, session, sessions):
        """The line that says how it was."""
        if not session.final:
            self.fault = self.fault or "no end"
        if session.pending or not self.is_complete() or sessions != 1:
            self.fault = self.fault or f"{len(session.pending)} unconfirmed"
        return json.dumps(
            {"received": self.received, "twice": self.twice, "lost": self.lost, "links": session.links}
            | {"sessions": sessions, "fault": self.fault}
        )


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--ends", choices=["client", "server"], default="client")
    parser.add_argument("--compress", action="store_true")
    options = parser.parse_args()
    if options.url:
        faulthandler.dump_traceback_later(options.timeout, exit=True)
    return options


def run_client(make, is_tcp=False):
    async def main():
        options = arguments()
        work, client = Workload("c", options, is_tcp), make(options.url)
        client.start()
        sending = asyncio.create_task(send_all(work, client))
        async for each in client:
            work.take(each)
            if work.is_complete() and options.ends == "client":
                break
        await sending
        await client.until(lambda: not client.pending or client.is_over())
        await client.close()
        finish(work, client)

    asyncio.run(main())


def run_server(listen, is_tcp=False):
    options, sessions = arguments(), []

    async def handler(session):
        sessions.append(session)
        work = Workload("s", options, is_tcp)
        sending = asyncio.create_task(send_all(work, session))
        async for each in session:
            work.take(each)
            if work.is_complete() and options.ends == "server":
                await sending
                await session.until(lambda: not session.pending or session.is_over())
                session.end()
        await sending
        print(work.ended(session, len(sessions)), flush=True)

    async def main():
        print(await listen(handler), flush=True)
        await asyncio.Future()

    asyncio.run(main())


async def send_all(work, end):
    try:
        for each in work.messages():
            await end.send(each)
    except EOFError:
        pass  # the session is over


def run_client_on_threads(make):
    options = arguments()
    work, client = Workload("c", options), make(options.url)
    client.start()
    sending = threading.Thread(target=send_all_now, args=[work, client], daemon=True)
    sending.start()
    for each in client:
        work.take(each)
        if work.is_complete() and options.ends == "client":
            break
    sending.join()
    with client.changed:
        client.changed.wait_for(lambda: not client.pending or client.is_over())
    client.close()
    finish(work, client)


def handler_on_threads():
    options, sessions = arguments(), []

    def handler(session):
        sessions.append(session)
        work = Workload("s", options)
        sending = threading.Thread(target=send_all_now, args=[work, session], daemon=True)
        sending.start()
        for each in session:
            work.take(each)
            if work.is_complete() and options.ends == "server":
                sending.join()
                with session.changed:
                    session.changed.wait_for(lambda: not session.pending or session.is_over())
                session.end()
        sending.join()
        print(work.ended(session, len(sessions)), flush=True)

    return handler


def send_all_now(work, end):
    try:
        for each in work.messages():
            end.send(each)
    except EOFError:
        pass  # the session is over


def finish(work, client):
    print(work.ended(client, client.replaced + 1), flush=True)
    sys.exit(work.fault is not None)

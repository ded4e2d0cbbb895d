"""The programs of this folder among themselves, through `faults.py`: every client against every server.

    check.py [--seed S] [--count N] [--faults N] [--timeout SECONDS] [NAME...]

NAME is asyncio, threads, node, chromium, lines or length: the clients and servers of these names.
Says "skipped" where `ws` or Chromium is not there. Exit code 1 unless every session was exact.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

from faults import FaultProxy

HERE = Path(__file__).parent
INTEROP = Path(os.environ.get("EVERLINK_INTEROP", HERE / "../../../target/interop"))
PYTHON = [sys.executable]
SERVERS = {
    "asyncio": [*PYTHON, "asyncio_server.py"],
    "threads": [*PYTHON, "threads_server.py"],
    "node": ["node", "node_server.mjs"],
    "lines": [*PYTHON, "tcp.py", "server", "lines"],
    "length": [*PYTHON, "tcp.py", "server", "length"],
}
CLIENTS = {
    "asyncio": [*PYTHON, "asyncio_client.py"],
    "threads": [*PYTHON, "threads_client.py"],
    "node": ["node", "node_client.mjs"],
    "chromium": [*PYTHON, "chromium.py"],
    "lines": [*PYTHON, "tcp.py", "client", "lines"],
    "length": [*PYTHON, "tcp.py", "client", "length"],
}
WEBSOCKET = ["asyncio", "threads", "node", "chromium"]


def pairs(names):
    for client in names:
        for server in names:
            is_tcp = client not in WEBSOCKET
            if server in SERVERS and (client == server if is_tcp else server in WEBSOCKET):
                yield client, server


async def spawn(command, *arguments):
    pipe = asyncio.subprocess.PIPE
    words = [str(argument) for argument in arguments]
    return await asyncio.create_subprocess_exec(*command, *words, stdout=pipe, stderr=pipe, cwd=HERE)


async def one(client, server, options, seed):
    """What is wrong, and what was said."""
    ends = "server" if seed % 2 else "client"
    words = ["--count", options.count, "--seed", seed, "--timeout", options.timeout, "--ends", ends]
    words += ["--compress"] if seed % 3 == 0 else []
    serving = await spawn(SERVERS[server], *words)
    dialing = None
    try:
        scheme, _, port = (await serving.stdout.readline()).decode().strip().rpartition(":")
        proxy = FaultProxy(int(port), seed, options.faults, ends, has_head=client in WEBSOCKET)
        dialing = await spawn(CLIENTS[client], f"{scheme}:{await proxy.start()}", *words)
        said, errors = await dialing.communicate()
        if dialing.returncode or not said:
            serving.kill()
            told = (await serving.stderr.read()).decode()
            said = said.decode() + errors.decode()[-2000:]
            return f"exit code {dialing.returncode}: {said}\nThe server says: {told}", None
        ends = [json.loads(said), json.loads(await asyncio.wait_for(serving.stdout.readline(), 10))]
        faults = [end["fault"] for end in ends if end["fault"]]
        if ends[0]["links"] > proxy.done + 3 + ends[0].get("reloads", 0):
            faults.append("links were given up without a reason")
        try:
            faults.append(f"and {await asyncio.wait_for(serving.stdout.readline(), 0.2)}")
        except TimeoutError:
            pass  # that was all of it
        return "; ".join(faults), f"{proxy.done} faults, {ends}"
    except TimeoutError:
        return "the server does not hear of the end", None
    finally:
        for process in (dialing, serving):
            if process and process.returncode is None:
                process.kill()
                await process.wait()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=int, default=60)
    parser.add_argument("names", nargs="*", default=list(CLIENTS))
    options = parser.parse_args()
    names = [name for name in options.names if is_there(name)]
    running = asyncio.Semaphore(3)
    bad = []

    async def judged(client, server, seed):
        async with running:
            begun = time.monotonic()
            wrong, said = await one(client, server, options, seed)
            bad.extend([wrong] if wrong else [])
            took = f"{time.monotonic() - begun:.1f} s"
            print(f"{client} -> {server}, seed {seed}: {wrong or 'exact'}, {took}, {said}", flush=True)

    await asyncio.gather(*(judged(*pair, options.seed + place) for place, pair in enumerate(pairs(names))))
    sys.exit(len(bad) > 0)


def is_there(name):
    chromium = Path(os.environ.get("EVERLINK_CHROMIUM", "/usr/bin/chromium"))
    needs = {"node": INTEROP / "node_modules/ws", "chromium": chromium}
    if name not in needs or needs[name].exists():
        return True
    print(f"skipped: {name}, for {needs[name]} is not there")
    return False


asyncio.run(main())

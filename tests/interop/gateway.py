"""A gateway that ends WebSocket on both of its sides, as those do that look into messages: it answers pings and close
frames by itself, pings on its own account, and passes on nothing but messages.

    gateway.py ws://SERVER     prints its own address

Each line that it reads is a close code, with which it closes all links that it has, on both sides.
"""

import asyncio
import os
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake

links = set()


async def pass_on(link, other):
    try:
        async for message in link:
            await other.send(message)
    except ConnectionClosed:
        pass


async def gateway(link):
    protocols = [link.subprotocol] if link.subprotocol else None
    try:
        behind = await connect(sys.argv[1], subprotocols=protocols, ping_interval=0.05, max_size=None, close_timeout=0.1)
    except (OSError, InvalidHandshake):
        return await link.close(1014)
    both = {link, behind}
    links.update(both)
    ways = [asyncio.create_task(pass_on(*pair)) for pair in [(link, behind), (behind, link)]]
    await asyncio.wait(ways, return_when="FIRST_COMPLETED")
    # what the other side has said is its own affair
    await asyncio.gather(*(each.close(1001) for each in both))
    await asyncio.wait(ways)
    links.difference_update(both)


def close_all():
    said = os.read(sys.stdin.fileno(), 4096)
    if not said:
        os._exit(0)  # whoever has started this is gone
    for code in said.split():
        for each in list(links):
            asyncio.ensure_future(each.close(int(code)))


async def main():
    def select(_, offered):
        return offered[0] if offered else None

    options = {"select_subprotocol": select, "ping_interval": 0.05, "max_size": None, "close_timeout": 0.1}
    async with serve(gateway, "127.0.0.1", 0, **options) as listening:
        asyncio.get_running_loop().add_reader(sys.stdin, close_all)
        print(f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.Future()


asyncio.run(main())

"""Python aiohttp over TLS as the peer of tests/interop/aiohttp.rs: `aiohttp.py server`, `aiohttp.py
client URL` or, as a client that the server closes, `aiohttp.py closed URL`. The folder EVERLINK_TLS has
the certificates."""

import asyncio
import os
import pathlib
import ssl
import sys

# this file has the library's name: import the one that is installed
sys.path.pop(0)

from aiohttp import ClientSession, WSMsgType, web  # noqa: E402

SIZES = [0, 1, 125, 126, 65535, 65536, 16 * 1024 * 1024]
COUNT = 500

folder = pathlib.Path(os.environ["EVERLINK_TLS"])


async def handle(request):
    socket = web.WebSocketResponse(protocols=["v2"], max_msg_size=0)
    await socket.prepare(request)
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.type is not WSMsgType.TEXT:
            break
        elif message.data == "subprotocol?":
            await socket.send_str(str(socket.ws_protocol))
        elif message.data.startswith("close "):
            _, code, reason = message.data.split()
            await socket.close(code=int(code), message=reason.encode())
            break
        else:
            await socket.send_str(message.data)
    # `extra` is the reason, if the client was the first to close
    print("closed", socket.close_code, message.extra or "", flush=True)
    return socket


async def server():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    host, port = site._server.sockets[0].getsockname()
    print(f"listening wss://{host}:{port}", flush=True)
    # until the test closes the pipe
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


async def receive(socket):
    """The next message that is no ping."""
    while True:
        message = await asyncio.wait_for(socket.receive(), 30)
        if message.type is not WSMsgType.PING:
            return message
        await socket.pong(message.data)


def options():
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    # the server agrees to what is offered, of itself; the client offers this window
    compress = 15 if os.environ["EVERLINK_DEFLATE"] else 0
    return {"ssl": context, "protocols": ["v1", "v2"], "max_msg_size": 0, "compress": compress}


async def client(url):
    async with ClientSession() as session:
        async with session.ws_connect(url, autoping=False, **options()) as socket:
            assert socket.protocol == "v2", socket.protocol
            for size in SIZES:
                await socket.send_str("t" * size)
                assert (await receive(socket)).data == "t" * size, size
                await socket.send_bytes(b"b" * size)
                assert (await receive(socket)).data == b"b" * size, size
            for payload in [b"", b"p" * 125]:
                await socket.ping(payload)
                answer = await receive(socket)
                assert (answer.type, bytes(answer.data)) == (WSMsgType.PONG, payload), answer
            for number in range(COUNT):
                await socket.send_str(str(number))
            for number in range(COUNT):
                assert (await receive(socket)).data == str(number)
            await socket.close(code=4000, message=b"bye")
            assert socket.close_code == 4000, socket.close_code


async def closed(url):
    async with ClientSession() as session:
        async with session.ws_connect(url, **options()) as socket:
            await socket.send_str("close 4000 going")
            message = await receive(socket)
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4000, "going"), message


if sys.argv[1] == "server":
    asyncio.run(server())
else:
    asyncio.run({"client": client, "closed": closed}[sys.argv[1]](sys.argv[2]))

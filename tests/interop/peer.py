"""Python websockets as the peer of tests/it/interop.rs: `peer.py server` or `peer.py client URL`."""

import os
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.sync.client import connect
from websockets.sync.server import serve

# "takeover" is what the library does of itself; it compresses if the other side agrees
ALONE = {"server_no_context_takeover": True, "client_no_context_takeover": True}


def options(factory):
    if os.environ["EVERLINK_DEFLATE"] != "alone":
        return {"max_size": None}
    return {"max_size": None, "compression": None, "extensions": [factory(**ALONE)]}


SIZES = [0, 1, 125, 126, 65535, 65536, 16 * 1024 * 1024]


def in_fragments(socket, text, size):
    """Sends a text in fragments, with a ping after each."""

    def pieces():
        for start in range(0, len(text), size):
            yield text[start : start + size]
            socket.ping()

    socket.send(pieces())


def check_pings(socket):
    for payload in [b"", b"p" * 125]:
        assert socket.ping(payload).wait(10), f"no pong to {len(payload)} bytes"


def messages(socket):
    """Every message, whatever code the connection is closed with."""
    try:
        yield from socket
    except ConnectionClosed:
        pass


def handle(socket):
    for message in messages(socket):
        if message == "subprotocol?":
            socket.send(str(socket.subprotocol))
        elif message == "pings?":
            # their answers are read by this thread's library, in the background
            check_pings(socket)
            socket.send("answered")
        elif isinstance(message, str) and message.startswith("fragments "):
            in_fragments(socket, "f" * int(message.split()[1]), 1000)
        elif isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split()
            socket.close(int(code), reason)
            break
        else:
            socket.send(message)
    print("closed", socket.protocol.close_rcvd.code, socket.protocol.close_rcvd.reason, flush=True)


def server():
    with serve(handle, "127.0.0.1", 0, subprotocols=["v2"], **options(ServerPerMessageDeflateFactory)) as listening:
        host, port = listening.socket.getsockname()
        print(f"listening ws://{host}:{port}", flush=True)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        # until the test closes the pipe
        sys.stdin.read()


def client(url):
    with connect(url, subprotocols=["v1", "v2"], **options(ClientPerMessageDeflateFactory)) as socket:
        assert socket.subprotocol == "v2", socket.subprotocol
        for size in SIZES:
            for payload in ["t" * size, b"b" * size]:
                socket.send(payload)
                assert socket.recv() == payload, size
        in_fragments(socket, "f" * 100_000, 1000)
        assert socket.recv() == "f" * 100_000
        check_pings(socket)
        socket.close(4001, "bye")
    with connect(url, subprotocols=["v2"], **options(ClientPerMessageDeflateFactory)) as socket:
        socket.send("close 4002 going")
        assert list(messages(socket)) == []
        received = socket.protocol.close_rcvd
        assert (received.code, received.reason) == (4002, "going"), received


def member(url):
    """Sends back what comes, until the server closes."""
    with connect(url, subprotocols=["v2"], **options(ClientPerMessageDeflateFactory)) as socket:
        socket.send("here")
        handle(socket)


if sys.argv[1] == "server":
    server()
elif sys.argv[1] == "member":
    member(sys.argv[2])
else:
    client(sys.argv[2])

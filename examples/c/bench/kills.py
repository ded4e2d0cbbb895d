"""Five kills of an echo server: what was lost, what came twice, how long until it went on. `make kills`.

Each command gets the server's URL and how many seconds to send, 50 messages a second, and prints what came back.
"""

import socket
import subprocess
import sys
import time

SERVER = """
import sys, time, everlink
def echo(session):
    for message in session:
        session.send(message)
server = everlink.Server(f"127.0.0.1:{sys.argv[1]}", echo)
time.sleep(600)
"""

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]


def start():
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(port)])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server
        except OSError:
            time.sleep(0.01)


for command in sys.argv[1:]:
    server = start()
    client = subprocess.Popen([*command.split(), f"ws://127.0.0.1:{port}", "9"], stdout=subprocess.PIPE, text=True)
    for _ in range(5):
        time.sleep(1.2)
        server.kill()
        server.wait()
        time.sleep(0.3)
        server = start()
    said = client.communicate()[0].strip()
    server.kill()
    server.wait()
    print(f"{command}: {said}", flush=True)

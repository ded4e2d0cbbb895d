"""Receives, and prints how many messages a second: see bench.rs. `bench.py everlink` or `bench.py websockets`."""

import os
import sys
import time

MESSAGES = 200_000  # of those that come

url, which = os.environ["URL"], sys.argv[1]
if which == "everlink":
    import everlink
    receive = everlink.Client(url).recv
else:
    from websockets.sync.client import connect
    receive = connect(url, compression=None).recv
receive()
begun = time.monotonic()
for _ in range(MESSAGES):
    receive()
print(MESSAGES / (time.monotonic() - begun), flush=True)
os._exit(0)

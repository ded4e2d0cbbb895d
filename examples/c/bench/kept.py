"""Sends numbers and counts what comes back, as examples/kept.cpp: `kept.py everlink URL SECONDS`, or websocket-client."""

import sys
import threading
import time

which, url, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
echoes: dict[int, int] = {}
longest, last = 0.0, time.monotonic()


def on_message(_client, message):
    global longest, last
    echoes[int(message)] = echoes.get(int(message), 0) + 1
    now = time.monotonic()
    longest, last = max(longest, now - last), now


if which == "everlink":
    import everlink
    client = everlink.Client(
        url, {"delivery": "at_least_once", "backoff.first": "0s", "backoff.initial": "100ms", "backoff.max": "1s"},
        heartbeat_interval="2s", on_message=on_message)
    wait = client.poll
else:
    import websocket
    client = websocket.WebSocketApp(url, on_message=on_message)
    run = {"reconnect": 1, "ping_interval": 2, "ping_timeout": 1}
    threading.Thread(target=client.run_forever, kwargs=run, daemon=True).start()
    while not (client.sock and client.sock.connected):
        time.sleep(0.01)
    wait = time.sleep

last = begun = time.monotonic()
sent = refused = 0
while sent < seconds * 50:
    left = begun + sent / 50 - time.monotonic()
    if left > 0:
        wait(left)
        continue
    try:
        client.send(str(sent))
    except Exception:  # noqa: BLE001: websocket-client while it is down
        refused += 1
    sent += 1
end = time.monotonic() + 5
while len(echoes) < sent - refused and time.monotonic() < end:
    wait(0.1)
twice = sum(echoes.values()) - len(echoes)
print(f"{sent} sent, {refused} refused, {len(echoes)} came back, {twice} of them twice; "
      f"longest pause {longest * 1000:.0f} ms")

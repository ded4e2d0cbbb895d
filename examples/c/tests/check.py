"""everlink.py: what it promises."""

import gc
import multiprocessing
import os
import select
import socket
import subprocess
import sys
import threading
import time

import everlink

PATIENCE = 30.0


def echo(session: everlink.Session) -> None:
    for message in session:
        session.send(message)


server = everlink.Server("127.0.0.1:0", echo)
URL = f"ws://127.0.0.1:{server.port}"


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.001)


def test_messages_come_and_go():
    with everlink.Client(URL, heartbeat_interval="5s", subprotocols=["a", "b"]) as client:
        client.send("text")
        client.send(b"\x00\xff")
        assert client.recv(PATIENCE) == "text" and client.recv(PATIENCE) == b"\x00\xff"
        assert client.try_recv() is None
        client.send("x", ttl=5.0)
        receipt = client.send_confirmed("confirmed")
        receipt.wait(PATIENCE)
        client.flush(PATIENCE)
        assert client.ping(PATIENCE) > 0
        assert client.is_connected and client.status()["endpoint"].startswith("ws://")
        assert client.stats()["messages_sent"] >= 4
        assert [event["event"] for event in client.events()] == ["connecting", "connected"]
        try:
            client.recv(0.01)
            client.recv(0.01)
            client.recv(0.01)
            raise AssertionError("nothing was to come")
        except TimeoutError:
            pass
    try:
        client.send("x")
        raise AssertionError("it is closed")
    except everlink.Closed:
        pass


def test_iterating_ends_with_the_client():
    client = everlink.Client(URL)
    for number in range(10):
        client.send(str(number))
    got = []
    for message in client:
        got.append(message)
        if len(got) == 10:
            client.close()
    assert got == [str(number) for number in range(10)]


def test_topics():
    def joins(session):
        for topic in session:
            session.join(topic)
            session.send("done")

    with everlink.Server("127.0.0.1:0", joins) as other:
        with everlink.Client(f"ws://127.0.0.1:{other.port}") as client:
            client.send("news")
            assert client.recv(PATIENCE) == "done"
            assert other.members("news") == 1 and other.members("sport") == 0
            assert other.publish("news", b"today") == 1 and other.publish("sport", "x") == 0
            assert client.recv(PATIENCE) == b"today"


def test_errors_name_what_is_wrong():
    for options, name in [({"heartbeat.interval": "soon"}, "heartbeat.interval"), ({"nonsense": 1}, "nonsense")]:
        try:
            everlink.Client(URL, options)
            raise AssertionError("accepted")
        except everlink.Error as error:
            assert error.code == 14 and name in str(error)
    try:
        everlink.Client("ws://127.0.0.1:1")
        raise AssertionError("nobody is there")
    except everlink.Error as error:
        assert "refused" in str(error)


def test_what_was_not_delivered_comes_back():
    client = everlink.Client("ws://127.0.0.1:1", connect=False)
    client.send("never")
    client.send(b"neither")
    assert client.close() == ["never", b"neither"]


def test_callbacks_run_in_the_programs_thread():
    threads, got, events = set(), [], []

    def on_message(client, message):
        threads.add(threading.get_ident())
        got.append(message)
        if len(got) == 3:
            client.start_close()

    client = everlink.Client(URL, on_message=on_message, on_event=lambda _, event: events.append(event["event"]))
    for _ in range(3):
        client.send("x")
    client.run()
    assert got == ["x"] * 3 and threads == {threading.get_ident()}
    assert events[:2] == ["connecting", "connected"]


def test_callbacks_run_in_the_librarys_threads_if_that_is_wanted():
    threads, got = set(), []

    def on_message(client, message):
        threads.add(threading.get_ident())
        got.append(message)

    client = everlink.Client(URL, on_message=on_message, threaded=True)
    client.send("x")
    until(lambda: got, "the message")
    assert threading.get_ident() not in threads
    client.close()
    del client
    gc.collect()
    assert not [kept for kept in everlink._kept.values() if isinstance(kept, everlink._ON_MESSAGE)]


def test_a_program_that_waits_is_interrupted():
    wait = {"recv": "client.recv()", "iteration": "list(client)", "run": "client.run()"}
    for name, call in wait.items():
        program = f"""
import os, signal, threading, everlink
client = everlink.Client({URL!r})
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    {call}
except KeyboardInterrupt:
    print("interrupted")
"""
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE, text=True)
        assert ended.stdout == "interrupted\n", (name, ended)


def test_run_hands_over_what_happens_without_a_message():
    events = []

    def on_event(client, event):
        events.append(event["event"])
        if events.count("connected") == 1:
            client.reconnect()
        elif events.count("connected") == 2:
            client.start_close()

    client = everlink.Client(URL, on_event=on_event)
    client.run()
    assert events.count("connected") == 2 and "disconnected" in events, events


def test_an_event_in_the_middle_of_a_round_is_handed_over():
    class Late(everlink.Client):
        kept, is_late = [], False

        def events(self):
            kept, self.kept = self.kept, []
            yield from kept
            yield from super().events()

        def try_recv(self):
            if self.is_late:
                self.is_late = False
                # what has happened is there when the round has looked for it
                self.reconnect()
                until(lambda: self.kept.extend(super(Late, self).events()) or len(self.kept) == 3, self.kept)
            return super().try_recv()

    events = []
    with Late(URL, on_event=lambda client, event: events.append(event["event"])) as client:
        until(lambda: client.poll() == 0 and events.count("connected") == 1, events)
        client.fileno()
        client.is_late = True
        begun = time.monotonic()
        while events.count("connected") < 2:
            client.poll(PATIENCE)
        assert time.monotonic() - begun < PATIENCE / 2


def test_requests_calls_and_what_was_dropped():
    def serve(session):
        for message in session:
            session.send(session.status()["path"] + " " + message)

    attempts, dropped = [], []

    def on_request(request):
        attempts.append(request.attempt)
        request.set_header("X-Key", "k")
        request.set_url(f"ws://127.0.0.1:{other.port}/there")

    with everlink.Server("127.0.0.1:0", serve) as other:
        with everlink.Client(
                "ws://127.0.0.1:1", {"outbox": {"messages": 1, "overflow": "drop_oldest"}},
                on_request=on_request, on_dropped=lambda message, why: dropped.append(message), threaded=True,
                on_message=lambda client, message: client.answer("key", message), connect=False) as client:
            client.wait_connected(PATIENCE)
            assert client.call("key", "what?", PATIENCE) == "/there what?"
            client.set_heartbeat(5.0)
            client.end_link("for a change")
            client.reconnect()
        assert attempts[0] == 1 and other.stats()["sessions"] >= 0
    client = everlink.Client("ws://127.0.0.1:1", outbox_messages=1, outbox_overflow="drop_oldest", connect=False,
                             on_dropped=lambda message, why: dropped.append((message, why)))
    client.send("old")
    client.send("new")
    until(lambda: dropped, "the old one")
    assert dropped[0][0] == "old" and dropped[0][1]
    client.close()


def test_a_socket_that_listens_already():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        served = everlink.Server(listener, echo)
    assert served.port == address[1]
    with everlink.Client(f"ws://127.0.0.1:{served.port}") as client:
        client.send("x")
        assert client.recv(PATIENCE) == "x"
        assert served.drain(PATIENCE)
    served.close()


def test_a_login_is_asked_on_each_link():
    logins = []

    def login(link):
        link.send("hello")
        assert link.recv() == "hello"
        link.set_heartbeat(5.0)
        logins.append(1)

    client = everlink.Client(URL, login=login)
    client.reconnect()
    client.wait_connected(PATIENCE)
    until(lambda: len(logins) == 2, logins)
    client.close()

    def fails(link):
        raise ValueError("no password")

    try:
        everlink.Client(URL, login=fails)
        raise AssertionError("it logged in")
    except everlink.Error as error:
        assert "no password" in str(error)


def test_a_descriptor_for_loops():
    with everlink.Client(URL) as client:
        def is_quiet():
            return client.try_recv() is None and select.select([client], [], [], 0)[0] == []

        client.fileno()
        until(is_quiet, "an event that is late makes it readable once more")
        client.send("x")
        assert select.select([client], [], [], PATIENCE)[0] == [client]
        until(lambda: client.try_recv() == "x", "the message")
        until(is_quiet, "nothing is there")
        client.reconnect()
        assert select.select([client], [], [], PATIENCE)[0] == [client]


def test_threads_that_wait_are_told_of_the_end():
    client = everlink.Client(URL)
    ended = []

    def receive():
        try:
            client.recv()
        except everlink.Closed:
            ended.append(1)

    threads = [threading.Thread(target=receive) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    client.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(ended) == 4


def in_child(client, results):
    try:
        client.send("from the child")
        results.put("sent")
    except everlink.Closed:
        own = everlink.Client(URL)
        own.send("own")
        results.put(own.recv(PATIENCE))
        own.close()


def test_a_forked_child_has_clients_of_its_own():
    client = everlink.Client(URL)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=in_child, args=(client, results))
    child.start()
    assert results.get(timeout=PATIENCE) == "own"
    child.join(PATIENCE)
    assert child.exitcode == 0
    client.send("the parent's")
    assert client.recv(PATIENCE) == "the parent's"
    client.close()


def test_a_program_that_forgets_its_clients_ends():
    program = f"""
import everlink
def on_message(client, message):
    client.send(message)
kept = [everlink.Client({URL!r}, on_message=on_message, threaded=True) for _ in range(3)]
for client in kept:
    client.send("round and round")
server = everlink.Server("127.0.0.1:0", lambda session: session.recv())
waiting = everlink.Client(f"ws://127.0.0.1:{{server.port}}")
print("done")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", ""), ended


def test_nothing_is_left_of_many_clients():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    everlink.Client(URL).close()
    before = descriptors()
    for _ in range(50):
        client = everlink.Client(URL)
        client.send("x")
        client.recv(PATIENCE)
        del client
    gc.collect()
    until(lambda: descriptors() <= before + 2, descriptors())


for name, test in list(globals().items()):
    if name.startswith("test_") and (len(sys.argv) < 2 or name in sys.argv[1:]):
        print(f"  {name}", flush=True)
        test()
server.close()
print("Python: all is well")

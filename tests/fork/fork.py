"""What a child of a fork does with its parent's handles: nothing. Arguments: the library, and "tls" or "plain"."""

import ctypes
import multiprocessing
import socket
import sys
import threading
import time

library = ctypes.CDLL(sys.argv[1])
library.both_new.restype = ctypes.c_void_p
library.both_new.argtypes = [ctypes.c_bool]
for name in ("port", "proxy_port", "send", "receives", "links", "close", "drop_both"):
    getattr(library, name).argtypes = [ctypes.c_void_p] + [ctypes.c_char_p] * (name in ("send", "receives"))
library.send.restype = library.receives.restype = ctypes.c_bool
library.links.restype = ctypes.c_uint64
library.port.restype = library.proxy_port.restype = ctypes.c_uint16

both = library.both_new(sys.argv[2] == "tls")


def child():
    begun = time.monotonic()
    assert not library.send(both, b"from the child")
    assert not library.receives(both, b"anything")
    library.close(both)
    library.drop_both(both)
    taken = time.monotonic() - begun
    assert taken < 0.5, taken


def echo(text):
    assert library.send(both, text)
    assert library.receives(both, text), text


fork = multiprocessing.get_context("fork")
for number in range(10):
    echo(b"before %d" % number)
    # somebody is in the library when it forks, with whatever locks that takes
    stop = threading.Event()
    looks = lambda: [library.links(both) for _ in iter(stop.is_set, True)]
    others = [threading.Thread(target=looks) for _ in range(3)]
    for other in others:
        other.start()
    process = fork.Process(target=child)
    process.start()
    process.join(20)
    stop.set()
    for other in others:
        other.join()
    assert process.exitcode == 0, process.exitcode
    echo(b"after %d" % number)
    # the parent's server still listens, and so does the proxy before it
    for port in (library.port(both), library.proxy_port(both)):
        socket.create_connection(("127.0.0.1", port), 5).close()
assert library.links(both) == 1, library.links(both)
library.close(both)
library.drop_both(both)
print("ok")

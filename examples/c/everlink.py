"""everlink for Python: connections that stay up. One file over the shared library; needs no compiler.

    import everlink

    with everlink.Client("ws://localhost:9001", heartbeat_interval="5s") as client:
        client.send("hello")
        for message in client:          # str or bytes, across outages
            print(message)

Settings are keys of the library, with `_` for the first dot or as a mapping, which may be nested:
`Client(url, {"backoff.max": "1min", "heartbeat": {"interval": 5}})`.
Callbacks run in the thread of the program that calls `run()`, `poll()` or iterates, unless the client is made with
`threaded=True`: then on the library's threads. A `login` is always called there, for a link waits for it.

The library is found in EVERLINK_LIBRARY, beside this file, or where the system looks.
"""

from __future__ import annotations

import atexit
import ctypes
import ctypes.util
import itertools
import json
import os
import select
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional, Union

Message = Union[str, bytes]

__all__ = [
    "Client", "Server", "Session", "Login", "Request", "Receipt", "Error", "Timeout", "Closed", "GaveUp", "version",
]


class Error(Exception):
    """A call has failed: `code` is a number of `everlink_code`."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Timeout(Error, TimeoutError):
    """The time was over."""


class Closed(Error, ConnectionError):
    """It is closed for good."""


class GaveUp(Error, ConnectionError):
    """The client has given up, until `reconnect()`."""


class _Message(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("is_text", ctypes.c_int),
        ("link", ctypes.c_uint32), ("owner", ctypes.c_void_p),
    ]

    def value(self) -> Message:
        data = ctypes.string_at(self.data, self.size) if self.size else b""
        return data.decode() if self.is_text else data

    def taken(self) -> Message:
        """Of one that is the program's, which is given back."""
        try:
            return self.value()
        finally:
            _message_free(self)


class _SendOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t), ("is_binary", ctypes.c_int), ("no_wait", ctypes.c_int),
        ("this_link_only", ctypes.c_int), ("uncompressed", ctypes.c_int), ("ttl_ms", ctypes.c_uint64),
        ("timeout_ms", ctypes.c_uint64), ("key", ctypes.c_uint64), ("has_key", ctypes.c_int),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t), ("kind", ctypes.c_int), ("link", ctypes.c_uint32),
        ("attempts", ctypes.c_uint32), ("unconfirmed", ctypes.c_uint64), ("name", ctypes.c_char_p),
        ("text", ctypes.c_char_p), ("json", ctypes.c_char_p),
    ]


_OK, _TIMEOUT, _CLOSED, _GAVE_UP, _OTHER, _BAD_HANDLE = 0, 1, 2, 3, 25, 22
_STATES = ("connecting", "connected", "backing_off", "gave_up", "disconnected", "closing", "closed")
_handle, _text, _int, _ms = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int64
_ON_MESSAGE = ctypes.CFUNCTYPE(None, _handle, _handle, ctypes.POINTER(_Message))
_ON_EVENT = ctypes.CFUNCTYPE(None, _handle, _handle, ctypes.POINTER(_Event))
_ON_LOGIN = ctypes.CFUNCTYPE(_int, _handle, _handle)
_ON_REQUEST = _ON_LOGIN
_ON_DROPPED = ctypes.CFUNCTYPE(None, _handle, ctypes.POINTER(_Message), _text)
_ON_SESSION = ctypes.CFUNCTYPE(None, _handle, _handle)

# what each function takes; it returns an int, unless it is in the list below
_FUNCTIONS: dict[str, list[Any]] = {
    "client_new": [_text, ctypes.POINTER(_handle)],
    "client_set_json": [_handle, _text],
    "client_on_message": [_handle, _ON_MESSAGE, _handle, _handle],
    "client_on_event": [_handle, _ON_EVENT, _handle, _handle],
    "client_on_login": [_handle, _ON_LOGIN, _handle, _handle],
    "client_on_request": [_handle, _ON_REQUEST, _handle, _handle],
    "client_on_dropped": [_handle, _ON_DROPPED, _handle, _handle],
    "request_set_header": [_handle, _text, _text],
    "request_set_url": [_handle, _text],
    "request_attempt": [_handle],
    "client_start": [_handle],
    "client_connect": [_handle],
    "wait_connected": [_handle, _ms],
    "send_text": [_handle, _text, ctypes.c_size_t],
    "send_binary": [_handle, _text, ctypes.c_size_t],
    "send": [_handle, _text, ctypes.c_size_t, ctypes.POINTER(_SendOptions), ctypes.POINTER(_handle)],
    "receipt_wait": [_handle, _ms],
    "receipt_free": [_handle],
    "receive": [_handle, _ms, ctypes.POINTER(_Message)],
    "readable_fd": [_handle, ctypes.POINTER(_int)],
    "flush": [_handle, _ms],
    "reconnect": [_handle],
    "end_link": [_handle, _text, _handle],
    "set_heartbeat": [_handle, ctypes.c_uint64, ctypes.c_uint64, _text, _text],
    "call": [_handle, _text, _text, ctypes.c_size_t, ctypes.POINTER(_SendOptions), _ms, ctypes.POINTER(_Message)],
    "answer": [_handle, _text, ctypes.POINTER(_Message)],
    "ping": [_handle, _ms, ctypes.POINTER(ctypes.c_uint64)],
    "confirm": [_handle, ctypes.c_uint64],
    "start_close": [_handle, ctypes.c_uint16, _text],
    "close": [_handle, ctypes.c_uint16, _text, _ON_DROPPED, _handle],
    "free": [_handle],
    "state_of": [_handle],
    "login_send": [_handle, _text, ctypes.c_size_t, _int],
    "login_receive": [_handle, _ms, _handle, _handle, ctypes.POINTER(_Message)],
    "login_set_heartbeat": [_handle, ctypes.c_uint64, ctypes.c_uint64, _text, _text],
    "login_fail": [_handle, _text, _int],
    "server_new": [ctypes.POINTER(_handle)],
    "server_set_json": [_handle, _text],
    "server_bind": [_handle, _text, _ON_SESSION, _handle, _handle],
    "server_serve": [_handle, _int, _ON_SESSION, _handle, _handle],
    "server_members": [_handle, _text],
    "server_stats": [_handle],
    "server_broadcast": [_handle, _text, ctypes.c_size_t, _int, ctypes.POINTER(ctypes.c_size_t)],
    "server_publish": [_handle, _text, _text, ctypes.c_size_t, _int, ctypes.POINTER(ctypes.c_size_t)],
    "session_join": [_handle, _text],
    "session_leave": [_handle, _text],
    "server_drain": [_handle, _ms],
    "server_shutdown": [_handle, _ms],
    "server_free": [_handle],
    "last_error": [],
    "version": [],
    "message_free": [ctypes.POINTER(_Message)],
    "string_free": [_handle],
    "next_event": [_handle],
    "status": [_handle],
    "stats": [_handle],
    "server_port": [_handle],
}
_RETURNS = {
    "last_error": _text, "version": _text, "message_free": None, "string_free": None, "next_event": _handle,
    "status": _handle, "stats": _handle, "server_stats": _handle, "server_port": ctypes.c_uint16,
    "server_members": ctypes.c_size_t, "request_attempt": ctypes.c_uint32,
}


def _load() -> ctypes.CDLL:
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libeverlink.so")
    named = os.environ.get("EVERLINK_LIBRARY")
    path = named or (here if os.path.exists(here) else ctypes.util.find_library("everlink"))
    if not path:
        raise ImportError("libeverlink is nowhere: install it, or name it in EVERLINK_LIBRARY")
    library = ctypes.CDLL(path)
    for name, arguments in _FUNCTIONS.items():
        function = getattr(library, "everlink_" + name)
        function.argtypes, function.restype = arguments, _RETURNS.get(name, _int)
    return library


_library = _load()
_receive, _message_free = _library.everlink_receive, _library.everlink_message_free

# what the library may still call, by the pointer that it was given along; its destructor takes it out
_kept: dict[int, Any] = {}
_numbers = itertools.count(1)


def _keep(callback: Any) -> int:
    number = next(_numbers)
    _kept[number] = callback
    return number


def _let_go(number: int) -> None:
    _kept.pop(number, None)


_forget = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_let_go)


def _check(code: int) -> None:
    if code != _OK:
        text = _library.everlink_last_error().decode()
        raise {_TIMEOUT: Timeout, _CLOSED: Closed, _BAD_HANDLE: Closed, _GAVE_UP: GaveUp}.get(code, Error)(code, text)


def _taken(text: Optional[int]) -> Optional[str]:
    """A text of the library's, given back."""
    if not text:
        return None
    try:
        return ctypes.string_at(text).decode()
    finally:
        _library.everlink_string_free(text)


def _object(text: Optional[int]) -> dict[str, Any]:
    """The same of an object of JSON."""
    found: dict[str, Any] = json.loads(_taken(text) or "{}")
    return found


def _milliseconds(seconds: Optional[float]) -> int:
    return -1 if seconds is None else max(0, int(seconds * 1000))


def _as_bytes(message: Message) -> tuple[bytes, bool]:
    return (message.encode(), False) if isinstance(message, str) else (bytes(message), True)


_SECTIONS = ("timeouts", "limits", "socket", "heartbeat", "outbox", "inbox", "backoff", "tls", "framing",
             "websocket_framing", "compression", "resume", "basic_auth", "forwarded", "receive_rate",
             "max_openings_per_address")


def _settings(options: Optional[Mapping[str, Any]], more: Mapping[str, Any]) -> bytes:
    def key(word: str) -> str:
        section = next((name for name in _SECTIONS if word.startswith(name + "_")), None)
        return word if section is None else section + "." + word[len(section) + 1:]
    return json.dumps({**(options or {}), **{key(word): value for word, value in more.items()}}).encode()


def version() -> str:
    """That of the library."""
    return str(_library.everlink_version().decode())


class Receipt:
    """Follows one message."""

    def __init__(self, handle: int) -> None:
        self._end = weakref.finalize(self, _library.everlink_receipt_free, handle)
        self._handle = handle

    def wait(self, timeout: Optional[float] = None) -> None:
        """Waits until the peer's endpoint has confirmed it."""
        _check(_library.everlink_receipt_wait(self._handle, _milliseconds(timeout)))


class _Connection:
    """What sends and receives: a client, or a session of a server's."""

    _handle: Any

    def send(self, message: Message, *, ttl: Optional[float] = None, timeout: Optional[float] = None,
             this_link_only: bool = False, uncompressed: bool = False, key: Optional[int] = None) -> None:
        """Queues a text or bytes. Waits for room; `timeout=0` does not."""
        data, is_binary = _as_bytes(message)
        if ttl is None and timeout is None and key is None and not this_link_only and not uncompressed:
            send = _library.everlink_send_binary if is_binary else _library.everlink_send_text
            _check(send(self._handle, data, len(data)))
            return
        options = self._options(is_binary, ttl, timeout, this_link_only, uncompressed, key)
        _check(_library.everlink_send(self._handle, data, len(data), options, None))

    def send_confirmed(self, message: Message, *, ttl: Optional[float] = None,
                       timeout: Optional[float] = None) -> Receipt:
        """The same, with a receipt."""
        data, is_binary = _as_bytes(message)
        receipt = _handle()
        options = self._options(is_binary, ttl, timeout, False, False, None)
        _check(_library.everlink_send(self._handle, data, len(data), options, receipt))
        return Receipt(receipt.value or 0)

    @staticmethod
    def _options(is_binary: bool, ttl: Optional[float], timeout: Optional[float], this_link_only: bool,
                 uncompressed: bool, key: Optional[int]) -> _SendOptions:
        return _SendOptions(
            ctypes.sizeof(_SendOptions), is_binary, timeout == 0, this_link_only, uncompressed,
            max(1, _milliseconds(ttl)) if ttl is not None else 0,
            max(1, _milliseconds(timeout)) if timeout is not None else 0, key or 0, key is not None,
        )

    def recv(self, timeout: Optional[float] = None) -> Message:
        """The next message. Raises `Timeout`, and `Closed` or `GaveUp` once everything was taken."""
        received = _Message()
        if _receive(self._handle, 0, received) != _OK:
            self._wait_for(received, timeout)
        return received.taken()

    def _wait_for(self, received: _Message, timeout: Optional[float]) -> None:
        _check(_receive(self._handle, _milliseconds(timeout), received))

    def try_recv(self) -> Optional[Message]:
        """The next message if there is one now."""
        try:
            return self.recv(0)
        except Timeout:
            return None

    def __iter__(self) -> Iterator[Message]:
        while True:
            try:
                yield self.recv()
            except (Closed, GaveUp):
                return

    @property
    def state(self) -> str:
        return _STATES[_library.everlink_state_of(self._handle)]

    @property
    def is_connected(self) -> bool:
        return self.state == "connected"

    def status(self) -> dict[str, Any]:
        return _object(_library.everlink_status(self._handle))

    def stats(self) -> dict[str, Any]:
        return _object(_library.everlink_stats(self._handle))

    def wait_connected(self, timeout: Optional[float] = None) -> None:
        _check(_library.everlink_wait_connected(self._handle, _milliseconds(timeout)))

    def flush(self, timeout: Optional[float] = None) -> None:
        """Waits until the peer's endpoint has everything that was sent before."""
        _check(_library.everlink_flush(self._handle, _milliseconds(timeout)))

    def ping(self, timeout: Optional[float] = None) -> float:
        """Seconds there and back."""
        microseconds = ctypes.c_uint64()
        _check(_library.everlink_ping(self._handle, _milliseconds(timeout), microseconds))
        return microseconds.value / 1e6

    def call(self, key: str, question: Message, timeout: Optional[float] = None) -> Message:
        """Sends a question and waits for what `answer()` is handed with this key: by an `on_message` that is
        `threaded`, or on another thread, which receives."""
        data, is_binary = _as_bytes(question)
        options, answer = self._options(is_binary, None, None, False, False, None), _Message()
        _check(_library.everlink_call(
            self._handle, key.encode(), data, len(data), options, _milliseconds(timeout), answer))
        return answer.taken()

    def answer(self, key: str, answer: Message) -> bool:
        """Hands in the answer to the question with this key; whether somebody waits for it."""
        data, is_binary = _as_bytes(answer)
        lent = _Message(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data), not is_binary)
        return bool(_library.everlink_answer(self._handle, key.encode(), lent) == _OK)

    def set_heartbeat(self, interval: float, message: Optional[str] = None, expects: str = "") -> None:
        """The link that is up beats so from here on: a ping, or this message, with what is expected of the answer."""
        beat = None if message is None else message.encode()
        _check(_library.everlink_set_heartbeat(self._handle, _milliseconds(interval), 0, beat, expects.encode()))

    def end_link(self, reason: str) -> None:
        """Ends the link that is up, in order; another attempt follows."""
        _check(_library.everlink_end_link(self._handle, reason.encode(), None))

    def confirm(self, key: int) -> bool:
        """The service has said that it has the message with this key."""
        return bool(_library.everlink_confirm(self._handle, key) == _OK)

    def start_close(self, code: int = 1000, reason: str = "") -> None:
        """Starts to close, and does not wait for the end."""
        _check(_library.everlink_start_close(self._handle, code, reason.encode()))

    def close(self, code: int = 1000, reason: str = "") -> list[Message]:
        """Closes, and returns what was accepted and not delivered."""
        left: list[Message] = []
        keep = _ON_DROPPED(lambda _user, message, _why: left.append(message.contents.value()))
        ended = _library.everlink_close(self._handle, code, reason.encode(), keep, None)
        if ended not in (_OK, _BAD_HANDLE):
            _check(ended)
        return left


class Login:
    """A fresh link before anything that is queued is sent. Good until the hook returns."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def send(self, message: Message) -> None:
        data, is_binary = _as_bytes(message)
        _check(_library.everlink_login_send(self._handle, data, len(data), is_binary))

    def recv(self, timeout: Optional[float] = None) -> Message:
        received = _Message()
        _check(_library.everlink_login_receive(self._handle, _milliseconds(timeout), None, None, received))
        return received.taken()

    def set_heartbeat(self, interval: float, message: Optional[str] = None, expects: str = "") -> None:
        beat = None if message is None else message.encode()
        _check(_library.everlink_login_set_heartbeat(
            self._handle, _milliseconds(interval), 0, beat, expects.encode()))

    def fail(self, reason: str, for_good: bool = False) -> None:
        """The login fails, whatever the hook does then."""
        _check(_library.everlink_login_fail(self._handle, reason.encode(), for_good))


class Request:
    """The request of an attempt. Good until the hook returns."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def set_header(self, name: str, value: str) -> None:
        _check(_library.everlink_request_set_header(self._handle, name.encode(), value.encode()))

    def set_url(self, url: str) -> None:
        """Dials this one, this time."""
        _check(_library.everlink_request_set_url(self._handle, url.encode()))

    @property
    def attempt(self) -> int:
        """Counted from 1 since the last link was lost."""
        return int(_library.everlink_request_attempt(self._handle))


class Client(_Connection):
    """A client that stays connected. Closed at the end of a `with`, by the collector, and at exit."""

    def __init__(self, url: str, options: Optional[Mapping[str, Any]] = None, *,
                 on_message: Optional[Callable[["Client", Message], None]] = None,
                 on_event: Optional[Callable[["Client", dict[str, Any]], None]] = None,
                 login: Optional[Callable[[Login], None]] = None,
                 on_request: Optional[Callable[[Request], None]] = None,
                 on_dropped: Optional[Callable[[Message, str], None]] = None,
                 threaded: bool = False, connect: bool = True, **more: Any) -> None:
        handle = _handle()
        _check(_library.everlink_client_new(url.encode(), handle))
        self._handle = handle
        self._end = weakref.finalize(self, _library.everlink_free, handle)
        # closed by `_close_all` at exit, before the interpreter takes itself apart
        self._end.atexit = False
        self._on_message, self._on_event, self._threaded = on_message, on_event, threaded
        _check(_library.everlink_client_set_json(handle, _settings(options, more)))
        me = weakref.ref(self)
        if login:
            self._hook("login", _ON_LOGIN(lambda _user, login_handle: _run_login(login, login_handle)))
        if on_request:
            self._hook("request", _ON_REQUEST(lambda _user, request: _run_request(on_request, request)))
        if on_dropped:
            def dropped(_user: int, message: Any, why: bytes) -> None:
                on_dropped(message.contents.value(), why.decode())
            self._hook("dropped", _ON_DROPPED(dropped))
        if threaded and on_message:
            def message_came(_user: int, _client: int, message: Any) -> None:
                client = me()
                try:
                    if client is not None:
                        on_message(client, message.contents.value())
                except Closed:
                    pass
            self._hook("message", _ON_MESSAGE(message_came))
        if threaded and on_event:
            def event_came(_user: int, _client: int, event: Any) -> None:
                client = me()
                if client is not None:
                    on_event(client, json.loads(event.contents.json))
            self._hook("event", _ON_EVENT(event_came))
        _clients.add(self)
        _check(_library.everlink_client_connect(handle) if connect else _library.everlink_client_start(handle))

    def _hook(self, name: str, callback: Any) -> None:
        _check(getattr(_library, "everlink_client_on_" + name)(self._handle, callback, _keep(callback), _forget))

    def events(self) -> Iterator[dict[str, Any]]:
        """What has happened since the last call; with `threaded` and an `on_event` that has it."""
        while True:
            event = _taken(_library.everlink_next_event(self._handle))
            if event is None:
                return
            yield json.loads(event)

    def poll(self, timeout: Optional[float] = 0) -> int:
        """Hands what is there to the callbacks, in this thread; if nothing is, it waits for something at most so long.
        Returns how much it was. Without an `on_message` messages are dropped: `events()` leaves them."""
        count = self._hand_over()
        if count == 0 and timeout != 0:
            self._wait_readable(timeout)
            count = self._hand_over()
        return count

    def run(self) -> None:
        """Hands everything to the callbacks, in this thread, until the client is closed or has given up."""
        try:
            while True:
                self.poll(None)
        except (Closed, GaveUp):
            self._hand_over_events()

    def _hand_over_events(self) -> int:
        count = 0
        if self._on_event:
            for event in self.events():
                self._on_event(self, event)
                count += 1
        return count

    def _hand_over(self) -> int:
        if self._threaded:
            raise ValueError("the callbacks of a client that is threaded are called by the library")
        count = self._hand_over_events()
        while (message := self.try_recv()) is not None:
            count += 1
            if self._on_message:
                self._on_message(self, message)
        # what has happened since is not shown by the descriptor any more
        return count + self._hand_over_events()

    def _wait_readable(self, timeout: Optional[float]) -> None:
        waits = select.poll()
        waits.register(self.fileno(), select.POLLIN)
        waits.poll(None if timeout is None else timeout * 1000)

    def _wait_for(self, received: _Message, timeout: Optional[float]) -> None:
        # Python handles signals, Ctrl-C among them, on its main thread, and not while that is in the library
        if self._threaded or threading.current_thread() is not threading.main_thread():
            return super()._wait_for(received, timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while (code := _receive(self._handle, 0, received)) == _TIMEOUT:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self._wait_readable(left)
        _check(code)

    def fileno(self) -> int:
        """Readable while `try_recv()` has something to say, and after each event until it has said None, behind which the
        events are to be looked for: for `select`, `selectors` and asyncio's `add_reader`."""
        descriptor = _int()
        _check(_library.everlink_readable_fd(self._handle, descriptor))
        return descriptor.value

    def reconnect(self) -> None:
        _check(_library.everlink_reconnect(self._handle))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
        self._end()


def _run_login(hook: Callable[[Login], None], handle: int) -> int:
    try:
        hook(Login(handle))
        return _OK
    except BaseException as error:  # noqa: BLE001: nothing may be thrown through the library
        _library.everlink_login_fail(handle, str(error).encode() or type(error).__name__.encode(), 0)
        return _OTHER


def _run_request(hook: Callable[[Request], None], handle: int) -> int:
    try:
        hook(Request(handle))
        return _OK
    except BaseException:  # noqa: BLE001: as above
        sys.excepthook(*sys.exc_info())
        return _OTHER


class Session(_Connection):
    """A session of a server's, good until its handler returns."""

    def __init__(self, handle: int) -> None:
        self._handle = _handle(handle)

    def join(self, topic: str) -> None:
        """From here on it gets what is published there."""
        _check(_library.everlink_session_join(self._handle, topic.encode()))

    def leave(self, topic: str) -> None:
        _check(_library.everlink_session_leave(self._handle, topic.encode()))


class Server:
    """A server; each session has the handler on a thread of its own. It listens at an address, or on a socket that
    listens already."""

    def __init__(self, address: Union[str, socket.socket], handler: Callable[[Session], None],
                 options: Optional[Mapping[str, Any]] = None, **more: Any) -> None:
        self._handle = _handle()
        _check(_library.everlink_server_new(self._handle))
        self._end = weakref.finalize(self, _library.everlink_server_free, self._handle)
        self._end.atexit = False
        _check(_library.everlink_server_set_json(self._handle, _settings(options, more)))

        def serve(_user: int, session: int) -> None:
            try:
                handler(Session(session))
            except Closed:
                pass
            except BaseException:  # noqa: BLE001
                _library.everlink_start_close(session, 1011, b"")
                sys.excepthook(*sys.exc_info())
        callback = _ON_SESSION(serve)
        _clients.add(self)
        number = _keep(callback)
        if isinstance(address, str):
            _check(_library.everlink_server_bind(self._handle, address.encode(), callback, number, _forget))
        else:
            _check(_library.everlink_server_serve(self._handle, address.fileno(), callback, number, _forget))

    @property
    def port(self) -> int:
        return int(_library.everlink_server_port(self._handle))

    def broadcast(self, message: Message) -> int:
        data, is_binary = _as_bytes(message)
        count = ctypes.c_size_t()
        _check(_library.everlink_server_broadcast(self._handle, data, len(data), is_binary, count))
        return count.value

    def publish(self, topic: str, message: Message) -> int:
        data, is_binary = _as_bytes(message)
        count = ctypes.c_size_t()
        _check(_library.everlink_server_publish(self._handle, topic.encode(), data, len(data), is_binary, count))
        return count.value

    def members(self, topic: str) -> int:
        """How many sessions are in it."""
        return int(_library.everlink_server_members(self._handle, topic.encode()))

    def stats(self) -> dict[str, Any]:
        return _object(_library.everlink_server_stats(self._handle))

    def drain(self, timeout: float = 5) -> bool:
        """Stops accepting, and has every handler finish what it is at; whether all have."""
        return bool(_library.everlink_server_drain(self._handle, _milliseconds(timeout)) == _OK)

    def close(self, timeout: float = 5) -> None:
        """Closes every session and waits for their handlers, at most so long."""
        _library.everlink_server_shutdown(self._handle, _milliseconds(timeout))

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
        self._end()


_clients: "weakref.WeakSet[Any]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """At exit nothing may call into an interpreter that is no more. (By then a `finalize` does nothing.)"""
    for each in list(_clients):
        (_library.everlink_free if isinstance(each, Client) else _library.everlink_server_free)(each._handle)

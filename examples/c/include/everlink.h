/* everlink for C: long-lived connections that stay up, WebSocket and framed TCP, client and server.
 *
 * Written by cbindgen from the files in src: change those, and run `make header`.
 *
 * Functions that return int return an everlink_code, 0 if all is well; everlink_last_error() has it in words.
 * Texts are UTF-8 and end with a 0; a size beside one counts without that. Handles (everlink_connection,
 * everlink_server, everlink_receipt) may be used on any thread, and one that was freed is an error and no
 * accident. What is lent to a callback is valid until that returns, and on its thread. What a function returns or
 * stores with "the program's" has to be given back. Callbacks must not throw or jump out. */


#ifndef EVERLINK_H
#define EVERLINK_H

#include <stddef.h>
#include <stdint.h>

/* Begins a value of everlink_send_options. */
#define EVERLINK_SEND_INIT { sizeof(everlink_send_options), 0, 0, 0, 0, 0, 0, 0, 0 }


// What a call returns: an `int`, 0 if all is well. `everlink_last_error()` has it in words.
typedef enum everlink_code {
  // All is well.
  EVERLINK_CODE_OK = 0,
  // The time was over; with a time of 0: there is nothing now.
  EVERLINK_CODE_TIMEOUT = 1,
  // The client, session or server is closed, and everything was taken.
  EVERLINK_CODE_CLOSED = 2,
  // The client has given up, until `everlink_reconnect()`.
  EVERLINK_CODE_GAVE_UP = 3,
  // There is no link, and the call was for one.
  EVERLINK_CODE_NOT_CONNECTED = 4,
  // The queue of messages to be sent has no room.
  EVERLINK_CODE_FULL = 5,
  // The message is over the limit.
  EVERLINK_CODE_TOO_LARGE = 6,
  // This connection cannot carry the message.
  EVERLINK_CODE_UNSENDABLE = 7,
  // The message will not be delivered.
  EVERLINK_CODE_UNDELIVERED = 8,
  // The peer has not confirmed everything in time.
  EVERLINK_CODE_UNCONFIRMED = 9,
  // This connection has no confirmations.
  EVERLINK_CODE_UNCONFIRMABLE = 10,
  // The call would wait for what only this thread can bring: it was made in a callback.
  EVERLINK_CODE_WOULD_WAIT = 11,
  // A question with this key has no answer yet.
  EVERLINK_CODE_KEY_IN_USE = 12,
  // The first attempt has failed.
  EVERLINK_CODE_CONNECT = 13,
  // A key that is none, or a value that it cannot have.
  EVERLINK_CODE_INVALID_OPTION = 14,
  // A setting that cannot work, or can have no effect.
  EVERLINK_CODE_INVALID_SETTING = 15,
  // A URL that is none.
  EVERLINK_CODE_INVALID_URL = 16,
  // A header that HTTP does not allow.
  EVERLINK_CODE_INVALID_HEADER = 17,
  // A close code or reason that must not be sent.
  EVERLINK_CODE_INVALID_CLOSE = 18,
  // The system refused: an address, a thread, a descriptor.
  EVERLINK_CODE_SYSTEM = 19,
  // A pointer is null that must not be.
  EVERLINK_CODE_NULL = 20,
  // A text is not UTF-8.
  EVERLINK_CODE_NOT_UTF8 = 21,
  // The handle is none: it was freed, or is of another kind.
  EVERLINK_CODE_BAD_HANDLE = 22,
  // Not at this time: set before the start, used after it.
  EVERLINK_CODE_WRONG_ORDER = 23,
  // A fault of the library's own.
  EVERLINK_CODE_PANIC = 24,
  // Something that this list does not have yet.
  EVERLINK_CODE_OTHER = 25,
} everlink_code;

// What it is doing.
typedef enum everlink_state {
  // It dials, or was not started yet.
  EVERLINK_STATE_CONNECTING = 0,
  // A link is up.
  EVERLINK_STATE_CONNECTED = 1,
  // It waits for the next attempt.
  EVERLINK_STATE_BACKING_OFF = 2,
  // It has given up, until `everlink_reconnect()`.
  EVERLINK_STATE_GAVE_UP = 3,
  // The link has died; a session waits for its client.
  EVERLINK_STATE_DISCONNECTED = 4,
  // It closes.
  EVERLINK_STATE_CLOSING = 5,
  // It is closed, or the handle is none.
  EVERLINK_STATE_CLOSED = 6,
} everlink_state;

// What kind of event it is.
typedef enum everlink_event_kind {
  // A kind that this header does not have yet: `name` says which.
  EVERLINK_EVENT_KIND_OTHER = 0,
  // An attempt begins.
  EVERLINK_EVENT_KIND_CONNECTING = 1,
  // A link is up, the login included.
  EVERLINK_EVENT_KIND_CONNECTED = 2,
  // The link died.
  EVERLINK_EVENT_KIND_DISCONNECTED = 3,
  // An attempt failed.
  EVERLINK_EVENT_KIND_ATTEMPT_FAILED = 4,
  // The program takes no messages.
  EVERLINK_EVENT_KIND_RECEIVER_STALLED = 5,
  // A callback of the program's does not return.
  EVERLINK_EVENT_KIND_CALLBACK_STALLED = 6,
  // The peer does not answer pings as it should.
  EVERLINK_EVENT_KIND_CONFIRMATIONS_MISSING = 7,
  // The peer found a message too large.
  EVERLINK_EVENT_KIND_MESSAGE_TOO_LARGE = 8,
  // No further attempt is made until `everlink_reconnect()`.
  EVERLINK_EVENT_KIND_GAVE_UP = 9,
  // The client is closed: the last event.
  EVERLINK_EVENT_KIND_CLOSED = 10,
} everlink_event_kind;

// A client, or a session of a server's. Every function may be called from any thread, and with a handle that
// was freed: that is `EVERLINK_CODE_BAD_HANDLE`.
typedef struct everlink_connection everlink_connection;

// A request that has come to a server. Lent to a callback until that returns.
typedef struct everlink_incoming everlink_incoming;

// A fresh link before anything that is queued is sent. Lent to a callback until that returns.
typedef struct everlink_login everlink_login;

// The request of an attempt. Lent to a callback until that returns.
typedef struct everlink_request everlink_request;

// Before it is bound what it is made of, after that the server.
typedef struct everlink_server everlink_server;

// Follows one message, from `everlink_send()`.
typedef struct everlink_receipt everlink_receipt;

// A message that was received.
//
// Lent to a callback it is valid until that returns, and `owner` is null. From a call that receives it is
// the program's, until `everlink_message_free()`.
typedef struct everlink_message {
  // Its bytes, with a 0 behind them that does not count where the program owns it. Never null.
  const uint8_t *data;
  // How many they are.
  size_t size;
  // 1 for a text, which is UTF-8; 0 for a binary message.
  int is_text;
  // The number of the link that it came on, counted from 1; 0 if that is not known.
  uint32_t link;
  // The library's. Null in a message that is lent, or was freed.
  void *owner;
} everlink_message;

// A message, on the library's reader thread: the next one is read when it returns. `client` may be sent to.
typedef void (*everlink_on_message)(void *user,
                                    struct everlink_connection *client,
                                    const struct everlink_message *message);

// Frees what `user` points to: called once, when nothing calls the function any more that was given with
// it. That is before `everlink_close()` or `everlink_free()` return, unless a callback is still running then; at
// the latest when that has returned. May be null.
typedef void (*everlink_destroy)(void *user);

// What happened. Lent to a callback until that returns.
typedef struct everlink_event {
  // How large this is: later versions have more at the end.
  size_t struct_size;
  // A number of `everlink_event_kind`.
  int kind;
  // The number of the link, counted from 1; 0 where there is none.
  uint32_t link;
  // The number of the attempt, or how many there were; 0 where there is none.
  uint32_t attempts;
  // Messages of which nobody knows whether the peer has them; those that were not delivered, at the end.
  uint64_t unconfirmed;
  // In a word that does not change: "connected", "gave_up"...
  const char *name;
  // One line for people.
  const char *text;
  // Everything that there is to say, as an object of JSON.
  const char *json;
} everlink_event;

// What happened, on the library's manager thread: keep it short.
typedef void (*everlink_on_event)(void *user,
                                  struct everlink_connection *client,
                                  const struct everlink_event *event);

// Logs in, on each fresh link, before anything that is queued is sent. 0: it is done. Anything else fails the
// attempt, which is made again, unless `everlink_login_fail()` has said otherwise; the reason is what that says, or
// what the last call had if that has failed.
typedef int (*everlink_on_login)(void *user, struct everlink_login *login);

// Changes the request of each attempt: headers, the URL. 0: dial. Anything else fails the attempt.
typedef int (*everlink_on_request)(void *user, struct everlink_request *request);

// Why a link died or an attempt failed. Lent to a callback until that returns.
typedef struct everlink_failure {
  // In a word that does not change: "dns", "connect", "tls", "handshake", "rejected", "login", "lost",
  // "closed_by_peer", "closed_here", "silent", "stuck", "protocol", "program", "system".
  const char *kind;
  // In words, one line.
  const char *text;
  // The code of the peer's close frame, also if it came during the login; 0 if there was none.
  uint16_t close_code;
  // The status of the server's answer to the opening handshake; 0 if it was none.
  uint16_t http_status;
} everlink_failure;

// What follows a failure. Zeroes are another attempt after the usual delay.
typedef struct everlink_decision {
  // Not 0: no more attempts until `everlink_reconnect()`.
  int give_up;
  // At least this long until the next attempt, in milliseconds.
  uint64_t delay_ms;
  // Where the next attempt goes, if that is not null. It is read after the callback has returned: let it not
  // be on its stack.
  const char *url;
  // Not 0: the delay is as it says also if it is 0, and not the usual one.
  int has_delay;
} everlink_decision;

// Decides what follows a failure: `decision` is what would follow, and may be changed.
typedef void (*everlink_on_decision)(void *user,
                                     const struct everlink_failure *failure,
                                     struct everlink_decision *decision);

// A message that will not be sent any more, or is not delivered at a close, and why, in words.
typedef void (*everlink_on_dropped)(void *user,
                                    const struct everlink_message *message,
                                    const char *why);

// What is sent besides the bytes. Begin with `EVERLINK_SEND_INIT` or zeroes and the size.
typedef struct everlink_send_options {
  // `sizeof(everlink_send_options)`: later versions have more at the end.
  size_t struct_size;
  // 1 for a binary message, 0 for a text, which has to be UTF-8.
  int is_binary;
  // 1: never waits for room in the queue, `EVERLINK_CODE_FULL` instead.
  int no_wait;
  // 1: for the link that is up, or not at all (`EVERLINK_CODE_NOT_CONNECTED`).
  int this_link_only;
  // 1: goes as it is where messages are compressed.
  int uncompressed;
  // How long it may wait to be written, in milliseconds; 0 for as long as it takes.
  uint64_t ttl_ms;
  // How long the call may wait for room, in milliseconds; 0 for as long as it takes.
  uint64_t timeout_ms;
  // By which `everlink_confirm()` knows it (`delivery` = `until_confirmed`), if `has_key` is 1.
  uint64_t key;
  // Whether there is a key.
  int has_key;
} everlink_send_options;

// A record: 1 for an error, 2 a warning, 3 information, 4 and 5 for whoever looks closely. On whatever thread; it
// must not call into the library.
typedef void (*everlink_on_log)(void *user, int level, const char *target, const char *text);

// Whether a message is the one that is waited for: not 0 if it is.
typedef int (*everlink_filter)(void *user, const struct everlink_message *message);

// Answers a request of a client's: 101 lets it in, any other status refuses it. On several threads at once.
typedef int (*everlink_on_incoming)(void *user, const struct everlink_incoming *incoming);

// Serves a session, on a thread of its own. The session is closed when it returns. The handle is good until
// then; a thread of the program's that goes on with it afterwards is told `EVERLINK_CODE_BAD_HANDLE`.
typedef void (*everlink_on_session)(void *user, struct everlink_connection *session);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library, "0.2.0". It lives for ever.
const char *everlink_version(void);

// What the last call of this thread that failed had to say, in one line; empty if none has. It lives until the
// next call on this thread.
const char *everlink_last_error(void);

// The code of that.
int everlink_last_code(void);

// A client of this URL: `ws://`, `wss://`, `tcp://` or `tcps://`. It does nothing until `everlink_client_start()` or
// `everlink_client_connect()`. It is the program's, until `everlink_free()`.
int everlink_client_new(const char *url,
                        struct everlink_connection **client);

// Sets one setting by its key: `"heartbeat.interval"`, `"5s"`. What is wrong with either is said at the start.
int everlink_client_set(struct everlink_connection *client,
                        const char *key,
                        const char *value);

// Sets many settings: an object of JSON, nested or with dots in its keys.
int everlink_client_set_json(struct everlink_connection *client, const char *json);

// Has each message handed to this function, instead of `everlink_receive()`.
//
// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
int everlink_client_on_message(struct everlink_connection *client,
                               everlink_on_message callback,
                               void *user,
                               everlink_destroy destroy);

// Has each event handed to this function, instead of `everlink_next_event()`.
//
// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
int everlink_client_on_event(struct everlink_connection *client,
                             everlink_on_event callback,
                             void *user,
                             everlink_destroy destroy);

// Has this function log in on each fresh link.
//
// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
int everlink_client_on_login(struct everlink_connection *client,
                             everlink_on_login callback,
                             void *user,
                             everlink_destroy destroy);

// Has this function change the request of each attempt.
//
// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
int everlink_client_on_request(struct everlink_connection *client,
                               everlink_on_request callback,
                               void *user,
                               everlink_destroy destroy);

// Has this function decide what follows a failure.
//
// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
int everlink_client_on_decision(struct everlink_connection *client,
                                everlink_on_decision callback,
                                void *user,
                                everlink_destroy destroy);

// Has each message handed to this function that will not be sent any more.
//
// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
int everlink_client_on_dropped(struct everlink_connection *client,
                               everlink_on_dropped callback,
                               void *user,
                               everlink_destroy destroy);

// Starts the client, and does not wait for a link. If it fails nothing runs, and the handle can only be freed.
int everlink_client_start(struct everlink_connection *client);

// Starts the client and waits for the first attempt, which decides: `EVERLINK_CODE_CONNECT` if it fails, and
// nothing runs then.
int everlink_client_connect(struct everlink_connection *client);

// Waits for a link.
int everlink_wait_connected(struct everlink_connection *connection, int64_t timeout_ms);

// Closes for good, with this code (1000 is the usual one) and reason (may be null): writes what is queued, shakes
// hands and ends all threads, within `timeouts.close`. What was accepted and not delivered is handed to
// `undelivered` (may be null) before this returns. Nothing calls into the program after that, unless a callback
// is running still. In a callback it starts closing and returns at once. The handle is good until
// `everlink_free()`: what was received can be taken.
int everlink_close(struct everlink_connection *connection,
                   uint16_t code,
                   const char *reason,
                   everlink_on_dropped undelivered,
                   void *user);

// Gives a client back, and closes it if that was not done. Calls that wait on other threads return
// `EVERLINK_CODE_CLOSED`. A session is its server's: closing it is enough.
int everlink_free(struct everlink_connection *client);

// Queues a text of so many bytes; waits for room if that is the `outbox.overflow`.
int everlink_send_text(struct everlink_connection *connection, const char *text, size_t size);

// Queues a binary message.
int everlink_send_binary(struct everlink_connection *connection, const void *data, size_t size);

// Queues a message with options (null for none). Where `receipt` is not null a receipt is stored there: the
// program's, until `everlink_receipt_free()`.
int everlink_send(struct everlink_connection *connection,
                  const void *data,
                  size_t size,
                  const struct everlink_send_options *options,
                  struct everlink_receipt **receipt);

// Waits until the peer's endpoint has confirmed the message: 0, or `EVERLINK_CODE_UNDELIVERED`. A negative time is
// for ever.
int everlink_receipt_wait(const struct everlink_receipt *receipt,
                          int64_t timeout_ms);

// Gives a receipt back; the message goes its way.
int everlink_receipt_free(struct everlink_receipt *receipt);

// Waits for the next message: at most so long, for ever if that is negative, not at all if it is 0. It is the
// program's, until `everlink_message_free()`. `EVERLINK_CODE_TIMEOUT` if there is none.
int everlink_receive(struct everlink_connection *connection,
                     int64_t timeout_ms,
                     struct everlink_message *message);

// The oldest event that was not taken yet, as JSON: the program's, until `everlink_string_free()`. Null if there
// is none. For programs that want no callback: with an `everlink_client_on_event()` there are none. The newest 256 are
// kept.
char *everlink_next_event(struct everlink_connection *connection);

// A descriptor that is readable while a client's `everlink_receive()` with a time of 0 has something to say: a
// message, or that it has given up or is closed; and after each event (`everlink_next_event()`). For loops of the
// program's own (`poll`, glib, libuv, Qt). It stays readable until that has said `EVERLINK_CODE_TIMEOUT`: a
// loop that wants events looks for them after that, for one that came before does not make it readable again. It is the
// library's, until `everlink_free()`: neither read nor close it.
int everlink_readable_fd(struct everlink_connection *client,
                         int *descriptor);

// Waits until the peer's endpoint has confirmed everything that was accepted before.
int everlink_flush(struct everlink_connection *connection, int64_t timeout_ms);

// Sends a question and waits for the answer with this key, which `everlink_answer()` hands in: in a callback, or on
// another thread, which receives. The answer is the program's, until `everlink_message_free()`.
int everlink_call(struct everlink_connection *connection,
                  const char *key,
                  const void *data,
                  size_t size,
                  const struct everlink_send_options *options,
                  int64_t timeout_ms,
                  struct everlink_message *answer);

// Hands in the answer to the question with this key; the message stays whose it was. `EVERLINK_CODE_TIMEOUT` if
// nobody waits for it.
int everlink_answer(struct everlink_connection *connection,
                    const char *key,
                    const struct everlink_message *answer);

// The state at this moment, as a number of `everlink_state`.
int everlink_state_of(struct everlink_connection *connection);

// What a connection is doing as JSON, and of a session whose it is; the program's, until `everlink_string_free()`.
// Null if the handle is none.
char *everlink_status(struct everlink_connection *connection);

// The counters as JSON; the program's, until `everlink_string_free()`. Null if the handle is none.
char *everlink_stats(struct everlink_connection *connection);

// Makes a new link now: after giving up, during a wait, or in place of the present one.
int everlink_reconnect(struct everlink_connection *client);

// Ends the link that is up, in order, for this reason. What follows says `decision`; null: another attempt.
int everlink_end_link(struct everlink_connection *connection,
                      const char *reason,
                      const struct everlink_decision *what_follows);

// The link that is up beats so from here on: see `everlink_login_set_heartbeat()`.
int everlink_set_heartbeat(struct everlink_connection *connection,
                           uint64_t interval_ms,
                           uint64_t dead_after_ms,
                           const char *message,
                           const char *expects);

// Pings and waits for the answer; how long that took is stored in microseconds, unless `microseconds` is null.
int everlink_ping(struct everlink_connection *connection,
                  int64_t timeout_ms,
                  uint64_t *microseconds);

// The service has said that it has the message with this key (`delivery` = `until_confirmed`).
int everlink_confirm(struct everlink_connection *connection, uint64_t key);

// Starts to close with this code (1000 is the usual one) and reason (may be null), and does not wait for the end.
int everlink_start_close(struct everlink_connection *connection,
                         uint16_t code,
                         const char *reason);

// Has each record up to this level (0 to 5) handed to this function, as long as the process lives. Once: a second
// time it is `EVERLINK_CODE_WRONG_ORDER`.
int everlink_set_logger(int level,
                        everlink_on_log callback,
                        void *user);

// Sends a message ahead of everything that is queued.
int everlink_login_send(struct everlink_login *login, const void *data, size_t size, int is_binary);

// Receives the next message for which `filter` returns not 0 (null: any), until the login's time is over. Those
// passed over are received by the program later. With a time it waits at most so long, for any message.
// It is the program's, until `everlink_message_free()`.
int everlink_login_receive(struct everlink_login *login,
                           int64_t timeout_ms,
                           everlink_filter filter,
                           void *user,
                           struct everlink_message *message);

// The link beats so once the login is done: a ping, or with a message the message, whenever nothing came for `interval_ms`, or with a
// message each time; death after `dead_after_ms` of silence (0: three intervals). `expects` is what the message
// is answered with: all of it, or its start with `*` behind that. Both may be null.
int everlink_login_set_heartbeat(struct everlink_login *login,
                                 uint64_t interval_ms,
                                 uint64_t dead_after_ms,
                                 const char *message,
                                 const char *expects);

// Has the login fail for this reason, whatever the hook returns: for good, so that the client gives up, or until the next
// attempt.
int everlink_login_fail(struct everlink_login *login,
                        const char *reason,
                        int for_good);

// Gives a received message back. A second time, and for one that is lent or null, it does nothing.
void everlink_message_free(struct everlink_message *message);

// Gives a text back that a function of this header has returned. Null is nothing.
void everlink_string_free(char *text);

// Sets a header, replacing one of the same name.
int everlink_request_set_header(struct everlink_request *to, const char *name, const char *value);

// Dials this URL instead, this time.
int everlink_request_set_url(struct everlink_request *to, const char *url);

// Which attempt it is, counted from 1 since the last link was lost; 0 if it is not lent any more.
uint32_t everlink_request_attempt(struct everlink_request *of);

// A header of a request, or its path and query if the name is null: the program's, until
// `everlink_string_free()`. Null if there is none.
char *everlink_incoming_header(const struct everlink_incoming *incoming, const char *name);

// A server. It does nothing until `everlink_server_bind()`. It is the program's, until `everlink_server_free()`.
int everlink_server_new(struct everlink_server **server);

// Sets one setting by its key. What is wrong with either is said when it is bound.
int everlink_server_set(struct everlink_server *server, const char *key, const char *value);

// Sets many settings: an object of JSON, nested or with dots in its keys.
int everlink_server_set_json(struct everlink_server *server, const char *json);

// Has this function answer each request.
//
// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
int everlink_server_on_request(struct everlink_server *server,
                               everlink_on_incoming callback,
                               void *user,
                               everlink_destroy destroy);

// Listens at an address, "127.0.0.1:0", and serves each session with this function, on a thread of its own.
//
// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
int everlink_server_bind(struct everlink_server *server,
                         const char *address,
                         everlink_on_session on_session,
                         void *user,
                         everlink_destroy destroy);

// The same on a socket that listens already, TCP or Unix: the program's, systemd's (3 and on), or one that another
// process has handed over. The descriptor stays the program's, which may close it from here on.
//
// `user` is handed to each call, and `destroy` gets it when nothing calls any more, also if this fails.
int everlink_server_serve(struct everlink_server *server,
                          int descriptor,
                          everlink_on_session on_session,
                          void *user,
                          everlink_destroy destroy);

// The port that it listens at; 0 if it is not bound.
uint16_t everlink_server_port(struct everlink_server *server);

// Sends a message to every session, without waiting for any; how many took it is stored, unless `count` is null.
int everlink_server_broadcast(struct everlink_server *server,
                              const void *data,
                              size_t size,
                              int is_binary,
                              size_t *count);

// Sends a message to every session that has joined this topic; how many took it is stored, unless `count` is null.
int everlink_server_publish(struct everlink_server *server,
                            const char *topic,
                            const void *data,
                            size_t size,
                            int is_binary,
                            size_t *count);

// How many sessions are in this topic; 0 if the server is not bound.
size_t everlink_server_members(struct everlink_server *server, const char *topic);

// Has a session join a topic, so that it gets what is published there.
int everlink_session_join(struct everlink_connection *session, const char *topic);

// Has a session leave a topic.
int everlink_session_leave(struct everlink_connection *session, const char *topic);

// The counters as JSON, `sessions` among them; the program's, until `everlink_string_free()`. Null if it is not
// bound.
char *everlink_server_stats(struct everlink_server *server);

// Stops accepting, and has every callback finish what it is at: it receives what has come, may answer, and is then told
// `EVERLINK_CODE_CLOSED`. What comes later is not taken. `EVERLINK_CODE_TIMEOUT` if callbacks are left when the
// time is over; `everlink_server_shutdown()` closes what is left.
int everlink_server_drain(struct everlink_server *server,
                          int64_t timeout_ms);

// Closes every session in order and waits for that, and for the callbacks, at most for so long:
// `EVERLINK_CODE_TIMEOUT` if that was not enough.
int everlink_server_shutdown(struct everlink_server *server, int64_t timeout_ms);

// Gives a server back, and shuts it down if that was not done.
int everlink_server_free(struct everlink_server *server);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* EVERLINK_H */

/* The life of clients and servers in C. `check` runs everything, `check NAME` one test; EVERLINK_RECONNECTS says
 * how often the test of that reconnects. */
#include "check.h"

#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect(everlink_connection *client, const char *text) {
    everlink_message message;
    OK(everlink_receive(client, PATIENCE, &message));
    CHECK(message.size == strlen(text) && memcmp(message.data, text, message.size) == 0);
    CHECK(message.data[message.size] == 0);
    everlink_message_free(&message);
}

static void count_dropped(void *user, const everlink_message *message, const char *why) {
    CHECK(message->size > 0 && strlen(why) > 0);
    ++*(int *)user;
}

static void life_cycle(void) {
    char url[64];
    everlink_server *server = echo_server(url, sizeof url);
    everlink_connection *client = started(url);
    CHECK(everlink_state_of(client) == EVERLINK_STATE_CONNECTED);
    OK(everlink_send_text(client, "one", 3));
    expect(client, "one");
    OK(everlink_send_binary(client, "\0\1", 2));
    everlink_message message;
    OK(everlink_receive(client, PATIENCE, &message));
    CHECK(message.size == 2 && !message.is_text && message.link == 1);
    everlink_message_free(&message);
    everlink_message_free(&message); /* a second time is nothing */
    IS(TIMEOUT, everlink_receive(client, 0, &message));

    everlink_send_options options = EVERLINK_SEND_INIT;
    options.ttl_ms = PATIENCE;
    everlink_receipt *receipt;
    OK(everlink_send(client, "two", 3, &options, &receipt));
    OK(everlink_receipt_wait(receipt, PATIENCE));
    OK(everlink_receipt_free(receipt));
    IS(BAD_HANDLE, everlink_receipt_free(receipt));
    expect(client, "two");
    OK(everlink_flush(client, PATIENCE));
    uint64_t microseconds = 0;
    OK(everlink_ping(client, PATIENCE, &microseconds));
    CHECK(microseconds > 0);

    char *text = everlink_status(client);
    CHECK(text && strstr(text, "\"connected\""));
    everlink_string_free(text);
    text = everlink_stats(client);
    CHECK(text && strstr(text, "sent"));
    everlink_string_free(text);
    text = everlink_next_event(client);
    CHECK(text && strstr(text, "\"connecting\""));
    everlink_string_free(text);

    /* the handler that echoes is done, and its session is over */
    OK(everlink_server_drain(server, PATIENCE));
    OK(everlink_close(client, 1000, NULL, NULL, NULL));
    IS(CLOSED, everlink_receive(client, -1, &message));
    IS(CLOSED, everlink_send_text(client, "x", 1));
    OK(everlink_free(client));
    OK(everlink_server_shutdown(server, PATIENCE));
    OK(everlink_server_free(server));
}

static void misuse(void) {
    everlink_connection *client;
    everlink_message message;
    IS(NULL, everlink_client_new(NULL, &client));
    IS(NULL, everlink_client_new("ws://127.0.0.1:1", NULL));
    CHECK(strstr(everlink_last_error(), "null") && everlink_last_code() == EVERLINK_CODE_NULL);
    IS(NULL, everlink_send_text(NULL, "x", 1));
    IS(NULL, everlink_free(NULL));
    IS(BAD_HANDLE, everlink_send_text((everlink_connection *)"no handle", "x", 1));

    OK(everlink_client_new("ws://127.0.0.1:1", &client));
    IS(WRONG_ORDER, everlink_send_text(client, "x", 1));
    IS(WRONG_ORDER, everlink_receive(client, 0, &message));
    IS(NULL, everlink_client_set(client, "name", NULL));
    IS(NOT_UTF8, everlink_client_set(client, "name", "\xff"));
    OK(everlink_client_set(client, "heartbeat.interval", "soon"));
    IS(INVALID_OPTION, everlink_client_start(client));
    const char *said = everlink_last_error();
    CHECK(strstr(said, "heartbeat.interval") && strstr(said, "soon") && strstr(said, "500ms"));
    IS(WRONG_ORDER, everlink_client_start(client));
    OK(everlink_free(client));
    IS(BAD_HANDLE, everlink_free(client));
    IS(BAD_HANDLE, everlink_receive(client, -1, &message));

    OK(everlink_client_new("nonsense", &client));
    IS(INVALID_URL, everlink_client_start(client));
    OK(everlink_free(client));
    OK(everlink_client_new("ws://127.0.0.1:1", &client));
    IS(CONNECT, everlink_client_connect(client));
    OK(everlink_free(client));

    OK(everlink_client_new("ws://127.0.0.1:1", &client));
    OK(everlink_client_start(client));
    IS(WRONG_ORDER, everlink_client_set(client, "name", "late"));
    IS(NULL, everlink_send_text(client, NULL, 1));
    IS(NOT_UTF8, everlink_send_text(client, "\xff", 1));
    IS(NULL, everlink_receive(client, 0, NULL));
    OK(everlink_send_text(client, "never", 5));
    /* a server's function with a client's handle, and the other way round */
    IS(BAD_HANDLE, everlink_server_shutdown((everlink_server *)client, 0));
    int undelivered = 0;
    OK(everlink_close(client, 1000, "", count_dropped, &undelivered));
    CHECK(undelivered == 1);
    OK(everlink_free(client));
    everlink_string_free(NULL);
    everlink_message_free(NULL);
}

typedef struct {
    atomic_int messages, events, logins, requests, destroyed;
    atomic_int wrong;
} counts;

static void destroyed(void *user) { ++((counts *)user)->destroyed; }

static void on_message(void *user, everlink_connection *client, const everlink_message *message) {
    counts *counts = user;
    if (counts->destroyed > 1) ++counts->wrong; /* one was replaced before the start */
    /* what would wait for this very thread is refused, and what is no time for a callback starts only */
    everlink_message other;
    if (everlink_receive(client, -1, &other) == EVERLINK_CODE_OK) ++counts->wrong;
    if (everlink_flush(client, PATIENCE) != EVERLINK_CODE_WOULD_WAIT) ++counts->wrong;
    if (++counts->messages < 100 &&
        everlink_send_text(client, (const char *)message->data, message->size) != EVERLINK_CODE_OK)
        ++counts->wrong;
}

static void on_event(void *user, everlink_connection *client, const everlink_event *event) {
    counts *counts = user;
    (void)client;
    if (event->struct_size < sizeof *event || !strstr(event->json, event->name)) ++counts->wrong;
    ++counts->events;
}

static everlink_login *kept_login;
static everlink_request *kept_request;

static int is_welcome(void *user, const everlink_message *message) {
    IS(WRONG_ORDER, everlink_login_send(kept_login, "x", 1, 0));
    (void)user;
    return message->size == 7 && memcmp(message->data, "welcome", 7) == 0;
}

static int on_login(void *user, everlink_login *login) {
    everlink_message message;
    kept_login = login;
    OK(everlink_login_send(login, "first", 5, 0));
    OK(everlink_login_send(login, "welcome", 7, 0));
    OK(everlink_login_receive(login, -1, is_welcome, NULL, &message));
    everlink_message_free(&message);
    OK(everlink_login_set_heartbeat(login, 5000, 0, NULL, NULL));
    ++((counts *)user)->logins;
    return 0;
}

static int on_request(void *user, everlink_request *request) {
    kept_request = request;
    CHECK(everlink_request_attempt(request) >= 1);
    IS(INVALID_HEADER, everlink_request_set_header(request, "Upgrade", "x"));
    OK(everlink_request_set_header(request, "X-Api-Key", "k"));
    ++((counts *)user)->requests;
    return 0;
}

static int let_in(void *user, const everlink_incoming *incoming) {
    (void)user;
    char *key = everlink_incoming_header(incoming, "x-api-key");
    int status = key && strcmp(key, "k") == 0 ? 101 : 401;
    everlink_string_free(key);
    return status;
}

static void callbacks(void) {
    char url[64];
    everlink_server *server;
    OK(everlink_server_new(&server));
    IS(INVALID_OPTION, everlink_server_set_json(server, "{"));
    OK(everlink_server_set_json(server, "{\"limits\": {\"message\": 4096}}"));
    OK(everlink_server_on_request(server, let_in, NULL, NULL));
    OK(everlink_server_bind(server, "127.0.0.1:0", echo, NULL, NULL));
    snprintf(url, sizeof url, "ws://127.0.0.1:%u", (unsigned)everlink_server_port(server));
    counts counts = {0};
    everlink_connection *client;
    OK(everlink_client_new(url, &client));
    OK(everlink_client_on_message(client, on_message, &counts, destroyed));
    OK(everlink_client_on_event(client, on_event, &counts, destroyed));
    OK(everlink_client_on_login(client, on_login, &counts, destroyed));
    OK(everlink_client_on_request(client, on_request, &counts, destroyed));
    /* one that is replaced goes at once */
    OK(everlink_client_on_event(client, on_event, &counts, destroyed));
    CHECK(counts.destroyed == 1);
    OK(everlink_client_connect(client));
    IS(BAD_HANDLE, everlink_login_send(kept_login, "x", 1, 0));
    IS(BAD_HANDLE, everlink_request_set_url(kept_request, "ws://elsewhere"));
    IS(WRONG_ORDER, everlink_readable_fd(client, &(int){0}));
    while (counts.messages < 100) usleep(1000);
    IS(WOULD_WAIT, everlink_receive(client, PATIENCE, &(everlink_message){0}));
    OK(everlink_close(client, 1000, NULL, NULL, NULL));
    CHECK(counts.destroyed == 5 && counts.wrong == 0);
    CHECK(counts.logins == 1 && counts.requests == 1 && counts.events >= 3);
    OK(everlink_free(client));
    CHECK(counts.destroyed == 5);
    /* never started: they go with it; a wrong handle: at once */
    OK(everlink_client_new(url, &client));
    OK(everlink_client_on_login(client, on_login, &counts, destroyed));
    OK(everlink_free(client));
    CHECK(counts.destroyed == 6);
    IS(BAD_HANDLE, everlink_client_on_login(client, on_login, &counts, destroyed));
    CHECK(counts.destroyed == 7);
    /* the server refuses whoever has no key */
    OK(everlink_client_new(url, &client));
    IS(CONNECT, everlink_client_connect(client));
    CHECK(strstr(everlink_last_error(), "401"));
    OK(everlink_free(client));
    OK(everlink_server_free(server));
}

static void frees_itself(void *user, everlink_connection *client, const everlink_message *message) {
    (void)message;
    OK(everlink_free(client));
    atomic_fetch_add((atomic_int *)user, 1);
}

static void add_one(void *user) { atomic_fetch_add((atomic_int *)user, 1); }

static void a_callback_may_free_its_client(void) {
    char url[64];
    everlink_server *server = echo_server(url, sizeof url);
    everlink_connection *client;
    atomic_int steps = 0;
    OK(everlink_client_new(url, &client));
    OK(everlink_client_on_message(client, frees_itself, &steps, add_one));
    OK(everlink_client_connect(client));
    OK(everlink_send_text(client, "x", 1));
    while (steps < 2) usleep(1000);
    IS(BAD_HANDLE, everlink_free(client));
    OK(everlink_server_free(server));
}

static void answers(void *user, everlink_connection *client, const everlink_message *message) {
    (void)user;
    char key[16];
    if (message->size < 2) return;
    snprintf(key, sizeof key, "%.1s", (const char *)message->data);
    everlink_answer(client, key, message);
}

static void questions(void) {
    char url[64];
    everlink_server *server = echo_server(url, sizeof url);
    everlink_connection *client;
    OK(everlink_client_new(url, &client));
    OK(everlink_client_on_message(client, answers, NULL, NULL));
    OK(everlink_client_connect(client));
    everlink_message answer;
    OK(everlink_call(client, "7", "7 what?", 7, NULL, PATIENCE, &answer));
    CHECK(answer.size == 7);
    IS(TIMEOUT, everlink_answer(client, "7", &answer));
    everlink_message_free(&answer);
    IS(TIMEOUT, everlink_call(client, "8", "nobody answers", 14, NULL, 20, &answer));
    OK(everlink_free(client));
    OK(everlink_server_free(server));
}

/* An event that is a moment late makes it readable once more. */
static void until_quiet(everlink_connection *client, struct pollfd *waits) {
    everlink_message message;
    for (int i = 0; i < PATIENCE; i++) {
        IS(TIMEOUT, everlink_receive(client, 0, &message));
        if (poll(waits, 1, 0) == 0) return;
        usleep(1000);
    }
    CHECK(!"quiet");
}

static void descriptor(void) {
    char url[64];
    everlink_server *server = echo_server(url, sizeof url);
    everlink_connection *client = started(url);
    int descriptor;
    OK(everlink_readable_fd(client, &descriptor));
    struct pollfd waits = {descriptor, POLLIN, 0};
    until_quiet(client, &waits);
    for (int i = 0; i < 100; i++) {
        OK(everlink_send_text(client, "x", 1));
        CHECK(poll(&waits, 1, PATIENCE) == 1);
        expect(client, "x");
        until_quiet(client, &waits);
    }
    /* a loop hears of events as well */
    OK(everlink_reconnect(client));
    for (int heard = 0; !heard;) {
        CHECK(poll(&waits, 1, PATIENCE) == 1);
        everlink_message message;
        IS(TIMEOUT, everlink_receive(client, 0, &message));
        for (char *event; (event = everlink_next_event(client)); everlink_string_free(event))
            heard |= strstr(event, "\"disconnected\"") != NULL;
    }
    OK(everlink_free(client));
    OK(everlink_server_free(server));
}

static void a_socket_that_listens_already(void) {
    char url[64];
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    everlink_server *server;
    OK(everlink_server_new(&server));
    IS(SYSTEM, everlink_server_serve(server, listener, echo, NULL, NULL)); /* it does not listen */
    OK(everlink_server_free(server));
    CHECK(listen(listener, 8) == 0);
    OK(everlink_server_new(&server));
    OK(everlink_server_serve(server, listener, echo, NULL, NULL));
    CHECK(close(listener) == 0);
    snprintf(url, sizeof url, "ws://127.0.0.1:%u", (unsigned)everlink_server_port(server));
    everlink_connection *client = started(url);
    OK(everlink_send_text(client, "x", 1));
    expect(client, "x");
    OK(everlink_free(client));
    OK(everlink_server_free(server));
    OK(everlink_server_new(&server));
    IS(SYSTEM, everlink_server_serve(server, -1, echo, NULL, NULL));
    IS(WRONG_ORDER, everlink_server_serve(server, -1, echo, NULL, NULL));
    OK(everlink_server_free(server));
}

static void reconnects(void) {
    const char *said = getenv("EVERLINK_RECONNECTS");
    int count = said ? atoi(said) : 1000;
    char url[64];
    everlink_server *server = echo_server(url, sizeof url);
    everlink_connection *client = started(url);
    size_t before = 0;
    for (int i = 0; i < count; i++) {
        OK(everlink_reconnect(client));
        OK(everlink_wait_connected(client, PATIENCE));
        OK(everlink_send_text(client, "x", 1));
        /* what was sent when the old link ended may be lost with it: a later one is not */
        everlink_message message;
        while (everlink_receive(client, 200, &message) != EVERLINK_CODE_OK)
            OK(everlink_send_text(client, "x", 1));
        everlink_message_free(&message);
        if (i == count / 2) before = mallinfo2().uordblks;
    }
    size_t after = mallinfo2().uordblks;
    /* sanitizers and valgrind have a heap of their own, and count at the end */
    printf("    %d reconnects; %zu bytes at half of them, %zu at the end\n", count, before, after);
    CHECK(after < before + 512 * 1024);
    OK(everlink_free(client));
    OK(everlink_server_free(server));
}

static void *receive_all(void *client) {
    everlink_message message;
    int code;
    while ((code = everlink_receive(client, -1, &message)) == EVERLINK_CODE_OK) everlink_message_free(&message);
    CHECK(code == EVERLINK_CODE_CLOSED || code == EVERLINK_CODE_BAD_HANDLE);
    return NULL;
}

static void *send_all(void *client) {
    while (everlink_send_text(client, "x", 1) == EVERLINK_CODE_OK) {
    }
    return NULL;
}

static void *free_it(void *client) {
    everlink_free(client);
    return NULL;
}

static void closing_while_others_receive(void) {
    char url[64];
    everlink_server *server = echo_server(url, sizeof url);
    for (int round = 0; round < 20; round++) {
        everlink_connection *client = started(url);
        pthread_t threads[6];
        for (int i = 0; i < 4; i++)
            CHECK(pthread_create(&threads[i], NULL, i % 2 ? send_all : receive_all, client) == 0);
        usleep(2000);
        for (int i = 4; i < 6; i++) CHECK(pthread_create(&threads[i], NULL, free_it, client) == 0);
        for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
        IS(BAD_HANDLE, everlink_free(client));
    }
    OK(everlink_server_free(server));
}

static void a_child_has_clients_of_its_own(void) {
    char url[64];
    everlink_server *server = echo_server(url, sizeof url);
    everlink_connection *client = started(url);
    pid_t child = fork();
    if (child == 0) {
        IS(BAD_HANDLE, everlink_send_text(client, "from the child", 14));
        IS(BAD_HANDLE, everlink_free(client));
        everlink_connection *own = started(url);
        OK(everlink_send_text(own, "own", 3));
        expect(own, "own");
        OK(everlink_free(own));
        /* not _exit(): valgrind would find what the parent's threads have, which are not here, to be lost */
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    OK(everlink_send_text(client, "the parent's", 12));
    expect(client, "the parent's");
    OK(everlink_free(client));
    OK(everlink_server_free(server));
}

static void joins(void *user, everlink_connection *session) {
    everlink_message message;
    char topic[16];
    while (everlink_receive(session, -1, &message) == EVERLINK_CODE_OK) {
        snprintf(topic, sizeof topic, "%s", (const char *)message.data + 1);
        OK(message.data[0] == '+' ? everlink_session_join(session, topic) : everlink_session_leave(session, topic));
        everlink_send_text(session, "done", 4);
        everlink_message_free(&message);
    }
    (void)user;
}

static void what_is_published_comes_to_those_who_joined(void) {
    char url[64];
    everlink_server *server;
    OK(everlink_server_new(&server));
    OK(everlink_server_bind(server, "127.0.0.1:0", joins, NULL, NULL));
    snprintf(url, sizeof url, "ws://127.0.0.1:%u", (unsigned)everlink_server_port(server));
    everlink_connection *one = started(url), *other = started(url);
    OK(everlink_send_text(one, "+news", 5));
    expect(one, "done");
    OK(everlink_send_text(other, "+sport", 6));
    expect(other, "done");
    size_t count = 0;
    CHECK(everlink_server_members(server, "news") == 1 && everlink_server_members(server, "none") == 0);
    OK(everlink_server_publish(server, "news", "today", 5, 0, &count));
    CHECK(count == 1);
    expect(one, "today");
    OK(everlink_send_text(one, "-news", 5));
    expect(one, "done");
    OK(everlink_server_publish(server, "news", "later", 5, 0, &count));
    CHECK(count == 0);
    IS(BAD_HANDLE, everlink_session_join(one, "news"));
    OK(everlink_free(one));
    OK(everlink_free(other));
    OK(everlink_server_free(server));
}

static void a_broadcast_comes_to_everybody(void) {
    char url[64];
    everlink_server *server = echo_server(url, sizeof url);
    everlink_connection *one = started(url), *other = started(url);
    OK(everlink_send_text(one, "x", 1));
    OK(everlink_send_text(other, "x", 1));
    expect(one, "x");
    expect(other, "x");
    size_t count = 0;
    OK(everlink_server_broadcast(server, "to all", 6, 0, &count));
    CHECK(count == 2);
    expect(one, "to all");
    expect(other, "to all");
    char *stats = everlink_server_stats(server);
    CHECK(stats && strstr(stats, "sessions"));
    everlink_string_free(stats);
    OK(everlink_free(one));
    OK(everlink_free(other));
    OK(everlink_server_free(server));
}

int main(int argc, char **argv) {
    struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
        {"life_cycle", life_cycle},
        {"misuse", misuse},
        {"callbacks", callbacks},
        {"a_callback_may_free_its_client", a_callback_may_free_its_client},
        {"questions", questions},
        {"descriptor", descriptor},
        {"a_socket_that_listens_already", a_socket_that_listens_already},
        {"a_broadcast_comes_to_everybody", a_broadcast_comes_to_everybody},
        {"what_is_published_comes_to_those_who_joined", what_is_published_comes_to_those_who_joined},
        {"closing_while_others_receive", closing_while_others_receive},
        {"a_child_has_clients_of_its_own", a_child_has_clients_of_its_own},
        {"reconnects", reconnects},
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (argc > 1 && strcmp(argv[1], tests[i].name)) continue;
        printf("  %s\n", tests[i].name);
        fflush(stdout);
        tests[i].run();
    }
    return 0;
}

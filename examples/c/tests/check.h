/* What the C tests share: assertions, an echo server, waiting with a deadline. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "everlink.h"

#define PATIENCE 30000 /* ms: only a test that fails waits so long */

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition,             \
                    everlink_last_error());                                                \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

#define OK(call) CHECK((call) == EVERLINK_CODE_OK)
#define IS(code, call) CHECK((call) == EVERLINK_CODE_##code)

/* Returns every message to whoever sent it; "bye" ends the session. */
static inline void echo(void *user, everlink_connection *session) {
    (void)user;
    everlink_message message;
    while (everlink_receive(session, -1, &message) == EVERLINK_CODE_OK) {
        int is_bye = message.size == 3 && memcmp(message.data, "bye", 3) == 0;
        if (message.is_text)
            everlink_send_text(session, (const char *)message.data, message.size);
        else
            everlink_send_binary(session, message.data, message.size);
        everlink_message_free(&message);
        if (is_bye) return;
    }
}

static inline everlink_server *echo_server(char *url, size_t size) {
    everlink_server *server;
    OK(everlink_server_new(&server));
    OK(everlink_server_bind(server, "127.0.0.1:0", echo, NULL, NULL));
    snprintf(url, size, "ws://127.0.0.1:%u", (unsigned)everlink_server_port(server));
    return server;
}

static inline everlink_connection *started(const char *url) {
    everlink_connection *client;
    OK(everlink_client_new(url, &client));
    OK(everlink_client_set(client, "backoff.fixed", "10ms"));
    OK(everlink_client_start(client));
    OK(everlink_wait_connected(client, PATIENCE));
    return client;
}

#endif

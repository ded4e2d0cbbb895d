/* Receives by callback, and prints how many messages a second: see bench.rs. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "everlink.h"

#define MESSAGES 2000000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static double rate;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void on_message(void *user, everlink_connection *client, const everlink_message *message) {
    static size_t count, bytes;
    static double begun;
    (void)user, (void)client;
    if (count == 0) begun = now();
    bytes += message->size;
    if (++count < MESSAGES) return;
    pthread_mutex_lock(&lock);
    rate = bytes == 32 * (size_t)MESSAGES ? MESSAGES / (now() - begun) : -1;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

int main(void) {
    everlink_connection *client;
    if (everlink_client_new(getenv("URL"), &client) ||
        everlink_client_on_message(client, on_message, NULL, NULL) || everlink_client_connect(client)) {
        fprintf(stderr, "%s\n", everlink_last_error());
        return 1;
    }
    pthread_mutex_lock(&lock);
    while (rate == 0) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    printf("%f\n", rate);
    fflush(stdout);
    _Exit(0);
}

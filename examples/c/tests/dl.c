/* The library is loaded and unloaded like a plugin's: `dl LIBRARY`. */
#include "check.h"

#include <dlfcn.h>

static void once(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        abort();
    }
    int (*make)(const char *, everlink_connection **);
    int (*start)(everlink_connection *);
    int (*end)(everlink_connection *);
    *(void **)&make = dlsym(library, "everlink_client_new");
    *(void **)&start = dlsym(library, "everlink_client_start");
    *(void **)&end = dlsym(library, "everlink_free");
    if (!make || !start || !end) abort();
    everlink_connection *client;
    if (make("ws://127.0.0.1:1", &client) || start(client) || end(client)) abort();
    /* one that is forgotten goes on, and its code with it */
    if (make("ws://127.0.0.1:1", &client) || start(client)) abort();
    if (dlclose(library)) abort();
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    for (int i = 0; i < 3; i++) once(argv[1]);
    return 0;
}

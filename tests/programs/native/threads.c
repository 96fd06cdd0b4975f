/* A library with a thread of its own, which runs no Python: it makes and drops many blocks and keeps some. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *kept[1 << 20];
size_t used;

__attribute__((noinline)) static void scratch(void)
{
    for (int i = 0; i < 40; i++) {
        char *volatile block = malloc(900 + 8 * i);
        free(block);
    }
}

__attribute__((noinline)) static void collect(void)
{
    char *block = malloc(1000);
    if (block)
        memset(block, 1, 1000);
    if (used < sizeof kept / sizeof *kept)
        kept[used++] = block;
}

static void *run(void *keep)
{
    for (;;) {
        scratch();
        if (keep)
            collect();
        usleep(2000);
    }
    return NULL;
}

size_t begin(int keep)
{
    pthread_t thread;
    pthread_create(&thread, NULL, run, keep ? "yes" : NULL);
    pthread_setname_np(thread, "collector");
    return 0;
}

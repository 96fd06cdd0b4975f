/* A stand-in for torch's caching allocator: it takes segments from the runtime, hands out blocks of them, keeps
   those that are given back for the next, and reports each to the hook of torch's core that its profilers use. */
#define FIELDS struct entry *previous, *before, *after; int is_large, index;
#include "api.h"
#include "device.h"
#include "table.h"
#include <dlfcn.h>
#include <pthread.h>

#define MIB ((uint64_t)1 << 20)
#define ROUND 512
#define SMALL MIB
#define SMALL_SEGMENT (2 * MIB)
#define MIDDLE (10 * MIB)
#define MIDDLE_SEGMENT (20 * MIB)

enum { LIVE, FREE };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* The free blocks of segments for small ones, and of those for large ones. Live ones are in the table. */
static struct entry *pools[2];
static uint64_t allocated, reserved;
static int (*cudaMalloc)(void **, size_t);
static int (*cudaFree)(void *);

static void add_free(struct entry *block)
{
    struct entry **pool = &pools[block->is_large];
    block->kind = FREE;
    block->previous = NULL;
    block->link = *pool;
    if (*pool)
        (*pool)->previous = block;
    *pool = block;
}

static void remove_free(struct entry *block)
{
    if (block->previous)
        block->previous->link = block->link;
    else
        pools[block->is_large] = block->link;
    if (block->link)
        block->link->previous = block->previous;
}

static struct entry *best_fit(int is_large, uint64_t size)
{
    struct entry *best = NULL;
    for (struct entry *block = pools[is_large]; block; block = block->link)
        if (block->size >= size && (!best || block->size < best->size))
            best = block;
    return best;
}

static void empty_cache(void)
{
    for (int is_large = 0; is_large < 2; is_large++)
        for (struct entry *block = pools[is_large], *next; block; block = next) {
            next = block->link;
            if (block->before || block->after)
                continue;
            remove_free(block);
            cudaFree((void *)block->address);
            reserved -= block->size;
            discard(block);
        }
}

static struct entry *new_segment(int is_large, uint64_t size)
{
    void *pointer;
    uint64_t whole = (size + 2 * MIB - 1) / (2 * MIB) * (2 * MIB);
    if (!is_large)
        whole = SMALL_SEGMENT;
    else if (size < MIDDLE)
        whole = MIDDLE_SEGMENT;
    if (!cudaMalloc) {
        void *library = dlopen("libcudart.so.13", RTLD_NOW);
        if (!library)
            return NULL;
        *(void **)&cudaFree = dlsym(library, "cudaFree");
        *(void **)&cudaMalloc = dlsym(library, "cudaMalloc");
    }
    struct entry *block = fresh();
    if (!block)
        return NULL;
    if (cudaMalloc(&pointer, whole)) {
        empty_cache();
        if (cudaMalloc(&pointer, whole)) {
            discard(block);
            return NULL;
        }
    }
    reserved += whole;
    block->address = (uintptr_t)pointer;
    block->size = whole;
    block->is_large = is_large;
    block->before = block->after = NULL;
    add_free(block);
    return block;
}

/* Makes a free block of what is more than `size` of one. */
static void split(struct entry *block, uint64_t size)
{
    struct entry *rest = fresh();
    if (!rest)
        return;
    rest->address = block->address + size;
    rest->size = block->size - size;
    rest->is_large = block->is_large;
    rest->before = block;
    rest->after = block->after;
    if (rest->after)
        rest->after->before = rest;
    block->after = rest;
    block->size = size;
    add_free(rest);
}

/* Makes one block of two free ones. */
static void merge(struct entry *block, struct entry *next)
{
    block->size += next->size;
    block->after = next->after;
    if (block->after)
        block->after->before = block;
    discard(next);
}

EXPORT void *fake_torch_malloc(size_t size, int index)
{
    struct Device device = {1, index};
    void *pointer = NULL;
    if (!size)
        return NULL;
    size = (size + ROUND - 1) / ROUND * ROUND;
    int is_large = size > SMALL;
    pthread_mutex_lock(&mutex);
    struct entry *block = best_fit(is_large, size);
    if (!block)
        block = new_segment(is_large, size);
    if (block) {
        remove_free(block);
        if (is_large ? block->size - size > SMALL : block->size > size)
            split(block, size);
        block->kind = LIVE;
        block->index = index;
        enter(block);
        allocated += block->size;
        pointer = (void *)block->address;
        _ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE(pointer, block->size, allocated, reserved, device);
    } else {
        _ZN3c1027reportOutOfMemoryToProfilerElmmNS_6DeviceE(size, allocated, reserved, device);
    }
    pthread_mutex_unlock(&mutex);
    return pointer;
}

EXPORT void fake_torch_free(void *pointer)
{
    pthread_mutex_lock(&mutex);
    struct entry *block = find((uintptr_t)pointer, 1u << LIVE);
    if (block) {
        struct Device device = {1, block->index};
        int64_t size = block->size;
        leave(block);
        allocated -= size;
        if (block->after && block->after->kind == FREE) {
            remove_free(block->after);
            merge(block, block->after);
        }
        if (block->before && block->before->kind == FREE) {
            remove_free(block->before);
            block = block->before;
            merge(block, block->after);
        }
        add_free(block);
        _ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE(pointer, -size, allocated, reserved, device);
    }
    pthread_mutex_unlock(&mutex);
}

EXPORT void fake_torch_empty_cache(void)
{
    pthread_mutex_lock(&mutex);
    empty_cache();
    pthread_mutex_unlock(&mutex);
}

EXPORT void fake_torch_stats(uint64_t *into_allocated, uint64_t *into_reserved)
{
    pthread_mutex_lock(&mutex);
    *into_allocated = allocated;
    *into_reserved = reserved;
    pthread_mutex_unlock(&mutex);
}

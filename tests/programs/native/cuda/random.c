/* Random allocations and frees of all kinds, by as many threads as call at once. */
#include "api.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

DRIVER(POINTER)
RUNTIME(POINTER)

#define SLOTS 64
#define GRANULE ((size_t)2 << 20)
#define TOO_MUCH ((size_t)1 << 46)
#define ONE_IN(n) (random_of(state) % (n) == 0)

enum kind { NONE, PLAIN, ASYNC, PINNED, REGISTERED, VMM };

struct slot {
    enum kind kind;
    CUdeviceptr address;
    size_t size;
    CUmemHandle handle; /* of VMM memory; 0 once it is released */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void begin(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    DRIVER(LOOK_UP)
    library = dlopen("libcudart.so.13", RTLD_NOW);
    RUNTIME(LOOK_UP)
}

static uint64_t random_of(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}

static int take_vmm(struct slot *slot, size_t size, uint64_t *state)
{
    slot->size = size = size < TOO_MUCH ? (size / GRANULE + 1) * GRANULE : size;
    if (cuMemCreate(&slot->handle, size, NULL, 0))
        return 1;
    if (cuMemAddressReserve(&slot->address, size, 0, 0, 0) || cuMemMap(slot->address, size, 0, slot->handle, 0))
        abort();
    /* Some do so as soon as it is mapped: the mapping keeps the memory. */
    if (ONE_IN(2)) {
        if (cuMemRelease(slot->handle))
            abort();
        slot->handle = 0;
    }
    return 0;
}

static int take_registered(struct slot *slot, size_t size)
{
    void *memory = malloc(4096);
    slot->address = (uintptr_t)memory;
    int result = cuMemHostRegister_v2(memory, size < TOO_MUCH ? 4096 : 0, 0);
    if (result)
        free(memory);
    return result;
}

/* Asks for more than there is at times. */
static void take(struct slot *slot, uint64_t *state, int runtime)
{
    static const enum kind kinds[] = {PLAIN, PLAIN, PLAIN, PLAIN, ASYNC, ASYNC, ASYNC, ASYNC, PINNED, PINNED,
                                      REGISTERED, VMM};
    CUdeviceptr *into = &slot->address;
    void **pointer = (void **)into;
    size_t size = ONE_IN(100) ? TOO_MUCH : 1 + random_of(state) % (ONE_IN(10) ? 8 << 20 : 64 << 10), pitch;
    unsigned which = random_of(state) % (sizeof kinds / sizeof *kinds);
    int result;
    switch (which) {
    case 0:
    case 1:
        result = runtime ? cudaMalloc(pointer, size) : cuMemAlloc_v2(into, size);
        break;
    case 2:
        result = runtime ? cudaMallocPitch(pointer, &pitch, size / 16 + 1, 16)
                         : cuMemAllocPitch_v2(into, &pitch, size / 16 + 1, 16, 4);
        break;
    case 3:
        result = runtime ? cudaMallocManaged(pointer, size, 1) : cuMemAllocManaged(into, size, 1);
        break;
    case 4:
        result = runtime ? cudaMallocAsync(pointer, size, NULL) : cuMemAllocAsync(into, size, NULL);
        break;
    case 5:
        result = cuMemAllocAsync_ptsz(into, size, NULL);
        break;
    case 6:
        result = runtime ? cudaMallocFromPoolAsync(pointer, size, NULL, NULL)
                         : cuMemAllocFromPoolAsync(into, size, NULL, NULL);
        break;
    case 7:
        result = cuMemAllocFromPoolAsync_ptsz(into, size, NULL, NULL);
        break;
    case 8:
        result = runtime ? cudaMallocHost(pointer, size) : cuMemAllocHost_v2(pointer, size);
        break;
    case 9:
        result = runtime ? cudaHostAlloc(pointer, size, 0) : cuMemHostAlloc(pointer, size, 0);
        break;
    case 10:
        result = take_registered(slot, size);
        break;
    default:
        result = take_vmm(slot, size, state);
    }
    slot->kind = result ? NONE : kinds[which];
}

static void give(struct slot *slot, uint64_t *state, int runtime)
{
    void *pointer = (void *)(uintptr_t)slot->address;
    int result = 0;
    switch (slot->kind) {
    case PLAIN:
        result = runtime ? cudaFree(pointer) : cuMemFree_v2(slot->address);
        break;
    case ASYNC:
        if (ONE_IN(4))
            result = cuMemFree_v2(slot->address);
        else if (ONE_IN(2))
            result = cuMemFreeAsync_ptsz(slot->address, NULL);
        else
            result = runtime ? cudaFreeAsync(pointer, NULL) : cuMemFreeAsync(slot->address, NULL);
        break;
    case PINNED:
        result = runtime ? cudaFreeHost(pointer) : cuMemFreeHost(pointer);
        break;
    case REGISTERED:
        result = runtime ? cudaHostUnregister(pointer) : cuMemHostUnregister(pointer);
        free(pointer);
        break;
    case VMM:
        /* In either order. */
        if (slot->handle && ONE_IN(2)) {
            result = cuMemRelease(slot->handle);
            slot->handle = 0;
        }
        result |= cuMemUnmap(slot->address, slot->size);
        if (slot->handle)
            result |= cuMemRelease(slot->handle);
        result |= cuMemAddressFree(slot->address, slot->size);
        break;
    case NONE:
        break;
    }
    if (result)
        abort();
    slot->kind = NONE;
}

/* So many allocations and frees by this thread, of which at most `keep` allocations stay. */
EXPORT void fake_random(unsigned seed, unsigned long operations, int through_runtime, unsigned keep)
{
    struct slot slots[SLOTS] = {0};
    uint64_t random_state = (seed + 1) * 0x9e3779b97f4a7c15, *state = &random_state;
    pthread_once(&once, begin);
    for (unsigned long number = 0; number < operations; number++) {
        struct slot *slot = &slots[random_of(state) % SLOTS];
        if (ONE_IN(200))
            cuMemFree_v2(12345); /* no address of anything: fails */
        else if (slot->kind)
            give(slot, state, through_runtime);
        else
            take(slot, state, through_runtime);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i].kind && keep)
            keep--;
        else
            give(&slots[i], state, through_runtime);
}

/* A stand-in for the CUDA driver: it keeps the books of a device that isn't there.

   Device memory is addresses only, which are soon used again, as the driver does. Pinned memory is real. What is
   live is counted by kind; `fake_counters` tells. FAKE_CUDA_BYTES says how large the device is. */
#define _GNU_SOURCE
#define FIELDS unsigned uses, released; struct entry *of;
#include "api.h"
#include "table.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The kinds that are counted, in the order of the counters; then what takes no memory. */
enum kind { DEVICE, MANAGED, ASYNC, PINNED, REGISTERED, VMM, COUNTED, RESERVED = COUNTED, MAPPED };

#define ON_DEVICE (1u << DEVICE | 1u << MANAGED | 1u << ASYNC)
#define GRANULARITY ((uint64_t)2 << 20)
#define PITCH 512
#define DEVICE_BYTES ((uint64_t)64 << 30)
#define PINNED_BYTES ((uint64_t)32 << 30)

/* Six of these, one for each kind of memory: device, managed, async, pinned, registered, vmm.
   Bytes are those that were asked for; `dropped` are those that went with their context.
   allocations == frees + dropped + live_count. */
struct counters {
    uint64_t live_bytes, live_count, allocations, frees, dropped, failures;
};

/* Addresses in powers of two, of which those given back last are handed out first. */
struct region {
    uint64_t next, end, least;
    struct entry *free[64];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct counters counters[COUNTED];
static uint64_t capacity, taken;
static unsigned retained, created;
/* Where neither the heap nor the maps of a process lie, so that no address is two things. */
static struct region device = {.next = 0x700000000000, .end = 0x780000000000, .least = 512};
static struct region reserved = {.next = 0x780000000000, .end = 0x7c0000000000, .least = GRANULARITY};
static struct region handles = {.next = 0x10000000, .end = 0x100000000, .least = 512};
static struct region pinned = {.least = 4096};

static struct entry *claim(struct region *region, uint64_t size)
{
    unsigned class = 64 - __builtin_clzll((size - 1) | (region->least - 1));
    if (class >= 48)
        return NULL;
    struct entry *entry = region->free[class];
    if (entry) {
        region->free[class] = entry->link;
    } else {
        uint64_t unit = (uint64_t)1 << class;
        if (unit > region->end - region->next || !(entry = fresh()))
            return NULL;
        entry->address = region->next;
        region->next += unit;
    }
    entry->size = size;
    return entry;
}

static void give_back(struct region *region, struct entry *entry)
{
    unsigned class = 64 - __builtin_clzll((entry->size - 1) | (region->least - 1));
    entry->link = region->free[class];
    region->free[class] = entry;
}

/* With the lock. */
static void measure_device(void)
{
    const char *asked = getenv("FAKE_CUDA_BYTES");
    if (capacity)
        return;
    capacity = asked ? strtoull(asked, NULL, 0) : 0;
    if (!capacity)
        capacity = DEVICE_BYTES;
}

/* One map for all pinned memory, of a file as the driver's are: its blocks are no maps of the program's. */
static void open_pinned(void)
{
    int file = memfd_create("pinned", MFD_CLOEXEC);
    if (file < 0)
        return;
    if (ftruncate(file, PINNED_BYTES) == 0) {
        void *start = mmap(NULL, PINNED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
        if (start != MAP_FAILED) {
            pinned.next = (uintptr_t)start;
            pinned.end = pinned.next + PINNED_BYTES;
        }
    }
    close(file);
}

static struct region *region_of(enum kind kind)
{
    if (ON_DEVICE >> kind & 1)
        return &device;
    return kind == PINNED ? &pinned : kind == VMM ? &handles : kind == RESERVED ? &reserved : NULL;
}

static int is_of_device(enum kind kind)
{
    return ON_DEVICE >> kind & 1 || kind == VMM;
}

/* With the lock: an entry of this kind, at an address of its region's or, without one, at the given address. */
static int take(enum kind kind, uint64_t size, uint64_t *address, struct entry **taker)
{
    struct region *region = region_of(kind);
    measure_device();
    if (!size || (!region && (!*address || find(*address, 1u << kind))))
        return INVALID_VALUE;
    if (is_of_device(kind) && size > capacity - taken)
        return OUT_OF_MEMORY;
    if (kind == PINNED && !pinned.next)
        open_pinned();
    struct entry *entry = region ? claim(region, size) : fresh();
    if (!entry)
        return OUT_OF_MEMORY;
    if (region)
        *address = entry->address;
    entry->address = *address;
    entry->size = size;
    entry->kind = kind;
    entry->uses = entry->released = 0;
    enter(entry);
    if (kind < COUNTED) {
        counters[kind].live_bytes += size;
        counters[kind].live_count++;
        counters[kind].allocations++;
    }
    if (is_of_device(kind))
        taken += size;
    *taker = entry;
    return OK;
}

static void let_go(struct entry *entry, int is_dropped)
{
    enum kind kind = entry->kind;
    struct region *region = region_of(kind);
    leave(entry);
    if (kind < COUNTED) {
        counters[kind].live_bytes -= entry->size;
        counters[kind].live_count--;
        if (is_dropped)
            counters[kind].dropped++;
        else
            counters[kind].frees++;
    }
    if (is_of_device(kind))
        taken -= entry->size;
    entry->kind = MAPPED + 1; /* none that anyone looks for */
    if (region)
        give_back(region, entry);
    else
        discard(entry);
}

static int allocate(enum kind kind, uint64_t size, uint64_t *address)
{
    struct entry *entry;
    pthread_mutex_lock(&mutex);
    int result = address ? take(kind, size, address, &entry) : INVALID_VALUE;
    if (result && kind < COUNTED)
        counters[kind].failures++;
    pthread_mutex_unlock(&mutex);
    return result;
}

static int release(unsigned kinds, uint64_t address)
{
    if (!address)
        return OK;
    pthread_mutex_lock(&mutex);
    struct entry *entry = find(address, kinds);
    if (entry)
        let_go(entry, 0);
    pthread_mutex_unlock(&mutex);
    return entry ? OK : INVALID_VALUE;
}

/* A context is gone, and with it all memory but that which is mapped: pinned memory of the host, too. */
static void drop_all(void)
{
    for (size_t i = 0; i < entries_used; i++)
        if (entries[i].kind < COUNTED && entries[i].kind != VMM)
            let_go(&entries[i], 1);
}

EXPORT void fake_counters(struct counters *into)
{
    pthread_mutex_lock(&mutex);
    for (int kind = 0; kind < COUNTED; kind++)
        into[kind] = counters[kind];
    pthread_mutex_unlock(&mutex);
}

EXPORT int cuInit(unsigned flags)
{
    pthread_mutex_lock(&mutex);
    measure_device();
    pthread_mutex_unlock(&mutex);
    return flags ? INVALID_VALUE : OK;
}

EXPORT int cuMemAlloc_v2(CUdeviceptr *pointer, size_t size)
{
    return allocate(DEVICE, size, (uint64_t *)pointer);
}

EXPORT int cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned element)
{
    uint64_t size;
    *pitch = (width + PITCH - 1) / PITCH * PITCH;
    if ((element != 4 && element != 8 && element != 16) || __builtin_mul_overflow(*pitch, height, &size))
        size = 0;
    return allocate(DEVICE, size, (uint64_t *)pointer);
}

EXPORT int cuMemAllocManaged(CUdeviceptr *pointer, size_t size, unsigned flags)
{
    return allocate(MANAGED, flags ? size : 0, (uint64_t *)pointer);
}

EXPORT int cuMemAllocAsync(CUdeviceptr *pointer, size_t size, CUstream stream)
{
    return allocate(ASYNC, size, (uint64_t *)pointer);
}

EXPORT int cuMemAllocAsync_ptsz(CUdeviceptr *pointer, size_t size, CUstream stream)
{
    return allocate(ASYNC, size, (uint64_t *)pointer);
}

EXPORT int cuMemAllocFromPoolAsync(CUdeviceptr *pointer, size_t size, CUpool pool, CUstream stream)
{
    return allocate(ASYNC, size, (uint64_t *)pointer);
}

EXPORT int cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *pointer, size_t size, CUpool pool, CUstream stream)
{
    return allocate(ASYNC, size, (uint64_t *)pointer);
}

EXPORT int cuMemFree_v2(CUdeviceptr pointer)
{
    return release(ON_DEVICE, pointer);
}

EXPORT int cuMemFreeAsync(CUdeviceptr pointer, CUstream stream)
{
    return release(ON_DEVICE, pointer);
}

EXPORT int cuMemFreeAsync_ptsz(CUdeviceptr pointer, CUstream stream)
{
    return release(ON_DEVICE, pointer);
}

EXPORT int cuMemAllocHost_v2(void **pointer, size_t size)
{
    return allocate(PINNED, size, (uint64_t *)pointer);
}

EXPORT int cuMemHostAlloc(void **pointer, size_t size, unsigned flags)
{
    return allocate(PINNED, size, (uint64_t *)pointer);
}

EXPORT int cuMemFreeHost(void *pointer)
{
    return release(1u << PINNED, (uintptr_t)pointer);
}

EXPORT int cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags)
{
    uint64_t address = (uintptr_t)pointer;
    return allocate(REGISTERED, size, &address);
}

EXPORT int cuMemHostUnregister(void *pointer)
{
    return pointer ? release(1u << REGISTERED, (uintptr_t)pointer) : INVALID_VALUE;
}

EXPORT int cuMemCreate(CUmemHandle *handle, size_t size, const void *properties, CUflags flags)
{
    return allocate(VMM, size % GRANULARITY ? 0 : size, (uint64_t *)handle);
}

/* Memory lives as long as its handle or a mapping of it does. */
static void let_go_if_unused(struct entry *memory)
{
    if (memory->released && !memory->uses)
        let_go(memory, 0);
}

EXPORT int cuMemRelease(CUmemHandle handle)
{
    pthread_mutex_lock(&mutex);
    struct entry *memory = find(handle, 1u << VMM);
    int is_held = memory && !memory->released;
    if (is_held) {
        memory->released = 1;
        let_go_if_unused(memory);
    }
    pthread_mutex_unlock(&mutex);
    return is_held ? OK : INVALID_VALUE;
}

EXPORT int cuMemAddressReserve(CUdeviceptr *pointer, size_t size, size_t alignment, CUdeviceptr wish, CUflags flags)
{
    return allocate(RESERVED, size % GRANULARITY ? 0 : size, (uint64_t *)pointer);
}

EXPORT int cuMemAddressFree(CUdeviceptr pointer, size_t size)
{
    return release(1u << RESERVED, pointer);
}

EXPORT int cuMemMap(CUdeviceptr pointer, size_t size, size_t offset, CUmemHandle handle, CUflags flags)
{
    uint64_t address = pointer;
    struct entry *mapping;
    pthread_mutex_lock(&mutex);
    struct entry *memory = find(handle, 1u << VMM);
    int result = INVALID_VALUE;
    if (memory && !memory->released && !offset && size == memory->size)
        result = take(MAPPED, size, &address, &mapping);
    if (!result) {
        mapping->of = memory;
        memory->uses++;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

/* A range of whole mappings, one after the other. */
EXPORT int cuMemUnmap(CUdeviceptr pointer, size_t size)
{
    struct entry *mapping;
    uint64_t at = pointer, end = pointer + size;
    pthread_mutex_lock(&mutex);
    while (at < end && (mapping = find(at, 1u << MAPPED)))
        at += mapping->size;
    int is_whole = size && at == end;
    for (at = pointer; is_whole && at < end; at += mapping->size) {
        mapping = find(at, 1u << MAPPED);
        mapping->of->uses--;
        let_go_if_unused(mapping->of);
        let_go(mapping, 0);
    }
    pthread_mutex_unlock(&mutex);
    return is_whole ? OK : INVALID_VALUE;
}

EXPORT int cuMemGetInfo_v2(size_t *free, size_t *total)
{
    pthread_mutex_lock(&mutex);
    measure_device();
    *free = capacity - taken;
    *total = capacity;
    pthread_mutex_unlock(&mutex);
    return OK;
}

EXPORT int cuCtxCreate_v4(CUcontext *context, void *parameters, unsigned flags, int device)
{
    pthread_mutex_lock(&mutex);
    *context = entries + ++created;
    pthread_mutex_unlock(&mutex);
    return device ? INVALID_VALUE : OK;
}

EXPORT int cuCtxDestroy_v2(CUcontext context)
{
    pthread_mutex_lock(&mutex);
    if (context)
        drop_all();
    pthread_mutex_unlock(&mutex);
    return context ? OK : INVALID_VALUE;
}

EXPORT int cuDevicePrimaryCtxRetain(CUcontext *context, int device)
{
    pthread_mutex_lock(&mutex);
    retained++;
    *context = entries;
    pthread_mutex_unlock(&mutex);
    return device ? INVALID_VALUE : OK;
}

/* The last one who held it takes the context's memory along. */
EXPORT int cuDevicePrimaryCtxRelease_v2(int device)
{
    pthread_mutex_lock(&mutex);
    int was_held = retained > 0;
    if (was_held && --retained == 0)
        drop_all();
    pthread_mutex_unlock(&mutex);
    return was_held ? OK : INVALID_VALUE;
}

EXPORT int cuDevicePrimaryCtxReset_v2(int device)
{
    pthread_mutex_lock(&mutex);
    if (!device)
        drop_all();
    pthread_mutex_unlock(&mutex);
    return device ? INVALID_VALUE : OK;
}

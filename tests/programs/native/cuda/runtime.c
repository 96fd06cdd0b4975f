/* A stand-in for the CUDA runtime: it looks the driver up when it is first used, and calls it. */
#include "api.h"
#include <dlfcn.h>
#include <pthread.h>

DRIVER(POINTER)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int ready;
static __thread int last_error;

static void begin(void)
{
    CUcontext context;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library)
        return;
    DRIVER(LOOK_UP)
    ready = !cuInit(0) && !cuDevicePrimaryCtxRetain(&context, 0);
}

static int is_ready(void)
{
    pthread_once(&once, begin);
    return ready;
}

/* The runtime's error for the driver's, which it also keeps. */
static int told(int result)
{
    if (result)
        last_error = result = result == OUT_OF_MEMORY ? OUT_OF_MEMORY : INVALID_VALUE;
    return result;
}

#define CALL(name, ...) told(is_ready() ? name(__VA_ARGS__) : INVALID_VALUE)

EXPORT int cudaMalloc(void **pointer, size_t size)
{
    if (pointer && !size) {
        *pointer = NULL;
        return OK;
    }
    return CALL(cuMemAlloc_v2, (CUdeviceptr *)pointer, size);
}

EXPORT int cudaMallocPitch(void **pointer, size_t *pitch, size_t width, size_t height)
{
    return CALL(cuMemAllocPitch_v2, (CUdeviceptr *)pointer, pitch, width, height, 4);
}

EXPORT int cudaMallocManaged(void **pointer, size_t size, unsigned flags)
{
    return CALL(cuMemAllocManaged, (CUdeviceptr *)pointer, size, flags);
}

EXPORT int cudaMallocAsync(void **pointer, size_t size, CUstream stream)
{
    return CALL(cuMemAllocAsync, (CUdeviceptr *)pointer, size, stream);
}

EXPORT int cudaMallocFromPoolAsync(void **pointer, size_t size, CUpool pool, CUstream stream)
{
    return CALL(cuMemAllocFromPoolAsync, (CUdeviceptr *)pointer, size, pool, stream);
}

EXPORT int cudaMallocHost(void **pointer, size_t size)
{
    return CALL(cuMemHostAlloc, pointer, size, 0);
}

EXPORT int cudaHostAlloc(void **pointer, size_t size, unsigned flags)
{
    return CALL(cuMemHostAlloc, pointer, size, flags);
}

EXPORT int cudaHostRegister(void *pointer, size_t size, unsigned flags)
{
    return CALL(cuMemHostRegister_v2, pointer, size, flags);
}

EXPORT int cudaHostUnregister(void *pointer)
{
    return CALL(cuMemHostUnregister, pointer);
}

EXPORT int cudaFree(void *pointer)
{
    return CALL(cuMemFree_v2, (uintptr_t)pointer);
}

EXPORT int cudaFreeAsync(void *pointer, CUstream stream)
{
    return CALL(cuMemFreeAsync, (uintptr_t)pointer, stream);
}

EXPORT int cudaFreeHost(void *pointer)
{
    return CALL(cuMemFreeHost, pointer);
}

EXPORT int cudaDeviceReset(void)
{
    return CALL(cuDevicePrimaryCtxReset_v2, 0);
}

EXPORT int cudaMemGetInfo(size_t *free, size_t *total)
{
    return CALL(cuMemGetInfo_v2, free, total);
}

EXPORT int cudaGetLastError(void)
{
    int error = last_error;
    last_error = OK;
    return error;
}

/* The functions of the driver and the runtime with their arguments, for those who find them by dlsym. */
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2 };

typedef unsigned long long CUdeviceptr, CUmemHandle, CUflags;
typedef void *CUstream, *CUpool, *CUcontext;

#define DRIVER(X) \
    X(cuInit, unsigned) \
    X(cuDevicePrimaryCtxRetain, CUcontext *, int) \
    X(cuDevicePrimaryCtxReset_v2, int) \
    X(cuMemAlloc_v2, CUdeviceptr *, size_t) \
    X(cuMemAllocPitch_v2, CUdeviceptr *, size_t *, size_t, size_t, unsigned) \
    X(cuMemAllocManaged, CUdeviceptr *, size_t, unsigned) \
    X(cuMemAllocAsync, CUdeviceptr *, size_t, CUstream) \
    X(cuMemAllocAsync_ptsz, CUdeviceptr *, size_t, CUstream) \
    X(cuMemAllocFromPoolAsync, CUdeviceptr *, size_t, CUpool, CUstream) \
    X(cuMemAllocFromPoolAsync_ptsz, CUdeviceptr *, size_t, CUpool, CUstream) \
    X(cuMemCreate, CUmemHandle *, size_t, const void *, CUflags) \
    X(cuMemRelease, CUmemHandle) \
    X(cuMemAddressReserve, CUdeviceptr *, size_t, size_t, CUdeviceptr, CUflags) \
    X(cuMemAddressFree, CUdeviceptr, size_t) \
    X(cuMemMap, CUdeviceptr, size_t, size_t, CUmemHandle, CUflags) \
    X(cuMemUnmap, CUdeviceptr, size_t) \
    X(cuMemAllocHost_v2, void **, size_t) \
    X(cuMemHostAlloc, void **, size_t, unsigned) \
    X(cuMemHostRegister_v2, void *, size_t, unsigned) \
    X(cuMemHostUnregister, void *) \
    X(cuMemFree_v2, CUdeviceptr) \
    X(cuMemFreeAsync, CUdeviceptr, CUstream) \
    X(cuMemFreeAsync_ptsz, CUdeviceptr, CUstream) \
    X(cuMemFreeHost, void *) \
    X(cuMemGetInfo_v2, size_t *, size_t *)

#define RUNTIME(X) \
    X(cudaMalloc, void **, size_t) \
    X(cudaMallocPitch, void **, size_t *, size_t, size_t) \
    X(cudaMallocManaged, void **, size_t, unsigned) \
    X(cudaMallocAsync, void **, size_t, CUstream) \
    X(cudaMallocFromPoolAsync, void **, size_t, CUpool, CUstream) \
    X(cudaMallocHost, void **, size_t) \
    X(cudaHostAlloc, void **, size_t, unsigned) \
    X(cudaHostRegister, void *, size_t, unsigned) \
    X(cudaHostUnregister, void *) \
    X(cudaFree, void *) \
    X(cudaFreeAsync, void *, CUstream) \
    X(cudaFreeHost, void *)

/* For the lists above: a pointer to the function, and its look-up in `library`. */
#define POINTER(name, ...) static int (*name)(__VA_ARGS__);
#define LOOK_UP(name, ...) *(void **)&name = dlsym(library, #name);

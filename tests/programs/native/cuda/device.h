#include <stddef.h>
#include <stdint.h>

/* As c10::Device, passed in one register; its type 1 is CUDA. */
struct Device {
    int8_t type, index;
};

/* c10::reportMemoryUsageToProfiler(void*, long, unsigned long, unsigned long, c10::Device) */
void _ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE(void *pointer, int64_t size, size_t total_allocated,
                                                           size_t total_reserved, struct Device device);

/* c10::reportOutOfMemoryToProfiler(long, unsigned long, unsigned long, c10::Device) */
void _ZN3c1027reportOutOfMemoryToProfilerElmmNS_6DeviceE(int64_t size, size_t total_allocated, size_t total_reserved,
                                                         struct Device device);

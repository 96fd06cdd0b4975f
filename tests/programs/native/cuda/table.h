/* What is live, by its address. Nothing here comes from malloc, so that a leak of device memory is none of host
   memory as well. Each library that includes this has a table of its own; its callers lock. */
#include <stddef.h>
#include <stdint.h>

#define ENTRIES (1 << 20)
#define BUCKET_BITS 16

struct entry {
    uint64_t address, size;
    unsigned kind;
    struct entry *link; /* the next of its bucket, or of the list of spare or free ones that it is in */
    FIELDS              /* what else the library keeps of it */
};

static struct entry entries[ENTRIES], *buckets[1 << BUCKET_BITS], *spare;
static size_t entries_used;

static struct entry *fresh(void)
{
    struct entry *entry = spare;
    if (entry)
        spare = entry->link;
    else if (entries_used < ENTRIES)
        entry = &entries[entries_used++];
    return entry;
}

static inline void discard(struct entry *entry)
{
    entry->link = spare;
    spare = entry;
}

static struct entry **bucket(uint64_t address)
{
    return &buckets[address * 0x9e3779b97f4a7c15 >> (64 - BUCKET_BITS)];
}

static void enter(struct entry *entry)
{
    struct entry **head = bucket(entry->address);
    entry->link = *head;
    *head = entry;
}

static void leave(struct entry *entry)
{
    struct entry **at = bucket(entry->address);
    while (*at != entry)
        at = &(*at)->link;
    *at = entry->link;
}

/* The entry of this address whose kind is one of these bits. */
static struct entry *find(uint64_t address, unsigned kinds)
{
    struct entry *entry = *bucket(address);
    while (entry && (entry->address != address || !(kinds >> entry->kind & 1)))
        entry = entry->link;
    return entry;
}

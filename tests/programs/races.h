/*
 * Put before every file of a program that runs under the thread sanitizer, its own
 * and the core's. malloc is the sanitizer's there: so the core's hooks have names of
 * their own, and the program calls races_core.c, which calls them.
 */
#ifndef RACES_H
#define RACES_H

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#if defined(HL_INTERPOSE) /* in the core; what it looks up, races_core.c finds */
#define OURS(name) hooked_##name
#define cfree hooked_cfree
#define free_sized hooked_free_sized
#define free_aligned_sized hooked_free_aligned_sized
#define dlsym raced_dlsym
#define dladdr raced_dladdr
void *dlsym(void *handle, const char *name);
int dladdr(const void *address, Dl_info *info);
#else
#define OURS(name) raced_##name
#define pthread_create raced_pthread_create
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument);
struct hl_header *raced_ledger(void); /* as the core has it mapped */
#endif

#define malloc OURS(malloc)
#define calloc OURS(calloc)
#define realloc OURS(realloc)
#define free OURS(free)
#define posix_memalign OURS(posix_memalign)
#define aligned_alloc OURS(aligned_alloc)
#define memalign OURS(memalign)
#define valloc OURS(valloc)
#define pvalloc OURS(pvalloc)
#define malloc_usable_size OURS(malloc_usable_size)

void *malloc(size_t bytes);
void *calloc(size_t count, size_t bytes);
void *realloc(void *block, size_t bytes);
void free(void *block);
int posix_memalign(void **block, size_t alignment, size_t bytes);
void *aligned_alloc(size_t alignment, size_t bytes);
void *memalign(size_t alignment, size_t bytes);
void *valloc(size_t bytes);
void *pvalloc(size_t bytes);
size_t malloc_usable_size(void *block);

#endif

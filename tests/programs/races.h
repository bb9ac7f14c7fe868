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
#include <unistd.h>

#if defined(HL_INTERPOSE) /* in the core; what it looks up, races_core.c finds */
#define OURS(name) hooked_##name
#define cfree hooked_cfree
#define free_sized hooked_free_sized
#define free_aligned_sized hooked_free_aligned_sized
#define dlsym raced_dlsym
#define dladdr raced_dladdr
#define pthread_atfork raced_pthread_atfork
void *dlsym(void *handle, const char *name);
int dladdr(const void *address, Dl_info *info);
int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
#else
#define OURS(name) raced_##name
#define pthread_create raced_pthread_create
#define pthread_join raced_pthread_join
#define pthread_detach raced_pthread_detach
#define pthread_key_create raced_pthread_key_create
#define fork raced_fork
#define vfork raced_vfork
#define _exit raced_exit
#define syscall raced_syscall
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument);
int pthread_join(pthread_t thread, void **result);
int pthread_detach(pthread_t thread);
int pthread_key_create(pthread_key_t *key, void (*destructor)(void *));
pid_t fork(void);
__attribute__((returns_twice)) pid_t vfork(void);
__attribute__((noreturn)) void _exit(int code);
long syscall(long number, ...);
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
#define __libc_malloc raced_libc_malloc
#define __libc_calloc raced_libc_calloc
#define __libc_memalign raced_libc_memalign
#define __libc_free raced_libc_free

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

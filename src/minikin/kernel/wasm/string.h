/* What the kernel uses of string.h, where there is no C library: wasm.c defines it. */
#ifndef MINIKIN_WASM_STRING_H
#define MINIKIN_WASM_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);
int strcmp(const char *a, const char *b);

#endif

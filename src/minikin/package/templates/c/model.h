/* {{ title }}, exported by minikin. model.c holds the weights and the code; compile it with any C99 compiler that knows
 * GNU C (gcc, clang), for a little-endian processor. It needs nothing but memcpy and its kin from string.h.
 *
 * Memory, bounded and known now: {{ constant_kib }} KiB of constants (the model, the code, the tables of Unicode),
 * MINIKIN_STATIC_BYTES of static memory, MINIKIN_STACK_BYTES of stack. Nothing is allocated.
 * All calls share that static memory: make them from one thread at a time. */
#ifndef MINIKIN_MODEL_H
#define MINIKIN_MODEL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MINIKIN_CLASSES {{ classes }}
#define MINIKIN_PAIR {{ pair }} /* 1: it reads two texts */
#define MINIKIN_MAX_TOKENS {{ tokens }} /* what a text has beyond them is cut off */
#define MINIKIN_MODEL_BYTES {{ model_bytes }}
#define MINIKIN_STATIC_BYTES {{ static_bytes }} /* at most */
#define MINIKIN_STACK_BYTES {{ stack_bytes }} /* at most, compiled with -O1 or more */

/* What minikin_classify returns instead of a label. */
enum { MINIKIN_DAMAGED = -1, MINIKIN_NO_TEXT = -2 }; /* the model's bytes were changed; NULL was given */

extern const char *const minikin_labels[MINIKIN_CLASSES]; /* UTF-8 */

/* Answer a UTF-8 text of n bytes: returns the index of its label, and writes the MINIKIN_CLASSES probabilities unless
 * that is NULL. The first call checks the model, which takes a few milliseconds per MiB. */
#if MINIKIN_PAIR
int minikin_classify_pair(const char *first, size_t first_n, const char *second, size_t second_n, float *probabilities);
#else
int minikin_classify(const char *utf8, size_t n, float *probabilities);
#endif

/* 1 if the text of the last answer was cut off, else 0. */
int minikin_truncated(void);

/* The set of instructions in use ("scalar", "avx2", ...), and a way to choose another: 1 if that is there, else 0.
 * Define MK_SCALAR_ONLY when compiling model.c to leave the others out. */
const char *minikin_instructions(void);
int minikin_use(const char *instructions);

#ifdef __cplusplus
}
#endif
#endif

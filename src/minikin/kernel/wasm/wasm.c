/* The kernel as a WebAssembly module of its own: `make wasm` writes kernel.wasm, package/templates/web/kernel.js calls
 * it. A page reserves room for the model file, writes it there, opens it, and then answers texts one by one. */
#include <string.h>

#include "../kernel.h"

#define PAGE 65536u
#define EXPORT(name) __attribute__((export_name(#name))) name

extern uint8_t __heap_base; /* the linker's: what lies behind the module's own data */

static uint8_t *heap;
static mk_model model;
static uint8_t *text;       /* of a pair, both */
static size_t text_room;
static int32_t *ids;
static float *probabilities;
static void *workspace, *work;
static size_t work_size;
static int32_t was_cut;

/* Bytes at an address divisible by 64, which are never given back; NULL when the memory is used up. */
uint8_t *EXPORT(reserve)(size_t size)
{
    uintptr_t start = heap ? (uintptr_t)heap : (uintptr_t)&__heap_base, end, pages;
    start = (start + MK_ALIGN - 1) / MK_ALIGN * MK_ALIGN;
    if (size > UINTPTR_MAX - start - PAGE)
        return NULL;
    end = start + size;
    pages = (end + PAGE - 1) / PAGE;
    if (pages > __builtin_wasm_memory_size(0) &&
        __builtin_wasm_memory_grow(0, pages - __builtin_wasm_memory_size(0)) == (size_t)-1)
        return NULL;
    heap = (uint8_t *)end;
    return (uint8_t *)start;
}

/* Open the model file at that address and reserve what answering takes: 0, or one of the kernel's negative codes. */
int EXPORT(open_model)(const uint8_t *bytes, size_t size)
{
    int code = mk_open(&model, bytes, size);
    if (code != MK_OK)
        return code;
    /* a character is four bytes at most; one more byte shows that the text went on */
    text_room = 4 * (size_t)model.tokenizer.max_characters + 4;
    work_size = mk_tokenizer_work(&model.tokenizer, SIZE_MAX);
    text = reserve(2 * text_room);
    ids = (int32_t *)(void *)reserve((size_t)mk_ids_room(&model) * sizeof *ids);
    probabilities = (float *)(void *)reserve((size_t)model.classes * sizeof *probabilities);
    work = reserve(work_size);
    workspace = reserve(mk_workspace(&model, model.positions, 1));
    return text && ids && probabilities && work && workspace ? MK_OK : MK_TRUNCATED;
}

int32_t EXPORT(classes)(void)
{
    return model.classes;
}

/* Where UTF-8 is written to: the first text, and the second so many bytes behind it. */
uint8_t *EXPORT(text_at)(void)
{
    return text;
}

size_t EXPORT(room_of_text)(void)
{
    return text_room;
}

/* Answer the text of that many bytes (and the second one, unless it is negative): where its probabilities lie. */
const float *EXPORT(answer)(size_t size, int32_t second_size)
{
    const char *first = (const char *)text, *second = second_size < 0 ? NULL : first + text_room;
    mk_text read = mk_read(&model, first, size, second, second ? (size_t)second_size : 0, ids, work, work_size);
    mk_answer(&model, ids, &read, 1, workspace, probabilities, NULL);
    was_cut = read.truncated;
    return probabilities;
}

int32_t EXPORT(was_truncated)(void)
{
    return was_cut;
}

/* ---- string.h; the attribute keeps the compiler from turning a loop into a call of itself ---- */

#define PLAIN __attribute__((no_builtin))

PLAIN void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    for (size_t i = 0; i < size; i++)
        t[i] = f[i];
    return to;
}

PLAIN void *memmove(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t < f)
        for (size_t i = 0; i < size; i++)
            t[i] = f[i];
    else
        while (size-- > 0)
            t[size] = f[size];
    return to;
}

PLAIN void *memset(void *to, int value, size_t size)
{
    uint8_t *t = to;
    for (size_t i = 0; i < size; i++)
        t[i] = (uint8_t)value;
    return to;
}

PLAIN int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *x = a, *y = b;
    for (size_t i = 0; i < size; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}

PLAIN int strcmp(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++) {
    }
    return (uint8_t)*a - (uint8_t)*b;
}

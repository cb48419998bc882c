/* Where the kernel's time goes, as JSON: ns per text of the whole, and of each function of its path.
 * bench/kernel_limit.py compiles it with the kernel's own sources and flags:
 *
 *     cc -std=c99 -O3 -ffp-contract=off -falign-loops=64 -I KERNEL kernel_parts.c KERNEL/paths.c KERNEL/tokenizer.c -o parts
 *     ./parts model.kernel texts.txt PASSES TOKENS
 *
 * texts.txt has one text a line. TOKENS is 0 for one text at a time, else texts are computed together until there are
 * so many tokens, as the Python extension does with 192. Of the passes over each text the quickest counts, as it does
 * in peak.c. The whole is timed without the clocks that time the parts, and what a clock costs is taken off each part;
 * embedding look-ups have none, being too short for it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "paths.h"

enum { QUANTIZE_PART, LINEAR_PART, NORM_PART, ACTIVATE_PART, ATTEND_PART, SOFTMAX_PART, PARTS };

static const mk_path *real;
static mk_path timed;
static int with_clocks;
static uint64_t ticks[PARTS], calls[PARTS];

static const mk_path *path_of_parts(void)
{
    return with_clocks ? &timed : real;
}

/* model.c takes its path from here instead */
#define mk_path_in_use path_of_parts
#include "model.c"
#undef mk_path_in_use

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static uint64_t tick(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return (uint64_t)now_ns();
#endif
}

#define CLOCKED(part, call)                 \
    do {                                    \
        uint64_t started = tick();          \
        call;                               \
        ticks[part] += tick() - started;    \
        calls[part]++;                      \
    } while (0)

static void quantize(const mk_linear *w, const float *x, int tokens, int stride, int8_t *q, float *scale, int32_t *sum)
{
    CLOCKED(QUANTIZE_PART, real->quantize(w, x, tokens, stride, q, scale, sum));
}

static void linear(const mk_linear *w, const int8_t *q, const float *scale, const int32_t *sum, int tokens, float *y,
                   int stride)
{
    mk_linear bare = *w; /* what is done to its outputs is timed apart */
    bare.activation = MK_NONE;
    CLOCKED(LINEAR_PART, real->linear(&bare, q, scale, sum, tokens, y, stride));
    if (w->activation != MK_NONE)
        CLOCKED(ACTIVATE_PART, real->activate(y, tokens, (w->n + 31) / 32 * 32, stride, w->activation));
}

static void add_norm(float *x, const float *y, const float *norm, float epsilon, int tokens, int h, int stride)
{
    CLOCKED(NORM_PART, real->add_norm(x, y, norm, epsilon, tokens, h, stride));
}

static void activate(float *x, int rows, int count, int stride, int kind)
{
    CLOCKED(ACTIVATE_PART, real->activate(x, rows, count, stride, kind));
}

static void attend(float *q, int q_stride, const float *kv, int kv_stride, int tokens, int queries, int heads, int d,
                   float *turned, float *score)
{
    CLOCKED(ATTEND_PART, real->attend(q, q_stride, kv, kv_stride, tokens, queries, heads, d, turned, score));
}

static void softmax(float *x, int classes)
{
    CLOCKED(SOFTMAX_PART, real->softmax(x, classes));
}

/* ---- texts ---- */

typedef struct {
    char *bytes;
    const char **start;
    size_t *size;
    int32_t count;
} lines;

static char *whole_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    void *bytes = NULL;
    long end;
    if (!file || fseek(file, 0, SEEK_END) != 0 || (end = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) != 0) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    *size = (size_t)end;
    if (posix_memalign(&bytes, MK_ALIGN, *size + MK_ALIGN) != 0 || fread(bytes, 1, *size, file) != *size) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    fclose(file);
    return bytes;
}

static lines lines_of(const char *path)
{
    lines l = {0};
    size_t size, most = 1, from = 0;
    l.bytes = whole_file(path, &size);
    for (size_t i = 0; i < size; i++)
        most += l.bytes[i] == '\n';
    l.start = malloc(most * sizeof *l.start);
    l.size = malloc(most * sizeof *l.size);
    for (size_t i = 0; i < size; i++)
        if (l.bytes[i] == '\n') {
            l.start[l.count] = l.bytes + from;
            l.size[l.count++] = i - from;
            from = i + 1;
        }
    return l;
}

/* ---- texts, or groups of them, again and again; of each figure of each group the least counts ---- */

enum { READ_FIGURE = PARTS, WHOLE_FIGURE, FIGURES, MOST_TOGETHER = 64 };

static const char *const figure_names[FIGURES] = {"quantize", "linear",  "norm", "activate",
                                                  "attend",   "softmax", "read", "whole"};

typedef struct {
    const mk_model *model;
    lines texts;
    int32_t together, *ids;
    mk_text text_B[MOST_TOGETHER];
    void *workspace, *work;
    size_t work_size;
    float *probabilities;
    double tokens, squares, empty, ns_per_tick, total[FIGURES];
    int passes;
} bench;

/* Read texts from `next` on and answer them; returns how many. */
static int32_t group(bench *b, int32_t next, double *read_ns)
{
    int32_t count = 0, tokens = 0;
    double started = with_clocks ? now_ns() : 0;
    b->squares = 0;
    do {
        mk_text *text = &b->text_B[count];
        *text = mk_read(b->model, b->texts.start[next + count], b->texts.size[next + count], NULL, 0, b->ids + tokens,
                        b->work, b->work_size);
        tokens += text->length;
        b->squares += (double)text->length * text->length;
        count++;
    } while (next + count < b->texts.count && count < MOST_TOGETHER && tokens < b->together);
    *read_ns = with_clocks ? now_ns() - started : 0;
    mk_answer(b->model, b->ids, b->text_B, count, b->workspace, b->probabilities, NULL);
    b->tokens = tokens;
    return count;
}

static void keep_least(double *least, double value, int first)
{
    if (first || value < *least)
        *least = value;
}

/* What two ticks of a clock cost with nothing between them. */
static double empty_clock(void)
{
    double least = 0;
    for (int i = 0; i < 10000; i++) {
        uint64_t started = tick();
        keep_least(&least, (double)(tick() - started), i == 0);
    }
    return least;
}

/* One group again and again: without clocks for its whole, then with clocks for its parts. Returns its texts. */
static int32_t least_of(bench *b, int32_t next, double least[FIGURES])
{
    int32_t count = 0;
    for (int n = 0; n < b->passes; n++) {
        double read_ns, started;
        with_clocks = 0;
        started = now_ns();
        count = group(b, next, &read_ns);
        keep_least(&least[WHOLE_FIGURE], now_ns() - started, n == 0);
        with_clocks = 1;
        memset(ticks, 0, sizeof ticks);
        memset(calls, 0, sizeof calls);
        (void)group(b, next, &read_ns);
        keep_least(&least[READ_FIGURE], read_ns, n == 0);
        for (int i = 0; i < PARTS; i++)
            keep_least(&least[i], ((double)ticks[i] - b->empty * (double)calls[i]) * b->ns_per_tick, n == 0);
    }
    return count;
}

static double length_of_tick(void)
{
    double started = now_ns();
    uint64_t first = tick();
    while (now_ns() - started < 2e7)
        continue;
    return (now_ns() - started) / (double)(tick() - first);
}

int main(int count, char **values)
{
    mk_model model;
    size_t size;
    bench b = {0};
    double tokens = 0, squares = 0;
    char *file;
    if (count != 5)
        return 2;
    file = whole_file(values[1], &size);
    if (mk_open(&model, file, size) != MK_OK) {
        fprintf(stderr, "%s is no kernel file\n", values[1]);
        return 1;
    }
    b.model = &model;
    b.texts = lines_of(values[2]);
    b.empty = empty_clock();
    b.ns_per_tick = length_of_tick();
    b.passes = atoi(values[3]);
    b.together = atoi(values[4]);
    b.ids = malloc(sizeof(int32_t) * (size_t)(b.together + mk_ids_room(&model)));
    b.work_size = mk_tokenizer_work(&model.tokenizer, SIZE_MAX);
    b.work = malloc(b.work_size + 1);
    b.probabilities = malloc(MOST_TOGETHER * sizeof(float) * (size_t)model.classes);
    if (posix_memalign(&b.workspace, MK_ALIGN, mk_workspace(&model, b.together + model.positions, MOST_TOGETHER)) != 0)
        return 1;
    if (getenv("MINIKIN_INSTRUCTIONS") && !mk_use(getenv("MINIKIN_INSTRUCTIONS")))
        return 1;
    real = mk_path_in_use();
    timed = (mk_path){real->look_up, quantize, linear, add_norm, activate, attend, softmax};
    for (int32_t next = 0; next < b.texts.count;) {
        double least[FIGURES] = {0};
        next += least_of(&b, next, least);
        for (int i = 0; i < FIGURES; i++)
            b.total[i] += least[i];
        tokens += b.tokens;
        squares += b.squares;
    }
    printf("{\"instructions\": \"%s\", \"texts\": %d, \"tokens\": %.0f, \"squares\": %.0f", mk_instructions(),
           b.texts.count, tokens, squares);
    for (int i = 0; i < FIGURES; i++)
        printf(", \"%s\": %.1f", figure_names[i], b.total[i] / b.texts.count);
    puts("}");
    return 0;
}

/* What a set of instructions brings; inside the kernel. See vectors.inc and product.inc for what each function computes. */
#ifndef MINIKIN_PATHS_H
#define MINIKIN_PATHS_H

#include "kernel.h"

/* rows that a tile of 8-bit (where they lie side by side, else not) and of 4-bit weights takes at a time; most queries of a
 * head, and sums, side by side */
enum { MK_TOKENS_WIDE = 24, MK_TOKENS_8 = 15, MK_TOKENS_4 = 12, MK_QUERIES = 16, MK_FEW = 4 };

typedef struct {
    void (*look_up)(const mk_table *table, int row, float *x_H, const float *more_H);
    void (*quantize)(const mk_linear *w, const float *x_TK, int tokens, int stride, int8_t *q_TK, float *scale_T,
                     int32_t *sum_TG);
    void (*linear)(const mk_linear *w, const int8_t *q_TK, const float *scale_T, const int32_t *sum_TG, int tokens,
                   float *y_TN, int stride);
    void (*add_norm)(float *x_TH, const float *y_TH, const float *norm, float epsilon, int tokens, int h, int stride);
    void (*activate)(float *x_TN, int rows, int count, int stride, int kind);
    void (*attend)(float *q_TA, int q_stride, const float *kv_TA, int kv_stride, int tokens, int queries, int heads,
                   int d, float *turned_DQ, float *score_TQ);
    void (*softmax)(float *x_C, int classes);
} mk_path;

const mk_path *mk_path_in_use(void);

#endif

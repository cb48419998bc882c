/* minikin's kernel: answers with small text classifiers out of one flat, memory-mapped file.
 *
 * Letters in names are axes: T tokens, B texts, H hidden width, E width of a factorised table of tokens, A attention
 * width (heads x head width), F neurons, C classes, K inputs and N outputs of a linear layer, G groups of 32 inputs. Rows are padded with zeros to
 * multiples of 32.
 * Nothing here allocates, and nothing changes but the workspace that the caller brings: one model serves all threads.
 */
#ifndef MINIKIN_KERNEL_H
#define MINIKIN_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "tokenizer.h"

enum {
    MK_VERSION = 2,      /* newest file that is read: 2 has a projection of its embeddings, 1 has none */
    MK_GROUP = 32,       /* inputs that share a scale in 4-bit weights */
    MK_MAX_LAYERS = 48,
    MK_ALIGN = 64
};

enum { MK_OK = 0, MK_NO_MODEL = -1, MK_NEWER = -2, MK_TRUNCATED = -3, MK_CHANGED = -4, MK_MALFORMED = -5 };
enum { MK_ENCODER = 0, MK_STATIC = 1 };
enum { MK_GELU = 0, MK_GELU_TANH = 1, MK_RELU = 2, MK_TANH = 3, MK_NONE = 4 };

/* y_TN = f(x_TK W^T + b). Weights are unsigned, in tiles of 16 outputs by 4 inputs (docs/kernel.md). */
typedef struct {
    const uint8_t *weights;
    const float *scales_N;  /* 8 bits: one per output; 4 bits: within the weights, one per output and group */
    const float *bias_N;
    int32_t bits, n, k;     /* k counts whole groups of 32 */
    int32_t activation;     /* what is done to each output behind its bias */
} mk_linear;

/* A table whose rows are looked up: integers with a scale per row (8 bits), or per group of 32 (4 bits, half floats). */
typedef struct {
    const uint8_t *integers;
    const uint8_t *scales;
    int32_t bits, rows, width;
} mk_table;

typedef struct {
    int32_t heads, head_width;
    mk_linear query, key_value, out, up, down;
    const float *norm1, *norm2;  /* gain_H, then bias_H */
} mk_layer;

typedef struct {
    int32_t kind, layers, hidden, classes, positions, pair, activation, window, mean_max;
    float epsilon;
    mk_tokenizer tokenizer;
    mk_table words, places;
    const float *types_2H, *norm;
    mk_linear projection, pooler, convolution, head; /* projection.n is 0 where the table is as wide as the model */
    mk_layer layer[MK_MAX_LAYERS];
    int32_t widest;              /* floats of the widest row that any layer writes */
} mk_model;

/* Check and open a file that lies in memory at an address divisible by 64; `bytes` must outlive the model. */
int mk_open(mk_model *model, const void *bytes, size_t size);

/* One text as ids: of a pair, `second` is where the second text begins (else the length). */
typedef struct {
    int32_t length, second, truncated;
} mk_text;

/* Ids that `mk_read` needs room for: of a pair, all of both texts, since the longer one is cut first. */
int32_t mk_ids_room(const mk_model *model);

/* Read one UTF-8 text (or two) into at most `model->positions` ids, special tokens included. `work` has room for what
 * mk_tokenizer_work asks for (nothing, for WordPiece). */
mk_text mk_read(const mk_model *model, const char *first, size_t first_size, const char *second, size_t second_size,
                int32_t *ids, void *work, size_t work_size);

/* Bytes of workspace, at an address divisible by 64, for texts of so many tokens altogether. */
size_t mk_workspace(const mk_model *model, int32_t tokens, int32_t texts);

/* Answer `texts` texts whose ids lie one after another. Writes probabilities (B, C), and where `pooled_BP` is not
 * NULL the vectors that the classifier reads, `mk_pooled_width` floats each. */
void mk_answer(const mk_model *model, const int32_t *ids, const mk_text *text_B, int32_t texts, void *workspace,
               float *probabilities_BC, float *pooled_BP);

int32_t mk_pooled_width(const mk_model *model);

/* The set of instructions in use: "scalar", "avx2", "avx-vnni", "avx512-vnni", "amx-int8", "neon-dotprod", "neon", "wasm".
 * `mk_use` picks one by name for tests, before any other call; it returns 0 if this processor or build lacks it. */
const char *mk_instructions(void);
int mk_use(const char *name);

#endif

/* Opens the flat file, and carries texts through the model. */
#include "kernel.h"
#include "paths.h"

#include <string.h>

/* ---- the file: a header, a list of sections, and the sections, each at an address divisible by 64 ---- */

typedef struct {
    char magic[8];
    uint32_t version, crc, size, sections; /* crc: CRC-32 of everything after this field */
    int32_t kind, layers, hidden, classes, positions, pair, activation, window, mean_max;
    float epsilon;
} header;

typedef struct {
    uint16_t name, layer;
    uint32_t bits, rows, columns, offset, size;
} section;

enum {
    TOKENIZER = 1, WORDS, PLACES, TYPES, NORM, QUERY, KEY_VALUE, OUT, NORM1, UP, DOWN, NORM2, POOLER, CONVOLUTION, HEAD,
    PROJECTION
};

typedef struct {
    const uint8_t *bytes;
    const section *list;
    uint32_t count;
    int fault;
} opening;

/* Eight bytes at a time: table[n] knows what a byte becomes behind which n others lie. */
static uint32_t crc_of(const uint8_t *bytes, size_t size)
{
    uint32_t table[8][256], crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
        table[0][i] = value;
    }
    for (int n = 1; n < 8; n++)
        for (int i = 0; i < 256; i++)
            table[n][i] = table[n - 1][i] >> 8 ^ table[0][table[n - 1][i] & 255];
    for (; size >= 8; bytes += 8, size -= 8) {
        uint32_t eight[2];
        memcpy(eight, bytes, 8);
        crc ^= eight[0];
        crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^
              table[3][eight[1] & 255] ^ table[2][eight[1] >> 8 & 255] ^ table[1][eight[1] >> 16 & 255] ^
              table[0][eight[1] >> 24];
    }
    for (; size > 0; bytes++, size--)
        crc = crc >> 8 ^ table[0][(crc ^ *bytes) & 255];
    return ~crc;
}

static int32_t round_up(int32_t value, int32_t step)
{
    return (value + step - 1) / step * step;
}

/* The section of that name, with at least so many bytes; a missing or short one is a fault. */
static const section *find(opening *o, int name, int layer, uint64_t least)
{
    for (uint32_t i = 0; i < o->count; i++)
        if (o->list[i].name == name && o->list[i].layer == layer) {
            if (o->list[i].size < least)
                break;
            return &o->list[i];
        }
    o->fault = 1;
    return NULL;
}

static const float *floats(opening *o, int name, int layer, int32_t count)
{
    const section *s = find(o, name, layer, (uint64_t)count * 4);
    return s ? (const float *)(const void *)(o->bytes + s->offset) : NULL;
}

static mk_linear linear_of(opening *o, int name, int layer, int32_t n, int32_t k)
{
    mk_linear w = {0};
    uint64_t tiles = (uint64_t)(n + 31) / 32 * 2, groups = (uint64_t)(k + MK_GROUP - 1) / MK_GROUP;
    const section *s = find(o, name, layer, 0);
    uint32_t bits = s ? s->bits & 255 : 0; /* above them, of queries, stands the number of heads */
    if (!s || n < 1 || k < 1 || s->rows != (uint32_t)n || s->columns != (uint32_t)k || (bits != 8 && bits != 4) ||
        s->size != tiles * groups * (bits == 8 ? 512 : 288) + tiles * (bits == 8 ? 128 : 64)) {
        o->fault = 1;
        return w;
    }
    w.weights = o->bytes + s->offset;
    w.bits = (int32_t)bits;
    w.activation = MK_NONE;
    w.n = n;
    w.k = (int32_t)groups * MK_GROUP;
    w.bias_N = (const float *)(const void *)(w.weights + tiles * groups * (w.bits == 8 ? 512 : 288));
    w.scales_N = w.bits == 8 ? w.bias_N + tiles * 16 : NULL;
    return w;
}

static mk_table table_of(opening *o, int name, int32_t rows, int32_t width)
{
    mk_table t = {0};
    uint64_t groups = (uint64_t)(width + MK_GROUP - 1) / MK_GROUP;
    const section *s = find(o, name, 0, 0);
    uint64_t integers;
    if (!s || rows < 1 || s->rows < (uint32_t)rows || s->columns != (uint32_t)width || (s->bits != 8 && s->bits != 4)) {
        o->fault = 1;
        return t;
    }
    integers = (uint64_t)s->rows * groups * (s->bits == 8 ? 32 : 16);
    if (s->size != integers + (uint64_t)s->rows * (s->bits == 8 ? 4 : groups * 2))
        o->fault = 1;
    t.integers = o->bytes + s->offset;
    t.scales = t.integers + integers;
    t.bits = (int32_t)s->bits;
    t.rows = (int32_t)s->rows;
    t.width = width;
    return t;
}

static void open_encoder(mk_model *m, opening *o)
{
    int32_t h = m->hidden, stride = round_up(h, MK_GROUP);
    m->places = table_of(o, PLACES, m->positions, h);
    m->types_2H = floats(o, TYPES, 0, 2 * stride);
    m->norm = floats(o, NORM, 0, 2 * stride);
    for (int i = 0; i < m->layers && !o->fault; i++) {
        mk_layer *layer = &m->layer[i];
        const section *query = find(o, QUERY, i, 0), *up = find(o, UP, i, 0);
        int32_t width, neurons;
        if (!query || !up || query->rows > 1 << 15 || up->rows > 1 << 18 || query->bits >> 16 == 0) {
            o->fault = 1;
            return;
        }
        width = (int32_t)query->rows;
        neurons = (int32_t)up->rows;
        layer->heads = (int32_t)(query->bits >> 16);
        layer->head_width = width / layer->heads;
        if (layer->head_width * layer->heads != width) {
            o->fault = 1;
            return;
        }
        layer->query = linear_of(o, QUERY, i, width, h);
        layer->key_value = linear_of(o, KEY_VALUE, i, 2 * width, h);
        layer->out = linear_of(o, OUT, i, h, width);
        layer->norm1 = floats(o, NORM1, i, 2 * stride);
        layer->up = linear_of(o, UP, i, neurons, h);
        layer->up.activation = m->activation;
        if (layer->query.bits != layer->key_value.bits) /* their input is quantized once */
            o->fault = 1;
        layer->down = linear_of(o, DOWN, i, h, neurons);
        layer->norm2 = floats(o, NORM2, i, 2 * stride);
        if (m->widest < 2 * width)
            m->widest = 2 * width;
        if (m->widest < neurons)
            m->widest = neurons;
    }
    m->pooler = linear_of(o, POOLER, 0, h, h);
    m->pooler.activation = MK_TANH;
}

int32_t mk_pooled_width(const mk_model *m)
{
    int32_t width = m->kind == MK_STATIC && m->mean_max ? 2 * m->hidden : m->hidden;
    return m->kind == MK_STATIC && m->pair ? 4 * width : width;
}

int mk_open(mk_model *m, const void *bytes, size_t size)
{
    header h;
    opening o;
    const section *tokenizer;
    int32_t width; /* of the rows of tokens: the model's own, or less where a projection follows */
    memset(m, 0, sizeof *m);
    if (size < sizeof h || ((uintptr_t)bytes & (MK_ALIGN - 1)) != 0)
        return size < sizeof h ? MK_TRUNCATED : MK_MALFORMED;
    memcpy(&h, bytes, sizeof h);
    if (memcmp(h.magic, "minikin", 8) != 0)
        return MK_NO_MODEL;
    if (h.version > MK_VERSION)
        return MK_NEWER;
    if (h.size != size)
        return MK_TRUNCATED;
    if (crc_of((const uint8_t *)bytes + 16, size - 16) != h.crc)
        return MK_CHANGED;
    if (h.layers < 0 || h.layers > MK_MAX_LAYERS || h.hidden < 1 || h.hidden > 1 << 14 || h.classes < 1 ||
        h.classes > 1 << 20 || h.positions < 4 || h.positions > 1 << 14 || h.window < 0 || h.window > 63 ||
        h.sections > 1024 || (h.kind != MK_ENCODER && h.kind != MK_STATIC) || sizeof h + h.sections * sizeof(section) > size)
        return MK_MALFORMED;
    o.bytes = bytes;
    o.list = (const section *)(const void *)(o.bytes + sizeof h);
    o.count = h.sections;
    o.fault = 0;
    width = h.hidden;
    for (uint32_t i = 0; i < o.count; i++) {
        if (o.list[i].offset % MK_ALIGN != 0 || o.list[i].offset > size || o.list[i].size > size - o.list[i].offset)
            return MK_MALFORMED;
        if (o.list[i].name == PROJECTION && h.kind == MK_ENCODER && o.list[i].columns < (uint32_t)h.hidden)
            width = (int32_t)o.list[i].columns;
    }
    m->kind = h.kind;
    m->layers = h.layers;
    m->hidden = h.hidden;
    m->classes = h.classes;
    m->positions = h.positions;
    m->pair = h.pair;
    m->activation = h.activation;
    m->window = h.window;
    m->mean_max = h.mean_max;
    m->epsilon = h.epsilon;
    m->widest = 2 * m->hidden;
    tokenizer = find(&o, TOKENIZER, 0, 0);
    if (!tokenizer || mk_tokenizer_open(&m->tokenizer, o.bytes + tokenizer->offset, tokenizer->size) != 0)
        return MK_MALFORMED;
    if (m->tokenizer.max_characters != 40 * ((uint32_t)m->positions + 16))
        return MK_MALFORMED;
    if (m->kind == MK_ENCODER && ((uint32_t)m->tokenizer.cls_id >= m->tokenizer.vocab_size ||
                                  (uint32_t)m->tokenizer.sep_id >= m->tokenizer.vocab_size))
        return MK_MALFORMED; /* -1, where there is none, is too large as well */
    m->words = table_of(&o, WORDS, (int32_t)m->tokenizer.vocab_size, width);
    if (width < m->hidden)
        m->projection = linear_of(&o, PROJECTION, 0, m->hidden, width);
    if (m->kind == MK_ENCODER)
        open_encoder(m, &o);
    else if (m->window)
        m->convolution = linear_of(&o, CONVOLUTION, 0, 2 * m->hidden, m->window * m->hidden);
    m->head = linear_of(&o, HEAD, 0, m->classes, mk_pooled_width(m));
    return o.fault || (m->kind == MK_ENCODER && m->layers == 0) ? MK_MALFORMED : MK_OK;
}

/* ---- reading ---- */

/* Of a pair the longer text is cut first, down to the shorter one, then both alike. */
static void fit_pair(int32_t *first, int32_t *second, int32_t limit)
{
    int32_t shorter = *first < *second ? *first : *second, longer = *first < *second ? *second : *first;
    if (*first + *second <= limit)
        return;
    longer = shorter <= limit && limit - shorter > shorter ? limit - shorter : shorter;
    if (shorter + longer > limit) {
        shorter = limit / 2;
        longer = shorter + limit % 2;
    }
    if (*first > *second) {
        *first = longer;
        *second = shorter;
    } else {
        *first = shorter;
        *second = longer;
    }
}

int32_t mk_ids_room(const mk_model *m)
{
    return m->pair ? 2 * (int32_t)m->tokenizer.max_characters + 3 : m->positions;
}

mk_text mk_read(const mk_model *m, const char *first, size_t first_size, const char *second, size_t second_size,
                int32_t *ids, void *work, size_t work_size)
{
    const int32_t special = m->kind == MK_ENCODER, limit = m->positions - special * (second ? 3 : 2);
    const int32_t most = second ? (int32_t)m->tokenizer.max_characters : limit;
    mk_text text;
    int cut = 0, cut_too = 0;
    int32_t a, b = 0, *start = ids + special;
    a = mk_tokenize(&m->tokenizer, first, first_size, start, most, &cut, work, work_size);
    a = a < 0 ? 0 : a;
    if (second) {
        int32_t *behind = start + a, whole;
        b = mk_tokenize(&m->tokenizer, second, second_size, behind, most, &cut_too, work, work_size);
        b = b < 0 ? 0 : b;
        whole = a + b;
        fit_pair(&a, &b, limit);
        cut = cut || cut_too || a + b < whole;
        memmove(start + a + special, behind, (size_t)b * sizeof *ids);
    }
    if (special) {
        ids[0] = m->tokenizer.cls_id;
        start[a] = m->tokenizer.sep_id;
        if (second)
            start[a + 1 + b] = m->tokenizer.sep_id;
    }
    text.second = a + 2 * special;
    text.length = text.second + b + (second ? special : 0);
    text.truncated = cut != 0;
    return text;
}

/* ---- the workspace ---- */

typedef struct {
    float *x_TH, *y_TN, *q_TA, *score_TQ, *turned_DQ, *scale_T, *feature_P;
    int8_t *integers_TK;
    int32_t *sum_TG;
    int32_t stride, wide;
} room;

static size_t reserve(uint8_t **at, size_t bytes)
{
    size_t whole = (bytes + MK_ALIGN - 1) / MK_ALIGN * MK_ALIGN;
    if (*at)
        *at += whole;
    return whole;
}

/* Lay the workspace out from `at` (NULL: only count), and return its size in bytes. */
static size_t lay_out(const mk_model *m, int32_t tokens, int32_t texts, uint8_t *at, room *r)
{
    int32_t widest = m->widest, features = mk_pooled_width(m), rows = tokens > texts ? tokens : texts;
    size_t t, total = 0;
    if (m->kind == MK_STATIC && m->window * m->hidden > widest)
        widest = m->window * m->hidden;
    if (features > widest)
        widest = features;
    if (m->classes > widest)
        widest = m->classes;
    r->stride = round_up(m->hidden, MK_GROUP);
    r->wide = round_up(widest, MK_GROUP);
    t = (size_t)rows;
#define TAKE(field, type, count) \
    r->field = (type *)(void *)at; \
    total += reserve(&at, ((size_t)(count) + 16) * sizeof(type))
    TAKE(x_TH, float, t * (size_t)r->stride);
    TAKE(y_TN, float, t * (size_t)r->wide);
    TAKE(q_TA, float, t * (size_t)r->wide);
    TAKE(integers_TK, int8_t, t * (size_t)r->wide * 2); /* a path may want them in 16 bits */
    TAKE(sum_TG, int32_t, t * (size_t)(r->wide / MK_GROUP + 1));
    TAKE(scale_T, float, t);
    TAKE(feature_P, float, round_up(features, MK_GROUP));
    TAKE(score_TQ, float, (size_t)m->positions * MK_QUERIES);
    TAKE(turned_DQ, float, (size_t)r->wide * MK_QUERIES);
#undef TAKE
    return total;
}

size_t mk_workspace(const mk_model *m, int32_t tokens, int32_t texts)
{
    room r;
    return lay_out(m, tokens, texts, NULL, &r);
}

/* ---- the model ---- */

/* y = x W^T + b for so many rows: quantize the rows, then multiply. */
static void apply(const mk_path *p, const mk_linear *w, const float *x_TK, int32_t rows, int32_t stride, room *r,
                  float *y_TN, int32_t y_stride)
{
    p->quantize(w, x_TK, rows, stride, r->integers_TK, r->scale_T, r->sum_TG);
    p->linear(w, r->integers_TK, r->scale_T, r->sum_TG, rows, y_TN, y_stride);
}

/* Tokens, projected where their table is factorised, plus places and types, normalised. */
static void embed(const mk_model *m, const mk_path *p, const int32_t *ids, const mk_text *text_B, int32_t texts,
                  int32_t tokens, room *r)
{
    const int32_t projected = m->projection.n > 0, e = projected ? m->projection.k : r->stride;
    float *words_TE = projected ? r->y_TN : r->x_TH;
    int32_t t = 0;
    for (int32_t i = 0; i < tokens; i++)
        p->look_up(&m->words, ids[i], words_TE + (size_t)i * (size_t)e, NULL);
    if (projected)
        apply(p, &m->projection, words_TE, tokens, e, r, r->x_TH, r->stride);
    for (int32_t b = 0; b < texts; b++)
        for (int32_t i = 0; i < text_B[b].length; i++, t++)
            p->look_up(&m->places, i, r->y_TN + (size_t)t * (size_t)r->stride,
                       m->types_2H + (i >= text_B[b].second ? r->stride : 0));
    p->add_norm(r->x_TH, r->y_TN, m->norm, m->epsilon, tokens, m->hidden, r->stride);
}

/* Everything of a layer behind its attention, in place. */
static void feed_forward(const mk_model *m, const mk_path *p, const mk_layer *layer, int32_t rows, room *r)
{
    int32_t width = layer->heads * layer->head_width, padded = round_up(width, MK_GROUP);
    int32_t neurons = round_up(layer->up.n, MK_GROUP);
    apply(p, &layer->out, r->q_TA, rows, padded, r, r->y_TN, r->stride);
    p->add_norm(r->x_TH, r->y_TN, layer->norm1, m->epsilon, rows, m->hidden, r->stride);
    apply(p, &layer->up, r->x_TH, rows, r->stride, r, r->y_TN, neurons);
    apply(p, &layer->down, r->y_TN, rows, neurons, r, r->q_TA, r->stride);
    p->add_norm(r->x_TH, r->q_TA, layer->norm2, m->epsilon, rows, m->hidden, r->stride);
}

/* Of each text the row of its first token, one behind the other. */
static void keep_first(const mk_text *text_B, int32_t texts, room *r)
{
    int32_t t = 0;
    for (int32_t b = 0; b < texts; b++) {
        memmove(r->x_TH + (size_t)b * (size_t)r->stride, r->x_TH + (size_t)t * (size_t)r->stride,
                (size_t)r->stride * sizeof(float));
        t += text_B[b].length;
    }
}

/* The last layer answers for the first token of each text alone: the classifier reads no other. */
static void attend_layer(const mk_path *p, const mk_layer *layer, const mk_text *text_B, int32_t texts, int32_t tokens,
                         int last, room *r)
{
    int32_t width = layer->heads * layer->head_width, padded = round_up(width, MK_GROUP);
    int32_t kv_stride = round_up(2 * width, MK_GROUP), t = 0;
    p->quantize(&layer->query, r->x_TH, tokens, r->stride, r->integers_TK, r->scale_T, r->sum_TG);
    p->linear(&layer->key_value, r->integers_TK, r->scale_T, r->sum_TG, tokens, r->y_TN, kv_stride);
    if (!last)
        p->linear(&layer->query, r->integers_TK, r->scale_T, r->sum_TG, tokens, r->q_TA, padded);
    else {
        keep_first(text_B, texts, r);
        apply(p, &layer->query, r->x_TH, texts, r->stride, r, r->q_TA, padded);
    }
    for (int32_t b = 0; b < texts; b++) {
        int32_t row = last ? b : t, length = text_B[b].length;
        float *q_TA = r->q_TA + (size_t)row * (size_t)padded;
        p->attend(q_TA, padded, r->y_TN + (size_t)t * (size_t)kv_stride, kv_stride, length, last ? 1 : length,
                  layer->heads, layer->head_width, r->turned_DQ, r->score_TQ);
        t += length;
    }
}

static void run_encoder(const mk_model *m, const mk_path *p, const int32_t *ids, const mk_text *text_B, int32_t texts,
                        room *r, float *pooled_BP)
{
    int32_t tokens = 0;
    for (int32_t b = 0; b < texts; b++)
        tokens += text_B[b].length;
    embed(m, p, ids, text_B, texts, tokens, r);
    for (int32_t i = 0; i < m->layers; i++) {
        int last = i == m->layers - 1;
        attend_layer(p, &m->layer[i], text_B, texts, tokens, last, r);
        feed_forward(m, p, &m->layer[i], last ? texts : tokens, r);
    }
    apply(p, &m->pooler, r->x_TH, texts, r->stride, r, r->y_TN, r->stride);
    for (int32_t b = 0; b < texts; b++) {
        float *row = r->y_TN + (size_t)b * (size_t)r->stride;
        if (pooled_BP)
            memcpy(pooled_BP + (size_t)b * (size_t)m->hidden, row, (size_t)m->hidden * sizeof(float));
    }
}

/* Pool one text of a static model: mean (and maximum) over its tokens, after the gated convolution if there is one. */
static void pool(const mk_model *m, const mk_path *p, const int32_t *ids, int32_t length, room *r, float *out_P)
{
    int32_t h = m->hidden, wide = round_up(m->window * h, MK_GROUP), gated = round_up(2 * h, MK_GROUP);
    for (int32_t t = 0; t < length; t++)
        p->look_up(&m->words, ids[t], r->x_TH + (size_t)t * (size_t)r->stride, NULL);
    if (m->window && length) {
        for (int32_t t = 0; t < length; t++) {
            float *window = r->y_TN + (size_t)t * (size_t)wide;
            memset(window, 0, (size_t)wide * sizeof(float));
            for (int32_t i = 0; i < m->window; i++) {
                int32_t from = t + i - m->window / 2;
                if (from >= 0 && from < length)
                    memcpy(window + i * h, r->x_TH + (size_t)from * (size_t)r->stride, (size_t)h * sizeof(float));
            }
        }
        apply(p, &m->convolution, r->y_TN, length, wide, r, r->q_TA, gated);
        for (int32_t t = 0; t < length; t++) {
            float *y = r->q_TA + (size_t)t * (size_t)gated, *x = r->x_TH + (size_t)t * (size_t)r->stride;
            for (int32_t i = 0; i < h; i++)
                y[h + i] *= 0.5f; /* sigmoid(g) = (1 + tanh(g / 2)) / 2 */
            p->activate(y + h, 1, h, 0, MK_TANH);
            for (int32_t i = 0; i < h; i++)
                x[i] += y[i] * (0.5f * y[h + i] + 0.5f);
        }
    }
    for (int32_t i = 0; i < h; i++) {
        float sum = 0, most = 0;
        for (int32_t t = 0; t < length; t++) {
            float x = r->x_TH[(size_t)t * (size_t)r->stride + (size_t)i];
            sum += x;
            most = t == 0 || x > most ? x : most;
        }
        out_P[i] = length ? sum / (float)length : 0;
        if (m->mean_max)
            out_P[h + i] = most;
    }
}

/* The vector that a static model's head reads: one text pooled, or two, their distance and their product. */
static void pool_text(const mk_model *m, const mk_path *p, const int32_t *ids, const mk_text *text, room *r)
{
    int32_t one = m->mean_max ? 2 * m->hidden : m->hidden;
    float *u = r->feature_P, *v = u + one;
    pool(m, p, ids, text->second, r, u);
    if (!m->pair)
        return;
    pool(m, p, ids + text->second, text->length - text->second, r, v);
    for (int32_t i = 0; i < one; i++) {
        float gap = u[i] - v[i];
        v[one + i] = gap < 0 ? -gap : gap;
        v[2 * one + i] = u[i] * v[i];
    }
}

static void answer_row(const mk_model *m, const mk_path *p, float *logits_C, float *probabilities_C)
{
    p->softmax(logits_C, m->classes);
    memcpy(probabilities_C, logits_C, (size_t)m->classes * sizeof(float));
}

void mk_answer(const mk_model *m, const int32_t *ids, const mk_text *text_B, int32_t texts, void *workspace,
               float *probabilities_BC, float *pooled_BP)
{
    const mk_path *p = mk_path_in_use();
    int32_t tokens = 0, classes = round_up(m->classes, MK_GROUP), features = mk_pooled_width(m);
    room r;
    for (int32_t b = 0; b < texts; b++)
        tokens += text_B[b].length;
    (void)lay_out(m, tokens, texts, workspace, &r);
    if (m->kind == MK_ENCODER) {
        run_encoder(m, p, ids, text_B, texts, &r, pooled_BP);
        apply(p, &m->head, r.y_TN, texts, r.stride, &r, r.q_TA, classes);
        for (int32_t b = 0; b < texts; b++)
            answer_row(m, p, r.q_TA + (size_t)b * (size_t)classes, probabilities_BC + (size_t)b * (size_t)m->classes);
    } else {
        int32_t padded = round_up(features, MK_GROUP);
        memset(r.feature_P, 0, (size_t)padded * sizeof(float));
        for (int32_t b = 0; b < texts; b++) { /* one by one: there is little to share */
            pool_text(m, p, ids, text_B + b, &r);
            if (pooled_BP)
                memcpy(pooled_BP + (size_t)b * (size_t)features, r.feature_P, (size_t)features * sizeof(float));
            apply(p, &m->head, r.feature_P, 1, padded, &r, r.q_TA, classes);
            answer_row(m, p, r.q_TA, probabilities_BC + (size_t)b * (size_t)m->classes);
            ids += text_B[b].length;
        }
    }
}

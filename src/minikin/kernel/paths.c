/* One table of functions for each set of instructions, and the choice among them. */
#include "paths.h"

#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__)) && !defined(MK_SCALAR_ONLY)
#define MK_X86 1
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__) && !defined(MK_SCALAR_ONLY)
#define MK_ARM64 1
#include <arm_neon.h>
#if defined(__linux__) && !defined(__ARM_FEATURE_DOTPROD)
#include <sys/auxv.h>
#endif
#elif defined(__wasm_simd128__) && !defined(MK_SCALAR_ONLY)
#define MK_WASM 1
#include <wasm_simd128.h>
#endif

#define MK_INLINE static inline __attribute__((always_inline))
#define MK_JOIN2(a, b) a##_##b
#define MK_JOIN(a, b) MK_JOIN2(a, b)

typedef float f4 __attribute__((vector_size(16), may_alias));
typedef int32_t i4 __attribute__((vector_size(16)));
typedef f4 f4_anywhere __attribute__((aligned(4), may_alias));
typedef i4 i4_anywhere __attribute__((aligned(4), may_alias));
typedef int8_t b16 __attribute__((vector_size(16)));
typedef b16 b16_anywhere __attribute__((aligned(1), may_alias));
typedef int32_t w_anywhere __attribute__((aligned(1), may_alias));
typedef uint8_t u16_anywhere __attribute__((vector_size(16), aligned(1), may_alias));

static const int32_t lanes_16[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#define load4(at) (*(const f4_anywhere *)(const void *)(at))
#define store4(at, value) (*(f4_anywhere *)(void *)(at) = (value))

/* Lanes where the processor's vectors have four: GCC keeps vectors longer than those in memory, Clang cuts them well. */
#if defined(__clang__)
#define MK_LANES_OF_FOUR 16
#else
#define MK_LANES_OF_FOUR 4
#endif

/* a > b ? a : b, and a < b ? a : b: one instruction each on x86, which the compiler does not find by itself */
#define MK_LARGER(a, b) ((floats)(((ints)(a) & ((a) > (b))) | ((ints)(b) & ~((a) > (b)))))
#define MK_SMALLER(a, b) ((floats)(((ints)(a) & ((a) < (b))) | ((ints)(b) & ~((a) < (b)))))

/* Square root by Newton's method from a guess on the bits: no libm, the same bits everywhere. */
static inline float mk_root(float x)
{
    float y;
    int32_t bits;
    if (x <= 0)
        return 0;
    memcpy(&bits, &x, 4);
    bits = (bits >> 1) + 0x1FBD1DF5;
    memcpy(&y, &bits, 4);
    for (int i = 0; i < 3; i++)
        y = 0.5f * (y + x / y);
    return y;
}

static inline float mk_half(const uint8_t *two)
{
    uint32_t half = (uint32_t)two[0] | (uint32_t)two[1] << 8;
    uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    uint32_t bits;
    float value;
    if (exponent == 0) { /* subnormal: fraction * 2^-24 */
        value = (float)fraction * 5.9604644775390625e-8f;
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13;
    memcpy(&value, &bits, 4);
    return value;
}

/* ---- scalar: what every other path is tested against ---- */

static void dot8_scalar(const uint8_t *weights, const float *scale_16, const float *bias_16, const int8_t *q_TK,
                        const float *scale_T, const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride)
{
    for (int t = 0; t < tokens; t++) {
        const int8_t *q = q_TK + (size_t)t * (size_t)groups * MK_GROUP;
        int32_t dot_16[16];
        for (int n = 0; n < 16; n++)
            dot_16[n] = sum_TG[t * (groups + 1) + groups];
        for (int k = 0; k < groups * 8; k++)
            for (int n = 0; n < 16; n++)
                for (int i = 0; i < 4; i++)
                    dot_16[n] += (int32_t)weights[k * 64 + n * 4 + i] * q[k * 4 + i];
        for (int n = 0; n < 16; n++)
            y_TN[(size_t)t * (size_t)stride + (size_t)n] = (float)dot_16[n] * (scale_T[t] * scale_16[n]) + bias_16[n];
    }
}

static void dot4_scalar(const uint8_t *weights, const float *bias_16, const int8_t *q_TK, const float *scale_T,
                        const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride)
{
    for (int t = 0; t < tokens; t++) {
        const int8_t *q = q_TK + (size_t)t * (size_t)groups * MK_GROUP;
        float y_16[16] = {0};
        for (int g = 0; g < groups; g++) {
            const uint8_t *block = weights + (size_t)g * 288;
            for (int n = 0; n < 16; n++) {
                int32_t dot = sum_TG[t * (groups + 1) + g];
                for (int j = 0; j < 4; j++)
                    for (int i = 0; i < 4; i++) {
                        int pair = block[j * 64 + n * 4 + i];
                        dot += (pair & 15) * q[g * 32 + j * 8 + i] + (pair >> 4) * q[g * 32 + j * 8 + 4 + i];
                    }
                y_16[n] = y_16[n] + (float)dot * mk_half(block + 256 + n * 2);
            }
        }
        for (int n = 0; n < 16; n++)
            y_TN[(size_t)t * (size_t)stride + (size_t)n] = y_16[n] * scale_T[t] + bias_16[n];
    }
}

#define MK_VECTORS scalar
#define MK_TARGET
#define MK_LANES MK_LANES_OF_FOUR
#include "vectors.inc"

#define MK_PATH scalar
#define MK_VECTORS scalar
#define MK_TARGET
#define MK_DOT8 dot8_scalar
#define MK_DOT4 dot4_scalar
#include "product.inc"

#if defined(MK_X86)

/* ---- AVX-512 with VNNI: one instruction multiplies and adds 64 pairs of bytes ---- */

#define MK_WIDE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")))
MK_WIDE MK_INLINE __m512i four(const int8_t *q) /* four bytes, sixteen times */
{
    int32_t bytes;
    memcpy(&bytes, q, 4);
    return _mm512_set1_epi32(bytes);
}

MK_WIDE MK_INLINE void wide_row(float *y_16, __m512i dot, float token, __m512 scale, __m512 bias)
{
    const __m512 scales = _mm512_mul_ps(_mm512_set1_ps(token), scale);
    _mm512_storeu_ps(y_16, _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dot), scales), bias));
}

/* Sums by name, not in an array: GCC 12 would copy each of an array's to another register and back for every multiply-add. */
#define MK_EACH_SUM(DO) \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) \
    DO(12) DO(13) DO(14) DO(15) DO(16) DO(17) DO(18) DO(19) DO(20) DO(21) DO(22) DO(23)

/* `tokens` and `chains` are constants where this is called, so the sums live in registers: with few tokens the sums of one
 * are split into several chains, since a multiply-add takes four or five cycles to finish. Four inputs of all tokens lie
 * side by side. The next tile is asked for meanwhile: what the processor fetches by itself is late. */
MK_WIDE MK_INLINE void tile8(const uint8_t *weights, const float *scale_16, const float *bias_16, const int8_t *q_KT,
                             const float *scale_T, const int32_t *sum_TG, int groups, float *y_TN, int stride,
                             const int tokens, const int chains)
{
    const uintptr_t next = (uintptr_t)weights + (uintptr_t)groups * 512;
    const __m512 scale = _mm512_loadu_ps(scale_16), bias = _mm512_loadu_ps(bias_16);
    __m512i sums[MK_TOKENS_WIDE];
#define BEGIN(s) __m512i sum##s = _mm512_set1_epi32(s < tokens ? sum_TG[s * (groups + 1) + groups] : 0);
#define ADD(s) \
    if (s < tokens * chains) \
        sum##s = _mm512_dpbusd_epi32(sum##s, _mm512_loadu_si512(w + s / tokens * 64), four(q + s * 4));
#define END(s) sums[s] = sum##s;
    MK_EACH_SUM(BEGIN)
    for (int quad = 0; quad < groups * 8; quad += chains) {
        const uint8_t *w = weights + (size_t)quad * 64;
        const int8_t *q = q_KT + (size_t)quad * (size_t)tokens * 4;
        for (int c = 0; c < chains; c++)
            _mm_prefetch((const char *)(next + (uintptr_t)(quad + c) * 64), _MM_HINT_T0);
        MK_EACH_SUM(ADD)
    }
    MK_EACH_SUM(END)
#undef BEGIN
#undef ADD
#undef END
    for (int t = 0; t < tokens; t++) {
        __m512i whole = sums[t];
        for (int c = 1; c < chains; c++)
            whole = _mm512_add_epi32(whole, sums[c * tokens + t]);
        wide_row(y_TN + (size_t)t * (size_t)stride, whole, scale_T[t], scale, bias);
    }
}

MK_WIDE MK_INLINE void tile4(const uint8_t *weights, const float *bias_16, const int8_t *q_KT, const float *scale_T,
                             const int32_t *sum_TG, int groups, float *y_TN, int stride, const int tokens)
{
    const __m512i low = _mm512_set1_epi8(15);
    const __m512 bias = _mm512_loadu_ps(bias_16);
#define BEGIN(s) __m512 y##s = _mm512_setzero_ps();
#define GROUP(s) __m512i sum##s = _mm512_set1_epi32(s < tokens ? sum_TG[s * (groups + 1) + g] : 0);
#define ADD(s) \
    if (s < tokens) { \
        sum##s = _mm512_dpbusd_epi32(sum##s, even, four(q + s * 4)); \
        sum##s = _mm512_dpbusd_epi32(sum##s, odd, four(q + (tokens + s) * 4)); \
    }
#define SCALE(s) \
    if (s < tokens) \
        y##s = _mm512_add_ps(y##s, _mm512_mul_ps(_mm512_cvtepi32_ps(sum##s), scale));
#define END(s) \
    if (s < tokens) \
        _mm512_storeu_ps(y_TN + (size_t)s * (size_t)stride, \
                         _mm512_add_ps(_mm512_mul_ps(y##s, _mm512_set1_ps(scale_T[s])), bias));
    MK_EACH_SUM(BEGIN)
    for (int g = 0; g < groups; g++) {
        const uint8_t *block = weights + (size_t)g * 288;
        const __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(block + 256)));
        MK_EACH_SUM(GROUP)
        for (int j = 0; j < 4; j++) {
            const __m512i pairs = _mm512_loadu_si512(block + j * 64);
            const __m512i even = _mm512_and_si512(pairs, low);
            const __m512i odd = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low);
            const int8_t *q = q_KT + (g * MK_GROUP + j * 8) * tokens;
            MK_EACH_SUM(ADD)
        }
        MK_EACH_SUM(SCALE)
    }
    MK_EACH_SUM(END)
#undef BEGIN
#undef GROUP
#undef ADD
#undef SCALE
#undef END
}

#define MK_EACH(n, do_it) \
    case n: \
        do_it; \
        break;

MK_WIDE static void dot8_avx512(const uint8_t *weights, const float *scale_16, const float *bias_16,
                                const int8_t *q_KT, const float *scale_T, const int32_t *sum_TG, int groups, int tokens,
                                float *y_TN, int stride)
{
#define TILE(n, chains) \
    MK_EACH(n, tile8(weights, scale_16, bias_16, q_KT, scale_T, sum_TG, groups, y_TN, stride, n, chains))
    switch (tokens) {
        TILE(1, 8) TILE(2, 8) TILE(3, 4) TILE(4, 4) TILE(5, 4) TILE(6, 2) TILE(7, 2) TILE(8, 2) TILE(9, 2)
        TILE(10, 2) TILE(11, 2) TILE(12, 1) TILE(13, 1) TILE(14, 1) TILE(15, 1) TILE(16, 1) TILE(17, 1) TILE(18, 1)
        TILE(19, 1) TILE(20, 1) TILE(21, 1) TILE(22, 1) TILE(23, 1) TILE(24, 1)
    }
#undef TILE
}

MK_WIDE static void dot4_avx512(const uint8_t *weights, const float *bias_16, const int8_t *q_KT, const float *scale_T,
                                const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride)
{
#define TILE(n) MK_EACH(n, tile4(weights, bias_16, q_KT, scale_T, sum_TG, groups, y_TN, stride, n))
    switch (tokens) {
        TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
    }
#undef TILE
}

MK_WIDE MK_INLINE void wide_bytes(int8_t *at, __m512i lanes, int abreast)
{
    const i4 fours = (i4)_mm512_cvtepi32_epi8(lanes);
    for (int i = 0; i < 4; i++)
        *(w_anywhere *)(void *)(at + i * 4 * abreast) = fours[i];
}

#define larger(a, b) ((floats)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define smaller(a, b) ((floats)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define store_bytes(at, lanes, abreast) wide_bytes(at, (__m512i)(lanes), abreast)
#define MK_VECTORS avx512
#define MK_TARGET MK_WIDE
#define MK_LANES 16
#include "vectors.inc"

#define MK_PATH avx512
#define MK_VECTORS avx512
#define MK_TARGET MK_WIDE
#define MK_DOT8 dot8_avx512
#define MK_DOT4 dot4_avx512
#define MK_ABREAST 1
#include "product.inc"

/* ---- AMX: one instruction multiplies 16 tokens by 16 outputs over 64 inputs, of 8-bit weights as they lie ---- */

#if defined(__linux__) && defined(__LP64__) && !defined(MK_NO_AMX)
#define MK_AMX 1
/* As bytes, since not every assembler knows them: tilezero, tileloadd and tilestored of (rax, rcx), tdpbsud. */
#define ZERO(c) __asm__ volatile(".byte 0xc4,0xe2,0x7b,0x49,0xc0+8*" #c ::)
#define LOAD(n, at, pitch) \
    __asm__ volatile(".byte 0xc4,0xe2,0x7b,0x4b,0x04+8*" #n ",0x08" ::"a"(at), "c"((int64_t)(pitch)) : "memory")
#define KEEP(n, at) __asm__ volatile(".byte 0xc4,0xe2,0x7a,0x4b,0x04+8*" #n ",0x08" ::"a"(at), "c"((int64_t)128) : "memory")
#define MULTIPLY(c, q, w) __asm__ volatile(".byte 0xc4,0xe2,0x02+8*(15-" #w "),0x5e,0xc0+8*" #c "+" #q ::)

/* From 64 inputs on, since a load takes 1,024 bytes of a tile; a few tokens are no slower one by one. By bits, inputs and
 * tokens alone: `quantize` and `linear` must choose alike. */
static int amx_takes(const mk_linear *w, int tokens)
{
    return w->bits == 8 && w->k >= 64 && tokens >= 4;
}

static int amx_pitch(const mk_linear *w)
{
    return (w->k + 63) / 64 * 64;
}

/* Row after row; where the last 64 inputs are but 32, these stand behind as many zeros: see `linear_amx`. */
MK_WIDE static void quantize_amx(const mk_linear *w, const float *x_TK, int tokens, int stride, int8_t *q_TK,
                                 float *scale_T, int32_t *sum_TG)
{
    const int pitch = amx_pitch(w);
    if (!amx_takes(w, tokens)) {
        quantize_avx512(w, x_TK, tokens, stride, q_TK, scale_T, sum_TG);
        return;
    }
    quantize_rows_avx512(w, x_TK, tokens, stride, q_TK, scale_T, sum_TG, 1, (size_t)pitch);
    for (int t = 0; t < tokens && pitch > w->k; t++) {
        int8_t *end = q_TK + (size_t)(t + 1) * (size_t)pitch;
        memcpy(end - 32, end - 64, 32);
        memset(end - 64, 0, 32);
    }
}

/* The sums of two tiles of outputs by up to 32 tokens: `rows` of them, and `second` where there are as many more. */
MK_WIDE static void amx_multiply(const mk_linear *w, int tile, const int8_t *q_TK, int rows, int second, int32_t *dot_T32)
{
    const int pitch = amx_pitch(w);
    const size_t tile_bytes = (size_t)(w->k / MK_GROUP) * 512;
    const uint8_t *weights = w->weights + (size_t)tile * tile_bytes;
    ZERO(0);
    ZERO(1);
    ZERO(2);
    ZERO(3);
    for (int k = 0; k < pitch; k += 64) {
        const uint8_t *at = weights + (k + 64 == pitch ? tile_bytes - 1024 : (size_t)k * 16);
        LOAD(6, at, 64);
        LOAD(4, q_TK + k, pitch);
        MULTIPLY(0, 4, 6);
        LOAD(7, at + tile_bytes, 64);
        MULTIPLY(1, 4, 7);
        if (second) {
            LOAD(5, q_TK + (size_t)rows * (size_t)pitch + k, pitch);
            MULTIPLY(2, 5, 6);
            MULTIPLY(3, 5, 7);
        }
    }
    KEEP(0, dot_T32);
    KEEP(1, dot_T32 + 16);
    if (second) {
        KEEP(2, dot_T32 + rows * 32);
        KEEP(3, dot_T32 + rows * 32 + 16);
    }
}

/* Where the last 64 inputs are but 32, a tile's last 1,024 bytes are loaded, half of which zeros multiply. Every block has
 * as many rows, so the last one may begin among those of the one before, and gives the same again. */
MK_WIDE static void linear_amx(const mk_linear *w, const int8_t *q_TK, const float *scale_T, const int32_t *sum_TG,
                               int tokens, float *y_TN, int stride)
{
    int32_t dot_T32[2 * 16 * 32];
    if (!amx_takes(w, tokens)) {
        linear_avx512(w, q_TK, scale_T, sum_TG, tokens, y_TN, stride);
        return;
    }
    const int tiles = (w->n + 31) / 32 * 2, groups = w->k / MK_GROUP;
    const int shares = (tokens + 15) / 16, rows = (tokens + shares - 1) / shares;
    struct {
        uint8_t palette, first_row, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {0}};
    for (int i = 0; i < 8; i++)
        shape.rows[i] = i < 6 ? (uint8_t)rows : 16;
    __asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0x00" ::"a"(&shape) : "memory"); /* ldtilecfg */
    for (int tile = 0; tile < tiles; tile += 2) {
        for (int t = 0, count; t < tokens; t += count) {
            const int second = t + 2 * rows <= tokens, first = t + rows <= tokens ? t : tokens - rows;
            count = (1 + second) * rows;
            amx_multiply(w, tile, q_TK + (size_t)first * (size_t)amx_pitch(w), rows, second, dot_T32);
            for (int half = 0; half < 32; half += 16) {
                const __m512 scale = _mm512_loadu_ps(w->scales_N + tile * 16 + half);
                const __m512 bias = _mm512_loadu_ps(w->bias_N + tile * 16 + half);
                float *y = y_TN + (size_t)first * (size_t)stride + tile * 16 + half;
                for (int i = 0; i < count; i++) {
                    const int32_t sum = sum_TG[(first + i) * (groups + 1) + groups];
                    const __m512i dot = _mm512_add_epi32(_mm512_loadu_si512(dot_T32 + i * 32 + half), _mm512_set1_epi32(sum));
                    wide_row(y + (size_t)i * (size_t)stride, dot, scale_T[first + i], scale, bias);
                }
            }
        }
        if (w->activation != MK_NONE)
            activate_avx512(y_TN + tile * 16, tokens, 32, stride, w->activation);
    }
    __asm__ volatile(".byte 0xc4,0xe2,0x78,0x49,0xc0" ::); /* tilerelease */
}

static const mk_path path_amx = {look_up_avx512,  quantize_amx,  linear_amx,    add_norm_avx512,
                                 activate_avx512, attend_avx512, softmax_avx512};

/* arch_prctl of Linux; older ones know neither question. */
static long amx_ask(long question, uintptr_t about)
{
    long answer;
    __asm__ volatile("syscall" : "=a"(answer) : "a"(158L), "D"(question), "S"(about) : "rcx", "r11", "memory");
    return answer;
}

static int has_amx(void)
{
    unsigned a, b, c, d;
    uint64_t lent = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 24 & 3) == 3 && /* AMX-TILE and AMX-INT8 */
           amx_ask(0x1021, (uintptr_t)&lent) == 0 && (lent >> 18 & 1); /* ARCH_GET_XCOMP_SUPP */
}

#undef ZERO
#undef LOAD
#undef KEEP
#undef MULTIPLY
#endif

/* ---- AVX2: two products of bytes may not fit 16 bits, so 8-bit weights are multiplied as words, 4-bit ones as bytes, but
 * where AVX-VNNI has the one instruction for 32 pairs of bytes, as laptops do (`vnni`, a constant) ---- */

#define MK_NARROW __attribute__((target("avx2,f16c")))
#if (defined(__clang__) ? __clang_major__ >= 13 : __GNUC__ >= 12) && !defined(MK_NO_AVX_VNNI)
#define MK_AVX_VNNI 1
#endif
/* Tokens that share a tile's weights: as many sums as stay in sixteen registers beside what is multiplied. */
enum { MK_NARROW_8 = 3, MK_NARROW_4 = 4, MK_NARROW_VNNI = 6 };

MK_NARROW MK_INLINE __m256i narrow_four(const int8_t *q) /* four bytes, eight times */
{
    int32_t bytes;
    memcpy(&bytes, q, 4);
    return _mm256_set1_epi32(bytes);
}

MK_NARROW MK_INLINE __m256i narrow_load(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

/* As assembly, since what is compiled for AVX2 as well can't take in more; never called where assemblers may not know it. */
MK_NARROW MK_INLINE __m256i narrow_dot(__m256i sum, __m256i weights, __m256i q)
{
#if defined(MK_AVX_VNNI)
    __asm__("%{vex%} vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+x"(sum) : "x"(weights), "x"(q));
#endif
    (void)weights;
    (void)q;
    return sum;
}

/* The lowest byte of each of eight lanes; GCC would take them out one by one. */
MK_NARROW MK_INLINE void narrow_bytes(int8_t *at, __m256i lanes)
{
    const __m256i bytes = _mm256_and_si256(lanes, _mm256_set1_epi32(255));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    _mm_storel_epi64((__m128i *)(void *)at, _mm_packus_epi16(words, words));
}

/* A row of bytes, in place: of each four inputs the first and third in 16 bits, then the second and fourth. As words, the
 * first and third weights of each four are what an AND leaves, the others what a shift leaves, with no sign to extend. */
MK_NARROW static void split_row_avx2(int8_t *q_K, int groups)
{
    for (int g = groups - 1; g >= 0; g--) { /* from the end, for it takes twice the place */
        const __m256i q = narrow_load((const uint8_t *)q_K + g * MK_GROUP);
        const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8), odd = _mm256_srai_epi16(q, 8);
        const __m256i low = _mm256_unpacklo_epi32(even, odd), high = _mm256_unpackhi_epi32(even, odd);
        __m256i *out = (__m256i *)(void *)(q_K + g * MK_GROUP * 2);
        _mm256_storeu_si256(out, _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256(out + 1, _mm256_permute2x128_si256(low, high, 0x31));
    }
}

/* Eight outputs by four inputs are 32 bytes of weights; `tokens` is a constant where this is called. The next tile is
 * asked for meanwhile: where weights come from the third cache, what the processor fetches by itself is late. */
MK_NARROW MK_INLINE void narrow8(const uint8_t *weights, const float *scale_16, const float *bias_16, const int8_t *q_TK,
                                 const float *scale_T, const int32_t *sum_TG, int groups, float *y_TN, int stride,
                                 const int tokens, const int vnni)
{
    __m256i dot[MK_NARROW_VNNI * 2];
    const __m256i low = _mm256_set1_epi16(255);
    const int k = groups * MK_GROUP * (vnni ? 1 : 2);
    const uintptr_t next = (uintptr_t)weights + (uintptr_t)groups * 512;
    for (int t = 0; t < tokens; t++)
        dot[t * 2] = dot[t * 2 + 1] = _mm256_set1_epi32(sum_TG[t * (groups + 1) + groups]);
    for (int quad = 0; quad < groups * 8; quad++) {
        const __m256i w0 = narrow_load(weights + (size_t)quad * 64), w1 = narrow_load(weights + (size_t)quad * 64 + 32);
        const __m256i even[2] = {_mm256_and_si256(w0, low), _mm256_and_si256(w1, low)};
        const __m256i odd[2] = {_mm256_srli_epi16(w0, 8), _mm256_srli_epi16(w1, 8)};
        _mm_prefetch((const char *)(next + (uintptr_t)quad * 64), _MM_HINT_T0);
        for (int t = 0; t < tokens && vnni; t++) {
            const __m256i a = narrow_four(q_TK + t * k + quad * 4);
            dot[t * 2] = narrow_dot(dot[t * 2], w0, a);
            dot[t * 2 + 1] = narrow_dot(dot[t * 2 + 1], w1, a);
        }
        for (int t = 0; t < tokens && !vnni; t++) {
            const __m256i a = narrow_four(q_TK + t * k + quad * 8), b = narrow_four(q_TK + t * k + quad * 8 + 4);
            for (int half = 0; half < 2; half++) {
                dot[t * 2 + half] = _mm256_add_epi32(dot[t * 2 + half], _mm256_madd_epi16(even[half], a));
                dot[t * 2 + half] = _mm256_add_epi32(dot[t * 2 + half], _mm256_madd_epi16(odd[half], b));
            }
        }
    }
    for (int t = 0; t < tokens; t++)
        for (int half = 0; half < 2; half++) {
            const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(scale_T[t]), _mm256_loadu_ps(scale_16 + half * 8));
            const __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(dot[t * 2 + half]), scale);
            _mm256_storeu_ps(y_TN + (size_t)t * (size_t)stride + half * 8,
                             _mm256_add_ps(y, _mm256_loadu_ps(bias_16 + half * 8)));
        }
}

/* A lane of 16 bits takes 16 of a group's 32 products, at most 16 x 15 x 127 = 30,480: they are widened once a group. */
MK_NARROW MK_INLINE void narrow4(const uint8_t *weights, const float *bias_16, const int8_t *q_TK, const float *scale_T,
                                 const int32_t *sum_TG, int groups, float *y_TN, int stride, const int tokens,
                                 const int vnni)
{
    __m256 y[MK_NARROW_4 * 2];
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    const int k = groups * MK_GROUP;
    for (int i = 0; i < tokens * 2; i++)
        y[i] = _mm256_setzero_ps();
    for (int g = 0; g < groups; g++) {
        const uint8_t *block = weights + (size_t)g * 288;
        __m256i dot[MK_NARROW_4 * 2];
        int octets = 4;
#if !defined(__clang__)
        __asm__("" : "+r"(octets)); /* GCC would unroll this loop, and run out of registers */
#endif
        for (int i = 0; i < tokens * 2; i++)
            dot[i] = vnni ? _mm256_set1_epi32(sum_TG[i / 2 * (groups + 1) + g]) : _mm256_setzero_si256();
        for (int j = 0; j < octets; j++)
            for (int half = 0; half < 2; half++) {
                const __m256i pairs = narrow_load(block + j * 64 + half * 32);
                const __m256i even = _mm256_and_si256(pairs, low);
                const __m256i odd = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low);
                for (int t = 0; t < tokens; t++) {
                    const int8_t *q = q_TK + t * k + g * MK_GROUP + j * 8;
                    __m256i *sum = &dot[t * 2 + half];
                    if (vnni) {
                        *sum = narrow_dot(narrow_dot(*sum, even, narrow_four(q)), odd, narrow_four(q + 4));
                    } else {
                        const __m256i a = _mm256_maddubs_epi16(even, narrow_four(q));
                        const __m256i b = _mm256_maddubs_epi16(odd, narrow_four(q + 4));
                        *sum = _mm256_add_epi16(_mm256_add_epi16(*sum, a), b);
                    }
                }
            }
        for (int half = 0; half < 2; half++) {
            const __m256 scale =
                _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(block + 256 + half * 16)));
            for (int t = 0; t < tokens; t++) {
                const __m256i sum = dot[t * 2 + half];
                const __m256i whole = vnni ? sum
                                           : _mm256_add_epi32(_mm256_madd_epi16(sum, ones),
                                                              _mm256_set1_epi32(sum_TG[t * (groups + 1) + g]));
                y[t * 2 + half] = _mm256_add_ps(y[t * 2 + half], _mm256_mul_ps(_mm256_cvtepi32_ps(whole), scale));
            }
        }
    }
    for (int t = 0; t < tokens; t++)
        for (int half = 0; half < 2; half++)
            _mm256_storeu_ps(y_TN + (size_t)t * (size_t)stride + half * 8,
                             _mm256_add_ps(_mm256_mul_ps(y[t * 2 + half], _mm256_set1_ps(scale_T[t])),
                                           _mm256_loadu_ps(bias_16 + half * 8)));
}

MK_NARROW MK_INLINE void dot8_narrow(const uint8_t *weights, const float *scale_16, const float *bias_16,
                                     const int8_t *q_TK, const float *scale_T, const int32_t *sum_TG, int groups, int tokens,
                                     float *y_TN, int stride, const int vnni)
{
    const int most = vnni ? MK_NARROW_VNNI : MK_NARROW_8;
#define TILE(n) \
    case n: \
        if (n <= most) \
            narrow8(weights, scale_16, bias_16, q_TK, scale_T, sum_TG, groups, y_TN, stride, n, vnni); \
        break;
    while (tokens > 0) {
        /* as even as can be: 4 tokens are 2 and 2 */
        const int blocks = (tokens - 1) / most + 1, count = (tokens + blocks - 1) / blocks;
        switch (count) {
            TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
        }
        q_TK += (size_t)count * (size_t)groups * MK_GROUP * (vnni ? 1 : 2);
        scale_T += count;
        sum_TG += count * (groups + 1);
        y_TN += (size_t)count * (size_t)stride;
        tokens -= count;
    }
#undef TILE
}

MK_NARROW MK_INLINE void dot4_narrow(const uint8_t *weights, const float *bias_16, const int8_t *q_TK, const float *scale_T,
                                     const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride, const int vnni)
{
#define TILE(n) MK_EACH(n, narrow4(weights, bias_16, q_TK, scale_T, sum_TG, groups, y_TN, stride, n, vnni))
    while (tokens > 0) {
        const int blocks = (tokens - 1) / MK_NARROW_4 + 1, count = (tokens + blocks - 1) / blocks;
        switch (count) {
            TILE(1) TILE(2) TILE(3) TILE(4)
        }
        q_TK += (size_t)count * (size_t)groups * MK_GROUP;
        scale_T += count;
        sum_TG += count * (groups + 1);
        y_TN += (size_t)count * (size_t)stride;
        tokens -= count;
    }
#undef TILE
}

#define larger(a, b) ((floats)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define smaller(a, b) ((floats)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define store_bytes(at, lanes, abreast) narrow_bytes(at, (__m256i)(lanes))
#define MK_VECTORS avx2
#define MK_TARGET MK_NARROW
#define MK_LANES 8
#include "vectors.inc"

#define MK_PATH avx2
#define MK_VECTORS avx2
#define MK_TARGET MK_NARROW
#define MK_DOT8(...) dot8_narrow(__VA_ARGS__, 0)
#define MK_DOT4(...) dot4_narrow(__VA_ARGS__, 0)
#define MK_WORDS 1
#include "product.inc"

#if defined(MK_AVX_VNNI)
#define MK_PATH avxvnni
#define MK_VECTORS avx2
#define MK_TARGET MK_NARROW
#define MK_DOT8(...) dot8_narrow(__VA_ARGS__, 1)
#define MK_DOT4(...) dot4_narrow(__VA_ARGS__, 1)
#include "product.inc"

static int has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

#elif defined(MK_ARM64) || defined(MK_WASM)

/* ---- four sums at a time: NEON, with the dot product where the processor has it, and WebAssembly SIMD ---- */

#if defined(MK_ARM64)
typedef int8x16_t fours; /* four bytes, four times */

MK_INLINE fours four(const int8_t *q)
{
    int32_t bits;
    memcpy(&bits, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(bits));
}

/* `sdot` as assembly: where not every processor that is compiled for has it, clang's header hides its name */
MK_INLINE i4 dot_4x4(i4 sum, b16 weights, fours q, int has_sdot)
{
    const int8x16_t w = (int8x16_t)weights;
    if (has_sdot) {
        __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(w), "w"(q));
        return sum;
    }
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(q)), high = vmull_s8(vget_high_s8(w), vget_high_s8(q));
    return sum + (i4)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
}
#else
typedef v128_t fours; /* four bytes in 16 bits each, twice */

MK_INLINE fours four(const int8_t *q)
{
    return wasm_i16x8_extend_low_i8x16(wasm_v128_load32_splat(q));
}

MK_INLINE i4 dot_4x4(i4 sum, b16 weights, fours q, int has_sdot)
{
    const v128_t w = (v128_t)weights;
    (void)has_sdot;
    const v128_t low = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(w), q);
    const v128_t high = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(w), q);
    return sum + (i4)wasm_i32x4_add(wasm_i32x4_shuffle(low, high, 0, 2, 4, 6), wasm_i32x4_shuffle(low, high, 1, 3, 5, 7));
}
#endif

MK_INLINE void dot8_by_four(const uint8_t *weights, const float *scale_16, const float *bias_16, const int8_t *q_TK,
                            const float *scale_T, const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride,
                            const int has_sdot)
{
    (void)sum_TG; /* weights are made signed */
    for (int t = 0; t < tokens; t++) {
        const int8_t *q = q_TK + (size_t)t * (size_t)groups * MK_GROUP;
        float *y = y_TN + (size_t)t * (size_t)stride;
        i4 dot[4] = {{0}, {0}, {0}, {0}};
        for (int quad = 0; quad < groups * 8; quad++) {
            const fours a = four(q + quad * 4);
            for (int part = 0; part < 4; part++)
                dot[part] = dot_4x4(dot[part], *(const b16_anywhere *)(weights + (size_t)quad * 64 + part * 16) ^ -128, a, has_sdot);
        }
        for (int part = 0; part < 4; part++) {
            const f4 scale = load4(scale_16 + part * 4) * scale_T[t];
            store4(y + part * 4, __builtin_convertvector(dot[part], f4) * scale + load4(bias_16 + part * 4));
        }
    }
}

MK_INLINE void dot4_by_four(const uint8_t *weights, const float *bias_16, const int8_t *q_TK, const float *scale_T,
                            const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride, const int has_sdot)
{
    for (int t = 0; t < tokens; t++) {
        const int8_t *q = q_TK + (size_t)t * (size_t)groups * MK_GROUP;
        f4 y[4] = {{0}, {0}, {0}, {0}};
        for (int g = 0; g < groups; g++) {
            const uint8_t *block = weights + (size_t)g * 288;
            i4 dot[4];
            for (int part = 0; part < 4; part++)
                dot[part] = (i4){0} + sum_TG[t * (groups + 1) + g];
            for (int j = 0; j < 4; j++) {
                const fours a = four(q + g * 32 + j * 8), b = four(q + g * 32 + j * 8 + 4);
                for (int part = 0; part < 4; part++) {
                    const u16_anywhere pairs = *(const u16_anywhere *)(block + j * 64 + part * 16);
                    dot[part] = dot_4x4(dot[part], (b16)(pairs & 15), a, has_sdot);
                    dot[part] = dot_4x4(dot[part], (b16)(pairs >> 4), b, has_sdot);
                }
            }
            for (int part = 0; part < 4; part++) {
                f4 scale;
                for (int i = 0; i < 4; i++)
                    scale[i] = mk_half(block + 256 + (part * 4 + i) * 2);
                y[part] = y[part] + __builtin_convertvector(dot[part], f4) * scale;
            }
        }
        for (int part = 0; part < 4; part++)
            store4(y_TN + (size_t)t * (size_t)stride + part * 4, y[part] * scale_T[t] + load4(bias_16 + part * 4));
    }
}

#define MK_PATH four
#define MK_VECTORS scalar
#define MK_TARGET
#define MK_DOT8(...) dot8_by_four(__VA_ARGS__, 0)
#define MK_DOT4(...) dot4_by_four(__VA_ARGS__, 0)
#include "product.inc"

#if defined(MK_ARM64)
#if defined(__clang__)
#define MK_SDOT __attribute__((target("dotprod")))
#else
#define MK_SDOT __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define MK_PATH sdot
#define MK_VECTORS scalar
#define MK_TARGET MK_SDOT
#define MK_DOT8(...) dot8_by_four(__VA_ARGS__, 1)
#define MK_DOT4(...) dot4_by_four(__VA_ARGS__, 1)
#include "product.inc"

static int has_sdot(void)
{
#if defined(__ARM_FEATURE_DOTPROD)
    return 1;
#elif defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
#else
    return 0;
#endif
}
#endif

#endif

/* ---- the choice ---- */

typedef struct {
    const char *name;
    const mk_path *path;
} named_path;

enum { MOST_PATHS = 5 };

/* The best path that this processor has comes first, and last the scalar one. */
static int available(named_path found[MOST_PATHS])
{
    int count = 0;
#if defined(MK_X86)
    unsigned a, b, c, d;
    const int halves = __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C; /* not every compiler knows it by name */
    __builtin_cpu_init();
    if (halves && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
#if defined(MK_AMX)
        if (has_amx())
            found[count++] = (named_path){"amx-int8", &path_amx};
#endif
        found[count++] = (named_path){"avx512-vnni", &path_avx512};
    }
#if defined(MK_AVX_VNNI)
    if (halves && __builtin_cpu_supports("avx2") && has_avx_vnni())
        found[count++] = (named_path){"avx-vnni", &path_avxvnni};
#endif
    if (halves && __builtin_cpu_supports("avx2"))
        found[count++] = (named_path){"avx2", &path_avx2};
#elif defined(MK_ARM64)
    if (has_sdot())
        found[count++] = (named_path){"neon-dotprod", &path_sdot};
    found[count++] = (named_path){"neon", &path_four};
#elif defined(MK_WASM)
    found[count++] = (named_path){"wasm", &path_four};
#endif
    found[count++] = (named_path){"scalar", &path_scalar};
    return count;
}

static named_path chosen;

/* Use it from now on. Linux lends AMX's tiles to a process that asks, which is done for this path alone. */
static int take_path(named_path one)
{
#if defined(MK_AMX)
    if (one.path == &path_amx && amx_ask(0x1023, 18) != 0) /* ARCH_REQ_XCOMP_PERM */
        return 0;
#endif
    chosen = one;
    return 1;
}

static const named_path *choice(void)
{
    if (!chosen.path) {
        named_path found[MOST_PATHS];
        int best = 0;
        (void)available(found);
        while (!take_path(found[best]))
            best++;
    }
    return &chosen;
}

const mk_path *mk_path_in_use(void)
{
    return choice()->path;
}

const char *mk_instructions(void)
{
    return choice()->name;
}

int mk_use(const char *name)
{
    named_path found[MOST_PATHS];
    int count = available(found);
    for (int i = 0; i < count; i++)
        if (strcmp(found[i].name, name) == 0)
            return take_path(found[i]);
    return 0;
}

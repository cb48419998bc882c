/* One table of functions for each set of instructions, and the choice among them. */
#include "paths.h"

#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__)) && !defined(MK_SCALAR_ONLY)
#define MK_X86 1
#include <immintrin.h>
#elif defined(__aarch64__) && !defined(MK_SCALAR_ONLY)
#define MK_ARM64 1
#include <arm_neon.h>
#elif defined(__wasm_simd128__) && !defined(MK_SCALAR_ONLY)
#define MK_WASM 1
#include <wasm_simd128.h>
#endif

#define MK_INLINE static inline __attribute__((always_inline))

/* Sixteen floats or integers, which the compiler cuts to the vectors that there are. */
typedef float f16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));
typedef int8_t b16 __attribute__((vector_size(16)));

typedef float f4 __attribute__((vector_size(16), may_alias));
typedef int32_t i4 __attribute__((vector_size(16)));
typedef f4 f4_anywhere __attribute__((aligned(4), may_alias));
typedef i4 i4_anywhere __attribute__((aligned(4), may_alias));
typedef f16 f16_anywhere __attribute__((aligned(4), may_alias));
typedef b16 b16_anywhere __attribute__((aligned(1), may_alias));
typedef uint8_t u16_anywhere __attribute__((vector_size(16), aligned(1), may_alias));

static const i16 lanes_16 = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#define load(at) (*(const f16_anywhere *)(const void *)(at))
#define store(at, value) (*(f16_anywhere *)(void *)(at) = (value))
#define load4(at) (*(const f4_anywhere *)(const void *)(at))
#define store4(at, value) (*(f4_anywhere *)(void *)(at) = (value))
#define spread(x) ((f16){0} + (float)(x))
#define larger4(a, b) ((f4)(((i4)(a) & ((a) > (b))) | ((i4)(b) & ~((a) > (b)))))

/* a > b ? a : b, and a < b ? a : b: one instruction each in AVX-512, which the compiler does not find by itself */
#define MK_LARGER(a, b) ((f16)(((i16)(a) & ((a) > (b))) | ((i16)(b) & ~((a) > (b)))))
#define MK_SMALLER(a, b) ((f16)(((i16)(a) & ((a) < (b))) | ((i16)(b) & ~((a) < (b)))))
#define larger MK_LARGER
#define smaller MK_SMALLER

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

#define MK_PATH scalar
#define MK_TARGET
#include "path.inc"

#if defined(MK_X86)

/* ---- AVX-512 with VNNI: one instruction multiplies and adds 64 pairs of bytes ---- */

#define MK_WIDE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")))
MK_WIDE MK_INLINE __m512i four(const int8_t *q) /* four bytes, sixteen times */
{
    int32_t bytes;
    memcpy(&bytes, q, 4);
    return _mm512_set1_epi32(bytes);
}

/* `tokens` and `chains` are constants where this is called, so the accumulators live in registers. With few tokens the
 * sums of one are split into several chains, since a multiply-add takes four or five cycles to finish. */
MK_WIDE MK_INLINE void tile8(const uint8_t *weights, const float *scale_16, const float *bias_16, const int8_t *q_TK,
                             const float *scale_T, const int32_t *sum_TG, int groups, float *y_TN, int stride,
                             const int tokens, const int chains)
{
    __m512i dot[MK_TOKENS_8];
    const int k = groups * MK_GROUP;
    const __m512 scale = _mm512_loadu_ps(scale_16), bias = _mm512_loadu_ps(bias_16);
    for (int t = 0; t < tokens; t++)
        for (int c = 0; c < chains; c++)
            dot[t * chains + c] = _mm512_set1_epi32(c ? 0 : sum_TG[t * (groups + 1) + groups]);
    for (int quad = 0; quad < groups * 8; quad += chains)
        for (int c = 0; c < chains; c++) {
            const __m512i w = _mm512_loadu_si512(weights + (size_t)(quad + c) * 64);
            for (int t = 0; t < tokens; t++)
                dot[t * chains + c] = _mm512_dpbusd_epi32(dot[t * chains + c], w, four(q_TK + t * k + (quad + c) * 4));
        }
    for (int t = 0; t < tokens; t++) {
        __m512i whole = dot[t * chains];
        for (int c = 1; c < chains; c++)
            whole = _mm512_add_epi32(whole, dot[t * chains + c]);
        _mm512_storeu_ps(y_TN + (size_t)t * (size_t)stride,
                         _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(whole),
                                                     _mm512_mul_ps(_mm512_set1_ps(scale_T[t]), scale)),
                                       bias));
    }
}

MK_WIDE MK_INLINE void tile4(const uint8_t *weights, const float *bias_16, const int8_t *q_TK, const float *scale_T,
                             const int32_t *sum_TG, int groups, float *y_TN, int stride, const int tokens)
{
    __m512 y[MK_TOKENS_4];
    const int k = groups * MK_GROUP;
    const __m512i low = _mm512_set1_epi8(15);
    for (int t = 0; t < tokens; t++)
        y[t] = _mm512_setzero_ps();
    for (int g = 0; g < groups; g++) {
        const uint8_t *block = weights + (size_t)g * 288;
        const __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(block + 256)));
        __m512i dot[MK_TOKENS_4];
        for (int t = 0; t < tokens; t++)
            dot[t] = _mm512_set1_epi32(sum_TG[t * (groups + 1) + g]);
        for (int j = 0; j < 4; j++) {
            const __m512i pairs = _mm512_loadu_si512(block + j * 64);
            const __m512i even = _mm512_and_si512(pairs, low);
            const __m512i odd = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low);
            for (int t = 0; t < tokens; t++) {
                const int8_t *q = q_TK + t * k + g * MK_GROUP + j * 8;
                dot[t] = _mm512_dpbusd_epi32(dot[t], even, four(q));
                dot[t] = _mm512_dpbusd_epi32(dot[t], odd, four(q + 4));
            }
        }
        for (int t = 0; t < tokens; t++)
            y[t] = _mm512_add_ps(y[t], _mm512_mul_ps(_mm512_cvtepi32_ps(dot[t]), scale));
    }
    for (int t = 0; t < tokens; t++)
        _mm512_storeu_ps(y_TN + (size_t)t * (size_t)stride,
                         _mm512_add_ps(_mm512_mul_ps(y[t], _mm512_set1_ps(scale_T[t])), _mm512_loadu_ps(bias_16)));
}

#define MK_EACH(n, do_it) \
    case n: \
        do_it; \
        break;

MK_WIDE static void dot8_avx512(const uint8_t *weights, const float *scale_16, const float *bias_16,
                                const int8_t *q_TK, const float *scale_T, const int32_t *sum_TG, int groups, int tokens,
                                float *y_TN, int stride)
{
#define TILE(n, chains) \
    MK_EACH(n, tile8(weights, scale_16, bias_16, q_TK, scale_T, sum_TG, groups, y_TN, stride, n, chains))
    switch (tokens) {
        TILE(1, 8) TILE(2, 4) TILE(3, 4) TILE(4, 2) TILE(5, 2) TILE(6, 1) TILE(7, 1) TILE(8, 1) TILE(9, 1)
        TILE(10, 1) TILE(11, 1) TILE(12, 1) TILE(13, 1) TILE(14, 1) TILE(15, 1)
    }
#undef TILE
}

MK_WIDE static void dot4_avx512(const uint8_t *weights, const float *bias_16, const int8_t *q_TK, const float *scale_T,
                                const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride)
{
#define TILE(n) MK_EACH(n, tile4(weights, bias_16, q_TK, scale_T, sum_TG, groups, y_TN, stride, n))
    while (tokens > 0) {
        int count = tokens < MK_TOKENS_4 ? tokens : MK_TOKENS_4;
        switch (count) {
            TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7) TILE(8)
        }
        q_TK += (size_t)count * (size_t)groups * MK_GROUP;
        scale_T += count;
        sum_TG += count * (groups + 1);
        y_TN += (size_t)count * (size_t)stride;
        tokens -= count;
    }
#undef TILE
}

#undef larger
#undef smaller
#define larger(a, b) ((f16)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define smaller(a, b) ((f16)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define MK_PATH avx512
#define MK_TARGET MK_WIDE
#include "path.inc"
#undef larger
#undef smaller
#define larger MK_LARGER
#define smaller MK_SMALLER

/* ---- AVX2: bytes multiplied in pairs; weights made signed, since unsigned 8-bit ones would not fit 16 bits ---- */

#define MK_NARROW __attribute__((target("avx2,f16c")))

MK_NARROW MK_INLINE __m256i narrow_four(const int8_t *q)
{
    int32_t bytes;
    memcpy(&bytes, q, 4);
    return _mm256_set1_epi32(bytes);
}

MK_NARROW static void dot8_avx2(const uint8_t *weights, const float *scale_16, const float *bias_16,
                                const int8_t *q_TK, const float *scale_T, const int32_t *sum_TG, int groups, int tokens,
                                float *y_TN, int stride)
{
    const __m256i ones = _mm256_set1_epi16(1), flip = _mm256_set1_epi8(-128);
    const int k = groups * MK_GROUP;
    (void)sum_TG;
    for (int t = 0; t < tokens; t += 2) {
        const int second = t + 1 < tokens ? t + 1 : t;
        const int8_t *q0 = q_TK + (size_t)t * (size_t)k, *q1 = q_TK + (size_t)second * (size_t)k;
        __m256i dot[4];
        for (int i = 0; i < 4; i++)
            dot[i] = _mm256_setzero_si256();
        for (int quad = 0; quad < groups * 8; quad++) {
            const __m256i a0 = narrow_four(q0 + quad * 4), a1 = narrow_four(q1 + quad * 4);
            const __m256i m0 = _mm256_abs_epi8(a0), m1 = _mm256_abs_epi8(a1);
            for (int half = 0; half < 2; half++) {
                const __m256i *at = (const __m256i *)(const void *)(weights + (size_t)quad * 64 + half * 32);
                const __m256i w = _mm256_xor_si256(_mm256_loadu_si256(at), flip);
                dot[half] = _mm256_add_epi32(
                    dot[half], _mm256_madd_epi16(_mm256_maddubs_epi16(m0, _mm256_sign_epi8(w, a0)), ones));
                dot[2 + half] = _mm256_add_epi32(
                    dot[2 + half], _mm256_madd_epi16(_mm256_maddubs_epi16(m1, _mm256_sign_epi8(w, a1)), ones));
            }
        }
        for (int row = 0; row < 2 && t + row < tokens; row++)
            for (int half = 0; half < 2; half++) {
                const __m256 scale =
                    _mm256_mul_ps(_mm256_set1_ps(scale_T[t + row]), _mm256_loadu_ps(scale_16 + half * 8));
                const __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(dot[row * 2 + half]), scale);
                _mm256_storeu_ps(y_TN + (size_t)(t + row) * (size_t)stride + half * 8,
                                 _mm256_add_ps(y, _mm256_loadu_ps(bias_16 + half * 8)));
            }
    }
}

MK_NARROW static void dot4_avx2(const uint8_t *weights, const float *bias_16, const int8_t *q_TK, const float *scale_T,
                                const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride)
{
    const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
    for (int t = 0; t < tokens; t++) {
        const int8_t *q = q_TK + (size_t)t * (size_t)groups * MK_GROUP;
        __m256 y[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (int g = 0; g < groups; g++) {
            const uint8_t *block = weights + (size_t)g * 288;
            for (int half = 0; half < 2; half++) {
                __m256i dot = _mm256_set1_epi32(sum_TG[t * (groups + 1) + g]);
                const __m256 scale =
                    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(block + 256 + half * 16)));
                for (int j = 0; j < 4; j++) {
                    const __m256i pairs =
                        _mm256_loadu_si256((const __m256i *)(const void *)(block + j * 64 + half * 32));
                    const __m256i even = _mm256_and_si256(pairs, low);
                    const __m256i odd = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), low);
                    const __m256i a = _mm256_maddubs_epi16(even, narrow_four(q + g * 32 + j * 8));
                    const __m256i b = _mm256_maddubs_epi16(odd, narrow_four(q + g * 32 + j * 8 + 4));
                    dot = _mm256_add_epi32(dot, _mm256_madd_epi16(_mm256_add_epi16(a, b), ones));
                }
                y[half] = _mm256_add_ps(y[half], _mm256_mul_ps(_mm256_cvtepi32_ps(dot), scale));
            }
        }
        for (int half = 0; half < 2; half++)
            _mm256_storeu_ps(
                y_TN + (size_t)t * (size_t)stride + half * 8,
                _mm256_add_ps(_mm256_mul_ps(y[half], _mm256_set1_ps(scale_T[t])), _mm256_loadu_ps(bias_16 + half * 8)));
    }
}

#define MK_PATH avx2
#define MK_TARGET MK_NARROW
#include "path.inc"

#elif defined(MK_ARM64) || defined(MK_WASM)

/* ---- four sums at a time: NEON, with the dot product where the compiler may use it, and WebAssembly SIMD ---- */

#if defined(MK_ARM64)
typedef int8x16_t fours; /* four bytes, four times */

MK_INLINE fours four(const int8_t *q)
{
    int32_t bits;
    memcpy(&bits, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(bits));
}

MK_INLINE i4 dot_4x4(i4 sum, b16 weights, fours q)
{
    const int8x16_t w = (int8x16_t)weights;
#if defined(__ARM_FEATURE_DOTPROD)
    return (i4)vdotq_s32((int32x4_t)sum, w, q);
#else
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(q)), high = vmull_s8(vget_high_s8(w), vget_high_s8(q));
    return sum + (i4)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
#endif
}
#else
typedef v128_t fours; /* four bytes in 16 bits each, twice */

MK_INLINE fours four(const int8_t *q)
{
    return wasm_i16x8_extend_low_i8x16(wasm_v128_load32_splat(q));
}

MK_INLINE i4 dot_4x4(i4 sum, b16 weights, fours q)
{
    const v128_t w = (v128_t)weights;
    const v128_t low = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(w), q);
    const v128_t high = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(w), q);
    return sum + (i4)wasm_i32x4_add(wasm_i32x4_shuffle(low, high, 0, 2, 4, 6), wasm_i32x4_shuffle(low, high, 1, 3, 5, 7));
}
#endif

static void dot8_four(const uint8_t *weights, const float *scale_16, const float *bias_16, const int8_t *q_TK,
                      const float *scale_T, const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride)
{
    (void)sum_TG;
    for (int t = 0; t < tokens; t++) {
        const int8_t *q = q_TK + (size_t)t * (size_t)groups * MK_GROUP;
        float *y = y_TN + (size_t)t * (size_t)stride;
        i4 dot[4] = {{0}, {0}, {0}, {0}};
        for (int quad = 0; quad < groups * 8; quad++) {
            const fours a = four(q + quad * 4);
            for (int part = 0; part < 4; part++)
                dot[part] = dot_4x4(dot[part], *(const b16_anywhere *)(weights + (size_t)quad * 64 + part * 16) ^ -128, a);
        }
        for (int part = 0; part < 4; part++) {
            const f4 scale = load4(scale_16 + part * 4) * scale_T[t];
            store4(y + part * 4, __builtin_convertvector(dot[part], f4) * scale + load4(bias_16 + part * 4));
        }
    }
}

static void dot4_four(const uint8_t *weights, const float *bias_16, const int8_t *q_TK, const float *scale_T,
                      const int32_t *sum_TG, int groups, int tokens, float *y_TN, int stride)
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
                    dot[part] = dot_4x4(dot[part], (b16)(pairs & 15), a);
                    dot[part] = dot_4x4(dot[part], (b16)(pairs >> 4), b);
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
#define MK_TARGET
#include "path.inc"

#endif

/* ---- the choice ---- */

typedef struct {
    const char *name;
    const mk_path *path;
} named_path;

/* The best path that this processor has comes first. */
static int available(named_path found[4])
{
    int count = 0;
#if defined(MK_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        found[count++] = (named_path){"avx512-vnni", &path_avx512};
    if (__builtin_cpu_supports("avx2"))
        found[count++] = (named_path){"avx2", &path_avx2};
#elif defined(MK_ARM64)
    found[count++] = (named_path){"neon", &path_four};
#elif defined(MK_WASM)
    found[count++] = (named_path){"wasm", &path_four};
#endif
    found[count++] = (named_path){"scalar", &path_scalar};
    return count;
}

static named_path chosen;

static const named_path *choice(void)
{
    if (!chosen.path) {
        named_path found[4];
        (void)available(found);
        chosen = found[0];
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
    named_path found[4];
    int count = available(found);
    for (int i = 0; i < count; i++)
        if (strcmp(found[i].name, name) == 0) {
            chosen = found[i];
            return 1;
        }
    return 0;
}

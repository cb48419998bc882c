/* What one core can do at most, as JSON: multiply-adds per second of bytes and of floats, and bytes read per second
 * from each level of memory. bench/kernel_limit.py compiles and runs it: cc -O3 peak.c -o peak && ./peak [SECONDS]
 *
 * Every figure is the best of many short blocks of independent work within SECONDS (default 0.3).
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 2000
#define EACH_12(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The most that `work` does in a second, when one call does `amount`. */
static double best(void (*work)(void), double amount, double seconds)
{
    double most = 0, until = now() + seconds;
    do {
        double started = now(), took;
        work();
        took = now() - started;
        if (amount / took > most)
            most = amount / took;
    } while (now() < until);
    return most;
}

static volatile int32_t sink;
static const uint8_t *buffer;
static size_t buffer_size, passes;

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define NARROW __attribute__((target("avx2,fma")))
/* Twelve chains hide the latency of any of these instructions; the empty statement keeps them in registers, apart. */
#define KEEP(x) __asm__ volatile("" : "+v"(x))

WIDE static void vnni(void)
{
    __m512i w = _mm512_set1_epi8(3), q = _mm512_set1_epi8(2), all = _mm512_setzero_si512();
#define MAKE(i) __m512i a##i = _mm512_setzero_si512();
#define STEP(i) a##i = _mm512_dpbusd_epi32(a##i, w, q); KEEP(a##i);
#define JOIN(i) all = _mm512_add_epi32(all, a##i);
    EACH_12(MAKE)
    KEEP(w);
    KEEP(q);
    for (int n = 0; n < BLOCK; n++) {
        EACH_12(STEP)
    }
    EACH_12(JOIN)
    sink = _mm512_reduce_add_epi32(all);
#undef MAKE
#undef STEP
#undef JOIN
}

/* 16 by 16 sums of 64 products each, in four of the eight tiles. Linux lends them to a process that asks. */
static int has_tiles(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 24 & 3) == 3 && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

static void tiles(void)
{
    struct {
        uint8_t palette, first_row, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("ldtilecfg %0" ::"m"(shape));
    for (int n = 0; n < BLOCK; n++)
        __asm__ volatile("tdpbsud %tmm7, %tmm6, %tmm0\n tdpbsud %tmm7, %tmm6, %tmm1\n"
                         "tdpbsud %tmm7, %tmm6, %tmm2\n tdpbsud %tmm7, %tmm6, %tmm3\n");
    __asm__ volatile("tilerelease" ::);
}

NARROW static void maddubs(void)
{
    __m256i w = _mm256_set1_epi8(3), q = _mm256_set1_epi8(2), ones = _mm256_set1_epi16(1), all = _mm256_setzero_si256();
#define MAKE(i) __m256i a##i = _mm256_setzero_si256();
#define STEP(i) KEEP(w); a##i = _mm256_add_epi32(a##i, _mm256_madd_epi16(_mm256_maddubs_epi16(w, q), ones)); KEEP(a##i);
#define JOIN(i) all = _mm256_add_epi32(all, a##i);
    EACH_12(MAKE)
    KEEP(q);
    for (int n = 0; n < BLOCK; n++) {
        EACH_12(STEP)
    }
    EACH_12(JOIN)
    sink = _mm256_extract_epi32(all, 0);
#undef MAKE
#undef STEP
#undef JOIN
}

WIDE static void floats_wide(void)
{
    __m512 w = _mm512_set1_ps(0.5f), all = _mm512_setzero_ps();
#define MAKE(i) __m512 a##i = _mm512_set1_ps(1.0f);
#define STEP(i) a##i = _mm512_fmadd_ps(a##i, w, w); KEEP(a##i);
#define JOIN(i) all = _mm512_add_ps(all, a##i);
    EACH_12(MAKE)
    KEEP(w);
    for (int n = 0; n < BLOCK; n++) {
        EACH_12(STEP)
    }
    EACH_12(JOIN)
    sink = (int32_t)_mm512_reduce_add_ps(all);
#undef MAKE
#undef STEP
#undef JOIN
}

NARROW static void floats_narrow(void)
{
    __m256 w = _mm256_set1_ps(0.5f), all = _mm256_setzero_ps();
#define MAKE(i) __m256 a##i = _mm256_set1_ps(1.0f);
#define STEP(i) a##i = _mm256_fmadd_ps(a##i, w, w); KEEP(a##i);
#define JOIN(i) all = _mm256_add_ps(all, a##i);
    EACH_12(MAKE)
    KEEP(w);
    for (int n = 0; n < BLOCK; n++) {
        EACH_12(STEP)
    }
    EACH_12(JOIN)
    sink = (int32_t)_mm256_cvtss_f32(all);
#undef MAKE
#undef STEP
#undef JOIN
}

WIDE static void read_wide(void)
{
    __m512i sum = _mm512_setzero_si512(), more = sum;
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t i = 0; i < buffer_size; i += 512) {
            const __m512i *at = (const __m512i *)(const void *)(buffer + i);
            sum = _mm512_add_epi32(sum, _mm512_add_epi32(_mm512_add_epi32(at[0], at[1]), _mm512_add_epi32(at[2], at[3])));
            more = _mm512_add_epi32(more, _mm512_add_epi32(_mm512_add_epi32(at[4], at[5]), _mm512_add_epi32(at[6], at[7])));
            KEEP(sum);
        }
    sink = _mm512_reduce_add_epi32(_mm512_add_epi32(sum, more));
}

NARROW static void read_narrow(void)
{
    __m256i sum = _mm256_setzero_si256(), more = sum;
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t i = 0; i < buffer_size; i += 256) {
            const __m256i *at = (const __m256i *)(const void *)(buffer + i);
            sum = _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_add_epi32(at[0], at[1]), _mm256_add_epi32(at[2], at[3])));
            more = _mm256_add_epi32(more, _mm256_add_epi32(_mm256_add_epi32(at[4], at[5]), _mm256_add_epi32(at[6], at[7])));
            KEEP(sum);
        }
    sink = _mm256_extract_epi32(_mm256_add_epi32(sum, more), 0);
}

static int wide(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

static int narrow(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

/* Half of a cache level, or `otherwise` where the system does not say how large it is. */
static size_t half_of(int name, size_t otherwise)
{
    long size = sysconf(name);
    return (size > 0 ? (size_t)size : otherwise) / 2 / 512 * 512;
}

static double read_rate(void (*read)(void), size_t size, double seconds)
{
    buffer_size = size;
    passes = size < (1u << 20) ? (1u << 20) / size : 1;
    return best(read, (double)size * (double)passes, seconds);
}

int main(int count, char **values)
{
    double seconds = count > 1 ? atof(values[1]) : 0.3;
    void (*multiply)(void) = NULL, (*floats)(void) = NULL, (*read)(void) = NULL;
    double products = 0, floats_at_once = 0;
    size_t l1 = half_of(_SC_LEVEL1_DCACHE_SIZE, 1 << 15), l2 = half_of(_SC_LEVEL2_CACHE_SIZE, 1 << 20);
    size_t l3 = half_of(_SC_LEVEL3_CACHE_SIZE, (size_t)16 << 20), memory = (size_t)256 << 20;
    void *block = NULL;
    const char *name = "none";
#if defined(__x86_64__)
    if (wide()) {
        name = "avx512-vnni";
        multiply = vnni;
        floats = floats_wide;
        read = read_wide;
        products = 12 * 64;
        floats_at_once = 16;
        if (has_tiles()) {
            name = "amx-int8";
            multiply = tiles;
            products = 4 * 16 * 16 * 64;
        }
    } else if (narrow()) {
        name = "avx2";
        multiply = maddubs;
        floats = floats_narrow;
        read = read_narrow;
        products = 12 * 32;
        floats_at_once = 8;
    }
#endif
    if (!multiply || posix_memalign(&block, 4096, memory) != 0) {
        puts("{\"instructions\": \"none\"}");
        return 0;
    }
    memset(block, 1, memory);
    buffer = block;
    if (l3 > ((size_t)8 << 20))
        l3 = (size_t)8 << 20; /* the level is shared: a core may not have more of it */
    printf("{\"instructions\": \"%s\", \"int8_per_s\": %.0f, ", name, best(multiply, BLOCK * products, seconds));
    printf("\"float_per_s\": %.0f, ", best(floats, 12.0 * BLOCK * floats_at_once, seconds));
    printf("\"l1_bytes\": %zu, \"l2_bytes\": %zu, ", 2 * l1, 2 * l2);
    printf("\"l1_per_s\": %.0f, ", read_rate(read, l1, seconds));
    printf("\"l2_per_s\": %.0f, ", read_rate(read, l2, seconds));
    printf("\"l3_per_s\": %.0f, ", read_rate(read, l3, seconds));
    printf("\"memory_per_s\": %.0f}\n", read_rate(read, memory, seconds));
    free(block);
    return 0;
}

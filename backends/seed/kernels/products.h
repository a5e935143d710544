/* Products of the rows of a pass with packed weights, a panel of 32 outputs at a time.

A panel is read in parts: one stays in the first cache while all rows are multiplied with it, and the next one is fetched
into the second cache meanwhile, as the processor alone does not begin early enough. With few rows it waits for memory
all the time, and to fetch is only more work. A row's sums run over the inputs in ascending order, whatever the parts and
the rows beside it are. */

#define PART (32 << 10)  /* most bytes */
#define FEW 4            /* rows of a sweep with which nothing is fetched ahead */
#define GROUP (8 * ROWS) /* rows whose sums are kept from one part to the next */

typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef int32_t integers __attribute__((vector_size(64), aligned(4)));
typedef uint32_t words __attribute__((vector_size(64), aligned(4)));
typedef int8_t bytes16 __attribute__((vector_size(16), aligned(1)));

/* 16 integers as numbers; compilers convert vectors of other lengths one number after another. */
static inline __attribute__((always_inline)) floats widened(const char *from) {
#ifdef __AVX512F__
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
#else
    return __builtin_convertvector(*(const bytes16 *)from, floats);
#endif
}

/* Of an input: bytes in a row and in a panel. Inputs that are multiplied in one step. */
#define ROW_BYTES(kind) ((kind) == EIGHTS || (kind) == FOURS ? 1 : (kind) == PAIRS ? 2 : 4)
#define PANEL_BYTES(kind) \
    ((kind) == FOURS ? PANEL / 2 : PANEL * ((kind) == FLOATS ? 4 : (kind) == HALVES || (kind) == PAIRS ? 2 : 1))
#define STEP(kind) ((kind) == FOURS ? BLOCK : (kind) == EIGHTS ? 4 : (kind) == PAIRS ? 2 : 1)
#define IS_ROUNDED(kind) ((kind) == EIGHTS || (kind) == PAIRS || (kind) == FOURS) /* rows, in front of the product */

typedef struct {
    const Linear *linear;
    int panel, first, last; /* inputs first <= k < last */
    const char *ahead;      /* what is fetched, `hop` bytes in a step */
    int64_t hop;
    const int32_t *totals; /* of the first row, for FOURS */
} Part;

/* Adds the products of R rows with a part to their sums (R, 32); those of EIGHTS are integers. */
static inline __attribute__((always_inline)) void sweep(
    const int R, const int KIND, const Part *part, const char *rows, int64_t stride, floats *sums) {
    const Linear *linear = part->linear;
    const int64_t ins = linear->ins, bytes = PANEL_BYTES(KIND) * STEP(KIND);
    const char *w = (const char *)linear->weight + (part->panel * ins + part->first) * PANEL_BYTES(KIND);
    const int64_t block = part->panel * (ins >> linear->shift) * PANEL;
    const char *ahead = part->ahead;
    floats left[ROWS], right[ROWS];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) left[r] = sums[2 * r], right[r] = sums[2 * r + 1];
    for (int k = part->first; k < part->last; k += STEP(KIND), w += bytes, ahead += part->hop) {
        floats a, b;
        if (R > FEW) __builtin_prefetch(ahead, 0, 2), __builtin_prefetch(ahead + 64, 0, 2);
        if (KIND == HALVES) { /* a number in bfloat16 is the upper half of one in float32 */
            const words both = *(const words *)w;
            a = (floats)(both << 16), b = (floats)(both & 0xffff0000u);
        } else if (KIND == BLOCKS || KIND == RAISED) { /* as they are expanded: where numbers are added, products are exact */
            const int64_t at = block + (k >> linear->shift) * PANEL;
            const float *scale = linear->blocks + at;
            a = widened(w) * *(const floats *)scale, b = widened(w + 16) * *(const floats *)(scale + 16);
            if (KIND == RAISED) a += *(const floats *)(linear->lowest + at), b += *(const floats *)(linear->lowest + at + 16);
        } else {
            a = *(const floats *)w, b = *(const floats *)(w + 64);
        }
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            int32_t bits; /* one input, a pair or four */
            memcpy(&bits, rows + r * stride + k * ROW_BYTES(KIND), sizeof bits);
            const integers row = (integers){0} + bits;
            if (KIND != EIGHTS && KIND != PAIRS) left[r] += a * (floats)row, right[r] += b * (floats)row;
            /* the intrinsic functions of some compilers copy the sums to other registers and back */
#ifdef __AVX512VNNI__
            if (KIND == EIGHTS)
                __asm__("vpdpbusd %3, %2, %0\n\tvpdpbusd %3, %4, %1" : "+&v"(left[r]), "+&v"(right[r]) : "v"(a), "v"(row), "v"(b));
#endif
#ifdef __AVX512BF16__
            if (KIND == PAIRS)
                __asm__("vdpbf16ps %3, %2, %0\n\tvdpbf16ps %3, %4, %1" : "+&v"(left[r]), "+&v"(right[r]) : "v"(a), "v"(row), "v"(b));
#endif
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) sums[2 * r] = left[r], sums[2 * r + 1] = right[r];
}

#include "fours.h"

typedef void Sweeps(int R, const Part *part, const char *rows, int64_t stride, floats *sums);

#define TILE(n, one) case n: one(n, KIND, part, rows, stride, sums); break;
#define SWEEPS(name, kind, one) \
    static void name(int R, const Part *part, const char *rows, int64_t stride, floats *sums) { \
        enum { KIND = kind }; \
        switch (R) { \
            TILE(1, one) TILE(2, one) TILE(3, one) TILE(4, one) TILE(5, one) TILE(6, one) \
            TILE(7, one) TILE(8, one) TILE(9, one) TILE(10, one) TILE(11, one) TILE(12, one) \
        } \
    }
SWEEPS(sweep_floats, FLOATS, sweep)
SWEEPS(sweep_halves, HALVES, sweep)
SWEEPS(sweep_pairs, PAIRS, sweep)
SWEEPS(sweep_blocks, BLOCKS, sweep)
SWEEPS(sweep_raised, RAISED, sweep)
SWEEPS(sweep_eights, EIGHTS, sweep)
SWEEPS(sweep_fours, FOURS, sweep_nibbles)

static Sweeps *const SWEEPS_OF[] = {
    [FLOATS] = sweep_floats, [HALVES] = sweep_halves, [PAIRS] = sweep_pairs, [BLOCKS] = sweep_blocks,
    [RAISED] = sweep_raised, [EIGHTS] = sweep_eights, [FOURS] = sweep_fours};

/* Sums of integers as numbers, less what the offset of the weights has added. */
static void scale_sums(const Linear *linear, int panel, float largest, int32_t correction, floats *sums) {
    for (int half = 0; half < 2; half++) {
        const integers exact = (integers)sums[half] - correction;
        const floats scale = *(const floats *)(linear->scale + panel * PANEL + 16 * half);
        sums[half] = __builtin_convertvector(exact, floats) * scale * largest;
    }
}

/* One panel of a product for all rows: to[t, o] = sum, or to[t, o] += sum. `x` is not read where rows were rounded. */
static void product(const Pass *pass, const Linear *linear, int panel, const float *x, int64_t stride, float *to,
                    int add) {
    const int kind = linear->kind, rounded = IS_ROUNDED(kind);
    const int first = panel * PANEL, width = linear->outs - first < PANEL ? linear->outs - first : PANEL;
    const int64_t bytes = PANEL_BYTES(kind), steps = linear->ins / STEP(kind), parts = (linear->ins * bytes + PART - 1) / PART;
    const char *rows = rounded ? pass->rounded : (const char *)x;
    stride = (rounded ? linear->ins : stride) * ROW_BYTES(kind);
    floats sums[2 * GROUP];
    for (int t = 0, some; t < pass->tokens; t += some) {
        some = pass->tokens - t < GROUP ? pass->tokens - t : GROUP;
        const int sweeps = (some + ROWS - 1) / ROWS;
        memset(sums, 0, some * 2 * sizeof *sums);
        for (int p = 0; p < parts; p++) {
            Part part = {linear, panel, (int)(steps * p / parts) * STEP(kind), (int)(steps * (p + 1) / parts) * STEP(kind)};
            const char *next = (const char *)linear->weight + ((int64_t)panel * linear->ins + part.last) * bytes;
            part.hop = bytes * STEP(kind) / sweeps;
            for (int s = 0, r = 0, tile; s < sweeps; s++, r += tile) {
                tile = (some - r + sweeps - s - 1) / (sweeps - s); /* of about equal size */
                part.ahead = next + (part.last - part.first) * bytes / sweeps * s;
                if (kind == FOURS) part.totals = pass->totals + (int64_t)(t + r) * (linear->ins / BLOCK);
                SWEEPS_OF[kind](tile, &part, rows + (t + r) * stride, stride, sums + 2 * r);
            }
        }
        for (int r = 0; r < some; r++) {
            float *row = to + (int64_t)(t + r) * linear->outs + first, *sum = (float *)(sums + 2 * r);
            if (kind == EIGHTS) scale_sums(linear, panel, pass->largest[t + r], pass->corrections[t + r], sums + 2 * r);
            if (kind == FOURS) sums[2 * r] *= pass->largest[t + r] / 127, sums[2 * r + 1] *= pass->largest[t + r] / 127;
            if (linear->bias) for (int i = 0; i < width; i++) sum[i] += linear->bias[first + i];
            if (add) for (int i = 0; i < width; i++) row[i] += sum[i];
            else for (int i = 0; i < width; i++) row[i] = sum[i];
        }
    }
}

#define PANELS(linear) (((linear).outs + PANEL - 1) / PANEL)

/* Decoder layers of the Llama family on a CPU: one call for those of a pass, keys and values read in place.

A row's numbers do not depend on the rows beside it: sums run over the inputs in ascending order (float32 and
bfloat16), are exact integers (8 bits), or are taken row by row. OpenMP's functions are those that torch has loaded, so
that both share one set of threads. */

#include <math.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "structures.h"
#include "steps.h"

#define REAL double
#define BITS int64_t
#define V_(name) name##_double
#define EXP_LEAST -700.0
#define EXP_SHIFT 0x1.8p52
#define EXP_HIGH 6.93147180369123816490e-01
#define EXP_LOW 1.90821492927058770002e-10
#define EXP_BIAS 1023
#define EXP_MANTISSA 52
#define EXP_SERIES(r) \
    (1 + r * (1 + r * (1 / 2. + r * (1 / 6. + r * (1 / 24. + r * (1 / 120. + r * (1 / 720. + r * (1 / 5040. + r * (1 / 40320. \
    + r * (1 / 362880. + r * (1 / 3628800. + r * (1 / 39916800. + r * (1 / 479001600. + r / 6227020800.)))))))))))))
#include "rotation.h"
#include "log_probabilities.h"
#undef REAL
#undef BITS
#undef V_
#undef EXP_LEAST
#undef EXP_SHIFT
#undef EXP_HIGH
#undef EXP_LOW
#undef EXP_BIAS
#undef EXP_MANTISSA
#undef EXP_SERIES
#define REAL float
#define BITS int32_t
#define V_(name) name##_float
#define EXP_LEAST -87.0f
#define EXP_SHIFT 0x1.8p23f
#define EXP_HIGH 0.693359375f
#define EXP_LOW -2.12194440e-4f
#define EXP_BIAS 127
#define EXP_MANTISSA 23
#define EXP_SERIES(r) \
    (1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f + r / 5040.f)))))))
#include "rotation.h"
#undef V_
#define W 16
#define V_(name) name##_float16
#ifdef __AVX512F__
#define REDUCE(v) _mm512_reduce_add_ps((__m512)(v))
#endif
#include "attention.h"
#undef REDUCE
#undef W
#undef V_
#define W 8
#define V_(name) name##_float8
#include "attention.h"

#include "integer_attention.h"
#include "products.h"

static void norm_row(const Pass *pass, const float *weight, int hidden, double epsilon, int t) {
    const float *x = pass->x + (int64_t)t * hidden;
    float *to = pass->normed + (int64_t)t * hidden;
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < hidden; i++) total += (double)x[i] * x[i];
    const double factor = 1 / sqrt(total / hidden + epsilon);
    for (int i = 0; i < hidden; i++) to[i] = (float)(x[i] * factor * weight[i]);
}

/* Integers and their scale: x = largest / 127 * to. */
static void round_to_eights(const Pass *pass, const float *x, int count, int ins, int t, int8_t *to) {
    float largest = 0;
#pragma omp simd reduction(max : largest)
    for (int i = 0; i < count; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    const float divisor = largest > 0 ? largest : 1;
    int32_t total = 0;
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < count; i++) {
        /* torch's operator rounds x * 127 + 128 once to float32, and then to the nearest integer, ties to even */
        const float unsigned_one = fmaf(x[i] / divisor, 127.0f, 128.0f), shifted = unsigned_one + 0x1.8p23f;
        const int32_t integer = (int32_t)(shifted - 0x1.8p23f) - 128;
        to[i] = (int8_t)integer;
        total += integer;
    }
    for (int i = count; i < ins; i++) to[i] = 0;
    pass->largest[t] = largest;
    pass->corrections[t] = 128 * total;
}

#ifdef __AVX512BF16__
/* To the nearest number, ties to even; what is below the normal ones is zero, as in the products. */
static void round_to_bfloat16(const float *x, int count, int ins, uint16_t *to) {
    for (int i = 0; i < ins; i += 16) {
        const __mmask16 inside = count - i >= 16 ? 0xffff : count > i ? (1 << (count - i)) - 1 : 0;
        const __mmask16 stored = ins - i >= 16 ? 0xffff : (1 << (ins - i)) - 1;
        const __m256bh halves = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(inside, x + i));
        _mm256_mask_storeu_epi16(to + i, stored, (__m256i)halves);
    }
}
#endif

/* The row as a product of `linear` reads it; nothing where that is in float32. */
static void round_row(const Pass *pass, const Linear *linear, const float *rows, int64_t stride, int count, int t) {
    const float *x = rows + t * stride;
    char *to = (char *)pass->rounded + (int64_t)t * linear->ins * ROW_BYTES(linear->kind);
    if (linear->kind == EIGHTS) round_to_eights(pass, x, count, linear->ins, t, (int8_t *)to);
#ifdef __AVX512BF16__
    if (linear->kind == PAIRS) round_to_bfloat16(x, count, linear->ins, (uint16_t *)to);
#endif
}

/* The gated activation, in place of the gate: silu(gate) * up, both computed as one product. */
static void gate_row(const Pass *pass, int inner, int t) {
    float *gate = pass->inner + (int64_t)t * 2 * inner, *up = gate + inner;
    for (int i = 0; i < inner; i++) {
        const double x = gate[i], least = x < -700 ? -700 : x;
        gate[i] = (float)(x / (1 + exp_double(-least))) * up[i];
    }
}

#define ITEMS(count) for (int first = 0, last = 0; take(worker, count, &first, &last);) for (int i = first; i < last; i++)
#define LAYER_STEPS 18

/* Two steps that add a low-rank change to the product of the same rows, where there is one. */
#define ADD_LOW(change, x, stride, to) \
    if ((change).down.outs) { \
        ITEMS(PANELS((change).down)) product(pass, &(change).down, i, x, stride, pass->low, 0); \
        ITEMS(PANELS((change).up)) product(pass, &(change).up, i, pass->low, (change).down.outs, to, 1); \
    }

static void attend_layer(const Layer *layer, const Pass *pass, float *entries, Worker *worker) {
    const int group = layer->heads / layer->kv_heads, few = pass->tokens * layer->kv_heads < 4 * pass->threads;
    const int count = few ? 1 : group, parts = layer->heads / count;
    ITEMS(pass->tokens) {
        float *queries = (float *)pass->queries + (int64_t)i * layer->heads * layer->dim;
        rotate_float(layer, pass, i, queries, entries + pass->slots[i] * 2 * layer->kv_heads * layer->dim);
    }
    ITEMS(pass->tokens * parts) {
        const int t = i / parts, head = i % parts * count;
        if (layer->dim % 16) attend_float8(layer, pass, entries, t, head, count);
        else attend_float16(layer, pass, entries, t, head, count);
    }
}

static inline int least(int a, int b) { return a < b ? a : b; }
static inline int within(int a, int most) { return a < 1 ? 1 : least(a, most); }

/* The same where heads are integers; tokens are taken together as far as there is work for all threads. */
static void attend_layer_integers(const Layer *layer, const Pass *pass, int16_t *entries, Worker *worker) {
#ifdef __AVX512VNNI__
    const int tokens = pass->tokens, kv_heads = layer->kv_heads, group = layer->heads / kv_heads, threads = pass->threads;
    int longest = 1;
    for (int t = 0; t < tokens; t++) longest = pass->before[t] + pass->own[t] > longest ? pass->before[t] + pass->own[t] : longest;
    const int few = tokens * kv_heads < 4 * threads, count = few ? 1 : within(MOST_SCORES / longest, least(group, MOST_HEADS));
    const int parts = (group + count - 1) / count, share = tokens * kv_heads * parts / (4 * threads);
    const int rows = within(least(ROOM / (longest * count), share), MOST_ROWS);
    ITEMS(tokens) rotate_integers(layer, pass, entries, i);
    ITEMS((tokens + rows - 1) / rows * kv_heads * parts) {
        const int t = i / (kv_heads * parts) * rows, part = i % parts * count, first = i / parts % kv_heads * group + part;
        attend_integers(
            layer, pass, entries, t, tokens - t < rows ? tokens - t : rows, first, group - part < count ? group - part : count);
    }
#endif
}

/* One layer: pass->x becomes its output. `entries` (slots, 2, kv_heads, dim) in float32, or those of integers. */
static void decoder_layer(const Layer *layer, const Pass *pass, void *entries, Worker *worker) {
    const int tokens = pass->tokens, hidden = layer->hidden, width = layer->heads * layer->dim;
    ITEMS(tokens) {
        norm_row(pass, layer->before_norm, hidden, layer->epsilon, i);
        round_row(pass, &layer->qkv, pass->normed, hidden, hidden, i);
    }
    ITEMS(PANELS(layer->qkv)) product(pass, &layer->qkv, i, pass->normed, hidden, pass->projected, 0);
    ADD_LOW(layer->qkv_low, pass->normed, hidden, pass->projected)
    if (layer->eights) attend_layer_integers(layer, pass, entries, worker);
    else attend_layer(layer, pass, entries, worker);
    if (layer->out.kind == EIGHTS || layer->out.kind == PAIRS)
        ITEMS(tokens) round_row(pass, &layer->out, pass->attended, width, width, i);
    ITEMS(PANELS(layer->out)) product(pass, &layer->out, i, pass->attended, width, pass->x, 1);
    ADD_LOW(layer->out_low, pass->attended, width, pass->x)
    ITEMS(tokens) {
        norm_row(pass, layer->between_norm, hidden, layer->epsilon, i);
        round_row(pass, &layer->gate_up, pass->normed, hidden, hidden, i);
    }
    ITEMS(PANELS(layer->gate_up)) product(pass, &layer->gate_up, i, pass->normed, hidden, pass->inner, 0);
    ADD_LOW(layer->gate_up_low, pass->normed, hidden, pass->inner)
    ITEMS(tokens) {
        gate_row(pass, layer->inner, i);
        round_row(pass, &layer->down, pass->inner, 2 * layer->inner, layer->inner, i);
    }
    ITEMS(PANELS(layer->down)) product(pass, &layer->down, i, pass->inner, 2 * layer->inner, pass->x, 1);
    ADD_LOW(layer->down_low, pass->inner, 2 * layer->inner, pass->x)
}

/* Layers one after another; `entries` are those of each. 0 where there is no memory to begin, else 1. */
int32_t decoder_layers(const Layer *const *layers, void *const *entries, int32_t count, const Pass *pass) {
    Counter *counters = counters_of(count * LAYER_STEPS, pass->threads);
    if (!counters) return 0;
#pragma omp parallel num_threads(pass->threads) if (pass->threads > 1)
    {
        Worker worker = worker_of(counters);
        for (int l = 0; l < count; l++) decoder_layer(layers[l], pass, entries[l], &worker);
    }
    free(counters);
    return 1;
}

/* Logits (T, outs) of the rows pass->x, normed where there is a weight. 0 where there is no memory to begin, else 1. */
int32_t decoder_head(const Linear *head, const float *weight, int32_t hidden, double epsilon, const Pass *pass, float *to) {
    Counter *counters = counters_of(2, pass->threads);
    if (!counters) return 0;
#pragma omp parallel num_threads(pass->threads) if (pass->threads > 1)
    {
        Worker here = worker_of(counters), *worker = &here;
        ITEMS(pass->tokens) {
            if (weight) norm_row(pass, weight, hidden, epsilon, i);
            else memcpy(pass->normed + (int64_t)i * hidden, pass->x + (int64_t)i * hidden, hidden * sizeof(float));
            round_row(pass, head, pass->normed, hidden, hidden, i);
        }
        ITEMS(PANELS(*head)) product(pass, head, i, pass->normed, hidden, to, 0);
    }
    free(counters);
    return 1;
}

/* Whether the processor multiplies pairs in bfloat16, and adds the second product first, each sum rounded to float32. */
int32_t bfloat16_products(void) {
    int32_t right = 0;
#ifdef __AVX512BF16__
    right = 1;
    for (uint32_t i = 0; i < 64; i++) { /* numbers from 1 to 2, and a sum that has more bits than they */
        const uint32_t rows = 0x3f803f80u + (i * 37 % 128 << 16) + i * 85 % 128, weights = 0x3f803f80u + (i * 59 % 128) + (i << 16);
        const float start = (float)i / 3;
        float numbers[4];
        for (int n = 0; n < 4; n++) {
            const uint32_t bits = (n < 2 ? rows : weights) << (n % 2 ? 0 : 16) & 0xffff0000u;
            memcpy(numbers + n, &bits, sizeof bits);
        }
        const integers row = (integers){0} + (int32_t)rows, weight = (integers){0} + (int32_t)weights;
        floats sum = (floats){0} + start;
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(row));
        right &= sum[0] == fmaf(numbers[0], numbers[2], fmaf(numbers[1], numbers[3], start));
    }
#endif
    return right;
}

/* 0 without vectors of 64 bytes, which sweeps are written for, 1 with them, 2 with products in 8 bits. */
int32_t instructions(void) {
#ifdef __AVX512VNNI__
    return 2;
#elif defined(__AVX512F__)
    return 1;
#else
    return 0;
#endif
}

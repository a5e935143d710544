/* Decoder layers of the Llama family on a CPU: one call for those of a pass, keys and values read in place.

A row's numbers do not depend on the rows beside it: sums run over the inputs in ascending order (float32), are exact
integers (8 bits), or are taken row by row. OpenMP's functions are those that torch has loaded, so that both share one
set of threads. */

#include <math.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "structures.h"
#include "steps.h"

#define REAL double
#define BITS int64_t
#define W 8
#define V_(name) name##_double
#ifdef __AVX512F__
#define REDUCE(v) _mm512_reduce_add_pd((__m512d)(v))
#endif
#define EXP_LEAST -700.0
#define EXP_SHIFT 0x1.8p52
#define EXP_HIGH 6.93147180369123816490e-01
#define EXP_LOW 1.90821492927058770002e-10
#define EXP_BIAS 1023
#define EXP_MANTISSA 52
#define EXP_SERIES(r) \
    (1 + r * (1 + r * (1 / 2. + r * (1 / 6. + r * (1 / 24. + r * (1 / 120. + r * (1 / 720. + r * (1 / 5040. + r * (1 / 40320. \
    + r * (1 / 362880. + r * (1 / 3628800. + r * (1 / 39916800. + r * (1 / 479001600. + r / 6227020800.)))))))))))))
#include "attention.h"
#include "log_probabilities.h"
#undef REAL
#undef BITS
#undef W
#undef V_
#undef EXP_LEAST
#undef EXP_SHIFT
#undef EXP_HIGH
#undef EXP_LOW
#undef EXP_BIAS
#undef EXP_MANTISSA
#undef EXP_SERIES
#undef REDUCE
#define REAL float
#define BITS int32_t
#define EXP_LEAST -87.0f
#define EXP_SHIFT 0x1.8p23f
#define EXP_HIGH 0.693359375f
#define EXP_LOW -2.12194440e-4f
#define EXP_BIAS 127
#define EXP_MANTISSA 23
#define EXP_SERIES(r) \
    (1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f + r / 5040.f)))))))
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

/* The norm of rows, and where a product in 8 bits follows their rounding: x = largest / 127 * rounded. */
static void norm_row(const Pass *pass, const float *weight, int hidden, double epsilon, int t) {
    const float *x = pass->x + (int64_t)t * hidden;
    float *to = pass->normed + (int64_t)t * hidden;
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < hidden; i++) total += (double)x[i] * x[i];
    const double factor = 1 / sqrt(total / hidden + epsilon);
    for (int i = 0; i < hidden; i++) to[i] = (float)(x[i] * factor * weight[i]);
}

static void round_row(const Pass *pass, const Linear *linear, const float *rows, int64_t stride, int count, int t) {
    const float *x = rows + t * stride;
    int8_t *to = pass->rounded + (int64_t)t * linear->ins;
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
    for (int i = count; i < linear->ins; i++) to[i] = 0;
    pass->largest[t] = largest;
    pass->corrections[t] = 128 * total;
}

typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef uint32_t words __attribute__((vector_size(64), aligned(4)));
typedef int8_t bytes16 __attribute__((vector_size(16), aligned(1)));

/* HALF: weights in bfloat16, which are the upper halves of numbers in float32. BLOCKS: integers, each times the scale of
its block, which is the weight's number in float32 exactly: scales have 11 bits, and integers 8. */
static inline __attribute__((always_inline)) void sweep_float(
    const int R, const int HALF, const int BLOCKS, const Linear *linear, int panel, const float *x, int64_t stride,
    float *out) {
    const int bytes = BLOCKS ? 1 : HALF ? 2 : 4;
    const float *scales = BLOCKS ? linear->blocks + (int64_t)panel * (linear->ins / 32) * PANEL : 0;
    const char *w = (const char *)linear->weight + (int64_t)panel * linear->ins * PANEL * bytes;
    floats left[ROWS], right[ROWS];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) left[r] = right[r] = (floats){0};
    for (int k = 0; k < linear->ins; k++, w += PANEL * bytes) {
        floats a, b;
        if (HALF) {
            const words pairs = *(const words *)w;
            a = (floats)(pairs << 16), b = (floats)(pairs & 0xffff0000u);
        } else if (BLOCKS) {
            const float *scale = scales + k / 32 * PANEL;
            a = __builtin_convertvector(*(const bytes16 *)w, floats) * *(const floats *)scale;
            b = __builtin_convertvector(*(const bytes16 *)(w + 16), floats) * *(const floats *)(scale + 16);
        } else {
            a = *(const floats *)w, b = *(const floats *)(w + 64);
        }
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) left[r] += a * x[r * stride + k], right[r] += b * x[r * stride + k];
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) *(floats *)(out + r * PANEL) = left[r], *(floats *)(out + r * PANEL + 16) = right[r];
}

#ifdef __AVX512VNNI__
static inline __attribute__((always_inline)) void sweep_int8(
    const int R, const Linear *linear, int panel, const int8_t *x, const float *largest, const int32_t *corrections,
    float *out) {
    const uint8_t *w = (const uint8_t *)linear->weight + (int64_t)panel * linear->ins * PANEL;
    const int64_t stride = linear->ins;
    __m512i left[ROWS], right[ROWS];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) left[r] = right[r] = _mm512_setzero_si512();
    for (int k = 0; k < linear->ins; k += 4, w += 4 * PANEL) {
        const __m512i a = _mm512_loadu_si512(w), b = _mm512_loadu_si512(w + 64);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            int32_t four;
            memcpy(&four, x + r * stride + k, 4);
            const __m512i row = _mm512_set1_epi32(four);
            /* the intrinsic function of some compilers copies the sums to other registers and back */
            __asm__("vpdpbusd %2, %1, %0" : "+v"(left[r]) : "v"(a), "v"(row));
            __asm__("vpdpbusd %2, %1, %0" : "+v"(right[r]) : "v"(b), "v"(row));
        }
    }
    const __m512 a = _mm512_loadu_ps(linear->scale + panel * PANEL), b = _mm512_loadu_ps(linear->scale + panel * PANEL + 16);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
        const __m512i less = _mm512_set1_epi32(corrections[r]);
        const __m512 most = _mm512_set1_ps(largest[r]);
        const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(left[r], less)), a);
        const __m512 z = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(right[r], less)), b);
        _mm512_storeu_ps(out + r * PANEL, _mm512_mul_ps(y, most));
        _mm512_storeu_ps(out + r * PANEL + 16, _mm512_mul_ps(z, most));
    }
}
#endif

/* One panel of a product for all rows: to[t, o] = sum, or to[t, o] += sum. `x` is not read by products in 8 bits. */
static void product(const Pass *pass, const Linear *linear, int panel, const float *x, int64_t stride, float *to,
                    int add) {
    const int first = panel * PANEL, width = linear->outs - first < PANEL ? linear->outs - first : PANEL;
    float block[ROWS * PANEL];
    const int sweeps = (pass->tokens + ROWS - 1) / ROWS;
    for (int s = 0, t = 0, rows; s < sweeps; s++, t += rows) {
        rows = (pass->tokens - t + sweeps - s - 1) / (sweeps - s); /* of about equal size */
        const float *from = x + t * stride;
        const int8_t *rounded = pass->rounded + (int64_t)t * linear->ins;
        (void)rounded;
#define SWEEP_FLOAT(n) \
    if (linear->half) sweep_float(n, 1, 0, linear, panel, from, stride, block); \
    else if (linear->blocks) sweep_float(n, 0, 1, linear, panel, from, stride, block); \
    else sweep_float(n, 0, 0, linear, panel, from, stride, block);
#ifdef __AVX512VNNI__
#define SWEEP(n) \
    case n: \
        if (linear->scale) sweep_int8(n, linear, panel, rounded, pass->largest + t, pass->corrections + t, block); \
        else SWEEP_FLOAT(n) \
        break;
#else
#define SWEEP(n) case n: SWEEP_FLOAT(n) break;
#endif
        switch (rows) { SWEEP(1) SWEEP(2) SWEEP(3) SWEEP(4) SWEEP(5) SWEEP(6) SWEEP(7) SWEEP(8) SWEEP(9) SWEEP(10) SWEEP(11) SWEEP(12) }
        for (int r = 0; r < rows; r++) {
            float *row = to + (int64_t)(t + r) * linear->outs + first, *sums = block + r * PANEL;
            if (linear->bias) for (int i = 0; i < width; i++) sums[i] += linear->bias[first + i];
            if (add) for (int i = 0; i < width; i++) row[i] += sums[i];
            else for (int i = 0; i < width; i++) row[i] = sums[i];
        }
    }
}

/* The gated activation, in place of the gate: silu(gate) * up, both computed as one product. */
static void gate_row(const Pass *pass, int inner, int t) {
    float *gate = pass->inner + (int64_t)t * 2 * inner, *up = gate + inner;
    for (int i = 0; i < inner; i++) {
        const double x = gate[i], least = x < -700 ? -700 : x;
        gate[i] = (float)(x / (1 + exp_double(-least))) * up[i];
    }
}

#define PANELS(linear) (((linear).outs + PANEL - 1) / PANEL)

#define ITEMS(count) for (int first = 0, last = 0; take(worker, count, &first, &last);) for (int i = first; i < last; i++)
#define LAYER_STEPS 18

/* Two steps that add a low-rank change to the product of the same rows, where there is one. */
#define ADD_LOW(change, x, stride, to) \
    if ((change).down.outs) { \
        ITEMS(PANELS((change).down)) product(pass, &(change).down, i, x, stride, pass->low, 0); \
        ITEMS(PANELS((change).up)) product(pass, &(change).up, i, pass->low, (change).down.outs, to, 1); \
    }

/* One layer: pass->x becomes its output. `entries` (slots, 2, kv_heads, dim) in the numbers of attention. */
static void decoder_layer(const Layer *layer, const Pass *pass, void *entries, Worker *worker) {
    const int tokens = pass->tokens, hidden = layer->hidden, width = layer->heads * layer->dim;
    const int group = layer->heads / layer->kv_heads, few = tokens * layer->kv_heads < 4 * pass->threads;
    const int count = few ? 1 : group, parts = layer->heads / count, sixteen = layer->dim % 16 == 0;
    ITEMS(tokens) {
        norm_row(pass, layer->before_norm, hidden, layer->epsilon, i);
        if (layer->qkv.scale) round_row(pass, &layer->qkv, pass->normed, hidden, hidden, i);
    }
    ITEMS(PANELS(layer->qkv)) product(pass, &layer->qkv, i, pass->normed, hidden, pass->projected, 0);
    ADD_LOW(layer->qkv_low, pass->normed, hidden, pass->projected)
    ITEMS(tokens) {
        if (layer->wide) rotate_double(layer, pass, entries, i);
        else rotate_float16(layer, pass, entries, i);
    }
    ITEMS(tokens * parts) {
        const int t = i / parts, head = i % parts * count;
        if (layer->wide) attend_double(layer, pass, entries, t, head, count);
        else if (sixteen) attend_float16(layer, pass, entries, t, head, count);
        else attend_float8(layer, pass, entries, t, head, count);
    }
    if (layer->out.scale)
        ITEMS(tokens) round_row(pass, &layer->out, pass->attended, width, width, i);
    ITEMS(PANELS(layer->out)) product(pass, &layer->out, i, pass->attended, width, pass->x, 1);
    ADD_LOW(layer->out_low, pass->attended, width, pass->x)
    ITEMS(tokens) {
        norm_row(pass, layer->between_norm, hidden, layer->epsilon, i);
        if (layer->gate_up.scale) round_row(pass, &layer->gate_up, pass->normed, hidden, hidden, i);
    }
    ITEMS(PANELS(layer->gate_up)) product(pass, &layer->gate_up, i, pass->normed, hidden, pass->inner, 0);
    ADD_LOW(layer->gate_up_low, pass->normed, hidden, pass->inner)
    ITEMS(tokens) {
        gate_row(pass, layer->inner, i);
        if (layer->down.scale) round_row(pass, &layer->down, pass->inner, 2 * layer->inner, layer->inner, i);
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
            if (head->scale) round_row(pass, head, pass->normed, hidden, hidden, i);
        }
        ITEMS(PANELS(*head)) product(pass, head, i, pass->normed, hidden, to, 0);
    }
    free(counters);
    return 1;
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

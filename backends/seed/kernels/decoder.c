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

#include "attended_keys.h"
#include "float_attention.h"
#include "integer_attention.h"
#include "products.h"

static void norm_row(const float *x, const float *weight, int count, double epsilon, float *to) {
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < count; i++) total += (double)x[i] * x[i];
    const double factor = 1 / sqrt(total / count + epsilon);
    for (int i = 0; i < count; i++) to[i] = (float)(x[i] * factor * weight[i]);
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
    if (linear->kind == EIGHTS || linear->kind == FOURS) round_to_eights(pass, x, count, linear->ins, t, (int8_t *)to);
    if (linear->kind == FOURS) total_blocks((int8_t *)to, linear->ins / BLOCK, pass->totals + (int64_t)t * (linear->ins / BLOCK));
#ifdef __AVX512BF16__
    if (linear->kind == PAIRS) round_to_bfloat16(x, count, linear->ins, (uint16_t *)to);
#endif
}

/* What attention projects: x normed, or of a layer over pairs an embedding and a state x, both normed, side by side. */
static void enter_row(const Layer *layer, const Pass *pass, float *heard, int t) {
    const int hidden = layer->hidden, count = layer->state_norm ? 2 * hidden : hidden;
    float *x = pass->x + (int64_t)t * hidden, *to = pass->normed + (int64_t)t * count;
    if (heard) memcpy(heard + (int64_t)t * hidden, x, hidden * sizeof(float));
    if (layer->state_norm) {
        norm_row(pass->embedded + (int64_t)t * hidden, layer->before_norm, hidden, layer->epsilon, to);
        norm_row(x, layer->state_norm, hidden, layer->epsilon, to + hidden);
        if (layer->normed_residual) memcpy(x, to + hidden, hidden * sizeof(float));
    } else {
        norm_row(x, layer->before_norm, hidden, layer->epsilon, to);
    }
    round_row(pass, &layer->qkv, pass->normed, count, count, t);
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
#define LAYER_STEPS 8
#define BATCH_STEPS 10 /* of a layer, for each batch */

/* Two steps that add a low-rank change to the product of the rows first <= t < last, where there is one. */
static void add_low(const Pass *pass, const LowRank *low, int first, int last, const float *x, int64_t stride, float *to,
                    Worker *worker) {
    if (!low->down.outs) return;
    Pass rows = *pass;
    rows.tokens = last - first;
    x += first * stride, to += (int64_t)first * low->up.outs;
    ITEMS(PANELS(low->down)) product(&rows, &low->down, i, x, stride, rows.low, 0);
    ITEMS(PANELS(low->up)) product(&rows, &low->up, i, rows.low, low->down.outs, to, 1);
}

#define ADD_LOW(change, x, stride, to) \
    for (int b = 0; b < count; b++) \
        add_low(pass, &batches[b].layers[index]->change, batches[b].first, batches[b].last, x, stride, to, worker);

/* Tokens first <= t < last, of which some are taken together as far as there is work for all threads. */
typedef void Attend(const Layer *layer, const Pass *pass, const void *entries, int t, int rows, int first, int count);

static void attend_together(const Layer *layer, const Pass *pass, const void *entries, int begin, int tokens, Attend *some,
                            Worker *worker) {
    const int kv_heads = layer->kv_heads, group = layer->heads / kv_heads, threads = pass->threads, end = begin + tokens;
    int longest = 1;
    for (int t = begin; t < end; t++) longest = pass->before[t] + pass->own[t] > longest ? pass->before[t] + pass->own[t] : longest;
    const int few = tokens * kv_heads < threads, count = few ? 1 : within(MOST_SCORES / longest, least(group, MOST_HEADS));
    const int parts = (group + count - 1) / count, share = tokens * kv_heads * parts / (4 * threads);
    const int rows = within(least(ROOM / (longest * count), share), MOST_ROWS);
    ITEMS((tokens + rows - 1) / rows * kv_heads * parts) {
        const int t = begin + i / (kv_heads * parts) * rows, part = i % parts * count, first = i / parts % kv_heads * group + part;
        some(layer, pass, entries, t, least(end - t, rows), first, least(group - part, count));
    }
}

/* Attention of the tokens of a batch: queries, keys and values are rotated, then every token attends. */
static void attend(const Batch *batch, int index, const Pass *pass, Worker *worker) {
#ifdef __AVX512F__
    const Layer *layer = batch->layers[index];
    void *entries = batch->entries[index];
    const int begin = batch->first, tokens = batch->last - begin;
#ifdef __AVX512VNNI__
    if (layer->eights) {
        ITEMS(tokens) rotate_integers(layer, pass, entries, begin + i);
        attend_together(layer, pass, entries, begin, tokens, attend_integers, worker);
        return;
    }
#endif
    ITEMS(tokens) rotate_floats(layer, pass, entries, begin + i);
    attend_together(layer, pass, entries, begin, tokens, attend_floats, worker);
#endif
}

/* Layer `index`: pass->x becomes its output. `heard` (T, hidden) becomes what enters the layer, or is NULL. */
static void decoder_layer(const Batch *batches, int count, int index, const Pass *pass, float *heard, Worker *worker) {
    const Layer *layer = batches->layers[index];
    const int tokens = pass->tokens, hidden = layer->hidden, width = layer->heads * layer->dim;
    const int entered = layer->state_norm ? 2 * hidden : hidden;
    ITEMS(tokens) enter_row(layer, pass, heard, i);
    ITEMS(PANELS(layer->qkv)) product(pass, &layer->qkv, i, pass->normed, entered, pass->projected, 0);
    ADD_LOW(qkv_low, pass->normed, entered, pass->projected)
    for (int b = 0; b < count; b++) attend(&batches[b], index, pass, worker);
    if (IS_ROUNDED(layer->out.kind))
        ITEMS(tokens) round_row(pass, &layer->out, pass->attended, width, width, i);
    ITEMS(PANELS(layer->out)) product(pass, &layer->out, i, pass->attended, width, pass->x, 1);
    ADD_LOW(out_low, pass->attended, width, pass->x)
    ITEMS(tokens) {
        norm_row(pass->x + (int64_t)i * hidden, layer->between_norm, hidden, layer->epsilon, pass->normed + (int64_t)i * hidden);
        round_row(pass, &layer->gate_up, pass->normed, hidden, hidden, i);
    }
    ITEMS(PANELS(layer->gate_up)) product(pass, &layer->gate_up, i, pass->normed, hidden, pass->inner, 0);
    ADD_LOW(gate_up_low, pass->normed, hidden, pass->inner)
    ITEMS(tokens) {
        gate_row(pass, layer->inner, i);
        round_row(pass, &layer->down, pass->inner, 2 * layer->inner, layer->inner, i);
    }
    ITEMS(PANELS(layer->down)) product(pass, &layer->down, i, pass->inner, 2 * layer->inner, pass->x, 1);
    ADD_LOW(down_low, pass->inner, 2 * layer->inner, pass->x)
}

/* `depth` layers one after another, for `count` batches in order; `heard` are of each layer, and may be NULL. 0 where there
is no memory to begin, else 1. */
int32_t decoder_layers(const Batch *batches, int32_t count, float *const *heard, int32_t depth, const Pass *pass) {
    Counter *counters = counters_of(depth * (LAYER_STEPS + count * BATCH_STEPS), pass->threads);
    if (!counters) return 0;
#pragma omp parallel num_threads(pass->threads) if (pass->threads > 1)
    {
        Worker worker = worker_of(counters);
        for (int index = 0; index < depth; index++) decoder_layer(batches, count, index, pass, heard[index], &worker);
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
            const float *x = pass->x + (int64_t)i * hidden;
            float *normed = pass->normed + (int64_t)i * hidden;
            if (weight) norm_row(x, weight, hidden, epsilon, normed);
            else memcpy(normed, x, hidden * sizeof(float));
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

/* Attention over queries, keys and values that are integers times a power of two (backends/models/int8_attention.py).

A score is an exact integer, and a sum of values runs over the keys in ascending order, one multiplication and addition
after another: no number of a token's result depends on the tokens beside it. */

#define BITS_OF_HEAD 11 /* of an integer, without its sign */

/* Of a slot: keys (kv_heads, 2, dim), each with its value, then the powers of both (kv_heads, 2); all int16. */
#define SLOT_NUMBERS(layer) ((int64_t)2 * (layer)->kv_heads * ((layer)->dim + 1))

#ifdef __AVX512VNNI__

static inline double power_of_two(int exponent) {
    const int64_t bits = (int64_t)(exponent + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* x[i] = to[i] * 2^power, rounded to the nearest, ties to even. Returns the power. */
static int16_t round_head(const double *x, int dim, int16_t *to) {
    const double most = (1 << BITS_OF_HEAD) - 1;
    double largest = 0;
#pragma omp simd reduction(max : largest)
    for (int i = 0; i < dim; i++) largest = fabs(x[i]) > largest ? fabs(x[i]) : largest;
    int exponent;
    frexp(largest, &exponent);
    const double factor = power_of_two(BITS_OF_HEAD - exponent);
    for (int i = 0; i < dim; i++) {
        const double integer = rint(x[i] * factor);
        to[i] = (int16_t)(integer > most ? most : integer < -most ? -most : integer);
    }
    return (int16_t)(exponent - BITS_OF_HEAD);
}

/* Queries, keys and values of token t: rotated and rounded; keys and values go to their slot. */
static void rotate_integers(const Layer *layer, const Pass *pass, int16_t *entries, int t) {
    const int dim = layer->dim, heads = layer->heads, kv_heads = layer->kv_heads;
    double plain[(heads + 2 * kv_heads) * dim], *entry = plain + heads * dim;
    rotate_double(layer, pass, t, plain, entry);
    for (int h = 0; h < heads; h++) {
        int16_t *to = (int16_t *)pass->queries + ((int64_t)t * heads + h) * dim;
        pass->scales[t * heads + h] = power_of_two(round_head(plain + h * dim, dim, to)) * layer->scale;
    }
    int16_t *slot = entries + pass->slots[t] * SLOT_NUMBERS(layer), *powers = slot + 2 * kv_heads * dim;
    for (int h = 0; h < kv_heads; h++)
        for (int part = 0; part < 2; part++)
            powers[2 * h + part] = round_head(entry + (part * kv_heads + h) * dim, dim, slot + (2 * h + part) * dim);
}

typedef struct { int16_t first, second; } Pair;

/* A key head of a layer. */
typedef struct {
    const int16_t *keys, *powers; /* of slot 0 */
    int64_t stride;
    int dim;
} Head;

/* A tile of keys by pairs of numbers (dim / 2, KEYS), and the scales of keys and values. The last key of a text stands
for those that are missing. */
static void load_keys(const Head *head, const Seen *seen, int k, __m512i *tile, double *key_scales, double *value_scales) {
    const int some = seen->count - k < KEYS ? seen->count - k : KEYS, pairs = head->dim / 2;
    const int16_t *from[KEYS];
    for (int i = 0; i < KEYS; i++) {
        const int64_t slot = slot_of(seen, i < some ? k + i : seen->count - 1);
        from[i] = head->keys + slot * head->stride;
        key_scales[i] = power_of_two(head->powers[slot * head->stride]);
        value_scales[i] = power_of_two(head->powers[slot * head->stride + 1]);
        if (k + AHEAD + i >= seen->count) continue;
        const int64_t ahead = slot_of(seen, k + AHEAD + i) * head->stride;
        for (int d = 0; d < 2 * head->dim; d += 32) __builtin_prefetch(head->keys + ahead + d, 0, 2);
        __builtin_prefetch(head->powers + ahead, 0, 2);
    }
    for (int p = 0; p < pairs; p += 16) {
        const __mmask16 inside = pairs - p >= 16 ? 0xffff : (1 << (pairs - p)) - 1;
        __m512i rows[16];
        for (int i = 0; i < KEYS; i++) rows[i] = _mm512_maskz_loadu_epi32(inside, from[i] + 2 * p);
        transpose(rows);
        for (int i = 0; i < 16 && p + i < pairs; i++) tile[p + i] = rows[i];
    }
}

/* Scores of Q queries with a tile, and the largest of each so far. `to` is that of the first query, `stride` away. */
static inline __attribute__((always_inline)) void score(
    const int Q, const __m512i *tile, const double *key_scales, int some, int dim, const int16_t *queries,
    const double *scales, double *to, int64_t stride, double *most) {
    __m512i sum[QUERIES];
    for (int q = 0; q < Q; q++) sum[q] = _mm512_setzero_si512();
    for (int p = 0; p < dim / 2; p++)
        for (int q = 0; q < Q; q++) /* the intrinsic function copies the sums to other registers and back */
            __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum[q]) : "v"(tile[p]), "m"(*(const Pair *)(queries + q * dim + 2 * p)));
    const __m512d low = _mm512_loadu_pd(key_scales), high = _mm512_loadu_pd(key_scales + 8);
    const __m512d none = _mm512_set1_pd(-INFINITY);
    const __mmask16 inside = some < KEYS ? (1 << some) - 1 : 0xffff;
    for (int q = 0; q < Q; q++) {
        const __m512d scale = _mm512_set1_pd(scales[q]);
        __m512d a = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(sum[q])), low);
        __m512d b = _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(sum[q], 1)), high);
        a = _mm512_mask_mul_pd(none, (__mmask8)inside, a, scale), b = _mm512_mask_mul_pd(none, inside >> 8, b, scale);
        _mm512_storeu_pd(to + q * stride, a), _mm512_storeu_pd(to + q * stride + 8, b);
        const double largest = _mm512_reduce_max_pd(_mm512_max_pd(a, b));
        most[q] = largest > most[q] ? largest : most[q];
    }
}

/* The exponential of numbers that are not positive; those below -700 count as -700. */
static inline __m512d exponential(__m512d x) {
    static const double POWERS[16] = { /* 2^(i / 16) */
        0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0,
        0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0,
        0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0,
        0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0};
    static const double SERIES[] = {1 / 720., 1 / 120., 1 / 24., 1 / 6., 1 / 2., 1, 1};
    const __m512d shift = _mm512_set1_pd(0x1.8p52);
    x = _mm512_max_pd(x, _mm512_set1_pd(-700));
    const __m512d shifted = _mm512_fmadd_pd(x, _mm512_set1_pd(16 * 1.44269504088896340736), shift);
    const __m512d sixteenths = _mm512_sub_pd(shifted, shift);
    __m512d r = _mm512_fnmadd_pd(sixteenths, _mm512_set1_pd(6.93147180369123816490e-01 / 16), x);
    r = _mm512_fnmadd_pd(sixteenths, _mm512_set1_pd(1.90821492927058770002e-10 / 16), r);
    __m512d y = _mm512_set1_pd(SERIES[0]);
    for (int i = 1; i < 7; i++) y = _mm512_fmadd_pd(y, r, _mm512_set1_pd(SERIES[i]));
    const __m512i place = _mm512_castpd_si512(shifted); /* its last four bits are those of the integer */
    const __m512d power = _mm512_permutex2var_pd(_mm512_loadu_pd(POWERS), place, _mm512_loadu_pd(POWERS + 8));
    return _mm512_scalef_pd(_mm512_mul_pd(y, power), _mm512_mul_pd(sixteenths, _mm512_set1_pd(1 / 16.)));
}

/* Scores become the weights of integers, as far as the sum by which they are to be divided. Returns one by it. */
static double soften(double *scores, int tiles, double most, const double *value_scales) {
    __m512d sum = _mm512_setzero_pd();
    for (int k = 0; k < tiles * KEYS; k += 8) {
        const __m512d weight = exponential(_mm512_sub_pd(_mm512_loadu_pd(scores + k), _mm512_set1_pd(most)));
        sum = _mm512_add_pd(sum, weight);
        _mm512_storeu_pd(scores + k, _mm512_mul_pd(weight, _mm512_loadu_pd(value_scales + k)));
    }
    return 1 / _mm512_reduce_add_pd(sum);
}

/* Adds the values of the keys first <= k < last, N vectors of their numbers from d on, to the sums (Q, dim). */
static inline __attribute__((always_inline)) void add_values(
    const int Q, const int N, const Head *head, const Seen *seen, int first, int last, int d, const double *weights,
    int64_t stride, double *sums) {
    const int dim = head->dim;
    __m512d sum[QUERIES][4];
    for (int q = 0; q < Q; q++)
        for (int n = 0; n < N; n++) sum[q][n] = _mm512_loadu_pd(sums + q * dim + d + 8 * n);
    for (int k = first; k < last; k++) {
        const int16_t *value = head->keys + slot_of(seen, k) * head->stride + dim + d;
        __m512d v[4];
        for (int n = 0; n < N; n++)
            v[n] = _mm512_cvtepi32_pd(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(value + 8 * n))));
        for (int q = 0; q < Q; q++)
            for (int n = 0; n < N; n++) sum[q][n] = _mm512_fmadd_pd(v[n], _mm512_set1_pd(weights[q * stride + k]), sum[q][n]);
    }
    for (int q = 0; q < Q; q++)
        for (int n = 0; n < N; n++) _mm512_storeu_pd(sums + q * dim + d + 8 * n, sum[q][n]);
}

/* Scores of `count` queries with the keys first <= k < last of a token that sees them. */
static void score_all(
    const Head *head, const Seen *seen, int first, int last, const int16_t *queries, const double *scales, int count,
    double *scores, int64_t stride, double *value_scales, double *most) {
    __m512i tile[head->dim / 2];
    double key_scales[KEYS];
    for (int k = first; k < last; k += KEYS) {
        const int some = last - k < KEYS ? last - k : KEYS;
        load_keys(head, seen, k, tile, key_scales, value_scales + k);
        for (int q = 0, Q; q < count; q += Q) {
            Q = count - q < QUERIES ? count - q : QUERIES;
#define SCORE(n) \
    score(n, tile, key_scales, some, head->dim, queries + q * head->dim, scales + q, scores + q * stride + k, stride, most + q);
            BY_QUERIES(SCORE)
        }
    }
}

/* Adds the values of the keys first <= k < last to the sums (count, dim) of queries. */
static void add_all(
    const Head *head, const Seen *seen, int first, int last, int count, const double *weights, int64_t stride, double *sums) {
    const int dim = head->dim;
    for (int q = 0, Q; q < count; q += Q) {
        Q = count - q < QUERIES ? count - q : QUERIES;
        int d = 0;
#define ADD(n) add_values(n, 4, head, seen, first, last, d, weights + q * stride, stride, sums + q * dim);
#define ADD_FEW(n) add_values(n, 1, head, seen, first, last, d, weights + q * stride, stride, sums + q * dim);
        for (; d + 32 <= dim; d += 32) BY_QUERIES(ADD)
        for (; d < dim; d += 8) BY_QUERIES(ADD_FEW)
    }
}

/* Query heads first ... first + count - 1, which have one key head, of the tokens t ... t + rows - 1. */
static void attend_integers(const Layer *layer, const Pass *pass, const void *memory, int t, int rows, int first, int count) {
    const int16_t *entries = memory;
    const int dim = layer->dim, heads = layer->heads, kv_head = first / (heads / layer->kv_heads);
    const Head head = {
        entries + (int64_t)2 * kv_head * dim, entries + 2 * ((int64_t)layer->kv_heads * dim + kv_head), SLOT_NUMBERS(layer), dim};
    Seen seen[MOST_ROWS];
    const int longest = see(pass, t, rows, seen), shared = shared_keys(seen, rows), all = rows * count;
    const int64_t stride = (longest + KEYS - 1) / KEYS * KEYS;
    double scores[all * stride], value_scales[stride], sums[all * dim], most[all], scales[all], parts[all];
    int16_t queries[all * dim];
    for (int r = 0; r < rows; r++) {
        const int64_t from = (int64_t)(t + r) * heads + first;
        memcpy(queries + r * count * dim, (const int16_t *)pass->queries + from * dim, count * dim * sizeof *queries);
        memcpy(scales + r * count, pass->scales + from, count * sizeof *scales);
    }
    for (int q = 0; q < all; q++) most[q] = -INFINITY;
    memset(sums, 0, sizeof sums);
    score_all(&head, seen, 0, shared, queries, scales, all, scores, stride, value_scales, most);
    for (int r = 0, q = 0; r < rows; r++, q += count) {
        const int keys = seen[r].count;
        double *own = scores + q * stride;
        score_all(&head, seen + r, shared, keys, queries + q * dim, scales + q, count, own, stride, value_scales, most + q);
        for (int g = 0; g < count; g++)
            parts[q + g] = soften(own + g * stride, (keys + KEYS - 1) / KEYS, most[q + g], value_scales);
    }
    add_all(&head, seen, 0, shared, all, scores, stride, sums);
    for (int r = 0, q = 0; r < rows; r++, q += count) {
        add_all(&head, seen + r, shared, seen[r].count, count, scores + q * stride, stride, sums + q * dim);
        float *out = pass->attended + ((int64_t)(t + r) * heads + first) * dim;
        for (int g = 0; g < count; g++)
            for (int i = 0; i < dim; i++) out[g * dim + i] = (float)(sums[(q + g) * dim + i] * parts[q + g]);
    }
}

#endif

/* Attention in float32.

A score is a sum over the numbers of a head, and a sum of values runs over the keys, both in ascending order, one fused
multiplication and addition after another: no number of a token's result depends on the tokens beside it. */

#ifdef __AVX512F__

/* A key head of a layer; a slot has keys (kv_heads, dim), then values (kv_heads, dim). */
typedef struct {
    const float *keys; /* of slot 0 */
    int64_t stride, value; /* from a slot to the next, and from a key to its value */
    int dim;
} FloatHead;

/* Which of 16 numbers from i on are numbers of a head. */
static inline __mmask16 numbers(int dim, int i) { return dim - i >= 16 ? 0xffff : (1 << (dim - i)) - 1; }

/* Queries, keys and values of token t: rotated; keys and values go to their slot. */
static void rotate_floats(const Layer *layer, const Pass *pass, float *entries, int t) {
    const int64_t slot = pass->slots[t] * 2 * layer->kv_heads * layer->dim;
    rotate_float(layer, pass, t, (float *)pass->queries + (int64_t)t * layer->heads * layer->dim, entries + slot);
}

/* A tile of keys, number by number (dim, KEYS). The last key of a text stands for those that are missing. */
static void load_floats(const FloatHead *head, const Seen *seen, int k, __m512 *tile) {
    const float *from[KEYS];
    for (int i = 0; i < KEYS; i++) {
        from[i] = head->keys + slot_of(seen, least(k + i, seen->count - 1)) * head->stride;
        const float *ahead = head->keys + slot_of(seen, least(k + AHEAD + i, seen->count - 1)) * head->stride;
        for (int d = 0; d < head->dim; d += 16) {
            __builtin_prefetch(ahead + d, 0, 2);
            __builtin_prefetch(ahead + head->value + d, 0, 2);
        }
    }
    for (int d = 0; d < head->dim; d += 16) {
        const __mmask16 inside = numbers(head->dim, d);
        __m512i rows[16];
        for (int i = 0; i < KEYS; i++) rows[i] = _mm512_maskz_loadu_epi32(inside, from[i] + d);
        transpose(rows);
        for (int i = 0; i < 16 && d + i < head->dim; i++) tile[d + i] = _mm512_castsi512_ps(rows[i]);
    }
}

/* Scores of Q queries with a tile. `to` is that of the first query, `stride` away. */
static inline __attribute__((always_inline)) void score_floats(
    const int Q, const __m512 *tile, int some, int dim, const float *queries, float scale, float *to, int64_t stride) {
    __m512 sum[QUERIES];
    for (int q = 0; q < Q; q++) sum[q] = _mm512_setzero_ps();
    for (int d = 0; d < dim; d++)
        for (int q = 0; q < Q; q++) sum[q] = _mm512_fmadd_ps(tile[d], _mm512_set1_ps(queries[q * dim + d]), sum[q]);
    const __mmask16 inside = numbers(some, 0);
    for (int q = 0; q < Q; q++)
        _mm512_storeu_ps(to + q * stride, _mm512_mask_mul_ps(_mm512_set1_ps(-INFINITY), inside, sum[q], _mm512_set1_ps(scale)));
}

/* Scores become weights, as far as the sum by which they are to be divided. Returns one by it. */
static float soften_floats(float *scores, int tiles) {
    __m512 most = _mm512_loadu_ps(scores), sum = _mm512_setzero_ps();
    for (int k = KEYS; k < tiles * KEYS; k += KEYS) most = _mm512_max_ps(most, _mm512_loadu_ps(scores + k));
    const float largest = _mm512_reduce_max_ps(most);
    for (int k = 0; k < tiles * KEYS; k += KEYS) {
        for (int i = k; i < k + KEYS; i++) scores[i] = exp_float(scores[i] - largest);
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(scores + k));
    }
    return 1 / _mm512_reduce_add_ps(sum);
}

/* Adds the values of the keys first <= k < last, N vectors of their numbers from d on, to the sums (Q, dim). */
static inline __attribute__((always_inline)) void add_floats(
    const int Q, const int N, const FloatHead *head, const Seen *seen, int first, int last, int d, const float *weights,
    int64_t stride, float *sums) {
    const __mmask16 inside = numbers(head->dim, d);
    __m512 sum[QUERIES][4];
    for (int q = 0; q < Q; q++)
        for (int n = 0; n < N; n++) sum[q][n] = _mm512_maskz_loadu_ps(inside, sums + q * head->dim + d + 16 * n);
    for (int k = first; k < last; k++) {
        const float *value = head->keys + slot_of(seen, k) * head->stride + head->value + d;
        __m512 v[4];
        for (int n = 0; n < N; n++) v[n] = _mm512_maskz_loadu_ps(inside, value + 16 * n);
        for (int q = 0; q < Q; q++)
            for (int n = 0; n < N; n++) sum[q][n] = _mm512_fmadd_ps(v[n], _mm512_set1_ps(weights[q * stride + k]), sum[q][n]);
    }
    for (int q = 0; q < Q; q++)
        for (int n = 0; n < N; n++) _mm512_mask_storeu_ps(sums + q * head->dim + d + 16 * n, inside, sum[q][n]);
}

/* Scores of `count` queries with the keys first <= k < last of a token that sees them. */
static void score_all_floats(
    const FloatHead *head, const Seen *seen, int first, int last, const float *queries, int count, float scale,
    float *scores, int64_t stride) {
    __m512 tile[head->dim];
    for (int k = first; k < last; k += KEYS) {
        const int some = least(last - k, KEYS);
        load_floats(head, seen, k, tile);
        for (int q = 0, Q; q < count; q += Q) {
            Q = least(count - q, QUERIES);
#define SCORE_FLOATS(n) \
    score_floats(n, tile, some, head->dim, queries + q * head->dim, scale, scores + q * stride + k, stride);
            BY_QUERIES(SCORE_FLOATS)
        }
    }
}

/* Adds the values of the keys first <= k < last to the sums (count, dim) of queries. */
static void add_all_floats(
    const FloatHead *head, const Seen *seen, int first, int last, int count, const float *weights, int64_t stride,
    float *sums) {
    const int dim = head->dim;
    for (int q = 0, Q; q < count; q += Q) {
        Q = least(count - q, QUERIES);
        int d = 0;
#define ADD_FLOATS(n) add_floats(n, 4, head, seen, first, last, d, weights + q * stride, stride, sums + q * dim);
#define ADD_FEW_FLOATS(n) add_floats(n, 1, head, seen, first, last, d, weights + q * stride, stride, sums + q * dim);
        for (; d + 64 <= dim; d += 64) BY_QUERIES(ADD_FLOATS)
        for (; d < dim; d += 16) BY_QUERIES(ADD_FEW_FLOATS)
    }
}

/* Query heads first ... first + count - 1, which have one key head, of the tokens t ... t + rows - 1. */
static void attend_floats(const Layer *layer, const Pass *pass, const void *entries, int t, int rows, int first, int count) {
    const int dim = layer->dim, heads = layer->heads, kv_head = first / (heads / layer->kv_heads);
    const int64_t width = (int64_t)layer->kv_heads * dim;
    const FloatHead head = {(const float *)entries + (int64_t)kv_head * dim, 2 * width, width, dim};
    Seen seen[MOST_ROWS];
    const int longest = see(pass, t, rows, seen), shared = shared_keys(seen, rows), all = rows * count;
    const int64_t stride = (longest + KEYS - 1) / KEYS * KEYS;
    const float scale = (float)layer->scale;
    float scores[all * stride], sums[all * dim], queries[all * dim], parts[all];
    for (int r = 0; r < rows; r++)
        memcpy(queries + r * count * dim, (const float *)pass->queries + ((int64_t)(t + r) * heads + first) * dim,
               count * dim * sizeof *queries);
    memset(sums, 0, sizeof sums);
    score_all_floats(&head, seen, 0, shared, queries, all, scale, scores, stride);
    for (int r = 0, q = 0; r < rows; r++, q += count) {
        const int keys = seen[r].count;
        float *own = scores + q * stride;
        score_all_floats(&head, seen + r, shared, keys, queries + q * dim, count, scale, own, stride);
        for (int g = 0; g < count; g++) parts[q + g] = soften_floats(own + g * stride, (keys + KEYS - 1) / KEYS);
    }
    add_all_floats(&head, seen, 0, shared, all, scores, stride, sums);
    for (int r = 0, q = 0; r < rows; r++, q += count) {
        add_all_floats(&head, seen + r, shared, seen[r].count, count, scores + q * stride, stride, sums + q * dim);
        float *out = pass->attended + ((int64_t)(t + r) * heads + first) * dim;
        for (int g = 0; g < count; g++)
            for (int i = 0; i < dim; i++) out[g * dim + i] = sums[(q + g) * dim + i] * parts[q + g];
    }
}

#endif

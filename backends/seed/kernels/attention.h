/* Attention of a token in float32, W numbers in a vector; included once for each W.

Every number of a token's result is computed by the same operations in the same order whatever else is in the pass. */

#define LINE 16 /* numbers in a line of the cache */

typedef float V_(vec) __attribute__((vector_size(W * sizeof(float)), aligned(sizeof(float))));

static inline float V_(sum)(V_(vec) v) {
#ifdef REDUCE
    return REDUCE(v);
#else
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
#endif
}

/* The mean of values for G query heads and N vectors of a head's numbers. */
static inline __attribute__((always_inline)) void V_(values)(
    const int G, const int N, const float *values, const int64_t *slots, int64_t stride, int keys, int dim,
    const float *scores, const float *total, float *out) {
    V_(vec) part[4][2];
    for (int g = 0; g < G; g++)
        for (int n = 0; n < N; n++) part[g][n] = (V_(vec)){0};
    for (int k = 0; k < keys; k++) {
        const float *from = values + slots[k] * stride, *ahead = values + slots[k + 16 < keys ? k + 16 : k] * stride;
        for (int i = 0; i < N * W; i += LINE) __builtin_prefetch(ahead + i);
        for (int n = 0; n < N; n++) {
            const V_(vec) v = *(const V_(vec) *)(from + n * W);
            for (int g = 0; g < G; g++) part[g][n] += v * scores[g * keys + k];
        }
    }
    for (int g = 0; g < G; g++)
        for (int n = 0; n < N; n++)
            for (int i = 0; i < W; i++) out[g * dim + n * W + i] = (float)(part[g][n][i] * total[g]);
}

/* G query heads of one token over the keys of their key head; `scores` has room for G * keys numbers. */
static inline __attribute__((always_inline)) void V_(heads)(
    const int G, const float *query, const float *entries, const int64_t *slots, int64_t stride, int keys, int dim,
    int64_t value, float scale, float *scores, float *out) {
    float most[4], total[4];
    for (int g = 0; g < G; g++) most[g] = -INFINITY, total[g] = 0;
    for (int k = 0; k < keys; k++) {
        const float *key = entries + slots[k] * stride, *ahead = entries + slots[k + 8 < keys ? k + 8 : k] * stride;
        for (int d = 0; d < dim; d += LINE) __builtin_prefetch(ahead + d);
        V_(vec) part[4];
        for (int g = 0; g < G; g++) part[g] = *(const V_(vec) *)key * *(const V_(vec) *)(query + g * dim);
        for (int d = W; d < dim; d += W)
            for (int g = 0; g < G; g++)
                part[g] += *(const V_(vec) *)(key + d) * *(const V_(vec) *)(query + g * dim + d);
        for (int g = 0; g < G; g++) {
            float score = V_(sum)(part[g]) * scale;
            scores[g * keys + k] = score;
            most[g] = score > most[g] ? score : most[g];
        }
    }
    for (int g = 0; g < G; g++) {
        float *row = scores + g * keys, sum = 0;
        for (int k = 0; k < keys; k++) row[k] = exp_float(row[k] - most[g]);
#pragma omp simd reduction(+ : sum)
        for (int k = 0; k < keys; k++) sum += row[k];
        total[g] = 1 / sum;
    }
    int d = 0;
    for (; d + 2 * W <= dim; d += 2 * W) V_(values)(G, 2, entries + value + d, slots, stride, keys, dim, scores, total, out + d);
    if (d < dim) V_(values)(G, 1, entries + value + d, slots, stride, keys, dim, scores, total, out + d);
}

/* `count` query heads, from `first` on, of token t. */
static void V_(attend)(const Layer *layer, const Pass *pass, const float *entries, int t, int first, int count) {
    const int dim = layer->dim, heads = layer->heads, kv_heads = layer->kv_heads;
    const int before = pass->before[t], own = pass->own[t], keys = before + own;
    const int64_t stride = (int64_t)2 * kv_heads * dim, *slots = pass->keys + pass->before_at[t];
    int64_t joined[own ? (before ? keys : 1) : 1];
    if (!before) slots = pass->keys + pass->own_at[t];
    else if (own && pass->own_at[t] != pass->before_at[t] + before) {
        memcpy(joined, slots, before * sizeof *joined);
        memcpy(joined + before, pass->keys + pass->own_at[t], own * sizeof *joined);
        slots = joined;
    }
    const float *head = entries + (int64_t)(first / (heads / kv_heads)) * dim;
    const float *query = (const float *)pass->queries + ((int64_t)t * heads + first) * dim;
    float *out = pass->attended + ((int64_t)t * heads + first) * dim;
    const int64_t value = (int64_t)kv_heads * dim;
    float scores[(count < 4 ? count : 4) * keys];
    while (count > 0) {
        const int G = count < 4 ? count : 4;
        switch (G) {
            case 1: V_(heads)(1, query, head, slots, stride, keys, dim, value, (float)layer->scale, scores, out); break;
            case 2: V_(heads)(2, query, head, slots, stride, keys, dim, value, (float)layer->scale, scores, out); break;
            case 3: V_(heads)(3, query, head, slots, stride, keys, dim, value, (float)layer->scale, scores, out); break;
            default: V_(heads)(4, query, head, slots, stride, keys, dim, value, (float)layer->scale, scores, out);
        }
        count -= G, query += G * dim, out += G * dim;
    }
}

#undef LINE

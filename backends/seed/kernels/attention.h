/* Rotation and attention of one layer in numbers of type REAL, W of them in a vector; included once for each pair.

Every number of a token's result is computed by the same operations in the same order whatever else is in the pass. */

#define LINE (int)(64 / sizeof(REAL)) /* numbers in a line of the cache */

typedef REAL V_(vec) __attribute__((vector_size(W * sizeof(REAL)), aligned(sizeof(REAL))));

static inline REAL V_(sum)(V_(vec) v) {
#ifdef REDUCE
    return REDUCE(v);
#else
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
#endif
}

/* The exponential of x, which is at most 88. */
static inline REAL V_(exp)(REAL x) {
    x = x < EXP_LEAST ? EXP_LEAST : x;
    REAL shifted = x * (REAL)1.44269504088896340736 + EXP_SHIFT;
    BITS bits;
    memcpy(&bits, &shifted, sizeof bits);
    REAL n = shifted - EXP_SHIFT;
    REAL r = (x - n * (REAL)EXP_HIGH) - n * (REAL)EXP_LOW;
    REAL y = EXP_SERIES(r);
    bits = (bits + EXP_BIAS) << EXP_MANTISSA;
    REAL power;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

/* x / sqrt(mean(x^2) + epsilon) * weight of `count` numbers, in place. */
static inline void V_(norm)(REAL *x, const float *weight, int count, double epsilon) {
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < count; i++) total += (double)x[i] * x[i];
    double factor = 1 / sqrt(total / count + epsilon);
    for (int i = 0; i < count; i++) x[i] = (REAL)(x[i] * factor * weight[i]);
}

/* Queries, keys and values of token t: converted, normed, rotated; keys and values go to their slot. */
static void V_(rotate)(const Layer *layer, const Pass *pass, REAL *entries, int t) {
    const int dim = layer->dim, half = dim / 2, heads = layer->heads, kv_heads = layer->kv_heads;
    const float *from = pass->projected + (int64_t)t * layer->qkv.outs;
    const REAL *cosine = (const REAL *)pass->cosine + (int64_t)t * dim, *sine = (const REAL *)pass->sine + (int64_t)t * dim;
    REAL *slot = entries + pass->slots[t] * 2 * kv_heads * dim, plain[MOST_DIM];
    for (int h = 0; h < heads + kv_heads; h++) {
        REAL *to = h < heads ? (REAL *)pass->queries + ((int64_t)t * heads + h) * dim : slot + (h - heads) * dim;
        const float *weight = h < heads ? layer->q_norm : layer->k_norm;
        for (int i = 0; i < dim; i++) plain[i] = from[h * dim + i];
        if (weight) V_(norm)(plain, weight, dim, layer->epsilon);
        for (int i = 0; i < half; i++) {
            to[i] = plain[i] * cosine[i] + plain[i + half] * sine[i];
            to[i + half] = plain[i + half] * cosine[i + half] + plain[i] * sine[i + half];
        }
    }
    from += (heads + kv_heads) * dim, slot += kv_heads * dim;
    for (int i = 0; i < kv_heads * dim; i++) slot[i] = from[i];
}

/* The mean of values for G query heads and N vectors of a head's numbers. */
static inline __attribute__((always_inline)) void V_(values)(
    const int G, const int N, const REAL *values, const int64_t *slots, int64_t stride, int keys, int dim,
    const REAL *scores, const REAL *total, float *out) {
    V_(vec) part[4][2];
    for (int g = 0; g < G; g++)
        for (int n = 0; n < N; n++) part[g][n] = (V_(vec)){0};
    for (int k = 0; k < keys; k++) {
        const REAL *from = values + slots[k] * stride, *ahead = values + slots[k + 16 < keys ? k + 16 : k] * stride;
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
    const int G, const REAL *query, const REAL *entries, const int64_t *slots, int64_t stride, int keys, int dim,
    int64_t value, REAL scale, REAL *scores, float *out) {
    REAL most[4], total[4];
    for (int g = 0; g < G; g++) most[g] = -INFINITY, total[g] = 0;
    for (int k = 0; k < keys; k++) {
        const REAL *key = entries + slots[k] * stride, *ahead = entries + slots[k + 8 < keys ? k + 8 : k] * stride;
        for (int d = 0; d < dim; d += LINE) __builtin_prefetch(ahead + d);
        V_(vec) part[4];
        for (int g = 0; g < G; g++) part[g] = *(const V_(vec) *)key * *(const V_(vec) *)(query + g * dim);
        for (int d = W; d < dim; d += W)
            for (int g = 0; g < G; g++)
                part[g] += *(const V_(vec) *)(key + d) * *(const V_(vec) *)(query + g * dim + d);
        for (int g = 0; g < G; g++) {
            REAL score = V_(sum)(part[g]) * scale;
            scores[g * keys + k] = score;
            most[g] = score > most[g] ? score : most[g];
        }
    }
    for (int g = 0; g < G; g++) {
        REAL *row = scores + g * keys, sum = 0;
        for (int k = 0; k < keys; k++) row[k] = V_(exp)(row[k] - most[g]);
#pragma omp simd reduction(+ : sum)
        for (int k = 0; k < keys; k++) sum += row[k];
        total[g] = 1 / sum;
    }
    int d = 0;
    for (; d + 2 * W <= dim; d += 2 * W) V_(values)(G, 2, entries + value + d, slots, stride, keys, dim, scores, total, out + d);
    if (d < dim) V_(values)(G, 1, entries + value + d, slots, stride, keys, dim, scores, total, out + d);
}

/* `count` query heads, from `first` on, of token t. */
static void V_(attend)(const Layer *layer, const Pass *pass, const REAL *entries, int t, int first, int count) {
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
    const REAL *head = entries + (int64_t)(first / (heads / kv_heads)) * dim;
    const REAL *query = (const REAL *)pass->queries + ((int64_t)t * heads + first) * dim;
    float *out = pass->attended + ((int64_t)t * heads + first) * dim;
    const int64_t value = (int64_t)kv_heads * dim;
    REAL scores[(count < 4 ? count : 4) * keys];
    while (count > 0) {
        const int G = count < 4 ? count : 4;
        switch (G) {
            case 1: V_(heads)(1, query, head, slots, stride, keys, dim, value, (REAL)layer->scale, scores, out); break;
            case 2: V_(heads)(2, query, head, slots, stride, keys, dim, value, (REAL)layer->scale, scores, out); break;
            case 3: V_(heads)(3, query, head, slots, stride, keys, dim, value, (REAL)layer->scale, scores, out); break;
            default: V_(heads)(4, query, head, slots, stride, keys, dim, value, (REAL)layer->scale, scores, out);
        }
        count -= G, query += G * dim, out += G * dim;
    }
}

#undef LINE

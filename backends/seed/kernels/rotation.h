/* Exponential, norm and rotation in numbers of type REAL; included once for each type. */

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

/* Queries (heads, dim), and keys and values (2, kv_heads, dim), of token t: converted, normed, rotated. */
static void V_(rotate)(const Layer *layer, const Pass *pass, int t, REAL *queries, REAL *slot) {
    const int dim = layer->dim, half = dim / 2, heads = layer->heads, kv_heads = layer->kv_heads;
    const float *from = pass->projected + (int64_t)t * layer->qkv.outs;
    const REAL *cosine = (const REAL *)pass->cosine + (int64_t)t * dim, *sine = (const REAL *)pass->sine + (int64_t)t * dim;
    REAL plain[MOST_DIM];
    for (int h = 0; h < heads + kv_heads; h++) {
        REAL *to = h < heads ? queries + h * dim : slot + (h - heads) * dim;
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

/* Natural-log probabilities of tokens by rows of logits, in float64; a row's does not depend on the others. */

static double log_probability(const float *row, int64_t size, int64_t token) {
    float top = row[0];
#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < size; i++) top = row[i] > top ? row[i] : top;
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < size; i++) total += exp_double((double)row[i] - top);
    return row[token] - (top + log(total));
}

/* to[n] of the token `tokens[n]` in row `rows[n]` of logits (R, size). */
void log_probabilities(const float *logits, int64_t size, const int64_t *rows, const int64_t *tokens, int32_t count,
                       int32_t threads, double *to) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && count * size > 1 << 16)
    for (int32_t n = 0; n < count; n++) to[n] = log_probability(logits + rows[n] * size, size, tokens[n]);
}

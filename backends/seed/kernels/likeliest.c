/* Greedy verification: the likeliest tokens through trees of drafted ones, and their natural-log probabilities. */

#include <math.h>
#include <stdint.h>

void log_probabilities(const float *logits, int64_t size, const int64_t *rows, const int64_t *tokens, int32_t count,
                       int32_t threads, double *to);

/* The first of the largest numbers of a row; -1 where one is not a number, or the largest is not finite. */
int64_t likeliest(const float *row, int64_t size) {
    float top = -INFINITY;
    int strange = 0;
#pragma omp simd reduction(max : top) reduction(| : strange)
    for (int64_t i = 0; i < size; i++) top = row[i] > top ? row[i] : top, strange |= row[i] != row[i];
    if (strange || !isfinite(top)) return -1;
    for (int64_t i = 0;; i++)
        if (row[i] == top) return i;
}

/* For each draft of `sizes` nodes, whose logits (R, size) begin at the row `first` with those before its nodes: the
nodes that are the likeliest tokens one after another, with one further token. Writes how many `tokens` there are for
each draft, 0 where a row that was reached has none; all tokens, their rows and logarithms. Returns how many in all. */
int32_t follow_likeliest(const float *logits, int64_t size, int32_t drafts, const int32_t *first, const int32_t *sizes,
                         const int32_t *drafted, const int32_t *parents, int32_t threads, int32_t *counts,
                         int64_t *rows, int64_t *tokens, double *logarithms) {
    int32_t count = 0;
    for (int32_t i = 0; i < drafts; drafted += sizes[i], parents += sizes[i], i++) {
        const int32_t begin = count;
        for (int32_t node = -1; node < sizes[i];) {
            const int64_t row = first[i] + 1 + node, token = likeliest(logits + row * size, size);
            if (token < 0) {
                count = begin;
                break;
            }
            rows[count] = row, tokens[count++] = token;
            const int32_t parent = node;
            for (node++; node < sizes[i] && (parents[node] != parent || drafted[node] != token);) node++;
        }
        counts[i] = count - begin;
    }
    log_probabilities(logits, size, rows, tokens, count, threads, logarithms);
    return count;
}

/* The choice of drafted nodes of speculation/goodput.py, which says what it does and why: the same nodes, as products
are not contracted with sums (-ffp-contract=off). */

#include <stdint.h>
#include <stdlib.h>

#define BINS 12
#define PRIOR 6.0

typedef struct {
    int32_t knots; /* of the table of seconds by tokens */
    const double *tokens, *seconds;
    double fixed, each, scale; /* seconds beside those of the table, and of a drafted node; of all the multiple */
    double beside;             /* seconds of the round beside the pass */
} Cost;

typedef struct {
    double value;
    int64_t place; /* among the nodes of all drafts */
    int32_t owner, node;
} Candidate;

static double by_tokens(const Cost *cost, double tokens) {
    const double *at = cost->tokens, *seconds = cost->seconds;
    const int last = cost->knots - 1;
    if (tokens <= at[0] || !last) return seconds[0];
    if (tokens < at[last]) {
        int i = 0;
        while (tokens >= at[i + 1]) i++;
        if (tokens == at[i]) return seconds[i];
        return (seconds[i + 1] - seconds[i]) / (at[i + 1] - at[i]) * (tokens - at[i]) + seconds[i];
    }
    const double slope = (seconds[last] - seconds[last - 1]) / (at[last] - at[last - 1]);
    return seconds[last] + slope * (tokens - at[last]);
}

static double seconds_of(const Cost *cost, double rows, double nodes) {
    const double seconds = cost->scale * (by_tokens(cost, rows + nodes) + cost->fixed + cost->each * nodes);
    return (seconds < 1e-9 ? 1e-9 : seconds) + cost->beside;
}

/* Of equals parents stand first, and then the last draft. */
static int in_order(const void *first, const void *second) {
    const Candidate *a = first, *b = second;
    if (a->value != b->value) return a->value > b->value ? -1 : 1;
    if (a->node != b->node) return a->node < b->node ? -1 : 1;
    return a->owner > b->owner ? -1 : 1;
}

/* The nodes to verify of several drafts, which have `sizes` nodes each; a node is worth its calibrated confidence times
the value of its parent or, for a first one, the worth of a token of its draft. The `other` rows, tokens and nodes are
those of the pass beside these drafts. Writes how many nodes of each draft are `kept`, and which, ascending; returns
their summed worth, or a negative number without memory. */
double select_nodes(int32_t drafts, const int32_t *sizes, const int32_t *parents, const double *confidences,
                    const double *worths, const double *hits, const double *trials, double overall, const Cost *cost,
                    double other_rows, double other_tokens, double other_nodes, int64_t most, int32_t *kept,
                    int32_t *nodes) {
    int64_t every = 0, count = 0;
    for (int32_t i = 0; i < drafts; i++) every += sizes[i];
    Candidate *candidates = malloc(every * sizeof(Candidate) + 1);
    char *taken = calloc(every + 1, 1);
    if (!candidates || !taken) {
        free(candidates), free(taken);
        return -1;
    }
    for (int64_t i = 0, start = 0; i < drafts; start += sizes[i++]) {
        for (int32_t node = 0; node < sizes[i]; node++) {
            const double confidence = confidences[start + node];
            int bin = (int)((confidence > 0 ? confidence : 0) * BINS);
            if (bin > BINS - 1) bin = BINS - 1;
            const double chance = (hits[bin] + PRIOR * overall * confidence) / (trials[bin] + PRIOR);
            const int32_t parent = parents[start + node];
            const double value = parent < 0 ? chance * worths[i] : chance * candidates[start + parent].value;
            candidates[start + node] = (Candidate){value, start + node, i, node};
        }
    }
    qsort(candidates, every, sizeof(Candidate), in_order);
    if (every > most) every = most > 0 ? most : 0;
    const double rows = drafts + other_rows, tokens = drafts + other_tokens;
    double best = tokens / seconds_of(cost, rows, other_nodes), sum = 0, gain = 0;
    for (int64_t i = 0; i < every; i++) {
        sum += candidates[i].value;
        const double rate = (tokens + sum) / seconds_of(cost, rows, other_nodes + (i + 1));
        if (rate > best) best = rate, count = i + 1, gain = sum;
    }
    for (int64_t i = 0; i < count; i++) taken[candidates[i].place] = 1;
    for (int64_t i = 0, start = 0; i < drafts; start += sizes[i++]) {
        kept[i] = 0;
        for (int32_t node = 0; node < sizes[i]; node++)
            if (taken[start + node]) *nodes++ = node, kept[i]++;
    }
    free(candidates), free(taken);
    return gain;
}

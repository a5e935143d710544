/* Several decoding steps in one call: passes over one token of each row, and the tokens that they draw.

Every number is computed as in passes that are made one at a time; what is drawn is what the host would draw. */

#include <stdlib.h>
#include <string.h>

#include "structures.h"

int32_t decoder_layers(const Batch *batches, int32_t count, float *const *heard, int32_t depth, const Pass *pass);
int32_t decoder_head(const Linear *head, const float *weight, int32_t hidden, double epsilon, const Pass *pass, float *to);
void log_probabilities(const float *logits, int64_t size, const int64_t *rows, const int64_t *tokens, int32_t count,
                       int32_t threads, double *to);
void draw_tokens(const float *logits, int64_t size, int32_t count, const double *temperatures, const uint64_t *streams,
                 const int32_t *positions, int32_t threads, int64_t *to);

typedef struct {
    int32_t *active, *before_at, *before, *own_at, *own; /* (R) rows of the pass, and what their tokens attend to */
    int32_t *positions;                         /* (R) of the noise */
    int64_t *slots, *places, *drawn;            /* (R) */
    uint64_t *streams;                          /* (R) */
    double *temperatures, *logarithms;          /* (R) */
    char *cosine, *sine;                        /* (R, dim) */
    float *x, *logits;                          /* (R, hidden), (R, V) */
} Workspace;

/* The next `bytes` of a block of memory, from a line of the cache on; only counted where the block is NULL. */
static void *part_of(char *block, size_t *used, size_t bytes) {
    void *part = block ? block + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return part;
}

static size_t lay_out(Workspace *work, char *block, const Steps *steps, size_t hidden, size_t outs) {
    const size_t rows = steps->rows;
    size_t used = 0;
    work->active = part_of(block, &used, rows * sizeof(int32_t));
    work->before_at = part_of(block, &used, rows * sizeof(int32_t));
    work->before = part_of(block, &used, rows * sizeof(int32_t));
    work->own_at = part_of(block, &used, rows * sizeof(int32_t));
    work->own = part_of(block, &used, rows * sizeof(int32_t));
    work->positions = part_of(block, &used, rows * sizeof(int32_t));
    work->slots = part_of(block, &used, rows * sizeof(int64_t));
    work->places = part_of(block, &used, rows * sizeof(int64_t));
    work->drawn = part_of(block, &used, rows * sizeof(int64_t));
    work->streams = part_of(block, &used, rows * sizeof(uint64_t));
    work->temperatures = part_of(block, &used, rows * sizeof(double));
    work->logarithms = part_of(block, &used, rows * sizeof(double));
    work->cosine = part_of(block, &used, rows * steps->angle_bytes);
    work->sine = part_of(block, &used, rows * steps->angle_bytes);
    work->x = part_of(block, &used, rows * hidden * sizeof(float));
    work->logits = part_of(block, &used, rows * outs * sizeof(float));
    return used;
}

/* Whether the tokens up to `last` end with one of the row's endings. */
static int ends(const Steps *steps, int row, const int64_t *last) {
    for (int32_t at = steps->end_at[row]; at < steps->end_at[row + 1]; at += 1 + (int32_t)steps->ends[at]) {
        const int64_t length = steps->ends[at];
        if (!memcmp(last - (length - 1), steps->ends + at + 1, length * sizeof *last)) return 1;
    }
    return 0;
}

/* One token of a row, which goes into the pass as number n. */
static void enter(const Steps *steps, const Workspace *work, const Pass *pass, int32_t hidden, int n) {
    const int row = work->active[n], done = steps->counts[row], seen = steps->context[row] + done;
    const int64_t token = steps->tokens[(int64_t)row * (steps->tail + steps->most) + steps->tail + done - 1];
    const char *angles = steps->angles + (int64_t)seen * 2 * steps->angle_bytes;
    memcpy(work->x + (int64_t)n * hidden, steps->embeddings + token * hidden, hidden * sizeof(float));
    memcpy(work->cosine + (int64_t)n * steps->angle_bytes, angles, steps->angle_bytes);
    memcpy(work->sine + (int64_t)n * steps->angle_bytes, angles + steps->angle_bytes, steps->angle_bytes);
    work->before_at[n] = steps->start[row];
    work->before[n] = seen;
    work->own_at[n] = steps->start[row] + seen; /* its own slot follows those before it */
    work->own[n] = 1;
    work->slots[n] = pass->keys[steps->start[row] + seen];
    work->temperatures[n] = steps->temperature[row];
    work->streams[n] = steps->stream[row];
    work->positions[n] = steps->position[row] + done;
}

/* Passes until every row has its tokens, has ended, or draws none that is certain. Returns 0 where there is no memory to
begin, 2 where such a row must be drawn by the caller, else 1. */
int32_t decode_steps(const Batch *batch, int32_t depth, float *const *heard, const Linear *head, const float *norm,
                     int32_t hidden, double epsilon, const Pass *room, const Steps *steps) {
    Workspace work;
    Batch all = *batch;
    Pass pass = *room;
    const int64_t size = head->outs;
    char *block = malloc(lay_out(&work, NULL, steps, hidden, size));
    int32_t active = 0, result = block ? 1 : 0;
    if (!block) return 0;
    lay_out(&work, block, steps, hidden, size);
    pass.x = work.x, pass.slots = work.slots, pass.cosine = work.cosine, pass.sine = work.sine;
    pass.before_at = work.before_at, pass.before = work.before, pass.own_at = work.own_at, pass.own = work.own;
    for (int row = 0; row < steps->rows; row++)
        if (steps->limit[row] > steps->counts[row]) work.active[active++] = row;
    while (active) {
        pass.tokens = all.last = active;
        for (int n = 0; n < active; n++) enter(steps, &work, &pass, hidden, n);
        if (!decoder_layers(&all, 1, heard, depth, &pass) || !decoder_head(head, norm, hidden, epsilon, &pass, work.logits)) {
            result = 0;
            break;
        }
        draw_tokens(work.logits, size, active, work.temperatures, work.streams, work.positions, pass.threads, work.drawn);
        int left = 0, known = 0;
        for (int n = 0; n < active; n++) {
            if (work.drawn[n] < 0) {
                result = 2;
                continue;
            }
            work.active[known] = work.active[n], work.places[known] = n, work.drawn[known++] = work.drawn[n];
        }
        log_probabilities(work.logits, size, work.places, work.drawn, known, pass.threads, work.logarithms);
        for (int n = 0; n < known; n++) {
            const int row = work.active[n], done = steps->counts[row]++;
            int64_t *token = steps->tokens + (int64_t)row * (steps->tail + steps->most) + steps->tail + done;
            *token = work.drawn[n];
            steps->logarithms[(int64_t)row * steps->most + done] = work.logarithms[n];
            if (done + 1 < steps->limit[row] && !ends(steps, row, token)) work.active[left++] = row;
        }
        active = left;
    }
    free(block);
    return result;
}

/* What the kernels take; structures.py has the same fields. */

#include <stdint.h>

#define PANEL 32 /* outputs that lie side by side in a packed weight */
#define BLOCK 32 /* inputs of FOURS with one scale */
#define ROWS 12  /* most rows of one sweep over a panel */
#define MOST_DIM 512

/* Of weights, the numbers and how they lie side by side. */
enum {
    FLOATS, /* (panels, ins, 32) float32 */
    HALVES, /* (panels, ins, 16, 2) bfloat16 of the outputs i and i + 16, which are widened */
    PAIRS,  /* (panels, ins / 2, 32, 2) bfloat16 of two inputs, for products with rows in bfloat16 */
    BLOCKS, /* (panels, ins, 32) integers, each times the scale of its block of inputs */
    RAISED, /* the same, and then plus the lowest number of its block */
    EIGHTS, /* (panels, ins / 4, 32, 4) integers + 128, for products with rows of integers */
    FOURS   /* the same of 4 bits + 8: (panels, ins / 8, 32, 4), of inputs 0 to 3 the lower halves of bytes, of 4 to 7 the upper */
};

typedef struct {
    int32_t outs, ins; /* outputs of the layer, and inputs rounded up to a multiple of 4 (EIGHTS), 2 (PAIRS) or 32 (FOURS) */
    int32_t kind;
    const void *weight;
    const float *scale;  /* (panels * 32) of EIGHTS, divided by 127; NULL for others */
    const float *blocks, *lowest; /* (panels, ins >> shift, 32) of BLOCKS and RAISED, the latter of RAISED alone; else NULL */
    const void *fours; /* (panels, ins / 32, 16, 2) bfloat16 of the outputs i and i + 16, the scales of FOURS; else NULL */
    int32_t shift;                /* a block has 1 << shift inputs */
    const float *bias; /* (panels * 32) or NULL */
} Linear;

typedef struct {
    Linear down, up; /* added to a product: up(down(x)), in float32; no outputs of `down` where nothing is added */
} LowRank;

typedef struct {
    int32_t hidden, inner, heads, kv_heads, dim, eights; /* eights: queries, keys and values are integers */
    int32_t normed_residual; /* of a layer over pairs: attention is added to the normed state */
    double scale, epsilon;
    const float *before_norm, *between_norm, *q_norm, *k_norm; /* the last two may be NULL */
    const float *state_norm; /* of a layer over pairs, for x, where before_norm is for embeddings; NULL for others */
    Linear qkv, out, gate_up, down;
    LowRank qkv_low, out_low, gate_up_low, down_low;
} Layer;

typedef struct {
    int32_t tokens, threads;
    float *x; /* (T, hidden), overwritten */
    const float *embedded; /* (T, hidden), for a layer over pairs */
    const int64_t *slots, *keys;
    const int32_t *before_at, *before, *own_at, *own; /* (T) two runs of `keys` that a token attends to */
    const void *cosine, *sine; /* (T, dim) */
    float *projected, *attended, *inner; /* (T, qkv outs), (T, heads * dim), (T, 2 * inner) */
    void *queries; /* (T, heads * dim) */
    double *scales; /* (T, heads) of queries that are integers */
    void *rounded; /* (T, most bytes of the inputs of EIGHTS, PAIRS and FOURS) */
    float *normed; /* (T, hidden), for a layer over pairs (T, 2 * hidden) */
    float *low; /* (T, most outs of a `down`) */
    float *largest; /* (T) */
    int32_t *corrections; /* (T) */
    int32_t *totals; /* (T, most blocks of FOURS) what their offset adds to the sum of a block */
} Pass;

/* Rows of a pass with one adapter: the weights of all batches are the same, and keys and values lie apart. */
typedef struct {
    const Layer *const *layers;
    void *const *entries; /* of each layer */
    int32_t first, last;  /* tokens first <= t < last */
} Batch;

/* Rows that take up to `most` tokens each, one pass after another; the keys of a pass are the slots of all rows. */
typedef struct {
    int32_t rows, most, tail; /* tail: tokens before the first new one that are known here, as endings may begin in them */
    int32_t angle_bytes;      /* of the cosines of a position */
    const float *embeddings;  /* (V, hidden) */
    const char *angles;       /* (positions, 2, dim): cosines and sines */
    const int32_t *start, *context, *limit; /* (R) its first slot among the keys, the tokens that have keys, the most tokens */
    const double *temperature; /* (R) 0: the likeliest token */
    const uint64_t *stream;    /* (R) */
    const int32_t *position;   /* (R) of the noise of the first new token */
    const int64_t *ends;       /* of each row the sequences of tokens after which it takes no more: length, tokens */
    const int32_t *end_at;     /* (R + 1) where those of a row begin */
    int64_t *tokens;           /* (R, tail + most), the tail given */
    double *logarithms;        /* (R, most) natural-log probabilities, untempered */
    int32_t *counts;           /* (R) tokens so far: 0 */
} Steps;

/* What the kernels take; structures.py has the same fields. */

#include <stdint.h>

#define PANEL 32 /* outputs that lie side by side in a packed weight */
#define ROWS 12  /* most rows of one sweep over a panel */
#define MOST_DIM 512

typedef struct {
    int32_t outs, ins; /* outputs of the layer, and inputs rounded up to a multiple of 4 (8 bits) */
    int32_t half;      /* weights in bfloat16 */
    const void *weight; /* (panels, ins, 32) float32 or integers in blocks, (panels, ins, 16, 2) bfloat16 of the outputs
                           i and i + 16, or (panels, ins / 4, 32, 4) integers + 128 */
    const float *scale; /* (panels * 32) of 8-bit weights, divided by 127; NULL for others */
    const float *blocks; /* (panels, ins / 32, 32) of integers in blocks, each times its scale; NULL for others */
    const float *bias; /* (panels * 32) or NULL */
} Linear;

typedef struct {
    Linear down, up; /* added to a product: up(down(x)), in float32; no outputs of `down` where nothing is added */
} LowRank;

typedef struct {
    int32_t hidden, inner, heads, kv_heads, dim, wide; /* wide: attention in float64 */
    double scale, epsilon;
    const float *before_norm, *between_norm, *q_norm, *k_norm; /* the last two may be NULL */
    Linear qkv, out, gate_up, down;
    LowRank qkv_low, out_low, gate_up_low, down_low;
} Layer;

typedef struct {
    int32_t tokens, threads;
    float *x; /* (T, hidden), overwritten */
    const int64_t *slots, *keys;
    const int32_t *before_at, *before, *own_at, *own; /* (T) two runs of `keys` that a token attends to */
    const void *cosine, *sine; /* (T, dim) */
    float *projected, *attended, *inner; /* (T, qkv outs), (T, heads * dim), (T, 2 * inner) */
    void *queries; /* (T, heads * dim) */
    int8_t *rounded; /* (T, most ins) */
    float *normed; /* (T, hidden) */
    float *low; /* (T, most outs of a `down`) */
    float *largest; /* (T) */
    int32_t *corrections; /* (T) */
} Pass;

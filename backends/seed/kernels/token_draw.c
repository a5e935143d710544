/* The token that a row of logits draws: argmax(logit / temperature + g), with the noise g of sampling/philox.py, which is
keyed by stream, position and token (Philox4x32-10, Salmon et al., SC 2011). At temperature 0 the likeliest.

Ids that no noise can make the best get none. Logarithms may differ from NumPy's in the last bit: where the two best sums
are so close that this could decide, there is no token, and the caller draws it as NumPy does. */

#include <float.h>
#include <math.h>
#include <stdint.h>

#define LANES 16                  /* Philox blocks that are computed together */
#define AT_ONCE (4 * LANES)       /* their ids: four of a block */
#define LARGEST_NOISE 22.88       /* that 32 bits can give, rounded up */
#define NEAR 3.0                  /* ids within this many (logits / temperature) of the best one are tried first */
#define SLACK 1e-6                /* added to bounds, so that rounding never decides */
#define CLOSE 1e-9                /* sums that differ by less are too close */
#define MANY (1 << 13)            /* logits from which on threads share the rows */

int64_t likeliest(const float *row, int64_t size);

/* The random words of LANES blocks from `block` on; word w of block b is that of token 4 b + w. */
static void random_words(uint64_t stream, uint32_t position, uint32_t block, uint32_t words[4][LANES]) {
    for (uint32_t i = 0; i < LANES; i++) {
        uint32_t a = position, b = block + i, c = 0, d = 0, k = (uint32_t)stream, m = (uint32_t)(stream >> 32);
        for (int round = 0; round < 10; round++) {
            const uint64_t first = (uint64_t)a * 0xD2511F53u, second = (uint64_t)c * 0xCD9E8D57u;
            a = (uint32_t)(second >> 32) ^ b ^ k, b = (uint32_t)second;
            c = (uint32_t)(first >> 32) ^ d ^ m, d = (uint32_t)first;
            k += 0x9E3779B9u, m += 0xBB67AE85u;
        }
        words[0][i] = a, words[1][i] = b, words[2][i] = c, words[3][i] = d;
    }
}

typedef struct {
    double best, second;
    int64_t token;
} Draw;

/* Tries the ids from `first` on that are `near`, or else those whose word is `lucky`. */
static void try_ids(const float *row, int64_t size, double temperature, uint64_t stream, uint32_t position, int64_t first,
                    float edge, int near, uint32_t lucky, Draw *draw) {
    uint32_t words[4][LANES];
    const int64_t last = first + AT_ONCE < size ? first + AT_ONCE : size;
    random_words(stream, position, (uint32_t)(first / 4), words);
    for (int64_t id = first; id < last; id++) {
        const uint32_t word = words[id % 4][(id - first) / 4];
        if (near ? row[id] < edge : row[id] >= edge || word < lucky) continue;
        const double sum = row[id] / temperature - log(-log((word + 0.5) * 0x1p-32));
        if (sum > draw->best) draw->second = draw->best, draw->best = sum, draw->token = id;
        else if (sum > draw->second) draw->second = sum;
    }
}

/* The token of a row (V); -1 where its logits are not finite, or the two best sums too close. */
static int64_t draw_token(const float *row, int64_t size, double temperature, uint64_t stream, uint32_t position) {
    const int64_t likely = likeliest(row, size);
    if (likely < 0 || temperature == 0) return likely;
    const float edge = (float)(row[likely] - NEAR * temperature);
    Draw draw = {-INFINITY, -INFINITY, -1};
    float highest[(size + AT_ONCE - 1) / AT_ONCE];
    for (int64_t first = 0; first < size; first += AT_ONCE) {
        const int64_t last = first + AT_ONCE < size ? first + AT_ONCE : size;
        float top = -INFINITY;
#pragma omp simd reduction(max : top)
        for (int64_t i = first; i < last; i++) top = row[i] > top ? row[i] : top;
        highest[first / AT_ONCE] = top;
        if (top >= edge) try_ids(row, size, temperature, stream, position, first, edge, 1, 0, &draw);
    }
    const double least = draw.best - CLOSE - SLACK, bound = temperature * (least - LARGEST_NOISE);
    const double word = exp(-exp(edge / temperature - least)) * 0x1p32 - 2;
    for (int64_t first = 0; first < size; first += AT_ONCE)
        if (highest[first / AT_ONCE] >= bound)
            try_ids(row, size, temperature, stream, position, first, edge, 0, word < 0 ? 0 : (uint32_t)word, &draw);
    return draw.best - draw.second >= CLOSE + 4 * DBL_EPSILON * fabs(draw.best) ? draw.token : -1;
}

/* to[n] of row n of logits (N, size). */
void draw_tokens(const float *logits, int64_t size, int32_t count, const double *temperatures, const uint64_t *streams,
                 const int32_t *positions, int32_t threads, int64_t *to) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && count > 1 && count * size > MANY)
    for (int32_t n = 0; n < count; n++)
        to[n] = draw_token(logits + n * size, size, temperatures[n], streams[n], (uint32_t)positions[n]);
}

/* What attention in float32 and over integers have in common: the keys of the tokens that are taken together.

What they all attend to is read once, a tile of keys at a time. */

#define KEYS 16   /* of a tile */
#define AHEAD 32  /* keys that are fetched meanwhile */
#define QUERIES 6 /* whose sums are kept in registers */

#define MOST_ROWS 8     /* tokens that are taken together */
#define MOST_HEADS 8    /* and query heads of each */
#define ROOM (1 << 15)  /* scores of them, as far as one token has no more: they stay in the second cache */
#define MOST_SCORES (1 << 18) /* of the heads of one token, as far as one head has no more: they lie on the stack */

static inline int least(int a, int b) { return a < b ? a : b; }
static inline int within(int a, int most) { return a < 1 ? 1 : least(a, most); }

/* The keys of a token, at most of two runs. */
typedef struct {
    const int64_t *before, *own;
    int first, count; /* keys of the first run, and of both */
} Seen;

static inline int64_t slot_of(const Seen *seen, int k) {
    return k < seen->first ? seen->before[k] : seen->own[k - seen->first];
}

/* The keys of the tokens t ... t + rows - 1. Returns the most of one. */
static int see(const Pass *pass, int t, int rows, Seen *seen) {
    int longest = 0;
    for (int r = 0; r < rows; r++) {
        const int before = pass->before[t + r], keys = before + pass->own[t + r];
        seen[r] = (Seen){pass->keys + pass->before_at[t + r], pass->keys + pass->own_at[t + r], before, keys};
        longest = keys > longest ? keys : longest;
    }
    return longest;
}

/* How many keys, in whole tiles, all the tokens see at the same places. */
static int shared_keys(const Seen *seen, int rows) {
    int count = rows > 1 ? seen->count : 0;
    for (int r = 1; r < rows; r++) {
        const Seen *other = seen + r;
        int same = 0;
        count = least(other->count, count);
        if (other->before == seen->before && other->first == seen->first) /* the next token of one text */
            same = other->own == seen->own ? count : least(seen->first, count);
        while (same < count && slot_of(other, same) == slot_of(seen, same)) same++;
        count = same;
    }
    return count / KEYS * KEYS;
}

#ifdef __AVX512F__

/* Rows of 16 words become columns. */
static inline __attribute__((always_inline)) void transpose(__m512i *rows) {
    __m512i part[16];
    for (int i = 0; i < 16; i += 2) {
        part[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        part[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            rows[i + 2 * j] = _mm512_unpacklo_epi64(part[i + j], part[i + 2 + j]);
            rows[i + 2 * j + 1] = _mm512_unpackhi_epi64(part[i + j], part[i + 2 + j]);
        }
    for (int i = 0; i < 4; i++) { /* rows[4 * n + i]: column 4 * q + i of the rows 4 * n ..., in quarter q */
        const __m512i a = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88), b = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
        const __m512i c = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd), d = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
        part[i] = _mm512_shuffle_i32x4(a, b, 0x88), part[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
        part[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88), part[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
    for (int i = 0; i < 16; i++) rows[i] = part[i];
}

#endif

#define BY_QUERIES(call) \
    switch (Q) { \
        case 1: call(1) break; \
        case 2: call(2) break; \
        case 3: call(3) break; \
        case 4: call(4) break; \
        case 5: call(5) break; \
        default: call(6) \
    }

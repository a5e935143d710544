/* Products of rows of integers with weights of 4 bits, which have a scale for each block of inputs. */

/* What the offset of weights in 4 bits adds to the sums of each block of a row. */
static void total_blocks(const int8_t *row, int blocks, int32_t *totals) {
    for (int b = 0; b < blocks; b++, row += BLOCK) {
        int32_t total = 0;
#pragma omp simd reduction(+ : total)
        for (int i = 0; i < BLOCK; i++) total += row[i];
        totals[b] = 8 * total;
    }
}

/* As `sweep` does: the sum over a block is an integer, which times the scale of the block is added to the sum of its row. */
static inline __attribute__((always_inline)) void sweep_nibbles(
    const int R, const int KIND, const Part *part, const char *rows, int64_t stride, floats *sums) {
#ifdef __AVX512VNNI__
    const Linear *linear = part->linear;
    const int64_t blocks = linear->ins / BLOCK;
    const char *w = (const char *)linear->weight + (part->panel * (int64_t)linear->ins + part->first) * PANEL_BYTES(FOURS);
    const words *scale = (const words *)linear->fours + part->panel * blocks + part->first / BLOCK;
    const char *ahead = part->ahead;
    const words lower = (words){0} + 0x0f0f0f0fu;
    floats left[ROWS], right[ROWS];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) left[r] = sums[2 * r], right[r] = sums[2 * r + 1];
    for (int k = part->first; k < part->last; k += BLOCK, scale++, ahead += part->hop) {
        integers a[ROWS], b[ROWS];
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) a[r] = b[r] = (integers){0} - part->totals[r * blocks + k / BLOCK];
#pragma GCC unroll 4
        for (int i = 0; i < BLOCK; i += 8, w += 8 * PANEL_BYTES(FOURS)) {
            if (R > FEW) __builtin_prefetch(ahead + 16 * i, 0, 2), __builtin_prefetch(ahead + 16 * i + 64, 0, 2);
            const words first = *(const words *)w, second = *(const words *)(w + 64);
            const words a0 = first & lower, a1 = first >> 4 & lower, b0 = second & lower, b1 = second >> 4 & lower;
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                int32_t bits[2];
                memcpy(bits, rows + r * stride + k + i, sizeof bits);
                const integers row = (integers){0} + bits[0], next = (integers){0} + bits[1];
                __asm__("vpdpbusd %3, %1, %0\n\tvpdpbusd %4, %2, %0" : "+&v"(a[r]) : "v"(a0), "v"(a1), "v"(row), "v"(next));
                __asm__("vpdpbusd %3, %1, %0\n\tvpdpbusd %4, %2, %0" : "+&v"(b[r]) : "v"(b0), "v"(b1), "v"(row), "v"(next));
            }
        }
        const floats low = (floats)(*scale << 16), high = (floats)(*scale & 0xffff0000u);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            left[r] += __builtin_convertvector(a[r], floats) * low;
            right[r] += __builtin_convertvector(b[r], floats) * high;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) sums[2 * r] = left[r], sums[2 * r + 1] = right[r];
#endif
}

/* The learned mixture of what the contexts of a text predict, see drafters/tables/ngram_mixture.py. */

#include <math.h>

#define CANDIDATES 5
#define INPUTS (ORDER + 3) /* bias, noise, contexts of 1 .. ORDER tokens, the sequence's own evidence */
#define BINS 33
#define PER_NAT 2
#define MEMORY 512
#define PRIOR 32
#define RATE 0.015
#define LIMIT 8.0
#define CONTEST 3.0
#define LOUDEST 4.0
#define MEAN 0.5772

typedef struct {
    double rate[BINS];
    int64_t outcomes[BINS];
} Calibration;

typedef struct {
    double weights[ORDER + 1][INPUTS];
    Calibration first, rest; /* of the likeliest candidate, of the others */
} Mixture;

typedef struct {
    int32_t text[ORDER], length;
    int32_t known, inputs; /* tokens of the longest known context; used elements of each row of evidence */
    int32_t count, tokens[CANDIDATES];
    int32_t children[CANDIDATES]; /* index of the guess after each candidate, 0 where there is none */
    double evidence[CANDIDATES][INPUTS], scores[CANDIDATES];
    double chances[CANDIDATES], places[CANDIDATES], confidences[CANDIDATES];
} Guess;

static double bounded(double x, double least, double most) { return x < least ? least : x > most ? most : x; }

static void start_mixture(Mixture *mixture) {
    static const double bias[] = {-1.0, -1.0, -0.3}, contexts[] = {0.1, 0.1, 0.1, 0.1, 0.25, 0.6};
    for (int n = 0; n <= ORDER; n++) {
        double *weights = mixture->weights[n];
        weights[0] = n < 3 ? bias[n] : 0.0, weights[1] = 0.3, weights[2 + n] = 0.3;
        memcpy(weights + 2, contexts + ORDER - n, n * sizeof(double));
    }
    for (int i = 0; i < BINS; i++) {
        mixture->first.rate[i] = mixture->rest.rate[i] = 1 / (1 + exp((BINS / 2 - i) / (double)PER_NAT));
        mixture->first.outcomes[i] = mixture->rest.outcomes[i] = PRIOR;
    }
}

/* The target's noise of a token, see sampling/philox.py. */
static double noise(uint64_t stream, int64_t position, int32_t token) {
    uint32_t a = (uint32_t)position, b = (uint32_t)token >> 2, c = 0, d = 0;
    uint32_t low = (uint32_t)stream, high = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++, low += 0x9E3779B9u, high += 0xBB67AE85u) {
        const uint64_t first = (uint64_t)a * 0xD2511F53u, second = (uint64_t)c * 0xCD9E8D57u;
        a = (uint32_t)(second >> 32) ^ b ^ low, b = (uint32_t)second;
        c = (uint32_t)(first >> 32) ^ d ^ high, d = (uint32_t)first;
    }
    const uint32_t words[] = {a, b, c, d};
    return -log(-log((words[token & 3] + 0.5) * 0x1p-32));
}

/* Add the noise to the scores of the candidates that may win by it, "something else" having the score 0. */
static void add_noise(Guess *guess, double weight, uint64_t stream, int64_t position) {
    double threshold = 0;
    for (int i = 0; i < guess->count; i++) threshold = guess->scores[i] > threshold ? guess->scores[i] : threshold;
    threshold -= CONTEST;
    int contenders = 0 > threshold;
    for (int i = 0; i < guess->count; i++) contenders += guess->scores[i] > threshold;
    if (contenders < 2) return;
    for (int i = 0; i < guess->count; i++) {
        if (!(guess->scores[i] > threshold)) continue;
        const double loud = noise(stream, position, guess->tokens[i]) - MEAN;
        guess->evidence[i][1] = loud < LOUDEST ? loud : LOUDEST;
        guess->scores[i] += weight * guess->evidence[i][1];
    }
}

static void swap_candidates(Guess *guess, int i, int j) {
    double row[INPUTS];
    const double score = guess->scores[i];
    const int32_t token = guess->tokens[i];
    memcpy(row, guess->evidence[i], sizeof row);
    memcpy(guess->evidence[i], guess->evidence[j], sizeof row);
    memcpy(guess->evidence[j], row, sizeof row);
    guess->scores[i] = guess->scores[j], guess->scores[j] = score;
    guess->tokens[i] = guess->tokens[j], guess->tokens[j] = token;
}

/* The likeliest candidate first, with probabilities and confidences. */
static void rank(const Mixture *mixture, Guess *guess) {
    double powers[CANDIDATES], total = 0;
    for (int i = 1; i < guess->count; i++)
        for (int j = i; j > 0; j--) {
            const double above = guess->scores[j - 1], own = guess->scores[j];
            if (above > own || (above == own && guess->tokens[j - 1] > guess->tokens[j])) break;
            swap_candidates(guess, j - 1, j);
        }
    for (int i = 0; i < guess->count; i++) total += powers[i] = exp(bounded(guess->scores[i], -LIMIT, LIMIT));
    total = 1 + total;
    double rest = 1.0;
    for (int i = 0; i < guess->count; i++) {
        const double chance = powers[i] / total, inner = bounded(chance, 5e-4, 1 - 5e-4);
        const double place = log(inner / (1 - inner)) * PER_NAT + BINS / 2;
        const int bin = (int)place;
        const double *rate = (i ? &mixture->rest : &mixture->first)->rate;
        const double confidence = rate[bin] + (rate[bin + 1] - rate[bin]) * (place - bin);
        guess->chances[i] = chance, guess->places[i] = place;
        guess->confidences[i] = confidence < rest ? confidence : rest;
        if (!i) rest = 1 - guess->confidences[0];
    }
}

/* Update the calibration by the token that came, and take one gradient step on the log-likelihood. */
static void learn_guess(Mixture *mixture, const Guess *guess, int32_t token) {
    double *weights = mixture->weights[guess->known];
    for (int i = 0; i < guess->count; i++) {
        Calibration *calibration = i ? &mixture->rest : &mixture->first;
        const int hit = guess->tokens[i] == token, bin = (int)nearbyint(guess->places[i]);
        int64_t *outcomes = calibration->outcomes + bin;
        *outcomes = *outcomes < MEMORY ? *outcomes + 1 : MEMORY;
        calibration->rate[bin] += (hit - calibration->rate[bin]) / (double)*outcomes;
        const double step = RATE * (hit - guess->chances[i]);
        for (int j = 0; j < guess->inputs; j++) weights[j] += step * guess->evidence[i][j];
    }
}

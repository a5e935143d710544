/* The n-gram drafter of drafters/tables/ngram.py, which says what it does and why: the same numbers, bit for bit, as
products are not contracted with sums (-ffp-contract=off). Functions return a negative number or NULL without memory. */

#include "ngram_table.h"
#include "ngram_mixture.h"

#define USUAL 2 /* distinct followers looked for in the shared contexts */
#define SMOOTHING 0.8
#define BREADTH 2

typedef struct Sequence Sequence;

typedef struct {
    int64_t most; /* contexts of a generation */
    Contexts now, before;
    uint64_t prefixes[PREFIXES]; /* the latest prefix with each remainder of its hash */
    Mixture greedy, sampled;
    double odds[WINDOW + 1][WINDOW + 1];
    Sequence *live;
} Table;

typedef struct {
    double value;
    int32_t order, guess, candidate, parent, level;
} Leaf;

struct Sequence {
    Table *table;
    Mixture *mixture;
    Sequence *next, **link; /* of the live ones */
    uint64_t stream, prefix;
    int32_t text[ORDER], length;
    Contexts own; /* what followed each token in this sequence */
    Guess *guesses; /* (room); the first is after the text, where `drafted` */
    Leaf *leaves;   /* (CANDIDATES * room) */
    int32_t room, drafted;
};

Table *ngram_open(int64_t most) {
    Table *table = calloc(1, sizeof(Table));
    if (!table) return NULL;
    table->most = most;
    start_mixture(&table->greedy);
    start_mixture(&table->sampled);
    for (int n = 0; n <= WINDOW; n++)
        for (int c = 0; c <= n; c++) table->odds[n][c] = log((c + SMOOTHING) / (n - c + SMOOTHING));
    return table;
}

static void free_parts(Sequence *sequence) {
    empty(&sequence->own);
    free(sequence->guesses);
    free(sequence->leaves);
}

void ngram_forget(Sequence *sequence) {
    *sequence->link = sequence->next;
    if (sequence->next) sequence->next->link = sequence->link;
    free_parts(sequence);
    free(sequence);
}

void ngram_close(Table *table) {
    while (table->live) ngram_forget(table->live);
    empty(&table->now);
    empty(&table->before);
    free(table);
}

int64_t ngram_contexts(const Table *table) { return table->now.count + table->before.count; }

static void append(int32_t *text, int32_t *length, int32_t token) {
    if (*length == ORDER) memmove(text, text + 1, (ORDER - 1) * sizeof(int32_t)), --*length;
    text[(*length)++] = token;
}

/* Append a token to the text, and to the followers of the contexts before it; 0 without memory. */
static int learn(Sequence *sequence, int32_t token, int shared, int own) {
    Table *table = sequence->table;
    uint64_t hash = 0;
    for (int n = 1; shared && n <= sequence->length; n++) {
        const int32_t *context = sequence->text + sequence->length - n;
        hash = mixed(hash, *context);
        Context *held = found(&table->now, hash, context, n);
        if (!held) {
            const Context *earlier = found(&table->before, hash, context, n);
            if (!(held = added(&table->now, hash, context, n))) return 0;
            if (earlier) held->followers = earlier->followers;
        }
        follow(&held->followers, WINDOW, token);
    }
    if (own && sequence->length) {
        const int32_t *last = sequence->text + sequence->length - 1;
        Context *held = found(&sequence->own, mixed(0, *last), last, 1);
        if (!held && !(held = added(&sequence->own, mixed(0, *last), last, 1))) return 0;
        follow(&held->followers, OWN_WINDOW, token);
    }
    append(sequence->text, &sequence->length, token);
    sequence->prefix = mixed(sequence->prefix, token);
    table->prefixes[sequence->prefix % PREFIXES] = sequence->prefix;
    if (table->now.count >= table->most) {
        empty(&table->before);
        table->before = table->now, table->now = (Contexts){0};
    }
    return 1;
}

/* Read a text; from the token `own` on it is evidence of the sequence's own, too. */
static int read_text(Sequence *sequence, const int32_t *tokens, int64_t count, int64_t own) {
    int known = 1; /* while all of the text so far has begun another text */
    for (int64_t i = 0; i < count; i++) {
        const uint64_t prefix = mixed(sequence->prefix, tokens[i]);
        known = known && sequence->table->prefixes[prefix % PREFIXES] == prefix;
        if (!learn(sequence, tokens[i], !known, i >= own)) return 0;
    }
    return 1;
}

int32_t ngram_warm(Table *table, const int32_t *tokens, int64_t count) {
    Sequence sequence = {.table = table};
    const int done = read_text(&sequence, tokens, count, count);
    free_parts(&sequence);
    return done ? 0 : -1;
}

/* Read a new sequence; `sampled`: with the noise of `stream`. */
Sequence *ngram_join(Table *table, const int32_t *tokens, int64_t count, int64_t own, int32_t sampled, uint64_t stream) {
    Sequence *sequence = calloc(1, sizeof(Sequence));
    if (!sequence) return NULL;
    sequence->table = table, sequence->stream = stream;
    sequence->mixture = sampled ? &table->sampled : &table->greedy;
    sequence->next = table->live, sequence->link = &table->live;
    if (table->live) table->live->link = &sequence->next;
    table->live = sequence;
    if (read_text(sequence, tokens, count, own)) return sequence;
    ngram_forget(sequence);
    return NULL;
}

/* The latest follower, and where they differ the two most frequent; of equals the later. Some may be the same. */
static int usual(const Followers *followers, int32_t to[3]) {
    const int32_t *tokens = followers->tokens, last = tokens[followers->count - 1];
    int most = count_of(followers, last), least = 0;
    to[0] = to[1] = last;
    if (most == followers->count) return 1;
    for (int i = followers->count - 2; i >= 0; i--) {
        int later = i + 1;
        while (later < followers->count && tokens[later] != tokens[i]) later++;
        if (later < followers->count) continue;
        const int count = count_of(followers, tokens[i]);
        if (count > most) to[2] = to[1], to[1] = tokens[i], least = most, most = count;
        else if (count > least) to[2] = tokens[i], least = count;
    }
    return 3;
}

static void add_candidate(Guess *guess, int32_t token) {
    for (int i = 0; i < guess->count; i++)
        if (guess->tokens[i] == token) return;
    guess->tokens[guess->count++] = token;
}

/* Candidates for `position` of the generated tokens, after the guess's text. */
static void fill(const Sequence *sequence, Guess *guess, int64_t position) {
    const Table *table = sequence->table;
    const Followers *known[ORDER + 1], *before = NULL;
    const int length = guess->length;
    uint64_t hash = 0;
    guess->known = guess->count = 0;
    memset(guess->children, 0, sizeof guess->children);
    for (int n = 1; n <= length; n++) {
        const int32_t *context = guess->text + length - n;
        hash = mixed(hash, *context);
        const Context *held = found(&table->now, hash, context, n);
        if (!held && !(held = found(&table->before, hash, context, n))) break;
        known[guess->known++] = &held->followers;
    }
    for (int n = guess->known - 1; n >= 0 && guess->count < USUAL; n--) {
        int32_t tokens[3];
        if (before && same(before, known[n])) continue; /* the same evidence as that of a longer context */
        before = known[n];
        for (int i = 0, count = usual(before, tokens); i < count; i++) add_candidate(guess, tokens[i]);
    }
    int evidence = guess->known;
    const Context *own = length ? found(&sequence->own, mixed(0, guess->text[length - 1]), guess->text + length - 1, 1) : NULL;
    if (own) {
        add_candidate(guess, own->followers.tokens[own->followers.count - 1]);
        known[evidence++] = &own->followers;
    }
    guess->inputs = 2 + evidence;
    const double *weights = sequence->mixture->weights[guess->known];
    for (int i = 0; i < guess->count; i++) {
        double *row = guess->evidence[i], score = 0;
        row[0] = 1, row[1] = 0;
        for (int n = 0; n < evidence; n++) row[2 + n] = table->odds[known[n]->count][count_of(known[n], guess->tokens[i])];
        for (int j = 0; j < guess->inputs; j++) score += weights[j] * row[j];
        guess->scores[i] = score;
    }
    if (sequence->mixture == &table->sampled) add_noise(guess, weights[1], sequence->stream, position);
    rank(sequence->mixture, guess);
}

static int has_room(Sequence *sequence, int32_t room) {
    if (sequence->room >= room) return 1;
    Guess *guesses = realloc(sequence->guesses, room * sizeof(Guess));
    if (guesses) sequence->guesses = guesses;
    Leaf *leaves = realloc(sequence->leaves, CANDIDATES * room * sizeof(Leaf));
    if (leaves) sequence->leaves = leaves;
    if (guesses && leaves) sequence->room = room;
    return guesses && leaves;
}

/* A guess after the sequence's text. */
static Guess *begin(Sequence *sequence, int64_t position) {
    Guess *guess = sequence->guesses;
    memcpy(guess->text, sequence->text, sizeof guess->text);
    guess->length = sequence->length;
    fill(sequence, guess, position);
    return guess;
}

/* Compare committed tokens with their guesses, then learn them; the first has `position` of the generated ones. */
int32_t ngram_observe(Sequence *sequence, const int32_t *tokens, int32_t count, int64_t position) {
    if (!has_room(sequence, 1)) return -1;
    Guess *guess = sequence->drafted ? sequence->guesses : NULL;
    sequence->drafted = 0;
    for (int i = 0; i < count; i++) {
        if (!guess) guess = begin(sequence, position + i);
        int32_t after = 0;
        for (int j = 0; j < guess->count; j++)
            if (guess->tokens[j] == tokens[i]) after = guess->children[j];
        learn_guess(sequence->mixture, guess, tokens[i]);
        if (!learn(sequence, tokens[i], 1, 1)) return -1;
        guess = after ? sequence->guesses + after : NULL;
    }
    return 0;
}

/* A draft in the order of value, see best_first.py; its nodes, of which there are at most BREADTH * depth. */
int32_t ngram_draft(Sequence *sequence, double floor, int32_t depth, int64_t position, int32_t *tokens, int32_t *parents,
                    double *confidences) {
    if (!has_room(sequence, 1 + BREADTH * depth)) return -1;
    Leaf *leaves = sequence->leaves, top = {1.0, 0, 0, 0, -1, 0};
    int32_t count = 0, open = 0, order = 0, used = 1, at = 0;
    begin(sequence, position);
    sequence->drafted = 1;
    for (int32_t node = -1;; node = count - 1) {
        if (top.level < depth) {
            if (node >= 0) {
                at = used++;
                Guess *parent = sequence->guesses + top.guess, *guess = sequence->guesses + at;
                parent->children[top.candidate] = at;
                memcpy(guess->text, parent->text, sizeof guess->text);
                guess->length = parent->length;
                append(guess->text, &guess->length, parent->tokens[top.candidate]);
                fill(sequence, guess, position + top.level);
            }
            const Guess *guess = sequence->guesses + at;
            for (int i = 0; i < guess->count; i++) {
                const double value = top.value * guess->confidences[i];
                if (value >= floor) leaves[open++] = (Leaf){value, order++, at, i, node, top.level + 1};
            }
        }
        if (!open || count == BREADTH * depth) return count;
        int best = 0;
        for (int i = 1; i < open; i++)
            if (leaves[i].value > leaves[best].value || (leaves[i].value == leaves[best].value && leaves[i].order < leaves[best].order))
                best = i;
        top = leaves[best], leaves[best] = leaves[--open];
        const Guess *guess = sequence->guesses + top.guess;
        tokens[count] = guess->tokens[top.candidate], parents[count] = top.parent;
        confidences[count++] = guess->confidences[top.candidate];
    }
}

/* What `ngram_observe` and `ngram_draft` do, for several sequences: their tokens, or nodes, stand one after another. */

int32_t ngram_observe_all(int32_t count, Sequence *const *sequences, const int32_t *counts, const int64_t *positions,
                          const int32_t *tokens) {
    for (int32_t i = 0; i < count; tokens += counts[i++])
        if (ngram_observe(sequences[i], tokens, counts[i], positions[i]) < 0) return -1;
    return 0;
}

int32_t ngram_draft_all(int32_t count, Sequence *const *sequences, double floor, const int32_t *depths,
                        const int64_t *positions, int32_t *sizes, int32_t *tokens, int32_t *parents,
                        double *confidences) {
    int32_t end = 0;
    for (int32_t i = 0; i < count; end += sizes[i++]) {
        sizes[i] = 0;
        if (!sequences[i] || depths[i] < 1) continue;
        sizes[i] = ngram_draft(sequences[i], floor, depths[i], positions[i], tokens + end, parents + end, confidences + end);
        if (sizes[i] < 0) return -1;
    }
    return end;
}

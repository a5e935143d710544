/* What followed the contexts of one to six tokens, in two generations; see drafters/tables/ngram.py. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ORDER 6
#define WINDOW 16
#define OWN_WINDOW 8
#define PREFIXES (1 << 17)
#define FIRST_ROOM 64

typedef struct {
    int32_t count, tokens[WINDOW]; /* the latest last */
} Followers;

typedef struct {
    uint64_t hash;
    int32_t length, tokens[ORDER];
    Followers followers;
} Context;

/* Contexts in the order they came, found by hash: `places` (2 * room) holds 1 + index, 0 where there is none. */
typedef struct {
    Context *contexts;
    int32_t *places;
    int64_t count, room;
} Contexts;

static uint64_t mixed(uint64_t hash, int32_t token) {
    hash = ((hash ^ (uint64_t)token) + 1) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

static int count_of(const Followers *followers, int32_t token) {
    int count = 0;
    for (int i = 0; i < followers->count; i++) count += followers->tokens[i] == token;
    return count;
}

static void follow(Followers *followers, int window, int32_t token) {
    if (followers->count == window) {
        memmove(followers->tokens, followers->tokens + 1, (window - 1) * sizeof(int32_t));
        followers->count--;
    }
    followers->tokens[followers->count++] = token;
}

static int same(const Followers *a, const Followers *b) {
    return a->count == b->count && !memcmp(a->tokens, b->tokens, a->count * sizeof(int32_t));
}

/* The place of a context's index, or the free one where it belongs. */
static int32_t *place_of(const Contexts *in, uint64_t hash, const int32_t *tokens, int length) {
    const uint64_t mask = 2 * in->room - 1;
    for (uint64_t at = hash & mask;; at = (at + 1) & mask) {
        int32_t *place = in->places + at;
        if (!*place) return place;
        const Context *held = in->contexts + *place - 1;
        if (held->hash == hash && held->length == length && !memcmp(held->tokens, tokens, length * sizeof(int32_t)))
            return place;
    }
}

static Context *found(const Contexts *in, uint64_t hash, const int32_t *tokens, int length) {
    if (!in->count) return NULL;
    const int32_t place = *place_of(in, hash, tokens, length);
    return place ? in->contexts + place - 1 : NULL;
}

static int grow(Contexts *in) {
    const int64_t room = in->room ? 2 * in->room : FIRST_ROOM;
    Context *contexts = realloc(in->contexts, room * sizeof(Context));
    if (contexts) in->contexts = contexts;
    int32_t *places = calloc(2 * room, sizeof(int32_t));
    if (!contexts || !places) {
        free(places);
        return 0;
    }
    free(in->places);
    in->places = places, in->room = room;
    for (int64_t i = 0; i < in->count; i++)
        *place_of(in, contexts[i].hash, contexts[i].tokens, contexts[i].length) = (int32_t)(i + 1);
    return 1;
}

/* A context that is not in the table, without followers. NULL where there is no memory. */
static Context *added(Contexts *in, uint64_t hash, const int32_t *tokens, int length) {
    if (in->count == in->room && !grow(in)) return NULL;
    int32_t *place = place_of(in, hash, tokens, length);
    Context *context = in->contexts + in->count++;
    *place = (int32_t)in->count;
    context->hash = hash, context->length = length, context->followers.count = 0;
    memcpy(context->tokens, tokens, length * sizeof(int32_t));
    return context;
}

static void empty(Contexts *in) {
    free(in->contexts);
    free(in->places);
    *in = (Contexts){0};
}

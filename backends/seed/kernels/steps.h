/* The steps of a pass: each is cut into items that any thread may take, its own first, so that it reads the same weights
in every pass. A step ends when its items are done, not when every thread has come to it: a thread that the system has
set aside holds up nothing but the items in its hands, where a barrier would make all others wait for it at every step. */

#include <omp.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>

#define CACHE_LINE 64 /* bytes that processors exchange; counters of two threads in one would slow both */
#define SPINS 2000 /* about 50 microseconds, before other processes get the processor */

typedef struct {
    int32_t value;
    char apart[CACHE_LINE - sizeof(int32_t)];
} Counter;

typedef struct {
    Counter *counters; /* (steps, 1 + threads): items done, then the next item of each thread's share */
    int thread, threads;
    int step, share, held; /* share: how many shares have been used up; held: items taken and not yet in the sum */
} Worker;

/* Memory for the steps of a pass, zeros; NULL where there is none. */
static Counter *counters_of(int steps, int threads) { return calloc((size_t)steps * (1 + threads), sizeof(Counter)); }

/* The calling thread of a parallel region; the number of threads may be smaller than asked for. */
static Worker worker_of(Counter *counters) {
    return (Worker){counters, omp_get_thread_num(), omp_get_num_threads(), 0, 0, 0};
}

/* 1 and the next items first <= i < last of the current step; 0 when all `count` are done, and the next step begins. */
static int take(Worker *worker, int count, int *first, int *last) {
    const int threads = worker->threads;
    Counter *done = worker->counters + (size_t)worker->step * (1 + threads), *next = done + 1;
    for (; worker->share < threads; worker->share++) {
        const int owner = (worker->thread + worker->share) % threads;
        const int begin = (int)((int64_t)count * owner / threads), end = (int)((int64_t)count * (owner + 1) / threads);
        const int some = end - begin < 16 ? 1 : (end - begin) / 16;
        if (begin == end || __atomic_load_n(&next[owner].value, __ATOMIC_RELAXED) >= end - begin) continue;
        *first = begin + __atomic_fetch_add(&next[owner].value, some, __ATOMIC_RELAXED);
        if (*first >= end) continue;
        *last = *first + some < end ? *first + some : end;
        worker->held += *last - *first;
        return 1;
    }
    if (worker->held) __atomic_fetch_add(&done->value, worker->held, __ATOMIC_ACQ_REL);
    for (int spin = 0; __atomic_load_n(&done->value, __ATOMIC_ACQUIRE) < count; spin++) {
        if (spin > SPINS) sched_yield();
#ifdef __SSE2__
        else __builtin_ia32_pause();
#endif
    }
    worker->step++;
    worker->share = worker->held = 0;
    return 0;
}

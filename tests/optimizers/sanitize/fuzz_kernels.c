/* Random steps through kernels.c in buffers of exactly the size that it may touch, watched by the sanitizers.

       fuzz_kernels SECONDS SEED

   Case i uses SEED + i, so `fuzz_kernels 0 SEED` repeats the one case that a failure names. Besides what the sanitizers
   see, two runs of each case, one with a single thread and other rubbish in the scratch buffers, must end in the same
   bits, and what the kernel only reads must stay as it was. */

#ifndef KERNELS
#define KERNELS "../../../trainables/optimizers/kernels.c"
#endif
#include KERNELS

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROWS = 4, MAX_LAYERS = 6, MAX_THREADS = 4 };
_Static_assert(sizeof(Row) == 8 * sizeof(double), "fused.py passes 8 doubles a row");
_Static_assert(sizeof(Sums) == 5 * sizeof(double), "fused.py has room for 5 doubles a block");
_Static_assert(BLOCK == 4096, "fused.py has room for blocks of 4096");

typedef struct {
    int rule, rows, layers, threads;
    int64_t ends[MAX_LAYERS], largest, size;
} Case;

typedef struct {
    float *w, *m, *v, *g[MAX_LAYERS], *radii;
    Row *hyper;
    int64_t *ends;
    double *squares;
} Buffers;

static uint64_t seed, state;

static uint64_t next(void) { /* splitmix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t below(int64_t n) { return (int64_t)(next() % (uint64_t)n); }

static double uniform(void) { return (double)(next() >> 11) / 9007199254740992.0; }

static void name_case(void) {
    fprintf(stderr, "repeat this case: fuzz_kernels 0 %llu\n", (unsigned long long)seed);
}

/* Both sanitizers abort at what they find; the kernels allocate nothing that could leak. */
const char *__asan_default_options(void) { return "abort_on_error=1:detect_leaks=0"; }

const char *__ubsan_default_options(void) { return "abort_on_error=1:print_stacktrace=1"; }

static void aborted(int signal) {
    (void)signal;
    name_case();
    _Exit(1);
}

static void fail(const char *reason) {
    fprintf(stderr, "kernels.c: %s\n", reason);
    name_case();
    exit(1);
}

/* malloc'ed to the byte, so that the sanitizer sees the first element too many. */
static void *bytes(size_t size) {
    void *room = malloc(size);
    if (room == NULL)
        fail("out of memory");
    return room;
}

static void *copy(const void *from, size_t size) { return size ? memcpy(bytes(size), from, size) : bytes(0); }

static int64_t layer_size(void) {
    switch (below(16)) {
    case 0: return below(4); /* 0 as well: a parameter may be empty */
    case 1: return BLOCK * (1 + below(3)) - 1 + below(3);
    case 2: return PARALLEL - 1 + below(3);
    case 3: return PARALLEL + below(2 * BLOCK);
    default: return 1 + below(10000);
    }
}

static Case new_case(void) {
    Case c = {.rule = (int)below(3), .rows = 1 + (int)below(MAX_ROWS), .layers = 1 + (int)below(MAX_LAYERS)};
    c.threads = 1 + (int)below(MAX_THREADS);
    for (int i = 0; i < c.layers; i++) {
        const int64_t n = layer_size();
        c.largest = n > c.largest ? n : c.largest;
        c.ends[i] = c.size += n;
    }
    return c;
}

/* Ordinary numbers, all zero, huge, subnormal, or ordinary ones with some that are not finite. */
static float *numbers(int64_t n) {
    float *x = bytes((size_t)n * sizeof(float));
    const int kind = (int)below(8);
    const double scale = kind == 0 ? 0 : kind == 1 ? 1e38 : kind == 2 ? 1e-44 : 1;
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((2 * uniform() - 1) * scale);
    for (int64_t i = kind == 3 ? 1 + below(3) : 0; i > 0 && n > 0; i--)
        x[below(n)] = below(2) ? NAN : below(2) ? INFINITY : -INFINITY;
    return x;
}

static Row row_numbers(void) {
    static const double rates[] = {0, 1e-3, 0.1, 10, 1e30, NAN};
    const double t = 1 + (double)below(1000), beta1 = uniform(), beta2 = uniform();
    return (Row){rates[below(6)], below(2) ? 0 : uniform(), uniform(), beta1, beta2, below(3) ? 1e-6 : 0,
                 1 / (1 - pow(beta1, t)), 1 / (1 - pow(beta2, t))};
}

static Buffers new_buffers(const Case *c) {
    const int64_t all = c->rows * c->size;
    Buffers b = {.w = numbers(all), .m = numbers(all), .squares = bytes((size_t)c->rows * sizeof(double))};
    b.v = c->rule == SGD ? b.m : numbers(all);
    for (int64_t i = 0; c->rule != SGD && i < all; i++)
        b.v[i] = fabsf(b.v[i]);
    for (int i = 0; i < c->layers; i++)
        b.g[i] = numbers(c->rows * (c->ends[i] - (i ? c->ends[i - 1] : 0)));
    b.radii = bytes((size_t)(c->rows * c->layers) * sizeof(float));
    for (int i = 0; i < c->rows * c->layers; i++) {
        static const float others[] = {0, -1, NAN, INFINITY};
        b.radii[i] = below(4) ? (float)(below(2) * uniform() * 100) : others[below(4)];
    }
    b.hyper = bytes((size_t)c->rows * sizeof(Row));
    for (int i = 0; i < c->rows; i++)
        b.hyper[i] = row_numbers();
    b.ends = copy(c->ends, (size_t)c->layers * sizeof(int64_t));
    return b;
}

static Buffers copied(const Case *c, const Buffers *b) {
    const size_t all = (size_t)(c->rows * c->size) * sizeof(float);
    Buffers other = {.w = copy(b->w, all), .m = copy(b->m, all), .squares = bytes((size_t)c->rows * sizeof(double))};
    other.v = c->rule == SGD ? other.m : copy(b->v, all);
    for (int i = 0; i < c->layers; i++)
        other.g[i] = copy(b->g[i], (size_t)(c->rows * (c->ends[i] - (i ? c->ends[i - 1] : 0))) * sizeof(float));
    other.radii = copy(b->radii, (size_t)(c->rows * c->layers) * sizeof(float));
    other.hyper = copy(b->hyper, (size_t)c->rows * sizeof(Row));
    other.ends = copy(b->ends, (size_t)c->layers * sizeof(int64_t));
    return other;
}

static void release(const Case *c, Buffers *b) {
    if (b->v != b->m)
        free(b->v);
    free(b->w), free(b->m), free(b->radii), free(b->hyper), free(b->ends), free(b->squares);
    for (int i = 0; i < c->layers; i++)
        free(b->g[i]);
}

static void step(const Case *c, Buffers *b, int threads, int rubbish) {
    const int64_t blocks = (c->largest + BLOCK - 1) / BLOCK;
    float *r = bytes((size_t)c->largest * sizeof(float));
    Sums *sums = bytes((size_t)blocks * sizeof(Sums));
    memset(r, rubbish, (size_t)c->largest * sizeof(float));
    memset(sums, rubbish, (size_t)blocks * sizeof(Sums));
    const float *g[MAX_LAYERS];
    memcpy(g, b->g, sizeof g);
    const float **exact = copy(g, (size_t)c->layers * sizeof *g);
    lawn_tune_step(c->rule, c->rows, c->layers, b->ends, b->w, b->m, b->v, exact, b->hyper, b->radii, r, sums,
                   b->squares, threads);
    free(exact), free(r), free(sums);
}

static void check_case(void) {
    const Case c = new_case();
    Buffers start = new_buffers(&c), one = copied(&c, &start), other = copied(&c, &start);
    const size_t all = (size_t)(c.rows * c.size) * sizeof(float);
    step(&c, &one, 1, 0xff); /* every byte set is NaN, in float and in double */
    step(&c, &other, c.threads, 0x3f);
    if (memcmp(one.w, other.w, all) || memcmp(one.m, other.m, all) || memcmp(one.v, other.v, all) ||
        memcmp(one.squares, other.squares, (size_t)c.rows * sizeof(double)))
        fail("the result depends on the number of threads or on what was in the scratch buffers");
    for (int i = 0; i < c.layers; i++)
        if (memcmp(one.g[i], start.g[i], (size_t)(c.rows * (c.ends[i] - (i ? c.ends[i - 1] : 0))) * sizeof(float)))
            fail("a gradient was written to");
    if (memcmp(one.radii, start.radii, (size_t)(c.rows * c.layers) * sizeof(float)) ||
        memcmp(one.hyper, start.hyper, (size_t)c.rows * sizeof(Row)))
        fail("radii or hyperparameters were written to");
    release(&c, &start), release(&c, &one), release(&c, &other);
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: fuzz_kernels SECONDS SEED\n");
        return 2;
    }
    const double seconds = atof(arguments[1]);
    const uint64_t first = strtoull(arguments[2], NULL, 10);
    struct timespec began, now;
    clock_gettime(CLOCK_MONOTONIC, &began);
    signal(SIGABRT, aborted);
    seed = first;
    do {
        state = seed;
        check_case();
        seed++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - began.tv_sec) + 1e-9 * (double)(now.tv_nsec - began.tv_nsec) < seconds);
    printf("kernels.c: %llu steps of random shapes, nothing found\n", (unsigned long long)(seed - first));
    return 0;
}

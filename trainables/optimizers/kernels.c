/* One optimizer step of stacked models, in as few passes over memory as the rule allows.

   rules.py defines the computation; symbols and line numbers are the same. A layer that LAWN holds takes three passes: the
   sums of its projection, the slots with the sums of the direction, the weights. Its norm after the step needs no pass,
   as the projected direction is orthogonal to the weights:

       |w - lr P r|^2 = |w|^2 + lr^2 |P r|^2

   Sums are taken over blocks of fixed length in single precision, then over the blocks in order in double precision:
   a result does not depend on the number of threads or on other rows. */

#include <math.h>
#include <stdint.h>

enum { SGD, ADAM, LAMB };
enum { BLOCK = 4096, PARALLEL = 65536 };

#define MIN(a, b) ((a) < (b) ? (a) : (b))
/* Blocks of a layer of PARALLEL weights or more are spread over threads; their assignment does not change results. */

/* The numbers of one row; bias1 and bias2 are the factors 1/(1 - beta^t) of line 7. */
typedef struct {
    double lr, weight_decay, momentum, beta1, beta2, eps, bias1, bias2;
} Row;

/* Scalar products of a layer's weights, gradient and direction; each pass sets those it has. */
typedef struct {
    double wg, ww, gg, wr, rr;
} Sums;

/* One layer of one row. m is SGD's buffer too, v is Adam's alone; r holds the direction between two passes. */
typedef struct {
    int64_t n;
    float *w, *m, *v, *r;
    const float *g;
    Sums *sums; /* one for each block */
    int threads;
} Layer;

static Sums total(const Layer *x) {
    Sums all = {0};
    for (int64_t b = 0; b * BLOCK < x->n; b++) {
        all.wg += x->sums[b].wg;
        all.ww += x->sums[b].ww;
        all.gg += x->sums[b].gg;
        all.wr += x->sums[b].wr;
        all.rr += x->sums[b].rr;
    }
    return all;
}

/* w.g, w.w and g.g of one block. */
static Sums block_sums(int64_t n, const float *w, const float *g) {
    float wg = 0, ww = 0, gg = 0;
#pragma omp simd reduction(+ : wg, ww, gg)
    for (int64_t i = 0; i < n; i++) {
        wg += w[i] * g[i];
        ww += w[i] * w[i];
        gg += g[i] * g[i];
    }
    return (Sums){.wg = wg, .ww = ww, .gg = gg};
}

/* w.g, w.w and g.g of a whole layer. */
static Sums sums_of(const Layer *x) {
    const int64_t n = x->n;
#pragma omp parallel for num_threads(x->threads) if (n >= PARALLEL)
    for (int64_t start = 0; start < n; start += BLOCK)
        x->sums[start / BLOCK] = block_sums(MIN(BLOCK, n - start), x->w + start, x->g + start);
    return total(x);
}

/* y.y for the weights or the direction of a whole layer. */
static double square_of(const Layer *x, const float *y) {
    double yy = 0;
    for (int64_t start = 0; start < x->n; start += BLOCK)
        yy += block_sums(MIN(BLOCK, x->n - start), y + start, y + start).ww;
    return yy;
}

/* Lines 4 to 8 for one weight with d = g - pull*w, or SGD's L2 with pull = -decay: its slots, and the direction. */
static inline float sgd(Row h, float pull, float w, float g, float *m) {
    return *m = (float)h.momentum * *m + (g - pull * w);
}

static inline float adam(Row h, float pull, float decay, float w, float g, float *m, float *v) {
    const float d = g - pull * w;
    *m = (float)h.beta1 * *m + (float)(1 - h.beta1) * d;
    *v = (float)h.beta2 * *v + (float)(1 - h.beta2) * d * d;
    return (float)h.bias1 * *m / (sqrtf((float)h.bias2 * *v) + (float)h.eps) + decay * w;
}

/* The direction of one block into r, with w.r and r.r, and for LAMB also w.w and g.g. */
static Sums sgd_direction(Row h, float pull, int64_t n, const float *restrict w, const float *restrict g,
                          float *restrict m, float *restrict r) {
    float wr = 0, rr = 0;
#pragma omp simd reduction(+ : wr, rr)
    for (int64_t i = 0; i < n; i++) {
        const float direction = r[i] = sgd(h, pull, w[i], g[i], m + i);
        wr += w[i] * direction;
        rr += direction * direction;
    }
    return (Sums){.wr = wr, .rr = rr};
}

static Sums adam_direction(Row h, float pull, float decay, int64_t n, const float *restrict w,
                           const float *restrict g, float *restrict m, float *restrict v, float *restrict r) {
    float ww = 0, gg = 0, wr = 0, rr = 0;
#pragma omp simd reduction(+ : ww, gg, wr, rr)
    for (int64_t i = 0; i < n; i++) {
        const float direction = r[i] = adam(h, pull, decay, w[i], g[i], m + i, v + i);
        wr += w[i] * direction;
        rr += direction * direction;
        ww += w[i] * w[i];
        gg += g[i] * g[i];
    }
    return (Sums){.ww = ww, .gg = gg, .wr = wr, .rr = rr};
}

/* A whole step of one block without LAWN; returns g.g. */
static float sgd_block(Row h, int64_t n, float *restrict w, const float *restrict g, float *restrict m) {
    float gg = 0;
#pragma omp simd reduction(+ : gg)
    for (int64_t i = 0; i < n; i++) {
        w[i] -= (float)h.lr * sgd(h, (float)-h.weight_decay, w[i], g[i], m + i);
        gg += g[i] * g[i];
    }
    return gg;
}

static float adam_block(Row h, int64_t n, float *restrict w, const float *restrict g, float *restrict m,
                        float *restrict v) {
    float gg = 0;
#pragma omp simd reduction(+ : gg)
    for (int64_t i = 0; i < n; i++) {
        w[i] -= (float)h.lr * adam(h, 0, (float)h.weight_decay, w[i], g[i], m + i, v + i);
        gg += g[i] * g[i];
    }
    return gg;
}

/* w <- keep*w - move*r for one block. */
static void move_block(int64_t n, float keep, float move, float *restrict w, const float *restrict r) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        w[i] = keep * w[i] - move * r[i];
}

static void move(const Layer *x, double keep, double step) {
    const int64_t n = x->n;
#pragma omp parallel for num_threads(x->threads) if (n >= PARALLEL)
    for (int64_t start = 0; start < n; start += BLOCK)
        move_block(MIN(BLOCK, n - start), (float)keep, (float)step, x->w + start, x->r + start);
}

/* The direction of a whole layer into r, with its sums. */
static Sums make_direction(int rule, const Row *h, const Layer *x, double pull, double decay) {
    const int64_t n = x->n;
#pragma omp parallel for num_threads(x->threads) if (n >= PARALLEL)
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t size = MIN(BLOCK, n - start);
        const float *w = x->w + start, *g = x->g + start;
        float *m = x->m + start, *r = x->r + start;
        x->sums[start / BLOCK] =
            rule == SGD ? sgd_direction(*h, (float)pull, size, w, g, m, r)
                        : adam_direction(*h, (float)pull, (float)decay, size, w, g, m, x->v + start, r);
    }
    return total(x);
}

/* SGD and Adam without LAWN: one pass. Each step returns g.g. */
static double plain_step(int rule, const Row *h, const Layer *x) {
    const int64_t n = x->n;
#pragma omp parallel for num_threads(x->threads) if (n >= PARALLEL)
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t size = MIN(BLOCK, n - start);
        float *w = x->w + start, *m = x->m + start;
        const float *g = x->g + start;
        const float gg = rule == SGD ? sgd_block(*h, size, w, g, m) : adam_block(*h, size, w, g, m, x->v + start);
        x->sums[start / BLOCK] = (Sums){.gg = gg};
    }
    return total(x).gg;
}

static double trust_ratio(double ww, double rr) {
    return ww > 0 && rr > 0 ? sqrt(ww / rr) : 1;
}

static double lamb_step(const Row *h, const Layer *x) {
    const Sums sums = make_direction(LAMB, h, x, 0, h->weight_decay);
    move(x, 1, h->lr * trust_ratio(sums.ww, sums.rr));
    return sums.gg;
}

static double rescaling(double norm, double c) {
    return !isfinite(norm) ? NAN : norm == 0 ? c : c / norm;
}

/* Lines 9 to 11 with the projection and the norm computed directly, as rules.py does. */
static void careful_move(int rule, const Row *h, const Layer *x, double along, double ww, double c) {
    for (int64_t i = 0; i < x->n; i++)
        x->r[i] -= (float)along * x->w[i];
    const double lr = rule == LAMB ? h->lr * trust_ratio(ww, square_of(x, x->r)) : h->lr;
    move(x, 1, lr);
    move(x, rescaling(sqrt(square_of(x, x->w)), c), 0);
}

/* Algorithm 1 for a layer whose norm is held at c. */
static double held_step(int rule, const Row *h, const Layer *x, double c) {
    const Sums before = sums_of(x);
    const double ww = before.ww, per_ww = ww == 0 ? 1 : 1 / ww;
    const Sums r = make_direction(rule, h, x, before.wg * per_ww, 0);   /* 4-8 */
    const double along = r.wr * per_ww, across = r.rr - along * r.wr;   /* 9: P r = r - along*w, |P r|^2 */
    if (across < 1e-3 * r.rr) { /* r lies along w, and the difference of the two would be rounding error */
        careful_move(rule, h, x, along, ww, c);
        return before.gg;
    }
    const double lr = rule == LAMB ? h->lr * trust_ratio(ww, across) : h->lr;
    const double scale = rescaling(sqrt(ww + lr * lr * across), c);
    move(x, scale * (1 + lr * along), scale * lr); /* 10, 11 */
    return before.gg;
}

/* Makes one step in place.

   rule: SGD, ADAM or LAMB; rows: R; layers: L; ends[L]: their ends in a row of ends[L-1] weights.
   w, m, v: [R, P]; v is not read for SGD. gradients: one pointer for each layer, to [R, size of the layer].
   hyper: one Row for each row; radii: [R, L], c where LAWN holds the layer, 0 where not.
   r: buffer for the largest layer; sums: buffer for its blocks.
   squares: [R], the squared norms of the gradients. */
void lawn_tune_step(int rule, int64_t rows, int64_t layers, const int64_t *ends, float *w, float *m, float *v,
                    const float *const *gradients, const Row *hyper, const float *radii, float *r, Sums *sums,
                    double *squares, int threads) {
    const int64_t size = ends[layers - 1];
    for (int64_t row = 0; row < rows; row++) {
        squares[row] = 0;
        for (int64_t layer = 0; layer < layers; layer++) {
            const int64_t begin = layer ? ends[layer - 1] : 0, n = ends[layer] - begin, at = row * size + begin;
            const Layer x = {n, w + at, m + at, v + at, r, gradients[layer] + row * n, sums, threads};
            const float c = radii[row * layers + layer];
            if (c > 0)
                squares[row] += held_step(rule, hyper + row, &x, c);
            else if (rule == LAMB)
                squares[row] += lamb_step(hyper + row, &x);
            else
                squares[row] += plain_step(rule, hyper + row, &x);
        }
    }
}

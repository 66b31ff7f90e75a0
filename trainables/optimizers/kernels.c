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

typedef struct {
    double xy, xx, yy;
} Sums;

/* One layer of one row. m is SGD's buffer too, v is Adam's alone; r holds the direction between two passes. */
typedef struct {
    int64_t n;
    float *w, *m, *v, *r;
    const float *g;
    Sums *sums; /* one for each block */
    int threads;
} Layer;

/* x.y, x.x and y.y of one block. */
static Sums block_sums(const float *x, const float *y, int64_t n) {
    float xy = 0, xx = 0, yy = 0;
#pragma omp simd reduction(+ : xy, xx, yy)
    for (int64_t i = 0; i < n; i++) {
        xy += x[i] * y[i];
        xx += x[i] * x[i];
        yy += y[i] * y[i];
    }
    return (Sums){xy, xx, yy};
}

static Sums total(const Layer *x) {
    Sums all = {0, 0, 0};
    for (int64_t b = 0; b * BLOCK < x->n; b++) {
        all.xy += x->sums[b].xy;
        all.xx += x->sums[b].xx;
        all.yy += x->sums[b].yy;
    }
    return all;
}

/* x.y, x.x and y.y of a whole layer. */
static Sums sums_of(const Layer *layer, const float *x, const float *y) {
    const int64_t n = layer->n;
#pragma omp parallel for num_threads(layer->threads) if (n >= PARALLEL)
    for (int64_t start = 0; start < n; start += BLOCK)
        layer->sums[start / BLOCK] = block_sums(x + start, y + start, MIN(BLOCK, n - start));
    return total(layer);
}

/* Lines 5 to 8 for one block: slots and direction r from d = g - pull*w (line 4), or SGD's L2 with pull = -decay. */
static void sgd_block(const Row *h, float pull, int64_t n, const float *restrict w, const float *restrict g,
                      float *restrict m, float *restrict r) {
    const float momentum = (float)h->momentum;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        m[i] = momentum * m[i] + (g[i] - pull * w[i]);
        r[i] = m[i];
    }
}

static void adam_block(const Row *h, float pull, float decay, int64_t n, const float *restrict w,
                       const float *restrict g, float *restrict m, float *restrict v, float *restrict r) {
    const float beta1 = (float)h->beta1, beta2 = (float)h->beta2, eps = (float)h->eps;
    const float rest1 = (float)(1 - h->beta1), rest2 = (float)(1 - h->beta2);
    const float bias1 = (float)h->bias1, bias2 = (float)h->bias2;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float d = g[i] - pull * w[i];
        m[i] = beta1 * m[i] + rest1 * d;
        v[i] = beta2 * v[i] + rest2 * d * d;
        r[i] = bias1 * m[i] / (sqrtf(bias2 * v[i]) + eps) + decay * w[i];
    }
}

static void direction_block(int rule, const Row *h, const Layer *x, int64_t start, float pull, float decay, float *r) {
    const int64_t n = MIN(BLOCK, x->n - start);
    if (rule == SGD)
        sgd_block(h, pull, n, x->w + start, x->g + start, x->m + start, r);
    else
        adam_block(h, pull, decay, n, x->w + start, x->g + start, x->m + start, x->v + start, r);
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

/* The direction of a whole layer into r; returns w.r, w.w and r.r. */
static Sums make_direction(int rule, const Row *h, const Layer *x, double pull, double decay) {
    const int64_t n = x->n;
#pragma omp parallel for num_threads(x->threads) if (n >= PARALLEL)
    for (int64_t start = 0; start < n; start += BLOCK) {
        direction_block(rule, h, x, start, (float)pull, (float)decay, x->r + start);
        x->sums[start / BLOCK] = block_sums(x->w + start, x->r + start, MIN(BLOCK, n - start));
    }
    return total(x);
}

/* SGD and Adam without LAWN: one pass, with the direction in the cache. Each step returns g.g. */
static double plain_step(int rule, const Row *h, const Layer *x) {
    const int64_t n = x->n;
    const float pull = rule == SGD ? (float)-h->weight_decay : 0;
#pragma omp parallel for num_threads(x->threads) if (n >= PARALLEL)
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t size = MIN(BLOCK, n - start);
        float r[BLOCK];
        direction_block(rule, h, x, start, pull, (float)h->weight_decay, r);
        x->sums[start / BLOCK] = block_sums(x->g + start, x->g + start, size);
        move_block(size, 1, (float)h->lr, x->w + start, r);
    }
    return total(x).xx;
}

static double trust_ratio(double ww, double uu) {
    return ww > 0 && uu > 0 ? sqrt(ww / uu) : 1;
}

static double lamb_step(const Row *h, const Layer *x) {
    const Sums before = sums_of(x, x->w, x->g), u = make_direction(LAMB, h, x, 0, h->weight_decay);
    move(x, 1, h->lr * trust_ratio(before.xx, u.yy));
    return before.yy;
}

static double rescaling(double norm, double c) {
    return !isfinite(norm) ? NAN : norm == 0 ? c : c / norm;
}

/* Lines 9 to 11 with the projection and the norm computed directly, as rules.py does. */
static void careful_move(int rule, const Row *h, const Layer *x, double along, double ww, double c) {
    for (int64_t i = 0; i < x->n; i++)
        x->r[i] -= (float)along * x->w[i];
    const double lr = rule == LAMB ? h->lr * trust_ratio(ww, sums_of(x, x->r, x->r).xx) : h->lr;
    move(x, 1, lr);
    move(x, rescaling(sqrt(sums_of(x, x->w, x->w).xx), c), 0);
}

/* Algorithm 1 for a layer whose norm is held at c. */
static double held_step(int rule, const Row *h, const Layer *x, double c) {
    const Sums before = sums_of(x, x->w, x->g);
    const double ww = before.xx, per_ww = ww == 0 ? 1 : 1 / ww;
    const Sums r = make_direction(rule, h, x, before.xy * per_ww, 0);     /* 4-8 */
    const double along = r.xy * per_ww, across = r.yy - along * r.xy;     /* 9: P r = r - along*w, |P r|^2 */
    if (across < 1e-3 * r.yy) { /* r lies along w, and the difference of the two would be rounding error */
        careful_move(rule, h, x, along, ww, c);
        return before.yy;
    }
    const double lr = rule == LAMB ? h->lr * trust_ratio(ww, across) : h->lr;
    const double scale = rescaling(sqrt(ww + lr * lr * across), c);
    move(x, scale * (1 + lr * along), scale * lr); /* 10, 11 */
    return before.yy;
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

/* The focal losses of logits in memory, and their gradients, in one pass.

   compiled.py calls `focal_sigmoid` and `focal_softmax` through ctypes where the package could
   compile them when it was installed. Logits are float or double; all arithmetic is in double
   and is rounded once, when it is stored. An element's result depends on that element alone (in the
   softmax loss, on its row), and sums are taken in an order of their own: neighbours, blocks and
   threads change no bit. For that the compiler must round as C says: no -ffast-math, and no
   contraction.

   In the names z is a margin, log(p / q), p = sigma(z) the probability of what came out, q = 1 - p,
   u = -log p. The loss is f(z) = q^gamma u; -f'(z) = q^gamma (q + gamma p u) is called slope. */

#define _DEFAULT_SOURCE /* madvise */
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__x86_64__) && defined(__GLIBC__) && __GNUC__ >= 12 && !defined(__clang__)
#define VECTORS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTORS
#endif
#define INLINE static inline __attribute__((always_inline))

/* What compiled.py checks before it calls: to be raised with every change of the arguments. */
enum { INTERFACE = 3 };
int focal_interface(void) { return INTERFACE; }

typedef struct {
    const void *x, *y;        /* logits; targets in [0, 1], or class probabilities, or NULL */
    const int64_t *index;     /* softmax: the class of each row, or NULL */
    const double *one, *zero; /* weights of label 1 and 0; softmax: of the classes, or NULL */
    void *loss, *gradient;    /* room for them, or NULL */
    int64_t count, classes;   /* elements, or rows; classes, or the length of `one` and `zero` */
    int64_t inner;            /* sigmoid: element i has the weights (i / inner) % classes */
    int64_t ignored_index;
    double gamma, smoothing;
    double share, unit;       /* factors on the gradient, and on the sum of the losses */
    double ignored;           /* a target that is left out; NaN for none */
    double total;             /* result: the sum of the losses */
    int wide;                 /* whether x, loss and gradient are double, not float */
    int kind;                 /* of y: one of those below */
    int threads;
} Focal;
enum { FLOAT, DOUBLE, BYTE, INTEGER };
/* What a kernel returns: 0, or bits of these. */
enum { BAD_TARGET = 1, NO_MEMORY = 2 };

enum { BLOCK = 512, CHUNK = 1 << 13, LANES = 8, MOST_THREADS = 64 };

/* How exact: for results in float; in double; in double where gamma multiplies errors of log q. */
enum { NARROW, WIDE, WIDER };
enum { ANY = -1 };             /* gamma, if it is not 0, 1 or 2 */
static const double MODERATE = 4.0; /* the largest gamma of which WIDE will do */

/* --- Functions of a number -------------------------------------------------------------------- */

/* Exponentials are kept times 2^996: down to e^-1398 they are normal, which a weight may make of
   them in the end, and many of them have a sum. */
#define UP 0x1p996
#define DOWN 0x1p-996
#define LEAST (-1398.0)
#define LOG2_HI 0x1.62e42fefa3800p-1 /* a multiple of 2^-42 */
#define LOG2_LO 0x1.ef35793c76730p-45

typedef struct { double hi, lo; } Two; /* a number in two parts */

INLINE Two two_sum(double a, double b) { /* exact (Knuth) */
    double s = a + b, shift = s - a;
    return (Two){s, (a - (s - shift)) + (b - shift)};
}

INLINE Two fast_two_sum(double a, double b) { /* exact for |a| >= |b| (Dekker) */
    double s = a + b;
    return (Two){s, b - (s - a)};
}

/* 2^996 e^(a + b), for a <= 0 and a b that is small beside 1. With a = n log 2 + r it is a power of
   2 times a polynomial, of minimax error 3e-9 or 5e-11, without b and at least e^-1398; or 4e-18,
   and 0 below. */
INLINE double exponential(double a, double b, int degree) {
    double c = a < LEAST ? LEAST : a;
    union { double f; int64_t i; } n = {fma(c, 0x1.71547652b82fep0, 0x1.8p52)}, power;
    double whole = n.f - 0x1.8p52, r = fma(whole, -LOG2_HI, c), y;
    r = fma(whole, -LOG2_LO, r);
    if (degree > 7) r += a < LEAST ? 0.0 : b;
    if (degree == 6) {
        y = fma(0.0013814601923009231, r, 0.00836871716879765927);
        y = fma(y, r, 0.0416683879820867841);
        y = fma(y, r, 0.166665206286817867);
        y = fma(y, r, 0.499999934481346366);
    } else if (degree == 7) {
        y = fma(0.000197904782700521957, r, 0.00139446596367171788);
        y = fma(y, r, 0.00833349683818875931);
        y = fma(y, r, 0.041666294948095809);
        y = fma(y, r, 0.166666658698193935);
        y = fma(y, r, 0.500000006768250402);
    } else {
        y = fma(2.50000666264774653e-8, r, 2.7630248368472882e-7);
        y = fma(y, r, 2.75575863535222782e-6);
        y = fma(y, r, 0.0000248014930990256496);
        y = fma(y, r, 0.00019841269506607021);
        y = fma(y, r, 0.00138888889436299262);
        y = fma(y, r, 0.00833333333349444591);
        y = fma(y, r, 0.0416666666665301594);
        y = fma(y, r, 0.166666666666664126);
        y = fma(y, r, 0.500000000000001063);
    }
    y = fma(y * r, r, r) + 1.0;
    power.i = (int64_t)((uint64_t)(n.i + 1023 + 996) << 52); /* if n is NaN, so is y */
    return degree > 7 && a < LEAST ? 0.0 : y * power.f;
}

/* The same in two parts, good to about 2^-60. */
INLINE Two exponential_in_two(double a, double b) {
    double c = a < LEAST ? LEAST : a;
    union { double f; int64_t i; } n = {fma(c, 0x1.71547652b82fep0, 0x1.8p52)}, power;
    double whole = n.f - 0x1.8p52;
    Two r = two_sum(fma(whole, -LOG2_HI, c), fma(whole, -LOG2_LO, a < LEAST ? 0.0 : b));
    double y = fma(2.08385101571858572e-9, r.hi, 2.51112441904728466e-8);
    y = fma(y, r.hi, 2.75575260886962881e-7);
    y = fma(y, r.hi, 2.75572374624137222e-6);
    y = fma(y, r.hi, 0.000024801587025628983);
    y = fma(y, r.hi, 0.000198412698933316145);
    y = fma(y, r.hi, 0.00138888888890332433);
    y = fma(y, r.hi, 0.00833333333331853303);
    y = fma(y, r.hi, 0.0416666666666664109);
    y = fma(y, r.hi, 0.166666666666666809);
    double square = r.hi * r.hi;
    double rest = fma(0.5, fma(r.hi, r.hi, -square), r.hi * r.lo); /* of r^2 / 2 */
    Two sum = fast_two_sum(1.0, r.hi), more = fast_two_sum(sum.hi, 0.5 * square);
    rest = fma(y * r.hi, square, rest) + (r.lo + (sum.lo + more.lo));
    Two e = fast_two_sum(more.hi, rest);
    power.i = (int64_t)((uint64_t)(n.i + 1023 + 996) << 52);
    double factor = a < LEAST ? 0.0 : power.f;
    return (Two){e.hi * factor, e.lo * factor};
}

/* With s = g / (2 + g), log(1 + g) = 2 atanh s = 2 s + s w R(w), w = s^2 <= 0.04. */
INLINE double atanh_rest(double w) {
    double y = fma(0.138442315521075107, w, 0.131734190256630988);
    y = fma(y, w, 0.153911229947650903);
    y = fma(y, w, 0.181816655241932427);
    y = fma(y, w, 0.222222243026412501);
    y = fma(y, w, 0.285714285557698481);
    y = fma(y, w, 0.400000000000569438);
    return fma(y, w, 0.666666666666665959);
}

/* log(1 + g), -.25 <= g <= .5, in two parts. */
INLINE Two log_near_one(Two g) {
    Two d = fast_two_sum(2.0, g.hi);
    double over = 1.0 / d.hi, s = g.hi * over;
    double left = (fma(-s, d.hi, g.hi) + fma(-s, d.lo + g.lo, g.lo)) * over;
    double w = s * s;
    return fast_two_sum(2.0 * s, fma(s * w, atanh_rest(w), 2.0 * left));
}

/* log(1 + e), 0 <= e <= 1, and 1 / (1 + e); one division serves both. In mode NARROW it is of
   s = e / (2 + e), w <= 1 / 9, to 1e-10; else the logarithm is k log 2 + log(1 + g). */
INLINE double log_one_plus(double e, double *inverse, int mode) {
    double k = mode != NARROW && e > 0.5 ? 1.0 : 0.0;
    double g = mode == NARROW ? e : (e - k) * (1.0 - 0.5 * k); /* a choice would be made a branch */
    double a = 1.0 + e, b = 2.0 + g, both = 1.0 / (a * b), s = g * a * both, w = s * s;
    *inverse = b * both;
    if (mode != NARROW) return fma(k, 0x1.62e42fefa39efp-1, fma(s * w, atanh_rest(w), 2.0 * s));
    double y = fma(0.243016859169396107, w, 0.214274668313032134);
    y = fma(y, w, 0.286169016390389888);
    y = fma(y, w, 0.399988771473266515);
    y = fma(y, w, 0.666666756288671522);
    return fma(s * w, y, 2.0 * s);
}

INLINE Two log_one_plus_in_two(Two e) {
    double k = e.hi > 0.5 ? 1.0 : 0.0;
    double unit = 1.0 - 0.5 * k;
    Two l = log_near_one((Two){(e.hi - k) * unit, e.lo * unit});
    Two sum = two_sum(k * LOG2_HI, l.hi);
    return fast_two_sum(sum.hi, sum.lo + fma(k, LOG2_LO, l.lo));
}

/* log(2^-996 a), a in two parts, as n log 2 + log m, 3/4 <= m < 3/2: the first part of n log 2, and
   what is left, in two parts of which mode NARROW and WIDE leave the second 0. */
INLINE double log_of(Two a, int mode, Two *rest) {
    union { double f; int64_t i; } bits = {a.hi}, m, down;
    int64_t k = (bits.i - 0x3fe8000000000000) >> 52;
    m.i = bits.i - (int64_t)((uint64_t)k << 52);
    down.i = (int64_t)((uint64_t)(1023 - k) << 52);
    double n = (double)(k - 996);
    Two l = log_near_one((Two){m.f - 1.0, a.lo * down.f});
    Two sum = two_sum(n * LOG2_LO, l.hi);
    *rest = mode == WIDER ? fast_two_sum(sum.hi, sum.lo + l.lo) : (Two){sum.hi, 0.0};
    return n * LOG2_HI;
}

INLINE Two plus(Two a, Two b) {
    Two s = two_sum(a.hi, b.hi);
    return (Two){s.hi, s.lo + a.lo + b.lo};
}

/* A sum in a fixed order, LANES apart; if exact with what was rounded off. */
INLINE Two sum(const double *v, int64_t count, int exact) {
    double total[LANES] = {0}, left[LANES] = {0};
    const int64_t whole = count / LANES * LANES;
    if (exact) {
        for (int64_t i = 0; i < whole; i += LANES)
            for (int k = 0; k < LANES; k++) {
                Two s = two_sum(total[k], v[i + k]);
                total[k] = s.hi;
                left[k] += s.lo;
            }
        for (int k = 0; k < count - whole; k++) {
            Two s = two_sum(total[k], v[whole + k]);
            total[k] = s.hi;
            left[k] += s.lo;
        }
        for (int n = LANES / 2; n; n /= 2)
            for (int k = 0; k < n; k++) {
                Two s = plus((Two){total[k], left[k]}, (Two){total[k + n], left[k + n]});
                total[k] = s.hi;
                left[k] = s.lo;
            }
    } else {
        for (int64_t i = 0; i < whole; i += LANES)
            for (int k = 0; k < LANES; k++) total[k] += v[i + k];
        for (int k = 0; k < count - whole; k++) total[k] += v[whole + k];
        for (int n = LANES / 2; n; n /= 2)
            for (int k = 0; k < n; k++) total[k] += total[k + n];
    }
    return (Two){total[0], left[0]};
}

INLINE double in_one(Two a) { /* an infinite sum has left NaN */
    double s = a.hi + a.lo;
    return a.hi - a.hi == 0.0 ? s : a.hi;
}

/* --- The loss of a margin --------------------------------------------------------------------- */

typedef struct {
    double z;              /* the margin is z + rest */
    Two rest, e, l;        /* e = e^-|margin|, l = log(1 + e) */
    double big, over;      /* 2^996 e; 1 / (1 + e) */
} Margin;

/* Weighted, and two of them times a share; spread is slope / others. */
typedef struct { double loss, slope, spread; } Terms;

INLINE Margin with_logarithm(double z, Two rest, Two e, double big, int mode) {
    Margin m = {.z = z, .rest = rest, .e = e, .big = big};
    if (mode == WIDER) {
        m.l = log_one_plus_in_two(e);
        m.over = 1.0 / (1.0 + e.hi);
    } else {
        m.l.hi = log_one_plus(e.hi, &m.over, mode);
        m.l.lo = 0.0;
    }
    return m;
}

/* q^(gamma / 2) = e^(-gamma / 2 v), v = -log q = max(margin, 0) + l. */
INLINE double root_of_power(double z, Two rest, Two l, double gamma, int mode) {
    const double half = 0.5 * gamma;
    Two small = {rest.hi + l.hi, 0.0};
    if (mode == WIDER) {
        small = two_sum(rest.hi, l.hi);
        small.lo += rest.lo + l.lo;
    }
    double a = half * z, b = half * small.hi;
    Two s = two_sum(a, b);
    double left = fma(half, z, -a) + (fma(half, small.hi, -b) + half * small.lo) + s.lo;
    return exponential(-s.hi, -left, 11) * DOWN;
}

/* The terms of the margin, or of its opposite. What is multiplied is in an order in which nothing
   overflows or underflows of which the product does not, and 0 times infinity is 0. */
INLINE Terms terms(const Margin *m, int opposite, double w, double share, double others,
                   double gamma, int mode, int power) {
    const double zero = 0.0, z = opposite ? -m->z : m->z;
    Two rest = opposite ? (Two){-m->rest.hi, -m->rest.lo} : m->rest;
    const double small = m->e.hi * m->over, l = m->l.hi, sign = mode == NARROW ? z : z + rest.hi;
    const double p = sign > zero ? m->over : small, q = sign > zero ? small : m->over;
    const double above = z > DBL_MAX ? DBL_MAX : sign > zero ? z : zero;
    if (mode == NARROW) {
        const double below = -z > zero ? -z : zero, u = below > DBL_MAX ? DBL_MAX : below + l;
        const double factor = w * (power == 0 ? 1.0 : power == 1 ? q : power == 2 ? q * q
                                   : exponential(-gamma * (above + l), 0.0, 6) * DOWN);
        const double slope = factor * share * fma(gamma, p * u, q);
        const double far = factor * share * (1.0 + gamma);
        return (Terms){factor * u, slope, z > 100.0 ? far : slope / others};
    }
    const double u = sign > zero ? l : l - z - rest.hi;
    rest.hi = sign > zero ? rest.hi : 0.0;
    rest.lo = sign > zero ? rest.lo : 0.0;
    const double root = power == 0   ? 1.0
                        : power == ANY ? root_of_power(above, rest, m->l, gamma, mode)
                                       : q;
    const double last = power == 1 ? 1.0 : root, v = w * share;
    const double bracket = fma(gamma, p * (u > DBL_MAX ? DBL_MAX : u), q);
    /* A large weight may make a normal number of what is none. There e and q are the same. */
    const double far = z > 100.0 ? 1.0 : 0.0, a = w > 1.0 ? far : 0.0, b = v > 1.0 ? far : 0.0;
    const double most = w == 0.0 ? DBL_MAX : INFINITY;
    const double value = a > 0.0 ? w * DOWN * m->big : w * (u > most ? most : u);
    double slope = b > 0.0 ? v * DOWN * m->big * (1.0 + gamma) : v * bracket;
    double spread = v * (far > 0.0 ? 1.0 + gamma : bracket / others);
    slope = slope > DBL_MAX ? DBL_MAX : slope; /* then root is 0 */
    spread = spread > DBL_MAX ? DBL_MAX : spread;
    return (Terms){value * root * last, slope * root * last, spread * root * last};
}

/* --- Threads ---------------------------------------------------------------------------------- */

/* A fresh array costs a page fault every 4 kB when it is first written, more than the loss itself:
   where the system has larger pages, ask for those. */
static void expect(void *v, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 1 << 21, begin = ((uintptr_t)v + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)v + bytes) / page * page;
    if (v && end > begin + page) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#endif
}

/* The losses from begin to end, their sum, and bits of the status. */
typedef int (*Work)(const Focal *, int64_t begin, int64_t end, double *scratch, Two *total);

typedef struct {
    const Focal *focal;
    Work work;
    Two *totals; /* of each chunk: the order of the sum is that of the chunks */
    int64_t chunk, chunks, next, scratch; /* scratch: numbers that each thread needs room for */
    int status;
} Team;

static void take_chunks(void *argument) {
    Team *team = argument;
    double *scratch = team->scratch ? malloc(team->scratch * sizeof(double)) : NULL;
    int status = team->scratch && !scratch ? NO_MEMORY : 0;
    int64_t k;
    while (!status && (k = __atomic_fetch_add(&team->next, 1, __ATOMIC_RELAXED)) < team->chunks) {
        const int64_t begin = k * team->chunk, rest = team->focal->count - begin;
        const int64_t end = begin + (rest < team->chunk ? rest : team->chunk);
        status = team->work(team->focal, begin, end, scratch, &team->totals[k]);
    }
    free(scratch);
    __atomic_fetch_or(&team->status, status, __ATOMIC_RELAXED);
}

static void *take_chunks_in_thread(void *argument) {
    take_chunks(argument);
    return NULL;
}

/* GOMP_parallel of the OpenMP library that torch runs on: its threads are there already, and may
   still hold the processors while they wait for torch's next operation. */
typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);
static Parallel parallel = NULL;
void focal_threads(Parallel of_torch) { parallel = of_torch; }

static int run(Work work, Focal *focal, int64_t chunk, int64_t scratch) {
    Team team = {.focal = focal, .work = work, .chunk = chunk, .scratch = scratch};
    team.chunks = (focal->count + chunk - 1) / chunk;
    if (!(team.totals = calloc(team.chunks, sizeof(Two)))) return NO_MEMORY;
    int threads = focal->threads < MOST_THREADS ? focal->threads : MOST_THREADS;
    threads = threads < team.chunks ? threads : (int)team.chunks;
    if (threads > 1 && parallel) {
        parallel(take_chunks, &team, (unsigned)threads, 0);
    } else {
        pthread_t ids[MOST_THREADS];
        int started = 0;
        while (started < threads - 1 &&
               !pthread_create(&ids[started], NULL, take_chunks_in_thread, &team))
            started++;
        take_chunks(&team);
        while (started > 0) pthread_join(ids[--started], NULL);
    }
    Two total = {0.0, 0.0};
    for (int64_t k = 0; k < team.chunks; k++) total = plus(total, team.totals[k]);
    focal->total = in_one(total);
    free(team.totals);
    return team.status;
}

/* --- Arrays of float or double ---------------------------------------------------------------- */

INLINE void load(double *restrict to, const void *from, int64_t at, int kind, int count) {
    const float *f = (const float *)from + at;
    const double *d = (const double *)from + at;
    const uint8_t *b = (const uint8_t *)from + at;
    const int64_t *n = (const int64_t *)from + at;
    if (kind == FLOAT) for (int i = 0; i < count; i++) to[i] = f[i];
    else if (kind == DOUBLE) for (int i = 0; i < count; i++) to[i] = d[i];
    else if (kind == BYTE) for (int i = 0; i < count; i++) to[i] = b[i];
    else for (int i = 0; i < count; i++) to[i] = (double)n[i];
}

INLINE void store(void *to, const double *restrict from, int64_t at, int wide, int count) {
    float *f = (float *)to + at;
    double *d = (double *)to + at;
    if (!to) return;
    if (wide) for (int i = 0; i < count; i++) d[i] = from[i];
    else for (int i = 0; i < count; i++) f[i] = (float)from[i];
}

INLINE void put(void *to, int64_t i, int wide, double value) {
    if (!to) return;
    if (wide) ((double *)to)[i] = value;
    else ((float *)to)[i] = (float)value;
}

INLINE void fill(double *v, double value, int64_t count) {
    for (int64_t i = 0; i < count; i++) v[i] = value;
}

/* --- Sigmoid ---------------------------------------------------------------------------------- */

/* loss = one y f(x) + zero (1 - y) f(-x). Of a hard target one of the two terms is 0. */
INLINE void sigmoid_block(const Focal *focal, const void *x, const double *restrict y,
                          const double *restrict one, const double *restrict zero, int count,
                          int soft, double *restrict loss, void *gradient, int mode,
                          int power) {
    const double gamma = focal->gamma, share = focal->share;
    for (int i = 0; i < count; i++) {
        const double logit = mode == NARROW ? ((const float *)x)[i] : ((const double *)x)[i];
        const double sign = 1.0 - 2.0 * y[i], z = soft ? logit : -sign * logit;
        double slope;
        Two e = {0.0, 0.0};
        double big;
        if (mode == WIDER) {
            e = exponential_in_two(-fabs(z), 0.0);
            big = e.hi;
            e = (Two){e.hi * DOWN, e.lo * DOWN};
        } else {
            big = exponential(-fabs(z), 0.0, mode == WIDE ? 11 : power == ANY ? 7 : 6);
            e.hi = big * DOWN;
        }
        Margin m = with_logarithm(z, (Two){0.0, 0.0}, e, big, mode);
        if (soft) {
            double w = y[i] * one[i], v = (1.0 - y[i]) * zero[i];
            Terms a = terms(&m, 0, w, share, 1.0, gamma, mode, power);
            Terms b = terms(&m, 1, v, share, 1.0, gamma, mode, power);
            loss[i] = a.loss + b.loss;
            slope = b.slope - a.slope;
        } else {
            double w = y[i] > 0.5 ? one[i] : zero[i];
            Terms a = terms(&m, 0, w, share, 1.0, gamma, mode, power);
            loss[i] = a.loss;
            slope = fma(a.slope, sign, 0.0); /* the other term is 0: so that there is no -0 */
        }
        if (!gradient) continue;
        if (mode == NARROW) ((float *)gradient)[i] = (float)slope;
        else ((double *)gradient)[i] = slope;
    }
}

VECTORS static int sigmoid_work(const Focal *focal, int64_t begin, int64_t end, double *scratch,
                                Two *total) {
    double y[BLOCK], one[BLOCK], zero[BLOCK], loss[BLOCK], room[BLOCK], some_x[BLOCK];
    const int several = focal->classes > 1, wide = focal->wide, bytes = wide ? 8 : 4;
    const double gamma = focal->gamma, unit = focal->unit;
    int64_t class = begin / focal->inner % focal->classes, place = begin % focal->inner;
    int status = 0;
    (void)scratch;
    fill(one, focal->one[0], BLOCK);
    fill(zero, focal->zero[0], BLOCK);
    *total = (Two){0.0, 0.0};
    for (int64_t i = begin; i < end; i += BLOCK) {
        const int count = end - i < BLOCK ? (int)(end - i) : BLOCK;
        const void *x = (const char *)focal->x + i * bytes;
        void *gradient = focal->gradient ? (char *)focal->gradient + i * bytes : (char *)room;
        load(y, focal->y, i, focal->kind, count);
        for (int k = 0; several && k < count; k++) {
            one[k] = focal->one[class];
            zero[k] = focal->zero[class];
            if (++place < focal->inner) continue;
            place = 0;
            class = class + 1 < focal->classes ? class + 1 : 0;
        }
        double far = 0.0; /* from 0 and 1 */
#pragma omp simd reduction(+ : far)
        for (int k = 0; k < count; k++) far += fabs(y[k] * y[k] - y[k]);
        int soft = !(far == 0.0), other = 0;
        for (int k = 0; soft && k < count; k++) other |= !(y[k] >= 0.0 && y[k] <= 1.0);
        if (other) x = memcpy(some_x, x, count * bytes);
        for (int k = 0; other && k < count; k++) {
            const int ignored = y[k] == focal->ignored;
            const int bad = !ignored && !(y[k] >= 0.0 && y[k] <= 1.0);
            if (ignored || bad) put(some_x, k, wide, bad ? NAN : 0.0);
            if (bad) status = BAD_TARGET;
        }
#define BLOCK_OF(soft, mode, power) \
    sigmoid_block(focal, x, y, one, zero, count, soft, loss, gradient, mode, power)
#define BLOCK_IN(mode, power) (soft ? BLOCK_OF(1, mode, power) : BLOCK_OF(0, mode, power))
#define VALUES_IN(power) sigmoid_block(focal, x, y, one, zero, count, 0, loss, NULL, NARROW, power)
        if (!focal->gradient && !soft && !wide) {
            if (gamma == 0.0) VALUES_IN(0);
            else if (gamma == 1.0) VALUES_IN(1);
            else if (gamma == 2.0) VALUES_IN(2);
            else VALUES_IN(ANY);
        } else if (wide && gamma > MODERATE) BLOCK_IN(WIDER, ANY);
        else if (gamma == 0.0) wide ? BLOCK_IN(WIDE, 0) : BLOCK_IN(NARROW, 0);
        else if (gamma == 1.0) wide ? BLOCK_IN(WIDE, 1) : BLOCK_IN(NARROW, 1);
        else if (gamma == 2.0) wide ? BLOCK_IN(WIDE, 2) : BLOCK_IN(NARROW, 2);
        else wide ? BLOCK_IN(WIDE, ANY) : BLOCK_IN(NARROW, ANY);
        for (int k = 0; other && k < count; k++)
            if (y[k] == focal->ignored) loss[k] = 0.0, put(gradient, k, wide, 0.0);
        store(focal->loss, loss, i, wide, count);
        if (unit != 1.0) for (int k = 0; k < count; k++) loss[k] *= unit;
        *total = plus(*total, sum(loss, count, wide));
    }
    return status;
}

int focal_sigmoid(Focal *focal) {
    const int64_t bytes = focal->count * (focal->wide ? 8 : 4);
    expect(focal->loss, bytes);
    expect(focal->gradient, bytes);
    return run(sigmoid_work, focal, CHUNK, 0);
}

/* --- Softmax ---------------------------------------------------------------------------------- */

/* With d_j = x_j - max x and e_j = e^d_j, the loss of class t is that of the margin
   z = d_t - log S, S the sum of the other e_j: e^-z = S / e_t. The gradient is -slope for t and
   slope e_j / S for another. */

enum { ROWS = 64, GROUP = 1 << 13 }; /* rows taken together, and logits of such rows */

INLINE double maximum(const void *from, int64_t at, int wide, int64_t count) {
    const float *f = (const float *)from + at;
    const double *d = (const double *)from + at;
    if (wide) {
        double largest = d[0];
#pragma omp simd reduction(max : largest)
        for (int64_t j = 0; j < count; j++) largest = d[j] > largest ? d[j] : largest;
        return largest;
    }
    float largest = f[0];
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < count; j++) largest = f[j] > largest ? f[j] : largest;
    return largest;
}

INLINE double at(const void *from, int64_t i, int wide) {
    return wide ? ((const double *)from)[i] : ((const float *)from)[i];
}

/* d_j, with what rounding left in mode WIDE and WIDER. The largest is 0 below itself, also where it
   is infinite; any other inf - inf is NaN, as there is no limit. */
INLINE void differences(const void *x, int64_t row, int mode, double largest, int64_t count,
                        double *restrict d, double *restrict left) {
    const float *f = (const float *)x + row;
    const double *w = (const double *)x + row;
    if (mode == NARROW) for (int64_t j = 0; j < count; j++) d[j] = f[j] - largest;
    else
        for (int64_t j = 0; j < count; j++) {
            Two s = two_sum(w[j], -largest);
            d[j] = s.hi;
            left[j] = s.lo - s.lo == 0.0 ? s.lo : 0.0;
        }
}

/* e_j 2^996 in the place of d_j; in mode WIDER in two parts. */
INLINE void exponentials(double *restrict d, double *restrict left, int64_t count, int mode,
                         int degree) {
    if (mode == NARROW) for (int64_t j = 0; j < count; j++) d[j] = exponential(d[j], 0.0, degree);
    else if (mode == WIDE)
        for (int64_t j = 0; j < count; j++) d[j] = exponential(d[j], left[j], 11);
    else
        for (int64_t j = 0; j < count; j++) {
            Two e = exponential_in_two(d[j], left[j]);
            d[j] = e.hi;
            left[j] = e.lo;
        }
}

/* The margin of a class, given its d, and e and S times 2^996. */
INLINE Margin softmax_margin(Two d, Two e, Two others, int mode) {
    Two rest, log_others = {log_of(others, mode, &rest), 0.0}; /* which may be of 0 or NaN */
    Two z = two_sum(d.hi, -log_others.hi), more = two_sum(z.lo, -rest.hi);
    z.lo = more.hi;
    more.lo += d.lo - rest.lo;
    z.hi = others.hi > 0.0 ? z.hi : others.hi == 0.0 ? INFINITY : NAN;
    const int finite = fabs(z.hi) <= DBL_MAX;
    z.lo = finite ? z.lo : 0.0;
    more.lo = finite && mode == WIDER ? more.lo : 0.0;
    if (mode == NARROW) z = (Two){z.hi + z.lo, 0.0};
    const double swap = others.hi < e.hi ? 1.0 : 0.0;
    const double a = swap > 0.0 ? others.hi : e.hi, b = swap > 0.0 ? e.hi : others.hi;
    const double a_lo = swap > 0.0 ? others.lo : e.lo, b_lo = swap > 0.0 ? e.lo : others.lo;
    Two ratio = {a / b, 0.0};
    if (mode == WIDER) ratio.lo = (fma(-ratio.hi, b, a) + (a_lo - ratio.hi * b_lo)) / b;
    if (mode == WIDE) more.lo = 0.0, z.lo += d.lo;
    return with_logarithm(z.hi, (Two){z.lo, more.lo}, ratio, others.hi, mode);
}

/* gradient_j = e_j spread, of e_j 2^996: where one of the two is small the other is not. */
INLINE void spread_over(const double *restrict e, double spread, int wide, void *gradient,
                        int64_t row, int64_t count) {
    const double a = spread > 1.0 ? 1.0 : DOWN, b = spread > 1.0 ? spread * DOWN : spread;
    float *f = (float *)gradient + row;
    double *d = (double *)gradient + row;
    if (wide) for (int64_t j = 0; j < count; j++) d[j] = e[j] * a * b;
    else for (int64_t j = 0; j < count; j++) f[j] = (float)(e[j] * a * b);
}

/* 0, or NaN, for a row that is left out, or has no such class. */
static void constant_row(const Focal *focal, int64_t i, double value) {
    const int64_t classes = focal->classes, bytes = classes * (focal->wide ? 8 : 4);
    put(focal->loss, i, focal->wide, value);
    if (!focal->gradient) return;
    if (value == 0.0) memset((char *)focal->gradient + i * bytes, 0, bytes);
    else
        for (int64_t j = 0; j < classes; j++)
            put(focal->gradient, i * classes + j, focal->wide, value);
}

INLINE int64_t first_of(const void *x, int64_t row, int wide, double value, int64_t count) {
    int64_t j = 0;
    while (j < count - 1 && at(x, row + j, wide) != value) j++;
    return j;
}

INLINE int hard_rows(const Focal *focal, int64_t first, int rows, double *restrict e,
                     double *restrict left, int mode, int power, Two *total) {
    const int64_t classes = focal->classes;
    const int wide = mode != NARROW, degree = power == ANY ? 7 : 6;
    const double gamma = focal->gamma, share = focal->share;
    double d_t[ROWS], d_left[ROWS], e_t[ROWS], e_left[ROWS], others[ROWS], others_left[ROWS];
    double w[ROWS], loss[ROWS], slope[ROWS], spread[ROWS];
    const int narrow_rows = classes < 64; /* several fill the processor's vectors */
    int status = 0;
    for (int r = 0; r < rows; r++) {
        const int64_t row = (first + r) * classes, t = focal->index[first + r];
        const int kept = t != focal->ignored_index, good = kept && t >= 0 && t < classes;
        if (kept && !good) status = BAD_TARGET;
        w[r] = !good ? 0.0 : focal->one ? focal->one[t] : 1.0;
        const double largest = maximum(focal->x, row, wide, classes);
        int64_t top = isinf(largest) ? first_of(focal->x, row, wide, largest, classes) : -1;
        if (top >= 0 && at(focal->x, row + top, wide) != largest) top = -1; /* all are NaN */
        d_t[r] = d_left[r] = 0.0;
        for (int64_t j = 0; j < classes; j += BLOCK) {
            const int64_t count = classes - j < BLOCK ? classes - j : BLOCK, k = r * classes + j;
            differences(focal->x, row + j, mode, largest, count, e + k, left + k);
            if (j <= top && top < j + count) e[k + top - j] = 0.0;
            if (good && j <= t && t < j + count) {
                d_t[r] = e[k + t - j];
                d_left[r] = wide ? left[k + t - j] : 0.0;
            }
            if (!narrow_rows) exponentials(e + k, left + k, count, mode, degree);
        }
    }
    if (narrow_rows) exponentials(e, left, rows * classes, mode, degree);
    for (int r = 0; r < rows; r++) {
        const int64_t t = focal->index[first + r], k = r * classes;
        const int64_t own = k + (t >= 0 && t < classes ? t : 0);
        e_t[r] = e[own];
        e[own] *= 0.0; /* NaN stays */
        Two s = sum(e + k, classes, wide);
        e_left[r] = others_left[r] = 0.0;
        if (mode == WIDER) {
            e_left[r] = left[own];
            left[own] = 0.0;
            s.lo += sum(left + k, classes, 0).hi;
        }
        others[r] = s.hi + s.lo;
        others_left[r] = mode == WIDER ? s.lo - (others[r] - s.hi) : 0.0;
    }
    for (int r = 0; r < rows; r++) {
        Two d = {d_t[r], d_left[r]}, mine = {e_t[r], e_left[r]}, rest = {others[r], others_left[r]};
        Margin m = softmax_margin(d, mine, rest, mode);
        Terms a = terms(&m, 0, w[r], share, others[r] * DOWN, gamma, mode, power);
        loss[r] = a.loss;
        slope[r] = a.slope;
        spread[r] = a.spread;
    }
    for (int r = 0; r < rows; r++) {
        const int64_t row = (first + r) * classes, t = focal->index[first + r];
        if (t < 0 || t >= classes || t == focal->ignored_index) {
            constant_row(focal, first + r, t == focal->ignored_index ? 0.0 : NAN);
            loss[r] = 0.0;
            continue;
        }
        put(focal->loss, first + r, wide, loss[r]);
        if (!focal->gradient) continue;
        spread_over(e + r * classes, spread[r], wide, focal->gradient, row, classes);
        put(focal->gradient, row + t, wide, 0.0 - slope[r]);
    }
    if (focal->unit != 1.0) for (int r = 0; r < rows; r++) loss[r] *= focal->unit;
    *total = plus(*total, sum(loss, rows, wide));
    return status;
}

static int group_of(int64_t classes) {
    return classes >= GROUP ? 1 : classes * ROWS <= GROUP ? ROWS : (int)(GROUP / classes);
}

VECTORS static int hard_work(const Focal *focal, int64_t begin, int64_t end, double *scratch,
                             Two *total) {
    const int most = group_of(focal->classes), wide = focal->wide;
    const double gamma = focal->gamma;
    double *left = scratch + most * focal->classes;
    int status = 0;
    *total = (Two){0.0, 0.0};
    for (int64_t i = begin; i < end; i += most) {
        const int rows = end - i < most ? (int)(end - i) : most;
#define ROWS_OF(mode, power) \
    status |= hard_rows(focal, i, rows, scratch, left, mode, power, total)
        if (wide && gamma > MODERATE) ROWS_OF(WIDER, ANY);
        else if (wide && gamma == 2.0) ROWS_OF(WIDE, 2);
        else if (wide && gamma == 0.0) ROWS_OF(WIDE, 0);
        else if (wide) ROWS_OF(WIDE, ANY);
        else if (gamma == 2.0) ROWS_OF(NARROW, 2);
        else if (gamma == 0.0) ROWS_OF(NARROW, 0);
        else ROWS_OF(NARROW, ANY);
    }
    return status;
}

/* Every class c, with the factor a_c = w_c y_c. With q_c = S_c / T, T the sum of all e, and
   h_c = a_c q_c^gamma (1 + gamma e_c / S_c u_c): loss = sum_c a_c q_c^gamma u_c and
   gradient_j = p_j (sum of the other h) - q_j h_j. The margin of the largest logit is that of a
   hard target, and may be large; those of the others are not above 0. */
INLINE int soft_row(const Focal *focal, int64_t i, double *restrict e, double *restrict left,
                    double *restrict h, int mode, int power, Two *total) {
    const int64_t classes = focal->classes, row = i * classes;
    const int64_t t = focal->index ? focal->index[i] : -1;
    const int wide = mode != NARROW;
    const double gamma = focal->gamma, share = focal->share, unit = focal->unit;
    const double even = focal->smoothing / (double)classes, given = 1.0 - focal->smoothing;
    double x[BLOCK], y[BLOCK], value[BLOCK];
    int kept = !focal->index || t != focal->ignored_index;
    int bad = kept && focal->index && !(t >= 0 && t < classes);
    if (focal->y) {
        int64_t ignored = 0, wrong = 0;
        for (int64_t j = 0; j < classes; j += BLOCK) {
            const int count = classes - j < BLOCK ? (int)(classes - j) : BLOCK;
            load(y, focal->y, row + j, focal->kind, count);
            for (int k = 0; k < count; k++) {
                ignored += y[k] == focal->ignored;
                wrong += !(y[k] >= 0.0 && y[k] <= 1.0);
            }
            for (int k = 0; k < count; k++) h[j + k] = given * y[k] + even;
        }
        kept = ignored < classes;
        bad = kept && wrong;
    } else {
        fill(h, even, classes);
        if (kept && !bad) h[t] = given + even;
    }
    if (!kept || bad) {
        constant_row(focal, i, bad ? NAN : 0.0);
        return bad ? BAD_TARGET : 0;
    }
    if (focal->one) for (int64_t j = 0; j < classes; j++) h[j] *= focal->one[j];
    const double largest = maximum(focal->x, row, wide, classes);
    const int64_t top = first_of(focal->x, row, wide, largest, classes);
    differences(focal->x, row, mode, largest, classes, e, left);
    if (isinf(largest) && at(focal->x, row + top, wide) == largest) e[top] = 0.0;
    exponentials(e, left, classes, mode, 7);
    e[top] *= 0.0;
    if (mode == WIDER) left[top] = 0.0;
    Two rest = sum(e, classes, wide);
    if (mode == WIDER) rest.lo += sum(left, classes, 0).hi;
    rest = fast_two_sum(rest.hi, rest.lo);
    const Two zero = {0.0, 0.0}, one = {UP, 0.0};
    const double a_top = h[top];
    Margin m = softmax_margin(zero, one, rest, mode);
    Terms own = terms(&m, 0, a_top, share, rest.hi * DOWN, gamma, mode, power);
    const Two all = plus(two_sum(UP, rest.hi), (Two){rest.lo, 0.0});
    const double over = 1.0 / all.hi, below = -m.z - m.rest.hi;
    const double log_all = m.l.hi + (below > 0.0 ? below : 0.0);
    const double h_top = own.spread * (all.hi * DOWN);
    Two losses = {own.loss, 0.0}, others = zero;
    h[top] = 0.0;
    for (int64_t j = 0; j < classes; j += BLOCK) {
        const int count = classes - j < BLOCK ? (int)(classes - j) : BLOCK;
        load(x, focal->x, row + j, wide, count);
        for (int k = 0; k < count; k++) {
            const double d = x[k] - largest, a = h[j + k];
            double u = log_all - d;
            Two s = {all.hi - e[j + k], 0.0}, o = {0.0, 0.0}, l = zero;
            if (mode == WIDER) {
                s = plus(all, (Two){-e[j + k], -left[j + k]});
                s = fast_two_sum(s.hi, s.lo);
            }
            o.hi = e[j + k] / s.hi;
            double root = s.hi * over, last, inverse;
            if (mode == WIDER) {
                o.lo = (fma(-o.hi, s.hi, e[j + k]) + (left[j + k] - o.hi * s.lo)) / s.hi;
                l = log_one_plus_in_two(o);
            } else if (power == ANY) {
                l.hi = log_one_plus(o.hi, &inverse, mode);
            }
            if (power == ANY) root = root_of_power(0.0, zero, l, gamma, mode);
            last = power == 1 ? 1.0 : root;
            root = power == 0 ? 1.0 : root;
            last = power == 0 ? 1.0 : last;
            const double finite = u > DBL_MAX ? DBL_MAX : u;
            value[k] = a * (a == 0.0 ? finite : u) * root * last;
            const double slope = a * share * (1.0 + gamma * (o.hi * finite));
            h[j + k] = (slope > DBL_MAX ? DBL_MAX : slope) * root * last;
        }
        if (j <= top && top < j + count) value[top - j] = h[top] = 0.0;
        losses = plus(losses, sum(value, count, 1));
        others = plus(others, sum(h + j, count, 1));
    }
    const double loss = in_one(losses), of_others = in_one(others);
    put(focal->loss, i, wide, loss);
    *total = plus(*total, (Two){loss * unit, 0.0});
    if (!focal->gradient) return 0;
    const double sum_of_h = of_others + h_top;
    const double a = sum_of_h > 1.0 ? 1.0 : DOWN, b = sum_of_h > 1.0 ? DOWN : 1.0;
    const double to_p = UP * over;
    for (int64_t j = 0; j < classes; j += BLOCK) {
        const int count = classes - j < BLOCK ? (int)(classes - j) : BLOCK;
        for (int k = 0; k < count; k++) {
            const double own_h = h[j + k], q = (all.hi - e[j + k]) * over;
            value[k] = e[j + k] * a * ((sum_of_h - own_h) * b * to_p) - q * own_h;
        }
        store(focal->gradient, value, row + j, wide, count);
    }
    put(focal->gradient, row + top, wide, to_p * of_others - own.slope);
    return 0;
}

VECTORS static int soft_work(const Focal *focal, int64_t begin, int64_t end, double *scratch,
                             Two *total) {
    const int wide = focal->wide;
    const double gamma = focal->gamma;
    double *left = scratch + focal->classes, *h = left + focal->classes;
    int status = 0;
    *total = (Two){0.0, 0.0};
    for (int64_t i = begin; i < end; i++) {
#define ROW_OF(mode, power) status |= soft_row(focal, i, scratch, left, h, mode, power, total)
        if (wide && gamma > MODERATE) ROW_OF(WIDER, ANY);
        else if (wide && gamma == 2.0) ROW_OF(WIDE, 2);
        else if (wide) ROW_OF(WIDE, ANY);
        else if (gamma == 2.0) ROW_OF(NARROW, 2);
        else ROW_OF(NARROW, ANY);
    }
    return status;
}

int focal_softmax(Focal *focal) {
    const int64_t classes = focal->classes, few = CHUNK / classes;
    const int hard = !focal->y && focal->smoothing == 0.0, most = hard ? group_of(classes) : 1;
    const int64_t rows = few > most ? few / most * most : most;
    expect(focal->gradient, focal->count * classes * (focal->wide ? 8 : 4));
    return run(hard ? hard_work : soft_work, focal, rows, (hard ? 2 * most : 3) * classes);
}

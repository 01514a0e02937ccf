/* The focal losses of float32 logits, and their gradients, in one pass over memory.

   focal_lib.torch calls these functions through ctypes where the package could compile them when it
   was installed, and computes the same without them elsewhere. Each divides its work among threads,
   writes the losses and the gradient if it is given room for them, and returns the sum of the
   losses: NaN if a logit or a loss is not finite or a target is not in [0, 1], which the caller
   then handles.

   Differences of logits are exact (a rounded one, and what the rounding left) and every function of
   them is good to about an eps. So this must not be compiled with -ffast-math. */

#define _DEFAULT_SOURCE /* madvise */
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

enum { BLOCK = 512, MOST_THREADS = 64 };

/* --- Functions of a number -------------------------------------------------------------------- */

INLINE float power_of_two(int32_t n) { /* -126 <= n <= 127 */
    union { int32_t i; float f; } bits = {(n + 127) * (1 << 23)};
    return bits.f;
}

/* 2^shift e^(a + b), for a <= 0 and a small b: with a = n log 2 + r, a power of 2 times a polynomial
   in r. With a shift what is below e^-108 is 0, so that all else is a normal number. */
INLINE float exponential(float a, float b, int shift) {
    const float least = shift ? -108.0f : -150.0f;
    float c = a < least ? least : a;
    float n = rintf(c * 1.44269504f);
    float r = fmaf(n, -0.693145752f, c); /* log 2 in two parts, the first with few bits */
    r = fmaf(n, -1.42860682e-6f, r) + b;
    float y = fmaf(0.00139261836f, r, 0.00836317905f);
    y = fmaf(y, r, 0.0416665546f);
    y = fmaf(y, r, 0.16666577f);
    y = fmaf(y, r, 0.5f);
    y = fmaf(y * r, r, r) + 1.0f;
    int32_t k = n >= -217.0f ? (int32_t)n : -217; /* n may be NaN, as y is then */
    if (!shift) return y * power_of_two(k / 2) * power_of_two(k - k / 2);
    k = k < -156 ? -156 : k;
    return a < least ? 0.0f : y * power_of_two(k + shift);
}

/* log(1 + e), for 0 <= e <= 1, and 1 / (1 + e): with 1 + e = 2^k (1 + g) and s = g / (2 + g), the
   logarithm is k log 2 + 2 atanh s; one division serves both. */
INLINE float log_one_plus(float e, float *inverse) {
    float k = e > 0.414f ? 1.0f : 0.0f;
    float g = e > 0.414f ? 0.5f * (e - 1.0f) : e;
    float a = 1.0f + e, b = 2.0f + g;
    float both = 1.0f / (a * b);
    float s = g * a * both;
    float w = s * s;
    float half = 0.5f * g * g;
    float rest = fmaf(fmaf(0.295803078f, w, 0.399887727f), w, 0.666666851f) * w;
    rest = fmaf(k, 1.42860682e-6f, s * (half + rest)) - half;
    *inverse = b * both;
    return fmaf(k, 0.693145752f, g + rest);
}

/* What rounding left of the difference a - b = d (Knuth). */
INLINE float left_over(float a, float b, float d) {
    float shift = d - a;
    return (a - (d - shift)) - (b + shift);
}

INLINE double sum(const float *v, int count) { /* in float the small would vanish beside the large */
    double total = 0.0;
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < count; i++) total += v[i];
    return total;
}

/* --- Threads ---------------------------------------------------------------------------------- */

typedef struct {
    const float *x, *y;          /* logits; targets, of the same shape */
    const int64_t *index;        /* or the class of each row, < 0 if ignored */
    const double *weight;        /* of each class, in units of the largest, or NULL */
    float *loss, *gradient;      /* room for them, or NULL */
    int64_t begin, end, classes; /* what this thread is to do */
    double positive, negative, unit, smoothing, gamma, share, total;
} Job;

/* A fresh array costs a page fault every 4 kB when it is first written, more than the loss itself:
   where the system has larger pages, ask for those. */
static void expect(float *v, int64_t count) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 1 << 21, begin = ((uintptr_t)v + page - 1) / page * page;
    const uintptr_t end = (uintptr_t)(v + count) / page * page;
    if (v && end > begin + page) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#endif
}

typedef struct {
    void (*work)(Job *);
    Job *jobs;
    int count, next;
} Team;

static void take_jobs(void *argument) {
    Team *team = argument;
    for (int k; (k = __atomic_fetch_add(&team->next, 1, __ATOMIC_RELAXED)) < team->count;)
        team->work(&team->jobs[k]);
}

static void *take_jobs_in_thread(void *argument) {
    take_jobs(argument);
    return NULL;
}

/* GOMP_parallel of the OpenMP library that torch runs on: its threads are there already, and may
   still hold the processors while they wait for torch's next operation. */
typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);
static Parallel parallel = NULL;
void focal_threads(Parallel of_torch) { parallel = of_torch; }

static double run(void (*work)(Job *), const Job *whole, int64_t count, int threads) {
    Job jobs[MOST_THREADS];
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    for (int k = 0; k < threads; k++) {
        jobs[k] = *whole;
        jobs[k].begin = count * k / threads;
        jobs[k].end = count * (k + 1) / threads;
    }
    Team team = {.work = work, .jobs = jobs, .count = threads};
    if (threads > 1 && parallel) {
        parallel(take_jobs, &team, (unsigned)threads, 0);
    } else {
        pthread_t ids[MOST_THREADS];
        int started = 0;
        while (started < threads - 1 && !pthread_create(&ids[started], NULL, take_jobs_in_thread, &team))
            started++;
        take_jobs(&team);
        while (started > 0) pthread_join(ids[--started], NULL);
    }
    double total = 0.0;
    for (int k = 0; k < threads; k++) total += jobs[k].total;
    return total;
}

/* --- Sigmoid ---------------------------------------------------------------------------------- */

/* e^(-gamma v), for v = a + b in two parts, 0 <= a and 0 <= b <= log 2. */
INLINE float decay(double gamma, float a, float b) {
    const float g = (float)gamma, rest_of_g = (float)(gamma - g);
    float ga = g * a, gb = g * b, sum = ga + gb;
    float left = left_over(ga, -gb, sum) + fmaf(g, a, -ga) + fmaf(g, b, -gb);
    return exponential(-sum, -fmaf(rest_of_g, a + b, left), 0);
}

/* With p = sigma(x), q = sigma(-x), u = -log p and v = -log q:
   loss = positive y q^gamma u + negative (1 - y) p^gamma v,
   gradient = negative (1 - y) p^gamma (p + gamma q v) - positive y q^gamma (q + gamma p u).
   With hard targets one of the two terms is computed: that of z = x or -x. */
INLINE double sigmoid_block(const Job *job, const float *restrict x, const float *restrict y,
                            int count, int power, int soft, float *restrict loss,
                            float *restrict gradient) {
    const float gamma = (float)job->gamma, share = (float)job->share;
    const float positive = (float)job->positive, negative = (float)job->negative;
    for (int i = 0; i < count; i++) {
        float z = soft || y[i] > 0.5f ? x[i] : -x[i];
        float e = exponential(-fabsf(z), 0.0f, 0);
        float large, l = log_one_plus(e, &large);
        float small = e * large;
        float p = z > 0.0f ? large : small, q = z > 0.0f ? small : large;
        float above = z > 0.0f ? z : 0.0f, below = z > 0.0f ? 0.0f : -z;
        float factor = power == 0 ? 1.0f : power == 1 ? q : power == 2 ? q * q
                                         : decay(job->gamma, above, l);
        factor *= soft ? positive * y[i] : y[i] > 0.5f ? positive : negative;
        loss[i] = factor * (below + l) + 0.0f * x[i]; /* NaN if x is infinite */
        gradient[i] = -factor * (q + gamma * p * (below + l));
        if (soft) {
            factor = power == 0 ? 1.0f : power == 1 ? p : power == 2 ? p * p
                                       : decay(job->gamma, below, l);
            factor *= negative * (1.0f - y[i]);
            loss[i] += factor * (above + l);
            gradient[i] += factor * (p + gamma * q * (above + l));
        } else {
            gradient[i] = y[i] > 0.5f ? gradient[i] : -gradient[i];
        }
        gradient[i] *= share;
    }
    return sum(loss, count);
}

VECTORS static void sigmoid_work(Job *job) {
    float some_losses[BLOCK], some_slopes[BLOCK];
    double total = 0.0; /* of its own: the jobs of two threads are neighbours in memory */
    for (int64_t i = job->begin; i < job->end; i += BLOCK) {
        const int count = job->end - i < BLOCK ? (int)(job->end - i) : BLOCK;
        const float *x = job->x + i, *y = job->y + i;
        float *loss = job->loss ? job->loss + i : some_losses;
        float *gradient = job->gradient ? job->gradient + i : some_slopes;
        int soft = 0, wrong = 0;
        for (int k = 0; k < count; k++) {
            soft |= y[k] != 0.0f && y[k] != 1.0f;
            wrong |= !(y[k] >= 0.0f && y[k] <= 1.0f);
        }
#define TERM(power, soft) sigmoid_block(job, x, y, count, power, soft, loss, gradient)
        if (soft) total += job->gamma == 2.0 ? TERM(2, 1) : TERM(-1, 1);
        else if (job->gamma == 2.0) total += TERM(2, 0);
        else if (job->gamma == 1.0) total += TERM(1, 0);
        else if (job->gamma == 0.0) total += TERM(0, 0);
        else total += TERM(-1, 0);
        if (wrong) total = NAN;
    }
    job->total = total;
}

double focal_sigmoid(const float *x, const float *y, float *loss, float *gradient, int64_t count,
                     double positive, double negative, double gamma, double share, int threads) {
    Job job = {.x = x, .y = y, .loss = loss, .gradient = gradient, .positive = positive,
               .negative = negative, .gamma = gamma, .share = share};
    expect(loss, count);
    expect(gradient, count);
    return run(sigmoid_work, &job, count, threads);
}

/* --- Softmax ---------------------------------------------------------------------------------- */

INLINE float maximum(const float *x, int64_t count) {
    float largest = x[0];
#pragma omp simd reduction(max : largest)
    for (int64_t j = 0; j < count; j++) largest = x[j] > largest ? x[j] : largest;
    return largest;
}

enum { SHIFT = 32 };

/* 2^SHIFT e^(x - largest), so that a large weight finds digits in the small ones; NaN where a logit
   is NaN or +inf. */
INLINE void exponentials(const float *restrict x, const float *restrict largest, float *restrict e,
                         int count) {
    for (int j = 0; j < count; j++) {
        float d = x[j] - largest[j], left = left_over(x[j], largest[j], d);
        e[j] = exponential(d, d >= -108.0f ? left : 0.0f, SHIFT);
    }
}

INLINE void fill(float *v, float value, int64_t count) {
    for (int64_t j = 0; j < count; j++) v[j] = value;
}

/* A class index t. With e_j = e^(x_j - max x), S the sum of all but e_t, p = e_t / (e_t + S),
   q = S / (e_t + S), u = -log p and G = w_t q^gamma (q + gamma p u):
   loss = w_t q^gamma u, gradient_t = -G, gradient_j = G e_j / S. Given the e_j but 0 for t, and S. */
INLINE double hard_row(const Job *job, float d_t, float shifted_e_t, double shifted_others,
                       int64_t t, float *gradient) {
    const double gamma = job->gamma, w_t = job->unit * (job->weight ? job->weight[t] : 1.0);
    const double others = shifted_others * 0x1p-32, e_t = shifted_e_t * 0x1p-32;
    const double over = 1.0 / (e_t + others), p = e_t * over, q = others * over;
    const double u = d_t == 0.0f ? log1pf((float)others) : logf((float)(e_t + others)) - d_t;
    const double factor = w_t * (gamma == 2.0 ? q * q : pow(q, gamma));
    if (gradient) {
        const double slope = factor * (q + gamma * p * u) * job->share;
        double scale = others > 0.0 ? slope / others : 0.0, power = 0x1p-32;
        while (scale < 0x1p-90 && power > 0x1p-120) { /* float would lose what comes of it */
            scale *= 0x1p30;
            power *= 0x1p-30;
        }
        const float a = (float)scale, b = (float)power;
        for (int64_t j = 0; j < job->classes; j++) gradient[j] = gradient[j] * a * b;
        gradient[t] = (float)-slope;
    }
    return factor * u;
}

/* Some rows, few enough for a block, or one. */
INLINE double hard_rows(const Job *job, int64_t first, int rows) {
    const int64_t classes = job->classes, count = rows * classes;
    const float *x = job->x + first * classes;
    float *gradient = job->gradient ? job->gradient + first * classes : NULL;
    float reference[BLOCK], scratch[BLOCK];
    for (int r = 0; r < rows; r++)
        fill(reference + r * classes, maximum(x + r * classes, classes), classes < BLOCK ? classes : BLOCK);
    double total = 0.0, others = 0.0;
    float e_t = 0.0f;
    const int64_t t = job->index[first];
    for (int64_t j = 0; j < count; j += BLOCK) {
        const int part = count - j < BLOCK ? (int)(count - j) : BLOCK;
        float *e = gradient ? gradient + j : scratch;
        exponentials(x + j, reference, e, part);
        if (rows > 1) break;
        if (j <= t && t < j + part) {
            e_t = e[t - j];
            e[t - j] *= 0.0f; /* NaN stays */
        }
        others += sum(e, part);
    }
    for (int r = 0; r < rows; r++) {
        const int64_t i = first + r, t = job->index[i];
        float *e = (gradient ? gradient : scratch) + r * classes;
        double loss = 0.0;
        if (t < 0 || t >= classes) { /* ignored, or changed since it was checked */
            if (t >= 0) loss = NAN;
            if (gradient) memset(e, 0, classes * sizeof(float));
        } else {
            if (rows > 1) {
                e_t = e[t];
                e[t] *= 0.0f;
                others = sum(e, (int)classes);
            }
            const float d_t = x[r * classes + t] - reference[rows > 1 ? r * classes : 0];
            loss = hard_row(job, d_t, e_t, others, t, gradient ? e : NULL);
        }
        total += loss;
        if (job->loss) job->loss[i] = (float)loss;
    }
    return total;
}

/* Every class c with the factor a_c = w_c y_c. With e, T the sum of e, p_c = e_c / T, o_c = p_c / q_c
   and u_c = -log p_c: loss = sum_c a_c q_c^gamma u_c and, with h_c = a_c q_c^gamma (1 + gamma o_c u_c),
   gradient_j = p_j (sum of the other h) - q_j h_j. The largest logit is done apart, in double, since
   its q may be small: then q is the sum of the others, and so is its sum of the other h. */
INLINE double soft_row(const Job *job, const float *x, const float *y, int64_t t, float *gradient,
                       float *restrict e, float *restrict h, int power) {
    const int64_t classes = job->classes;
    const double gamma = job->gamma, even = job->smoothing / classes, given = 1.0 - job->smoothing;
    const float largest = maximum(x, classes);
    int64_t top = 0;
    while (top < classes - 1 && x[top] != largest) top++;
    double rest = 0.0, others = 0.0, loss = 0.0;
    float each[BLOCK];
    fill(each, largest, classes < BLOCK ? classes : BLOCK);
    for (int64_t j = 0; j < classes; j += BLOCK) {
        const int count = classes - j < BLOCK ? (int)(classes - j) : BLOCK;
        exponentials(x + j, each, e + j, count);
        if (j <= top && top < j + count) e[top] *= 0.0f;
        rest += sum(e + j, count);
        for (int k = 0; k < count; k++) h[j + k] = (float)((y ? given * y[j + k] : 0.0) + even);
    }
    rest = ldexp(rest, -SHIFT);
    if (t >= 0) h[t] = (float)(given + even);
    if (job->weight) for (int64_t j = 0; j < classes; j++) h[j] *= (float)job->weight[j];
    const double factor = h[top], total = 1.0 + rest, log_total = log1p(rest);
    const float shifted = (float)ldexp(total, SHIFT);
    h[top] = 0.0f;
    for (int64_t j = 0; j < classes; j += BLOCK) {
        const int count = classes - j < BLOCK ? (int)(classes - j) : BLOCK;
        for (int k = 0; k < count; k++) {
            float o = e[j + k] / (shifted - e[j + k]);
            float u = (largest - x[j + k]) + (float)log_total;
            float q, v = log_one_plus(o, &q);
            float value = h[j + k] * (power == 2 ? q * q : decay(gamma, 0.0f, v));
            each[k] = value * u;
            h[j + k] = value * (1.0f + (float)gamma * o * u);
        }
        loss += sum(each, count);
        others += sum(h + j, count);
    }
    const double p = 1.0 / total, q = rest / total, u = log_total;
    const double value = factor * pow(q, gamma);
    const double h_top = value * (1.0 + gamma * p * (rest > 0.0 ? u / q : 1.0));
    if (gradient) {
        const double share = job->share * job->unit;
        const float all = (float)(others + h_top), scale = (float)ldexp(share / total, -SHIFT);
        for (int64_t j = 0; j < classes; j++)
            gradient[j] = (e[j] * (all - h[j]) - (shifted - e[j]) * h[j]) * scale;
        gradient[top] = (float)((p * others - q * h_top) * share);
    }
    return (loss + value * u) * job->unit;
}

VECTORS static void softmax_work(Job *job) {
    const int64_t classes = job->classes;
    double total = 0.0; /* of its own: the jobs of two threads are neighbours in memory */
    if (!job->y && job->smoothing == 0.0) {
        const int most = classes < BLOCK ? (int)(BLOCK / classes) : 1;
        for (int64_t i = job->begin; i < job->end; i += most)
            total += hard_rows(job, i, job->end - i < most ? (int)(job->end - i) : most);
        job->total = total;
        return;
    }
    float *scratch = malloc(2 * classes * sizeof(float));
    if (!scratch) total = NAN;
    for (int64_t i = job->begin; i < job->end && scratch; i++) {
        const float *x = job->x + i * classes, *y = job->y ? job->y + i * classes : NULL;
        float *gradient = job->gradient ? job->gradient + i * classes : NULL;
        const int64_t t = job->index ? job->index[i] : -1;
        double loss = 0.0;
#define ROW(power) soft_row(job, x, y, t, gradient, scratch, scratch + classes, power)
        if (job->index && (t < 0 || t >= classes)) { /* ignored, or changed since it was checked */
            if (t >= 0) loss = NAN;
            if (gradient) memset(gradient, 0, classes * sizeof(float));
        } else {
            loss = job->gamma == 2.0 ? ROW(2) : ROW(-1);
        }
        total += loss;
        if (job->loss) job->loss[i] = (float)loss;
    }
    free(scratch);
    job->total = total;
}

double focal_softmax(const float *x, const int64_t *index, const float *y, const double *weight,
                     float *loss, float *gradient, int64_t count, int64_t classes, double unit,
                     double smoothing, double gamma, double share, int threads) {
    Job job = {.x = x, .index = index, .y = y, .weight = weight, .loss = loss, .gradient = gradient,
               .classes = classes, .unit = unit, .smoothing = smoothing, .gamma = gamma, .share = share};
    expect(gradient, count * classes);
    return run(softmax_work, &job, count, threads);
}

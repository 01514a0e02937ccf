/* The focal losses of float32 logits with hard targets, and their gradients, in one pass over memory.

   focal_lib.torch calls these functions through ctypes where the package could compile them when it
   was installed, and computes the same without them elsewhere. Each divides its work among threads,
   writes the losses and the gradient if it is given room for them, and returns the sum of the
   losses: NaN if a number is not finite or a target not hard, which the caller then handles.

   Differences of logits are exact (a rounded one, and what the rounding left) and every function of
   them is good to about an eps. So this must not be compiled with -ffast-math. */

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
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

/* e^(a + b), for a <= 0 and a small b: with a = n log 2 + r, 2^n times a polynomial in r. */
INLINE float exponential(float a, float b) {
    a = a < -150.0f ? -150.0f : a;
    float n = rintf(a * 1.44269504f);
    float r = fmaf(n, -0.693145752f, a); /* log 2 in two parts, the first with few bits */
    r = fmaf(n, -1.42860682e-6f, r) + b;
    float y = fmaf(0.00139261836f, r, 0.00836317905f);
    y = fmaf(y, r, 0.0416665546f);
    y = fmaf(y, r, 0.16666577f);
    y = fmaf(y, r, 0.5f);
    y = fmaf(y * r, r, r) + 1.0f;
    int32_t half = (int32_t)n / 2;
    return y * power_of_two(half) * power_of_two((int32_t)n - half);
}

/* log(1 + e), for 0 <= e <= 1: with 1 + e = 2^k (1 + g) and s = g / (2 + g), k log 2 + 2 atanh s. */
INLINE float log_one_plus(float e) {
    float k = e > 0.414f ? 1.0f : 0.0f;
    float g = e > 0.414f ? 0.5f * (e - 1.0f) : e;
    float s = g / (2.0f + g);
    float w = s * s;
    float half = 0.5f * g * g;
    float rest = fmaf(fmaf(0.295803078f, w, 0.399887727f), w, 0.666666851f) * w;
    rest = fmaf(k, 1.42860682e-6f, s * (half + rest)) - half;
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
    const float *x, *y;
    const int64_t *index;
    const double *factor;
    float *loss, *gradient;
    int64_t begin, end, classes;
    double positive, negative, gamma, share, total;
} Job;

static double run(void *(*work)(void *), const Job *whole, int64_t count, int threads) {
    Job jobs[MOST_THREADS];
    pthread_t ids[MOST_THREADS];
    int started[MOST_THREADS] = {0};
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    for (int k = threads - 1; k >= 0; k--) {
        jobs[k] = *whole;
        jobs[k].begin = count * k / threads;
        jobs[k].end = count * (k + 1) / threads;
        started[k] = k && !pthread_create(&ids[k], NULL, work, &jobs[k]);
        if (!started[k]) work(&jobs[k]);
    }
    double total = 0.0;
    for (int k = 0; k < threads; k++) {
        if (started[k]) pthread_join(ids[k], NULL);
        total += jobs[k].total;
    }
    return total;
}

/* --- Sigmoid ---------------------------------------------------------------------------------- */

/* With s = 2y - 1, z = s x, p = sigma(z), q = sigma(-z), u = -log p:
   loss = alpha_t q^gamma u, gradient = -s alpha_t q^gamma (q + gamma p u). */
INLINE double sigmoid_block(const Job *job, const float *x, const float *y, int count, int power,
                            float *loss, float *gradient) {
    const float gamma = (float)job->gamma, gamma_left = (float)(job->gamma - gamma);
    const float positive = (float)job->positive, negative = (float)job->negative;
    const float share = (float)job->share;
    int soft = 0;
    for (int i = 0; i < count; i++) {
        soft |= y[i] * y[i] != y[i];
        float minus_s = 1.0f - 2.0f * y[i];
        float minus_z = minus_s * x[i];
        float e = exponential(-fabsf(x[i]), 0.0f);
        float l = log_one_plus(e);
        float large = 1.0f / (1.0f + e), small = e * large;
        float p = minus_z < 0.0f ? large : small, q = minus_z < 0.0f ? small : large;
        float u = (minus_z > 0.0f ? minus_z : 0.0f) + l;
        float factor;
        if (power >= 0) {
            factor = power == 0 ? 1.0f : power == 1 ? q : q * q;
        } else { /* e^(gamma log q), gamma log q in two parts */
            float z = minus_z < 0.0f ? -minus_z : 0.0f;
            float a = gamma * z, b = gamma * l, h = a + b;
            float rest = left_over(a, -b, h) + fmaf(gamma, z, -a) + fmaf(gamma, l, -b);
            factor = exponential(-h, -fmaf(gamma_left, z + l, rest));
        }
        factor *= y[i] > 0.5f ? positive : negative;
        gradient[i] = factor * (q + gamma * p * u) * minus_s * share;
        loss[i] = factor * u + 0.0f * minus_z;
    }
    return soft ? NAN : sum(loss, count);
}

VECTORS static void *sigmoid_work(void *argument) {
    Job *job = argument;
    float loss[BLOCK], gradient[BLOCK];
    job->total = 0.0;
    for (int64_t i = job->begin; i < job->end; i += BLOCK) {
        const int count = job->end - i < BLOCK ? (int)(job->end - i) : BLOCK;
        const float *x = job->x + i, *y = job->y + i;
        if (job->gamma == 2.0) job->total += sigmoid_block(job, x, y, count, 2, loss, gradient);
        else if (job->gamma == 1.0) job->total += sigmoid_block(job, x, y, count, 1, loss, gradient);
        else if (job->gamma == 0.0) job->total += sigmoid_block(job, x, y, count, 0, loss, gradient);
        else job->total += sigmoid_block(job, x, y, count, -1, loss, gradient);
        if (job->loss) memcpy(job->loss + i, loss, count * sizeof(float));
        if (job->gradient) memcpy(job->gradient + i, gradient, count * sizeof(float));
    }
    return NULL;
}

double focal_sigmoid(const float *x, const float *y, float *loss, float *gradient, int64_t count,
                     double positive, double negative, double gamma, double share, int threads) {
    Job job = {.x = x, .y = y, .loss = loss, .gradient = gradient, .positive = positive,
               .negative = negative, .gamma = gamma, .share = share};
    return run(sigmoid_work, &job, count, threads);
}

/* --- Softmax ---------------------------------------------------------------------------------- */

/* With e_j = e^(x_j - max x), S the sum of all but e_t, p = e_t / (e_t + S), q = S / (e_t + S):
   loss = w q^gamma u, G = w q^gamma (q + gamma p u), gradient_t = -G, gradient_j = G e_j / S. */
VECTORS static void *softmax_work(void *argument) {
    Job *job = argument;
    const int64_t classes = job->classes;
    const double gamma = job->gamma;
    float scratch[BLOCK];
    job->total = 0.0;
    for (int64_t i = job->begin; i < job->end; i++) {
        const float *x = job->x + i * classes;
        float *gradient = job->gradient ? job->gradient + i * classes : NULL;
        const int64_t t = job->index[i];
        if (t < 0) { /* ignored */
            if (gradient) memset(gradient, 0, classes * sizeof(float));
            if (job->loss) job->loss[i] = 0.0f;
            continue;
        }
        float largest = x[0];
#pragma omp simd reduction(max : largest)
        for (int64_t j = 0; j < classes; j++) largest = x[j] > largest ? x[j] : largest;
        double others = 0.0;
        for (int64_t j = 0; j < classes; j += BLOCK) {
            const int count = classes - j < BLOCK ? (int)(classes - j) : BLOCK;
            const float *restrict from = x + j;
            float *restrict e = gradient ? gradient + j : scratch;
            for (int k = 0; k < count; k++) {
                float d = from[k] - largest, left = left_over(from[k], largest, d);
                e[k] = exponential(d, d > -150.0f ? left : 0.0f);
            }
            if (j <= t && t < j + count) e[t - j] = 0.0f * e[t - j]; /* NaN stays */
            others += sum(e, count);
        }
        const double d_t = (double)x[t] - largest;
        const double e_t = exp(d_t), all = e_t + others;
        const double p = e_t / all, q = others / all;
        const double u = d_t == 0.0 ? log1p(others) : log(all) - d_t;
        double factor = gamma == 2.0 ? q * q : pow(q, gamma);
        if (job->factor) factor *= job->factor[i];
        const double loss = factor * u, slope = factor * (q + gamma * p * u) * job->share;
        job->total += loss;
        if (job->loss) job->loss[i] = (float)loss;
        if (gradient) {
            const float scale = others > 0.0 ? (float)(slope / others) : 0.0f;
            for (int64_t j = 0; j < classes; j++) gradient[j] *= scale;
            gradient[t] = (float)-slope;
        }
    }
    return NULL;
}

double focal_softmax(const float *x, const int64_t *index, const double *factor, float *loss,
                     float *gradient, int64_t count, int64_t classes, double gamma, double share,
                     int threads) {
    Job job = {.x = x, .index = index, .factor = factor, .loss = loss, .gradient = gradient,
               .classes = classes, .gamma = gamma, .share = share};
    return run(softmax_work, &job, count, threads);
}

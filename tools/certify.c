/* The compiled sigmoid loss and its gradient at float32 logits, beside the same in double.

   The reference has e = exp(-|x|) and log1p(e) of the C library, both within an ulp of double, and
   about 5 + 3 gamma roundings: its relative error is below 2^-53 (6 + 4 gamma), 3e-15 at gamma = 5,
   which is 5e-8 of the ulp that is counted. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { BLOCK = 2048 };

typedef struct {
    double ulp, at;           /* the largest error, and the logit it is at */
    int64_t count, rounded;   /* normal results, and how many are the nearest float */
} Errors;

static double power(double q, double gamma) {
    if (gamma == 0.5) return sqrt(q);
    if (gamma != rint(gamma) || gamma > 8.0) return pow(q, gamma);
    double product = 1.0;
    for (int k = 0; k < (int)gamma; k++) product *= q;
    return product;
}

static void compare(const float *got, const double *true, const float *x, int count,
                    Errors *errors) {
    for (int i = 0; i < count; i++) {
        const double size = fabs(true[i]);
        if (!(size >= FLT_MIN && size <= FLT_MAX)) continue;
        uint64_t bits;
        memcpy(&bits, &size, sizeof bits);
        bits = (bits & 0x7ff0000000000000u) - (23ull << 52); /* an ulp of float */
        double ulp;
        memcpy(&ulp, &bits, sizeof ulp);
        const double error = fabs(got[i] - true[i]) / ulp;
        errors->count++;
        errors->rounded += got[i] == (float)true[i];
        if (!(error <= errors->ulp)) errors->ulp = error, errors->at = x[i];
    }
}

/* Of the logits whose absolute values have the bits first, first + stride, ... before last: the
   errors of loss and gradient for label 0, then for label 1. The kernel computes count logits of
   the arrays in its arguments, which have room for 2 BLOCK. */
void certify(int (*kernel)(void *), void *arguments, int64_t *count, float *x, float *y,
             float *loss, float *gradient, double gamma, uint32_t first, uint32_t last,
             uint32_t stride, Errors errors[4]) {
    static _Thread_local double f[2][2 * BLOCK], slope[2][2 * BLOCK];
    for (uint64_t next = first; next < last;) {
        int n = 0;
        for (; n < BLOCK && next < last; next += stride, n++) {
            uint32_t bits = (uint32_t)next;
            memcpy(&x[n], &bits, sizeof bits);
        }
        for (int i = 0; i < n; i++) { /* f and its slope at x, then at -x */
            const double z = x[i], e = z > 800.0 ? 0.0 : exp(-z), l = z > 800.0 ? 0.0 : log1p(e);
            const double p = 1.0 / (1.0 + e), q = e / (1.0 + e), u = z + l;
            const double easy = power(q, gamma), hard = power(p, gamma);
            x[n + i] = -x[i];
            f[1][i] = f[0][n + i] = easy * l;
            f[0][i] = f[1][n + i] = hard * u;
            slope[1][i] = -easy * (q + gamma * (p * l));
            slope[0][n + i] = -slope[1][i];
            slope[0][i] = hard * (p + gamma * (q * u));
            slope[1][n + i] = -slope[0][i];
        }
        *count = 2 * n;
        for (int label = 0; label < 2; label++) {
            for (int i = 0; i < 2 * n; i++) y[i] = (float)label;
            kernel(arguments);
            compare(loss, f[label], x, 2 * n, &errors[2 * label]);
            compare(gradient, slope[label], x, 2 * n, &errors[2 * label + 1]);
        }
    }
}

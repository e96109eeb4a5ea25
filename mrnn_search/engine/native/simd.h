// Vectors of WIDTH floats for whatever instruction set this is compiled for, and the functions that cells are made of.
// GCC's and Clang's vector extensions: plain C++ that becomes AVX-512, AVX2 or the machine's baseline.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace mrnn {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX2__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif

typedef float vf __attribute__((vector_size(WIDTH * 4)));
typedef int32_t vi __attribute__((vector_size(WIDTH * 4)));

static inline vf load(const float* p) {
    vf v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }

static inline vf all(float x) { return x - vf{}; }  // minus, not plus: -0 + 0 is not -0, so that a sum would be computed

// The first n of WIDTH elements; the rest is zero, and is not touched in memory.
static inline vf load_some(const float* p, int n) {
    vf v = {};
    std::memcpy(&v, p, n * sizeof(float));
    return v;
}

static inline void store_some(float* p, vf v, int n) { std::memcpy(p, &v, n * sizeof(float)); }

// NaN stays NaN in all of these: comparisons with it are false, so that the argument itself is what is left.
static inline vf at_most(vf x, float bound) { return x > all(bound) ? all(bound) : x; }
static inline vf at_least(vf x, float bound) { return x < all(bound) ? all(bound) : x; }
static inline vf absolute(vf x) { return (vf)((vi)x & (vi{} + 0x7fffffff)); }

#if defined(__AVX512F__)
static inline vf root(vf x) { return (vf)_mm512_sqrt_ps((__m512)x); }
#elif defined(__AVX2__)
static inline vf root(vf x) { return (vf)_mm256_sqrt_ps((__m256)x); }
#else
static inline vf root(vf x) {
    for (int i = 0; i < WIDTH; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
}
#endif

// exp(x) = 2^whole times what is returned, a polynomial on |x| <= ln(2) / 2 (coefficients of Cephes' expf), to 1 ulp or so.
static inline vf exponential_parts(vf x, vi& whole) {
    const vf magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number, which is then in the low bits
    vf shifted = x * 1.44269504088896341f + magic;
    vf n = shifted - magic;
    vf r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vf p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    whole = (vi)shifted - (vi)magic;
    return (p * r) * r + r + 1.0f;
}

// exp between -87.3 and 88.3. Below it gives the smallest normal number, above the largest power that stays finite; no
// denormals, no infinity.
static inline vf exponential(vf x) {
    vi whole;
    vf p = exponential_parts(at_least(at_most(x, 88.3f), -87.3f), whole);
    return (vf)((vi)p + (whole << 23));
}

static inline vf sigmoid(vf x) { return 1.0f / (1.0f + exponential(-x)); }

// tanh to 3 ulp or so: an odd rational function of degree 13 over 6 on |x| <= 7.9 (coefficients as in Eigen's ptanh).
static inline vf hyperbolic_tangent(vf x) {
    x = at_least(at_most(x, 7.90531110763549805f), -7.90531110763549805f);
    vf s = x * x;
    vf p = all(-2.76076847742355e-16f);
    p = p * s + 2.00018790482477e-13f;
    p = p * s + -8.60467152213735e-11f;
    p = p * s + 5.12229709037114e-08f;
    p = p * s + 1.48572235717979e-05f;
    p = p * s + 6.37261928875436e-04f;
    p = p * s + 4.89352455891786e-03f;
    vf q = all(1.19825839466702e-06f);
    q = q * s + 1.18534705686654e-04f;
    q = q * s + 2.26843463243900e-03f;
    q = q * s + 4.89352518554385e-03f;
    return x * p / q;
}

// exp with torch's ends: inf above 88.7, 0 where the result would be denormal. 1 ulp or so.
static inline vf exponential_to_infinity(vf x) {
    vi whole;
    vf p = exponential_parts(at_least(at_most(x, 89.0f), -88.0f), whole);
    vi half = whole >> 1;  // 2^128 is no float, but a product of two
    return p * (vf)((half + 127) << 23) * (vf)((whole - half + 127) << 23);
}

// log to 1 ulp or so (coefficients of Cephes' logf): -inf of 0, NaN below.
static inline vf logarithm(vf x) {
    vi bits = (vi)x, above = bits - 0x3f3504f3;  // of sqrt(1/2): the mantissa is then in [sqrt(1/2), sqrt(2))
    vf e = __builtin_convertvector(above >> 23, vf);
    vf m = (vf)(bits - (above & (vi{} + (int32_t)0xff800000))) - 1.0f;
    vf s = m * m;
    vf p = all(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    vf y = p * m * s - e * 2.12194440e-4f - 0.5f * s;
    y = m + y + e * 0.693359375f;
    y = x == all(0.0f) ? all(-__builtin_inff()) : y;
    y = x == all(__builtin_inff()) ? x : y;
    return x >= all(0.0f) ? y : all(__builtin_nanf(""));
}

// While it lives, this thread counts denormals as zero: small gradients over many steps are full of them, and each costs a
// hundred cycles.
class NoDenormals {
#if defined(__x86_64__) || defined(__i386__)
    unsigned before;

   public:
    NoDenormals() : before(_mm_getcsr()) { _mm_setcsr(before | 0x8040); }
    ~NoDenormals() { _mm_setcsr(before); }
#endif
};

}  // namespace mrnn

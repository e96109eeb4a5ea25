// The operations of the machine in rule.cpp: each one on vectors, in every mix of vectors and scalars.
#pragma once

#include <cmath>

#include "simd.h"

namespace mrnn {
namespace {

#define OPERATION(NAME, PARAMETERS, RESULT) \
    struct NAME {                           \
        static inline vf of PARAMETERS { return RESULT; } \
    }

static inline vf zero() { return vf{}; }

OPERATION(Mov, (vf a), a);
OPERATION(Neg, (vf a), -a);
OPERATION(Abs, (vf a), absolute(a));
OPERATION(Sign, (vf a), (a > zero() ? all(1.0f) : a < zero() ? all(-1.0f) : zero()));
OPERATION(Sqrt, (vf a), root(a));
OPERATION(Recip, (vf a), 1.0f / a);
OPERATION(InverseRoot, (vf a), 1.0f / root(a));
OPERATION(Exp, (vf a), exponential_to_infinity(a));
OPERATION(Log, (vf a), logarithm(a));
OPERATION(Tanh, (vf a), hyperbolic_tangent(a));
OPERATION(Sigmoid, (vf a), sigmoid(a));
OPERATION(Relu, (vf a), at_least(a, 0.0f));

OPERATION(Add, (vf a, vf b), a + b);
OPERATION(Sub, (vf a, vf b), a - b);
OPERATION(Mul, (vf a, vf b), a * b);
OPERATION(Div, (vf a, vf b), a / b);
OPERATION(Min, (vf a, vf b), ((a < b) | (a != a) ? a : b));
OPERATION(Max, (vf a, vf b), ((a > b) | (a != a) ? a : b));
OPERATION(RootSum, (vf a, vf b), root(a + b));
OPERATION(InverseRootSum, (vf a, vf b), 1.0f / root(a + b));
OPERATION(ReluGrad, (vf g, vf a), (a <= zero() ? zero() : g));
OPERATION(UnlessZero, (vf a, vf b), (a == zero() ? zero() : b));  // b, but 0 where a is 0

struct Pow {
    static inline vf of(vf a, vf b) {
        for (int i = 0; i < WIDTH; i++) a[i] = std::pow(a[i], b[i]);
        return a;
    }
};

OPERATION(Fma, (vf a, vf b, vf c), a * b + c);
OPERATION(Fms, (vf a, vf b, vf c), a * b - c);
OPERATION(Fnma, (vf a, vf b, vf c), c - a * b);
OPERATION(Mul3, (vf a, vf b, vf c), a * b * c);
OPERATION(DivRootSum, (vf a, vf b, vf c), a / root(b + c));
OPERATION(MaxGrad, (vf g, vf a, vf b), (a < b ? zero() : a == b ? 0.5f * g : g));  // what a gets of max(a, b), b of min(a, b)
// Of equal entries the last one is the peak; 0 is nobody's, as it is where a peak starts.
OPERATION(PeakGrad, (vf g, vf a, vf old), ((a < old) | (a == zero()) ? zero() : g));
OPERATION(PeakRest, (vf g, vf a, vf old), ((a < old) | (a == zero()) ? g : zero()));

OPERATION(Mul4, (vf a, vf b, vf c, vf d), (a * b) * (c * d));
OPERATION(Dot2, (vf a, vf b, vf c, vf d), a * b + c * d);
OPERATION(Dot2Square, (vf a, vf b, vf c, vf d), a * b + c * (d * d));

// One operand at element i: a vector, or a scalar, which is there already.
template <bool SCALAR>
struct Operand {
    const float* p;
    vf held;
    explicit Operand(const float* p) : p(p), held(SCALAR ? all(*p) : vf{}) {}
    inline vf at(int i) const { return SCALAR ? held : load(p + i); }
};

typedef void (*Kernel)(float* to, const float* const* from, int n);

// Bit k of MODE: operand k is a scalar. Results may lie where an operand lies.
template <class F, int MODE>
void unary(float* to, const float* const* from, int n) {
    Operand<(MODE & 1) != 0> a(from[0]);
    for (int i = 0; i < n; i += WIDTH) store(to + i, F::of(a.at(i)));
}

template <class F, int MODE>
void binary(float* to, const float* const* from, int n) {
    Operand<(MODE & 1) != 0> a(from[0]);
    Operand<(MODE & 2) != 0> b(from[1]);
    for (int i = 0; i < n; i += WIDTH) store(to + i, F::of(a.at(i), b.at(i)));
}

template <class F, int MODE>
void ternary(float* to, const float* const* from, int n) {
    Operand<(MODE & 1) != 0> a(from[0]);
    Operand<(MODE & 2) != 0> b(from[1]);
    Operand<(MODE & 4) != 0> c(from[2]);
    for (int i = 0; i < n; i += WIDTH) store(to + i, F::of(a.at(i), b.at(i), c.at(i)));
}

template <class F, int MODE>
void quaternary(float* to, const float* const* from, int n) {
    Operand<(MODE & 1) != 0> a(from[0]);
    Operand<(MODE & 2) != 0> b(from[1]);
    Operand<(MODE & 4) != 0> c(from[2]);
    Operand<(MODE & 8) != 0> d(from[3]);
    for (int i = 0; i < n; i += WIDTH) store(to + i, F::of(a.at(i), b.at(i), c.at(i), d.at(i)));
}

// The sum of a, or of a b, over exactly n elements, in an order of its own: WIDTH sums, then these.
template <int COUNT, int MODE>
double total(const float* const* from, int n) {
    typedef double vd __attribute__((vector_size(WIDTH * 8)));
    Operand<(MODE & 1) != 0> a(from[0]);
    Operand<(MODE & 2) != 0> b(from[COUNT - 1]);
    vd sums = {};
    int i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        vd x = __builtin_convertvector(a.at(i), vd);
        sums += COUNT == 1 ? x : x * __builtin_convertvector(b.at(i), vd);
    }
    double sum = 0;
    for (int k = 0; k < WIDTH; k++) sum += sums[k];
    for (; i < n; i++) {
        double x = from[0][MODE & 1 ? 0 : i];
        sum += COUNT == 1 ? x : x * (double)from[1][MODE & 2 ? 0 : i];
    }
    return sum;
}

// In the order of their numbers: an operation is known to Python by its name in here (rule_operations).
constexpr char NAMES[] =
    "mov neg abs sign sqrt recip inverse_root exp log tanh sigmoid relu "
    "add sub mul div min max root_sum inverse_root_sum relu_grad unless_zero pow "
    "fma fms fnma mul3 div_root_sum max_grad peak_grad peak_rest mul4 dot2 dot2_square sum dot";

#define UNARY(F) {unary<F, 0>, unary<F, 1>}
#define BINARY(F) {binary<F, 0>, binary<F, 1>, binary<F, 2>, binary<F, 3>}
#define TERNARY(F) \
    {ternary<F, 0>, ternary<F, 1>, ternary<F, 2>, ternary<F, 3>, ternary<F, 4>, ternary<F, 5>, ternary<F, 6>, ternary<F, 7>}
#define QUATERNARY(F)                                                                                           \
    {quaternary<F, 0>,  quaternary<F, 1>,  quaternary<F, 2>,  quaternary<F, 3>, quaternary<F, 4>,  quaternary<F, 5>, \
     quaternary<F, 6>,  quaternary<F, 7>,  quaternary<F, 8>,  quaternary<F, 9>, quaternary<F, 10>, quaternary<F, 11>, \
     quaternary<F, 12>, quaternary<F, 13>, quaternary<F, 14>, quaternary<F, 15>}

constexpr Kernel KERNELS[][16] = {
    UNARY(Mov), UNARY(Neg), UNARY(Abs), UNARY(Sign), UNARY(Sqrt), UNARY(Recip), UNARY(InverseRoot), UNARY(Exp), UNARY(Log), UNARY(Tanh),
    UNARY(Sigmoid), UNARY(Relu),
    BINARY(Add), BINARY(Sub), BINARY(Mul), BINARY(Div), BINARY(Min), BINARY(Max), BINARY(RootSum), BINARY(InverseRootSum), BINARY(ReluGrad), BINARY(UnlessZero),
    BINARY(Pow),
    TERNARY(Fma), TERNARY(Fms), TERNARY(Fnma), TERNARY(Mul3), TERNARY(DivRootSum), TERNARY(MaxGrad), TERNARY(PeakGrad), TERNARY(PeakRest),
    QUATERNARY(Mul4), QUATERNARY(Dot2), QUATERNARY(Dot2Square),
};
constexpr int SUM = sizeof KERNELS / sizeof KERNELS[0], DOT = SUM + 1;

}  // namespace
}  // namespace mrnn

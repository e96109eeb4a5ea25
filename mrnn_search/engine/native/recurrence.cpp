// Recurrences of many lanes (cells of one base and shape, each with weights of its own) over whole sequences, forward and
// backward: h_t = cell(W z_t + b + d_t, U h_{t-1} + b_u), float32.
//
// One (lane, block of rows of the batch) is a task that walks all time steps without waiting for any other. How the rows are
// cut depends on the batch alone and every sum has a fixed order, so a lane's result depends neither on its neighbours nor
// on the number of threads. Weights are packed once a call into panels of 16 columns; the products of a step go, tile by tile,
// into a panel of pre-activations that is still in cache when the cell's functions are applied to it.
//
// Shapes: T time, B batch, I width of z, H hidden, G blocks of H rows in the weights, R rows of a block, P panels of 16
// units. "Panel layout" of (R, H): [P][R][16], zeros beyond H.

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "simd.h"

namespace mrnn {
namespace {

constexpr int PANEL = 16;
constexpr int NV = PANEL / WIDTH;                         // vectors across a panel
constexpr int MR = WIDTH == 16 ? 14 : WIDTH == 8 ? 6 : 3;  // rows of a register tile: accumulators fill the registers
constexpr int MAX_ROWS = 64;                              // of a block
constexpr int MAX_GROUPS = 4;
constexpr long GRADIENT_CHUNK = 48 * 1024;  // floats of pre-activation gradients that are kept before they enter dU: they stay in L2

enum Family { LSTM, GRU, RNN_TANH, RNN_RELU, MODRELU };

// Pre-activations come in groups of H columns. A group has a product with h, one with z, or both: a gru's candidate needs
// its two products apart. What is saved for the backward pass lies in the groups' places, an lstm's c behind them; of cells
// without gates nothing is saved. `saved`: of the groups.
struct Layout {
    int groups, blocks, saved, states;
    int u[MAX_GROUPS], d[MAX_GROUPS];  // block of rows of U and of W, -1: none
};

Layout layout_of(int family) {
    switch (family) {
        case LSTM: return {4, 4, 4, 2, {0, 1, 2, 3}, {0, 1, 2, 3}};
        case GRU: return {4, 3, 4, 1, {0, 1, 2, -1}, {0, 1, -1, 2}};
        default: return {1, 1, 0, 1, {0, -1, -1, -1}, {0, -1, -1, -1}};
    }
}

}  // namespace

extern "C" {

// One lane: row-major float32. A null pointer is an argument that is absent, or a gradient that nobody wants.
struct Lane {
    const float *z, *w, *b;    // (T, B, I), (G H, I), (G H)
    const float *d;            // (T, B, G H), added to the drive
    const float *u, *bu, *m;   // (G H, H), (G H), (H) bias of modReLU
    const float *h0, *c0;      // (B, H)
    float *y, *c, *saved;      // (T, B, H), (B, H), mrnn_saved floats
    const float *dy, *dc;       // (T, B, H), (B, H)
    float *dz, *dw, *db, *dd, *du, *dbu, *dm, *dh0, *dc0;
};

struct Shape {
    int family, steps, batch, inputs, hidden, lanes, threads, recompute;
};

}  // extern "C"

namespace {

// a (rows, k) times a panel b (k, 16), added to acc. Element (m, i) of a is a[m * across + i * along].
template <int M, int V>
inline __attribute__((always_inline)) void multiply(vf (&acc)[M][V], const float* a, long across, long along, const float* b, long k) {
    for (long i = 0; i < k; i++) {
        vf column[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) column[v] = load(b + i * PANEL + v * WIDTH);
#pragma GCC unroll 16
        for (int m = 0; m < M; m++) {
            vf left = all(a[m * across + i * along]);
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) acc[m][v] += left * column[v];
        }
    }
}

template <int M>
struct Rows {
    static constexpr int count = M;
};

// f(Rows<n>, first row) for all rows, n <= MR at a time.
template <int M, class F>
inline void remainder(int left, int row, F&& f) {
    if constexpr (M > 0) {
        if (left == M) return f(Rows<M>{}, row);
        remainder<M - 1>(left, row, f);
    }
}

template <class F>
inline void by_rows(int rows, F&& f) {
    int row = 0;
    for (; row + MR <= rows; row += MR) f(Rows<MR>{}, row);
    remainder<MR - 1>(rows - row, row, f);
}

inline vf load_edge(const float* p, int n) { return n >= WIDTH ? load(p) : n > 0 ? load_some(p, n) : vf{}; }
inline void store_edge(float* p, vf v, int n) {
    if (n >= WIDTH)
        store(p, v);
    else if (n > 0)
        store_some(p, v, n);
}

struct Buffer {  // of floats; not initialised
    std::unique_ptr<float, decltype(&std::free)> data{nullptr, &std::free};
    long size = 0;
    float* get(long floats) {
        if (floats > size) {
            data.reset(static_cast<float*>(std::aligned_alloc(64, (floats * 4 + 63) / 64 * 64)));
            size = data ? floats : 0;
        }
        return data.get();
    }
};

struct Sizes {
    Shape s;
    Layout l;
    bool again;                // the backward pass computes the gates once more, and so they are not saved
    int panels, blocks, rows;  // rows: of the largest block
    explicit Sizes(const Shape& shape) : s(shape), l(layout_of(shape.family)), again(shape.recompute && l.saved) {
        if (again) l.saved = 0;
        panels = (s.hidden + PANEL - 1) / PANEL;
        blocks = std::max(1, (s.batch + MAX_ROWS - 1) / MAX_ROWS);  // no rows at all are one block of none
        rows = std::max(1, (s.batch + blocks - 1) / blocks);
    }
    int first(int block) const { return block * rows; }
    int count(int block) const { return std::min(rows, s.batch - block * rows); }
    long saved_step() const { return (long)(l.saved + l.states - 1) * panels * rows * PANEL; }
    long saved_block() const { return saved_step() * s.steps; }
    long depth(int g) const { return (l.u[g] >= 0 ? s.hidden : 0) + (l.d[g] >= 0 ? s.inputs : 0); }
    // Panels of the forward pass: for each group and panel [depth][16], U before W, then the biases [groups][panels][16].
    long forward_weights() const {
        long total = 0;
        for (int g = 0; g < l.groups; g++) total += depth(g) * panels * PANEL;
        return total + bias_floats();
    }
    // Scratch of the backward pass for what it computes again of a panel of R rows: gates, c, and h in the rows of a whole h.
    long again_floats(int R) const { return again ? (long)(l.groups + 1 + panels) * R * PANEL : 0; }
    long bias_floats() const { return (long)l.groups * panels * PANEL; }
    int input_panels() const { return (s.inputs + PANEL - 1) / PANEL; }
    // Panels of the backward pass: [output panel][group][panel of units][16][16], U's, then W's.
    long back_u() const { return (long)panels * l.blocks * panels * PANEL * PANEL; }
    long back_w() const { return (long)input_panels() * l.blocks * panels * PANEL * PANEL; }
    // Gradients of weights of one block of rows: as forward_weights without padding of the depth, and modReLU's bias.
    long gradients() const { return forward_weights() + (long)panels * PANEL; }
};

void pack_forward(const Sizes& z, const Lane& lane, float* out) {
    const int H = z.s.hidden, I = z.s.inputs;
    float* bias = out + z.forward_weights() - z.bias_floats();
    for (int g = 0; g < z.l.groups; g++)
        for (int p = 0; p < z.panels; p++) {
            const int width = std::min(PANEL, H - p * PANEL), u = z.l.u[g], d = z.l.d[g];
            auto put = [&](const float* weight, int block, int depth) {
                for (int k = 0; k < depth; k++, out += PANEL)
                    for (int c = 0; c < PANEL; c++) out[c] = c < width ? weight[((long)block * H + p * PANEL + c) * depth + k] : 0.0f;
            };
            if (u >= 0) put(lane.u, u, H);
            if (d >= 0 && I) put(lane.w, d, I);
            for (int c = 0; c < PANEL; c++, bias++) {
                *bias = 0.0f;
                if (c < width && u >= 0 && lane.bu) *bias += lane.bu[u * H + p * PANEL + c];
                if (c < width && d >= 0 && lane.b) *bias += lane.b[d * H + p * PANEL + c];
            }
        }
}

void pack_back(const Sizes& z, const float* weight, const int* block_of, int columns, float* out) {
    const int H = z.s.hidden;
    for (int p = 0; p * PANEL < columns; p++)
        for (int g = 0; g < z.l.groups; g++) {
            if (block_of[g] < 0) continue;
            for (int q = 0; q < z.panels; q++)
                for (int k = 0; k < PANEL; k++, out += PANEL)
                    for (int c = 0; c < PANEL; c++) {
                        const int unit = q * PANEL + k, column = p * PANEL + c;
                        out[c] = unit < H && column < columns ? weight[((long)block_of[g] * H + unit) * columns + column] : 0.0f;
                    }
        }
}

// (rows, H) row-major <-> panel layout
void to_panels(const float* from, int rows, int H, float* to) {
    for (int p = 0; p * PANEL < H; p++)
        for (int r = 0; r < rows; r++, to += PANEL)
            for (int c = 0; c < PANEL; c += WIDTH) store(to + c, load_edge(from + (long)r * H + p * PANEL + c, H - p * PANEL - c));
}

void from_panels(const float* from, int rows, int H, float* to) {
    for (int p = 0; p * PANEL < H; p++)
        for (int r = 0; r < rows; r++, from += PANEL)
            for (int c = 0; c < PANEL; c += WIDTH) store_edge(to + (long)r * H + p * PANEL + c, load(from + c), H - p * PANEL - c);
}

// What one panel of one block is at one step; `group` floats lie between groups, pre-activations or saved.
struct Cells {
    int rows, width, hidden;  // width: units of the panel that exist
    long group;
    float* a;              // pre-activations in, what is saved out; [rows][16] a group
    const float* c_before;  // panel layout
    float* c_now;
    const float* h_before;  // row-major, at the first unit of the panel
    float* h_now;
    const float* m;  // modReLU's bias [16]
    template <class F>
    void each(F&& f) const {
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < PANEL; c += WIDTH) f(r * PANEL + c, (long)r * hidden + c, width - c, c);
    }
};

template <int FAMILY>
void cell_forward(const Cells& s) {
    s.each([&](int i, long row, int left, int unit) {
        float* a = s.a + i;
        auto sum = [&](int group) { return load_edge(a + group * s.group, left); };  // beyond H: inf * 0, which must not be saved
        vf h;
        if constexpr (FAMILY == LSTM) {
            vf in = sigmoid(sum(0)), forget = sigmoid(sum(1)), g = hyperbolic_tangent(sum(2));
            vf out = sigmoid(sum(3)), c = forget * load(s.c_before + i) + in * g;
            store(a, in), store(a + s.group, forget), store(a + 2 * s.group, g), store(a + 3 * s.group, out), store(s.c_now + i, c);
            h = out * hyperbolic_tangent(c);
        } else if constexpr (FAMILY == GRU) {
            vf r = sigmoid(sum(0)), keep = sigmoid(sum(1)), rn = sum(2);
            vf n = hyperbolic_tangent(sum(3) + r * rn);
            store(a, r), store(a + s.group, keep), store(a + 2 * s.group, rn), store(a + 3 * s.group, n);
            h = n + keep * (load_edge(s.h_before + row, left) - n);
        } else if constexpr (FAMILY == RNN_TANH) {
            h = hyperbolic_tangent(load(a));
        } else if constexpr (FAMILY == RNN_RELU) {
            h = at_least(load(a), 0.0f);
        } else {
            vf z = load(a), size = at_least(absolute(z) + load(s.m + unit), 0.0f);
            h = z > 0.0f ? size : z < 0.0f ? -size : z * 0.0f;
        }
        store_edge(s.h_now + row, h, left);
    });
}

// As `Cells`, backwards: a is what was saved.
struct Gradients {
    Cells at;
    long group;          // floats between groups of `da`
    float* da;           // out, [rows][16] a group
    const float* dy;     // row-major
    float *dh, *dc;      // panel layout: in, of h_t and c_t; out, what goes to the step before beside the product with U
    float* dm;           // [16], added to
};

template <int FAMILY>
void cell_backward(const Gradients& s) {
    const Cells& at = s.at;
    vf dm[NV] = {};
    at.each([&](int i, long row, int left, int unit) {
        const float* a = at.a + i;
        float* da = s.da + i;
        vf dh = load_edge(s.dy + row, left) + load(s.dh + i), carried = {};
        if constexpr (FAMILY == LSTM) {
            vf in = load(a), forget = load(a + at.group), g = load(a + 2 * at.group), out = load(a + 3 * at.group);
            vf tc = hyperbolic_tangent(load(at.c_now + i)), dc = load(s.dc + i) + dh * out * (1.0f - tc * tc);
            store(da, dc * g * in * (1.0f - in));
            store(da + s.group, dc * load(at.c_before + i) * forget * (1.0f - forget));
            store(da + 2 * s.group, dc * in * (1.0f - g * g));
            store(da + 3 * s.group, dh * tc * out * (1.0f - out));
            store(s.dc + i, dc * forget);
        } else if constexpr (FAMILY == GRU) {
            vf r = load(a), keep = load(a + at.group), rn = load(a + 2 * at.group), n = load(a + 3 * at.group);
            vf dn = dh * (1.0f - keep) * (1.0f - n * n), dr = dn * rn;
            store(da, dr * r * (1.0f - r));
            store(da + s.group, dh * (load_edge(at.h_before + row, left) - n) * keep * (1.0f - keep));
            store(da + 2 * s.group, dn * r);
            store(da + 3 * s.group, dn);
            carried = dh * keep;
        } else {
            vf h = load_edge(at.h_now + row, left), slope;
            if constexpr (FAMILY == RNN_TANH)
                slope = 1.0f - h * h;
            else if constexpr (FAMILY == RNN_RELU)
                slope = h > 0.0f ? all(1.0f) : h * 0.0f;
            else  // h is 0 where |z| + b is below 0, and has the sign of z elsewhere
                slope = h != 0.0f ? all(1.0f) : vf{};
            if constexpr (FAMILY == MODRELU) dm[unit / WIDTH] += h < 0.0f ? -dh : dh * slope;
            store(da, dh * slope);
        }
        store(s.dh + i, carried);
    });
    if constexpr (FAMILY == MODRELU)
        for (int v = 0; v < NV; v++) store(s.dm + v * WIDTH, load(s.dm + v * WIDTH) + dm[v]);
}

typedef void (*Forward)(const Cells&);
typedef void (*Backward)(const Gradients&);
const Forward FORWARD[] = {cell_forward<LSTM>, cell_forward<GRU>, cell_forward<RNN_TANH>, cell_forward<RNN_RELU>, cell_forward<MODRELU>};
const Backward BACKWARD[] = {cell_backward<LSTM>, cell_backward<GRU>, cell_backward<RNN_TANH>, cell_backward<RNN_RELU>, cell_backward<MODRELU>};

// Biases of modReLU by panels of 16
void pack_m(const Sizes& z, const Lane& lane, float* out) {
    for (int n = 0; n < z.panels * PANEL; n++) out[n] = lane.m && n < z.s.hidden ? lane.m[n] : 0.0f;
}

// A block of rows at one step, as the forward pass sees it. Of z, d and h: row-major, its first row.
struct Step {
    const float *z, *d, *h;
    float *a, *c_now, *h_now;  // of one panel, see `Cells`
    const float* c_before;
    long group;
};

#if defined(__GNUC__) && !defined(__clang__)
#define ONE_COPY __attribute__((noinline, noipa))
#else
#define ONE_COPY __attribute__((noinline))
#endif

// Pre-activations of panel p, and the cell's functions on them. Both passes call this one piece of machine code: a copy made for
// one of them could have its multiplications and additions fused in other places, and round differently.
ONE_COPY void panel_forward(const Sizes& z, const float* weights, const float* m, int R, int p, const Step& s) {
    const int H = z.s.hidden, I = z.s.inputs, P = z.panels, G = z.l.blocks * H, width = std::min(PANEL, H - p * PANEL);
    const float* bias = weights + z.forward_weights() - z.bias_floats();
    for (int g = 0; g < z.l.groups; g++) {
        const float* here = weights + p * z.depth(g) * PANEL;
        const float* start = bias + ((long)g * P + p) * PANEL;
        const bool product = z.l.u[g] >= 0, driven = z.l.d[g] >= 0;
        const float* drive = driven && s.d ? s.d + z.l.d[g] * H + p * PANEL : nullptr;
        by_rows(R, [&](auto n, int row) {
            constexpr int M = decltype(n)::count;
            vf acc[M][NV];
            for (int r = 0; r < M; r++)
                for (int v = 0; v < NV; v++) {
                    acc[r][v] = load(start + v * WIDTH);
                    if (drive) acc[r][v] += load_edge(drive + (long)(row + r) * G + v * WIDTH, width - v * WIDTH);
                }
            const float* b = here;
            if (product) {
                multiply<M, NV>(acc, s.h + (long)row * H, H, 1, b, H);
                b += (long)H * PANEL;
            }
            if (driven && I) multiply<M, NV>(acc, s.z + (long)row * I, I, 1, b, I);
            for (int r = 0; r < M; r++)
                for (int v = 0; v < NV; v++) store(s.a + g * s.group + (row + r) * PANEL + v * WIDTH, acc[r][v]);
        });
        weights += z.depth(g) * P * PANEL;
    }
    FORWARD[z.s.family]({R, width, H, s.group, s.a, s.c_before, s.c_now, s.h + p * PANEL, s.h_now, m + p * PANEL});
}

void run_forward(const Sizes& z, const Lane& lane, const float* weights, int block, Buffer& scratch) {
    const int H = z.s.hidden, I = z.s.inputs, B = z.s.batch, P = z.panels, R = z.count(block), G = z.l.blocks * H;
    const long first = z.first(block), panel = (long)R * PANEL, state = P * panel;
    const bool train = lane.saved != nullptr, keeps = train && z.l.saved;
    float* c[2];
    c[0] = scratch.get(2 * state + (long)P * PANEL + z.l.groups * panel);
    c[1] = c[0] + state;
    float *m = c[1] + state, *own = m + (long)P * PANEL;
    pack_m(z, lane, m);
    if (z.l.states > 1) to_panels(lane.c0 + first * H, R, H, c[0]);
    const float* h = lane.h0 + first * H;
    const float* c_before = c[0];
    for (int t = 0; t < z.s.steps; t++) {
        const long at = (long)t * B + first;
        float* y = lane.y + at * H;
        float* kept = train ? lane.saved + block * z.saved_block() + t * z.saved_step() : nullptr;
        float* c_now = train && z.l.states > 1 ? kept + z.l.saved * state : c[(t + 1) & 1];
        const float* zt = I ? lane.z + at * I : nullptr;
        const float* dt = lane.d ? lane.d + at * G : nullptr;
        for (int p = 0; p < P; p++) {
            float* a = keeps ? kept + p * panel : own;
            const long group = keeps ? state : panel;
            panel_forward(z, weights, m, R, p, {zt, dt, h, a, c_now + p * panel, y + p * PANEL, c_before + p * panel, group});
        }
        h = y;
        c_before = c_now;
    }
    if (z.l.states > 1) from_panels(c_before, R, H, lane.c + first * H);
}

// out (rows, panel) = its own value plus da (rows, all groups in `blocks`) times `weights`.
template <int V, class Store>
void spread(const Sizes& z, const float* da, int R, const int* block_of, const float* weights, const float* start, Store&& put) {
    const long panel = (long)R * PANEL;
    by_rows(R, [&](auto n, int row) {
        constexpr int M = decltype(n)::count;
        vf acc[M][V];
        for (int r = 0; r < M; r++)
            for (int v = 0; v < V; v++) acc[r][v] = start ? load(start + (row + r) * PANEL + v * WIDTH) : vf{};
        const float* b = weights;
        for (int g = 0; g < z.l.groups; g++) {
            if (block_of[g] < 0) continue;
            for (int q = 0; q < z.panels; q++, b += PANEL * PANEL)
                multiply<M, V>(acc, da + ((long)g * z.panels + q) * panel + row * PANEL, PANEL, 1, b, PANEL);
        }
        for (int r = 0; r < M; r++)
            for (int v = 0; v < V; v++) put(row + r, v, acc[r][v]);
    });
}

// dU and dW of a panel of units: `to` [depth][16] += x^T da, over the rows of `steps` steps.
void gather(const float* x, long stride, long step, int depth, const float* da, long da_step, int R, int steps, float* to) {
    by_rows(depth, [&](auto n, int first) {
        constexpr int M = decltype(n)::count;
        vf acc[M][NV];
        for (int r = 0; r < M; r++)
            for (int v = 0; v < NV; v++) acc[r][v] = load(to + (first + r) * PANEL + v * WIDTH);
        for (int t = 0; t < steps; t++) multiply<M, NV>(acc, x + t * step + first, 1, stride, da + t * da_step, R);
        for (int r = 0; r < M; r++)
            for (int v = 0; v < NV; v++) store(to + (first + r) * PANEL + v * WIDTH, acc[r][v]);
    });
}

void add_rows(const float* da, int R, float* to) {
    vf total[NV] = {};
    for (int r = 0; r < R; r++)
        for (int v = 0; v < NV; v++) total[v] += load(da + r * PANEL + v * WIDTH);
    for (int v = 0; v < NV; v++) store(to + v * WIDTH, load(to + v * WIDTH) + total[v]);
}

// `weights`: those of the forward pass, read only where gates are computed again.
void run_backward(const Sizes& z, const Lane& lane, const float* weights, const float* back_u, const float* back_w, int block, float* sums,
                  Buffer& scratch) {
    const int H = z.s.hidden, I = z.s.inputs, B = z.s.batch, P = z.panels, R = z.count(block), G = z.l.blocks * H, T = z.s.steps;
    const long first = z.first(block), panel = (long)R * PANEL, state = P * panel, step = z.l.groups * state;
    const int chunk = (int)std::clamp(GRADIENT_CHUNK / std::max(step, 1L), 1L, (long)T);
    float* dh = scratch.get(3 * state + (long)P * PANEL + chunk * step + z.again_floats(R));
    float *dc = dh + state, *c0 = dc + state, *m = c0 + state, *ring = m + (long)P * PANEL;
    float *a_again = ring + chunk * step, *c_again = a_again + z.l.groups * panel, *h_again = c_again + panel;
    std::fill(dh, dh + state, 0.0f);
    pack_m(z, lane, m);
    if (z.l.states > 1) {
        to_panels(lane.c0 + first * H, R, H, c0);
        if (lane.dc)
            to_panels(lane.dc + first * H, R, H, dc);
        else
            std::fill(dc, dc + state, 0.0f);
    }
    std::fill(sums, sums + z.gradients(), 0.0f);
    float *bias = sums + z.forward_weights() - z.bias_floats(), *dm = sums + z.forward_weights();
    for (int t = T - 1, held = 0; t >= 0; t--) {
        const long at = (long)t * B + first;
        float* saved = z.saved_step() ? lane.saved + block * z.saved_block() + t * z.saved_step() : nullptr;
        const float* h_before = t ? lane.y + (at - B) * H : lane.h0 + first * H;
        float* da = ring + (chunk - 1 - held) * step;  // from the end, so that the chunk's steps lie in order of time
        for (int p = 0; p < P; p++) {
            float* a = z.again ? a_again : saved ? saved + p * panel : nullptr;
            const long group = z.again ? panel : state;
            float* c_now = z.l.states > 1 ? saved + z.l.saved * state + p * panel : nullptr;
            const float* c_before = z.l.states > 1 ? (t ? c_now - z.saved_step() : c0 + p * panel) : nullptr;
            if (z.again) {  // c_t and h_t are there already: these go nowhere
                const float* zt = I ? lane.z + at * I : nullptr;
                const float* dt = lane.d ? lane.d + at * G : nullptr;
                panel_forward(z, weights, m, R, p, {zt, dt, h_before, a, c_again, h_again, c_before, group});
            }
            const Cells cells = {R, std::min(PANEL, H - p * PANEL), H, group, a, c_before, c_now, h_before + p * PANEL, lane.y + at * H + p * PANEL, m};
            BACKWARD[z.s.family]({cells, state, da + p * panel, lane.dy + at * H + p * PANEL, dh + p * panel, dc + p * panel, dm + p * PANEL});
        }
        if (lane.dd)
            for (int g = 0; g < z.l.groups; g++)
                if (z.l.d[g] >= 0)
                    for (int p = 0; p < P; p++)
                        for (int r = 0; r < R; r++)
                            for (int c = 0; c < PANEL; c += WIDTH)
                                store_edge(lane.dd + (at + r) * G + z.l.d[g] * H + p * PANEL + c, load(da + g * state + p * panel + r * PANEL + c),
                                           H - p * PANEL - c);
        for (int p = 0; p < P; p++) {
            float* to = dh + p * panel;
            spread<NV>(z, da, R, z.l.u, back_u + (long)p * z.l.blocks * P * PANEL * PANEL, to,
                       [&](int r, int v, vf x) { store(to + r * PANEL + v * WIDTH, x); });
        }
        if (lane.dz)
            for (int p = 0; p < z.input_panels(); p++) {
                const float* w = back_w + (long)p * z.l.blocks * P * PANEL * PANEL;
                const int left = I - p * PANEL;
                auto put = [&](int r, int v, vf x) { store_edge(lane.dz + (at + r) * I + p * PANEL + v * WIDTH, x, left - v * WIDTH); };
                if (left <= WIDTH)
                    spread<1>(z, da, R, z.l.d, w, nullptr, put);
                else
                    spread<NV>(z, da, R, z.l.d, w, nullptr, put);
            }
        if (++held == chunk || t == 0) {
            float* to = sums;
            for (int g = 0; g < z.l.groups; g++)
                for (int p = 0; p < P; p++) {
                    const float* from = da + g * state + p * panel;
                    if (z.l.u[g] >= 0) {
                        // y one step before; the very first step has h0 instead
                        const int whole = t == 0 ? held - 1 : held;
                        if (t == 0) gather(h_before, H, 0, H, from, 0, R, 1, to);
                        if (whole) {
                            const float* h = lane.y + ((long)(t == 0 ? 0 : t - 1) * B + first) * H;
                            gather(h, H, (long)B * H, H, from + (held - whole) * step, step, R, whole, to);
                        }
                        to += (long)H * PANEL;
                    }
                    if (z.l.d[g] >= 0 && I) {
                        gather(lane.z + at * I, I, (long)B * I, I, from, step, R, held, to);
                        to += (long)I * PANEL;
                    }
                    for (int n = 0; n < held; n++) add_rows(from + n * step, R, bias + ((long)g * P + p) * PANEL);
                }
            held = 0;
        }
    }
    if (lane.dh0) from_panels(dh, R, H, lane.dh0 + first * H);
    if (lane.dc0 && z.l.states > 1) from_panels(dc, R, H, lane.dc0 + first * H);
}

// Sums over the blocks of rows, in their order, laid out as the weights are.
void unpack(const Sizes& z, const Lane& lane, float* sums) {
    const int H = z.s.hidden, I = z.s.inputs, P = z.panels;
    const long size = z.gradients();
    for (int block = 1; block < z.blocks; block++)
        for (long n = 0; n < size; n++) sums[n] += sums[block * size + n];
    const float* from = sums;
    const float* bias = sums + z.forward_weights() - z.bias_floats();
    for (int g = 0; g < z.l.groups; g++)
        for (int p = 0; p < P; p++) {
            const int width = std::min(PANEL, H - p * PANEL), u = z.l.u[g], d = z.l.d[g];
            auto put = [&](float* to, int block, int depth) {
                for (int c = 0; to && c < width; c++)
                    for (int k = 0; k < depth; k++) to[((long)block * H + p * PANEL + c) * depth + k] = from[k * PANEL + c];
                from += (long)depth * PANEL;
            };
            if (u >= 0) put(lane.du, u, H);
            if (d >= 0 && I) put(lane.dw, d, I);
            for (int c = 0; c < width; c++) {
                if (u >= 0 && lane.dbu) lane.dbu[u * H + p * PANEL + c] = bias[c];
                if (d >= 0 && lane.db) lane.db[d * H + p * PANEL + c] = bias[c];
            }
            bias += PANEL;
        }
    if (lane.dm)
        for (int n = 0; n < H; n++) lane.dm[n] = sums[z.forward_weights() + n];
}

}  // namespace
}  // namespace mrnn

using namespace mrnn;

extern "C" {

int mrnn_width() { return WIDTH; }

// Floats that the forward pass of one lane keeps for the backward pass.
long mrnn_saved(const Shape* shape) {
    Sizes z(*shape);
    return z.blocks * z.saved_block();
}

// Floats of memory that a call needs beside its arguments and results, and gives back only when its threads end.
long mrnn_scratch(const Shape* shape, int backward) {
    Sizes z(*shape);
    const long state = (long)z.panels * z.rows * PANEL, step = z.l.groups * state;
    if (!backward) return z.s.lanes * z.forward_weights() + z.s.threads * (2 * state + step);
    const long chunk = std::clamp(GRADIENT_CHUNK / step, 1L, (long)z.s.steps);
    const long weights = z.back_u() + z.back_w() + (z.again ? z.forward_weights() : 0);
    return z.s.lanes * (weights + z.blocks * z.gradients()) + z.s.threads * (3 * state + chunk * step + z.again_floats(z.rows));
}

// 0, or 1: out of memory.
int mrnn_forward(const Shape* shape, const Lane* lanes) {
    const Sizes z(*shape);
    static thread_local Buffer packed;
    const long size = (z.forward_weights() + PANEL - 1) / PANEL * PANEL;
    float* weights = packed.get(z.s.lanes * size);
    if (!weights) return 1;
#ifdef _OPENMP
#pragma omp parallel num_threads(z.s.threads) if (z.s.threads > 1)
#endif
    {
        const NoDenormals off;
        static thread_local Buffer scratch;
#ifdef _OPENMP
#pragma omp for schedule(dynamic)
#endif
        for (int k = 0; k < z.s.lanes; k++) pack_forward(z, lanes[k], weights + k * size);
#ifdef _OPENMP
#pragma omp for schedule(dynamic)
#endif
        for (int task = 0; task < z.s.lanes * z.blocks; task++) {
            const int k = task / z.blocks;
            run_forward(z, lanes[k], weights + k * size, task % z.blocks, scratch);
        }
    }
    return 0;
}

int mrnn_backward(const Shape* shape, const Lane* lanes) {
    const Sizes z(*shape);
    static thread_local Buffer packed;
    const long w = z.back_u(), forward = w + z.back_w();  // where what is not U's begins
    const long back = forward + (z.again ? z.forward_weights() : 0), sums = z.gradients() * z.blocks;
    float* weights = packed.get(z.s.lanes * (back + sums));
    if (!weights) return 1;
    float* totals = weights + z.s.lanes * back;
#ifdef _OPENMP
#pragma omp parallel num_threads(z.s.threads) if (z.s.threads > 1)
#endif
    {
        const NoDenormals off;
        static thread_local Buffer scratch;
#ifdef _OPENMP
#pragma omp for schedule(dynamic)
#endif
        for (int k = 0; k < z.s.lanes; k++) {
            float* to = weights + k * back;
            pack_back(z, lanes[k].u, z.l.u, z.s.hidden, to);
            if (lanes[k].dz) pack_back(z, lanes[k].w, z.l.d, z.s.inputs, to + w);
            if (z.again) pack_forward(z, lanes[k], to + forward);
        }
#ifdef _OPENMP
#pragma omp for schedule(dynamic)
#endif
        for (int task = 0; task < z.s.lanes * z.blocks; task++) {
            const int k = task / z.blocks, block = task % z.blocks;
            const float* to = weights + k * back;
            run_backward(z, lanes[k], to + forward, to, to + w, block, totals + k * sums + block * z.gradients(), scratch);
        }
#ifdef _OPENMP
#pragma omp for schedule(dynamic)
#endif
        for (int k = 0; k < z.s.lanes; k++) unpack(z, lanes[k], totals + k * sums);
    }
    return 0;
}

}  // extern "C"

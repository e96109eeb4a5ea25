// A machine for rules: a short list of instructions over vectors of BLOCK elements, once a step.
//
// An element is a channel of a sequence; elements do not know of each other, so a block of them walks through all steps
// while its states and intermediate values stay in the cache. What the instructions are for a formula, and for its
// derivative, is decided in Python (code.py); here every place that an instruction reads or writes is a pointer of a table.
#include <vector>

#include "operations.h"

using namespace mrnn;

namespace {

constexpr int BLOCK = 256;                 // elements; a row of it is 1 KiB
constexpr int STATES = 16;                 // of a rule, at most
constexpr int64_t SEGMENT_BYTES = 1 << 17;  // of states that a backward keeps: stays in the second-level cache

struct Instruction {
    int32_t operation, mode, to, from[4];  // places; of a sum: the slot that it belongs to
};

struct Program {
    const Instruction* code;
    int64_t count;
    bool reads(int place) const {
        for (int64_t k = 0; k < count; k++)
            for (int32_t from : code[k].from)
                if (from == place) return true;
        return false;
    }
};

// One rule on one sequence batch, as Python lays it out (_Lane in rules.py): 64-bit fields throughout.
struct Lane {
    Program program, keep;   // what a step does; backward: and what makes the states that its step reads, which may be nothing
    int64_t steps, elements, states, slots, registers;
    int64_t result;          // the state that is the result, if it is one; else -1
    const float* u;          // (steps, elements)
    float* d;                // forward: the result; backward: the gradient of it, which is only read
    float* du;               // backward; null: not asked for
    const float* table;      // (steps or 1, slots)
    int64_t stride;          // from one step of the table to the next
    double* sums;            // backward; (blocks, steps or 1, slots), zero; block 0 becomes the sum. Null: not asked for
    const float* held[STATES];  // before the first step; null: zero
    float* last[STATES];        // after the last; backward: the gradient of it, which is only read; null: zero
    float* dheld[STATES];       // backward; null: not asked for
};

// Places: what a program may read and write, in this order.
enum Place { U, D, DU, FIRST_STATE };

struct Places {
    float** table;
    const Lane& lane;
    float*& at(int place) { return table[place]; }
    float*& old_state(int k) { return table[FIRST_STATE + k]; }
    float*& new_state(int k) { return table[FIRST_STATE + lane.states + k]; }
    float*& new_gradient(int k) { return table[FIRST_STATE + 2 * lane.states + k]; }
    float*& old_gradient(int k) { return table[FIRST_STATE + 3 * lane.states + k]; }
    void scalars(int64_t step) {
        float** first = table + FIRST_STATE + 4 * lane.states;
        for (int k = 0; k < lane.slots; k++) first[k] = const_cast<float*>(lane.table) + step * lane.stride + k;
    }
};

static inline void run(const Program& program, float* const* places, int width, int count, double* sums) {
    for (int64_t k = 0; k < program.count; k++) {
        const Instruction& now = program.code[k];
        const float* from[4] = {places[now.from[0]], places[now.from[1]], places[now.from[2]], places[now.from[3]]};
        if (now.operation < SUM) {
            KERNELS[now.operation][now.mode](places[now.to], from, width);
        } else if (now.operation == SUM) {
            sums[now.to] += total<1, 0>(from, count);
        } else {
            sums[now.to] += now.mode == 0 ? total<2, 0>(from, count) : now.mode == 1 ? total<2, 1>(from, count) : total<2, 2>(from, count);
        }
    }
}

// Memory of a thread, kept from call to call; rows of BLOCK floats.
struct Scratch {
    std::vector<float> memory;
    std::vector<float*> places;
    float* next = nullptr;
    void reserve(int64_t rows, int64_t count) {
        if ((int64_t)memory.size() < rows * BLOCK + 16) memory.resize(rows * BLOCK + 16);
        places.assign(count, nullptr);
        next = (float*)(((uintptr_t)memory.data() + 63) & ~(uintptr_t)63);
    }
    float* row(int64_t rows = 1) {
        float* here = next;
        next += rows * BLOCK;
        return here;
    }
};

thread_local Scratch scratch;

static inline void copy(float* to, const float* from, int n) {
    if (from) std::memcpy(to, from, n * sizeof(float));
    else std::memset(to, 0, n * sizeof(float));
}

// The next row of a tensor is far away, in another page: no processor guesses it.
template <int WRITE>
static inline void prefetch(const float* p, int n) {
    for (int i = 0; i < n; i += 16) __builtin_prefetch(p + i, WRITE);
}

// `count` elements of the lane from `first` on.
struct Block {
    const Lane& lane;
    int64_t first;
    int count, width;
    bool whole;  // rows of the caller's tensors can be used as they are; else through padded copies
    Places places;
    float *u_row, *d_row, *du_row;

    Block(const Lane& lane, int64_t block, int64_t state_rows)
        : lane(lane),
          first(block * BLOCK),
          count((int)(lane.elements - first < BLOCK ? lane.elements - first : BLOCK)),
          width((count + WIDTH - 1) / WIDTH * WIDTH),
          whole(count == width),
          places{nullptr, lane} {
        int64_t known = FIRST_STATE + 4 * lane.states + lane.slots;
        scratch.reserve(3 + lane.registers + state_rows, known + lane.registers);
        places.table = scratch.places.data();
        for (int64_t k = 0; k < lane.registers; k++) places.table[known + k] = scratch.row();
        u_row = scratch.row(), d_row = scratch.row(), du_row = scratch.row();
        if (!whole)
            for (float* row : {u_row, d_row, du_row}) std::memset(row, 0, BLOCK * sizeof(float));
        places.scalars(0);
    }

    template <class P>
    P in(P tensor, int64_t step) const { return tensor + step * lane.elements + first; }

    // Sets a place to a row of a tensor.
    void read(int place, const float* tensor, int64_t step, float* padded) {
        const float* row = in(tensor, step);
        if (!whole) copy(padded, row, count);
        places.at(place) = whole ? const_cast<float*>(row) : padded;
    }

    void fill(float* row, const float* tensor) const {
        if (!whole) std::memset(row, 0, BLOCK * sizeof(float));
        copy(row, tensor ? tensor + first : nullptr, count);
    }
};

void forward(const Lane& lane, int64_t block) {
    Block b(lane, block, 2 * lane.states);
    Places& places = b.places;
    for (int k = 0; k < lane.states; k++) {
        places.old_state(k) = scratch.row(), places.new_state(k) = scratch.row();
        b.fill(places.old_state(k), lane.held[k]);
    }
    for (int64_t t = 0; t < lane.steps; t++) {
        b.read(U, lane.u, t, b.u_row);
        if (t + 1 < lane.steps) {
            prefetch<0>(b.in(lane.u, t + 1), b.count);
            prefetch<1>(b.in(lane.d, t + 1), b.count);
        }
        places.at(D) = b.whole ? b.in(lane.d, t) : b.d_row;
        if (lane.stride) places.scalars(t);
        if (lane.result >= 0 && b.whole) places.new_state(lane.result) = b.in(lane.d, t);
        run(lane.program, places.table, b.width, b.count, nullptr);
        if (!b.whole) copy(b.in(lane.d, t), lane.result >= 0 ? places.new_state(lane.result) : b.d_row, b.count);
        for (int k = 0; k < lane.states; k++) std::swap(places.old_state(k), places.new_state(k));
    }
    for (int k = 0; k < lane.states; k++) copy(lane.last[k] + b.first, places.old_state(k), b.count);
}

// Through the states of a segment and back again, the last segment first; every segment starts from a checkpoint.
void backward(const Lane& lane, int64_t block) {
    int64_t states = lane.states, steps = lane.steps;
    int64_t segment = steps;
    if (lane.keep.count) {
        int64_t most = SEGMENT_BYTES / (states * BLOCK * sizeof(float));
        segment = most < steps ? most : steps;
    }
    int64_t segments = steps ? (steps + segment - 1) / segment : 0;
    int64_t kept = lane.keep.count ? segment + 1 + (segments > 1 ? segments : 0) : 2;
    Block b(lane, block, states * (kept + 2));
    Places& places = b.places;
    float* slots = scratch.row(states * (segment + 1) * (lane.keep.count != 0));  // states before each step of the segment
    auto state = [&](int64_t step, int k) { return slots + (step * states + k) * BLOCK; };
    float* checkpoints = segments > 1 && lane.keep.count ? scratch.row(states * segments) : nullptr;
    for (int k = 0; k < states; k++) {
        places.new_gradient(k) = scratch.row(), places.old_gradient(k) = scratch.row();
        b.fill(places.new_gradient(k), lane.last[k]);
        if (lane.keep.count) b.fill(state(0, k), lane.held[k]);
    }
    auto keep = [&](int64_t t, int64_t from, int64_t to) {
        b.read(U, lane.u, t, b.u_row);
        if (t + 1 < steps) prefetch<0>(b.in(lane.u, t + 1), b.count);
        if (lane.stride) places.scalars(t);
        for (int k = 0; k < states; k++) places.old_state(k) = state(from, k), places.new_state(k) = state(to, k);
        run(lane.keep, places.table, b.width, b.count, nullptr);
    };
    if (checkpoints) {
        for (int64_t t = 0; t < (segments - 1) * segment; t++) {
            if (t % segment == 0) std::memcpy(checkpoints + t / segment * states * BLOCK, state(t & 1, 0), states * BLOCK * sizeof(float));
            keep(t, t & 1, (t + 1) & 1);
        }
        int64_t end = (segments - 1) * segment;
        std::memcpy(checkpoints + (segments - 1) * states * BLOCK, state(end & 1, 0), states * BLOCK * sizeof(float));
    }
    const bool reads_u = lane.program.reads(U);
    double* sums = lane.sums ? lane.sums + block * (lane.stride ? steps : 1) * lane.slots : nullptr;
    for (int64_t s = segments - 1; s >= 0; s--) {
        int64_t begin = s * segment, end = begin + segment < steps ? begin + segment : steps;
        if (lane.keep.count) {
            if (checkpoints) std::memcpy(slots, checkpoints + s * states * BLOCK, states * BLOCK * sizeof(float));
            for (int64_t t = begin; t < end; t++) keep(t, t - begin, t - begin + 1);
        }
        for (int64_t t = end - 1; t >= begin; t--) {
            if (reads_u) b.read(U, lane.u, t, b.u_row);
            b.read(D, lane.d, t, b.d_row);
            if (t) {
                if (reads_u) prefetch<0>(b.in(lane.u, t - 1), b.count);
                prefetch<0>(b.in(lane.d, t - 1), b.count);
                if (lane.du) prefetch<1>(b.in(lane.du, t - 1), b.count);
            }
            places.at(DU) = b.whole && lane.du ? b.in(lane.du, t) : b.du_row;
            if (lane.stride) places.scalars(t);
            if (lane.keep.count)
                for (int k = 0; k < states; k++) places.old_state(k) = state(t - begin, k), places.new_state(k) = state(t - begin + 1, k);
            run(lane.program, places.table, b.width, b.count, sums + (lane.stride ? t * lane.slots : 0));
            if (!b.whole && lane.du) copy(b.in(lane.du, t), b.du_row, b.count);
            for (int k = 0; k < states; k++) std::swap(places.old_gradient(k), places.new_gradient(k));
        }
    }
    for (int k = 0; k < states; k++)
        if (lane.dheld[k]) copy(lane.dheld[k] + b.first, places.new_gradient(k), b.count);
}

int64_t blocks(const Lane& lane) { return (lane.elements + BLOCK - 1) / BLOCK; }

void each_block(const Lane* lanes, int64_t count, int threads, void (*what)(const Lane&, int64_t)) {
    std::vector<int64_t> ends(count);
    int64_t all = 0;
    for (int64_t k = 0; k < count; k++) ends[k] = all += blocks(lanes[k]);
    if (threads > all) threads = all ? (int)all : 1;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) num_threads(threads)
#endif
    for (int64_t item = 0; item < all; item++) {
        NoDenormals here;
        int64_t lane = 0;
        while (item >= ends[lane]) lane++;
        what(lanes[lane], item - (lane ? ends[lane - 1] : 0));
    }
    (void)threads;
}

}  // namespace

extern "C" {

const char* rule_operations() { return NAMES; }

int64_t rule_block() { return BLOCK; }

void rule_forward(const Lane* lanes, int64_t count, int threads) { each_block(lanes, count, threads, forward); }

void rule_backward(const Lane* lanes, int64_t count, int threads) {
    each_block(lanes, count, threads, backward);
    for (int64_t k = 0; k < count; k++) {
        const Lane& lane = lanes[k];
        if (!lane.sums) continue;
        int64_t size = (lane.stride ? lane.steps : 1) * lane.slots;
        for (int64_t block = 1; block < blocks(lane); block++)
            for (int64_t i = 0; i < size; i++) lane.sums[i] += lane.sums[block * size + i];
    }
}
}

// Keys and values are weighed once for all queries that share them, in blocks of
// positions. A query has the highest score so far, and the values' sum with weights
// relative to it.
//
// Up to ZOSIA_PASS_TOKENS tokens are a pass ("pass"): each query by itself, with the same
// operations on the same floats whatever is beside it, and whatever the processor makes
// of one query or of many. More are a batch (attention_batch.h).

#pragma once

#include "vectors.h"

#ifdef ZOSIA_VECTORS
namespace {

// Positions that are weighed at once.
constexpr int POSITIONS = 64;

// The highest score is nowhere below: a difference from it is a number.
constexpr float LOWEST = -1e30f;

constexpr int64_t padded(int64_t floats) { return (floats + 15) / 16 * 16; }

template <typename Float> Float * aligned(Float * at) { return (Float *) (((uintptr_t) at + 63) / 64 * 64); }

// Rows of keys or of values in memory.
struct Memory {
    const char * first;
    int64_t stride, bytes;
    int count;

    const char * row(int i) const { return first + i * stride; }
};

// Rows of keys or values that are read next, of some heads side by side: asked for in the
// order of addresses, about as much as is read meanwhile. What the processor guesses by
// itself from one head's rows is half as fast.
class Upcoming {
    static constexpr int64_t LINE = 64;

    // Where lines are asked for, and where the row ends; from a row to the next one, and
    // how many come after it.
    const char * at, * end;
    int64_t bytes, stride;
    int left;

  public:
    Upcoming(const Memory & of_first, int64_t heads)
        : at(of_first.first), end(at), bytes(heads * of_first.bytes), stride(of_first.stride), left(of_first.count - 1) {
        if (left >= 0) end += bytes;
    }

    // Asks for as many bytes, in whole lines. A call in its place would empty all registers.
    template <int BYTES> __attribute__((always_inline)) void prefetch() {
        constexpr int64_t SIZE = (BYTES + LINE - 1) / LINE * LINE;
        if (end - at < SIZE) {
            for (; at < end; at += LINE) __builtin_prefetch(at, 0, 2);
        } else {
#pragma GCC unroll 24
            for (int64_t line = 0; line < SIZE; line += LINE) __builtin_prefetch(at + line, 0, 2);
            at += SIZE;
        }
        if (at < end || left <= 0) return;
        left--;
        end += stride;
        at = end - bytes;
    }
};

// STEP elements of a row, which have so many bytes, from element `at` on, as vectors.
struct Float32 {
    static constexpr int STEP = LANES, BYTES = STEP * sizeof(float);
    static void load(const char * row, int64_t at, Floats (&to)[1]) { to[0] = ::load((const float *) row + at); }
};

struct Float16 {
    static constexpr int STEP = PER_HALVES * LANES, BYTES = STEP * sizeof(ggml_half);
    static void load(const char * row, int64_t at, Floats (&to)[PER_HALVES]) { ::load((const ggml_half *) row + at, to); }
};

struct Quants8 {
    static constexpr int STEP = QK8_0, BYTES = sizeof(block_q8_0);
    static void load(const char * row, int64_t at, Floats (&to)[STEP / LANES]) {
        const block_q8_0 & block = ((const block_q8_0 *) row)[at / QK8_0];
        const Floats d = spread_half(block.d);
        for (int i = 0; i < STEP / LANES; i += PER_BYTES) {
            Floats some[PER_BYTES];
            ::load(block.qs + i * LANES, some);
            for (int k = 0; k < PER_BYTES; k++) to[i + k] = some[k] * d;
        }
    }
};

// What is loaded early takes registers from the sums, where an instruction does not load
// its operand by itself.
void hold_loads() {
    if constexpr (LANES == 4) asm volatile("" ::: "memory");
}

// Sums that registers hold beside what they are made of.
constexpr int SUMS = LANES == 8 ? 12 : 24;

// Queries that are taken together: each vector of keys and values is loaded once for them.
template <class Type> constexpr int TOGETHER = std::min(4, SUMS / (Type::STEP / LANES));

// scores[q][i] = query q times key i, for `count` keys rounded up to what a vector holds.
template <class Type, int Q>
void multiply(int64_t width, const float * const * queries, const Memory & keys, int count, float (*scores)[POSITIONS],
              Upcoming & of_caller) {
    Upcoming ahead = of_caller; // In registers.
    constexpr int STEPS = Type::STEP / LANES, SOME = SUMS / Q;
    constexpr int KEYS = SOME >= 16 && LANES == 4 ? 16 : SOME >= 8 ? 8 : SOME >= 4 ? 4 : 2;
    constexpr int AT_ONCE = std::max(KEYS, LANES);
    for (int i = 0; i < count; i += AT_ONCE) {
        Floats totals[Q][AT_ONCE];
        for (int from = 0; from < AT_ONCE; from += KEYS) {
            const char * row[KEYS];
            Floats total[Q][KEYS];
#pragma GCC unroll 16
            for (int j = 0; j < KEYS; j++) {
                row[j] = keys.row(std::min(i + from + j, count - 1));
                for (int q = 0; q < Q; q++) total[q][j] = spread(0.0f);
            }
            for (int64_t at = 0; at < width; at += Type::STEP) {
                ahead.prefetch<KEYS * Type::BYTES>();
                Floats query[Q][STEPS];
                for (int q = 0; q < Q; q++) {
                    for (int k = 0; k < STEPS; k++) query[q][k] = load(queries[q] + at + k * LANES);
                }
#pragma GCC unroll 16
                for (int j = 0; j < KEYS; j++) {
                    hold_loads();
                    Floats key[STEPS];
                    Type::load(row[j], at, key);
#pragma GCC unroll 8
                    for (int k = 0; k < STEPS; k++) {
#pragma GCC unroll 4
                        for (int q = 0; q < Q; q++) {
                            total[q][j] = fma(query[q][k], key[k], total[q][j]);
                        }
                    }
                }
            }
            for (int q = 0; q < Q; q++) {
                for (int j = 0; j < KEYS; j++) totals[q][from + j] = total[q][j];
            }
        }
        for (int q = 0; q < Q; q++) {
            for (int from = 0; from < AT_ONCE; from += LANES) store(scores[q] + i + from, sums(totals[q] + from));
        }
    }
    of_caller = ahead;
}

// sum = sum * kept + the values' sum from value `first` on, each times its weight, for N
// vectors of each query from element `from` on.
template <class Type, int Q, int N>
void add(const float (*weights)[POSITIONS], const Memory & values, int first, int64_t from, const float * kept,
         float * const * sums, Upcoming & of_caller) {
    Upcoming ahead = of_caller; // In registers.
    constexpr int STEPS = Type::STEP / LANES;
    Floats total[Q][N];
    for (int q = 0; q < Q; q++) {
#pragma GCC unroll 24
        for (int d = 0; d < N; d++) total[q][d] = load(sums[q] + from + d * LANES) * spread(kept[q]);
    }
    const Memory rows = values; // In registers as well.
    for (int i = first; i < rows.count; i++) {
        ahead.prefetch<N / STEPS * Type::BYTES>();
        const char * const row = rows.row(i);
        Floats weight[Q];
        for (int q = 0; q < Q; q++) weight[q] = spread(weights[q][i]);
#pragma GCC unroll 24
        for (int d = 0; d < N; d += STEPS) {
            hold_loads();
            Floats value[STEPS];
            Type::load(row, from + d * LANES, value);
#pragma GCC unroll 8
            for (int k = 0; k < STEPS; k++) {
#pragma GCC unroll 4
                for (int q = 0; q < Q; q++) total[q][d + k] = fma(weight[q], value[k], total[q][d + k]);
            }
        }
    }
    for (int q = 0; q < Q; q++) {
#pragma GCC unroll 24
        for (int d = 0; d < N; d++) store(sums[q] + from + d * LANES, total[q][d]);
    }
    of_caller = ahead;
}

// The same for all elements from `from` on, N vectors at a time for as long as there are
// as many.
template <class Type, int Q, int N = SUMS>
void add_from(const float (*weights)[POSITIONS], const Memory & values, int first, int64_t from, int64_t width,
              const float * kept, float * const * sums, Upcoming & ahead) {
    if constexpr (N * Q <= SUMS && N % (Type::STEP / LANES) == 0) {
        for (; from + N * LANES <= width; from += N * LANES) {
            add<Type, Q, N>(weights, values, first, from, kept, sums, ahead);
        }
    }
    if constexpr (N > 1) {
        constexpr int FEWER = N % 3 == 0 ? N / 3 * 2 : N == 8 ? 6 : N / 2;
        add_from<Type, Q, FEWER>(weights, values, first, from, width, kept, sums, ahead);
    }
}

// Rows as floats, one after the other.
template <class Type> Memory unpack(const Memory & rows, int64_t width, float * to, Upcoming & ahead) {
    constexpr int STEPS = Type::STEP / LANES;
    for (int i = 0; i < rows.count; i++) {
        constexpr int SOME = 256;
        for (int64_t from = 0; from < rows.bytes; from += SOME) ahead.prefetch<SOME>();
        for (int64_t at = 0; at < width; at += Type::STEP) {
            Floats some[STEPS];
            Type::load(rows.row(i), at, some);
            for (int k = 0; k < STEPS; k++) store(to + i * width + at + k * LANES, some[k]);
        }
    }
    const auto bytes = (int64_t) (width * sizeof(float));
    return { (const char *) to, bytes, bytes, rows.count };
}

// What is added to a block's scores.
struct Masked {
    const ggml_half * of_token;
    // Positions up to the last that is seen, and whether nothing is added to any of these.
    int count;
    bool is_clear;

    static Masked of(const ggml_half * of_token, int count) {
        constexpr ggml_half NEVER = 0xfc00; // -infinity
        if (!of_token) return { nullptr, count, true };
        while (count > 0 && of_token[count - 1] == NEVER) count--;
        ggml_half any = 0;
        for (int i = 0; i < count; i++) any |= of_token[i];
        return { of_token, count, any == 0 };
    }

    float at(int i) const { return i < count ? GGML_CPU_FP16_TO_FP32(of_token[i]) : -INFINITY; }
};

float capped(float score, float softcap) { return softcap == 0 ? score : softcap * tanhf(score); }

// What a query has attended to so far.
struct Attended {
    float highest, weights;
    // Behind it.
    float * sum() { return (float *) (this + 1); }
    const float * sum() const { return (const float *) (this + 1); }

    static int64_t floats(int64_t width) { return padded(width + sizeof(Attended) / sizeof(float)); }
};

// A query, and what it attends to.
struct Query {
    const float * floats;
    Attended * attended;
    const Masked * masked;
};

// Scores become weights relative to the highest so far, which is returned relative to
// the one before. seen: how many positions there are.
float weigh(const Query & query, float * scores, float scale, float softcap, int & seen) {
    Attended & attended = *query.attended;
    const Masked & masked = *query.masked;
    seen = masked.count;
    for (int i = 0; i < seen; i++) scores[i] = capped(scores[i] * scale, softcap);
    if (!masked.is_clear) {
        for (int i = 0; i < seen; i++) scores[i] += masked.at(i);
    }
    for (int i = seen; i < POSITIONS; i++) scores[i] = -INFINITY;
    Floats highest = spread(attended.highest);
    for (int i = 0; i < POSITIONS; i += LANES) highest = ::highest(highest, load(scores + i));
    const float now = ::highest(highest);
    if (now == -INFINITY) {
        seen = 0;
        return 1;
    }
    Floats total = spread(0.0f);
    for (int i = 0; i < POSITIONS; i += LANES) {
        const Floats weight = ggml_v_expf(load(scores + i) - spread(now));
        store(scores + i, weight);
        total = total + weight;
    }
    const float kept = attended.highest == now ? 1 : expf(attended.highest - now);
    attended.highest = now;
    attended.weights = attended.weights * kept + sum(total);
    return kept;
}

// Adds positions to Q queries.
template <class Type, int Q>
void attend(const Query * queries, const Memory & keys, const Memory & values, int64_t key_width, int64_t value_width,
            float scale, float softcap, Upcoming & next_keys, Upcoming & next_values) {
    alignas(64) float scores[Q][POSITIONS];
    const float * floats[Q];
    float * sums[Q];
    float kept[Q];
    int seen[Q], most = 0;
    for (int q = 0; q < Q; q++) {
        floats[q] = queries[q].floats;
        sums[q] = queries[q].attended->sum();
        most = std::max(most, queries[q].masked->count);
    }
    if (most == 0) return;
    multiply<Type, Q>(key_width, floats, keys, most, scores, next_keys);
    int common = POSITIONS;
    for (int q = 0; q < Q; q++) {
        kept[q] = weigh(queries[q], scores[q], scale, softcap, seen[q]);
        common = std::min(common, seen[q]);
    }
    const auto first = [&](int count) { return Memory{ values.first, values.stride, values.bytes, count }; };
    add_from<Type, Q>(scores, first(common), 0, 0, value_width, kept, sums, next_values);
    // What only some of them see.
    const float all = 1;
    for (int q = 0; q < Q; q++) {
        if (seen[q] > common) {
            add_from<Type, 1>(scores + q, first(seen[q]), common, 0, value_width, &all, sums + q, next_values);
        }
    }
}

// The same for as many queries as are left, Q at most.
template <class Type, int Q = TOGETHER<Type>>
void attend(const Query * queries, int64_t left, const Memory & keys, const Memory & values, int64_t key_width,
            int64_t value_width, float scale, float softcap, Upcoming & next_keys, Upcoming & next_values) {
    if (left >= Q) {
        attend<Type, Q>(queries, keys, values, key_width, value_width, scale, softcap, next_keys, next_values);
    } else if constexpr (Q > 1) {
        attend<Type, Q - 1>(queries, left, keys, values, key_width, value_width, scale, softcap, next_keys, next_values);
    }
}

} // namespace
#endif

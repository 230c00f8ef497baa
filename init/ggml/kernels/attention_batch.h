// Attention of more tokens than a pass has: queries side by side in a vector, so that no sum
// goes across one.

#pragma once

#include "attention.h"

#ifdef ZOSIA_VECTORS
namespace {

// Queries side by side.
constexpr int QUERIES = 64;

// to[i][j] = to[i][j] * kept[j] + the sum of a[i * a_row + k * a_step] * b[k][j], for N
// vectors of columns, ROWS rows, and `depth` k.
template <int ROWS, int N>
void tile(int64_t depth, const float * a, int64_t a_row, int64_t a_step, const float * b, const float * kept, float * to) {
    Floats total[ROWS][N];
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < N; j++) {
            total[i][j] = kept ? load(to + i * QUERIES + j * LANES) * load(kept + j * LANES) : spread(0.0f);
        }
    }
    for (int64_t k = 0; k < depth; k++) {
        Floats columns[N];
        for (int j = 0; j < N; j++) columns[j] = load(b + k * QUERIES + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            const Floats row = spread(a[i * a_row + k * a_step]);
            for (int j = 0; j < N; j++) total[i][j] = fma(row, columns[j], total[i][j]);
        }
    }
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < N; j++) store(to + i * QUERIES + j * LANES, total[i][j]);
    }
}

// The same for `rows` rows, rounded up to what a tile has, and `queries` columns.
void tiles(int64_t rows, int64_t queries, int64_t depth, const float * a, int64_t a_row, int64_t a_step, const float * b,
           const float * kept, float * to) {
    constexpr int ROWS = 4, N = LANES == 8 ? 2 : 4;
    for (int64_t j = 0; j < queries; j += N * LANES) {
        for (int64_t i = 0; i < rows; i += ROWS) {
            tile<ROWS, N>(depth, a + i * a_row, a_row, a_step, b + j, kept ? kept + j : nullptr, to + i * QUERIES + j);
        }
    }
}

// Queries side by side, and what each has attended to.
struct Batch {
    int64_t queries, key_width, value_width;
    float *of_queries, *scores, *sums, *rows, *highest, *weights, *kept;

    static int64_t floats(int64_t key_width, int64_t value_width) {
        return QUERIES * (key_width + value_width + POSITIONS + 3) + POSITIONS * std::max(key_width, value_width);
    }

    Batch(float * at, int64_t queries, int64_t key_width, int64_t value_width)
        : queries(queries), key_width(key_width), value_width(value_width) {
        const auto next = [&](int64_t floats) { return std::exchange(at, at + floats); };
        of_queries = next(QUERIES * key_width);
        scores = next(QUERIES * POSITIONS);
        sums = next(QUERIES * value_width);
        highest = next(QUERIES);
        weights = next(QUERIES);
        kept = next(QUERIES);
        rows = next(POSITIONS * std::max(key_width, value_width));
        std::fill_n(of_queries, QUERIES * key_width, 0.0f);
        std::fill_n(sums, QUERIES * value_width, 0.0f);
        std::fill_n(highest, QUERIES, -INFINITY);
        std::fill_n(weights, QUERIES, 0.0f);
    }

    // Adds positions. mask(j): what is added to the scores of query j.
    template <class Type, typename Mask>
    void attend(const Memory & keys, const Memory & values, float softcap, Mask mask, Upcoming & next_keys,
                Upcoming & next_values) {
        const int count = keys.count;
        unpack<Type>(keys, key_width, rows, next_keys);
        tiles(count, queries, key_width, rows, key_width, 1, of_queries, nullptr, scores);
        if (softcap != 0) {
            for (int i = 0; i < count * QUERIES; i++) scores[i] = capped(scores[i], softcap);
        }
        for (int64_t j = 0; j < queries; j++) {
            const Masked & masked = mask(j);
            if (masked.is_clear && masked.count == count) continue;
            for (int i = 0; i < count; i++) scores[i * QUERIES + j] += masked.at(i);
        }
        weigh(count);
        unpack<Type>(values, value_width, rows, next_values);
        tiles(value_width, queries, count, rows, 1, value_width, scores, kept, sums);
    }

    // Scores become weights.
    void weigh(int count) {
        for (int64_t j = 0; j < queries; j += LANES) {
            const Floats before = load(highest + j);
            Floats now = before;
            for (int i = 0; i < count; i++) now = ::highest(now, load(scores + i * QUERIES + j));
            const Floats from = ::highest(now, spread(LOWEST)), left = ggml_v_expf(before - from);
            Floats total = load(weights + j) * left;
            for (int i = 0; i < count; i++) {
                float * const at = scores + i * QUERIES + j;
                const Floats weight = ggml_v_expf(load(at) - from);
                store(at, weight);
                total = total + weight;
            }
            store(highest + j, now);
            store(kept + j, left);
            store(weights + j, total);
        }
    }
};

} // namespace
#endif

// What the kernels of products have in common, whatever the processor.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

namespace {

// Rows that a kernel takes at once.
constexpr int ROWS = 4;

// Rows that a thread takes at a time: with a block of each column they stay in the
// first cache.
constexpr int CHUNK_ROWS = 32;

// A block of N columns side by side, in as many bytes.
template <class Column, int N> struct Group;

// What ggml quantises columns to, from which a Column is made: of the same size, or another.
template <class Column, typename = void> struct Quantised {
    using Block = Column;
};
template <class Column> struct Quantised<Column, std::void_t<typename Column::Quantised>> {
    using Block = typename Column::Quantised;
};

template <class Column> constexpr bool IS_AS_QUANTISED = std::is_same_v<typename Quantised<Column>::Block, Column>;

template <class Type, int N> using GroupOf = Group<typename Type::Column, N>;

// Weights are asked for ahead of their use, in the order of addresses: what the
// processor guesses by itself from rows read side by side is half as fast. The first cache
// has no room for more than some rows ahead: x86 has what is longer fetched into the second,
// a chunk ahead.
template <class Block> struct Ahead {
    const Block * at;
    bool is_near;
};

#ifdef __x86_64__
constexpr bool ALWAYS_NEAR = false;
#else
constexpr bool ALWAYS_NEAR = true;
#endif

// A call in its place would empty all registers.
template <class Block> __attribute__((always_inline)) inline void prefetch(Ahead<Block> ahead, int64_t from, int64_t blocks) {
    const char * const end = (const char *) (ahead.at + from + blocks);
    if (ALWAYS_NEAR || ahead.is_near) {
        for (auto at = (const char *) (ahead.at + from); at < end; at += 64) __builtin_prefetch(at, 0, 3);
    } else {
        for (auto at = (const char *) (ahead.at + from); at < end; at += 64) __builtin_prefetch(at, 0, 2);
    }
}

// A block of ROWS rows, an instruction a line: emulated, each instruction counts.
template <class Block> __attribute__((always_inline)) inline void prefetch_rows(Ahead<Block> ahead, int64_t block) {
    constexpr int LINES = (ROWS * sizeof(Block) + 63) / 64;
    const auto at = (const char *) (ahead.at + ROWS * block);
#pragma GCC unroll 32
    for (int i = 0; i < LINES; i++) __builtin_prefetch(at + 64 * i, 0, 3);
}

// What to ask for while all of a chunk is multiplied, before `next`.
template <class Block> Ahead<Block> chunk_ahead(const Block * next) { return { next, ALWAYS_NEAR }; }

// The same while the rows from i on are multiplied, of a chunk at x of `count` rows of
// `stride` blocks.
template <class Block>
Ahead<Block> rows_ahead(int i, const Block * x, int64_t stride, int count, const Block * next) {
#ifdef __x86_64__
    constexpr int64_t NEAR_BYTES = 4096;
    const int near = (int) std::min<int64_t>(NEAR_BYTES / (stride * sizeof(Block)) / ROWS * ROWS, count);
#else
    const int near = std::min(ROWS, count);
#endif
    const int later = i + (near ? near : count);
    return { later < count ? x + later * stride : next + (later - count) * stride, near != 0 };
}

} // namespace

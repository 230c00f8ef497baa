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
// processor guesses by itself from rows read side by side is half as fast.
template <typename Block> void prefetch(const Block * from, int64_t blocks) {
    const char * const end = (const char *) (from + blocks);
    for (const char * at = (const char *) from; at < end; at += 64) __builtin_prefetch(at);
}

} // namespace

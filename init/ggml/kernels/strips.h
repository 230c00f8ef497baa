// Products by the kernels of AVX-512: strips of rows with many columns, and passes of few.

#pragma once

#include "avx512.h"
#include "avx512_rows.h"
#include "matrices.h"

namespace {

template <class Type> constexpr bool IS_K = std::is_same_v<typename Type::Column, block_q8_K>;
template <class Type> using StripOf = std::conditional_t<IS_K<Type>, Strip, Strip32>;
template <class Type> using ColumnOfStrips = std::conditional_t<IS_K<Type>, block_q8_K, Column32>;

// Blocks [from, to) of a matrix's columns: those of a block lie one after the other.
template <class Type> void quantize_for_strips(const Matrix & matrix, int64_t from, int64_t to) {
    auto * const own = (ColumnOfStrips<Type> *) matrix.columns();
    const int64_t width = matrix.width();
    for (int64_t j = 0; j < width; j++) {
        for (int64_t block = from; block < to; block++) {
            ColumnOfStrips<Type> & y = own[block * width + j];
            if constexpr (IS_K<Type>) {
                quantize_block<Type::HAS_DMIN>(matrix.source(j) + block * QK_K, y);
            } else {
                quantize_block<Type>(matrix.source(j) + block * QK8_0, y);
            }
        }
    }
}

// At most AT_ONCE columns.
template <class Type, int N = AT_ONCE>
void strip_of(int columns, const StripOf<Type> & x, const ColumnOfStrips<Type> * y, __m512 * sum) {
    if (columns == N) return strip<Type, N>(x, y, sum);
    if constexpr (N > 1) strip_of<Type, N - 1>(columns, x, y, sum);
}

// out[j * out_stride + i] for the chunk's rows and all columns.
template <class Type> void compute_strips(const Chunk & here, const Chunk & next_chunk, float * out, int64_t out_stride) {
    using Block = typename Type::Block;
    const Product & product = here.matrix.product;
    const int count = here.count;
    const auto * const x = (const Block *) here.weights();
    const auto next = chunk_ahead((const Block *) next_chunk.weights());
    const int64_t x_stride = product.nb01 / sizeof(Block), columns = here.matrix.width();
    const auto * const y = (const ColumnOfStrips<Type> *) here.matrix.columns();
    for (int64_t from = 0; from < columns; from += PANEL_COLUMNS) {
        const int width = std::min<int64_t>(PANEL_COLUMNS, columns - from);
        __m512 sum[CHUNK_ROWS / STRIP][PANEL_COLUMNS];
        for (auto & of_rows : sum) std::fill_n(of_rows, width, _mm512_setzero_ps());
        for (int64_t block = 0; block < product.blocks; block++) {
            prefetch(next, count * block, count);
            StripOf<Type> some[CHUNK_ROWS / STRIP];
            for (int i = 0; i < count; i += STRIP) {
                unpack_strip(x + i * x_stride + block, x_stride, std::min(STRIP, count - i) - 1, some[i / STRIP]);
            }
            const ColumnOfStrips<Type> * const of_block = y + block * columns + from;
            for (int j = 0; j < width; j += AT_ONCE) {
                for (int i = 0; i < count; i += STRIP) {
                    strip_of<Type>(std::min(AT_ONCE, width - j), some[i / STRIP], of_block + j, &sum[i / STRIP][j]);
                }
            }
        }
        for (int j = 0; j < width; j++) {
            for (int i = 0; i < count; i += STRIP) {
                const __mmask16 wanted = (1u << std::min(STRIP, count - i)) - 1;
                _mm512_mask_storeu_ps(out + (from + j) * out_stride + i, wanted, sum[i / STRIP][j]);
            }
        }
    }
}

// --- Passes ---

// Calls take(N) with the number of columns as a constant.
template <int N = ZOSIA_PASS_TOKENS, typename Take> void with_width(int64_t width, Take take) {
    if (width == N) return take(std::integral_constant<int, N>());
    if constexpr (N > 1) with_width<N - 1>(width, take);
}

template <class Type> struct InFours {
    using Four = FourOfColumn<Type>;

    static constexpr int64_t bytes_column(int64_t blocks) { return fours_of(blocks) * sizeof(Four); }

    static void quantize(const Matrix & matrix, int64_t from, int64_t to) {
        const int64_t columns = matrix.width(), blocks = matrix.product.blocks;
        const auto at = [&](int64_t j, int64_t block) -> Four & {
            return ((Four *) matrix.columns())[block / 4 * columns + j];
        };
        for (int64_t j = 0; j < columns; j++) {
            for (int64_t block = from; block < to; block++) {
                at(j, block).put(matrix.source(j) + block * Four::WEIGHTS, block % 4);
            }
            if (to < blocks) continue;
            for (int64_t block = blocks; block % 4 != 0; block++) at(j, block).put_none(block % 4);
        }
    }

    static void compute(const Chunk & here, const Chunk & next, float * out, int64_t stride) {
        using Block = typename Type::Block;
        const Product & product = here.matrix.product;
        with_width(here.matrix.width(), [&](auto width) {
            rows_of_fours<Type, width>(here.count, product.blocks, (const Block *) here.weights(), product.nb01 / sizeof(Block),
                                       (const Block *) next.weights(), product.rows - here.first,
                                       (const Four *) here.matrix.columns(), out, stride);
        });
    }
};

// Passes, and what is wider.
template <class Type> struct InStrips {
    static int64_t bytes_column(int64_t blocks) {
        return std::max<int64_t>(blocks * sizeof(ColumnOfStrips<Type>), InFours<Type>::bytes_column(blocks));
    }

    static bool is_pass(const Matrix & matrix) { return matrix.width() <= ZOSIA_PASS_TOKENS; }

    static void quantize(const Matrix & matrix, int64_t from, int64_t to) {
        if (is_pass(matrix)) return InFours<Type>::quantize(matrix, from, to);
        quantize_for_strips<Type>(matrix, from, to);
    }

    static void compute(const Chunk & here, const Chunk & next, float * out, int64_t stride) {
        if (is_pass(here.matrix)) return InFours<Type>::compute(here, next, out, stride);
        compute_strips<Type>(here, next, out, stride);
    }
};

} // namespace

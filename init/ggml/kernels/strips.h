// Products by the kernels of AVX-512: strips of rows with many columns, and passes of few.

#pragma once

#include "avx512_rows.h"
#include "tiles.h"

namespace {

// At most AT_ONCE columns.
template <class Type, int N = AT_ONCE>
void strip_of(int columns, const StripOf<Type> & x, const ColumnOf<Type> * y, __m512 * sum) {
    if (columns == N) return strip<Type, N>(x, y, sum);
    if constexpr (N > 1) strip_of<Type, N - 1>(columns, x, y, sum);
}

template <class Type> struct ByVectors {
    using Columns = ColumnOf<Type>;
    static constexpr int EACH = 1;

    void add(const RowsOf<Type> * rows, int strips, int64_t block, const Columns * y, int width, Sums & sum) {
        StripOf<Type> some[STRIPS];
        for (int i = 0; i < strips; i++) unpack_strip({ rows[i], block }, some[i]);
        for (int j = 0; j < width; j += AT_ONCE) {
            for (int i = 0; i < strips; i++) strip_of<Type>(std::min(AT_ONCE, width - j), some[i], y + j, &sum[i][j]);
        }
    }

    void end() {}
};

// out[j * out_stride + i] for the chunk's rows and `columns` columns, of which a block's lie
// one after the other, Kernel::EACH together.
template <class Type, class Kernel>
void compute_columns(const Chunk & here, const Chunk & next_chunk, const typename Kernel::Columns * y, int64_t columns,
                     float * out, int64_t out_stride) {
    using Block = typename Type::Block;
    const Product & product = here.matrix.product;
    const int count = here.count, strips = (count + STRIP - 1) / STRIP;
    const auto * const x = (const Block *) here.weights();
    const int64_t x_stride = product.nb01 / sizeof(Block);
    const auto next = chunk_ahead((const Block *) next_chunk.weights());
    const RowsOf<Type> rows[STRIPS] = { { x, x_stride, 0, count }, { x, x_stride, STRIP, count } };
    for (int64_t from = 0; from < columns; from += PANEL_COLUMNS) {
        const int width = std::min<int64_t>(PANEL_COLUMNS, columns - from);
        Sums sum;
        for (auto & of_rows : sum) std::fill_n(of_rows, width, _mm512_setzero_ps());
        Kernel kernel;
        for (int64_t block = 0; block < product.blocks; block++) {
            prefetch(next, count * block, count);
            kernel.add(rows, strips, block, y + (block * columns + from) / Kernel::EACH, width, sum);
        }
        kernel.end();
        for (int j = 0; j < width; j++) {
            for (int i = 0; i < count; i += STRIP) {
                const __mmask16 wanted = (1u << std::min(STRIP, count - i)) - 1;
                _mm512_mask_storeu_ps(out + (from + j) * out_stride + i, wanted, sum[i / STRIP][j]);
            }
        }
    }
}

// Block `block` of a column.
template <class Type> void quantize_for_strips(const Matrix & matrix, int64_t column, int64_t block, ColumnOf<Type> & y) {
    if constexpr (IS_K<Type>) {
        quantize_block<Type::HAS_DMIN>(matrix.source(column) + block * QK_K, y);
    } else {
        quantize_block<Type>(matrix.source(column) + block * QK8_0, y);
    }
}

// Many columns: those that fill tiles first, where there are tiles.
template <class Type> struct Wide {
    using Column = ColumnOf<Type>;

    static int64_t in_tiles(const Matrix & matrix) {
        return IS_K<Type> && zosia_has_tiles() ? matrix.width() / TILE * TILE : 0;
    }

    static void quantize(const Matrix & matrix, int64_t from, int64_t to) {
        const int64_t width = matrix.width(), tiled = in_tiles(matrix), others = width - tiled;
        if constexpr (IS_K<Type>) {
            auto * const tiles = (TileColumns *) matrix.columns();
            for (int64_t j = 0; j < tiled; j++) {
                for (int64_t block = from; block < to; block++) {
                    Column y;
                    quantize_for_strips<Type>(matrix, j, block, y);
                    tiles[(block * tiled + j) / TILE].put(j % TILE, y);
                }
            }
        }
        auto * const own = (Column *) matrix.columns() + tiled * matrix.product.blocks;
        for (int64_t j = 0; j < others; j++) {
            for (int64_t block = from; block < to; block++) {
                quantize_for_strips<Type>(matrix, tiled + j, block, own[block * others + j]);
            }
        }
    }

    static void compute(const Chunk & here, const Chunk & next, float * out, int64_t stride) {
        const int64_t tiled = in_tiles(here.matrix), others = here.matrix.width() - tiled;
        if constexpr (IS_K<Type>) {
            if (tiled > 0) {
                configure_tiles();
                const auto * const tiles = (const TileColumns *) here.matrix.columns();
                compute_columns<Type, ByTiles<Type>>(here, next, tiles, tiled, out, stride);
                release_tiles();
            }
        }
        if (others == 0) return;
        const auto * const own = (const Column *) here.matrix.columns() + tiled * here.matrix.product.blocks;
        compute_columns<Type, ByVectors<Type>>(here, next, own, others, out + tiled * stride, stride);
    }
};

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
        return std::max<int64_t>(blocks * sizeof(ColumnOf<Type>), InFours<Type>::bytes_column(blocks));
    }

    static bool is_pass(const Matrix & matrix) { return matrix.width() <= ZOSIA_PASS_TOKENS; }

    static void quantize(const Matrix & matrix, int64_t from, int64_t to) {
        if (is_pass(matrix)) return InFours<Type>::quantize(matrix, from, to);
        Wide<Type>::quantize(matrix, from, to);
    }

    static void compute(const Chunk & here, const Chunk & next, float * out, int64_t stride) {
        if (is_pass(here.matrix)) return InFours<Type>::compute(here, next, out, stride);
        Wide<Type>::compute(here, next, out, stride);
    }
};

} // namespace

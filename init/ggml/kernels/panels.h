// Products by the kernels of a processor, which have to be included before: any rows of a
// matrix with any number of columns.

#pragma once

#include "matrices.h"
#include "products.h"

namespace {

// Columns side by side, in groups of LANES.
template <class Type>
void panels(int count, int64_t blocks, const typename Type::Block * x, int64_t x_stride,
            Ahead<typename Type::Block> next, int64_t groups, const GroupOf<Type, LANES> * y, float * out,
            int64_t out_stride) {
    constexpr int WIDTH = PANEL_COLUMNS / LANES;
    for (int64_t group = 0; group < groups; group += WIDTH) {
        const int width = std::min<int64_t>(WIDTH, groups - group);
        Tile sum[CHUNK_ROWS / ROWS][WIDTH];
        for (auto & of_rows : sum) std::fill_n(of_rows, width, Tile{});
        for (int64_t block = 0; block < blocks; block++) {
            prefetch(next, count * block, count);
            typename Type::Unpacked some[CHUNK_ROWS / ROWS];
            for (int i = 0; i < count; i += ROWS) {
                unpack<Type>(std::min(ROWS, count - i), x + i * x_stride + block, x_stride, some[i / ROWS]);
            }
            const GroupOf<Type, LANES> * columns = y + group * blocks + block;
            for (int g = 0; g < width; g += 2) {
                const auto * both = columns + g * blocks;
                for (int i = 0; i < count; i += ROWS) {
                    if (g + 1 < width) {
                        lanes<Type, 2>(some[i / ROWS], both, blocks, &sum[i / ROWS][g]);
                    } else {
                        lanes<Type, 1>(some[i / ROWS], both, blocks, &sum[i / ROWS][g]);
                    }
                }
            }
        }
        for (int g = 0; g < width; g++) {
            for (int j = 0; j < LANES; j++) {
                float * of_column = out + ((group + g) * LANES + j) * out_stride;
                for (int i = 0; i < count; i++) of_column[i] = sum[i / ROWS][g].at(i % ROWS, j);
            }
        }
    }
}

// How many columns are laid side by side, for the kernel of lanes and for that of fours.
struct Grouped {
    int64_t lanes, fours;

    template <class Type> static Grouped of(int64_t columns) {
        const int64_t lanes = Type::HAS_LANES && columns >= FEWEST_LANES ? columns / LANES * LANES : 0;
        return { lanes, (columns - lanes) / 4 * 4 };
    }
};

// out[j * out_stride + i] for `count` rows and all columns, the grouped ones first.
template <class Type>
void chunk(int count, int64_t blocks, const typename Type::Block * x, int64_t x_stride,
           const typename Type::Block * next, int64_t columns, Grouped grouped, const typename Type::Column * y,
           float * out, int64_t out_stride) {
    int64_t j = grouped.lanes;
    if constexpr (Type::HAS_LANES) {
        panels<Type>(count, blocks, x, x_stride, chunk_ahead(next), j / LANES, (const GroupOf<Type, LANES> *) y, out, out_stride);
    }
    const auto by_rows = [&](auto some) {
        for (int i = 0; i < count; i += ROWS) {
            some(x + i * x_stride, rows_ahead(i, x, x_stride, count, next), out + j * out_stride + i, std::min(ROWS, count - i));
        }
    };
    const auto fours_of = [&](auto groups) {
        const auto * side_by_side = (const GroupOf<Type, 4> *) (y + j * blocks);
        by_rows([&](auto x, auto next, float * out, int count) {
            fours<Type, groups>(blocks, x, x_stride, next, side_by_side, blocks, out, out_stride, count);
        });
    };
    const auto columns_of = [&](auto columns) {
        by_rows([&](auto x, auto next, float * out, int count) {
            rows<Type, columns>(blocks, x, x_stride, next, y + j * blocks, blocks, out, out_stride, count);
        });
    };
    const int64_t end = j + grouped.fours;
    for (; end - j >= 8; j += 8) fours_of(std::integral_constant<int, 2>());
    for (; end - j >= 4; j += 4) fours_of(std::integral_constant<int, 1>());
    switch (columns - j) {
        case 1: columns_of(std::integral_constant<int, 1>()); break;
        case 2: columns_of(std::integral_constant<int, 2>()); break;
        case 3: columns_of(std::integral_constant<int, 3>()); break;
    }
}

// Block `block` of N columns of the matrix, from column `first` on.
template <class Column, int N>
void quantize_group(const Matrix & matrix, int64_t first, int64_t block, ggml_from_float_t quantize, int64_t size,
                    Group<Column, N> & to) {
    static_assert(sizeof to == N * sizeof(Column));
    typename Quantised<Column>::Block columns[N];
    for (int j = 0; j < N; j++) quantize(matrix.source(first + j) + block * size, &columns[j], size);
    to.pack(columns);
}

// Blocks [from, to) of a matrix's columns, side by side as the kernels take them.
template <class Type> void quantize_columns(const Matrix & matrix, int64_t from, int64_t to) {
    const ggml_type column_type = ggml_get_type_traits_cpu(matrix.product.type)->vec_dot_type;
    const ggml_from_float_t quantize = ggml_get_type_traits_cpu(column_type)->from_float;
    const int64_t size = ggml_blck_size(column_type), blocks = matrix.product.blocks;
    const Grouped grouped = Grouped::of<Type>(matrix.width());
    auto * const own = (typename Type::Column *) matrix.columns();
    int64_t j = 0;
    const auto group = [&](auto * groups) {
        for (int64_t block = from; block < to; block++) {
            quantize_group(matrix, j, block, quantize, size, groups[block]);
        }
    };
    for (; j < grouped.lanes; j += LANES) group((GroupOf<Type, LANES> *) (own + j * blocks));
    for (; j < grouped.lanes + grouped.fours; j += 4) group((GroupOf<Type, 4> *) (own + j * blocks));
    for (; j < matrix.width(); j++) {
        if constexpr (IS_AS_QUANTISED<typename Type::Column>) {
            quantize(matrix.source(j) + from * size, own + j * blocks + from, (to - from) * size);
            prepare(own + j * blocks + from, to - from);
        } else {
            group((GroupOf<Type, 1> *) (own + j * blocks));
        }
    }
}

// Columns side by side, and a few as they are: all widths.
template <class Type> struct InPanels {
    static int64_t bytes_column(int64_t blocks) { return blocks * sizeof(typename Type::Column); }

    static void quantize(const Matrix & matrix, int64_t from, int64_t to) { quantize_columns<Type>(matrix, from, to); }

    static void compute(const Chunk & here, const Chunk & next, float * out, int64_t stride) {
        using Block = typename Type::Block;
        const Product & product = here.matrix.product;
        const int64_t width = here.matrix.width();
        chunk<Type>(here.count, product.blocks, (const Block *) here.weights(), product.nb01 / sizeof(Block),
                    (const Block *) next.weights(), width, Grouped::of<Type>(width),
                    (const typename Type::Column *) here.matrix.columns(), out, stride);
    }
};

} // namespace

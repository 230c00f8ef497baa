// Products by kernels of our own where they are faster (avx2.h, avx512.h, neon.h, neon80.h). Upstream's
// tiles sum in another order than its vec_dot: they take only batches that are wider
// than any pass whose logits must be those of its tokens one by one.

#define ggml_compute_forward_mul_mat_tiled upstream_mul_mat_tiled
#define ggml_compute_forward_mul_mat_id_tiled upstream_mul_mat_id_tiled
#include "tiled/tiled.cpp"
#undef ggml_compute_forward_mul_mat_tiled
#undef ggml_compute_forward_mul_mat_id_tiled

#include <algorithm>

#include "pool.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define ZOSIA_KERNELS
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#define ZOSIA_STRIPS
#include "avx512.h"
#else
#include "avx2.h"
#endif
#elif defined(__ARM_FEATURE_DOTPROD)
#define ZOSIA_KERNELS
#include "neon.h"
#elif defined(__ARM_NEON)
#define ZOSIA_KERNELS
#include "neon80.h"
#endif

namespace {

// Rows that a thread takes at a time: with a block of each column they stay in the
// first cache.
constexpr int CHUNK_ROWS = 32;

// A chunk of a product.
struct Chunk {
    int count;
    const char * weights;
    const char * columns;
    char * dst;
};

Chunk chunk_of(const Product & product, int64_t chunk) {
    const int64_t matrix = chunk / product.of_matrix, i = chunk % product.of_matrix * product.each;
    const int64_t i12 = matrix % product.ne12, i13 = matrix / product.ne12;
    return {
        (int) std::min(product.each, product.rows - i),
        product.weights + i12 / product.r2 * product.nb02 + i13 / product.r3 * product.nb03 + i * product.nb01,
        product.columns + matrix * product.bytes_columns,
        product.dst + i12 * product.nb2 + i13 * product.nb3 + i * (int64_t) sizeof(float),
    };
}

void publish(const Work & work, int64_t at, const float * out) {
    const auto & product = (const Product &) work;
    const Chunk chunk = chunk_of(product, at);
    for (int64_t j = 0; j < product.width; j++) {
        memcpy(chunk.dst + j * product.nb1, out + j * product.stride, chunk.count * sizeof(float));
    }
}

} // namespace

#ifdef ZOSIA_KERNELS
namespace {

// Columns that are summed at a time.
constexpr int PANEL_COLUMNS = 128;

// Columns side by side, in groups of LANES.
template <class Type>
void panels(int count, int64_t blocks, const typename Type::Block * x, int64_t x_stride,
            const typename Type::Block * next, int64_t groups, const GroupOf<Type, LANES> * y, float * out,
            int64_t out_stride) {
    constexpr int WIDTH = PANEL_COLUMNS / LANES;
    for (int64_t group = 0; group < groups; group += WIDTH) {
        const int width = std::min<int64_t>(WIDTH, groups - group);
        Tile sum[CHUNK_ROWS / ROWS][WIDTH];
        for (auto & of_rows : sum) std::fill_n(of_rows, width, Tile{});
        for (int64_t block = 0; block < blocks; block++) {
            prefetch(next + count * block, count);
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
        panels<Type>(count, blocks, x, x_stride, next, j / LANES, (const GroupOf<Type, LANES> *) y, out, out_stride);
    }
    const auto by_rows = [&](auto some) {
        for (int i = 0; i < count; i += ROWS) {
            some(x + i * x_stride, i + ROWS < count ? x + (i + ROWS) * x_stride : next, out + j * out_stride + i,
                 std::min(ROWS, count - i));
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

// A block of N columns of `from`, each `stride` bytes apart.
template <class Column, int N>
void quantize_group(const char * from, size_t stride, ggml_from_float_t quantize, int64_t size, Group<Column, N> & to) {
    static_assert(sizeof to == N * sizeof(Column));
    typename Quantised<Column>::Block columns[N];
    for (int j = 0; j < N; j++) quantize((const float *) (from + j * stride), &columns[j], size);
    to.pack(columns);
}

// The columns are laid side by side as the kernels take them.
template <class Type> void quantize(const Product & product, int64_t from, int64_t to) {
    const ggml_type column_type = ggml_get_type_traits_cpu(product.type)->vec_dot_type;
    const ggml_from_float_t quantize = ggml_get_type_traits_cpu(column_type)->from_float;
    const int64_t size = ggml_blck_size(column_type), blocks = product.blocks;
    const Grouped grouped = Grouped::of<Type>(product.width);
    for (int64_t matrix = 0; matrix < product.ne12 * product.ne13; matrix++) {
        const char * source = product.source + matrix % product.ne12 * product.nb12 + matrix / product.ne12 * product.nb13;
        auto * const own = (typename Type::Column *) (product.columns + matrix * product.bytes_columns);
        int64_t j = 0;
        const auto group = [&](auto * groups) {
            for (int64_t block = from; block < to; block++) {
                quantize_group(source + j * product.nb11 + block * size * sizeof(float), product.nb11, quantize, size,
                               groups[block]);
            }
        };
        for (; j < grouped.lanes; j += LANES) group((GroupOf<Type, LANES> *) (own + j * blocks));
        for (; j < grouped.lanes + grouped.fours; j += 4) group((GroupOf<Type, 4> *) (own + j * blocks));
        for (; j < product.width; j++) {
            if constexpr (IS_AS_QUANTISED<typename Type::Column>) {
                quantize((const float *) (source + j * product.nb11) + from * size, own + j * blocks + from,
                         (to - from) * size);
                prepare(own + j * blocks + from, to - from);
            } else {
                group((GroupOf<Type, 1> *) (own + j * blocks));
            }
        }
    }
}

template <class Type> void compute(Work & work, int64_t at, int64_t next, float * out, int64_t stride) {
    const auto & product = (const Product &) work;
    using Block = typename Type::Block;
    const Chunk here = chunk_of(product, at);
    chunk<Type>(here.count, product.blocks, (const Block *) here.weights, product.nb01 / sizeof(Block),
                (const Block *) chunk_of(product, next).weights, product.width, Grouped::of<Type>(product.width),
                (const typename Type::Column *) here.columns, out, stride);
}

template <class Type> bool plan(Product & product) {
    product.bytes_columns = product.blocks * product.width * sizeof(typename Type::Column);
    product.quantize = quantize<Type>;
    product.compute = compute<Type>;
    return true;
}

#ifdef ZOSIA_STRIPS
// The columns of a block lie one after the other.
template <class Type> void quantize_by_blocks(const Product & product, int64_t from, int64_t to) {
    for (int64_t matrix = 0; matrix < product.ne12 * product.ne13; matrix++) {
        const char * source = product.source + matrix % product.ne12 * product.nb12 + matrix / product.ne12 * product.nb13;
        auto * const own = (block_q8_K *) (product.columns + matrix * product.bytes_columns);
        for (int64_t j = 0; j < product.width; j++) {
            const auto * column = (const float *) (source + j * product.nb11);
            for (int64_t block = from; block < to; block++) {
                quantize_block<Type::HAS_DMIN>(column + block * QK_K, own[block * product.width + j]);
            }
        }
    }
}

// out[j * out_stride + i] for `count` rows and all columns.
template <class Type>
void strips(int count, int64_t blocks, const typename Type::Block * x, int64_t x_stride,
            const typename Type::Block * next, int64_t columns, const block_q8_K * y, float * out, int64_t out_stride) {
    for (int64_t from = 0; from < columns; from += PANEL_COLUMNS) {
        const int width = std::min<int64_t>(PANEL_COLUMNS, columns - from);
        __m512 sum[CHUNK_ROWS / STRIP][PANEL_COLUMNS];
        for (auto & of_rows : sum) std::fill_n(of_rows, width, _mm512_setzero_ps());
        for (int64_t block = 0; block < blocks; block++) {
            prefetch(next + count * block, count);
            Strip some[CHUNK_ROWS / STRIP];
            for (int i = 0; i < count; i += STRIP) {
                unpack_strip(x + i * x_stride + block, x_stride, std::min(STRIP, count - i) - 1, some[i / STRIP]);
            }
            const block_q8_K * of_block = y + block * columns + from;
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

template <class Type> void compute_by_blocks(Work & work, int64_t at, int64_t next, float * out, int64_t stride) {
    const auto & product = (const Product &) work;
    using Block = typename Type::Block;
    const Chunk here = chunk_of(product, at);
    const auto * const x = (const Block *) here.weights, * const after = (const Block *) chunk_of(product, next).weights;
    const auto * const y = (const block_q8_K *) here.columns;
    strips<Type>(here.count, product.blocks, x, product.nb01 / sizeof(Block), after, product.width, y, out, stride);
}

// The columns of a pass.
template <class Type> void quantize_pass(const Product & product, int64_t from, int64_t to) {
    const auto columns = (int) product.width;
    for (int64_t matrix = 0; matrix < product.ne12 * product.ne13; matrix++) {
        const char * source = product.source + matrix % product.ne12 * product.nb12 + matrix / product.ne12 * product.nb13;
        const char * const own = product.columns + matrix * product.bytes_columns;
        for (int j = 0; j < columns; j++) {
            const auto * column = (const float *) (source + j * product.nb11);
            for (int64_t block = from; block < to; block++) {
                block_q8_K quants;
                ggml_get_type_traits_cpu(GGML_TYPE_Q8_K)->from_float(column + block * QK_K, &quants, QK_K);
                PassBlock{ own + block * PassBlock::bytes(columns), columns }.put(quants, j);
            }
        }
    }
}

template <class Type, int N> void compute_pass(Work & work, int64_t at, int64_t next, float * out, int64_t stride) {
    const auto & product = (const Product &) work;
    using Block = typename Type::Block;
    const Chunk here = chunk_of(product, at);
    const auto * const after = (const Block *) chunk_of(product, next).weights;
    for (int i = 0; i < here.count; i++) {
        const auto row = [&](int i) { return (const Block *) (here.weights + i * product.nb01); };
        row_of_pass<Type, N>(product.blocks, row(i), i + 1 < here.count ? row(i + 1) : after, here.columns, out + i, stride);
    }
}

template <class Type, int N = ZOSIA_PASS_TOKENS> bool plan_pass(Product & product) {
    if constexpr (N > 1) {
        if (product.width != N) return plan_pass<Type, N - 1>(product);
        product.quantize = quantize_pass<Type>;
        product.compute = compute_pass<Type, N>;
        return true;
    }
    return false;
}

template <class Type> bool plan_by_blocks(Product & product) {
    if (product.width <= ZOSIA_PASS_TOKENS) return plan_pass<Type>(product);
    product.quantize = quantize_by_blocks<Type>;
    product.compute = compute_by_blocks<Type>;
    return true;
}
#endif

// Whether a kernel here computes the product.
bool plan_here(Product & product) {
    switch (product.type) {
#ifdef __ARM_NEON
        case GGML_TYPE_Q4_0: return plan<Q4_0>(product);
#endif
#ifdef __ARM_FEATURE_DOTPROD
        case GGML_TYPE_MXFP4: return plan<MXFP4>(product);
#endif
        case GGML_TYPE_Q4_1: return plan<Q4_1>(product);
        case GGML_TYPE_Q8_0:
#ifdef __AVX2__
            // Upstream has a good one for many tokens.
            if (product.width > ZOSIA_PASS_TOKENS) return false;
#endif
            return plan<Q8_0>(product);
#ifdef ZOSIA_STRIPS
        case GGML_TYPE_Q4_K: return plan_by_blocks<Q4_K>(product);
        case GGML_TYPE_Q5_K: return plan_by_blocks<Q5_K>(product);
        case GGML_TYPE_Q6_K: return plan_by_blocks<Q6_K>(product);
#else
        case GGML_TYPE_Q4_K: return plan<Q4_K>(product);
        case GGML_TYPE_Q5_K: return plan<Q5_K>(product);
        case GGML_TYPE_Q6_K: return plan<Q6_K>(product);
#endif
        default: return false;
    }
}

} // namespace
#else
static bool plan_here(Product &) { return false; }
#endif

namespace {

// Columns for upstream's vec_dot.
void quantize_upstream(const Product & product, int64_t from, int64_t to) {
    const ggml_type type = ggml_get_type_traits_cpu(product.type)->vec_dot_type;
    const int64_t size = ggml_blck_size(type), bytes = ggml_type_size(type);
    for (int64_t at = 0; at < product.width * product.ne12 * product.ne13; at++) {
        const int64_t matrix = at / product.width;
        const char * source = product.source + at % product.width * product.nb11 + matrix % product.ne12 * product.nb12 +
                              matrix / product.ne12 * product.nb13;
        const auto * floats = (const float *) source + from * size;
        char * column = product.columns + matrix * product.bytes_columns + (at % product.width * product.blocks + from) * bytes;
        if (type == GGML_TYPE_F32) {
            memcpy(column, floats, (to - from) * bytes);
        } else {
            ggml_get_type_traits_cpu(type)->from_float(floats, column, (to - from) * size);
        }
    }
}

void compute_upstream(Work & work, int64_t at, int64_t, float * out, int64_t stride) {
    const auto & product = (const Product &) work;
    const auto * traits = ggml_get_type_traits_cpu(product.type);
    const Chunk here = chunk_of(product, at);
    const size_t bytes = ggml_row_size(traits->vec_dot_type, product.length);
    for (int64_t j = 0; j < product.width; j++) {
        for (int i = 0; i < here.count; i++) {
            traits->vec_dot(product.length, out + j * stride + i, 0, here.weights + i * product.nb01, 0,
                            here.columns + j * bytes, 0, 1);
        }
    }
}

// Whether upstream multiplies these, too, row by row.
bool plan_upstream(const ggml_tensor * dst, Product & product) {
    const auto * traits = ggml_get_type_traits_cpu(product.type);
    if (product.width > ZOSIA_PASS_TOKENS || ggml_get_op_params_i32(dst, 1) == GGML_HINT_SRC0_IS_HADAMARD) return false;
    if (!traits->vec_dot) return false;
    if (traits->vec_dot_type != GGML_TYPE_F32 && !ggml_get_type_traits_cpu(traits->vec_dot_type)->from_float) return false;
    product.quantize = quantize_upstream;
    product.compute = compute_upstream;
    return true;
}

} // namespace

bool plan_product(const ggml_tensor * dst, int threads, bool also_upstream, Product & product) {
    const ggml_tensor * src0 = dst->src[0];
    const ggml_tensor * src1 = dst->src[1];
    if (src1->type != GGML_TYPE_F32) return false;
    GGML_TENSOR_BINARY_OP_LOCALS
    const ggml_type column_type = ggml_get_type_traits_cpu(src0->type)->vec_dot_type;
    product.type = src0->type;
    product.length = ne00;
    product.blocks = ne00 / ggml_blck_size(column_type);
    product.rows = ne01;
    product.width = ne11;
    product.ne12 = ne12;
    product.ne13 = ne13;
    product.r2 = ne12 / ne02;
    product.r3 = ne13 / ne03;
    product.weights = (const char *) src0->data;
    product.nb01 = nb01;
    product.nb02 = nb02;
    product.nb03 = nb03;
    product.source = (const char *) src1->data;
    product.nb11 = nb11;
    product.nb12 = nb12;
    product.nb13 = nb13;
    product.bytes_columns = ggml_row_size(column_type, ne10) * ne11;
    product.dst = (char *) dst->data;
    product.nb1 = nb1;
    product.nb2 = nb2;
    product.nb3 = nb3;
    if (!plan_here(product) && !(also_upstream && plan_upstream(dst, product))) return false;
    // Smaller pieces where there are few rows, so that no thread waits long.
    const int64_t share = ne01 / (4 * threads) / 4 * 4;
    product.each = std::clamp<int64_t>(share, 4, CHUNK_ROWS);
    product.of_matrix = (ne01 + product.each - 1) / product.each;
    product.publish = publish;
    product.finish = nullptr;
    product.chunks = product.of_matrix * ne12 * ne13;
    product.stride = product.each;
    product.own_floats = product.each * ne11;
    product.bytes = sizeof product;
    return true;
}

// Where threads do not share the work piece by piece: called by each of them.
static bool multiply_here(const ggml_compute_params * params, ggml_tensor * dst) {
    Product product;
    if (params->use_ref || !plan_product(dst, params->nth, false, product)) return false;
    product.columns = (char *) params->wdata;
    product.quantize(product, product.blocks * params->ith / params->nth, product.blocks * (params->ith + 1) / params->nth);
    if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
    ggml_barrier(params->threadpool);
    for (int64_t at = params->ith, next; at < product.chunks; at = next) {
        next = ggml_threadpool_chunk_add(params->threadpool, 1);
        auto * out = (float *) chunk_of(product, at).dst;
        product.compute(product, at, std::min(next, product.chunks - 1), out, product.nb1 / sizeof(float));
    }
    return true;
}

extern "C" bool ggml_compute_forward_mul_mat_tiled(const ggml_compute_params * params, ggml_tensor * dst) {
    return multiply_here(params, dst) ||
           (dst->src[1]->ne[1] > ZOSIA_PASS_TOKENS && upstream_mul_mat_tiled(params, dst));
}

extern "C" bool ggml_compute_forward_mul_mat_id_tiled(const ggml_compute_params * params, ggml_tensor * dst,
                                                      int64_t expert, int64_t rows, const int32_t * expert_rows,
                                                      char * scratch) {
    return rows > ZOSIA_PASS_TOKENS && upstream_mul_mat_id_tiled(params, dst, expert, rows, expert_rows, scratch);
}

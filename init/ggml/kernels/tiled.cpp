// Products by kernels of our own where they are faster (avx2.h, neon.h). Upstream's
// tiles sum in another order than its vec_dot: they take only batches that are wider
// than any pass whose logits must be those of its tokens one by one.

#define ggml_compute_forward_mul_mat_tiled upstream_mul_mat_tiled
#define ggml_compute_forward_mul_mat_id_tiled upstream_mul_mat_id_tiled
#include "tiled/tiled.cpp"
#undef ggml_compute_forward_mul_mat_tiled
#undef ggml_compute_forward_mul_mat_id_tiled

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define ZOSIA_KERNELS
#include "avx2.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#define ZOSIA_KERNELS
#include "neon.h"
#endif

#ifdef ZOSIA_KERNELS
namespace {

// Rows that a thread takes at a time, and columns that it sums at a time: a block of
// each stays in the first cache.
constexpr int CHUNK_ROWS = 32;
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
    switch (grouped.fours) {
        case 4: fours_of(std::integral_constant<int, 1>()); break;
        case 8: fours_of(std::integral_constant<int, 2>()); break;
    }
    j += grouped.fours;
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
    Column columns[N];
    for (int j = 0; j < N; j++) quantize((const float *) (from + j * stride), &columns[j], size);
    to.pack(columns);
}

// dst = src0 times src1, called by every thread.
template <class Type> void multiply(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * src0 = dst->src[0];
    const ggml_tensor * src1 = dst->src[1];
    GGML_TENSOR_BINARY_OP_LOCALS
    const ggml_type column_type = ggml_get_type_traits_cpu(src0->type)->vec_dot_type;
    const ggml_from_float_t quantize = ggml_get_type_traits_cpu(column_type)->from_float;
    const int64_t size = ggml_blck_size(column_type);
    const int64_t blocks = ne00 / size;
    auto * const columns = (typename Type::Column *) params->wdata;
    const Grouped grouped = Grouped::of<Type>(ne11);

    // Each thread has the same blocks of all columns.
    const int64_t from = blocks * params->ith / params->nth, to = blocks * (params->ith + 1) / params->nth;
    for (int64_t matrix = 0; matrix < ne12 * ne13; matrix++) {
        const char * source = (const char *) src1->data + matrix % ne12 * nb12 + matrix / ne12 * nb13;
        auto * const own = columns + matrix * ne11 * blocks;
        int64_t j = 0;
        const auto group = [&](auto * groups) {
            for (int64_t block = from; block < to; block++) {
                quantize_group(source + j * nb11 + block * size * sizeof(float), nb11, quantize, size, groups[block]);
            }
        };
        for (; j < grouped.lanes; j += LANES) group((GroupOf<Type, LANES> *) (own + j * blocks));
        for (; j < grouped.lanes + grouped.fours; j += 4) group((GroupOf<Type, 4> *) (own + j * blocks));
        for (; j < ne11; j++) {
            quantize((const float *) (source + j * nb11) + from * size, own + j * blocks + from, (to - from) * size);
            prepare(own + j * blocks + from, to - from);
        }
    }
    if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
    ggml_barrier(params->threadpool);

    // Smaller pieces where there are few rows, so that no thread waits long.
    const int64_t share = ne01 / (4 * params->nth) / ROWS * ROWS;
    const int64_t each = std::clamp<int64_t>(share, ROWS, CHUNK_ROWS);
    const int64_t chunks = (ne01 + each - 1) / each;
    const auto weights = [&](int64_t at) {
        const int64_t matrix = at / chunks;
        const int64_t i02 = matrix % ne12 / (ne12 / ne02), i03 = matrix / ne12 / (ne13 / ne03);
        const char * first = (const char *) src0->data + i02 * nb02 + i03 * nb03 + at % chunks * each * nb01;
        return (const typename Type::Block *) first;
    };
    for (int64_t at = params->ith, next; at < chunks * ne12 * ne13; at = next) {
        next = ggml_threadpool_chunk_add(params->threadpool, 1);
        const int64_t matrix = at / chunks, i = at % chunks * each;
        char * out = (char *) dst->data + matrix % ne12 * nb2 + matrix / ne12 * nb3;
        chunk<Type>(std::min(each, ne01 - i), blocks, weights(at), nb01 / sizeof(typename Type::Block), weights(next),
                    ne11, grouped, columns + matrix * ne11 * blocks, (float *) out + i, nb1 / sizeof(float));
    }
}

// Whether a kernel here has computed dst.
bool multiply_here(const ggml_compute_params * params, ggml_tensor * dst) {
    if (params->use_ref || dst->src[1]->type != GGML_TYPE_F32) return false;
    switch (dst->src[0]->type) {
#ifdef __ARM_NEON
        case GGML_TYPE_Q4_0: multiply<Q4_0>(params, dst); return true;
#endif
        case GGML_TYPE_Q4_1: multiply<Q4_1>(params, dst); return true;
        case GGML_TYPE_Q8_0:
            // Upstream has a good one for many tokens.
            if (!Q8_0::HAS_LANES && dst->src[1]->ne[1] > ZOSIA_PASS_TOKENS) return false;
            multiply<Q8_0>(params, dst);
            return true;
#ifndef __AVX512F__
        case GGML_TYPE_Q4_K: multiply<Q4_K>(params, dst); return true;
        case GGML_TYPE_Q5_K: multiply<Q5_K>(params, dst); return true;
        case GGML_TYPE_Q6_K: multiply<Q6_K>(params, dst); return true;
#endif
        default: return false;
    }
}

} // namespace
#else
static bool multiply_here(const ggml_compute_params *, ggml_tensor *) { return false; }
#endif

extern "C" bool ggml_compute_forward_mul_mat_tiled(const ggml_compute_params * params, ggml_tensor * dst) {
    return multiply_here(params, dst) ||
           (dst->src[1]->ne[1] > ZOSIA_PASS_TOKENS && upstream_mul_mat_tiled(params, dst));
}

extern "C" bool ggml_compute_forward_mul_mat_id_tiled(const ggml_compute_params * params, ggml_tensor * dst,
                                                      int64_t expert, int64_t rows, const int32_t * expert_rows,
                                                      char * scratch) {
    return rows > ZOSIA_PASS_TOKENS && upstream_mul_mat_id_tiled(params, dst, expert, rows, expert_rows, scratch);
}

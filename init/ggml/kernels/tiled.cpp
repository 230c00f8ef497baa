// Products by kernels of our own where they are faster (avx2.h, avx512.h, neon.h, neon80.h). Upstream's
// tiles sum in another order than its vec_dot: they take only batches that are wider
// than any pass whose logits must be those of its tokens one by one.

#define ggml_compute_forward_mul_mat_tiled upstream_mul_mat_tiled
#define ggml_compute_forward_mul_mat_id_tiled upstream_mul_mat_id_tiled
#include "tiled/tiled.cpp"
#undef ggml_compute_forward_mul_mat_tiled
#undef ggml_compute_forward_mul_mat_id_tiled

#include <algorithm>

#include "matrices.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define ZOSIA_KERNELS
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#define ZOSIA_STRIPS
#include "avx512.h"
#include "avx512_32.h"
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

#ifdef ZOSIA_KERNELS
#ifdef ZOSIA_STRIPS
#include "strips.h"
#else
#include "panels.h"
#endif

namespace {

// `Way`: how columns are laid out for a kind of weights, and the kernels that take them.
template <class Way> void quantize(const Product & product, int64_t from, int64_t to) {
    for (int64_t at = 0; at < product.matrices; at++) Way::quantize(Matrix(product, at), from, to);
}

template <class Way> void compute(Work & work, int64_t at, int64_t next, float * out, int64_t stride) {
    const auto & product = (const Product &) work;
    Way::compute(Chunk(product, at), Chunk(product, next), out, stride);
}

template <class Way> bool plan(Product & product) {
    product.bytes_column = Way::bytes_column(product.blocks);
    product.quantize = quantize<Way>;
    product.compute = compute<Way>;
    return true;
}

// Whether a kernel here computes the product.
bool plan_here(Product & product) {
    switch (product.type) {
#ifdef __ARM_NEON
        case GGML_TYPE_Q4_0: return plan<InPanels<Q4_0>>(product);
#endif
#ifdef ZOSIA_STRIPS
        case GGML_TYPE_Q4_1: return plan<InStrips<Q4_1>>(product);
        case GGML_TYPE_Q8_0: return plan<InStrips<Q8_0>>(product);
        case GGML_TYPE_MXFP4: return plan<InStrips<MXFP4>>(product);
        case GGML_TYPE_Q4_K: return plan<InStrips<Q4_K>>(product);
        case GGML_TYPE_Q5_K: return plan<InStrips<Q5_K>>(product);
        case GGML_TYPE_Q6_K: return plan<InStrips<Q6_K>>(product);
#else
        case GGML_TYPE_Q4_1: return plan<InPanels<Q4_1>>(product);
        case GGML_TYPE_Q8_0:
#ifdef __AVX2__
            // Upstream has a good one for many tokens, but not with experts.
            if (product.width > ZOSIA_PASS_TOKENS && !product.choices) return false;
#endif
            return plan<InPanels<Q8_0>>(product);
        case GGML_TYPE_MXFP4: return plan<InPanels<MXFP4>>(product);
        case GGML_TYPE_Q4_K: return plan<InPanels<Q4_K>>(product);
        case GGML_TYPE_Q5_K: return plan<InPanels<Q5_K>>(product);
        case GGML_TYPE_Q6_K: return plan<InPanels<Q6_K>>(product);
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
    for (int64_t at = 0; at < product.matrices; at++) {
        const Matrix matrix(product, at);
        for (int64_t j = 0; j < matrix.width(); j++) {
            const float * floats = matrix.source(j) + from * size;
            char * column = matrix.columns() + (j * product.blocks + from) * bytes;
            if (type == GGML_TYPE_F32) {
                memcpy(column, floats, (to - from) * bytes);
            } else {
                ggml_get_type_traits_cpu(type)->from_float(floats, column, (to - from) * size);
            }
        }
    }
}

void compute_upstream(Work & work, int64_t at, int64_t, float * out, int64_t stride) {
    const auto & product = (const Product &) work;
    const auto * traits = ggml_get_type_traits_cpu(product.type);
    const Chunk here(product, at);
    for (int64_t j = 0; j < here.matrix.width(); j++) {
        for (int i = 0; i < here.count; i++) {
            traits->vec_dot(product.length, out + j * stride + i, 0, here.weights() + i * product.nb01, 0,
                            here.matrix.columns() + j * product.bytes_column, 0, 1);
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

// What both kinds of products have in common. `width`: columns of the widest matrix.
static bool plan_any(const ggml_tensor * dst, int threads, int64_t width, Product & product) {
    const ggml_tensor * src0 = dst->src[0];
    const ggml_tensor * src1 = dst->src[1];
    if (src1->type != GGML_TYPE_F32) return false;
    GGML_TENSOR_BINARY_OP_LOCALS
    const ggml_type column_type = ggml_get_type_traits_cpu(src0->type)->vec_dot_type;
    product.type = src0->type;
    product.length = ne00;
    product.blocks = ne00 / ggml_blck_size(column_type);
    product.rows = ne01;
    product.width = width;
    product.weights = (const char *) src0->data;
    product.nb01 = nb01;
    product.nb02 = nb02;
    product.nb03 = nb03;
    product.source = (const char *) src1->data;
    product.nb11 = nb11;
    product.nb12 = nb12;
    product.nb13 = nb13;
    product.bytes_column = ggml_row_size(column_type, ne10);
    product.dst = (char *) dst->data;
    product.nb1 = nb1;
    product.nb2 = nb2;
    product.nb3 = nb3;
    if (!plan_here(product) && !plan_upstream(dst, product)) return false;
    // Smaller pieces where there are few rows, so that no thread waits long.
    const int64_t share = ne01 / (4 * threads) / 4 * 4;
    product.each = std::clamp<int64_t>(share, 4, CHUNK_ROWS);
    product.of_matrix = (ne01 + product.each - 1) / product.each;
    product.publish = publish;
    product.finish = nullptr;
    product.chunks = product.of_matrix * product.matrices;
    product.stride = product.each;
    product.own_floats = product.each * width;
    return true;
}

bool plan_product(const ggml_tensor * dst, int threads, Product & product) {
    const ggml_tensor * src0 = dst->src[0];
    const ggml_tensor * src1 = dst->src[1];
    product.choices = nullptr;
    product.ne12 = src1->ne[2];
    product.r2 = src1->ne[2] / src0->ne[2];
    product.r3 = src1->ne[3] / src0->ne[3];
    product.matrices = src1->ne[2] * src1->ne[3];
    if (!plan_any(dst, threads, src1->ne[1], product)) return false;
    product.bytes_columns = product.matrices * product.width * product.bytes_column;
    product.bytes = sizeof product;
    return true;
}

// Calls take(expert, choice) for all choices, token by token.
template <typename Take> static void each_choice(const ggml_tensor * ids, Take take) {
    for (int64_t token = 0; token < ids->ne[1]; token++) {
        for (int64_t slot = 0; slot < ids->ne[0]; slot++) {
            const int32_t expert = *(const int32_t *) ((const char *) ids->data + token * ids->nb[1] + slot * ids->nb[0]);
            take(expert, Choice{ (int32_t) slot, (int32_t) token });
        }
    }
}

bool plan_experts(const ggml_tensor * dst, int threads, ExpertProduct & product) {
    const ggml_tensor * ids = dst->src[2];
    const int64_t experts = dst->src[0]->ne[2], choices = ids->ne[0] * ids->ne[1];
    if (experts > ExpertProduct::MAX || dst->src[1]->ne[3] != 1) return false;
    int32_t widths[ExpertProduct::MAX] = {};
    bool are_there = true;
    each_choice(ids, [&](int32_t expert, Choice) {
        if (expert >= 0 && expert < experts) {
            widths[expert]++;
        } else {
            are_there = false;
        }
    });
    if (!are_there) return false;
    int32_t first = 0, widest = 0;
    product.matrices = 0;
    for (int32_t expert = 0; expert < experts; expert++) {
        if (widths[expert] == 0) continue;
        product.experts[product.matrices++] = { expert, first, widths[expert] };
        first += widths[expert];
        widest = std::max(widest, widths[expert]);
    }
    product.columns_of_token = dst->src[1]->ne[1];
    // Where they lie is not known yet.
    product.choices = (const Choice *) ids->data;
    if (!plan_any(dst, threads, widest, product)) return false;
    product.bytes_columns = choices * (product.bytes_column + sizeof(Choice)) + alignof(Choice);
    product.bytes = offsetof(ExpertProduct, experts) + product.matrices * sizeof(Expert);
    return true;
}

void place_columns(const ggml_tensor * dst, Product & product, char * at) {
    product.columns = at;
    if (!product.choices) return;
    const ggml_tensor * ids = dst->src[2];
    const Expert * const experts = ((const ExpertProduct &) product).experts;
    const auto choices = (Choice *) (at + (ids->ne[0] * ids->ne[1] * product.bytes_column + 7) / 8 * 8);
    int32_t next[ExpertProduct::MAX];
    for (int64_t i = 0; i < product.matrices; i++) next[experts[i].which] = experts[i].first;
    each_choice(ids, [&](int32_t expert, Choice choice) { choices[next[expert]++] = choice; });
    product.choices = choices;
}

extern "C" bool ggml_compute_forward_mul_mat_tiled(const ggml_compute_params * params, ggml_tensor * dst) {
    return dst->src[1]->ne[1] > ZOSIA_PASS_TOKENS && upstream_mul_mat_tiled(params, dst);
}

extern "C" bool ggml_compute_forward_mul_mat_id_tiled(const ggml_compute_params * params, ggml_tensor * dst,
                                                      int64_t expert, int64_t rows, const int32_t * expert_rows,
                                                      char * scratch) {
    return rows > ZOSIA_PASS_TOKENS && upstream_mul_mat_id_tiled(params, dst, expert, rows, expert_rows, scratch);
}

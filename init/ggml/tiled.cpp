// Products by kernels of our own where they are faster (avx2.h). Upstream's tiles
// sum in another order than its vec_dot: they take only batches that are wider than
// any pass whose logits must be those of its tokens one by one.

#define ggml_compute_forward_mul_mat_tiled upstream_mul_mat_tiled
#define ggml_compute_forward_mul_mat_id_tiled upstream_mul_mat_id_tiled
#include "tiled/tiled.cpp"
#undef ggml_compute_forward_mul_mat_tiled
#undef ggml_compute_forward_mul_mat_id_tiled

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "avx2.h"

// Whether a kernel here has computed dst.
static bool multiply_here(const ggml_compute_params * params, ggml_tensor * dst) {
    if (params->use_ref || dst->src[1]->type != GGML_TYPE_F32) return false;
    switch (dst->src[0]->type) {
        case GGML_TYPE_Q4_1: multiply<Q4_1>(params, dst); return true;
        case GGML_TYPE_Q8_0:
            // Upstream has a good one for many tokens.
            if (dst->src[1]->ne[1] > ZOSIA_PASS_TOKENS) return false;
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

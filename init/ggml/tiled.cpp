// Tiles sum in another order than ggml's vec_dot: they take only batches that are
// wider than any pass whose logits must be those of its tokens one by one.

#define ggml_compute_forward_mul_mat_tiled upstream_mul_mat_tiled
#define ggml_compute_forward_mul_mat_id_tiled upstream_mul_mat_id_tiled
#include "tiled/tiled.cpp"
#undef ggml_compute_forward_mul_mat_tiled
#undef ggml_compute_forward_mul_mat_id_tiled

extern "C" bool ggml_compute_forward_mul_mat_tiled(const ggml_compute_params * params, ggml_tensor * dst) {
    return dst->src[1]->ne[1] > ZOSIA_PASS_TOKENS && upstream_mul_mat_tiled(params, dst);
}

extern "C" bool ggml_compute_forward_mul_mat_id_tiled(const ggml_compute_params * params, ggml_tensor * dst,
                                                      int64_t expert, int64_t rows, const int32_t * expert_rows,
                                                      char * scratch) {
    return rows > ZOSIA_PASS_TOKENS && upstream_mul_mat_id_tiled(params, dst, expert, rows, expert_rows, scratch);
}

// Where a single token attends to more than 512, ggml splits them among the
// threads and adds up the parts: the result depends on the number of threads, and
// differs from that of the same token in a wider pass. Heads are enough to share.

#define ggml_compute_forward_flash_attn_ext upstream_flash_attn_ext
#include "ops.cpp"
#undef ggml_compute_forward_flash_attn_ext

extern "C" void ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
    ggml_compute_params unsplit = *params;
    unsplit.use_ref = params->use_ref || dst->src[0]->ne[1] <= ZOSIA_PASS_TOKENS;
    upstream_flash_attn_ext(&unsplit, dst);
}

// Upstream's products of several columns sum in another order than its vec_dot: they take
// only batches that are wider than any pass whose logits must be those of its tokens one
// by one.

#define llamafile_sgemm upstream_sgemm
#include "llamafile/sgemm.cpp"
#undef llamafile_sgemm

extern "C" bool llamafile_sgemm(const ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * A,
                                int64_t lda, const void * B, int64_t ldb, void * C, int64_t ldc, int Atype,
                                int Btype, int Ctype) {
    return n > ZOSIA_PASS_TOKENS && upstream_sgemm(params, m, n, k, A, lda, B, ldb, C, ldc, Atype, Btype, Ctype);
}

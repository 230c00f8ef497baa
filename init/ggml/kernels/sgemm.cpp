// Products of Q4_1 weights with several columns at once, NEON without dot products of
// bytes (with them: neon.h). ggml has them for Q4_0, Q8_0 and the K-quants only: with
// Q4_1 it unpacks each weight anew for every token of a batch.
//
// Every element is summed in the order of ggml's own vec_dot, so that a token's
// logits do not depend on how many are evaluated beside it. Upstream's kernels
// sum otherwise: they take only batches that are wider than any pass of which
// that is asked.

// The original stays for all other types, under a name of its own.
#define llamafile_sgemm upstream_sgemm
#include "llamafile/sgemm.cpp"
#undef llamafile_sgemm

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#if defined(__ARM_NEON) && !defined(__ARM_FEATURE_DOTPROD)
#define ZOSIA_Q4_1
namespace {

// Rows of weights and columns of activations that one tile takes, and the rows
// that a thread takes at a time: with the columns of a tile they fit into L1.
constexpr int TILE_ROWS = 2;
constexpr int TILE_COLUMNS = 4;
constexpr int64_t CHUNK_ROWS = 16;

template <int ROWS, int COLUMNS>
void tile(int64_t blocks, const block_q4_1 * x, int64_t x_stride, const block_q8_1 * y, int64_t y_stride,
          float * out, int64_t out_stride) {
    // Even and odd blocks are summed apart, as vec_dot does.
    float32x4_t acc[ROWS][COLUMNS][2];
    float mins[ROWS][COLUMNS];
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < COLUMNS; j++) {
            acc[i][j][0] = acc[i][j][1] = vdupq_n_f32(0);
            mins[i][j] = 0;
        }
    }
    for (int64_t block = 0; block < blocks; block += 2) {
        float dy[COLUMNS][2], sy[COLUMNS][2];
        for (int j = 0; j < COLUMNS; j++) {
            for (int half = 0; half < 2; half++) {
                const block_q8_1 & column = y[j * y_stride + block + half];
                dy[j][half] = unhalf(column.d);
                sy[j][half] = unhalf(column.s);
            }
        }
        for (int i = 0; i < ROWS; i++) {
            const block_q4_1 * row = x + i * x_stride + block;
            const float m[2] = { unhalf(row[0].m), unhalf(row[1].m) };
            for (int j = 0; j < COLUMNS; j++) mins[i][j] += m[0] * sy[j][0] + m[1] * sy[j][1];
            for (int half = 0; half < 2; half++) {
                const uint8x16_t packed = vld1q_u8(row[half].qs);
                const int8x16_t low = vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(15)));
                const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(packed, 4));
                const float d = unhalf(row[half].d);
                for (int j = 0; j < COLUMNS; j++) {
                    const int8_t * column = y[j * y_stride + block + half].qs;
                    const int32x4_t dot = ggml_vdotq_s32(
                        ggml_vdotq_s32(vdupq_n_s32(0), low, vld1q_s8(column)), high, vld1q_s8(column + 16));
                    acc[i][j][half] = vmlaq_n_f32(acc[i][j][half], vcvtq_f32_s32(dot), d * dy[j][half]);
                }
            }
        }
    }
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < COLUMNS; j++) {
            out[j * out_stride + i] = vaddvq_f32(acc[i][j][0]) + vaddvq_f32(acc[i][j][1]) + mins[i][j];
        }
    }
}

// Rows of x, at most TILE_ROWS, times columns of y, at most TILE_COLUMNS.
template <int ROWS>
void tile_of(int64_t columns, int64_t blocks, const block_q4_1 * x, int64_t x_stride, const block_q8_1 * y,
             int64_t y_stride, float * out, int64_t out_stride) {
    switch (columns) {
        case 1: return tile<ROWS, 1>(blocks, x, x_stride, y, y_stride, out, out_stride);
        case 2: return tile<ROWS, 2>(blocks, x, x_stride, y, y_stride, out, out_stride);
        case 3: return tile<ROWS, 3>(blocks, x, x_stride, y, y_stride, out, out_stride);
        default: return tile<ROWS, 4>(blocks, x, x_stride, y, y_stride, out, out_stride);
    }
}

// out[j * out_stride + i] for m rows and n columns; called by every thread.
void multiply(const ggml_compute_params * params, int64_t m, int64_t n, int64_t blocks, const block_q4_1 * x,
              int64_t x_stride, const block_q8_1 * y, int64_t y_stride, float * out, int64_t out_stride) {
    if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
    ggml_barrier(params->threadpool);
    for (int64_t chunk = params->ith; chunk * CHUNK_ROWS < m;
         chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t end = std::min(m, (chunk + 1) * CHUNK_ROWS);
        for (int64_t j = 0; j < n; j += TILE_COLUMNS) {
            const int64_t columns = std::min<int64_t>(TILE_COLUMNS, n - j);
            for (int64_t i = chunk * CHUNK_ROWS; i < end; i += TILE_ROWS) {
                const auto some = end - i >= TILE_ROWS ? tile_of<TILE_ROWS> : tile_of<1>;
                some(columns, blocks, x + i * x_stride, x_stride, y + j * y_stride, y_stride,
                     out + j * out_stride + i, out_stride);
            }
        }
    }
    // Only now may the chunks be counted anew.
    ggml_barrier(params->threadpool);
}

} // namespace
#endif

extern "C" bool llamafile_sgemm(const ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * A,
                                int64_t lda, const void * B, int64_t ldb, void * C, int64_t ldc, int Atype,
                                int Btype, int Ctype) {
    const bool is_pass = n <= ZOSIA_PASS_TOKENS;
#ifdef ZOSIA_Q4_1
    // An odd number of blocks has a rest that vec_dot sums in another order.
    const bool is_ours = Atype == GGML_TYPE_Q4_1 && Btype == GGML_TYPE_Q8_1 && Ctype == GGML_TYPE_F32 && k % 2 == 0;
    if (is_ours && n > 1) {
        multiply(params, m, n, k, (const block_q4_1 *) A, lda, (const block_q8_1 *) B, ldb, (float *) C, ldc);
        return true;
    }
#endif
    return !is_pass && upstream_sgemm(params, m, n, k, A, lda, B, ldb, C, ldc, Atype, Btype, Ctype);
}

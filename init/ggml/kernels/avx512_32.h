// Products of MXFP4 and Q8_0, 32 weights a block, with AVX-512 (VNNI). Weights are stored
// with something added, so that they are above zero; what is too much is the sum of the
// activations times that, and each sum begins with it.
//
// Many columns are multiplied with strips of 16 rows, as those of K-quants are (avx512.h).
// Up to ZOSIA_PASS_TOKENS columns of MXFP4 are a pass: one row after the other, four blocks
// at once, each a quarter of a vector.

#pragma once

#include "avx512.h"

namespace {

// A block of STRIP rows side by side.
struct alignas(64) Strip32 {
    // Four weights of each row.
    __m512i quants[8];
    __m512 d;
};

// A block of a column. start: what a row's sum begins with.
struct Column32 {
    float d;
    int32_t start;
    int8_t quants[32];
};

// What is added to weights, and how much larger than they are the numbers that are stored.
template <class Type> constexpr int OFFSET = 128;
template <> inline constexpr int OFFSET<MXFP4> = 12;
template <class Type> constexpr float LARGER = 1;
template <> inline constexpr float LARGER<MXFP4> = 2;

// Lane i has the sum of four activations of `first` and four of `second`, times `factor`.
__m128i sums_of_4(__m128i first, __m128i second, int8_t factor) {
    const __m128i factors = _mm_set1_epi8(factor);
    return _mm_dpbusd_epi32(_mm_dpbusd_epi32(_mm_setzero_si128(), factors, first), factors, second);
}

block_q8_0 quantize_32(const float * x) {
    block_q8_0 block;
    ggml_get_type_traits_cpu(GGML_TYPE_Q8_0)->from_float(x, &block, QK8_0);
    return block;
}

template <class Type> void quantize_block(const float * x, Column32 & y) {
    const block_q8_0 block = quantize_32(x);
    memcpy(y.quants, block.qs, sizeof block.qs);
    y.d = _cvtsh_ss(block.d) / LARGER<Type>;
    const auto half = [&](int at) { return _mm_loadu_si128((const __m128i *) (block.qs + at)); };
    int32_t sums[4];
    _mm_storeu_si128((__m128i *) sums, sums_of_4(half(0), half(16), 1));
    y.start = -OFFSET<Type> * (sums[0] + sums[1] + sums[2] + sums[3]);
}

// What a nibble stands for, twice and with 12 added. The two bits above it do not matter.
__m512i values_of_nibbles() {
    return _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
}

// The power of two whose exponent is the highest byte.
__m512 powers(__m512i exponents) { return _mm512_castsi512_ps(_mm512_srli_epi32(exponents, 1)); }

void unpack_strip(const block_mxfp4 * x, int64_t stride, int last, Strip32 & to) {
    stride *= sizeof *x;
    __m512i packed[4];
    words((const char *) x->qs, stride, last, packed);
    const __m512i values = values_of_nibbles();
    for (int k = 0; k < 4; k++) {
        to.quants[k] = _mm512_permutexvar_epi8(packed[k], values);
        to.quants[4 + k] = _mm512_permutexvar_epi8(_mm512_srli_epi16(packed[k], 4), values);
    }
    alignas(64) int32_t exponents[STRIP];
    for (int i = 0; i < STRIP; i++) exponents[i] = ((const block_mxfp4 *) ((const char *) x + std::min(i, last) * stride))->e << 24;
    to.d = powers(load_512(exponents));
}

void unpack_strip(const block_q8_0 * x, int64_t stride, int last, Strip32 & to) {
    stride *= sizeof *x;
    for (int half = 0; half < 2; half++) {
        __m512i some[4];
        words((const char *) x->qs + 16 * half, stride, last, some);
        for (int k = 0; k < 4; k++) to.quants[4 * half + k] = _mm512_xor_si512(some[k], _mm512_set1_epi8(-128));
    }
    alignas(32) ggml_half d[STRIP];
    for (int i = 0; i < STRIP; i++) memcpy(&d[i], (const char *) x + std::min(i, last) * stride, sizeof *d);
    to.d = _mm512_cvtph_ps(load(d));
}

// Adds a block of N columns to sum.
template <class Type, int N> void strip(const Strip32 & x, const Column32 * y, __m512 * sum) {
    __m512i total[N];
    for (int j = 0; j < N; j++) total[j] = _mm512_set1_epi32(y[j].start);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) {
            int32_t four;
            memcpy(&four, y[j].quants + 4 * k, sizeof four);
            total[j] = _mm512_dpbusd_epi32(total[j], x.quants[k], _mm512_set1_epi32(four));
        }
    }
    for (int j = 0; j < N; j++) {
        sum[j] = _mm512_fmadd_ps(_mm512_mul_ps(x.d, _mm512_set1_ps(y[j].d)), _mm512_cvtepi32_ps(total[j]), sum[j]);
    }
}

// --- Passes of MXFP4 ---

// Four blocks of a column: the first sixteen of each, the second, what the sums begin
// with, and factors. What there are no blocks for is not multiplied with anything.
struct Four {
    int8_t quants[2][64];
    int32_t start[16];
    float d[16];

    void put(const block_q8_0 & block, int at) {
        const auto half = [&](int i) { return _mm_loadu_si128((const __m128i *) (block.qs + i)); };
        for (int i = 0; i < 2; i++) _mm_storeu_si128((__m128i *) (quants[i] + 16 * at), half(16 * i));
        const __m128i sums = sums_of_4(half(0), half(16), OFFSET<MXFP4>);
        _mm_storeu_si128((__m128i *) (start + 4 * at), _mm_sub_epi32(_mm_setzero_si128(), sums));
        _mm_storeu_ps(d + 4 * at, _mm_set1_ps(_cvtsh_ss(block.d) / LARGER<MXFP4>));
    }

    void put_none(int at) { std::fill_n(d + 4 * at, 4, 0.0f); }
};

constexpr int64_t fours_of(int64_t blocks) { return (blocks + 3) / 4; }

// out[j * out_stride] for one row and N columns, whose fours lie one after the other.
template <int N>
void row_of_fours(int64_t blocks, const block_mxfp4 * x, const block_mxfp4 * next, const Four * y, float * out,
                  int64_t out_stride) {
    const __m512i values = values_of_nibbles();
    const __m512i exponents = _mm512_set_epi32(51 << 24, 51 << 24, 51 << 24, 51 << 24, 34 << 24, 34 << 24, 34 << 24, 34 << 24,
                                               17 << 24, 17 << 24, 17 << 24, 17 << 24, 0, 0, 0, 0);
    __m512 sum[N];
    for (int j = 0; j < N; j++) sum[j] = _mm512_setzero_ps();
    for (int64_t block = 0; block < blocks; block += 4, y += N) {
        const auto count = (int) std::min<int64_t>(4, blocks - block);
        const block_mxfp4 * const from = x + block;
        prefetch(next + block, count);
        const void * const quants[4] = { from->qs, from[std::min(1, count - 1)].qs, from[std::min(2, count - 1)].qs,
                                         from[count - 1].qs };
        const __m512i packed = four(quants);
        const __mmask64 there = count == 4 ? ~0ull : (1ull << count * sizeof *from) - 1;
        const __m512i head = _mm512_maskz_loadu_epi8(there, from);
        const __m512 d = powers(_mm512_maskz_permutexvar_epi8(0x8888888888888888, exponents, head));
        const __m512i first = _mm512_permutexvar_epi8(packed, values);
        const __m512i second = _mm512_permutexvar_epi8(_mm512_srli_epi16(packed, 4), values);
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) {
            __m512i total = _mm512_dpbusd_epi32(load_512(y[j].start), first, load_512(y[j].quants[0]));
            total = _mm512_dpbusd_epi32(total, second, load_512(y[j].quants[1]));
            sum[j] = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_loadu_ps(y[j].d)), _mm512_cvtepi32_ps(total), sum[j]);
        }
    }
    for (int j = 0; j < N; j++) out[j * out_stride] = _mm512_reduce_add_ps(sum[j]);
}

} // namespace

// Products of MXFP4, Q4_1 and Q8_0, 32 weights a block, with AVX-512 (VNNI). Weights are
// stored with something added, so that they are above zero; what is too much is the sum of
// the activations times that, and each sum begins with it.
//
// Many columns are multiplied with strips of 16 rows, as those of K-quants are (avx512.h);
// a few row by row (avx512_rows.h).

#pragma once

#include "avx512.h"
#include "matrices.h"

namespace {

// A block of STRIP rows side by side.
struct alignas(64) Strip32 {
    // Four weights of each row.
    __m512i quants[8];
    __m512 d, m;
};

// A block of a column. start: what a row's sum begins with. s: what its m is multiplied with.
struct Column32 {
    float d, s;
    int32_t start;
    int8_t quants[32];
};

// What is added to weights, and how much larger than they are the numbers that are stored.
template <class Type> constexpr int OFFSET = 128;
template <> inline constexpr int OFFSET<MXFP4> = 12;
template <> inline constexpr int OFFSET<Q4_1> = 0;
template <class Type> constexpr float LARGER = 1;
template <> inline constexpr float LARGER<MXFP4> = 2;

// 32 activations in eight bits, the first 16 and the others.
struct Rounded {
    __m128i first, second;
    float d;

    Rounded(const float * x) {
        const __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
        const float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        const __m512 scale = _mm512_set1_ps(most > 0 ? 127 / most : 0);
        first = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(low, scale)));
        second = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(high, scale)));
        d = most / 127;
    }

    // Lane i has the sum of four of the first and four of the second.
    __m128i sums() const {
        const __m128i one = _mm_set1_epi8(1);
        return _mm_dpbusd_epi32(_mm_dpbusd_epi32(_mm_setzero_si128(), one, first), one, second);
    }
};

template <class Type> void quantize_block(const float * x, Column32 & y) {
    const Rounded rounded(x);
    _mm_storeu_si128((__m128i *) y.quants, rounded.first);
    _mm_storeu_si128((__m128i *) (y.quants + 16), rounded.second);
    int32_t sums[4];
    _mm_storeu_si128((__m128i *) sums, rounded.sums());
    const int32_t sum = sums[0] + sums[1] + sums[2] + sums[3];
    y.d = rounded.d / LARGER<Type>;
    y.s = y.d * (float) sum;
    y.start = -OFFSET<Type> * sum;
}

// What a nibble stands for, twice and with 12 added. The two bits above it do not matter.
__m512i values_of_nibbles() {
    return _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
}

// The power of two whose exponent is the highest byte.
__m512 powers(__m512i exponents) { return _mm512_castsi512_ps(_mm512_srli_epi32(exponents, 1)); }

void unpack_strip(StripBlock<block_mxfp4> x, Strip32 & to) {
    __m512i packed[4];
    x.words(offsetof(block_mxfp4, qs), packed);
    const __m512i values = values_of_nibbles();
    for (int k = 0; k < 4; k++) {
        to.quants[k] = _mm512_permutexvar_epi8(packed[k], values);
        to.quants[4 + k] = _mm512_permutexvar_epi8(_mm512_srli_epi16(packed[k], 4), values);
    }
    alignas(64) int32_t exponents[STRIP];
    for (int i = 0; i < STRIP; i++) exponents[i] = x.rows.of[i][x.block].e << 24;
    to.d = powers(load_512(exponents));
}

void unpack_strip(StripBlock<block_q4_1> x, Strip32 & to) {
    __m512i packed[4];
    x.words(offsetof(block_q4_1, qs), packed);
    const __m512i low = _mm512_set1_epi8(15);
    for (int k = 0; k < 4; k++) {
        to.quants[k] = _mm512_and_si512(packed[k], low);
        to.quants[4 + k] = _mm512_and_si512(_mm512_srli_epi16(packed[k], 4), low);
    }
    to.d = x.halves(0);
    to.m = x.halves(sizeof(ggml_half));
}

void unpack_strip(StripBlock<block_q8_0> x, Strip32 & to) {
    for (int half = 0; half < 2; half++) {
        __m512i some[4];
        x.words(offsetof(block_q8_0, qs) + 16 * half, some);
        for (int k = 0; k < 4; k++) to.quants[4 * half + k] = _mm512_xor_si512(some[k], _mm512_set1_epi8(-128));
    }
    to.d = x.halves(0);
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
        if constexpr (Type::HAS_MIN) sum[j] = _mm512_fmadd_ps(x.m, _mm512_set1_ps(y[j].s), sum[j]);
    }
}


// --- Of both kinds ---

template <class Type> constexpr bool IS_K = std::is_same_v<typename Type::Column, block_q8_K>;
template <class Type> using StripOf = std::conditional_t<IS_K<Type>, Strip, Strip32>;
template <class Type> using ColumnOf = std::conditional_t<IS_K<Type>, block_q8_K, Column32>;

// All strips of a chunk.
constexpr int STRIPS = CHUNK_ROWS / STRIP;
template <class Type> using RowsOf = StripRows<typename Type::Block>;
using Sums = __m512[STRIPS][PANEL_COLUMNS];

} // namespace

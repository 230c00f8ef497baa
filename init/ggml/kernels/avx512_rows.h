// Products of K-quants with up to ZOSIA_PASS_TOKENS columns, AVX-512: one row after the
// other, in the order of addresses. A vector holds 64 weights of it; the factors of four
// blocks are unpacked at once, each block's in a quarter of a vector.
//
// Each block is summed in integers and the blocks in their order, however many columns
// there are: a token's logits do not depend on what is evaluated beside it.

#pragma once

#include "avx512.h"

namespace {

// a | (b & c)
__m512i or_bits(__m512i a, __m512i b, __m512i c) { return _mm512_ternarylogic_epi32(a, b, c, 0xf8); }

__m512i in_quarters(__m128i v) { return _mm512_broadcast_i32x4(v); }

// 16 words of each.
__m512i halves(int first, int second) { return both(_mm256_set1_epi16((short) first), _mm256_set1_epi16((short) second)); }

// Quarter I in all of them.
template <int I> __m512i quarter(__m512i v) { return _mm512_shuffle_i32x4(v, v, (_MM_PERM_ENUM) (0b01'01'01'01 * I)); }
template <int I> __m512 quarter(__m512 v) { return _mm512_shuffle_f32x4(v, v, 0b01'01'01'01 * I); }

// Four blocks of a row, of which `count` are there.
template <class Type> struct FourBlocks;

// Q4_K and Q5_K, which begin with two halves, 8 scales and 8 mins.
template <class Type> struct FourWithMins {
    using Block = typename Type::Block;
    // Which 32 weights the halves of the vectors hold.
    static constexpr int ORDER[8] = { 0, 2, 1, 3, 4, 6, 5, 7 };

    __m512 d, dmin; // of each block four times
    __m512i factors, mins;

    FourWithMins(const Block * x, int count) {
        const void * const at[4] = { x, x + std::min(1, count - 1), x + std::min(2, count - 1), x + count - 1 };
        const __m512i head = _mm512_maskz_mov_epi32((__mmask16) ((1 << 4 * count) - 1), four(at));
        const __m512i low = _mm512_srlv_epi32(_mm512_shuffle_epi32(head, (_MM_PERM_ENUM) 0b11'10'11'01),
                                              in_quarters(_mm_setr_epi32(0, 0, 0, 4)));
        const __m512i high = _mm512_srli_epi32(_mm512_shuffle_epi32(head, (_MM_PERM_ENUM) 0b10'10'01'01), 2);
        factors = or_bits(
            _mm512_and_si512(low, in_quarters(_mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f))), high,
            in_quarters(_mm_setr_epi32(0, 0x30303030, 0, 0x30303030)));
        mins = _mm512_unpackhi_epi8(factors, _mm512_setzero_si512());
        const __m512i four_times =
            _mm512_shuffle_epi8(head, in_quarters(_mm_setr_epi8(0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3)));
        const __m512i apart = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), four_times);
        d = _mm512_cvtph_ps(_mm512_castsi512_si256(apart));
        dmin = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(apart, 1));
    }

    // Words for each vector of block I.
    template <int I> void scales(const Block &, __m512i (&to)[4]) const {
        const __m512i own = quarter<I>(factors);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            // An index below zero is a byte of zero.
            to[v] = _mm512_shuffle_epi8(own, halves(0x8000 | ORDER[2 * v], 0x8000 | ORDER[2 * v + 1]));
        }
    }
};

// The low nibbles of 64 bytes, and the high ones.
void nibbles(const uint8_t * at, __m512i & low, __m512i & high) {
    const __m512i packed = load_512(at), mask = _mm512_set1_epi8(15);
    low = _mm512_and_si512(packed, mask);
    high = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
}

template <> struct FourBlocks<Q4_K> : FourWithMins<Q4_K> {
    using FourWithMins::FourWithMins;

    static void weights(const Block & x, __m512i (&to)[4]) {
        nibbles(x.qs, to[0], to[1]);
        nibbles(x.qs + 64, to[2], to[3]);
    }
};

template <> struct FourBlocks<Q5_K> : FourWithMins<Q5_K> {
    using FourWithMins::FourWithMins;

    static void weights(const Block & x, __m512i (&to)[4]) {
        nibbles(x.qs, to[0], to[1]);
        nibbles(x.qs + 64, to[2], to[3]);
        // Bit k of these bytes belongs to weights 32k to 32k + 31.
        const __m512i bits = _mm512_broadcast_i64x4(load(x.qh)), fifth = _mm512_set1_epi8(16);
        to[0] = or_bits(to[0], _mm512_sllv_epi16(bits, halves(4, 2)), fifth);
        to[1] = or_bits(to[1], _mm512_sllv_epi16(bits, halves(3, 1)), fifth);
        to[2] = or_bits(to[2], _mm512_srlv_epi16(bits, halves(0, 2)), fifth);
        to[3] = or_bits(to[3], _mm512_srlv_epi16(bits, halves(1, 3)), fifth);
    }
};

template <> struct FourBlocks<Q6_K> {
    using Block = block_q6_K;
    static constexpr int ORDER[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };

    __m512 d; // of each block four times

    FourBlocks(const Block * x, int count) {
        ggml_half own[4] = {};
        for (int i = 0; i < count; i++) own[i] = x[i].d;
        int64_t four;
        memcpy(&four, own, sizeof four);
        const __m256i apart = _mm256_set_epi8(7, 6, 7, 6, 7, 6, 7, 6, 5, 4, 5, 4, 5, 4, 5, 4, 3, 2, 3, 2, 3, 2, 3, 2, 1, 0, 1, 0, 1, 0, 1, 0);
        d = _mm512_cvtph_ps(_mm256_shuffle_epi8(_mm256_set1_epi64x(four), apart));
    }

    template <int> void scales(const Block & x, __m512i (&to)[4]) const {
        const __m512i words = all_scales(x);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            const __m512i which = both(_mm256_set_m128i(_mm_set1_epi16(1), _mm_set1_epi16(0)),
                                       _mm256_set_m128i(_mm_set1_epi16(3), _mm_set1_epi16(2)));
            to[v] = _mm512_permutexvar_epi16(_mm512_add_epi16(which, _mm512_set1_epi16((short) (4 * v))), words);
        }
    }

    // All 16 twice.
    static __m512i all_scales(const Block & x) {
        return _mm512_cvtepi8_epi16(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) x.scales)));
    }

    static void weights(const Block & x, __m512i (&to)[4]) {
        const __m512i top = _mm512_set1_epi8(48);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            nibbles(x.ql + 64 * i, to[2 * i], to[2 * i + 1]);
            const __m512i bits = _mm512_broadcast_i64x4(load(x.qh + 32 * i));
            to[2 * i] = or_bits(to[2 * i], _mm512_sllv_epi16(bits, halves(4, 2)), top);
            to[2 * i + 1] = or_bits(to[2 * i + 1], _mm512_srlv_epi16(bits, halves(0, 2)), top);
        }
    }
};

// Four blocks of a column, the activations in the order of the vectors of weights. What
// there are no blocks for is not multiplied with anything.
template <class Type> struct FourOfColumn {
    int8_t quants[4][QK_K];
    int16_t sums[4][Type::HAS_DMIN ? 8 : 16]; // those of quantize_block
    float d[16];                              // of each block four times

    void put(const block_q8_K & block, int at) {
        for (int i = 0; i < 8; i++) memcpy(quants[at] + 32 * i, block.qs + 32 * FourBlocks<Type>::ORDER[i], 32);
        memcpy(sums[at], block.bsums, sizeof sums[at]);
        std::fill_n(d + 4 * at, 4, block.d);
    }

    void put_none(int at) { std::fill_n(d + 4 * at, 4, 0.0f); }
};

// Calls take(0), take(1), take(2) and take(3), each with a constant.
template <typename Take> void each_of_four(Take take) {
    take(std::integral_constant<int, 0>());
    take(std::integral_constant<int, 1>());
    take(std::integral_constant<int, 2>());
    take(std::integral_constant<int, 3>());
}

// out[j * out_stride] for one row and N columns, whose fours lie one after the other.
template <class Type, int N>
void row_of_256(int64_t blocks, const typename Type::Block * x, const typename Type::Block * next,
                const FourOfColumn<Type> * y, float * out, int64_t out_stride) {
    __m512 sum[N];
    for (int j = 0; j < N; j++) sum[j] = _mm512_setzero_ps();
    for (int64_t from = 0; from < blocks; from += 4, y += N) {
        const auto count = (int) std::min<int64_t>(4, blocks - from);
        prefetch(next + from, count);
        const FourBlocks<Type> four(x + from, count);
        __m512 d[N];
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) {
            const __m512 of_column = _mm512_loadu_ps(y[j].d);
            d[j] = _mm512_mul_ps(four.d, of_column);
            if constexpr (Type::HAS_DMIN) {
                const __m512i mins = _mm512_madd_epi16(four.mins, load_512(y[j].sums));
                sum[j] = _mm512_fnmadd_ps(_mm512_mul_ps(four.dmin, of_column), _mm512_cvtepi32_ps(mins), sum[j]);
            }
        }
        each_of_four([&](auto i) {
            if (i >= count) return;
            const typename Type::Block & block = x[from + i];
            __m512i weights[4], scales[4];
            four.weights(block, weights);
            four.template scales<i>(block, scales);
#pragma GCC unroll 8
            for (int j = 0; j < N; j++) {
                __m512i total = _mm512_setzero_si512();
                // Weights below zero are stored with 32 added.
                if constexpr (!Type::HAS_DMIN) {
                    const __m512i sums = _mm512_broadcast_i64x4(load(y[j].sums[i]));
                    total = _mm512_dpwssd_epi32(total, four.all_scales(block), sums);
                }
#pragma GCC unroll 4
                for (int v = 0; v < 4; v++) {
                    const __m512i products = _mm512_maddubs_epi16(weights[v], load_512(y[j].quants[i] + 64 * v));
                    total = _mm512_dpwssd_epi32(total, products, scales[v]);
                }
                sum[j] = _mm512_fmadd_ps(quarter<i>(d[j]), _mm512_cvtepi32_ps(total), sum[j]);
            }
        });
    }
    for (int j = 0; j < N; j++) out[j * out_stride] = _mm512_reduce_add_ps(sum[j]);
}

} // namespace

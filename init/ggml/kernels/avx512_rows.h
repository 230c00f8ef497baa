// Products with up to ZOSIA_PASS_TOKENS columns, AVX-512: one row after the other, in the
// order of addresses, four blocks at a time.
//
// Each block is summed in integers and the blocks in their order, however many columns
// there are: a token's logits do not depend on what is evaluated beside it.

#pragma once

#include "avx512_32.h"

// Left to itself GCC calls a function for each block.
#define INLINED __attribute__((always_inline))
#define INLINE INLINED inline

namespace {

// Four blocks of a row, of which `count` are there.
template <class Type> struct FourBlocks;

// Four blocks of a column, the activations in the order of the vectors of weights. What
// there are no blocks for is multiplied with zero.
template <class Type> struct FourOfColumn;

constexpr int64_t fours_of(int64_t blocks) { return (blocks + 3) / 4; }

// 16 bytes of four blocks, from `offset` on.
template <class Block> INLINE __m512i four_of(const Block * x, int count, size_t offset) {
    const auto at = [&](int i) { return (const void *) ((const char *) (x + std::min(i, count - 1)) + offset); };
    const void * const all[4] = { at(0), at(1), at(2), at(3) };
    return four(all);
}

// What four blocks have at `offset`, a half, each four times.
template <class Block> INLINE __m512 halves_of(const Block * x, int count, size_t offset) {
    __m128i all = _mm_setzero_si128();
    const auto own = [&](int i) {
        int16_t half;
        memcpy(&half, (const char *) (x + std::min(i, count - 1)) + offset, sizeof half);
        return half;
    };
    all = _mm_insert_epi16(all, own(0), 0);
    all = _mm_insert_epi16(all, own(1), 1);
    all = _mm_insert_epi16(all, own(2), 2);
    all = _mm_insert_epi16(all, own(3), 3);
    const __m256i four_times = _mm256_set_epi64x(0x0706070607060706, 0x0504050405040504, 0x0302030203020302, 0x0100010001000100);
    return _mm512_cvtph_ps(_mm256_shuffle_epi8(_mm256_broadcastq_epi64(all), four_times));
}

// The first 64 bytes of four blocks, or as many as there are.
template <class Block> INLINE __m512i first_bytes(const Block * x, int count) {
    const size_t bytes = count * sizeof *x;
    return _mm512_maskz_loadu_epi8(bytes < 64 ? (1ull << bytes) - 1 : ~0ull, x);
}

// The low nibbles of 64 bytes, and the high ones.
void nibbles(__m512i packed, __m512i & low, __m512i & high) {
    const __m512i mask = _mm512_set1_epi8(15);
    low = _mm512_and_si512(packed, mask);
    high = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
}

// --- K-quants: a vector has 64 weights of a block ---

// a | (b & c)
__m512i or_bits(__m512i a, __m512i b, __m512i c) { return _mm512_ternarylogic_epi32(a, b, c, 0xf8); }

__m512i in_quarters(__m128i v) { return _mm512_broadcast_i32x4(v); }

// 16 words of each.
__m512i halves(int first, int second) { return both(_mm256_set1_epi16((short) first), _mm256_set1_epi16((short) second)); }

// Four words of each.
__m128i words(int first, int second) {
    return _mm_unpacklo_epi64(_mm_set1_epi16((short) first), _mm_set1_epi16((short) second));
}

// Quarter I in all of them.
template <int I> __m512i quarter(__m512i v) { return _mm512_shuffle_i32x4(v, v, (_MM_PERM_ENUM) (0b01'01'01'01 * I)); }
template <int I> __m512 quarter(__m512 v) { return _mm512_shuffle_f32x4(v, v, 0b01'01'01'01 * I); }

// Q4_K and Q5_K, which begin with two halves, 8 scales and 8 mins.
template <class Type> struct FourWithMins {
    using Block = typename Type::Block;
    // Which 32 weights the halves of the vectors hold.
    static constexpr int ORDER[8] = { 0, 2, 1, 3, 4, 6, 5, 7 };

    __m512 d, dmin; // of each block four times
    __m512i factors, mins;

    INLINE FourWithMins(const Block * x, int count) {
        const __m512i head = four_of(x, count, 0);
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

    // Words for the sums of each two vectors of block I.
    template <int I> INLINE void scales(const Block &, __m512i (&to)[2]) const {
        const __m512i own = quarter<I>(factors);
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) {
            // An index below zero is a byte of zero.
            const auto from = [&](int half) {
                const int first = ORDER[4 * v + half], second = ORDER[4 * v + half + 2];
                return _mm256_broadcastsi128_si256(words(0x8000 | first, 0x8000 | second));
            };
            to[v] = _mm512_shuffle_epi8(own, both(from(0), from(1)));
        }
    }
};

template <> struct FourBlocks<Q4_K> : FourWithMins<Q4_K> {
    using FourWithMins::FourWithMins;

    INLINE static void weights(const Block & x, __m512i (&to)[4]) {
        nibbles(load_512(x.qs), to[0], to[1]);
        nibbles(load_512(x.qs + 64), to[2], to[3]);
    }
};

template <> struct FourBlocks<Q5_K> : FourWithMins<Q5_K> {
    using FourWithMins::FourWithMins;

    INLINE static void weights(const Block & x, __m512i (&to)[4]) {
        nibbles(load_512(x.qs), to[0], to[1]);
        nibbles(load_512(x.qs + 64), to[2], to[3]);
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

    INLINE FourBlocks(const Block * x, int count) : d(halves_of(x, count, offsetof(Block, d))) {}

    template <int> INLINE void scales(const Block & x, __m512i (&to)[2]) const {
        const __m512i all = all_scales(x);
        const __m512i which = both(_mm256_set_m128i(words(1, 5), words(0, 4)), _mm256_set_m128i(words(3, 7), words(2, 6)));
        to[0] = _mm512_permutexvar_epi16(which, all);
        to[1] = _mm512_permutexvar_epi16(_mm512_add_epi16(which, _mm512_set1_epi16(8)), all);
    }

    // All 16 twice.
    static __m512i all_scales(const Block & x) {
        return _mm512_cvtepi8_epi16(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) x.scales)));
    }

    INLINE static void weights(const Block & x, __m512i (&to)[4]) {
        const __m512i top = _mm512_set1_epi8(48);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            nibbles(load_512(x.ql + 64 * i), to[2 * i], to[2 * i + 1]);
            const __m512i bits = _mm512_broadcast_i64x4(load(x.qh + 32 * i));
            to[2 * i] = or_bits(to[2 * i], _mm512_sllv_epi16(bits, halves(4, 2)), top);
            to[2 * i + 1] = or_bits(to[2 * i + 1], _mm512_srlv_epi16(bits, halves(0, 2)), top);
        }
    }
};

template <class Type> struct FourOfK {
    static constexpr int WEIGHTS = QK_K;

    int8_t quants[4][QK_K];
    int16_t sums[4][Type::HAS_DMIN ? 8 : 16]; // those of quantize_block
    float d[16];                              // of each block four times

    void put(const float * x, int at) {
        block_q8_K block;
        quantize_block<Type::HAS_DMIN>(x, block);
        for (int i = 0; i < 8; i++) memcpy(quants[at] + 32 * i, block.qs + 32 * FourBlocks<Type>::ORDER[i], 32);
        memcpy(sums[at], block.bsums, sizeof sums[at]);
        std::fill_n(d + 4 * at, 4, block.d);
    }

    void put_none(int at) {
        std::fill_n(sums[at], std::size(sums[at]), 0);
        std::fill_n(d + 4 * at, 4, 0.0f);
    }
};

template <> struct FourOfColumn<Q4_K> : FourOfK<Q4_K> {};
template <> struct FourOfColumn<Q5_K> : FourOfK<Q5_K> {};
template <> struct FourOfColumn<Q6_K> : FourOfK<Q6_K> {};

// Calls take(0), take(1), take(2) and take(3), each with a constant.
template <typename Take> void each_of_four(Take take) {
    take(std::integral_constant<int, 0>());
    take(std::integral_constant<int, 1>());
    take(std::integral_constant<int, 2>());
    take(std::integral_constant<int, 3>());
}

// Adds four blocks to the sums of N columns.
template <class Type, int N>
INLINE void add_four(const typename Type::Block * x, int count, const FourOfK<Type> * y, __m512 (&sum)[N]) {
    const FourBlocks<Type> four(x, count);
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
        __m512i weights[4], scales[2];
        four.weights(x[i], weights);
        four.template scales<i>(x[i], scales);
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) {
            __m512i total = _mm512_setzero_si512();
            // Weights below zero are stored with 32 added.
            if constexpr (!Type::HAS_DMIN) {
                const __m512i sums = _mm512_broadcast_i64x4(load(y[j].sums[i]));
                total = _mm512_dpwssd_epi32(total, four.all_scales(x[i]), sums);
            }
            const auto fours_of = [&](int v) {
                return _mm512_dpbusd_epi32(_mm512_setzero_si512(), weights[v], load_512(y[j].quants[i] + 64 * v));
            };
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++) {
                // Four products of 63 and 127 fit into a word.
                const __m512i sums = _mm512_packs_epi32(fours_of(2 * v), fours_of(2 * v + 1));
                total = _mm512_dpwssd_epi32(total, sums, scales[v]);
            }
            sum[j] = _mm512_fmadd_ps(quarter<i>(d[j]), _mm512_cvtepi32_ps(total), sum[j]);
        }
    });
}

// --- 32 weights a block: a quarter of a vector has half a block's ---

template <> struct FourBlocks<Q4_1> {
    __m512i first, second;
    __m512 d, m; // of each block four times

    INLINE FourBlocks(const block_q4_1 * x, int count) {
        nibbles(four_of(x, count, offsetof(block_q4_1, qs)), first, second);
        // d of the four, which are 10 words apart, then m.
        const __m512i apart = _mm512_castsi128_si512(_mm_setr_epi16(0, 10, 20, 30, 1, 11, 21, 31));
        const __m512i halves = _mm512_permutexvar_epi16(apart, first_bytes(x, count));
        const __m512 all = _mm512_castps256_ps512(_mm256_cvtph_ps(_mm512_castsi512_si128(halves)));
        const __m512i four_times = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        d = _mm512_permutexvar_ps(four_times, all);
        m = _mm512_permutexvar_ps(_mm512_add_epi32(four_times, _mm512_set1_epi32(4)), all);
    }
};

template <> struct FourBlocks<Q8_0> {
    __m512i first, second;
    __m512 d;

    INLINE FourBlocks(const block_q8_0 * x, int count) {
        const __m512i sign = _mm512_set1_epi8(-128);
        first = _mm512_xor_si512(four_of(x, count, offsetof(block_q8_0, qs)), sign);
        second = _mm512_xor_si512(four_of(x, count, offsetof(block_q8_0, qs) + 16), sign);
        d = halves_of(x, count, 0);
    }
};

template <> struct FourBlocks<MXFP4> {
    __m512i first, second;
    __m512 d;

    INLINE FourBlocks(const block_mxfp4 * x, int count) {
        const __m512i values = values_of_nibbles(), packed = four_of(x, count, offsetof(block_mxfp4, qs));
        first = _mm512_permutexvar_epi8(packed, values);
        second = _mm512_permutexvar_epi8(_mm512_srli_epi16(packed, 4), values);
        // The exponents are 17 bytes apart.
        const __m512i highest = _mm512_set_epi32(51 << 24, 51 << 24, 51 << 24, 51 << 24, 34 << 24, 34 << 24, 34 << 24, 34 << 24,
                                                 17 << 24, 17 << 24, 17 << 24, 17 << 24, 0, 0, 0, 0);
        d = powers(_mm512_maskz_permutexvar_epi8(0x8888888888888888, highest, first_bytes(x, count)));
    }
};

template <class Type> struct FourOf32 {
    static constexpr int WEIGHTS = QK8_0;

    int8_t quants[2][64];
    int32_t start[16]; // what the sums begin with: see OFFSET
    float d[16];       // of each block four times
    float s[16];       // what its m is multiplied with: a quarter of that four times

    void put(const float * x, int at) {
        const Rounded rounded(x);
        _mm_storeu_si128((__m128i *) (quants[0] + 16 * at), rounded.first);
        _mm_storeu_si128((__m128i *) (quants[1] + 16 * at), rounded.second);
        const __m128i sums = rounded.sums();
        const __m128 scale = _mm_set1_ps(rounded.d / LARGER<Type>);
        _mm_storeu_si128((__m128i *) (start + 4 * at), _mm_mullo_epi32(sums, _mm_set1_epi32(-OFFSET<Type>)));
        _mm_storeu_ps(d + 4 * at, scale);
        _mm_storeu_ps(s + 4 * at, _mm_mul_ps(scale, _mm_cvtepi32_ps(sums)));
    }

    void put_none(int at) {
        std::fill_n(d + 4 * at, 4, 0.0f);
        std::fill_n(s + 4 * at, 4, 0.0f);
    }
};

template <> struct FourOfColumn<Q4_1> : FourOf32<Q4_1> {};
template <> struct FourOfColumn<Q8_0> : FourOf32<Q8_0> {};
template <> struct FourOfColumn<MXFP4> : FourOf32<MXFP4> {};

template <class Type, int N>
INLINE void add_four(const typename Type::Block * x, int count, const FourOf32<Type> * y, __m512 (&sum)[N]) {
    const FourBlocks<Type> four(x, count);
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) {
        const __m512i start = OFFSET<Type> == 0 ? _mm512_setzero_si512() : load_512(y[j].start);
        __m512i total = _mm512_dpbusd_epi32(start, four.first, load_512(y[j].quants[0]));
        total = _mm512_dpbusd_epi32(total, four.second, load_512(y[j].quants[1]));
        sum[j] = _mm512_fmadd_ps(_mm512_mul_ps(four.d, _mm512_loadu_ps(y[j].d)), _mm512_cvtepi32_ps(total), sum[j]);
        if constexpr (Type::HAS_MIN) sum[j] = _mm512_fmadd_ps(four.m, _mm512_loadu_ps(y[j].s), sum[j]);
    }
}

// --- All kinds ---

// out[j * out_stride] for one row and N columns, whose fours lie one after the other.
// `next`: see Ahead. Where the row is near the end, nothing is read behind it.
template <class Type, int N>
void row_of_fours(int64_t blocks, const typename Type::Block * x, Ahead<typename Type::Block> next, bool is_near_end,
                  const FourOfColumn<Type> * y, float * out, int64_t out_stride) {
    __m512 sum[N];
    for (int j = 0; j < N; j++) sum[j] = _mm512_setzero_ps();
    const auto add = [&](int64_t from, int count) INLINED {
        prefetch(next, from, count);
        add_four<Type, N>(x + from, count, y + from / 4 * N, sum);
    };
    int64_t from = 0;
    // What is read beyond a row is multiplied with zero.
    const int64_t end = is_near_end ? blocks - 3 : blocks;
    for (; from < end; from += 4) add(from, 4);
    if (from < blocks) add(from, (int) (blocks - from));
    for (int j = 0; j < N; j++) out[j * out_stride] = _mm512_reduce_add_ps(sum[j]);
}

} // namespace

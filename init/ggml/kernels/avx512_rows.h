// Products with up to ZOSIA_PASS_TOKENS columns, AVX-512: one row after the other, in the
// order of addresses, four blocks at a time.
//
// Each block is summed in integers and the blocks in their order, however many columns
// there are: a token's logits do not depend on what is evaluated beside it.

#pragma once

#include "avx512_32.h"

namespace {

// Four blocks of a row, of which `count` are there.
template <class Type> struct FourBlocks;

// Four blocks of a column, the activations in the order of the vectors of weights. What
// there are no blocks for is multiplied with zero.
template <class Type> struct FourOfColumn;

constexpr int64_t fours_of(int64_t blocks) { return (blocks + 3) / 4; }

// 16 bytes of four blocks, from `offset` on.
template <class Block> __m512i four_of(const Block * x, int count, size_t offset) {
    const auto at = [&](int i) { return (const void *) ((const char *) (x + std::min(i, count - 1)) + offset); };
    const void * const all[4] = { at(0), at(1), at(2), at(3) };
    return four(all);
}

// What four blocks have at `offset`, a half, each four times.
template <class Block> __m512 halves_of(const Block * x, int count, size_t offset) {
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
template <class Block> __m512i first_bytes(const Block * x, int count) {
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

// A double word four times each.
__m512i quarters(int a, int b, int c, int d) {
    return _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d);
}

// Quarter I in all of them.
template <int I> __m512i quarter(__m512i v) { return _mm512_shuffle_i32x4(v, v, (_MM_PERM_ENUM) (0b01'01'01'01 * I)); }
template <int I> __m512 quarter(__m512 v) { return _mm512_shuffle_f32x4(v, v, 0b01'01'01'01 * I); }

// Q4_K and Q5_K, which begin with two halves, 8 scales and 8 mins.
template <class Type> struct FourWithMins {
    using Block = typename Type::Block;
    __m512 d, dmin; // of each block four times
    __m512i factors, mins;

    FourWithMins(const Block * x, int count) {
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

    // Quarter i of the first vector has 16 bytes of the low nibbles of 64 weights, of the second
    // the other 16.
    static void nibbles_of(const uint8_t * qs, __m512i (&low)[2], __m512i (&high)[2]) {
        const __m512i first = load_512(qs), second = load_512(qs + 64);
        nibbles(_mm512_shuffle_i32x4(first, second, (_MM_PERM_ENUM) 0b10'00'10'00), low[0], high[0]);
        nibbles(_mm512_shuffle_i32x4(first, second, (_MM_PERM_ENUM) 0b11'01'11'01), low[1], high[1]);
    }

    // Words for the sums of the low nibbles and of the high ones.
    template <int I> __m512i scales() const {
        // An index below zero is a byte of zero.
        const auto two = [](int first) { return words(0x8000 | first, 0x8000 | (first + 1)); };
        const __m512i which = both(_mm256_set_m128i(two(2), two(0)), _mm256_set_m128i(two(6), two(4)));
        return _mm512_shuffle_epi8(quarter<I>(factors), which);
    }
};

template <> struct FourBlocks<Q4_K> : FourWithMins<Q4_K> {
    using FourWithMins::FourWithMins;

    static void weights(const Block & x, __m512i (&low)[2], __m512i (&high)[2]) { nibbles_of(x.qs, low, high); }
};

template <> struct FourBlocks<Q5_K> : FourWithMins<Q5_K> {
    using FourWithMins::FourWithMins;

    static void weights(const Block & x, __m512i (&low)[2], __m512i (&high)[2]) {
        nibbles_of(x.qs, low, high);
        // Bit k of these bytes belongs to weights 32k to 32k + 31.
        const __m512i fifth = _mm512_set1_epi8(16);
        for (int i = 0; i < 2; i++) {
            const __m512i bits = in_quarters(_mm_loadu_si128((const __m128i *) (x.qh + 16 * i)));
            low[i] = or_bits(low[i], _mm512_rolv_epi32(bits, quarters(4, 2, 0, 30)), fifth);
            high[i] = or_bits(high[i], _mm512_rolv_epi32(bits, quarters(3, 1, 31, 29)), fifth);
        }
    }
};

template <> struct FourBlocks<Q6_K> {
    using Block = block_q6_K;

    __m512 d; // of each block four times

    FourBlocks(const Block * x, int count) : d(halves_of(x, count, offsetof(Block, d))) {}

    static void scales(const Block & x, __m512i (&to)[2]) {
        const __m512i all = all_scales(x);
        const __m512i which = both(_mm256_set_m128i(words(1, 5), words(0, 4)), _mm256_set_m128i(words(3, 7), words(2, 6)));
        to[0] = _mm512_permutexvar_epi16(which, all);
        to[1] = _mm512_permutexvar_epi16(_mm512_add_epi16(which, _mm512_set1_epi16(8)), all);
    }

    // All 16 twice.
    static __m512i all_scales(const Block & x) {
        return _mm512_cvtepi8_epi16(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) x.scales)));
    }

    static void weights(const Block & x, __m512i (&to)[4]) {
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
        for (int i = 0; i < 16; i++) {
            // Of 64 weights each vector of nibbles_of has a quarter.
            const int to = Type::HAS_DMIN ? i % 4 * 4 + i / 4 : i;
            memcpy(quants[at] + 16 * to, block.qs + 16 * i, 16);
        }
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

// Adds block I of four to the sums of N columns; d: the factors of the four.
template <class Type, int I, int N>
void add_block(const FourBlocks<Type> & four, const typename Type::Block & x, const FourOfK<Type> * y,
               const __m512 (&d)[N], __m512 (&sum)[N]) {
    const auto fours_of = [&](int j, int v, __m512i start, __m512i weights) {
        return _mm512_dpbusd_epi32(start, weights, load_512(y[j].quants[I] + 64 * v));
    };
    const __m512i zero = _mm512_setzero_si512();
    const auto add = [&](int j, __m512i total) {
        sum[j] = _mm512_fmadd_ps(quarter<I>(d[j]), _mm512_cvtepi32_ps(total), sum[j]);
    };
    if constexpr (Type::HAS_DMIN) {
        __m512i low[2], high[2];
        four.weights(x, low, high);
        const __m512i scales = four.template scales<I>();
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) {
            // Eight products of 31 and 127 fit into a word.
            const __m512i of_low = fours_of(j, 1, fours_of(j, 0, zero, low[0]), low[1]);
            const __m512i of_high = fours_of(j, 3, fours_of(j, 2, zero, high[0]), high[1]);
            add(j, _mm512_dpwssd_epi32(zero, _mm512_packs_epi32(of_low, of_high), scales));
        }
    } else {
        __m512i weights[4], scales[2];
        four.weights(x, weights);
        four.scales(x, scales);
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) {
            // Weights below zero are stored with 32 added.
            __m512i total = _mm512_dpwssd_epi32(zero, four.all_scales(x), _mm512_broadcast_i64x4(load(y[j].sums[I])));
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++) {
                // Four products of 63 and 127 fit into a word.
                const __m512i sums = _mm512_packs_epi32(fours_of(j, 2 * v, zero, weights[2 * v]),
                                                        fours_of(j, 2 * v + 1, zero, weights[2 * v + 1]));
                total = _mm512_dpwssd_epi32(total, sums, scales[v]);
            }
            add(j, total);
        }
    }
}

// Adds four blocks to the sums of N columns.
template <class Type, int N>
void add_four(const typename Type::Block * x, int count, const FourOfK<Type> * y, __m512 (&sum)[N]) {
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
    add_block<Type, 0>(four, x[0], y, d, sum);
    if (count > 1) add_block<Type, 1>(four, x[1], y, d, sum);
    if (count > 2) add_block<Type, 2>(four, x[2], y, d, sum);
    if (count > 3) add_block<Type, 3>(four, x[3], y, d, sum);
}

// --- 32 weights a block: a quarter of a vector has half a block's ---

template <> struct FourBlocks<Q4_1> {
    __m512i first, second;
    __m512 d, m; // of each block four times

    FourBlocks(const block_q4_1 * x, int count) {
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

    FourBlocks(const block_q8_0 * x, int count) {
        const __m512i sign = _mm512_set1_epi8(-128);
        first = _mm512_xor_si512(four_of(x, count, offsetof(block_q8_0, qs)), sign);
        second = _mm512_xor_si512(four_of(x, count, offsetof(block_q8_0, qs) + 16), sign);
        d = halves_of(x, count, 0);
    }
};

template <> struct FourBlocks<MXFP4> {
    __m512i first, second;
    __m512 d;

    FourBlocks(const block_mxfp4 * x, int count) {
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
void add_four(const typename Type::Block * x, int count, const FourOf32<Type> * y, __m512 (&sum)[N]) {
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

// Fours of N columns that stay in the first cache while all rows of a chunk are multiplied
// with them.
template <class Type, int N> constexpr int64_t SPAN = std::max<int64_t>(1, (16 << 10) / (N * sizeof(FourOfColumn<Type>)));

// out[j * out_stride + i] for `count` rows, at most CHUNK_ROWS, and N columns, whose fours lie
// one after the other. Columns that the first cache does not hold are taken in spans, and the
// sums of all rows wait meanwhile. `rows_left`: rows of the matrix from the first of these on;
// nothing is read behind them.
template <class Type, int N>
[[gnu::flatten]] void rows_of_fours(int count, int64_t blocks, const typename Type::Block * x, int64_t stride,
                                    const typename Type::Block * next, int64_t rows_left,
                                    const FourOfColumn<Type> * y, float * out, int64_t out_stride) {
    // A single column is short enough.
    constexpr int64_t BLOCKS = N == 1 ? INT64_MAX : 4 * SPAN<Type, N>;
    const bool is_split = blocks > BLOCKS;
    __m512 sums[CHUNK_ROWS][N];
    for (int64_t first = 0, last; first < blocks; first = last) {
        last = blocks - first < BLOCKS ? blocks : first + BLOCKS;
        for (int i = 0; i < count; i++) {
            const auto * const row = x + i * stride;
            const auto later = is_split ? chunk_ahead(next + i * stride) : rows_ahead(i, x, stride, count, next);
            const Ahead<typename Type::Block> soon = { x + std::min(i + 1, count - 1) * stride, true };
            __m512 sum[N];
            for (int j = 0; j < N; j++) sum[j] = first == 0 ? _mm512_setzero_ps() : sums[i][j];
            const auto add = [&](int64_t from, int of_four) {
                prefetch(later, from, of_four);
                if (is_split) prefetch(soon, from, of_four);
                add_four<Type, N>(row + from, of_four, y + from / 4 * N, sum);
            };
            int64_t from = first;
            // What is read beyond a row is multiplied with zero.
            const int64_t end = (rows_left - i - 1) * blocks < 3 ? last - 3 : last;
            for (; from < end; from += 4) add(from, 4);
            if (from < last) add(from, (int) (last - from));
            for (int j = 0; j < N; j++) {
                if (last < blocks) {
                    sums[i][j] = sum[j];
                } else {
                    out[j * out_stride + i] = _mm512_reduce_add_ps(sum[j]);
                }
            }
        }
    }
}

} // namespace

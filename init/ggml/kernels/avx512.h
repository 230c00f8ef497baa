// Products of K-quants with AVX-512: bytes are multiplied and added up in fours (VNNI).
//
// 16 rows are laid side by side ("strips"): a lane holds four neighbours of one row, and
// four activations of a column are broadcast from memory. What unpacking takes is shared
// by all columns, and no sum goes across a vector. Each block is summed in integers and
// the blocks in their order, so that a token's logits do not depend on how many are
// evaluated beside it.
//
// It pays with many columns; a few are multiplied row by row (avx512_rows.h).
//
// The columns of a block lie one after the other.

#pragma once

#include "avx2.h"

namespace {

// Rows of a strip, and the columns that it is multiplied with at once.
constexpr int STRIP = 16;
constexpr int AT_ONCE = 8;

__m512i load_512(const void * at) { return _mm512_loadu_si512(at); }

// v's first half, then w's.
__m512i both(__m256i v, __m256i w) { return _mm512_inserti64x4(_mm512_castsi256_si512(v), w, 1); }

// 256 activations. In place of the sums of 16 that block_q8_K has: those of 32, or what
// weights that are stored with 32 added have to lose, halved to fit.
template <bool HAS_DMIN> void quantize_block(const float * x, block_q8_K & y) {
    __m512 largest = _mm512_setzero_ps();
    for (int i = 0; i < QK_K; i += 16) largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
    const float most = _mm512_reduce_max_ps(largest);
    const __m512 scale = _mm512_set1_ps(most > 0 ? 127 / most : 0);
    __m256i fours[4];
    y.d = most / 127;
    for (int v = 0; v < 4; v++) {
        for (int i = 64 * v; i < 64 * v + 64; i += 16) {
            const __m512i quants = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), scale));
            _mm_storeu_si128((__m128i *) (y.qs + i), _mm512_cvtepi32_epi8(quants));
        }
        fours[v] = _mm512_cvtepi32_epi16(
            _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), load_512(y.qs + 64 * v)));
    }
    const auto add_pairs = [](__m512i v) { return _mm512_cvtepi32_epi16(_mm512_madd_epi16(v, _mm512_set1_epi16(1))); };
    const __m512i eights = both(add_pairs(both(fours[0], fours[1])), add_pairs(both(fours[2], fours[3])));
    const __m256i of_16 = add_pairs(eights);
    const __m256i sums = HAS_DMIN ? add_pairs(_mm512_zextsi256_si512(of_16))
                                  : _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(of_16, 4));
    _mm256_storeu_si256((__m256i *) y.bsums, sums);
}

// Four rows' 16 bytes each.
__m512i four(const void * const at[ROWS]) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *) at[0]));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) at[1]), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) at[2]), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *) at[3]), 3);
}

// --- Strips ---

// What STRIP rows' weights of a block are multiplied with.
struct alignas(64) StripFactors {
    // Of 16 weights or of 32, and pairs of 16 bits for the sums of as many activations.
    __m512i scales[16], mins[8];
    __m512 d, dmin;
};

// A block of STRIP rows side by side: four weights of each row.
struct Strip : StripFactors {
    __m512i quants[QK_K / 4];

    void put(int k, __m512i four) { quants[k] = four; }
};

// Where STRIP of `count` rows begin, from row `first` on. What there is no row for is the
// last one again.
template <class Block> struct StripRows {
    const Block * of[STRIP];

    StripRows(const Block * x, int64_t stride, int first, int count) {
        for (int i = 0; i < STRIP; i++) of[i] = x + std::min(first + i, count - 1) * stride;
    }
};

// A block of each of STRIP rows.
template <class Block> struct StripBlock {
    const StripRows<Block> & rows;
    int64_t block;

    const void * at(int row, size_t offset) const { return (const char *) (rows.of[row] + block) + offset; }

    // Four words of each, from `offset` on.
    void words(size_t offset, __m512i (&to)[4]) const {
        __m512i v[4];
        for (int i = 0; i < 4; i++) {
            const void * const quarters[4] = { at(i, offset), at(4 + i, offset), at(8 + i, offset), at(12 + i, offset) };
            v[i] = four(quarters);
        }
        const __m512i low[2] = { _mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpacklo_epi32(v[2], v[3]) };
        const __m512i high[2] = { _mm512_unpackhi_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[2], v[3]) };
        to[0] = _mm512_unpacklo_epi64(low[0], low[1]);
        to[1] = _mm512_unpackhi_epi64(low[0], low[1]);
        to[2] = _mm512_unpacklo_epi64(high[0], high[1]);
        to[3] = _mm512_unpackhi_epi64(high[0], high[1]);
    }

    // A half of each.
    __m512 halves(size_t offset) const {
        alignas(32) ggml_half all[STRIP];
        for (int i = 0; i < STRIP; i++) memcpy(&all[i], at(i, offset), sizeof *all);
        return _mm512_cvtph_ps(load(all));
    }
};

// The factors of a strip whose blocks begin with two halves, 8 scales and 8 mins.
template <class Block> void unpack_factors_of_8(StripBlock<Block> x, StripFactors & to) {
    __m512i head[4];
    x.words(0, head);
    to.d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(head[0]));
    to.dmin = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(head[0], 16)));
    const __m512i six = _mm512_set1_epi32(0x3f3f3f3f), low = _mm512_set1_epi32(0x0f0f0f0f),
                  top = _mm512_set1_epi32(0x30303030), byte = _mm512_set1_epi32(0xff);
    const auto join = [&](__m512i nibbles, __m512i bits) {
        return _mm512_or_si512(_mm512_and_si512(nibbles, low), _mm512_and_si512(_mm512_srli_epi32(bits, 2), top));
    };
    const __m512i scales[2] = { _mm512_and_si512(head[1], six), join(head[3], head[1]) };
    const __m512i mins[2] = { _mm512_and_si512(head[2], six), join(_mm512_srli_epi32(head[3], 4), head[2]) };
    for (int i = 0; i < 8; i++) to.scales[i] = _mm512_and_si512(_mm512_srli_epi32(scales[i / 4], i % 4 * 8), byte);
    for (int i = 0; i < 4; i++) {
        const __m512i pair = _mm512_srli_epi32(mins[i / 2], i % 2 * 16);
        to.mins[i] = _mm512_or_si512(_mm512_and_si512(pair, byte),
                                     _mm512_slli_epi32(_mm512_and_si512(pair, _mm512_set1_epi32(0xff00)), 8));
    }
}

// Calls take(k, nibbles of weights 4k to 4k + 3) for all that Q4_K and Q5_K have.
template <class Block, typename Take> void unpack_nibbles(StripBlock<Block> x, Take take) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int w = 0; w < 32; w += 4) {
        __m512i some[4];
        x.words(offsetof(Block, qs) + 4 * w, some);
        for (int k = 0; k < 4; k++) {
            const int to = w / 8 * 16 + w % 8 + k;
            take(to, _mm512_and_si512(some[k], low));
            take(to + 8, _mm512_and_si512(_mm512_srli_epi16(some[k], 4), low));
        }
    }
}

// Factors first, which `to.put` may use.
template <class To> void unpack_strip(StripBlock<block_q4_K> x, To & to) {
    unpack_factors_of_8(x, to);
    unpack_nibbles(x, [&](int k, __m512i quants) { to.put(k, quants); });
}

template <class To> void unpack_strip(StripBlock<block_q5_K> x, To & to) {
    unpack_factors_of_8(x, to);
    __m512i high[2][4];
    for (int i = 0; i < 2; i++) x.words(offsetof(block_q5_K, qh) + 16 * i, high[i]);
    unpack_nibbles(x, [&](int k, __m512i quants) {
        const __m512i bits = _mm512_rorv_epi32(high[k % 8 / 4][k % 4], _mm512_set1_epi32((k / 8 + 28) % 32));
        to.put(k, _mm512_or_si512(quants, _mm512_and_si512(bits, _mm512_set1_epi8(16))));
    });
}

template <class To> void unpack_strip(StripBlock<block_q6_K> x, To & to) {
    __m512i scales[4];
    x.words(offsetof(block_q6_K, scales), scales);
    for (int i = 0; i < 16; i++) to.scales[i] = _mm512_srai_epi32(_mm512_slli_epi32(scales[i / 4], 24 - i % 4 * 8), 24);
    for (int i = 0; i < 8; i++) {
        to.mins[i] = _mm512_mask_blend_epi16(0xaaaaaaaa, to.scales[2 * i], _mm512_slli_epi32(to.scales[2 * i + 1], 16));
    }
    to.d = to.dmin = x.halves(offsetof(block_q6_K, d));
    const __m512i low = _mm512_set1_epi8(15), top = _mm512_set1_epi8(48);
    for (int w = 0; w < 8; w += 4) {
        for (int i = 0; i < 2; i++) {
            __m512i first[4], second[4], high[4];
            x.words(offsetof(block_q6_K, ql) + 64 * i + 4 * w, first);
            x.words(offsetof(block_q6_K, ql) + 64 * i + 32 + 4 * w, second);
            x.words(offsetof(block_q6_K, qh) + 32 * i + 4 * w, high);
            for (int k = 0; k < 4; k++) {
                const auto put = [&](int group, __m512i nibbles, __m512i bits) {
                    to.put(32 * i + 8 * group + w + k,
                           _mm512_or_si512(_mm512_and_si512(nibbles, low), _mm512_and_si512(bits, top)));
                };
                put(0, first[k], _mm512_slli_epi16(high[k], 4));
                put(1, second[k], _mm512_slli_epi16(high[k], 2));
                put(2, _mm512_srli_epi16(first[k], 4), high[k]);
                put(3, _mm512_srli_epi16(second[k], 4), _mm512_srli_epi16(high[k], 2));
            }
        }
    }
}

// Adds a block of N columns to sum.
template <class Type, int N> void strip(const Strip & x, const block_q8_K * y, __m512 * sum) {
    constexpr int WORDS = Type::HAS_DMIN ? 8 : 4, PAIRS = Type::HAS_DMIN ? 4 : 8;
    const auto words_of = [&](int j, const void * at, int k) {
        int32_t word;
        memcpy(&word, (const char *) at + j * sizeof *y + 4 * k, sizeof word);
        return _mm512_set1_epi32(word);
    };
    __m512i mins[N], total[N];
    for (int j = 0; j < N; j++) mins[j] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int k = 0; k < PAIRS; k++) {
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) mins[j] = _mm512_dpwssd_epi32(mins[j], x.mins[k], words_of(j, y->bsums, k));
    }
    for (int j = 0; j < N; j++) total[j] = Type::HAS_DMIN ? _mm512_setzero_si512() : _mm512_add_epi32(mins[j], mins[j]);
    for (int from = 0; from < QK_K / 4; from += WORDS) {
        __m512i products[N];
        for (int j = 0; j < N; j++) products[j] = _mm512_setzero_si512();
#pragma GCC unroll 8
        for (int k = 0; k < WORDS; k++) {
            const __m512i weights = x.quants[from + k];
#pragma GCC unroll 8
            for (int j = 0; j < N; j++) {
                products[j] = _mm512_dpbusd_epi32(products[j], weights, words_of(j, y->qs + 4 * from, k));
            }
        }
        const __m512i scale = x.scales[from / WORDS];
        for (int j = 0; j < N; j++) total[j] = _mm512_add_epi32(total[j], _mm512_mullo_epi32(products[j], scale));
    }
    for (int j = 0; j < N; j++) {
        const __m512 column = _mm512_set1_ps(y[j].d);
        sum[j] = _mm512_fmadd_ps(_mm512_mul_ps(x.d, column), _mm512_cvtepi32_ps(total[j]), sum[j]);
        if (!Type::HAS_DMIN) continue;
        sum[j] = _mm512_fnmadd_ps(_mm512_mul_ps(x.dmin, column), _mm512_cvtepi32_ps(mins[j]), sum[j]);
    }
}

} // namespace

// Products of K-quants with AVX-512: bytes are multiplied and added up in fours (VNNI).
//
// 16 rows are laid side by side ("strips"): a lane holds four neighbours of one row, and
// four activations of a column are broadcast from memory. What unpacking takes is shared
// by all columns, and no sum goes across a vector. Each block is summed in integers and
// the blocks in their order, so that a token's logits do not depend on how many are
// evaluated beside it.
//
// It pays with many columns. One column is llama.cpp's: one row after the other, it decodes
// the Phi shape at 13.7 tokens a second where rows of ours gave 11.1. A pass of several
// ("passes") is summed in llama.cpp's order as well, so that each column is what it would
// be alone; the weights are unpacked once for all.
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

// A block of STRIP rows side by side.
struct alignas(64) Strip {
    // Four weights of each row.
    __m512i quants[QK_K / 4];
    // Of 16 weights or of 32, and pairs of 16 bits for the sums of as many activations.
    __m512i scales[16], mins[8];
    __m512 d, dmin;
};

// Four words of each of STRIP rows, `stride` bytes apart, of which `last` is the last.
void words(const char * at, int64_t stride, int last, __m512i (&to)[4]) {
    __m512i v[4];
    for (int i = 0; i < 4; i++) {
        const auto row = [&](int quarter) { return (const void *) (at + std::min(4 * quarter + i, last) * stride); };
        const void * const rows[4] = { row(0), row(1), row(2), row(3) };
        v[i] = four(rows);
    }
    const __m512i low[2] = { _mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpacklo_epi32(v[2], v[3]) };
    const __m512i high[2] = { _mm512_unpackhi_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[2], v[3]) };
    to[0] = _mm512_unpacklo_epi64(low[0], low[1]);
    to[1] = _mm512_unpackhi_epi64(low[0], low[1]);
    to[2] = _mm512_unpacklo_epi64(high[0], high[1]);
    to[3] = _mm512_unpackhi_epi64(high[0], high[1]);
}

// The factors of a strip whose blocks begin with two halves, 8 scales and 8 mins.
void unpack_factors_of_8(const char * at, int64_t stride, int last, Strip & to) {
    __m512i head[4];
    words(at, stride, last, head);
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
template <typename Take> void unpack_nibbles(const uint8_t * at, int64_t stride, int last, Take take) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int w = 0; w < 32; w += 4) {
        __m512i some[4];
        words((const char *) at + 4 * w, stride, last, some);
        for (int k = 0; k < 4; k++) {
            const int to = w / 8 * 16 + w % 8 + k;
            take(to, _mm512_and_si512(some[k], low));
            take(to + 8, _mm512_and_si512(_mm512_srli_epi16(some[k], 4), low));
        }
    }
}

void unpack_strip(const block_q4_K * x, int64_t stride, int last, Strip & to) {
    stride *= sizeof *x;
    unpack_factors_of_8((const char *) x, stride, last, to);
    unpack_nibbles(x->qs, stride, last, [&](int k, __m512i quants) { to.quants[k] = quants; });
}

void unpack_strip(const block_q5_K * x, int64_t stride, int last, Strip & to) {
    stride *= sizeof *x;
    unpack_factors_of_8((const char *) x, stride, last, to);
    __m512i high[2][4];
    for (int i = 0; i < 2; i++) words((const char *) x->qh + 16 * i, stride, last, high[i]);
    unpack_nibbles(x->qs, stride, last, [&](int k, __m512i quants) {
        const __m512i bits = _mm512_rorv_epi32(high[k % 8 / 4][k % 4], _mm512_set1_epi32((k / 8 + 28) % 32));
        to.quants[k] = _mm512_or_si512(quants, _mm512_and_si512(bits, _mm512_set1_epi8(16)));
    });
}

void unpack_strip(const block_q6_K * x, int64_t stride, int last, Strip & to) {
    stride *= sizeof *x;
    __m512i scales[4];
    words((const char *) x->scales, stride, last, scales);
    for (int i = 0; i < 16; i++) to.scales[i] = _mm512_srai_epi32(_mm512_slli_epi32(scales[i / 4], 24 - i % 4 * 8), 24);
    for (int i = 0; i < 8; i++) {
        to.mins[i] = _mm512_mask_blend_epi16(0xaaaaaaaa, to.scales[2 * i], _mm512_slli_epi32(to.scales[2 * i + 1], 16));
    }
    const __m512i low = _mm512_set1_epi8(15), top = _mm512_set1_epi8(48);
    for (int w = 0; w < 8; w += 4) {
        for (int i = 0; i < 2; i++) {
            __m512i first[4], second[4], high[4];
            words((const char *) x->ql + 64 * i + 4 * w, stride, last, first);
            words((const char *) x->ql + 64 * i + 32 + 4 * w, stride, last, second);
            words((const char *) x->qh + 32 * i + 4 * w, stride, last, high);
            for (int k = 0; k < 4; k++) {
                const auto put = [&](int group, __m512i nibbles, __m512i bits) {
                    to.quants[32 * i + 8 * group + w + k] =
                        _mm512_or_si512(_mm512_and_si512(nibbles, low), _mm512_and_si512(bits, top));
                };
                put(0, first[k], _mm512_slli_epi16(high[k], 4));
                put(1, second[k], _mm512_slli_epi16(high[k], 2));
                put(2, _mm512_srli_epi16(first[k], 4), high[k]);
                put(3, _mm512_srli_epi16(second[k], 4), _mm512_srli_epi16(high[k], 2));
            }
        }
    }
    alignas(32) ggml_half d[STRIP];
    for (int i = 0; i < STRIP; i++) memcpy(&d[i], (const char *) &x->d + std::min(i, last) * stride, sizeof *d);
    to.d = to.dmin = _mm512_cvtph_ps(load(d));
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

// --- Passes ---

// A block of `columns` columns of a pass, each part one after the other.
struct PassBlock {
    const char * at;
    int columns;

    static constexpr int64_t bytes(int columns) { return columns * (int64_t) sizeof(block_q8_K); }

    int8_t * quants(int j) const { return (int8_t *) at + j * QK_K; }
    int16_t * sums(int j) const { return (int16_t *) (at + columns * QK_K) + j * 16; }
    float * d() const { return (float *) sums(columns); }

    void put(const block_q8_K & column, int j) const {
        memcpy(quants(j), column.qs, sizeof column.qs);
        memcpy(sums(j), column.bsums, sizeof column.bsums);
        memcpy(d() + j, &column.d, sizeof column.d);
    }
};

// The sum of eight lanes, in the order of llama.cpp's.
float sum_of_8(__m256 v) {
    __m128 sum = _mm_add_ps(_mm256_extractf128_ps(v, 1), _mm256_castps256_ps128(v));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

// How llama.cpp adds up what the mins are multiplied with.
enum class Mins {
    NONE,
    OF_FOUR_LANES, // the blocks' first, then the lanes
    AS_ONE,        // the lanes of each block first
};
template <class Type> constexpr Mins MINS = Mins::NONE;
template <> inline constexpr Mins MINS<Q4_K> = Mins::OF_FOUR_LANES;
template <> inline constexpr Mins MINS<Q5_K> = Mins::AS_ONE;

// out[j * out_stride] for one row and N columns. Two columns share a vector, the first its
// low half.
template <class Type, int N>
void row_of_pass(int64_t blocks, const typename Type::Block * x, const typename Type::Block * next, const char * y,
                 float * out, int64_t out_stride) {
    constexpr int PAIRS = (N + 1) / 2;
    // The scales of weights 64v to 64v + 63 are words 2v, 2v + 8, 2v + 1 and 2v + 9.
    const __m512i first = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(_mm_set1_epi16(8), _mm_set1_epi16(0))),
                                             _mm256_set_m128i(_mm_set1_epi16(9), _mm_set1_epi16(1)), 1);
    __m512 sum[PAIRS], mins[PAIRS];
    for (int p = 0; p < PAIRS; p++) sum[p] = mins[p] = _mm512_setzero_ps();
    for (int64_t block = 0; block < blocks; block++, y += PassBlock::bytes(N)) {
        const PassBlock columns = { y, N };
        const typename Type::Block & row = x[block];
        prefetch(next + block, 1);
        __m512i weights[4], scales[4];
        __m256i halves[8];
        Type::quants(row, [&](int v, __m256i quants) { halves[v] = quants; });
        const Factors factors = Type::factors(row);
        const __m512i words = _mm512_castsi256_si512(factors.scales), of_sums = both(factors.mins, factors.mins);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            weights[v] = both(halves[2 * v], halves[2 * v + 1]);
            scales[v] = _mm512_permutexvar_epi16(_mm512_add_epi16(first, _mm512_set1_epi16(2 * v)), words);
        }
        const __m128 of_row = _mm_cvtph_ps(Type::halves(row));
        const __m512 d = _mm512_broadcastss_ps(of_row), dmin = _mm512_broadcastss_ps(_mm_movehdup_ps(of_row));
        const __m512 all = _mm512_maskz_loadu_ps((1 << N) - 1, columns.d());
#pragma GCC unroll 4
        for (int p = 0; p < PAIRS; p++) {
            const int j = 2 * p, k = std::min(j + 1, N - 1);
            __m512i one = _mm512_setzero_si512(), other = _mm512_setzero_si512();
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) {
                const auto times = [&](int column) {
                    return _mm512_maddubs_epi16(weights[v], load_512(columns.quants(column) + 64 * v));
                };
                one = _mm512_dpwssd_epi32(one, times(j), scales[v]);
                if (j != k) other = _mm512_dpwssd_epi32(other, times(k), scales[v]);
            }
            __m512i total = _mm512_add_epi32(_mm512_shuffle_i64x2(one, other, 0b01'00'01'00),
                                             _mm512_shuffle_i64x2(one, other, 0b11'10'11'10));
            const __m512i pairs =
                _mm512_madd_epi16(of_sums, both(load(columns.sums(j)), load(columns.sums(k))));
            // Weights below zero are stored with 32 added.
            if (MINS<Type> == Mins::NONE) total = _mm512_sub_epi32(total, _mm512_slli_epi32(pairs, 5));
            const __m512i which = both(_mm256_set1_epi32(j), _mm256_set1_epi32(j + 1));
            const __m512 column = _mm512_permutexvar_ps(which, all);
            sum[p] = _mm512_fmadd_ps(_mm512_mul_ps(column, d), _mm512_cvtepi32_ps(total), sum[p]);
            if (MINS<Type> == Mins::NONE) continue;
            // Lanes 0, 2, 4 and 6 of a column are llama.cpp's four.
            __m512i of_mins = _mm512_add_epi32(pairs, _mm512_srli_epi64(pairs, 32));
            if (MINS<Type> == Mins::AS_ONE) {
                of_mins = _mm512_add_epi32(of_mins, _mm512_shuffle_epi32(of_mins, (_MM_PERM_ENUM) 0b01'00'11'10));
                of_mins = _mm512_add_epi32(of_mins, _mm512_shuffle_i64x2(of_mins, of_mins, 0b10'11'00'01));
            }
            mins[p] = _mm512_fnmadd_ps(_mm512_mul_ps(column, dmin), _mm512_cvtepi32_ps(of_mins), mins[p]);
        }
    }
    for (int j = 0; j < N; j++) {
        const auto half = [&](__m512 v) { return j % 2 ? _mm512_extractf32x8_ps(v, 1) : _mm512_castps512_ps256(v); };
        float total = sum_of_8(half(sum[j / 2]));
        alignas(32) float of_mins[8];
        _mm256_store_ps(of_mins, half(mins[j / 2]));
        if (MINS<Type> == Mins::OF_FOUR_LANES) total += (of_mins[0] + of_mins[4]) + (of_mins[2] + of_mins[6]);
        if (MINS<Type> == Mins::AS_ONE) total += of_mins[0];
        out[j * out_stride] = total;
    }
}

} // namespace

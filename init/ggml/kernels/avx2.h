// Products of quantised weights with one or more columns of activations, AVX2.
//
// Each block is summed in integers, and the blocks are added up in their order
// with the same operations on the same floats in every kernel here: a token's
// logits do not depend on how many are evaluated beside it.
//
// Up to three columns are taken as they are ("rows"): one vector holds 32
// neighbours of one row, another those of one column. Four are laid side by side
// first ("fours"): a lane of 32 bits holds four neighbours of one column, four
// weights are broadcast, and what maddubs yields is added up in 16 bits for as long
// as it fits. That is half the multiplications, and no sum across a vector. Where
// there are more than eight, eight are laid side by side ("lanes"), and the weights
// are unpacked once for many of these.

#pragma once

#include <immintrin.h>

#include "products.h"

namespace {

// Columns that the kernel of lanes has side by side, and from how many columns on it
// is the faster one.
constexpr int LANES = 8;
constexpr int64_t FEWEST_LANES = 9;

// ROWS rows' sums with LANES columns.
struct Tile {
    __m256 of_row[ROWS];

    float at(int row, int column) const { return of_row[row][column]; }
};

// Columns that are not laid side by side stay as they are.
template <class Column> void prepare(Column *, int64_t) {}

__m256i load(const void * at) { return _mm256_loadu_si256((const __m256i *) at); }

// Lane i is the sum of v[i]'s.
__m128i sums(const __m256i v[ROWS]) {
    const __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

// What four pairs of halves are, the low ones and the high ones.
struct Pairs {
    __m128 first, second;
};

Pairs pairs(const __m128i halves[ROWS]) {
    const __m128i low = _mm_unpacklo_epi32(halves[0], halves[1]), high = _mm_unpacklo_epi32(halves[2], halves[3]);
    const __m256 both = _mm256_cvtph_ps(_mm_unpacklo_epi64(low, high));
    const __m128 first = _mm256_castps256_ps128(both), last = _mm256_extractf128_ps(both, 1);
    return { _mm_shuffle_ps(first, last, 0b10'00'10'00), _mm_shuffle_ps(first, last, 0b11'01'11'01) };
}

// Of the sums of ROWS rows those that are wanted.
template <int COLUMNS> void store(const __m128 sum[COLUMNS], float * out, int64_t out_stride, int count) {
    for (int j = 0; j < COLUMNS; j++) {
        float of_rows[ROWS];
        _mm_storeu_ps(of_rows, sum[j]);
        for (int i = 0; i < count; i++) out[j * out_stride + i] = of_rows[i];
    }
}

// Eight columns laid side by side: v[k] becomes word k of all eight.
void transpose(__m256i (&v)[8]) {
    __m256i pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int odd = 0; odd < 2; odd++) {
            fours[i + 2 * odd] = _mm256_unpacklo_epi64(pairs[i + odd], pairs[i + odd + 2]);
            fours[i + 2 * odd + 1] = _mm256_unpackhi_epi64(pairs[i + odd], pairs[i + odd + 2]);
        }
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(fours[i], fours[i + 4], 0x31);
    }
}

// Four columns: v[k] becomes word k of all four and word k + 4 of all four.
void transpose(__m256i (&v)[4]) {
    const __m256i low[2] = { _mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpacklo_epi32(v[2], v[3]) };
    const __m256i high[2] = { _mm256_unpackhi_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[2], v[3]) };
    v[0] = _mm256_unpacklo_epi64(low[0], low[1]);
    v[1] = _mm256_unpackhi_epi64(low[0], low[1]);
    v[2] = _mm256_unpacklo_epi64(high[0], high[1]);
    v[3] = _mm256_unpackhi_epi64(high[0], high[1]);
}

// 32 bytes of each of N columns, `stride` apart, laid side by side.
template <int N> void lay(const void * from, int64_t stride, void * to) {
    __m256i v[N];
    for (int j = 0; j < N; j++) v[j] = load((const char *) from + j * stride);
    transpose(v);
    memcpy(to, v, sizeof v);
}

// With 32 activations a block.
template <class Column, int N> struct Group {
    // d, and for Q8_1 s.
    ggml_half scales[(sizeof(Column) - 32) / sizeof(ggml_half)][N];
    int8_t quants[N][32];

    void pack(const Column (&columns)[N]) {
        for (int j = 0; j < N; j++) {
            ggml_half of_column[sizeof scales / sizeof *scales];
            memcpy(of_column, &columns[j], sizeof of_column);
            for (size_t i = 0; i < sizeof of_column / sizeof *of_column; i++) scales[i][j] = of_column[i];
        }
        lay<N>(columns[0].qs, sizeof(Column), quants);
    }
};

template <int N> struct Group<block_q8_K, N> {
    float d[N];
    int8_t quants[QK_K / 32][N][32];
    int16_t sums[N][16];

    void pack(const block_q8_K (&columns)[N]) {
        for (int j = 0; j < N; j++) d[j] = columns[j].d;
        for (int v = 0; v < QK_K / 32; v++) lay<N>(columns[0].qs + 32 * v, sizeof *columns, quants[v]);
        lay<N>(columns[0].bsums, sizeof *columns, sums);
    }
};

// Word k of each half in all of the half.
__m256i spread(__m256i v, int k) {
    switch (k) {
        case 0: return _mm256_shuffle_epi32(v, 0b00'00'00'00);
        case 1: return _mm256_shuffle_epi32(v, 0b01'01'01'01);
        case 2: return _mm256_shuffle_epi32(v, 0b10'10'10'10);
        default: return _mm256_shuffle_epi32(v, 0b11'11'11'11);
    }
}

// The sums of both halves, of the first in the low half and of the second in the high.
__m256i add_halves(__m256i first, __m256i second) {
    const __m256i low = _mm256_permute2x128_si256(first, second, 0x20);
    return _mm256_add_epi32(low, _mm256_permute2x128_si256(first, second, 0x31));
}

// Four numbers in both halves.
__m256 twice(__m128 v) { return _mm256_set_m128(v, v); }
__m256 twice(const ggml_half four[4]) {
    int64_t all;
    memcpy(&all, four, sizeof all);
    return _mm256_cvtph_ps(_mm_set1_epi64x(all));
}

// Number 2 * pair of four in the low half, and 2 * pair + 1 in the high.
__m256 of_pair(__m256 twice, int pair) {
    const __m256i low = _mm256_castsi128_si256(_mm_set1_epi32(2 * pair));
    return _mm256_permutevar_ps(twice, _mm256_inserti128_si256(low, _mm_set1_epi32(2 * pair + 1), 1));
}

// Of the sums of ROWS rows and GROUPS times four columns those that are wanted.
template <int GROUPS>
void store(const __m256 sum[ROWS / 2][GROUPS], float * out, int64_t out_stride, int count) {
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < 4 * GROUPS; j++) {
            out[j * out_stride + i] = ((const float *) &sum[i / 2][j / 4])[i % 2 * 4 + j % 4];
        }
    }
}

// --- K-quants: 256 weights a block, integer scales within it ---

// A block of one row as the kernel of lanes reads it.
struct Row {
    alignas(32) uint8_t quants[QK_K];
    alignas(32) int16_t scales[16];
    alignas(32) int32_t mins[8];
    float d;
    float dmin;
};

// Factors of a block's sums.
struct Factors {
    __m256i scales; // 16, for 16 weights each: the even ones, then the odd ones
    __m256i mins;   // 16, for the sums of 16 activations each, in order

    // Those of weights 32v to 32v + 31.
    __m256i scale(int v) const { return _mm256_shuffle_epi8(scales, _mm256_set1_epi16(0x0100 + 0x0202 * v)); }
};

// What 16 bytes hold that Q4_K and Q5_K begin with: two halves, d and dmin, and
// 8 scales and 8 mins of 6 bits.
Factors factors_of_8(const void * x) {
    const __m128i head = _mm_loadu_si128((const __m128i *) x);
    const __m128i shifted = _mm_srlv_epi32(_mm_shuffle_epi32(head, 0b11'10'11'01), _mm_setr_epi32(0, 0, 0, 4));
    const __m128i low = _mm_and_si128(shifted, _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f));
    const __m128i high = _mm_and_si128(_mm_srli_epi32(_mm_shuffle_epi32(head, 0b10'10'01'01), 2),
                                       _mm_setr_epi32(0, 0x30303030, 0, 0x30303030));
    const __m128i bytes = _mm_or_si128(low, high);
    const __m128i twice = _mm_setr_epi8(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
    return { _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(bytes)),
             _mm256_cvtepu8_epi16(_mm_shuffle_epi8(bytes, twice)) };
}

// What the K-quants have in common.
template <class Quants> struct OfK {
    using Block = Quants;
    using Column = block_q8_K;
    using Unpacked = Row[ROWS];
    static constexpr bool HAS_LANES = true;
};

// Those whose mins have factors of their own.
template <class Quants> struct WithMins : OfK<Quants> {
    // Else they are times 32 and the factors of the scales.
    static constexpr bool HAS_DMIN = true;

    // d, and dmin above it.
    static __m128i halves(const Quants & x) { return _mm_loadu_si32(&x); }

    static Factors factors(const Quants & x) { return factors_of_8(&x); }
};

struct Q4_K : WithMins<block_q4_K> {
    // Products of pairs whose sum fits into 16 bits.
    static constexpr int SUMMED = 8;

    // Calls take(v, weights 32v to 32v + 31, as bytes) for all eight.
    template <typename Take> static void quants(const Block & x, Take take) {
        const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const __m256i packed = load(x.qs + 32 * i);
            take(2 * i, _mm256_and_si256(packed, low));
            take(2 * i + 1, _mm256_and_si256(_mm256_srli_epi16(packed, 4), low));
        }
    }
};

struct Q5_K : WithMins<block_q5_K> {
    static constexpr int SUMMED = 4;

    template <typename Take> static void quants(const Block & x, Take take) {
        const __m256i low = _mm256_set1_epi8(15);
        const __m256i fifth = _mm256_set1_epi8(16);
        const __m256i high = load(x.qh);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const __m256i packed = load(x.qs + 32 * i);
            // Bits 2i and 2i + 1 of each byte, moved to bit 4.
            const __m256i even = i < 2 ? _mm256_slli_epi16(high, 4 - 2 * i) : _mm256_srli_epi16(high, 2 * i - 4);
            const __m256i odd = i < 2 ? _mm256_slli_epi16(high, 3 - 2 * i) : _mm256_srli_epi16(high, 2 * i - 3);
            take(2 * i, _mm256_or_si256(_mm256_and_si256(packed, low), _mm256_and_si256(even, fifth)));
            take(2 * i + 1, _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(packed, 4), low),
                                            _mm256_and_si256(odd, fifth)));
        }
    }
};

struct Q6_K : OfK<block_q6_K> {
    static constexpr int SUMMED = 2;
    static constexpr bool HAS_DMIN = false;

    static __m128i halves(const Block & x) { return _mm_loadu_si16(&x.d); }

    static Factors factors(const Block & x) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *) x.scales);
        const __m128i apart = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
        return { _mm256_cvtepi8_epi16(_mm_shuffle_epi8(bytes, apart)), _mm256_cvtepi8_epi16(bytes) };
    }

    template <typename Take> static void quants(const Block & x, Take take) {
        const __m256i low = _mm256_set1_epi8(15);
        const __m256i top = _mm256_set1_epi8(48);
        const auto join = [&](__m256i nibbles, __m256i bits) {
            return _mm256_or_si256(_mm256_and_si256(nibbles, low), _mm256_and_si256(bits, top));
        };
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            const __m256i first = load(x.ql + 64 * i);
            const __m256i second = load(x.ql + 64 * i + 32);
            const __m256i high = load(x.qh + 32 * i);
            take(4 * i, join(first, _mm256_slli_epi16(high, 4)));
            take(4 * i + 1, join(second, _mm256_slli_epi16(high, 2)));
            take(4 * i + 2, join(_mm256_srli_epi16(first, 4), high));
            take(4 * i + 3, join(_mm256_srli_epi16(second, 4), _mm256_srli_epi16(high, 2)));
        }
    }
};

// sum plus a block's integer sums, of four rows or of eight columns.
template <class Type>
__m128 add_block(__m128 sum, __m128 d, __m128 dmin, __m128 column, __m128i scaled, __m128i mins) {
    sum = _mm_fmadd_ps(_mm_mul_ps(d, column), _mm_cvtepi32_ps(scaled), sum);
    return Type::HAS_DMIN ? _mm_fnmadd_ps(_mm_mul_ps(dmin, column), _mm_cvtepi32_ps(mins), sum) : sum;
}

template <class Type>
__m256 add_block(__m256 sum, __m256 d, __m256 dmin, __m256 column, __m256i scaled, __m256i mins) {
    sum = _mm256_fmadd_ps(_mm256_mul_ps(d, column), _mm256_cvtepi32_ps(scaled), sum);
    return Type::HAS_DMIN ? _mm256_fnmadd_ps(_mm256_mul_ps(dmin, column), _mm256_cvtepi32_ps(mins), sum) : sum;
}

// out[j * out_stride + i] for ROWS rows of x, `x_stride` blocks apart, and COLUMNS
// columns of y; of the rows, `count` are wanted. `next`: see Ahead.
template <class Type, int COLUMNS>
void rows_of_256(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
                 const block_q8_K * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    __m128 sum[COLUMNS];
    for (int j = 0; j < COLUMNS; j++) sum[j] = _mm_setzero_ps();
    const int64_t last = count - 1;
    for (int64_t block = 0; block < blocks; block++) {
        prefetch(next, ROWS * block, ROWS);
        __m256i scaled[COLUMNS][ROWS], mins[COLUMNS][ROWS];
        __m128i halves[ROWS];
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; i++) {
            const typename Type::Block & row = x[std::min<int64_t>(i, last) * x_stride + block];
            halves[i] = Type::halves(row);
            const Factors factors = Type::factors(row);
            for (int j = 0; j < COLUMNS; j++) {
                mins[j][i] = _mm256_madd_epi16(factors.mins, load(y[j * y_stride + block].bsums));
            }
            __m256i total[COLUMNS];
            Type::quants(row, [&](int v, __m256i quants) {
                const __m256i scale = factors.scale(v);
                for (int j = 0; j < COLUMNS; j++) {
                    const __m256i products = _mm256_maddubs_epi16(quants, load(y[j * y_stride + block].qs + 32 * v));
                    const __m256i times = _mm256_madd_epi16(products, scale);
                    total[j] = v == 0 ? times : _mm256_add_epi32(total[j], times);
                }
            });
            for (int j = 0; j < COLUMNS; j++) {
                // Weights below zero are stored with 32 added.
                scaled[j][i] = Type::HAS_DMIN ? total[j] : _mm256_sub_epi32(total[j], _mm256_slli_epi32(mins[j][i], 5));
            }
        }
        const Pairs of_rows = pairs(halves);
        for (int j = 0; j < COLUMNS; j++) {
            const __m128i min = Type::HAS_DMIN ? sums(mins[j]) : _mm_setzero_si128();
            sum[j] = add_block<Type>(sum[j], of_rows.first, of_rows.second, _mm_set1_ps(y[j * y_stride + block].d),
                                     sums(scaled[j]), min);
        }
    }
    store<COLUMNS>(sum, out, out_stride, count);
}

// As rows_of_256, for GROUPS times four columns side by side.
template <class Type, int GROUPS>
void fours_of_256(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
                  const Group<block_q8_K, 4> * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    constexpr int SUMMED = std::min(4, Type::SUMMED);
    __m256 sum[ROWS / 2][GROUPS];
    for (auto & pair : sum) {
        for (__m256 & of_group : pair) of_group = _mm256_setzero_ps();
    }
    for (int64_t block = 0; block < blocks; block++) {
        prefetch(next, ROWS * block, ROWS);
        const Group<block_q8_K, 4> * group[GROUPS];
        for (int g = 0; g < GROUPS; g++) group[g] = &y[g * y_stride + block];
        __m256i scaled[ROWS][GROUPS], mins[ROWS][GROUPS];
        __m128i halves[ROWS];
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; i++) {
            const typename Type::Block & row = x[std::min(i, count - 1) * x_stride + block];
            halves[i] = Type::halves(row);
            const Factors factors = Type::factors(row);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                const __m256i min = spread(factors.mins, k);
                for (int g = 0; g < GROUPS; g++) {
                    const __m256i product = _mm256_madd_epi16(min, load(group[g]->sums[k]));
                    mins[i][g] = k == 0 ? product : _mm256_add_epi32(mins[i][g], product);
                }
            }
            Type::quants(row, [&](int v, __m256i quants) __attribute__((always_inline)) {
                const __m256i scale = factors.scale(v);
                __m256i products[GROUPS];
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++) {
                    const __m256i weights = spread(quants, k);
                    for (int g = 0; g < GROUPS; g++) {
                        const __m256i product = _mm256_maddubs_epi16(weights, load(group[g]->quants[v][k]));
                        products[g] = k % SUMMED == 0 ? product : _mm256_add_epi16(products[g], product);
                        if (k % SUMMED != SUMMED - 1) continue;
                        const __m256i times = _mm256_madd_epi16(products[g], scale);
                        scaled[i][g] = v == 0 && k < SUMMED ? times : _mm256_add_epi32(scaled[i][g], times);
                    }
                }
            });
        }
        const Pairs of_rows = pairs(halves);
        const __m256 d = twice(of_rows.first), dmin = twice(of_rows.second);
        for (int g = 0; g < GROUPS; g++) {
            const __m256 column = twice(_mm_loadu_ps(group[g]->d));
            for (int pair = 0; pair < ROWS / 2; pair++) {
                const __m256i min = add_halves(mins[2 * pair][g], mins[2 * pair + 1][g]);
                __m256i total = add_halves(scaled[2 * pair][g], scaled[2 * pair + 1][g]);
                if (!Type::HAS_DMIN) total = _mm256_sub_epi32(total, _mm256_slli_epi32(min, 5));
                sum[pair][g] = add_block<Type>(sum[pair][g], of_pair(d, pair), of_pair(dmin, pair), column, total, min);
            }
        }
    }
    store<GROUPS>(sum, out, out_stride, count);
}

template <class Type> void unpack_row(const typename Type::Block & x, Row & row) {
    const Factors factors = Type::factors(x);
    _mm256_store_si256((__m256i *) row.scales, factors.scales);
    _mm256_store_si256((__m256i *) row.mins, factors.mins);
    Type::quants(x, [&](int v, __m256i quants) { _mm256_store_si256((__m256i *) row.quants + v, quants); });
    const __m128 halves = _mm_cvtph_ps(Type::halves(x));
    row.d = _mm_cvtss_f32(halves);
    row.dmin = _mm_cvtss_f32(_mm_movehdup_ps(halves));
}

// Adds a block of ROWS rows and GROUPS times eight columns to sum.
template <class Type, int GROUPS>
void lanes(const Row (&row)[ROWS], const Group<block_q8_K, 8> * y, int64_t y_stride, Tile * sum) {
    __m256i scaled[ROWS][GROUPS], mins[ROWS][GROUPS];
    for (int i = 0; i < ROWS; i++) {
        for (int g = 0; g < GROUPS; g++) scaled[i][g] = mins[i][g] = _mm256_setzero_si256();
    }
    for (int at = 0; at < 8; at++) {
        const int8_t (*quants[GROUPS])[32];
        for (int g = 0; g < GROUPS; g++) quants[g] = y[g * y_stride].quants[at];
#pragma GCC unroll 8
        for (int from = 0; from < 8; from += Type::SUMMED) {
            __m256i products[ROWS][GROUPS];
#pragma GCC unroll 8
            for (int k = from; k < from + Type::SUMMED; k++) {
                for (int i = 0; i < ROWS; i++) {
                    int32_t four;
                    memcpy(&four, row[i].quants + 32 * at + 4 * k, sizeof four);
                    const __m256i weights = _mm256_set1_epi32(four);
                    for (int g = 0; g < GROUPS; g++) {
                        const __m256i product = _mm256_maddubs_epi16(weights, load(quants[g][k]));
                        products[i][g] = k == from ? product : _mm256_add_epi16(products[i][g], product);
                        // Left to itself GCC multiplies first and runs out of registers.
                        __asm__("" : "+x"(products[i][g]));
                    }
                }
            }
            for (int i = 0; i < ROWS; i++) {
                const __m256i scale = _mm256_set1_epi16(row[i].scales[at + from / 4 * 8]);
                for (int g = 0; g < GROUPS; g++) {
                    scaled[i][g] = _mm256_add_epi32(scaled[i][g], _mm256_madd_epi16(products[i][g], scale));
                }
            }
        }
    }
    for (int k = 0; k < 8; k++) {
        for (int g = 0; g < GROUPS; g++) {
            const __m256i pairs = load(y[g * y_stride].sums[k]);
            for (int i = 0; i < ROWS; i++) {
                const __m256i product = _mm256_madd_epi16(_mm256_set1_epi32(row[i].mins[k]), pairs);
                mins[i][g] = _mm256_add_epi32(mins[i][g], product);
            }
        }
    }
    for (int g = 0; g < GROUPS; g++) {
        const __m256 column = _mm256_loadu_ps(y[g * y_stride].d);
        for (int i = 0; i < ROWS; i++) {
            if (!Type::HAS_DMIN) scaled[i][g] = _mm256_sub_epi32(scaled[i][g], _mm256_slli_epi32(mins[i][g], 5));
            __m256 & to = sum[g].of_row[i];
            to = add_block<Type>(to, _mm256_set1_ps(row[i].d), _mm256_set1_ps(row[i].dmin), column, scaled[i][g],
                                 mins[i][g]);
        }
    }
}

// --- Q4_1, Q8_0 and MXFP4: 32 weights a block, one scale ---

// A block of one row as the kernel of lanes reads it.
struct Row_4_1 {
    alignas(32) uint8_t quants[QK4_1];
    float d;
    float m;
};

struct Row_MXFP4 {
    alignas(32) int8_t quants[QK_MXFP4];
    float d;
};

// 32 nibbles.
__m256i nibbles(const uint8_t * at) {
    const __m128i packed = _mm_loadu_si128((const __m128i *) at);
    return _mm256_and_si256(_mm256_set1_epi8(15), _mm256_set_m128i(_mm_srli_epi16(packed, 4), packed));
}

// What of several rows' sums of pairs is left to add up.
__m128i sums_of_pairs(const __m256i products[ROWS]) {
    const __m256i all = _mm256_hadd_epi16(_mm256_hadd_epi16(products[0], products[1]),
                                          _mm256_hadd_epi16(products[2], products[3]));
    const __m256i halves = _mm256_madd_epi16(all, _mm256_set1_epi16(1));
    return _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
}

struct Q4_1 {
    using Block = block_q4_1;
    using Column = block_q8_1;
    using Unpacked = Row_4_1[ROWS];
    static constexpr bool HAS_LANES = true;
    // Whether there is something to add that the activations' sum is multiplied with.
    static constexpr bool HAS_MIN = true;

    static __m128i halves(const Block & x) { return _mm_loadu_si32(&x); }
    static __m128i halves(const Column & y) { return _mm_loadu_si32(&y); }

    static Pairs scales(const __m128i halves[ROWS]) { return pairs(halves); }

    static __m256i quants(const Block & x) { return nibbles(x.qs); }

    // Sums of four pairs fit into 16 bits.
    static __m256i products(__m256i x, __m256i y) { return _mm256_maddubs_epi16(x, y); }
    static __m256i add(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }
    static __m256i words(__m256i products) { return _mm256_madd_epi16(products, _mm256_set1_epi16(1)); }

    static __m128i sums(const __m256i products[ROWS]) { return sums_of_pairs(products); }
};

struct Q8_0 {
    using Block = block_q8_0;
    using Column = block_q8_0;
    static constexpr bool HAS_LANES = false;
    static constexpr bool HAS_MIN = false;

    static __m128i halves(const Block & x) { return _mm_loadu_si16(&x.d); }

    static Pairs scales(const __m128i halves[ROWS]) { return pairs(halves); }

    static __m256i quants(const Block & x) { return load(x.qs); }

    static __m256i products(__m256i x, __m256i y) {
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(y, x));
        return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
    static __m256i add(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
    static __m256i words(__m256i products) { return products; }

    static __m128i sums(const __m256i products[ROWS]) { return ::sums(products); }
};

struct MXFP4 {
    using Block = block_mxfp4;
    using Column = block_q8_0;
    using Unpacked = Row_MXFP4[ROWS];
    static constexpr bool HAS_LANES = true;
    static constexpr bool HAS_MIN = false;

    // No halves, but a power of two.
    static __m128i halves(const Block & x) { return _mm_castps_si128(_mm_set_ss(GGML_E8M0_TO_FP32_HALF(x.e))); }
    static __m128i halves(const Column & y) { return _mm_loadu_si16(&y.d); }

    static Pairs scales(const __m128i powers[ROWS]) {
        const __m128i low = _mm_unpacklo_epi32(powers[0], powers[1]), high = _mm_unpacklo_epi32(powers[2], powers[3]);
        return { _mm_castsi128_ps(_mm_unpacklo_epi64(low, high)), _mm_setzero_ps() };
    }

    static __m256i quants(const Block & x) {
        const __m128i values = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibbles(x.qs));
    }

    // Sums of eight pairs fit into 16 bits.
    static __m256i products(__m256i x, __m256i y) {
        return _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(y, x));
    }
    static __m256i add(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }
    static __m256i words(__m256i products) { return _mm256_madd_epi16(products, _mm256_set1_epi16(1)); }

    static __m128i sums(const __m256i products[ROWS]) { return sums_of_pairs(products); }
};

template <class Type, int COLUMNS>
void rows_of_32(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
                const typename Type::Column * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    __m128 sum[COLUMNS];
    for (int j = 0; j < COLUMNS; j++) sum[j] = _mm_setzero_ps();
    const int64_t last = count - 1;
    for (int64_t block = 0; block < blocks; block++) {
        prefetch(next, ROWS * block, ROWS);
        __m256i products[COLUMNS][ROWS];
        __m128i halves[ROWS];
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; i++) {
            const typename Type::Block & row = x[std::min<int64_t>(i, last) * x_stride + block];
            halves[i] = Type::halves(row);
            const __m256i quants = Type::quants(row);
            for (int j = 0; j < COLUMNS; j++) products[j][i] = Type::products(quants, load(y[j * y_stride + block].qs));
        }
        const Pairs of_rows = Type::scales(halves);
        for (int j = 0; j < COLUMNS; j++) {
            const __m128 of_column = _mm_cvtph_ps(Type::halves(y[j * y_stride + block]));
            const __m128 d = _mm_mul_ps(of_rows.first, _mm_broadcastss_ps(of_column));
            sum[j] = _mm_fmadd_ps(d, _mm_cvtepi32_ps(Type::sums(products[j])), sum[j]);
            if (Type::HAS_MIN) {
                sum[j] = _mm_fmadd_ps(of_rows.second, _mm_shuffle_ps(of_column, of_column, 0b01'01'01'01), sum[j]);
            }
        }
    }
    store<COLUMNS>(sum, out, out_stride, count);
}

// As rows_of_32, for GROUPS times four columns side by side.
template <class Type, int GROUPS>
void fours_of_32(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
                 const GroupOf<Type, 4> * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    __m256 sum[ROWS / 2][GROUPS];
    for (auto & pair : sum) {
        for (__m256 & of_group : pair) of_group = _mm256_setzero_ps();
    }
    for (int64_t block = 0; block < blocks; block++) {
        prefetch(next, ROWS * block, ROWS);
        const GroupOf<Type, 4> * group[GROUPS];
        for (int g = 0; g < GROUPS; g++) group[g] = &y[g * y_stride + block];
        __m256i total[ROWS][GROUPS];
        __m128i halves[ROWS];
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; i++) {
            const typename Type::Block & row = x[std::min(i, count - 1) * x_stride + block];
            halves[i] = Type::halves(row);
            const __m256i quants = Type::quants(row);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                const __m256i weights = spread(quants, k);
                for (int g = 0; g < GROUPS; g++) {
                    const __m256i product = Type::products(weights, load(group[g]->quants[k]));
                    total[i][g] = k == 0 ? product : Type::add(total[i][g], product);
                }
            }
            for (int g = 0; g < GROUPS; g++) total[i][g] = Type::words(total[i][g]);
        }
        const Pairs of_rows = Type::scales(halves);
        const __m256 d = twice(of_rows.first), m = twice(of_rows.second);
        for (int g = 0; g < GROUPS; g++) {
            const __m256 column = twice(group[g]->scales[0]);
            for (int pair = 0; pair < ROWS / 2; pair++) {
                const __m256 both = _mm256_mul_ps(of_pair(d, pair), column);
                const __m256i sums = add_halves(total[2 * pair][g], total[2 * pair + 1][g]);
                sum[pair][g] = _mm256_fmadd_ps(both, _mm256_cvtepi32_ps(sums), sum[pair][g]);
                if (!Type::HAS_MIN) continue;
                sum[pair][g] = _mm256_fmadd_ps(of_pair(m, pair), twice(group[g]->scales[Type::HAS_MIN]), sum[pair][g]);
            }
        }
    }
    store<GROUPS>(sum, out, out_stride, count);
}

// A block of ROWS rows times GROUPS groups of columns, before it is scaled: lanes hold
// sums that Type::words adds up to one each.
template <class Type, typename Row, typename Column, int GROUPS>
void lanes_of_32(const Row (&row)[ROWS], const Group<Column, 8> * y, int64_t y_stride, __m256i (&products)[ROWS][GROUPS]) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        for (int i = 0; i < ROWS; i++) {
            int32_t four;
            memcpy(&four, row[i].quants + 4 * k, sizeof four);
            const __m256i weights = _mm256_set1_epi32(four);
            for (int g = 0; g < GROUPS; g++) {
                const __m256i product = Type::products(weights, load(y[g * y_stride].quants[k]));
                products[i][g] = k == 0 ? product : Type::add(products[i][g], product);
                __asm__("" : "+x"(products[i][g]));
            }
        }
    }
}

template <class Type> void unpack_row(const block_q4_1 & x, Row_4_1 & row) {
    _mm256_store_si256((__m256i *) row.quants, Q4_1::quants(x));
    const __m128 halves = _mm_cvtph_ps(Q4_1::halves(x));
    row.d = _mm_cvtss_f32(halves);
    row.m = _mm_cvtss_f32(_mm_movehdup_ps(halves));
}

template <class Type, int GROUPS>
void lanes(const Row_4_1 (&row)[ROWS], const Group<block_q8_1, 8> * y, int64_t y_stride, Tile * sum) {
    __m256 d[GROUPS], s[GROUPS];
    for (int g = 0; g < GROUPS; g++) {
        d[g] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) y[g * y_stride].scales[0]));
        s[g] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) y[g * y_stride].scales[1]));
    }
    __m256i products[ROWS][GROUPS];
    lanes_of_32<Type>(row, y, y_stride, products);
    for (int i = 0; i < ROWS; i++) {
        for (int g = 0; g < GROUPS; g++) {
            const __m256i total = Type::words(products[i][g]);
            __m256 & to = sum[g].of_row[i];
            to = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(row[i].d), d[g]), _mm256_cvtepi32_ps(total), to);
            to = _mm256_fmadd_ps(_mm256_set1_ps(row[i].m), s[g], to);
        }
    }
}

template <class Type> void unpack_row(const block_mxfp4 & x, Row_MXFP4 & row) {
    _mm256_store_si256((__m256i *) row.quants, MXFP4::quants(x));
    row.d = GGML_E8M0_TO_FP32_HALF(x.e);
}

template <class Type, int GROUPS>
void lanes(const Row_MXFP4 (&row)[ROWS], const Group<block_q8_0, 8> * y, int64_t y_stride, Tile * sum) {
    __m256i products[ROWS][GROUPS];
    lanes_of_32<Type>(row, y, y_stride, products);
    for (int g = 0; g < GROUPS; g++) {
        const __m256 d = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) y[g * y_stride].scales[0]));
        for (int i = 0; i < ROWS; i++) {
            __m256 & to = sum[g].of_row[i];
            const __m256 total = _mm256_cvtepi32_ps(Type::words(products[i][g]));
            to = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(row[i].d), d), total, to);
        }
    }
}

// --- All kinds ---

// `count` rows for the kernel of lanes, which computes on with ROWS.
template <class Type>
void unpack(int count, const typename Type::Block * x, int64_t x_stride, typename Type::Unpacked & to) {
    for (int i = 0; i < ROWS; i++) unpack_row<Type>(x[std::min(i, count - 1) * x_stride], to[i]);
}

// At most ROWS rows and GROUPS times four columns side by side.
template <class Type, int GROUPS, typename... Rest> void fours(Rest... rest) {
    if constexpr (std::is_same_v<typename Type::Column, block_q8_K>) {
        fours_of_256<Type, GROUPS>(rest...);
    } else {
        fours_of_32<Type, GROUPS>(rest...);
    }
}

// At most ROWS rows and COLUMNS columns as they are.
template <class Type, int COLUMNS, typename... Rest> void rows(Rest... rest) {
    if constexpr (std::is_same_v<typename Type::Column, block_q8_K>) {
        rows_of_256<Type, COLUMNS>(rest...);
    } else {
        rows_of_32<Type, COLUMNS>(rest...);
    }
}

} // namespace

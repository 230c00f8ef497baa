// Products of quantised weights with one or more columns of activations, NEON with
// dot products of bytes.
//
// Each block is summed in integers, and the blocks are added up in their order
// with the same operations on the same floats in both kernels here: a token's
// logits do not depend on how many are evaluated beside it.
//
// Four rows are laid side by side: a lane of 32 bits holds four neighbours of one
// row, and the dot product takes four activations of a column from any lane of
// another vector. So no sum goes across a vector. For up to eight columns the rows
// are laid so in registers ("few"), for more once for all columns ("lanes").

#pragma once

#include <arm_neon.h>

#include "products.h"

// GCC keeps what lambdas refer to in registers only where all is one function.
#define INLINED __attribute__((always_inline))
#define INLINE INLINED inline

namespace {

// Columns that the kernel of lanes takes at once, and from how many columns on it is
// the faster one.
constexpr int LANES = 8;
constexpr int64_t FEWEST_LANES = 9;

// A block of a column; the sums are those that SUMS factors of a row belong to, the
// low seven bits of each and then what is above.
template <int SUMS> struct Prepared {
    float d;
    int8_t quants[QK_K];
    int8_t sums[32];
};

template <class Column> void prepare(Column *, int64_t) {}

// What the blocks of columns are made that have been quantised.
template <int SUMS> void prepare(Prepared<SUMS> * columns, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        int8_t * to = columns[i].sums;
        int16_t of_16[16];
        memcpy(of_16, to, sizeof of_16);
        int16x8_t sums[2] = { vld1q_s16(of_16), vld1q_s16(of_16 + 8) };
        if (SUMS == 8) sums[0] = vpaddq_s16(sums[0], sums[1]);
        for (int part = 0; part < SUMS / 8; part++) {
            vst1_s8(to + 8 * part, vmovn_s16(sums[part] & 127));
            vst1_s8(to + SUMS + 8 * part, vshrn_n_s16(sums[part], 7));
        }
    }
}

// A block of N columns as they are.
template <class Column, int N> struct Group {
    Column columns[N];

    void pack(const Column (&from)[N]) {
        memcpy(columns, from, sizeof columns);
        prepare(columns, N);
    }
};

// Of LANES columns, stride bytes apart, 16 bytes each, as add_products reads them.
INLINE void lay(const void * from, size_t stride, int8_t (*to)[16]) {
    const auto column = [&](int j) { return vld1q_s8((const int8_t *) from + j * stride); };
#ifdef __ARM_FEATURE_MATMUL_INT8
    for (int j = 0; j < LANES; j += 2) {
        const int64x2_t pair[2] = { vreinterpretq_s64_s8(column(j)), vreinterpretq_s64_s8(column(j + 1)) };
        vst1q_s64((int64_t *) to[j / 2], vzip1q_s64(pair[0], pair[1]));
        vst1q_s64((int64_t *) to[LANES / 2 + j / 2], vzip2q_s64(pair[0], pair[1]));
    }
#else
    for (int j = 0; j < LANES; j++) vst1q_s8(to[j], column(j));
#endif
}

template <int SUMS> struct Group<Prepared<SUMS>, LANES> {
    float d[LANES];
    int8_t quants[QK_K / 16][LANES][16];
    int8_t sums[2][LANES][16];

    void pack(Prepared<SUMS> (&from)[LANES]) {
        prepare(from, LANES);
        for (int j = 0; j < LANES; j++) d[j] = from[j].d;
        for (int at = 0; at < QK_K / 16; at++) lay(from[0].quants + 16 * at, sizeof *from, quants[at]);
        for (int at = 0; at < 2; at++) lay(from[0].sums + 16 * at, sizeof *from, sums[at]);
    }
};

// With 32 activations a block.
template <class Column> struct GroupOf32 {
    // d, and for Q8_1 s.
    ggml_half scales[(sizeof(Column) - 32) / sizeof(ggml_half)][LANES];
    int8_t quants[2][LANES][16];

    void pack(const Column (&from)[LANES]) {
        for (int j = 0; j < LANES; j++) {
            ggml_half of_column[sizeof scales / sizeof *scales];
            memcpy(of_column, &from[j], sizeof of_column);
            for (size_t i = 0; i < sizeof of_column / sizeof *of_column; i++) scales[i][j] = of_column[i];
        }
        for (int at = 0; at < 2; at++) lay(from[0].qs + 16 * at, sizeof *from, quants[at]);
    }

    // Kind i of the scales, as numbers.
    void numbers(int i, float32x4_t (&to)[LANES / 4]) const {
        for (int k = 0; k < LANES / 4; k++) to[k] = vcvt_f32_f16(vld1_f16((const float16_t *) scales[i] + 4 * k));
    }
};

template <> struct Group<block_q8_0, LANES> : GroupOf32<block_q8_0> {};
template <> struct Group<block_q8_1, LANES> : GroupOf32<block_q8_1> {};

// ROWS rows' sums with LANES columns.
struct Tile {
    float32x4_t of_column[LANES];

    float at(int row, int column) const { return of_column[column][row]; }
};

// Calls take with 0 to COUNT - 1, as constants.
template <int... I, typename Take> INLINE void each(std::integer_sequence<int, I...>, Take take) {
    (take(std::integral_constant<int, I>()), ...);
}

template <int COUNT, typename Take> INLINE void each(Take take) {
    each(std::make_integer_sequence<int, COUNT>(), take);
}

// v[k] becomes word k of all four.
void transpose(uint32x4_t (&v)[4]) {
    const uint32x4_t low[2] = { vzip1q_u32(v[0], v[2]), vzip1q_u32(v[1], v[3]) };
    const uint32x4_t high[2] = { vzip2q_u32(v[0], v[2]), vzip2q_u32(v[1], v[3]) };
    v[0] = vzip1q_u32(low[0], low[1]);
    v[1] = vzip2q_u32(low[0], low[1]);
    v[2] = vzip1q_u32(high[0], high[1]);
    v[3] = vzip2q_u32(high[0], high[1]);
}

// 16 bytes from each of four places side by side: to[k] has 4k to 4k + 3 of all.
template <typename From> INLINE void side_by_side(From from, uint8x16_t (&to)[4]) {
    uint32x4_t words[ROWS];
    for (int i = 0; i < ROWS; i++) words[i] = vreinterpretq_u32_u8(vld1q_u8(from(i)));
    transpose(words);
    for (int k = 0; k < 4; k++) to[k] = vreinterpretq_u8_u32(words[k]);
}

// Byte k of each lane.
int32x4_t byte(uint32x4_t v, int k) { return vreinterpretq_s32_u32(v << (24 - 8 * k)) >> 24; }

// The low and the high one of each lane's halves.
float32x4_t low_half(uint32x4_t v) { return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(v))); }
float32x4_t high_half(uint32x4_t v) { return vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(v, 16))); }

// 16 weights of ROWS rows, side by side, as add_products reads them.
INLINE void lay(const int8x16_t (&weights)[4], int8_t (*to)[16]) {
#ifdef __ARM_FEATURE_MATMUL_INT8
    for (int half = 0; half < 2; half++) {
        const int32x4_t first = vreinterpretq_s32_s8(weights[2 * half]);
        const int32x4_t second = vreinterpretq_s32_s8(weights[2 * half + 1]);
        vst1q_s8(to[2 * half], vreinterpretq_s8_s32(vzip1q_s32(first, second)));
        vst1q_s8(to[2 * half + 1], vreinterpretq_s8_s32(vzip2q_s32(first, second)));
    }
#else
    for (int k = 0; k < 4; k++) vst1q_s8(to[k], weights[k]);
#endif
}

// sum plus the products of 16 weights of ROWS rows with LANES columns, or of those of
// the eights from FROM to TO.
template <int FROM = 0, int TO = 2>
INLINE void add_products(int32x4_t (&sum)[LANES], const int8_t (*weights)[16], const int8_t (*columns)[16]) {
#ifdef __ARM_FEATURE_MATMUL_INT8
    // Two rows and two columns at once.
    for (int half = FROM; half < TO; half++) {
        const int8x16_t rows[2] = { vld1q_s8(weights[2 * half]), vld1q_s8(weights[2 * half + 1]) };
        for (int j = 0; j < LANES / 2; j++) {
            const int8x16_t pair = vld1q_s8(columns[LANES / 2 * half + j]);
            sum[j] = vmmlaq_s32(sum[j], rows[0], pair);
            sum[LANES / 2 + j] = vmmlaq_s32(sum[LANES / 2 + j], rows[1], pair);
        }
    }
#else
    int8x16_t four[4];
    for (int k = 2 * FROM; k < 2 * TO; k++) four[k] = vld1q_s8(weights[k]);
    for (int j = 0; j < LANES; j++) {
        const int8x16_t column = vld1q_s8(columns[j]);
        each<2 * (TO - FROM)>([&](auto k) {
            sum[j] = vdotq_laneq_s32(sum[j], four[2 * FROM + k], column, 2 * FROM + k);
        });
    }
#endif
}

// Each row's factor where add_products has sums of that row.
INLINE int32x4_t factors_at(int32x4_t of_rows, int j) {
#ifdef __ARM_FEATURE_MATMUL_INT8
    return j < LANES / 2 ? vzip1q_s32(of_rows, of_rows) : vzip2q_s32(of_rows, of_rows);
#else
    (void) j;
    return of_rows;
#endif
}

// What add_products has summed: a column in each vector, a row in each lane.
INLINE void by_columns(int32x4_t (&sum)[LANES]) {
#ifdef __ARM_FEATURE_MATMUL_INT8
    int32x4_t to[LANES];
    for (int j = 0; j < LANES / 2; j++) {
        to[2 * j] = vuzp1q_s32(sum[j], sum[LANES / 2 + j]);
        to[2 * j + 1] = vuzp2q_s32(sum[j], sum[LANES / 2 + j]);
    }
    for (int j = 0; j < LANES; j++) sum[j] = to[j];
#else
    (void) sum;
#endif
}

// --- K-quants: 256 weights a block, integer scales within it ---

// A block of ROWS rows as the kernel of lanes reads it.
struct Unpacked_K {
    int8_t quants[QK_K / 16][4][16];
    int32_t scales[16][ROWS];
    int8_t mins[4][16];
    float d[ROWS];
    float dmin[ROWS];
};

// What the K-quants have in common.
template <class Quants, int COUNT> struct OfK {
    using Block = Quants;
    using Column = Prepared<COUNT>;
    using Unpacked = Unpacked_K;
    static constexpr bool HAS_LANES = true;
    // Scales of a block.
    static constexpr int SCALES = COUNT;
};

// Those whose mins have factors of their own; 8 scales and 8 mins, of 6 bits each.
template <class Quants> struct WithMins : OfK<Quants, 8> {
    // Else they are times 32 and the factors of the scales.
    static constexpr bool HAS_DMIN = true;

    // What the sums of ROWS rows' block are multiplied with.
    struct Factors {
        float32x4_t d, dmin;
        // Byte k of lane i is row i's.
        uint32x4_t scales[2], mins[2];

        explicit Factors(const Quants * const (&row)[ROWS]) {
            // The halves come first.
            uint32x4_t head[ROWS];
            for (int i = 0; i < ROWS; i++) head[i] = vld1q_u32((const uint32_t *) row[i]);
            transpose(head);
            d = low_half(head[0]);
            dmin = high_half(head[0]);
            const uint8x16_t first = vreinterpretq_u8_u32(head[1]), second = vreinterpretq_u8_u32(head[2]);
            const uint8x16_t rest = vreinterpretq_u8_u32(head[3]);
            const auto join = [](uint8x16_t low, uint8x16_t high) {
                return vreinterpretq_u32_u8(vsliq_n_u8(low, high, 4));
            };
            scales[0] = vreinterpretq_u32_u8(first & 63);
            scales[1] = join(rest & 15, first >> 6);
            mins[0] = vreinterpretq_u32_u8(second & 63);
            mins[1] = join(rest >> 4, second >> 6);
        }
    };

    // Which 32 weights are the first of a quarter, and which the second.
    static constexpr int at(int quarter, int second) { return 2 * quarter + second; }
    // Where the low bits of both are.
    static const uint8_t * low(const Quants & x, int quarter) { return x.qs + 32 * quarter; }
};

struct Q4_K : WithMins<block_q4_K> {
    // Quarters that share the bytes with the high bits.
    static constexpr int SHARE_HIGH = 0;
    static const uint8_t * high(const Block &, int) { return nullptr; }

    static void join(int, uint8x16_t low, uint8x16_t, uint8x16_t & first, uint8x16_t & second) {
        first = low & 15;
        second = low >> 4;
    }
};

struct Q5_K : WithMins<block_q5_K> {
    static constexpr int SHARE_HIGH = 4;
    static const uint8_t * high(const Block & x, int) { return x.qh; }

    static void join(int quarter, uint8x16_t low, uint8x16_t high, uint8x16_t & first, uint8x16_t & second) {
        const uint8x16_t fifth = vdupq_n_u8(16);
        // Bits 2 quarter and 2 quarter + 1 of each byte are moved to bit 4.
        const uint8x16_t even = quarter < 2 ? high << (4 - 2 * quarter) : high >> (2 * quarter - 4);
        const uint8x16_t odd = quarter < 2 ? high << (3 - 2 * quarter) : high >> (2 * quarter - 3);
        first = vbslq_u8(fifth, even, low & 15);
        second = vbslq_u8(fifth, odd, low >> 4);
    }
};

struct Q6_K : OfK<block_q6_K, 16> {
    static constexpr bool HAS_DMIN = false;

    struct Factors {
        float32x4_t d, dmin;
        uint32x4_t scales[4], mins[4];

        explicit Factors(const block_q6_K * const (&row)[ROWS]) {
            uint16x4_t halves;
            for (int i = 0; i < ROWS; i++) {
                scales[i] = vreinterpretq_u32_s8(vld1q_s8(row[i]->scales));
                halves[i] = row[i]->d;
            }
            transpose(scales);
            for (int i = 0; i < 4; i++) mins[i] = scales[i];
            d = dmin = vcvt_f32_f16(vreinterpret_f16_u16(halves));
        }
    };

    static constexpr int at(int quarter, int second) { return quarter / 2 * 4 + quarter % 2 + 2 * second; }
    static const uint8_t * low(const Block & x, int quarter) { return x.ql + 32 * quarter; }

    static constexpr int SHARE_HIGH = 2;
    static const uint8_t * high(const Block & x, int quarter) { return x.qh + quarter / 2 * 32; }

    static void join(int quarter, uint8x16_t low, uint8x16_t high, uint8x16_t & first, uint8x16_t & second) {
        const uint8x16_t top = vdupq_n_u8(48);
        // The pairs of bits from 2 * (quarter % 2) and from four above are moved to bit 4.
        first = vbslq_u8(top, quarter % 2 ? high << 2 : high << 4, low & 15);
        second = vbslq_u8(top, quarter % 2 ? high >> 2 : high, low >> 4);
    }
};

// sum plus the products of 16 weights of four rows with a column.
INLINE int32x4_t dot(int32x4_t sum, const int8x16_t (&weights)[4], const int8_t * column) {
    const int8x16_t activations = vld1q_s8(column);
    each<4>([&](auto k) { sum = vdotq_laneq_s32(sum, weights[k], activations, k); });
    return sum;
}

// sum plus a block's integer sums of ROWS rows with a column.
template <class Type>
INLINE float32x4_t add_block(float32x4_t sum, float32x4_t d, float32x4_t dmin, float column, int32x4_t scaled,
                             int32x4_t mins) {
    // Weights below zero are stored with 32 added.
    if (!Type::HAS_DMIN) scaled = vsubq_s32(scaled, vshlq_n_s32(mins, 5));
    sum = vfmaq_f32(sum, vmulq_n_f32(d, column), vcvtq_f32_s32(scaled));
    return Type::HAS_DMIN ? vfmsq_f32(sum, vmulq_n_f32(dmin, column), vcvtq_f32_s32(mins)) : sum;
}

// The products of a column's sums with mins.
template <int SUMS> INLINE int32x4_t of_mins(const uint32x4_t (&mins)[SUMS / 4], const Prepared<SUMS> & column) {
    int32x4_t sum = vdupq_n_s32(0);
    each<2>([&](auto low) {
        if (low) sum = vshlq_n_s32(sum, 7);
        each<SUMS / 4>([&](auto k) {
            constexpr int at = (low ? 0 : SUMS / 4) + k;
            sum = vdotq_laneq_s32(sum, vreinterpretq_s8_u32(mins[k]), vld1q_s8(column.sums + at / 4 * 16), at % 4);
        });
    });
    return sum;
}

// Of `count` rows, `stride` blocks apart, ROWS that can be read.
template <class Block> struct Readable {
    const Block * row[ROWS];

    Readable(const Block * x, int64_t stride, int count) {
        for (int i = 0; i < ROWS; i++) row[i] = x + std::min(i, count - 1) * stride;
    }
};

// Of the sums of ROWS rows those that are wanted.
template <int COLUMNS>
void store(const float32x4_t (&sum)[COLUMNS], float * out, int64_t out_stride, int count) {
    for (int j = 0; j < COLUMNS; j++) {
        for (int i = 0; i < count; i++) out[j * out_stride + i] = sum[j][i];
    }
}

// Calls take(v, weights 32v to 32v + 31 of ROWS rows side by side) for all eight.
template <class Type, typename Take>
INLINE void quants(const typename Type::Block * const (&row)[ROWS], Take take) {
    uint8x16_t high[2][4] = {};
    each<4>([&](auto quarter) INLINED {
        int8x16_t weights[2][2][4];
        for (int part = 0; part < 2; part++) {
            uint8x16_t low[4];
            side_by_side([&](int i) INLINED { return Type::low(*row[i], quarter) + 16 * part; }, low);
            if (Type::SHARE_HIGH > 0 && quarter % std::max(1, Type::SHARE_HIGH) == 0) {
                side_by_side([&](int i) INLINED { return Type::high(*row[i], quarter) + 16 * part; }, high[part]);
            }
            for (int k = 0; k < 4; k++) {
                uint8x16_t first, second;
                Type::join(quarter, low[k], high[part][k], first, second);
                weights[0][part][k] = vreinterpretq_s8_u8(first);
                weights[1][part][k] = vreinterpretq_s8_u8(second);
            }
        }
        take(std::integral_constant<int, Type::at(quarter, 0)>(), weights[0]);
        take(std::integral_constant<int, Type::at(quarter, 1)>(), weights[1]);
        // Left to itself GCC loads all that is read and runs out of registers.
        __asm__("" ::: "memory");
    });
}

// out[j * out_stride + i] for ROWS rows of x, `x_stride` blocks apart, and COLUMNS
// columns of y, in groups of N; of the rows, `count` are wanted. `next`: see Ahead.
template <class Type, int COLUMNS, int N>
void few_of_256(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
                const GroupOf<Type, N> * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    float32x4_t sum[COLUMNS] = {};
    for (int64_t block = 0; block < blocks; block++) {
        prefetch_rows(next, block);
        const Readable<typename Type::Block> readable(x + block, x_stride, count);
        const typename Type::Factors factors(readable.row);
        const auto column = [=](int j) INLINED -> const typename Type::Column & {
            return y[j / N * y_stride + block].columns[j % N];
        };
        int32x4_t scaled[COLUMNS] = {};
        quants<Type>(readable.row, [&](auto v, const int8x16_t (&weights)[2][4]) INLINED {
            for (int j = 0; j < COLUMNS; j++) {
                const int8_t * activations = column(j).quants + 32 * v;
                int32x4_t sum = dot(vdupq_n_s32(0), weights[0], activations);
                if (Type::SCALES == 16) {
                    scaled[j] = vmlaq_s32(scaled[j], sum, byte(factors.scales[v / 2], 2 * v % 4));
                    sum = vdupq_n_s32(0);
                }
                sum = dot(sum, weights[1], activations + 16);
                constexpr int last = Type::SCALES == 16 ? 2 * v + 1 : v;
                scaled[j] = vmlaq_s32(scaled[j], sum, byte(factors.scales[last / 4], last % 4));
            }
        });
        for (int j = 0; j < COLUMNS; j++) {
            sum[j] = add_block<Type>(sum[j], factors.d, factors.dmin, column(j).d, scaled[j],
                                     of_mins<Type::SCALES>(factors.mins, column(j)));
        }
    }
    store(sum, out, out_stride, count);
}

// `count` rows for the kernel of lanes, which computes on with ROWS.
template <class Type>
void unpack(int count, const typename Type::Block * x, int64_t x_stride, Unpacked_K & to) {
    const Readable<typename Type::Block> readable(x, x_stride, count);
    const typename Type::Factors factors(readable.row);
    each<Type::SCALES>([&](auto at) { vst1q_s32(to.scales[at], byte(factors.scales[at / 4], at % 4)); });
    // Eight stand for the low bits of the columns' sums and for the high ones.
    int8x16_t mins[4];
    for (int k = 0; k < 4; k++) mins[k] = vreinterpretq_s8_u32(factors.mins[k % (Type::SCALES / 4)]);
    lay(mins, to.mins);
    vst1q_f32(to.d, factors.d);
    vst1q_f32(to.dmin, factors.dmin);
    quants<Type>(readable.row, [&](auto v, const int8x16_t (&weights)[2][4]) {
        for (int part = 0; part < 2; part++) lay(weights[part], to.quants[2 * v + part]);
    });
}

// Adds a block of ROWS rows and LANES columns.
template <class Type> void lanes(const Unpacked_K & x, const GroupOf<Type, LANES> & y, Tile & to) {
    constexpr int EACH = 16 / Type::SCALES;
    int32x4_t scaled[LANES] = {};
    for (int at = 0; at < 16; at += EACH) {
        int32x4_t sum[LANES] = {};
        for (int part = 0; part < EACH; part++) add_products(sum, x.quants[at + part], y.quants[at + part]);
        const int32x4_t scales = vld1q_s32(x.scales[at / EACH]);
        for (int j = 0; j < LANES; j++) scaled[j] = vmlaq_s32(scaled[j], sum[j], factors_at(scales, j));
    }
    by_columns(scaled);
    int32x4_t mins[LANES] = {};
    const auto shift = [&] {
        for (int32x4_t & of_column : mins) of_column = vshlq_n_s32(of_column, 7);
    };
    if (Type::SCALES == 8) {
        add_products<1, 2>(mins, x.mins, y.sums[0]);
        shift();
        add_products<0, 1>(mins, x.mins, y.sums[0]);
    } else {
        add_products(mins, x.mins, y.sums[1]);
        shift();
        add_products(mins, x.mins, y.sums[0]);
    }
    by_columns(mins);
    const float32x4_t d = vld1q_f32(x.d), dmin = vld1q_f32(x.dmin);
    for (int j = 0; j < LANES; j++) {
        to.of_column[j] = add_block<Type>(to.of_column[j], d, dmin, y.d[j], scaled[j], mins[j]);
    }
}

// --- Q4_0, Q4_1, Q8_0 and MXFP4: 32 weights a block, one scale ---

// A block of ROWS rows as the kernel of lanes reads it.
struct Unpacked_32 {
    int8_t quants[2][4][16];
    float d[ROWS];
    float m[ROWS];
};

template <class Quants, class Activations> struct Of32 {
    using Block = Quants;
    using Column = Activations;
    using Unpacked = Unpacked_32;
    static constexpr bool HAS_LANES = true;
    // Whether there is something to add that the activations' sum is multiplied with.
    static constexpr bool HAS_MIN = false;

    // Half `at` of a column's block, and those of rows' blocks.
    static float number(const Activations & y, int at) {
        __fp16 number;
        memcpy(&number, (const char *) &y + at * sizeof number, sizeof number);
        return number;
    }
    static float32x4_t numbers(const Quants * const (&row)[ROWS], int at) {
        uint16_t halves[ROWS];
        for (int i = 0; i < ROWS; i++) memcpy(&halves[i], (const char *) row[i] + at * sizeof *halves, sizeof *halves);
        return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves)));
    }
};

// 32 weights of four bits each.
template <class Block> INLINE void nibbles(const Block * const (&row)[ROWS], int8x16_t (&to)[2][4]) {
    uint8x16_t packed[4];
    side_by_side([&](int i) INLINED { return row[i]->qs; }, packed);
    for (int k = 0; k < 4; k++) {
        to[0][k] = vreinterpretq_s8_u8(packed[k] & 15);
        to[1][k] = vreinterpretq_s8_u8(packed[k] >> 4);
    }
}

struct Q4_0 : Of32<block_q4_0, block_q8_0> {
    static INLINE void quants(const Block * const (&row)[ROWS], int8x16_t (&to)[2][4]) {
        nibbles(row, to);
        for (auto & part : to) {
            for (int8x16_t & weights : part) weights -= 8;
        }
    }
};

struct Q4_1 : Of32<block_q4_1, block_q8_1> {
    static constexpr bool HAS_MIN = true;

    static INLINE void quants(const Block * const (&row)[ROWS], int8x16_t (&to)[2][4]) { nibbles(row, to); }
};

struct Q8_0 : Of32<block_q8_0, block_q8_0> {
    static INLINE void quants(const Block * const (&row)[ROWS], int8x16_t (&to)[2][4]) {
        for (int part = 0; part < 2; part++) {
            uint8x16_t bytes[4];
            side_by_side([&](int i) INLINED { return (const uint8_t *) row[i]->qs + 16 * part; }, bytes);
            for (int k = 0; k < 4; k++) to[part][k] = vreinterpretq_s8_u8(bytes[k]);
        }
    }
};

struct MXFP4 : Of32<block_mxfp4, block_q8_0> {
    static INLINE void quants(const Block * const (&row)[ROWS], int8x16_t (&to)[2][4]) {
        // Twice what the four bits stand for.
        const int8x16_t values = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
        nibbles(row, to);
        for (auto & part : to) {
            for (int8x16_t & weights : part) weights = vqtbl1q_s8(values, vreinterpretq_u8_s8(weights));
        }
    }

    static float32x4_t numbers(const Block * const (&row)[ROWS], int) {
        float halves[ROWS];
        for (int i = 0; i < ROWS; i++) halves[i] = GGML_E8M0_TO_FP32_HALF(row[i]->e);
        return vld1q_f32(halves);
    }
};

// sum plus a block's integer sums of ROWS rows with a column.
template <class Type>
INLINE float32x4_t add_block(float32x4_t sum, float32x4_t d, float32x4_t m, float column_d, float column_s,
                             int32x4_t products) {
    sum = vfmaq_f32(sum, vmulq_n_f32(d, column_d), vcvtq_f32_s32(products));
    return Type::HAS_MIN ? vfmaq_n_f32(sum, m, column_s) : sum;
}

// As few_of_256.
template <class Type, int COLUMNS, int N>
void few_of_32(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
               const GroupOf<Type, N> * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    float32x4_t sum[COLUMNS] = {};
    for (int64_t block = 0; block < blocks; block++) {
        prefetch_rows(next, block);
        const Readable<typename Type::Block> readable(x + block, x_stride, count);
        int8x16_t weights[2][4];
        Type::quants(readable.row, weights);
        const float32x4_t d = Type::numbers(readable.row, 0), m = Type::numbers(readable.row, Type::HAS_MIN);
        for (int j = 0; j < COLUMNS; j++) {
            const typename Type::Column & column = y[j / N * y_stride + block].columns[j % N];
            const int32x4_t products = dot(dot(vdupq_n_s32(0), weights[0], column.qs), weights[1], column.qs + 16);
            sum[j] = add_block<Type>(sum[j], d, m, Type::number(column, 0),
                                     Type::number(column, Type::HAS_MIN), products);
        }
    }
    store(sum, out, out_stride, count);
}

// As those of K-quants.
template <class Type>
void unpack(int count, const typename Type::Block * x, int64_t x_stride, Unpacked_32 & to) {
    const Readable<typename Type::Block> readable(x, x_stride, count);
    int8x16_t weights[2][4];
    Type::quants(readable.row, weights);
    for (int part = 0; part < 2; part++) lay(weights[part], to.quants[part]);
    vst1q_f32(to.d, Type::numbers(readable.row, 0));
    vst1q_f32(to.m, Type::numbers(readable.row, Type::HAS_MIN));
}

template <class Type> void lanes(const Unpacked_32 & x, const GroupOf<Type, LANES> & y, Tile & to) {
    int32x4_t products[LANES] = {};
    for (int part = 0; part < 2; part++) add_products(products, x.quants[part], y.quants[part]);
    by_columns(products);
    const float32x4_t d = vld1q_f32(x.d), m = vld1q_f32(x.m);
    float32x4_t column_d[LANES / 4], column_s[LANES / 4];
    y.numbers(0, column_d);
    y.numbers(Type::HAS_MIN, column_s);
    for (int j = 0; j < LANES; j++) {
        to.of_column[j] = add_block<Type>(to.of_column[j], d, m, column_d[j / 4][j % 4], column_s[j / 4][j % 4],
                                          products[j]);
    }
}

// --- All kinds ---

template <class Type, int COLUMNS, int N, typename... Rest> void few(Rest... rest) {
    if constexpr (std::is_same_v<typename Type::Unpacked, Unpacked_K>) {
        few_of_256<Type, COLUMNS, N>(rest...);
    } else {
        few_of_32<Type, COLUMNS, N>(rest...);
    }
}

// At most ROWS rows and GROUPS times four columns.
template <class Type, int GROUPS, typename... Rest> void fours(Rest... rest) { few<Type, 4 * GROUPS, 4>(rest...); }

// At most ROWS rows and COLUMNS columns that are not in groups.
template <class Type, int COLUMNS>
void rows(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
          const typename Type::Column * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    few<Type, COLUMNS, 1>(blocks, x, x_stride, next, (const GroupOf<Type, 1> *) y, y_stride, out, out_stride, count);
}

// Adds a block of ROWS rows and GROUPS times LANES columns.
template <class Type, int GROUPS>
void lanes(const typename Type::Unpacked & x, const GroupOf<Type, LANES> * y, int64_t y_stride, Tile * to) {
    for (int g = 0; g < GROUPS; g++) lanes<Type>(x, y[g * y_stride], to[g]);
}

} // namespace

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
#define INLINE __attribute__((always_inline)) inline

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

// A block of N columns.
template <int SUMS, int N> struct Group<Prepared<SUMS>, N> {
    Prepared<SUMS> columns[N];

    void pack(const Prepared<SUMS> (&from)[N]) {
        memcpy(columns, from, sizeof columns);
        prepare(columns, N);
    }
};

// ROWS rows' sums with LANES columns.
struct Tile {
    float32x4_t of_column[LANES];

    float at(int row, int column) const { return of_column[column][row]; }
};

// A block of ROWS rows as the kernel of lanes reads it.
struct Unpacked {
    int8_t quants[QK_K / 4][ROWS][4];
    int32_t scales[16][ROWS];
    uint32_t mins[4][ROWS];
    float d[ROWS];
    float dmin[ROWS];
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

// 16 bytes of each of four rows side by side: to[k] has 4k to 4k + 3 of all.
template <auto from, class Block>
INLINE void side_by_side(const Block * const (&row)[ROWS], int quarter, int part, uint8x16_t (&to)[4]) {
    uint32x4_t words[ROWS];
    for (int i = 0; i < ROWS; i++) words[i] = vreinterpretq_u32_u8(vld1q_u8(from(*row[i], quarter) + 16 * part));
    transpose(words);
    for (int k = 0; k < 4; k++) to[k] = vreinterpretq_u8_u32(words[k]);
}

// Byte k of each lane.
int32x4_t byte(uint32x4_t v, int k) { return vreinterpretq_s32_u32(v << (24 - 8 * k)) >> 24; }

// The low and the high one of each lane's halves.
float32x4_t low_half(uint32x4_t v) { return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(v))); }
float32x4_t high_half(uint32x4_t v) { return vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(v, 16))); }

// What the K-quants have in common.
template <class Quants, int COUNT> struct OfK {
    using Block = Quants;
    using Column = Prepared<COUNT>;
    using Unpacked = ::Unpacked;
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

// sum plus a block's integer sums with a column.
template <class Type>
INLINE float32x4_t add_block(float32x4_t sum, float32x4_t d, float32x4_t dmin, const uint32x4_t * mins,
                      const typename Type::Column & column, int32x4_t scaled) {
    int32x4_t of_mins = vdupq_n_s32(0);
    each<2>([&](auto low) {
        if (low) of_mins = vshlq_n_s32(of_mins, 7);
        each<Type::SCALES / 4>([&](auto k) {
            constexpr int at = (low ? 0 : Type::SCALES / 4) + k;
            const int8x16_t sums = vld1q_s8(column.sums + at / 4 * 16);
            of_mins = vdotq_laneq_s32(of_mins, vreinterpretq_s8_u32(mins[k]), sums, at % 4);
        });
    });
    // Weights below zero are stored with 32 added.
    if (!Type::HAS_DMIN) scaled = vsubq_s32(scaled, vshlq_n_s32(of_mins, 5));
    sum = vfmaq_f32(sum, vmulq_n_f32(d, column.d), vcvtq_f32_s32(scaled));
    return Type::HAS_DMIN ? vfmsq_f32(sum, vmulq_n_f32(dmin, column.d), vcvtq_f32_s32(of_mins)) : sum;
}

// Of `count` rows, `stride` blocks apart, ROWS that can be read.
template <class Block> struct Readable {
    const Block * row[ROWS];

    Readable(const Block * x, int64_t stride, int count) {
        for (int i = 0; i < ROWS; i++) row[i] = x + std::min(i, count - 1) * stride;
    }
};

// Calls take(v, weights 32v to 32v + 31 of ROWS rows side by side) for all eight.
template <class Type, typename Take>
INLINE void quants(const typename Type::Block * const (&row)[ROWS], Take take) {
    uint8x16_t high[2][4] = {};
    each<4>([&](auto quarter) __attribute__((always_inline)) {
        int8x16_t weights[2][2][4];
        for (int part = 0; part < 2; part++) {
            uint8x16_t low[4];
            side_by_side<Type::low>(row, quarter, part, low);
            if constexpr (Type::SHARE_HIGH > 0) {
                if (quarter % Type::SHARE_HIGH == 0) side_by_side<Type::high>(row, quarter, part, high[part]);
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
// columns of y, in groups of N; of the rows, `count` are wanted. `next` will be read
// after them.
template <class Type, int COLUMNS, int N>
void few(int64_t blocks, const typename Type::Block * x, int64_t x_stride, const typename Type::Block * next,
         const GroupOf<Type, N> * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    float32x4_t sum[COLUMNS];
    for (int j = 0; j < COLUMNS; j++) sum[j] = vdupq_n_f32(0);
    for (int64_t block = 0; block < blocks; block++) {
        prefetch(next + ROWS * block, ROWS);
        const Readable<typename Type::Block> readable(x + block, x_stride, count);
        const typename Type::Factors factors(readable.row);
        const auto column = [=](int j) __attribute__((always_inline)) -> const typename Type::Column & {
            return y[j / N * y_stride + block].columns[j % N];
        };
        int32x4_t scaled[COLUMNS];
        for (int j = 0; j < COLUMNS; j++) scaled[j] = vdupq_n_s32(0);
        quants<Type>(readable.row, [&](auto v, const int8x16_t (&weights)[2][4]) __attribute__((always_inline)) {
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
            sum[j] = add_block<Type>(sum[j], factors.d, factors.dmin, factors.mins, column(j), scaled[j]);
        }
    }
    for (int j = 0; j < COLUMNS; j++) {
        for (int i = 0; i < count; i++) out[j * out_stride + i] = sum[j][i];
    }
}

// At most ROWS rows and GROUPS times four columns.
template <class Type, int GROUPS, typename... Rest> void fours(Rest... rest) { few<Type, 4 * GROUPS, 4>(rest...); }

// At most ROWS rows and COLUMNS columns that are not in groups.
template <class Type, int COLUMNS>
void rows(int64_t blocks, const typename Type::Block * x, int64_t x_stride, const typename Type::Block * next,
          const typename Type::Column * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    few<Type, COLUMNS, 1>(blocks, x, x_stride, next, (const GroupOf<Type, 1> *) y, y_stride, out, out_stride, count);
}

// `count` rows for the kernel of lanes, which computes on with ROWS.
template <class Type>
void unpack(int count, const typename Type::Block * x, int64_t x_stride, Unpacked & to) {
    const Readable<typename Type::Block> readable(x, x_stride, count);
    const typename Type::Factors factors(readable.row);
    each<Type::SCALES>([&](auto at) { vst1q_s32(to.scales[at], byte(factors.scales[at / 4], at % 4)); });
    for (int k = 0; k < Type::SCALES / 4; k++) vst1q_u32(to.mins[k], factors.mins[k]);
    vst1q_f32(to.d, factors.d);
    vst1q_f32(to.dmin, factors.dmin);
    quants<Type>(readable.row, [&](auto v, const int8x16_t (&weights)[2][4]) {
        for (int part = 0; part < 2; part++) {
            for (int k = 0; k < 4; k++) vst1q_s8(to.quants[8 * v + 4 * part + k][0], weights[part][k]);
        }
    });
}

// Adds a block of ROWS rows and GROUPS times LANES columns.
template <class Type, int GROUPS>
void lanes(const Unpacked & x, const GroupOf<Type, LANES> * y, int64_t y_stride, Tile * to) {
    constexpr int EACH = 16 / Type::SCALES;
    for (int g = 0; g < GROUPS; g++) {
        const auto & columns = y[g * y_stride].columns;
        int32x4_t scaled[LANES];
        for (int32x4_t & of_column : scaled) of_column = vdupq_n_s32(0);
        for (int at = 0; at < Type::SCALES; at++) {
            int8x16_t weights[EACH][4];
            for (int part = 0; part < EACH; part++) {
                for (int k = 0; k < 4; k++) weights[part][k] = vld1q_s8(x.quants[4 * (EACH * at + part) + k][0]);
            }
            const int32x4_t scale = vld1q_s32(x.scales[at]);
            for (int j = 0; j < LANES; j++) {
                int32x4_t sum = vdupq_n_s32(0);
                for (int part = 0; part < EACH; part++) {
                    sum = dot(sum, weights[part], columns[j].quants + 16 * (EACH * at + part));
                }
                scaled[j] = vmlaq_s32(scaled[j], sum, scale);
            }
        }
        uint32x4_t mins[Type::SCALES / 4];
        for (int k = 0; k < Type::SCALES / 4; k++) mins[k] = vld1q_u32(x.mins[k]);
        for (int j = 0; j < LANES; j++) {
            float32x4_t & sum = to[g].of_column[j];
            sum = add_block<Type>(sum, vld1q_f32(x.d), vld1q_f32(x.dmin), mins, columns[j], scaled[j]);
        }
    }
}

} // namespace

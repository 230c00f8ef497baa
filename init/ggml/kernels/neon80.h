// Products of quantised weights with one or more columns of activations, NEON without
// dot products of bytes.
//
// Weights are multiplied in lanes of 16 bits, eight at once. An emulator has an instruction
// or two for that, but calls a function for each float, for products wider than their
// factors, and for most of what goes across a vector: there are few of these.
//
// A lane holds two neighbours, w0 + 256 w1. It times a0, and w1 times a1 - 256 a0, are
// w0 a0 + w1 a1 modulo 2^16: columns are kept so, and one shift separates the weights.
// What overflows on the way is no harm if the sum fits.
//
// Each block is summed in integers, and the blocks are added up in their order with the
// same operations on the same floats: a token's logits do not depend on how many are
// evaluated beside it.

#pragma once

#include <arm_neon.h>

#include "products.h"

#define INLINE __attribute__((always_inline)) inline

namespace {

// No type has a kernel of lanes.
constexpr int LANES = 8;
constexpr int64_t FEWEST_LANES = INT64_MAX;

struct Tile {
    float at(int row, int column) const;
};

template <class Type, typename... Rest> void unpack(Rest... rest);
template <class Type, int GROUPS, typename... Rest> void lanes(Rest... rest);

template <class Column> void prepare(Column *, int64_t) {}

// A half whose bits are moved to where a float has them is 2^-112 times what it was, if it
// is finite: not converted by an instruction, for which an emulator takes the time of a
// hundred others. Columns make up for as much of it as cannot overflow, sums for the rest.
constexpr float OF_COLUMNS = 0x1p64f, OF_SUMS = 0x1p48f;
template <class Type> constexpr float OF_SUMS_OF = OF_SUMS;

// Of 16 bytes the first ones of neighbours, and the second ones.
struct Halves {
    uint16x8_t first, second;

    INLINE explicit Halves(const int8_t * from) : Halves(vld1q_s8(from)) {}

    INLINE explicit Halves(int8x16_t bytes) {
        const int16x8_t both = vreinterpretq_s16_s8(bytes);
        first = vreinterpretq_u16_s16(vshlq_n_s16(both, 8) >> 8);
        second = vreinterpretq_u16_s16(both >> 8);
    }
};

// 16 activations for weights whose first neighbours are not separated.
INLINE void lay(const int8_t * from, uint16_t * to) {
    const Halves halves(from);
    vst1q_u16(to, halves.first);
    vst1q_u16(to + 8, halves.second - (halves.first << 8));
}

// The same for weights that are.
INLINE void lay_separated(const int8_t * from, uint16_t * to) {
    const Halves halves(from);
    vst1q_u16(to, halves.first);
    vst1q_u16(to + 8, halves.second);
}

// 32 activations for four nibbles a lane, of which all but the first one are shifted
// away in three steps: each is times what the one before it has too much.
INLINE void lay_nibbles(const int8_t * from, uint16_t * to) {
    const Halves low(from), high(from + 16);
    const uint16x8_t of_nibble[4] = { low.first, high.first, low.second, high.second };
    vst1q_u16(to, of_nibble[0]);
    for (int k = 1; k < 4; k++) vst1q_u16(to + 8 * k, of_nibble[k] - (of_nibble[k - 1] << 4));
}

// A block of a column; the sums are those that SUMS factors of a row belong to.
template <int SUMS> struct Column256 {
    using Quantised = block_q8_K;

    uint16_t quants[QK_K];
    int16_t sums[16];
    float d;

    void set(const block_q8_K & from) {
        d = OF_COLUMNS * from.d;
        for (int at = 0; at < QK_K; at += 16) lay(from.qs + at, quants + at);
        for (int i = 0; i < 16; i++) {
            // Four of eight where a row has the scales, four where it has the mins.
            const int pair = i / 8 * 4 + i % 4;
            sums[i] = SUMS == 16 ? from.bsums[i] : i % 8 < 4 ? 0 : from.bsums[2 * pair] + from.bsums[2 * pair + 1];
        }
    }
};

// With 32 activations a block, for weights of four bits or of eight.
template <class Block, bool NIBBLES> struct Column32 {
    using Quantised = Block;

    uint16_t quants[32];
    // s: what a row's minimum is times, of Q8_1.
    float d, s;
    // Of the activations.
    int32_t sum;

    void set(const Block & from) {
        ggml_half halves[2];
        memcpy(halves, &from, sizeof halves);
        d = OF_COLUMNS * ggml_compute_fp16_to_fp32(halves[0]);
        s = OF_COLUMNS * ggml_compute_fp16_to_fp32(halves[1]);
        sum = vaddlvq_s8(vld1q_s8(from.qs)) + vaddlvq_s8(vld1q_s8(from.qs + 16));
        if (NIBBLES) {
            lay_nibbles(from.qs, quants);
        } else {
            for (int at = 0; at < 32; at += 16) lay_separated(from.qs + at, quants + at);
        }
    }
};

template <class Column, int N> struct Group {
    Column columns[N];

    void pack(const typename Column::Quantised (&from)[N]) {
        for (int j = 0; j < N; j++) columns[j].set(from[j]);
    }
};

// Lane i is the sum of v[i]'s.
INLINE int32x4_t sums(const int32x4_t (&v)[ROWS]) {
    int64x2_t pairs[2];
    for (int i = 0; i < 2; i++) {
        pairs[i] = vreinterpretq_s64_s32(vtrn1q_s32(v[2 * i], v[2 * i + 1]) + vtrn2q_s32(v[2 * i], v[2 * i + 1]));
    }
    return vreinterpretq_s32_s64(vzip1q_s64(pairs[0], pairs[1])) + vreinterpretq_s32_s64(vzip2q_s64(pairs[0], pairs[1]));
}

// The low and the high one of each lane's halves, with their bits moved.
INLINE float32x4_t moved(uint32x4_t high) {
    return vreinterpretq_f32_s32((vreinterpretq_s32_u32(high) >> 3) & (int32_t) 0x8fffe000);
}
INLINE float32x4_t high_half(uint32x4_t v) { return moved(v); }
INLINE float32x4_t low_half(uint32x4_t v) { return moved(v << 16); }

// sum plus the products of 16 weights, where they are separated.
INLINE uint16x8_t add_products(uint16x8_t sum, uint16x8_t first, uint16x8_t second, const uint16_t * column) {
    return vmlaq_u16(vmlaq_u16(sum, first, vld1q_u16(column)), second, vld1q_u16(column + 8));
}

const uint16x8_t NONE = {};

// 16 weights as they are, and the second ones of neighbours.
struct Pairs {
    uint16x8_t both, second;

    Pairs() = default;
    INLINE explicit Pairs(uint8x16_t weights) : both(vreinterpretq_u16_u8(weights)), second(both >> 8) {}
};

// Of `count` rows, `stride` blocks apart, ROWS that can be read.
template <class Block> struct Readable {
    const Block * row[ROWS];

    INLINE Readable(const Block * x, int64_t stride, int count) {
        for (int i = 0; i < ROWS; i++) row[i] = x + std::min(i, count - 1) * stride;
    }
};

// Of the sums of ROWS rows those that are wanted.
template <class Type, int COLUMNS>
INLINE void store(const float32x4_t (&sum)[COLUMNS], float * out, int64_t out_stride, int count) {
    for (int j = 0; j < COLUMNS; j++) {
        float of_rows[ROWS];
        vst1q_f32(of_rows, OF_SUMS_OF<Type> * sum[j]);
        for (int i = 0; i < count; i++) out[j * out_stride + i] = of_rows[i];
    }
}

// --- K-quants: 256 weights a block, integer scales within it ---

template <class Quants, int COUNT> struct OfK {
    using Block = Quants;
    using Column = Column256<COUNT>;
    using Unpacked = Block;
    static constexpr bool HAS_LANES = false;
    // Scales of a block.
    static constexpr int SCALES = COUNT;
};

// Those whose mins have factors of their own; 8 scales and 8 mins, of 6 bits each.
template <class Quants> struct WithMins : OfK<Quants, 8> {
    static constexpr bool HAS_DMIN = true;

    // Four scales and four mins, and the others.
    static INLINE void factors(const Quants & x, int16x8_t (&to)[2]) {
        uint64_t first;
        uint32_t last;
        memcpy(&first, x.scales, sizeof first);
        memcpy(&last, x.scales + sizeof first, sizeof last);
        const uint64_t low = (last | (uint64_t) last << 28) & 0x0f0f0f0f0f0f0f0f;
        const uint64_t high = first >> 2 & 0x3030303030303030;
        to[0] = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(first & 0x3f3f3f3f3f3f3f3f)));
        to[1] = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(low | high)));
    }

    // Which of the factors is scale k.
    static constexpr int scale(int k) { return k / 4 * 8 + k % 4; }

    // d and dmin.
    static INLINE uint32_t halves(const Quants & x) {
        uint32_t halves;
        memcpy(&halves, &x, sizeof halves);
        return halves;
    }

    // Where in the block the k-th sixteen of a quarter are.
    static constexpr int at(int quarter, int k) { return 4 * quarter + k; }
};

struct Q4_K : WithMins<block_q4_K> {
    static INLINE void quarter(const Block & x, int quarter, uint8x16_t (&to)[4]) {
        for (int part = 0; part < 2; part++) {
            const uint8x16_t packed = vld1q_u8(x.qs + 32 * quarter + 16 * part);
            to[part] = packed & 15;
            to[2 + part] = packed >> 4;
        }
    }
};

struct Q5_K : WithMins<block_q5_K> {
    static INLINE void quarter(const Block & x, int quarter, uint8x16_t (&to)[4]) {
        const uint8x16_t fifth = vdupq_n_u8(16);
        const uint8_t * low = x.qs + 32 * quarter;
        const uint8x16_t packed[2] = { vld1q_u8(low), vld1q_u8(low + 16) };
        const uint8x16_t bits[2] = { vld1q_u8(x.qh), vld1q_u8(x.qh + 16) };
        for (int part = 0; part < 2; part++) {
            // Bits 2 quarter and 2 quarter + 1 of each byte are moved to bit 4, in lanes
            // of 16 bits: what comes from a neighbour is not taken.
            const uint16x8_t high = vreinterpretq_u16_u8(bits[part]);
            const auto moved = [&](int by) { return vreinterpretq_u8_u16(by >= 0 ? high << by : high >> -by); };
            to[part] = vbslq_u8(fifth, moved(4 - 2 * quarter), packed[part] & 15);
            to[2 + part] = vbslq_u8(fifth, moved(3 - 2 * quarter), packed[part] >> 4);
        }
    }
};

struct Q6_K : OfK<block_q6_K, 16> {
    static constexpr bool HAS_DMIN = false;

    static INLINE void factors(const Block & x, int16x8_t (&to)[2]) {
        const int8x16_t all = vld1q_s8(x.scales);
        to[0] = vmovl_s8(vget_low_s8(all));
        to[1] = vmovl_high_s8(all);
    }

    static constexpr int scale(int k) { return k; }

    static INLINE uint32_t halves(const Block & x) { return x.d; }

    static constexpr int at(int quarter, int k) { return quarter / 2 * 8 + quarter % 2 + 2 * k; }

    static INLINE void quarter(const Block & x, int quarter, uint8x16_t (&to)[4]) {
        const uint8x16_t top = vdupq_n_u8(48);
        const uint8_t * low = x.ql + quarter / 2 * 64 + quarter % 2 * 16;
        const uint8x16_t packed[2] = { vld1q_u8(low), vld1q_u8(low + 32) };
        // Pairs of bits are moved to bit 4, as with Q5_K.
        const uint16x8_t high = vreinterpretq_u16_u8(vld1q_u8(x.qh + quarter / 2 * 32 + quarter % 2 * 16));
        to[0] = vbslq_u8(top, vreinterpretq_u8_u16(high << 4), packed[0] & 15);
        to[1] = vbslq_u8(top, vreinterpretq_u8_u16(high << 2), packed[1] & 15);
        to[2] = vbslq_u8(top, vreinterpretq_u8_u16(high), packed[0] >> 4);
        to[3] = vbslq_u8(top, vreinterpretq_u8_u16(high >> 2), packed[1] >> 4);
    }
};

// sum plus eight products, times factor k.
INLINE int32x4_t add_scaled(int32x4_t sum, uint16x8_t products, const int16x8_t (&factors)[2], int k) {
    const int16x8_t exact = vreinterpretq_s16_u16(products);
    sum = vmlal_laneq_s16(sum, vget_low_s16(exact), factors[k / 8], k % 8);
    return vmlal_high_laneq_s16(sum, exact, factors[k / 8], k % 8);
}

// The products of a row's mins with a column's sums. Those of Q6_K are its scales.
template <class Type> INLINE int32x4_t of_mins(const int16x8_t (&factors)[2], const int16_t * sums) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int k = 0; k < 2; k++) {
        const int16x8_t column = vld1q_s16(sums + 8 * k);
        if (!Type::HAS_DMIN) sum = vmlal_s16(sum, vget_low_s16(factors[k]), vget_low_s16(column));
        sum = vmlal_high_s16(sum, factors[k], column);
    }
    return sum;
}

// sum plus a block's integer sums of ROWS rows with a column.
template <class Type>
INLINE float32x4_t add_block(float32x4_t sum, float32x4_t d, float32x4_t dmin, float column, int32x4_t scaled,
                             int32x4_t mins) {
    // Weights below zero are stored with 32 added.
    if (!Type::HAS_DMIN) scaled = scaled - (mins << 5);
    sum = vfmaq_f32(sum, vmulq_n_f32(d, column), vcvtq_f32_s32(scaled));
    return Type::HAS_DMIN ? vfmsq_f32(sum, vmulq_n_f32(dmin, column), vcvtq_f32_s32(mins)) : sum;
}

// Rows that are taken at once: as many as there are registers for.
template <int COLUMNS> constexpr int AT_ONCE = COLUMNS == 1 ? ROWS : 2;

// The sums of a block of some rows, the first of which is row `at`, with COLUMNS columns.
//
// Lanes of 16 bits hold the products of two or four weights until they are widened:
// with weights up to 63 and activations up to 127, two are 16002; with weights up to
// 31, four are 15748.
template <class Type, int COLUMNS, typename Column>
INLINE void some_of_256(const typename Type::Block * const * row, Column column, int at,
                        int32x4_t (&scaled)[COLUMNS][ROWS], int32x4_t (&mins)[COLUMNS][ROWS]) {
    constexpr int SCALES = Type::SCALES;
    int16x8_t factors[AT_ONCE<COLUMNS>][2];
    int32x4_t sum[COLUMNS][AT_ONCE<COLUMNS>] = {};
    for (int i = 0; i < AT_ONCE<COLUMNS>; i++) {
        Type::factors(*row[i], factors[i]);
        for (int j = 0; j < COLUMNS; j++) mins[j][at + i] = of_mins<Type>(factors[i], column(j).sums);
    }
#pragma GCC unroll 4
    for (int quarter = 0; quarter < 4; quarter++) {
        uint8x16_t bytes[AT_ONCE<COLUMNS>][4];
        for (int i = 0; i < AT_ONCE<COLUMNS>; i++) Type::quarter(*row[i], quarter, bytes[i]);
#pragma GCC unroll 2
        for (int half = 0; half < 4; half += 2) {
            Pairs weights[AT_ONCE<COLUMNS>][2];
            for (int i = 0; i < AT_ONCE<COLUMNS>; i++) {
                for (int k = 0; k < 2; k++) weights[i][k] = Pairs(bytes[i][half + k]);
            }
            for (int j = 0; j < COLUMNS; j++) {
                for (int i = 0; i < AT_ONCE<COLUMNS>; i++) {
                    uint16x8_t products = NONE;
#pragma GCC unroll 2
                    for (int k = 0; k < 2; k++) {
                        const int sixteen = Type::at(quarter, half + k), scale = sixteen * SCALES / 16;
                        products = add_products(products, weights[i][k].both, weights[i][k].second, column(j).quants + 16 * sixteen);
                        if (SCALES == 8 && k == 0) continue;
                        sum[j][i] = add_scaled(sum[j][i], products, factors[i], Type::scale(scale));
                        products = NONE;
                    }
                }
            }
        }
        // Left to itself GCC loads all that is read.
        __asm__("" ::: "memory");
    }
    for (int j = 0; j < COLUMNS; j++) {
        for (int i = 0; i < AT_ONCE<COLUMNS>; i++) scaled[j][at + i] = sum[j][i];
    }
}

// out[j * out_stride + i] for ROWS rows of x, `x_stride` blocks apart, and COLUMNS
// columns of y, in groups of N; of the rows, `count` are wanted. `next`: see Ahead.
// What GCC does without these options needs more registers than there are.
template <class Type, int COLUMNS, int N>
__attribute__((optimize("no-schedule-insns", "rename-registers")))
void few_of_256(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
                const GroupOf<Type, N> * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    float32x4_t sum[COLUMNS] = {};
    for (int64_t block = 0; block < blocks; block++) {
        prefetch_rows(next, block);
        const Readable<typename Type::Block> readable(x + block, x_stride, count);
        const auto column = [=](int j) -> const typename Type::Column & {
            return y[j / N * y_stride + block].columns[j % N];
        };
        uint32x4_t halves = {};
        int32x4_t scaled[COLUMNS][ROWS], mins[COLUMNS][ROWS];
        for (int i = 0; i < ROWS; i++) halves[i] = Type::halves(*readable.row[i]);
        for (int i = 0; i < ROWS; i += AT_ONCE<COLUMNS>) some_of_256<Type, COLUMNS>(readable.row + i, column, i, scaled, mins);
        const float32x4_t d = low_half(halves), dmin = high_half(halves);
        for (int j = 0; j < COLUMNS; j++) {
            sum[j] = add_block<Type>(sum[j], d, dmin, column(j).d, sums(scaled[j]), sums(mins[j]));
        }
    }
    store<Type>(sum, out, out_stride, count);
}

// --- Q4_0, Q4_1, Q8_0 and MXFP4: 32 weights a block, one scale ---

template <class Quants, class Activations, bool NIBBLES> struct Of32 {
    using Block = Quants;
    using Column = Column32<Activations, NIBBLES>;
    using Unpacked = Block;
    static constexpr bool HAS_LANES = false;
    // Whether there is something to add that the activations' sum is multiplied with.
    static constexpr bool HAS_MIN = false;
    // What is added to a weight where it is stored.
    static constexpr int OFFSET = 0;

    static INLINE float32x4_t numbers(uint32x4_t halves) { return low_half(halves); }
};

// 32 weights of four bits each, and a column's sums: four products a lane, at most 7620.
template <class Block> struct Nibbles {
    uint16x8_t weights[4];

    INLINE explicit Nibbles(const Block & x) {
        weights[0] = vreinterpretq_u16_u8(vld1q_u8(x.qs));
        for (int k = 1; k < 4; k++) weights[k] = weights[0] >> 4 * k;
    }

    INLINE int32x4_t products(const uint16_t * column) const {
        const uint16x8_t some = add_products(NONE, weights[0], weights[1], column);
        return vpaddlq_s16(vreinterpretq_s16_u16(add_products(some, weights[2], weights[3], column + 16)));
    }
};

struct Q4_0 : Of32<block_q4_0, block_q8_0, true> {
    using Weights = Nibbles<Block>;
    static constexpr int OFFSET = 8;
    static INLINE uint32_t halves(const Block & x) { return x.d; }
};

struct Q4_1 : Of32<block_q4_1, block_q8_1, true> {
    using Weights = Nibbles<Block>;
    static constexpr bool HAS_MIN = true;
    static INLINE uint32_t halves(const Block & x) {
        uint32_t halves;
        memcpy(&halves, &x, sizeof halves);
        return halves;
    }
};

struct Q8_0 : Of32<block_q8_0, block_q8_0, false> {
    // Two products a lane, at most 32512.
    struct Weights {
        uint16x8_t weights[4];

        INLINE explicit Weights(const Block & x) {
            for (int part = 0; part < 2; part++) {
                const Halves halves(x.qs + 16 * part);
                weights[2 * part] = halves.first;
                weights[2 * part + 1] = halves.second;
            }
        }

        INLINE int32x4_t products(const uint16_t * column) const {
            const uint16x8_t some = add_products(NONE, weights[0], weights[1], column);
            const uint16x8_t others = add_products(NONE, weights[2], weights[3], column + 16);
            return vpadalq_s16(vpaddlq_s16(vreinterpretq_s16_u16(some)), vreinterpretq_s16_u16(others));
        }
    };
    static INLINE uint32_t halves(const Block & x) { return x.d; }
};

struct MXFP4 : Of32<block_mxfp4, block_q8_0, false> {
    // Four products a lane, at most 6096.
    struct Weights {
        uint16x8_t weights[4];

        INLINE explicit Weights(const Block & x) {
            const int8x16_t values = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
            const uint8x16_t packed = vld1q_u8(x.qs);
            for (int part = 0; part < 2; part++) {
                const Halves halves(vqtbl1q_s8(values, part == 0 ? packed & 15 : packed >> 4));
                weights[2 * part] = halves.first;
                weights[2 * part + 1] = halves.second;
            }
        }

        INLINE int32x4_t products(const uint16_t * column) const {
            const uint16x8_t some = add_products(NONE, weights[0], weights[1], column);
            return vpaddlq_s16(vreinterpretq_s16_u16(add_products(some, weights[2], weights[3], column + 16)));
        }
    };
    static INLINE uint32_t halves(const Block & x) { return x.e; }

    // A power of two.
    static INLINE float32x4_t numbers(uint32x4_t exponents) { return vreinterpretq_f32_u32(exponents << 23); }
};

// Weights are twice what they stand for, and no bits of a half were moved.
template <> inline constexpr float OF_SUMS_OF<MXFP4> = 0.5f / OF_COLUMNS;

// As few_of_256.
template <class Type, int COLUMNS, int N>
void few_of_32(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
               const GroupOf<Type, N> * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    float32x4_t sum[COLUMNS] = {};
    for (int64_t block = 0; block < blocks; block++) {
        prefetch_rows(next, block);
        const Readable<typename Type::Block> readable(x + block, x_stride, count);
        uint32x4_t halves = {};
        int32x4_t products[COLUMNS][ROWS];
        for (int i = 0; i < ROWS; i++) {
            const typename Type::Weights weights(*readable.row[i]);
            halves[i] = Type::halves(*readable.row[i]);
            for (int j = 0; j < COLUMNS; j++) {
                products[j][i] = weights.products(y[j / N * y_stride + block].columns[j % N].quants);
            }
        }
        const float32x4_t d = Type::numbers(halves), m = high_half(halves);
        for (int j = 0; j < COLUMNS; j++) {
            const typename Type::Column & column = y[j / N * y_stride + block].columns[j % N];
            const int32x4_t all = sums(products[j]) - Type::OFFSET * column.sum;
            sum[j] = vfmaq_f32(sum[j], vmulq_n_f32(d, column.d), vcvtq_f32_s32(all));
            if (Type::HAS_MIN) sum[j] = vfmaq_n_f32(sum[j], m, column.s);
        }
    }
    store<Type>(sum, out, out_stride, count);
}

// --- All kinds ---

template <class Type, int COLUMNS, int N, typename... Rest> void few(Rest... rest) {
    if constexpr (std::is_base_of_v<OfK<typename Type::Block, 8>, Type> || std::is_base_of_v<OfK<typename Type::Block, 16>, Type>) {
        few_of_256<Type, COLUMNS, N>(rest...);
    } else {
        few_of_32<Type, COLUMNS, N>(rest...);
    }
}

// At most ROWS rows and GROUPS times four columns.
template <class Type, int GROUPS>
void fours(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
           const GroupOf<Type, 4> * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    for (int g = 0; g < GROUPS; g++) {
        few<Type, 4, 4>(blocks, x, x_stride, next, y + g * y_stride, y_stride, out + 4 * g * out_stride, out_stride, count);
    }
}

// At most ROWS rows and COLUMNS columns that are not in groups.
template <class Type, int COLUMNS>
void rows(int64_t blocks, const typename Type::Block * x, int64_t x_stride, Ahead<typename Type::Block> next,
          const typename Type::Column * y, int64_t y_stride, float * out, int64_t out_stride, int count) {
    few<Type, COLUMNS, 1>(blocks, x, x_stride, next, (const GroupOf<Type, 1> *) y, y_stride, out, out_stride, count);
}

} // namespace

// Products of K-quants with many columns on processors with AMX, which multiplies 16 columns
// by 16 rows of 64 weights at once.
//
// A strip's words of four weights (avx512.h) are what the processor wants of a tile of
// weights. The sums are those of strips, integer by integer, and are added up in the same
// order. Scales are multiplied into the weights, which takes two bytes, so that a block is
// summed in one go. (Blocks of 32 weights, each with a float, leave little to be gained.)
//
// While the processor multiplies tiles, what came from those before is added up: that takes
// other parts of it.

#pragma once

#include "avx512_32.h"
#include "matrices.h"

// Whether this process may use tiles: src/tiles.rs, which asks once.
extern "C" bool zosia_has_tiles();

namespace {

// Columns of a tile, of 64 bytes a row.
constexpr int TILE = 16;
constexpr int TILE_BYTES = 64;

// --- Instructions: GCC's own functions do not tell what memory they read ---

// Tiles 0 to 3 are of sums, 4 and 5 of columns, 6 and 7 of weights.
struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_row[16] = { 64, 64, 64, 64, 64, 64, 64, 64 };
    uint8_t rows[16] = { TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE };
};

void configure_tiles() {
    static constexpr TileConfig config;
    asm volatile("ldtilecfg %0" : : "m"(config));
}

// What is in use is saved whenever the thread is put aside.
void release_tiles() { asm volatile("tilerelease"); }

template <int T> void clear_tile() { asm volatile("tilezero %%tmm%c0" : : "i"(T)); }

template <int T> void load_weights(const __m512i * at) {
    asm volatile("tileloadd (%0,%1), %%tmm%c2" : : "r"(at), "r"(sizeof *at), "i"(T) : "memory");
}

// All of a panel's columns come before one of them is wanted again: the first cache is for
// the weights and sums.
template <int T> void load_columns(const int8_t (&at)[TILE][TILE_BYTES]) {
    asm volatile("tileloaddt1 (%0,%1), %%tmm%c2" : : "r"(at), "r"(sizeof *at), "i"(T) : "memory");
}

template <int T> void store_tile(__m512i (&to)[TILE]) {
    asm volatile("tilestored %%tmm%c2, (%0,%1)" : : "r"(to), "r"(sizeof *to), "i"(T) : "memory");
}

// SUM += COLUMNS times WEIGHTS, which are signed or not.
template <bool SIGNED, int SUM, int COLUMNS, int WEIGHTS> void multiply_tiles() {
    if constexpr (SIGNED) {
        asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUM), "i"(COLUMNS), "i"(WEIGHTS));
    } else {
        asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUM), "i"(COLUMNS), "i"(WEIGHTS));
    }
}

// --- Columns ---

// A block of TILE columns, in as many bytes.
struct TileColumns {
    int8_t quants[QK_K / TILE_BYTES][TILE][TILE_BYTES];
    int16_t sums[TILE][QK_K / 16];
    float d[TILE];

    void put(int j, const block_q8_K & y) {
        for (int k = 0; k < QK_K / TILE_BYTES; k++) memcpy(quants[k][j], y.qs + TILE_BYTES * k, TILE_BYTES);
        memcpy(sums[j], y.bsums, sizeof y.bsums);
        d[j] = y.d;
    }
};
static_assert(sizeof(TileColumns) == TILE * sizeof(block_q8_K));

// --- Steps: a strip with two tiles of columns, or with one ---

// A strip's weights times their scales: low + (high << SHIFT).
template <class Type> struct Scaled : StripFactors {
    static constexpr bool SIGNED = !Type::HAS_DMIN;
    static constexpr int SHIFT = SIGNED ? 7 : 3;

    __m512i low[QK_K / 4], high[QK_K / 4];

    void put(int k, __m512i quants) {
        // In both halves of each lane.
        const __m512i once = scales[k / (SIGNED ? 4 : 8)];
        const __m512i scale = _mm512_mask_mov_epi16(_mm512_slli_epi32(once, 16), 0x55555555, once);
        if constexpr (SIGNED) {
            quants = _mm512_sub_epi8(quants, _mm512_set1_epi8(32));
            constexpr __mmask64 ODD = 0xaaaaaaaaaaaaaaaa;
            const __m512i odd = _mm512_mullo_epi16(_mm512_srai_epi16(quants, 8), scale);
            const __m512i even = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(quants, 8), 8), scale);
            const __m512i mask = _mm512_set1_epi8((1 << SHIFT) - 1);
            low[k] = _mm512_and_si512(_mm512_mask_mov_epi8(even, ODD, _mm512_slli_epi16(odd, 8)), mask);
            high[k] = _mm512_mask_mov_epi8(_mm512_srai_epi16(even, SHIFT), ODD, _mm512_slli_epi16(odd, 8 - SHIFT));
        } else {
            // Half a scale's bits leave a product in its byte, which is 31 times 7 at most.
            low[k] = _mm512_mullo_epi16(quants, _mm512_and_si512(scale, _mm512_set1_epi16(7)));
            high[k] = _mm512_mullo_epi16(quants, _mm512_srli_epi16(scale, SHIFT));
        }
    }
};

// low and high with the first tile of columns and with the second.
struct alignas(64) TileSums {
    __m512i low[2][TILE], high[2][TILE];
};

template <class Type> struct Step {
    static constexpr bool SIGNED = Scaled<Type>::SIGNED;

    const Scaled<Type> * x;
    // Of x, which has the next strip when this one is added up.
    __m512i mins[4];
    __m512 d, dmin;
    const TileColumns * y;
    bool two;
    __m512 * sum;

    Step() = default;

    Step(const Scaled<Type> & x, const TileColumns * y, bool two, __m512 * sum)
        : x(&x), d(x.d), dmin(x.dmin), y(y), two(two), sum(sum) {
        std::copy_n(x.mins, 4, mins);
    }

    template <typename Meanwhile> void multiply(TileSums & to, Meanwhile meanwhile) const {
        clear_tile<0>();
        clear_tile<1>();
        clear_tile<2>();
        clear_tile<3>();
#pragma GCC unroll 4
        for (int k = 0; k < QK_K / TILE_BYTES; k++) {
            load_columns<4>(y[0].quants[k]);
            load_weights<6>(x->low + TILE * k);
            load_weights<7>(x->high + TILE * k);
            multiply_tiles<SIGNED, 0, 4, 6>();
            multiply_tiles<SIGNED, 2, 4, 7>();
            if (two) {
                load_columns<5>(y[1].quants[k]);
                multiply_tiles<SIGNED, 1, 5, 6>();
                multiply_tiles<SIGNED, 3, 5, 7>();
            }
            meanwhile(k);
        }
        store_tile<0>(to.low[0]);
        store_tile<1>(to.low[1]);
        store_tile<2>(to.high[0]);
        store_tile<3>(to.high[1]);
    }

    void add(const TileSums & sums, int quarter) const {
        constexpr int COLUMNS = TILE / 2;
        const int tile = quarter / 2, from = quarter % 2 * COLUMNS;
        if (tile == 1 && !two) return;
        const TileColumns & of = y[tile];
        __m512 * const to = sum + TILE * tile + from;
        __m512 column[COLUMNS], all[COLUMNS];
#pragma GCC unroll 8
        for (int j = 0; j < COLUMNS; j++) {
            const __m512i high = _mm512_slli_epi32(sums.high[tile][from + j], Scaled<Type>::SHIFT);
            const __m512i total = _mm512_add_epi32(sums.low[tile][from + j], high);
            column[j] = _mm512_set1_ps(of.d[from + j]);
            all[j] = _mm512_fmadd_ps(_mm512_mul_ps(d, column[j]), _mm512_cvtepi32_ps(total), to[j]);
        }
        if constexpr (Type::HAS_DMIN) {
            __m512i of_mins[COLUMNS];
            for (int j = 0; j < COLUMNS; j++) of_mins[j] = _mm512_setzero_si512();
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                const __m512i weights = mins[k];
#pragma GCC unroll 8
                for (int j = 0; j < COLUMNS; j++) {
                    int32_t pair;
                    memcpy(&pair, of.sums[from + j] + 2 * k, sizeof pair);
                    of_mins[j] = _mm512_dpwssd_epi32(of_mins[j], weights, _mm512_set1_epi32(pair));
                }
            }
#pragma GCC unroll 8
            for (int j = 0; j < COLUMNS; j++) {
                all[j] = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, column[j]), _mm512_cvtepi32_ps(of_mins[j]), all[j]);
            }
        }
#pragma GCC unroll 8
        for (int j = 0; j < COLUMNS; j++) to[j] = all[j];
    }
};

// Steps one after the other, each added up during the next.
template <class Type> struct Steps {
    TileSums sums[2];
    Step<Type> last;
    int count = 0;

    void take(const Step<Type> & step) {
        const TileSums & done = sums[1 - count % 2];
        step.multiply(sums[count % 2], [&](int quarter) {
            if (count > 0) last.add(done, quarter);
        });
        last = step;
        count++;
    }

    void end() {
        for (int quarter = 0; quarter < 4; quarter++) last.add(sums[1 - count % 2], quarter);
    }
};

template <class Type> struct ByTiles {
    using Columns = TileColumns;
    static constexpr int EACH = TILE;

    Scaled<Type> strip;
    Steps<Type> steps;

    void add(const RowsOf<Type> * rows, int strips, int64_t block, const Columns * y, int width, Sums & sum) {
        for (int i = 0; i < strips; i++) {
            unpack_strip({ rows[i], block }, strip);
            for (int j = 0; j < width; j += 2 * TILE) steps.take({ strip, y + j / TILE, j + TILE < width, &sum[i][j] });
        }
    }

    void end() { steps.end(); }
};

} // namespace

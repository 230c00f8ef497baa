// Vectors of floats, of whatever the processor has.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define ZOSIA_VECTORS

namespace {

using Floats = __m512;

Floats load(const float * at) { return _mm512_loadu_ps(at); }
void store(float * at, Floats v) { _mm512_storeu_ps(at, v); }
Floats spread(float x) { return _mm512_set1_ps(x); }
Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
Floats highest(Floats a, Floats b) { return _mm512_max_ps(a, b); }

// Numbers of 16 bits, of which PER_HALVES vectors are read at once.
constexpr int PER_HALVES = 1;
void load(const ggml_half * at, Floats (&to)[PER_HALVES]) {
    to[0] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) at));
}

Floats spread_half(ggml_half x) { return _mm512_cvtph_ps(_mm256_set1_epi16(x)); }

// The same of 8 bits.
constexpr int PER_BYTES = 1;
void load(const int8_t * at, Floats (&to)[PER_BYTES]) {
    to[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) at)));
}

// Lane i is the sum of v[i]'s, whichever i it is by the same additions.
Floats sums(const Floats * v) {
    __m512 fours[4];
    for (int i = 0; i < 4; i++) {
        const __m512 * four = v + 4 * i;
        const __m512 low = _mm512_add_ps(_mm512_unpacklo_ps(four[0], four[1]), _mm512_unpackhi_ps(four[0], four[1]));
        const __m512 high = _mm512_add_ps(_mm512_unpacklo_ps(four[2], four[3]), _mm512_unpackhi_ps(four[2], four[3]));
        fours[i] = _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xee));
    }
    const auto halves = [](__m512 a, __m512 b) {
        return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    };
    return halves(halves(fours[0], fours[1]), halves(fours[2], fours[3]));
}

} // namespace

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#define ZOSIA_VECTORS

namespace {

using Floats = __m256;

Floats load(const float * at) { return _mm256_loadu_ps(at); }
void store(float * at, Floats v) { _mm256_storeu_ps(at, v); }
Floats spread(float x) { return _mm256_set1_ps(x); }
Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
Floats highest(Floats a, Floats b) { return _mm256_max_ps(a, b); }

constexpr int PER_HALVES = 1;
void load(const ggml_half * at, Floats (&to)[PER_HALVES]) {
    to[0] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) at));
}

Floats spread_half(ggml_half x) { return _mm256_cvtph_ps(_mm_set1_epi16(x)); }

constexpr int PER_BYTES = 1;
void load(const int8_t * at, Floats (&to)[PER_BYTES]) {
    to[0] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(at)));
}

Floats sums(const Floats * v) {
    const __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    const __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

} // namespace

#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define ZOSIA_VECTORS

namespace {

using Floats = float32x4_t;

Floats load(const float * at) { return vld1q_f32(at); }
void store(float * at, Floats v) { vst1q_f32(at, v); }
Floats spread(float x) { return vdupq_n_f32(x); }
Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
Floats highest(Floats a, Floats b) { return vmaxq_f32(a, b); }

constexpr int PER_HALVES = 2;
void load(const ggml_half * at, Floats (&to)[PER_HALVES]) {
    const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(at));
    to[0] = vcvt_f32_f16(vget_low_f16(halves));
    to[1] = vcvt_high_f32_f16(halves);
}

Floats spread_half(ggml_half x) { return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(x))); }

constexpr int PER_BYTES = 4;
void load(const int8_t * at, Floats (&to)[PER_BYTES]) {
    const int8x16_t bytes = vld1q_s8(at);
    const int16x8_t halves[2] = { vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes) };
    for (int i = 0; i < 2; i++) {
        to[2 * i] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(halves[i])));
        to[2 * i + 1] = vcvtq_f32_s32(vmovl_high_s16(halves[i]));
    }
}

Floats sums(const Floats * v) { return vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])); }

} // namespace
#endif

#ifdef ZOSIA_VECTORS
namespace {

constexpr int LANES = sizeof(Floats) / sizeof(float);

template <typename Reduce> float reduce(Floats v, Reduce reduce) {
    float of_lanes[LANES];
    store(of_lanes, v);
    // In halves, so that what is added first does not wait.
    for (int count = LANES / 2; count > 0; count /= 2) {
        for (int i = 0; i < count; i++) of_lanes[i] = reduce(of_lanes[i], of_lanes[count + i]);
    }
    return of_lanes[0];
}

float sum(Floats v) {
    return reduce(v, [](float a, float b) { return a + b; });
}

float highest(Floats v) {
    return reduce(v, [](float a, float b) { return std::max(a, b); });
}

} // namespace
#endif

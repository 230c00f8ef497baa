// Attention of passes of few tokens. Where a single token attends to more than 512,
// ggml splits them among the threads and adds up the parts: the result depends on
// the number of threads, and differs from that of the same token in a wider pass.
// Heads are enough to share.

#define ggml_compute_forward_flash_attn_ext upstream_flash_attn_ext
#include "ops.cpp"
#undef ggml_compute_forward_flash_attn_ext

#include "pool.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(__AVX512F__)
#define ZOSIA_ATTENTION

namespace {

// Positions that are weighed at once: what they were before does not change when
// tokens are added.
constexpr int POSITIONS = 64;

constexpr int WIDTH_MAX = 256;

__m256 eight(const float * at) { return _mm256_loadu_ps(at); }
__m256 eight(const ggml_fp16_t * at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) at)); }

float sum(__m256 v) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

float max(__m256 v) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// Rows of keys or values, `stride` elements apart.
template <typename Element> struct Rows {
    const Element * at;
    int64_t stride;

    const Element * row(int i) const { return at + i * stride; }
};

// scores[i] = query times key i, for `count` keys rounded up to fours.
template <typename Element>
void multiply(int64_t width, const float * query, Rows<Element> keys, int count, float * scores) {
    for (int i = 0; i < count; i += 4) {
        const Element * key[4];
        __m256 total[4];
        for (int j = 0; j < 4; j++) {
            key[j] = keys.row(std::min(i + j, count - 1));
            total[j] = _mm256_setzero_ps();
        }
        for (int64_t at = 0; at < width; at += 8) {
            const __m256 part = _mm256_loadu_ps(query + at);
            for (int j = 0; j < 4; j++) total[j] = _mm256_fmadd_ps(part, eight(key[j] + at), total[j]);
        }
        const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(total[0], total[1]), _mm256_hadd_ps(total[2], total[3]));
        _mm_store_ps(scores + i, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
    }
}

// sum = sum * kept + the values' sum, each times its weight, for N vectors from
// element `from` on.
template <int N, typename Element>
void add(const float * weights, Rows<Element> values, int64_t from, int count, float kept, float * sum) {
    __m256 total[N];
    for (int d = 0; d < N; d++) total[d] = _mm256_mul_ps(_mm256_loadu_ps(sum + from + 8 * d), _mm256_set1_ps(kept));
    for (int i = 0; i < count; i++) {
        const __m256 weight = _mm256_set1_ps(weights[i]);
        const Element * value = values.row(i) + from;
        for (int d = 0; d < N; d++) total[d] = _mm256_fmadd_ps(weight, eight(value + 8 * d), total[d]);
    }
    for (int d = 0; d < N; d++) _mm256_storeu_ps(sum + from + 8 * d, total[d]);
}

// What a token has attended to so far: its values' sum with weights relative to the
// highest score, and the sum of these weights.
struct Query {
    float max;
    float weights;
    float sum[WIDTH_MAX];
};

// Adds `count` positions. masked: what is to be added to their scores, or null.
template <typename Element>
void attend(Query & query, const float * of_query, int64_t key_width, Rows<Element> keys, int64_t value_width,
            Rows<Element> values, int count, const ggml_fp16_t * masked, float scale, float softcap) {
    alignas(32) float weights[POSITIONS];
    multiply(key_width, of_query, keys, count, weights);
    for (int i = count; i < POSITIONS; i++) weights[i] = -INFINITY;
    for (int i = 0; i < count; i++) {
        weights[i] *= scale;
        if (softcap != 0) weights[i] = softcap * tanhf(weights[i]);
    }
    __m256 highest = _mm256_set1_ps(query.max);
    for (int i = 0; i < POSITIONS; i += 8) {
        __m256 score = _mm256_load_ps(weights + i);
        if (masked && i + 8 <= count) {
            score = _mm256_add_ps(score, eight(masked + i));
        } else if (masked && i < count) {
            ggml_fp16_t some[8] = {};
            memcpy(some, masked + i, (count - i) * sizeof *some);
            score = _mm256_add_ps(score, eight(some));
        }
        _mm256_store_ps(weights + i, score);
        highest = _mm256_max_ps(highest, score);
    }
    const float max = ::max(highest);
    if (max == -INFINITY) return;
    __m256 total = _mm256_setzero_ps();
    for (int i = 0; i < POSITIONS; i += 8) {
        const __m256 weight = ggml_v_expf(_mm256_sub_ps(_mm256_load_ps(weights + i), _mm256_set1_ps(max)));
        _mm256_store_ps(weights + i, weight);
        total = _mm256_add_ps(total, weight);
    }
    const float kept = query.max == max ? 1 : expf(query.max - max);
    query.max = max;
    query.weights = query.weights * kept + sum(total);
    int64_t d = 0;
    for (; d + 64 <= value_width; d += 64) add<8>(weights, values, d, count, kept, query.sum);
    for (; d + 32 <= value_width; d += 32) add<4>(weights, values, d, count, kept, query.sum);
    for (; d < value_width; d += 8) add<1>(weights, values, d, count, kept, query.sum);
}

// The rows as numbers of 32 bits, in `to`.
Rows<float> unpack(Rows<ggml_fp16_t> rows, int64_t width, int count, float * to) {
    for (int i = 0; i < count; i++) {
        for (int64_t at = 0; at < width; at += 8) _mm256_storeu_ps(to + i * width + at, eight(rows.row(i) + at));
    }
    return { to, width };
}

// One head of one sequence, `tokens` of the pass from `first` on.
void attend(ggml_tensor * dst, int64_t head, int64_t sequence, int64_t first, int64_t tokens) {
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];
    const ggml_tensor * mask = dst->src[3];
    const ggml_tensor * sinks = dst->src[4];
    float parameters[3];
    memcpy(parameters, dst->op_params, sizeof parameters);
    const float softcap = parameters[2];
    const float scale = softcap == 0 ? parameters[0] : parameters[0] / softcap;

    const auto at = [](const ggml_tensor * t, int64_t i1, int64_t i2, int64_t i3) {
        return (const char *) t->data + i1 * t->nb[1] + i2 * t->nb[2] + i3 * t->nb[3];
    };
    const auto rows = [&](const ggml_tensor * t, int64_t from) {
        const char * first = at(t, from, head / (q->ne[2] / t->ne[2]), sequence / (q->ne[3] / t->ne[3]));
        return Rows<ggml_fp16_t>{ (const ggml_fp16_t *) first, (int64_t) (t->nb[1] / sizeof(ggml_fp16_t)) };
    };
    const auto prefetch = [](Rows<ggml_fp16_t> rows, int64_t width, int64_t count) {
        for (int64_t i = 0; i < count; i++) {
            for (int64_t at = 0; at < width; at += 32) _mm_prefetch((const char *) (rows.row(i) + at), _MM_HINT_T0);
        }
    };
    const int64_t key_width = k->ne[0], value_width = v->ne[0], positions = k->ne[1];

    Query query[ZOSIA_PASS_TOKENS];
    for (int64_t j = 0; j < tokens; j++) {
        query[j].max = -INFINITY;
        query[j].weights = 0;
        memset(query[j].sum, 0, value_width * sizeof(float));
    }
    for (int64_t from = 0; from < positions; from += POSITIONS) {
        const ggml_fp16_t * masked[ZOSIA_PASS_TOKENS];
        int counts[ZOSIA_PASS_TOKENS], count = 0;
        for (int64_t j = 0; j < tokens; j++) {
            masked[j] = nullptr;
            counts[j] = std::min<int64_t>(POSITIONS, positions - from);
            if (mask) {
                const char * of_token = at(mask, first + j, head % mask->ne[2], sequence % mask->ne[3]);
                masked[j] = (const ggml_fp16_t *) of_token + from;
                while (counts[j] > 0 && masked[j][counts[j] - 1] == 0xfc00) counts[j]--; // -infinity
            }
            count = std::max(count, counts[j]);
        }
        const Rows<ggml_fp16_t> keys = rows(k, from), values = rows(v, from);
        prefetch(values, value_width, count);
        const int64_t more = std::clamp<int64_t>(positions - from - POSITIONS, 0, POSITIONS);
        prefetch(rows(k, from + POSITIONS), key_width, more);
        const auto all = [&](auto keys, auto values) {
            for (int64_t j = 0; j < tokens; j++) {
                if (counts[j] == 0) continue;
                attend(query[j], (const float *) at(q, first + j, head, sequence), key_width, keys, value_width, values,
                       counts[j], masked[j], scale, softcap);
            }
        };
        if (tokens == 1) {
            all(keys, values);
        } else {
            alignas(32) float of_keys[POSITIONS * WIDTH_MAX], of_values[POSITIONS * WIDTH_MAX];
            all(unpack(keys, key_width, count, of_keys), unpack(values, value_width, count, of_values));
        }
    }
    for (int64_t j = 0; j < tokens; j++) {
        // A sink takes its share and gives nothing.
        const float sink = sinks ? ((const float *) sinks->data)[head] : -INFINITY;
        const float max = std::max(query[j].max, sink);
        const float kept = max == -INFINITY ? 0 : expf(query[j].max - max);
        const float weights = query[j].weights * kept + (sinks ? expf(sink - max) : 0);
        const float share = weights == 0 ? 0 : kept / weights;
        char * out = (char *) dst->data + head * dst->nb[1] + (first + j) * dst->nb[2] + sequence * dst->nb[3];
        for (int64_t d = 0; d < value_width; d++) ((float *) out)[d] = query[j].sum[d] * share;
    }
}

bool is_ours(const ggml_tensor * dst) {
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];
    float max_bias;
    memcpy(&max_bias, dst->op_params + 1, sizeof max_bias);
    const auto fits = [](const ggml_tensor * t) {
        return t->type == GGML_TYPE_F16 && t->ne[0] % 8 == 0 && t->ne[0] <= WIDTH_MAX;
    };
    return dst->src[0]->ne[1] <= ZOSIA_PASS_TOKENS && fits(k) && fits(v) && max_bias == 0;
}

} // namespace
#endif

namespace {

// One head, all tokens of the pass. `out` is like dst, with room behind it.
void attend_apart(Work & work, int64_t head, int64_t, float * out, int64_t) {
    auto & attention = (Attention &) work;
    ggml_tensor & dst = attention.dst;
    for (int i = 0; i < 5; i++) {
        if (dst.src[i]) dst.src[i] = &attention.src[i];
    }
    dst.data = out;
    const ggml_tensor & q = attention.src[0];
#ifdef ZOSIA_ATTENTION
    if (is_ours(&dst)) return attend(&dst, head % q.ne[2], head / q.ne[2], 0, q.ne[1]);
#endif
    ggml_compute_params alone = {};
    alone.nth = 1;
    alone.wdata = out + ggml_nelements(&dst);
    ggml_compute_forward_flash_attn_ext_f16_one_chunk(&alone, &dst, head * q.ne[1], (head + 1) * q.ne[1], 0,
                                                      attention.src[1].ne[1], nullptr, 0);
}

void publish(const Work & work, int64_t head, const float * out) {
    const auto & attention = (const Attention &) work;
    const ggml_tensor & dst = attention.dst;
    const int64_t heads = dst.ne[1], tokens = dst.ne[2], sequence = head / heads;
    for (int64_t j = 0; j < tokens; j++) {
        const int64_t at = ((sequence * tokens + j) * heads + head % heads) * dst.nb[1];
        memcpy(attention.out + at, (const char *) out + at, dst.ne[0] * sizeof(float));
    }
}

} // namespace

bool plan_attention(const ggml_tensor * dst, Attention & attention) {
    const ggml_tensor * q = dst->src[0];
    if (q->type != GGML_TYPE_F32 || q->ne[1] > ZOSIA_PASS_TOKENS || !ggml_is_contiguous(dst)) return false;
    attention.dst = *dst;
    for (int i = 0; i < 5; i++) {
        if (dst->src[i]) attention.src[i] = *dst->src[i];
    }
    attention.out = (char *) dst->data;
    attention.compute = attend_apart;
    attention.publish = publish;
    attention.chunks = q->ne[2] * q->ne[3];
    attention.stride = 0;
    const int64_t scratch = q->ne[0] + 2 * dst->ne[0] + CACHE_LINE_SIZE_F32;
    attention.own_floats = ggml_nelements(dst) + scratch;
    attention.bytes = sizeof attention;
    return true;
}

extern "C" void ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
#ifdef ZOSIA_ATTENTION
    if (!params->use_ref && is_ours(dst)) {
        const ggml_tensor * q = dst->src[0];
        // Heads that share keys and values are neighbours; where one is divided, its
        // tokens are.
        const int64_t tokens = q->ne[1], all = q->ne[2] * q->ne[3] * tokens;
        const int64_t to = all * (params->ith + 1) / params->nth;
        for (int64_t at = all * params->ith / params->nth, count; at < to; at += count) {
            const int64_t head = at / tokens, first = at % tokens;
            count = std::min(tokens - first, to - at);
            attend(dst, head % q->ne[2], head / q->ne[2], first, count);
        }
        return;
    }
#endif
    ggml_compute_params unsplit = *params;
    unsplit.use_ref = params->use_ref || dst->src[0]->ne[1] <= ZOSIA_PASS_TOKENS;
    upstream_flash_attn_ext(&unsplit, dst);
}

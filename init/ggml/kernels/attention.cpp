// Attention by kernels of our own (attention.h). Upstream's results differ with the number
// of threads and of tokens, and it reads keys and values once for every query.
//
// The positions of a pass are in parts, cut where they are whoever computes: so threads
// share even one head, and the parts are put together in their order.

#define ggml_compute_forward_flash_attn_ext upstream_flash_attn_ext
#include "ops.cpp"
#undef ggml_compute_forward_flash_attn_ext

#include <vector>

#include "attention_batch.h"
#include "pool.h"

#ifdef ZOSIA_VECTORS
namespace {

// Positions of a part, and of how many heads of keys a chunk has it at most: they lie
// side by side.
constexpr int64_t PART = 512;
constexpr int64_t HEADS_MAX = 8;

int64_t shared(const Attention & attention) { return attention.src[0].ne[2] / attention.src[1].ne[2]; }

// Queries that share a head of keys.
int64_t queries_of(const Attention & attention) { return shared(attention) * attention.src[0].ne[1]; }

int64_t parts_of(const Attention & attention) { return (attention.src[1].ne[1] + PART - 1) / PART; }

const char * at(const ggml_tensor & t, int64_t i1, int64_t i2, int64_t i3) {
    return (const char *) t.data + i1 * t.nb[1] + i2 * t.nb[2] + i3 * t.nb[3];
}

// Keys or values from position `from` on.
Memory block(const ggml_tensor & t, int64_t from, int64_t to, int64_t head, int64_t sequence) {
    const int64_t count = std::clamp<int64_t>(to - from, 0, POSITIONS);
    return { at(t, from, head, sequence), (int64_t) t.nb[1], (int64_t) ggml_row_size(t.type, t.ne[0]), (int) count };
}

Masked mask_of(const Attention & attention, int64_t token, int64_t sequence, int64_t from, int count) {
    const ggml_tensor & mask = attention.src[3];
    if (!mask.data) return Masked::of(nullptr, count);
    return Masked::of((const ggml_half *) at(mask, token, 0, sequence % mask.ne[3]) + from, count);
}

struct Factors {
    float scale, softcap;

    explicit Factors(const ggml_tensor & dst) {
        float parameters[3];
        memcpy(parameters, dst.op_params, sizeof parameters);
        softcap = parameters[2];
        scale = softcap == 0 ? parameters[0] : parameters[0] / softcap;
    }
};

// Without a sink nothing is given away.
float sink_of(const Attention & attention, int64_t head) {
    const ggml_tensor & sinks = attention.src[4];
    return sinks.data ? ((const float *) sinks.data)[head] : -INFINITY;
}

float * row_of(const Attention & attention, int64_t sequence, int64_t token, int64_t head) {
    const ggml_tensor & dst = attention.dst;
    return (float *) (attention.out + head * dst.nb[1] + token * dst.nb[2] + sequence * dst.nb[3]);
}

// --- Passes ---

// Floats of a part of one head.
int64_t floats_of_part(const Attention & attention) {
    return queries_of(attention) * Attended::floats(attention.src[2].ne[0]);
}

int64_t floats_unpacked(const Attention & attention) {
    return POSITIONS * (attention.src[1].ne[0] + attention.src[2].ne[0]);
}

// Positions from `first` on, which a pass attends to at once, and what is added to their scores.
struct Block {
    int64_t first;
    Masked masked[ZOSIA_PASS_TOKENS];
    // Up to the last that a token sees.
    int count = 0;

    Block(const Attention & attention, int64_t sequence, int64_t first, int64_t to) : first(first) {
        for (int64_t j = 0; j < attention.src[0].ne[1]; j++) {
            masked[j] = mask_of(attention, j, sequence, first, (int) std::min<int64_t>(to - first, POSITIONS));
            count = std::max(count, masked[j].count);
        }
    }
};

Attended * attended(const Attention & attention, float * of_head, int64_t query) {
    return (Attended *) (of_head + query * Attended::floats(attention.src[2].ne[0]));
}

// What the queries of a head attend to in a block, tokens innermost.
template <class Type>
void attend_block(const Attention & attention, int64_t sequence, const Block & here, int64_t head, float * out,
                  float * unpacked, Upcoming & next_keys, Upcoming & next_values) {
    const ggml_tensor & q = attention.src[0], & k = attention.src[1], & v = attention.src[2];
    const Factors factors(attention.dst);
    const int64_t tokens = q.ne[1], queries = queries_of(attention), to = here.first + here.count;
    const Memory keys = block(k, here.first, to, head, sequence), values = block(v, here.first, to, head, sequence);
    const auto query = [&](int64_t i) {
        const auto * floats = (const float *) at(q, i % tokens, head * shared(attention) + i / tokens, sequence);
        return Query{ floats, attended(attention, out, i), &here.masked[i % tokens] };
    };
    const auto all = [&](auto type, const Memory & keys, const Memory & values) {
        using Unpacked = decltype(type);
        Query some[TOGETHER<Unpacked>];
        for (int64_t i = 0; i < queries; i += TOGETHER<Unpacked>) {
            const int64_t left = std::min<int64_t>(queries - i, TOGETHER<Unpacked>);
            for (int64_t j = 0; j < left; j++) some[j] = query(i + j);
            attend<Unpacked>(some, left, keys, values, k.ne[0], v.ne[0], factors.scale, factors.softcap, next_keys, next_values);
        }
    };
    if (queries <= TOGETHER<Type>) return all(Type(), keys, values);
    const Memory of_keys = unpack<Type>(keys, k.ne[0], unpacked, next_keys);
    all(Float32(), of_keys, unpack<Type>(values, v.ne[0], unpacked + POSITIONS * k.ne[0], next_values));
}

// Puts a head's parts together, `stride` floats from one to the next.
void join_parts(const Attention & attention, int64_t sequence, int64_t head, const float * parts, int64_t stride) {
    const int64_t tokens = attention.src[0].ne[1], width = attention.src[2].ne[0], count = parts_of(attention);
    for (int64_t i = 0; i < queries_of(attention); i++) {
        const auto part = [&](int64_t j) {
            return (const Attended *) (parts + i * Attended::floats(width) + j * stride);
        };
        const int64_t of_queries = head * shared(attention) + i / tokens;
        const float sink = sink_of(attention, of_queries);
        float highest = std::max(sink, LOWEST);
        for (int64_t j = 0; j < count; j++) highest = std::max(highest, part(j)->highest);
        float weights = expf(sink - highest);
        for (int64_t j = 0; j < count; j++) weights += part(j)->weights * expf(part(j)->highest - highest);
        float * const out = row_of(attention, sequence, i % tokens, of_queries);
        std::fill_n(out, width, 0.0f);
        for (int64_t j = 0; j < count; j++) {
            if (part(j)->weights == 0) continue;
            const Floats share = spread(expf(part(j)->highest - highest) / weights);
            for (int64_t d = 0; d < width; d += LANES) store(out + d, fma(share, load(part(j)->sum() + d), load(out + d)));
        }
    }
}

// A chunk has some heads of a part.
struct HeadsOfPart {
    int64_t sequence, part, first, last;

    HeadsOfPart(const Attention & attention, int64_t chunk) {
        const int64_t heads = attention.src[1].ne[2], groups = (heads + attention.each - 1) / attention.each;
        first = chunk % groups * attention.each;
        last = std::min(heads, first + attention.each);
        part = chunk / groups % parts_of(attention);
        sequence = chunk / groups / parts_of(attention);
    }

    // Where its results begin among those of all, heads innermost.
    int64_t at(const Attention & attention) const {
        const int64_t heads = attention.src[1].ne[2];
        return ((sequence * parts_of(attention) + part) * heads + first) * floats_of_part(attention);
    }
};

template <class Type> void compute_pass(Work & work, int64_t chunk, int64_t next_chunk, float * own, int64_t) {
    const auto & attention = (const Attention &) work;
    const ggml_tensor & k = attention.src[1], & v = attention.src[2];
    const HeadsOfPart here(attention, chunk), next(attention, next_chunk);
    float * const out = aligned(own), * const unpacked = out + attention.each * floats_of_part(attention);
    const auto of_head = [&](int64_t head) { return out + (head - here.first) * floats_of_part(attention); };
    for (int64_t head = here.first; head < here.last; head++) {
        for (int64_t i = 0; i < queries_of(attention); i++) {
            Attended * const none = attended(attention, of_head(head), i);
            *none = { -INFINITY, 0 };
            std::fill_n(none->sum(), v.ne[0], 0.0f);
        }
    }
    const int64_t to = std::min(k.ne[1], (here.part + 1) * PART);
    for (int64_t first = here.part * PART; first < to; first += POSITIONS) {
        const Block of_part(attention, here.sequence, first, to);
        if (of_part.count == 0) continue;
        const bool is_last = first + POSITIONS >= to;
        const auto ahead = [&](const ggml_tensor & t) {
            return is_last ? Upcoming(block(t, next.part * PART, t.ne[1], next.first, next.sequence), next.last - next.first)
                           : Upcoming(block(t, first + POSITIONS, to, here.first, here.sequence), here.last - here.first);
        };
        Upcoming next_keys = ahead(k), next_values = ahead(v);
        for (int64_t head = here.first; head < here.last; head++) {
            attend_block<Type>(attention, here.sequence, of_part, head, of_head(head), unpacked, next_keys, next_values);
        }
    }
}

void publish_pass(const Work & work, int64_t chunk, const float * own) {
    const auto & attention = (const Attention &) work;
    const HeadsOfPart here(attention, chunk);
    const int64_t floats = (here.last - here.first) * floats_of_part(attention);
    memcpy(attention.parts + here.at(attention), aligned(own), floats * sizeof(float));
}

void finish_pass(Work & work) {
    const auto & attention = (const Attention &) work;
    const int64_t heads = attention.src[1].ne[2], floats = floats_of_part(attention), all = parts_of(attention) * heads;
    for (int64_t sequence = 0; sequence < attention.src[0].ne[3]; sequence++) {
        for (int64_t head = 0; head < heads; head++) {
            join_parts(attention, sequence, head, attention.parts + (sequence * all + head) * floats, heads * floats);
        }
    }
}

// --- Batches ---

// A chunk has some queries of a head.
struct QueriesOfHead {
    int64_t sequence, head, first, count;

    QueriesOfHead(const Attention & attention, int64_t chunk) {
        const int64_t heads = attention.src[1].ne[2], queries = queries_of(attention);
        const int64_t blocks = (queries + QUERIES - 1) / QUERIES;
        first = chunk % blocks * QUERIES;
        count = std::min<int64_t>(QUERIES, queries - first);
        head = chunk / blocks % heads;
        sequence = chunk / blocks / heads;
    }

    // Those of a token are neighbours.
    int64_t token(const Attention & attention, int64_t j) const { return (first + j) / shared(attention); }
    int64_t head_of(const Attention & attention, int64_t j) const {
        return head * shared(attention) + (first + j) % shared(attention);
    }
};

template <class Type> void compute_batch(Work & work, int64_t chunk, int64_t, float * own, int64_t) {
    const auto & attention = (const Attention &) work;
    const ggml_tensor & q = attention.src[0], & k = attention.src[1], & v = attention.src[2];
    const Factors factors(attention.dst);
    const QueriesOfHead here(attention, chunk);
    float * const out = aligned(own);
    Batch batch(out + QUERIES * v.ne[0], here.count, k.ne[0], v.ne[0]);
    for (int64_t j = 0; j < here.count; j++) {
        const auto * query = (const float *) at(q, here.token(attention, j), here.head_of(attention, j), here.sequence);
        for (int64_t d = 0; d < k.ne[0]; d++) batch.of_queries[d * QUERIES + j] = query[d] * factors.scale;
    }
    const int64_t first = here.token(attention, 0), last = here.token(attention, here.count - 1);
    for (int64_t from = 0; from < k.ne[1]; from += POSITIONS) {
        Memory keys = block(k, from, k.ne[1], here.head, here.sequence);
        Memory values = block(v, from, k.ne[1], here.head, here.sequence);
        Masked masked[QUERIES];
        int count = 0;
        for (int64_t token = first; token <= last; token++) {
            masked[token - first] = mask_of(attention, token, here.sequence, from, keys.count);
            count = std::max(count, masked[token - first].count);
        }
        if (count == 0) continue;
        keys.count = values.count = count;
        const auto mask = [&](int64_t j) -> const Masked & { return masked[here.token(attention, j) - first]; };
        const auto ahead = [&](const ggml_tensor & t) {
            return Upcoming(block(t, from + POSITIONS, t.ne[1], here.head, here.sequence), 1);
        };
        Upcoming next_keys = ahead(k), next_values = ahead(v);
        batch.attend<Type>(keys, values, factors.softcap, mask, next_keys, next_values);
    }
    for (int64_t j = 0; j < here.count; j++) {
        const float sink = sink_of(attention, here.head_of(attention, j));
        const float highest = std::max({ batch.highest[j], sink, LOWEST }), kept = expf(batch.highest[j] - highest);
        const float weights = batch.weights[j] * kept + expf(sink - highest), share = weights == 0 ? 0 : kept / weights;
        for (int64_t d = 0; d < v.ne[0]; d++) out[j * v.ne[0] + d] = batch.sums[d * QUERIES + j] * share;
    }
}

void publish_batch(const Work & work, int64_t chunk, const float * own) {
    const auto & attention = (const Attention &) work;
    const QueriesOfHead here(attention, chunk);
    const int64_t width = attention.src[2].ne[0];
    for (int64_t j = 0; j < here.count; j++) {
        float * const to = row_of(attention, here.sequence, here.token(attention, j), here.head_of(attention, j));
        memcpy(to, aligned(own) + j * width, width * sizeof(float));
    }
}

// --- Both ---

template <class Type> bool fits(const ggml_tensor * dst) {
    return dst->src[1]->ne[0] % Type::STEP == 0 && dst->src[2]->ne[0] % Type::STEP == 0;
}

bool is_ours(const ggml_tensor * dst) {
    const ggml_tensor * q = dst->src[0], * k = dst->src[1], * v = dst->src[2], * mask = dst->src[3];
    float max_bias;
    memcpy(&max_bias, dst->op_params + 1, sizeof max_bias);
    if (max_bias != 0 || q->type != GGML_TYPE_F32 || k->type != v->type || (mask && mask->ne[2] != 1)) return false;
    if (k->ne[2] != v->ne[2] || k->ne[3] != v->ne[3] || k->ne[3] != q->ne[3]) return false;
    switch (k->type) {
        case GGML_TYPE_F16: return fits<Float16>(dst);
        case GGML_TYPE_Q8_0: return fits<Quants8>(dst);
        default: return false;
    }
}

template <class Type> void plan(int threads, Attention & attention) {
    const ggml_tensor & q = attention.src[0], & k = attention.src[1], & v = attention.src[2];
    if (q.ne[1] > ZOSIA_PASS_TOKENS) {
        attention.compute = compute_batch<Type>;
        attention.publish = publish_batch;
        attention.chunks = (queries_of(attention) + QUERIES - 1) / QUERIES * k.ne[2] * q.ne[3];
        attention.own_floats = QUERIES * v.ne[0] + Batch::floats(k.ne[0], v.ne[0]);
    } else {
        attention.compute = compute_pass<Type>;
        attention.publish = publish_pass;
        attention.finish = finish_pass;
        const int64_t parts = parts_of(attention) * q.ne[3];
        attention.each = std::clamp<int64_t>(parts * k.ne[2] / (4 * threads), 1, HEADS_MAX);
        attention.chunks = parts * ((k.ne[2] + attention.each - 1) / attention.each);
        attention.bytes_parts = parts * k.ne[2] * floats_of_part(attention) * sizeof(float);
        attention.own_floats = attention.each * floats_of_part(attention) + floats_unpacked(attention);
    }
    attention.own_floats += 64 / sizeof(float);
}

} // namespace
#else
static bool is_ours(const ggml_tensor *) { return false; }
#endif

namespace {

// One head, all tokens of the pass, by upstream's way. `out` is like dst, with room behind it.
void compute_upstream(Work & work, int64_t head, int64_t, float * out, int64_t) {
    auto & attention = (Attention &) work;
    ggml_tensor & dst = attention.dst;
    for (int i = 0; i < 5; i++) {
        if (dst.src[i]) dst.src[i] = &attention.src[i];
    }
    dst.data = out;
    const int64_t tokens = attention.src[0].ne[1];
    ggml_compute_params alone = {};
    alone.nth = 1;
    alone.wdata = out + ggml_nelements(&dst);
    ggml_compute_forward_flash_attn_ext_f16_one_chunk(&alone, &dst, head * tokens, (head + 1) * tokens, 0,
                                                      attention.src[1].ne[1], nullptr, 0);
}

void publish_upstream(const Work & work, int64_t head, const float * out) {
    const auto & attention = (const Attention &) work;
    const ggml_tensor & dst = attention.dst;
    const int64_t heads = dst.ne[1], tokens = dst.ne[2], sequence = head / heads;
    for (int64_t j = 0; j < tokens; j++) {
        const int64_t at = ((sequence * tokens + j) * heads + head % heads) * dst.nb[1];
        memcpy(attention.out + at, (const char *) out + at, dst.ne[0] * sizeof(float));
    }
}

} // namespace

bool plan_attention(const ggml_tensor * dst, int threads, Attention & attention) {
    const ggml_tensor * q = dst->src[0];
    const bool is_ours = ::is_ours(dst);
    if (!is_ours && (q->type != GGML_TYPE_F32 || q->ne[1] > ZOSIA_PASS_TOKENS || !ggml_is_contiguous(dst))) return false;
    attention.dst = *dst;
    for (int i = 0; i < 5; i++) attention.src[i] = dst->src[i] ? *dst->src[i] : ggml_tensor{};
    attention.out = (char *) dst->data;
    attention.finish = nullptr;
    attention.stride = 0;
    attention.bytes_parts = 0;
    attention.bytes = sizeof attention;
#ifdef ZOSIA_VECTORS
    if (is_ours) {
        attention.src[1].type == GGML_TYPE_F16 ? plan<Float16>(threads, attention) : plan<Quants8>(threads, attention);
        return true;
    }
#endif
    attention.compute = compute_upstream;
    attention.publish = publish_upstream;
    attention.chunks = q->ne[2] * q->ne[3];
    attention.own_floats = ggml_nelements(dst) + q->ne[0] + 2 * dst->ne[0] + CACHE_LINE_SIZE_F32;
    return true;
}

#ifdef ZOSIA_VECTORS
// Where threads do not share the work piece by piece: each has some heads of a pass, or
// some chunks of a batch.
static void attend_here(const ggml_compute_params * params, const ggml_tensor * dst) {
    Attention attention;
    plan_attention(dst, params->nth, attention);
    static thread_local std::vector<float> own, parts;
    own.resize(std::max<size_t>(own.size(), attention.own_floats));
    if (!attention.finish) {
        for (int64_t chunk = params->ith; chunk < attention.chunks; chunk += params->nth) {
            attention.compute(attention, chunk, chunk, own.data(), 0);
            attention.publish(attention, chunk, own.data());
        }
        return;
    }
    const int64_t heads = attention.src[1].ne[2], floats = floats_of_part(attention), all = heads * attention.src[0].ne[3];
    attention.each = 1;
    parts.resize(std::max<size_t>(parts.size(), attention.bytes_parts / sizeof(float)));
    attention.parts = parts.data();
    for (int64_t at = all * params->ith / params->nth; at < all * (params->ith + 1) / params->nth; at++) {
        const int64_t sequence = at / heads, head = at % heads, first = sequence * parts_of(attention) * heads + head;
        for (int64_t part = 0; part < parts_of(attention); part++) {
            const int64_t chunk = first + part * heads, next = part + 1 < parts_of(attention) ? chunk + heads : first;
            attention.compute(attention, chunk, next, own.data(), 0);
            attention.publish(attention, chunk, own.data());
        }
        join_parts(attention, sequence, head, parts.data() + first * floats, heads * floats);
    }
}
#endif

extern "C" void ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
#ifdef ZOSIA_VECTORS
    if (!params->use_ref && is_ours(dst)) return attend_here(params, dst);
#endif
    ggml_compute_params unsplit = *params;
    unsplit.use_ref = params->use_ref || dst->src[0]->ne[1] <= ZOSIA_PASS_TOKENS;
    upstream_flash_attn_ext(&unsplit, dst);
}

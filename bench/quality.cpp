// What a computation of a model's logits is worth: the rows of one are compared with those
// of another, such as of the same weights in f32.
//
//     quality f32 MODEL OUT                  MODEL with all weights in f32
//     quality rows MODEL TEXT f16|q8_0 THREADS OUT
//     quality compare OF_F32 PEERS OURS      two lines of JSON
//
// ROWS: the number of tokens in the vocabulary (u32), then for each position that counts the
// token that follows in the text (i32) and a logit for each of the vocabulary (f32). TEXT is
// taken CHUNK tokens at a time, each a context of its own, whose first SKIPPED positions do
// not count and are the last of the one before.
#include "llama.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

static const int CHUNK = 256;
static const int SKIPPED = 128;

[[noreturn]] static void fail(const std::string & what) {
    fprintf(stderr, "quality: %s\n", what.c_str());
    exit(1);
}

static int make_f32(const char * from, const char * to) {
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = LLAMA_FTYPE_ALL_F32;
    params.allow_requantize = true;
    return llama_model_quantize(from, to, &params) == 0 ? 0 : 1;
}

static int write_rows(char ** argv) {
    llama_model_params model_params = llama_model_default_params();
    // The weights as they lie in the file.
    model_params.use_extra_bufts = false;
    llama_model * model = llama_model_load_from_file(argv[0], model_params);
    if (model == nullptr) fail(std::string(argv[0]) + " cannot be loaded");
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = CHUNK;
    params.n_threads = params.n_threads_batch = atoi(argv[3]);
    if (strcmp(argv[2], "q8_0") == 0) params.type_k = params.type_v = GGML_TYPE_Q8_0;
    llama_context * context = llama_init_from_model(model, params);
    if (context == nullptr) fail("no context");
    const llama_vocab * vocab = llama_model_get_vocab(model);
    const uint32_t size = llama_vocab_n_tokens(vocab);

    std::ifstream file(argv[1]);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    std::vector<llama_token> tokens(text.size() + 8);
    const int count = llama_tokenize(vocab, text.data(), text.size(), tokens.data(), tokens.size(), false, false);
    if (text.empty() || count <= 0) fail(std::string(argv[1]) + " cannot be read");

    std::ofstream out(argv[4], std::ios::binary);
    out.write(reinterpret_cast<const char *>(&size), sizeof size);
    for (int begin = 0; begin + CHUNK < count; begin += CHUNK - SKIPPED) {
        llama_memory_clear(llama_get_memory(context), true);
        llama_batch batch = llama_batch_init(CHUNK, 0, 1);
        batch.n_tokens = CHUNK;
        for (int i = 0; i < CHUNK; i++) {
            batch.token[i] = tokens[begin + i];
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = i >= SKIPPED;
        }
        if (llama_decode(context, batch) != 0) fail("the text cannot be evaluated");
        for (int i = SKIPPED; i < CHUNK; i++) {
            out.write(reinterpret_cast<const char *>(&tokens[begin + i + 1]), sizeof tokens[0]);
            out.write(reinterpret_cast<const char *>(llama_get_logits_ith(context, i)), size * sizeof(float));
        }
        llama_batch_free(batch);
    }
    out.flush();
    return out ? 0 : 1;
}

// The logarithm of each probability.
static void normalize(std::vector<float> & row) {
    const float most = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (float logit : row) sum += std::exp(double(logit - most));
    const double shift = most + std::log(sum);
    for (float & logit : row) logit = float(logit - shift);
}

// Rows that are read one by one.
struct Rows {
    std::ifstream file;
    int32_t next = 0; // the token that follows
    std::vector<float> logits;

    explicit Rows(const char * path) : file(path, std::ios::binary) {
        uint32_t size = 0;
        file.read(reinterpret_cast<char *>(&size), sizeof size);
        if (!file || size == 0) fail(std::string(path) + " has no rows");
        logits.resize(size);
    }

    bool read() {
        if (!file.read(reinterpret_cast<char *>(&next), sizeof next)) return false;
        file.read(reinterpret_cast<char *>(logits.data()), logits.size() * sizeof(float));
        if (!file) fail("a row is cut");
        normalize(logits);
        return true;
    }

    size_t choice() const { return std::max_element(logits.begin(), logits.end()) - logits.begin(); }
};

// A mean, and its standard error.
struct Mean {
    double sum = 0, squares = 0;

    void add(double x) { sum += x, squares += x * x; }
    double of(long count) const { return sum / count; }
    double error(long count) const { return std::sqrt(std::max(0.0, squares / count - of(count) * of(count)) / (count - 1)); }
};

// `more`: by how much ours diverge more than the peer's at the same positions.
static int compare(const char * of_f32, const char * peers, const char * ours) {
    Rows right(of_f32), both[] = { Rows(peers), Rows(ours) };
    for (const Rows & got : both) {
        if (got.logits.size() != right.logits.size()) fail("the rows are of two vocabularies");
    }
    double nll[2] = {}, nll_f32 = 0;
    Mean divergence[2], more;
    long count = 0, same[2] = {};
    for (; right.read(); count++) {
        double here[2] = {};
        for (int i = 0; i < 2; i++) {
            Rows & got = both[i];
            if (!got.read() || got.next != right.next) fail("the rows are of two texts");
            for (size_t k = 0; k < right.logits.size(); k++) {
                here[i] += std::exp(double(right.logits[k])) * (double(right.logits[k]) - got.logits[k]);
            }
            divergence[i].add(here[i]);
            same[i] += got.choice() == right.choice();
            nll[i] -= got.logits[got.next];
        }
        more.add(here[1] - here[0]);
        nll_f32 -= right.logits[right.next];
    }
    if (count < 2 || both[0].read() || both[1].read()) fail("the rows are of two texts");
    for (int i = 0; i < 2; i++) {
        printf("{\"tokens\":%ld,\"perplexity\":%.4f,\"perplexity_f32\":%.4f,\"divergence\":%.6f,\"divergence_error\":%.6f,\"same\":%ld",
               count, std::exp(nll[i] / count), std::exp(nll_f32 / count), divergence[i].of(count), divergence[i].error(count), same[i]);
        if (i == 1) printf(",\"more\":%.6f,\"more_error\":%.6f", more.of(count), more.error(count));
        printf("}\n");
    }
    return 0;
}

int main(int argc, char ** argv) {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "f32" && argc == 4) return make_f32(argv[2], argv[3]);
    if (what == "rows" && argc == 7) return write_rows(argv + 2);
    if (what == "compare" && argc == 5) return compare(argv[2], argv[3], argv[4]);
    fprintf(stderr, "usage: quality f32 MODEL OUT | rows MODEL TEXT f16|q8_0 THREADS OUT | compare OF_F32 PEERS OURS\n");
    return 2;
}

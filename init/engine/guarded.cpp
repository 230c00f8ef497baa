// llama.cpp's functions that can throw, each with a catch around it: an exception
// must not unwind into Rust. `src/guarded.rs` declares the same functions.

#include <cstdio>
#include <exception>
#include <new>

#include "llama.h"

// What an exception said, cut to the room.
struct thrown {
    char what[256];
};

template <typename Call>
static bool guarded(thrown * thrown, Call call) noexcept {
    try {
        call();
        return true;
    } catch (const std::exception & e) {
        snprintf(thrown->what, sizeof(thrown->what), "%s", e.what());
    } catch (...) {
        snprintf(thrown->what, sizeof(thrown->what), "an exception without a message");
    }
    return false;
}

extern "C" {

bool zosia_tokenize(const llama_vocab * vocab, const char * text, int32_t bytes, bool parse_special,
                    llama_token * tokens, int32_t room, int32_t * count, thrown * thrown) {
    return guarded(thrown, [&] {
        *count = llama_tokenize(vocab, text, bytes, tokens, room, false, parse_special);
    });
}

bool zosia_piece(const llama_vocab * vocab, llama_token token, bool show_control, char * piece,
                 int32_t room, int32_t * bytes, thrown * thrown) {
    return guarded(thrown, [&] {
        *bytes = llama_token_to_piece(vocab, token, piece, room, 0, show_control);
    });
}

bool zosia_decode(llama_context * context, llama_batch batch, int32_t * code, thrown * thrown) {
    return guarded(thrown, [&] {
        try {
            *code = llama_decode(context, batch);
        } catch (const std::bad_alloc &) {
            // In the middle of a graph: neither ggml nor the threads can go on after it.
            std::terminate();
        }
    });
}

bool zosia_grammar(const llama_vocab * vocab, const char * source, const char * root,
                   llama_sampler ** sampler, thrown * thrown) {
    return guarded(thrown, [&] { *sampler = llama_sampler_init_grammar(vocab, source, root); });
}

bool zosia_apply(llama_sampler * sampler, llama_token_data_array * candidates, thrown * thrown) {
    return guarded(thrown, [&] { llama_sampler_apply(sampler, candidates); });
}

bool zosia_accept(llama_sampler * sampler, llama_token token, thrown * thrown) {
    return guarded(thrown, [&] { llama_sampler_accept(sampler, token); });
}
}

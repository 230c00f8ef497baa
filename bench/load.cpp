// Loads a model and makes a context for it with llama.cpp's own defaults, as a
// program would that uses nothing but llama.h; says how long it took.
//
//     load MODEL CTX_TOKENS THREADS on|off
//
// off: the weights stay in the file's map; on: those of some types are copied into
// another layout.
#include "llama.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char ** argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: load MODEL CTX_TOKENS THREADS on|off\n");
        return 2;
    }
    const auto began = std::chrono::steady_clock::now();
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    llama_model_params model_params = llama_model_default_params();
    model_params.use_extra_bufts = strcmp(argv[4], "on") == 0;
    llama_model * model = llama_model_load_from_file(argv[1], model_params);
    if (model == nullptr) {
        fprintf(stderr, "load: %s cannot be loaded\n", argv[1]);
        return 1;
    }
    llama_context_params context_params = llama_context_default_params();
    context_params.n_ctx = strtoul(argv[2], nullptr, 10);
    context_params.n_threads = context_params.n_threads_batch = strtol(argv[3], nullptr, 10);
    llama_context * context = llama_init_from_model(model, context_params);
    if (context == nullptr) {
        fprintf(stderr, "load: there is no memory for a context of %s tokens\n", argv[2]);
        return 1;
    }
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
    printf("{\"load_ms\":%.1f}\n", took.count());
    llama_free(context);
    llama_model_free(model);
    return 0;
}

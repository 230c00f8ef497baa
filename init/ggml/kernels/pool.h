// Work that threads share piece by piece, so that none waits for one that the
// scheduler has put aside (pool.cpp).

#pragma once

#include <cstddef>
#include <cstdint>

#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ggml.h"

// A node's work in chunks, each computed into memory of the thread's own and then
// published. Two threads may compute the same chunk: both get the same bits, and one
// of them publishes. A thread that comes late may compute from memory that holds
// something else by now, and what it gets is thrown away: it must be memory that lives
// as long as the pool does.
struct Work {
    // Computes a chunk. `next` is the one that this thread is likely to take then.
    void (*compute)(Work & work, int64_t chunk, int64_t next, float * out, int64_t stride);
    // Where the chunk's results belong. stride: see `stride`.
    void (*publish)(const Work & work, int64_t chunk, const float * out);
    // What one thread does when all chunks are published, or null.
    void (*finish)(Work & work);
    int64_t chunks;
    // Floats of a thread's own that a chunk takes, and those from column to column.
    int64_t own_floats, stride;
    // Of the whole, what lies behind included.
    size_t bytes;
};

// An expert that some tokens have chosen: those of columns [first, first + width).
struct Expert {
    int32_t which, first, width;
};

// Whose column it is: a token's, for its choice number `slot`.
struct Choice {
    int32_t slot, token;
};

// dst = weights times columns.
struct Product : Work {
    // The blocks [from, to) of all columns, into `columns`.
    void (*quantize)(const Product & product, int64_t from, int64_t to);
    ggml_type type;
    // width: columns of the widest matrix.
    int64_t length, blocks, rows, width, matrices;
    // Where each matrix is an expert (ExpertProduct): how many columns a token has, one for
    // each choice or one for all.
    int64_t columns_of_token;
    const Choice * choices;
    // Otherwise: products of their own, and how many share a matrix of weights.
    int64_t ne12, r2, r3;
    const char * weights;
    size_t nb01, nb02, nb03;
    const char * source;
    size_t nb11, nb12, nb13;
    size_t bytes_column, bytes_columns;
    char * columns;
    char * dst;
    size_t nb1, nb2, nb3;
    // Rows of a chunk, and chunks of a matrix.
    int64_t each, of_matrix;
};

// The same with the experts that tokens have chosen.
struct ExpertProduct : Product {
    static constexpr int64_t MAX = 512;
    Expert experts[MAX];
};

// Attention, in memory that lasts.
struct Attention : Work {
    ggml_tensor dst, src[5];
    char * out;
    // What `finish` puts together: the caller gives as many bytes.
    float * parts;
    size_t bytes_parts;
    // Heads of keys of a chunk.
    int64_t each;
};

// tiled.cpp: how `threads` threads compute dst by kernels of our own, or by vec_dot. False if
// neither does.
bool plan_product(const ggml_tensor * dst, int threads, Product & product);
bool plan_experts(const ggml_tensor * dst, int threads, ExpertProduct & product);

// Where their columns will be: bytes_columns.
void place_columns(const ggml_tensor * dst, Product & product, char * at);

// attention.cpp: a copy of what dst needs, whose query and mask the caller moves to
// memory that lasts. False where upstream's way is another.
bool plan_attention(const ggml_tensor * dst, int threads, Attention & attention);

// What a product consists of, whatever computes it: matrices, and chunks of their rows.

#pragma once

#include <algorithm>
#include <cstring>

#include "pool.h"
#include "products.h"

namespace {

// Columns that are summed at a time.
constexpr int PANEL_COLUMNS = 128;

// One of a product's matrices, and what it is multiplied with.
struct Matrix {
    const Product & product;
    int64_t at;
    const Expert * expert;

    Matrix(const Product & product, int64_t at)
        : product(product), at(at), expert(product.choices ? ((const ExpertProduct &) product).experts + at : nullptr) {}

    int64_t width() const { return expert ? expert->width : product.width; }

    const char * weights() const {
        if (expert) return product.weights + expert->which * product.nb02;
        const int64_t i12 = at % product.ne12, i13 = at / product.ne12;
        return product.weights + i12 / product.r2 * product.nb02 + i13 / product.r3 * product.nb03;
    }

    char * columns() const {
        return product.columns + (expert ? expert->first : at * product.width) * (int64_t) product.bytes_column;
    }

    // Column j before it is quantized.
    const float * source(int64_t j) const {
        if (expert) {
            const Choice & of = product.choices[expert->first + j];
            return (const float *) (product.source + of.slot % product.columns_of_token * product.nb11 + of.token * product.nb12);
        }
        return (const float *) (product.source + at % product.ne12 * product.nb12 + at / product.ne12 * product.nb13 + j * product.nb11);
    }

    // Where column j of the result belongs.
    float * result(int64_t j) const {
        if (expert) {
            const Choice & of = product.choices[expert->first + j];
            return (float *) (product.dst + of.slot * product.nb1 + of.token * product.nb2);
        }
        return (float *) (product.dst + at % product.ne12 * product.nb2 + at / product.ne12 * product.nb3 + j * product.nb1);
    }
};

// A chunk of a product: some rows of a matrix, from row `first` on.
struct Chunk {
    Matrix matrix;
    int64_t first;
    int count;

    Chunk(const Product & product, int64_t chunk)
        : matrix(product, chunk / product.of_matrix), first(chunk % product.of_matrix * product.each),
          count((int) std::min(product.each, product.rows - first)) {}

    const char * weights() const { return matrix.weights() + first * matrix.product.nb01; }
};

void publish(const Work & work, int64_t at, const float * out) {
    const auto & product = (const Product &) work;
    const Chunk chunk(product, at);
    for (int64_t j = 0; j < chunk.matrix.width(); j++) {
        memcpy(chunk.matrix.result(j) + chunk.first, out + j * product.stride, chunk.count * sizeof(float));
    }
}

} // namespace

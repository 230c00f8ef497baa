// ggml's operations as they are. What its threads do is in pool.cpp, which takes the
// place of these functions.

#pragma weak ggml_barrier
#pragma weak ggml_graph_compute
#pragma weak ggml_threadpool_free
#pragma weak ggml_threadpool_new
#pragma weak ggml_threadpool_pause
#pragma weak ggml_threadpool_resume

#include "ggml-cpu.c"

// Of upstream's pool only what its operations use. `workers` is not: it holds ours.
struct ggml_threadpool * zosia_threadpool_new(int threads, void * pool) {
    struct ggml_threadpool * threadpool = ggml_aligned_malloc(sizeof *threadpool);
    memset(threadpool, 0, sizeof *threadpool);
    threadpool->n_threads = threads;
    threadpool->workers   = pool;
    return threadpool;
}

void zosia_threadpool_free(struct ggml_threadpool * threadpool) {
    ggml_aligned_free(threadpool, sizeof *threadpool);
}

void * zosia_threadpool_pool(struct ggml_threadpool * threadpool) { return threadpool->workers; }

int zosia_n_threads_of(struct ggml_tensor * node, int threads) { return ggml_get_n_tasks(node, threads); }

// Computes a node's share, with those that are fused with it: how many these are.
int zosia_compute(const struct ggml_cgraph * graph, int node, struct ggml_compute_params * params,
                  const struct ggml_cplan * plan) {
    const int fused = ggml_cpu_try_fuse_ops(graph, node, params, plan);
    if (fused == 0) ggml_compute_forward(params, graph->nodes[node]);
    return fused;
}

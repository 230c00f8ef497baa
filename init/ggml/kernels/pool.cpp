// How threads share a graph, so that one which the scheduler has put aside holds up no
// other. ggml has every thread meet every other some 300 times a token: where one
// processor is wanted by somebody else, each of these meetings lasts as long as the
// scheduler's slices do.
//
// Here a graph is a series of jobs. A job is a node's work in chunks; whichever thread
// finishes its last chunk computes by itself what is small and comes next, and posts
// the next job. There is no thread whose absence matters: of products and of attention,
// which is nearly all, a chunk that was begun and is not finished is computed once more
// by a thread that has nothing else to do, into memory of its own, and the first to
// finish publishes. What remains is a window of a few hundred bytes copied, and the
// small operations between two jobs.
//
// Other operations are run as ggml runs them, each thread its share, and must be waited
// for. Waiting is spinning for as long as that has paid lately, then sleeping: on a
// quiet machine no system call is made.

#include "pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "ggml-backend.h"
#include "ggml-impl.h"

extern "C" {
ggml_threadpool * zosia_threadpool_new(int threads, void * pool);
void zosia_threadpool_free(ggml_threadpool * threadpool);
void * zosia_threadpool_pool(ggml_threadpool * threadpool);
int zosia_n_threads_of(ggml_tensor * node, int threads);
int zosia_compute(const ggml_cgraph * graph, int node, ggml_compute_params * params, const ggml_cplan * plan);
}

namespace {

using Word = std::atomic<uint32_t>;
static_assert(sizeof(Word) == 4 && Word::is_always_lock_free);

constexpr int64_t CHUNKS_MAX = UINT16_MAX;

// Elements up to which an operation on each of them is not worth a second thread.
constexpr int64_t FEW_ELEMENTS = 32768;

// Bytes of a query and its mask that are worth a copy: a batch's mask is as long as the
// context.
constexpr size_t COPIED_MAX = 16 << 20;

// Nanoseconds of spinning between graphs that each level of polling permits, and of
// spinning inside a graph.
constexpr int64_t SPIN_NS_OF_POLL = 10000;
constexpr int64_t SPIN_NS_MIN = 20000, SPIN_NS_MAX = 200000;

// Nanoseconds after which somebody who has not come must be fetched.
constexpr int64_t FETCH_NS = 50000;

void relax() {
#ifdef __x86_64__
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield" ::: "memory");
#endif
}

int64_t now_ns() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

void futex_wait(Word & word, uint32_t held) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, held, nullptr, nullptr, 0); }

void futex_wake(Word & word) { syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0); }

// Keeps threads apart, one on each processor, where there are as many of them as
// processors: a scheduler that shares time among sessions would rather have all of ours
// on one and a neighbour on another. Fewer threads go where there is room.
class Places {
    cpu_set_t all;
    std::vector<int> processors;

    // Where this thread has to stay, or -1.
    static int & mine() {
        static thread_local int place = -1;
        return place;
    }

    Places() {
        CPU_ZERO(&all);
        sched_getaffinity(0, sizeof all, &all);
        for (int i = 0; i < CPU_SETSIZE; i++) {
            if (CPU_ISSET(i, &all)) processors.push_back(i);
        }
    }

  public:
    // Those that the process had when its first pool was started.
    static const Places & of_process() {
        static const Places places;
        return places;
    }

    // A thread begins where the one that has started it has to stay.
    void forget() const { sched_setaffinity(0, sizeof all, &all); }

    bool are_as_many_as(int threads) const { return threads > 1 && threads == (int) processors.size(); }

    // Keeps a thread on the processor at `place`. What is not permitted is not necessary,
    // either.
    void put(pid_t thread, int place) const {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(processors[place], &one);
        sched_setaffinity(thread, sizeof one, &one);
    }

    // Called by a thread that belongs to `place`, if there are as many of them as
    // processors: a system call only when something changes.
    void take(int place, int threads) const {
        const int wanted = are_as_many_as(threads) ? place : -1;
        if (mine() == wanted) return;
        mine() = wanted;
        if (wanted < 0) return forget();
        put(0, wanted);
    }
};

// How long spinning pays: what waits lasted that ended meanwhile. One that ended only
// when this thread slept may have waited for its processor: it teaches the contrary, and
// now and then it is tried how long a wait would have been. Each thread learns for all; a
// lost update is no harm.
class Patience {
    static constexpr uint32_t TRIAL = 16;
    const int64_t least, limit;
    std::atomic<int64_t> worth{ 0 };
    std::atomic<uint32_t> slept{ 0 };

  public:
    Patience(int64_t least, int64_t limit) : least(least), limit(limit) {}

    int64_t ns() const {
        if (slept.load(std::memory_order_relaxed) % TRIAL == TRIAL - 1) return limit;
        return std::clamp(2 * worth.load(std::memory_order_relaxed), least, limit);
    }

    void learn(int64_t lasted, bool has_slept) {
        const int64_t before = worth.load(std::memory_order_relaxed);
        const int64_t then = has_slept        ? before - before / 8
                             : lasted > before ? lasted
                                               : before - (before - lasted) / 64;
        worth.store(then, std::memory_order_relaxed);
        if (has_slept) slept.fetch_add(1, std::memory_order_relaxed);
    }
};

struct Job {
    enum Kind { END, SHARES, COLUMNS, WORK } kind;
    int threads;
    int64_t chunks;
    int node;
    union {
        Work work;
        Product product;
        ExpertProduct experts;
        Attention attention;
    };

    Job() {}

    size_t bytes() const { return kind == WORK || kind == COLUMNS ? offsetof(Job, work) + work.bytes : offsetof(Job, work); }
};

// What is not yet taken of a job's chunks, [front, back), and of which job.
struct Range {
    uint32_t job;
    uint16_t front, back;
};
static_assert(std::atomic<Range>::is_always_lock_free);

// Where a chunk is: of an older job, being published, or done.
enum State : uint32_t { PUBLISHING = 1, DONE = 2 };

struct alignas(64) Thread {
    // Its part of the job; others take from the back.
    std::atomic<Range> range{ Range{} };
    // Chunks that it has finished, of which job.
    alignas(64) std::atomic<uint64_t> finished{ 0 };
    // 1 while it sleeps between graphs.
    Word asleep{ 0 };
    // Where it belongs, if each has a processor of its own.
    std::atomic<int> place{ 0 };
    pid_t id = 0;
    pthread_t handle;
    struct Pool * pool;
    int index;
    std::vector<float> own;
};

// Memory that grows where it is, as a thread that was put aside may still read it. Where
// addresses do not suffice, it is somewhere else, and what was read before stays.
class Columns {
    static constexpr size_t LEAST = 64 << 20, STEP = 256 << 10;

    // Addresses, which take nothing, and the first `room` bytes that can be written.
    struct Range {
        char * at;
        size_t most, room;
    };
    std::vector<Range> ranges;

  public:
    Columns() = default;
    Columns(const Columns &) = delete;
    ~Columns() {
        for (const Range & range : ranges) munmap(range.at, range.most);
    }

    // Room for `bytes`, where the last ones were.
    char * of(size_t bytes) {
        if (ranges.empty() || bytes > ranges.back().most) {
            const size_t most = std::max(LEAST, 2 * bytes) / STEP * STEP;
            ranges.reserve(ranges.size() + 1);
            void * const at = mmap(nullptr, most, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (at == MAP_FAILED) throw std::bad_alloc();
            ranges.push_back({ (char *) at, most, 0 });
        }
        Range & range = ranges.back();
        if (bytes > range.room) {
            const size_t room = (bytes + STEP - 1) / STEP * STEP;
            if (mprotect(range.at + range.room, room - range.room, PROT_READ | PROT_WRITE)) throw std::bad_alloc();
            range.room = room;
        }
        return range.at;
    }
};

struct Pool {
    ggml_threadpool * base;
    std::vector<Thread> threads;
    const Places & places = Places::of_process();
    Patience within{ SPIN_NS_MIN, SPIN_NS_MAX }, between;

    // The job that is posted; its number, and the number of the one that is being made.
    Job job;
    alignas(64) Word posted{ 0 };
    alignas(64) Word making{ 0 };
    Word sleepers{ 0 };
    // Of each chunk: the job's number, and its State.
    std::unique_ptr<std::atomic<uint64_t>[]> states;

    // The graph.
    const ggml_cgraph * graph = nullptr;
    const ggml_cplan * plan = nullptr;
    int threads_of_graph = 1, node = 0;
    // Nodes that the job has computed besides its own.
    std::atomic<int> fused{ 0 };
    ggml_status status = GGML_STATUS_SUCCESS;
    // How many graphs there were, and threads of the last.
    alignas(64) std::atomic<uint64_t> graphs{ 0 };
    // The last of them that the caller has come back from, and for which it was fetched.
    std::atomic<uint64_t> returned{ 0 }, fetched{ 0 };
    std::atomic<bool> stop{ false };

    // Threads that meet inside an operation.
    std::atomic<int> meeting{ 1 };
    alignas(64) Word met{ 0 };
    std::atomic<int> arrived{ 0 };

    // Columns that products are computed from.
    Columns columns;

    Pool(int count, int64_t poll)
        : threads(count),
          between(poll < 100 ? 0 : INT64_MAX, poll < 100 ? poll * SPIN_NS_OF_POLL : INT64_MAX),
          states(new std::atomic<uint64_t>[CHUNKS_MAX]()) {}
};

// Waits while the word holds `held`.
void wait(Pool & pool, Word & word, uint32_t held, Word & sleepers) {
    for (int i = 0; i < 64; i++) {
        if (word.load(std::memory_order_acquire) != held) return;
        relax();
    }
    const int64_t began = now_ns(), spin = pool.within.ns();
    int64_t lasted = 0;
    while (word.load(std::memory_order_acquire) == held && lasted < spin) {
        for (int i = 0; i < 32 && word.load(std::memory_order_relaxed) == held; i++) relax();
        lasted = now_ns() - began;
    }
    const bool sleeps = word.load(std::memory_order_acquire) == held;
    if (sleeps) {
        sleepers.fetch_add(1);
        while (word.load() == held) futex_wait(word, held);
        sleepers.fetch_sub(1);
    }
    pool.within.learn(lasted, sleeps);
}

void wake(Word & word, Word & sleepers) {
    if (sleepers.load() > 0) futex_wake(word);
}

// Chunks of job `number` that are finished.
int64_t count_finished(Pool & pool, const Job & job, uint32_t number) {
    int64_t count = 0;
    for (int i = 0; i < job.threads; i++) {
        const uint64_t finished = pool.threads[i].finished.load(std::memory_order_acquire);
        if (finished >> 32 == number) count += (uint32_t) finished;
    }
    return count;
}

// Its next chunk of the job, or -1.
int64_t take(Pool & pool, const Job & job, uint32_t number, Thread & self) {
    for (int i = 0; i < job.threads; i++) {
        auto & range = pool.threads[(self.index + i) % job.threads].range;
        Range held = range.load(std::memory_order_acquire);
        while (held.job == number && held.front < held.back) {
            Range rest = held;
            const int64_t chunk = i == 0 ? rest.front++ : --rest.back;
            if (range.compare_exchange_weak(held, rest, std::memory_order_acq_rel, std::memory_order_acquire)) return chunk;
        }
    }
    return -1;
}

void note_finished(Thread & self, uint32_t number) {
    const uint64_t finished = self.finished.load(std::memory_order_relaxed);
    self.finished.store((finished >> 32 == number ? finished : (uint64_t) number << 32) + 1, std::memory_order_release);
}

// Publishes a chunk that this thread has computed, unless another was first.
void publish(Pool & pool, Job & job, uint32_t number, int64_t chunk, Thread & self) {
    auto & state = pool.states[chunk];
    uint64_t held = state.load(std::memory_order_acquire);
    const uint64_t of_job = (uint64_t) number << 2;
    // In this order: if the job was not over after `held` was read and the chunk was not
    // published then, it can only be so now if the state is another.
    if (held == (of_job | PUBLISHING) || held == (of_job | DONE) || pool.making.load() != number) return;
    if (!state.compare_exchange_strong(held, of_job | PUBLISHING, std::memory_order_acq_rel)) return;
    job.work.publish(job.work, chunk, self.own.data());
    state.store(of_job | DONE, std::memory_order_release);
    note_finished(self, number);
}

void compute(Pool & pool, Job & job, uint32_t number, int64_t chunk, int64_t next, Thread & self) {
    job.work.compute(job.work, chunk, std::clamp<int64_t>(next, 0, job.chunks - 1), self.own.data(), job.work.stride);
    publish(pool, job, number, chunk, self);
}

// A chunk that nobody has begun to publish, from `from` on and around; -1 if there is
// none, and whether all are done.
int64_t find_unpublished(Pool & pool, const Job & job, uint32_t number, bool & all_done) {
    all_done = true;
    for (int64_t chunk = 0; chunk < job.chunks; chunk++) {
        const uint64_t state = pool.states[chunk].load(std::memory_order_acquire);
        if (state == (((uint64_t) number << 2) | DONE)) continue;
        all_done = false;
        if (state != (((uint64_t) number << 2) | PUBLISHING)) return chunk;
    }
    return -1;
}

void post(Pool & pool, const Job & job) {
    const uint32_t number = pool.making.load();
    for (int64_t i = 0; i < job.threads; i++) {
        const auto from = (uint16_t) (job.chunks * i / job.threads), to = (uint16_t) (job.chunks * (i + 1) / job.threads);
        pool.threads[i].range.store(Range{ number, from, to }, std::memory_order_release);
    }
    pool.posted.store(number);
    wake(pool.posted, pool.sleepers);
}

// Whether the node computes little, and each element by itself.
bool is_small(const ggml_tensor * node) {
    switch (node->op) {
        case GGML_OP_ADD: case GGML_OP_ADD_ID: case GGML_OP_CONCAT: case GGML_OP_CONT: case GGML_OP_CPY:
        case GGML_OP_DIV: case GGML_OP_DUP: case GGML_OP_GLU: case GGML_OP_L2_NORM: case GGML_OP_MUL:
        case GGML_OP_NORM: case GGML_OP_RMS_NORM: case GGML_OP_ROPE: case GGML_OP_SOFT_MAX: case GGML_OP_SUB:
        case GGML_OP_UNARY:
            return ggml_nelements(node) <= FEW_ELEMENTS && ggml_nelements(node->src[0]) <= FEW_ELEMENTS;
        default:
            return false;
    }
}

bool is_weight(const ggml_tensor * tensor) {
    return tensor->buffer && !tensor->extra && tensor->op == GGML_OP_NONE &&
           ggml_backend_buffer_get_usage(tensor->buffer) == GGML_BACKEND_BUFFER_USAGE_WEIGHTS;
}

// Whether memory of a context, which outlives its threads.
bool is_cache(const ggml_tensor * tensor) { return tensor->view_src && tensor->view_src->op == GGML_OP_NONE; }

// Makes the job of a product, from columns that are quantized at once if they are few.
bool make_product(Pool & pool, Job & job, const ggml_tensor * node) {
    if (node->op != GGML_OP_MUL_MAT && node->op != GGML_OP_MUL_MAT_ID) return false;
    if (!is_weight(node->src[0])) return false;
    if (node->op == GGML_OP_MUL_MAT_ID ? !plan_experts(node, job.threads, job.experts)
                                       : !plan_product(node, job.threads, job.product)) {
        return false;
    }
    if (job.work.chunks > CHUNKS_MAX) return false;
    Product & product = job.product;
    place_columns(node, product, pool.columns.of(product.bytes_columns));
    job.kind = Job::WORK;
    job.chunks = product.chunks;
    if (product.width * product.matrices <= ZOSIA_PASS_TOKENS) {
        product.quantize(product, 0, product.blocks);
    } else {
        job.kind = Job::COLUMNS;
        job.chunks = std::min<int64_t>(product.blocks, job.threads);
    }
    return true;
}

bool make_attention(Pool & pool, Job & job, const ggml_tensor * node) {
    if (!is_cache(node->src[1]) || !is_cache(node->src[2])) return false;
    if (!plan_attention(node, job.threads, job.attention)) return false;
    if (job.work.chunks > CHUNKS_MAX) return false;
    const auto bytes_of = [](const ggml_tensor * tensor) { return tensor ? (ggml_nbytes(tensor) + 63) / 64 * 64 : 0; };
    const size_t bytes_query = bytes_of(node->src[0]);
    const size_t bytes_mask = bytes_of(node->src[3]);
    if (bytes_query + bytes_mask > COPIED_MAX) return false;
    char * const at = pool.columns.of(bytes_query + bytes_mask + job.attention.bytes_parts);
    memcpy(at, node->src[0]->data, ggml_nbytes(node->src[0]));
    job.attention.src[0].data = at;
    if (node->src[3]) {
        memcpy(at + bytes_query, node->src[3]->data, ggml_nbytes(node->src[3]));
        job.attention.src[3].data = at + bytes_query;
    }
    job.attention.parts = (float *) (at + bytes_query + bytes_mask);
    job.kind = Job::WORK;
    job.chunks = job.attention.chunks;
    return true;
}

bool is_aborted(Pool & pool) {
    const ggml_cplan & plan = *pool.plan;
    if (!plan.abort_callback || !plan.abort_callback(plan.abort_callback_data)) return false;
    pool.status = GGML_STATUS_ABORTED;
    return true;
}

ggml_compute_params params_of(Pool & pool, int index, int count) {
    ggml_compute_params params = {};
    params.ith = index;
    params.nth = count;
    params.wsize = pool.plan->work_size;
    params.wdata = pool.plan->work_data;
    params.threadpool = pool.base;
    params.use_ref = pool.plan->use_ref;
    return params;
}

// Computes what is small and makes the next job. Called by one thread at a time, when
// the job before is over and no other has what this writes.
void advance(Pool & pool) {
    // Who sees what is written from here on also sees that the job before is over.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    Job & job = pool.job;
    if (job.kind == Job::COLUMNS) {
        job.kind = Job::WORK;
        job.chunks = job.work.chunks;
        return post(pool, job);
    }
    if (job.kind == Job::WORK && job.work.finish) job.work.finish(job.work);
    if (job.kind != Job::END) pool.node += pool.fused.exchange(0) + 1;
    job.threads = pool.threads_of_graph;
    for (; pool.node < pool.graph->n_nodes; pool.node++) {
        if (pool.node > 0 && is_aborted(pool)) break;
        ggml_tensor * node = pool.graph->nodes[pool.node];
        if (ggml_op_is_empty(node->op) || !(node->flags & GGML_TENSOR_FLAG_COMPUTE) || ggml_is_empty(node)) continue;
        job.node = pool.node;
        if (!pool.plan->use_ref) {
            if (make_product(pool, job, node)) return post(pool, job);
            if (node->op == GGML_OP_FLASH_ATTN_EXT && make_attention(pool, job, node)) return post(pool, job);
        }
        if (job.threads > 1 && !is_small(node) && zosia_n_threads_of(node, job.threads) > 1) {
            job.kind = Job::SHARES;
            job.chunks = job.threads;
            pool.meeting.store(job.threads, std::memory_order_relaxed);
            return post(pool, job);
        }
        pool.meeting.store(1, std::memory_order_relaxed);
        ggml_compute_params params = params_of(pool, 0, 1);
        pool.node += zosia_compute(pool.graph, pool.node, &params, pool.plan);
    }
    job.kind = Job::END;
    job.chunks = 0;
    post(pool, job);
}

// Shares of an operation as ggml has them, or of columns.
void run_share(Pool & pool, const Job & job, int64_t chunk) {
    if (job.kind == Job::COLUMNS) {
        const Product & product = job.product;
        product.quantize(product, product.blocks * chunk / job.chunks, product.blocks * (chunk + 1) / job.chunks);
        return;
    }
    ggml_compute_params params = params_of(pool, chunk, job.threads);
    pool.fused.store(zosia_compute(pool.graph, job.node, &params, pool.plan), std::memory_order_relaxed);
}

// Takes part in a job until it is over.
void take_part(Pool & pool, Job & job, uint32_t number, Thread & self) {
    const bool shares = job.kind != Job::WORK;
    if (!shares && (int64_t) self.own.size() < job.work.own_floats) self.own.resize(job.work.own_floats);
    const int64_t began = now_ns();
    int64_t taken = 0, last = -1;
    for (int64_t chunk; (chunk = take(pool, job, number, self)) >= 0; taken++, last = chunk) {
        if (shares) {
            run_share(pool, job, chunk);
            note_finished(self, number);
        } else {
            compute(pool, job, number, chunk, chunk < last ? chunk - 1 : chunk + 1, self);
        }
    }
    // Others are at work: for about as long as a chunk takes, if they are not put aside.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const int64_t ended = now_ns(), patience = taken ? 2 * (ended - began) / taken + 1000 : 5000;
    while (pool.making.load() == number) {
        bool over = count_finished(pool, job, number) == job.chunks;
        if (!over && !shares && now_ns() - ended > patience) {
            const int64_t chunk = find_unpublished(pool, job, number, over);
            if (chunk >= 0) compute(pool, job, number, chunk, chunk, self);
        }
        if (over) {
            if (pool.making.compare_exchange_strong(number, number + 1)) advance(pool);
            return;
        }
        if (now_ns() - ended > pool.within.ns() + patience) {
            // The one who publishes, or has a share, goes on by itself.
            pool.sleepers.fetch_add(1);
            if (pool.posted.load() == number && count_finished(pool, job, number) < job.chunks) {
                futex_wait(pool.posted, number);
            }
            pool.sleepers.fetch_sub(1);
        } else {
            for (int i = 0; i < 4; i++) relax();
        }
    }
}

// Takes part in a graph until it is computed.
void run_graph(Pool & pool, Thread & self) {
    Job job;
    for (;;) {
        const uint32_t number = pool.posted.load(std::memory_order_acquire);
        memcpy((void *) &job, &pool.job, offsetof(Job, work));
        if (job.kind == Job::WORK || job.kind == Job::COLUMNS) {
            memcpy((void *) &job.work, &pool.job.work, std::min(pool.job.work.bytes, sizeof job - offsetof(Job, work)));
        }
        std::atomic_thread_fence(std::memory_order_acquire);
        // Otherwise the next is being made, and this copy is of both.
        if (pool.making.load(std::memory_order_relaxed) == number) {
            if (job.kind == Job::END || self.index >= job.threads) return;
            take_part(pool, job, number, self);
        }
        wait(pool, pool.posted, number, pool.sleepers);
    }
}

// Changes places with the caller of a graph that is over, if it does not come for the
// result: somebody else has its processor, and this one is about to be free.
void fetch_caller(Pool & pool, Thread & self, uint64_t graph) {
    uint64_t fetched = pool.fetched.load();
    if (fetched == graph || pool.returned.load() >= graph || !pool.places.are_as_many_as(graph & 0xffff)) return;
    if (!pool.fetched.compare_exchange_strong(fetched, graph)) return;
    Thread & caller = pool.threads[0];
    const int here = self.place.load();
    self.place.store(caller.place.exchange(here));
    pool.places.put(caller.id, here);
    pool.places.take(self.place.load(), graph & 0xffff);
}

void * run_thread(void * data) {
    Thread & self = *(Thread *) data;
    Pool & pool = *self.pool;
    uint64_t seen = 0;
    self.id = gettid();
    pool.places.forget();
    for (;;) {
        // Between graphs each has a word of its own: those that a graph does not need
        // sleep on.
        const auto is_wanted = [&] {
            const uint64_t graphs = pool.graphs.load();
            return pool.stop.load() || (graphs != seen && self.index < (int) (graphs & 0xffff));
        };
        const int64_t began = now_ns(), spin = pool.between.ns();
        int64_t lasted = 0;
        while (!is_wanted() && (lasted < spin || (lasted <= FETCH_NS && pool.returned.load() < seen))) {
            for (int i = 0; i < 32 && !is_wanted(); i++) relax();
            lasted = now_ns() - began;
            if (lasted > FETCH_NS) fetch_caller(pool, self, seen);
        }
        const bool sleeps = !is_wanted();
        while (!is_wanted()) {
            self.asleep.store(1);
            if (!is_wanted()) futex_wait(self.asleep, 1);
            self.asleep.store(0);
        }
        if (pool.stop.load()) return nullptr;
        pool.between.learn(lasted, sleeps);
        seen = pool.graphs.load();
        pool.places.take(self.place.load(), seen & 0xffff);
        run_graph(pool, self);
    }
}

Pool & pool_of(ggml_threadpool * threadpool) { return *(Pool *) zosia_threadpool_pool(threadpool); }

ggml_threadpool * start(int count, int poll) {
    auto * pool = new Pool(count, poll);
    pool->base = zosia_threadpool_new(count, pool);
    pool->job.kind = Job::END;
    for (int i = 0; i < count; i++) {
        pool->threads[i].pool = pool;
        pool->threads[i].index = i;
        pool->threads[i].place = i;
        if (i > 0 && pthread_create(&pool->threads[i].handle, nullptr, run_thread, &pool->threads[i]) != 0) {
            GGML_ABORT("a thread cannot be started");
        }
    }
    return pool->base;
}

} // namespace

extern "C" {

ggml_threadpool * ggml_threadpool_new(ggml_threadpool_params * params) { return start(params->n_threads, params->poll); }

void ggml_threadpool_free(ggml_threadpool * threadpool) {
    if (!threadpool) return;
    Pool & pool = pool_of(threadpool);
    pool.stop.store(true);
    for (size_t i = 1; i < pool.threads.size(); i++) {
        pool.threads[i].asleep.store(0);
        futex_wake(pool.threads[i].asleep);
        pthread_join(pool.threads[i].handle, nullptr);
    }
    pool.places.take(0, 1);
    zosia_threadpool_free(threadpool);
    delete &pool;
}

// Idle threads sleep by themselves.
void ggml_threadpool_pause(ggml_threadpool *) {}
void ggml_threadpool_resume(ggml_threadpool *) {}

void ggml_barrier(ggml_threadpool * threadpool) {
    Pool & pool = pool_of(threadpool);
    const int count = pool.meeting.load(std::memory_order_relaxed);
    if (count == 1) return;
    const uint32_t met = pool.met.load(std::memory_order_relaxed);
    if (pool.arrived.fetch_add(1) == count - 1) {
        pool.arrived.store(0, std::memory_order_relaxed);
        pool.met.store(met + 1);
        wake(pool.met, pool.sleepers);
    } else {
        wait(pool, pool.met, met, pool.sleepers);
    }
}

ggml_status ggml_graph_compute(ggml_cgraph * graph, ggml_cplan * plan) {
    ggml_threadpool * const threadpool = plan->threadpool ? plan->threadpool : start(plan->n_threads, 0);
    Pool & pool = pool_of(threadpool);
    const int count = std::min<int>(plan->n_threads, pool.threads.size());
    // The last job is an END: no thread but this one can be making a job.
    pool.making.fetch_add(1);
    pool.graph = graph;
    pool.plan = plan;
    pool.node = 0;
    pool.threads_of_graph = count;
    pool.status = GGML_STATUS_SUCCESS;
    pool.graphs.store(((pool.graphs.load() >> 16) + 1) << 16 | count);
    for (int i = 1; i < count; i++) {
        Word & asleep = pool.threads[i].asleep;
        if (asleep.load() == 1 && asleep.exchange(0) == 1) futex_wake(asleep);
    }
    Thread & self = pool.threads[0];
    static thread_local const pid_t id = gettid();
    self.id = id;
    pool.places.take(self.place.load(), count);
    advance(pool);
    run_graph(pool, self);
    pool.returned.store(pool.graphs.load());
    const ggml_status status = pool.status;
    if (!plan->threadpool) ggml_threadpool_free(threadpool);
    return status;
}

} // extern "C"

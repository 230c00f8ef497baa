//! A thread that the scheduler has put aside holds up no other. Here one is held where
//! it reads the weights: a page of them cannot be read, and the signal's handler does
//! not return. Alone in its process, whose only other threads are known.

#![expect(unsafe_code, reason = "ggml's graphs and threads are C")]
#![expect(clippy::unwrap_used, reason = "in a test, a failure is to be seen")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "what makes one call sound makes its neighbours so"
)]

use std::collections::BTreeSet;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::{fs, hint, mem};

use llama_cpp_sys_2 as sys;

const LENGTH: usize = 2048;
const PRODUCTS: usize = 40;

/// Bytes that are protected at once, on every Linux that zosia runs on or a part of it.
const PAGE_BYTES: usize = 65536;

/// `SIGSEGV`, `PROT_NONE`, and `PROT_READ | PROT_WRITE`.
const SIGNAL: c_int = 11;
const CLOSED: c_int = 0;
const OPEN: c_int = 3;

/// Nothing here takes as long, unless it waits for the thread that is held.
const DEADLINE: Duration = Duration::from_secs(20);

static HELPER: AtomicI32 = AtomicI32::new(0);
static PAGE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static HOLDING: AtomicBool = AtomicBool::new(false);
static HELD: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    /// `signal(2)`.
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    /// `mprotect(2)`.
    fn mprotect(address: *mut c_void, bytes: usize, protection: c_int) -> c_int;
    /// `gettid(2)`.
    fn gettid() -> c_int;
}

fn protect(protection: c_int) {
    // SAFETY: mprotect(2): whole pages of the weights, whose readers have a handler.
    let failed = unsafe { mprotect(PAGE.load(Ordering::SeqCst), PAGE_BYTES, protection) };
    assert_eq!(failed, 0);
}

/// Whoever comes first opens the page for all; the helper stays here for a while.
extern "C" fn hold(_: c_int) {
    protect(OPEN);
    // SAFETY: gettid(2): a getter.
    if unsafe { gettid() } != HELPER.load(Ordering::SeqCst) {
        return;
    }
    HELD.store(true, Ordering::SeqCst);
    while HOLDING.load(Ordering::SeqCst) {
        hint::spin_loop();
    }
    HELD.store(false, Ordering::SeqCst);
}

fn threads() -> BTreeSet<c_int> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect()
}

/// A graph of products, one after the other, and two threads that compute it.
struct Chain {
    backend: sys::ggml_backend_t,
    graph: *mut sys::ggml_cgraph,
    output: *mut sys::ggml_tensor,
}

/// A function of ggml-cpu, by its name in the registry.
unsafe fn function<F: Copy>(registry: sys::ggml_backend_reg_t, name: &CStr) -> F {
    assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
    // SAFETY: ggml-backend.h: a live registry and a C string; the caller names the
    // function's own type.
    unsafe {
        let function = sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr());
        assert!(!function.is_null(), "{name:?}");
        mem::transmute_copy(&function)
    }
}

impl Chain {
    fn new() -> Self {
        ggml::choose(None).unwrap().register();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|_| (rng.f32() - 0.5) * 0.08).collect() };
        let (weights, column) = (numbers(LENGTH * LENGTH), numbers(LENGTH));
        let kind = sys::GGML_TYPE_Q8_0;
        // SAFETY: ggml.h, ggml-backend.h, ggml-cpu.h: each call has what the one before
        // made. All of it lives until the process ends.
        unsafe {
            let device = sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU);
            let registry = sys::ggml_backend_dev_backend_reg(device);
            let backend = sys::ggml_backend_dev_init(device, ptr::null());
            let before = threads();
            let new: unsafe extern "C" fn(
                *mut sys::ggml_threadpool_params,
            ) -> sys::ggml_threadpool_t = function(registry, c"ggml_threadpool_new");
            let mut params = sys::ggml_threadpool_params_default(2);
            let pool = new(&raw mut params);
            let helper = *threads().difference(&before).next().unwrap();
            HELPER.store(helper, Ordering::SeqCst);
            let attach: unsafe extern "C" fn(sys::ggml_backend_t, sys::ggml_threadpool_t) =
                function(registry, c"ggml_backend_cpu_set_threadpool");
            attach(backend, pool);
            let set_threads: unsafe extern "C" fn(sys::ggml_backend_t, c_int) =
                function(registry, c"ggml_backend_set_n_threads");
            set_threads(backend, 2);

            let context = sys::ggml_init(sys::ggml_init_params {
                mem_size: 64 * sys::ggml_tensor_overhead() + sys::ggml_graph_overhead(),
                mem_buffer: ptr::null_mut(),
                no_alloc: true,
            });
            let length = i64::try_from(LENGTH).unwrap();
            let x = sys::ggml_new_tensor_2d(context, kind, length, length);
            let first = sys::ggml_new_tensor_1d(context, sys::GGML_TYPE_F32, length);
            let mut output = first;
            for _ in 0..PRODUCTS {
                output = sys::ggml_mul_mat(context, x, output);
            }
            let graph = sys::ggml_new_graph(context);
            sys::ggml_build_forward_expand(graph, output);
            let buffer = sys::ggml_backend_alloc_ctx_tensors(context, backend);
            sys::ggml_backend_buffer_set_usage(buffer, sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            let mut bytes = vec![0_u8; sys::ggml_nbytes(x)];
            let to = bytes.as_mut_ptr().cast();
            sys::ggml_quantize_chunk(kind, weights.as_ptr(), to, 0, length, length, ptr::null());
            sys::ggml_backend_tensor_set(x, bytes.as_ptr().cast(), 0, bytes.len());
            // In the middle of the rows that are the second thread's.
            let middle = bytes.len() / 4 * 3 + (*x).data as usize;
            let page = middle.next_multiple_of(PAGE_BYTES) as *mut c_void;
            PAGE.store(page, Ordering::SeqCst);
            let bytes = size_of_val(column.as_slice());
            sys::ggml_backend_tensor_set(first, column.as_ptr().cast(), 0, bytes);
            Self {
                backend,
                graph,
                output,
            }
        }
    }

    fn compute(&self) -> Vec<f32> {
        let mut floats = vec![0_f32; LENGTH];
        let bytes = size_of_val(floats.as_slice());
        // SAFETY: ggml-backend.h: the graph's tensors have buffers of this backend; the
        // output has `LENGTH` floats.
        unsafe {
            let status = sys::ggml_backend_graph_compute(self.backend, self.graph);
            assert_eq!(status, sys::GGML_STATUS_SUCCESS);
            sys::ggml_backend_tensor_get(self.output, floats.as_mut_ptr().cast(), 0, bytes);
        }
        floats
    }

    /// Computes while the helper is held: the result, and whether it had to be let go.
    fn compute_without_it(&self) -> (Vec<f32>, bool) {
        let (done, is_done) = mpsc::channel();
        let watch = thread::spawn(move || {
            let is_late = is_done.recv_timeout(DEADLINE).is_err();
            if is_late {
                HOLDING.store(false, Ordering::SeqCst);
            }
            is_late
        });
        let result = self.compute();
        // Late, nobody listens any more.
        let _ = done.send(());
        (result, watch.join().unwrap())
    }
}

#[test]
fn a_thread_that_is_held_holds_up_no_other() {
    // SAFETY: signal(2): the handler touches atomics and the protection alone.
    unsafe { signal(SIGNAL, hold) };
    let chain = Chain::new();
    let right = chain.compute();
    assert!(right.iter().any(|number| number.abs() > 1e-12));

    // If the helper comes late, the other reads its rows.
    for _ in 0..1000 {
        HOLDING.store(true, Ordering::SeqCst);
        protect(CLOSED);
        let (result, is_late) = chain.compute_without_it();
        let is_held = HELD.load(Ordering::SeqCst);
        assert!(!is_late, "a graph waits for a thread that is held");
        assert!(result == right, "other bits without it");
        // What it had begun is thrown away.
        HOLDING.store(false, Ordering::SeqCst);
        assert!(chain.compute() == right, "other bits when it is back");
        if is_held {
            return;
        }
    }
    panic!("the helper never reads its rows first");
}

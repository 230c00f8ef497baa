//! Persistent worker threads. Without them ggml starts and joins a set of its
//! own for every token.

#![expect(
    unsafe_code,
    reason = "ggml's thread pool is a C handle, reached through function pointers"
)]

use std::cell::RefCell;
use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::backend::Backend;

type New = unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> sys::ggml_threadpool_t;
type Free = unsafe extern "C" fn(sys::ggml_threadpool_t);

/// A pool of ggml's worker threads, the calling thread included in its count.
pub(crate) struct Pool<'b> {
    handle: NonNull<sys::ggml_threadpool>,
    free: Free,
    backend: PhantomData<&'b Backend>,
}

impl<'b> Pool<'b> {
    /// Starts `threads` − 1 threads that poll with eagerness `poll`, 0 (sleep)
    /// to 100. `None` if ggml cannot.
    pub(crate) fn start(_proof: &'b Backend, threads: u32, poll: u32) -> Option<Self> {
        let new = cpu_function(c"ggml_threadpool_new")?;
        let free = cpu_function(c"ggml_threadpool_free")?;
        // SAFETY: ggml-cpu registers under this name the function that
        // ggml-cpu.h declares with this type.
        let new = unsafe { std::mem::transmute::<NonNull<c_void>, New>(new) };
        // SAFETY: as above.
        let free = unsafe { std::mem::transmute::<NonNull<c_void>, Free>(free) };
        let threads = i32::try_from(threads).ok()?;
        // SAFETY: ggml.h: returns plain data.
        let mut params = unsafe { sys::ggml_threadpool_params_default(threads) };
        params.poll = poll.min(100);
        // SAFETY: ggml-cpu.h: reads the parameters during the call.
        let handle = unsafe { new(&raw mut params) };
        Some(Self {
            handle: NonNull::new(handle)?,
            free,
            backend: PhantomData,
        })
    }

    fn as_ptr(&self) -> sys::ggml_threadpool_t {
        self.handle.as_ptr()
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        // SAFETY: ggml-cpu.h: joins and frees; this is the only owner, and the
        // contexts that used it compute nothing any more (they ask for it first).
        unsafe { (self.free)(self.as_ptr()) }
    }
}

/// The threads of contexts that take turns: for single tokens, and for larger batches
/// where these have others.
pub(crate) struct Pools<'b>(RefCell<Option<(Pool<'b>, Option<Pool<'b>>)>>);

impl<'b> Pools<'b> {
    /// Starts as many threads as are told, for each kind. `None` if ggml cannot.
    pub(crate) fn start(
        proof: &'b Backend,
        (threads, batch_threads): (u32, u32),
        poll: u32,
    ) -> Option<Self> {
        let main = Pool::start(proof, threads, poll)?;
        let batch = if batch_threads == threads {
            None
        } else {
            Some(Pool::start(proof, batch_threads, poll)?)
        };
        Some(Self(RefCell::new(Some((main, batch)))))
    }

    /// The C handles, for a context that they are attached to: null for batches means the
    /// first. `None` when the threads have ended.
    pub(super) fn as_ptrs(&self) -> Option<(sys::ggml_threadpool_t, sys::ggml_threadpool_t)> {
        let pools = self.0.borrow();
        let (main, batch) = pools.as_ref()?;
        let batch = batch.as_ref().map_or(std::ptr::null_mut(), Pool::as_ptr);
        Some((main.as_ptr(), batch))
    }

    /// Ends the threads: before any of their contexts does, for one that the scheduler has
    /// put aside may still read from it.
    pub(super) fn end(&self) {
        self.0.take();
    }
}

/// A function of the registered ggml-cpu, by the name in its registry.
fn cpu_function(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: ggml-backend.h: looks in the registry; null if there is none.
    let device = unsafe { sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU) };
    NonNull::new(device)?;
    // SAFETY: ggml-backend.h: a getter of a registered device, not null.
    let registry = unsafe { sys::ggml_backend_dev_backend_reg(device) };
    NonNull::new(registry)?;
    // SAFETY: ggml-backend.h: `registry` is not null, `name` a C string.
    let function = unsafe { sys::ggml_backend_reg_get_proc_address(registry, name.as_ptr()) };
    NonNull::new(function)
}

//! How llama.cpp opens the parts of a model. It takes one open file or the names of
//! several, and whoever is confined has no names: they are the numbers of descriptors
//! that are open.

#![expect(unsafe_code, reason = "takes the place of a C function")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _};
use std::ptr::null_mut;

use rustix::fs::SeekFrom;

unsafe extern "C" {
    /// `fdopen(3)`.
    pub(crate) fn fdopen(descriptor: c_int, mode: *const c_char) -> *mut c_void;
}

/// What `file` is called, for as long as it is open.
pub(crate) fn name(file: &File) -> CString {
    CString::new(file.as_raw_fd().to_string()).unwrap_or_default()
}

/// Takes the place of `ggml_fopen` (ggml.h), by the linker's `--wrap` (build.rs): opens
/// what [`name`] has named, from its start, and nothing else.
///
/// # Safety
/// `name` is a C string.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_ggml_fopen(name: *const c_char, _mode: *const c_char) -> *mut c_void {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    let number = name.to_str().ok().and_then(|name| name.parse().ok());
    let Some(number) = number.filter(|number| *number > 2) else {
        return null_mut();
    };
    // SAFETY: if it is not open, the calls below say so; it is borrowed for no longer.
    let part = unsafe { BorrowedFd::borrow_raw(number) };
    // llama.cpp opens it twice and closes what it has opened, which is a copy.
    let Ok(copy) = rustix::io::dup(part) else {
        return null_mut();
    };
    if rustix::fs::seek(&copy, SeekFrom::Start(0)).is_err() {
        return null_mut();
    }
    // SAFETY: fdopen(3): an open descriptor, which the stream owns from here on, and a C
    // string.
    unsafe { fdopen(copy.into_raw_fd(), c"rb".as_ptr()) }
}

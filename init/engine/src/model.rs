//! A loaded model: weights and vocabulary, as llama.cpp holds them.

#![expect(unsafe_code, reason = "llama.cpp's model is a C handle")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::backend::{self, Backend};
use super::part::{self, fdopen};

/// A model in memory. The backend outlives it.
pub(crate) struct Model<'b> {
    handle: NonNull<sys::llama_model>,
    backend: PhantomData<&'b Backend>,
}

/// How the weights get into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weights {
    /// The file's map is used as it is.
    Mapped,
    /// Each tensor is read into memory of its own, in the layout that the
    /// kernels like best.
    Repacked,
}

/// Why a model was not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    /// Its descriptor cannot be used.
    #[error("{0}")]
    File(io::Error),
    /// The other side is gone or has asked to stop.
    #[error("loading was interrupted")]
    Interrupted,
    /// llama.cpp's own words.
    #[error("{0}")]
    Llama(String),
}

/// What the progress callback needs.
struct Watch<'a> {
    progress: &'a mut dyn FnMut(f32) -> bool,
    stopped: bool,
}

impl<'b> Model<'b> {
    /// Loads the GGUF in `files`: one, or the parts of a model in their order. `progress`
    /// is told the part done, 0 to 1, and
    /// returns whether to go on.
    ///
    /// # Errors
    /// [`ModelError`]; [`ModelError::Llama`] carries what llama.cpp logged.
    pub(crate) fn load(
        _proof: &'b Backend,
        files: &[&File],
        weights: Weights,
        progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<Self, ModelError> {
        let mut watch = Watch {
            progress,
            stopped: false,
        };
        // SAFETY: llama.h: returns plain data, no obligation.
        let mut params = unsafe { sys::llama_model_default_params() };
        params.n_gpu_layers = 0;
        params.load_mode = match weights {
            Weights::Mapped => sys::LLAMA_LOAD_MODE_MMAP,
            Weights::Repacked => sys::LLAMA_LOAD_MODE_NONE,
        };
        params.use_extra_bufts = weights == Weights::Repacked;
        params.progress_callback = Some(on_progress);
        params.progress_callback_user_data = (&raw mut watch).cast();
        let handle = match files {
            [file] => {
                // SAFETY: fdopen(3): an open descriptor and a C string. The stream is never
                // closed, for that would close `file` as well; a process loads thrice at most.
                let stream = unsafe { fdopen(file.as_raw_fd(), c"rb".as_ptr()) };
                if stream.is_null() {
                    return Err(ModelError::File(io::Error::last_os_error()));
                }
                // SAFETY: llama.h: the stream is open, and is not used after the call, as
                // maps need no descriptor; the callback's data points to `watch`, which
                // outlives the call, and llama.cpp calls it from this thread during the
                // call only; the backend is initialised (`_proof`).
                unsafe { sys::llama_model_load_from_file_ptr(stream, params) }
            }
            parts => {
                let names: Vec<CString> = parts.iter().map(|file| part::name(file)).collect();
                let mut names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
                // SAFETY: llama.h: as many C strings as are said, which outlive the call;
                // the callback and the backend as above.
                unsafe {
                    sys::llama_model_load_from_splits(names.as_mut_ptr(), names.len(), params)
                }
            }
        };
        match NonNull::new(handle) {
            Some(handle) => Ok(Self {
                handle,
                backend: PhantomData,
            }),
            None if watch.stopped => Err(ModelError::Interrupted),
            None => Err(ModelError::Llama(backend::take_errors())),
        }
    }

    /// llama.cpp's description: `phi3 3B Q4_K - Medium`.
    pub(crate) fn description(&self) -> String {
        let mut buffer = [0_u8; 256];
        // SAFETY: llama.h: writes at most `buf_size` bytes, the zero included,
        // to `buf`; both describe `buffer`.
        let length = unsafe {
            sys::llama_model_desc(
                self.as_ptr(),
                buffer.as_mut_ptr().cast::<c_char>(),
                buffer.len(),
            )
        };
        let length = usize::try_from(length).unwrap_or(0);
        let text = buffer.get(..length.min(buffer.len() - 1)).unwrap_or(&[]);
        String::from_utf8_lossy(text).into_owned()
    }

    /// Whether the file's header has this key.
    pub(crate) fn has_key(&self, key: &CStr) -> bool {
        let (nothing, none) = (std::ptr::null_mut(), 0);
        // SAFETY: llama.h: a live model and a C string; no byte is written to a buffer
        // of none. Negative: there is no such key.
        unsafe { sys::llama_model_meta_val_str(self.as_ptr(), key.as_ptr(), nothing, none) >= 0 }
    }

    /// The text that the file's header has under this key, if no longer than a name is.
    pub(crate) fn name_at(&self, key: &CStr) -> Option<String> {
        let mut text = [0_u8; 64];
        // SAFETY: llama.h: a live model, a C string, and a buffer as long as it says,
        // which is ended by a zero. Negative: there is no such key.
        let length = unsafe {
            sys::llama_model_meta_val_str(
                self.as_ptr(),
                key.as_ptr(),
                text.as_mut_ptr().cast(),
                text.len(),
            )
        };
        let text = text.get(..usize::try_from(length).ok()?)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Number of weights.
    pub(crate) fn parameters(&self) -> u64 {
        // SAFETY: llama.h: a getter of a live model.
        unsafe { sys::llama_model_n_params(self.as_ptr()) }
    }

    /// Context length the model was trained for, tokens; 0 if it does not say.
    pub(crate) fn ctx_train_tokens(&self) -> u32 {
        // SAFETY: llama.h: a getter of a live model.
        let tokens = unsafe { sys::llama_model_n_ctx_train(self.as_ptr()) };
        u32::try_from(tokens).unwrap_or(0)
    }

    /// Whether it can be asked for one token after another at all: encoders
    /// and diffusion models cannot.
    pub(crate) fn is_decoder(&self) -> bool {
        // SAFETY: llama.h: a getter of a live model.
        let decoder = unsafe { sys::llama_model_has_decoder(self.as_ptr()) };
        // SAFETY: as above.
        let encoder = unsafe { sys::llama_model_has_encoder(self.as_ptr()) };
        // SAFETY: as above.
        let diffusion = unsafe { sys::llama_model_is_diffusion(self.as_ptr()) };
        decoder && !encoder && !diffusion
    }

    /// Whether a context can forget its last tokens alone: a recurrent state
    /// has no way back.
    pub(crate) fn can_rewind(&self) -> bool {
        // SAFETY: llama.h: a getter of a live model.
        let recurrent = unsafe { sys::llama_model_is_recurrent(self.as_ptr()) };
        // SAFETY: as above.
        let hybrid = unsafe { sys::llama_model_is_hybrid(self.as_ptr()) };
        !recurrent && !hybrid
    }

    /// Whether a context's state is had and put back without what it holds for each
    /// position: for what cannot be rewound. Cells of a window would come back in another
    /// order, and be summed in it.
    pub(crate) fn has_checkpoints(&self) -> bool {
        !self.can_rewind() && self.window_tokens() == 0 && self.has_separable_state()
    }

    /// Tokens that attention looks back at in some of the layers; 0: at all, in all.
    pub(crate) fn window_tokens(&self) -> u32 {
        // SAFETY: llama.h: a getter of a live model.
        let tokens = unsafe { sys::llama_model_n_swa(self.as_ptr()) };
        u32::try_from(tokens).unwrap_or(0)
    }

    /// Whether a context's state is that of its sequences, each by itself.
    pub(crate) fn has_separable_state(&self) -> bool {
        // DeepSeek 4's memory copies whole sequences only, and asserts it.
        !self.has_key(c"deepseek4.block_count")
    }

    /// The C handle, for the engine's other wrappers.
    pub(super) fn as_ptr(&self) -> *mut sys::llama_model {
        self.handle.as_ptr()
    }
}

impl Drop for Model<'_> {
    fn drop(&mut self) {
        // SAFETY: llama.h: frees a model; this is its only owner, and contexts
        // and vocabularies borrow it, so none is left.
        unsafe { sys::llama_model_free(self.as_ptr()) }
    }
}

/// llama.cpp's progress callback.
unsafe extern "C" fn on_progress(done: f32, data: *mut c_void) -> bool {
    // SAFETY: `data` is the pointer to the `Watch` of the `Model::load` that is
    // running on this thread; nothing else uses it meanwhile.
    let watch = unsafe { &mut *data.cast::<Watch<'_>>() };
    // A panic must not unwind into C++: it ends the loading.
    let go_on = catch_unwind(AssertUnwindSafe(|| (watch.progress)(done))).unwrap_or(false);
    watch.stopped |= !go_on;
    go_on
}

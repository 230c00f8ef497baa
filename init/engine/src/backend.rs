//! Initialisation of llama.cpp, and its log: silent unless asked for, its last
//! errors kept for messages.

#![expect(
    unsafe_code,
    reason = "llama.cpp's global initialisation and its log callback"
)]

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use llama_cpp_sys_2 as sys;

use ggml::Level;

/// As many of the latest warnings and errors are kept.
const KEPT_LINES: usize = 8;

/// Proof that llama.cpp is initialised with one level of ggml-cpu.
pub(crate) struct Backend {
    level: &'static str,
}

static LEVEL: OnceLock<&'static str> = OnceLock::new();
static LOG: Mutex<Log> = Mutex::new(Log::new());

impl Backend {
    /// Initialises llama.cpp once for the process. A second call gives the
    /// level of the first: ggml's registry cannot forget one.
    pub(crate) fn init(level: &'static Level, echo_log: bool) -> Self {
        log().echo = echo_log;
        let level = *LEVEL.get_or_init(|| {
            // SAFETY: llama.h: sets the global callback, before anything else of
            // llama.cpp runs; `on_log` is a function and lives for ever, and it
            // takes no user data.
            unsafe { sys::llama_log_set(Some(on_log), std::ptr::null_mut()) };
            // SAFETY: ggml.h: sets what is called before ggml aborts; `on_abort` is a
            // function and lives for ever.
            unsafe { sys::ggml_set_abort_callback(Some(on_abort)) };
            level.register();
            // SAFETY: llama.h: "Call once at the start of the program"; the
            // OnceLock makes it once.
            unsafe { sys::llama_backend_init() };
            level.name
        });
        Self { level }
    }

    /// The name of the ggml-cpu level in use.
    pub(crate) fn level(&self) -> &'static str {
        self.level
    }
}

/// The last errors that llama.cpp logged, in one line, oldest first; forgotten
/// afterwards. Empty if there were none.
pub(crate) fn take_errors() -> String {
    let mut log = log();
    let lines: Vec<String> = log.errors.drain(..).collect();
    lines.join("; ")
}

/// llama.cpp's log as far as it is kept.
struct Log {
    /// A line that has not ended yet.
    line: String,
    level: sys::ggml_log_level,
    errors: VecDeque<String>,
    echo: bool,
}

impl Log {
    const fn new() -> Self {
        Self {
            line: String::new(),
            level: sys::GGML_LOG_LEVEL_NONE,
            errors: VecDeque::new(),
            echo: false,
        }
    }

    /// Takes a piece of log text; a line is complete at its newline.
    fn push(&mut self, level: sys::ggml_log_level, text: &str) {
        if self.echo {
            // A log that cannot be written must not end the chat.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
        if level != sys::GGML_LOG_LEVEL_CONT {
            self.level = level;
        }
        if self.level != sys::GGML_LOG_LEVEL_ERROR {
            return;
        }
        self.line.push_str(text);
        while let Some(end) = self.line.find('\n') {
            let rest = self.line.split_off(end + 1);
            let line = std::mem::replace(&mut self.line, rest);
            self.keep(without_function_name(line.trim()));
        }
    }

    fn keep(&mut self, line: &str) {
        if line.is_empty() || self.errors.iter().any(|kept| kept == line) {
            return;
        }
        if self.errors.len() == KEPT_LINES {
            self.errors.pop_front();
        }
        self.errors.push_back(line.to_owned());
    }
}

/// llama.cpp begins lines with the C++ function's name and a colon.
fn without_function_name(line: &str) -> &str {
    match line.split_once(": ") {
        Some((name, rest)) if !name.contains(' ') && name.contains('_') => rest,
        _ => line,
    }
}

fn log() -> MutexGuard<'static, Log> {
    // A panic while it was held leaves at worst half a line.
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// llama.cpp's log callback. Called from any thread of it.
unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: ggml.h, ggml_log_callback: `text` is a C string, valid during the
    // call; it is not null.
    let text = unsafe { CStr::from_ptr(text) };
    // A panic must not unwind into C++; there is nobody to tell of it.
    let _ = std::panic::catch_unwind(|| log().push(level, &text.to_string_lossy()));
}

/// Called before ggml aborts, for ggml's own way would start a debugger.
unsafe extern "C" fn on_abort(message: *const c_char) {
    if message.is_null() {
        return;
    }
    // SAFETY: ggml.h, ggml_abort_callback_t: `message` is a C string, valid during
    // the call; it is not null.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // A thread that aborts while it logs must not wait for itself.
    let errors = LOG.try_lock().map(|log| log.errors.clone());
    let line = last_words(&message, &errors.unwrap_or_default());
    // If this fails, it ends without a word.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// The line that the other side reads: ggml's message, which is of the form
/// `FILE:LINE: TEXT`, and the errors that led to it.
fn last_words(message: &str, errors: &VecDeque<String>) -> String {
    // Of the path, what is the same everywhere.
    let place = message.rsplit_once("llama.cpp/");
    let message = place.map_or(message, |(_, place)| place);
    let mut line = String::new();
    for error in errors {
        line.push_str(error);
        line.push_str("; ");
    }
    let cause = if tells_of_memory(&line) {
        "not enough memory: "
    } else {
        ""
    };
    format!("{cause}{line}{message}\n")
}

/// Whether what llama.cpp says is of memory that it did not get.
pub(crate) fn tells_of_memory(words: &str) -> bool {
    ["to allocate", "insufficient memory", "bad_alloc"]
        .iter()
        .any(|telling| words.contains(telling))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_kept_whole_once_and_without_the_function_name() {
        let mut log = Log::new();
        log.push(sys::GGML_LOG_LEVEL_INFO, "loading\n");
        log.push(
            sys::GGML_LOG_LEVEL_ERROR,
            "llama_model_load: error loading ",
        );
        log.push(sys::GGML_LOG_LEVEL_CONT, "model: x\n");
        log.push(
            sys::GGML_LOG_LEVEL_ERROR,
            "llama_model_load: error loading model: x\n",
        );
        log.push(sys::GGML_LOG_LEVEL_ERROR, "plain line: y\n");
        let kept: Vec<_> = log.errors.iter().map(String::as_str).collect();
        assert_eq!(kept, ["error loading model: x", "plain line: y"]);
    }

    #[test]
    fn an_abort_for_want_of_memory_says_so() {
        let message = "/somewhere/llama.cpp/ggml/src/ggml.c:1644: GGML_ASSERT(p != NULL) failed";
        let plain = "ggml/src/ggml.c:1644: GGML_ASSERT(p != NULL) failed\n";
        assert_eq!(last_words(message, &VecDeque::new()), plain);
        let errors = VecDeque::from(["insufficient memory (attempted to allocate 9 MB)".into()]);
        assert_eq!(
            last_words(message, &errors),
            format!("not enough memory: insufficient memory (attempted to allocate 9 MB); {plain}")
        );
    }
}

//! Evaluating what is being typed ahead of Enter, when typing pauses.

use std::time::{Duration, Instant};

/// Typing pauses for this long before what is typed is evaluated ahead.
const PAUSE: Duration = Duration::from_millis(50);
/// Shorter drafts are not worth it.
const BYTES_MIN: usize = 24;
/// Drafts with more bytes for each token of the context do not fit it, most
/// likely: what was pasted by the megabyte is not even tokenized ahead.
const BYTES_A_TOKEN_MAX: usize = 16;

/// What was last evaluated ahead, and since when the text stands.
#[derive(Debug)]
pub(super) struct Drafts {
    evaluated: String,
    typed_at: Instant,
}

impl Drafts {
    /// Nothing typed yet.
    pub(super) fn new() -> Self {
        Self {
            evaluated: String::new(),
            typed_at: Instant::now(),
        }
    }

    /// A key came.
    pub(super) fn on_key(&mut self) {
        self.typed_at = Instant::now();
    }

    /// How long nothing has been typed.
    pub(super) fn pause(&self) -> Duration {
        self.typed_at.elapsed()
    }

    /// What was typed was sent, or is gone.
    pub(super) fn forget(&mut self) {
        self.evaluated.clear();
    }

    /// How long until `text` is to be evaluated for a context of `ctx_tokens`;
    /// `None`: it is not.
    pub(super) fn due(&self, text: &str, ctx_tokens: u32) -> Option<Duration> {
        let ctx_tokens = usize::try_from(ctx_tokens).unwrap_or(usize::MAX);
        let bytes_max = ctx_tokens.saturating_mul(BYTES_A_TOKEN_MAX);
        let wanted = (BYTES_MIN..bytes_max).contains(&text.len())
            && !text.starts_with('/')
            && text != self.evaluated;
        wanted.then(|| PAUSE.saturating_sub(self.pause()))
    }

    /// `text` is being evaluated.
    pub(super) fn begun(&mut self, text: &str) {
        text.clone_into(&mut self.evaluated);
    }
}

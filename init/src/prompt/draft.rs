//! Evaluating what is being typed ahead of Enter, when typing pauses.

use std::time::{Duration, Instant};

use super::Chat;
use crate::session::Phase;

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
    evaluated: Option<String>,
    typed_at: Instant,
}

impl Drafts {
    /// Nothing typed yet.
    pub(super) fn new() -> Self {
        Self {
            evaluated: None,
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

    /// What was typed was sent, or is gone; or something else goes before it now.
    pub(super) fn forget(&mut self) {
        self.evaluated = None;
    }

    /// How long until `text`, after `before` bytes that were read, is to be evaluated
    /// for a context of `ctx_tokens`; `None`: it is not.
    fn due(&self, before: usize, text: &str, ctx_tokens: u32) -> Option<Duration> {
        let ctx_tokens = usize::try_from(ctx_tokens).unwrap_or(usize::MAX);
        let bytes_max = ctx_tokens.saturating_mul(BYTES_A_TOKEN_MAX);
        let wanted = (BYTES_MIN..bytes_max).contains(&before.saturating_add(text.len()))
            && !text.starts_with('/')
            && Some(text) != self.evaluated.as_deref();
        // What was read is evaluated at once, before anything is typed.
        let pause = if text.is_empty() {
            Duration::ZERO
        } else {
            PAUSE
        };
        wanted.then(|| pause.saturating_sub(self.pause()))
    }

    /// `text` is being evaluated.
    fn begun(&mut self, text: &str) {
        self.evaluated = Some(text.to_owned());
    }
}

impl Chat {
    pub(super) fn draft_due(&self) -> Option<Duration> {
        let ready = self.session.phase() == Phase::Ready
            && self.screen.is_open()
            // Anything that is asked ends a draft.
            && !self.session.is_owed();
        let wanted = ready && self.session.config().chat.draft;
        let ctx_tokens = self.session.info().filter(|_| wanted)?.ctx_tokens;
        let before = self.reading.bytes();
        self.drafts.due(before, self.screen.text(), ctx_tokens)
    }

    pub(super) fn draft(&mut self) {
        if self.draft_due() == Some(Duration::ZERO) {
            let text = self.screen.text();
            self.drafts.begun(text);
            self.session.draft(&self.reading.with(text));
        }
    }
}

//! How far a batch is, for who waits for it: one line that is replaced at a terminal,
//! a line a minute in a log, and a line at the end.

use std::io::Write;
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Not before the end: results are shown where it would be.
    Quiet,
    /// One line, replaced once a second.
    Replaced,
    /// A line a minute.
    Lines,
}

impl Style {
    fn interval(self) -> Option<Duration> {
        match self {
            Self::Quiet => None,
            Self::Replaced => Some(Duration::from_secs(1)),
            Self::Lines => Some(Duration::from_secs(60)),
        }
    }
}

/// What has been done so far, and where it is told.
pub(crate) struct Progress {
    to: Box<dyn Write>,
    style: Style,
    began: Instant,
    told: Instant,
    answered: u64,
    done: u64,
    tokens: u64,
    last_error: Option<String>,
}

impl Progress {
    /// Nothing done yet.
    pub(crate) fn new(to: Box<dyn Write>, style: Style) -> Self {
        let now = Instant::now();
        Self {
            to,
            style,
            began: now,
            told: now,
            answered: 0,
            done: 0,
            tokens: 0,
            last_error: None,
        }
    }

    /// The model is ready: loading it is not part of the rate.
    pub(super) fn begin(&mut self) {
        if self.done == 0 {
            self.began = Instant::now();
        }
    }

    /// A line has its result.
    pub(super) fn add(&mut self, answered: bool, tokens: u32, error: Option<&str>) {
        self.done = self.done.saturating_add(1);
        self.answered = self.answered.saturating_add(u64::from(answered));
        self.tokens = self.tokens.saturating_add(u64::from(tokens));
        if let Some(error) = error.filter(|_| !answered) {
            self.last_error = Some(error.to_owned());
        }
    }

    /// Shows how far it is, if it is time to.
    pub(super) fn show(&mut self) {
        let now = Instant::now();
        let due = |interval| now.saturating_duration_since(self.told) >= interval;
        if self.style.interval().is_some_and(due) {
            self.told = now;
            let line = match self.done {
                0 => "zosia: no prompt has its answer yet".to_owned(),
                _ => self.line(),
            };
            match self.style {
                Style::Replaced => self.write(&format!("\r\x1b[K{line}")),
                Style::Quiet | Style::Lines => self.write(&format!("{line}\n")),
            }
        }
    }

    /// Says how it ended. Returns whether every line that was taken was answered.
    pub(super) fn end(mut self) -> bool {
        let clear = match self.style {
            Style::Replaced => "\r\x1b[K",
            Style::Quiet | Style::Lines => "",
        };
        let last = match &self.last_error {
            Some(error) => format!("; the last error: {}", term::sanitize(error)),
            None => String::new(),
        };
        let line = self.line();
        self.write(&format!("{clear}{line}{last}\n"));
        self.answered == self.done
    }

    fn line(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let rate = self.tokens as f64 / seconds.max(0.001);
        format!(
            "zosia: {} of {} prompts were answered in {seconds:.0} s, {rate:.1} tokens/s",
            self.answered, self.done
        )
    }

    /// Nobody may listen, which is no reason to stop.
    fn write(&mut self, text: &str) {
        let _ = self.to.write_all(text.as_bytes());
        let _ = self.to.flush();
    }
}

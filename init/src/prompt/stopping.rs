//! Ctrl-C while an answer comes: the engine is asked to end it, and the line is the
//! user's again when it has, or when it takes its time.

use std::time::{Duration, Instant};

use super::{Chat, show};

/// An engine at work heeds a Ctrl-C within this time, but on a slow machine.
const HEEDING: Duration = Duration::from_millis(200);

impl Chat {
    pub(super) fn stop(&mut self) {
        if self.stop_waiting() || self.stop_errand() {
            return;
        }
        self.session.cancel();
        self.stop_asked = Instant::now();
    }

    /// The line is the user's again when the engine has been given the time of a few
    /// operations to heed a Ctrl-C and has not, until when.
    pub(super) fn line_due(&self) -> Option<Duration> {
        let due = self.session.is_stopping() && !self.screen.is_open() && self.sent_early.is_none();
        due.then(|| HEEDING.saturating_sub(self.stop_asked.elapsed()))
    }

    pub(super) fn give_line_back(&mut self) {
        if self.line_due() == Some(Duration::ZERO) {
            let line = "stopping; Ctrl-C again replaces the engine";
            self.screen.open_early(line);
        }
    }

    /// A message that is not answered is in the line again, unless something has been
    /// typed since.
    pub(super) fn give_back(&mut self, text: &str) {
        self.screen.end_answer();
        let line = self.take_apart(text);
        if !self.screen.has_typed() && self.sent_early.is_none() {
            self.screen.set_text(&line);
        } else if !line.is_empty() {
            let first = show::first_line(&line);
            self.screen
                .quiet(&format!("not answered, Up finds it: {first}"));
        }
        self.screen.open();
    }

    /// What was sent while an answer was about to end is done when its end is shown.
    pub(super) fn do_sent_early(&mut self) {
        if !self.screen.is_answering()
            && let Some(sent) = self.sent_early.take()
        {
            self.screen.close_line();
            self.on_submit(&sent);
        }
    }
}

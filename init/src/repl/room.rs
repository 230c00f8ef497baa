//! What happens when the context fills: a warning, then a question. Nothing is
//! forgotten unless the user says so.

use super::{Repl, execute};

impl Repl {
    /// A message that does not fit waits for the user to make room for it.
    pub(super) fn on_too_long(&mut self, error: &str, text: String) {
        if self.dropping && self.forget_oldest() {
            return self.ask(text);
        }
        self.dropping = false;
        self.complain(error);
        self.tell(if self.session.messages().is_empty() {
            "The message is not sent: it is too long even alone. /edit brings it back into the \
             line, and /set ctx N makes the context larger and sends it."
        } else {
            "The message is not sent yet. /drop forgets the oldest messages until it fits, /undo \
             the last one, /clear all of them, and each then sends it; /edit brings it back into \
             the line."
        });
        self.held = Some(text);
        self.end_answer();
    }

    /// Forgets the oldest message and its answer, and says so.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.session.drop_oldest() else {
            return false;
        };
        self.quiet(&format!("forgotten: {}", execute::first_line(&oldest)));
        true
    }

    /// Sends the message that waits for room.
    pub(super) fn send_held(&mut self) {
        if let Some(text) = self.held.take() {
            self.ask(text);
        }
    }

    pub(super) fn warn_if_filling(&mut self, used: u32, ctx: u32) {
        if u64::from(used) * 5 >= u64::from(ctx) * 4 {
            let line = format!(
                "the context is {} % full; /drop forgets the oldest message, /clear all of them",
                u64::from(used) * 100 / u64::from(ctx.max(1))
            );
            self.tell(&line);
        }
    }
}

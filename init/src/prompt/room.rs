//! What happens when the context fills: a warning, then a question. Nothing is
//! forgotten unless the user says so.

use super::screen::Screen;
use super::{Chat, show};

/// A message that waits for room in the context.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// It did not fit, until a command makes room.
    held: Option<String>,
    /// Nothing has been answered since.
    is_newest: bool,
    /// `/drop` was given: it goes on until the held message fits.
    dropping: bool,
}

impl Room {
    /// The message fits, or has come back for another reason.
    pub(super) fn settle(&mut self) {
        self.dropping = false;
        self.is_newest = false;
    }

    /// Whether a message waits, and none has been answered since.
    pub(super) fn is_wanted(&self) -> bool {
        self.held.is_some() && self.is_newest
    }

    /// Takes the message that waits.
    pub(super) fn take(&mut self) -> Option<String> {
        self.held.take()
    }

    /// From now on as many messages are forgotten as it takes.
    pub(super) fn drop_until_it_fits(&mut self) {
        self.dropping = self.held.is_some();
    }
}

impl Chat {
    /// A message that does not fit waits for the user to make room for it.
    pub(super) fn make_room(&mut self, error: &str, text: String) {
        if self.room.dropping && self.forget_oldest() {
            return self.ask(text);
        }
        self.room.dropping = false;
        self.screen.complain(error);
        if let Some(held) = &self.room.held {
            let first = show::first_line(held);
            self.screen.tell(&format!(
                "Another message waits for room already: \"{first}\"; /edit brings that one back."
            ));
            return self.give_back(&text);
        }
        self.screen.tell(if self.session.messages().is_empty() {
            "The message is not sent: it is too long even alone. /edit brings it back into the \
             line, and /set ctx N makes the context larger and sends it."
        } else {
            "The message is not sent yet. /drop forgets the oldest messages until it fits, /undo \
             the last one, /clear all of them, and each then sends it; /edit brings it back into \
             the line."
        });
        self.room.held = Some(text);
        self.room.is_newest = true;
        self.screen.open();
    }

    /// The message that waits for room is another conversation's: it is in the line again.
    pub(super) fn give_held_back(&mut self) {
        if let Some(text) = self.room.take() {
            self.give_back(&text);
        }
    }

    /// Forgets the oldest message and its answer, and says so.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.session.drop_oldest() else {
            return false;
        };
        self.screen
            .quiet(&format!("forgotten: {}", show::first_line(&oldest)));
        true
    }

    /// Sends the message that waits for room.
    pub(super) fn send_held(&mut self) {
        if let Some(text) = self.room.take() {
            self.ask(text);
        }
    }
}

/// Says that the context is nearly full, if it is.
pub(super) fn warn_if_filling(screen: &mut Screen, used: u32, ctx: u32) {
    let percent = show::percent(used.into(), ctx.into());
    if percent >= 80 {
        screen.tell(&format!(
            "the context is {percent} % full; /drop forgets the oldest message, /clear all of them"
        ));
    }
}

//! The commands of conversations: what `/new`, `/chats` and the like do.

use super::kept::Keeping;
use super::{Chat, show};
use crate::host::Host;
use crate::keeper::{Key, Op, Settings, Shelf};

impl Chat {
    /// `/new`
    pub(super) fn begin_another(&mut self) {
        let Some(keeping) = self.session_or_tell() else {
            return;
        };
        keeping.shelf.leave();
        self.session.restore(Vec::new());
        self.screen.quiet("a new conversation");
        self.send_held();
    }

    /// `/chats`
    pub(super) fn list_chats(&mut self) {
        let Some(keeping) = self.session_or_tell() else {
            return;
        };
        let list = show::chats(&keeping.shelf);
        self.screen.tell(&list);
    }

    /// `/chat N`
    pub(super) fn go_to(&mut self, number: usize) {
        let Some(keeping) = self.session_or_tell() else {
            return;
        };
        let key = match keeping.shelf.numbered(Some(number)) {
            Ok(chat) if chat.turns.is_some() => chat.key,
            Ok(chat) => {
                let key = chat.key;
                return self.read_chat(key);
            }
            Err(error) => return self.screen.complain(&error),
        };
        self.switch_to(key);
    }

    /// Goes on with a conversation that has been read.
    pub(super) fn switch_to(&mut self, key: Key) {
        self.change(|shelf| Ok(shelf.switch(key)));
        self.show_current();
        self.give_held_back();
    }

    /// `/fork [N]`
    pub(super) fn fork(&mut self, turns: Option<usize>) {
        if self.change(|shelf| shelf.fork(turns)) {
            self.show_current();
        }
    }

    /// `/rename TEXT`
    pub(super) fn rename(&mut self, title: &str) {
        if self.change(|shelf| shelf.rename(title)) {
            self.screen.quiet("renamed");
        }
    }

    /// `/delete [N]`: asks first, by a line that says what a second one does.
    pub(super) fn delete(&mut self, number: Option<usize>) {
        let Some(keeping) = self.session_or_tell() else {
            return;
        };
        let doomed = keeping.doomed.take();
        let chat = match keeping.shelf.numbered(number) {
            Ok(chat) => chat,
            Err(error) => return self.screen.complain(&error),
        };
        let (key, about) = (chat.key, show::about(chat));
        if doomed != Some(key) {
            keeping.doomed = Some(key);
            let line = format!("the same again deletes it for ever: {about}");
            return self.screen.tell(&line);
        }
        let was_current = keeping.shelf.is_current(chat);
        self.change(|shelf| Ok(shelf.delete(key)));
        if was_current {
            // Nothing of it is set any more, either.
            self.put_in_force(&Settings::default());
            self.session.restore(Vec::new());
            self.give_held_back();
        }
        self.screen.quiet(&format!("deleted: {about}"));
    }

    /// Something else than `/delete` was typed: one begins again by asking.
    pub(super) fn spare_doomed(&mut self) {
        if let Some(keeping) = &mut self.keeping {
            keeping.doomed = None;
        }
    }

    fn show_current(&mut self) {
        let chat = self
            .keeping
            .as_ref()
            .and_then(|k| k.shelf.current().cloned());
        if let Some(chat) = chat {
            self.go_on_with(&chat, "");
        }
    }

    /// Changes what is kept, and has that written; `false`: it cannot be, as was told.
    fn change(&mut self, what: impl FnOnce(&mut Shelf) -> Result<Vec<Op>, String>) -> bool {
        let Some(keeping) = self.session_or_tell() else {
            return false;
        };
        match what(&mut keeping.shelf) {
            Ok(ops) => {
                keeping.write(ops);
                true
            }
            Err(error) => {
                self.screen.complain(&error);
                false
            }
        }
    }

    /// The session; without one, a line says how to have it.
    fn session_or_tell(&mut self) -> Option<&mut Keeping> {
        if self.keeping.is_none() {
            let how = match self.host {
                Host::Machine(_) => "tools/run.sh --session NAME",
                Host::Command => "--session FILE",
            };
            self.screen.complain(&format!(
                "this is the only conversation and is not kept; {how} keeps them"
            ));
        }
        self.keeping.as_mut()
    }
}

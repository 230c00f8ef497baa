//! One turn of the conversation that a session keeps: it goes on where that was left,
//! and is in it afterwards.

use std::time::Duration;

use protocol::{Config, Piece, PieceKey};

use crate::host::{Host, warn};
use crate::keeper::contexts;
use crate::keeper::{Keeper, News, Now, Place, Settings, Shelf};
use crate::peer::Peer;
use crate::session::Session;

/// The disk is given as long, to be opened and to take the turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session that is open.
pub(super) struct Kept {
    keeper: Keeper,
    shelf: Shelf,
}

impl Kept {
    /// Opens the session that `config` names, if it names one.
    ///
    /// # Errors
    /// One line.
    pub(super) fn open(host: Host, config: &Config) -> Result<Option<Self>, String> {
        let Some(given) = &config.start.session else {
            return Ok(None);
        };
        let place = Place::of(host, given);
        let mut keeper = Keeper::start(place, config.start.encrypt)
            .map_err(|e| format!("the session cannot be opened: {e} [ZE-70]"))?;
        let opened = match keeper.next_news(PATIENCE) {
            Some(News::Opened(opened)) => opened,
            Some(News::Locked | News::WantsPassphrase) => {
                let line = "the session is encrypted, and one turn has no terminal to ask for its \
                            passphrase at: open it in a chat, without -p [ZE-74]";
                return Err(line.to_owned());
            }
            Some(News::Refused(line)) => return Err(host.words(&line)),
            _ => return Err("the session's disk does not answer [ZE-77]".to_owned()),
        };
        if let Some(line) = &opened.found {
            warn(line);
        }
        let shelf = Shelf::of(opened.chats, opened.current);
        Ok(Some(Self { keeper, shelf }))
    }

    /// Has `session` go on with the conversation.
    pub(super) fn resume<P: Peer>(&self, session: &mut Session<P>) {
        let Some(chat) = self.shelf.current() else {
            return;
        };
        let start = session.config().clone();
        session.set_config(chat.settings.on(&start, &start));
        session.restore(chat.messages().unwrap_or_default());
    }

    /// Contexts are those of the model of `session` from now on.
    pub(super) fn name_contexts<P: Peer>(&mut self, session: &Session<P>) {
        if let Some(model) = session.model_digest() {
            self.keeper.set_model(model);
        }
    }

    /// A piece of what was evaluated of it, if there is one.
    pub(super) fn fetch(&mut self, key: PieceKey) -> Piece {
        contexts::fetch(&mut self.keeper, key, PATIENCE)
    }

    /// Keeps what `session` has come to; returns when it is on the disk.
    ///
    /// # Errors
    /// One line: it is not.
    pub(super) fn keep<P: Peer>(mut self, session: &mut Session<P>) -> Result<(), String> {
        let ops = self.shelf.keep(Now {
            messages: session.messages(),
            settings: Settings::of(session.config()),
            model: session.model_identity(),
            tokens: session.last_stats().map(|s| s.ctx_used_tokens.into()),
        });
        self.keeper.keep(ops);
        if let Some(chat) = self.shelf.current().map(|chat| chat.key) {
            contexts::keep(session, &mut self.keeper, chat, PATIENCE);
        }
        self.keeper.close(PATIENCE)
    }
}

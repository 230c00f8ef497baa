//! What is evaluated is kept while the user pauses, and taken back while the last lines of
//! a conversation that goes on are read. Each step is asked for and comes as news: keys,
//! drafts and turns come in between.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use protocol::{Piece, PieceKey};

use super::Chat;
use crate::keeper::contexts::{self, is_worth_keeping};
use crate::keeper::{Key, News};
use crate::session::{Evaluated, Phase};

/// The user pauses when nothing has been typed for as long.
const PAUSE: Duration = Duration::from_secs(1);
/// What is evaluated is worth as long a wait at the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is being kept.
#[derive(Debug, Default)]
pub(super) struct Saver {
    /// Since when there is something that is not.
    since: Option<Instant>,
    run: Option<Run>,
}

/// A conversation, one piece after the other.
#[derive(Debug)]
struct Run {
    chat: Key,
    keys: Vec<PieceKey>,
    left: VecDeque<PieceKey>,
    /// The one that the engine is to give.
    asked: Option<PieceKey>,
}

impl Saver {
    /// More has been evaluated.
    pub(super) fn turn_ended(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Whether there is something that is not kept.
    fn owes(&self) -> bool {
        self.since.is_some() || self.run.is_some()
    }
}

impl Chat {
    /// How long until what is evaluated is to be kept; `None`: it is, or not now.
    pub(super) fn context_due(&self) -> Option<Duration> {
        let keeping = self.keeping.as_ref()?;
        if self.session.phase() != Phase::Ready || keeping.saver.run.is_some() {
            return None;
        }
        let pause = keeping.saver.since?.elapsed().min(self.drafts.pause());
        Some(PAUSE.saturating_sub(pause))
    }

    /// Begins to keep what is evaluated, if the user pauses.
    pub(super) fn keep_context(&mut self) {
        if self.context_due() != Some(Duration::ZERO) {
            return;
        }
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        keeping.saver.since = None;
        let chat = keeping.shelf.current().map(|chat| chat.key);
        if let Some(chat) = chat.filter(|_| self.session.config().start.contexts_mib > 0)
            && self.session.list_pieces()
        {
            let (keys, left) = (Vec::new(), VecDeque::new());
            keeping.saver.run = Some(Run {
                chat,
                keys,
                left,
                asked: None,
            });
        }
    }

    /// Contexts are those of the model in use from now on.
    pub(super) fn name_contexts(&mut self) {
        if let Some(keeping) = &mut self.keeping
            && keeping.is_open()
            && let Some(model) = self.session.model_digest()
        {
            keeping.keeper.set_model(model);
        }
    }

    pub(super) fn on_evaluated(&mut self, evaluated: Evaluated) {
        let Some(keeping) = &mut self.keeping else {
            if let Evaluated::Wanted(key) = evaluated {
                self.session.hand_piece(Piece { key, bytes: None });
            }
            return;
        };
        // Of one that was left or deleted meanwhile nothing more is kept.
        let current = keeping.shelf.current().map(|chat| chat.key);
        match (evaluated, &mut keeping.saver.run) {
            (Evaluated::Wanted(key), _) => keeping.keeper.fetch(key),
            (Evaluated::Listed(list), Some(run)) => {
                let stats = self.session.last_stats();
                if stats.is_some_and(|stats| is_worth_keeping(&list, stats)) {
                    run.keys = list.iter().map(|piece| piece.key).collect();
                    let mib = self.session.config().start.contexts_mib;
                    keeping.keeper.ask_missing(run.keys.clone(), mib);
                } else {
                    keeping.saver.run = None;
                }
            }
            // Nobody asked for it.
            (Evaluated::Given(piece), Some(run)) if run.asked != Some(piece.key) => {}
            (Evaluated::Given(piece), Some(run))
                if piece.bytes.is_some() && current == Some(run.chat) =>
            {
                run.asked = None;
                keeping.keeper.store(piece);
            }
            (Evaluated::Given(_) | Evaluated::Lost, _) => keeping.saver.run = None,
            (Evaluated::Listed(_) | Evaluated::Recalled(_), _) => {}
        }
    }

    pub(super) fn on_context_news(&mut self, news: News) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        match (news, &mut keeping.saver.run) {
            (News::Fetched(piece), _) => self.session.hand_piece(piece),
            (News::Missing(missing), Some(run)) => {
                run.left = missing.into();
                self.keep_next();
            }
            (News::Stored(_, true), Some(_)) => self.keep_next(),
            // There is no room for more.
            (News::Stored(_, false), Some(run)) => {
                run.left.clear();
                self.keep_next();
            }
            _ => {}
        }
    }

    fn keep_next(&mut self) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        let Some(run) = &mut keeping.saver.run else {
            return;
        };
        match run.left.pop_front() {
            Some(key) if self.session.give_piece(key) => run.asked = Some(key),
            // A turn is under way: when it has ended there is more to keep.
            Some(_) => keeping.saver.run = None,
            None => {
                keeping
                    .keeper
                    .set_context(run.chat, std::mem::take(&mut run.keys));
                keeping.saver.run = None;
            }
        }
    }

    /// Keeps what is evaluated and is not kept yet, at the end, but not for long.
    pub(super) fn keep_rest_of_context(&mut self) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        if keeping.saver.owes()
            && let Some(chat) = keeping.shelf.current().map(|chat| chat.key)
        {
            self.screen.hold("saving what is evaluated");
            // A terminal that is gone keeps nothing from being saved.
            let _ = self.screen.paint();
            contexts::keep(&mut self.session, &mut keeping.keeper, chat, PATIENCE);
        }
    }
}

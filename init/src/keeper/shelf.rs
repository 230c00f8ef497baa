//! The conversations of a session as the prompt has them, and what must be written so
//! that the disk has the same: each command and each turn leads to [`Op`]s. It knows
//! no disk, so that none can hold it up.

use std::time::{SystemTime, UNIX_EPOCH};

use protocol::{Message, Role};

use super::settings::Settings;

/// A conversation's name between the prompt and the keeper's thread.
pub(crate) type Key = usize;

/// Something to write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    /// A conversation begins, and is the current one.
    Begin(Key),
    /// A question and its answer; so many tokens are in the context.
    Turn(Key, Turn, u64),
    /// Another answer to the last question.
    Answer(Key, Message, u64),
    /// The last turn is no more.
    TakeBack(Key),
    /// The first turn is no more.
    DropOldest(Key),
    /// No turn is any more.
    Clear(Key),
    /// The system prompt from now on.
    System(Key, String),
    /// A parameter from now on; `None` is its default.
    Set(Key, String, Option<String>),
    /// The model from now on: name and SHA-256.
    Model(Key, String, Option<String>),
    /// The name that the user gives it.
    Rename(Key, String),
    /// The first conversation begins with so many turns of the second, and is current.
    Fork(Key, Key, usize),
    /// This is the current one.
    Switch(Key),
    /// It is erased.
    Delete(Key),
    /// A line that was typed.
    Line(String),
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) question: Message,
    pub(crate) answer: Message,
}

/// A conversation as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) key: Key,
    /// The name that the user gave it.
    pub(crate) title: Option<String>,
    /// What was said first, or the beginning of it.
    pub(crate) words: String,
    /// How many turns it has.
    pub(crate) count: usize,
    /// These, once they have been read.
    pub(crate) turns: Option<Vec<Turn>>,
    pub(crate) settings: Settings,
    /// Name and SHA-256 of the model.
    pub(crate) model: Option<(String, Option<String>)>,
    /// Tokens in the context after the last turn.
    pub(crate) tokens: u64,
    /// When something was last said, in seconds since 1970.
    pub(crate) at: u64,
}

impl Kept {
    /// What it is known by.
    pub(crate) fn shown(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.words)
    }

    /// What was said, oldest first; `None`: it has not been read yet.
    pub(crate) fn messages(&self) -> Option<Vec<Message>> {
        let both = |turn: &Turn| [turn.question.clone(), turn.answer.clone()];
        Some(self.turns.as_ref()?.iter().flat_map(both).collect())
    }

    /// These are its turns.
    fn hold(&mut self, turns: Vec<Turn>) {
        let first = turns.first().map(|turn| turn.question.text.as_str());
        // What was read for it may be long, and says less.
        let (_, typed) = texts::split(first.unwrap_or_default());
        typed.clone_into(&mut self.words);
        self.count = turns.len();
        self.turns = Some(turns);
    }
}

/// What is to be kept of the conversation under way.
pub(crate) struct Now<'a> {
    pub(crate) messages: &'a [Message],
    pub(crate) settings: Settings,
    pub(crate) model: Option<(String, Option<String>)>,
    /// Tokens in the context, if a turn has just ended.
    pub(crate) tokens: Option<u64>,
}

/// The conversations, in the order in which they began, and which is under way.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    chats: Vec<Kept>,
    /// `None`: one that has not begun; it does with its first turn.
    current: Option<Key>,
    next: Key,
}

impl Shelf {
    /// What was kept. Keys are in ascending order.
    pub(crate) fn of(chats: Vec<Kept>, current: Option<Key>) -> Self {
        let next = chats.last().map_or(0, |chat| chat.key.saturating_add(1));
        Self {
            chats,
            current,
            next,
        }
    }

    /// All of them.
    pub(crate) fn chats(&self) -> &[Kept] {
        &self.chats
    }

    /// The one under way, if it has begun.
    pub(crate) fn current(&self) -> Option<&Kept> {
        let current = self.current?;
        self.chats.iter().find(|chat| chat.key == current)
    }

    /// Whether that is the one.
    pub(crate) fn is_current(&self, chat: &Kept) -> bool {
        self.current == Some(chat.key)
    }

    /// The one of this number, from 1; without a number the one under way.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn numbered(&self, number: Option<usize>) -> Result<&Kept, String> {
        let Some(number) = number else {
            let none = "this conversation has not begun: nothing of it is kept";
            return self.current().ok_or_else(|| none.to_owned());
        };
        let chat = number
            .checked_sub(1)
            .and_then(|index| self.chats.get(index));
        chat.ok_or_else(|| match self.chats.len() {
            0 => "there is no conversation yet".to_owned(),
            n => format!("there is no conversation {number}; /chats lists the {n} that there are"),
        })
    }

    /// Makes the conversation on the disk equal to the one under way.
    pub(crate) fn keep(&mut self, now: Now<'_>) -> Vec<Op> {
        let turns = turns_of(now.messages);
        let mut ops = Vec::new();
        if self.current().is_none() {
            if turns.is_empty() {
                return ops;
            }
            ops.push(Op::Begin(self.begin()));
        }
        let current = self.current;
        let Some(chat) = self.chats.iter_mut().find(|c| Some(c.key) == current) else {
            return ops;
        };
        let key = chat.key;
        now.settings.changes_from(&chat.settings, key, &mut ops);
        chat.settings = now.settings;
        if let Some(model) = now.model.filter(|model| chat.model.as_ref() != Some(model)) {
            ops.push(Op::Model(key, model.0.clone(), model.1.clone()));
            chat.model = Some(model);
        }
        let tokens = now.tokens.unwrap_or(chat.tokens);
        let old = chat.turns.take().unwrap_or_default();
        difference(key, &old, &turns, tokens, &mut ops);
        if old != turns {
            chat.at = seconds_now();
            chat.tokens = if turns.is_empty() { 0 } else { tokens };
        }
        chat.hold(turns);
        ops
    }

    /// Leaves the conversation under way as it is; the next turn begins another.
    pub(crate) fn leave(&mut self) {
        self.current = None;
    }

    /// These are the turns of a conversation that had not been read.
    pub(crate) fn fill(&mut self, key: Key, turns: &[Turn]) {
        for chat in self.chats.iter_mut().filter(|chat| chat.key == key) {
            chat.hold(turns.to_vec());
        }
    }

    /// Goes on with another.
    pub(crate) fn switch(&mut self, key: Key) -> Vec<Op> {
        self.current = Some(key);
        vec![Op::Switch(key)]
    }

    /// Goes on with a copy of the one under way, or of its first turns.
    ///
    /// # Errors
    /// It has not begun, or has fewer turns.
    pub(crate) fn fork(&mut self, turns: Option<usize>) -> Result<Vec<Op>, String> {
        let from = self.numbered(None)?.clone();
        let count = turns.unwrap_or(from.count);
        if count > from.count {
            let all = from.count;
            return Err(format!(
                "this conversation has {all} turns; /fork N takes the first N"
            ));
        }
        let (key, parent) = (self.begin(), from.key);
        if let Some(fork) = self.chats.last_mut() {
            let at = fork.at;
            *fork = Kept {
                key,
                at,
                title: None,
                ..from
            };
            let mut turns = fork.turns.take().unwrap_or_default();
            turns.truncate(count);
            fork.hold(turns);
        }
        Ok(vec![Op::Fork(key, parent, count)])
    }

    /// Gives the one under way a name.
    ///
    /// # Errors
    /// It has not begun.
    pub(crate) fn rename(&mut self, title: &str) -> Result<Vec<Op>, String> {
        let key = self.numbered(None)?.key;
        for chat in self.chats.iter_mut().filter(|chat| chat.key == key) {
            chat.title = Some(title.to_owned());
        }
        Ok(vec![Op::Rename(key, title.to_owned())])
    }

    /// Forgets one for ever.
    pub(crate) fn delete(&mut self, key: Key) -> Vec<Op> {
        self.chats.retain(|chat| chat.key != key);
        if self.current == Some(key) {
            self.current = None;
        }
        vec![Op::Delete(key)]
    }

    fn begin(&mut self) -> Key {
        let key = self.next;
        self.next = key.saturating_add(1);
        self.current = Some(key);
        self.chats.push(Kept {
            key,
            title: None,
            words: String::new(),
            count: 0,
            turns: None,
            settings: Settings::default(),
            model: None,
            tokens: 0,
            at: seconds_now(),
        });
        key
    }
}

fn seconds_now() -> u64 {
    // A clock before 1970 is not set.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Questions with their answers; a question without one is not kept.
pub(super) fn turns_of(messages: &[Message]) -> Vec<Turn> {
    let pairs = messages.chunks_exact(2);
    let turn = |pair: &[Message]| match pair {
        [question, answer] if question.role == Role::User && answer.role == Role::Assistant => {
            let (question, answer) = (question.clone(), answer.clone());
            Some(Turn { question, answer })
        }
        _ => None,
    };
    pairs.filter_map(turn).collect()
}

/// What makes `old` `new`: turns are taken from either end, and added.
pub(super) fn difference(key: Key, old: &[Turn], new: &[Turn], tokens: u64, ops: &mut Vec<Op>) {
    let common = |old: &[Turn]| old.iter().zip(new).take_while(|(a, b)| a == b).count();
    // The oldest are gone where what follows them is what `new` begins with.
    let dropped = (1..old.len())
        .filter(|_| common(old) == 0)
        .find(|&n| old.get(n..).is_some_and(|rest| new.starts_with(rest)))
        .unwrap_or(0);
    ops.extend(std::iter::repeat_n(Op::DropOldest(key), dropped));
    let old = old.get(dropped..).unwrap_or_default();
    let mut same = common(old);
    if let (Some([last]), Some([next, ..])) = (old.get(same..), new.get(same..))
        && last.question == next.question
    {
        ops.push(Op::Answer(key, next.answer.clone(), tokens));
        same = same.saturating_add(1);
    }
    match old.len().saturating_sub(same) {
        gone if gone > 1 && same == 0 => ops.push(Op::Clear(key)),
        gone => ops.extend(std::iter::repeat_n(Op::TakeBack(key), gone)),
    }
    for turn in new.iter().skip(same) {
        ops.push(Op::Turn(key, turn.clone(), tokens));
    }
}

//! What the records amount to: conversations, typed lines, and where everything is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::BLOCK_BYTES;
use crate::contexts::Key;
use crate::frame::Header;
use crate::record::{Piece, Record, Stamped, Turn};
use crate::space::Extent;

/// Typed lines that are kept at hand: as many, and of as many bytes.
const LINES_MAX: usize = 1000;
const LINES_BYTES_MAX: usize = 256 << 10;
/// Characters of a question by which its conversation is known.
const WORDS_CHARS: usize = 80;

/// Names a conversation, in the order of their beginnings; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChatId(pub u32);

impl fmt::Display for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A model, as a conversation remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// What it is called.
    pub name: String,
    /// The SHA-256 of its file in hexadecimal, if it is known.
    pub sha256: Option<String>,
}

/// A conversation, without its messages, which [`Journal::messages`] reads.
///
/// [`Journal::messages`]: crate::Journal::messages
#[derive(Debug, Clone)]
pub struct Chat {
    /// Which one it is.
    pub id: ChatId,
    /// The title that it was given.
    pub title: Option<String>,
    /// When it began, in seconds since 1970.
    pub begun: u64,
    /// When something was last said in it, in seconds since 1970.
    pub changed: u64,
    /// The tokens of its context after the last turn.
    pub tokens: u64,
    /// The system prompt; empty without one.
    pub system: String,
    /// The parameters that were set in it, by name.
    pub parameters: BTreeMap<String, String>,
    /// The model that last answered.
    pub model: Option<Model>,
    turns: Vec<Asked>,
    context: Vec<Key>,
    /// The records that are about it.
    records: Vec<u64>,
}

/// A turn, and the beginning of its question.
#[derive(Debug, Clone)]
struct Asked {
    turn: Turn,
    words: Arc<str>,
    /// The tokens of the context after it.
    tokens: u64,
}

impl Chat {
    fn new(id: ChatId, at: u64) -> Self {
        Self {
            id,
            title: None,
            begun: at,
            changed: at,
            tokens: 0,
            system: String::new(),
            parameters: BTreeMap::new(),
            model: None,
            turns: Vec::new(),
            context: Vec::new(),
            records: Vec::new(),
        }
    }

    /// How many turns it has.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// The title, or without one the beginning of the first question in one line.
    #[must_use]
    pub fn title(&self) -> &str {
        let words = || self.turns.first().map_or("", |asked| &asked.words);
        self.title.as_deref().unwrap_or_else(words)
    }

    /// The pieces that are its evaluated context, in order.
    #[must_use]
    pub fn context(&self) -> &[Key] {
        &self.context
    }

    /// The records of its turns, in order.
    pub(crate) fn turn_records(&self) -> impl DoubleEndedIterator<Item = Turn> + Clone {
        self.turns.iter().map(|asked| asked.turn)
    }

    /// The tokens of its context after so many turns.
    pub(crate) fn tokens_after(&self, turns: usize) -> u64 {
        let last = self.turns.iter().take(turns).next_back();
        last.map_or(0, |asked| asked.tokens)
    }

    fn forget(&mut self, turns: &BTreeSet<u64>) {
        self.turns
            .retain(|asked| !turns.contains(&asked.turn.question));
        self.tokens = self.tokens_after(self.turns());
        self.context.clear();
    }
}

/// A typed line.
#[derive(Debug)]
struct Line {
    chat: Option<ChatId>,
    text: String,
}

/// Everything that the records amount to.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) chats: Vec<Chat>,
    pub(crate) current: Option<ChatId>,
    lines: VecDeque<Line>,
    lines_bytes: usize,
    /// The number of conversations that there ever were.
    chats_begun: u32,
    /// The turns that can be read, whoever has them, by the records of their questions.
    turns: BTreeMap<u64, Asked>,
    /// The other answers: which turn's, and the tokens after it.
    answers: BTreeMap<u64, (u64, u64)>,
    /// Where records are, by number.
    pub(crate) places: BTreeMap<u64, u64>,
    /// Those of them that cannot be read.
    pub(crate) unreadable: BTreeSet<u64>,
    pub(crate) pieces: BTreeMap<Key, Held>,
    /// By record, the keys of the pieces that it names: records that belong to no one
    /// conversation.
    named: BTreeMap<u64, Vec<Key>>,
    /// The blocks that are for pieces.
    pub(crate) space: Vec<Extent>,
    /// The records whose payloads are erased, or are to be.
    pub(crate) erased: BTreeSet<u64>,
    /// Those that are to be, by deletions whose erasing has not ended.
    pub(crate) erasing: Option<Vec<u64>>,
    /// Records that are lost, as is known.
    pub(crate) lost: Vec<(u64, u64)>,
}

/// A piece of a context, and the record that last said that it is of use.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) piece: Piece,
    /// The record that lists it.
    pub(crate) record: u64,
    pub(crate) used: u64,
}

impl Contents {
    pub(crate) fn chat(&self, id: ChatId) -> Option<&Chat> {
        self.chats.iter().find(|chat| chat.id == id)
    }

    /// The name of the next conversation.
    pub(crate) fn next_chat(&self) -> ChatId {
        ChatId(self.chats_begun.saturating_add(1))
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| line.text.as_str())
    }

    /// A record with this header is at `at`.
    pub(crate) fn place(&mut self, at: u64, header: &Header) {
        self.places.insert(header.number, at);
        if header.space > 0 {
            self.space.push(Extent {
                block: header.end(at) / BLOCK_BYTES,
                blocks: header.space.into(),
            });
        }
    }

    /// The pieces that conversations other than `chat` have.
    fn pieces_without(&self, chat: ChatId) -> BTreeSet<Key> {
        let others = self.chats.iter().filter(|other| other.id != chat);
        let keys = others.flat_map(Chat::context).copied();
        keys.filter(|key| self.pieces.contains_key(key)).collect()
    }

    /// The records that nothing but `chat` needs: its own, and those that name no piece
    /// that is left, as a key is a digest of what was said.
    pub(crate) fn only_of(&self, chat: ChatId) -> Vec<u64> {
        let needed: BTreeSet<_> = self
            .chats
            .iter()
            .filter(|other| other.id != chat)
            .flat_map(Chat::turn_records)
            .flat_map(|turn| [turn.question, turn.answer])
            .collect();
        let records = self.chat(chat).map_or(&[][..], |chat| &chat.records);
        let own = records.iter().filter(|number| !needed.contains(number));
        let left = self.pieces_without(chat);
        let names_none = |keys: &&Vec<Key>| !keys.iter().any(|key| left.contains(key));
        let named = self.named.iter().filter(|(_, keys)| names_none(keys));
        own.chain(named.map(|(number, _)| number))
            .copied()
            .collect()
    }

    /// Takes in what record `number` says.
    pub(crate) fn apply(&mut self, number: u64, stamped: Stamped) {
        let at = stamped.at;
        match stamped.record {
            Record::Turn {
                chat,
                question,
                answer: _,
                tokens,
            } => {
                let turn = Turn {
                    question: number,
                    answer: number,
                };
                let words = first_words(&question.text).into();
                let asked = Asked {
                    turn,
                    words,
                    tokens,
                };
                self.turns.insert(number, asked.clone());
                let chat = self.of(chat, number, at);
                chat.turns.push(asked);
                (chat.tokens, chat.changed) = (tokens, at);
            }
            Record::Answer {
                chat, turn, tokens, ..
            } => {
                self.answers.insert(number, (turn, tokens));
                let chat = self.of(chat, number, at);
                let asked = chat.turns.iter_mut().find(|a| a.turn.question == turn);
                if let Some(asked) = asked {
                    (asked.turn.answer, asked.tokens) = (number, tokens);
                }
                (chat.tokens, chat.changed) = (tokens, at);
            }
            Record::Forget { chat, turns } => {
                let turns = turns.into_iter().collect();
                self.of(chat, number, at).forget(&turns);
            }
            Record::System { chat, text } => self.of(chat, number, at).system = text,
            Record::Set { chat, name, value } => {
                let parameters = &mut self.of(chat, number, at).parameters;
                match value {
                    Some(value) => parameters.insert(name, value),
                    None => parameters.remove(&name),
                };
            }
            Record::Model { chat, model } => self.of(chat, number, at).model = Some(model),
            Record::Rename { chat, title } => self.of(chat, number, at).title = title,
            Record::Fork(fork) => {
                let turns = self.all_asked(&fork.turns);
                let chat = self.of(fork.chat, number, at);
                let records = turns.iter().map(|asked| asked.turn);
                chat.records
                    .extend(records.flat_map(|turn| [turn.question, turn.answer]));
                chat.turns = turns;
                chat.tokens = chat.tokens_after(chat.turns());
                chat.system = fork.system;
                chat.parameters = fork.parameters;
                chat.model = fork.model;
                chat.context = fork.context;
                self.current = Some(fork.chat);
            }
            Record::Begin { chat } | Record::Switch { chat } => {
                self.of(chat, number, at);
                self.current = Some(chat);
            }
            Record::Delete { chat, erased } => self.delete(chat, &erased.into_iter().collect()),
            Record::Erased {} => self.erasing = None,
            Record::Line { chat, text } => {
                if let Some(chat) = chat {
                    self.of(chat, number, at);
                }
                self.line(Line { chat, text });
            }
            Record::Space {} => {}
            Record::Piece(piece) => {
                let held = Held {
                    record: number,
                    used: number,
                    piece,
                };
                self.named.insert(number, vec![held.piece.key]);
                self.pieces.insert(held.piece.key, held);
            }
            Record::Drop { keys } => {
                for key in &keys {
                    self.pieces.remove(key);
                }
                self.named.insert(number, keys);
            }
            Record::Context { chat, keys } => {
                for key in &keys {
                    if let Some(held) = self.pieces.get_mut(key) {
                        held.used = number;
                    }
                }
                self.of(chat, number, at).context = keys;
            }
            Record::Lost { records } => self.lost.extend(records),
        }
    }

    /// The conversation that record `number` is about. One whose beginning is lost
    /// begins with whatever is left.
    fn of(&mut self, id: ChatId, number: u64, at: u64) -> &mut Chat {
        self.chats_begun = self.chats_begun.max(id.0);
        let found = self.chats.iter().position(|chat| chat.id == id);
        let index = found.unwrap_or(self.chats.len());
        if found.is_none() {
            self.chats.push(Chat::new(id, at));
        }
        #[expect(clippy::indexing_slicing, reason = "the index is of an element")]
        let chat = &mut self.chats[index];
        chat.records.push(number);
        chat
    }

    /// The turns of a fork, each once, without those that are lost.
    fn all_asked(&self, turns: &[Turn]) -> Vec<Asked> {
        let mut once = BTreeSet::new();
        let turns = turns.iter().filter(|turn| once.insert(turn.question));
        turns.filter_map(|&turn| self.asked(turn)).collect()
    }

    /// One of them, with its first answer where the other one is lost.
    fn asked(&self, turn: Turn) -> Option<Asked> {
        let mut asked = self.turns.get(&turn.question)?.clone();
        if let Some(&(of, tokens)) = self.answers.get(&turn.answer)
            && of == turn.question
        {
            (asked.turn, asked.tokens) = (turn, tokens);
        }
        Some(asked)
    }

    fn delete(&mut self, id: ChatId, erased: &BTreeSet<u64>) {
        self.chats_begun = self.chats_begun.max(id.0);
        self.chats.retain(|chat| chat.id != id);
        self.current = self.current.filter(|&current| current != id);
        for number in erased {
            self.turns.remove(number);
            self.answers.remove(number);
            self.named.remove(number);
        }
        let left = self.pieces_without(id);
        self.pieces
            .retain(|key, held| left.contains(key) && !erased.contains(&held.record));
        self.erased.extend(erased);
        self.erasing.get_or_insert_default().extend(erased);
        self.lines.retain(|line| line.chat != Some(id));
    }

    fn line(&mut self, line: Line) {
        if line.text.len() > LINES_BYTES_MAX {
            return;
        }
        self.lines_bytes = self.lines_bytes.saturating_add(line.text.len());
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.lines_bytes > LINES_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else {
                return;
            };
            self.lines_bytes = self.lines_bytes.saturating_sub(oldest.text.len());
        }
    }
}

/// The beginning of what was typed of a message, in one line.
fn first_words(message: &str) -> String {
    let (_, typed) = texts::split(message);
    let words = typed.split_whitespace();
    let mut line = String::new();
    for word in words.take(WORDS_CHARS) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if let Some((end, _)) = line.char_indices().nth(WORDS_CHARS) {
            line.truncate(end);
            break;
        }
    }
    line
}

//! What is evaluated, given away in pieces and taken back. The engine names them and keeps
//! none. With them goes an index, a small piece that says how the model has spelled its
//! answers, and how many tokens were evaluated at once: without it, what follows one could
//! have been computed from other tokens, and what is missing be computed otherwise.

use std::io::Write;
use std::ops::Range;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Server;
use crate::context::Pieces;
use crate::identity::{Identity, Part};
use crate::sequence::count;
use crate::spelling::Answers;
use crate::vocab::Token;
use crate::widths::Widths;
use chat::{Message, Next};
use protocol::{Event, Piece, PieceInfo, PieceKey, Request, Role};

/// Pieces on their way at once: while one is put in place another is read.
const ON_THEIR_WAY: usize = 2;
/// How often it is asked whether to stop.
const LOOK: Duration = Duration::from_millis(20);
/// A turn waits for as long for a piece, and evaluates what is missing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Turns after each of which an index may be, from the last one back.
const INDICES_ASKED: usize = 8;

/// How an engine gives its context away.
pub(crate) struct Keeping<'m> {
    /// Names pieces.
    pub identity: Identity<'m>,
    /// How there are any.
    pub pieces: Pieces,
    /// The longest.
    pub bytes_max: u64,
}

/// What is kept of a conversation besides its state.
#[derive(Default, Serialize, Deserialize)]
struct Index {
    /// Its first tokens, up to here, have been kept.
    kept_tokens: usize,
    widths: Widths,
    answers: Answers,
}

/// What a list was made of.
pub(super) struct Listed {
    /// As many as the context began with.
    tokens: usize,
    index: Piece,
}

/// The recall is of no use any more, or nobody answers it.
struct Ended;

impl<W: Write> Server<'_, '_, W> {
    /// The pieces of what is evaluated of `messages`.
    pub(super) fn list_pieces(&mut self, messages: &[Message]) -> Vec<PieceInfo> {
        self.listed = None;
        let Some(canonical) = self.beginning(messages) else {
            return Vec::new();
        };
        let target = self.splice(&canonical);
        let parts = self.evaluated_parts(&target);
        let states = parts.iter().map(|part| PieceInfo {
            key: part.key,
            bytes: self.sequence.state_bytes(&part.range) as u64,
            tokens: count(part.range.len()),
        });
        let bytes_max = self.keeping.bytes_max;
        let states: Vec<_> = states
            .take_while(|state| state.bytes <= bytes_max)
            .collect();
        let kept = parts.get(..states.len()).unwrap_or_default().last();
        let (Some(kept), Some(key)) = (kept, self.keeping.identity.index(&canonical)) else {
            return Vec::new();
        };
        let index = Index {
            kept_tokens: kept.range.end,
            widths: self.sequence.widths().clone(),
            answers: self.answers.clone(),
        };
        let Ok(bytes) = protocol::encode(&index, u32::MAX) else {
            return Vec::new();
        };
        let tokens = index.kept_tokens;
        let index = PieceInfo {
            key,
            bytes: bytes.len() as u64,
            tokens: 0,
        };
        self.listed = Some(Listed {
            tokens,
            index: Piece {
                key,
                bytes: Some(bytes),
            },
        });
        std::iter::once(index).chain(states).collect()
    }

    /// A piece of the latest list, if it is still there.
    pub(super) fn give_piece(&mut self, key: PieceKey) -> Piece {
        let tokens = match &self.listed {
            Some(listed) if listed.index.key == key => return listed.index.clone(),
            Some(listed) => self.sequence.tokens().get(..listed.tokens),
            None => None,
        };
        let (pieces, widths) = (self.keeping.pieces, self.sequence.widths());
        let parts = tokens.map(|tokens| self.keeping.identity.parts(pieces, tokens, widths));
        let part = parts.into_iter().flatten().find(|part| part.key == key);
        let bytes = part.and_then(|part| self.sequence.state(&part.range));
        Piece { key, bytes }
    }

    /// Takes back what there is of `messages`. Returns how many of their tokens are held.
    pub(super) fn recall(&mut self, messages: &[Message]) -> u32 {
        let Some(canonical) = self.beginning(messages) else {
            return 0;
        };
        let index = self.latest_index(&canonical, messages);
        let mut kept_tokens = usize::MAX;
        let mut widths = Widths::default();
        if let Ok(Some(index)) = &index {
            kept_tokens = index.kept_tokens;
            widths.clone_from(&index.widths);
            self.answers.clone_from(&index.answers);
        }
        let target = self.splice(&canonical);
        let kept = target.get(..kept_tokens).unwrap_or(&target);
        if let Ok(index) = index {
            let pieces = self.keeping.pieces;
            let mut parts = self.keeping.identity.parts(pieces, kept, &widths);
            match pieces {
                Pieces::Of(_) if index.is_some() => self.rewind_to_equal(&parts, kept),
                _ => self.sequence.rewind_to_common(kept),
            }
            self.sequence.follow(kept, widths);
            let held = self.held_of(kept);
            parts.retain(|part| part.range.end > held);
            self.fetch_parts(&parts, kept, messages);
        }
        count(self.held_of(&target))
    }

    /// What the next turn's prompt begins with, as the tokenizer cuts it.
    fn beginning(&self, messages: &[Message]) -> Option<Vec<Token>> {
        if self.keeping.pieces == Pieces::Never {
            return None;
        }
        let next = Message::new(Role::User, "");
        let messages = [messages, &[next]].concat();
        let prompt = self.prompter.prompt(&messages, Next::Typing).ok()?;
        // The last token may yet grow.
        let (_, certain) = prompt.tokens.split_last()?;
        Some(certain.to_vec())
    }

    fn held_of(&self, target: &[Token]) -> usize {
        let pairs = self.sequence.tokens().iter().zip(target);
        pairs.take_while(|(held, wanted)| held == wanted).count()
    }

    /// The parts of what is evaluated of `target`.
    fn evaluated_parts(&self, target: &[Token]) -> Vec<Part> {
        let held = self.held_of(target);
        let pieces = self.keeping.pieces;
        // A state that is that of the last position is not one of an earlier one.
        if pieces == Pieces::Whole && held < self.sequence.tokens().len() {
            return Vec::new();
        }
        let held = self.sequence.tokens().get(..held).unwrap_or_default();
        let widths = self.sequence.widths();
        self.keeping.identity.parts(pieces, held, widths)
    }

    /// Keeps what is held of `parts` of `kept` and was evaluated as they were.
    fn rewind_to_equal(&mut self, parts: &[Part], kept: &[Token]) {
        let held = self.evaluated_parts(kept);
        let equal = parts
            .iter()
            .zip(&held)
            .take_while(|(part, held)| part == held);
        let end = equal.last().map_or(0, |(part, _)| part.range.end);
        self.sequence.rewind(end);
    }

    /// The index of `messages`, whose tokens are `canonical`, or of what came before their
    /// last turns, if none was written since.
    fn latest_index(
        &mut self,
        canonical: &[Token],
        messages: &[Message],
    ) -> Result<Option<Index>, Ended> {
        let mut key = self.keeping.identity.index(canonical);
        let mut before = messages;
        for _ in 0..INDICES_ASKED {
            let Some(asked) = key else {
                break;
            };
            let index = self.fetch_index(asked, messages)?;
            before = match before {
                [earlier @ .., _, _] if index.is_none() && !earlier.is_empty() => earlier,
                _ => return Ok(index),
            };
            let canonical = self.beginning(before);
            key = canonical.and_then(|tokens| self.keeping.identity.index(&tokens));
        }
        Ok(None)
    }

    fn fetch_index(&mut self, key: PieceKey, messages: &[Message]) -> Result<Option<Index>, Ended> {
        self.outbox.send(&Event::Wanted(key));
        let bytes = self.wait_for(key, messages)?.unwrap_or_default();
        let index: Option<Index> = protocol::receive(&mut &bytes[..], u32::MAX).ok();
        let vocab_tokens = self.prompter.vocab().len();
        let is_token = |id: &Token| usize::try_from(*id).is_ok_and(|id| id < vocab_tokens);
        Ok(index.filter(|index| index.answers.tokens().iter().all(is_token)))
    }

    /// Has `parts` of `kept` put in place, one after the other, until one is missing.
    fn fetch_parts(&mut self, parts: &[Part], kept: &[Token], messages: &[Message]) {
        let mut ahead = parts.iter();
        for part in ahead.by_ref().take(ON_THEIR_WAY) {
            self.outbox.send(&Event::Wanted(part.key));
        }
        for Part { key, range } in parts {
            let Ok(Some(state)) = self.wait_for(*key, messages) else {
                return;
            };
            if let Some(part) = ahead.next() {
                self.outbox.send(&Event::Wanted(part.key));
            }
            if !self.put_in_place(range, kept, &state) {
                return;
            }
        }
    }

    fn put_in_place(&mut self, range: &Range<usize>, kept: &[Token], state: &[u8]) -> bool {
        if self.sequence.tokens().len() != range.start {
            self.sequence
                .rewind_to_common(kept.get(..range.start).unwrap_or_default());
        }
        let tokens = kept.get(range.clone()).unwrap_or_default();
        self.sequence.tokens().len() == range.start && self.sequence.restore(tokens, state)
    }

    /// The piece that was asked for, if there is one. What else is asked meanwhile waits.
    ///
    /// # Errors
    /// [`Ended`].
    fn wait_for(&mut self, key: PieceKey, messages: &[Message]) -> Result<Option<Vec<u8>>, Ended> {
        let began = Instant::now();
        while !self.interrupt.is_requested() {
            let patient = self.waiting.is_empty() || began.elapsed() < PATIENCE;
            if !patient
                || self
                    .waiting
                    .iter()
                    .any(|next| ends_recall(&next.request, messages))
            {
                break;
            }
            match self.requests.recv_timeout(LOOK) {
                Ok(numbered) => match numbered.request {
                    Request::Piece(piece) if piece.key == key => return Ok(piece.bytes),
                    Request::Piece(_) => {}
                    _ => self.waiting.push_back(numbered),
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Err(Ended)
    }
}

/// Whether the recall of `messages` is of no use to what waits.
fn ends_recall(request: &Request, messages: &[Message]) -> bool {
    match request {
        Request::Turn { messages: next, .. } | Request::Draft { messages: next } => {
            !next.starts_with(messages)
        }
        Request::Recall { .. } | Request::Measure { .. } => true,
        _ => false,
    }
}

//! What was typed and waits: until the prompt is open, or until its turn comes.

use std::collections::VecDeque;

use super::super::keys::Key;

/// Keys in their order. Characters in a row are kept as text, so that a text
/// that was typed ahead takes little more than its length.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Waiting {
    entries: VecDeque<Entry>,
    bytes: usize,
    refused_bytes: usize,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum Entry {
    /// Characters, of which `taken` bytes have had their turn.
    Text { text: String, taken: usize },
    /// Any other key.
    Key(Key),
}

impl Entry {
    /// The memory that it takes.
    fn bytes(&self) -> usize {
        entry_bytes(match self {
            Entry::Key(Key::Paste(text)) | Entry::Text { text, .. } => text.len(),
            Entry::Key(_) => 0,
        })
    }
}

/// What an entry with so much text takes.
fn entry_bytes(length: usize) -> usize {
    size_of::<Entry>().saturating_add(length)
}

impl Waiting {
    /// Appends a key if no more than `most` bytes then wait; else counts it
    /// among what was refused.
    pub(super) fn push(&mut self, key: Key, most: usize) {
        let joins = matches!(self.entries.back(), Some(Entry::Text { .. }));
        let (length, needed) = match &key {
            Key::Char(c) if joins => (c.len_utf8(), c.len_utf8()),
            Key::Char(c) => (c.len_utf8(), entry_bytes(c.len_utf8())),
            Key::Paste(text) => (text.len(), entry_bytes(text.len())),
            _ => (1, entry_bytes(0)),
        };
        let bytes = self.bytes.saturating_add(needed);
        // After a gap nothing more is taken: it would stand in a wrong place.
        if bytes > most || self.refused_bytes > 0 {
            self.refused_bytes = self.refused_bytes.saturating_add(length);
            return;
        }
        self.bytes = bytes;
        match (key, self.entries.back_mut()) {
            (Key::Char(c), Some(Entry::Text { text, .. })) => text.push(c),
            (Key::Char(c), _) => self.entries.push_back(Entry::Text {
                text: c.to_string(),
                taken: 0,
            }),
            (key, _) => self.entries.push_back(Entry::Key(key)),
        }
    }

    /// The next key.
    pub(super) fn pop(&mut self) -> Option<Key> {
        if let Some(Entry::Text { text, taken }) = self.entries.front_mut()
            && let Some(c) = text.get(*taken..).and_then(|rest| rest.chars().next())
        {
            *taken = taken.saturating_add(c.len_utf8());
            if *taken == text.len() {
                self.drop_first();
            }
            return Some(Key::Char(c));
        }
        match self.drop_first()? {
            Entry::Key(key) => Some(key),
            Entry::Text { .. } => None,
        }
    }

    fn drop_first(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes = self.bytes.saturating_sub(entry.bytes());
        Some(entry)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// If a Ctrl-C waits, takes it away, and what waits before it if that is
    /// several lines. Returns how many were: one message and what is begun of
    /// another stay.
    pub(super) fn take_stop(&mut self) -> Option<usize> {
        let is_key = |entry: &Entry, key: &Key| matches!(entry, Entry::Key(k) if k == key);
        let is_stop = |entry: &Entry| is_key(entry, &Key::Ctrl('c'));
        let last = self.entries.iter().rposition(is_stop)?;
        let before = self.entries.iter().take(last);
        let lines = before.filter(|entry| is_key(entry, &Key::Enter)).count();
        let discards = lines > 1;
        if discards {
            self.entries.drain(..=last);
            self.refused_bytes = 0;
        } else {
            self.entries.retain(|entry| !is_stop(entry));
        }
        self.bytes = self.entries.iter().map(Entry::bytes).sum();
        Some(if discards { lines } else { 0 })
    }

    /// The length of what was not taken and has not been told.
    pub(super) fn refused_bytes(&self) -> usize {
        self.refused_bytes
    }

    /// The same, once.
    pub(super) fn take_refused(&mut self) -> usize {
        std::mem::take(&mut self.refused_bytes)
    }
}

//! Conversations to write and read.

use journal::rehearsal::Memory;
use journal::{ChatId, Error, Found, Journal, Key, State, look};
use protocol::{Message, Role};

pub(crate) fn new() -> (Memory, Journal) {
    let disk = Memory::default();
    assert_eq!(look(&disk).unwrap(), State::Empty);
    let journal = Journal::create(Box::new(disk.clone()), None).unwrap();
    (disk, journal)
}

pub(crate) fn reopen(disk: &Memory) -> (Journal, Found) {
    Journal::open(Box::new(disk.clone()), None).unwrap()
}

pub(crate) fn said(text: &str) -> (Message, Message) {
    let mut answer = Message::new(Role::Assistant, format!("{text}!"));
    answer.reasoning = Some(format!("{text}?"));
    (Message::new(Role::User, text), answer)
}

pub(crate) fn turn(journal: &mut Journal, chat: ChatId, text: &str) {
    let (question, answer) = said(text);
    journal.turn(chat, &question, &answer, 7).unwrap();
}

pub(crate) fn texts(journal: &Journal, chat: ChatId) -> Vec<String> {
    let messages = journal.messages(chat).unwrap();
    let questions = messages.iter().filter(|m| m.role == Role::User);
    questions.map(|m| m.text.clone()).collect()
}

pub(crate) fn piece(byte: u8, bytes: usize) -> (Key, Vec<u8>) {
    let content = (0..bytes).map(|n| byte ^ (n / 7).to_le_bytes()[0]);
    (Key([byte; 32]), content.collect())
}

pub(crate) fn put(journal: &mut Journal, key: Key, content: &[u8]) -> Result<(), Error> {
    let mut writer = journal.begin_piece(key, content.len() as u64)?;
    for part in content.chunks(300_000) {
        journal.write_piece(&mut writer, part)?;
    }
    journal.finish_piece(writer)
}

pub(crate) fn get(journal: &Journal, key: &Key) -> Result<Vec<u8>, Error> {
    let info = journal.piece(key).ok_or(Error::NoPiece)?;
    let mut content = Vec::new();
    for part in 0..info.parts {
        content.extend(journal.read_part(key, part)?);
    }
    assert_eq!(content.len() as u64, info.bytes);
    Ok(content)
}

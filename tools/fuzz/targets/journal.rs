//! Opening a session: whatever is on its disk, or its records say, opening ends with one
//! line or with a session that goes on; and what damage does not touch is still there.

#![no_main]

use journal::rehearsal::{Memory, session};
use journal::{BLOCK_BYTES, Found, Journal, Key, look};
use libfuzzer_sys::fuzz_target;
use protocol::{Message, Role};

/// Turns of the session that is damaged.
const TURNS: usize = 6;
/// Where its records begin: with that of the conversation.
const FIRST_BLOCK: usize = 4;

fuzz_target!(|bytes: &[u8]| match bytes.split_first() {
    // Payloads, a line each, with headers that are whole.
    Some((b'=', lines)) => {
        let payloads: Vec<_> = lines.split(|&byte| byte == b'\n').take(64).collect();
        let _ = go_on(&session(&payloads).expect("payloads are short"));
    }
    Some((b'+', damage)) => go_on_without(damage),
    _ => {
        let _ = go_on(&Memory::holding(bytes.to_vec()));
    }
});

/// The session, if it opens; else an error in one line.
fn open(disk: &Memory) -> Option<Journal> {
    let _ = look(disk);
    let said;
    let journal = match Journal::open(Box::new(disk.clone()), None) {
        Ok((journal, found)) => {
            said = found.to_string();
            Some(journal)
        }
        Err(error) => {
            said = error.to_string();
            None
        }
    };
    assert!(!said.contains(['\n', '\x1b']), "one line: {said:?}");
    journal
}

/// What the next opening finds, if there is one.
fn go_on(disk: &Memory) -> Option<Found> {
    let mut journal = open(disk)?;
    for chat in journal.chats() {
        // A deletion that no zosia writes leaves conversations without their records.
        let _ = journal.messages(chat.id);
        for key in chat.context() {
            let _ = journal.read_part(key, 0);
        }
    }
    // It can be written to.
    let question = Message::new(Role::User, "?");
    let chat = journal.begin().expect("it grows");
    let answer = Message::new(Role::Assistant, "!");
    journal.turn(chat, &question, &answer, 1).expect("it grows");
    let key = Key([7; 32]);
    let mut writer = journal.begin_piece(key, 5000).expect("it grows");
    journal
        .write_piece(&mut writer, &[1; 5000])
        .expect("it grows");
    journal.finish_piece(writer).expect("it grows");
    assert_eq!(journal.read_part(&key, 0).expect("it is there"), [1; 5000]);
    if let Some(first) = journal.chats().first().map(|first| first.id)
        && first != chat
    {
        journal.delete(first).expect("it grows");
    }
    drop(journal);
    let (journal, found) = Journal::open(Box::new(disk.clone()), None).expect("it was open");
    let said = journal.messages(chat).expect("it is there");
    assert_eq!(said.last(), Some(&answer));
    Some(found)
}

/// Changes some bytes of a session, three of `damage` each: a block, where in it, and what
/// is there instead.
fn go_on_without(damage: &[u8]) {
    let disk = Memory::default();
    let mut journal = Journal::create(Box::new(disk.clone()), None).expect("it grows");
    let chat = journal.begin().expect("it grows");
    for turn in 0..TURNS {
        let question = Message::new(Role::User, turn.to_string());
        let answer = Message::new(Role::Assistant, "!");
        journal.turn(chat, &question, &answer, 1).expect("it grows");
    }
    drop(journal);
    let mut bytes = disk.bytes();
    let mut damaged = [false; FIRST_BLOCK + 1 + TURNS];
    for [block, within, new] in damage.as_chunks().0 {
        let block = usize::from(*block) % damaged.len();
        // Headers and payloads alike.
        let at = block * BLOCK_BYTES as usize + usize::from(*within) * 4;
        if let Some(byte) = bytes.get_mut(at) {
            damaged[block] |= *byte != *new;
            *byte = *new;
        }
    }
    let disk = Memory::holding(bytes);
    let Some(journal) = open(&disk) else {
        assert!(damaged[0] && damaged[3], "a superblock was whole");
        return;
    };
    if !damaged[FIRST_BLOCK] {
        let messages = journal.messages(chat).expect("damage was found");
        for turn in 0..TURNS {
            let is_there = messages.iter().any(|said| said.text == turn.to_string());
            let whole = !damaged[FIRST_BLOCK + 1 + turn];
            assert!(is_there || !whole, "turn {turn} is lost");
        }
    }
    drop(journal);
    let found = go_on(&disk).expect("it was open");
    assert!(found.is_quiet(), "told twice: {found}");
}

//! Opening a session: whatever is on its disk, or its records say, opening ends with one
//! line or with a session that goes on.

#![no_main]

use journal::rehearsal::{Memory, session};
use journal::{Journal, Key, look};
use libfuzzer_sys::fuzz_target;
use protocol::{Message, Role};

fuzz_target!(|bytes: &[u8]| {
    let disk = match bytes.split_first() {
        // Payloads, a line each, with headers that are whole.
        Some((b'=', lines)) => {
            let payloads: Vec<_> = lines.split(|&byte| byte == b'\n').take(64).collect();
            session(&payloads).expect("payloads are short")
        }
        _ => Memory::holding(bytes.to_vec()),
    };
    let _ = look(&disk);
    let (mut journal, found) = match Journal::open(Box::new(disk.clone()), None) {
        Ok(opened) => opened,
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains(['\n', '\x1b']), "one line: {said:?}");
            return;
        }
    };
    assert!(!found.to_string().contains('\n'));
    for chat in journal.chats() {
        journal
            .messages(chat.id)
            .expect("what was found damaged is left out");
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
    let (journal, found) = Journal::open(Box::new(disk), None).expect("it was open");
    assert!(found.is_quiet(), "{found}");
    let said = journal.messages(chat).expect("it is there");
    assert_eq!(said.last(), Some(&answer));
});

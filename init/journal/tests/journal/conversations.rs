//! What is written is there after opening again.

use std::io::ErrorKind;

use crate::talk::{get, new, piece, put, reopen, said, texts, turn};
use journal::rehearsal::{Memory, Operation};
use journal::{Disk as _, Error, Journal, Key, Model, look};
use protocol::{Message, Role};

#[test]
fn a_conversation_is_there_the_next_day() {
    let (disk, mut journal) = new();
    let chat = journal.begin().unwrap();
    turn(&mut journal, chat, "What is\n a journal");
    journal.system(chat, "Be brief.").unwrap();
    journal.set(chat, "temp", Some("0")).unwrap();
    journal.set(chat, "seed", Some("1")).unwrap();
    journal.set(chat, "seed", None).unwrap();
    let model = Model {
        name: "smollm2".to_owned(),
        sha256: Some("b1".repeat(32)),
    };
    journal.model(chat, &model).unwrap();
    journal.line(None, "/help").unwrap();
    journal.line(Some(chat), "What is\n a journal").unwrap();
    drop(journal);

    let (journal, found) = reopen(&disk);
    assert!(found.is_quiet(), "{found}");
    let chat = journal.current().unwrap();
    assert_eq!(chat.title(), "What is a journal");
    assert_eq!((chat.turns(), chat.tokens), (1, 7));
    assert_eq!(chat.system, "Be brief.");
    assert_eq!(chat.parameters.len(), 1);
    assert_eq!(chat.model.as_ref(), Some(&model));
    let (question, answer) = said("What is\n a journal");
    assert_eq!(journal.messages(chat.id).unwrap(), [question, answer]);
    let lines: Vec<_> = journal.lines().collect();
    assert_eq!(lines, ["/help", "What is\n a journal"]);
}

#[test]
fn turns_are_taken_back_dropped_and_answered_again() {
    let (disk, mut journal) = new();
    let chat = journal.begin().unwrap();
    for text in ["a", "b", "c"] {
        turn(&mut journal, chat, text);
    }
    journal.take_back(chat).unwrap();
    journal.drop_oldest(chat).unwrap();
    let better = Message::new(Role::Assistant, "better");
    journal.answer(chat, &better, 9).unwrap();
    for journal in [&journal, &reopen(&disk).0] {
        assert_eq!(texts(journal, chat), ["b"]);
        assert_eq!(journal.messages(chat).unwrap()[1], better);
        assert_eq!(journal.chat(chat).unwrap().tokens, 9);
    }
    journal.clear(chat).unwrap();
    assert_eq!(reopen(&disk).0.chat(chat).unwrap().turns(), 0);
    assert!(matches!(journal.take_back(chat), Err(Error::NoChat)));
}

#[test]
fn a_fork_keeps_what_it_has_of_a_deleted_conversation() {
    let (disk, mut journal) = new();
    let first = journal.begin().unwrap();
    turn(&mut journal, first, "shared words");
    journal.system(first, "a system prompt").unwrap();
    turn(&mut journal, first, "secret words");
    journal.line(Some(first), "typed words").unwrap();
    let fork = journal.fork(first, 1).unwrap();
    turn(&mut journal, fork, "later words");
    journal.rename(fork, Some("a title")).unwrap();
    journal.delete(first).unwrap();
    for journal in [&journal, &reopen(&disk).0] {
        assert_eq!(journal.chats().len(), 1);
        let chat = journal.current().unwrap();
        assert_eq!((chat.id, chat.title()), (fork, "a title"));
        assert_eq!(chat.system, "a system prompt");
        assert_eq!(texts(journal, fork), ["shared words", "later words"]);
        assert_eq!(journal.lines().count(), 0);
    }
    let holds = |text: &str| {
        let bytes = disk.bytes();
        bytes.windows(text.len()).any(|w| w == text.as_bytes())
    };
    assert!(holds("shared words") && !holds("secret words") && !holds("typed words"));
    journal.delete(fork).unwrap();
    assert!(!holds("shared words") && !holds("a system prompt") && !holds("later words"));
    let (mut journal, found) = reopen(&disk);
    assert!(found.is_quiet(), "{found}");
    assert!(journal.chats().is_empty() && journal.current().is_none());
    assert_eq!(journal.begin().unwrap().0, 3, "a name is not used again");
}

#[test]
fn a_fork_of_a_fork_outlives_both() {
    let (disk, mut journal) = new();
    let first = journal.begin().unwrap();
    turn(&mut journal, first, "said once");
    let (_, answer) = said("better");
    journal.answer(first, &answer, 9).unwrap();
    let second = journal.fork(first, 1).unwrap();
    journal.delete(first).unwrap();
    let third = journal.fork(second, 1).unwrap();
    journal.delete(second).unwrap();
    for journal in [&journal, &reopen(&disk).0] {
        assert_eq!(texts(journal, third), ["said once"]);
        assert_eq!(journal.messages(third).unwrap()[1], answer);
        let chat = journal.chat(third).unwrap();
        assert_eq!((chat.title(), chat.tokens), ("said once", 9));
    }
}

#[test]
fn a_fork_has_nothing_of_the_turns_behind_it() {
    let (disk, mut journal) = new();
    let first = journal.begin().unwrap();
    let (question, answer) = said("shared");
    journal.turn(first, &question, &answer, 5).unwrap();
    turn(&mut journal, first, "secret");
    let (key, content) = piece(1, 10_000);
    put(&mut journal, key, &content).unwrap();
    journal.set_context(first, &[key]).unwrap();
    let whole = journal.fork(first, 2).unwrap();
    let fork = journal.fork(first, 1).unwrap();
    for journal in [&journal, &reopen(&disk).0] {
        let of = |id| journal.chat(id).unwrap();
        assert_eq!((of(whole).context(), of(whole).tokens), (&[key][..], 7));
        assert_eq!((of(fork).context(), of(fork).tokens), (&[][..], 5));
    }
    journal.delete(whole).unwrap();
    journal.delete(first).unwrap();
    assert!(journal.piece(&key).is_none());
    assert!(!disk.bytes().windows(64).any(|w| w == &content[4096..4160]));
}

#[test]
fn a_deletion_writes_no_zeros_where_they_are() {
    let (disk, mut journal) = new();
    let [first, second] = ["one", "two"].map(|question| {
        let chat = journal.begin().unwrap();
        turn(&mut journal, chat, question);
        chat
    });
    let (key, content) = piece(1, 4 << 20);
    put(&mut journal, key, &content).unwrap();
    journal.set_context(first, &[key]).unwrap();
    let written = |journal: &mut Journal, chat| {
        let before = disk.operations().len();
        journal.delete(chat).unwrap();
        let operations = disk.operations();
        let written = operations[before..]
            .iter()
            .map(|operation| match operation {
                Operation::Write { bytes, .. } => bytes.len(),
                Operation::Flush => 0,
            });
        written.sum::<usize>()
    };
    assert!(written(&mut journal, first) > 4 << 20);
    assert!(written(&mut journal, second) < 1 << 16);
}

#[test]
fn no_key_of_a_piece_outlives_its_conversation() {
    let (disk, mut journal) = new();
    let first = journal.begin().unwrap();
    let keys: Vec<_> = (0x21..=0x24).map(|byte| piece(byte, 0).0).collect();
    for key in &keys {
        put(&mut journal, *key, &[1; 5000]).unwrap();
    }
    journal.set_context(first, &keys[..3]).unwrap();
    let other = journal.begin().unwrap();
    journal.set_context(other, &keys[2..3]).unwrap();
    journal.drop_pieces(&keys[1..2]).unwrap();
    journal.delete(first).unwrap();
    let bytes = disk.bytes();
    let names = |byte: &str| bytes.windows(64).any(|w| w == byte.repeat(32).as_bytes());
    assert!(!names("21") && !names("22") && names("23") && !names("24"));
    for journal in [&journal, &reopen(&disk).0] {
        assert_eq!(journal.chat(other).unwrap().context(), &keys[2..3]);
        assert_eq!(get(journal, &keys[2]).unwrap(), [1; 5000]);
        assert!([0, 1, 3].iter().all(|&n| journal.piece(&keys[n]).is_none()));
    }
    assert!(reopen(&disk).1.is_quiet());
}

#[test]
fn a_count_of_tokens_is_that_of_the_last_turn() {
    let (disk, mut journal) = new();
    let chat = journal.begin().unwrap();
    for (text, tokens) in [("a", 5), ("b", 12)] {
        let (question, answer) = said(text);
        journal.turn(chat, &question, &answer, tokens).unwrap();
    }
    journal.take_back(chat).unwrap();
    assert_eq!(reopen(&disk).0.chat(chat).unwrap().tokens, 5);
    journal.clear(chat).unwrap();
    for journal in [&journal, &reopen(&disk).0] {
        assert_eq!(journal.chat(chat).unwrap().tokens, 0);
    }
}

#[test]
fn pieces_come_back_as_they_were_or_not_at_all() {
    let (disk, mut journal) = new();
    let chat = journal.begin().unwrap();
    let (a, a_content) = piece(1, 2_500_000);
    let (b, b_content) = piece(2, 5000);
    // Turns and other pieces are written while one is.
    let mut writer = journal.begin_piece(a, a_content.len() as u64).unwrap();
    journal
        .write_piece(&mut writer, &a_content[..2_000_000])
        .unwrap();
    turn(&mut journal, chat, "between");
    put(&mut journal, b, &b_content).unwrap();
    journal
        .write_piece(&mut writer, &a_content[2_000_000..])
        .unwrap();
    journal.finish_piece(writer).unwrap();
    journal.set_context(chat, &[a, b, Key([9; 32])]).unwrap();
    let (journal, found) = reopen(&disk);
    assert!(found.is_quiet(), "{found}");
    assert_eq!(journal.chat(chat).unwrap().context(), [a, b]);
    assert_eq!(get(&journal, &a).unwrap(), a_content);
    assert_eq!(get(&journal, &b).unwrap(), b_content);
    // One changed bit anywhere, and it is not used.
    let bytes = disk.bytes();
    let at = bytes
        .windows(64)
        .position(|w| w == &a_content[1_500_000..1_500_064]);
    let mut changed = bytes.clone();
    changed[at.unwrap()] ^= 1;
    let (journal, _) = reopen(&Memory::holding(changed));
    assert!(matches!(get(&journal, &a), Err(Error::NoPiece)));
    assert_eq!(get(&journal, &b).unwrap(), b_content);
}

#[test]
fn pieces_are_dropped_for_others_within_a_budget() {
    let (disk, mut journal) = new();
    journal.set_budget(4 << 20);
    let old = journal.begin().unwrap();
    let (a, content) = piece(1, 1 << 20);
    let (b, _) = piece(2, 1);
    put(&mut journal, a, &content).unwrap();
    put(&mut journal, b, &content).unwrap();
    journal.set_context(old, &[a, b]).unwrap();
    journal.begin().unwrap();
    let (c, _) = piece(3, 1);
    put(&mut journal, c, &content).unwrap();
    let size = disk.bytes().len();
    let (d, large) = piece(4, 2 << 20);
    put(&mut journal, d, &large).unwrap();
    // The end of the old context went first, and its space is used again.
    assert!(journal.piece(&a).is_some() && journal.piece(&b).is_none());
    assert!(disk.bytes().len() < size + (2 << 20));
    let chat = journal.current().unwrap().id;
    journal.set_context(chat, &[c, d]).unwrap();
    let (e, _) = piece(5, 1);
    put(&mut journal, e, &content).unwrap();
    assert!(journal.piece(&a).is_none());
    // What goes on now is never dropped.
    put(&mut journal, e, &large).unwrap_err();
    let (journal, found) = reopen(&disk);
    assert!(found.is_quiet(), "{found}");
    assert_eq!(get(&journal, &d).unwrap(), large);
    assert_eq!(get(&journal, &c).unwrap(), content);
}

#[test]
fn a_context_that_has_no_room_keeps_its_beginning() {
    let (_, mut journal) = new();
    journal.set_budget(4 << 20);
    let chat = journal.begin().unwrap();
    let keys: Vec<_> = (1..=6).map(|byte| piece(byte, 0).0).collect();
    let (_, content) = piece(1, 1 << 20);
    for key in &keys[..4] {
        put(&mut journal, *key, &content).unwrap();
    }
    assert!(matches!(
        put(&mut journal, keys[4], &content),
        Err(Error::Full { .. })
    ));
    // What is not kept is left out, and another context may take the place of the end.
    journal.set_context(chat, &keys).unwrap();
    assert_eq!(journal.current().unwrap().context(), &keys[..4]);
    journal.begin().unwrap();
    put(&mut journal, keys[5], &content).unwrap();
    assert!(journal.piece(&keys[2]).is_some() && journal.piece(&keys[3]).is_none());
}

#[test]
fn after_an_error_the_same_can_be_tried_again() {
    let (disk, mut journal) = new();
    let chat = journal.begin().unwrap();
    turn(&mut journal, chat, "kept");
    let (question, answer) = said("tried");
    for (kind, count) in [(ErrorKind::StorageFull, 0), (ErrorKind::Other, 1)] {
        disk.fail_after(count, kind);
        let error = journal.turn(chat, &question, &answer, 1).unwrap_err();
        let expected = if kind == ErrorKind::Other {
            "ZE-70"
        } else {
            "ZE-71"
        };
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(texts(&journal, chat), ["kept"]);
        disk.mend();
    }
    turn(&mut journal, chat, "tried");
    let (journal, found) = reopen(&disk);
    assert!(found.is_quiet(), "{found}");
    assert_eq!(texts(&journal, chat), ["kept", "tried"]);
}

#[test]
fn a_disk_of_fixed_size_fills_up_and_keeps_what_it_has() {
    let disk = Memory::fixed(20 * 4096);
    let mut journal = Journal::create(Box::new(disk.clone()), None).unwrap();
    let chat = journal.begin().unwrap();
    let mut count = 0;
    let (question, answer) = said("again");
    let error = loop {
        match journal.turn(chat, &question, &answer, 1) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(count, 13);
    drop(journal);
    let (mut journal, found) = reopen(&disk);
    assert!(found.is_quiet(), "{found}");
    assert_eq!(texts(&journal, chat).len(), count);
    // What is in it can still be deleted.
    journal.delete(chat).unwrap();
    assert!(!disk.bytes().windows(6).any(|w| w == b"again!"));
    let (journal, found) = reopen(&disk);
    assert!(found.is_quiet() && journal.chats().is_empty(), "{found}");
}

#[test]
fn a_full_disk_is_opened_whatever_it_has_no_room_for() {
    let (disk, mut journal) = new();
    let chat = journal.begin().unwrap();
    turn(&mut journal, chat, "a secret");
    let other = journal.begin().unwrap();
    turn(&mut journal, other, "another secret");
    // The deletion is on the disk, and nothing is erased yet.
    disk.fail_after(2, ErrorKind::Other);
    journal.delete(chat).unwrap_err();
    disk.mend();
    drop(journal);
    let bytes = disk.bytes();
    let mut full = Memory::fixed(bytes.len());
    full.write_at(0, &bytes).unwrap();
    for _ in 0..2 {
        let (journal, found) = reopen(&full);
        assert!(!found.erased, "nothing says so yet");
        assert_eq!(journal.chats().len(), 1);
        assert!(!full.bytes().windows(9).any(|w| w == b"a secret!"));
    }
    // There is room again: both deletions end.
    let disk = Memory::holding(bytes);
    let (mut journal, found) = reopen(&disk);
    assert!(found.erased);
    journal.delete(other).unwrap();
    assert!(reopen(&disk).1.is_quiet());
    assert!(!disk.bytes().windows(7).any(|w| w == b"secret!"));
}

#[test]
fn what_is_no_session_is_refused_and_left_alone() {
    let line = |bytes: &[u8]| {
        let disk = Memory::holding(bytes.to_vec());
        let error = look(&disk).unwrap_err();
        let created = Journal::create(Box::new(disk.clone()), None).err().unwrap();
        assert_eq!(created.to_string(), error.to_string());
        assert!(disk.operations().is_empty());
        error.to_string()
    };
    assert!(line(b"GGUF\x03\0\0\0").contains("not a session"));
    // Where ext4, swap, an ISO and btrfs have their signatures, behind nothing but zeros.
    for at in [1024 + 56, 4086, (32 << 10) + 1, (64 << 10) + 64] {
        let mut foreign = vec![0; 1 << 20];
        foreign[at] = 1;
        assert!(line(&foreign).contains("something else"), "byte {at}");
    }
    let (disk, mut journal) = new();
    journal.begin().unwrap();
    let mut newer = disk.bytes();
    for copy in [0, 3 * 4096] {
        newer[copy + 8] = 2;
    }
    assert!(line(&newer).contains("version 2"), "{}", line(&newer));
    // One copy of the superblock is enough.
    let mut one = disk.bytes();
    one[40] ^= 1;
    assert_eq!(reopen(&Memory::holding(one.clone())).0.chats().len(), 1);
    one[3 * 4096 + 40] ^= 1;
    let left = line(&one);
    assert!(left.contains("zosia-disk session repair"), "{left}");
}

#[test]
fn an_empty_session_is_opened_without_looking_at_the_whole_disk() {
    let disk = Memory::fixed(160 << 20);
    drop(Journal::create(Box::new(disk.clone()), None).unwrap());
    let before = disk.read_bytes();
    let (journal, found) = reopen(&disk);
    assert!(found.is_quiet() && journal.chats().is_empty());
    let read = disk.read_bytes() - before;
    assert!(read < 1 << 20, "{read} bytes");
}

#[test]
fn a_line_that_is_too_long_to_keep_takes_no_other_with_it() {
    let (disk, mut journal) = new();
    journal.line(None, "short").unwrap();
    journal.line(None, &"long ".repeat(60_000)).unwrap();
    for journal in [&journal, &reopen(&disk).0] {
        assert_eq!(journal.lines().collect::<Vec<_>>(), ["short"]);
    }
}

#[test]
fn what_was_read_for_a_question_is_no_part_of_a_title() {
    let (disk, mut journal) = new();
    let chat = journal.begin().unwrap();
    let question = "File a.md:\n```\nA text.\n```\n\nWhat is it?";
    turn(&mut journal, chat, question);
    assert_eq!(journal.current().unwrap().title(), "What is it?");
    drop(journal);
    let (journal, _) = reopen(&disk);
    assert_eq!(journal.current().unwrap().title(), "What is it?");
    assert_eq!(texts(&journal, chat), [question]);
}

//! What the disk, or somebody, has changed is found and named; the rest is there.

use crate::talk::{get, piece, put, texts, turn};
use journal::rehearsal::Memory;
use journal::{Error, Journal, State, look, rebuild};

const SECRET: &str = "correct horse";

/// A session with turns 0 to 9 and a piece.
fn session(passphrase: Option<&str>) -> Vec<u8> {
    let disk = Memory::default();
    let mut journal = Journal::create(Box::new(disk.clone()), passphrase).unwrap();
    let chat = journal.begin().unwrap();
    for number in 0..10 {
        turn(&mut journal, chat, &format!("number {number}"));
        if number == 4 {
            let (key, content) = piece(1, 20_000);
            put(&mut journal, key, &content).unwrap();
        }
    }
    drop(journal);
    disk.bytes()
}

/// Where records begin.
fn records(bytes: &[u8]) -> Vec<usize> {
    let blocks = (0..bytes.len()).step_by(4096);
    blocks
        .filter(|&at| bytes[at..].starts_with(b"zosiarec"))
        .collect()
}

/// Opens twice: what is lost is told once, and everything else is there both times.
fn losing(bytes: Vec<u8>, passphrase: Option<&str>) -> (Vec<(u64, u64)>, Vec<String>) {
    let disk = Memory::holding(bytes);
    let open = || Journal::open(Box::new(disk.clone()), passphrase).unwrap();
    let (journal, found) = open();
    let there = texts(&journal, journal.chats()[0].id);
    if !found.lost.is_empty() {
        let line = found.to_string();
        assert!(line.contains("lost") && !line.contains('\n'), "{line}");
    }
    drop(journal);
    let (mut journal, again) = open();
    assert!(again.lost.is_empty(), "{again}");
    let chat = journal.chats()[0].id;
    assert_eq!(texts(&journal, chat), there);
    turn(&mut journal, chat, "later");
    drop(journal);
    let (journal, last) = open();
    assert!(last.is_quiet(), "{last}");
    assert_eq!(texts(&journal, chat).last().unwrap(), "later");
    (found.lost, there)
}

#[test]
fn one_damaged_record_costs_one_record() {
    for passphrase in [None, Some(SECRET)] {
        let whole = session(passphrase);
        let places = records(&whole);
        assert_eq!(places.len(), 13);
        // To derive a key takes its time.
        let (every, changes) = match passphrase {
            None => (1, &[20, 149, 520, 4095][..]),
            Some(_) => (13, &[520][..]),
        };
        for (index, &at) in places.iter().enumerate().step_by(every) {
            // In the header, in the text; and the whole block gone.
            for &change in changes {
                let mut bytes = whole.clone();
                if change == 4095 {
                    bytes[at..at + 4096].fill(0);
                } else {
                    // In the text, one digit becomes another.
                    bytes[at + change] ^= 1;
                }
                let (lost, there) = losing(bytes, passphrase);
                let number = index as u64 + 1;
                // Nobody reads what stands between a header and its text.
                let expected: &[_] = if change == 149 {
                    &[]
                } else {
                    &[(number, number)]
                };
                assert_eq!(lost, expected, "byte {change} of record {number}");
                // Records 1, 7 and 8 are no turns.
                let fewer = usize::from(change != 149 && ![1, 7, 8].contains(&number));
                assert_eq!(there.len(), 10 - fewer);
            }
        }
    }
}

#[test]
fn a_fork_does_not_have_a_turn_that_is_lost() {
    let disk = Memory::holding(session(None));
    let (mut journal, _) = Journal::open(Box::new(disk.clone()), None).unwrap();
    let first = journal.chats()[0].id;
    let fork = journal.fork(first, 3).unwrap();
    drop(journal);
    let mut bytes = disk.bytes();
    bytes[records(&disk.bytes())[3] + 520] ^= 1;
    let disk = Memory::holding(bytes);
    let (mut journal, found) = Journal::open(Box::new(disk), None).unwrap();
    assert_eq!(found.lost, [(4, 4)]);
    assert_eq!(journal.chat(fork).unwrap().turns(), 2);
    // What is taken back is what was seen last.
    journal.take_back(fork).unwrap();
    assert_eq!(texts(&journal, fork), ["number 0"]);
}

#[test]
fn records_that_were_flushed_and_are_gone_are_told() {
    for passphrase in [None, Some(SECRET)] {
        let whole = session(passphrase);
        let places = records(&whole);
        // The end is cut off, however much of it.
        let every = if passphrase.is_none() { 1 } else { 13 };
        for (index, &at) in places.iter().enumerate().skip(1).step_by(every) {
            let (lost, there) = losing(whole[..at].to_vec(), passphrase);
            assert_eq!(lost, [(index as u64 + 1, 13)]);
            assert!(there.len() < 10);
        }
        // Both heads as well: records after a damaged one are still found.
        let mut bytes = whole.clone();
        bytes[4096..3 * 4096].fill(0xff);
        bytes[places[3]..places[5]].fill(0);
        assert_eq!(losing(bytes, passphrase).0, [(4, 5)]);
        // A text, and the next record's header, which would say that it was written.
        let mut bytes = whole.clone();
        bytes[4096..3 * 4096].fill(0xff);
        bytes[places[3] + 520] ^= 1;
        bytes[places[4] + 20] ^= 1;
        assert_eq!(losing(bytes, passphrase).0, [(4, 5)]);
    }
}

#[test]
fn records_do_not_change_places() {
    let whole = session(Some(SECRET));
    let places = records(&whole);
    let mut bytes = whole.clone();
    bytes.copy_within(places[4]..places[4] + 4096, places[2]);
    assert_eq!(losing(bytes, Some(SECRET)).0, [(3, 3)]);
    // Nor do they come from another session with the same passphrase.
    let other = session(Some(SECRET));
    let mut bytes = whole;
    bytes[places[4]..places[5]].copy_from_slice(&other[places[4]..places[5]]);
    assert_eq!(losing(bytes, Some(SECRET)).0, [(5, 5)]);
}

#[test]
fn a_record_with_another_history_is_not_taken() {
    for passphrase in [None, Some(SECRET)] {
        let disk = Memory::holding(session(passphrase));
        let bytes = |texts: &[&str]| {
            let disk = Memory::holding(disk.bytes());
            let (mut journal, _) = Journal::open(Box::new(disk.clone()), passphrase).unwrap();
            let chat = journal.chats()[0].id;
            for text in texts {
                turn(&mut journal, chat, text);
            }
            drop(journal);
            disk.bytes()
        };
        let (mut one, other) = (bytes(&["a", "b", "c"]), bytes(&["A"]));
        let at = records(&one)[13];
        one[at..at + 4096].copy_from_slice(&other[at..at + 4096]);
        // Which of the two it is cannot be told; that they do not fit can.
        assert_eq!(losing(one, passphrase).0, [(15, 15)]);
    }
}

#[test]
fn an_encrypted_session_tells_nothing_without_its_passphrase() {
    let bytes = session(Some(SECRET));
    for plain in [&b"number"[..], b"question", b"kind", &piece(1, 64).1] {
        assert!(!bytes.windows(plain.len()).any(|w| w == plain));
    }
    // A record's length is no more exact than its blocks.
    let second = records(&bytes)[1];
    assert_eq!(
        bytes[second + 40..second + 44],
        (4096_u32 - 512).to_le_bytes()
    );
    let disk = Memory::holding(bytes.clone());
    assert_eq!(look(&disk).unwrap(), State::Encrypted);
    let open = |passphrase| Journal::open(Box::new(disk.clone()), passphrase);
    assert!(matches!(open(None), Err(Error::NeedsPassphrase)));
    assert!(matches!(
        open(Some("correct mule")),
        Err(Error::WrongPassphrase)
    ));
    assert_eq!(disk.bytes(), bytes);
    let (journal, found) = open(Some(SECRET)).unwrap();
    assert!(found.is_quiet(), "{found}");
    assert_eq!(texts(&journal, journal.chats()[0].id).len(), 10);
    let (key, content) = piece(1, 20_000);
    assert_eq!(get(&journal, &key).unwrap(), content);
}

#[test]
fn a_changed_piece_of_an_encrypted_session_is_not_used() {
    let whole = session(Some(SECRET));
    let space = records(&whole)[6] + 4096;
    assert!(!whole[space..].starts_with(b"zosiarec"));
    for byte in [0, 10_000, 19_999] {
        let mut bytes = whole.clone();
        bytes[space + byte] ^= 0x80;
        let disk = Box::new(Memory::holding(bytes));
        let (journal, found) = Journal::open(disk, Some(SECRET)).unwrap();
        assert!(found.is_quiet());
        let key = piece(1, 0).0;
        assert!(matches!(get(&journal, &key), Err(Error::NoPiece)));
    }
}

#[test]
fn a_superblock_is_mended_from_its_copy_or_from_the_records() {
    let whole = session(None);
    for copy in [0, 3 * 4096] {
        let mut bytes = whole.clone();
        bytes[copy..copy + 4096].fill(7);
        let disk = Memory::holding(bytes);
        drop(Journal::open(Box::new(disk.clone()), None).unwrap());
        assert_eq!(disk.bytes()[..4096][..512], whole[..512]);
        assert_eq!(disk.bytes()[3 * 4096..][..512], whole[3 * 4096..][..512]);
    }
    let both = |mut bytes: Vec<u8>| {
        bytes[..4096].fill(7);
        bytes[3 * 4096..4 * 4096].fill(7);
        let disk = Memory::holding(bytes);
        assert!(matches!(look(&disk), Err(Error::NoSession { .. })));
        disk
    };
    let mut disk = both(whole);
    rebuild(&mut disk).unwrap();
    let (mut journal, found) = Journal::open(Box::new(disk.clone()), None).unwrap();
    assert!(found.is_quiet());
    assert_eq!(texts(&journal, journal.chats()[0].id).len(), 10);
    // The first record is erased with its conversation.
    let first = journal.chats()[0].id;
    let other = journal.begin().unwrap();
    journal.delete(first).unwrap();
    drop(journal);
    let mut disk = both(disk.bytes());
    rebuild(&mut disk).unwrap();
    let (journal, found) = Journal::open(Box::new(disk), None).unwrap();
    assert!(found.is_quiet());
    assert_eq!(journal.current().unwrap().id, other);
    // The key of an encrypted one is gone.
    let mut disk = both(session(Some(SECRET)));
    assert!(matches!(rebuild(&mut disk), Err(Error::NoSession { .. })));
}

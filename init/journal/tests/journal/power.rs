//! The power is cut before, within and after every write, with the writes since the
//! last flush lost, torn at sectors and in another order. What was said to stay does.

use std::collections::BTreeSet;

use crate::talk::{get, piece, put, said, texts, turn};
use journal::rehearsal::{Memory, Operation, SECTOR_BYTES, write};
use journal::{ChatId, Journal, Key};
use protocol::Message;

/// What is in a session.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    chats: Vec<(ChatId, String, String, Vec<Message>)>,
    current: Option<ChatId>,
    lines: Vec<String>,
}

fn see(journal: &Journal) -> Seen {
    let chats = journal.chats().iter();
    Seen {
        chats: chats
            .map(|chat| {
                let messages = journal.messages(chat.id).unwrap();
                let title = chat.title().to_owned();
                (chat.id, title, chat.system.clone(), messages)
            })
            .collect(),
        current: journal.current().map(|chat| chat.id),
        lines: journal.lines().map(str::to_owned).collect(),
    }
}

const PIECE_BYTES: usize = 9000;

/// The pieces that come back; each must be what was written.
fn pieces(journal: &Journal) -> BTreeSet<u8> {
    let keys = 1..10;
    keys.filter(|&byte| {
        let (key, content) = piece(byte, PIECE_BYTES);
        journal.piece(&key).is_some() && {
            assert_eq!(get(journal, &key).unwrap(), content, "piece {byte}");
            true
        }
    })
    .collect()
}

/// What is there after a step, and how many operations that took.
struct Step {
    operations: usize,
    seen: Seen,
    pieces: BTreeSet<u8>,
}

type Action = Box<dyn Fn(&mut Journal)>;

fn does(action: impl Fn(&mut Journal) + 'static) -> Action {
    Box::new(action)
}

fn writes_piece(byte: u8) -> Action {
    does(move |journal| {
        let (key, content) = piece(byte, PIECE_BYTES);
        put(journal, key, &content).unwrap();
    })
}

fn key(byte: u8) -> Key {
    piece(byte, 0).0
}

/// An evening with two conversations, pieces for them, and a secret that is deleted.
fn script() -> Vec<Action> {
    let (one, two) = (ChatId(1), ChatId(2));
    vec![
        does(|journal| journal.set_budget(12 * 4096)),
        does(|journal| assert_eq!(journal.begin().unwrap().0, 1)),
        does(move |journal| turn(journal, one, "first")),
        does(move |journal| journal.line(Some(one), "a secret line").unwrap()),
        does(move |journal| turn(journal, one, &"a secret that is long ".repeat(400))),
        writes_piece(1),
        writes_piece(2),
        does(move |journal| journal.set_context(one, &[key(1), key(2)]).unwrap()),
        does(move |journal| assert_eq!(journal.fork(one, 1).unwrap(), two)),
        does(move |journal| turn(journal, two, "second")),
        does(move |journal| {
            let (_, answer) = said("better");
            journal.answer(two, &answer, 3).unwrap();
        }),
        writes_piece(3),
        writes_piece(4),
        does(move |journal| journal.set_context(two, &[key(1), key(3), key(4)]).unwrap()),
        does(move |journal| journal.system(two, "be brief").unwrap()),
        // This one takes the place of another.
        writes_piece(5),
        does(move |journal| journal.delete(one).unwrap()),
        does(move |journal| journal.take_back(two).unwrap()),
        writes_piece(6),
        does(move |journal| journal.rename(two, Some("the second")).unwrap()),
        does(move |journal| turn(journal, two, "last")),
    ]
}

fn play(passphrase: Option<&str>) -> (Vec<Operation>, Vec<Step>) {
    let disk = Memory::default();
    let mut journal = Journal::create(Box::new(disk.clone()), passphrase).unwrap();
    let steps = script().into_iter().map(|action| {
        action(&mut journal);
        Step {
            operations: disk.operations().len(),
            seen: see(&journal),
            pieces: pieces(&journal),
        }
    });
    let steps = steps.collect();
    (disk.operations(), steps)
}

/// What is on the disk if the power is cut after `count` operations.
fn cut(before: &[u8], operations: &[Operation], chance: &mut fastrand::Rng) -> Vec<u8> {
    let flushed = operations
        .iter()
        .rposition(|operation| *operation == Operation::Flush)
        .unwrap_or(0);
    let (flushed, loose) = operations.split_at(flushed);
    let mut disk = before.to_vec();
    for operation in flushed {
        if let Operation::Write { at, bytes } = operation {
            write(&mut disk, *at, bytes);
        }
    }
    let mut sectors = Vec::new();
    for operation in loose {
        if let Operation::Write { at, bytes } = operation {
            let places = (*at..).step_by(SECTOR_BYTES);
            sectors.extend(places.zip(bytes.chunks(SECTOR_BYTES)));
        }
    }
    // All of it, in order, up to a byte; or some of it, in any order.
    match chance.u8(0..4) {
        0 => {}
        1 => {
            sectors.truncate(chance.usize(0..=sectors.len()));
            if let Some((_, last)) = sectors.last_mut() {
                *last = &last[..chance.usize(0..last.len())];
            }
        }
        _ => {
            chance.shuffle(&mut sectors);
            let kept = chance.f64();
            sectors.retain(|_| chance.f64() < kept);
        }
    }
    for (at, bytes) in sectors {
        write(&mut disk, at, bytes);
    }
    disk
}

/// Opens a disk whose power was cut after `count` operations and checks what is there.
fn check(disk: Vec<u8>, count: usize, steps: &[Step], passphrase: Option<&str>) -> Vec<Operation> {
    let done = steps.iter().rposition(|step| step.operations <= count);
    let under_way = steps.get(done.map_or(0, |done| done + 1));
    let disk = Memory::holding(disk);
    let opened = Journal::open(Box::new(disk.clone()), passphrase);
    let Ok((mut journal, found)) = opened else {
        let error = opened.err();
        assert_eq!(done, None, "a session with something in it: {error:?}");
        // It is made again.
        Journal::create(Box::new(disk), None).unwrap();
        return Vec::new();
    };
    assert!(found.lost.is_empty(), "after {count}: {found}");
    let seen = see(&journal);
    let there = pieces(&journal);
    let possible: Vec<_> = done
        .map(|done| &steps[done])
        .into_iter()
        .chain(under_way)
        .collect();
    assert!(
        possible.iter().any(|step| step.seen == seen) || (done.is_none() && seen.chats.is_empty()),
        "after {count}: {found}: {seen:?}"
    );
    let stay = possible.iter().map(|step| &step.pieces);
    let stay = stay.cloned().reduce(|a, b| &a & &b).unwrap_or_default();
    assert!(done.is_none() || there.is_superset(&stay), "after {count}");
    if passphrase.is_none() && seen.chats.first().is_some_and(|chat| chat.0 == ChatId(2)) {
        let bytes = disk.bytes();
        assert!(!bytes.windows(8).any(|w| w == b"a secret"), "after {count}");
        let (_, secret) = piece(2, PIECE_BYTES);
        assert!(!bytes.windows(64).any(|w| w == &secret[4096..4160]));
    }
    // It goes on from there.
    let recovered = disk.operations();
    let chat = journal.begin().unwrap();
    turn(&mut journal, chat, "after the cut");
    drop(journal);
    let (journal, found) = Journal::open(Box::new(disk.clone()), passphrase).unwrap();
    assert!(found.is_quiet(), "after {count}: {found}");
    assert_eq!(texts(&journal, chat), ["after the cut"]);
    assert_eq!(pieces(&journal), there);
    recovered
}

fn cut_everywhere(passphrase: Option<&str>, times: usize) {
    let (operations, steps) = play(passphrase);
    let mut chance = fastrand::Rng::with_seed(17);
    for count in 0..=operations.len() {
        for _ in 0..times {
            let disk = cut(&[], &operations[..count], &mut chance);
            let recovered = check(disk.clone(), count, &steps, passphrase);
            // And once more while that is being recovered from.
            if !recovered.is_empty() {
                let again = chance.usize(0..=recovered.len());
                let disk = cut(&disk, &recovered[..again], &mut chance);
                check(disk, count, &steps, passphrase);
            }
        }
    }
}

#[test]
fn nothing_that_was_said_to_stay_is_lost_wherever_the_power_is_cut() {
    cut_everywhere(None, 15);
}

#[test]
fn no_remains_of_a_record_outlive_a_deletion_however_it_was_torn() {
    let disk = Memory::default();
    let mut journal = Journal::create(Box::new(disk.clone()), None).unwrap();
    let chat = journal.begin().unwrap();
    let end = disk.bytes().len();
    turn(&mut journal, chat, &"a secret ".repeat(200_000));
    let whole = disk.bytes();
    drop(journal);
    // Its last sectors were written, and none before; and some in the middle.
    for kept in [1..2, 2000..2001, 7000..7002] {
        let mut bytes = whole.clone();
        bytes[4096..3 * 4096].fill(0);
        for (index, sector) in bytes[end..].chunks_mut(SECTOR_BYTES).enumerate() {
            if !kept.contains(&index) {
                sector.fill(0);
            }
        }
        let disk = Memory::holding(bytes);
        let (mut journal, found) = Journal::open(Box::new(disk.clone()), None).unwrap();
        assert!(found.lost.is_empty(), "{found}");
        assert_eq!(found.cut, kept.start == 1, "what is near is looked for");
        journal.delete(chat).unwrap();
        assert!(
            !disk.bytes().windows(8).any(|w| w == b"a secret"),
            "{kept:?}"
        );
    }
}

#[test]
fn each_byte_of_a_turn_is_a_place_to_cut() {
    let (operations, steps) = play(None);
    let turn = operations
        .iter()
        .rposition(|o| matches!(o, Operation::Write { at, .. } if *at >= 4 * 4096));
    let turn = turn.unwrap();
    let Operation::Write { at, bytes } = &operations[turn] else {
        unreachable!()
    };
    let mut before = Vec::new();
    for operation in &operations[..turn] {
        if let Operation::Write { at, bytes } = operation {
            write(&mut before, *at, bytes);
        }
    }
    for length in 0..=bytes.len() {
        let mut disk = before.clone();
        write(&mut disk, *at, &bytes[..length]);
        check(disk, turn, &steps, None);
    }
}

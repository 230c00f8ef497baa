//! What is kept is what was: the same conversations come back from the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::{Config, Message, Role};

use super::shelf::difference;
use super::*;

/// Longer than any disk takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file of its own, removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let name = format!("zosia-{name}-{}.session", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn open(path: &Path) -> (Keeper, Opened) {
    let mut keeper = Keeper::start(Place::File(path.into()), false).unwrap();
    match keeper.next_news(PATIENCE) {
        Some(News::Opened(opened)) => (keeper, *opened),
        other => panic!("{other:?}"),
    }
}

fn messages(texts: &[&str]) -> Vec<Message> {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    let texts = texts.iter().zip(roles);
    texts
        .map(|(text, role)| Message::new(role, *text))
        .collect()
}

fn now(messages: &[Message]) -> Now<'_> {
    Now {
        messages,
        settings: Settings::default(),
        model: None,
        tokens: Some(7),
    }
}

#[test]
fn a_changed_conversation_is_written_as_what_changed() {
    let turns = |texts: &[&str]| shelf::turns_of(&messages(texts));
    let turn = |texts: &[&str]| Op::Turn(1, turns(texts)[0].clone(), 7);
    let answer = |text: &str| Op::Answer(1, Message::new(Role::Assistant, text), 7);
    let (back, drop) = (Op::TakeBack(1), Op::DropOldest(1));
    for (old, new, expected) in [
        (&["a", "A"][..], &["a", "A"][..], vec![]),
        (&["a", "A"], &["a", "A", "b", "B"], vec![turn(&["b", "B"])]),
        (&["a", "A"], &["a", "A", "b"], vec![]),
        (&["a", "A", "b", "B"], &["a", "A"], vec![back.clone()]),
        (&["a", "A"], &["a", "Z"], vec![answer("Z")]),
        (&["a", "A", "b", "B"], &["b", "B"], vec![drop.clone()]),
        (
            &["a", "A", "b", "B", "c", "C"],
            &["c", "C", "d", "D"],
            vec![drop.clone(), drop, turn(&["d", "D"])],
        ),
        (&["a", "A", "b", "B"], &[], vec![Op::Clear(1)]),
        (&["a", "A"], &[], vec![back.clone()]),
        (&["a", "A"], &["b", "B"], vec![back, turn(&["b", "B"])]),
    ] {
        let mut ops = Vec::new();
        difference(1, &turns(old), &turns(new), 7, &mut ops);
        assert_eq!(ops, expected, "{old:?} {new:?}");
    }
}

#[test]
fn whatever_is_done_the_disk_has_the_same() {
    let file = Temporary::new("same");
    let mut random = fastrand::Rng::with_seed(17);
    let mut shelf = Shelf::default();
    for round in 0..12 {
        let (mut keeper, opened) = open(&file.0);
        let read = Shelf::of(opened.chats, opened.current);
        let about = |shelf: &Shelf| -> Vec<_> {
            let chats = shelf.chats().iter();
            chats
                .map(|c| (c.shown().to_owned(), c.count, c.tokens, c.settings.clone()))
                .collect()
        };
        assert_eq!(about(&read), about(&shelf), "round {round}");
        let turns = |shelf: &Shelf| shelf.current().and_then(|chat| chat.turns.clone());
        // What was left before it began is not what is gone on with.
        if shelf.current().is_some() {
            assert_eq!(turns(&read), turns(&shelf), "round {round}");
        }
        shelf = read;
        let mut said = shelf.current().and_then(Kept::messages).unwrap_or_default();
        for _ in 0..random.usize(..8) {
            let mut settings = Settings::default();
            let ops = match random.u8(..10) {
                0..4 => {
                    let text = format!("message {}", random.u32(..));
                    said.extend(messages(&[&text, "answer"]));
                    settings.system = ["", "Be brief."][random.usize(..2)].to_owned();
                    shelf.keep(Now {
                        settings,
                        ..now(&said)
                    })
                }
                4 => {
                    said.truncate(said.len().saturating_sub(2));
                    shelf.keep(now(&said))
                }
                5 => {
                    said.drain(..said.len().min(2));
                    shelf.keep(now(&said))
                }
                6 => shelf.fork(None).unwrap_or_default(),
                7 => shelf
                    .rename(&random.u32(..).to_string())
                    .unwrap_or_default(),
                8 => {
                    let key = shelf.current().map(|chat| chat.key);
                    said.clear();
                    key.map(|key| shelf.delete(key)).unwrap_or_default()
                }
                _ => {
                    shelf.leave();
                    said.clear();
                    Vec::new()
                }
            };
            keeper.keep(ops);
        }
        keeper.close(PATIENCE).unwrap();
    }
    assert!(shelf.chats().len() > 1, "{:?}", shelf.chats());
}

#[test]
fn a_conversation_that_is_not_under_way_is_read_when_it_is_wanted() {
    let file = Temporary::new("read");
    let (mut keeper, _) = open(&file.0);
    let mut shelf = Shelf::default();
    keeper.keep(shelf.keep(now(&messages(&["a", "A", "b", "B"]))));
    shelf.leave();
    keeper.keep(shelf.keep(now(&messages(&["c", "C"]))));
    keeper.close(PATIENCE).unwrap();
    let (mut keeper, opened) = open(&file.0);
    let mut shelf = Shelf::of(opened.chats, opened.current);
    assert_eq!(shelf.numbered(Some(1)).unwrap().messages(), None);
    keeper.read(0);
    let Some(News::Read(0, Ok(turns))) = keeper.next_news(PATIENCE) else {
        panic!("not read")
    };
    shelf.fill(0, &turns);
    let said = shelf.numbered(Some(1)).unwrap().messages();
    assert_eq!(said, Some(messages(&["a", "A", "b", "B"])));
    assert!(shelf.numbered(Some(3)).unwrap_err().contains("the 2 that"));
    keeper.close(PATIENCE).unwrap();
}

#[test]
fn settings_come_back_where_the_start_gives_no_others() {
    let with = |pairs: &[(&str, &str)]| {
        let config = Config::default();
        pairs.iter().fold(config, |config, (name, value)| {
            let param = protocol::find(name).unwrap();
            config.with(param, value).unwrap().config
        })
    };
    let left = Settings::of(&with(&[
        ("temp", "0"),
        ("system", "Be brief."),
        ("ctx", "512"),
    ]));
    // The context is the machine's.
    assert_eq!(left.params.len(), 1, "{:?}", left.params);
    let on = |start: &Config| left.on(start, start);
    let plain = Config::default();
    assert_eq!(on(&plain), with(&[("temp", "0"), ("system", "Be brief.")]));
    let given = with(&[("temp", "1"), ("system", "Be long."), ("ctx", "256")]);
    assert_eq!(on(&given), given);
    // A value that no version knows any more does no harm.
    let mut odd = left.clone();
    odd.params.insert("temp".to_owned(), "warm".to_owned());
    assert_eq!(odd.on(&plain, &plain).sampling, plain.sampling);
}

#[test]
fn a_file_that_is_no_session_is_refused() {
    let file = Temporary::new("other");
    fs::write(&file.0, "no session").unwrap();
    let mut keeper = Keeper::start(Place::File(file.0.clone()), false).unwrap();
    let Some(News::Refused(line)) = keeper.next_news(PATIENCE) else {
        panic!("opened")
    };
    assert!(
        line.contains("not a session") && line.contains("[ZE-73]"),
        "{line}"
    );
}

#[test]
fn a_piece_is_found_by_its_models_engine_alone_and_the_index_is_written_with_any() {
    let file = Temporary::new("pieces");
    let (mut keeper, _) = open(&file.0);
    let [index, key] = [1, 2].map(|n| PieceKey([n; 32]));
    let heard = |keeper: &mut Keeper| keeper.next_news(PATIENCE).unwrap();
    for model in [[0xa; 32], [0xb; 32]] {
        keeper.set_model(model);
        keeper.fetch(key);
        let News::Fetched(Piece { bytes: None, .. }) = heard(&mut keeper) else {
            panic!("another model's")
        };
        for (kept, missing) in [(index, vec![index, key]), (key, vec![index, key])] {
            keeper.ask_missing(vec![index, key], 1);
            assert!(matches!(heard(&mut keeper), News::Missing(m) if m == missing));
            let bytes = Some(vec![model[0]; 9]);
            keeper.store(Piece { key: kept, bytes });
            assert!(matches!(heard(&mut keeper), News::Stored(of, true) if of == kept));
        }
        keeper.ask_missing(vec![index, key], 1);
        assert!(matches!(heard(&mut keeper), News::Missing(m) if m.is_empty()));
        keeper.fetch(key);
        let News::Fetched(Piece {
            bytes: Some(bytes), ..
        }) = heard(&mut keeper)
        else {
            panic!("not found")
        };
        assert_eq!(bytes, [model[0]; 9]);
    }
    keeper.close(PATIENCE).unwrap();
}

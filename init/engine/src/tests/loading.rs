//! What is loaded and what is refused.

use std::fs;

use protocol::{Event, KvType, PartFile};
use sha2::Digest as _;
use vmtest::{Shape, TinyModel};

use super::{Session, greedy, load_of, saved, test_model};

#[test]
fn parts_are_one_model_and_each_has_its_checksum() {
    let model = TinyModel::saying(&["Three", " parts", "."]).gguf();
    let dir = tempfile::tempdir().unwrap();
    let write = |number: usize, bytes: &[u8]| {
        let path = dir.path().join(format!("part {number}"));
        fs::write(&path, bytes).unwrap();
        PartFile {
            bytes: bytes.len() as u64,
            path,
        }
    };
    let whole = write(0, &model.bytes());
    let (_, of_whole) = Session::ready(load_of(whole.path));
    let parts = model.split(3).into_iter().zip(1..);
    let mut parts: Vec<PartFile> = parts.map(|(part, n)| write(n, &part.bytes())).collect();
    let sha256 = |part: &PartFile| hex::encode(sha2::Sha256::digest(fs::read(&part.path).unwrap()));
    let mut hashes: Vec<String> = parts.iter().map(sha256).collect();
    let mut load = load_of(parts.remove(0).path);
    load.rest = parts;
    load.sha256 = Some(hashes.join(","));

    let (mut session, info) = Session::ready(load.clone());
    assert_eq!(info.parameters, of_whole.parameters);
    assert_eq!(info.description, of_whole.description);
    let lengths = load.files().map(|(_, bytes)| bytes);
    assert_eq!(info.file_bytes, lengths.sum::<u64>());
    session.ask("How many?", greedy());
    assert_eq!(session.answer().unwrap().0, "Three parts.");

    hashes.swap(0, 1);
    load.sha256 = Some(hashes.join(","));
    let error = Session::refused(load.clone());
    assert!(error.contains("part 1: the model's SHA-256 is"), "{error}");
    load.sha256 = Some(hashes[0].clone());
    let error = Session::refused(load.clone());
    assert!(
        error.contains("has 1 checksums, and the model has 3 parts"),
        "{error}"
    );
    load.sha256 = None;
    load.rest[0] = write(2, &TinyModel::saying(&["No"]).gguf().bytes());
    let error = Session::refused(load);
    assert!(
        error.contains("part 2: this should be part 2 of 3 and is a whole model"),
        "{error}"
    );
}

#[test]
fn a_model_whose_heads_fill_no_blocks_answers_with_an_f16_cache() {
    let file = saved(&Shape::Gemma3.file());
    let mut load = load_of(file.path().to_owned());
    load.params.kv = KvType::Q8_0;
    let mut session = Session::start(load);
    let mut notices = Vec::new();
    let info = loop {
        match session.event() {
            Event::Ready(info) => break info,
            Event::Notice(line) => notices.push(line),
            Event::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    };
    // Keys and values of two heads of 16, of three layers.
    assert_eq!(info.kv_bytes, u64::from(info.ctx_tokens) * 3 * 2 * 32 * 2);
    let told = notices.iter().filter(|line| line.contains("zosia.kv=q8_0"));
    assert_eq!(told.count(), 1, "{notices:?}");
    session.ask("What is it?", greedy());
    assert!(!session.answer().unwrap().0.is_empty());
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn the_hash_of_the_file_is_checked() {
    let model = test_model();
    let mut wrong = load_of(model);
    wrong.sha256 = Some("00".repeat(32));
    let error = Session::refused(wrong);
    assert!(error.contains("SHA-256"), "{error}");
}

#[test]
#[ignore = "needs a model: tools/test.sh unit"]
fn what_cannot_be_loaded_is_refused_in_one_line() {
    let model = test_model();
    let mut unknown = load_of(model.clone());
    unknown.params.cpu = Some("v99".into());
    let error = Session::refused(unknown);
    assert!(error.contains("v99"), "{error}");

    let bytes = fs::read(&model).unwrap();
    let dir = std::env::temp_dir().join(format!("zosia-engine-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    for (name, content) in [
        ("empty.gguf", Vec::new()),
        ("text.gguf", b"not a model at all, just text".to_vec()),
        ("tenth.gguf", bytes[..bytes.len() / 10].to_vec()),
        ("half.gguf", bytes[..bytes.len() / 2].to_vec()),
        ("short.gguf", bytes[..bytes.len() - 1].to_vec()),
        ("stranger.gguf", stranger(&bytes)),
    ] {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        let error = Session::refused(load_of(path));
        assert!(
            !error.is_empty() && error.lines().count() <= 2,
            "{name}: {error}"
        );
        if name == "stranger.gguf" {
            assert!(error.contains("architecture 'llamb'"), "{error}");
        }
    }
    fs::remove_dir_all(dir).unwrap();
}

/// The model with an architecture that does not exist.
fn stranger(model: &[u8]) -> Vec<u8> {
    let key = b"general.architecture";
    let at = model.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 12;
    assert_eq!(&model[at..at + 5], b"llama");
    let mut changed = model.to_vec();
    changed[at + 4] = b'b';
    changed
}

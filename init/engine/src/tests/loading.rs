//! What is loaded and what is refused.

use std::fs;

use super::{Session, load_of, test_model};

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

//! Other people's chat templates, which the tests render from where they lie: in
//! llama.cpp's source, in its vocabularies, and in the model that tests use. The
//! tree holds their checksums and what the reference made of them:
//! `tests/templates.py` writes both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::Mark;

/// 2026-03-07 09:05:03, as in tests/reference.py.
pub(crate) const NOW_S: i64 = 1_772_874_303;

/// A template, what is known of its model, and what the reference made of it.
pub(crate) struct Borrowed {
    pub(crate) name: &'static str,
    pub(crate) source: String,
    /// It renders one user message.
    pub(crate) usable: bool,
    /// It knows the role `system`.
    pub(crate) system: bool,
    /// Digests of the renderings: of the conversations, then of the contexts.
    pub(crate) digests: Vec<&'static str>,
    model: &'static Json,
}

/// All of them, sorted by name.
pub(crate) fn all() -> Vec<Borrowed> {
    let table = include_str!("../tests/templates/expected.tsv");
    let sources = sources();
    let models: &'static Json = Box::leak(Box::new(json(include_str!(
        "../tests/templates/models.json"
    ))));
    let borrowed: Vec<_> = table
        .lines()
        .map(|line| {
            let fields: Vec<&'static str> = line.split('\t').collect();
            let [name, checksum, abilities, digests] = fields[..] else {
                panic!("{line}");
            };
            let source = sources.get(name);
            let source = source.unwrap_or_else(|| panic!("the template {name} is not there"));
            assert_eq!(digest(source), checksum, "{name} is another template");
            Borrowed {
                name,
                source: source.clone(),
                usable: abilities != "unusable",
                system: !abilities.contains("folded"),
                digests: digests.split(' ').collect(),
                model: &models[name],
            }
        })
        .collect();
    assert_eq!(borrowed.len(), sources.len(), "expected.tsv has not all");
    borrowed
}

/// The conversations that each is given.
pub(crate) fn conversations() -> Vec<Json> {
    let all = json(include_str!("../tests/templates/conversations.json"));
    all.as_array().unwrap().clone()
}

/// What each is given as it is: what zosia never passes, too.
pub(crate) fn contexts() -> Vec<Json> {
    let all = json(include_str!("../tests/templates/contexts.json"));
    all.as_array().unwrap().clone()
}

/// The beginning of a rendering's SHA-256.
pub(crate) fn digest(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let (first, _) = hash.split_first_chunk().unwrap();
    format!("{:08x}", u32::from_be_bytes(*first))
}

impl Borrowed {
    pub(crate) fn bos(&self) -> &'static str {
        self.model["bos"].as_str().unwrap_or("<s>")
    }

    pub(crate) fn eos(&self) -> &'static str {
        self.model["eos"].as_str().unwrap_or("</s>")
    }

    /// What ends a turn, where the vocabulary is known.
    pub(crate) fn end_of_turn(&self) -> Option<&'static str> {
        self.model["end_of_turn"].as_str()
    }

    /// The vocabulary's tokens, as far as they are known; else whatever in the
    /// template looks like one.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        let texts = |key: &str| -> Vec<String> {
            let list = self.model[key].as_array();
            let texts = list.into_iter().flatten();
            texts
                .map(|text| text.as_str().unwrap().to_owned())
                .collect()
        };
        let rstrip = texts("rstrip");
        let mut control = texts("control");
        if control.is_empty() {
            control = look_alikes(&self.source);
        }
        let control = control.into_iter().map(|text| (text, true));
        let user_defined = texts("user_defined").into_iter().map(|text| (text, false));
        let marks = control.chain(user_defined).map(|(text, control)| Mark {
            rstrip: rstrip.contains(&text),
            lstrip: false,
            text,
            control,
        });
        marks.collect()
    }
}

/// `<|…|>`, `<｜…｜>` and `[INST]` in a template.
fn look_alikes(source: &str) -> Vec<String> {
    let mut found = vec!["<s>".to_owned(), "</s>".to_owned()];
    for (open, close) in [("<|", "|>"), ("<｜", "｜>"), ("[", "]")] {
        for (start, _) in source.match_indices(open) {
            let rest = &source[start + open.len()..];
            let Some(inner) = rest.find(close).map(|end| &rest[..end]) else {
                continue;
            };
            let name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '▁' | '.');
            let shout = |c: char| c.is_ascii_uppercase() || matches!(c, '_' | '/');
            let fits = match open {
                "[" => inner.chars().all(shout),
                _ => inner.chars().all(name),
            };
            if fits && !inner.is_empty() {
                found.push(format!("{open}{inner}{close}"));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

/// Text of each by name.
fn sources() -> BTreeMap<String, String> {
    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let listed = |folder: &Path, extension: &str| -> Vec<PathBuf> {
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        let paths = files.map(|file| file.path());
        let wanted = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
        paths.filter(wanted).collect()
    };
    let models = kept("tools/llama-source.sh", &["--kept"]).join("models");
    let mut sources: BTreeMap<String, String> = listed(&models.join("templates"), "jinja")
        .iter()
        .map(|path| (stem(path), std::fs::read_to_string(path).unwrap()))
        .collect();
    let vocabularies = listed(&models, "gguf");
    let named = vocabularies.into_iter().map(|file| (stem(&file), file));
    // The test model's file may have any name.
    for (name, file) in named.chain([("smollm2-135m".to_owned(), test_model())]) {
        if let Some(source) = template_of(&file) {
            sources.insert(name, source);
        }
    }
    sources
}

fn test_model() -> PathBuf {
    std::env::var_os("ZOSIA_TEST_MODEL").map_or_else(
        || kept("tools/model.sh", &["path", "smollm2-135m"]),
        PathBuf::from,
    )
}

/// The path that a script of the tree prints, of what was fetched before.
fn kept(script: &str, arguments: &[&str]) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let done = Command::new(top.join(script)).args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{script}: {error}"));
    let said = String::from_utf8_lossy(&done.stderr);
    let path = PathBuf::from(String::from_utf8_lossy(&done.stdout).trim_end());
    assert!(
        done.status.success() && path.exists(),
        "these tests need what `tools/llama-source.sh` and \
         `tools/model.sh get smollm2-135m` fetch: {said}"
    );
    path
}

/// `tokenizer.chat_template` of a file, without checking anything else in it.
fn template_of(file: &Path) -> Option<String> {
    use std::io::Read;
    const KEY: &[u8] = b"\x17\0\0\0\0\0\0\0tokenizer.chat_template\x08\0\0\0";
    let mut head = Vec::new();
    let file = std::fs::File::open(file).unwrap();
    file.take(1 << 24).read_to_end(&mut head).unwrap();
    let at = head.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let (length, rest) = head[at..].split_first_chunk().unwrap();
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
    Some(String::from_utf8(rest[..length].to_vec()).unwrap())
}

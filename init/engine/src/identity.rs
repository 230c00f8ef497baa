//! What a piece of a context is called: a hash of all that its bytes depend on. What was
//! computed by another model, in another way or after other tokens has another name, and
//! is never found.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use super::context::Pieces;
use super::vocab::Token;
use super::widths::Widths;
use protocol::PieceKey;

/// Of a model whose checksum is not known, the beginning, which is its header, and as many
/// samples of this length are hashed.
const HEAD_BYTES: u64 = 16 << 20;
const SAMPLES: u64 = 1024;
const SAMPLE_BYTES: usize = 4096;

/// Some of a conversation's tokens, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// What it is kept under.
    pub key: PieceKey,
    /// Which tokens.
    pub range: Range<usize>,
}

/// What computes here, and with what.
pub(crate) struct Identity<'f> {
    files: Vec<(&'f File, u64)>,
    sha256: Option<String>,
    setting: String,
    hash: OnceCell<Option<Sha256>>,
}

impl<'f> Identity<'f> {
    /// The model is in the first bytes, as many as are told, of each of `files` and has this
    /// checksum, if it was checked; `setting` is everything else that a bit of a context
    /// depends on. Nothing is read yet.
    pub(crate) fn new(
        files: Vec<(&'f File, u64)>,
        sha256: Option<String>,
        setting: String,
    ) -> Self {
        Self {
            files,
            sha256,
            setting,
            hash: OnceCell::new(),
        }
    }

    /// The parts that a context of `tokens`, which were evaluated as `widths` has it, is kept
    /// in. None if the model cannot be read.
    pub(crate) fn parts(&self, pieces: Pieces, tokens: &[Token], widths: &Widths) -> Vec<Part> {
        let each = match pieces {
            Pieces::Of(each) => each.max(1),
            Pieces::Whole => tokens.len().max(1),
            Pieces::Never => return Vec::new(),
        };
        let Some(mut hash) = self.hash("state") else {
            return Vec::new();
        };
        let mut end = 0;
        let name = |part: &[Token]| {
            let start = end;
            end += part.len();
            push(&mut hash, part);
            for run in widths.runs(start..end) {
                hash.update((run.end as u64).to_le_bytes());
                hash.update([run.is_wide.into()]);
            }
            // The last one of some tokens and one that goes on from there differ.
            let key = hash.clone().chain_update((start as u64).to_le_bytes());
            Part {
                key: PieceKey(key.finalize().into()),
                range: start..end,
            }
        };
        tokens.chunks(each).map(name).collect()
    }

    /// What is kept of a conversation besides its state has this name.
    pub(crate) fn index(&self, tokens: &[Token]) -> Option<PieceKey> {
        let mut hash = self.hash("index")?;
        push(&mut hash, tokens);
        Some(PieceKey(hash.finalize().into()))
    }

    fn hash(&self, of: &str) -> Option<Sha256> {
        let identity = self.hash.get_or_init(|| self.read().ok()).clone()?;
        Some(identity.chain_update(of))
    }

    fn read(&self) -> io::Result<Sha256> {
        let mut hash = Sha256::new();
        for text in [env!("CARGO_PKG_VERSION"), &self.setting] {
            hash.update(text);
            hash.update([0]);
        }
        for (_, bytes) in &self.files {
            hash.update(bytes.to_le_bytes());
        }
        if let Some(sha256) = &self.sha256 {
            hash.update(sha256.to_ascii_lowercase());
            return Ok(hash);
        }
        for (file, bytes) in &self.files {
            sample(file, *bytes, &mut hash)?;
        }
        Ok(hash)
    }
}

/// Hashes the beginning and samples of a file of `bytes`.
fn sample(file: &File, bytes: u64, hash: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let head = HEAD_BYTES.min(bytes);
    for offset in (0..head).step_by(buffer.len()) {
        let length = buffer
            .len()
            .min(usize::try_from(head - offset).unwrap_or(0));
        let window = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact_at(window, offset)?;
        hash.update(window);
    }
    let last = bytes.saturating_sub(SAMPLE_BYTES as u64);
    for sample in 0..SAMPLES {
        let window = buffer.get_mut(..SAMPLE_BYTES).unwrap_or_default();
        let offset = u128::from(last) * u128::from(sample) / u128::from(SAMPLES);
        let offset = u64::try_from(offset).unwrap_or(last);
        file.read_exact_at(window, offset)?;
        hash.update(window);
    }
    Ok(())
}

fn push(hash: &mut Sha256, tokens: &[Token]) {
    for token in tokens {
        hash.update(token.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::Write as _;

    fn identity(content: &[u8], sha256: Option<&str>, setting: &str) -> Identity<'static> {
        let path = std::env::temp_dir().join(format!(
            "zosia-identity-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let options = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let mut file = options.unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(content).unwrap();
        let bytes = content.len() as u64;
        let file = Box::leak(Box::new(file));
        Identity::new(
            vec![(file, bytes)],
            sha256.map(str::to_owned),
            setting.to_owned(),
        )
    }

    /// Names of pieces of four tokens, all of them evaluated at once.
    fn keys(identity: &Identity<'_>, tokens: &[Token]) -> Vec<PieceKey> {
        keys_of(identity, tokens, &Widths::default())
    }

    fn keys_of(identity: &Identity<'_>, tokens: &[Token], widths: &Widths) -> Vec<PieceKey> {
        let parts = identity.parts(Pieces::Of(4), tokens, widths);
        assert_eq!(parts.last().map(|part| part.range.end), Some(tokens.len()));
        parts.into_iter().map(|part| part.key).collect()
    }

    #[test]
    fn conversations_share_the_names_of_what_they_begin_with_and_no_others() {
        let model = identity(&[1; 9000], None, "f16");
        let one = keys(&model, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(keys(&model, &[1, 2, 3, 4, 5, 6, 7, 8]), one[..2]);
        let other = keys(&model, &[1, 2, 3, 4, 5, 6, 0, 8, 9]);
        assert_eq!(other[0], one[0]);
        assert!(other[1..].iter().all(|key| !one.contains(key)));
        let distinct: HashSet<_> = one.iter().collect();
        assert_eq!(distinct.len(), 3);
        let alike = Widths::default();
        let whole = model.parts(Pieces::Whole, &[1, 2, 3, 4, 5, 6, 7, 8], &alike);
        assert_eq!(whole.len(), 1);
        assert_ne!(whole[0].key, one[1], "other tokens of the same context");
        assert!(model.parts(Pieces::Never, &[1, 2], &alike).is_empty());
        assert_ne!(model.index(&[1, 2, 3, 4]), Some(one[0]));
    }

    #[test]
    fn what_was_evaluated_in_another_way_has_another_name() {
        let model = identity(&[1; 9000], None, "f16");
        let tokens: Vec<Token> = (0..24).collect();
        let batch = keys(&model, &tokens);
        let mut widths = Widths::default();
        widths.push(14);
        widths.push(1);
        let mixed = keys_of(&model, &tokens, &widths);
        // As a batch where it is not known.
        assert_eq!(mixed[..3], batch[..3]);
        assert!(mixed[3..].iter().all(|key| !batch.contains(key)));
        let longer = {
            let mut longer = widths.clone();
            longer.push(1);
            longer
        };
        let longer = keys_of(&model, &tokens, &longer);
        assert_eq!(longer[..3], mixed[..3]);
        assert_ne!(longer[3], mixed[3]);
        widths.push(30);
        assert_eq!(keys_of(&model, &tokens, &widths), mixed);
    }

    #[test]
    fn another_model_or_setting_has_other_names() {
        let mut weights = vec![1; 40 << 20];
        let tokens = [1, 2, 3, 4];
        let mut seen = HashSet::new();
        assert!(seen.insert(keys(&identity(&weights, None, "f16"), &tokens)));
        assert!(!seen.insert(keys(&identity(&weights, None, "f16"), &tokens)));
        assert!(seen.insert(keys(&identity(&weights, None, "q8_0"), &tokens)));
        assert!(seen.insert(keys(&identity(&weights, Some("ab"), "f16"), &tokens)));
        let shorter = &weights[..39 << 20];
        assert!(seen.insert(keys(&identity(shorter, None, "f16"), &tokens)));
        weights[(16 << 20) - 1] = 2;
        assert!(seen.insert(keys(&identity(&weights, None, "f16"), &tokens)));
        weights[30 << 20..(30 << 20) + (64 << 10)].fill(3);
        assert!(seen.insert(keys(&identity(&weights, None, "f16"), &tokens)));
    }

    #[test]
    fn a_model_that_cannot_be_read_has_no_names() {
        let mut gone = identity(&[1; 9000], None, "f16");
        gone.files[0].1 = 10_000;
        assert!(
            gone.parts(Pieces::Of(4), &[1], &Widths::default())
                .is_empty()
        );
        assert_eq!(gone.index(&[1]), None);
    }
}

//! The weights: read, hashed if asked to, and in llama.cpp's hands.

use std::fs::File;
use std::io::Write;

use super::{Checked, LoadError, Machine, ModelFile};
use crate::backend::{Backend, tells_of_memory};
use crate::interrupt::Interrupt;
use crate::model::{Model, ModelError, Weights};
use crate::warm::{self, Meter};
use crate::wire::Outbox;
use gguf::End;
use protocol::{Event, Load, Progress, Stage, Switch};

impl Checked {
    /// Reads the file, hashes it if asked to, and loads it.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(crate) fn load_model<'b>(
        &mut self,
        machine: &'b Machine,
        load: &Load,
        interrupt: &Interrupt,
        outbox: &mut Outbox<impl Write>,
    ) -> Result<Model<'b>, LoadError> {
        let backend = &machine.backend;
        // Repacked weights are read tensor by tensor, once: reading the file
        // before would only fill memory that they are about to need.
        let repacked = self.plan.weights == Weights::Repacked;
        let warmed = !repacked || load.sha256.is_some();
        if warmed {
            self.read(load, interrupt, outbox)?;
        }
        let stage = if warmed {
            Stage::Preparing
        } else {
            Stage::Reading
        };
        let mut loaded = self.load_weights(backend, stage, interrupt, outbox);
        if let Err(ModelError::Llama(log)) = &loaded
            && repacked
        {
            // If it is the disk, reading says where; llama.cpp does not.
            self.read(load, interrupt, outbox)?;
            if load.params.repack == Switch::Auto {
                let notice = format!(
                    "the weights are used as the file has them, which may be slower: they \
                     cannot be repacked ({log})"
                );
                self.plan.weights = Weights::Mapped;
                loaded = self.load_weights(backend, Stage::Preparing, interrupt, outbox);
                if loaded.is_ok() {
                    outbox.send(&Event::Notice(notice));
                }
            }
        }
        let model = loaded.map_err(|e| self.explain(e))?;
        if self.plan.weights == Weights::Repacked {
            self.give_back_pages();
        }
        if model.is_decoder() {
            Ok(model)
        } else {
            Err(LoadError::NoDecoder)
        }
    }

    /// Has llama.cpp load the model as planned.
    fn load_weights<'b>(
        &self,
        backend: &'b Backend,
        stage: Stage,
        interrupt: &Interrupt,
        outbox: &mut Outbox<impl Write>,
    ) -> Result<Model<'b>, ModelError> {
        let total_bytes = self.bytes();
        let mut tell = |done_bytes, rate| {
            outbox.send_sometimes(&Event::Progress(Progress {
                stage,
                done_bytes,
                total_bytes,
                // What is done without reading has no rate.
                bytes_per_s: if stage == Stage::Reading { rate } else { 0 },
            }));
        };
        let mut meter = Meter::new(&mut tell);
        let mut progress = |part: f32| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a part of the file's length, shown in percent"
            )]
            let done = (part.clamp(0.0, 1.0) * total_bytes as f32) as u64;
            meter.reached(done.min(total_bytes));
            !interrupt.is_requested()
        };
        let files: Vec<&File> = self.files.iter().map(|file| &file.file).collect();
        Model::load(backend, &files, self.plan.weights, &mut progress)
    }

    /// Reads the files into the page cache, and hashes them if asked to.
    fn read(
        &self,
        load: &Load,
        interrupt: &Interrupt,
        outbox: &mut Outbox<impl Write>,
    ) -> Result<(), LoadError> {
        let hashes = load.sha256.as_deref().map(|list| list.split(','));
        let hashes: Vec<&str> = hashes.into_iter().flatten().collect();
        let (given, parts) = (hashes.len(), self.files.len());
        if ![0, parts].contains(&given) {
            return Err(LoadError::Checksums { given, parts });
        }
        let mut hashes = hashes.into_iter();
        let mut before = 0;
        for (file, end) in self.files.iter().zip(&self.header.ends) {
            let mut progress = |done_bytes: u64, bytes_per_s| {
                outbox.send_sometimes(&Event::Progress(Progress {
                    stage: Stage::Reading,
                    done_bytes: done_bytes.saturating_add(before),
                    total_bytes: self.bytes(),
                    bytes_per_s,
                }));
            };
            let ModelFile { file, path, bytes } = file;
            let read = match hashes.next() {
                None => warm::warm(file, end.data_end, interrupt, &mut progress),
                Some(hash) => {
                    let ends = file_ends(end);
                    warm::warm_and_hash(file, *bytes, &ends, hash, interrupt, &mut progress)
                }
            };
            read.map_err(|source| match parts {
                1 => LoadError::Warm(source),
                _ => LoadError::WarmPart {
                    path: path.display().to_string(),
                    source,
                },
            })?;
            before += bytes;
        }
        Ok(())
    }

    /// The weights are in memory of their own: the cached files are not needed.
    fn give_back_pages(&self) {
        for ModelFile { file, .. } in &self.files {
            // Advice: a kernel that does not take it reclaims them when it must.
            let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }

    fn explain(&self, error: ModelError) -> LoadError {
        match error {
            ModelError::Interrupted => LoadError::Interrupted,
            ModelError::File(_) => LoadError::Model(error.to_string()),
            ModelError::Llama(log) if log.contains("unknown model architecture") => {
                LoadError::Architecture {
                    arch: self.header.arch.clone(),
                }
            }
            ModelError::Llama(log) if tells_of_memory(&log) => LoadError::Memory(log),
            ModelError::Llama(log) => LoadError::Model(log),
        }
    }
}

/// Where a model's file may end: writers may pad the last tensor like any other,
/// and a device is longer still.
fn file_ends(end: &End) -> [u64; 2] {
    let padded = end.data_end.checked_next_multiple_of(end.alignment);
    [end.data_end, padded.unwrap_or(end.data_end)]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Machine, check};
    use super::*;
    use crate::tests::alone;

    #[test]
    fn a_file_may_be_padded_to_the_alignment_of_its_own_header() {
        let ends = |data_end, alignment| {
            file_ends(&End {
                data_end,
                alignment,
            })
        };
        assert_eq!(ends(1000, 32), [1000, 1024]);
        assert_eq!(ends(1000, 4096), [1000, 4096]);
        assert_eq!(ends(u64::MAX, 64), [u64::MAX, u64::MAX]);
    }

    #[test]
    #[ignore = "needs a model: tools/test.sh unit"]
    fn weights_that_cannot_be_repacked_are_used_as_they_are() {
        alone("load::weights::tests::repack_without_memory");
    }

    #[test]
    #[ignore = "limits its process; run by weights_that_cannot_be_repacked_are_used_as_they_are"]
    fn repack_without_memory() {
        let path = std::env::var_os("ZOSIA_TEST_MODEL").unwrap();
        let mut load = crate::tests::load_of(path.into());
        let machine = Machine::look(&load).unwrap();
        let mut sent = Vec::new();
        let mut outbox = Outbox::new(&mut sent);
        let interrupt = Interrupt::new();
        let mut load_repacked = |load: &Load| {
            let file = fs::File::open(&load.path).unwrap();
            let mut checked = check(&machine, vec![file], load, &mut outbox).unwrap();
            checked.plan.weights = Weights::Repacked;
            let loaded = checked.load_model(&machine, load, &interrupt, &mut outbox);
            (loaded.map(|_| ()), checked.plan.weights)
        };
        // Less than the weights, beside what this process has.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let held = protocol::memory::meminfo_bytes(&status, "VmData:").unwrap();
        crate::confine::limit_memory(held + load.bytes / 2).unwrap();

        let (loaded, weights) = load_repacked(&load);
        loaded.unwrap();
        assert_eq!(weights, Weights::Mapped);
        load.params.repack = Switch::On;
        let (refused, _) = load_repacked(&load);
        let error = refused.unwrap_err().to_string();
        assert!(error.starts_with("memory ran out while"), "{error}");
        assert!(error.contains("run.sh --mem"), "{error}");
        let told = String::from_utf8_lossy(&sent);
        assert!(told.contains("they cannot be repacked"), "{told}");
    }
}

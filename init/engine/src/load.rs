//! From a path to a model that can be talked to, or to one line that says why
//! not.

use std::fs::File;
use std::io::{self, Write};
use std::num::{NonZero, Saturating};
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Instant, SystemTime};

use super::backend::{Backend, tells_of_memory};
use super::confine::Unconfined;
use super::context::{Context, ContextError, ContextParams};
use super::counter;
use super::fit::{self, Plan, Room, TooLarge, Wishes};
use super::interrupt::Interrupt;
use super::model::{Model, ModelError, Weights};
use super::prompt::{ContextRoom, Prompter};
use super::sequence::Sequence;
use super::speculate::WIDTH_MAX;
use super::vocab::Vocab;
use super::warm::{self, Meter, WarmError};
use super::wire::Outbox;
use ggml::{CpuError, Level};
use gguf::{self, GgufError, Header};
use protocol::{Event, Load, LogLevel, ModelInfo, Progress, Stage, Switch, TurnError};

/// Tokens evaluated at once: enough for the kernels to reuse each weight, few
/// enough that progress can be shown and little memory is needed.
const BATCH_TOKENS: u32 = 128;

/// Shorter contexts are tried down to this when llama.cpp cannot allocate.
const CTX_TOKENS_MIN: u32 = 512;

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// No level of ggml-cpu.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The process has rights that it should not have.
    #[error("{0}; a kernel of zosia's own lets it")]
    Unconfined(Unconfined),
    /// The file cannot be opened.
    #[error("{path} cannot be opened: {source}; check the path")]
    Open {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Its header is refused.
    #[error("{path}: {source}")]
    Header {
        /// Which.
        path: String,
        /// Why.
        source: GgufError,
    },
    /// It needs more memory than there is.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// It cannot be read, or is another.
    #[error(transparent)]
    Warm(#[from] WarmError),
    /// llama.cpp does not know the architecture.
    #[error(
        "llama.cpp does not know models of the architecture '{arch}'; \
         use another model, or a zosia with a newer llama.cpp"
    )]
    Architecture {
        /// `general.architecture`.
        arch: String,
    },
    /// llama.cpp refuses it.
    #[error("llama.cpp cannot load the model: {0}; the file may be damaged, copy it again")]
    Model(String),
    /// Memory ran out.
    #[error(
        "memory ran out while the model was loaded ({0}); \
         give the machine more (run.sh --mem), a smaller zosia.ctx or zosia.repack=off"
    )]
    Memory(String),
    /// It is no model that answers.
    #[error("this model computes embeddings or fills in text; give a chat model")]
    NoDecoder,
    /// No context.
    #[error("{0}; give the machine more memory (run.sh --mem) or set a smaller zosia.ctx")]
    Context(ContextError),
    /// No template at all.
    #[error(transparent)]
    Template(TurnError),
    /// The other side is gone.
    #[error("loading was interrupted")]
    Interrupted,
}

/// A model's file, checked, and what is to become of it.
pub(crate) struct Checked {
    file: File,
    header: Header,
    bytes: u64,
    plan: Plan,
}

/// A model that can be talked to.
pub(crate) struct Loaded<'m> {
    /// Template and vocabulary.
    pub prompter: Prompter<'m>,
    /// The context and what it holds.
    pub sequence: Sequence<Context<'m>>,
    /// Whether several tokens may be tried at once.
    pub speculate: Switch,
    /// For the user.
    pub info: ModelInfo,
}

/// Chooses the ggml-cpu level and initialises llama.cpp.
///
/// # Errors
/// [`LoadError::Cpu`].
pub(crate) fn init_backend(load: &Load) -> Result<(Backend, &'static Level), LoadError> {
    let level = ggml::choose(load.params.cpu.as_deref())?;
    Ok((
        Backend::init(level, load.params.log >= LogLevel::Debug),
        level,
    ))
}

/// Checks the file's header in safe Rust and decides what memory allows.
/// Notices go to `outbox`.
///
/// # Errors
/// [`LoadError`] up to [`LoadError::TooLarge`].
pub(crate) fn check(
    load: &Load,
    level: &Level,
    outbox: &mut Outbox<impl Write>,
) -> Result<Checked, LoadError> {
    let path = load.path.display().to_string();
    let file = open(&load.path).map_err(|source| LoadError::Open {
        path: path.clone(),
        source,
    })?;
    let bytes = load.bytes;
    let header = gguf::check(&file, bytes).map_err(|source| LoadError::Header { path, source })?;
    let threads = load.params.threads.unwrap_or_else(processors);
    let wishes = Wishes {
        ctx_tokens: load.params.ctx_tokens,
        kv: load.params.kv,
        repack: load.params.repack,
        repacked: level.repacked,
        batch_tokens: BATCH_TOKENS,
        threads: threads
            .max(1)
            .saturating_add(load.params.batch_threads.unwrap_or(0)),
    };
    let room = Room {
        available: fit::available_bytes(),
        private: load.budget.engine_bytes,
    };
    let plan = fit::plan(&header, &wishes, room)?;
    for notice in &plan.notices {
        outbox.send(&Event::Notice(notice.clone()));
    }
    Ok(Checked {
        file,
        header,
        bytes,
        plan,
    })
}

/// A file or device.
fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(file)
}

impl Checked {
    /// Reads the file, hashes it if asked to, and loads it.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(crate) fn load_model<'b>(
        &mut self,
        backend: &'b Backend,
        load: &Load,
        interrupt: &Interrupt,
        outbox: &mut Outbox<impl Write>,
    ) -> Result<Model<'b>, LoadError> {
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
        let mut loaded = self.load_weights(backend, load, stage, interrupt, outbox);
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
                loaded = self.load_weights(backend, load, Stage::Preparing, interrupt, outbox);
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
        load: &Load,
        stage: Stage,
        interrupt: &Interrupt,
        outbox: &mut Outbox<impl Write>,
    ) -> Result<Model<'b>, ModelError> {
        let total_bytes = self.bytes;
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
        Model::load(backend, &load.path, self.plan.weights, &mut progress)
    }

    /// Reads the file into the page cache, and hashes it if asked to.
    fn read(
        &self,
        load: &Load,
        interrupt: &Interrupt,
        outbox: &mut Outbox<impl Write>,
    ) -> Result<(), WarmError> {
        let mut progress = |done_bytes, bytes_per_s| {
            outbox.send_sometimes(&Event::Progress(Progress {
                stage: Stage::Reading,
                done_bytes,
                total_bytes: self.bytes,
                bytes_per_s,
            }));
        };
        let end = self.header.data_end;
        let Some(expected) = &load.sha256 else {
            return warm::warm(&self.file, end, interrupt, &mut progress);
        };
        let ends = file_ends(&self.header);
        let bytes = self.bytes;
        warm::warm_and_hash(&self.file, bytes, &ends, expected, interrupt, &mut progress)
    }

    /// The weights are in memory of their own: the cached file is not needed.
    fn give_back_pages(&self) {
        // Advice: a kernel that does not take it reclaims them when it must.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn explain(&self, error: ModelError) -> LoadError {
        match error {
            ModelError::Interrupted => LoadError::Interrupted,
            ModelError::Path => LoadError::Model(error.to_string()),
            ModelError::Llama(log) if log.contains("unknown model architecture") => {
                LoadError::Architecture {
                    arch: self.header.arch.clone(),
                }
            }
            ModelError::Llama(log) if tells_of_memory(&log) => LoadError::Memory(log),
            ModelError::Llama(log) => LoadError::Model(log),
        }
    }

    /// Makes the context and everything to talk with.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(crate) fn finish<'m>(
        &self,
        backend: &'m Backend,
        model: &'m Model<'m>,
        load: &Load,
        interrupt: &Arc<Interrupt>,
        outbox: &mut Outbox<impl Write>,
        started: Instant,
    ) -> Result<Loaded<'m>, LoadError> {
        // What was tried and not drawn must be rewound.
        let speculate = match load.params.speculate {
            _ if !model.can_rewind() => Switch::Off,
            // Upstream's kernels for repacked weights sum several tokens in another
            // order than one: an answer could differ.
            Switch::Auto if self.plan.weights == Weights::Repacked => Switch::Off,
            asked => asked,
        };
        let mut wanted = ContextParams {
            ctx_tokens: self.plan.ctx_tokens,
            batch_tokens: BATCH_TOKENS.min(self.plan.ctx_tokens),
            outputs: match speculate {
                Switch::Off => 1,
                Switch::Auto | Switch::On => WIDTH_MAX,
            },
            kv: load.params.kv,
            threads: load.params.threads,
            batch_threads: load.params.batch_threads,
            processors: processors(),
            poll: load.params.poll,
        };
        let context = loop {
            match Context::new(backend, model, &wanted, Arc::clone(interrupt)) {
                Ok(context) => break context,
                Err(ContextError::Llama(_)) if wanted.ctx_tokens >= 2 * CTX_TOKENS_MIN => {
                    wanted.ctx_tokens /= 2;
                }
                Err(e) => return Err(LoadError::Context(e)),
            }
        };
        if wanted.ctx_tokens < self.plan.ctx_tokens {
            outbox.send(&Event::Notice(format!(
                "the context is {} tokens instead of {}: memory for more cannot be had",
                wanted.ctx_tokens, self.plan.ctx_tokens
            )));
        }
        let (threads, batch_threads) = wanted.most_threads();
        let source = self.header.chat_template.as_deref();
        let room = ContextRoom {
            ctx_tokens: context.ctx_tokens(),
            ctx_max_tokens: self.plan.ctx_max_tokens,
        };
        let prompter =
            Prompter::new(Vocab::of(model), source, now_s(), room).map_err(LoadError::Template)?;
        let file_name = load.path.file_name().unwrap_or(load.path.as_os_str());
        let name = self.header.name.clone();
        let per_token = self.header.kv_bytes_per_token(load.params.kv);
        let kv_bytes = per_token * Saturating(context.ctx_tokens() as u64);
        let info = ModelInfo {
            name: name.unwrap_or_else(|| file_name.display().to_string()),
            arch: self.header.arch.clone(),
            description: model.description(),
            file_bytes: self.bytes,
            parameters: model.parameters(),
            ctx_tokens: u32::try_from(context.ctx_tokens()).unwrap_or(u32::MAX),
            ctx_train_tokens: model.ctx_train_tokens(),
            kv_bytes: kv_bytes.0,
            cpu: backend.level().to_owned(),
            repacked: self.plan.weights == Weights::Repacked,
            threads,
            batch_threads,
            template: prompter.template_origin().to_owned(),
            load_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            anonymous_bytes: fit::anonymous_bytes(),
            before_kernel_ms: counter::before_kernel_ms(),
        };
        Ok(Loaded {
            prompter,
            sequence: Sequence::new(context),
            speculate,
            info,
        })
    }
}

/// Processors that this process may use.
fn processors() -> u32 {
    let processors = available_parallelism().map_or(1, NonZero::get);
    u32::try_from(processors).unwrap_or(1)
}

/// Where the model's file may end: writers may pad the last tensor like any other,
/// and a device is longer still.
fn file_ends(header: &Header) -> [u64; 2] {
    let end = header.data_end;
    let padded = end.checked_next_multiple_of(header.alignment);
    [end, padded.unwrap_or(end)]
}

/// Seconds since 1970, if the machine has a clock that knows.
fn now_s() -> Option<i64> {
    /// Before 2020 the clock was never set: a guest without one starts in 1970.
    const PLAUSIBLE_S: i64 = 1_577_836_800;
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    let seconds = i64::try_from(since.as_secs()).ok()?;
    (seconds > PLAUSIBLE_S).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tests::alone;

    #[test]
    fn a_file_may_be_padded_to_the_alignment_of_its_own_header() {
        let header = |data_end, alignment| Header {
            data_end,
            alignment,
            ..fit::tests::header()
        };
        assert_eq!(file_ends(&header(1000, 32)), [1000, 1024]);
        assert_eq!(file_ends(&header(1000, 4096)), [1000, 4096]);
        assert_eq!(file_ends(&header(u64::MAX, 64)), [u64::MAX, u64::MAX]);
    }

    #[test]
    fn weights_that_cannot_be_repacked_are_used_as_they_are() {
        if std::env::var_os("ZOSIA_TEST_MODEL").is_some() {
            alone("load::tests::repack_without_memory");
        }
    }

    #[test]
    #[ignore = "limits its process; run by weights_that_cannot_be_repacked_are_used_as_they_are"]
    fn repack_without_memory() {
        let path = std::env::var_os("ZOSIA_TEST_MODEL").unwrap();
        let mut load = crate::tests::load(path.into());
        let (backend, level) = init_backend(&load).unwrap();
        let mut sent = Vec::new();
        let mut outbox = Outbox::new(&mut sent);
        let interrupt = Interrupt::new();
        let mut load_repacked = |load: &Load| {
            let mut checked = check(load, level, &mut outbox).unwrap();
            checked.plan.weights = Weights::Repacked;
            let loaded = checked.load_model(&backend, load, &interrupt, &mut outbox);
            (loaded.map(|_| ()), checked.plan.weights)
        };
        // Less than the weights, beside what this process has.
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let held = protocol::memory::meminfo_bytes(&status, "VmData:").unwrap();
        let confined = crate::confine::confine();
        confined.limit_memory(held + load.bytes / 2).unwrap();

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

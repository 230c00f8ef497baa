//! From a path to a model that can be talked to, or to one line that says why
//! not.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Instant, SystemTime};

use super::backend::Backend;
use super::context::{Context, ContextError, ContextParams};
use super::counter;
use super::fit::{self, Plan, TooLarge, Wishes};
use super::interrupt::Interrupt;
use super::model::{Model, ModelError, Weights};
use super::prompt::Prompter;
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
    let wishes = Wishes {
        ctx_tokens: load.params.ctx_tokens,
        kv: load.params.kv,
        repack: load.params.repack,
        repacked: level.repacked,
        batch_tokens: BATCH_TOKENS,
    };
    let plan = fit::plan(&header, &wishes, fit::available_bytes())?;
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
        &self,
        backend: &'b Backend,
        load: &Load,
        interrupt: &Interrupt,
        outbox: &mut Outbox<impl Write>,
    ) -> Result<Model<'b>, LoadError> {
        let total_bytes = self.bytes;
        let mut tell = |stage, done_bytes, bytes_per_s| {
            outbox.send_sometimes(&Event::Progress(Progress {
                stage,
                done_bytes,
                total_bytes,
                bytes_per_s,
            }));
        };
        let repacked = self.plan.weights == Weights::Repacked;
        // Repacked weights are read tensor by tensor, once: reading the file
        // before would only fill memory that they are about to need.
        let warmed = !repacked || load.sha256.is_some();
        if warmed {
            self.read(load, interrupt, &mut |done, rate| {
                tell(Stage::Reading, done, rate);
            })?;
        }
        let mut tell = |done, rate| {
            if warmed {
                tell(Stage::Preparing, done, 0);
            } else {
                tell(Stage::Reading, done, rate);
            }
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
        let loaded = Model::load(backend, &load.path, self.plan.weights, &mut progress);
        let model = match loaded {
            Ok(model) => model,
            Err(ModelError::Llama(log)) if !warmed => {
                // If it is the disk, reading says where; llama.cpp does not.
                warm::read(&self.file, self.header.data_end, interrupt)?;
                return Err(self.explain(ModelError::Llama(log)));
            }
            Err(e) => return Err(self.explain(e)),
        };
        if repacked {
            self.give_back_pages();
        }
        if model.is_decoder() {
            Ok(model)
        } else {
            Err(LoadError::NoDecoder)
        }
    }

    fn read(
        &self,
        load: &Load,
        interrupt: &Interrupt,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), WarmError> {
        let Some(expected) = &load.sha256 else {
            return warm::warm(&self.file, self.header.data_end, interrupt, progress);
        };
        // Writers pad the last tensor like any other; a device is longer still.
        let end = self.header.data_end;
        let ends = [end, end.next_multiple_of(32)];
        warm::warm_and_hash(&self.file, self.bytes, &ends, expected, interrupt, progress)
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
        let processors = available_parallelism().map_or(1, NonZero::get);
        let processors = u32::try_from(processors).unwrap_or(1);
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
            processors,
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
        let prompter =
            Prompter::new(Vocab::of(model), source, now_s()).map_err(LoadError::Template)?;
        let file_name = load.path.file_name().unwrap_or(load.path.as_os_str());
        let name = self.header.name.clone();
        let info = ModelInfo {
            name: name.unwrap_or_else(|| file_name.display().to_string()),
            arch: self.header.arch.clone(),
            description: model.description(),
            file_bytes: self.bytes,
            parameters: model.parameters(),
            ctx_tokens: u32::try_from(context.ctx_tokens()).unwrap_or(u32::MAX),
            ctx_train_tokens: model.ctx_train_tokens(),
            kv_bytes: self.plan.kv_bytes / u64::from(self.plan.ctx_tokens.max(1))
                * context.ctx_tokens() as u64,
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

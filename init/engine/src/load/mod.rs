//! From a path to a model that can be talked to, or to one line that says why
//! not: here the header and what memory allows; then the weights, and what it takes
//! to talk; and a draft model beside it.

mod draft;
mod ready;
mod weights;

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

use super::backend::Backend;
use super::confine::Unconfined;
use super::context::ContextError;
use super::fit::{self, Plan, Room, TooLarge, Wishes};
use super::warm::WarmError;
use super::wire::Outbox;
pub(crate) use draft::{load_draft, start_draft};
use ggml::{CpuError, Level};
use gguf::{self, GgufError, Header};
use protocol::{Event, Load, LogLevel, TurnError};

/// Tokens evaluated at once: enough for the kernels to reuse each weight, few
/// enough that progress can be shown and little memory is needed.
const BATCH_TOKENS: u32 = 128;

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// No level of ggml-cpu.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The process has rights that it should not have.
    #[error("{0}; a kernel of zosia's own lets it [ZE-44]")]
    Unconfined(Unconfined),
    /// No thread can be started.
    #[error("the engine cannot start a thread: {0} [ZE-43]")]
    Thread(io::Error),
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
    /// One of its parts cannot be read, or is another.
    #[error("{path}: {source}")]
    WarmPart {
        /// Which.
        path: String,
        /// Why.
        source: WarmError,
    },
    /// Not one checksum for each part.
    #[error(
        "zosia.sha256 has {given} checksums, and the model has {parts} parts; \
         give one for each, commas between [ZE-13]"
    )]
    Checksums {
        /// How many were given.
        given: usize,
        /// How many files there are.
        parts: usize,
    },
    /// llama.cpp does not know the architecture.
    #[error(
        "llama.cpp does not know models of the architecture '{arch}'; \
         use another model, or a zosia with a newer llama.cpp [ZE-14]"
    )]
    Architecture {
        /// `general.architecture`.
        arch: String,
    },
    /// llama.cpp refuses it.
    #[error("llama.cpp cannot load the model: {0}; the file may be damaged, copy it again [ZE-15]")]
    Model(String),
    /// Memory ran out.
    #[error(
        "memory ran out while the model was loaded ({0}); \
         give the machine more memory (run.sh --mem), a smaller zosia.ctx or zosia.repack=off [ZE-31]"
    )]
    Memory(String),
    /// It is not a model that answers.
    #[error("this model computes embeddings or fills in text; give a chat model [ZE-10]")]
    NoDecoder,
    /// No context.
    #[error("{0}; give the machine more memory (run.sh --mem) or set a smaller zosia.ctx [ZE-31]")]
    Context(ContextError),
    /// No template at all.
    #[error(transparent)]
    Template(TurnError),
    /// The other side is gone.
    #[error("loading was interrupted")]
    Interrupted,
}

/// A model's files, checked, and what is to become of them.
pub(crate) struct Checked {
    files: Vec<ModelFile>,
    header: Header,
    plan: Plan,
    /// Memory beside it.
    left: Room,
}

/// The model's file, or that of one of its parts.
struct ModelFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Checked {
    /// What `load` names, which is open as `files`.
    fn new(files: Vec<File>, load: &Load, header: Header, plan: Plan, left: Room) -> Self {
        let files = files.into_iter().zip(load.files());
        Self {
            files: files
                .map(|(file, (path, bytes))| ModelFile {
                    file,
                    path: path.to_owned(),
                    bytes,
                })
                .collect(),
            header,
            plan,
            left,
        }
    }

    /// The length of all files.
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The machine, as it was while the engine could still look at it.
pub(crate) struct Machine {
    pub(super) backend: Backend,
    level: &'static Level,
    processors: u32,
    available_bytes: Option<u64>,
}

impl Machine {
    /// Chooses the ggml-cpu level, initialises llama.cpp, and counts what there is.
    ///
    /// # Errors
    /// [`LoadError::Cpu`].
    pub(crate) fn look(load: &Load) -> Result<Self, LoadError> {
        let level = ggml::choose(load.params.cpu.as_deref())?;
        let processors = available_parallelism().map_or(1, NonZero::get);
        Ok(Self {
            backend: Backend::init(level, load.params.log >= LogLevel::Debug),
            level,
            processors: u32::try_from(processors).unwrap_or(1),
            available_bytes: fit::available_bytes(),
        })
    }
}

/// Checks the headers of the files, all parts in their order, in safe Rust and decides what memory allows.
/// Notices go to `outbox`.
///
/// # Errors
/// [`LoadError`] up to [`LoadError::TooLarge`].
pub(crate) fn check(
    machine: &Machine,
    files: Vec<File>,
    load: &Load,
    outbox: &mut Outbox<impl Write>,
) -> Result<Checked, LoadError> {
    let header = read_header(&files, load)?;
    let threads = load.params.threads.unwrap_or(machine.processors);
    let wishes = Wishes {
        ctx_tokens: load.params.ctx_tokens,
        sequences: load.params.parallel,
        kv: load.params.kv,
        repack: load.params.repack,
        repacked: machine.level.repacked,
        batch_tokens: BATCH_TOKENS,
        threads: threads
            .max(1)
            .saturating_add(load.params.batch_threads.unwrap_or(0)),
    };
    let room = Room {
        available: machine.available_bytes,
        private: load.budget.engine_bytes,
    };
    let plan = fit::plan(&header, &wishes, room)?;
    for notice in &plan.notices {
        outbox.send(&Event::Notice(notice.clone()));
    }
    let left = fit::left(&header, &wishes, &plan, room);
    Ok(Checked::new(files, load, header, plan, left))
}

/// The header of what `load` names, all parts in their order.
fn read_header(files: &[File], load: &Load) -> Result<Header, LoadError> {
    let parts: Vec<(&File, u64)> = files.iter().zip(load.files().map(|(_, b)| b)).collect();
    gguf::check_parts(&parts).map_err(|error| {
        let (path, _) = load.files().nth(error.index).unwrap_or((&load.path, 0));
        LoadError::Header {
            path: path.display().to_string(),
            source: error.source,
        }
    })
}

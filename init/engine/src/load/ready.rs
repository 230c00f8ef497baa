//! What it takes to talk with a loaded model: a context, a template, and what the
//! user is told.

use std::io::Write;
use std::num::Saturating;
use std::sync::Arc;
use std::time::SystemTime;

use super::{BATCH_TOKENS, Checked, LoadError, Machine};
use crate::checkpoints::Checkpoints;
use crate::context::{Context, ContextError, ContextParams, Pieces};
use crate::counter;
use crate::fit::Room;
use crate::identity::Identity;
use crate::interrupt::Interrupt;
use crate::model::{Model, Weights};
use crate::prompter::{ContextRoom, Prompter};
use crate::sequence::Sequence;
use crate::serve::Keeping;
use crate::speculate::WIDTH_MAX;
use crate::vocab::Vocab;
use crate::wire::Outbox;
use protocol::{Event, Load, ModelInfo, Switch};

/// A piece of this length holds nobody up who waits, and holds enough tokens.
const PIECE_BYTES: u64 = 4 << 20;
/// What a message has besides the piece, at most.
const PIECE_HEAD_BYTES: u32 = 128;

/// Shorter contexts are tried down to this when llama.cpp cannot allocate.
const CTX_TOKENS_MIN: u32 = 512;

/// A model that can be talked to.
pub(crate) struct Loaded<'m> {
    /// Template and vocabulary.
    pub prompter: Prompter<'m>,
    /// The context and what it holds.
    pub sequence: Sequence<Context<'m>>,
    /// Whether several tokens may be tried at once.
    pub speculate: Switch,
    /// Tokens that can be tried beside the one that is certain, at most.
    pub guesses_max: usize,
    /// Memory that is left beside it.
    pub left: Room,
    /// How the context is given away.
    pub keeping: Keeping<'m>,
    /// For the user.
    pub info: ModelInfo,
}

impl Checked {
    /// Makes the context and everything to talk with.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(crate) fn finish<'m>(
        &'m self,
        machine: &'m Machine,
        model: &'m Model<'m>,
        load: &Load,
        interrupt: &Arc<Interrupt>,
        outbox: &mut Outbox<impl Write>,
    ) -> Result<Loaded<'m>, LoadError> {
        let speculate = self.speculation(load.params.speculate);
        let sequences = self.sequences(model);
        let per_token = self.header.kv_bytes_per_token(self.plan.kv);
        let piece_bytes_max = piece_bytes_max(load);
        // Answers side by side are given away by nobody.
        let pieces = if sequences > 1 {
            Pieces::Never
        } else {
            Pieces::of(model, per_token.0, piece_bytes_max.min(PIECE_BYTES))
        };
        let (outputs, rollback_tokens) = match speculate {
            Switch::Off => (sequences as usize, 0),
            Switch::Auto | Switch::On => (WIDTH_MAX, self.plan.rollback_tokens),
        };
        let mut wanted = ContextParams {
            ctx_tokens: self.plan.ctx_tokens,
            sequences,
            batch_tokens: BATCH_TOKENS.min(self.plan.ctx_tokens),
            outputs,
            kv: self.plan.kv,
            pieces,
            rollback_tokens,
            threads: load.params.threads,
            batch_threads: load.params.batch_threads,
            processors: machine.processors,
            poll: load.params.poll,
        };
        let context = make_context(machine, model, &mut wanted, interrupt)?;
        if wanted.ctx_tokens < self.plan.ctx_tokens {
            outbox.send(&Event::Notice(format!(
                "the context is {} tokens instead of {}: memory for more cannot be had",
                wanted.ctx_tokens, self.plan.ctx_tokens
            )));
        }
        let guesses_max = context.rollback_tokens().unwrap_or(usize::MAX);
        let got = context.ctx_tokens();
        if let Some(asked) = load.params.ctx_tokens
            && got > asked as usize
        {
            let line = format!("the context is {got} tokens: {asked} are rounded up");
            outbox.send(&Event::Notice(line));
        }
        let source = self.header.chat_template.text();
        let room = ContextRoom {
            ctx_tokens: context.ctx_tokens(),
            ctx_max_tokens: self.plan.ctx_max_tokens,
            answer_bytes: load.budget.answer_bytes,
        };
        let prompter = Prompter::new(Vocab::of(model), source.as_deref(), now_s(), room)
            .map_err(LoadError::Template)?;
        let checkpoint_bytes = match self.plan.checkpoint_bytes {
            bytes if model.has_checkpoints() => usize::try_from(bytes).unwrap_or(usize::MAX),
            _ => 0,
        };
        let (threads, batch_threads) = wanted.most_threads();
        let file_name = load.path.file_name().unwrap_or(load.path.as_os_str());
        let name = self.header.name.clone();
        let ctx_tokens = Saturating(context.ctx_tokens() as u64);
        let kv_bytes = per_token * ctx_tokens * Saturating(u64::from(wanted.sequences));
        let info = ModelInfo {
            name: name.unwrap_or_else(|| file_name.display().to_string()),
            arch: self.header.arch.clone(),
            description: model.description(),
            draft: None,
            file_bytes: self.bytes(),
            parameters: model.parameters(),
            ctx_tokens: u32::try_from(context.ctx_tokens()).unwrap_or(u32::MAX),
            ctx_train_tokens: model.ctx_train_tokens(),
            parallel: wanted.sequences,
            kv_bytes: kv_bytes.0,
            checkpoint_bytes: (!model.can_rewind()).then_some(checkpoint_bytes as u64),
            is_kept: pieces != Pieces::Never,
            cpu: machine.backend.level().to_owned(),
            repacked: self.plan.weights == Weights::Repacked,
            threads,
            batch_threads,
            template: prompter.template_origin().to_owned(),
            load_ms: 0,
            anonymous_bytes: 0,
            unconfined: None,
            before_kernel_ms: counter::before_kernel_ms(),
        };
        if let Some(line) = info.other_template() {
            outbox.send(&Event::Notice(line));
        }
        Ok(Loaded {
            prompter,
            sequence: Sequence::new(context, Checkpoints::new(checkpoint_bytes)),
            speculate,
            guesses_max,
            left: self.left,
            keeping: Keeping {
                identity: self.identity(machine, load, wanted.ctx_tokens),
                pieces,
                bytes_max: piece_bytes_max,
            },
            info,
        })
    }

    /// What a context of this model computes with.
    fn identity(&self, machine: &Machine, load: &Load, ctx_tokens: u32) -> Identity<'_> {
        let level = machine.backend.level();
        let (kv, weights) = (self.plan.kv, self.plan.weights);
        // Llama.cpp chooses by the context's length how positions are rotated.
        let setting = format!("{level} {kv:?} {weights:?} {ctx_tokens}");
        let files = self.files.iter().map(|file| &file.file);
        let ends = self.header.ends.iter().map(|end| end.data_end);
        Identity::new(files.zip(ends).collect(), load.sha256.clone(), setting)
    }

    /// Sequences side by side. One where what is in a lane cannot be rewound, or where a
    /// pass of several is summed in another order than one token.
    fn sequences(&self, model: &Model<'_>) -> u32 {
        if model.can_rewind() && self.plan.weights == Weights::Mapped {
            self.plan.sequences
        } else {
            1
        }
    }

    /// Whether several tokens may be tried at once, if they can be taken back.
    fn speculation(&self, asked: Switch) -> Switch {
        match asked {
            // Upstream's kernels for repacked weights sum several tokens in another
            // order than one: an answer could differ.
            Switch::Auto if self.plan.weights == Weights::Repacked => Switch::Off,
            asked => asked,
        }
    }
}

/// A context as it is wanted, or of fewer or shorter sequences.
fn make_context<'m>(
    machine: &'m Machine,
    model: &'m Model<'m>,
    wanted: &mut ContextParams,
    interrupt: &Arc<Interrupt>,
) -> Result<Context<'m>, LoadError> {
    loop {
        match Context::new(&machine.backend, model, wanted, Arc::clone(interrupt)) {
            Ok(context) => return Ok(context),
            Err(ContextError::Llama(_)) if wanted.sequences > 1 => wanted.sequences /= 2,
            Err(ContextError::Llama(_)) if wanted.ctx_tokens >= 2 * CTX_TOKENS_MIN => {
                wanted.ctx_tokens /= 2;
            }
            Err(e) => return Err(LoadError::Context(e)),
        }
    }
}

/// The longest piece: it is a message in either direction.
fn piece_bytes_max(load: &Load) -> u64 {
    let budget = &load.budget;
    let frame = budget.request_bytes.min(budget.event_bytes);
    u64::from(frame.saturating_sub(PIECE_HEAD_BYTES))
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

//! The draft model: loaded after the one that answers, if there is room and it is of use.
//! Whatever is wrong with it is told in one line, and the other runs without.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use super::ready::Loaded;
use super::{Checked, LoadError, Machine, read_header};
use crate::checkpoints::Checkpoints;
use crate::context::{Context, ContextError, ContextParams, Pieces};
use crate::fit::{self, TooLargeBeside};
use crate::interrupt::Interrupt;
use crate::model::Model;
use crate::sequence::Sequence;
use crate::speculate::DraftModel;
use crate::vocab::Vocab;
use crate::wire::Outbox;
use protocol::{EngineParams, Event, KvType, Load, PartFile, Switch};

/// Tokens that it evaluates at once when it catches up.
const BATCH_TOKENS: u32 = 64;

/// Why it is not used.
#[derive(Debug, thiserror::Error)]
enum Unused {
    #[error("{0}")]
    Missing(String),
    #[error(
        "no tokens are guessed with zosia.spec=off, with repacked weights, or where the model's \
         state cannot be taken back [ZE-19]"
    )]
    NoSpeculation,
    #[error("prompts are answered side by side; with zosia.parallel=1 one after the other [ZE-19]")]
    SideBySide,
    #[error(transparent)]
    TooLarge(#[from] TooLargeBeside),
    #[error("its state cannot be taken back by a token; use one without a recurrent state [ZE-19]")]
    Recurrent,
    #[error("its vocabulary is not that of the model; use a small one of the same family [ZE-19]")]
    Vocabulary,
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{0} [ZE-19]")]
    Context(#[from] ContextError),
}

/// Loads the draft model from `files`, if one is asked for, for the model that is `loaded`
/// and leaves `left`; and the type of its KV cache.
///
/// # Errors
/// [`LoadError::Interrupted`].
pub(crate) fn load_draft<'b>(
    machine: &'b Machine,
    files: Vec<File>,
    load: &Load,
    loaded: &Loaded<'_>,
    interrupt: &Interrupt,
    outbox: &mut Outbox<impl Write>,
) -> Result<Option<(Model<'b>, KvType)>, LoadError> {
    let Some(draft) = &load.draft else {
        return Ok(None);
    };
    let tried = match draft {
        Err(why) => Err(Unused::Missing(why.clone())),
        Ok(parts) => try_load(machine, files, parts, load, loaded, interrupt, outbox),
    };
    match tried {
        Ok(loaded) => Ok(Some(loaded)),
        Err(Unused::Load(LoadError::Interrupted)) => Err(LoadError::Interrupted),
        Err(why) => {
            tell(&why, outbox);
            Ok(None)
        }
    }
}

/// Makes the context in which `model` guesses for the one that is `loaded`.
pub(crate) fn start_draft<'m>(
    (model, kv): &'m (Model<'m>, KvType),
    machine: &Machine,
    load: &Load,
    loaded: &Loaded<'m>,
    interrupt: &Arc<Interrupt>,
    outbox: &mut Outbox<impl Write>,
) -> Option<DraftModel<Context<'m>>> {
    let vocab = loaded.prompter.vocab();
    let started = match vocab.common_tokens(&Vocab::of(model)) {
        None => Err(Unused::Vocabulary),
        Some(_) if !model.can_rewind() => Err(Unused::Recurrent),
        Some(vocab_tokens) => {
            let ctx_tokens = ctx_tokens(loaded, model.ctx_train_tokens());
            let params = ContextParams {
                ctx_tokens,
                sequences: 1,
                batch_tokens: BATCH_TOKENS.min(ctx_tokens),
                outputs: 1,
                kv: *kv,
                pieces: Pieces::Never,
                rollback_tokens: 0,
                threads: load.params.threads,
                batch_threads: load.params.batch_threads,
                processors: machine.processors,
                poll: load.params.poll,
            };
            let beside = loaded.sequence.memory();
            let context = beside.beside(model, &params, Arc::clone(interrupt));
            context
                .map(|context| {
                    DraftModel::new(Sequence::new(context, Checkpoints::new(0)), vocab_tokens)
                })
                .map_err(Unused::Context)
        }
    };
    started.inspect_err(|why| tell(why, outbox)).ok()
}

fn try_load<'b>(
    machine: &'b Machine,
    files: Vec<File>,
    parts: &[PartFile],
    load: &Load,
    loaded: &Loaded<'_>,
    interrupt: &Interrupt,
    outbox: &mut Outbox<impl Write>,
) -> Result<(Model<'b>, KvType), Unused> {
    if loaded.info.parallel > 1 {
        return Err(Unused::SideBySide);
    }
    if loaded.speculate == Switch::Off || loaded.guesses_max == 0 {
        return Err(Unused::NoSpeculation);
    }
    let Some((first, rest)) = parts.split_first() else {
        return Err(Unused::Missing("it has no file [ZE-19]".to_owned()));
    };
    let load = Load {
        path: first.path.clone(),
        bytes: first.bytes,
        rest: rest.to_vec(),
        sha256: None,
        draft: None,
        params: EngineParams {
            repack: Switch::Off,
            ..load.params.clone()
        },
        budget: load.budget,
    };
    let header = read_header(&files, &load)?;
    let trained = header.context_length.and_then(|n| u32::try_from(n).ok());
    let ctx_tokens = ctx_tokens(loaded, trained.unwrap_or(0));
    let kv = load.params.kv;
    let plan = fit::plan_beside(&header, ctx_tokens, kv, BATCH_TOKENS, loaded.left)?;
    let mut checked = Checked::new(files, &load, header, plan, loaded.left);
    let model = checked.load_model(machine, &load, interrupt, outbox)?;
    Ok((model, checked.plan.kv))
}

/// As long as the other's, or what it was trained for, if it says.
fn ctx_tokens(loaded: &Loaded<'_>, trained: u32) -> u32 {
    match trained {
        0 => loaded.info.ctx_tokens,
        trained => loaded.info.ctx_tokens.min(trained),
    }
}

fn tell(why: &Unused, outbox: &mut Outbox<impl Write>) {
    outbox.send(&Event::Notice(format!(
        "the draft model is not used: {why}"
    )));
}

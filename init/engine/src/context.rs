//! A llama.cpp context: the KV cache, the buffers of a batch, and the threads
//! that compute. It knows nothing of what its tokens mean.

#![expect(unsafe_code, reason = "llama.cpp's context is a C handle")]

mod state;

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llama_cpp_sys_2 as sys;
use rustix::time::{ClockId, clock_gettime};

use super::backend::{self, Backend};
use super::guarded::{self, Thrown};
use super::headcount::Crew;
use super::interrupt::Interrupt;
use super::model::Model;
use super::threads::Pools;
use super::vocab::{Token, Vocab};
use protocol::KvType;
pub(crate) use state::Pieces;

/// What a context is made with.
#[derive(Debug, Clone)]
pub(crate) struct ContextParams {
    /// Tokens that each of its sequences holds.
    pub ctx_tokens: u32,
    /// Sequences that it holds.
    pub sequences: u32,
    /// Tokens evaluated at once.
    pub batch_tokens: u32,
    /// Tokens of one batch whose logits are wanted.
    pub outputs: usize,
    /// Element type of the KV cache.
    pub kv: KvType,
    /// How it will be taken apart.
    pub pieces: Pieces,
    /// Of a recurrent state, tokens at the end of a batch that are to be taken back alone.
    pub rollback_tokens: u32,
    /// Threads for single tokens; `None`: what gives the most.
    pub threads: Option<u32>,
    /// Threads for larger batches; `None`: what holds for single tokens.
    pub batch_threads: Option<u32>,
    /// Threads at most where no number is given.
    pub processors: u32,
    /// How eagerly idle threads poll.
    pub poll: u32,
}

impl ContextParams {
    /// Threads that compute at most: for single tokens, for larger batches.
    pub(crate) fn most_threads(&self) -> (u32, u32) {
        let threads = self.threads.unwrap_or(self.processors).max(1);
        let batch_threads = self.batch_threads.unwrap_or(threads).max(1);
        (threads, batch_threads)
    }
}

/// Why a context was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// llama.cpp's own words.
    #[error("llama.cpp cannot make a context: {0}")]
    Llama(String),
    /// No threads.
    #[error("the worker threads cannot be started")]
    Threads,
}

/// Why a batch was not evaluated. None of its tokens is in the context.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// [`Interrupt::is_requested`].
    #[error("interrupted")]
    Interrupted,
    /// llama.cpp's code and words.
    #[error("llama.cpp's decode returned {code}: {log}")]
    Llama {
        /// What `llama_decode` returned.
        code: i32,
        /// What it logged.
        log: String,
    },
    /// llama.cpp's own words.
    #[error(transparent)]
    Thrown(#[from] Thrown),
}

/// A token to be evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// Which.
    pub token: Token,
    /// Of which sequence.
    pub sequence: usize,
    /// Where in it: its end, or behind the step before.
    pub position: usize,
    /// Whether its logits are wanted.
    pub output: bool,
}

/// A context over a model's weights.
pub(crate) struct Context<'m> {
    handle: NonNull<sys::llama_context>,
    batch: Batch,
    vocab_tokens: usize,
    ctx_tokens: usize,
    pieces: Pieces,
    /// The state of a sequence before each of so many tokens of the latest batch is there;
    /// `None`: it is one that can be cut.
    rollback_tokens: Option<u32>,
    /// Where the latest batch of the first sequence begins, if it can be cut.
    batch_start: Option<usize>,
    /// A batch failed in the middle: the state is none.
    is_spoiled: bool,
    /// Read by the abort callback; freed after the context.
    _interrupt: Arc<Interrupt>,
    crew: Crew,
    pools: Rc<Pools<'m>>,
    model: PhantomData<&'m Model<'m>>,
}

/// The arrays behind a `llama_batch`, one entry a token.
struct Batch {
    tokens: Vec<Token>,
    positions: Vec<sys::llama_pos>,
    sequence_counts: Vec<i32>,
    /// Each points to one of `ids`.
    sequences: Vec<*mut sys::llama_seq_id>,
    /// Each sequence's number.
    ids: Box<[sys::llama_seq_id]>,
    outputs: Vec<i8>,
}

impl Batch {
    fn new(capacity: usize, sequences: u32) -> Self {
        Self {
            tokens: vec![0; capacity],
            positions: vec![0; capacity],
            sequence_counts: vec![1; capacity],
            sequences: vec![std::ptr::null_mut(); capacity],
            ids: (0..).take(sequences as usize).collect(),
            outputs: vec![0; capacity],
        }
    }

    /// Fills in `steps`. `None` if there are more than the batch holds, or one is of a
    /// sequence that there is not.
    fn fill(&mut self, steps: impl Iterator<Item = Step>) -> Option<sys::llama_batch> {
        let mut count = 0;
        for (at, step) in steps.enumerate() {
            *self.tokens.get_mut(at)? = step.token;
            *self.positions.get_mut(at)? = sys::llama_pos::try_from(step.position).ok()?;
            *self.sequences.get_mut(at)? = self.ids.get_mut(step.sequence)?;
            *self.outputs.get_mut(at)? = i8::from(step.output);
            count = at + 1;
        }
        Some(sys::llama_batch {
            n_tokens: i32::try_from(count).ok()?,
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.sequence_counts.as_mut_ptr(),
            seq_id: self.sequences.as_mut_ptr(),
            logits: self.outputs.as_mut_ptr(),
        })
    }
}

impl<'m> Context<'m> {
    /// Makes a context and attaches threads of its own. Evaluation stops
    /// between two operations when `interrupt` asks for it.
    ///
    /// # Errors
    /// [`ContextError`]: mostly that the KV cache cannot be allocated.
    pub(crate) fn new(
        backend: &'m Backend,
        model: &'m Model<'m>,
        params: &ContextParams,
        interrupt: Arc<Interrupt>,
    ) -> Result<Self, ContextError> {
        let pools = Pools::start(backend, params.most_threads(), params.poll);
        let pools = Rc::new(pools.ok_or(ContextError::Threads)?);
        Self::with_pools(model, params, pools, interrupt)
    }

    /// Makes another context, of the same or another model, with the threads of this one,
    /// of which it is to be given as many.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn beside(
        &self,
        model: &'m Model<'m>,
        params: &ContextParams,
        interrupt: Arc<Interrupt>,
    ) -> Result<Self, ContextError> {
        Self::with_pools(model, params, Rc::clone(&self.pools), interrupt)
    }

    fn with_pools(
        model: &'m Model<'m>,
        params: &ContextParams,
        pools: Rc<Pools<'m>>,
        interrupt: Arc<Interrupt>,
    ) -> Result<Self, ContextError> {
        let (threads, batch_threads) = params.most_threads();
        let (main_pool, batch_pool) = pools.as_ptrs().ok_or(ContextError::Threads)?;
        // SAFETY: llama.h: returns plain data.
        let mut raw = unsafe { sys::llama_context_default_params() };
        raw.n_ctx = params.ctx_tokens.saturating_mul(params.sequences);
        raw.n_batch = params.batch_tokens;
        raw.n_ubatch = params.batch_tokens;
        raw.n_seq_max = params.sequences.max(params.pieces.sequences());
        raw.n_rs_seq = params.rollback_tokens;
        // Several answers have memory of their own each: what one attends to, and in which
        // order, does not depend on the others. Pieces share cells.
        raw.kv_unified = params.sequences == 1 && raw.n_seq_max > 1;
        // Room for as many rows of logits, one a sequence at least: the default is a row
        // for each token of a batch, which is half a GiB with a large vocabulary.
        let outputs = u32::try_from(params.outputs).unwrap_or(1);
        raw.n_outputs_max = outputs.max(raw.n_seq_max);
        raw.n_outputs_max_per_seq = raw.n_outputs_max;
        raw.n_threads = i32::try_from(threads).unwrap_or(1);
        raw.n_threads_batch = i32::try_from(batch_threads).unwrap_or(1);
        raw.type_k = match params.kv {
            KvType::F16 => sys::GGML_TYPE_F16,
            KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
        };
        raw.type_v = raw.type_k;
        raw.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_AUTO;
        raw.abort_callback = Some(on_abort);
        raw.abort_callback_data = Arc::as_ptr(&interrupt).cast_mut().cast();
        raw.offload_kqv = false;
        raw.op_offload = false;
        raw.no_perf = true;
        // SAFETY: llama.h: `model` is live and outlives the context (lifetime);
        // the abort callback's data is the Arc that the context keeps.
        let handle = unsafe { sys::llama_init_from_model(model.as_ptr(), raw) };
        let Some(handle) = NonNull::new(handle) else {
            return Err(ContextError::Llama(backend::take_errors()));
        };
        // SAFETY: llama.h: a getter of a live context.
        let ctx_tokens = unsafe { sys::llama_n_ctx_seq(handle.as_ptr()) };
        // SAFETY: as above. Less than was asked for where an architecture has none.
        let rollback_tokens = unsafe { sys::llama_n_rs_seq(handle.as_ptr()) };
        // SAFETY: llama.h: nothing is computed once the pools are freed, which `drop` does
        // first.
        unsafe { sys::llama_attach_threadpool(handle.as_ptr(), main_pool, batch_pool) };
        Ok(Self {
            handle,
            batch: Batch::new(params.batch_tokens as usize, params.sequences),
            vocab_tokens: Vocab::of(model).len(),
            ctx_tokens: ctx_tokens as usize,
            pieces: params.pieces,
            rollback_tokens: (!model.can_rewind()).then_some(rollback_tokens),
            batch_start: None,
            is_spoiled: false,
            _interrupt: interrupt,
            crew: Crew::new(
                params.threads,
                params.batch_threads,
                params.processors,
                params.sequences as usize..params.batch_tokens as usize,
            ),
            pools,
            model: PhantomData,
        })
    }

    /// Tokens that each sequence holds; llama.cpp may have rounded what was asked for.
    pub(crate) fn ctx_tokens(&self) -> usize {
        self.ctx_tokens
    }

    /// Tokens that [`Self::decode`] takes at most.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.batch.tokens.len()
    }

    /// Tokens at the end of a batch that can be taken back, if not all can.
    pub(crate) fn rollback_tokens(&self) -> Option<usize> {
        self.rollback_tokens.map(|tokens| tokens as usize)
    }

    /// Sequences that it holds.
    pub(crate) fn sequences(&self) -> usize {
        self.batch.ids.len()
    }

    /// Evaluates `tokens` of `sequence` at the positions from `start` on, which must be
    /// where it ends. The logits of the last `outputs` of them can be read.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub(crate) fn decode(
        &mut self,
        sequence: usize,
        tokens: &[Token],
        start: usize,
        outputs: usize,
    ) -> Result<(), DecodeError> {
        let count = tokens.len();
        let steps = tokens.iter().enumerate().map(|(at, token)| Step {
            token: *token,
            sequence,
            position: start + at,
            output: at + outputs >= count,
        });
        self.batch_start = None;
        self.evaluate(steps)?;
        self.batch_start = (sequence == 0).then_some(start);
        Ok(())
    }

    /// Evaluates `steps` in one pass, if those of several sequences are one of each,
    /// without a gap between their numbers.
    ///
    /// # Errors
    /// [`DecodeError`]; the context is then as it was before.
    pub(crate) fn evaluate(
        &mut self,
        steps: impl Iterator<Item = Step>,
    ) -> Result<(), DecodeError> {
        let refused = |log: &str| DecodeError::Llama {
            code: -1,
            log: log.to_owned(),
        };
        let batch = self.batch.fill(steps);
        let batch = batch.ok_or_else(|| refused("more tokens than there is room for"))?;
        if self.pools.as_ptrs().is_none() {
            return Err(refused("a context whose threads have ended"));
        }
        let width = usize::try_from(batch.n_tokens).unwrap_or(0);
        let threads = i32::try_from(self.crew.threads(width)).unwrap_or(1);
        // SAFETY: llama.h: sets two numbers of a live context; neither pool has
        // fewer threads.
        unsafe { sys::llama_set_n_threads(self.handle.as_ptr(), threads, threads) };
        let cpu_began = self.crew.wants_cpu_time(width).then(cpu_time);
        let began = Instant::now();
        // SAFETY: llama.h: the batch's arrays hold `n_tokens` entries each and
        // stay alive and unmoved in `self.batch` during the call; llama.cpp
        // checks token ids and positions itself.
        let decoded = unsafe { guarded::decode(self.handle.as_ptr(), batch) };
        // Llama.cpp takes a batch that failed back by states that it has not written.
        self.is_spoiled |= self.rollback_tokens.is_some() && !matches!(decoded, Ok(0));
        match decoded? {
            0 => {
                let time = began.elapsed();
                let cpu_time = cpu_began.map(|began| cpu_time().saturating_sub(began));
                self.crew.took(width, time, cpu_time);
                Ok(())
            }
            2 => Err(DecodeError::Interrupted),
            code => Err(DecodeError::Llama {
                code,
                log: backend::take_errors(),
            }),
        }
    }

    /// The logits of the batch's token number `index`, to be read and changed
    /// until the next decode. `None` if they were not asked for.
    pub(crate) fn logits(&mut self, index: usize) -> Option<&mut [f32]> {
        let index = i32::try_from(index).ok()?;
        // SAFETY: llama.h: null for an index without logits.
        let row = unsafe { sys::llama_get_logits_ith(self.handle.as_ptr(), index) };
        let row = NonNull::new(row)?;
        // SAFETY: llama.h: the row holds `n_vocab` floats and belongs to the
        // context until the next decode, which needs `&mut self`.
        Some(unsafe { std::slice::from_raw_parts_mut(row.as_ptr(), self.vocab_tokens) })
    }

    /// Forgets all of `sequence` from position `start` on. `false` if this kind of
    /// memory cannot: then nothing changed.
    pub(crate) fn truncate(&mut self, sequence: usize, start: usize) -> bool {
        // Behind the first token of the latest batch alone llama.cpp has the states that it
        // would go back to; it does not look.
        let is_held = self.rollback_tokens.is_none()
            || self.batch_start.is_some_and(|batch| batch < start) && !self.is_spoiled;
        is_held && self.remove(sequence, start)
    }

    /// The same, whatever is there to go back to.
    fn remove(&mut self, sequence: usize, start: usize) -> bool {
        let (Ok(start), Some(id)) = (
            sys::llama_pos::try_from(start),
            self.batch.ids.get(sequence),
        ) else {
            return false;
        };
        // SAFETY: llama.h: the memory of a live context; one of its sequences from
        // `start` to the end.
        unsafe { sys::llama_memory_seq_rm(self.memory(), *id, start, -1) }
    }

    /// Has `to` hold what `from` holds: all of its memory is copied, however much of
    /// it is in use.
    pub(crate) fn copy(&mut self, from: usize, to: usize) {
        let ids = &self.batch.ids;
        if let (Some(from), Some(to)) = (ids.get(from), ids.get(to)) {
            // SAFETY: llama.h: the memory of a live context; two of its sequences, from
            // beginning to end.
            unsafe { sys::llama_memory_seq_cp(self.memory(), *from, *to, -1, -1) }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.forget_batch();
        // SAFETY: llama.h: the memory of a live context; the data buffers may
        // stay as they are.
        unsafe { sys::llama_memory_clear(self.memory(), false) }
    }

    /// There is no latest batch, and what is there is whole.
    fn forget_batch(&mut self) {
        self.batch_start = None;
        self.is_spoiled = false;
    }

    /// Number of positions that the first sequence holds, as llama.cpp knows it; none that
    /// there can be if a batch has spoiled it.
    pub(crate) fn held_tokens(&self) -> usize {
        if self.is_spoiled {
            return usize::MAX;
        }
        // SAFETY: llama.h: a getter; −1 for an empty sequence.
        let last = unsafe { sys::llama_memory_seq_pos_max(self.memory(), 0) };
        usize::try_from(last + 1).unwrap_or(0)
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: llama.h: a getter of a live context.
        unsafe { sys::llama_get_memory(self.handle.as_ptr()) }
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        self.pools.end();
        // SAFETY: llama.h: frees a context, which computes nothing meanwhile; this
        // is its only owner. The abort callback's data is a field and outlives it.
        unsafe { sys::llama_free(self.handle.as_ptr()) }
    }
}

/// What all threads of this process have had of the processors.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// ggml's abort callback, called between two operations of a graph.
unsafe extern "C" fn on_abort(data: *mut c_void) -> bool {
    // SAFETY: `data` points into the `Arc<Interrupt>` that the context keeps.
    let interrupt = unsafe { &*data.cast::<Interrupt>() };
    interrupt.is_requested()
}

//! Evaluated positions as bytes, and back. A second sequence that shares the cells of some
//! positions, and has none of its own, is what makes a piece of a context. A checkpoint is
//! what cannot be cut: the state of the last position, without any cells.

use std::ops::Range;

use llama_cpp_sys_2 as sys;

use super::Context;
use crate::model::Model;

/// The conversation.
const WHOLE: sys::llama_seq_id = 0;
/// A piece of it, while one is made or put in place.
const PIECE: sys::llama_seq_id = 1;

/// llama.h's `LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY`, which the bindings leave out: the state
/// of the last position, without the cells that each position has.
const LAST_ALONE: sys::llama_state_seq_flags = 1;

/// The most positions of a piece: what is at the end of a conversation and fills none is
/// mostly evaluated again, which is soon done with as many.
const PIECE_TOKENS_MAX: usize = 32;

/// How a context can be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// Each position is cells of its own: into pieces of as many.
    Of(usize),
    /// Not at all: its state is that of the last position.
    Whole,
    /// llama.cpp has no way, or one that changes what is computed next.
    Never,
}

impl Pieces {
    /// For contexts of `model` with `bytes_per_token`, where a piece may have `bytes_max`.
    pub(crate) fn of(model: &Model<'_>, bytes_per_token: u64, bytes_max: u64) -> Self {
        let window = model.window_tokens();
        if !model.has_separable_state() {
            return Self::Never;
        }
        if !model.can_rewind() {
            // Cells of a window would come back in another order, and be summed in it.
            return if window == 0 {
                Self::Whole
            } else {
                Self::Never
            };
        }
        // A sequence does not have what lies behind the window of its end. Windows can
        // begin at multiples of their length, too.
        let mut tokens = match window {
            0 => PIECE_TOKENS_MAX,
            window => PIECE_TOKENS_MAX.min(1 << window.trailing_zeros().min(16)),
        };
        while tokens > 1 && bytes_per_token.saturating_mul(tokens as u64) > bytes_max {
            tokens /= 2;
        }
        Self::Of(tokens)
    }

    /// Sequences that a context needs for it.
    pub(super) fn sequences(self) -> u32 {
        match self {
            Self::Of(_) => 2,
            Self::Whole | Self::Never => 1,
        }
    }
}

impl Context<'_> {
    /// Length of [`Self::state`].
    pub(crate) fn state_bytes(&mut self, positions: &Range<usize>) -> usize {
        self.with_piece(positions, |context, sequence| {
            // SAFETY: llama.h: a live context and a sequence of it; 0 for an error.
            unsafe { sys::llama_state_seq_get_size_ext(context, sequence, 0) }
        })
        .unwrap_or(0)
    }

    /// What is evaluated at `positions`, which are as many as [`Pieces`] says, all of them
    /// evaluated. `None` if llama.cpp cannot tell.
    pub(crate) fn state(&mut self, positions: &Range<usize>) -> Option<Vec<u8>> {
        let mut state = vec![0; self.state_bytes(positions)];
        let written = self.with_piece(positions, |context, sequence| {
            let (to, room) = (state.as_mut_ptr(), state.len());
            // SAFETY: llama.h: writes at most `room` bytes; 0 for an error.
            unsafe { sys::llama_state_seq_get_data_ext(context, to, room, sequence, 0) }
        })?;
        (written > 0 && written == state.len()).then_some(state)
    }

    /// Puts `state`, which [`Self::state`] gave, at `positions`, which begin where the
    /// context ends. `false` if llama.cpp refuses it: the positions may then be lost.
    pub(crate) fn restore(&mut self, positions: &Range<usize>, state: &[u8]) -> bool {
        let sequence = match self.pieces {
            Pieces::Of(_) => PIECE,
            Pieces::Whole => WHOLE,
            Pieces::Never => return false,
        };
        let (from, bytes) = (state.as_ptr(), state.len());
        // SAFETY: llama.h: a live context; reads at most `bytes` bytes; 0 for an error.
        let read = unsafe {
            sys::llama_state_seq_set_data_ext(self.handle.as_ptr(), from, bytes, sequence, 0)
        };
        let read_all = read == bytes;
        self.forget_batch();
        let (first, end) = self.positions(sequence);
        // A state of the last position alone has no first one to go by.
        let restored =
            read_all && end == positions.end && (sequence == WHOLE || first == positions.start);
        if sequence == PIECE {
            if restored {
                // SAFETY: llama.h: all of a sequence of a live context, as another's.
                unsafe { sys::llama_memory_seq_cp(self.memory(), PIECE, WHOLE, -1, -1) };
            }
            self.forget_piece();
        }
        restored
    }

    /// Writes the state of the last position, without what is there for each position, to
    /// `state`. `false` if that is more than `bytes_max`, or than there is memory for.
    pub(crate) fn save(&mut self, state: &mut Vec<u8>, bytes_max: usize) -> bool {
        let context = self.handle.as_ptr();
        // SAFETY: llama.h: a live context and a sequence of it; 0 for an error.
        let bytes = unsafe { sys::llama_state_seq_get_size_ext(context, WHOLE, LAST_ALONE) };
        state.clear();
        if bytes == 0 || bytes > bytes_max || state.try_reserve_exact(bytes).is_err() {
            return false;
        }
        state.resize(bytes, 0);
        // SAFETY: llama.h: writes at most `bytes` bytes; 0 for an error.
        let written = unsafe {
            sys::llama_state_seq_get_data_ext(context, state.as_mut_ptr(), bytes, WHOLE, LAST_ALONE)
        };
        written == bytes
    }

    /// Goes back to where `end` positions were evaluated and [`Self::save`] gave `state`.
    /// `false` if llama.cpp refuses it: all may then be lost.
    pub(crate) fn load(&mut self, end: usize, state: &[u8]) -> bool {
        let (from, bytes) = (state.as_ptr(), state.len());
        // SAFETY: llama.h: a live context; reads at most `bytes` bytes; 0 for an error.
        let read = unsafe {
            sys::llama_state_seq_set_data_ext(self.handle.as_ptr(), from, bytes, WHOLE, LAST_ALONE)
        };
        self.forget_batch();
        // What there is for each later position is still there.
        read == bytes && self.remove(0, end) && self.held_tokens() == end
    }

    /// Calls `act` with the sequence that has `positions` and no others.
    fn with_piece<T>(
        &mut self,
        positions: &Range<usize>,
        act: impl FnOnce(*mut sys::llama_context, sys::llama_seq_id) -> T,
    ) -> Option<T> {
        match self.pieces {
            Pieces::Of(_) => {
                let start = sys::llama_pos::try_from(positions.start).ok()?;
                let end = sys::llama_pos::try_from(positions.end).ok()?;
                // SAFETY: llama.h: positions of a sequence of a live context, as another's.
                unsafe { sys::llama_memory_seq_cp(self.memory(), WHOLE, PIECE, start, end) };
                let done = act(self.handle.as_ptr(), PIECE);
                self.forget_piece();
                Some(done)
            }
            Pieces::Whole => {
                let is_all = self.positions(WHOLE).1 == positions.end;
                is_all.then(|| act(self.handle.as_ptr(), WHOLE))
            }
            Pieces::Never => None,
        }
    }

    fn forget_piece(&mut self) {
        // SAFETY: llama.h: the memory of a live context; the cells of another sequence stay
        // its own.
        unsafe { sys::llama_memory_seq_rm(self.memory(), PIECE, -1, -1) };
    }

    /// The first position of a sequence, and the one after its last; zeros if it is empty.
    fn positions(&self, sequence: sys::llama_seq_id) -> (usize, usize) {
        // SAFETY: llama.h: a getter; −1 for an empty sequence.
        let first = unsafe { sys::llama_memory_seq_pos_min(self.memory(), sequence) };
        // SAFETY: as above.
        let last = unsafe { sys::llama_memory_seq_pos_max(self.memory(), sequence) };
        let position = |position| usize::try_from(position).unwrap_or(0);
        (position(first), position(last + 1))
    }
}

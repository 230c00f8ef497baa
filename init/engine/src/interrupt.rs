//! How a request that has just arrived reaches work that is under way: atomics
//! that the reader thread writes, and that llama.cpp's abort callback reads
//! between two operations of a graph.
//!
//! Requests are numbered from 1 as they arrive, so that a cancellation names
//! what it ends: one that overtakes its turn in the queue is not lost, and one
//! that comes too late does not hit the next turn.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Number that no request reaches: nothing is under way.
const IDLE: u64 = u64::MAX;

/// What the reader thread and the engine's own thread share.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// Number of the latest request that arrived.
    latest: AtomicU64,
    /// Requests up to this number are cancelled.
    cancelled: AtomicU64,
    /// Number of the request being worked on, or [`IDLE`].
    current: AtomicU64,
    /// The other side is gone.
    closed: AtomicBool,
    /// How often work under way has asked whether to stop.
    asked: AtomicU64,
}

impl Interrupt {
    /// Nothing has arrived, nothing is under way.
    pub(crate) fn new() -> Self {
        Self {
            latest: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            current: AtomicU64::new(IDLE),
            closed: AtomicBool::new(false),
            asked: AtomicU64::new(0),
        }
    }

    /// A request has arrived: its number. Called by the reader alone.
    pub(crate) fn number_next(&self) -> u64 {
        self.latest.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All that has arrived so far is cancelled.
    pub(crate) fn cancel(&self) {
        self.cancelled
            .store(self.latest.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The other side is gone: everything ends.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether the other side is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Work on request `number` begins.
    pub(crate) fn begin(&self, number: u64) {
        self.current.store(number, Ordering::Relaxed);
    }

    /// Work has ended.
    pub(crate) fn end(&self) {
        self.current.store(IDLE, Ordering::Relaxed);
    }

    /// How often it has been asked whether to stop: a number that grows while work
    /// goes on.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether what is under way should stop now. Asked between any two steps, which
    /// is also the sign that they are taken.
    pub(crate) fn is_requested(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let current = self.current.load(Ordering::Relaxed);
        self.is_closed() || self.cancelled.load(Ordering::Relaxed) >= current
    }

    /// Whether a later request waits than the one being worked on.
    pub(crate) fn is_superseded(&self) -> bool {
        self.is_requested()
            || self.latest.load(Ordering::Relaxed) > self.current.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_that_overtakes_its_turn_is_kept() {
        let interrupt = Interrupt::new();
        let turn = interrupt.number_next();
        interrupt.cancel();
        interrupt.begin(turn);
        assert!(interrupt.is_requested());
        interrupt.end();
        assert!(!interrupt.is_requested(), "idle");
        let next = interrupt.number_next();
        interrupt.begin(next);
        assert!(!interrupt.is_requested(), "the next turn is not hit");
    }

    #[test]
    fn a_later_request_supersedes_and_does_not_interrupt() {
        let interrupt = Interrupt::new();
        let first = interrupt.number_next();
        interrupt.begin(first);
        assert!(!interrupt.is_superseded());
        interrupt.number_next();
        assert!(interrupt.is_superseded());
        assert!(!interrupt.is_requested());
        interrupt.close();
        assert!(interrupt.is_requested());
    }
}

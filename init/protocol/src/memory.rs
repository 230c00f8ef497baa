//! Memory has one owner: this table says how much of it each thing may take, so
//! that nothing a parameter, a prompt, a message, an answer or a paste asks for
//! can take what PID 1 needs to live.
//!
//! PID 1 keeps back an eighth of the machine for itself, and the engine's
//! private memory has what is left as its ceiling, which the kernel enforces.
//! Everything that comes from outside has a limit that is a share of the
//! machine, small enough that PID 1 can hold it as often as it does (a message is
//! in the transcript, in a copy of that and in the frame on its way).

use std::num::NonZero;

use serde::{Deserialize, Serialize};

/// The share of the machine's memory that cannot be promised to anybody: what
/// `vm.overcommit_ratio`, 95 percent, leaves out.
const UNPROMISED: NonZero<u64> = divisor(20);
/// What a machine is taken to have that does not tell.
const TOTAL_BYTES_DEFAULT: u64 = 2 << 30;

/// A share of the machine, within bounds.
struct Share {
    divisor: NonZero<u64>,
    least: u64,
    most: u64,
}

impl Share {
    fn of(&self, total: u64) -> u64 {
        (total / self.divisor).clamp(self.least, self.most)
    }
}

const fn divisor(parts: u64) -> NonZero<u64> {
    match NonZero::new(parts) {
        Some(parts) => parts,
        None => NonZero::<u64>::MIN,
    }
}

/// PID 1's own.
const RESERVE: Share = Share {
    divisor: divisor(8),
    least: 48 << 20,
    most: 1 << 30,
};
/// One prompt, one batch, one attached text.
const PROMPT: Share = Share {
    divisor: divisor(64),
    least: 1 << 20,
    most: 64 << 20,
};
/// A message to the engine: the whole conversation.
const REQUEST: Share = Share {
    divisor: divisor(32),
    least: 2 << 20,
    most: 128 << 20,
};
/// A message from the engine: at most the conversation, rendered.
const EVENT: Share = Share {
    divisor: divisor(32),
    least: 2 << 20,
    most: 128 << 20,
};
/// One answer, with the reasoning before it.
const ANSWER: Share = Share {
    divisor: divisor(256),
    least: 1 << 20,
    most: 16 << 20,
};
/// One paste at the prompt.
const PASTE: Share = Share {
    divisor: divisor(256),
    least: 1 << 20,
    most: 16 << 20,
};
/// What the line editor keeps to take back.
const UNDO: Share = Share {
    divisor: divisor(128),
    least: 2 << 20,
    most: 32 << 20,
};

/// How much memory each thing may take, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The engine's private memory: everything but the model's mapped file.
    pub engine_bytes: u64,
    /// One prompt, or one batch of them.
    pub prompt_bytes: u64,
    /// A message to the engine.
    pub request_bytes: u32,
    /// A message from the engine.
    pub event_bytes: u32,
    /// One answer.
    pub answer_bytes: u64,
    /// One paste.
    pub paste_bytes: u64,
    /// What the line editor keeps to take back.
    pub undo_bytes: u64,
}

impl Budget {
    /// For a machine of `total_bytes`; `None`: it does not tell.
    #[must_use]
    pub fn of(total_bytes: Option<u64>) -> Self {
        let total = total_bytes.unwrap_or(TOTAL_BYTES_DEFAULT);
        let promised = total.saturating_sub(total / UNPROMISED);
        let frame = |share: &Share| u32::try_from(share.of(total)).unwrap_or(u32::MAX);
        Self {
            engine_bytes: promised.saturating_sub(RESERVE.of(total)),
            prompt_bytes: PROMPT.of(total),
            request_bytes: frame(&REQUEST),
            event_bytes: frame(&EVENT),
            answer_bytes: ANSWER.of(total),
            paste_bytes: PASTE.of(total),
            undo_bytes: UNDO.of(total),
        }
    }

    /// A machine that has `engine_bytes` for the engine.
    #[must_use]
    pub fn machine_for(engine_bytes: u64) -> u64 {
        // A share of the whole is a larger share of what is left beside it.
        let reserve = (engine_bytes / divisor(6)).clamp(RESERVE.least, RESERVE.most);
        let promised = engine_bytes.saturating_add(reserve);
        promised.saturating_add(promised.div_ceil(UNPROMISED.get().saturating_sub(1)))
    }

    /// For this machine, as `/proc/meminfo` reads.
    #[must_use]
    pub fn of_meminfo(text: &str) -> Self {
        Self::of(meminfo_bytes(text, "MemTotal:"))
    }
}

/// The longest first message to an engine, which has yet to learn its limits:
/// [`crate::Request::Load`].
pub const LOAD_BYTES_MAX: u32 = 1 << 20;

/// MiB in a count of bytes, rounded up.
#[must_use]
pub fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// The value of one line of `/proc/meminfo` or `/proc/self/status`, bytes.
#[must_use]
pub fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:  2048 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(meminfo_bytes(text, "MemAvailable:"), Some(1 << 20));
        assert_eq!(meminfo_bytes(text, "SwapFree:"), None);
    }

    #[test]
    fn pid_1_can_hold_what_it_lets_in_beside_the_engine_at_its_ceiling() {
        for total in [256 << 20, 512 << 20, 1 << 30, 4 << 30, 1 << 40] {
            let budget = Budget::of(Some(total));
            let promised = total - total / UNPROMISED;
            let left = promised - budget.engine_bytes;
            // A prompt: as read, in the transcript, in a copy, and in a frame.
            let prompt = 3 * budget.prompt_bytes + u64::from(budget.request_bytes);
            assert!(prompt <= left, "{total}: {prompt} of {left}");
            let shown = budget.answer_bytes + u64::from(budget.event_bytes);
            assert!(
                shown + budget.paste_bytes + budget.undo_bytes <= left,
                "{total}"
            );
        }
    }

    #[test]
    fn a_machine_for_an_engine_holds_it() {
        for engine in [0, 1 << 20, 100 << 20, 1 << 30, 7 << 30, 8 << 30, 1 << 40] {
            let machine = Budget::machine_for(engine);
            assert!(Budget::of(Some(machine)).engine_bytes >= engine, "{engine}");
            assert!(machine <= engine + engine / 3 + (128 << 20), "{machine}");
        }
        assert_eq!(Budget::machine_for(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_smallest_and_the_largest_machine_have_a_budget() {
        for total in [None, Some(0), Some(1), Some(u64::MAX)] {
            let budget = Budget::of(total);
            assert!(budget.prompt_bytes >= 1 << 20, "{total:?}");
            assert!(budget.request_bytes >= LOAD_BYTES_MAX, "{total:?}");
        }
    }
}

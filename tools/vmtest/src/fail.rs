//! Ending a test with what was attempted.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

use crate::SOON;

/// Unwrapping with a sentence in front.
pub trait OrFail<T> {
    /// The value; else the test fails, saying that `attempt` did.
    fn or_fail(self, attempt: impl Display) -> T;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    #[track_caller]
    fn or_fail(self, attempt: impl Display) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{attempt}: {error}"),
        }
    }
}

impl<T> OrFail<T> for Option<T> {
    #[track_caller]
    fn or_fail(self, attempt: impl Display) -> T {
        match self {
            Some(value) => value,
            None => panic!("{attempt}: nothing there"),
        }
    }
}

/// Waits for what no output tells of; the test fails with `failure` if it does not come.
#[track_caller]
pub fn wait_until<F: Display>(mut holds: impl FnMut() -> bool, failure: impl Fn() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{}", failure());
        thread::sleep(Duration::from_millis(10));
    }
}

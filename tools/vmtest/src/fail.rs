//! Ending a test with what was attempted.

use std::fmt::Display;

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

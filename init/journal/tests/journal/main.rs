//! The format from outside: what is written is there again, whatever happens between.

#![expect(
    clippy::unwrap_used,
    clippy::many_single_char_names,
    reason = "in a test, a failure is to be seen"
)]

mod conversations;
mod damage;
mod power;
mod talk;

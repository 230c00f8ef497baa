//! The conversation: messages, how a model's chat template renders them, and
//! how an answer is told from the thinking before it.

#![forbid(unsafe_code)]
// No template and no text makes this panic: kept by the compiler, not by care.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

#[cfg(test)]
mod borrowed;
mod clock;
mod guard;
mod jinja;
mod reasoning;
mod template;

pub use guard::{Mark, Rendered, Segment};
pub use protocol::{Message, Role};
pub use reasoning::Splitter;
pub use template::{Next, Template, TemplateParams};

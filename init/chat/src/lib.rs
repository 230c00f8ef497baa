//! The conversation: messages, how a model's chat template renders them, and
//! how an answer is told from the thinking before it.

#![forbid(unsafe_code)]

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

//! The conversation: messages, how a model's chat template renders them, and
//! how an answer is told from the thinking before it.

mod guard;
mod jinja;
mod reasoning;
mod template;
mod transcript;

pub(crate) use guard::{Mark, Rendered, Segment};
pub(crate) use reasoning::Splitter;
pub(crate) use template::{Next, Template, TemplateParams};
pub(crate) use transcript::{Message, Role};

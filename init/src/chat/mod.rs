//! The conversation: messages, and how a model's chat template renders them.

mod transcript;

pub(crate) use transcript::{Message, Role};

//! Where a conversation is likely to go on otherwise: before its last message, which can
//! be edited, taken back or asked again, and before the answer, which can be made again,
//! or be rendered without its reasoning from then on.

use super::prompter::Prompter;
use super::sequence::common_prefix;
use super::vocab::Token;
use chat::{Message, Next, Role};

/// How many of `tokens`, which are those of `messages` up to `next`, come before each.
/// They end with the last message, whatever was put in the place of earlier answers.
pub(crate) fn borders(
    prompter: &Prompter<'_>,
    messages: &[Message],
    next: Next,
    tokens: &[Token],
) -> Vec<usize> {
    let Some((last, earlier)) = messages.split_last() else {
        return Vec::new();
    };
    let common = |messages: &[Message], next| {
        let other = prompter.prompt(messages, next).ok()?;
        Some(common_prefix(&other.tokens, tokens))
    };
    let other = if last.text.starts_with('a') { "b" } else { "a" };
    let other = Message::new(last.role, other);
    let asked = common(&[earlier, &[other]].concat(), next);
    let answered = || {
        let [answer, question] = [Role::Assistant, Role::User].map(|role| Message::new(role, "a"));
        let going_on = [messages, &[answer, question]].concat();
        // One token is left for its logits.
        let last = tokens.len().saturating_sub(1);
        Some(common(&going_on, Next::Typing).unwrap_or(last).min(last))
    };
    let answered = if next == Next::Answer {
        answered()
    } else {
        None
    };
    asked.into_iter().chain(answered).collect()
}

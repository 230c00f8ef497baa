//! What was said: questions and answers in turn, and never an answer with
//! nothing in it, which some chat templates refuse for ever after.

use protocol::{Message, Role};

/// A conversation, without its system prompt.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Transcript {
    messages: Vec<Message>,
    /// The answer that another is to replace.
    before: Vec<Message>,
}

impl Transcript {
    /// The messages, oldest first.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The messages after `system`, if there is such a prompt, as a model is to
    /// see them: where it only thought, the thought is what it said.
    pub(crate) fn after(&self, system: &str) -> Vec<Message> {
        let system = Some(system).filter(|text| !text.is_empty());
        let first = system.map(|text| Message::new(Role::System, text));
        first
            .into_iter()
            .chain(self.messages.iter().map(as_said))
            .collect()
    }

    /// Whether the last message is a question without an answer.
    pub(crate) fn is_open(&self) -> bool {
        self.messages.last().is_some_and(|m| m.role == Role::User)
    }

    /// The user says `text`.
    pub(crate) fn ask(&mut self, text: impl Into<String>) {
        self.before.clear();
        self.messages.push(Message::new(Role::User, text));
    }

    /// The model says `answer`. One with nothing in it is not kept: `false`.
    pub(crate) fn answer(&mut self, answer: Message) -> bool {
        let says = !answer.text.is_empty() || answer.reasoning.is_some();
        if says {
            self.messages.push(answer);
            self.before.clear();
        }
        says
    }

    /// Puts the answer to the last question aside for another; `false` if there is no
    /// question.
    pub(crate) fn reopen(&mut self) -> bool {
        let question = self.messages.iter().rposition(|m| m.role == Role::User);
        let Some(question) = question else {
            return false;
        };
        let answer = self.messages.split_off(question.saturating_add(1));
        if !answer.is_empty() {
            self.before = answer;
        }
        true
    }

    /// Puts back the answer that was to be replaced; `false`: there was none.
    pub(crate) fn put_back(&mut self) -> bool {
        let has = self.is_open() && !self.before.is_empty();
        if has {
            self.messages.append(&mut self.before);
        }
        has
    }

    /// Takes back the last question and its answer; returns its text.
    pub(crate) fn take_back(&mut self) -> Option<String> {
        self.reopen();
        self.before.clear();
        self.messages.pop().map(|question| question.text)
    }

    /// Forgets the oldest question and its answer; returns its text.
    pub(crate) fn drop_oldest(&mut self) -> Option<String> {
        let mut later = self.messages.iter().skip(1);
        let next = later.position(|m| m.role == Role::User);
        let end = next.map_or(self.messages.len(), |index| index.saturating_add(1));
        let oldest = self.messages.drain(..end).next();
        if self.messages.is_empty() {
            self.before.clear();
        }
        oldest.map(|oldest| oldest.text)
    }

    /// Is from now on what these messages say.
    pub(crate) fn restore(&mut self, messages: Vec<Message>) {
        self.before.clear();
        self.messages = messages;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.before.clear();
        self.messages.clear();
    }
}

fn as_said(message: &Message) -> Message {
    match &message.reasoning {
        Some(thought) if message.text.is_empty() => Message::new(message.role, thought),
        _ => message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Transcript {
        let mut transcript = Transcript::default();
        for (index, text) in texts.iter().enumerate() {
            if index % 2 == 0 {
                transcript.ask(*text);
            } else {
                assert!(transcript.answer(Message::new(Role::Assistant, *text)));
            }
        }
        transcript
    }

    #[test]
    fn an_answer_with_nothing_in_it_is_not_kept_and_a_thought_is() {
        let mut transcript = of(&["a"]);
        assert!(!transcript.answer(Message::new(Role::Assistant, "")));
        assert!(transcript.is_open());
        let mut thought = Message::new(Role::Assistant, "");
        thought.reasoning = Some("hm".to_owned());
        assert!(transcript.answer(thought));
        assert_eq!(transcript.messages().len(), 2);
        assert_eq!(transcript.after("")[1].text, "hm");
    }

    #[test]
    fn turns_are_taken_back_from_either_end() {
        let mut transcript = of(&["a", "A", "b", "B"]);
        assert_eq!(transcript.take_back().as_deref(), Some("b"));
        assert_eq!(transcript, of(&["a", "A"]));
        let mut transcript = of(&["a", "A", "b"]);
        assert_eq!(transcript.drop_oldest().as_deref(), Some("a"));
        assert_eq!(transcript, of(&["b"]));
        assert_eq!(transcript.drop_oldest().as_deref(), Some("b"));
        assert_eq!(transcript.drop_oldest(), None);
        assert_eq!(transcript.take_back(), None);
        let mut transcript = of(&["a", "A"]);
        assert!(transcript.reopen());
        assert_eq!(transcript.messages(), of(&["a"]).messages());
        assert!(!of(&[]).reopen());
    }

    #[test]
    fn an_answer_that_is_not_replaced_is_put_back_once() {
        let whole = of(&["a", "A", "b", "B"]);
        let mut transcript = of(&["a", "A", "b", "B"]);
        assert!(!transcript.put_back());
        assert!(transcript.reopen() && transcript.reopen() && transcript.put_back());
        assert_eq!(transcript, whole);
        assert!(!transcript.put_back());
        assert!(transcript.reopen());
        assert!(transcript.answer(Message::new(Role::Assistant, "C")));
        assert!(!transcript.put_back());
        assert_eq!(transcript.messages()[3].text, "C");
        for forget in [
            |transcript: &mut Transcript| drop(transcript.take_back()),
            |transcript: &mut Transcript| transcript.clear(),
            |transcript: &mut Transcript| transcript.restore(Vec::new()),
            |transcript: &mut Transcript| while transcript.drop_oldest().is_some() {},
        ] {
            let mut transcript = of(&["a", "A", "b", "B"]);
            assert!(transcript.reopen());
            forget(&mut transcript);
            transcript.ask("c");
            assert!(!transcript.put_back());
        }
    }

    #[test]
    fn a_system_prompt_comes_first_if_there_is_one() {
        let transcript = of(&["a"]);
        assert_eq!(transcript.after(""), transcript.messages());
        let after = transcript.after("Be brief.");
        assert_eq!(after[0], Message::new(Role::System, "Be brief."));
        assert_eq!(after[1..], *transcript.messages());
    }
}

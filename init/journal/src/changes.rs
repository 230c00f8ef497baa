//! What happens to conversations: a record each.

use protocol::Message;

use crate::chats::{ChatId, Model};
use crate::error::Error;
use crate::journal::Journal;
use crate::record::{Fork, Record, Turn};

impl Journal {
    /// Begins a conversation, which is the current one.
    ///
    /// # Errors
    /// The disk's; so have all that follow, and [`Error::NoChat`].
    pub fn begin(&mut self) -> Result<ChatId, Error> {
        let chat = self.contents.next_chat();
        self.append(Record::Begin { chat })?;
        Ok(chat)
    }

    /// A question was answered; the context has so many tokens now.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn turn(
        &mut self,
        chat: ChatId,
        question: &Message,
        answer: &Message,
        tokens: u64,
    ) -> Result<(), Error> {
        self.chat(chat).ok_or(Error::NoChat)?;
        self.append(Record::Turn {
            chat,
            question: question.clone(),
            answer: answer.clone(),
            tokens,
        })
    }

    /// The last question was answered in another way.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn answer(&mut self, chat: ChatId, answer: &Message, tokens: u64) -> Result<(), Error> {
        let last = self.turns_of(chat)?.next_back().ok_or(Error::NoChat)?;
        self.append(Record::Answer {
            chat,
            turn: last.question,
            answer: answer.clone(),
            tokens,
        })
    }

    /// The last turn is taken back.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn take_back(&mut self, chat: ChatId) -> Result<(), Error> {
        let last = self.turns_of(chat)?.next_back().ok_or(Error::NoChat)?;
        self.forget(chat, vec![last.question])
    }

    /// The first turn is forgotten.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn drop_oldest(&mut self, chat: ChatId) -> Result<(), Error> {
        let first = self.turns_of(chat)?.next().ok_or(Error::NoChat)?;
        self.forget(chat, vec![first.question])
    }

    /// All turns are forgotten.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn clear(&mut self, chat: ChatId) -> Result<(), Error> {
        let turns = self.turns_of(chat)?.map(|turn| turn.question).collect();
        self.forget(chat, turns)
    }

    fn forget(&mut self, chat: ChatId, turns: Vec<u64>) -> Result<(), Error> {
        self.append(Record::Forget { chat, turns })
    }

    fn turns_of(&self, chat: ChatId) -> Result<impl DoubleEndedIterator<Item = Turn>, Error> {
        Ok(self.chat(chat).ok_or(Error::NoChat)?.turn_records())
    }

    /// The system prompt is another one; empty for none.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn system(&mut self, chat: ChatId, text: &str) -> Result<(), Error> {
        self.chat(chat).ok_or(Error::NoChat)?;
        let text = text.to_owned();
        self.append(Record::System { chat, text })
    }

    /// A parameter is set, or with `None` is its default again.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn set(&mut self, chat: ChatId, name: &str, value: Option<&str>) -> Result<(), Error> {
        self.chat(chat).ok_or(Error::NoChat)?;
        self.append(Record::Set {
            chat,
            name: name.to_owned(),
            value: value.map(str::to_owned),
        })
    }

    /// This model answers from now on.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn model(&mut self, chat: ChatId, model: &Model) -> Result<(), Error> {
        self.chat(chat).ok_or(Error::NoChat)?;
        let model = model.clone();
        self.append(Record::Model { chat, model })
    }

    /// Gives a conversation a title; `None` for its first words.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn rename(&mut self, chat: ChatId, title: Option<&str>) -> Result<(), Error> {
        self.chat(chat).ok_or(Error::NoChat)?;
        let title = title.map(str::to_owned);
        self.append(Record::Rename { chat, title })
    }

    /// Begins a conversation with the first `turns` turns of another one, its system
    /// prompt, parameters and model; it is the current one.
    ///
    /// # Errors
    /// As [`begin`](Self::begin); there are fewer turns.
    pub fn fork(&mut self, from: ChatId, turns: usize) -> Result<ChatId, Error> {
        let source = self.chat(from).ok_or(Error::NoChat)?;
        if turns > source.turns() {
            return Err(Error::NoChat);
        }
        let chat = self.contents.next_chat();
        // Of an evaluated context nobody knows where a turn ends.
        let all = turns == source.turns();
        let context = if all { source.context() } else { &[] };
        let fork = Fork {
            chat,
            from,
            turns: source.turn_records().take(turns).collect(),
            tokens: source.tokens_after(turns),
            system: source.system.clone(),
            parameters: source.parameters.clone(),
            model: source.model.clone(),
            context: context.to_vec(),
        };
        self.append(Record::Fork(fork))?;
        Ok(chat)
    }

    /// Goes on with another conversation.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn switch(&mut self, chat: ChatId) -> Result<(), Error> {
        self.chat(chat).ok_or(Error::NoChat)?;
        self.append(Record::Switch { chat })
    }

    /// A line was typed, in a conversation with which it is deleted.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn line(&mut self, chat: Option<ChatId>, text: &str) -> Result<(), Error> {
        let text = text.to_owned();
        self.append(Record::Line { chat, text })
    }
}

//! `/read`: texts that go with the next message, before what is typed. They are read
//! when they are named, told in one line each, and sized by the engine, one after the
//! other, whenever it is ready.

use std::collections::VecDeque;

use texts::Document;

use super::{Chat, show};
use crate::attached::{self, Text};
use crate::session::Phase;
use protocol::Size;

/// Names in the line that tells what is attached; the rest is counted.
const NAMED_MAX: usize = 4;

/// What was read and not sent yet.
#[derive(Debug, Default)]
pub(super) struct Reading {
    next: Vec<Document>,
    waiting: VecDeque<Sizing>,
    asked: Option<Sizing>,
}

/// What the engine is asked the size of.
#[derive(Debug)]
enum Sizing {
    /// A text that could be read.
    Listed(Text),
    /// One that was, by its name.
    Read(String),
    /// The next message as far as it is known.
    Next,
    /// Something that is not to be told any more when its size comes.
    Forgotten,
}

impl Sizing {
    fn is_listed(&self) -> bool {
        matches!(self, Self::Listed(_))
    }
}

impl Reading {
    /// Bytes that go before what is typed.
    pub(super) fn bytes(&self) -> usize {
        self.next.iter().map(|document| document.text.len()).sum()
    }

    /// What is typed as the message that it would be.
    pub(super) fn with(&self, typed: &str) -> String {
        texts::compose(&self.next, typed)
    }

    /// The message to send: nothing is left for the one after it.
    pub(super) fn take_with(&mut self, typed: &str) -> String {
        let message = self.with(typed);
        self.forget();
        message
    }

    /// The engine has gone that was asked for a size.
    pub(super) fn is_not_sized(&mut self) {
        self.asked = None;
    }

    fn forget(&mut self) {
        self.next.clear();
        self.waiting.retain(Sizing::is_listed);
        if let Some(asked) = self.asked.as_mut().filter(|asked| !asked.is_listed()) {
            *asked = Sizing::Forgotten;
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.next.iter().map(|d| d.name.as_str()).collect();
        names.join(", ")
    }
}

impl Chat {
    /// Tells what the user attached, and what of it cannot be read.
    pub(super) fn tell_attached(&mut self) {
        for why in self.models.unread() {
            self.screen.complain(why);
        }
        let given = self.models.texts().iter().filter(|text| text.is_given);
        let mut names: Vec<&str> = given.map(|text| text.name.as_str()).collect();
        if names.is_empty() {
            return;
        }
        let more = match names.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        names.truncate(NAMED_MAX);
        self.screen.quiet(&format!(
            "attached: {}{more}; /read NAME puts one into your next message",
            names.join(", ")
        ));
    }

    /// `/read`, with what stands behind it.
    pub(super) fn read(&mut self, operand: &str) {
        match operand {
            "" => self.list_texts(),
            "none" => {
                self.screen.quiet("the next message goes without reading");
                self.reading.forget();
            }
            names => self.read_named(names),
        }
    }

    fn list_texts(&mut self) {
        self.models.look_again();
        for why in self.models.unread() {
            self.screen.complain(why);
        }
        if self.models.texts().is_empty() {
            let option = if self.host.is_machine() {
                "run.sh --attach FILE"
            } else {
                "--attach FILE"
            };
            let line = format!("nothing is attached: {option} does that");
            return self.screen.tell(&line);
        }
        if !self.reading.next.is_empty() {
            let line = format!("with your next message: {}", self.reading.names());
            self.screen.tell(&line);
        }
        match self.session.phase() {
            Phase::Idle | Phase::Gone => {
                for text in self.models.texts() {
                    let line = format!("{:>9} bytes   {}", text.bytes, text.name);
                    self.screen.tell(&line);
                }
                return;
            }
            Phase::Ready => {}
            Phase::Loading | Phase::Answering => {
                self.screen
                    .quiet("their tokens are counted as soon as the model is ready");
            }
        }
        let listed = self.models.texts().iter().cloned().map(Sizing::Listed);
        self.reading.waiting.retain(|sizing| !sizing.is_listed());
        self.reading.waiting.extend(listed);
    }

    fn read_named(&mut self, operand: &str) {
        self.models.look_again();
        for name in attached::split_names(self.models.texts(), operand) {
            if let Err(why) = self.read_one(&name) {
                self.screen.complain(&why);
            }
        }
        if !self.reading.next.is_empty() {
            self.reading.waiting.push_back(Sizing::Next);
        }
    }

    fn read_one(&mut self, name: &str) -> Result<(), String> {
        let text = attached::find(self.models.texts(), name)?;
        if self.reading.next.iter().any(|d| d.name == text.name) {
            return Err(format!("{} goes with your next message already", text.name));
        }
        let read = u64::try_from(self.reading.bytes()).unwrap_or(u64::MAX);
        let left = self.session.budget().prompt_bytes.saturating_sub(read);
        let reading = text.read(left)?;
        for line in &reading.notices {
            self.screen.tell(line);
        }
        let name = reading.document.name.clone();
        if self.session.phase() != Phase::Ready {
            let line = format!(
                "{name} · {} bytes · goes with your next message",
                text.bytes
            );
            self.screen.quiet(&line);
        }
        self.reading.next.push(reading.document);
        self.reading.waiting.push_back(Sizing::Read(name));
        Ok(())
    }

    /// Has the next text sized, if the engine has time for it.
    pub(super) fn size_texts(&mut self) {
        while self.reading.asked.is_none() && self.session.phase() == Phase::Ready {
            let Some(sizing) = self.reading.waiting.pop_front() else {
                return;
            };
            if self.ask_size(&sizing) {
                self.reading.asked = Some(sizing);
            }
        }
    }

    fn ask_size(&mut self, sizing: &Sizing) -> bool {
        match sizing {
            Sizing::Listed(text) => match text.read(self.session.budget().prompt_bytes) {
                Ok(reading) => self.session.size(texts::compose(&[reading.document], "")),
                Err(why) => {
                    self.screen.tell(&format!("                 {why}"));
                    false
                }
            },
            Sizing::Read(name) => {
                let mut next = self.reading.next.iter();
                let document = next.find(|document| document.name == *name);
                document.is_some_and(|document| {
                    let text = texts::compose(std::slice::from_ref(document), "");
                    self.session.size(text)
                })
            }
            Sizing::Next => self.session.size_next(self.reading.with("")),
            Sizing::Forgotten => false,
        }
    }

    /// The engine has counted.
    pub(super) fn on_sized(&mut self, size: &Size) {
        let tokens = match (size.message_tokens, self.session.info()) {
            (Some(tokens), _) => tokens.to_string(),
            (None, Some(info)) => format!("more than {}", info.ctx_tokens),
            (None, None) => "many".to_owned(),
        };
        match self.reading.asked.take() {
            Some(Sizing::Listed(text)) => {
                self.screen
                    .tell(&format!("{tokens:>9} tokens  {}", text.name));
            }
            Some(Sizing::Read(name)) => {
                let line = format!("{name} · {tokens} tokens · goes with your next message");
                self.screen.quiet(&line);
            }
            Some(Sizing::Next) => {
                if let Some(refused) = &size.refused {
                    self.screen.complain(&self.host.words(&refused.to_string()));
                    let room = if self.session.messages().is_empty() {
                        ""
                    } else {
                        ", and /drop forgets the oldest messages"
                    };
                    let line = format!("/read none leaves out what was read{room}");
                    self.screen.tell(&line);
                }
            }
            Some(Sizing::Forgotten) | None => {}
        }
        if self.reading.waiting.is_empty() {
            // Counting has ended the draft that was under way.
            self.drafts.forget();
        }
    }

    /// What was typed of a message that was taken back; what was read with it goes with
    /// the next one, unless something else has been read since.
    pub(super) fn take_apart(&mut self, message: &str) -> String {
        let (documents, line) = texts::split(message);
        if documents.is_empty() {
            return line.to_owned();
        }
        if self.reading.next.is_empty() {
            self.reading.next = documents.iter().map(Document::to_owned).collect();
            let names = self.reading.names();
            self.screen
                .quiet(&format!("{names} goes with your next message again"));
        } else {
            let first = show::first_line(message);
            self.screen
                .quiet(&format!("what was read for it is not kept: {first}"));
        }
        self.drafts.forget();
        line.to_owned()
    }
}

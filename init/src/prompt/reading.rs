//! `/read`: texts that go with the next message, before what is typed. They are read
//! when they are named, told in one line each, and sized by the engine, one after the
//! other, whenever it is ready.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use texts::Document;

use super::errands::Next;
use super::{Chat, show};
use crate::attached::{self, Text};
use crate::errand::Errand;
use crate::session::Phase;
use protocol::Size;

/// Names in the line that tells what is attached; the rest is counted.
const NAMED_MAX: usize = 4;

/// What was read and not sent yet.
#[derive(Debug, Default)]
pub(super) struct Reading {
    next: Vec<Document>,
    waiting: VecDeque<Sizing>,
    /// One of those that are listed, which is being read.
    fetched: Option<(Text, Errand<Result<attached::Reading, String>>)>,
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

    fn has(&self, text: &Text) -> bool {
        self.next.iter().any(|document| document.name == text.name)
    }

    /// What to poll to learn that a text has been read that can be sized then.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        let fetched = self.fetched.as_ref().filter(|_| self.asked.is_none());
        fetched.map(|(_, errand)| errand.fd())
    }

    /// The text that is listed next, if it has been read.
    fn take_fetched(&mut self) -> Option<(Text, Result<attached::Reading, String>)> {
        let (text, errand) = self.fetched.take()?;
        match errand.end() {
            Ok(read) => Some((text, read)),
            Err(errand) => {
                self.fetched = Some((text, errand));
                None
            }
        }
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
    pub(super) fn read(&mut self, operand: String) {
        if operand == "none" {
            self.screen.quiet("the next message goes without reading");
            self.reading.forget();
        } else {
            self.look_and(Next::Read(operand));
        }
    }

    pub(super) fn list_texts(&mut self) {
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
        let fetched = self.reading.fetched.as_ref().map(|(text, _)| text);
        let texts = self.models.texts().iter();
        let listed = texts
            .filter(|text| fetched != Some(*text))
            .cloned()
            .map(Sizing::Listed);
        self.reading.waiting.retain(|sizing| !sizing.is_listed());
        self.reading.waiting.extend(listed);
    }

    pub(super) fn read_named(&mut self, operand: &str) {
        let mut texts: Vec<Text> = Vec::new();
        for name in attached::split_names(self.models.texts(), operand) {
            match attached::find(self.models.texts(), &name) {
                Ok(text) if self.reading.has(text) || texts.contains(text) => {
                    let name = &text.name;
                    let line = format!("{name} goes with your next message already");
                    self.screen.complain(&line);
                }
                Ok(text) => texts.push(text.clone()),
                Err(why) => self.screen.complain(&why),
            }
        }
        if texts.is_empty() {
            return;
        }
        let read = u64::try_from(self.reading.bytes()).unwrap_or(u64::MAX);
        let left = self.session.budget().prompt_bytes.saturating_sub(read);
        self.read_texts(texts, left);
    }

    /// Texts have been read, or cannot be.
    pub(super) fn take_texts(&mut self, texts: Vec<(Text, Result<attached::Reading, String>)>) {
        for (text, read) in texts {
            match read {
                Ok(reading) => self.take_text(&text, reading),
                Err(why) => self.screen.complain(&why),
            }
        }
        if !self.reading.next.is_empty() {
            self.reading.waiting.push_back(Sizing::Next);
        }
    }

    fn take_text(&mut self, text: &Text, reading: attached::Reading) {
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
    }

    /// What to poll for [`Chat::size_texts`].
    pub(super) fn reading_fd(&self) -> Option<BorrowedFd<'_>> {
        let is_ready = self.session.phase() == Phase::Ready;
        self.reading.fd().filter(|_| is_ready)
    }

    /// Has the next text sized, if the engine has time for it.
    pub(super) fn size_texts(&mut self) {
        while self.reading.asked.is_none() && self.session.phase() == Phase::Ready {
            let Some((sizing, message)) = self.next_to_size() else {
                return;
            };
            let is_asked = match sizing {
                Sizing::Next => self.session.size_next(message),
                _ => self.session.size(message),
            };
            if is_asked {
                self.reading.asked = Some(sizing);
            }
        }
    }

    /// The next text, and the message to be sized for it.
    fn next_to_size(&mut self) -> Option<(Sizing, String)> {
        loop {
            if let Some(read) = self.reading.take_fetched() {
                match read {
                    (text, Ok(reading)) => {
                        let message = texts::compose(&[reading.document], "");
                        return Some((Sizing::Listed(text), message));
                    }
                    (_, Err(why)) => self.screen.tell(&format!("                 {why}")),
                }
            }
            // Those that are listed one after the other, and no other waits for them.
            let is_next = |sizing: &Sizing| self.reading.fetched.is_none() || !sizing.is_listed();
            let next = self.reading.waiting.iter().position(is_next)?;
            match self.reading.waiting.remove(next)? {
                Sizing::Listed(text) => {
                    let (read, most) = (text.clone(), self.session.budget().prompt_bytes);
                    match Errand::start(move || read.read(most)) {
                        Ok(errand) => self.reading.fetched = Some((text, errand)),
                        Err(why) => self.screen.complain(&why),
                    }
                }
                Sizing::Read(name) => {
                    let mut next = self.reading.next.iter();
                    if let Some(document) = next.find(|document| document.name == name) {
                        let message = texts::compose(std::slice::from_ref(document), "");
                        return Some((Sizing::Read(name), message));
                    }
                }
                Sizing::Next => return Some((Sizing::Next, self.reading.with(""))),
                Sizing::Forgotten => {}
            }
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
        if self.reading.waiting.is_empty() && self.reading.fetched.is_none() {
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

//! Commands that read disks. While one is at it the line is closed, keys wait, and Ctrl-C
//! gives it up.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::{Chat, show};
use crate::attached::{self, Reading, Text};
use crate::disk::{self, Choice, ModelFile};
use crate::errand::Errand;

/// A disk that answers within this time is not told to be waited for.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What the line waits for.
pub(super) enum Waits {
    /// The disks to be looked at; then this is done.
    Look(Next),
    /// A model's header to be checked; then it is loaded.
    Check(Box<ModelFile>, Errand<Result<(), String>>),
    /// Texts to be read.
    Read(Errand<Vec<(Text, Result<Reading, String>)>>),
}

/// What is done when the disks have been looked at.
#[derive(Debug)]
pub(super) enum Next {
    /// `/model`, with what stands behind it.
    Model(Option<String>),
    /// `/read`, with names or without.
    Read(String),
    /// A message is asked, of the model that was looked for.
    Ask(String),
    /// The last one is asked again.
    Regen,
}

impl Chat {
    /// Has the disks looked at, and then does that.
    pub(super) fn look_and(&mut self, next: Next) {
        if self.models.look_again() {
            self.find_models(AT_ONCE);
        }
        if self.models.is_looking() {
            self.hold_for(Waits::Look(next), "looking at the disks");
        } else {
            self.go_on(next);
        }
    }

    fn go_on(&mut self, next: Next) {
        match next {
            Next::Model(None) => show::models(&mut self.screen, &self.session, &self.models),
            Next::Model(Some(name)) => self.check_model(&name),
            Next::Read(names) if names.is_empty() => self.list_texts(),
            Next::Read(names) => self.read_named(&names),
            Next::Ask(message) => self.ask_now(message),
            Next::Regen => self.regenerate(),
        }
    }

    fn hold_for(&mut self, waits: Waits, what: &str) {
        self.waits = Some(waits);
        self.screen.hold(&format!("{what}; Ctrl-C gives up"));
    }

    /// What would be refused is, while the model in use still is.
    fn check_model(&mut self, name: &str) {
        match self.models.choose(Some(name)) {
            Ok(Choice::One(model)) => {
                let (model, checked) = (model.clone(), model.clone());
                match Errand::start(move || disk::header_of(&checked).map(drop)) {
                    Ok(errand) => match errand.wait(AT_ONCE) {
                        Ok(checked) => self.load(model, checked),
                        Err(errand) => {
                            let what = format!("looking at {}", model.name);
                            self.hold_for(Waits::Check(Box::new(model), errand), &what);
                        }
                    },
                    Err(why) => self.screen.complain(&why),
                }
            }
            Ok(Choice::Several(_)) => self.screen.complain(&format!(
                "{name} names several models; give the device or the path"
            )),
            Err(e) => self.screen.complain(&e.to_string()),
        }
    }

    /// Has texts read that have room for so many bytes together.
    pub(super) fn read_texts(&mut self, texts: Vec<Text>, bytes_max: u64) {
        let names: Vec<&str> = texts.iter().map(|text| text.name.as_str()).collect();
        let what = format!("reading {}", names.join(", "));
        match Errand::start(move || attached::read_each(texts, bytes_max).collect()) {
            Ok(errand) => match errand.wait(AT_ONCE) {
                Ok(texts) => self.take_texts(texts),
                Err(errand) => self.hold_for(Waits::Read(errand), &what),
            },
            Err(why) => self.screen.complain(&why),
        }
    }

    /// What to poll to learn that the disk has answered.
    pub(super) fn errand_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let waits = match &self.waits {
            Some(Waits::Check(_, errand)) => Some(errand.fd()),
            Some(Waits::Read(errand)) => Some(errand.fd()),
            Some(Waits::Look(_)) | None => None,
        };
        let look = self.models.awaited().map(|(fd, _)| fd);
        waits.into_iter().chain(look).chain(self.reading_fd())
    }

    pub(super) fn look_due(&self) -> Option<Duration> {
        self.models.awaited().and_then(|(_, patience)| patience)
    }

    /// Goes on when the disk has answered; `false`: it has not.
    pub(super) fn take_errands(&mut self) -> bool {
        let Some(waits) = self.waits.take() else {
            return false;
        };
        let unfinished = match waits {
            Waits::Look(next) if self.models.is_looking() => Some(Waits::Look(next)),
            Waits::Look(next) => {
                self.go_on(next);
                None
            }
            Waits::Check(model, errand) => match errand.end() {
                Ok(checked) => {
                    self.load(*model, checked);
                    None
                }
                Err(errand) => Some(Waits::Check(model, errand)),
            },
            Waits::Read(errand) => match errand.end() {
                Ok(texts) => {
                    self.take_texts(texts);
                    None
                }
                Err(errand) => Some(Waits::Read(errand)),
            },
        };
        if unfinished.is_some() {
            self.waits = unfinished;
            return false;
        }
        // What was gone on with may wait for a disk itself.
        self.release();
        true
    }

    fn load(&mut self, model: ModelFile, checked: Result<(), String>) {
        match checked {
            // The checksum that was given is the first model's.
            Ok(()) => {
                let draft = self.models.draft_for(&model);
                self.session.load(model, None, draft);
            }
            Err(why) => self.screen.complain(&format!("{}: {why}", model.name)),
        }
    }

    /// Ctrl-C while a command reads a disk: it is given up. `false`: none does.
    pub(super) fn stop_errand(&mut self) -> bool {
        let Some(waits) = self.waits.take() else {
            return false;
        };
        self.release();
        self.screen.quiet(match &waits {
            Waits::Look(Next::Ask(_) | Next::Regen) => "stopped before the answer began",
            Waits::Look(_) => "the disks were not looked at",
            Waits::Check(..) => "the model in use stays",
            Waits::Read(_) => "nothing was read",
        });
        if let Waits::Look(Next::Ask(message)) = waits {
            self.give_back(&message);
        }
        true
    }
}

//! Which models there are, found while the prompt is already open, and which of
//! them is meant, to answer or to guess ahead: the same in the machine and in the plain
//! command.

use std::mem;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::attached::Text;
use protocol::{PartFile, Start};

use crate::disk::{self, Choice, DiskError, Finder, Found, ModelFile, Watch};
use crate::errand::Errand;
use crate::host::{Host, warn};

/// Disks appear within milliseconds; a hot-plugged one has this long.
const DISK_DEADLINE: Duration = Duration::from_secs(5);
/// How often devices are looked for while none has a model.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A disk that has not answered for this long is told of.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where nobody can be asked, it is given up after this time.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// The models of this machine, or of the path that was given.
pub(crate) struct Models {
    host: Host,
    wanted: Wanted,
    /// What looks on disks, if there are any to look on.
    finder: Option<Arc<Mutex<Finder>>>,
    look: Look,
    /// The disk that is being looked at.
    at: Watch,
    found: Found,
    /// A line for each model that cannot be used, where others can.
    passed: Vec<String>,
    settled: bool,
}

/// Whether the disks are being looked at.
enum Look {
    /// They are to be.
    Due,
    /// They are.
    UnderWay {
        errand: Errand<Looked>,
        /// That of which it was told that it does not answer.
        told: Option<String>,
    },
    /// They have been.
    Done,
}

/// What was found, and a line for each model that is passed over.
type Looked = (Found, Vec<String>);

/// Which models are asked for.
#[derive(Clone)]
struct Wanted {
    /// `zosia.model` or `--model`.
    model: Option<String>,
    /// `zosia.draft_model` or `--draft-model`.
    draft: Option<String>,
}

impl Wanted {
    /// Looks until there is what is wanted, or for so long.
    fn look_on_disks(&self, finder: &mut Finder, patience: Duration) -> Looked {
        let began = Instant::now();
        loop {
            let found = finder.scan();
            if self.is_there(&found, began.elapsed(), patience) {
                return self.pass_over_unusable(found, &finder.at);
            }
            sleep(LOOK_EVERY);
        }
    }

    fn is_there(&self, found: &Found, elapsed: Duration, patience: Duration) -> bool {
        let is_settled = |found: &Found, wanted: &Option<String>| {
            Finder::is_settled(found, wanted.as_deref(), elapsed, patience)
        };
        let mut others = found.clone();
        others
            .models
            .retain(|model| !self.is_draft(&found.models, model));
        is_settled(&others, &self.model) && (self.draft.is_none() || is_settled(found, &self.draft))
    }

    /// One that is asked for by its name is not passed over.
    fn pass_over_unusable(&self, mut found: Found, at: &Watch) -> Looked {
        if self.model.is_some() {
            return (found, Vec::new());
        }
        let draft = self.draft(&found.models).and_then(Result::ok).cloned();
        found.models.retain(|model| draft.as_ref() != Some(model));
        let passed = found.pass_over_unusable(at);
        found.models.extend(draft);
        (found, passed)
    }

    /// The model that is to guess ahead, if one is asked for, or why there is none.
    fn draft<'m>(&self, models: &'m [ModelFile]) -> Option<Result<&'m ModelFile, String>> {
        let wanted = self.draft.as_deref()?;
        Some(match disk::choose(models, Some(wanted)) {
            Ok(Choice::One(model)) => Ok(model),
            Ok(Choice::Several(_)) => Err(format!(
                "{wanted} names several models; give the device or the path [ZE-22]"
            )),
            Err(e) => Err(e.to_string()),
        })
    }

    fn is_draft(&self, models: &[ModelFile], model: &ModelFile) -> bool {
        self.draft(models) == Some(Ok(model))
    }
}

fn unanswered(disk: &str, waited: Duration) -> String {
    let seconds = waited.as_secs();
    format!("{disk} has not answered for {seconds} s; check the disk, or take it away [ZE-23]")
}

impl Models {
    /// Looks on every disk until there is what is wanted, or a deadline has passed.
    pub(crate) fn on_disks(host: Host, finder: Finder, start: &Start) -> Self {
        Self {
            at: finder.at.clone(),
            finder: Some(Arc::new(Mutex::new(finder))),
            ..Self::given(host, Found::default(), start)
        }
    }

    /// These and no others.
    pub(crate) fn given(host: Host, found: Found, start: &Start) -> Self {
        Self {
            host,
            wanted: Wanted {
                model: start.model.clone(),
                draft: start.draft_model.clone(),
            },
            finder: None,
            look: Look::Due,
            at: Watch::default(),
            found,
            passed: Vec::new(),
            settled: false,
        }
    }

    /// What to poll to learn that the disks have been looked at, and how long to wait for
    /// that before [`Models::late`] tells something.
    pub(crate) fn awaited(&self) -> Option<(BorrowedFd<'_>, Option<Duration>)> {
        let Look::UnderWay { errand, told } = &self.look else {
            return None;
        };
        let patience = match self.at.get() {
            Some((disk, _)) if told.as_ref() == Some(&disk) => None,
            Some((_, silence)) => Some(PATIENCE.saturating_sub(silence)),
            None => Some(PATIENCE),
        };
        Some((errand.fd(), patience))
    }

    /// Whether they are being looked at, or are to be.
    pub(crate) fn is_looking(&self) -> bool {
        !matches!(self.look, Look::Done)
    }

    /// Whether they have been looked at before.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Looks, and waits so long for that; `true`, once each time, when it is known what
    /// there is.
    ///
    /// # Errors
    /// One line: it cannot be looked.
    pub(crate) fn look(&mut self, within: Duration) -> Result<bool, String> {
        if matches!(self.look, Look::Due) {
            self.look = Look::Done;
            let Some(finder) = self.finder.clone() else {
                let found = mem::take(&mut self.found);
                (self.found, self.passed) = self.wanted.pass_over_unusable(found, &self.at);
                self.settled = true;
                return Ok(true);
            };
            self.look = self.begin_look(finder)?;
        }
        let Look::UnderWay { errand, told } = mem::replace(&mut self.look, Look::Done) else {
            return Ok(false);
        };
        match errand.wait(within) {
            Ok((found, passed)) => {
                (self.found, self.passed, self.settled) = (found, passed, true);
                Ok(true)
            }
            Err(errand) => {
                self.look = Look::UnderWay { errand, told };
                Ok(false)
            }
        }
    }

    fn begin_look(&self, finder: Arc<Mutex<Finder>>) -> Result<Look, String> {
        let wanted = self.wanted.clone();
        let patience = if self.settled {
            Duration::ZERO
        } else {
            DISK_DEADLINE
        };
        let errand = Errand::start(move || {
            let mut finder = finder.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.look_on_disks(&mut finder, patience)
        })?;
        Ok(Look::UnderWay { errand, told: None })
    }

    /// A line, once for each disk that keeps everything waiting.
    pub(crate) fn late(&mut self) -> Option<String> {
        let Look::UnderWay { told, .. } = &mut self.look else {
            return None;
        };
        let (disk, silence) = self.at.get()?;
        if silence < PATIENCE || told.as_ref() == Some(&disk) {
            return None;
        }
        let line = unanswered(&disk, silence);
        *told = Some(disk);
        Some(line)
    }

    /// The disks that were attached or taken away since are to be looked for; whether
    /// there is a [`Models::look`] to wait for.
    pub(crate) fn look_again(&mut self) -> bool {
        if self.finder.is_some() && !self.is_looking() {
            self.look = Look::Due;
        }
        self.is_looking()
    }

    /// Waits until it is known which models there are.
    ///
    /// # Errors
    /// One line: a disk does not answer.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        while !self.settled {
            self.look(PATIENCE)?;
            if let Some(line) = self.late() {
                warn(&line);
            }
            if let Some((disk, silence)) = self.at.get()
                && silence >= PATIENCE_MAX
            {
                return Err(unanswered(&disk, silence));
            }
        }
        Ok(())
    }

    /// The files of the model that guesses ahead for `model`, or why there is none, if one
    /// is asked for.
    pub(crate) fn draft_for(&self, model: &ModelFile) -> Option<Result<Vec<PartFile>, String>> {
        let draft = self.wanted.draft(&self.found.models)?;
        Some(draft.and_then(|draft| {
            if draft.path == model.path {
                return Err(format!(
                    "{} is the model that answers; name another [ZE-19]",
                    draft.name
                ));
            }
            Ok(draft.files())
        }))
    }

    /// A line for each model that cannot be used, where others can.
    pub(crate) fn passed(&self) -> &[String] {
        &self.passed
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[ModelFile] {
        &self.found.models
    }

    /// The texts that were found beside them.
    pub(crate) fn texts(&self) -> &[Text] {
        &self.found.texts
    }

    /// Why what was attached cannot be read, a line each.
    pub(crate) fn unread(&self) -> &[String] {
        &self.found.unread
    }

    /// What was refused, a line each.
    pub(crate) fn notes(&self) -> &[String] {
        &self.found.notes
    }

    /// Picks the one that is called `name`; without one that which was asked
    /// for at the start, or the only one, or the only one that is not to guess ahead.
    ///
    /// # Errors
    /// [`DiskError`]: none, or none of that name.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<Choice<'_>, DiskError> {
        if self.found.models.is_empty() {
            let patience = self
                .finder
                .as_ref()
                .map_or(Duration::ZERO, |_| DISK_DEADLINE);
            self.found.clone().or_why_not(patience)?;
        }
        let choice = disk::choose(&self.found.models, name.or(self.wanted.model.as_deref()))?;
        let Choice::Several(mut models) = choice else {
            return Ok(choice);
        };
        models.retain(|model| !self.wanted.is_draft(&self.found.models, model));
        Ok(match models.as_slice() {
            [one] => Choice::One(one),
            _ => Choice::Several(models),
        })
    }

    /// The one to use where nobody can be asked.
    ///
    /// # Errors
    /// One line: there is none, none of that name, or several.
    pub(crate) fn only(&mut self) -> Result<ModelFile, String> {
        self.settle()?;
        for line in &self.passed {
            warn(line);
        }
        match self.choose(None) {
            Ok(Choice::One(model)) => Ok(model.clone()),
            Ok(Choice::Several(models)) => {
                let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
                Err(format!(
                    "there are several models, {}; {} NAME says which [ZE-22]",
                    names.join(", "),
                    self.host.option("model")
                ))
            }
            Err(e) => Err(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::disk::Origin;

    fn found(names: &[&str]) -> Found {
        let model = |name: &&str| ModelFile {
            path: format!("/models/{name}").into(),
            name: (*name).to_owned(),
            bytes: 1,
            rest: Vec::new(),
            device: None,
            label: None,
            origin: Origin::Given,
        };
        Found {
            models: names.iter().map(model).collect(),
            ..Found::default()
        }
    }

    fn only(names: &[&str], wanted: Option<&str>) -> Result<String, String> {
        let chosen = given(names, wanted, None).only();
        chosen.map(|model| model.name)
    }

    fn given(names: &[&str], model: Option<&str>, draft: Option<&str>) -> Models {
        let start = Start {
            model: model.map(str::to_owned),
            draft_model: draft.map(str::to_owned),
            ..Start::default()
        };
        Models::given(Host::Command, found(names), &start)
    }

    #[test]
    fn the_one_that_guesses_ahead_is_named_and_the_other_answers() {
        let chosen = |names: &[&str], model, draft| {
            let mut models = given(names, model, Some(draft));
            let model = models.only()?;
            let draft = models.draft_for(&model).unwrap();
            let files = |files: Vec<PartFile>| files.iter().map(|f| f.path.clone()).collect();
            Ok::<(String, Result<Vec<_>, _>), String>((model.name, draft.map(files)))
        };
        let both = || Ok(("big.gguf".to_owned(), Ok(vec!["/models/small.gguf".into()])));
        assert_eq!(chosen(&["big.gguf", "small.gguf"], None, "small"), both());
        assert_eq!(
            chosen(&["small.gguf", "big.gguf"], None, "/models/small.gguf"),
            both()
        );
        let three = ["a.gguf", "big.gguf", "small.gguf"];
        assert_eq!(chosen(&three, Some("big"), "small"), both());
        let several = chosen(&three, None, "small").unwrap_err();
        assert!(several.contains("a.gguf, big.gguf; --model"), "{several}");

        let (model, draft) = chosen(&["big.gguf"], None, "small").unwrap();
        assert_eq!(model, "big.gguf");
        assert!(draft.unwrap_err().contains("no model is called \"small\""));
        // A model that is not there is not asked for in vain.
        let (model, draft) = chosen(&["small.gguf"], None, "small").unwrap();
        assert_eq!(model, "small.gguf");
        assert!(
            draft
                .unwrap_err()
                .starts_with("small.gguf is the model that answers")
        );
        assert_eq!(
            given(&["a.gguf"], None, None).draft_for(&found(&["a"]).models[0]),
            None
        );
    }

    #[test]
    fn a_disk_that_does_not_answer_keeps_nobody_waiting() {
        let root = std::env::temp_dir().join(format!("zosia-stalled-{}", std::process::id()));
        let sys = root.join("sys/class/block/vda");
        fs::create_dir_all(&sys).unwrap();
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::write(sys.join("size"), "8\n").unwrap();
        // Opening a pipe waits for its other end.
        let disk = root.join("dev/vda");
        mknodat(CWD, &disk, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let finder = Finder::with_roots(root.join("sys"), root.join("dev"), |_, _| {
            unreachable!("nothing is mounted")
        });
        let mut models = Models::on_disks(Host::Command, finder, &Start::default());
        let is_at = |at: &Watch| at.get().is_some_and(|(name, _)| name == "vda");
        while !is_at(&models.at) {
            assert_eq!(models.look(Duration::ZERO), Ok(false));
        }
        assert!(models.look_again(), "it is still being looked at");
        assert_eq!(models.look(Duration::ZERO), Ok(false));
        assert_eq!(models.late(), None, "it has not waited for long");
        let (name, _) = models.at.get().unwrap();
        let since = Instant::now().checked_sub(PATIENCE).unwrap();
        models.at.set(Some((name.clone(), since)));
        let line = models.late().unwrap();
        assert!(line.starts_with("vda has not answered for 5 s;"), "{line}");
        assert_eq!(models.late(), None, "it is told once");
        models.at.set(Some(("vdb".to_owned(), since)));
        assert!(models.late().unwrap().starts_with("vdb has not answered"));
        models.at.set(Some((name, since)));

        // It answers now: a pipe has no place to read at.
        let _other_end = File::options().write(true).open(&disk).unwrap();
        while !models.look(Duration::ZERO).unwrap() {}
        assert_eq!(models.at.get(), None, "nothing is looked at any more");
        let notes = models.notes();
        assert!(notes[0].contains("vda cannot be read"), "{notes:?}");
        assert_eq!(models.look(Duration::ZERO), Ok(false), "it is told once");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn one_model_is_used_and_of_several_the_one_that_is_named() {
        assert_eq!(only(&["a.gguf"], None).as_deref(), Ok("a.gguf"));
        assert_eq!(
            only(&["a.gguf", "b.gguf"], Some("b")).as_deref(),
            Ok("b.gguf")
        );
        let several = only(&["a.gguf", "b.gguf"], None).unwrap_err();
        assert_eq!(
            several,
            "there are several models, a.gguf, b.gguf; --model NAME says which [ZE-22]"
        );
        assert!(only(&["a.gguf"], Some("c")).unwrap_err().contains("a.gguf"));
        assert!(only(&[], None).is_err());
    }
}

//! Which models there are, found while the prompt is already open, and which of
//! them is meant, to answer or to guess ahead: the same in the machine and in the plain
//! command.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::attached::Text;
use protocol::{PartFile, Start};

use crate::disk::{self, Choice, DiskError, Finder, Found, ModelFile};
use crate::host::{Host, warn};

/// Disks appear within milliseconds; a hot-plugged one has this long.
const DISK_DEADLINE: Duration = Duration::from_secs(5);
/// How often devices are looked for while none has a model.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The models of this machine, or of the path that was given.
pub(crate) struct Models {
    host: Host,
    /// `zosia.model` or `--model`.
    wanted: Option<String>,
    /// `zosia.draft_model` or `--draft-model`.
    draft: Option<String>,
    search: Option<Search>,
    found: Found,
    /// A line for each model that cannot be used, where others can.
    passed: Vec<String>,
    settled: bool,
}

struct Search {
    finder: Finder,
    began: Instant,
}

impl Models {
    /// Looks on every disk until there is what is wanted, or a deadline has passed.
    pub(crate) fn on_disks(host: Host, finder: Finder, start: &Start) -> Self {
        let began = Instant::now();
        Self {
            search: Some(Search { finder, began }),
            ..Self::given(host, Found::default(), start)
        }
    }

    /// These and no others.
    pub(crate) fn given(host: Host, found: Found, start: &Start) -> Self {
        Self {
            host,
            wanted: start.model.clone(),
            draft: start.draft_model.clone(),
            search: None,
            found,
            passed: Vec::new(),
            settled: false,
        }
    }

    /// How long to wait before the next [`Models::look`]; `None`: no need.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        (!self.settled).then_some(LOOK_EVERY)
    }

    /// Looks once, unless it is known already; `true`, once, when it becomes
    /// known.
    pub(crate) fn look(&mut self) -> bool {
        if self.settled {
            return false;
        }
        self.settled = true;
        if let Some(search) = &mut self.search {
            self.found = search.finder.scan();
            let elapsed = search.began.elapsed();
            let is_settled = |found: &Found, wanted: Option<&str>| {
                Finder::is_settled(found, wanted, elapsed, DISK_DEADLINE)
            };
            let mut others = self.found.clone();
            others.models.retain(|model| !self.is_draft(model));
            self.settled = is_settled(&others, self.wanted.as_deref())
                && (self.draft.is_none() || is_settled(&self.found, self.draft.as_deref()));
        }
        if self.settled {
            self.pass_over_unusable();
        }
        self.settled
    }

    /// One that is asked for by its name is not passed over.
    fn pass_over_unusable(&mut self) {
        if self.wanted.is_none() {
            let draft = self.draft().and_then(Result::ok).cloned();
            self.found
                .models
                .retain(|model| draft.as_ref() != Some(model));
            self.passed = self.found.pass_over_unusable();
            self.found.models.extend(draft);
        }
    }

    /// The model that is to guess ahead, if one is asked for, or why there is none.
    fn draft(&self) -> Option<Result<&ModelFile, String>> {
        let wanted = self.draft.as_deref()?;
        Some(match disk::choose(&self.found.models, Some(wanted)) {
            Ok(Choice::One(model)) => Ok(model),
            Ok(Choice::Several(_)) => Err(format!(
                "{wanted} names several models; give the device or the path [ZE-22]"
            )),
            Err(e) => Err(e.to_string()),
        })
    }

    fn is_draft(&self, model: &ModelFile) -> bool {
        self.draft() == Some(Ok(model))
    }

    /// The files of the model that guesses ahead for `model`, or why there is none, if one
    /// is asked for.
    pub(crate) fn draft_for(&self, model: &ModelFile) -> Option<Result<Vec<PartFile>, String>> {
        let draft = self.draft()?;
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

    /// Looks again, for disks that were attached or taken away since.
    pub(crate) fn look_again(&mut self) {
        if let Some(search) = &mut self.search {
            self.found = search.finder.scan();
            self.pass_over_unusable();
        }
    }

    /// A line for each model that cannot be used, where others can.
    pub(crate) fn passed(&self) -> &[String] {
        &self.passed
    }

    /// Waits until it is known which models there are.
    pub(crate) fn settle(&mut self) {
        while !self.settled && !self.look() {
            sleep(LOOK_EVERY);
        }
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
                .search
                .as_ref()
                .map_or(Duration::ZERO, |_| DISK_DEADLINE);
            self.found.clone().or_why_not(patience)?;
        }
        let choice = disk::choose(&self.found.models, name.or(self.wanted.as_deref()))?;
        let Choice::Several(mut models) = choice else {
            return Ok(choice);
        };
        models.retain(|model| !self.is_draft(model));
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
        self.settle();
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

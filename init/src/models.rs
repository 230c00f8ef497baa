//! Which models there are, found while the prompt is already open, and which of
//! them is meant: the same in the machine and in the plain command.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::attached::Text;
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
    /// Looks on every disk until there is one, or a deadline has passed.
    pub(crate) fn on_disks(host: Host, finder: Finder, wanted: Option<String>) -> Self {
        let began = Instant::now();
        Self {
            host,
            wanted,
            search: Some(Search { finder, began }),
            found: Found::default(),
            passed: Vec::new(),
            settled: false,
        }
    }

    /// These and no others.
    pub(crate) fn given(host: Host, found: Found, wanted: Option<String>) -> Self {
        Self {
            host,
            wanted,
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
            let wanted = self.wanted.as_deref();
            self.settled = Finder::is_settled(&self.found, wanted, elapsed, DISK_DEADLINE);
        }
        if self.settled {
            self.pass_over_unusable();
        }
        self.settled
    }

    /// One that is asked for by its name is not passed over.
    fn pass_over_unusable(&mut self) {
        if self.wanted.is_none() {
            self.passed = self.found.pass_over_unusable();
        }
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
    /// for at the start, or the only one.
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
        disk::choose(&self.found.models, name.or(self.wanted.as_deref()))
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
        let wanted = wanted.map(str::to_owned);
        let chosen = Models::given(Host::Command, found(names), wanted).only();
        chosen.map(|model| model.name)
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

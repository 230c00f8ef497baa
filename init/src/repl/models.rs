//! Which models there are, found while the prompt is already open.

use std::time::{Duration, Instant};

use crate::disk::{self, Choice, DiskError, Finder, Found, ModelFile};

/// The models of this machine, or of the path that was given.
pub(crate) struct Models {
    search: Option<Search>,
    found: Found,
    settled: bool,
}

struct Search {
    finder: Finder,
    began: Instant,
    deadline: Duration,
}

impl Models {
    /// Looks on every disk until there is one, or the deadline has passed.
    pub(crate) fn on_disks(finder: Finder, deadline: Duration) -> Self {
        Self {
            search: Some(Search {
                finder,
                began: Instant::now(),
                deadline,
            }),
            found: Found::default(),
            settled: false,
        }
    }

    /// These and no others.
    pub(crate) fn given(found: Found) -> Self {
        Self {
            search: None,
            found,
            settled: false,
        }
    }

    /// How long to wait before the next [`Models::look`]; `None`: no need.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        (!self.settled).then_some(Duration::from_millis(20))
    }

    /// Looks once, unless it is known already; `true`, once, when it becomes
    /// known.
    pub(crate) fn look(&mut self, wanted: Option<&str>) -> bool {
        if self.settled {
            return false;
        }
        if let Some(search) = &mut self.search {
            self.found = search.finder.scan();
            let elapsed = search.began.elapsed();
            self.settled = Finder::is_settled(&self.found, wanted, elapsed, search.deadline);
        } else {
            self.settled = true;
        }
        self.settled
    }

    /// Looks again, for disks that were attached since.
    pub(crate) fn look_again(&mut self) {
        if let Some(search) = &mut self.search {
            self.found = search.finder.scan();
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[ModelFile] {
        &self.found.models
    }

    /// What was refused, a line each.
    pub(crate) fn notes(&self) -> &[String] {
        &self.found.notes
    }

    /// Picks one, by its name or because it is the only one.
    ///
    /// # Errors
    /// [`DiskError`]: none, or none of that name.
    pub(crate) fn choose(&self, wanted: Option<&str>) -> Result<Choice<'_>, DiskError> {
        if self.found.models.is_empty() {
            let patience = self.search.as_ref().map_or(Duration::ZERO, |s| s.deadline);
            self.found.clone().or_why_not(patience)?;
        }
        disk::choose(&self.found.models, wanted)
    }
}

//! How many threads compute, as `threads=auto` means it: as many as give the most.
//! Beside a busy neighbour fewer can be faster, and it comes and goes; a scheduler
//! tells nobody what it will do. So it is measured, batch by batch: as long as a
//! batch takes what it took before, nothing is tried; when that changes, and now
//! and then while not all threads are used, another number is tried for a moment
//! and kept if it is faster.
//!
//! Pure arithmetic: it knows neither clocks nor threads.

use std::ops::Range;
use std::time::Duration;

/// Of the time before, what another number must save to be kept.
const GAIN: f64 = 0.05;

/// How much slower or faster, in parts of the time before, means that something has
/// changed.
const CHANGE: f64 = 0.2;

/// Share of the latest window in the running mean of what a batch takes.
const NEW: f64 = 0.25;

/// Threads for the batches of a context.
#[derive(Debug)]
pub(crate) struct Crew {
    tokens: Count,
    batches: Count,
    /// Tokens of a batch that counts as a single token, as it is one of each sequence,
    /// and of one that is as long as they get.
    widths: Range<usize>,
}

#[derive(Debug)]
enum Count {
    Fixed(u32),
    Measured(Headcount),
}

impl Count {
    fn threads(&self) -> u32 {
        match self {
            Self::Fixed(threads) => *threads,
            Self::Measured(headcount) => headcount.threads(),
        }
    }
}

impl Crew {
    /// As many threads as are asked for: for single tokens, and for longer batches,
    /// which are at most `widths.end` tokens long; a token of each sequence is
    /// `widths.start`. Without a number, up to `processors`; without one for batches,
    /// what holds for tokens.
    pub(crate) fn new(
        tokens: Option<u32>,
        batches: Option<u32>,
        processors: u32,
        widths: Range<usize>,
    ) -> Self {
        Self {
            tokens: tokens.map_or_else(
                || Count::Measured(Headcount::for_tokens(processors)),
                Count::Fixed,
            ),
            batches: batches.or(tokens).map_or_else(
                || Count::Measured(Headcount::for_batches(processors)),
                Count::Fixed,
            ),
            widths,
        }
    }

    /// Threads for a batch of `width` tokens.
    pub(crate) fn threads(&mut self, width: usize) -> u32 {
        if width == self.widths.start {
            return self.tokens.threads();
        }
        match (&mut self.batches, &self.tokens) {
            (Count::Measured(batches), Count::Measured(tokens)) => {
                batches.begin_with(tokens.settled());
                if width < self.widths.end {
                    batches.settled()
                } else {
                    batches.threads()
                }
            }
            (batches, _) => batches.threads(),
        }
    }

    /// Whether [`Self::took`] wants to know what a batch of `width` tokens took of
    /// the processors.
    pub(crate) fn wants_cpu_time(&self, width: usize) -> bool {
        match (&self.tokens, &self.batches) {
            (Count::Measured(tokens), _) if width == self.widths.start => tokens.is_new,
            (_, Count::Measured(_)) => width == self.widths.end,
            _ => false,
        }
    }

    /// A batch of `width` tokens took so long with [`Self::threads`].
    pub(crate) fn took(&mut self, width: usize, time: Duration, cpu_time: Option<Duration>) {
        match (&mut self.tokens, &mut self.batches) {
            (Count::Measured(tokens), _) if width == self.widths.start => {
                tokens.took(time, cpu_time);
            }
            (_, Count::Measured(batches)) if width == self.widths.end => {
                batches.took(time, cpu_time);
            }
            _ => {}
        }
    }
}

/// Of the processors' time, what threads that are alone get at least.
const ALONE: f64 = 0.85;

/// How long a number is looked at before it is judged, and how long before that: a
/// scheduler remembers for a tenth of a second who had what.
#[derive(Debug, Clone, Copy)]
struct Window {
    batches: u32,
    seconds: f64,
    skipped_seconds: f64,
}

/// Chooses the number of threads for batches of one kind.
#[derive(Debug)]
struct Headcount {
    max: u32,
    window: Window,
    /// Windows between two trials, at least and at most.
    pauses: (u32, u32),
    /// The number that has been the fastest.
    settled: u32,
    /// What a batch takes with it, in seconds.
    level: Option<f64>,
    /// Nothing is known yet.
    is_new: bool,
    /// What is tried instead.
    trial: Option<u32>,
    /// Something has changed for which no better number has been found.
    suspicious: bool,
    /// Windows since the last trial, and how many there must be.
    waited: u32,
    pause: u32,
    /// Trials so far: they take turns.
    trials: usize,
    batches: u32,
    seconds: f64,
    /// What is still to be skipped after a change.
    skip_seconds: f64,
}

impl Headcount {
    /// For single tokens, up to `max` threads.
    fn for_tokens(max: u32) -> Self {
        let window = Window {
            batches: 4,
            seconds: 0.25,
            skipped_seconds: 0.15,
        };
        Self::new(max, window, (4, 32))
    }

    /// For batches that take long, up to `max` threads.
    fn for_batches(max: u32) -> Self {
        let window = Window {
            batches: 1,
            seconds: 0.0,
            skipped_seconds: 0.0,
        };
        Self::new(max, window, (2, 16))
    }

    fn new(max: u32, window: Window, pauses: (u32, u32)) -> Self {
        Self {
            max,
            window,
            pauses,
            settled: max,
            level: None,
            is_new: true,
            trial: None,
            suspicious: false,
            waited: 0,
            pause: 1,
            trials: 0,
            batches: 0,
            seconds: 0.0,
            skip_seconds: 0.0,
        }
    }

    /// Threads for the next batch.
    fn threads(&self) -> u32 {
        self.trial.unwrap_or(self.settled)
    }

    /// The number that has been the fastest so far.
    fn settled(&self) -> u32 {
        self.settled
    }

    /// Begins with what is known of batches of another kind.
    fn begin_with(&mut self, threads: u32) {
        if self.level.is_none() && self.batches == 0 {
            self.settled = threads.clamp(1, self.max);
        }
    }

    /// A batch took so long with [`Self::threads`], and so much of the processors.
    fn took(&mut self, time: Duration, cpu_time: Option<Duration>) {
        if self.max == 1 {
            return;
        }
        let wanted = time.as_secs_f64() * f64::from(self.threads());
        // Threads that are not alone: somebody may be here already.
        self.suspicious |= cpu_time.is_some_and(|time| time.as_secs_f64() < wanted * ALONE);
        if self.skip_seconds > 0.0 {
            self.skip_seconds -= time.as_secs_f64();
            return;
        }
        self.batches += 1;
        self.seconds += time.as_secs_f64();
        if self.batches < self.window.batches {
            return;
        }
        self.is_new = false;
        if self.seconds < self.window.seconds {
            return;
        }
        let mean = self.seconds / f64::from(self.batches);
        self.batches = 0;
        self.seconds = 0.0;
        match self.trial.take() {
            Some(tried) => self.judge(tried, mean),
            None => self.observe(mean),
        }
    }

    fn judge(&mut self, tried: u32, mean: f64) {
        self.waited = 0;
        self.skip_seconds = self.window.skipped_seconds;
        if self.level.is_some_and(|level| mean < level * (1.0 - GAIN)) {
            self.settled = tried;
            self.level = Some(mean);
            self.suspicious = true;
            self.pause = self.pauses.0;
            return;
        }
        if self.pause >= self.pauses.1 {
            self.suspicious = false;
        }
        // What was much slower is not tried again soon.
        let is_far = self
            .level
            .is_some_and(|level| mean > level * (1.0 + CHANGE));
        let longer = if is_far { 8 } else { 2 };
        self.pause = (self.pause * longer).clamp(self.pauses.0, self.pauses.1);
    }

    fn observe(&mut self, mean: f64) {
        self.waited += 1;
        let changed = |level: f64| mean > level * (1.0 + CHANGE) || mean < level * (1.0 - CHANGE);
        self.level = Some(match self.level {
            Some(level) if changed(level) => {
                self.suspicious |= mean > level;
                self.pause = 1;
                mean
            }
            Some(level) => level + (mean - level) * NEW,
            None => mean,
        });
        let is_due = self.suspicious || self.settled < self.max;
        if is_due && self.waited >= self.pause {
            self.trial = self.other();
            self.trials += 1;
            self.skip_seconds = self.window.skipped_seconds;
        }
    }

    /// What to try next: more and fewer in turn, and of each a little, twice, and all
    /// there is.
    fn other(&self) -> Option<u32> {
        let now = self.settled;
        let more = [now + 1, now * 2, self.max];
        let fewer = [now - 1, now / 2, 1];
        let is_other = |other: &u32| *other != now && (1..=self.max).contains(other);
        let pick = |others: [u32; 3], turn: usize| {
            let others: Vec<u32> = others.into_iter().filter(is_other).collect();
            others.get(turn % others.len().max(1)).copied()
        };
        if self.trials.is_multiple_of(2) {
            pick(more, self.trials / 2).or_else(|| pick(fewer, self.trials))
        } else {
            pick(fewer, self.trials / 2).or_else(|| pick(more, self.trials))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes through `batches` batches, each as long as `seconds` says for a number of
    /// threads: how many were computed with each number.
    fn go(headcount: &mut Headcount, batches: usize, seconds: impl Fn(u32) -> f64) -> Vec<usize> {
        let mut counts = vec![0; headcount.max as usize + 1];
        for _ in 0..batches {
            let threads = headcount.threads();
            counts[threads as usize] += 1;
            let time = Duration::from_secs_f64(seconds(threads));
            headcount.took(time, Some(time * threads));
        }
        counts
    }

    const QUIET: fn(u32) -> f64 = |threads| 0.01 / f64::from(threads) + 0.001;
    /// Whoever needs the last processor waits for it.
    const BUSY: fn(u32) -> f64 = |threads| if threads == 4 { 0.02 } else { QUIET(threads) };

    #[test]
    fn nothing_is_tried_on_a_quiet_machine() {
        let mut headcount = Headcount::for_tokens(4);
        assert_eq!(go(&mut headcount, 1000, QUIET), [0, 0, 0, 0, 1000]);
        // A longer context takes longer, little by little.
        for tokens in 0..1000 {
            assert_eq!(headcount.threads(), 4);
            let longer = 1.0 + 0.001 * f64::from(tokens);
            headcount.took(Duration::from_secs_f64(QUIET(4) * longer), None);
        }
    }

    #[test]
    fn a_thread_is_given_back_when_a_neighbour_comes_and_taken_again_when_it_goes() {
        let mut headcount = Headcount::for_tokens(4);
        go(&mut headcount, 400, QUIET);
        let counts = go(&mut headcount, 10_000, BUSY);
        assert_eq!(headcount.settled(), 3);
        assert!(counts[3] > 8000, "{counts:?}");
        let counts = go(&mut headcount, 10_000, QUIET);
        assert_eq!(headcount.settled(), 4);
        assert!(counts[4] > 8000, "{counts:?}");
    }

    #[test]
    fn a_neighbour_that_was_here_before_is_noticed() {
        let mut headcount = Headcount::for_tokens(2);
        for _ in 0..80 {
            let slow = if headcount.threads() == 2 { 20 } else { 10 };
            headcount.took(Duration::from_millis(slow), Some(Duration::from_millis(10)));
        }
        assert_eq!(headcount.settled(), 1, "within a second");
    }

    #[test]
    fn a_change_that_no_number_mends_ends_in_peace() {
        let mut headcount = Headcount::for_tokens(4);
        go(&mut headcount, 400, QUIET);
        let slow = |threads| 3.0 * QUIET(threads);
        go(&mut headcount, 10_000, slow);
        assert_eq!(go(&mut headcount, 1000, slow), [0, 0, 0, 0, 1000]);
    }

    #[test]
    fn long_batches_begin_with_what_tokens_have_taught() {
        let mut crew = Crew::new(None, None, 2, 1..128);
        assert_eq!((crew.threads(1), crew.threads(128)), (2, 2));
        for _ in 0..100 {
            let slow = if crew.threads(1) == 2 { 20 } else { 10 };
            let time = Duration::from_millis(slow);
            crew.took(1, time, Some(time));
        }
        assert_eq!(crew.threads(1), 1);
        assert_eq!(crew.threads(128), 1);
        // What they measure themselves counts more.
        for _ in 0..10 {
            let threads = crew.threads(128);
            let time = Duration::from_millis(100);
            crew.took(128, time / threads, Some(time));
        }
        assert_eq!(crew.threads(128), 2);
        assert_eq!(crew.threads(16), 2);
    }

    #[test]
    fn a_number_is_that_number() {
        let mut crew = Crew::new(Some(3), None, 8, 1..128);
        for width in [1, 8, 128] {
            crew.took(width, Duration::from_secs(1), None);
            assert_eq!(crew.threads(width), 3);
        }
        let mut apart = Crew::new(Some(3), Some(5), 8, 1..128);
        assert_eq!((apart.threads(1), apart.threads(4)), (3, 5));
    }
}

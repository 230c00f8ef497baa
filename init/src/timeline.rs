//! What happened when, since the machine was switched on or the command began.
//!
//! The kernel's clock knows nothing of the firmware's time. The processor's
//! counter does, and only the engine may read it: so that step is known once a
//! model is loaded.

use std::fmt::Write as _;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Steps and when they were done.
#[derive(Debug)]
pub(crate) struct Timeline {
    is_machine: bool,
    /// What the kernel's clock said when this began.
    zero: Duration,
    steps: Vec<(&'static str, Duration)>,
}

impl Timeline {
    /// PID 1's, which begins with the kernel's clock: the kernel's work is done.
    pub(crate) fn of_machine() -> Self {
        let mut timeline = Self {
            is_machine: true,
            zero: Duration::ZERO,
            steps: Vec::new(),
        };
        timeline.mark("kernel");
        timeline
    }

    /// The plain command's, which begins now.
    pub(crate) fn of_command() -> Self {
        Self {
            is_machine: false,
            zero: now(),
            steps: Vec::new(),
        }
    }

    /// `step` is done. Its first time counts.
    pub(crate) fn mark(&mut self, step: &'static str) {
        if self.steps.iter().all(|(name, _)| *name != step) {
            self.steps.push((step, now().saturating_sub(self.zero)));
        }
    }

    /// A line for each step: when it was done, and how long it took.
    /// `before_kernel` is the time before the kernel's clock, if that is known.
    pub(crate) fn table(&self, before_kernel: Option<Duration>) -> String {
        let mut table = String::new();
        let mut before = Duration::ZERO;
        let mut line = |step: &str, at: Duration| {
            let (at_s, took_s) = (at.as_secs_f64(), at.saturating_sub(before).as_secs_f64());
            before = at;
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{at_s:>9.3} s  +{took_s:>7.3} s  {step}");
        };
        let offset = before_kernel.unwrap_or_default();
        if before_kernel.is_some() {
            line("firmware", offset);
        }
        for (step, at) in &self.steps {
            line(step, offset.saturating_add(*at));
        }
        if self.is_machine && before_kernel.is_none() {
            table.push_str(
                "counted from the kernel's start: the firmware's time is known once a model is \
                 loaded\n",
            );
        }
        table
    }
}

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(is_machine: bool) -> Timeline {
        Timeline {
            is_machine,
            zero: Duration::ZERO,
            steps: vec![
                ("kernel", Duration::from_millis(500)),
                ("prompt", Duration::from_millis(620)),
            ],
        }
    }

    #[test]
    fn steps_are_counted_from_the_power_button_where_that_is_known() {
        assert_eq!(
            timeline(true).table(Some(Duration::from_millis(1250))),
            "    1.250 s  +  1.250 s  firmware\n\
             \x20   1.750 s  +  0.500 s  kernel\n\
             \x20   1.870 s  +  0.120 s  prompt\n"
        );
        let unknown = timeline(true).table(None);
        assert!(unknown.starts_with("    0.500 s  +  0.500 s  kernel\n"));
        assert!(unknown.contains("the firmware's time is known once"));
        assert!(!timeline(false).table(None).contains("firmware"));
    }

    #[test]
    fn a_command_counts_from_its_own_start_and_each_step_once() {
        let mut timeline = Timeline::of_command();
        timeline.mark("prompt");
        timeline.mark("prompt");
        assert_eq!(timeline.steps.len(), 1);
        assert!(timeline.steps[0].1 < Duration::from_secs(60));
    }
}

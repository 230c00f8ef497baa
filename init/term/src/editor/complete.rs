//! Tab: one candidate is taken, several are offered and cycled through.

use super::{Completer, Completion, Cycle, Editor, Outcome};

impl Editor {
    pub(super) fn complete(
        &mut self,
        cycle: Option<Cycle>,
        forward: bool,
        completer: &Completer<'_>,
    ) -> Outcome {
        if let Some(mut cycle) = cycle {
            let last = cycle.candidates.len().saturating_sub(1);
            let chosen = match (cycle.chosen, forward) {
                (None | Some(0), false) => last,
                (Some(i), false) => i.saturating_sub(1),
                (Some(i), true) if i < last => i.saturating_add(1),
                (_, true) => 0,
            };
            cycle.chosen = Some(chosen);
            let candidate = cycle.candidates.get(chosen).cloned().unwrap_or_default();
            let choices = cycle.candidates.clone();
            let outcome = self.replace(cycle.start..self.cursor, &candidate, false);
            if matches!(outcome, Outcome::Full { .. }) {
                return outcome;
            }
            self.cycle = Some(cycle);
            return Outcome::Choices(choices);
        }
        if !forward || self.is_pasted(0) {
            return Outcome::Bell;
        }
        let Completion { start, candidates } = completer(self.slice(..self.cursor));
        if start > self.cursor || !self.text.is_char_boundary(start) {
            return Outcome::Bell;
        }
        match candidates.as_slice() {
            [] => Outcome::Bell,
            [only] => {
                let only = only.clone();
                self.replace(start..self.cursor, &only, false)
            }
            _ => {
                let common = common_prefix(&candidates);
                if common.len() > self.cursor.saturating_sub(start) {
                    let common = common.to_owned();
                    self.replace(start..self.cursor, &common, false);
                }
                self.cycle = Some(Cycle {
                    start,
                    candidates: candidates.clone(),
                    chosen: None,
                });
                Outcome::Choices(candidates)
            }
        }
    }
}

fn common_prefix(candidates: &[String]) -> &str {
    let Some((first, rest)) = candidates.split_first() else {
        return "";
    };
    let mut length = first.len();
    for other in rest {
        let same = first
            .char_indices()
            .zip(other.chars())
            .find(|((_, a), b)| a != b)
            .map_or(first.len().min(other.len()), |((i, _), _)| i);
        length = length.min(same);
    }
    first.get(..length).unwrap_or_default()
}

//! States at earlier positions, for memory that cannot forget its last tokens alone: a
//! recurrent state is that of the last position, and has no way back. Rewinding is going
//! to the last position whose state was kept, and evaluating from there on.

use super::sequence::Memory;

/// Of small states, no more than this: nobody goes back to so many places.
pub(crate) const COUNT_MAX: usize = 64;

/// Why a state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A conversation can go on otherwise from here: before a question, before an answer.
    Border,
    /// Some tokens have been evaluated since the last one.
    Passing,
}

/// A state that was kept.
struct Checkpoint {
    /// How many tokens had been evaluated.
    end: usize,
    reason: Reason,
    state: Vec<u8>,
}

/// All of a sequence's, by position.
pub(crate) struct Checkpoints {
    bytes_max: usize,
    all: Vec<Checkpoint>,
    /// Known when there is one.
    state_bytes: Option<usize>,
}

impl Checkpoints {
    /// None yet; they will take `bytes_max` together.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            all: Vec::new(),
            state_bytes: None,
        }
    }

    /// Whether any are kept.
    pub(crate) fn are_kept(&self) -> bool {
        self.bytes_max > 0
    }

    /// Where the last one is.
    pub(crate) fn last_end(&self) -> usize {
        self.all.last().map_or(0, |last| last.end)
    }

    /// Keeps the state of `memory`, which has evaluated `end` tokens, as far as there is room.
    pub(crate) fn keep(&mut self, memory: &mut impl Memory, end: usize, reason: Reason) {
        if !self.are_kept() {
            return;
        }
        if let Some(last) = self.all.last_mut().filter(|last| last.end == end) {
            if reason == Reason::Border {
                last.reason = reason;
            }
            return;
        }
        let Some(mut state) = self.make_room(reason) else {
            return;
        };
        if memory.save(&mut state, self.bytes_max) {
            self.state_bytes = Some(state.len());
            self.all.push(Checkpoint { end, reason, state });
        }
    }

    /// Takes `memory` back to the last state that was kept of its first `keep` tokens.
    /// Returns how many it has then evaluated; `None` if there is none, or it is of no use.
    pub(crate) fn restore(&mut self, memory: &mut impl Memory, keep: usize) -> Option<usize> {
        self.forget_beyond(keep);
        let last = self.all.last()?;
        memory.load(last.end, &last.state).then_some(last.end)
    }

    /// Nothing is evaluated any more beyond the first `keep` tokens.
    pub(crate) fn forget_beyond(&mut self, keep: usize) {
        self.all.retain(|checkpoint| checkpoint.end <= keep);
    }

    /// Room for another state: memory of one that is given up for it, if there must be.
    /// `None`: there is no room for any.
    fn make_room(&mut self, reason: Reason) -> Option<Vec<u8>> {
        let most = self.state_bytes.map_or(COUNT_MAX, |bytes| {
            let most = self.bytes_max.checked_div(bytes).unwrap_or(0);
            most.min(COUNT_MAX)
        });
        // Within a text nobody goes back far: some of the latest are enough.
        let passing = most / 4;
        let most = match reason {
            Reason::Passing => passing,
            Reason::Border => most - passing,
        };
        let all = self.all.iter().enumerate();
        let alike: Vec<(usize, usize)> = all
            .filter(|(_, checkpoint)| checkpoint.reason == reason)
            .map(|(at, checkpoint)| (at, checkpoint.end))
            .collect();
        if alike.len() < most {
            return Some(Vec::new());
        }
        let gone = match reason {
            Reason::Passing => alike.first().map(|(at, _)| *at),
            Reason::Border => least_missed(&alike),
        };
        gone.filter(|_| most > 0)
            .map(|at| self.all.remove(at).state)
    }
}

/// Which of `borders`, each with its end, is missed the least: few more tokens are evaluated
/// without it, and many others are behind it, which are gone back to sooner.
fn least_missed(borders: &[(usize, usize)]) -> Option<usize> {
    let (latest, earlier) = borders.split_last()?;
    let mut before = 0;
    let costs = earlier.iter().enumerate().map(|(count, (at, end))| {
        let gap = end - before;
        before = *end;
        let behind = borders.len() - count;
        (gap * COUNT_MAX.pow(2) / behind.pow(2), *at)
    });
    costs.min().map_or(Some(latest.0), |(_, at)| Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::tests::Fake;

    /// Where states are kept, of at most `count`, when they were made at `ends`.
    fn kept(count: usize, ends: &[(usize, Reason)]) -> Vec<usize> {
        let mut checkpoints = Checkpoints::new(count * Fake::STATE_BYTES);
        for (end, reason) in ends {
            checkpoints.keep(&mut Fake::default(), *end, *reason);
        }
        checkpoints.all.iter().map(|one| one.end).collect()
    }

    #[test]
    fn within_a_text_the_latest_are_kept() {
        let ends: Vec<_> = (1..9).map(|end| (end * 16, Reason::Passing)).collect();
        assert_eq!(kept(8, &ends), [112, 128]);
        let borders = [(10, Reason::Border), (90, Reason::Border)];
        let all = [&borders[..1], &ends[..5], &borders[1..], &ends[5..]].concat();
        assert_eq!(kept(8, &all), [10, 90, 112, 128]);
    }

    #[test]
    fn of_many_turns_the_latest_borders_are_kept_and_some_earlier_ones() {
        // A question of 20 tokens, an answer of 100.
        let turns = (0..20).flat_map(|turn| [turn * 120 + 50, turn * 120 + 70]);
        let ends: Vec<_> = turns.map(|end| (end, Reason::Border)).collect();
        assert_eq!(kept(8, &ends), [1010, 1490, 1970, 2210, 2330, 2350]);
    }

    #[test]
    fn where_there_is_room_for_one_it_is_the_latest_border() {
        let ends = [
            (50, Reason::Border),
            (66, Reason::Passing),
            (70, Reason::Border),
            (134, Reason::Passing),
        ];
        assert_eq!(kept(1, &ends), [70]);
        assert!(kept(0, &ends).is_empty());
    }

    #[test]
    fn a_place_is_kept_once_and_as_a_border_if_it_is_one() {
        let mut ends = vec![(16, Reason::Passing), (16, Reason::Border)];
        ends.extend((2..9).map(|end| (end * 16, Reason::Passing)));
        assert_eq!(kept(8, &ends), [16, 112, 128]);
    }
}

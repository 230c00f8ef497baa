//! What is proposed, by what was seen.

use super::*;
use crate::checkpoints::Checkpoints;
use crate::sequence::Sequence;
use crate::sequence::tests::Fake;

fn knowing(mode: Switch, tokens: &[Token]) -> Speculator<Fake> {
    let mut speculator = Speculator::new(mode, usize::MAX, None);
    speculator.begin(tokens, Duration::ZERO);
    speculator
}

#[test]
fn what_followed_the_last_tokens_is_proposed() {
    let text = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3];
    let mut speculator = knowing(Switch::On, &text);
    assert_eq!(speculator.propose(100).unwrap(), [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(speculator.propose(6).unwrap(), [4, 5, 6], "in fours");
    assert!(speculator.propose(2).unwrap().is_empty(), "no room");
    speculator.push(99);
    assert!(speculator.propose(100).unwrap().is_empty(), "new text");
    assert!(knowing(Switch::Off, &text).propose(100).unwrap().is_empty());
}

#[test]
fn the_latest_occurrence_counts() {
    let text = [1, 2, 3, 4, 4, 4, 1, 2, 3, 5, 5, 5, 1, 2, 3];
    assert_eq!(knowing(Switch::On, &text).propose(3).unwrap(), [5, 5, 5]);
}

#[test]
fn the_longest_agreement_counts_more_than_the_latest() {
    let text = [1, 2, 3, 4, 4, 4, 2, 3, 5, 5, 5, 1, 2, 3];
    assert_eq!(knowing(Switch::On, &text).propose(3).unwrap(), [4, 4, 4]);
    let one = [3, 4, 4, 4, 1, 3];
    assert_eq!(knowing(Switch::On, &one).propose(3).unwrap(), [4, 4, 4]);
}

#[test]
fn what_is_right_after_one_token_is_learnt_apart_from_what_is_after_many() {
    let quoted: Vec<Token> = (0..40).chain(0..9).collect();
    let chance: Vec<Token> = (0..40).chain([50, 9]).collect();
    let mut speculator = knowing(Switch::Auto, &quoted);
    for (width, proposed) in WIDTHS.into_iter().zip([0, 3, 7]) {
        speculator.timed(proposed, Duration::from_millis(width as u64 / 4 + 1));
    }
    for _ in 0..60 {
        speculator.begin(&chance, Duration::ZERO);
        if !speculator.propose(100).unwrap().is_empty() {
            speculator.judged(false);
        }
    }
    assert!(speculator.propose(100).unwrap().is_empty());
    speculator.begin(&quoted, Duration::ZERO);
    assert_eq!(speculator.propose(100).unwrap().len(), 7);
}

#[test]
fn a_text_that_is_too_short_proposes_nothing() {
    assert!(knowing(Switch::On, &[1, 1]).propose(9).unwrap().is_empty());
    assert!(knowing(Switch::On, &[]).propose(9).unwrap().is_empty());
}

#[test]
fn what_is_sure_once_it_began_is_proposed_though_half_of_it_never_begins() {
    let text: Vec<Token> = (0..40).chain(0..3).collect();
    let mut speculator = knowing(Switch::Auto, &text);
    for pass in 0..60 {
        let proposed = speculator.propose(100).unwrap().len();
        // Eight cost as much as three.
        speculator.timed(
            proposed,
            Duration::from_millis([1, 2, 3][proposed.div_ceil(4)]),
        );
        for _ in 0..if pass % 2 == 0 {
            proposed
        } else {
            proposed.min(1)
        } {
            speculator.judged(pass % 2 == 0);
        }
    }
    assert_eq!(
        speculator.propose(100).unwrap().len(),
        7,
        "4.5 tokens for 3"
    );
}

#[test]
fn it_stops_where_it_does_not_pay_and_tries_again_later() {
    let text: Vec<Token> = (0..40).chain(0..4).collect();
    let mut speculator = knowing(Switch::Auto, &text);
    let pass = |speculator: &mut Speculator<Fake>, accepted: bool| {
        let proposed = speculator.propose(100).unwrap().len();
        // Each token more costs half of the first.
        let time = Duration::from_micros(1000 + 500 * proposed as u64);
        speculator.timed(proposed, time);
        for at in 0..proposed {
            speculator.judged(accepted);
            if !accepted && at == 0 {
                break;
            }
        }
        proposed
    };
    speculator.timed(0, Duration::from_millis(1));
    let first: Vec<_> = (0..30).map(|_| pass(&mut speculator, true)).collect();
    assert_eq!(first.last(), Some(&7), "{first:?}");
    let wrong: Vec<_> = (0..400).map(|_| pass(&mut speculator, false)).collect();
    let tried = wrong.iter().filter(|proposed| **proposed > 0).count();
    assert!(tried < 60, "{tried}: {wrong:?}");
    assert!(
        wrong[100..].iter().any(|proposed| *proposed > 0),
        "never again"
    );
}

/// With a draft model over 32 tokens that guesses zeros.
fn with_draft(mode: Switch, tokens: &[Token]) -> Speculator<Fake> {
    let sequence = Sequence::new(Fake::that_rewinds(), Checkpoints::new(0));
    let mut speculator = Speculator::new(mode, usize::MAX, Some(DraftModel::new(sequence, 4)));
    speculator.begin(tokens, Duration::from_secs(60));
    speculator
}

#[test]
fn where_the_text_does_not_repeat_itself_the_draft_model_is_asked() {
    let mut speculator = with_draft(Switch::On, &[1, 2, 3]);
    assert_eq!(speculator.propose(100).unwrap(), [0; 7]);
    assert_eq!(speculator.propose(6).unwrap(), [0; 3], "in fours");
    assert!(speculator.propose(2).unwrap().is_empty(), "no room");
    let guesses = |guessed, taken| Guesses { guessed, taken };
    assert_eq!(speculator.guesses(), guesses(10, 0));
    speculator.propose(6).unwrap();
    speculator.judged(true);
    speculator.judged(false);
    assert_eq!(speculator.guesses(), guesses(13, 1));
    let repeated: Vec<Token> = (5..16).chain(5..8).collect();
    speculator.begin(&repeated, Duration::ZERO);
    assert_eq!(speculator.propose(100).unwrap(), [8, 9, 10, 11, 12, 13, 14]);
    speculator.judged(true);
    assert_eq!(speculator.guesses(), guesses(0, 0));
    let long: Vec<Token> = (1..31).collect();
    speculator.begin(&long, Duration::ZERO);
    assert!(speculator.propose(100).unwrap().is_empty(), "its context");
}

#[test]
fn the_draft_model_is_used_as_far_as_it_pays_and_tried_again_later() {
    let mut speculator = with_draft(Switch::Auto, &[1, 2, 3]);
    let pass = |speculator: &mut Speculator<Fake>, draft_ms: u64, accepted: bool| {
        let proposed = speculator.propose(100).unwrap().len();
        // Whatever it took here.
        let taken = [0, 3, 7].map(|count| draft_ms * count);
        speculator.draft_seconds = taken.map(|ms| Some(Duration::from_millis(ms).as_secs_f64()));
        speculator.timed(proposed, Duration::from_millis(20 + proposed as u64));
        for _ in 0..if accepted { proposed } else { proposed.min(1) } {
            speculator.judged(accepted);
        }
        proposed
    };
    assert_eq!(pass(&mut speculator, 1, true), 0, "what one token takes");
    let right: Vec<_> = (0..30).map(|_| pass(&mut speculator, 1, true)).collect();
    assert_eq!(right.last(), Some(&7), "{right:?}");
    let wrong: Vec<_> = (0..400).map(|_| pass(&mut speculator, 1, false)).collect();
    let tried = wrong.iter().filter(|proposed| **proposed > 0).count();
    assert!(tried < 80, "{tried}: {wrong:?}");
    assert!(wrong[100..].iter().any(|n| *n > 0), "never again");
    // Right or not, it takes longer than what it saves.
    let slow: Vec<_> = (0..400).map(|_| pass(&mut speculator, 60, true)).collect();
    let tried = slow.iter().filter(|proposed| **proposed > 0).count();
    assert!(tried < 60, "{tried}: {slow:?}");
}

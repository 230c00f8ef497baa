//! Draws against the distributions that they should follow.

use super::*;

fn sampling() -> Sampling {
    Sampling {
        temp: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        seed: Some(7),
        max_tokens: None,
    }
}

fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.f32() * 30.0 - 15.0).collect()
}

/// How often each token is drawn.
fn frequencies(sampling: &Sampling, logits: &[f32], draws: usize) -> Vec<f32> {
    let share = 1.0 / f32::from(u16::try_from(draws).unwrap());
    let mut counts = vec![0.0; logits.len()];
    let mut sampler = Sampler::new(sampling, &[]);
    for _ in 0..draws {
        let token = sampler.sample(&mut logits.to_vec()).unwrap();
        counts[usize::try_from(token).unwrap()] += share;
    }
    counts
}

#[test]
fn greedy_takes_the_first_of_the_largest_wherever_it_is() {
    let greedy = Sampling {
        temp: 0.0,
        ..sampling()
    };
    for at in [0, 1, 15, 16, 63, 64, 65, 999] {
        let mut logits = noise(1000, 1);
        logits[at] = 99.0;
        logits[999] = 99.0;
        logits[500] = f32::NAN;
        let got = Sampler::new(&greedy, &[]).sample(&mut logits).unwrap();
        assert_eq!(got, Token::try_from(at).unwrap());
    }
    let error = Sampler::new(&greedy, &[]).sample(&mut [f32::NAN; 70]);
    assert_eq!(error, Err(SampleError::NotANumber));
}

#[test]
fn top_k_collects_what_a_full_sort_would() {
    for (count, top_k) in [(100, 7), (5000, 40), (5000, 1), (64, 100), (262_144, 40)] {
        let logits = noise(count, 3);
        let mut sampler = Sampler::new(
            &Sampling {
                top_k,
                ..sampling()
            },
            &[],
        );
        sampler.collect(&logits).unwrap();
        let got: Vec<_> = sampler.candidates.iter().map(|c| c.id).collect();
        let mut all: Vec<_> = (0..)
            .zip(&logits)
            .map(|(id, l)| candidate(id, *l))
            .collect();
        sort(&mut all);
        all.truncate(top_k as usize);
        let want: Vec<_> = all.iter().map(|c| c.id).collect();
        assert_eq!(got, want, "{top_k} of {count}");
    }
}

#[test]
fn draws_follow_the_softmax_at_the_temperature() {
    let logits = [2.0, 1.0, 0.0, -1.0];
    for temp in [0.5, 1.0, 2.0] {
        let got = frequencies(&Sampling { temp, ..sampling() }, &logits, 40_000);
        let weights: Vec<f32> = logits.iter().map(|l| (l / temp).exp()).collect();
        let sum: f32 = weights.iter().sum();
        for (got, weight) in got.iter().zip(&weights) {
            assert!((got - weight / sum).abs() < 0.01, "{got} {}", weight / sum);
        }
    }
}

#[test]
fn top_p_and_min_p_cut_the_tail_and_never_the_best() {
    // Probabilities 0.643, 0.237, 0.087, 0.032.
    let logits = [2.0, 1.0, 0.0, -1.0];
    let drawn = |sampling: &Sampling| {
        let got = frequencies(sampling, &logits, 2000);
        got.iter().filter(|share| **share > 0.0).count()
    };
    assert_eq!(
        drawn(&Sampling {
            top_p: 0.7,
            ..sampling()
        }),
        2
    );
    assert_eq!(
        drawn(&Sampling {
            top_p: 0.0,
            ..sampling()
        }),
        1
    );
    assert_eq!(
        drawn(&Sampling {
            min_p: 0.1,
            ..sampling()
        }),
        3
    );
    assert_eq!(
        drawn(&Sampling {
            min_p: 1.0,
            ..sampling()
        }),
        1
    );
    assert_eq!(
        drawn(&Sampling {
            top_k: 2,
            ..sampling()
        }),
        2
    );
    assert_eq!(drawn(&sampling()), 4);
}

/// Of many that are each far less likely than rounding of their sum, and together at
/// this temperature more likely than the best.
#[test]
fn nothing_is_cut_where_nothing_is_to_be() {
    let count = 100_000;
    for (temp, far) in [(3.0, 25.0), (6.0, 50.0)] {
        let mut logits = vec![-far; count];
        logits[0] = 0.0;
        let hot = Sampling { temp, ..sampling() };
        let got = frequencies(&hot, &logits, 2000);
        let others = f64::from(u32::try_from(count - 1).unwrap());
        let likely = others * (-f64::from(far / temp)).exp();
        let wanted = 1.0 / (1.0 + likely);
        assert!(
            (f64::from(got[0]) - wanted).abs() < 0.04,
            "{} {wanted}",
            got[0]
        );
    }
}

#[test]
fn the_penalty_hits_recent_tokens_once_each() {
    let greedy = Sampling {
        temp: 0.0,
        repeat_penalty: 2.0,
        ..sampling()
    };
    let mut logits = [3.0, 2.0, -1.0];
    let got = Sampler::new(&greedy, &[0, 0, 2])
        .sample(&mut logits)
        .unwrap();
    assert_eq!((got, logits), (1, [1.5, 2.0, -2.0]));
}

#[test]
fn a_seed_repeats_its_draws() {
    let logits = noise(1000, 9);
    let draw = |seed| {
        let seeded = Sampling { seed, ..sampling() };
        let mut sampler = Sampler::new(&seeded, &[]);
        let tokens: Vec<_> = (0..20)
            .map(|_| sampler.sample(&mut logits.clone()).unwrap())
            .collect();
        tokens
    };
    assert_eq!(draw(Some(1)), draw(Some(1)));
    assert_ne!(draw(Some(1)), draw(Some(2)));
}

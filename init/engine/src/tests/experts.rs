//! A model with experts, sinks and sliding windows, whole: of gpt-oss's shape, and tiny.

use super::super::*;
use super::{Session, greedy, load_of, run_alone, with_sequence};
use tempfile::NamedTempFile;
use vmtest::GptOss;

/// More than the window, and more than a batch.
const PROMPT: usize = 300;

fn tiny() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    GptOss::TINY.write(&mut file).unwrap();
    file
}

#[test]
fn a_model_with_experts_answers_and_takes_back() {
    let file = tiny();
    let (mut session, info) = Session::ready(load_of(file.path().to_owned()));
    assert!(!info.repacked);
    session.ask("babebi", greedy());
    let (first, _) = session.answer().unwrap();
    assert!(!first.is_empty());
    session.ask("dodu", greedy());
    let (second, _) = session.answer().unwrap();
    for _ in 0..2 {
        session.messages.truncate(3);
        session.ask("dodu", greedy());
        let (again, stats) = session.answer().unwrap();
        assert_eq!(again, second);
        assert!(stats.prompt_tokens > stats.evaluated_tokens, "{stats:?}");
    }
    session.messages.truncate(1);
    session.ask("babebi", greedy());
    assert_eq!(session.answer().unwrap().0, first);
}

#[test]
fn every_level_has_the_same_logits_and_whatever_the_width() {
    let file = tiny();
    let path = file.path().to_str().unwrap();
    // The lowest level's products are llama.cpp's own on x86_64.
    let levels = ["x64", "avx2", "avx512", "v80", "v82", "v86"];
    let able = levels
        .iter()
        .filter(|name| ggml::choose(Some(name)).is_ok());
    let mut lowest: Option<Vec<f32>> = None;
    for level in able {
        let output = run_alone("tests::experts::logits", &format!("{level} {path}"));
        assert!(output.status.success(), "{level}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("logits"));
        let logits = line.unwrap().split_whitespace().map(|x| x.parse().unwrap());
        let logits: Vec<f32> = logits.collect();
        let right = lowest.get_or_insert_with(|| logits.clone());
        let size = right.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        assert!(size > 0.1, "{level}: no logit is away from 0");
        assert_eq!(logits.len(), right.len());
        for (token, (got, right)) in logits.iter().zip(&*right).enumerate() {
            let error = (got - right).abs() / size;
            assert!(error < 0.02, "{level}, token {token}: {got}, not {right}");
        }
    }
}

#[test]
#[ignore = "run at each level by every_level_has_the_same_logits_and_whatever_the_width"]
fn logits() {
    let attempt = std::env::var("ZOSIA_ATTEMPT").unwrap();
    let (level, path) = attempt.split_once(' ').unwrap();
    let mut wanted = load_of(path.into());
    wanted.params.cpu = Some(level.to_owned());
    wanted.params.threads = Some(2);
    let prompt: Vec<i32> = (0..100)
        .map(|n| 261 + (n * 17 + n * n) % 100)
        .cycle()
        .take(PROMPT)
        .collect();
    let logits = with_sequence(&wanted, |_, mut sequence| {
        let mut after = |width: usize| {
            sequence.forget();
            for batch in prompt.chunks(width) {
                sequence.extend(batch, 1).unwrap();
            }
            sequence.logits_after(PROMPT).unwrap().to_vec()
        };
        let one_by_one = after(1);
        for width in [3, 8] {
            assert!(
                after(width) == one_by_one,
                "{width} at once differ from one"
            );
        }
        after(100)
    });
    let texts: Vec<String> = logits.iter().map(f32::to_string).collect();
    writeln!(io::stdout(), "\nlogits {}", texts.join(" ")).unwrap();
}

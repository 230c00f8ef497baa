//! Types a message of about 200 tokens at a person's pace into the plain
//! command, presses Enter, and measures the time to the first token: with the
//! evaluation ahead of what is typed (`draft=on`) and without, in turn.
//!
//! Prints one line of JSON a run, and the ratio of the medians at the end.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use vmtest::PlainCommand;

/// A person's message, about 200 tokens.
const MESSAGE: &str = "I have inherited an old wooden rowing boat from my uncle and would like to \
    make it fit for the lake again before next summer. The planks are larch on oak frames, the \
    paint is flaking, two of the planks near the keel feel soft when I press a knife into them, \
    and the copper rivets have turned green but seem tight. It has been lying upside down in a dry \
    barn for about eleven years, so I expect that the wood has shrunk and that the seams will leak \
    when it is put back into the water. I own ordinary tools, a plane, some chisels, a drill and \
    clamps, but I have never bent wood with steam. In what order should I do the work, which parts \
    should I replace rather than repair, what kind of paint or oil would you use inside and \
    outside, how long should the hull soak before I trust it, and roughly how many weekends should \
    I plan for all of this if I work alone and at an unhurried pace? Please be brief and practical.";

/// Loading a large model that nobody has read yet.
const LOAD: Duration = Duration::from_secs(600);

/// Times the first token after a typed message, drafts on against off.
#[derive(Parser)]
struct Arguments {
    /// zosia's plain command.
    program: PathBuf,
    /// A .gguf file.
    model: PathBuf,
    /// Pairs of runs.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Characters a second; a fast typist has 8.
    #[arg(long, default_value_t = 8.0)]
    pace: f64,
    /// More options of the plain command, such as --threads=2.
    #[arg(last = true)]
    options: Vec<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut on = Vec::new();
    let mut off = Vec::new();
    for run in 0..arguments.runs {
        for draft in [run % 2 == 0, run % 2 == 1] {
            let time = first_token(&arguments, draft)?;
            writeln!(
                io::stdout(),
                "{{\"draft\":\"{}\",\"first_token_ms\":{:.1}}}",
                if draft { "on" } else { "off" },
                time.as_secs_f64() * 1e3
            )?;
            if draft { &mut on } else { &mut off }.push(time);
        }
    }
    let on = median(&mut on).context("no runs")?;
    let off = median(&mut off).context("no runs")?;
    writeln!(
        io::stdout(),
        "first token after {:.0} ms with drafts, {:.0} ms without: ratio {:.3}",
        on.as_secs_f64() * 1e3,
        off.as_secs_f64() * 1e3,
        on.as_secs_f64() / off.as_secs_f64()
    )?;
    Ok(())
}

fn first_token(arguments: &Arguments, draft: bool) -> Result<Duration> {
    let mut options: Vec<String> = ["--temp=0", "--max-tokens=1", "--color=off"]
        .map(String::from)
        .to_vec();
    options.push(format!("--draft={}", if draft { "on" } else { "off" }));
    options.extend(arguments.options.iter().cloned());
    let model = arguments.model.to_str().context("MODEL is not UTF-8")?;
    options.push(model.to_owned());
    let command = PlainCommand::launch(&arguments.program, &options);
    let _ = command.expect_prompt(LOAD);
    // The first answer also waits for the model; a short one says it is there.
    command.type_line("Hello");
    let _ = command.expect("cut at max_tokens", LOAD);
    let _ = command.expect_prompt(LOAD);
    // Without drafts nothing happens before Enter, however long it takes.
    let pause = if draft {
        Duration::from_secs_f64(1.0 / arguments.pace)
    } else {
        Duration::from_millis(2)
    };
    for character in MESSAGE.chars() {
        command.type_keys(character.encode_utf8(&mut [0; 4]));
        thread::sleep(pause);
    }
    let last_word = MESSAGE.split(' ').next_back().context("a message")?;
    let _ = command.expect(last_word, LOAD);
    let began = Instant::now();
    command.type_keys("\r");
    let _ = command.expect("cut at max_tokens", LOAD);
    Ok(began.elapsed())
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

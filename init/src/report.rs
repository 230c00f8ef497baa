//! What the machine says of itself: `zosia.mode=diag`, `zosia.mode=selftest`,
//! and errors with their causes.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};

use crate::disk::{self, Found, ModelFile};
use crate::one_turn;
use crate::session::Session;
use protocol::Config;
use protocol::memory::{meminfo_bytes, mib};

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(line, ": {cause}");
        source = cause.source();
    }
    line
}

/// What was found and how it would run.
pub(crate) fn diagnosis(config: &Config, found: &Found) -> String {
    let uname = rustix::system::uname();
    let mut lines = vec![
        format!("zosia {}", env!("CARGO_PKG_VERSION")),
        format!(
            "kernel: {} {}",
            uname.release().to_string_lossy(),
            uname.machine().to_string_lossy()
        ),
        format!("processors: {}", processors()),
        format!(
            "processor level: {}",
            ggml::level_name(config.engine.cpu.as_deref())
        ),
    ];
    if let Some(features) = cpu_features() {
        lines.push(format!("processor features: {features}"));
    }
    lines.push(memory());
    lines.extend(found.models.iter().map(|m| model_line(config, m)));
    lines.extend(found.notes.iter().map(|note| format!("note: {note}")));
    if found.models.is_empty() && found.notes.is_empty() {
        lines.push("model: none".to_owned());
    }
    lines.join("\n") + "\n"
}

/// Loads, answers twice, and compares. Returns whether all was well.
///
/// # Errors
/// `out`'s.
pub(crate) fn selftest(config: Config, found: &Found, out: &mut impl Write) -> io::Result<bool> {
    let failed =
        |out: &mut dyn Write, why: &str| writeln!(out, "selftest: failed: {why}").map(|()| false);
    let model = match disk::choose(&found.models, config.start.model.as_deref()) {
        Ok(disk::Choice::One(model)) => model,
        Ok(disk::Choice::Several(models)) => match models.first() {
            Some(first) => *first,
            None => return failed(out, "no model"),
        },
        Err(e) => {
            let notes = found.notes.join("; ");
            return failed(
                out,
                if notes.is_empty() {
                    e.to_string()
                } else {
                    notes
                }
                .as_str(),
            );
        }
    };
    let mut config = config;
    config.sampling.temp = 0.0;
    config.sampling.max_tokens = Some(config.sampling.max_tokens.unwrap_or(16));
    let mut session = Session::new(config);
    session.load(model.clone());
    let mut tokens = Vec::new();
    for _ in 0..2 {
        session.clear();
        let outcome = one_turn::run(&mut session, "Count from one to ten.", &mut io::sink())?;
        match (outcome.error, outcome.timings) {
            (None, Some(timings)) => tokens.push(timings.tokens),
            (error, _) => {
                let error = error.unwrap_or_else(|| "no answer".to_owned());
                return failed(out, &error);
            }
        }
    }
    if let Some(info) = session.info() {
        writeln!(
            out,
            "selftest: {} on {}, {} threads, ready after {} ms",
            info.description, info.cpu, info.threads, info.load_ms
        )?;
    }
    match tokens.as_slice() {
        [first, second] if first == second && !first.is_empty() => {
            writeln!(
                out,
                "selftest: passed, {} tokens twice the same",
                first.len()
            )?;
            Ok(true)
        }
        _ => failed(
            out,
            "the same question got two different answers at temperature 0",
        ),
    }
}

fn model_line(config: &Config, model: &ModelFile) -> String {
    let checked = File::open(&model.path)
        .map_err(|e| e.to_string())
        .and_then(|file| gguf::check(&file, model.bytes).map_err(|e| chain(&e)));
    let place = match &model.device {
        Some(device) => format!("{} on {device}", model.name),
        None => model.path.display().to_string(),
    };
    match checked {
        Ok(header) => format!(
            "model: {place}: {}, {} million weights, {} MiB, trained for {} tokens of context, \
             {} KiB of KV cache a token",
            header.arch,
            header.weights / 1_000_000,
            mib(model.bytes),
            header.context_length.unwrap_or(0),
            header.kv_bytes_per_token(config.engine.kv).div_ceil(1024)
        ),
        Err(error) => format!("model: {place}: {error}"),
    }
}

fn processors() -> String {
    std::thread::available_parallelism().map_or("unknown".to_owned(), |n| n.to_string())
}

fn cpu_features() -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpuinfo
        .lines()
        .find(|l| l.starts_with("Features") || l.starts_with("flags"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory() -> String {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mib_of = |name| meminfo_bytes(&meminfo, name).unwrap_or(0) >> 20;
    format!(
        "memory: {} MiB, {} MiB available",
        mib_of("MemTotal:"),
        mib_of("MemAvailable:")
    )
}

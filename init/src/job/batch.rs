//! Many prompts, each in a conversation of its own: a line of JSON in, a line of
//! JSON out, in the same order. Every line gets its result, whatever happens.

use std::io::{self, Write};

use serde::Deserialize;
use texts::Document;

use super::turn::{self, Outcome};
use crate::host::{Host, warn};
use crate::peer::Peer;
use crate::session::{Phase, Session};

/// A line of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// The message.
    prompt: String,
    /// Instead of the configured system prompt.
    #[serde(default)]
    system: Option<String>,
    /// Instead of the configured longest answer.
    #[serde(default)]
    max_tokens: Option<u32>,
}

/// Answers each line of `lines`, each after `documents`, and writes each outcome to `results`; a line
/// that cannot be understood gets an outcome that says so. Returns whether all
/// were answered.
///
/// # Errors
/// `results`'s.
pub(crate) fn run<P: Peer>(
    host: Host,
    session: &mut Session<P>,
    documents: &[Document],
    lines: &str,
    results: &mut impl Write,
) -> io::Result<bool> {
    let configured = session.config().clone();
    let mut all_answered = true;
    // Without an engine every line ends for the same reason: it is said once.
    let mut told = false;
    let lines = lines.lines().zip(1_u64..);
    for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty()) {
        let outcome = match serde_json::from_str::<Line>(line) {
            Ok(line) => {
                let mut chat = configured.chat.clone();
                chat.system = line.system.unwrap_or(chat.system);
                session.set_chat(chat);
                let mut sampling = configured.sampling.clone();
                sampling.max_tokens = line.max_tokens.or(sampling.max_tokens);
                session.set_sampling(sampling);
                session.clear();
                turn::run(host, session, documents, &line.prompt, &mut io::sink())?
            }
            Err(e) => Outcome::failed(format!("line {number}: {e}")),
        };
        all_answered &= outcome.answered;
        if let Some(why) = &outcome.error
            && session.phase() == Phase::Gone
            && !told
        {
            told = true;
            warn(why);
        }
        outcome.write(results)?;
    }
    Ok(all_answered)
}

#[cfg(test)]
mod tests {
    use protocol::Config;
    use protocol::memory::Budget;

    use super::*;
    use crate::supervisor::Engine;

    #[test]
    fn without_an_engine_every_line_gets_its_result() {
        let start = Box::new(|_| Err(io::Error::from(io::ErrorKind::OutOfMemory).into()));
        let mut session =
            Session::<Engine>::new(Host::Command, Config::default(), Budget::of(None), start);
        session.refuse("no model: the disks hold none".to_owned());
        let lines = "{\"prompt\": \"a\"}\n\nnot JSON\n{\"prompt\": \"b\"}\n";
        let mut results = Vec::new();
        assert!(!run(Host::Command, &mut session, &[], lines, &mut results).unwrap());
        let results = String::from_utf8(results).unwrap();
        let errors: Vec<String> = results
            .lines()
            .map(|line| {
                let result: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(result["answered"], false);
                result["error"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(errors.len(), 3, "{results}");
        assert!(errors[0].contains("the disks hold none"), "{results}");
        assert!(errors[1].starts_with("line 3: "), "{results}");
        assert_eq!(errors[2], errors[0]);
    }
}

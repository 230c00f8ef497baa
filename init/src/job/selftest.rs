//! `zosia.mode=selftest`: loads, answers the same question twice, and compares; has
//! tried what an engine must not do, and whether there is a way to a network.

use std::io::{self, Write};

use super::turn;
use crate::host::Host;
use crate::peer::Peer;
use crate::session::Session;
use crate::{sockets, supervisor};

/// Tokens of each answer, unless the parameters say otherwise.
const ANSWER_TOKENS: u32 = 16;

/// Tests the model that `session` is loading; returns whether all was well.
///
/// # Errors
/// `out`'s.
pub(crate) fn run<P: Peer>(
    host: Host,
    session: &mut Session<P>,
    out: &mut impl Write,
) -> io::Result<bool> {
    let count = match answer_twice(host, session)? {
        Ok(count) => count,
        Err(why) => return failed(out, &why),
    };
    if let Some(info) = session.info() {
        writeln!(
            out,
            "selftest: {} ({}) on {}, {} threads, ready after {} ms",
            info.name, info.description, info.cpu, info.threads, info.load_ms
        )?;
        writeln!(out, "selftest: chat template: {}", info.template)?;
    }
    if !sandbox(host, out)? {
        return Ok(false);
    }
    writeln!(out, "selftest: passed, {count} tokens twice the same")?;
    Ok(true)
}

/// Asks the same question twice: how many tokens both answers have, or why they are not
/// the same.
fn answer_twice<P: Peer>(
    host: Host,
    session: &mut Session<P>,
) -> io::Result<Result<usize, String>> {
    let mut sampling = session.config().sampling.clone();
    sampling.temp = 0.0;
    sampling.max_tokens = Some(sampling.max_tokens.unwrap_or(ANSWER_TOKENS));
    session.set_sampling(sampling);
    let mut tokens = Vec::new();
    for _ in 0..2 {
        session.clear();
        let question = "Count from one to ten.";
        let outcome = turn::run(host, session, &[], question, &mut io::sink(), None)?;
        // So few tokens may be no answer yet, where a model thinks before it.
        match (outcome.timings, outcome.error) {
            (Some(timings), _) => tokens.push(timings.tokens),
            (None, error) => return Ok(Err(error.unwrap_or_else(|| "no answer".to_owned()))),
        }
    }
    Ok(match tokens.as_slice() {
        [first, second] if first == second && !first.is_empty() => Ok(first.len()),
        _ => Err("the same question got two different answers at temperature 0".to_owned()),
    })
}

/// Tries what an engine, and what in the machine anybody, should not be able to do;
/// what the command's system cannot prevent is told and no failure.
fn sandbox(host: Host, out: &mut impl Write) -> io::Result<bool> {
    let mut ended = Vec::new();
    for (name, went_on) in supervisor::attempt_forbidden()? {
        match went_on {
            None => ended.push(name),
            Some(why) if host.is_machine() => {
                return failed(out, &format!("an engine that tries {name} lives on: {why}"));
            }
            Some(why) => {
                writeln!(out, "selftest: {why}")?;
                break;
            }
        }
    }
    if !ended.is_empty() {
        let calls = ended.join(", ");
        writeln!(out, "selftest: an engine ends when it tries {calls}")?;
    }
    if host.is_machine() {
        let made = sockets::families_left();
        if !made.is_empty() {
            return failed(
                out,
                &format!("PID 1 can make sockets of the families {made:?}"),
            );
        }
        writeln!(out, "selftest: PID 1 can make no socket of any family")?;
    }
    Ok(true)
}

/// Says that the test failed, and why.
///
/// # Errors
/// `out`'s.
pub(crate) fn failed(out: &mut impl Write, why: &str) -> io::Result<bool> {
    writeln!(out, "selftest: failed: {why}").map(|()| false)
}

#[cfg(test)]
mod tests {
    use protocol::{Event, Stop, TextKind};

    use super::*;
    use crate::peer::Heard;
    use crate::session::tests::{done, file, ready, session_with};

    #[test]
    fn a_model_that_only_thinks_in_so_many_tokens_passes() {
        let thought = |text: &str| {
            Heard::Event(Event::Text {
                kind: TextKind::Reasoning,
                text: text.to_owned(),
            })
        };
        let script = vec![
            ready(),
            thought("One is"),
            done(Stop::MaxTokens),
            thought("One is"),
            done(Stop::MaxTokens),
        ];
        let (mut session, _) = session_with(vec![script]);
        session.load(file(), None, None);
        let answered = answer_twice(Host::Command, &mut session).unwrap();
        assert_eq!(answered, Ok(1));
    }
}

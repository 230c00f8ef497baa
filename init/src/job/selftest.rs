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
    let mut sampling = session.config().sampling.clone();
    sampling.temp = 0.0;
    sampling.max_tokens = Some(sampling.max_tokens.unwrap_or(ANSWER_TOKENS));
    session.set_sampling(sampling);
    let mut tokens = Vec::new();
    for _ in 0..2 {
        session.clear();
        let outcome = turn::run(
            host,
            session,
            &[],
            "Count from one to ten.",
            &mut io::sink(),
            None,
        )?;
        match (outcome.error, outcome.timings) {
            (None, Some(timings)) => tokens.push(timings.tokens),
            (error, _) => {
                return failed(out, &error.unwrap_or_else(|| "no answer".to_owned()));
            }
        }
    }
    if let Some(info) = session.info() {
        writeln!(
            out,
            "selftest: {} ({}) on {}, {} threads, ready after {} ms",
            info.name, info.description, info.cpu, info.threads, info.load_ms
        )?;
        writeln!(out, "selftest: chat template: {}", info.template)?;
    }
    match tokens.as_slice() {
        [first, second] if first == second && !first.is_empty() => {
            if !sandbox(host, out)? {
                return Ok(false);
            }
            let count = first.len();
            writeln!(out, "selftest: passed, {count} tokens twice the same")?;
            Ok(true)
        }
        _ => failed(
            out,
            "the same question got two different answers at temperature 0",
        ),
    }
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

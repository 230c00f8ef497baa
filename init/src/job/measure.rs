//! `zosia.mode=bench`: what the engine does in a second, as one line of JSON.

use std::io::{self, Write};

use serde::Serialize;

use crate::host::warn;
use crate::peer::Peer;
use crate::session::{Session, Update};
use protocol::{Measured, ModelInfo, Workload};

/// Enough for the kernels of large batches.
const WARM_UP_TOKENS: u32 = 8;

/// The line of JSON. Field names are part of the interface.
#[derive(Debug, Serialize)]
struct Report<'a> {
    zosia: &'a str,
    model: &'a str,
    model_bytes: u64,
    parameters: u64,
    ctx_tokens: u32,
    kv_bytes: u64,
    cpu: &'a str,
    /// What the compiler was told for that level.
    cpu_flags: &'a str,
    repacked: bool,
    threads: u32,
    batch_threads: u32,
    /// From the engine's start to ready.
    load_ms: u64,
    /// The engine's peak of memory that is not the file's.
    anonymous_bytes: u64,
    prefill_tokens: u32,
    decode_tokens: u32,
    depth_tokens: u32,
    prefill_ns: Vec<u64>,
    decode_ns: Vec<u64>,
    sample_ns: Vec<u64>,
    decode_page_faults: Vec<u64>,
}

impl<'a> Report<'a> {
    fn new(info: &'a ModelInfo, workload: Workload, runs: &[Measured]) -> Self {
        let column = |value: fn(&Measured) -> u64| runs.iter().map(value).collect();
        Self {
            zosia: env!("CARGO_PKG_VERSION"),
            model: &info.description,
            model_bytes: info.file_bytes,
            parameters: info.parameters,
            ctx_tokens: info.ctx_tokens,
            kv_bytes: info.kv_bytes,
            cpu: &info.cpu,
            cpu_flags: ggml::compiler_flags(&info.cpu),
            repacked: info.repacked,
            threads: info.threads,
            batch_threads: info.batch_threads,
            load_ms: info.load_ms,
            anonymous_bytes: info.anonymous_bytes,
            prefill_tokens: workload.prefill_tokens,
            decode_tokens: workload.decode_tokens,
            depth_tokens: workload.depth_tokens,
            prefill_ns: column(|m| m.prefill_ns),
            decode_ns: column(|m| m.decode_ns),
            sample_ns: column(|m| m.sample_ns),
            decode_page_faults: column(|m| m.decode_page_faults),
        }
    }
}

/// Measures the model that `session` is loading, and writes the line to `out`.
/// Returns whether there was something to measure; if not, standard error says
/// why.
///
/// # Errors
/// `out`'s.
pub(crate) fn run<P: Peer>(session: &mut Session<P>, out: &mut impl Write) -> io::Result<bool> {
    let workload = session.config().start.bench;
    let mut runs = Vec::new();
    let mut is_begun = false;
    // The first run touches every weight and buffer once, and wakes the threads.
    let warm_up = (workload.runs > 0).then_some(Workload {
        prefill_tokens: workload.prefill_tokens.min(WARM_UP_TOKENS),
        decode_tokens: workload.decode_tokens.min(1),
        runs: 1,
        depth_tokens: workload.depth_tokens,
    });
    let mut to_do = warm_up
        .into_iter()
        .chain((0..workload.runs).map(|_| workload));
    while let Some(update) = session.next() {
        match update {
            Update::Ready if !is_begun => is_begun = true,
            Update::Ready => {
                warn("the engine was started again: nothing was measured");
                return Ok(false);
            }
            Update::Measured(measured) => runs.push(measured),
            Update::Notice(line) => {
                warn(&line);
                continue;
            }
            Update::Refused { error, .. } | Update::NotRendered(error) => {
                warn(&error);
                return Ok(false);
            }
            _ => continue,
        }
        if let Some(next) = to_do.next() {
            session.measure(next);
        } else if let Some(info) = session.info() {
            let counted = runs.get(1..).unwrap_or_default();
            let mut line = serde_json::to_vec(&Report::new(info, workload, counted))?;
            line.push(b'\n');
            out.write_all(&line)?;
            out.flush()?;
            return Ok(true);
        }
    }
    warn("there is no engine to measure");
    Ok(false)
}

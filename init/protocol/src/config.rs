//! Every parameter, in one table: name, kind of value, default, help. The
//! kernel command line (`zosia.threads=4`), the flags of the plain command
//! (`--threads 4`), `/set` and `/show`, `--help` and the reference page all
//! come from it.

use crate::frames::{EngineParams, KvType, Sampling, Switch};
use crate::workload::Workload;

/// What to do after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The prompt.
    Chat,
    /// Say what was found and how it would run, then end.
    Diag,
    /// Load the model, answer, check the answer's repeatability, then end.
    Selftest,
    /// Load the model, measure it, then end.
    Bench,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// What was odd.
    Warn,
    /// What was done.
    Info,
    /// The kernel's and llama.cpp's messages too.
    Debug,
}

/// Every parameter's value.
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches that have nothing to do with one another"
)]
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which model, when there are several: label, file name or device.
    pub model: Option<String>,
    /// Expected SHA-256 of the model.
    pub sha256: Option<String>,
    /// Threads for decoding.
    pub threads: Option<u32>,
    /// Threads for prefill.
    pub batch_threads: Option<u32>,
    /// Polling of idle workers, 0 to 100.
    pub poll: u32,
    /// Context length, tokens.
    pub ctx: Option<u32>,
    /// Type of the KV cache.
    pub kv: KvType,
    /// Repacking of weights.
    pub repack: Switch,
    /// N-gram speculation.
    pub spec: Switch,
    /// ggml-cpu level by name.
    pub cpu: Option<String>,
    /// System prompt; empty: none.
    pub system: String,
    /// Temperature.
    pub temp: f32,
    /// Nucleus.
    pub top_p: f32,
    /// The k most probable.
    pub top_k: u32,
    /// Least relative probability.
    pub min_p: f32,
    /// Penalty on repeats.
    pub repeat_penalty: f32,
    /// Seed.
    pub seed: Option<u32>,
    /// Longest answer, tokens.
    pub max_tokens: Option<u32>,
    /// The answer must be JSON.
    pub json: bool,
    /// Name of a GBNF file beside the model.
    pub grammar: Option<String>,
    /// One turn, then the end.
    pub prompt: Option<String>,
    /// What to do.
    pub mode: Mode,
    /// What is measured.
    pub bench: Workload,
    /// Columns of the terminal.
    pub cols: Option<u16>,
    /// Rows of the terminal.
    pub rows: Option<u16>,
    /// Colours.
    pub color: Switch,
    /// Answers as they come, markdown not rendered.
    pub raw: bool,
    /// Reasoning is shown.
    pub reasoning: bool,
    /// What is being typed is evaluated ahead.
    pub draft: bool,
    /// How much is told.
    pub log: LogLevel,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: None,
            sha256: None,
            threads: None,
            batch_threads: None,
            poll: 50,
            ctx: None,
            kv: KvType::F16,
            repack: Switch::Auto,
            spec: Switch::Auto,
            cpu: None,
            system: String::new(),
            temp: 0.7,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
            repeat_penalty: 1.0,
            seed: None,
            max_tokens: None,
            json: false,
            grammar: None,
            prompt: None,
            mode: Mode::Chat,
            bench: Workload::default(),
            cols: None,
            rows: None,
            color: Switch::Auto,
            raw: false,
            reasoning: true,
            draft: true,
            log: LogLevel::Warn,
        }
    }
}

impl Config {
    /// What the engine needs to load the model at `path`, of that many bytes.
    #[must_use]
    pub fn engine_params(&self, path: std::path::PathBuf, bytes: u64) -> EngineParams {
        EngineParams {
            path,
            bytes,
            sha256: self.sha256.clone(),
            threads: self.threads,
            batch_threads: self.batch_threads,
            poll: self.poll,
            ctx_tokens: self.ctx,
            kv: self.kv,
            repack: self.repack,
            speculate: self.spec,
            cpu: self.cpu.clone(),
            log_engine: self.log >= LogLevel::Debug,
        }
    }

    /// How the next answer is drawn, under `grammar` if there is one.
    #[must_use]
    pub fn sampling(&self, grammar: Option<String>) -> Sampling {
        Sampling {
            temp: self.temp,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed,
            max_tokens: self.max_tokens,
            grammar,
        }
    }
}

//! Every parameter's value, in the parts that travel together.

use crate::frames::{EngineParams, Sampling, Switch};
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

/// Every parameter's value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// How the engine runs its model: sent when it is loaded.
    pub engine: EngineParams,
    /// How tokens are drawn: sent with each turn.
    pub sampling: Sampling,
    /// What each conversation begins with and each answer obeys.
    pub chat: ChatParams,
    /// What is shown, and how.
    pub screen: ScreenParams,
    /// What is done at the start.
    pub start: Start,
}

/// What each conversation begins with and each answer obeys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatParams {
    /// System prompt; empty: none.
    pub system: String,
    /// The answer must be JSON.
    pub json: bool,
    /// Name of a GBNF file beside the model.
    pub grammar: Option<String>,
    /// What is being typed is evaluated ahead.
    pub draft: bool,
}

impl Default for ChatParams {
    fn default() -> Self {
        Self {
            system: String::new(),
            json: false,
            grammar: None,
            draft: true,
        }
    }
}

/// What is shown, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScreenParams {
    /// Columns of the terminal.
    pub cols: Option<u16>,
    /// Rows of the terminal.
    pub rows: Option<u16>,
    /// Colours.
    pub color: Switch,
    /// Answers as they come, Markdown not rendered.
    pub raw: bool,
    /// Reasoning is shown.
    pub reasoning: bool,
}

impl Default for ScreenParams {
    fn default() -> Self {
        Self {
            cols: None,
            rows: None,
            color: Switch::Auto,
            raw: false,
            reasoning: true,
        }
    }
}

/// What is done at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Which model, when there are several: label, file name or device.
    pub model: Option<String>,
    /// Which model guesses what that one will say.
    pub draft_model: Option<String>,
    /// Expected SHA-256 of the model.
    pub sha256: Option<String>,
    /// One turn, then the end.
    pub prompt: Option<String>,
    /// What to do.
    pub mode: Mode,
    /// What is measured.
    pub bench: Workload,
    /// Where conversations are kept; `None`: nowhere.
    pub session: Option<String>,
    /// A new session is to be encrypted.
    pub encrypt: bool,
    /// MiB of it that evaluated contexts may take.
    pub contexts_mib: u32,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            model: None,
            draft_model: None,
            sha256: None,
            prompt: None,
            mode: Mode::Chat,
            bench: Workload::default(),
            session: None,
            encrypt: false,
            contexts_mib: 2048,
        }
    }
}

//! The table of parameters.

use crate::config::{Config, Mode};
use crate::frames::{CTX_TOKENS_MAX, KvType, LogLevel, PARALLEL_MAX};
use crate::value::{
    auto_number, choice, choice_text, named_number, number, on_off, on_off_text, optional, sha256,
    switch, switch_text, text,
};
use crate::workload::Workload;

/// The shortest context that can be asked for, tokens.
const CTX_TOKENS_MIN: u32 = 128;

/// When a parameter can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At the start, and by `/set` at any time.
    Always,
    /// At the start, and by `/set`, which then sets up the screen again.
    Screen,
    /// At the start, and by `/set`, which then loads the model again.
    Reload,
    /// At the start only.
    Start,
}

/// One parameter.
#[derive(Debug)]
pub struct Param {
    /// As on the kernel command line, without `zosia.`.
    pub name: &'static str,
    /// What a value looks like.
    pub value: &'static str,
    /// What it does, one sentence.
    pub help: &'static str,
    /// When it can be given.
    pub when: When,
    /// Parses and stores a value; the error says what was expected.
    pub(crate) set: fn(&mut Config, &str) -> Result<(), String>,
    /// The value in force, as `set` would take it.
    pub get: fn(&Config) -> String,
}

impl PartialEq for Param {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Param {}

impl Param {
    /// The default, as text.
    #[must_use]
    pub fn default_text(&self) -> String {
        (self.get)(&Config::default())
    }

    /// The flag of the plain command.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }
}

/// A parameter changed after the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The configuration with it.
    pub config: Config,
    /// Which parameter; its [`Param::when`] says what must be done again.
    pub param: &'static Param,
}

impl Config {
    /// This configuration with `value` for `param`.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn with(&self, param: &'static Param, value: &str) -> Result<Change, String> {
        debug_assert!(
            param.when != When::Start,
            "{} is given at the start",
            param.name
        );
        let mut config = self.clone();
        (param.set)(&mut config, value)?;
        Ok(Change { config, param })
    }
}

/// Every parameter, in the order in which it is explained.
pub const PARAMS: &[Param] = &[
    Param {
        name: "model",
        value: "NAME",
        help: "Which model, when there are several: partition label, file name or device.",
        when: When::Start,
        set: |c, v| text(v).map(|v| c.start.model = (v != "auto").then_some(v)),
        get: |c| optional(c.start.model.as_ref(), "auto"),
    },
    Param {
        name: "draft_model",
        value: "NAME",
        help: "A small model with the same vocabulary, called as model has it or by the path of its file: it guesses tokens ahead, as spec says; the text stays the same.",
        when: When::Start,
        set: |c, v| text(v).map(|v| c.start.draft_model = (v != "none").then_some(v)),
        get: |c| optional(c.start.draft_model.as_ref(), "none"),
    },
    Param {
        name: "sha256",
        value: "HEX[,HEX...]",
        help: "Expected SHA-256 of the model's file, or of each of its parts; a model that differs is not used.",
        when: When::Start,
        set: |c, v| sha256(v).map(|v| c.start.sha256 = v),
        get: |c| optional(c.start.sha256.as_ref(), "none"),
    },
    Param {
        name: "threads",
        value: "N",
        help: "Threads that decode; auto is as many as give the most, up to one for each processor.",
        when: When::Reload,
        set: |c, v| auto_number(v, 1..=512).map(|v| c.engine.threads = v),
        get: |c| optional(c.engine.threads, "auto"),
    },
    Param {
        name: "batch_threads",
        value: "N",
        help: "Threads that evaluate prompts; auto is as threads has it.",
        when: When::Reload,
        set: |c, v| auto_number(v, 1..=512).map(|v| c.engine.batch_threads = v),
        get: |c| optional(c.engine.batch_threads, "auto"),
    },
    Param {
        name: "poll",
        value: "0-100",
        help: "How long idle threads poll for work where that pays: 0 sleeps at once, 100 never.",
        when: When::Reload,
        set: |c, v| number(v, 0..=100).map(|v| c.engine.poll = v),
        get: |c| c.engine.poll.to_string(),
    },
    Param {
        name: "ctx",
        value: "TOKENS",
        help: "Length of the context; auto is 4096, or less if the model was trained for less.",
        when: When::Reload,
        set: |c, v| {
            auto_number(v, CTX_TOKENS_MIN..=CTX_TOKENS_MAX).map(|v| c.engine.ctx_tokens = v)
        },
        get: |c| optional(c.engine.ctx_tokens, "auto"),
    },
    Param {
        name: "parallel",
        value: "1-8",
        help: "Prompts of a batch answered side by side, each in a context of its own; auto: what memory allows.",
        when: When::Start,
        set: |c, v| auto_number(v, 1..=PARALLEL_MAX).map(|v| c.engine.parallel = v),
        get: |c| optional(c.engine.parallel, "auto"),
    },
    Param {
        name: "kv",
        value: "f16|q8_0",
        help: "Type of the KV cache; q8_0 takes about half the memory.",
        when: When::Reload,
        set: |c, v| {
            choice(v, &[("f16", KvType::F16), ("q8_0", KvType::Q8_0)]).map(|v| c.engine.kv = v)
        },
        get: |c| match c.engine.kv {
            KvType::F16 => "f16".into(),
            KvType::Q8_0 => "q8_0".into(),
        },
    },
    Param {
        name: "repack",
        value: "auto|on|off",
        help: "Copy the weights into the layout that the processor likes best; auto: where most of them gain by it.",
        when: When::Reload,
        set: |c, v| switch(v).map(|v| c.engine.repack = v),
        get: |c| switch_text(c.engine.repack),
    },
    Param {
        name: "spec",
        value: "auto|on|off",
        help: "Guess tokens by n-grams of the context, and by draft_model; the text stays the same.",
        when: When::Reload,
        set: |c, v| switch(v).map(|v| c.engine.speculate = v),
        get: |c| switch_text(c.engine.speculate),
    },
    Param {
        name: "cpu",
        value: "LEVEL",
        help: "Kernels to use: v80, v82 or v86 on ARM, x64, avx2 or avx512 on x86; auto is the best.",
        when: When::Reload,
        set: |c, v| text(v).map(|v| c.engine.cpu = (v != "auto").then_some(v)),
        get: |c| optional(c.engine.cpu.as_ref(), "auto"),
    },
    Param {
        name: "system",
        value: "TEXT",
        help: "System prompt.",
        when: When::Always,
        set: |c, v| {
            c.chat.system = if v == "none" {
                String::new()
            } else {
                v.to_owned()
            };
            Ok(())
        },
        get: |c| c.chat.system.clone(),
    },
    Param {
        name: "temp",
        value: "0-5",
        help: "Temperature: 0 always takes the most probable token.",
        when: When::Always,
        // Adding 0 makes -0 what it means.
        set: |c, v| number(v, 0.0..=5.0).map(|v: f32| c.sampling.temp = v + 0.0),
        get: |c| c.sampling.temp.to_string(),
    },
    Param {
        name: "top_p",
        value: "0-1",
        help: "Draw from the most probable tokens that together reach this probability; 1 is off.",
        when: When::Always,
        set: |c, v| number(v, 0.0..=1.0).map(|v| c.sampling.top_p = v + 0.0),
        get: |c| c.sampling.top_p.to_string(),
    },
    Param {
        name: "top_k",
        value: "N",
        help: "Draw from the N most probable tokens; 0 is off.",
        when: When::Always,
        set: |c, v| number(v, 0..=1_000_000).map(|v| c.sampling.top_k = v),
        get: |c| c.sampling.top_k.to_string(),
    },
    Param {
        name: "min_p",
        value: "0-1",
        help: "Leave out tokens less probable than this share of the most probable; 0 is off.",
        when: When::Always,
        set: |c, v| number(v, 0.0..=1.0).map(|v| c.sampling.min_p = v + 0.0),
        get: |c| c.sampling.min_p.to_string(),
    },
    Param {
        name: "repeat_penalty",
        value: "1-2",
        help: "Penalty on tokens among the last 64; 1 is off.",
        when: When::Always,
        set: |c, v| number(v, 1.0..=2.0).map(|v| c.sampling.repeat_penalty = v),
        get: |c| c.sampling.repeat_penalty.to_string(),
    },
    Param {
        name: "seed",
        value: "N",
        help: "Seed of the draws; random takes another for each answer.",
        when: When::Always,
        set: |c, v| named_number(v, "random", 0..=u32::MAX).map(|v| c.sampling.seed = v),
        get: |c| optional(c.sampling.seed, "random"),
    },
    Param {
        name: "max_tokens",
        value: "N",
        help: "Longest answer; none is as long as the context holds.",
        when: When::Always,
        set: |c, v| named_number(v, "none", 1..=u32::MAX).map(|v| c.sampling.max_tokens = v),
        get: |c| optional(c.sampling.max_tokens, "none"),
    },
    Param {
        name: "format",
        value: "text|json",
        help: "json makes every answer one valid JSON value.",
        when: When::Always,
        set: |c, v| choice(v, &[("text", false), ("json", true)]).map(|v| c.chat.json = v),
        get: |c| if c.chat.json { "json" } else { "text" }.into(),
    },
    Param {
        name: "grammar",
        value: "NAME",
        help: "NAME.gbnf on the model's disk: every answer obeys it; none is off.",
        when: When::Always,
        set: |c, v| text(v).map(|v| c.chat.grammar = (v != "none").then_some(v)),
        get: |c| optional(c.chat.grammar.as_ref(), "none"),
    },
    Param {
        name: "prompt",
        value: "TEXT",
        help: "One turn: answer TEXT, then end.",
        when: When::Start,
        set: |c, v| text(v).map(|v| c.start.prompt = Some(v)),
        get: |c| optional(c.start.prompt.as_ref(), "none"),
    },
    Param {
        name: "session",
        value: "FILE",
        help: "Keep conversations in FILE, made on first use; in the machine, on: on the disk with the serial number zosia-session; none writes nothing anywhere.",
        when: When::Start,
        set: |c, v| text(v).map(|v| c.start.session = (v != "none").then_some(v)),
        get: |c| optional(c.start.session.as_ref(), "none"),
    },
    Param {
        name: "encrypt",
        value: "on|off",
        help: "Encrypt a new session; its passphrase is asked for at the prompt.",
        when: When::Start,
        set: |c, v| on_off(v).map(|v| c.start.encrypt = v),
        get: |c| on_off_text(c.start.encrypt),
    },
    Param {
        name: "contexts",
        value: "N",
        help: "MiB of a session for what is evaluated, so that a conversation goes on at once; 0: it is evaluated again.",
        when: When::Start,
        set: |c, v| number(v, 0..=u32::MAX).map(|v| c.start.contexts_mib = v),
        get: |c| c.start.contexts_mib.to_string(),
    },
    Param {
        name: "mode",
        value: "chat|diag|selftest|bench",
        help: "diag says what was found; selftest loads, answers and checks; bench measures; all end then.",
        when: When::Start,
        set: |c, v| choice(v, MODES).map(|v| c.start.mode = v),
        get: |c| choice_text(&c.start.mode, MODES),
    },
    Param {
        name: "bench",
        value: "P,D,N[,T]",
        help: "What mode=bench measures: P tokens evaluated, D tokens generated, N times, each after T others.",
        when: When::Start,
        set: |c, v| Workload::parse(v).map(|v| c.start.bench = v),
        get: |c| c.start.bench.to_string(),
    },
    Param {
        name: "cols",
        value: "N",
        help: "Columns of the terminal; auto asks it.",
        when: When::Screen,
        set: |c, v| auto_number(v, 8..=10_000).map(|v| c.screen.cols = v),
        get: |c| optional(c.screen.cols, "auto"),
    },
    Param {
        name: "rows",
        value: "N",
        help: "Rows of the terminal; auto asks it.",
        when: When::Screen,
        set: |c, v| auto_number(v, 2..=10_000).map(|v| c.screen.rows = v),
        get: |c| optional(c.screen.rows, "auto"),
    },
    Param {
        name: "color",
        value: "auto|on|off",
        help: "Colours and other attributes.",
        when: When::Screen,
        set: |c, v| switch(v).map(|v| c.screen.color = v),
        get: |c| switch_text(c.screen.color),
    },
    Param {
        name: "raw",
        value: "on|off",
        help: "Show answers as they come; markdown is not rendered.",
        when: When::Always,
        set: |c, v| on_off(v).map(|v| c.screen.raw = v),
        get: |c| on_off_text(c.screen.raw),
    },
    Param {
        name: "reasoning",
        value: "on|off",
        help: "Show what a reasoning model thinks before it answers.",
        when: When::Always,
        set: |c, v| on_off(v).map(|v| c.screen.reasoning = v),
        get: |c| on_off_text(c.screen.reasoning),
    },
    Param {
        name: "draft",
        value: "on|off",
        help: "Evaluate what is being typed ahead of Enter.",
        when: When::Always,
        set: |c, v| on_off(v).map(|v| c.chat.draft = v),
        get: |c| on_off_text(c.chat.draft),
    },
    Param {
        name: "log",
        value: "error|warn|info|debug",
        help: "How much is told; debug adds the kernel's and llama.cpp's own messages.",
        when: When::Reload,
        set: |c, v| choice(v, LEVELS).map(|v| c.engine.log = v),
        get: |c| choice_text(&c.engine.log, LEVELS),
    },
];

const MODES: &[(&str, Mode)] = &[
    ("chat", Mode::Chat),
    ("diag", Mode::Diag),
    ("selftest", Mode::Selftest),
    ("bench", Mode::Bench),
];

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
];

/// The parameter of that name; `-` and `_` are the same.
#[must_use]
pub fn find(name: &str) -> Option<&'static Param> {
    let name = name.replace('-', "_");
    PARAMS.iter().find(|p| p.name == name)
}

/// The candidate that looks most like `word`, if one does: one that it begins,
/// else the one with the fewest letters to change.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|c| {
            let begun = word.len() >= 3 && c.starts_with(word);
            let distance = if begun {
                0
            } else {
                strsim::levenshtein(word, c)
            };
            (distance, c)
        })
        .min()
        .filter(|&(distance, c)| distance <= (c.len() / 4).saturating_add(1))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::help::help_text;

    #[test]
    fn every_default_can_be_given() {
        for p in PARAMS {
            let mut config = Config::default();
            // As the documents have it.
            let text = Some(p.default_text()).filter(|text| !text.is_empty());
            let text = text.unwrap_or_else(|| "none".to_owned());
            // These two have no word for "none": they are just not given.
            if matches!(p.name, "model" | "prompt") {
                continue;
            }
            (p.set)(&mut config, &text).unwrap_or_else(|e| panic!("{} {text}: {e}", p.name));
            assert_eq!(config, Config::default(), "{}", p.name);
        }
    }

    #[test]
    fn names_are_unique_and_in_the_help() {
        let help = help_text();
        for (i, p) in PARAMS.iter().enumerate() {
            assert!(PARAMS[..i].iter().all(|q| q.name != p.name), "{}", p.name);
            assert!(help.contains(&format!("  {} ", p.flag())), "{}", p.name);
        }
    }

    #[test]
    fn a_typing_error_finds_its_name() {
        let names = || PARAMS.iter().map(|p| p.name);
        for (typed, meant) in [
            ("thread", "threads"),
            ("tmep", "temp"),
            ("max-tokens", "max_tokens"),
            ("repeat", "repeat_penalty"),
        ] {
            assert_eq!(nearest(typed, names()), Some(meant), "{typed}");
        }
        assert_eq!(nearest("zygote", names()), None);
    }
}

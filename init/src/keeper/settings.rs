//! What of the parameters belongs to a conversation: the system prompt, and those that
//! can be set at any time, where they differ from their defaults. What the machine or
//! the terminal is like belongs to the start.

use std::collections::BTreeMap;

use protocol::{Config, PARAMS, Param, When};

use super::shelf::{Key, Op};

/// The system prompt, and parameters by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) system: String,
    pub(crate) params: BTreeMap<String, String>,
}

impl Settings {
    /// Those in force.
    pub(crate) fn of(config: &Config) -> Self {
        let differ = of_a_chat().filter_map(|param| {
            let value = (param.get)(config);
            (value != param.default_text()).then(|| (param.name.to_owned(), value))
        });
        Self {
            system: config.chat.system.clone(),
            params: differ.collect(),
        }
    }

    /// `config` with these; what was given at the `start` counts. A value that this
    /// version of zosia does not take is left out.
    pub(crate) fn on(&self, start: &Config, config: &Config) -> Config {
        let mut config = config.clone();
        config
            .chat
            .system
            .clone_from(match start.chat.system.as_str() {
                "" => &self.system,
                _ => &start.chat.system,
            });
        for param in of_a_chat() {
            let given = (param.get)(start);
            let kept = self
                .params
                .get(param.name)
                .filter(|_| given == param.default_text());
            if let Ok(change) = config.with(param, kept.unwrap_or(&given)) {
                config = change.config;
            }
        }
        config
    }

    /// What must be written where these were `old`.
    pub(super) fn changes_from(&self, old: &Self, key: Key, ops: &mut Vec<Op>) {
        if self.system != old.system {
            ops.push(Op::System(key, self.system.clone()));
        }
        for (name, value) in &self.params {
            if old.params.get(name) != Some(value) {
                ops.push(Op::Set(key, name.clone(), Some(value.clone())));
            }
        }
        for name in old.params.keys() {
            if !self.params.contains_key(name) {
                ops.push(Op::Set(key, name.clone(), None));
            }
        }
    }
}

/// The system prompt is one, too, and has a record of its own.
fn of_a_chat() -> impl Iterator<Item = &'static Param> {
    let mut params = PARAMS.iter();
    std::iter::from_fn(move || params.find(|p| p.when == When::Always && p.name != "system"))
}

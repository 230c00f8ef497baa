//! What the commands do.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::time::Duration;

use super::commands::{self, Command};
use super::{Place, Repl, given_size, has_colour};
use crate::disk::Choice;
use crate::one_turn::rate;
use crate::ports;
use crate::session::{State, stop_text};
use protocol::memory::mib;
use protocol::{Message, Role};
use protocol::{ModelInfo, TurnStats};
use protocol::{PARAMS, Param, When};

impl Repl {
    /// Carries out a command.
    pub(super) fn execute(&mut self, command: Command) {
        match command {
            Command::Help => self.tell(&commands::help()),
            Command::Exit => self.leaving = true,
            Command::Clear => {
                self.session.clear();
                self.quiet("the conversation is forgotten");
                self.send_held();
            }
            Command::Regen => {
                if self.held.is_some() {
                    self.send_held();
                } else if self.session.regenerate() {
                    self.await_answer();
                } else {
                    self.complain("there is no message to answer");
                }
            }
            Command::Undo => match self.session.undo() {
                Some(text) => {
                    self.quiet(&format!("taken back: {}", first_line(&text)));
                    self.send_held();
                }
                None => self.complain("there is no message to take back"),
            },
            Command::Drop => {
                if self.forget_oldest() {
                    self.dropping = self.held.is_some();
                    self.send_held();
                } else {
                    self.complain("there is no message to forget");
                }
            }
            Command::Edit => match self.held.take().or_else(|| self.session.undo()) {
                Some(text) => self.prompt.set_text(&text, true),
                None => self.complain("there is no message to edit"),
            },
            Command::System(text) => self.system(text.as_deref()),
            Command::Set(param, value) => self.set(param, &value),
            Command::Show(param) => self.show(param),
            Command::Stats => self.stats(),
            Command::Context => self.context(),
            Command::Model(name) => self.model(name.as_deref()),
            Command::Template => {
                if !self.session.render() {
                    self.complain("the model is not ready");
                }
            }
            Command::Think => self.think(),
            Command::Save(name) => match self.save(&name) {
                Ok(place) => self.quiet(&format!("saved as {place}")),
                Err(e) => self.complain(&format!("not saved: {e}")),
            },
            Command::Time => self.time(),
        }
    }

    fn system(&mut self, text: Option<&str>) {
        match text {
            None if self.session.config().chat.system.is_empty() => {
                self.tell("there is no system prompt");
            }
            None => {
                let text = self.session.config().chat.system.clone();
                self.tell(&text);
            }
            Some("none") => {
                self.session.config_mut().chat.system.clear();
                self.quiet("the system prompt is removed");
            }
            Some(text) => {
                text.clone_into(&mut self.session.config_mut().chat.system);
                self.quiet("the system prompt is set");
            }
        }
    }

    fn set(&mut self, param: &'static Param, value: &str) {
        let before = self.session.config().clone();
        match before.with(param, value) {
            Ok(change) => *self.session.config_mut() = change.config,
            Err(expected) => {
                self.complain(&format!("{} {value}: {expected}", param.name));
                return;
            }
        }
        if let Err(e) = self.session.grammar() {
            *self.session.config_mut() = before;
            self.complain(&e);
            return;
        }
        self.quiet(&format!(
            "{} is {}",
            param.name,
            (param.get)(self.session.config())
        ));
        if param.when == When::Reload && self.session.model().is_some() {
            self.session.reload();
        }
        match param.name {
            "color" | "cols" | "rows" => self.set_terminal(),
            "ctx" => self.send_held(),
            _ => {}
        }
    }

    /// Colours and size as the parameters now say.
    fn set_terminal(&mut self) {
        self.colour = has_colour(self.session.config().screen.color, self.place);
        self.prompt.set_colour(self.colour);
        let given = given_size(self.session.config());
        let size = given.or_else(|| self.tty.size());
        self.prompt.set_asking(size.is_none());
        if let Some(size) = size {
            self.resize(size);
        }
    }

    fn show(&mut self, param: Option<&'static Param>) {
        let config = self.session.config();
        let params: Vec<&Param> = match param {
            Some(param) => vec![param],
            None => PARAMS.iter().collect(),
        };
        let mut text = String::new();
        for p in params {
            let mut value = (p.get)(config);
            if value.is_empty() {
                "none".clone_into(&mut value);
            }
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  {:<15} {:<12} {}",
                p.name,
                first_line(&value),
                p.help
            );
        }
        self.tell(&text);
    }

    fn stats(&mut self) {
        let mut text = match self.session.info() {
            None => "there is no model loaded\n".to_owned(),
            Some(info) => format!(
                "model       {} ({}, {} million weights, {} MiB)\n\
                 context     {} tokens of the {} it was trained for, KV cache {} MiB\n\
                 processor   level {}, {} threads, {} for prompts, weights {}\n\
                 template    {}\n\
                 loaded in   {:.1} s, {} MiB of memory besides the file\n",
                info.name,
                info.description,
                info.parameters / 1_000_000,
                mib(info.file_bytes),
                info.ctx_tokens,
                info.ctx_train_tokens,
                mib(info.kv_bytes),
                info.cpu,
                info.threads,
                info.batch_threads,
                if info.repacked {
                    "repacked"
                } else {
                    "as in the file"
                },
                info.template,
                seconds(info.load_ms),
                mib(info.anonymous_bytes),
            ),
        };
        if let Some(s) = self.session.last_stats() {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "last turn   prompt of {} tokens, {} of them new, in {:.2} s ({:.1} tokens/s)\n\
                 \x20           answer of {} tokens in {:.2} s ({:.1} tokens/s, {} passes)\n",
                s.prompt_tokens,
                s.evaluated_tokens,
                s.prefill_ms / 1e3,
                rate(s.evaluated_tokens, s.prefill_ms),
                s.generated_tokens,
                s.decode_ms / 1e3,
                rate(s.generated_tokens.saturating_sub(1), s.decode_ms),
                s.decode_calls,
            );
        }
        self.tell(&text);
    }

    fn context(&mut self) {
        if self.session.messages().is_empty() {
            self.tell("the context is empty");
        } else if !self.session.count() {
            self.complain("the model is not ready");
        }
    }

    /// The answer to `/context`: what each message takes. The first one's count
    /// has the system prompt in it, for not every template renders that alone.
    pub(super) fn on_counted(&mut self, counted: &[(Message, usize)]) {
        let mut table = String::new();
        let mut before = 0;
        for (message, tokens) in counted {
            let role = match role_name(message.role) {
                role if before == 0 && !self.session.config().chat.system.is_empty() => {
                    format!("system and {role}")
                }
                role => role.to_owned(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "{:>7} tokens  {role:<15}  {}",
                tokens.saturating_sub(before),
                first_line(&message.text)
            );
            before = before.max(*tokens);
        }
        let ctx = self.session.info().map_or(0, |i| i.ctx_tokens);
        let _ = writeln!(table, "{before:>7} of {ctx} tokens");
        self.tell(&table);
    }

    /// The answer to `/template`: exactly that, so it is not wrapped at words.
    pub(super) fn on_rendered(&mut self, text: &str, tokens: &[i32]) {
        self.verbatim(text);
        self.quiet(&format!("{} tokens: {tokens:?}", tokens.len()));
    }

    fn model(&mut self, name: Option<&str>) {
        if *self.session.state() == State::Answering {
            return;
        }
        self.models.look_again();
        let Some(name) = name else {
            self.list_models();
            return;
        };
        match self.models.choose(Some(name)) {
            Ok(Choice::One(model)) => {
                let model = model.clone();
                // The checksum was that of the first model.
                self.session.config_mut().start.sha256 = None;
                self.session.load(model);
            }
            Ok(Choice::Several(_)) => self.complain(&format!(
                "{name} names several models; give the device or the path"
            )),
            Err(e) => self.complain(&e.to_string()),
        }
    }

    fn list_models(&mut self) {
        let mut list = String::new();
        for m in self.models.all() {
            let mark = if self.session.model() == Some(m.path.as_path()) {
                '*'
            } else {
                ' '
            };
            let place = m
                .device
                .clone()
                .unwrap_or_else(|| m.path.display().to_string());
            // Writing to a String cannot fail.
            let _ = writeln!(
                list,
                "{mark} {:<40} {:>7} MiB  {place}",
                m.name,
                mib(m.bytes)
            );
        }
        if list.is_empty() {
            match self.models.choose(None) {
                Err(e) => self.complain(&e.to_string()),
                Ok(_) => self.tell("there is no model"),
            }
        } else {
            self.tell(&list);
        }
    }

    pub(super) fn think(&mut self) {
        let thought = self
            .session
            .messages()
            .iter()
            .rev()
            .find_map(|m| m.reasoning.clone());
        match thought {
            Some(text) => self.quiet(&text),
            None => self.complain("no answer in this conversation came with reasoning"),
        }
    }

    /// Saves the conversation and says where.
    fn save(&mut self, name: &str) -> io::Result<String> {
        let json = std::path::Path::new(name)
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("json"));
        let body = if json {
            serde_json::to_string_pretty(&self.session.transcript())?
        } else {
            markdown(&self.session.transcript())
        };
        let file_name = if name.contains('.') {
            name.to_owned()
        } else {
            format!("{name}.md")
        };
        match self.place {
            Place::Machine => {
                let mut port = ports::open(ports::SAVE)?;
                port.write_all(format!("{file_name} {}\n", body.len()).as_bytes())?;
                port.write_all(body.as_bytes())?;
                Ok(format!("transcripts/{file_name} on the host"))
            }
            Place::Command => {
                fs::create_dir_all("transcripts")?;
                let path = format!("transcripts/{file_name}");
                fs::write(&path, body)?;
                Ok(path)
            }
        }
    }

    fn time(&mut self) {
        let info = self.session.info();
        let before_kernel = info.and_then(|info| info.before_kernel_ms);
        let table = self
            .timeline
            .table(before_kernel.map(Duration::from_millis));
        self.tell(&table);
    }
}

/// One line that tells which model is ready.
pub(super) fn model_line(info: &ModelInfo) -> String {
    format!(
        "{} · {} MiB · {} · {} thread{} · context {} tokens",
        info.name,
        mib(info.file_bytes),
        info.cpu,
        info.threads,
        if info.threads == 1 { "" } else { "s" },
        info.ctx_tokens
    )
}

/// One line of counts after a turn.
pub(super) fn turn_line(s: &TurnStats, ctx_tokens: u32) -> String {
    let percent = u64::from(s.ctx_used_tokens) * 100 / u64::from(ctx_tokens.max(1));
    // The time of the first token is the prompt's.
    let decoded = match s.generated_tokens {
        1 => "1 token".to_owned(),
        n => format!(
            "{n} tokens, {:.1}/s",
            rate(n.saturating_sub(1), s.decode_ms)
        ),
    };
    let mut line = format!(
        "{decoded} · prompt {} new, {:.1}/s · context {percent} %",
        s.evaluated_tokens,
        rate(s.evaluated_tokens, s.prefill_ms),
    );
    if let Some(why) = stop_text(s.stop) {
        line = format!("{why} · {line}");
    }
    line
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

fn markdown(messages: &[Message]) -> String {
    let mut out = String::new();
    for m in messages {
        // Writing to a String cannot fail.
        let _ = write!(out, "## {}\n\n{}\n\n", role_name(m.role), m.text.trim_end());
    }
    out
}

pub(super) fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(60).collect();
    if short.len() < text.trim_end().len() {
        short.push('…');
    }
    short
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of a load, to one decimal"
)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

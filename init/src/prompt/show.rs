//! What commands show of the session, and lines about a model or a turn.

use std::fmt::Write as _;
use std::time::Duration;

use protocol::memory::mib;
use protocol::{Config, ModelInfo, PARAMS, Param, Role, TurnStats};

use super::screen::Screen;
use crate::host;
use crate::keeper::{Kept, Shelf};
use crate::models::Models;
use crate::session::{Session, stop_text};
use crate::supervisor::Engine;
use crate::timeline::Timeline;

/// `/show`: parameters in force.
pub(super) fn parameters(screen: &mut Screen, config: &Config, param: Option<&'static Param>) {
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
    screen.tell(&text);
}

/// `/stats`: the model, how it runs, and the last turn's counts.
pub(super) fn stats(screen: &mut Screen, session: &Session<Engine>) {
    let mut text = match session.info() {
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
    // Writing to a String cannot fail.
    let _ = writeln!(text, "memory      {}", host::memory());
    if let Some(unconfined) = session.info().and_then(|info| info.unconfined.as_ref()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "sandbox     {unconfined}");
    }
    if let Some(draft) = session.info().and_then(|info| info.draft.as_ref()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "draft model {draft}");
    }
    if let Some(going_back) = session.info().and_then(going_back) {
        text.push_str(&going_back);
    }
    if let Some(s) = session.last_stats() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "last turn   prompt of {} tokens, {} of them new, in {:.2} s ({:.1} tokens/s)\n\
                 \x20           answer of {} tokens in {:.2} s ({:.1} tokens/s, {} passes)\n",
            s.prompt_tokens,
            s.evaluated_tokens,
            s.prefill_ms / 1e3,
            s.prefill_tokens_per_s(),
            s.generated_tokens,
            s.decode_ms / 1e3,
            s.decode_tokens_per_s(),
            s.decode_calls,
        );
        if s.guessed_tokens > 0 {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "guesses     {} tokens of the draft model, {} of them right",
                s.guessed_tokens, s.taken_tokens
            );
        }
    }
    if session.ahead_tokens() > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "ahead       {} tokens of the next prompt are evaluated",
            session.ahead_tokens()
        );
    }
    screen.tell(&text);
}

/// What it takes to go back in a conversation, where that is not as with most models.
fn going_back(info: &ModelInfo) -> Option<String> {
    let mut text = match info.checkpoint_bytes? {
        0 => "corrections evaluate the conversation again\n".to_owned(),
        bytes => format!(
            "corrections evaluate what is new, from states kept in at most {} MiB\n",
            mib(bytes)
        ),
    };
    text.push_str(if info.is_kept {
        "sessions    keep what is evaluated as one piece, if it fits a message\n"
    } else {
        "sessions    keep nothing of what is evaluated\n"
    });
    Some(text)
}

/// The answer to `/context`: what each message takes. The first one's count has
/// the system prompt in it, for not every template renders that alone.
pub(super) fn counted(screen: &mut Screen, session: &Session<Engine>, counts: &[u32]) {
    let mut table = String::new();
    let mut before = 0;
    for (message, tokens) in session.messages().iter().zip(counts) {
        let role = match journal::role_name(message.role) {
            role if before == 0 && !session.config().chat.system.is_empty() => {
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
    let ctx = session.info().map_or(0, |i| i.ctx_tokens);
    let _ = writeln!(table, "{before:>7} of {ctx} tokens");
    screen.tell(&table);
}

/// The answer to `/template`: exactly that, so it is not wrapped at words; before it,
/// whose template it is if not the model's.
pub(super) fn rendered(screen: &mut Screen, session: &Session<Engine>, text: &str, tokens: &[i32]) {
    if let Some(line) = session.info().and_then(ModelInfo::other_template) {
        screen.quiet(&line);
    }
    screen.verbatim(text);
    screen.quiet(&format!("{} tokens: {tokens:?}", tokens.len()));
}

/// `/model`: all of them, the one in use marked.
pub(super) fn models(screen: &mut Screen, session: &Session<Engine>, models: &Models) {
    let mut list = String::new();
    for m in models.all() {
        let mark = if session.model() == Some(m.path.as_path()) {
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
        match models.choose(None) {
            Err(e) => screen.complain(&e.to_string()),
            Ok(_) => screen.tell("there is no model"),
        }
    } else {
        screen.tell(&list);
    }
}

/// `/think`: what the model thought before its last answer.
pub(super) fn thought(screen: &mut Screen, session: &Session<Engine>) {
    let mut messages = session.messages().iter().rev();
    let last = messages.find(|m| m.role == Role::Assistant);
    match last.and_then(|m| m.reasoning.as_deref()) {
        Some(text) => screen.quiet(text),
        None => screen.complain("the last answer came without reasoning"),
    }
}

/// What a conversation is known by, on one line.
pub(super) fn about(chat: &Kept) -> String {
    let name = match chat.shown() {
        "" => "an empty conversation".to_owned(),
        words => format!("\"{}\"", first_line(words)),
    };
    let turns = plural(chat.count, "turn");
    format!("{name}, {turns}, of {}", moment(chat.at))
}

/// `/chats`: all of them, the one under way marked.
pub(super) fn chats(shelf: &Shelf) -> String {
    let mut list = String::new();
    for (index, chat) in shelf.chats().iter().enumerate() {
        let mark = if shelf.is_current(chat) { '*' } else { ' ' };
        let name = match chat.shown() {
            "" => "(empty)".to_owned(),
            words => first_line(words),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            list,
            "{mark}{:>3}  {}  {}, {} tokens  {name}",
            index.saturating_add(1),
            moment(chat.at),
            plural(chat.count, "turn"),
            chat.tokens,
        );
    }
    if shelf.current().is_none() {
        list.push_str("*  -  this one, which has not begun\n");
    }
    list
}

fn plural(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// A time in seconds since 1970, by the clock, which has no zone.
fn moment(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok();
    let moment = moment.and_then(|s| jiff::Timestamp::from_second(s).ok());
    // Beyond the year 9999: no clock says so.
    moment.map_or_else(String::new, |m| m.strftime("%Y-%m-%d %H:%M").to_string())
}

/// `/time`: how long each step took.
pub(super) fn time(screen: &mut Screen, session: &Session<Engine>, timeline: &Timeline) {
    let before_kernel = session.info().and_then(|info| info.before_kernel_ms);
    screen.tell(&timeline.table(before_kernel.map(Duration::from_millis)));
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

/// How much of `whole` is `part`, rounded down.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

/// One line of counts after a turn.
pub(super) fn turn_line(s: &TurnStats, ctx_tokens: u32) -> String {
    let percent = percent(s.ctx_used_tokens.into(), ctx_tokens.into());
    // The time of the first token is the prompt's.
    let decoded = match s.generated_tokens {
        1 => "1 token".to_owned(),
        n => format!("{n} tokens, {:.1}/s", s.decode_tokens_per_s()),
    };
    let mut line = format!(
        "{decoded} · prompt {} new, {:.1}/s · context {percent} %",
        s.evaluated_tokens,
        s.prefill_tokens_per_s(),
    );
    if let Some(why) = stop_text(s.stop) {
        line = format!("{why} · {line}");
    }
    line
}

/// A message with the names of what was read for it in the place of the texts.
pub(super) fn folded(message: &str) -> String {
    let (documents, line) = texts::split(message);
    let names: Vec<&str> = documents.iter().map(|document| document.name).collect();
    match names.as_slice() {
        [] => line.to_owned(),
        names => format!("[{}] {line}", names.join(", ")),
    }
}

/// The beginning of a message, folded, on one line.
pub(super) fn first_line(message: &str) -> String {
    let text = folded(message);
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

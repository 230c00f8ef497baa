//! A model's chat template: messages in, the text that the model was trained
//! on out. What a template cannot do (some know no system prompt, some want
//! content in parts) is found out once by trying, and made up for.

use super::guard::{CURSOR, Guard, Mark, Rendered, restore};
use super::jinja::{Budget, Failure, Fault, Program, Text, Value, bytes_max};
use super::reasoning::{Format, Splitter};
use super::{Message, Role};
use protocol::ModelInfo;

/// What models without a template are spoken to with, if their vocabulary has
/// its marks.
const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
const CHATML_MARKS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];
/// What the others are spoken to with. The space after the last colon is left
/// to the model: it belongs to the token of the answer's first word.
const PLAIN: &str = "{% for message in messages %}\
    {% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}\
    {% else %}{{ message['role']|capitalize + ': ' + message['content'] + '\n' }}{% endif %}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";
/// What follows an answer there.
const PLAIN_END: &str = "\nUser:";
/// What a message counts for besides its text, when it is found out what a
/// rendering may spend: many templates look at every message for each.
const MESSAGE_BYTES: usize = 2048;
/// Messages of templates are cut to this.
const ERROR_CHARS_MAX: usize = 240;
/// Between a system prompt and the user message that it is put before, where
/// a template knows none: as Gemma's and Mistral's own do.
const FOLD: &str = "\n\n";

/// What a template is made of.
#[derive(Debug, Clone)]
pub struct TemplateParams<'a> {
    /// `tokenizer.chat_template`, or why it cannot be had.
    pub source: Result<&'a str, &'a str>,
    /// Text of the token that begins a sequence.
    pub bos: &'a str,
    /// Text of the token that ends one.
    pub eos: &'a str,
    /// Tokens of the types control, unknown and user-defined. Of the last,
    /// those count that the template writes.
    pub marks: Vec<Mark>,
    /// Local time, seconds since 1970, for templates that tell the model the
    /// date: the same for a whole session, or the prompt's beginning changes.
    pub now_s: Option<i64>,
}

/// What a rendering ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The prompt to answer.
    Answer,
    /// The last message, which is still being typed: the rendering ends with
    /// it, and is the beginning of the one to come whatever is typed next.
    Typing,
}

/// Why a conversation cannot be rendered. Continues "the model's chat template
/// failed: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It said so itself.
    #[error("it refuses this conversation: {0}")]
    Refused(String),
    /// It went on for too long.
    #[error("it runs without end")]
    Endless,
    /// It held or wrote too much.
    #[error("it needs more than {} MiB", .bytes_max >> 20)]
    TooLarge {
        /// What it may hold.
        bytes_max: usize,
    },
    /// It is wrong.
    #[error("line {line}: {message}")]
    Wrong {
        /// Line of the template, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// It rendered a message without its text.
    #[error("it leaves out what the user says")]
    Deaf,
}

/// What a template can do, found out by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Abilities {
    /// Content must be a list of parts.
    parts: bool,
    /// The role `system` is rendered.
    system: bool,
}

/// A chat template, ready to render.
#[derive(Debug)]
pub struct Template {
    program: Program,
    origin: String,
    bos: String,
    eos: String,
    abilities: Abilities,
    guard: Guard,
    format: Format,
    end_of_turn: Option<String>,
}

/// A message as templates see it.
struct TemplateMessage {
    role: &'static str,
    text: String,
    reasoning: Option<String>,
    /// The content is a list of parts.
    parts: bool,
}

impl Template {
    /// The [`Template::origin`] of a model's own template.
    pub const OWN: &str = ModelInfo::OWN_TEMPLATE;

    /// The model's template. Where that is missing or unusable, `ChatML`, or plain
    /// text if the vocabulary has no tokens for that: [`Template::origin`] says which.
    ///
    /// # Errors
    /// [`TemplateError`] when not even that renders.
    pub fn new(params: &TemplateParams<'_>) -> Result<Self, TemplateError> {
        let own = params.source.map_err(str::to_owned).and_then(|source| {
            Self::compile(source, Self::OWN.to_owned(), params).map_err(|error| unusable(&error))
        });
        let why = match own {
            Ok(template) => return Ok(template),
            Err(why) => why,
        };
        let is_token = |text: &&str| params.marks.iter().any(|mark| mark.text == **text);
        if CHATML_MARKS.iter().all(is_token) {
            return Self::compile(CHATML, format!("ChatML ({why})"), params);
        }
        let origin =
            format!("plain text, User: and Assistant: ({why}, and no tokens for ChatML's marks)");
        let mut plain = Self::compile(PLAIN, origin, params)?;
        plain.end_of_turn = Some(PLAIN_END.to_owned());
        Ok(plain)
    }

    /// Why the model's template cannot be used, as far as that can be told without
    /// the model.
    #[must_use]
    pub fn fault(source: Result<&str, &str>) -> Option<String> {
        let params = TemplateParams {
            source,
            bos: "",
            eos: "",
            marks: Vec::new(),
            now_s: None,
        };
        let compiled = |source| Self::compile(source, String::new(), &params);
        match source.map(compiled) {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(unusable(&error)),
            Err(why) => Some(why.to_owned()),
        }
    }

    fn compile(
        source: &str,
        origin: String,
        params: &TemplateParams<'_>,
    ) -> Result<Self, TemplateError> {
        let program = Program::new(source, params.now_s).map_err(|e| explain(e, 0))?;
        let is_token = |text: &str| params.marks.iter().any(|mark| mark.text == text);
        let mut template = Self {
            program,
            origin,
            bos: params.bos.to_owned(),
            eos: params.eos.to_owned(),
            abilities: Abilities {
                parts: false,
                system: true,
            },
            guard: Guard::new(Vec::new()),
            format: Format::of(source, is_token),
            end_of_turn: None,
        };
        template.find_abilities()?;
        let turns = template.render_probe(&["user", "assistant", "user"]).ok();
        let written = turns.as_deref().unwrap_or_default();
        let marks = params.marks.iter().filter(|mark| {
            let markup = mark.text.starts_with(['<', '[']) && mark.text.chars().count() > 2;
            mark.control
                || (markup && (source.contains(&mark.text) || written.contains(&mark.text)))
        });
        template.guard = Guard::new(marks.cloned().collect());
        template.end_of_turn = turns.and_then(|turns| template.find_end_of_turn(&turns));
        Ok(template)
    }

    /// Where the template came from, in words: "the model", or what is used
    /// instead and why.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The text that ends an assistant's turn, unless it ends its thinking as
    /// well. A token with this text ends an answer; where there is none, the
    /// text itself does.
    #[must_use]
    pub fn end_of_turn(&self) -> Option<&str> {
        self.end_of_turn.as_deref()
    }

    /// Whether an answer begins with a space that belongs to the template.
    #[must_use]
    pub fn opens_with_space(&self) -> bool {
        self.end_of_turn() == Some(PLAIN_END)
    }

    /// Control tokens that must be handed to the [`Splitter`] as their text
    /// when the model writes them.
    #[must_use]
    pub fn visible(&self) -> Vec<&str> {
        let texts = self.guard.marks().iter().map(|mark| mark.text.as_str());
        texts.filter(|text| self.format.names(text)).collect()
    }

    /// Tells the reasoning from the answer in what follows `rendered`.
    #[must_use]
    pub fn splitter(&self, rendered: &Rendered<'_>) -> Splitter {
        self.format.splitter(rendered.guarded())
    }

    /// Renders `messages`, oldest first.
    ///
    /// # Errors
    /// The template refuses them, fails, or spends more than it may.
    pub fn render(&self, messages: &[Message], next: Next) -> Result<Rendered<'_>, TemplateError> {
        let mut messages = self.adapt(messages);
        if let (Next::Typing, Some(last)) = (next, messages.last_mut()) {
            // Many templates trim: trailing space is not certain to stay.
            last.text.truncate(last.text.trim_end().len());
        }
        let last = messages.len().saturating_sub(1);
        let protected = messages.iter().enumerate().map(|(index, message)| {
            let mut text = self.guard.protect(&message.text);
            if next == Next::Typing && index == last {
                text.push(CURSOR);
            }
            let reasoning = message.reasoning.as_deref();
            let reasoning = reasoning.map(|reasoning| self.guard.protect(reasoning));
            self.template_message(name(message.role), text, reasoning)
        });
        let mut guarded = self.run(protected.collect(), true)?;
        if next == Next::Typing {
            guarded.truncate(guarded.find(CURSOR).unwrap_or(0));
        }
        Ok(Rendered::new(&self.guard, guarded))
    }

    /// `messages` as this template can take them: a system prompt that it does
    /// not know goes before what the user says first.
    fn adapt(&self, messages: &[Message]) -> Vec<Message> {
        let mut adapted = Vec::with_capacity(messages.len());
        let mut system = String::new();
        for message in messages {
            if message.role == Role::System && !self.abilities.system {
                if !message.text.is_empty() {
                    system.push_str(&message.text);
                    system.push_str(FOLD);
                }
                continue;
            }
            let mut message = message.clone();
            if message.role == Role::User {
                message.text.insert_str(0, &std::mem::take(&mut system));
            }
            adapted.push(message);
        }
        adapted
    }

    fn template_message(
        &self,
        role: &'static str,
        text: String,
        reasoning: Option<String>,
    ) -> TemplateMessage {
        TemplateMessage {
            role,
            text,
            reasoning,
            parts: self.abilities.parts,
        }
    }

    fn run(
        &self,
        messages: Vec<TemplateMessage>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let bytes = messages.iter().map(TemplateMessage::bytes).sum();
        let names = |budget: &Budget| {
            let values: Result<Vec<Value>, Fault> = messages
                .into_iter()
                .map(|message| message.value(budget))
                .collect();
            let mut names = vec![
                ("messages", budget.list(values?)?),
                ("add_generation_prompt", Value::Bool(add_generation_prompt)),
                // `apply_chat_template` passes these so.
                ("tools", Value::None),
                ("documents", Value::None),
            ];
            for (name, text) in [("bos_token", &self.bos), ("eos_token", &self.eos)] {
                names.push((name, budget.text(text.as_str())?));
            }
            let names = names.into_iter();
            Ok(names
                .map(|(name, value)| (Text::literal(name), value))
                .collect())
        };
        self.program
            .render(bytes, names)
            .map_err(|failure| explain(failure, bytes))
    }

    /// Renders messages of these roles whose texts are [`probe`]s.
    fn render_probe(&self, roles: &[&'static str]) -> Result<String, TemplateError> {
        let messages = roles.iter().enumerate();
        let messages =
            messages.map(|(index, role)| self.template_message(role, probe(index), None));
        self.run(messages.collect(), true)
    }

    /// Finds out what the template can do. Fails if it cannot render a question.
    fn find_abilities(&mut self) -> Result<(), TemplateError> {
        let plain = self.render_probe(&["user"]);
        if !plain.as_ref().is_ok_and(|text| text.contains(&probe(0))) {
            self.abilities.parts = true;
            let parts = self.render_probe(&["user"]);
            if !parts.is_ok_and(|text| text.contains(&probe(0))) {
                return Err(plain.err().unwrap_or(TemplateError::Deaf));
            }
        }
        let system = self.render_probe(&["system", "user"]);
        self.abilities.system =
            system.is_ok_and(|text| text.contains(&probe(0)) && text.contains(&probe(1)));
        Ok(())
    }

    /// What stands after the assistant's turn in three turns of probes: the
    /// first mark, or the rest of the line.
    fn find_end_of_turn(&self, turns: &str) -> Option<String> {
        let (_, after) = turns.split_once(&probe(1))?;
        let (between, _) = after.split_once(&probe(2))?;
        let marks = self.guard.marks().iter();
        let first = marks
            .filter_map(|mark| Some((between.find(&mark.text)?, mark)))
            .min_by_key(|(position, mark)| (*position, std::cmp::Reverse(mark.text.len())));
        let end = match first {
            Some((_, mark)) => mark.text.as_str(),
            None => between.lines().next().unwrap_or_default().trim(),
        };
        (!end.is_empty() && !self.ends_reasoning(end)).then(|| end.to_owned())
    }

    /// Whether the template writes `end` between thinking and answer.
    fn ends_reasoning(&self, end: &str) -> bool {
        let question = self.template_message("user", probe(0), None);
        let answer = self.template_message("assistant", probe(1), Some(probe(2)));
        let Ok(text) = self.run(vec![question, answer], false) else {
            return false;
        };
        let thought = text.split_once(&probe(2)).map_or("", |(_, after)| after);
        let between = thought
            .split_once(&probe(1))
            .map_or("", |(before, _)| before);
        between.contains(end)
    }
}

impl TemplateMessage {
    fn bytes(&self) -> usize {
        let reasoning = self.reasoning.as_ref().map_or(0, String::len);
        let text = self.text.len().saturating_add(reasoning);
        text.saturating_add(MESSAGE_BYTES)
    }

    /// The message as a dict.
    fn value(self, budget: &Budget) -> Result<Value, Fault> {
        let key = |name: &str| Value::Str(Text::literal(name));
        let text = budget.text(self.text)?;
        let content = if self.parts {
            let part = vec![(key("type"), key("text")), (key("text"), text)];
            budget.list(vec![budget.dict(part)?])?
        } else {
            text
        };
        let mut entries = vec![(key("role"), key(self.role)), (key("content"), content)];
        if let Some(reasoning) = self.reasoning {
            let reasoning = budget.text(reasoning)?;
            // As Qwen and others name it, as gpt-oss and Granite do, and as Solar does.
            for name in ["reasoning_content", "thinking", "reasoning"] {
                entries.push((key(name), reasoning.clone()));
            }
        }
        budget.dict(entries)
    }
}

/// Why a model's own template is not used.
fn unusable(error: &TemplateError) -> String {
    format!("the model's own cannot be used: {error}")
}

/// A role as templates name it.
fn name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

/// A text that no template contains.
fn probe(index: usize) -> String {
    format!("zosiaprobe{index}")
}

/// What went wrong in a conversation of `bytes`, in one line without control
/// characters.
fn explain(failure: Failure, bytes: usize) -> TemplateError {
    match failure.fault {
        Fault::Raised(said) => TemplateError::Refused(one_line(&said)),
        Fault::Endless => TemplateError::Endless,
        Fault::Memory => TemplateError::TooLarge {
            bytes_max: bytes_max(bytes),
        },
        Fault::Wrong(message) => TemplateError::Wrong {
            line: failure.line,
            message: one_line(&message),
        },
    }
}

/// `text` fit for a terminal: one line, no control characters, not too long.
fn one_line(text: &str) -> String {
    let text = restore(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    if line.chars().count() > ERROR_CHARS_MAX {
        let cut: String = line.chars().take(ERROR_CHARS_MAX).collect();
        return cut + "…";
    }
    line
}

#[cfg(test)]
mod tests;

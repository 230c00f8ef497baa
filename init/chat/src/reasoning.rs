//! Telling an answer from the thinking before it, while it streams.
//!
//! Models that think aloud put it between markers at the beginning of an
//! answer; some templates already open it in the prompt. Markers inside the
//! answer itself are text: a model may well be asked about them. What is taken
//! out here goes back into a template as `reasoning_content`.

use protocol::TextKind;

/// How each family marks the beginning and the end of its reasoning.
const MARKERS: [(&str, &str); 13] = [
    ("<think>", "</think>"), // DeepSeek R1, Qwen 3, QwQ, SmolLM 3, …
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"), // EXAONE Deep
    ("<reasoning>", "</reasoning>"),
    ("<reason>", "</reason>"),
    ("<seed:think>", "</seed:think>"),          // Seed-OSS
    ("[THINK]", "[/THINK]"),                    // Magistral
    ("◁think▷", "◁/think▷"),                    // Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"), // Command A
    ("<|channel>thought", "<channel|>"),        // Gemma 4
    ("<unused94>thought", "<unused95>"),        // MedGemma
    ("Here is my thought process:", "Here is my response:"), // Granite 3.2
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"), // Apriel
];
/// Markers known whatever the template says: their models are the most common,
/// and many of their templates do not name them.
const ALWAYS_KNOWN: usize = 1;

/// How a family writes its thinking and its answer as messages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// All that is not text.
    marks: &'static [&'static str],
    /// Those that end a message's header.
    bodies: &'static [&'static str],
}

/// gpt-oss: `<|channel|>NAME<|message|>TEXT<|end|><|start|>assistant` ….
const HARMONY: Dialect = Dialect {
    marks: &[
        "<|start|>",
        "<|channel|>",
        "<|message|>",
        "<|constrain|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
    ],
    bodies: &["<|message|>"],
};
/// Solar Open: `<|think|>TEXT<|end|><|begin|>assistant<|content|>TEXT<|flush|>`.
const SOLAR: Dialect = Dialect {
    marks: &[
        "<|begin|>",
        "<|think|>",
        "<|content|>",
        "<|tool_calls|>",
        "<|end|>",
        "<|flush|>",
        "<|calls|>",
    ],
    bodies: &["<|think|>", "<|content|>", "<|tool_calls|>"],
};
/// What ends a message of either.
const MESSAGE_END: &str = "<|end|>";
/// What a header says first.
const ROLE: &str = "assistant";

/// How a model marks its reasoning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// Opening and closing markers.
    Markers(Vec<(&'static str, &'static str)>),
    /// Messages: the "harmony" of gpt-oss, and what is like it.
    Messages(&'static Dialect),
}

impl Format {
    /// The format of the model whose template is `source` and whose vocabulary
    /// knows `is_token`.
    pub(super) fn of(source: &str, is_token: impl Fn(&str) -> bool) -> Self {
        if source.contains("<|channel|>") && source.contains("<|message|>") {
            return Self::Messages(&HARMONY);
        }
        if source.contains("<|think|>") && source.contains("<|content|>") {
            return Self::Messages(&SOLAR);
        }
        let known = MARKERS.iter().enumerate().filter(|(index, (open, close))| {
            *index < ALWAYS_KNOWN || source.contains(close) || is_token(open) || is_token(close)
        });
        Self::Markers(known.map(|(_, &markers)| markers).collect())
    }

    /// Whether a token with this text has to reach the splitter as text.
    pub(super) fn names(&self, token: &str) -> bool {
        match self {
            Self::Messages(dialect) => dialect.marks.contains(&token),
            Self::Markers(markers) => markers
                .iter()
                .any(|(open, close)| open.starts_with(token) || *close == token),
        }
    }

    /// A splitter for what follows `prompt`.
    pub(super) fn splitter(&self, prompt: &str) -> Splitter {
        let prompt = prompt.trim_end();
        let (state, markers) = match self {
            Self::Messages(dialect) => (State::Header(dialect), Vec::new()),
            Self::Markers(markers) => {
                let open = markers.iter().find(|(open, _)| prompt.ends_with(open));
                let state = open.map_or(State::Start, |(_, close)| State::Reasoning(close));
                (state, markers.clone())
            }
        };
        Splitter {
            state,
            markers,
            held: String::new(),
            fresh: true,
        }
    }
}

/// Where in an answer the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far: an opening marker may come.
    Start,
    /// Thinking, until this marker.
    Reasoning(&'static str),
    /// The answer, to the end.
    Answer,
    /// A message's header.
    Header(&'static Dialect),
    /// A message's text.
    Body(&'static Dialect, TextKind),
}

/// Splits one answer as it streams.
#[derive(Debug)]
pub struct Splitter {
    state: State,
    markers: Vec<(&'static str, &'static str)>,
    /// Not yet given away: a marker may have begun, or white space may turn
    /// out to be the end of a part.
    held: String,
    /// Nothing of the present part has been given away: leading white space of
    /// it is dropped.
    fresh: bool,
}

impl Splitter {
    /// Takes the next piece and gives away what is certain by now.
    pub fn push(&mut self, text: &str, give: &mut impl FnMut(TextKind, &str)) {
        self.held.push_str(text);
        while self.step(give) {}
    }

    /// What ends the reasoning that the stream is in, where a marker does.
    #[must_use]
    pub fn awaits(&self) -> Option<&'static str> {
        match self.state {
            State::Reasoning(close) => Some(close),
            _ => None,
        }
    }

    /// Gives away the rest: the answer has ended, for whatever reason.
    pub fn finish(&mut self, give: &mut impl FnMut(TextKind, &str)) {
        let held = std::mem::take(&mut self.held);
        if self.state == State::Start {
            self.fresh = false; // white space was all there was
        }
        match self.state {
            State::Reasoning(_) | State::Body(_, TextKind::Reasoning) => {
                self.give(TextKind::Reasoning, held.trim_end(), give);
            }
            State::Header(_) => self.give(TextKind::Answer, unheaded(&held), give),
            State::Start | State::Answer | State::Body(_, TextKind::Answer) => {
                self.give(TextKind::Answer, &held, give);
            }
        }
    }

    /// Does what can be done with `held`; whether there may be more to do.
    fn step(&mut self, give: &mut impl FnMut(TextKind, &str)) -> bool {
        match self.state {
            State::Answer => {
                let held = std::mem::take(&mut self.held);
                self.give(TextKind::Answer, &held, give);
                false
            }
            State::Start => self.open(),
            State::Reasoning(close) => match find(&self.held, &[close]) {
                Found::Marker { start, end } => {
                    let thought = self.take(start, end);
                    self.give(TextKind::Reasoning, thought.trim_end(), give);
                    self.enter(State::Answer);
                    true
                }
                Found::Nothing { certain } => self.give_certain(TextKind::Reasoning, certain, give),
            },
            State::Header(dialect) => self.read_header(dialect),
            State::Body(dialect, kind) => match find(&self.held, dialect.marks) {
                Found::Marker { start, .. } => {
                    let text = self.take(start, start);
                    let text = match kind {
                        TextKind::Reasoning => text.trim_end(),
                        TextKind::Answer => &text,
                    };
                    self.give(kind, text, give);
                    self.enter(State::Header(dialect));
                    true
                }
                Found::Nothing { certain } => self.give_certain(kind, certain, give),
            },
        }
    }

    /// At the start: is this an opening marker?
    fn open(&mut self) -> bool {
        let text = self.held.trim_start();
        let mut markers = self.markers.iter();
        let opened = markers.find_map(|(open, close)| Some((text.strip_prefix(open)?, *close)));
        if let Some((rest, close)) = opened {
            self.held = rest.to_owned();
            self.enter(State::Reasoning(close));
            return true;
        }
        if self.markers.iter().any(|(open, _)| open.starts_with(text)) {
            return false;
        }
        // The answer without reasoning: every byte of it counts.
        self.state = State::Answer;
        self.fresh = false;
        true
    }

    /// Reads a header up to the mark that ends it.
    fn read_header(&mut self, dialect: &'static Dialect) -> bool {
        let text = self.held.trim_start();
        if !text.starts_with("<|") && !"<|".starts_with(text) {
            self.state = State::Body(dialect, TextKind::Answer);
            self.fresh = false;
            return true;
        }
        let bodies = dialect.bodies.iter();
        let first = bodies.filter_map(|body| Some((self.held.find(body)?, *body)));
        let Some((start, body)) = first.min() else {
            return false;
        };
        let header = self.take(start, start.saturating_add(body.len()));
        let channel = header.rsplit("<|channel|>").next().unwrap_or_default();
        let spoken = match body {
            "<|message|>" => {
                channel.starts_with("final")
                    || (channel.starts_with("commentary") && !header.contains(" to="))
                    || !header.contains("<|channel|>")
            }
            body => body == "<|content|>",
        };
        let kind = if spoken {
            TextKind::Answer
        } else {
            TextKind::Reasoning
        };
        self.enter(State::Body(dialect, kind));
        true
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.fresh = true;
    }

    /// Takes the first `end` bytes of `held` and returns the first `start`.
    fn take(&mut self, start: usize, end: usize) -> String {
        let rest = self.held.split_off(end);
        let mut text = std::mem::replace(&mut self.held, rest);
        text.truncate(start);
        text
    }

    /// Gives away the first `certain` bytes, save for white space that may be
    /// the end of the part.
    fn give_certain(
        &mut self,
        kind: TextKind,
        certain: usize,
        give: &mut impl FnMut(TextKind, &str),
    ) -> bool {
        let certain = match kind {
            TextKind::Reasoning => self.held[..certain].trim_end().len(),
            TextKind::Answer => certain,
        };
        let text = self.take(certain, certain);
        self.give(kind, &text, give);
        false
    }

    fn give(&mut self, kind: TextKind, text: &str, give: &mut impl FnMut(TextKind, &str)) {
        let text = if self.fresh { text.trim_start() } else { text };
        if !text.is_empty() {
            self.fresh = false;
            give(kind, text);
        }
    }
}

/// The text of an answer whose header was left out: what stands behind a message's end. A
/// header that was cut off says nothing to anybody.
fn unheaded(held: &str) -> &str {
    match held.rsplit_once(MESSAGE_END) {
        Some((_, text)) => {
            let words = text.split("<|").next().unwrap_or_default();
            let is_header = ROLE.starts_with(words.trim());
            if is_header { "" } else { text }
        }
        None if held.trim_start().starts_with("<|") => "",
        None => held,
    }
}

/// What [`find`] saw.
enum Found {
    /// A marker, whole.
    Marker {
        /// Where it begins.
        start: usize,
        /// Where it ends.
        end: usize,
    },
    /// None; the text up to `certain` is no part of one either.
    Nothing {
        /// Length of the text before what may become a marker.
        certain: usize,
    },
}

/// The first of `markers` in `text`, or where one may have begun at its end.
fn find(text: &str, markers: &[&str]) -> Found {
    let first = markers
        .iter()
        .filter_map(|marker| Some((text.find(marker)?, marker.len())))
        .min();
    if let Some((start, length)) = first {
        return Found::Marker {
            start,
            end: start.saturating_add(length),
        };
    }
    let longest = markers.iter().map(|marker| marker.len()).max();
    let mut certain = text.len();
    for (position, _) in text.char_indices().rev() {
        let end = text.get(position..).unwrap_or_default();
        if end.len() >= longest.unwrap_or_default() {
            break;
        }
        if markers.iter().any(|marker| marker.starts_with(end)) {
            certain = position;
        }
    }
    Found::Nothing { certain }
}

#[cfg(test)]
mod tests;

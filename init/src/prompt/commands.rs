//! The commands of the prompt: one table, from which `/help`, completion and
//! suggestions come, and the parser.

use std::fmt::Write as _;

use super::save;
use crate::attached;
use crate::models::Models;
use protocol::{PARAMS, When};
use term::Completion;

/// A line beginning with `/`, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// `/help`
    Help,
    /// `/exit`, `/bye`, `/quit`, `/poweroff`
    Exit,
    /// `/clear`
    Clear,
    /// `/regen`
    Regen,
    /// `/undo`
    Undo,
    /// `/drop`
    Drop,
    /// `/edit`
    Edit,
    /// `/system TEXT`; without a text, shows it.
    System(Option<String>),
    /// `/set NAME VALUE`
    Set(&'static protocol::Param, String),
    /// `/show [NAME]`
    Show(Option<&'static protocol::Param>),
    /// `/stats`
    Stats,
    /// `/context`
    Context,
    /// `/model [NAME]`
    Model(Option<String>),
    /// `/read [NAME…]`
    Read(String),
    /// `/template`
    Template,
    /// `/save NAME`
    Save(String),
    /// `/new`
    New,
    /// `/chats`
    Chats,
    /// `/chat N`
    Chat(usize),
    /// `/fork [N]`: from the turn of that number, else from the last.
    Fork(Option<usize>),
    /// `/rename TEXT`
    Rename(String),
    /// `/delete [N]`: without a number, the one under way.
    Delete(Option<usize>),
    /// `/think`
    Think,
    /// `/time`
    Time,
}

struct Entry {
    names: &'static [&'static str],
    operand: &'static str,
    help: &'static str,
    parse: fn(&str) -> Result<Command, String>,
}

const COMMANDS: &[Entry] = &[
    Entry {
        names: &["/help", "/?"],
        operand: "",
        help: "this list",
        parse: |_| Ok(Command::Help),
    },
    Entry {
        names: &["/exit", "/bye", "/quit", "/poweroff"],
        operand: "",
        help: "leave and power off; so does Ctrl-D",
        parse: |_| Ok(Command::Exit),
    },
    Entry {
        names: &["/clear"],
        operand: "",
        help: "forget the conversation",
        parse: |_| Ok(Command::Clear),
    },
    Entry {
        names: &["/regen"],
        operand: "",
        help: "answer the last message again",
        parse: |_| Ok(Command::Regen),
    },
    Entry {
        names: &["/undo"],
        operand: "",
        help: "take back the last message and its answer",
        parse: |_| Ok(Command::Undo),
    },
    Entry {
        names: &["/edit"],
        operand: "",
        help: "take back the last message into the line to edit it",
        parse: |_| Ok(Command::Edit),
    },
    Entry {
        names: &["/drop"],
        operand: "",
        help: "forget the oldest message and its answer; for one that does not fit, as many as it \
               takes",
        parse: |_| Ok(Command::Drop),
    },
    Entry {
        names: &["/system"],
        operand: "[TEXT]",
        help: "set the system prompt, or show it; `/system none` removes it",
        parse: |text| Ok(Command::System((!text.is_empty()).then(|| text.to_owned()))),
    },
    Entry {
        names: &["/set"],
        operand: "NAME VALUE",
        help: "set a parameter",
        parse: parse_set,
    },
    Entry {
        names: &["/show"],
        operand: "[NAME]",
        help: "show parameters",
        parse: |name| match name {
            "" => Ok(Command::Show(None)),
            name => parameter(name).map(|p| Command::Show(Some(p))),
        },
    },
    Entry {
        names: &["/stats"],
        operand: "",
        help: "the model, how it runs, and the last turn's counts",
        parse: |_| Ok(Command::Stats),
    },
    Entry {
        names: &["/context"],
        operand: "",
        help: "what fills the context, by message",
        parse: |_| Ok(Command::Context),
    },
    Entry {
        names: &["/model"],
        operand: "[NAME]",
        help: "list the models on the disks, or change to one",
        parse: |name| Ok(Command::Model((!name.is_empty()).then(|| name.to_owned()))),
    },
    Entry {
        names: &["/read"],
        operand: "[NAME...]",
        help: "put attached texts into the next message, or list them; `/read none` leaves them out",
        parse: |names| Ok(Command::Read(names.to_owned())),
    },
    Entry {
        names: &["/template"],
        operand: "",
        help: "the conversation as the model sees it",
        parse: |_| Ok(Command::Template),
    },
    Entry {
        names: &["/think"],
        operand: "",
        help: "what the model thought before its last answer",
        parse: |_| Ok(Command::Think),
    },
    Entry {
        names: &["/save"],
        operand: "NAME",
        help: "save the conversation on the host; NAME.json as JSON, else Markdown",
        parse: |name| save::file_name(name).map(Command::Save),
    },
    Entry {
        names: &["/new"],
        operand: "",
        help: "begin another conversation",
        parse: |_| Ok(Command::New),
    },
    Entry {
        names: &["/chats"],
        operand: "",
        help: "list the conversations of this session",
        parse: |_| Ok(Command::Chats),
    },
    Entry {
        names: &["/chat"],
        operand: "N",
        help: "go on with conversation N",
        parse: |number| match counted("/chat", "conversation", number)? {
            Some(number) => Ok(Command::Chat(number)),
            None => Err("/chat N: which conversation? /chats lists them".to_owned()),
        },
    },
    Entry {
        names: &["/fork"],
        operand: "[N]",
        help: "begin another conversation with the turns of this one, or its first N",
        parse: |number| counted("/fork", "turn", number).map(Command::Fork),
    },
    Entry {
        names: &["/rename"],
        operand: "TEXT",
        help: "give the conversation a name",
        parse: |text| match text {
            "" => Err("/rename TEXT: which name?".to_owned()),
            text => Ok(Command::Rename(text.to_owned())),
        },
    },
    Entry {
        names: &["/delete"],
        operand: "[N]",
        help: "delete this conversation, or conversation N, for ever",
        parse: |number| counted("/delete", "conversation", number).map(Command::Delete),
    },
    Entry {
        names: &["/time"],
        operand: "",
        help: "how long each step took since the machine was switched on",
        parse: |_| Ok(Command::Time),
    },
];

/// Understands a line that begins with `/`.
///
/// # Errors
/// One line: what is wrong, and the nearest name.
pub(crate) fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim();
    let (word, operand) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let operand = operand.trim();
    let Some(entry) = COMMANDS.iter().find(|c| c.names.contains(&word)) else {
        let near = protocol::nearest(word, COMMANDS.iter().flat_map(|c| c.names).copied());
        return Err(match near {
            Some(near) if word.len() > 1 => {
                format!("{word}: no such command; did you mean {near}?")
            }
            _ => format!("{word}: no such command; /help lists them"),
        });
    };
    if entry.operand.is_empty() && !operand.is_empty() {
        return Err(format!(
            "{word} takes no operand; // sends a line that begins with /"
        ));
    }
    (entry.parse)(operand)
}

fn parse_set(operand: &str) -> Result<Command, String> {
    let (name, value) = operand
        .split_once([' ', '=', '\t'])
        .unwrap_or((operand, ""));
    if name.is_empty() {
        return Err("/set NAME VALUE; /show lists the names".to_owned());
    }
    let param = parameter(name)?;
    if param.when == When::Start {
        return Err(format!(
            "{name} can only be given at the start, as zosia.{name}={}",
            param.value
        ));
    }
    let value = value.trim();
    if value.is_empty() {
        return Err(format!("/set {name} {}: {}", param.value, param.help));
    }
    Ok(Command::Set(param, value.to_owned()))
}

/// The number of a `thing`, from 1; `None`: none was given.
fn counted(command: &str, thing: &str, number: &str) -> Result<Option<usize>, String> {
    match number.parse() {
        _ if number.is_empty() => Ok(None),
        Ok(0) | Err(_) => Err(format!("{command} {number}: not the number of a {thing}")),
        Ok(number) => Ok(Some(number)),
    }
}

fn parameter(name: &str) -> Result<&'static protocol::Param, String> {
    protocol::find(name).ok_or_else(|| {
        match protocol::nearest(name, PARAMS.iter().map(|p| p.name)) {
            Some(near) => format!("{name}: no such parameter; did you mean {near}?"),
            None => format!("{name}: no such parameter; /show lists them"),
        }
    })
}

/// What `/help` shows.
pub(crate) fn help() -> String {
    let mut out = String::new();
    for c in COMMANDS {
        let usage = match (c.names.first(), c.operand) {
            (Some(name), "") => (*name).to_owned(),
            (Some(name), operand) => format!("{name} {operand}"),
            (None, _) => continue,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {usage:<18} {}", c.help);
    }
    out.push_str(
        "\n  Ctrl-C stops an answer. Alt-Enter or Ctrl-J begins a new line; so does a \\ at the end, \
         and \"\"\" begins and ends a message of several lines. Up and Down bring back earlier \
         messages, Ctrl-R searches them. Ctrl-O folds and unfolds what a model thinks. // sends a \
         message that begins with /.\n",
    );
    out
}

/// What Tab may put where `typed`, the line up to the cursor, ends.
/// There are `chats` conversations to name.
pub(super) fn complete(typed: &str, models: &Models, chats: usize) -> Completion {
    if typed.starts_with("/read ") {
        let (start, candidates) = attached::complete(models.texts(), typed);
        return Completion { start, candidates };
    }
    let names: Vec<String> = models.all().iter().map(|m| m.name.clone()).collect();
    Completion {
        start: typed.rfind(' ').map_or(0, |space| space.saturating_add(1)),
        candidates: candidates(typed, &names, chats),
    }
}

/// Whole words that may stand where `typed`, the line up to the cursor, ends.
/// There are `chats` conversations to name.
fn candidates(typed: &str, models: &[String], chats: usize) -> Vec<String> {
    if !typed.starts_with('/') || typed.starts_with("//") {
        return Vec::new();
    }
    let words: Vec<&str> = typed.split(' ').collect();
    let names = |of: &dyn Fn(&protocol::Param) -> bool| -> Vec<String> {
        PARAMS
            .iter()
            .filter(|&p| of(p))
            .map(|p| p.name.to_owned())
            .collect()
    };
    let all = match words.as_slice() {
        [_] => COMMANDS
            .iter()
            .filter_map(|c| c.names.first())
            .map(|name| (*name).to_owned())
            .collect(),
        ["/set", _] => names(&|p| p.when != When::Start),
        ["/show", _] => names(&|_| true),
        ["/model", _] => models.to_vec(),
        ["/chat" | "/delete", _] => (1..=chats).map(|n| n.to_string()).collect(),
        ["/set", name, _] => match protocol::find(name) {
            Some(p) if p.value.contains('|') => p.value.split('|').map(str::to_owned).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let last = words.last().copied().unwrap_or_default();
    all.into_iter().filter(|c| c.starts_with(last)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood() {
        assert_eq!(parse("/exit"), Ok(Command::Exit));
        assert_eq!(parse("/poweroff "), Ok(Command::Exit));
        assert_eq!(
            parse("/system Be  brief."),
            Ok(Command::System(Some("Be  brief.".into())))
        );
        let Ok(Command::Set(param, value)) = parse("/set top-p 0.5") else {
            panic!("not understood")
        };
        assert_eq!((param.name, value.as_str()), ("top_p", "0.5"));
    }

    #[test]
    fn wrong_commands_say_what_would_be_right() {
        for (line, error) in [
            ("/hlep", "/hlep: no such command; did you mean /help?"),
            ("/chat 0", "/chat 0: not the number of a conversation"),
            ("/fork x", "/fork x: not the number of a turn"),
            ("/xyzzy", "/xyzzy: no such command; /help lists them"),
            ("/", "/: no such command; /help lists them"),
            (
                "/exit now",
                "/exit takes no operand; // sends a line that begins with /",
            ),
            ("/set tmep 1", "tmep: no such parameter; did you mean temp?"),
            (
                "/set model x",
                "model can only be given at the start, as zosia.model=NAME",
            ),
            (
                "/save ../x",
                "/save ../x: a name has no / and does not begin with a dot",
            ),
        ] {
            assert_eq!(parse(line), Err(error.to_owned()), "{line}");
        }
    }

    #[test]
    fn names_and_values_complete() {
        let models = ["phi".to_owned(), "smol".to_owned()];
        for (typed, names) in [
            ("/he", &["/help"][..]),
            ("/set top", &["top_p", "top_k"]),
            ("/set kv ", &["f16", "q8_0"]),
            ("/model p", &["phi"]),
            ("/chat 1", &["1", "10", "11", "12"]),
            ("hello /he", &[]),
        ] {
            assert_eq!(candidates(typed, &models, 12), names, "{typed}");
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        let help = help();
        for c in COMMANDS {
            assert!(
                help.contains(&format!("  {} ", c.names[0])),
                "{}",
                c.names[0]
            );
        }
    }
}

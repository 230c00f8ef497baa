//! Parameters from the kernel command line and from flags.

use std::fmt::Write as _;

use crate::config::Config;
use crate::table::{PARAMS, Param, find, nearest};

/// What the plain command was asked for.
#[derive(Debug, PartialEq)]
pub enum Invocation {
    /// Chat, or turns without a terminal.
    Run {
        /// Parameters.
        config: Box<Config>,
        /// MODEL: a file, a device or a folder.
        path: Option<String>,
        /// What comes out.
        output: Output,
        /// Files and directories whose texts can be read into a message.
        attach: Vec<String>,
    },
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `--parameters`: the reference page.
    Parameters,
}

/// What comes out of turns without a terminal.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// The answer alone.
    Answer,
    /// One JSON object.
    Json,
    /// One JSON object for each line.
    Batch(Batch),
}

/// Where a batch's lines come from and where its results go.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The file of the lines; `-` is standard input.
    pub lines: String,
    /// The file of the results; `None`: standard output.
    pub results: Option<String>,
    /// The results go on where they end.
    pub resume: bool,
}

/// Reads `zosia.NAME=VALUE` from the kernel command line; other words are the
/// kernel's. Quotes are as in the kernel's documentation
/// (admin-guide/kernel-parameters), and `%XX` is the byte of that hexadecimal
/// number, since firmware passes only ASCII on faithfully.
///
/// Returns the configuration and a warning for each word that was not used.
#[must_use]
pub fn from_kernel_command_line(line: &str) -> (Config, Vec<String>) {
    let mut config = Config::default();
    let mut warnings = Vec::new();
    for word in words(line) {
        let Some(assignment) = word.strip_prefix("zosia.") else {
            continue;
        };
        let (name, value) = assignment.split_once('=').unwrap_or((assignment, ""));
        let Some(param) = find(name) else {
            warnings.push(format!("zosia.{name}: {} [ZE-53]", no_such_parameter(name)));
            continue;
        };
        let value = percent_decoded(value);
        if let Err(expected) = (param.set)(&mut config, &value) {
            warnings.push(format!(
                "zosia.{name}={value}: {expected}; using {} [ZE-53]",
                default_named(param)
            ));
        }
    }
    (config, warnings)
}

/// The first line of the parameters on a disk.
pub const DISK_MAGIC: &str = "# zosia parameters";

/// The parameters of a disk, a line each, written as on the kernel's command line.
/// `None`: not a text of parameters.
#[must_use]
pub fn from_disk(text: &str) -> Option<String> {
    let mut lines = text.lines();
    if lines.next() != Some(DISK_MAGIC) {
        return None;
    }
    let mut words = String::new();
    for line in lines.filter(|line| line.starts_with("zosia.")) {
        for (index, byte) in line.bytes().enumerate() {
            // The name needs no escape; a space in it makes it none.
            if byte.is_ascii_graphic() && !matches!(byte, b'%' | b'"') || index < "zosia.".len() {
                words.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(words, "%{byte:02X}");
            }
        }
        words.push(' ');
    }
    Some(words)
}

/// Reads the arguments of the plain command, the first (its name) left out.
///
/// # Errors
/// One line that says which argument is wrong and what was expected.
pub fn from_flags(args: impl Iterator<Item = String>) -> Result<Invocation, String> {
    let mut config = Config::default();
    let mut args = args;
    let mut path = None;
    let mut output = Output::Answer;
    let mut attach = Vec::new();
    let mut results = None;
    let mut resume = false;
    let mut only_operands = false;
    while let Some(arg) = args.next() {
        if only_operands || !arg.starts_with('-') || arg == "-" {
            if let Some(first) = &path {
                return Err(format!("two models, {first} and {arg}: give one"));
            }
            path = Some(arg);
            continue;
        }
        match arg.as_str() {
            "--" => only_operands = true,
            "-h" | "--help" => return Ok(Invocation::Help),
            "-V" | "--version" => return Ok(Invocation::Version),
            "--parameters" => return Ok(Invocation::Parameters),
            "--json" => output = Output::Json,
            "--batch" => {
                let lines = args.next().ok_or("--batch: needs a file")?;
                output = Output::Batch(Batch {
                    lines,
                    ..Batch::default()
                });
            }
            "--output" => results = Some(args.next().ok_or("--output: needs a file")?),
            "--resume" => resume = true,
            "--attach" => attach.push(args.next().ok_or("--attach: needs a file")?),
            _ => set_flag(&mut config, &arg, &mut args)?,
        }
    }
    match &mut output {
        Output::Batch(batch) if results.is_some() || !resume => {
            batch.results = results;
            batch.resume = resume;
        }
        Output::Batch(_) => return Err("--resume: goes with --output FILE".to_owned()),
        _ if results.is_some() || resume => {
            return Err("--output and --resume: go with --batch".to_owned());
        }
        Output::Answer | Output::Json => {}
    }
    Ok(Invocation::Run {
        // Without an operand, `--model` is the path itself.
        path: path.or_else(|| config.start.model.take()),
        config: Box::new(config),
        output,
        attach,
    })
}

fn set_flag(
    config: &mut Config,
    arg: &str,
    args: &mut impl Iterator<Item = String>,
) -> Result<(), String> {
    let (flag, inline) = match arg.split_once('=') {
        Some((flag, value)) => (flag, Some(value.to_owned())),
        None => (arg, None),
    };
    let param = match flag.strip_prefix("--") {
        Some(name) => find(name).ok_or_else(|| format!("{flag}: {}", no_such_parameter(name)))?,
        None if flag == "-p" => find("prompt").ok_or("-p: no such parameter")?,
        None => return Err(format!("{flag}: no such option; --help lists them")),
    };
    let value = inline
        .or_else(|| args.next())
        .ok_or_else(|| format!("{flag}: needs a value, {}", param.value))?;
    (param.set)(config, &value).map_err(|expected| match value.as_str() {
        "" => format!("{flag} has an empty value: {expected}"),
        value => format!("{flag} {value}: {expected}"),
    })
}

fn no_such_parameter(name: &str) -> String {
    match nearest(name, PARAMS.iter().map(|p| p.name)) {
        Some(near) => format!("no such parameter; did you mean {near}?"),
        None => "no such parameter; docs/parameters.md lists them".to_owned(),
    }
}

fn default_named(param: &Param) -> String {
    format!("the default, {}", param.default_text())
}

/// Splits at spaces outside double quotes; the quotes go.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `%0A` becomes a line feed; a `%` that begins no such escape stays.
fn percent_decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(args: &[&str]) -> Result<Invocation, String> {
        from_flags(args.iter().map(|&a| a.to_owned()))
    }

    const DISK: &str = "# zosia parameters\n# a comment\n\nzosia.system=50 % = \"za\u{17c}\"\n\
                        zosia.temp=0\npanic=1\n";

    #[test]
    fn values_arrive_as_they_are_and_the_command_line_counts() {
        let words = from_disk(DISK).unwrap();
        let (config, warnings) = from_kernel_command_line(&format!("{words} quiet zosia.temp=1"));
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(config.chat.system, "50 % = \"za\u{17c}\"");
        assert!((config.sampling.temp - 1.0).abs() < f32::EPSILON);
        assert!(!words.contains("panic"));
    }

    #[test]
    fn refuses_what_is_no_text_of_parameters() {
        assert_eq!(from_disk("zosia.temp=0\n"), None);
        assert_eq!(from_disk(""), None);
        assert_eq!(from_disk("# zosia parameters\n"), Some(String::new()));
    }

    #[test]
    fn the_kernel_command_line_is_read_as_the_kernel_reads_it() {
        let (config, warnings) = from_kernel_command_line(
            "console=ttyAMA0 quiet zosia.threads=3 zosia.system=\"Be brief.\" \
             \"zosia.prompt=two words\" zosia.temp=0 -- zosia.top_k=7\n",
        );
        assert_eq!(warnings, [] as [&str; 0]);
        assert_eq!(config.engine.threads, Some(3));
        assert_eq!(config.chat.system, "Be brief.");
        assert_eq!(config.start.prompt.as_deref(), Some("two words"));
        assert!(config.sampling.temp.abs() < f32::EPSILON);
        assert_eq!(config.sampling.top_k, 7);
    }

    #[test]
    fn percent_escapes_carry_any_text() {
        let (config, _) =
            from_kernel_command_line("zosia.prompt=za%C5%BC%C3%B3%C5%82%C4%87%0A100%25%22%zz%");
        assert_eq!(config.start.prompt.as_deref(), Some("zażółć\n100%\"%zz%"));
    }

    #[test]
    fn a_bad_value_warns_and_leaves_the_default() {
        let (config, warnings) =
            from_kernel_command_line("zosia.threads=x zosia.temp=9 zosia.thread=1 zosia.kv");
        assert_eq!(config, Config::default());
        assert_eq!(
            warnings,
            [
                "zosia.threads=x: expected a number from 1 to 512, or auto; using the default, auto [ZE-53]",
                "zosia.temp=9: expected a number from 0 to 5; using the default, 0.7 [ZE-53]",
                "zosia.thread: no such parameter; did you mean threads? [ZE-53]",
                "zosia.kv=: expected f16 or q8_0; using the default, f16 [ZE-53]",
            ]
        );
    }

    #[test]
    fn flags_are_the_same_parameters() {
        let Ok(Invocation::Run { config, path, .. }) = flags(&[
            "--threads",
            "2",
            "--top-p=0.5",
            "--max_tokens",
            "9",
            "-p",
            "-",
            "m.gguf",
        ]) else {
            panic!("not a run")
        };
        assert_eq!(config.engine.threads, Some(2));
        assert!((config.sampling.top_p - 0.5).abs() < f32::EPSILON);
        assert_eq!(config.sampling.max_tokens, Some(9));
        assert_eq!(config.start.prompt.as_deref(), Some("-"));
        assert_eq!(config.start.model, None);
        assert_eq!(path.as_deref(), Some("m.gguf"));
    }

    #[test]
    fn texts_are_attached_one_after_the_other() {
        let Ok(Invocation::Run { attach, path, .. }) =
            flags(&["--attach", "a.md", "m.gguf", "--attach", "-x.md"])
        else {
            panic!("not a run")
        };
        assert_eq!(attach, ["a.md", "-x.md"]);
        assert_eq!(path.as_deref(), Some("m.gguf"));
        assert_eq!(
            flags(&["--attach"]),
            Err("--attach: needs a file".to_owned())
        );
    }

    #[test]
    fn a_batch_says_where_its_results_go() {
        let batch = |args: &[&str]| match flags(args) {
            Ok(Invocation::Run {
                output: Output::Batch(batch),
                ..
            }) => Ok(batch),
            Ok(other) => panic!("{other:?}"),
            Err(e) => Err(e),
        };
        let all = ["--batch", "a", "--output", "b", "--resume", "m.gguf"];
        assert_eq!(
            batch(&all),
            Ok(Batch {
                lines: "a".to_owned(),
                results: Some("b".to_owned()),
                resume: true
            })
        );
        for args in [
            &["--batch", "a", "--resume", "m.gguf"][..],
            &["--output", "b", "m.gguf"],
            &["--json", "--resume", "m.gguf"],
            &["--batch"],
        ] {
            assert!(batch(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn a_folder_and_the_model_in_it_are_two_things() {
        for (args, folder, model) in [
            (&["dir", "--model", "a"][..], "dir", Some("a")),
            (&["--model", "auto", "dir"], "dir", None),
            (&["--model", "m.gguf"], "m.gguf", None),
        ] {
            let Ok(Invocation::Run { config, path, .. }) = flags(args) else {
                panic!("not a run")
            };
            assert_eq!(path.as_deref(), Some(folder), "{args:?}");
            assert_eq!(config.start.model.as_deref(), model, "{args:?}");
        }
    }

    #[test]
    fn wrong_flags_say_what_is_wrong() {
        for (args, message) in [
            (
                &["--thread", "2"][..],
                "--thread: no such parameter; did you mean threads?",
            ),
            (&["--threads"], "--threads: needs a value, N"),
            (
                &["--seed", "x"],
                "--seed x: expected a number from 0 to 4294967295, or random",
            ),
            (&["-q"], "-q: no such option; --help lists them"),
            (&["a", "b"], "two models, a and b: give one"),
        ] {
            assert_eq!(flags(args), Err(message.to_owned()));
        }
        assert_eq!(flags(&["-h"]), Ok(Invocation::Help));
    }
}

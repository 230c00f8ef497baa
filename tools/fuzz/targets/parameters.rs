//! Parameters, of the kernel command line, of the plain command and of a disk: a value
//! in force is the same when it is written down and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Config, Invocation, PARAMS, from_disk, from_flags, from_kernel_command_line};

/// Each value of `config` as a flag gives the same configuration.
fn assert_said_again(config: &Config) {
    let values = PARAMS
        .iter()
        .map(|param| (param.flag(), (param.get)(config)));
    // A default of no value cannot be said.
    let values = values.filter(|(_, value)| !value.is_empty());
    let flags = values.flat_map(|(flag, value)| [flag, value]);
    match from_flags(flags.chain(["model".to_owned()])) {
        Ok(Invocation::Run { config: again, .. }) => {
            for param in PARAMS {
                assert_eq!((param.get)(config), (param.get)(&again), "{}", param.name);
            }
        }
        other => panic!("{other:?}"),
    }
}

fuzz_target!(|text: &str| {
    let (config, warnings) = from_kernel_command_line(text);
    assert!(warnings.iter().all(|warning| warning.contains("[ZE-53]")));
    assert_said_again(&config);
    let arguments = text.split('\n').map(str::to_owned);
    if let Ok(Invocation::Run { config, .. }) = from_flags(arguments) {
        assert_said_again(&config);
    }
    let disk = format!("# zosia parameters\n{text}");
    let words = from_disk(&disk).expect("it begins as it should");
    assert!(
        words.is_ascii() && !words.contains(['\n', '"']),
        "{words:?}"
    );
    // Each line is one word, with its value whole.
    let lines = disk.lines().filter(|line| line.starts_with("zosia."));
    let (config, _) = from_kernel_command_line(&words);
    assert_eq!(
        words.split_ascii_whitespace().count(),
        lines.clone().count()
    );
    let assignments = lines.map(|line| line.split_once('=').unwrap_or((line, "")));
    if let Some((_, system)) = assignments.rev().find(|(name, _)| *name == "zosia.system") {
        assert_eq!(
            config.chat.system,
            if system == "none" { "" } else { system }
        );
    }
});

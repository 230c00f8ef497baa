//! The kernel's command line and the command's arguments: each word is a parameter or
//! a line that says why it is none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{PARAMS, from_flags, from_kernel_command_line};

fuzz_target!(|line: &str| {
    let (config, warnings) = from_kernel_command_line(line);
    for warning in &warnings {
        assert!(warning.contains("zosia."), "{warning:?}");
    }
    // What is shown of a value can be given again, and is the same.
    for param in PARAMS {
        let value = (param.get)(&config);
        let word = format!("zosia.{}=\"{value}\"", param.name);
        let (again, refused) = from_kernel_command_line(&word);
        if refused.is_empty() && !value.contains(['"', '%']) {
            assert_eq!((param.get)(&again), value, "{}", param.name);
        }
    }
    let arguments = line.split('\0').map(str::to_owned);
    // One line, or what to do.
    if let Err(why) = from_flags(arguments) {
        assert!(!why.is_empty());
    }
});

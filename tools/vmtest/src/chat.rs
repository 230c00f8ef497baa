//! The plain command with the small model, chatting in a folder of its own.

use std::fmt::Write as _;
use std::fs;
use std::ops::Deref;

use crate::{
    Disks, LOAD, MODEL_NAME, OrFail, PlainCommand, SOON, SYSTEM_PROMPT, Seat, model,
    native_executable,
};

/// A chat whose model is ready.
pub struct Chat {
    command: PlainCommand,
    folder: Disks,
}

impl Chat {
    /// Starts with `flags` besides those that make answers foreseeable, and
    /// with `files` beside the model.
    #[must_use]
    #[track_caller]
    pub fn start(flags: &[&str], files: &[(&str, &str)]) -> Self {
        Self::start_at(Seat::default(), flags, files)
    }

    /// The same, at a certain terminal.
    #[must_use]
    #[track_caller]
    pub fn start_at(mut seat: Seat, flags: &[&str], files: &[(&str, &str)]) -> Self {
        let folder = Disks::new();
        let model = folder.link_beside(model(), files);
        seat.directory = Some(folder.path(""));
        // One thread, as tests share the machine's processors with others.
        let always = ["--temp", "0", "--threads", "1", "--system", SYSTEM_PROMPT];
        let arguments = always.iter().chain(flags).map(std::ffi::OsStr::new);
        let arguments = arguments.chain([model.as_os_str()]);
        let command = PlainCommand::launch_at(&seat, &native_executable(), arguments);
        let _ = command.expect(MODEL_NAME, LOAD);
        command.set_hints(seat.term != "dumb" && !flags.ends_with(&["--color", "off"]));
        let _ = command.expect_prompt(SOON);
        Self { command, folder }
    }

    /// The conversation as `/save` writes it.
    #[must_use]
    #[track_caller]
    pub fn saved(&self, name: &str) -> String {
        let said = self.command.ask(&format!("/save {name}"), SOON);
        // A name that is taken gets a number.
        let (stem, extension) = name.rsplit_once('.').or_fail("find an extension");
        let after = said.split_once("saved as ").map(|(_, after)| after);
        let place = after.and_then(|after| after.split_whitespace().next());
        let place = place.or_fail(format_args!("find where it was saved in {said:?}"));
        assert!(
            place.starts_with(&format!("transcripts/{stem}")) && place.ends_with(extension),
            "{place}"
        );
        fs::read_to_string(self.folder.path("").join(place)).or_fail("read what was saved")
    }

    /// The files around the model.
    #[must_use]
    pub fn folder(&self) -> &Disks {
        &self.folder
    }
}

impl Deref for Chat {
    type Target = PlainCommand;

    fn deref(&self) -> &PlainCommand {
        &self.command
    }
}

impl std::ops::DerefMut for Chat {
    fn deref_mut(&mut self) -> &mut PlainCommand {
        &mut self.command
    }
}

/// A grammar under which a model can say nothing but `text`: what the screen
/// makes of an answer can then be foretold, whatever the model.
#[must_use]
pub fn grammar_of(text: &str) -> String {
    let mut grammar = String::from("root ::= \"");
    for c in text.chars() {
        // Writing to a String cannot fail.
        let _ = match c {
            '"' | '\\' => write!(grammar, "\\{c}"),
            ' '..='~' => write!(grammar, "{c}"),
            c if u32::from(c) < 0x100 => write!(grammar, "\\x{:02X}", u32::from(c)),
            c => write!(grammar, "\\U{:08X}", u32::from(c)),
        };
    }
    grammar.push_str("\"\n");
    grammar
}
